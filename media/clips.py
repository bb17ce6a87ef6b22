"""Audio that the worker plays by itself: files and built-in signals, at the line rate, cached.

A file is read and resampled once (soxr, HQ), when it is first asked for, and again when it has changed; that is the one
place of the worker that touches the disk and waits for it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import numpy as np
import soxr
from numpy.typing import NDArray

from media.clip_files import ClipError, read_clip
from media.resample import LINE_RATE_HZ

__all__ = ["CONGESTION", "FILLER", "RINGBACK", "Clip", "ClipError", "ClipLibrary"]

RINGBACK: Final = "builtin:ringback"
FILLER: Final = "builtin:filler"
CONGESTION: Final = "builtin:congestion"
MAX_KEPT_BYTES: Final = 64 << 20
"""Of clips; each minute takes 1 MB at 8 kHz, 2 MB at 16 kHz.  Those not asked for longest go first."""

Clip = NDArray[np.int16]
"""Samples at a line's rate, mono, a whole number of 20 ms frames."""


class ClipLibrary:
    """Clips by name, as the file is now."""

    def __init__(self, max_bytes: int = MAX_KEPT_BYTES) -> None:
        self._clips: dict[tuple[str, int], tuple[int, Clip]] = {}
        """By name and rate: when the file was changed, and the clip; the one asked for last stands last."""
        self._max_bytes = max_bytes
        self.kept_bytes = 0

    def get(self, name: str, rate_hz: int = LINE_RATE_HZ) -> Clip:
        """The clip for a line of that rate; ``name`` is a path or ``builtin:…``.

        Raises:
            ClipError: no such file or built-in, or nothing that we play.
        """
        changed = _changed(name)
        kept = self._clips.pop((name, rate_hz), None)
        if kept is not None and kept[0] == changed:
            self._clips[name, rate_hz] = kept
            return kept[1]
        if kept is not None:
            self.kept_bytes -= kept[1].nbytes
        clip = _whole_frames(self._load(name, rate_hz), rate_hz // 50)
        self._clips[name, rate_hz] = changed, clip
        self.kept_bytes += clip.nbytes
        while self.kept_bytes > self._max_bytes and len(self._clips) > 1:
            oldest = next(iter(self._clips))
            self.kept_bytes -= self._clips.pop(oldest)[1].nbytes
        return clip

    def _load(self, name: str, rate_hz: int) -> Clip:
        match name:
            case "builtin:ringback":
                clip = ringback()
            case "builtin:filler":
                clip = filler()
            case "builtin:congestion":
                clip = congestion()
            case _ if name.startswith("builtin:"):
                raise ClipError(f"no built-in clip {name!r}")
            case _:
                return read_file(Path(name), rate_hz)
        return clip if rate_hz == LINE_RATE_HZ else np.asarray(soxr.resample(clip, LINE_RATE_HZ, rate_hz), np.int16)


def _changed(name: str) -> int:
    """When a file was, in ns; 0: built in."""
    if name.startswith("builtin:"):
        return 0
    try:
        return os.stat(name).st_mtime_ns
    except (OSError, ValueError) as error:
        raise ClipError(f"{name}: {error}") from error


def read_file(path: Path, rate_hz: int = LINE_RATE_HZ) -> Clip:
    """Reads a WAV or Ogg/Opus file, any rate, at ``rate_hz``; several channels are averaged.

    Raises:
        ClipError: unreadable, another format, or too long.
    """
    samples, rate = read_clip(path)
    if rate != rate_hz:
        samples = np.asarray(soxr.resample(samples, rate, rate_hz, quality="HQ"), np.float32)
    return np.clip(np.rint(samples), -32768, 32767).astype(np.int16)


def ringback() -> Clip:
    """TS 22.001 Annex F ringing tone as in Europe: 425 Hz, 1 s on, 4 s off, with soft edges."""
    on = tone(425, 1.0, 2000) * _edges(LINE_RATE_HZ)
    return np.concatenate([on, np.zeros(4 * LINE_RATE_HZ)]).astype(np.int16)


def congestion() -> Clip:
    """The congestion tone of TS 22.001 Annex F: 425 Hz, 200 ms on, 200 ms off, four times."""
    on = tone(425, 0.2, 2000) * _edges(LINE_RATE_HZ // 5)
    return np.tile(np.concatenate([on, np.zeros(LINE_RATE_HZ // 5)]), 4).astype(np.int16)


def filler() -> Clip:
    """A soft sequence of chords, 8 s, that loops without a seam: something is alive, please stay."""
    chords = ((220.0, 277.2, 329.6), (196.0, 246.9, 293.7), (174.6, 220.0, 261.6), (196.0, 246.9, 329.6))
    parts = [sum((tone(f, 2.0, 600) for f in chord), np.zeros(2 * LINE_RATE_HZ)) for chord in chords]
    return np.concatenate([part * _swell(len(part)) for part in parts]).astype(np.int16)


def tone(frequency_hz: float, length_s: float, amplitude: float) -> NDArray[np.float64]:
    t = np.arange(round(length_s * LINE_RATE_HZ)) / LINE_RATE_HZ
    return np.asarray(amplitude * np.sin(2 * np.pi * frequency_hz * t))


def _edges(n: int) -> NDArray[np.float64]:
    ramp = np.linspace(0, 1, 80)
    return np.concatenate([ramp, np.ones(n - 160), ramp[::-1]])


def _swell(n: int) -> NDArray[np.float64]:
    return np.asarray(np.sin(np.pi * np.arange(n) / n) ** 0.5)


def _whole_frames(samples: Clip, frame: int) -> Clip:
    return np.concatenate([samples, np.zeros(-len(samples) % frame, np.int16)])
