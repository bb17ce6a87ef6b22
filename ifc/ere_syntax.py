"""POSIX extended regular expressions (IEEE 1003.1 §9.4): text → tree.

TS 29.228 Annex F names this dialect for RequestURI, SIPHeader and SessionDescription.  It is not Python's: there is no
``\\d``, no lazy ``*?``, a backslash is a plain character inside brackets, and ``^`` and ``$`` are anchors everywhere.

What POSIX leaves undefined is decided here once:

====================================  ============================================================================
``\\`` before a letter or digit         refused (other dialects read ``\\d``, ``\\w``, ``\\b``, ``\\1`` in it)
``\\`` before other characters          that character
two quantifiers in a row              refused (``a*?`` and ``a++`` are other dialects)
quantifier with nothing before it     refused, also after ``^``, ``$``, ``(`` and ``|``
``{`` that starts no interval         refused
empty alternative, empty group        the empty string (all known S-CSCFs read it so)
unmatched ``)``                       refused
====================================  ============================================================================
"""

from __future__ import annotations

from typing import TypeAlias

import attrs

from ifc.errors import EreError

__all__ = [
    "MAX_DEPTH",
    "MAX_PATTERN_CHARS",
    "MAX_POSITIONS",
    "MAX_REPEAT",
    "Anchor",
    "CharSet",
    "Choice",
    "Node",
    "Repeat",
    "Sequence",
    "count_positions",
    "parse_ere",
]

MAX_PATTERN_CHARS = 1000
"""Kamailio takes 255; longer ones are not seen in the field."""
MAX_DEPTH = 20
"""Parentheses within parentheses; bounds our recursion."""
MAX_REPEAT = 255
"""RE_DUP_MAX of POSIX."""
MAX_POSITIONS = 512
"""Characters of the pattern once its intervals are written out; bounds the work of each step of a match."""

LAST_CHAR = 0x10FFFF

_CLASSES: dict[str, tuple[tuple[int, int], ...]] = {
    "alnum": ((0x30, 0x39), (0x41, 0x5A), (0x61, 0x7A)),
    "alpha": ((0x41, 0x5A), (0x61, 0x7A)),
    "blank": ((0x09, 0x09), (0x20, 0x20)),
    "cntrl": ((0x00, 0x1F), (0x7F, 0x7F)),
    "digit": ((0x30, 0x39),),
    "graph": ((0x21, 0x7E),),
    "lower": ((0x61, 0x7A),),
    "print": ((0x20, 0x7E),),
    "punct": ((0x21, 0x2F), (0x3A, 0x40), (0x5B, 0x60), (0x7B, 0x7E)),
    "space": ((0x09, 0x0D), (0x20, 0x20)),
    "upper": ((0x41, 0x5A),),
    "xdigit": ((0x30, 0x39), (0x41, 0x46), (0x61, 0x66)),
}
"""Character classes in the POSIX locale: SIP's own syntax is ASCII."""


@attrs.frozen
class CharSet:
    """One character out of a set: a literal, ``.`` or a bracket expression."""

    ranges: tuple[tuple[int, int], ...]
    """Code points, both ends included."""
    negated: bool = False

    def contains(self, char: str) -> bool:
        code = ord(char)
        return any(low <= code <= high for low, high in self.ranges) is not self.negated

    def plain_ranges(self) -> tuple[tuple[int, int], ...]:
        """What it contains, without negation; merged and ascending."""
        if not self.negated:
            return self.ranges
        gaps, begin = [], 0
        for low, high in self.ranges:
            if begin < low:
                gaps.append((begin, low - 1))
            begin = high + 1
        return (*gaps, (begin, LAST_CHAR)) if begin <= LAST_CHAR else tuple(gaps)

    def meets(self, other: CharSet) -> bool:
        """Whether some character is in both."""
        theirs = other.plain_ranges()
        return any(low <= end and begin <= high for low, high in self.plain_ranges() for begin, end in theirs)

    @property
    def literal(self) -> str | None:
        """The character, when it can only be one."""
        if self.negated or len(self.ranges) != 1 or self.ranges[0][0] != self.ranges[0][1]:
            return None
        return chr(self.ranges[0][0])


ANY = CharSet(((0, LAST_CHAR),))


@attrs.frozen
class Anchor:
    """``^`` (at_start) or ``$``."""

    at_start: bool


@attrs.frozen
class Sequence:
    parts: tuple[Node, ...]


@attrs.frozen
class Choice:
    branches: tuple[Node, ...]


@attrs.frozen
class Repeat:
    part: Node
    least: int
    most: int | None
    """None: without bound."""


Node: TypeAlias = CharSet | Anchor | Sequence | Choice | Repeat


def parse_ere(pattern: str) -> Node:
    """Raises EreError, with the place, for everything that is not an ERE or exceeds a cap."""
    if len(pattern) > MAX_PATTERN_CHARS:
        raise EreError(f"pattern of {len(pattern)} characters, at most {MAX_PATTERN_CHARS}")
    for at, char in enumerate(pattern):
        if not _is_xml_char(char):
            raise EreError(f"character {ord(char):#x} at {at}")
    parser = _Parser(pattern)
    node = parser.parse_choice(0)
    if parser.at < len(pattern):
        parser.fail("unmatched )")
    if count_positions(node) > MAX_POSITIONS:
        raise EreError(f"pattern stands for more than {MAX_POSITIONS} characters")
    return node


def _is_xml_char(char: str) -> bool:
    """What a pattern may hold: XML's characters without the line breaks, which no header value contains."""
    code = ord(char)
    return code == 0x09 or 0x20 <= code <= 0xD7FF or 0xE000 <= code <= 0xFFFD or code > 0xFFFF


