"""Ogg/Opus: our pages against other people's readers, theirs by ours, hostile ones by nobody."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from media.record.ogg import (
    BEGIN,
    MAX_PACKET,
    OggError,
    build_page,
    checksum,
    iterate_packets_untrusted,
    iterate_pages_untrusted,
)
from media.record.opus_file import OpusFile, read_opus_untrusted, repair_opus
from tests.media.support import peak_hz, sine

RATE = 16000


def record(path: Path, samples: np.ndarray, *, close: bool = True) -> None:
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    file = OpusFile(fd, RATE)
    for at in range(0, len(samples), 1234):
        file.write(samples[at : at + 1234])
    if close:
        file.close()
    os.close(fd)


def tones(seconds: float) -> np.ndarray:
    n = round(seconds * RATE)
    return np.stack([sine(440, n, RATE), sine(1000, n, RATE)], 1).astype(np.int16)


def test_opusinfo_and_ffmpeg_agree_with_us(tmp_path: Path) -> None:
    path = tmp_path / "a.opus"
    record(path, tones(4.3215))
    told = subprocess.run(["opusinfo", str(path)], capture_output=True, text=True, check=True, timeout=20)
    assert "WARNING" not in told.stdout + told.stderr
    assert "Playback length: 0m:04.321s" in told.stdout
    assert "Streams: 2, Coupled: 0" in told.stdout
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-f", "s16le", "-"]
    decoded = subprocess.run(command, capture_output=True, check=True, timeout=20)
    assert decoded.stderr == b""
    heard = np.frombuffer(decoded.stdout, "<i2").reshape(-1, 2)
    assert abs(len(heard) - 4.3215 * 48000) <= 1
    for channel, hz in ((0, 440), (1, 1000)):
        assert peak_hz(heard[48000:96000, channel], 48000) == pytest.approx(hz, abs=2)


def test_no_channel_is_heard_in_the_other(tmp_path: Path) -> None:
    samples = tones(2)
    samples[:, 1] = 0
    path = tmp_path / "a.opus"
    record(path, samples)
    heard = read_opus_untrusted(path.read_bytes(), 10)
    assert np.abs(heard[4800:, 0].astype(float)).mean() > 3000
    assert np.abs(heard[4800:, 1].astype(float)).max() <= 8


def test_a_file_that_was_not_completed_is_readable_and_repaired(tmp_path: Path) -> None:
    path = tmp_path / "a.opus"
    record(path, tones(5), close=False)
    with path.open("ab") as file:  # and half a page
        file.write(build_page([b"x" * 100], flags=0, granule=1, serial=1, number=9)[:60])
    fd = os.open(path, os.O_RDWR)
    rate_hz, n = repair_opus(fd)
    os.close(fd)
    assert rate_hz == RATE
    assert 3.9 * RATE < n <= 5 * RATE
    assert len(read_opus_untrusted(path.read_bytes(), 10)) == n * 3
    told = subprocess.run(["opusinfo", str(path)], capture_output=True, text=True, check=True, timeout=20)
    assert "WARNING" not in told.stdout + told.stderr


@pytest.mark.parametrize("options", [["-ac", "1"], ["-ac", "2"], ["-ac", "6"], ["-ac", "1", "-frame_duration", "60"]])
def test_files_of_others_are_read(tmp_path: Path, options: list[str]) -> None:
    path = tmp_path / "a.opus"
    source = ["-f", "lavfi", "-i", "sine=frequency=700:duration=2:sample_rate=48000"]
    subprocess.run(["ffmpeg", "-v", "error", *source, *options, str(path)], check=True, timeout=20)
    samples = read_opus_untrusted(path.read_bytes(), 10)
    assert samples.shape == (96000, int(options[1]))
    assert peak_hz(samples[24000:72000].astype(float).mean(axis=1), 48000) == pytest.approx(700, abs=3)


def test_a_file_that_is_too_long_is_refused_as_soon_as_that_shows(tmp_path: Path) -> None:
    path = tmp_path / "a.opus"
    record(path, tones(3))
    with pytest.raises(OggError, match="longer than 2 s"):
        read_opus_untrusted(path.read_bytes(), 2)


def test_the_checksum_is_that_of_the_rfc() -> None:
    """Bit by bit, as RFC 3533 has it."""
    for octets in (b"", b"OggS", bytes(range(256)) * 3):
        register = 0
        for octet in octets:
            register ^= octet << 24
            for _ in range(8):
                register = (register << 1 ^ (0x04C11DB7 if register & 0x80000000 else 0)) & 0xFFFFFFFF
        assert checksum(octets) == register


def test_packets_over_several_pages_are_joined_and_those_without_a_beginning_left_out() -> None:
    first = build_page([b"head"], flags=BEGIN, granule=0, serial=5, number=0)
    long = bytes(600)
    # by hand: 510 octets that go on, then the rest
    page = bytearray(build_page([bytes(510)], flags=0, granule=-1, serial=5, number=1))
    body = bytes(page[27 + page[26] :])
    page = bytearray(page[:26]) + bytes([2, 255, 255]) + body
    page[22:26] = bytes(4)
    page[22:26] = checksum(bytes(page)).to_bytes(4, "little")
    rest = build_page([bytes(90)], flags=1, granule=960, serial=5, number=2)
    foreign = build_page([b"other"], flags=BEGIN, granule=0, serial=6, number=0)
    assert list(iterate_packets_untrusted(first + bytes(page) + foreign + rest)) == [(b"head", 0), (long, 960)]
    assert list(iterate_packets_untrusted(first + rest)) == [(b"head", 0)]


def test_hostile_files() -> None:
    with pytest.raises(OggError):
        list(iterate_pages_untrusted(b"RIFF" + bytes(100)))
    with pytest.raises(OggError):
        read_opus_untrusted(b"", 1)
    endless = b"".join(
        _continued(build_page([bytes(254 * 255)], flags=int(bool(i)), granule=-1, serial=1, number=i)) for i in range(3)
    )
    with pytest.raises(OggError, match=str(MAX_PACKET)):
        list(iterate_packets_untrusted(endless))


def test_a_file_of_nothing_but_what_is_left_out_at_the_beginning_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "a.opus"
    record(path, tones(0.02))
    octets = bytearray(path.read_bytes())
    at = octets.find(b"OpusHead") + 10
    octets[at : at + 2] = b"\xff\xff"
    octets[22:26] = bytes(4)
    head = bytes(octets[: at + 13])
    octets[22:26] = checksum(head).to_bytes(4, "little")
    with pytest.raises(OggError, match="empty"):
        read_opus_untrusted(bytes(octets), 10)


def _continued(page: bytes) -> bytes:
    """The same page without the end of its packet."""
    cut = bytearray(page)
    cut[26] -= 1
    del cut[27 + cut[26]]
    cut[22:26] = bytes(4)
    cut[22:26] = checksum(bytes(cut)).to_bytes(4, "little")
    return bytes(cut)
