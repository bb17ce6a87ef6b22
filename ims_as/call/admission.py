"""Who gets in: drain, the limits on calls held and on calls per second, and the measured load (failure doctrine F4).

``refusal`` is asked by the gate before any work is done, ``hold`` is told of each call that is made.  Emergency and
priority calls and in-dialog requests are never counted here.
"""

from __future__ import annotations

import attrs

from ims_as.defence.overload import LoadMonitor

__all__ = ["Admission"]


@attrs.define
class Admission:
    """A cap on calls held, a token bucket on new ones, and what the load allows.  ``now``: monotonic seconds."""

    max_calls: int
    calls_per_second: float
    held: int = 0
    draining: bool = False
    load: LoadMonitor = attrs.Factory(lambda: LoadMonitor(0.0))
    _tokens: float = 0.0
    _filled_at: float | None = None

    def refusal(self, *, now: float, throttles: bool = False) -> str | None:
        """None when a call could be held now, else why not; ``throttles``: its sender obeys `LoadMonitor.loss`."""
        if self.draining:
            return "draining"
        if self.held >= self.max_calls:
            return "calls"
        self._fill(now)
        if self._tokens < 1.0:
            return "rate"
        return "latency" if self.load.refuses(now=now, throttles=throttles) else None

    def hold(self, *, now: float) -> None:
        """A call is there, until ``release``."""
        self._fill(now)
        self._tokens = max(0.0, self._tokens - 1.0)
        self.load.take()
        self.held += 1

    def release(self) -> None:
        self.held -= 1

    def change(self, max_calls: int, calls_per_second: float) -> None:
        """Other limits from now on; calls that are held stay."""
        self.max_calls, self.calls_per_second = max_calls, calls_per_second

    def _fill(self, now: float) -> None:
        burst = max(1.0, self.calls_per_second)
        if self._filled_at is None:
            self._tokens = burst
        else:
            self._tokens = min(burst, self._tokens + (now - self._filled_at) * self.calls_per_second)
        self._filled_at = now