def count_positions(node: Node) -> int:
    """Characters and anchors in the pattern when each interval is written out."""
    match node:
        case CharSet() | Anchor():
            return 1
        case Sequence(parts) | Choice(parts):
            # nothing counts as well: building it takes time too, (()) repeated again and again
            return max(1, sum(map(count_positions, parts)))
        case Repeat(part, least, most):
            # x{2,} is written xx+; nested intervals multiply, and the numbers stay small enough to multiply
            return count_positions(part) * max(1, least, most or 0)


class _Parser:
    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.at = 0

    def fail(self, text: str) -> EreError:
        raise EreError(f"{text} at {self.at} of {self.pattern[:80]!r}")

    def peek(self) -> str:
        return self.pattern[self.at : self.at + 1]

    def parse_choice(self, depth: int) -> Node:
        if depth > MAX_DEPTH:
            self.fail(f"more than {MAX_DEPTH} parentheses within each other")
        branches = [self._parse_sequence(depth)]
        while self.peek() == "|":
            self.at += 1
            branches.append(self._parse_sequence(depth))
        return branches[0] if len(branches) == 1 else Choice(tuple(branches))

    def _parse_sequence(self, depth: int) -> Node:
        parts: list[Node] = []
        while (char := self.peek()) and char not in "|)":
            parts.append(self._parse_quantified(self._parse_atom(char, depth)))
        return parts[0] if len(parts) == 1 else Sequence(tuple(parts))

    def _parse_atom(self, char: str, depth: int) -> Node:
        if char in "*+?{":
            self.fail(f"{char} repeats nothing")
        self.at += 1
        match char:
            case "(":
                node = self.parse_choice(depth + 1)
                if self.peek() != ")":
                    self.fail("( without )")
                self.at += 1
                return node
            case "[":
                return self._parse_bracket()
            case ".":
                return ANY
            case "^":
                return Anchor(at_start=True)
            case "$":
                return Anchor(at_start=False)
            case "\\":
                escaped = self.peek()
                if not escaped:
                    self.fail("\\ at the end")
                if escaped.isalnum():
                    self.fail(f"\\{escaped} is not in POSIX ERE (digits are [0-9])")
                self.at += 1
                return CharSet(((ord(escaped), ord(escaped)),))
        return CharSet(((ord(char), ord(char)),))

    def _parse_quantified(self, node: Node) -> Node:
        char = self.peek()
        if not char or char not in "*+?{":
            return node
        if isinstance(node, Anchor) and self.pattern[self.at - 1] != ")":
            self.fail(f"{char} repeats an anchor")
        self.at += 1
        if char == "{":
            least, most = self._parse_interval()
        else:
            least, most = {"*": (0, None), "+": (1, None), "?": (0, 1)}[char]
        if (after := self.peek()) and after in "*+?{":
            self.fail(f"{after} repeats a repetition")
        return Repeat(node, least, most)

    def _parse_interval(self) -> tuple[int, int | None]:
        least = self._parse_number()
        most: int | None = least
        if self.peek() == ",":
            self.at += 1
            most = None if self.peek() == "}" else self._parse_number()
        if self.peek() != "}":
            self.fail("{ without }")
        if most is not None and most < least:
            self.fail("interval that ends before it begins")
        self.at += 1
        return least, most

    def _parse_number(self) -> int:
        start = self.at
        while (char := self.peek()) and char in "0123456789" and self.at - start < 4:
            self.at += 1
        if start == self.at:
            self.fail("{ that begins no interval")
        number = int(self.pattern[start : self.at])
        if number > MAX_REPEAT:
            self.fail(f"more than {MAX_REPEAT} repetitions")
        return number

    # ---------------------------------------------------------------- bracket expressions, IEEE 1003.1 §9.3.5

    def _parse_bracket(self) -> CharSet:
        negated = self.peek() == "^"
        if negated:
            self.at += 1
        ranges: list[tuple[int, int]] = []
        first = True
        while first or self.peek() != "]":
            first = False
            if self.pattern.startswith("[:", self.at):
                ranges.extend(self._parse_class())
                continue
            low = self._parse_bracket_char()
            # a hyphen before ] is a plain character
            if self.peek() == "-" and self.pattern[self.at + 1 : self.at + 2] not in ("]", ""):
                self.at += 1
                high = self._parse_bracket_char()
                if high < low:
                    self.fail("range that ends before it begins")
            else:
                high = low
            ranges.append((low, high))
        self.at += 1
        return CharSet(_merge(ranges), negated)

    def _parse_class(self) -> tuple[tuple[int, int], ...]:
        end = self.pattern.find(":]", self.at + 2)
        name = self.pattern[self.at + 2 : end] if end >= 0 else ""
        if name not in _CLASSES:
            self.fail("unknown character class")
        self.at = end + 2
        return _CLASSES[name]

    def _parse_bracket_char(self) -> int:
        char = self.peek()
        if not char:
            self.fail("[ without ]")
        if char == "[" and (kind := self.pattern[self.at + 1 : self.at + 2]) and kind in ".=:":
            # [.x.] and [=x=]: in the POSIX locale each stands for x alone
            if kind == ":" or self.pattern[self.at + 3 : self.at + 5] != kind + "]":
                self.fail("collating element of more than one character")
            char = self.pattern[self.at + 2]
            self.at += 4
        self.at += 1
        return ord(char)


def _merge(ranges: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    merged: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], high))
        else:
            merged.append((low, high))
    return tuple(merged)
