"""Timer values (RFC 3261 §17.1.1.1, Table 4) and the one heap that holds every SIP timer of a process.

Cancelling marks the handle; the entry is dropped when it comes to the top, or when more than half of a large heap is
cancelled (nearly all SIP timers are cancelled before they fire: a 32 s timer per call would otherwise fill the heap).

Timers that only end an absorbing state (D, I, J, K, L, M) may be late: they are put into slots of `SLOT_S`, and a slot
is one entry of the heap. Each call leaves two of them for 32 s.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from functools import partial

import attrs

__all__ = ["SLOT_S", "TimerConfig", "TimerHandle", "TimerHeap"]

_COMPACT_ABOVE = 1024
"""Smaller heaps are not worth rebuilding."""
SLOT_S = 0.25
"""A timer of a slot fires so much late at most; at 1,000 calls/s a slot holds 500 of them, some 2 ms of work."""


@attrs.frozen(slots=True)
class TimerConfig:
    """Base values in seconds; the others follow from them."""

    t1: float = 0.5
    """Round trip estimate."""
    t2: float = 4.0
    """Longest interval between retransmissions of non-INVITE requests and INVITE responses."""
    t4: float = 5.0
    """Longest time that a message stays in the network."""
    timer_c: float = 181.0
    """Proxy INVITE guard, must be more than three minutes (§16.6 item 11)."""
    timer_d: float = 32.5
    """Time to absorb response retransmissions over unreliable transports, more than 32 s."""
    invite_limit: float = 600.0
    """An INVITE that we have not answered by then is forgotten; whoever sent it has given up long ago (timer C)."""
    trying_after: float = 0.2
    """A 100 is sent if the user has sent nothing by then (§17.2.1)."""
    transaction_timeout: float = attrs.field(init=False)
    """64*T1: timers B, F, H, J, L, M."""

    @transaction_timeout.default
    def _transaction_timeout(self) -> float:
        return 64 * self.t1


class TimerHandle:
    """One scheduled callback; `cancel` is idempotent and harmless after it has fired."""

    __slots__ = ("_heap", "callback", "when")

    def __init__(self, when: float, callback: Callable[[], object], heap: TimerHeap) -> None:
        self.when = when
        self.callback: Callable[[], object] | None = callback
        self._heap = heap

    def cancel(self) -> None:
        if self.callback is not None:
            self.callback = None
            self._heap.note_cancelled()

    @property
    def is_pending(self) -> bool:
        return self.callback is not None


class SlotHandle(TimerHandle):
    """The handle of a timer in a slot."""

    __slots__ = ()

    def cancel(self) -> None:
        if self.callback is not None:
            self.callback = None
            self._heap.note_slot_timer_gone()


class TimerHeap:
    """Callbacks in order of their due time; equal times fire in the order of scheduling."""

    __slots__ = ("_cancelled", "_entries", "_n_in_slots", "_sequence", "_slots")

    def __init__(self) -> None:
        self._entries: list[tuple[float, int, TimerHandle]] = []
        self._sequence = 0
        self._cancelled = 0
        self._slots: dict[int, list[SlotHandle]] = {}
        self._n_in_slots = 0

    def __len__(self) -> int:
        """Number of timers that will still fire."""
        return len(self._entries) - self._cancelled - len(self._slots) + self._n_in_slots

    def schedule(self, when: float, callback: Callable[[], object]) -> TimerHandle:
        handle = TimerHandle(when, callback, self)
        self._sequence += 1
        heapq.heappush(self._entries, (when, self._sequence, handle))
        return handle

    def schedule_about(self, when: float, callback: Callable[[], object]) -> TimerHandle:
        """The same, at `when` or up to `SLOT_S` later."""
        slot = math.ceil(when / SLOT_S)
        handle = SlotHandle(slot * SLOT_S, callback, self)
        timers = self._slots.get(slot)
        if timers is None:
            self._slots[slot] = [handle]
            self.schedule(slot * SLOT_S, partial(self._run_slot, slot))
        else:
            timers.append(handle)
        self._n_in_slots += 1
        return handle

    def _run_slot(self, slot: int) -> None:
        timers = self._slots.pop(slot)
        try:
            for handle in timers:
                callback = handle.callback
                if callback is not None:
                    handle.callback = None
                    self._n_in_slots -= 1
                    callback()
        finally:
            # none, but after an error
            for handle in timers:
                if handle.callback is not None:
                    self._n_in_slots -= 1
                    self.schedule_about(handle.when, handle.callback)

    def note_slot_timer_gone(self) -> None:
        """For `SlotHandle.cancel` only."""
        self._n_in_slots -= 1

    def note_cancelled(self) -> None:
        """For `TimerHandle.cancel` only."""
        self._cancelled += 1
        if self._cancelled > _COMPACT_ABOVE and self._cancelled * 2 > len(self._entries):
            # in place: run_due may be iterating
            self._entries[:] = [entry for entry in self._entries if entry[2].callback is not None]
            heapq.heapify(self._entries)
            self._cancelled = 0

    def next_deadline(self) -> float | None:
        """Due time of the first live timer, or None."""
        entries = self._entries
        while entries:
            when, _, handle = entries[0]
            if handle.callback is not None:
                return when
            heapq.heappop(entries)
            self._cancelled -= 1
        return None

    def run_due(self, now: float) -> int:
        """Fire everything due at `now`, also what the callbacks schedule for a time already past.

        Returns:
            How many fired, a slot being one.
        """
        entries = self._entries
        fired = 0
        while entries and entries[0][0] <= now:
            handle = heapq.heappop(entries)[2]
            callback = handle.callback
            if callback is None:
                self._cancelled -= 1
                continue
            handle.callback = None
            fired += 1
            callback()
        return fired
