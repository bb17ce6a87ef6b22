from __future__ import annotations

import json
import wave
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from ims_as.call_tool import (
    FRAME,
    CallFailedError,
    CallPlan,
    CallReport,
    Hearing,
    Speech,
    format_report,
    next_hop_of,
    place_call,
    write_wav,
)
from ims_as.sip.flow import Destination
from ims_as.sip.invite_session import InviteSession
from ims_as.sip.message import Request, build_response
from ims_as.sip.offer_answer import LocalMedia, SdpSession, negotiate_answer
from ims_as.sip.sdp import parse_sdp_untrusted
from ims_as.sip.session_events import Acked, SessionEvent
from ims_as.sip.transaction import ServerTransaction
from ims_as.sip.user_agent import UserAgent
from ims_as.transport.address import ListenAddress
from ims_as.transport.endpoint import Endpoint
from media.rtp import build_rtp, parse_rtp_untrusted

HOST = "127.0.77.4"


def tone(n_frames: int, amplitude: float = 8000) -> np.ndarray[tuple[int], np.dtype[np.int16]]:
    return (amplitude * np.sin(np.arange(n_frames * FRAME) * 0.3)).astype(np.int16)


def packet(sequence: int, timestamp: int, payload: bytes, *, ssrc: int = 1, payload_type: int = 8) -> bytes:
    return build_rtp(
        payload_type=payload_type, marker=False, sequence=sequence, timestamp=timestamp, ssrc=ssrc, payload=payload
    )


# --- sans-IO ----------------------------------------------------------------------------------------------------------


def test_speech_ends_in_silence_and_knows_its_last_loud_frame() -> None:
    speech = Speech(np.concatenate([tone(3), np.zeros(200, np.int16)]))
    assert (len(speech), speech.last_loud) == (5, 2)
    assert speech.payload(4, "PCMU") == speech.payload(99, "PCMU") == b"\xff" * FRAME
    assert len(set(speech.payload(0, "PCMA"))) > 20
    assert Speech(np.zeros(0, np.int16)).last_loud == -1


@given(st.permutations(range(8)), st.sampled_from([0, 65530]), st.sampled_from([0, 2**32 - 400]))
def test_what_is_heard_is_put_in_order(order: list[int], first_sequence: int, first_timestamp: int) -> None:
    order = [0, *(index for index in order if index)]  # the first to come is where time begins
    speech, hearing = Speech(tone(8)), Hearing()
    for index in order:
        wire = packet(first_sequence + index, first_timestamp + index * FRAME, speech.payload(index, "PCMA"))
        hearing.receive_untrusted(wire, "PCMA", 8, now=1.0)
    heard = hearing.samples()
    assert heard.size == 8 * FRAME
    assert np.abs(heard.astype(int) - tone(8)).max() < 300
    assert hearing.n_lost == 0


def test_gaps_are_silent_and_counted_also_over_a_change_of_source() -> None:
    speech, hearing = Speech(tone(1)), Hearing()
    loud = speech.payload(0, "PCMA")
    for sequence, timestamp, ssrc, now in (
        (5, 0, 1, 10.0),
        (8, 3 * FRAME, 1, 10.06),
        (900, 77, 2, 10.2),
        (902, 397, 2, 10.24),
    ):
        hearing.receive_untrusted(packet(sequence, timestamp, loud, ssrc=ssrc), "PCMA", 8, now=now)
    assert hearing.n_lost == 3
    heard = hearing.samples()
    assert not heard[FRAME : 3 * FRAME].any()
    assert abs(heard.size - int(0.24 * 8000 + FRAME)) <= 2


@given(st.binary(max_size=200))
def test_anything_else_is_counted_not_believed(datagram: bytes) -> None:
    hearing = Hearing()
    hearing.receive_untrusted(datagram, "PCMA", 8, now=1.0)
    assert hearing.n_packets + hearing.n_bad == 1
    assert hearing.samples().size <= 200


def test_timestamps_of_a_liar_do_not_cost_memory() -> None:
    hearing = Hearing()
    for sequence in range(50):
        hearing.receive_untrusted(packet(sequence, sequence * 50_000_000, b"\x2a" * FRAME), "PCMA", 8, now=1.0)
    assert hearing.samples().size <= 600 * 8000


def test_recording_is_a_wav_file(tmp_path: Path) -> None:
    write_wav(tmp_path / "x.wav", tone(5))
    with wave.open(str(tmp_path / "x.wav")) as reader:
        assert (reader.getframerate(), reader.getnframes()) == (8000, 5 * FRAME)


# --- on loopback ------------------------------------------------------------------------------------------------------


