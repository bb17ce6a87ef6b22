"""Admission towards a latency target: a token bucket whose rate follows what is measured.

A probe (`transport/load_probe.py`) reports every 50 ms how long work waits before it is done. Overload is when even
the least wait of the last `WINDOW_S` was above the target (the idea of CoDel: a burst makes a queue that goes away,
overload makes one that stays). It begins with nine tenths of the rate that was served, which at that moment is the
capacity. From then on, once in `STEP_S`:

* the target is missed and the wait does not shrink: the rate is cut by 5 to 30 %, by how much it is missed;
* it is met: the rate grows. By a third while it is below what is known to be possible; beyond, by a hundredth of the
  mean of what was served, for a call that is let in now makes work again when it ends; by a twentieth when nothing has
  waited for a second, so that a machine that has become faster is used.

What is possible is known from what was served in time: it is remembered for half a minute and each new lateness casts
doubt on it, so that a machine that was taken away for a moment is back at once, and one that has become slower is not
overrun again and again.

With the wait beyond `PANIC` times the target only the least rate is let in until the queue has been worked off: its
calls have waited so long that their senders try again.

The rate never falls below `MIN_SHARE` of the mean, nor below one call a second: whatever is measured, some calls get
in. When nothing has had to be refused for `CALM_S`, the limit is gone.

`loss` is the same as a share for peers that throttle themselves (RFC 7339): it grows as long as they send what has to
be refused, and shrinks when they do not.
"""

from __future__ import annotations

from collections import deque
from typing import Final

__all__ = ["LoadMonitor"]

WINDOW_S: Final = 0.2
STEP_S: Final = 0.1
RATE_S: Final = 0.3
"""Time constant of the served rate."""
MEAN_S: Final = 4.0
"""Time constant of its mean: several times what a call's end comes after its beginning in a load test."""
FORGET_S: Final = 30.0
"""Time constant with which what is known to be possible fades."""
LESSON: Final = 0.8
"""What is left of it when work is late again."""
CALM_S: Final = 1.0
IDLE_S: Final = 1.0

PANIC: Final = 8.0
FIRST_SHARE: Final = 0.9
MIN_CUT: Final = 0.05
MAX_CUT: Final = 0.3
KNOWN_SHARE: Final = 0.9
"""Below this share of what is known to be possible the rate grows by `KNOWN_GROWTH`."""
KNOWN_GROWTH: Final = 1.3
INCREASE_SHARE: Final = 0.01
IDLE_INCREASE_SHARE: Final = 0.05
IDLE_SHARE: Final = 0.1
"""Of the target: less is no wait."""
MIN_SHARE: Final = 0.05
MIN_RATE: Final = 1.0
BURST_S: Final = 0.05
"""Tokens for so many seconds can be saved up."""
MAX_LOSS: Final = 0.95
"""Never ask a peer to stop altogether: it would have no way to notice that it may go on."""
TOLERATED: Final = 0.05
"""Share of a throttling peer's calls that may be refused before it is asked for more."""
LOSS_DECREASE: Final = 0.02


