"""WAV recordings: right at every moment, RF64 beyond 4 GiB, whole again after a crash."""

from __future__ import annotations

import os
import struct
import subprocess
import wave
from pathlib import Path

import numpy as np
import pytest

from media.record.wav import HEADER_BYTES, WavFile, build_header, repair_wav

RATE = 8000


def stereo(n: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(-32768, 32767, (n, 2), dtype=np.int16)


def opened(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)


def read(path: Path) -> np.ndarray:
    with wave.open(str(path), "rb") as reader:
        assert (reader.getnchannels(), reader.getsampwidth(), reader.getframerate()) == (2, 2, RATE)
        return np.frombuffer(reader.readframes(reader.getnframes()), "<i2").reshape(-1, 2)


def test_what_is_written_is_readable_after_each_write(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    fd = opened(path)
    file, parts = WavFile(fd, RATE), []
    for seed in range(3):
        parts.append(stereo(1000 + seed, seed))
        file.write(parts[-1])
        assert (read(path) == np.concatenate(parts)).all()  # nothing closed it: as a crash would leave it
    file.close()
    os.close(fd)
    assert (read(path) == np.concatenate(parts)).all()


def test_a_file_that_was_cut_anywhere_is_repaired(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    fd = opened(path)
    samples = stereo(500)
    WavFile(fd, RATE).write(samples)
    os.truncate(path, HEADER_BYTES + 4 * 200 + 3)
    assert repair_wav(fd) == (RATE, 200)
    assert (read(path) == samples[:200]).all()
    os.truncate(path, 30)
    assert repair_wav(fd) == (0, 0)
    os.close(fd)


def test_a_lost_block_is_silence_at_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.wav"
    fd = opened(path)
    file = WavFile(fd, RATE)
    file.write(stereo(100, 1))
    with monkeypatch.context() as patched:

        def full(*_: object) -> int:
            raise OSError(28, "No space left on device")

        patched.setattr("os.pwrite", full)
        with pytest.raises(OSError, match="No space"):
            file.write(stereo(50, 2))
    file.write(stereo(100, 3))
    file.close()
    os.close(fd)
    assert file.lost == 50
    found = read(path)
    assert (found[:100] == stereo(100, 1)).all()
    assert not found[100:150].any()
    assert (found[150:] == stereo(100, 3)).all()


def test_beyond_four_gib_it_is_rf64(tmp_path: Path) -> None:
    data_bytes = 5 << 30
    header = build_header(16000, data_bytes)
    assert header[:4] == b"RF64"
    assert struct.unpack_from("<QQ", header, 20) == (HEADER_BYTES - 8 + data_bytes, data_bytes)
    path = tmp_path / "large.wav"
    path.write_bytes(header)
    os.truncate(path, HEADER_BYTES + data_bytes)  # sparse
    command = ["ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0", str(path)]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    assert float(told.stdout) == pytest.approx(data_bytes / 64000, abs=0.001)
    assert build_header(16000, 64000)[:4] == b"RIFF"
