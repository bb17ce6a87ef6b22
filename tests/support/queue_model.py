"""A server with one queue, as a plain model: what a call costs, who comes when, how long it waits.

Each call is INVITE, ACK and BYE through the same first-come-first-served queue. The gate is asked when an INVITE's turn
comes, as in the real server. Every 50 ms a probe tells the monitor how long the head of the queue has waited.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable

import attrs

from ims_as.defence.overload import LoadMonitor

__all__ = ["Outcome", "QueueModel"]

PROBE_S = 0.05


@attrs.define
class Outcome:
    """What happened in one second of the model's time."""

    offered: int = 0
    completed: int = 0
    refused: int = 0
    longest_wait_s: float = 0.0


@attrs.define
class QueueModel:
    """``invite_s``, ``ack_s``, ``bye_s``, ``refuse_s``: what each costs the one server, seconds."""

    monitor: LoadMonitor
    invite_s: float = 0.0011
    ack_s: float = 0.0001
    bye_s: float = 0.0008
    refuse_s: float = 0.00007
    hold_s: float = 1.0
    stall: Callable[[float], float] = lambda _: 0.0
    """Seconds for which the server does nothing at that moment."""
    now: float = 0.0
    free_at: float = 0.0
    accepted: int = 0
    completed: int = 0
    seconds: dict[int, Outcome] = attrs.Factory(dict)
    _due: float = 0.0
    _arrivals: list[tuple[float, int, str]] = attrs.Factory(list)
    _queue: deque[tuple[float, str]] = attrs.Factory(deque)
    _count: itertools.count[int] = attrs.Factory(itertools.count)

    @property
    def capacity(self) -> float:
        """Calls per second without any refusal."""
        return 1.0 / (self.invite_s + self.ack_s + self.bye_s)

    def change_speed(self, factor: float) -> None:
        """From now on everything takes that much less time."""
        self.invite_s /= factor
        self.ack_s /= factor
        self.bye_s /= factor
        self.refuse_s /= factor

    def run(self, seconds: float, calls_per_second: float) -> None:
        """Offer that rate, evenly, for that long."""
        end = self.now + seconds
        n_calls = int(seconds * calls_per_second)
        for index in range(n_calls):
            self._push(self.now + index / calls_per_second, "INVITE")
        self._due = self.now
        self._push(self.now, "probe")
        while self._arrivals and self._arrivals[0][0] < end:
            self.now, _, kind = heapq.heappop(self._arrivals)
            self._work_until(self.now)
            if kind == "probe":
                age = self.now - self._queue[0][0] if self._queue else 0.0
                self.monitor.observe(max(age, self.now - self._due), now=self.now)
                self._due = self.now + PROBE_S
                stall = self.stall(self.now)
                if stall:  # the whole loop stands still, the probe too
                    self.free_at = self.now + stall
                if self._due < end:
                    self._push(self._due + stall, "probe")
            else:
                self._queue.append((self.now, kind))
        self._work_until(end)
        self.now = end

    def _push(self, when: float, kind: str) -> None:
        heapq.heappush(self._arrivals, (when, next(self._count), kind))

    def _work_until(self, end: float) -> None:
        while self._queue and max(self.free_at, self._queue[0][0]) < end:
            arrived, kind = self._queue.popleft()
            begun = max(self.free_at, arrived)
            outcome = self.seconds.setdefault(int(begun), Outcome())
            outcome.longest_wait_s = max(outcome.longest_wait_s, begun - arrived)
            cost = {"INVITE": self.invite_s, "ACK": self.ack_s, "BYE": self.bye_s}[kind]
            if kind == "INVITE":
                outcome.offered += 1
                if self.monitor.refuses(now=begun):
                    outcome.refused += 1
                    cost = self.refuse_s
                else:
                    self.monitor.take()
                    self.accepted += 1
                    self._push(begun + cost + 0.01, "ACK")
                    self._push(begun + cost + self.hold_s, "BYE")
            elif kind == "BYE":
                outcome.completed += 1
                self.completed += 1
            self.free_at = begun + cost
