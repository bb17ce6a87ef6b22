"""How much of its time a worker needs, so that it can refuse before audio is late.

Load is the share of time in which the worker could not have begun anything else: it was at work (by the clock, so time
in which the machine ran something else meanwhile counts), or it was due and did not get the core.  The CPU time of the
thread is the least that it can be.  What the worker does besides its passes, commands and handshakes, is in both.
"""

from __future__ import annotations

from typing import Final

__all__ = ["LoadMeter"]

RISING: Final = 0.6
FALLING: Final = 0.3
"""Weight of the latest second in the smoothed load: it is believed sooner when it is bad."""
TOLERANCE_S: Final = 0.0005
"""The kernel's timers are not more exact on a machine that does something else as well."""


class LoadMeter:
    """Fed by the loop; all times are seconds of the monotonic clock, ``cpu`` of the thread's CPU time.

    Attributes:
        load: smoothed, 0 to 1.
        latest: of the last window.
        cpu: share of CPU time in it.
        waited: share in which the worker was due and did not run.
    """

    def __init__(self, now: float, cpu: float) -> None:
        self.load = self.latest = self.cpu = self.waited = 0.0
        self._began, self._cpu_began = now, cpu
        self._busy_s = self._waited_s = 0.0
        self._free_at = now
        self._has_load = False

    def begin(self, now: float, due: float | None = None) -> None:
        """Work begins that was ``due`` then; None: nobody knows since when it waited."""
        if due is not None:
            self._waited_s += max(0.0, now - max(due, self._free_at, self._began) - TOLERANCE_S)
        self._free_at = now

    def end(self, now: float) -> None:
        """It is done."""
        self._busy_s += now - self._free_at
        self._free_at = now

    def close_window(self, now: float, cpu: float) -> None:
        """A second or so is over: brings the attributes up to date."""
        length_s = max(now - self._began, 1e-9)
        self.cpu = (cpu - self._cpu_began) / length_s
        self.waited = min(1.0, self._waited_s / length_s)
        self.latest = min(1.0, max((self._busy_s + self._waited_s) / length_s, self.cpu))
        weight = RISING if self.latest > self.load else FALLING
        self.load = self.load + weight * (self.latest - self.load) if self._has_load else self.latest
        self._has_load = True
        self._began, self._cpu_began = now, cpu
        self._busy_s = self._waited_s = 0.0
