"""Digits in the audio of those legs that are asked for, and their removal from what the engine and recordings hear.

A party without telephone-event dials by tones; `media.tones` hears them.  Where the agent wants digits removed, a frame
that is or seems to be a tone is replaced by silence as it passes: nothing is held back, so up to 25 ms of a tone's
beginning are heard, which is less than any receiver takes for a digit (Q.24).  The same goes for the copy in the audio
of a party that sends telephone events: all audio from an event's first packet until `LEAK_TICKS` after its last is
silenced.
"""

from __future__ import annotations

from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from media.dtmf import Digit
from media.leg import Leg
from media.table import TICK_MS, LegTable
from media.tones import ToneDetector

__all__ = ["INBAND_ALWAYS", "INBAND_AUTO", "INBAND_NEVER", "DigitEar", "DigitUser"]

INBAND_AUTO: Final = "auto"
INBAND_ALWAYS: Final = "always"
INBAND_NEVER: Final = "never"
LEAK_TICKS: Final = 120 // TICK_MS
"""Events are repeated every 50 ms at least, and the audio may come later than the event by its jitter."""


class DigitUser(Protocol):
    """Who is told."""

    def leg_of(self, row: int) -> Leg: ...

    def digit_received(self, leg: Leg, digit: Digit) -> None: ...


class DigitEar:
    """What is between the lines and everybody who hears them.

    Attributes:
        active: some leg wants it; else nothing here needs to be called.
    """

    def __init__(self, table: LegTable, user: DigitUser) -> None:
        self.active = False
        self._table = table
        self._user = user
        self._detector: ToneDetector | None = None
        self._listens = np.zeros(table.capacity, np.bool_)
        self._reports = np.zeros(table.capacity, np.bool_)
        self._mutes = np.zeros(table.capacity, np.bool_)
        self._n_listening = 0

    def configure(self, leg: Leg) -> None:
        """The leg's stream or its engine has changed."""
        wanted, row = leg.inband_dtmf, leg.row
        has_events = leg.receiver.config.expected_dtmf_payload_type is not None
        reports = wanted == INBAND_ALWAYS or (wanted == INBAND_AUTO and not has_events)
        self._set(row, reports, leg.mutes_digits)

    def release(self, leg: Leg) -> None:
        """Another party hears the leg, not an engine: tones pass as they are."""
        leg.inband_dtmf, leg.mutes_digits = INBAND_NEVER, False
        self.configure(leg)

    def forget(self, row: int) -> None:
        """The leg is gone."""
        self._set(row, False, False)

    def _set(self, row: int, reports: bool, mutes: bool) -> None:
        listens = reports or mutes
        if listens != bool(self._listens[row]):
            self._n_listening += 1 if listens else -1
            self._listens[row] = listens
            if self._detector is None:
                self._detector = ToneDetector(self._table.capacity)
            self._detector.reset(row)
        self._reports[row], self._mutes[row] = reports, mutes
        self.active = self._n_listening > 0

    def line_changed(self, row: int) -> None:
        """Another codec: what was heard before is at another rate."""
        if self._detector is not None:
            self._detector.reset(row)

    def hear(self, rows: NDArray[np.intp], line: NDArray[np.float32], tick: int) -> NDArray[np.float32]:
        """Takes 20 ms of each of ``rows`` and gives what is to be heard of them; only while `active`."""
        places = np.flatnonzero(self._listens[rows])
        if not len(places) or self._detector is None:
            return line
        asked = rows[places]
        heard = self._detector.take(asked, line[places])
        for row, digit in heard.digits:
            if self._reports[row]:
                self._user.digit_received(self._user.leg_of(row), digit)
        muted = self._mutes[asked] & (heard.suspect | (self._table.event_seen[asked] + LEAK_TICKS > tick))
        if muted.any():
            line = line.copy()
            line[places[muted]] = 0
        return line
