"""Audio that the worker plays by itself: WAV files and built-in signals, at the line rate, cached.

A file is read and resampled once, when it is first asked for; that is the one place of the worker that touches the
disk, and a prompt is read before calls use it (``preload``) where the moment matters.
"""

from __future__ import annotations

import wave
from pathlib import Path
from typing import Final

import numpy as np
import soxr
from numpy.typing import NDArray

from media.resample import LINE_RATE_HZ

__all__ = ["CONGESTION", "FILLER", "MAX_CLIP_S", "RINGBACK", "Clip", "ClipError", "ClipLibrary"]

RINGBACK: Final = "builtin:ringback"
FILLER: Final = "builtin:filler"
CONGESTION: Final = "builtin:congestion"
MAX_CLIP_S: Final = 600
MAX_CLIPS: Final = 256
"""Clips kept; each minute takes 1 MB."""

Clip = NDArray[np.int16]
"""Samples at a line's rate, mono, a whole number of 20 ms frames."""


class ClipError(Exception):
    """The file cannot be played."""


class ClipLibrary:
    """Clips by name."""

    def __init__(self) -> None:
        self._clips: dict[tuple[str, int], Clip] = {}

    def get(self, name: str, rate_hz: int = LINE_RATE_HZ) -> Clip:
        """The clip for a line of that rate; ``name`` is a path or ``builtin:…``.

        Raises:
            ClipError: no such file or built-in, not 16-bit PCM WAV, or too long.
        """
        clip = self._clips.get((name, rate_hz))
        if clip is None:
            if len(self._clips) >= MAX_CLIPS:
                del self._clips[next(iter(self._clips))]
            clip = self._clips[name, rate_hz] = _whole_frames(self._load(name, rate_hz), rate_hz // 50)
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
                return read_wav(Path(name), rate_hz)
        return clip if rate_hz == LINE_RATE_HZ else np.asarray(soxr.resample(clip, LINE_RATE_HZ, rate_hz), np.int16)


def read_wav(path: Path, rate_hz: int = LINE_RATE_HZ) -> Clip:
    """Reads a 16-bit PCM WAV file, any rate, at ``rate_hz``; several channels are averaged.

    Raises:
        ClipError: unreadable, other sample format, or longer than `MAX_CLIP_S`.
    """
    try:
        with wave.open(str(path), "rb") as reader:
            if reader.getsampwidth() != 2:
                raise ClipError(f"{path}: not 16-bit PCM")
            rate, channels, n = reader.getframerate(), reader.getnchannels(), reader.getnframes()
            if n > MAX_CLIP_S * rate:
                raise ClipError(f"{path}: longer than {MAX_CLIP_S} s")
            samples = np.frombuffer(reader.readframes(n), "<i2")
    except (OSError, EOFError, wave.Error, ValueError) as error:
        raise ClipError(f"{path}: {error}") from error
    if samples.size < channels:
        raise ClipError(f"{path}: empty")
    mono = samples[: samples.size // channels * channels].reshape(-1, channels).mean(axis=1).astype(np.int16)
    return mono if rate == rate_hz else np.asarray(soxr.resample(mono, rate, rate_hz), np.int16)


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