class LoadMonitor:
    """Times are monotonic seconds.

    Args:
        target_s: how long work may wait; 0 switches the control off.
    """

    def __init__(self, target_s: float) -> None:
        self.target_s = target_s
        self.limit: float | None = None
        """Calls per second that are let in, None: no limit."""
        self.wait_s = 0.0
        """The latest sample."""
        self.loss = 0.0
        """Share of their calls that throttling peers should keep back."""
        self._samples: deque[tuple[float, float]] = deque()
        self._tokens = 0.0
        self._filled_at = 0.0
        self._stepped_at: float | None = None
        self._step_wait = 0.0
        self._refused_at = 0.0
        self._busy_at = 0.0
        self._is_panicking = False
        self._rate = 0.0
        self._mean = 0.0
        self._known = 0.0
        self._is_late = False
        self._admitted = 0
        self._offered_by_throttling = 0
        self._refused_of_throttling = 0

    @property
    def is_overloaded(self) -> bool:
        """Whether calls are limited now."""
        return self.limit is not None

    # ---------------------------------------------------------------- calls

    def refuses(self, *, now: float, throttles: bool = False) -> bool:
        """Whether a new call must be refused; ``throttles``: it is of a peer that obeys `loss`."""
        if self.limit is None:
            return False
        self._fill(now)
        is_refused = self._tokens < 1.0
        if is_refused:
            self._refused_at = now
        if throttles:
            self._offered_by_throttling += 1
            self._refused_of_throttling += is_refused
        return is_refused

    def take(self) -> None:
        """A call was let in."""
        self._admitted += 1
        if self.limit is not None:
            self._tokens = max(0.0, self._tokens - 1.0)

    def _fill(self, now: float) -> None:
        assert self.limit is not None
        rate = self._least() if self._is_panicking else self.limit
        self._tokens = min(max(1.0, rate * BURST_S), self._tokens + (now - self._filled_at) * rate)
        self._filled_at = now

    def _least(self) -> float:
        return max(MIN_RATE, MIN_SHARE * self._mean)

    # ---------------------------------------------------------------- control

    def observe(self, wait_s: float, *, now: float) -> None:
        """One sample: how long what is now done, or the loop itself, has waited."""
        self.wait_s = wait_s
        if not self.target_s:
            self.limit, self.loss = None, 0.0
            return
        samples = self._samples
        samples.append((now, wait_s))
        while samples[0][0] <= now - WINDOW_S:
            samples.popleft()
        if self._stepped_at is None:
            self._stepped_at = now
        elif now - self._stepped_at >= STEP_S:
            self._step(now, now - self._stepped_at)
            self._stepped_at = now

    def _step(self, now: float, elapsed: float) -> None:
        served, self._admitted = self._admitted / elapsed, 0
        self._rate += (served - self._rate) * min(1.0, elapsed / RATE_S)
        waits = [wait for _, wait in self._samples]
        before, self._step_wait = self._step_wait, self.wait_s
        is_late = min(waits) > self.target_s
        if max(waits) > IDLE_SHARE * self.target_s:
            self._busy_at = now
        if self.limit is None:
            if is_late and len(waits) > 1:
                self._begin(now, served)
            elif not is_late:
                self._known = max(self._rate, self._known * (1.0 - min(1.0, elapsed / FORGET_S)))
            return
        self._mean += (served - self._mean) * min(1.0, elapsed / MEAN_S)
        self._known = max(self._mean, self._known * (1.0 - min(1.0, elapsed / FORGET_S)))
        self._fill(now)  # what came in until now came at the former rate
        self._is_panicking = min(waits) > PANIC * self.target_s
        was_late, self._is_late = self._is_late, is_late
        if is_late:
            if not was_late:
                self._known *= LESSON
            if self.wait_s > 0.9 * before:
                cut = min(MAX_CUT, max(MIN_CUT, 0.1 * (self.wait_s / self.target_s - 1.0)))
                self.limit = max(self._least(), (1.0 - cut) * min(self.limit, max(self._rate, served)))
        elif now - self._refused_at > CALM_S:
            self.limit, self.loss = None, 0.0
            return
        elif self.limit < KNOWN_SHARE * self._known:
            self.limit = KNOWN_GROWTH * self.limit + MIN_RATE
        else:
            share = INCREASE_SHARE if now - self._busy_at < IDLE_S else IDLE_INCREASE_SHARE
            self.limit += max(MIN_RATE, share * self._mean) * elapsed / STEP_S
        self._step_loss()

    def _begin(self, now: float, served: float) -> None:
        self._mean = max(self._rate, served)
        self._known = max(self._mean, self._known)
        self._is_late = True
        self.limit = max(self._least(), FIRST_SHARE * self._mean)
        self._is_panicking = False
        self._tokens, self._filled_at, self._refused_at = 0.0, now, now

    def _step_loss(self) -> None:
        offered, self._offered_by_throttling = self._offered_by_throttling, 0
        refused, self._refused_of_throttling = self._refused_of_throttling, 0
        share = refused / offered if offered else 0.0
        if share > TOLERATED:
            self.loss = min(MAX_LOSS, 1.0 - (1.0 - self.loss) * (1.0 - 0.5 * share))
        else:
            self.loss = max(0.0, self.loss - LOSS_DECREASE)
