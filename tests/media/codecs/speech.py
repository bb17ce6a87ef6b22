"""Recorded speech for codecs, and how much one piece is like another."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray

from media.codecs.base import Codec
from media.codecs.registry import find_codec

__all__ = ["codec_of", "frames", "likeness", "speech"]

SPEECH = Path(__file__).parents[3] / "conformance" / "lab" / "audio" / "jfk.wav"


def codec_of(name: str, rate_hz: int) -> Codec:
    codec = find_codec(name, rate_hz)
    assert codec is not None, f"{name}: its library is not installed"
    return codec


def speech(rate_hz: int, seconds: float = 4.0) -> NDArray[np.int16]:
    with wave.open(str(SPEECH)) as file:
        rate = file.getframerate()
        samples = np.frombuffer(file.readframes(int(rate * seconds)), np.int16)
    made: NDArray[np.int16] = soxr.resample(samples, rate, rate_hz).astype(np.int16)
    return made[: len(made) // (rate_hz // 50) * (rate_hz // 50)]


def frames(samples: NDArray[np.int16], size: int) -> list[NDArray[np.int16]]:
    return [samples[at : at + size] for at in range(0, len(samples), size)]


def likeness(one: NDArray[np.int16], other: NDArray[np.int16]) -> float:
    """Highest correlation within 20 ms of delay."""
    size = min(len(one), len(other)) - 400
    return max(float(np.corrcoef(one[:size], other[delay : delay + size])[0, 1]) for delay in range(0, 400, 1))
