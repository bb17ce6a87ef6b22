"""Patterns that are plain text, found without a regular expression: ``mmtel``, ``^audio``, ``alice|1555``, ``icsi..``.

A literal, anchored or not, with a fixed number of any characters before and after it, or up to MAX_BRANCHES of these
beside each other (``[ai]`` is two).  `str.find` has them in a third of the time that ``re`` takes, and in time linear
in the text.  Of a literal that is not anchored the first occurrence that leaves room before it leaves most room behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

import attrs

from ifc.ere_syntax import ANY, Anchor, CharSet, Choice, Node, Repeat, Sequence

__all__ = ["Search", "plain_lines_search", "plain_search"]

MAX_BRANCHES = 4

Search: TypeAlias = Callable[[str], object]
"""Something true where the pattern matches somewhere in the text."""


@attrs.frozen
class _Plain:
    """One branch."""

    starts: bool
    """Anchored at the start; `before` counts from it then."""
    before: int
    """Characters that have to be there before the literal."""
    literal: str
    after: int
    ends: bool

    def search(self) -> Search:
        literal, before, after, size = self.literal, self.before, self.after, len(self.literal)
        if self.starts and self.ends:
            return lambda text: len(text) == before + size + after and text.startswith(literal, before)
        if self.starts:
            return lambda text: text.startswith(literal, before) and len(text) >= before + size + after
        if self.ends:
            return lambda text: (at := len(text) - size - after) >= before and text.startswith(literal, at)
        if not before and not after:
            return lambda text: literal in text
        return lambda text: (at := text.find(literal, before)) >= 0 and len(text) - at - size >= after

    def lines_search(self) -> Search | None:
        """For texts of which each follows a line feed; None where that cannot be told at a glance."""
        if self.before or self.after or "\n" in self.literal:
            return None
        literal = "\n" + self.literal if self.starts else self.literal
        if not self.ends:
            return lambda text: literal in text
        inner = literal + "\n"
        return lambda text: inner in text or text.endswith(literal)


def plain_search(node: Node) -> Search | None:
    """What finds the pattern in one text; None where it is no plain text."""
    found = _branches(node)
    return None if found is None else _any_of([each.search() for each in found])


def plain_lines_search(node: Node) -> Search | None:
    """What finds the pattern in several texts in one, each after a line feed and none with a line feed in it."""
    found = _branches(node)
    searches = [] if found is None else [each.lines_search() for each in found]
    if not searches or None in searches:
        return None
    return _any_of([search for search in searches if search is not None])


def _any_of(searches: list[Search]) -> Search:
    if len(searches) == 1:
        return searches[0]
    if len(searches) == 2:
        first, second = searches
        return lambda text: first(text) or second(text)
    return lambda text: any(search(text) for search in searches)


def _branches(node: Node) -> list[_Plain] | None:
    parts = node.parts if isinstance(node, Sequence) else (node,)
    branches: tuple[Node, ...] = (node,)
    if len(parts) == 1 and isinstance(parts[0], Choice):
        branches = parts[0].branches
    elif len(parts) == 1 and isinstance(parts[0], CharSet) and not parts[0].negated:
        low_high = parts[0].ranges
        if sum(high - low + 1 for low, high in low_high) <= MAX_BRANCHES:
            return [_Plain(False, 0, chr(code), 0, False) for low, high in low_high for code in range(low, high + 1)]
    if len(branches) > MAX_BRANCHES:
        return None
    found = [each for each in map(_branch, branches) if each is not None]
    return found if len(found) == len(branches) else None


def _branch(node: Node) -> _Plain | None:
    parts = list(node.parts) if isinstance(node, Sequence) else [node]
    starts, ends = parts[:1] == [Anchor(at_start=True)], parts[-1:] == [Anchor(at_start=False)]
    parts = parts[starts : len(parts) - ends]
    before, after = _gap(parts, is_fixed=starts), _gap(parts[::-1], is_fixed=ends)
    middle = parts[before[1] : len(parts) - after[1]]
    chars = [part.literal if isinstance(part, CharSet) else None for part in middle]
    literal = "".join(char for char in chars if char is not None)
    return None if None in chars or not literal else _Plain(starts, before[0], literal, after[0], ends)


def _gap(parts: Iterable[Node], *, is_fixed: bool) -> tuple[int, int]:
    """(any characters that there have to be, parts that say so).  Towards an anchor their number has to be fixed."""
    size = used = 0
    for part in parts:
        if part == ANY:
            size += 1
        elif isinstance(part, Repeat) and part.part == ANY and (not is_fixed or part.least == part.most):
            size += part.least
        else:
            break
        used += 1
    return size, used
