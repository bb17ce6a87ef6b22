"""Matching in time linear in the text, for every pattern: a position automaton run on bit sets (Glushkov).

Python's ``re`` backtracks: ``(a+)+$`` needs time exponential in the text, ``.*a.*b.*c`` a power of it, and a caller
chooses the text.  Only yes or no is asked of a pattern here and an ERE has no back-references, so the automaton is
enough.  Each position is a bit; one step for a character is ``(follow(active) | first) & mask[character]``.

Anchors are positions too: the text is read between two marks, START and END, which only ``^`` and ``$`` match.
"""

from __future__ import annotations

import attrs

from ifc.ere_syntax import Anchor, CharSet, Choice, Node, Repeat, Sequence

__all__ = ["LinearMatcher"]

MAX_CACHED = 2048
"""Entries of each cache; a full cache is emptied, so memory is bounded and only speed is lost."""


@attrs.frozen
class _Span:
    """What Glushkov's construction knows of a part: can it be empty, where can it begin and end (bit sets)."""

    nullable: bool
    first: int
    last: int


_EMPTY = _Span(True, 0, 0)


class LinearMatcher:
    """Answers whether the pattern matches anywhere in a text; one per pattern, not thread-safe."""

    def __init__(self, node: Node, *, ignore_case: bool = False) -> None:
        self._ignore_case = ignore_case
        self._sets: list[CharSet | Anchor] = []
        self._follow: list[int] = []
        span = self._build(node)
        self._nullable, self._first, self._last = span.nullable, span.first, span.last
        self._start_mask = self._anchor_mask(at_start=True)
        self._end_mask = self._anchor_mask(at_start=False)
        self._char_masks: dict[str, int] = {}
        self._unions: dict[int, int] = {}
        self._byte_unions: list[dict[int, int]] = [{} for _ in range((len(self._sets) + 7) // 8)]

    def search(self, text: str) -> bool:
        """Whether the pattern matches somewhere in text."""
        if self._nullable:
            return True
        first, last = self._first, self._last
        if not text:
            return bool(self._at_once() & last)
        active = self._through_anchors(first & self._start_mask, self._start_mask)
        if active & last:
            return True
        masks, unions = self._char_masks, self._unions
        for char in text:
            mask = masks.get(char)
            if mask is None:
                mask = self._char_mask(char)
            union = unions.get(active)
            if union is None:
                union = self._union(active)
            active = (union | first) & mask
            if active & last:
                return True
        return bool(self._through_anchors((self._union(active) | first) & self._end_mask, self._end_mask) & last)

    def can_match(self, alphabet: CharSet) -> bool:
        """Whether there is a text of these characters alone, the empty one too, in which the pattern matches."""
        if self._nullable:
            return True
        sets = enumerate(self._sets)
        allowed = sum(1 << bit for bit, each in sets if isinstance(each, CharSet) and each.meets(alphabet))
        at_start = self._through_anchors(self._first & self._start_mask, self._start_mask)
        reached = (self._first | self._union(at_start)) & allowed
        while (wider := reached | (self._union(reached) & allowed)) != reached:
            reached = wider
        before_end = self._first | self._union(at_start) | self._union(reached)
        at_end = self._through_anchors(before_end & self._end_mask, self._end_mask)
        return bool((at_start | reached | at_end | self._at_once()) & self._last)

    def _at_once(self) -> int:
        """What an empty text reaches: its beginning is its end, so ``$^`` holds too."""
        both = self._start_mask | self._end_mask
        return self._through_anchors(self._first & both, both)

    def _through_anchors(self, active: int, mask: int) -> int:
        """``^^`` holds at one place: what follows an anchor by an anchor of the same place is reached at once."""
        reached = active
        while (wider := reached | (self._union(reached) & mask)) != reached:
            reached = wider
        return reached

    def _union(self, active: int) -> int:
        """Positions that may follow any of active."""
        union = self._unions.get(active)
        if union is not None:
            return union
        union = 0
        for index, byte in enumerate(active.to_bytes(len(self._byte_unions), "little")):
            if byte:
                table = self._byte_unions[index]
                if byte not in table:
                    table[byte] = self._follow_of_byte(index, byte)
                union |= table[byte]
        if len(self._unions) >= MAX_CACHED:
            self._unions.clear()
        self._unions[active] = union
        return union

    def _follow_of_byte(self, index: int, byte: int) -> int:
        union = 0
        for bit in range(8):
            if byte >> bit & 1:
                union |= self._follow[8 * index + bit]
        return union

    def _char_mask(self, char: str) -> int:
        spellings = {char, *char.lower(), *char.upper()} if self._ignore_case else {char}
        mask = 0
        for bit, each in enumerate(self._sets):
            if isinstance(each, CharSet):
                spelled = map(each.contains, spellings)
                if all(spelled) if each.negated else any(spelled):
                    mask |= 1 << bit
        if len(self._char_masks) >= MAX_CACHED:
            self._char_masks.clear()
        self._char_masks[char] = mask
        return mask

    def _anchor_mask(self, *, at_start: bool) -> int:
        wanted = Anchor(at_start)
        return sum(1 << bit for bit, each in enumerate(self._sets) if each == wanted)

    # ---------------------------------------------------------------- construction

    def _build(self, node: Node) -> _Span:
        match node:
            case CharSet() | Anchor():
                bit = 1 << len(self._sets)
                self._sets.append(node)
                self._follow.append(0)
                return _Span(False, bit, bit)
            case Sequence(parts):
                span = _EMPTY
                for part in parts:
                    span = self._join(span, self._build(part))
                return span
            case Choice(branches):
                spans = [self._build(branch) for branch in branches]
                first = last = 0
                for each in spans:
                    first |= each.first
                    last |= each.last
                return _Span(any(each.nullable for each in spans), first, last)
            case Repeat(part, least, most):
                return self._build_repeat(part, least, most)

    def _build_repeat(self, part: Node, least: int, most: int | None) -> _Span:
        if most == 0:
            return _EMPTY
        span = _EMPTY
        for _ in range(max(0, least - 1) if most is None else least):
            span = self._join(span, self._build(part))
        if most is None:
            loop = self._build(part)
            self._connect(loop.last, loop.first)
            return self._join(span, attrs.evolve(loop, nullable=loop.nullable or least == 0))
        for _ in range(most - least):
            span = self._join(span, attrs.evolve(self._build(part), nullable=True))
        return span

    def _join(self, left: _Span, right: _Span) -> _Span:
        self._connect(left.last, right.first)
        return _Span(
            left.nullable and right.nullable,
            left.first | right.first if left.nullable else left.first,
            left.last | right.last if right.nullable else right.last,
        )

    def _connect(self, last: int, first: int) -> None:
        bit = 0
        while last:
            if last & 1:
                self._follow[bit] |= first
            last >>= 1
            bit += 1
