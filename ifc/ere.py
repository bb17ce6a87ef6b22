"""Patterns of the criteria: POSIX extended regular expressions, compiled once, with bounded matching time.

`Ere` answers one question: does the pattern match somewhere in the text (TS 29.228 fixes no anchoring; ``^`` and ``$``
are written where wanted).  Four ways, chosen at construction:

* a pattern that asks nothing (``.*``) matches everything;
* ``^literal$`` is a comparison;
* a pattern whose backtracking is bounded is translated to Python's ``re``, for texts as long as MAX_RE_STEPS allows;
* everything else, and every longer text, runs on `ifc.ere_linear.LinearMatcher`, linear in the text.

So no pattern an operator can write and no text a caller can send holds the process for more than some milliseconds;
what is too large is refused when the criterion is read (`ifc.ere_syntax` caps) or, for texts, does not match.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import isqrt

import attrs

from ifc.ere_linear import LinearMatcher
from ifc.ere_plain import Search, plain_lines_search, plain_search
from ifc.ere_syntax import ANY, Anchor, CharSet, Choice, Node, Repeat, Sequence, count_positions, parse_ere
from ifc.errors import EreError

__all__ = ["MAX_RE_STEPS", "MAX_TEXT_CHARS", "Ere", "EreError", "translate_ere"]

MAX_TEXT_CHARS = 8192
"""A longer header value or SDP line is not looked into: none that is meant seriously comes near it."""
MAX_RE_STEPS = 131_072
"""What backtracking may take for one text in ``re``, by our estimate; some milliseconds."""
MAX_RE_DEGREE = 2
MAX_RE_BRANCHES = 64
"""Ways that ``?``, ``|`` and intervals of a pattern multiply to; more goes to the linear matcher."""
LINEAR_STEPS = 32
"""A character in the linear matcher, in steps of ``re``; each position of the pattern is one step more at worst."""


class _Machines:
    """What matches, made when first needed: most patterns never see a long text, many never one of several values."""

    __slots__ = ("_ignore_case", "_linear", "_lines", "_node")

    def __init__(self, node: Node, *, ignore_case: bool) -> None:
        self._node = node
        self._ignore_case = ignore_case
        self._linear: LinearMatcher | None = None
        self._lines: re.Pattern[str] | None = None

    def regex(self) -> re.Pattern[str]:
        return re.compile(_translate(_without_loose_ends(self._node), _ONE_TEXT), self._flags())

    def lines(self) -> re.Pattern[str]:
        """Searches texts of which each follows a line feed as if it were searched alone."""
        if self._lines is None:
            node = _without_loose_ends(self._node)
            starts = isinstance(node, Sequence) and node.parts[:1] == (Anchor(at_start=True),)
            if isinstance(node, Sequence) and starts:
                # a search for a plain character is much faster than one that looks around at each place
                text = r"\n" + _translate(Sequence(node.parts[1:]), _LINES)
            else:
                text = _translate(node, _LINES)
            self._lines = re.compile(text, self._flags())
        return self._lines

    def search(self) -> Search:
        """As `regex` finds it, without ``re`` where that can be."""
        plain = None if self._ignore_case else plain_search(_without_loose_ends(self._node))
        return plain or self.regex().search

    def lines_search(self) -> Search:
        """As `lines` finds it."""
        plain = None if self._ignore_case else plain_lines_search(_without_loose_ends(self._node))
        return plain or self.lines().search

    def linear(self) -> LinearMatcher:
        if self._linear is None:
            self._linear = LinearMatcher(self._node, ignore_case=self._ignore_case)
        return self._linear

    def _flags(self) -> re.RegexFlag:
        return re.DOTALL | (re.IGNORECASE if self._ignore_case else re.RegexFlag(0))


@attrs.frozen(init=False, hash=False)
class Ere:
    """One compiled pattern.  Equal when text and case rule are."""

    text: str
    ignore_case: bool = attrs.field(repr=False)
    is_any: bool = attrs.field(eq=False, repr=False)
    """Every text matches."""
    literal: str | None = attrs.field(eq=False, repr=False)
    """The one text that matches, for ``^literal$``; in lower case when case is ignored."""
    regex: re.Pattern[str] | None = attrs.field(eq=False, repr=False)
    """For texts of up to `regex_chars`; None: the linear matcher for all."""
    search: Search | None = attrs.field(eq=False, repr=False)
    """What finds the same as `regex`, mostly faster; None where that is None."""
    regex_chars: int = attrs.field(eq=False, repr=False)
    regex_steps: int = attrs.field(eq=False, repr=False)
    """What a character of a text of that length takes at worst."""
    linear_steps: int = attrs.field(eq=False, repr=False)
    """What a character takes in the linear matcher at worst."""
    _machines: _Machines = attrs.field(eq=False, repr=False)

    def __init__(self, text: str, *, ignore_case: bool = False) -> None:
        """Raises EreError when text is not an ERE within the caps."""
        node = parse_ere(text)
        machines = _Machines(node, ignore_case=ignore_case)
        is_any = _is_any(node)
        literal = _whole_literal(node)
        regex, search, chars, steps = None, None, -1, 0
        if literal is None and not is_any:
            chars, steps = _regex_limits(node)
            regex, search = (machines.regex(), machines.search()) if chars > 0 else (None, None)
        if literal is not None and ignore_case:
            literal = literal.lower()
        linear_steps = LINEAR_STEPS + count_positions(node)
        self.__attrs_init__(text, ignore_case, is_any, literal, regex, search, chars, steps, linear_steps, machines)

    def __hash__(self) -> int:
        return hash((self.text, self.ignore_case))

    def __str__(self) -> str:
        return self.text

    def matches(self, text: str) -> bool:
        """Whether the pattern matches anywhere in text; False for a text beyond MAX_TEXT_CHARS unless any will do."""
        if self.literal is not None:
            return (text.lower() if self.ignore_case else text) == self.literal
        if self.regex is not None and len(text) <= self.regex_chars:
            return self.regex.search(text) is not None
        return self.is_any or (len(text) <= MAX_TEXT_CHARS and self._machines.linear().search(text))

    def lines(self) -> re.Pattern[str]:
        """For several texts in one, each after a line feed, of which there is none within them, and each of which is at
        most `regex_chars` long: finds what `regex` finds in one of them."""
        return self._machines.lines()

    def lines_search(self) -> Search:
        """What finds the same as `lines()`, mostly faster."""
        return self._machines.lines_search()

    def can_match(self, alphabet: CharSet) -> bool:
        """Whether there is any text of these characters alone that the pattern matches."""
        return self._machines.linear().can_match(alphabet)


def translate_ere(pattern: str) -> str:
    """The Python regular expression (for ``re.DOTALL``) that matches where the ERE does.  Raises EreError."""
    return _translate(parse_ere(pattern), _ONE_TEXT)


def _whole_literal(node: Node) -> str | None:
    """The text between ``^`` and ``$`` when it is plain characters only."""
    if not isinstance(node, Sequence) or len(node.parts) < 2:
        return None
    start, *middle, end = node.parts
    if start != Anchor(at_start=True) or end != Anchor(at_start=False):
        return None
    chars = [part.literal if isinstance(part, CharSet) else None for part in middle]
    return "".join(char for char in chars if char is not None) if None not in chars else None


def _without_loose_ends(node: Node) -> Node:
    """``.*`` at either end of an unanchored pattern asks nothing, but costs a search a power of the text's length."""
    parts = list(node.parts) if isinstance(node, Sequence) else [node]
    while parts and isinstance(parts[0], Repeat) and parts[0].part == ANY and parts[0].least == 0:
        del parts[0]
    while parts and isinstance(parts[-1], Repeat) and parts[-1].part == ANY and parts[-1].least == 0:
        del parts[-1]
    return Sequence(tuple(parts))


