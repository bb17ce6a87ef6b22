"""Who gets in: the limits on calls held and on calls per second, and drain (failure doctrine F4).

Refusal happens before any work is done.  Emergency and priority calls and in-dialog requests are never counted here.
"""

from __future__ import annotations

import attrs

__all__ = ["Admission"]


@attrs.define
class Admission:
    """A cap on calls held and a token bucket on new ones.  ``now``: monotonic seconds."""

    max_calls: int
    calls_per_second: float
    held: int = 0
    draining: bool = False
    refused: dict[str, int] = attrs.Factory(dict)
    _tokens: float = 0.0
    _filled_at: float | None = None

    def admit(self, *, now: float) -> str | None:
        """None when the call may go on (and is then held until ``release``), else the reason of the refusal."""
        reason = self._refusal(now)
        if reason is None:
            self.held += 1
        else:
            self.refused[reason] = self.refused.get(reason, 0) + 1
        return reason

    def _refusal(self, now: float) -> str | None:
        if self.draining:
            return "draining"
        if self.held >= self.max_calls:
            return "calls"
        burst = max(1.0, self.calls_per_second)
        if self._filled_at is None:
            self._tokens = burst
        else:
            self._tokens = min(burst, self._tokens + (now - self._filled_at) * self.calls_per_second)
        self._filled_at = now
        if self._tokens < 1.0:
            return "rate"
        self._tokens -= 1.0
        return None

    def release(self) -> None:
        self.held -= 1
