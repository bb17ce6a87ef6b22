"""In-order release of one leg's packets while there is a gap.

Packets go to the engine as they come; a leg that has nothing missing never meets this class.  A packet beyond the one
expected opens a gap: it and its followers are held until the missing ones have come or the wait, which follows the
jitter seen on the leg, is over.  Then the missing ones are given up: the caller conceals as many frames, and the held
packets follow.  What comes after it was given up, or twice, is late and dropped.
"""

from __future__ import annotations

from typing import Final, Generic, TypeVar

import attrs

from media.unwrap import sequence_distance

__all__ = ["MAX_HELD", "RESYNC_DISTANCE", "GapBuffer", "Released", "RestartWatch", "Verdict", "gap_wait_ticks"]

from enum import Enum

MAX_HELD: Final = 32
"""Packets held while a gap waits: 640 ms at 20 ms, far more than the longest wait lets come in."""
RESYNC_DISTANCE: Final = 500
"""A jump of 10 s in either direction is a new stream, not loss (RFC 3550 A.1: MAX_DROPOUT and MAX_MISORDER)."""
MIN_WAIT_TICKS: Final = 3
MAX_WAIT_TICKS: Final = 16
"""80 ms of waiting for a missing packet is as much as conversation bears."""

RESTART_PACKETS: Final = 8
RESTART_TICKS: Final = 30
"""So many late packets in order, over 150 ms and with nothing else between them, are a sender that has begun anew."""

T = TypeVar("T")


class Verdict(Enum):
    """What became of a packet."""

    ACCEPTED = "accepted"
    LATE = "late"
    DUPLICATE = "duplicate"
    RESYNC = "resync"
    """The stream jumped: everything held was released and counting begins anew with this packet."""


@attrs.frozen(slots=True)
class Released(Generic[T]):
    """An item in order; ``missing`` packets before it were given up."""

    missing: int
    item: T
    sequence: int = attrs.field(default=0, eq=False)
    opened: int = attrs.field(default=0, eq=False)
    """The tick since which the missing ones were waited for."""


def gap_wait_ticks(jitter_ms: float, tick_ms: float) -> int:
    """How long a gap may wait: three times the jitter (RFC 3550 §6.4.1 estimate) and one packet's length."""
    return min(MAX_WAIT_TICKS, max(MIN_WAIT_TICKS, round((20 + 3 * jitter_ms) / tick_ms)))


@attrs.define
class RestartWatch:
    """Tells a sender that has begun anew close behind its former sequence numbers from packets that are late.

    Late packets of a network that held them back come at once; such a sender's come at its pace (RFC 3550 A.1 has two
    in order suffice, which two late ones are as well).
    """

    _expected: int = -1
    _next: int = -1
    _count: int = 0
    _since: int = 0

    def is_restart(self, sequence: int, expected: int, tick: int) -> bool:
        """Notes a late packet; ``expected``: the number that did not come."""
        if (sequence, expected) != (self._next, self._expected):
            self._count, self._since = 0, tick
        self._count += 1
        self._next, self._expected = (sequence + 1) & 0xFFFF, expected
        return self._count >= RESTART_PACKETS and tick - self._since >= RESTART_TICKS


@attrs.define
class GapBuffer(Generic[T]):
    """Holds packets of one leg behind a gap.

    Attributes:
        expected: sequence number (16 bits) of the next packet to release.
    """

    expected: int
    _held: dict[int, tuple[int, T]] = attrs.Factory(dict)
    """By sequence number: tick of arrival, item."""
    _give_up_at: int | None = None
    _opened: int = 0

    @property
    def is_empty(self) -> bool:
        return not self._held

    @property
    def highest(self) -> int:
        """Sequence number of the newest packet, held or released."""
        ahead = max((sequence_distance(self.expected, s) for s in self._held), default=-1)
        return (self.expected + ahead) & 0xFFFF

    def next_deadline(self) -> int | None:
        """The tick at which the gap is given up, None when there is no gap."""
        return self._give_up_at

    def receive(self, sequence: int, item: T, *, tick: int, wait_ticks: int) -> tuple[Verdict, list[Released[T]]]:
        """Takes a packet.

        Args:
            sequence: 16-bit sequence number.
            item: whatever is to be released at its place.
            tick: now.
            wait_ticks: how long a gap that opens now may wait.

        Returns:
            what became of it, and what can be released now, in order.
        """
        distance = sequence_distance(self.expected, sequence)
        if abs(distance) > RESYNC_DISTANCE:
            released = self._release_all()
            self.expected = (sequence + 1) & 0xFFFF
            released.append(Released(0, item))
            return Verdict.RESYNC, released
        if distance < 0:
            return Verdict.LATE, []
        if sequence in self._held:
            return Verdict.DUPLICATE, []
        self._held[sequence] = tick, item
        if distance and self._give_up_at is None:
            self._opened = tick
            self._give_up_at = tick + wait_ticks
        released = self._release_ready(0, wait_ticks)
        if len(self._held) >= MAX_HELD:
            released += self._skip_gap(wait_ticks)
        return Verdict.ACCEPTED, released

    def handle_timer(self, *, tick: int, wait_ticks: int) -> list[Released[T]]:
        """Gives the gap up if its wait is over."""
        if self._give_up_at is None or tick < self._give_up_at:
            return []
        return self._skip_gap(wait_ticks)

    def _skip_gap(self, wait_ticks: int) -> list[Released[T]]:
        missing = min(sequence_distance(self.expected, s) for s in self._held)
        self.expected = (self.expected + missing) & 0xFFFF
        return self._release_ready(missing, wait_ticks)

    def _release_ready(self, missing: int, wait_ticks: int) -> list[Released[T]]:
        released: list[Released[T]] = []
        while self.expected in self._held:
            _, item = self._held.pop(self.expected)
            released.append(Released(missing, item, self.expected, self._opened))
            self.expected = (self.expected + 1) & 0xFFFF
            missing = 0
        if released and self._held:  # the next gap has been waited for since the first packet beyond it came
            self._opened = min(arrived for arrived, _ in self._held.values())
            self._give_up_at = self._opened + wait_ticks
        elif released:
            self._give_up_at = None
        return released

    def _release_all(self) -> list[Released[T]]:
        released: list[Released[T]] = []
        for sequence in sorted(self._held, key=lambda s: sequence_distance(self.expected, s)):
            released.append(Released(0, self._held[sequence][1]))
        self._held.clear()
        self._give_up_at = None
        return released