class Callee:
    """Answers, and says 0.2 s of tone after it has heard a pause; or does what `on_invite` says."""

    def __init__(self, on_invite: Callable[[Callee, Request, ServerTransaction], None] | None = None) -> None:
        self.endpoint = Endpoint(listen=[ListenAddress("udp", HOST, 0)])
        self.agent = UserAgent(
            self.endpoint,
            on_invite=lambda request, transaction: (on_invite or Callee.answer)(self, request, transaction),
            on_request=lambda *_: None,
            user_agent="",
            allow="INVITE",
        )
        self.endpoint.user = self.agent
        self.nursery: trio.Nursery | None = None
        self.session: InviteSession | None = None
        self.n_heard = 0

    def answer(self, request: Request, transaction: ServerTransaction) -> None:
        sock = trio.socket.socket(type=trio.socket.SOCK_DGRAM)
        offer = parse_sdp_untrusted(request.body)
        assert self.nursery is not None
        self.session = self.agent.accept(request, transaction, on_event=self.on_event)
        self.nursery.start_soon(self.talk, sock, offer)

    def on_event(self, session: InviteSession, event: SessionEvent) -> None:
        if isinstance(event, Acked):
            self.acked = True

    async def talk(self, sock: trio.socket.SocketType, offer: object) -> None:
        assert self.session is not None
        with sock:
            await sock.bind((HOST, 0))
            local = LocalMedia(HOST, sock.getsockname()[1])
            negotiated = negotiate_answer(offer, local, session=SdpSession("-", 1, 1, HOST))  # type: ignore[arg-type]
            self.session.answer(negotiated.answer.to_bytes())
            stream, speech = negotiated.stream, Speech(tone(10))
            spoken = False
            while True:
                wire, peer = await sock.recvfrom(2048)
                self.n_heard += 1
                if parse_rtp_untrusted(wire).payload == b"\xd5" * FRAME and not spoken:
                    spoken = True
                    for index in range(14):
                        payload = speech.payload(index, stream.codec)
                        await sock.sendto(packet(index, index * FRAME, payload, payload_type=stream.payload_type), peer)


@asynccontextmanager
async def called(callee: Callee) -> AsyncIterator[tuple[str, Destination]]:
    async with trio.open_nursery() as nursery:
        callee.nursery = nursery
        await nursery.start(callee.endpoint.run)
        port = callee.endpoint.addresses[0].port
        yield f"sip:agent@{HOST}:{port}", Destination("UDP", HOST, port)
        nursery.cancel_scope.cancel()


def call(callee: Callee, **plan: object) -> CallReport:
    async def main() -> CallReport:
        async with called(callee) as (uri, next_hop):
            report = await place_call(CallPlan(uri, turn_end_s=0.2, **plan), next_hop)  # type: ignore[arg-type]
            assert not callee.agent.sessions
            return report

    return trio.run(main)


def test_call_is_answered_heard_and_measured() -> None:
    callee = Callee()
    report = call(callee, speech=Speech(tone(10)), headers=(("P-Served-User", "<sip:b@example.org>"),))
    assert report.status == 200
    assert report.setup_ms is not None
    assert 0 < report.setup_ms < 1000
    assert report.ttfb_ms is not None
    assert 0 <= report.ttfb_ms < 500
    assert report.first_audio_ms is not None
    assert report.first_audio_ms >= 180
    assert (report.packets_received, report.packets_lost) == (14, 0)
    assert report.packets_sent >= 10
    assert report.heard.size == 14 * FRAME
    assert report.ended_by == "caller"
    assert callee.session is not None
    assert callee.session.request.headers.get("P-Served-User") == "<sip:b@example.org>"


def test_refusal_is_a_result_not_an_error() -> None:
    def refuse(callee: Callee, request: Request, transaction: ServerTransaction) -> None:
        callee.endpoint.send_response(transaction, build_response(request, 503, to_tag=transaction.to_tag))

    report = call(Callee(refuse))
    assert (report.status, report.ended_by, report.setup_ms) == (503, "callee", None)


def test_callee_that_says_nothing_is_left_when_time_is_up() -> None:
    report = call(Callee(), speech=Speech(tone(40)), max_s=0.3)
    assert (report.status, report.ended_by, report.ttfb_ms) == (200, "caller", None)


def test_answer_without_usable_audio_ends_the_call() -> None:
    def silent(callee: Callee, request: Request, transaction: ServerTransaction) -> None:
        callee.session = callee.agent.accept(request, transaction, on_event=callee.on_event)
        callee.session.answer(b"v=0\r\n")

    report = call(Callee(silent))
    assert report.ended_by.startswith("caller: ")


def test_no_way_to_the_next_hop() -> None:
    async def main() -> None:
        await place_call(CallPlan("sip:a@b", local_host="203.0.113.9"), Destination("UDP", HOST, 5060))

    with pytest.raises(CallFailedError, match="not an address of ours"):
        trio.run(main)


@pytest.mark.parametrize(
    ("uri", "proxy", "expected"),
    [
        ("sip:a@192.0.2.1", None, Destination("UDP", "192.0.2.1", 0)),
        ("sip:a@[2001:db8::1]:5070;transport=tcp", None, Destination("TCP", "2001:db8::1", 5070)),
        ("tel:+1", "tcp:192.0.2.2:5061", Destination("TCP", "192.0.2.2", 5061)),
    ],
)
def test_next_hop(uri: str, proxy: str | None, expected: Destination) -> None:
    assert next_hop_of(uri, proxy) == expected


@pytest.mark.parametrize(("uri", "proxy"), [("tel:+1", None), ("sip:a@b", "nonsense"), ("sip:", None)])
def test_no_next_hop(uri: str, proxy: str | None) -> None:
    with pytest.raises(CallFailedError):
        next_hop_of(uri, proxy)


def test_report_for_people_and_machines() -> None:
    report = CallReport(status=200, setup_ms=12.345)
    assert json.loads(format_report(report, as_json=True))["setup_ms"] == 12.3
    assert "ttfb_ms           –" in format_report(report, as_json=False)
