"""When a party hears filler: a pure decision per leg.

Filler starts when the engine is lost and when it is slow to answer, and ends with the first engine audio.  A ``play``
command has precedence over it.
"""

from __future__ import annotations

from enum import Enum

import attrs

__all__ = ["FillerPolicy", "Playing"]


class Playing(Enum):
    """What the leg plays by itself."""

    NOTHING = "nothing"
    FILLER = "filler"
    CLIP = "clip"


@attrs.define
class FillerPolicy:
    """Deadlines in ticks; each method returns whether filler is to start (True), stop (False) or stay (None).

    Attributes:
        after_ticks: silence of the engine after the caller's speech that starts filler; 0: never.
    """

    after_ticks: int = 0
    playing: Playing = Playing.NOTHING
    _start_at: int | None = None

    def next_deadline(self) -> int | None:
        return self._start_at

    def speech_started(self) -> None:
        self._start_at = None

    def speech_ended(self, ended_tick: int) -> None:
        """The caller's speech ended at that tick (already past by the hangover of the detector)."""
        if self.after_ticks and self.playing is Playing.NOTHING:
            self._start_at = ended_tick + self.after_ticks

    def engine_audio(self) -> bool | None:
        """The engine's audio is about to be heard."""
        self._start_at = None
        return self._stop()

    def engine_lost(self) -> bool | None:
        self._start_at = None
        return self._start()

    def handle_timer(self, tick: int) -> bool | None:
        if self._start_at is None or tick < self._start_at:
            return None
        self._start_at = None
        return self._start()

    def play_started(self) -> bool | None:
        """A play command: filler, if on, is over."""
        self._start_at = None
        was_filler = self.playing is Playing.FILLER
        self.playing = Playing.CLIP
        return False if was_filler else None

    def stopped(self) -> bool | None:
        """stop_play, or the clip's end."""
        self._start_at = None
        return self._stop()

    def _start(self) -> bool | None:
        if self.playing is not Playing.NOTHING:
            return None
        self.playing = Playing.FILLER
        return True

    def _stop(self) -> bool | None:
        was_filler = self.playing is Playing.FILLER
        self.playing = Playing.NOTHING
        return False if was_filler else None