def _is_any(node: Node) -> bool:
    """Whether every text matches, as far as that is seen at a glance: nothing asked for, or ``^.*$``."""
    parts = node.parts if isinstance(node, Sequence) else (node,)
    dots = [part for part in parts if isinstance(part, Repeat) and part.part == ANY and part.least == 0]
    if len(parts) == 3 and len(dots) == 1 and dots[0].most is None:
        return parts == (Anchor(at_start=True), dots[0], Anchor(at_start=False))
    return len(parts) == len(dots) or parts == (Anchor(at_start=True),) or parts == (Anchor(at_start=False),)


def _regex_limits(node: Node) -> tuple[int, int]:
    """(characters of the longest text for ``re``, steps that each of them may take); errs to (-1, 0)."""
    node = _without_loose_ends(node)
    starts = node.parts[0] if isinstance(node, Sequence) and node.parts else node
    degree, branches = _backtracking(node)
    if starts != Anchor(at_start=True):
        degree += 1  # the search begins anew at each character
    if degree > MAX_RE_DEGREE or branches > MAX_RE_BRANCHES:
        return -1, 0
    per_char = MAX_RE_STEPS // branches
    if degree == MAX_RE_DEGREE:
        chars = isqrt(per_char)
        return chars, branches * chars
    return min(MAX_TEXT_CHARS, per_char), branches


