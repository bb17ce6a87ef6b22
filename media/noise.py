"""Comfort noise of RFC 3389: what a G.711 party that pauses says of its room, made audible.

The level is obeyed; the spectrum that may follow it is not: an engine listens for speech, and white noise is none.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["COMFORT_NOISE", "ComfortNoise"]

COMFORT_NOISE: Final = 13
"""Payload type (RFC 3551 §6)."""
_OVERLOAD: Final = 32124.0
"""0 dBov: a square wave of µ-law's greatest value (RFC 3389 §3.1)."""
_LOUDEST_DBOV: Final = 30
"""What is announced louder is no room but a mistake or an attack on the engine."""
_FRAME: Final = 160
_NOISE: Final = np.random.default_rng(3389).standard_normal(50 * _FRAME + 7).astype(np.float32)
"""A second, and a little more, so that it does not repeat in step with the frames."""


class ComfortNoise:
    """The noise of one pause.

    Args:
        payload: of the packet, at least one octet.
    """

    def __init__(self, payload: bytes) -> None:
        level = max(_LOUDEST_DBOV, payload[0] & 0x7F)
        self._rms = np.float32(_OVERLOAD * 10 ** (-level / 20))
        self._at = 0

    def next_frame(self) -> NDArray[np.float32]:
        """20 ms at 8 kHz, shape (1, 160)."""
        if self._at + _FRAME > len(_NOISE):
            self._at -= len(_NOISE) - _FRAME
        frame = _NOISE[self._at : self._at + _FRAME] * self._rms
        self._at += _FRAME
        return frame[None, :]
