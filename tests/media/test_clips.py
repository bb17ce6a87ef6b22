from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest

from media.clips import CONGESTION, FILLER, MAX_CLIPS, RINGBACK, ClipError, ClipLibrary
from tests.media.support import peak_hz, sine


def write(path: Path, samples: np.ndarray, rate: int, channels: int = 1, width: int = 2) -> str:
    with wave.open(str(path), "wb") as writer:
        writer.setparams((channels, width, rate, 0, "NONE", ""))
        writer.writeframes(samples.tobytes())
    return str(path)


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_wav_is_resampled_to_the_line(tmp_path: Path, rate: int) -> None:
    name = write(tmp_path / "a.wav", sine(500, rate, rate).astype("<i2"), rate)
    library = ClipLibrary()
    clip = library.get(name)
    assert clip.dtype == np.int16
    assert len(clip) % 160 == 0
    assert abs(len(clip) - 8000) <= 160
    assert peak_hz(clip, 8000) == pytest.approx(500, abs=2)
    assert library.get(name) is clip


def test_stereo_is_mixed(tmp_path: Path) -> None:
    left = sine(500, 8000).astype("<i2")
    stereo = np.stack([left, -left], axis=1)
    assert np.abs(ClipLibrary().get(write(tmp_path / "s.wav", stereo, 8000, channels=2))).max() <= 1


def test_what_cannot_be_played(tmp_path: Path) -> None:
    library = ClipLibrary()
    rubbish = tmp_path / "x.wav"
    rubbish.write_bytes(b"RIFF no")
    eight_bit = write(tmp_path / "8.wav", np.zeros(100, np.uint8), 8000, width=1)
    empty = write(tmp_path / "e.wav", np.zeros(0, np.int16), 8000)
    for name in (str(rubbish), eight_bit, empty, "/nowhere/at/all.wav", "builtin:jazz", "\0"):
        with pytest.raises(ClipError):
            library.get(name)


@pytest.mark.parametrize("name", [FILLER, RINGBACK, CONGESTION])
def test_builtins_are_audible_and_loop_without_a_click(name: str) -> None:
    clip = ClipLibrary().get(name).astype(int)
    assert 500 < np.abs(clip).max() < 8000
    looped = np.concatenate([clip, clip])
    assert np.abs(np.diff(looped)).max() < 1500


def test_the_library_is_bounded(tmp_path: Path) -> None:
    library = ClipLibrary()
    name = write(tmp_path / "a.wav", np.zeros(160, np.int16), 8000)
    for i in range(MAX_CLIPS + 10):
        library._clips[f"clip{i}"] = np.zeros(160, np.int16)
        if len(library._clips) > MAX_CLIPS:
            break
    library.get(name)
    assert len(library._clips) <= MAX_CLIPS + 1
