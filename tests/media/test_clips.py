"""Clips: every kind of file at the line's rate, kept within bounds, read again when they change."""

from __future__ import annotations

import os
import subprocess
import wave
from pathlib import Path

import numpy as np
import pytest

from media.clip_files import read_clip_untrusted
from media.clips import CONGESTION, FILLER, RINGBACK, ClipError, ClipLibrary
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


@pytest.mark.parametrize(
    "options",
    [
        ["-c:a", "pcm_u8", "x.wav"],
        ["-c:a", "pcm_s24le", "x.wav"],
        ["-c:a", "pcm_s32le", "-ac", "2", "x.wav"],
        ["-c:a", "pcm_f32le", "-ar", "96000", "x.wav"],
        ["-c:a", "pcm_f64le", "x.wav"],
        ["-c:a", "pcm_alaw", "-ar", "8000", "x.wav"],
        ["-c:a", "pcm_mulaw", "-ar", "8000", "x.wav"],
        ["-c:a", "pcm_s16le", "-ac", "6", "x.wav"],
        ["-c:a", "pcm_s16le", "-rf64", "always", "x.wav"],
        ["-c:a", "libopus", "-ac", "1", "x.opus"],
        ["-c:a", "libopus", "-ac", "2", "x.ogg"],
    ],
)
@pytest.mark.parametrize("rate_hz", [8000, 16000])
def test_what_ffmpeg_writes_is_played(tmp_path: Path, options: list[str], rate_hz: int) -> None:
    path = tmp_path / options[-1]
    source = ["-f", "lavfi", "-i", "sine=frequency=600:duration=1:sample_rate=48000"]
    subprocess.run(["ffmpeg", "-v", "error", *source, *options[:-1], str(path)], check=True, timeout=20)
    clip = ClipLibrary().get(str(path), rate_hz)
    assert abs(len(clip) - rate_hz) <= rate_hz // 50
    assert peak_hz(clip, rate_hz) == pytest.approx(600, abs=2)
    channels = options[options.index("-ac") + 1] if "-ac" in options else "1"
    share = {"1": 1, "2": 0.707, "6": 1 / 6}[channels]  # as ffmpeg spreads a mono source over channels
    assert np.abs(clip.astype(int)).max() == pytest.approx(32767 / 8 * share, rel=0.1)


def test_what_cannot_be_played(tmp_path: Path) -> None:
    library = ClipLibrary()
    rubbish = tmp_path / "x.wav"
    rubbish.write_bytes(b"RIFF no")
    text = tmp_path / "notes.txt"
    text.write_text("not music")
    empty = write(tmp_path / "e.wav", np.zeros(0, np.int16), 8000)
    for name in (str(rubbish), str(text), empty, str(tmp_path), "/nowhere/at/all.wav", "builtin:jazz", "\0"):
        with pytest.raises(ClipError):
            library.get(name)
    assert library.kept_bytes == 0


def test_a_clip_is_not_longer_than_it_may_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("media.clip_files.MAX_CLIP_S", 1)
    octets = Path(write(tmp_path / "a.wav", np.zeros(8001, np.int16), 8000)).read_bytes()
    with pytest.raises(ClipError, match="longer"):
        read_clip_untrusted(octets)
    monkeypatch.setattr("media.clip_files.MAX_CLIP_BYTES", 100)
    with pytest.raises(ClipError, match="larger"):
        read_clip_untrusted(octets)


def test_floats_beyond_full_scale_and_no_numbers_are_tamed(tmp_path: Path) -> None:
    wild = np.array([5, -5, np.nan, np.inf, 0.5], "<f4").tobytes()
    form = b"fmt \x10\0\0\0\x03\0\x01\0\x40\x1f\0\0\0\x7d\0\0\x04\0\x20\0"
    samples, _ = read_clip_untrusted(b"RIFF\0\0\0\0WAVE" + form + b"data\xff\xff\xff\xff" + wild)
    assert samples.tolist() == [32767, -32767, 0, 32767, 16383.5]


@pytest.mark.parametrize("name", [FILLER, RINGBACK, CONGESTION])
def test_builtins_are_audible_and_loop_without_a_click(name: str) -> None:
    clip = ClipLibrary().get(name).astype(int)
    assert 500 < np.abs(clip).max() < 8000
    looped = np.concatenate([clip, clip])
    assert np.abs(np.diff(looped)).max() < 1500


def test_a_file_that_changes_is_read_again(tmp_path: Path) -> None:
    library = ClipLibrary()
    name = write(tmp_path / "a.wav", np.full(320, 100, np.int16), 8000)
    assert library.get(name).max() == 100
    write(tmp_path / "a.wav", np.full(160, 200, np.int16), 8000)
    os.utime(name, ns=(1, 1))
    assert library.get(name).max() == 200
    assert library.kept_bytes == 320
    os.unlink(name)
    with pytest.raises(ClipError):
        library.get(name)


def test_the_library_is_bounded_and_drops_what_was_not_asked_for_longest(tmp_path: Path) -> None:
    library = ClipLibrary(max_bytes=2000)
    names = [write(tmp_path / f"{i}.wav", np.zeros(320, np.int16), 8000) for i in range(4)]
    first, second, third = (library.get(name) for name in names[:3])
    assert library.get(names[0]) is first
    library.get(names[3])
    assert library.kept_bytes <= 2000
    assert library.get(names[0]) is first
    assert library.get(names[1]) is not second
    assert third is not library.get(names[2])
