"""RTCP between a running worker and baresip: each understands the other's reports, on two ports and on one."""

from __future__ import annotations

import re
import select
import socket
import subprocess
import time
import wave
from pathlib import Path
from typing import Any

import pytest

from ims_as.sip.message import Message, Request, build_response
from ims_as.sip.parser import parse_message_untrusted
from ims_as.sip.sdp import parse_sdp_untrusted
from media.control import StreamConfig
from tests.media.support import WorkerProcess, sine

SERVER, PHONE = "127.0.77.105", "127.0.77.106"
PATIENCE_S = 30.0
CONFIG = """\
poll_method epoll
sip_listen {phone}:5060
net_interface {phone}
audio_source aufile,{folder}/said.wav
audio_player aufile,{folder}/heard.wav
audio_alert aufile,{folder}/alert.wav
ausrc_srate 8000
auplay_srate 8000
ausrc_channels 1
auplay_channels 1
rtp_ports 21200-21299
rtcp_mux {mux}
rtp_stats yes
module_path {modules}
module g711.so
module aufile.so
module rtcpsummary.so
module_tmp account.so
module_app menu.so
"""


class Answerer:
    """Takes one call by UDP: SDP of the worker's leg in the 200; nothing else of SIP."""

    def __init__(self) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind((SERVER, 5060))
        self.source: tuple[str, int] = ("", 0)

    def next_request(self, method: str, deadline: float) -> Request:
        while time.monotonic() < deadline:
            if not select.select([self.sock], [], [], 0.2)[0]:
                continue
            data, self.source = self.sock.recvfrom(65536)
            message: Message = parse_message_untrusted(data)
            if isinstance(message, Request) and message.method == method:
                return message
        raise AssertionError(f"no {method}")

    def answer(self, request: Request, body: bytes = b"") -> None:
        contact, kind = (("Contact", f"<sip:{SERVER}:5060>"),), "application/sdp" if body else None
        response = build_response(request, 200, to_tag="worker", headers=contact, body=body, content_type=kind)
        self.sock.sendto(response.to_bytes(), self.source)

    def close(self) -> None:
        self.sock.close()


def start_phone(folder: Path, mux: str) -> subprocess.Popen[bytes]:
    modules = next(path for path in Path("/usr/lib").glob("**/baresip/modules") if path.is_dir())
    (folder / "config").write_text(CONFIG.format(phone=PHONE, folder=folder, modules=modules, mux=mux))
    (folder / "accounts").write_text("<sip:caller@example.net>;regint=0;audio_codecs=PCMU/8000/1\n")
    with wave.open(str(folder / "said.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(sine(440, 8000 * 40).astype("<i2").tobytes())
    command = ["baresip", "-f", str(folder), "-v", "-e", f"d sip:agent@{SERVER}"]
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)


def stream_of(request: Request) -> StreamConfig:
    media = parse_sdp_untrusted(request.body).media[0]
    return StreamConfig("PCMU", 0, PHONE, media.port, rtcp_mux=media.attribute("rtcp-mux") is not None, rtcp_xr=True)


def read_summary(log: str, name: str) -> tuple[float, float]:
    """A line of baresip's statistics at the end of a call: of what it sent, of what it received."""
    match = re.search(rf"^{name}: +([0-9.]+) +([0-9.]+)", log, re.MULTILINE)
    assert match is not None, log[-3000:]
    return float(match[1]), float(match[2])


@pytest.mark.parametrize("mux", ["no", "yes"])
def test_each_understands_the_other(tmp_path: Path, mux: str) -> None:
    answerer, worker = Answerer(), WorkerProcess("41200-41299")
    phone = start_phone(tmp_path, mux)
    deadline = time.monotonic() + PATIENCE_S
    try:
        invite = answerer.next_request("INVITE", deadline)
        stream = stream_of(invite)
        assert stream.rtcp_mux == (mux == "yes")
        place = worker.open("a", stream)
        worker.command("play", leg="a", clip="builtin:ringback", loop=True)
        lines = ["v=0", f"o=- 1 1 IN IP4 {place['host']}", "s=-", f"c=IN IP4 {place['host']}", "t=0 0"]
        lines += [f"m=audio {place['port']} RTP/AVP 0", *(["a=rtcp-mux"] if stream.rtcp_mux else []), ""]
        answerer.answer(invite, "\r\n".join(lines).encode())
        answerer.next_request("ACK", deadline)
        stats: dict[str, Any] = {}
        while stats.get("round_trip_ms") is None or stats["rtcp_out"] < 3:
            assert time.monotonic() < deadline, stats
            time.sleep(0.2)
            stats = worker.command("stats", leg="a")["stats"]
        phone.terminate()
        answerer.answer(answerer.next_request("BYE", time.monotonic() + 5))
        phone.wait(5)
        stats = worker.command("release", leg="a", reason="over")["stats"]
    finally:
        if phone.poll() is None:
            phone.kill()
            phone.wait()
        answerer.close()
        assert worker.close() == 0
    assert stats["rtcp_in"] >= 1
    assert 0 <= stats["round_trip_ms"] < 100
    assert (stats["peer_lost"], stats["peer_hears_nothing"]) == (0, False)
    assert stats["peer_jitter_ms"] < 50
    assert [stats[name] for name in ("rtcp_invalid", "invalid", "stranger", "resync")] == [0] * 4
    # its first report may come before its first RTP, from an address of the machine that it has not signalled
    assert stats["rtcp_stranger"] <= 1
    # what baresip knows of what it sends it has from our reports, and of what it receives from itself
    log = (tmp_path / "log").read_text(errors="replace")
    reported, lost, jitter = (read_summary(log, name) for name in (r"pkt\.report", "lost", "jitter"))
    assert reported[0] > 100, log[-3000:]
    assert lost == (0, 0)
    assert 0 <= jitter[0] < 50
