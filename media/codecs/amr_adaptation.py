"""Asks an AMR peer for a lower mode while much of what it sends is lost, and slowly for the former one again.

The wish is the CMR of our packets (RFC 4867 §4.3.1), which holds until the next one: once a mode was asked for, it is
always said.  Steps are of one mode of the mode-set, at least `WINDOW_FRAMES` apart, so that any mode-change-period and
mode-change-neighbor of either side can be obeyed; a peer that does not follow is not asked for still less.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from media.codecs.amr_modes import read_mode_set
from media.codecs.amr_payload import AmrFormat, AmrKind, frame_type
from media.codecs.base import Parameters

__all__ = ["HIGH_LOSS", "LOW_LOSS", "MAX_CLEAN_WINDOWS", "MIN_CLEAN_WINDOWS", "WINDOW_FRAMES", "ModeAdaptation"]

WINDOW_FRAMES: Final = 100
"""Two seconds, received or lost; pauses do not count."""
HIGH_LOSS: Final = 0.05
"""From here the bits are better spent on arriving."""
LOW_LOSS: Final = 0.01
MIN_CLEAN_WINDOWS: Final = 5
"""Ten seconds without loss make a step up …"""
MAX_CLEAN_WINDOWS: Final = 40
"""… and twice as many each time that loss came back with it."""


class ModeAdaptation:
    """Of one received stream.

    Args:
        parameters: of what we receive.
        packing: of what we send, which carries the wish.
    """

    def __init__(self, kind: AmrKind, parameters: Parameters, packing: AmrFormat) -> None:
        self._kind = kind
        self._modes = read_mode_set(parameters, kind)
        self._packing = packing
        self._mode: int | None = None
        """Mode of the speech received last."""
        self._wished: int | None = None
        """Index of the mode asked for."""
        self._ceiling = 0
        self._received = self._lost = 0
        self._clean = 0
        self._needed = MIN_CLEAN_WINDOWS
        self._went_up = False

    def restart(self) -> None:
        """Another source: what was asked of the former one is asked of it too, its losses count anew."""
        self._received = self._lost = self._clean = 0
        self._mode = None

    def note(self, frames: Sequence[bytes | None], lost_packets: int) -> None:
        """A packet's frames came, and so many packets before it did not."""
        self._received += len(frames)
        self._lost += lost_packets * len(frames)
        for frame in frames:
            if frame is not None and frame_type(frame) < self._kind.n_modes:
                self._mode = frame_type(frame)
        total = self._received + self._lost
        if total >= WINDOW_FRAMES:
            share = self._lost / total
            self._received = self._lost = 0
            self._judge(share)

    def _judge(self, share: float) -> None:
        if self._mode is None or len(self._modes) < 2:
            return
        if share >= HIGH_LOSS:
            self._clean = 0
            if self._went_up:
                self._needed = min(2 * self._needed, MAX_CLEAN_WINDOWS)
            self._went_up = False
            self._go_down(self._mode)
        elif share > LOW_LOSS:
            self._clean = 0
        elif self._wished is not None and self._wished < self._ceiling:
            self._clean += 1
            if self._clean >= self._needed:
                self._clean, self._went_up = 0, True
                self._wish(self._wished + 1)
        elif self._went_up:
            self._clean += 1
            if self._clean >= self._needed:  # it stayed good at the top
                self._went_up, self._needed = False, MIN_CLEAN_WINDOWS

    def _go_down(self, mode: int) -> None:
        index = max((i for i, each in enumerate(self._modes) if each <= mode), default=0)
        if self._wished is None:
            self._ceiling = index
        elif index > self._wished:
            return  # it has not followed
        else:
            index = self._wished
        if index > 0:
            self._wish(index - 1)

    def _wish(self, index: int) -> None:
        self._wished = index
        self._packing.mode_request = self._modes[index]
