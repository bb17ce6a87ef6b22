"""Refusals for the operator log: told at once, and then at most once a second with how many there were.

A line per refusal would cost more than the refusal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

__all__ = ["RefusalLog"]

INTERVAL_S: Final = 1.0
MAX_LINES: Final = 10
"""At a time: those with most."""
MAX_WAITING: Final = 1000
"""Reasons that wait; they may name peers."""


class RefusalLog:
    """Sums up by reason.

    Args:
        write: gets reason and count.
    """

    def __init__(self, write: Callable[[str, int], None]) -> None:
        self._write = write
        self._waiting: Counter[str] = Counter()
        self._next = 0.0

    def note(self, reason: str, now: float) -> None:
        """One refusal; ``now``: monotonic seconds."""
        if len(self._waiting) < MAX_WAITING or reason in self._waiting:
            self._waiting[reason] += 1
        if now >= self._next:
            self.flush(now)

    def flush(self, now: float) -> None:
        """Write what waits, if the last line is a second old; to be called now and then, so that nothing stays."""
        if not self._waiting or now < self._next:
            return
        self._next = now + INTERVAL_S
        waiting, self._waiting = self._waiting, Counter()
        for reason, count in waiting.most_common(MAX_LINES):
            self._write(reason, count)