_HOPELESS = (MAX_RE_DEGREE + 1, 1)


def _backtracking(node: Node) -> tuple[int, int]:
    """(unbounded repetitions one after the other, ways to choose the bounded ones)."""
    match node:
        case CharSet() | Anchor():
            return 0, 1
        case Sequence(parts):
            degree, branches = 0, 1
            for part in parts:
                more, ways = _backtracking(part)
                degree, branches = degree + more, branches * ways
            return degree, branches
        case Choice(parts):
            each = [_backtracking(part) for part in parts]
            return max(degree for degree, _ in each), sum(ways for _, ways in each)
        case Repeat(part, least, most):
            degree, branches = _backtracking(part)
            if most is None:
                # a repetition of something that itself can be read in several ways multiplies them without bound
                return (1, 1) if degree == 0 and branches == 1 and count_positions(part) > 0 else _HOPELESS
            if degree or branches > 1:
                return (0, (branches + 1) ** most) if degree == 0 and most <= 6 else _HOPELESS
            return 0, most - least + 1


@attrs.frozen
class _Dialect:
    """How the parts of a pattern are written for ``re``."""

    start: str
    end: str
    any: str
    skips_line_feed: bool


_ONE_TEXT = _Dialect(r"\A", r"\Z", ".", skips_line_feed=False)
_LINES = _Dialect(r"(?<=\n)", "(?m:$)", r"[^\n]", skips_line_feed=True)


def _translate(node: Node, dialect: _Dialect) -> str:
    match node:
        case CharSet():
            return _translate_set(node, dialect)
        case Anchor(at_start):
            return dialect.start if at_start else dialect.end
        case Sequence(parts):
            texts = [(_translate(part, dialect), isinstance(part, Choice)) for part in parts]
            return "".join(f"(?:{text})" if is_choice else text for text, is_choice in texts)
        case Choice(branches):
            return "|".join(_translate(branch, dialect) for branch in branches)
        case Repeat(part, least, most):
            inner = _translate(part, dialect)
            if not isinstance(part, CharSet):
                inner = f"(?:{inner})"
            return f"{inner}{{{least},{'' if most is None else most}}}"


def _translate_set(charset: CharSet, dialect: _Dialect) -> str:
    if charset == ANY:
        return dialect.any
    if (literal := charset.literal) is not None:
        return re.escape(literal)
    ranges = list(charset.ranges)
    if dialect.skips_line_feed:
        ranges = [*ranges, (_LINE_FEED, _LINE_FEED)] if charset.negated else list(_without_line_feed(ranges))
    if not ranges:
        return "(?!)"
    body = "".join(_escape(low) if low == high else f"{_escape(low)}-{_escape(high)}" for low, high in ranges)
    return f"[{'^' if charset.negated else ''}{body}]"


_LINE_FEED = 0x0A


def _without_line_feed(ranges: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    for low, high in ranges:
        if low <= _LINE_FEED <= high:
            yield from (each for each in ((low, _LINE_FEED - 1), (_LINE_FEED + 1, high)) if each[0] <= each[1])
        else:
            yield low, high


def _escape(code: int) -> str:
    return f"\\U{code:08x}"
