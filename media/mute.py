"""What an engine goes on saying after its caller has silenced it locally: dropped, until what comes is something new.

Something new is what follows the engine's own ``clear``, or a pause of `PAUSE_TICKS` in what it says; and whatever
comes `PATIENCE_TICKS` after the caller has stopped speaking, for an engine that does neither.
"""

from __future__ import annotations

from typing import Final

import attrs
import numpy as np

from media.levels import AUDIBLE_POWER
from media.table import NEVER

__all__ = ["PATIENCE_TICKS", "PAUSE_TICKS", "Mute"]

PAUSE_TICKS: Final = 60
"""300 ms: pauses within a sentence are shorter."""
PATIENCE_TICKS: Final = 400


@attrs.define
class Mute:
    """Of one leg's engine, since `heard_at`."""

    heard_at: int
    """When it last sent something audible."""
    until: int = NEVER
    dropped: int = 0
    """Samples."""

    def speech_ended(self, tick: int) -> None:
        self.until = tick + PATIENCE_TICKS

    def drops(self, pcm: bytes, tick: int) -> bool:
        """Whether audio that comes now, int16 samples, is still what was silenced."""
        if tick - self.heard_at >= PAUSE_TICKS or tick >= self.until:
            return False
        samples = np.frombuffer(pcm, "<i2").astype(np.float32)
        if len(samples) and float(np.mean(samples * samples)) > AUDIBLE_POWER:
            self.heard_at = tick
        self.dropped += len(samples)
        return True
