"""A token bucket: so much at once, so much per second on average."""

from __future__ import annotations

__all__ = ["TokenBucket"]


class TokenBucket:
    """Full at first; times are monotonic seconds.

    Args:
        rate: tokens per second.
        burst: tokens that it can hold.
    """

    __slots__ = ("_filled_at", "_tokens", "burst", "rate")

    def __init__(self, rate: float, burst: float, *, now: float) -> None:
        self.rate = rate
        self.burst = burst
        self._tokens = burst
        self._filled_at = now

    def has(self, tokens: float, *, now: float) -> bool:
        """Whether so many are there now."""
        self._fill(now)
        return self._tokens >= tokens

    def take(self, tokens: float, *, now: float) -> bool:
        """Take them; False, and nothing taken, when there are too few."""
        self._fill(now)
        if self._tokens < tokens:
            return False
        self._tokens -= tokens
        return True

    def change(self, rate: float, burst: float, *, now: float) -> None:
        """Another size; what was used up stays used up."""
        self._fill(now)
        self._tokens = max(0.0, burst - (self.burst - self._tokens))
        self.rate, self.burst = rate, burst

    def is_full(self, *, now: float) -> bool:
        """Whether it is as a new one would be, so that it can be forgotten."""
        self._fill(now)
        return self._tokens >= self.burst

    def _fill(self, now: float) -> None:
        if now > self._filled_at:
            self._tokens = min(self.burst, self._tokens + (now - self._filled_at) * self.rate)
            self._filled_at = now
