"""Time that only moves when the test says so."""

from __future__ import annotations

__all__ = ["ManualClock"]


class ManualClock:
    """Callable like a clock; seconds from an arbitrary start that is not zero."""

    def __init__(self, start: float = 1000.0) -> None:
        self.time = start

    def __call__(self) -> float:
        return self.time

    def advance(self, seconds: float) -> None:
        assert seconds >= 0
        self.time += seconds
