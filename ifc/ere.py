"""Patterns of the criteria: POSIX extended regular expressions, compiled once, with bounded matching time.

`Ere` answers one question: does the pattern match somewhere in the text (TS 29.228 fixes no anchoring; ``^`` and ``$``
are written where wanted).  Three ways, chosen at construction:

* ``^literal$`` is a comparison;
* a pattern that cannot backtrack worse than the square of a short text is translated to Python's ``re``;
* everything else, and every longer text, runs on `ifc.ere_linear.LinearMatcher`, linear in the text.

So no pattern an operator can write and no text a caller can send holds the process for more than some milliseconds;
what is too large is refused when the criterion is read (`ifc.ere_syntax` caps) or, for texts, does not match.
"""

from __future__ import annotations

import re

import attrs

from ifc.ere_linear import LinearMatcher
from ifc.ere_syntax import ANY, Anchor, CharSet, Choice, Node, Repeat, Sequence, count_positions, parse_ere
from ifc.errors import EreError

__all__ = ["MAX_TEXT_CHARS", "Ere", "EreError", "translate_ere"]

MAX_TEXT_CHARS = 8192
"""A longer header value or SDP line does not match anything: none that is meant seriously comes near it."""
MAX_RE_TEXT_CHARS = 512
"""Texts up to this go to ``re``: 512 squared steps are about 3 ms, the worst that a pattern of degree 2 can do."""
MAX_RE_DEGREE = 2
MAX_RE_BRANCHES = 64
"""Ways that ``?``, ``|`` and intervals of a pattern multiply to; more goes to the linear matcher."""


@attrs.frozen(init=False, hash=False)
class Ere:
    """One compiled pattern.  Equal when text and case rule are."""

    text: str
    ignore_case: bool = attrs.field(repr=False)
    literal: str | None = attrs.field(eq=False, repr=False)
    """The one text that matches, for ``^literal$``; in lower case when case is ignored."""
    _regex: re.Pattern[str] | None = attrs.field(eq=False, repr=False)
    _linear: LinearMatcher = attrs.field(eq=False, repr=False)

    def __init__(self, text: str, *, ignore_case: bool = False) -> None:
        """Raises EreError when text is not an ERE within the caps."""
        node = parse_ere(text)
        literal = _whole_literal(node)
        regex = None
        if literal is None and _is_cheap(node):
            regex = re.compile(_translate(_without_loose_ends(node)), re.DOTALL | (re.IGNORECASE if ignore_case else 0))
        if literal is not None and ignore_case:
            literal = literal.lower()
        linear = LinearMatcher(node, ignore_case=ignore_case)
        self.__attrs_init__(text, ignore_case, literal, regex, linear)

    def __hash__(self) -> int:
        return hash((self.text, self.ignore_case))

    def __str__(self) -> str:
        return self.text

    def matches(self, text: str) -> bool:
        """Whether the pattern matches anywhere in text; False for a text beyond MAX_TEXT_CHARS."""
        if self.literal is not None:
            return (text.lower() if self.ignore_case else text) == self.literal
        if self._regex is not None and len(text) <= MAX_RE_TEXT_CHARS:
            return self._regex.search(text) is not None
        return len(text) <= MAX_TEXT_CHARS and self._linear.search(text)


def translate_ere(pattern: str) -> str:
    """The Python regular expression (for ``re.DOTALL``) that matches where the ERE does.  Raises EreError."""
    return _translate(parse_ere(pattern))


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


def _is_cheap(node: Node) -> bool:
    """Whether backtracking stays below MAX_RE_TEXT_CHARS ** MAX_RE_DEGREE times a small constant; errs to False."""
    node = _without_loose_ends(node)
    starts = node.parts[0] if isinstance(node, Sequence) and node.parts else node
    degree, branches = _backtracking(node)
    if starts != Anchor(at_start=True):
        degree += 1  # the search begins anew at each character
    return degree <= MAX_RE_DEGREE and branches <= MAX_RE_BRANCHES


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


def _translate(node: Node) -> str:
    match node:
        case CharSet():
            return _translate_set(node)
        case Anchor(at_start):
            return r"\A" if at_start else r"\Z"
        case Sequence(parts):
            texts = [f"(?:{_translate(part)})" if isinstance(part, Choice) else _translate(part) for part in parts]
            return "".join(texts)
        case Choice(branches):
            return "|".join(map(_translate, branches))
        case Repeat(part, least, most):
            inner = _translate(part) if isinstance(part, CharSet) else f"(?:{_translate(part)})"
            return f"{inner}{{{least},{'' if most is None else most}}}"


def _translate_set(charset: CharSet) -> str:
    if charset == ANY:
        return "."
    if (literal := charset.literal) is not None:
        return re.escape(literal)
    body = "".join(_escape(low) if low == high else f"{_escape(low)}-{_escape(high)}" for low, high in charset.ranges)
    return f"[{'^' if charset.negated else ''}{body}]"


def _escape(code: int) -> str:
    return f"\\U{code:08x}"
