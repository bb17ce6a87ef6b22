"""AMR and AMR-WB against ffmpeg, whose packing, reading of packets and decoders are its own.

The octets of frames are compared bit by bit, what is heard by signal to noise: ffmpeg's decoders compute in floating
point. ffmpeg speaks the octet-aligned form only, decodes no SID frames and encodes neither codec.
"""

from __future__ import annotations

import socket
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from media.rtp import build_rtp, parse_rtp_untrusted
from tests.support.speech_codecs import Spoken, at_rate, encode_all
from tests.support.speech_score import RATE_HZ, aligned, recording, snr_db

Pcm = NDArray[np.int16]
OURS, THEIRS = "127.0.97.1", "127.0.97.2"
PORT = 40000
DEADLINE_S = 20
MAGIC = {"AMR": b"#!AMR\n", "AMR-WB": b"#!AMR-WB\n"}
SUFFIX = {"AMR": "amr", "AMR-WB": "awb"}
RATES_HZ = {"AMR": 8000, "AMR-WB": 16000}
N_MODES = {"AMR": 8, "AMR-WB": 9}
LIKE_DB = {"AMR": 20.0, "AMR-WB": 15.0}
"""AMR-WB makes up what is above 6.4 kHz from noise of its own."""
N_FRAMES = 100


def spoken(name: str, mode: int, octet_align: int) -> Spoken:
    parameters = {"mode-set": str(mode), "octet-align": str(octet_align)}
    return Spoken(f"{name} {mode}", name, RATES_HZ[name], RATES_HZ[name], parameters)


def frames_of(codec: Spoken) -> list[bytes]:
    """Speech, through our payloads: frames as in a storage file (RFC 4867 §5.3), SID left out."""
    pcm = at_rate(recording("cards-005.wav"), RATE_HZ, codec.rate_hz)
    reading = codec.codec.receive_format(codec.parameters)
    frames = [frame for packet in encode_all(codec, pcm) for frame in reading.unpack_untrusted(packet.payload).frames]
    mode = int(codec.parameters["mode-set"])
    return [frame for frame in frames if frame is not None and frame[0] >> 3 == mode]


def ffmpeg(*arguments: str, **options: int) -> subprocess.Popen[bytes]:
    command = ["ffmpeg", "-nostdin", "-v", "error", *arguments]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, **options)


def finish(process: subprocess.Popen[bytes]) -> bytes:
    """What it said on standard output, if that is read."""
    try:
        out, err = process.communicate(timeout=DEADLINE_S)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, err.decode()
    return out or b""


@pytest.mark.parametrize("octet_align", [0, 1])
@pytest.mark.parametrize("name", ["AMR", "AMR-WB"])
def test_ffmpeg_hears_what_we_send_in_every_mode(name: str, octet_align: int, tmp_path: Path) -> None:
    for mode in range(N_MODES[name]):
        codec = spoken(name, mode, octet_align)
        frames = frames_of(codec)
        assert len(frames) > N_FRAMES
        path = tmp_path / f"said.{SUFFIX[name]}"
        path.write_bytes(MAGIC[name] + b"".join(frames))
        theirs = np.frombuffer(finish(ffmpeg("-i", str(path), "-f", "s16le", "-", stdout=subprocess.PIPE)), "<i2")
        decoder = codec.codec.new_decoder(codec.parameters)
        ours = np.concatenate([decoder.decode(frame) for frame in frames])
        decoder.close()
        assert snr_db(ours, aligned(ours, theirs)) > LIKE_DB[name], codec.label


@pytest.mark.parametrize("name", ["AMR", "AMR-WB"])
def test_we_read_what_ffmpeg_packs_bit_by_bit(name: str, tmp_path: Path) -> None:
    codec = spoken(name, 2, 1)
    frames = frames_of(codec)[:N_FRAMES]
    path = tmp_path / f"said.{SUFFIX[name]}"
    path.write_bytes(MAGIC[name] + b"".join(frames))
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.bind((OURS, 0))
    receiver.settimeout(DEADLINE_S)
    target = f"rtp://{OURS}:{receiver.getsockname()[1]}"
    several = ("-max_delay", "100000")  # 100 ms in a packet
    process = ffmpeg("-i", str(path), "-c", "copy", *several, "-f", "rtp", target, stdout=subprocess.DEVNULL)
    reading = codec.codec.receive_format(codec.parameters)
    heard: list[bytes | None] = []
    try:
        while len(heard) < len(frames) - 5:  # ffmpeg keeps its last packet
            packet = parse_rtp_untrusted(memoryview(receiver.recv(2048)))
            heard += reading.unpack_untrusted(packet.payload).frames
    finally:
        receiver.close()
        finish(process)
    assert heard == frames[: len(heard)]


@pytest.mark.parametrize("name", ["AMR", "AMR-WB"])
def test_ffmpeg_reads_what_we_pack_bit_by_bit(name: str, tmp_path: Path) -> None:
    codec = spoken(name, 2, 1)
    frames = frames_of(codec)[:N_FRAMES]
    description = [
        "v=0",
        "o=- 0 0 IN IP4 127.0.97.1",
        "s=-",
        f"c=IN IP4 {THEIRS}",
        "t=0 0",
        f"m=audio {PORT} RTP/AVP 98",
        f"a=rtpmap:98 {name}/{codec.clock_hz}/1",
        "a=fmtp:98 octet-align=1",
    ]
    path, out = tmp_path / "call.sdp", tmp_path / f"heard.{SUFFIX[name]}"
    path.write_text("".join(f"{line}\r\n" for line in description))
    process = ffmpeg(
        *("-protocol_whitelist", "file,udp,rtp", "-localaddr", THEIRS, "-i", str(path)),
        *("-c", "copy", "-frames:a", str(len(frames)), "-f", "amr", str(out)),
        stdout=subprocess.DEVNULL,
    )
    packing = codec.codec.send_format(codec.parameters)
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.bind((OURS, 0))
    try:
        wait_bound(PORT, process)
        for number, frame in enumerate([*frames, *frames[:50]]):  # the last ones wake it up to its end
            packet = build_rtp(
                payload_type=98,
                marker=number == 0,
                sequence=number,
                timestamp=number * codec.frame_timestamps,
                ssrc=9,
                payload=packing.pack([frame]),
            )
            if process.poll() is None:
                sender.sendto(packet, (THEIRS, PORT))
            time.sleep(0.002)
    finally:
        sender.close()
        finish(process)
    assert out.read_bytes() == MAGIC[name] + b"".join(frames)


def wait_bound(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    wanted = f":{port:04X} "
    while not any(wanted in Path(f"/proc/net/{table}").read_text() for table in ("udp", "udp6")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
