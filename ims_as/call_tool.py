"""A synthetic call through the real path: SIP, RTP and the time until the other side speaks.

It calls a URI, plays a recording, hears and records what comes back, and measures.  ``Speech`` and ``Hearing`` are
sans-IO; ``place_call`` is the trio shell around them.  Audio is G.711 at 8 kHz, 20 ms per packet.
"""

from __future__ import annotations

import json
import math
import secrets
import socket
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Final

import attrs
import numpy as np
import trio
from numpy.typing import NDArray

from ims_as.errors import ImsAsError
from ims_as.sip.errors import LocalProtocolError, NoCommonCodecError, SdpError, SipParseError
from ims_as.sip.flow import Destination
from ims_as.sip.invite_session import InviteSession
from ims_as.sip.message import Request, build_response
from ims_as.sip.offer_answer import (
    AudioStream,
    LocalMedia,
    SdpSession,
    apply_answer,
    build_offer,
    negotiate_answer,
)
from ims_as.sip.sdp import parse_sdp_untrusted
from ims_as.sip.session_events import (
    Acked,
    Answered,
    Cancelled,
    Ended,
    Provisional,
    ReinviteReceived,
    Rejected,
    SessionEvent,
)
from ims_as.sip.transaction import ServerTransaction
from ims_as.sip.uri import SipUri, parse_uri
from ims_as.sip.user_agent import UserAgent
from ims_as.transport.address import ListenAddress
from ims_as.transport.endpoint import Endpoint
from media.clips import ClipError, read_file
from media.g711 import CODECS, SILENCE, decode, encode
from media.rtp import RtpParseError, build_rtp, parse_rtp_untrusted
from media.unwrap import sequence_distance, timestamp_distance

__all__ = [
    "CallFailedError",
    "CallPlan",
    "CallReport",
    "Hearing",
    "Speech",
    "call_from_terminal",
    "format_report",
    "next_hop_of",
    "place_call",
    "write_wav",
]

RATE_HZ: Final = 8000
FRAME: Final = 160
FRAME_S: Final = 0.02
LOUD_RMS: Final = 200.0
"""-44 dB below full scale: above comfort noise and line hum, below any speech."""
MAX_CALL_S: Final = 600
MAX_HEARD: Final = MAX_CALL_S * RATE_HZ
TURN_END_S: Final = 1.5
"""Silence after which a speaker has finished."""
ALLOW: Final = "INVITE, ACK, BYE, CANCEL, OPTIONS"
RING_LIMIT_S: Final = 60.0
BYE_WAIT_S: Final = 2.0

Samples = NDArray[np.int16]


class CallFailedError(ImsAsError):
    """The call could not be placed at all."""


def _is_loud(samples: NDArray[np.int16] | NDArray[np.float32]) -> bool:
    return bool(samples.size) and float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) > LOUD_RMS


class Speech:
    """What we say: frames of samples, silence after the end."""

    def __init__(self, samples: Samples) -> None:
        n_frames = -(-samples.size // FRAME)
        self._frames = np.zeros((n_frames, FRAME), np.float32)
        self._frames.reshape(-1)[: samples.size] = samples
        loud = [index for index, frame in enumerate(self._frames) if _is_loud(frame)]
        self.last_loud = loud[-1] if loud else -1
        """Index of the last frame that can be heard; -1: none."""

    def __len__(self) -> int:
        return len(self._frames)

    def payload(self, index: int, codec: str) -> bytes:
        """Frame ``index`` in G.711."""
        number = CODECS[codec]
        if index >= len(self._frames):
            return bytes([int(SILENCE[number])]) * FRAME
        return encode(self._frames[index : index + 1].copy(), np.array([number], np.uint8)).tobytes()


@attrs.define
class Hearing:
    """What we hear, put in order by RTP timestamps; a new SSRC goes where it came in time."""

    n_packets: int = 0
    n_bad: int = 0
    """Datagrams that are not RTP of the stream."""
    first_at: float | None = None
    first_loud_at: float | None = None
    last_loud_at: float | None = None
    loud_since: float | None = None
    """First loud packet after ``listen_from``."""
    listen_from: float = math.inf
    _ssrc: int | None = None
    _base: int = 0
    _first_timestamp: int = 0
    _sequences: tuple[int, int, int] = (0, 0, 0)
    """Highest (unwrapped), first, packets of this SSRC."""
    _lost_before: int = 0
    _pieces: dict[int, Samples] = attrs.Factory(dict)

    @property
    def n_lost(self) -> int:
        highest, first, count = self._sequences
        return self._lost_before + (max(highest - first + 1 - count, 0) if count else 0)

    def receive_untrusted(self, datagram: bytes, codec: str, payload_type: int, *, now: float) -> None:
        """Takes one datagram; what is not RTP with this payload type is counted."""
        try:
            packet = parse_rtp_untrusted(datagram)
        except RtpParseError:
            self.n_bad += 1
            return
        if packet.payload_type != payload_type:
            self.n_bad += 1
            return
        self.n_packets += 1
        if self.first_at is None:
            self.first_at = now
        if packet.ssrc != self._ssrc:
            self._lost_before = self.n_lost
            self._ssrc, self._first_timestamp = packet.ssrc, packet.timestamp
            self._base = int((now - self.first_at) * RATE_HZ)
            self._sequences = (packet.sequence, packet.sequence, 0)
        highest, first, count = self._sequences
        sequence = highest + sequence_distance(highest & 0xFFFF, packet.sequence)
        self._sequences = (max(highest, sequence), min(first, sequence), count + 1)
        codes = np.frombuffer(packet.payload, np.uint8)[None, :]
        samples = decode(codes, np.array([CODECS[codec]], np.uint8))[0].astype(np.int16)
        place = self._base + timestamp_distance(self._first_timestamp, packet.timestamp)
        if 0 <= place <= MAX_HEARD - samples.size and len(self._pieces) < MAX_HEARD // FRAME:
            self._pieces[place] = samples
        if _is_loud(samples):
            self.last_loud_at = now
            if self.first_loud_at is None:
                self.first_loud_at = now
            if self.loud_since is None and now >= self.listen_from:
                self.loud_since = now

    def samples(self) -> Samples:
        """All that was heard; silence where nothing came."""
        if not self._pieces:
            return np.zeros(0, np.int16)
        heard = np.zeros(max(place + piece.size for place, piece in self._pieces.items()), np.int16)
        for place, piece in self._pieces.items():
            heard[place : place + piece.size] = piece
        return heard


def write_wav(path: Path, samples: Samples) -> None:
    """16-bit mono at 8 kHz.  Raises OSError."""
    with wave.open(str(path), "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(RATE_HZ)
        writer.writeframes(samples.astype("<i2").tobytes())


@attrs.frozen
class CallPlan:
    """What to call and how."""

    uri: str
    from_: str = "<sip:ims-as-call@localhost>"
    local_host: str | None = None
    """Our address; None: the one from which the next hop is reached."""
    speech: Speech = attrs.Factory(lambda: Speech(np.zeros(0, np.int16)))
    max_s: float = 30.0
    """The call is ended after so many seconds at the latest."""
    headers: tuple[tuple[str, str], ...] = ()
    """Further headers of the INVITE, such as P-Served-User."""
    turn_end_s: float = TURN_END_S
    """Silence after which the other side has finished."""


@attrs.define
class CallReport:
    """What became of the call; times in milliseconds, None where it did not come to it."""

    status: int = 0
    """Final SIP status."""
    setup_ms: float | None = None
    """INVITE to 200."""
    first_audio_ms: float | None = None
    """200 to the first audible packet."""
    ttfb_ms: float | None = None
    """End of our speech to the first audible packet after it."""
    ended_by: str = ""
    packets_sent: int = 0
    packets_received: int = 0
    packets_lost: int = 0
    heard: Samples = attrs.Factory(lambda: np.zeros(0, np.int16))


class _Call:
    """The state that SIP events and the audio task share."""

    def __init__(self, plan: CallPlan, host: str, port: int) -> None:
        self.plan = plan
        self.report = CallReport()
        self.hearing = Hearing()
        self.stream: AudioStream | None = None
        self.answered, self.over = trio.Event(), trio.Event()
        self.local = LocalMedia(host, port)
        self.sdp = SdpSession("-", secrets.randbelow(2**31), 1, host)
        self.offer = build_offer(self.local, self.sdp)
        self.started_at = trio.current_time()
        self.answered_at = 0.0
        self.refused = ""

    def on_event(self, session: InviteSession, event: SessionEvent) -> None:
        match event:
            case Provisional():
                pass
            case Answered(response):
                self.report.status = response.status
                self.answered_at = trio.current_time()
                self.report.setup_ms = (self.answered_at - self.started_at) * 1000
                self._use(lambda: apply_answer(self.offer, parse_sdp_untrusted(response.body)), session)
                self.answered.set()
            case ReinviteReceived(request):
                self._reinvited(session, request)
            case Acked(request) if request.body:
                self._use(lambda: apply_answer(self.offer, parse_sdp_untrusted(request.body)), session)
            case Rejected(status):
                self.report.status = status
                self._finish("callee")
            case Cancelled() | Ended(by="remote"):
                self._finish("callee")
            case Ended(by=by):
                self._finish("caller" if by == "local" else by)
            case _:
                pass

    def _finish(self, by: str) -> None:
        self.report.ended_by = self.report.ended_by or by
        self.over.set()
        self.answered.set()

    def _use(self, negotiate: Callable[[], AudioStream], session: InviteSession) -> None:
        try:
            self.stream = negotiate()
        except (SdpError, NoCommonCodecError) as error:
            self.report.ended_by = f"caller: {error}"
            session.bye()

    def _reinvited(self, session: InviteSession, request: Request) -> None:
        if not request.body:
            self.offer = build_offer(self.local, self.sdp)
            session.accept_reinvite(self.offer.to_bytes())
            return
        try:
            negotiated = negotiate_answer(parse_sdp_untrusted(request.body), self.local, session=self.sdp)
        except (SdpError, NoCommonCodecError):
            session.reject_reinvite(488)
            return
        self.stream = negotiated.stream
        session.accept_reinvite(negotiated.answer.to_bytes())

    async def speak(self, sock: trio.socket.SocketType) -> None:
        """Sends a packet each 20 ms, by an absolute schedule, from the answer on."""
        speech, began = self.plan.speech, trio.current_time()
        ssrc, sequence, timestamp = (secrets.randbits(bits) for bits in (32, 16, 32))
        index = 0
        while True:
            await trio.sleep_until(began + index * FRAME_S)
            if index == speech.last_loud + 1:
                self.hearing.listen_from = trio.current_time()
            if (stream := self.stream) is not None and stream.direction.value in ("sendrecv", "sendonly"):
                packet = build_rtp(
                    payload_type=stream.payload_type,
                    marker=index == 0,
                    sequence=sequence + index,
                    timestamp=timestamp + index * FRAME,
                    ssrc=ssrc,
                    payload=speech.payload(index, stream.codec),
                )
                try:
                    await sock.sendto(packet, (stream.remote_host, stream.remote_port))
                    self.report.packets_sent += 1
                except OSError:  # nobody there (yet): that is what the report shows
                    pass
            index += 1

    async def hear(self, sock: trio.socket.SocketType) -> None:
        while True:
            try:
                datagram, _ = await sock.recvfrom(2048)
            except OSError:  # an ICMP error for a packet of ours
                continue
            if (stream := self.stream) is not None:
                self.hearing.receive_untrusted(
                    datagram, stream.codec, stream.receive_payload_type, now=trio.current_time()
                )

    async def until_said(self) -> None:
        """Until both sides have had their say: we are through, the other has answered and is silent again."""
        while True:
            await trio.sleep(0.1)
            heard = self.hearing
            if heard.loud_since is None or heard.last_loud_at is None:
                continue
            if trio.current_time() - heard.last_loud_at > self.plan.turn_end_s:
                return

    def finish_report(self) -> CallReport:
        heard, report = self.hearing, self.report
        if self.answered_at and heard.first_loud_at is not None:
            report.first_audio_ms = (heard.first_loud_at - self.answered_at) * 1000
        if self.plan.speech.last_loud >= 0 and heard.loud_since is not None:
            report.ttfb_ms = (heard.loud_since - heard.listen_from) * 1000
        report.packets_received, report.packets_lost = heard.n_packets, heard.n_lost
        report.heard = heard.samples()
        return report


def _local_address(destination: Destination) -> str:
    """The address from which the next hop is reached; nothing is sent."""
    try:
        family, _, _, _, address = socket.getaddrinfo(
            destination.host, destination.port or 5060, type=socket.SOCK_DGRAM
        )[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(address)
            return str(probe.getsockname()[0])
    except OSError as error:
        raise CallFailedError(f"{destination.host} cannot be reached: {error}") from error


async def place_call(plan: CallPlan, next_hop: Destination) -> CallReport:
    """Places the call and returns when it is over; all sockets are closed then.

    Args:
        plan: what to call.
        next_hop: where the INVITE goes first.

    Raises:
        CallFailedError: there is no way to the next hop, no local address, or a header cannot be sent.
    """
    host = plan.local_host
    if host is None:
        host = await trio.to_thread.run_sync(_local_address, next_hop)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with trio.socket.socket(family, socket.SOCK_DGRAM) as sock:
        listen = [ListenAddress(transport, host, 0) for transport in ("udp", "tcp")]
        endpoint = Endpoint(listen=listen, server_name="ims-as-call")

        def refuse(request: Request, transaction: ServerTransaction) -> None:
            """Nobody calls us."""
            endpoint.send_response(transaction, build_response(request, 480, to_tag=transaction.to_tag))

        agent = UserAgent(endpoint, on_invite=refuse, on_request=refuse, user_agent="ims-as-call", allow=ALLOW)
        endpoint.user = agent
        try:
            await sock.bind((host, 0))
        except OSError as error:
            raise CallFailedError(f"{host} is not an address of ours: {error}") from error
        call = _Call(plan, host, sock.getsockname()[1])
        async with trio.open_nursery() as nursery:
            await nursery.start(endpoint.run)
            try:
                await _converse(call, agent, next_hop, sock, nursery)
            except LocalProtocolError as error:  # out of the nursery as itself, not as a group
                call.refused = str(error)
            nursery.cancel_scope.cancel()
    if call.refused:
        raise CallFailedError(f"the INVITE cannot be built: {call.refused}")
    return call.finish_report()


async def _converse(
    call: _Call, agent: UserAgent, next_hop: Destination, sock: trio.socket.SocketType, nursery: trio.Nursery
) -> None:
    plan = call.plan
    session = agent.invite(
        uri=plan.uri,
        from_=plan.from_,
        to=f"<{plan.uri}>",
        headers=plan.headers,
        body=call.offer.to_bytes(),
        on_event=call.on_event,
        destination=next_hop,
    )
    with trio.move_on_after(RING_LIMIT_S):
        await call.answered.wait()
    if call.answered.is_set() and not call.over.is_set():
        nursery.start_soon(call.speak, sock)
        nursery.start_soon(call.hear, sock)
        await _until_over(call)
    if not session.is_terminated:
        session.bye()
    with trio.move_on_after(BYE_WAIT_S):
        await call.over.wait()
        await _until_forgotten(agent)


async def _until_forgotten(agent: UserAgent) -> None:
    """Until the response to our BYE is there; the caller sets a limit."""
    for _ in range(int(BYE_WAIT_S / FRAME_S)):
        if not agent.sessions:
            return
        await trio.sleep(FRAME_S)


async def _until_over(call: _Call) -> None:
    """Until the other side hangs up, all is said, or time is up."""
    with trio.move_on_after(min(call.plan.max_s, MAX_CALL_S)):
        async with trio.open_nursery() as nursery:

            async def said() -> None:
                await call.until_said()
                nursery.cancel_scope.cancel()

            nursery.start_soon(said)
            await call.over.wait()
            nursery.cancel_scope.cancel()


def next_hop_of(uri: str, proxy: str | None) -> Destination:
    """Where the INVITE goes: ``proxy`` (``udp:host:port``) or else the URI's own host.  Raises CallFailedError."""
    try:
        if proxy is not None:
            address = ListenAddress.parse(proxy)
            return Destination(address.transport.upper(), address.host, address.port)
        parsed = parse_uri(uri)
    except ValueError as error:
        raise CallFailedError(f"--proxy {error}") from error
    except SipParseError as error:
        raise CallFailedError(f"{uri!r} is not a URI: {error}") from error
    if not isinstance(parsed, SipUri):
        raise CallFailedError(f"{uri} needs --proxy: it does not say where to go")
    return Destination((parsed.param("transport") or "udp").upper(), parsed.host.strip("[]"), parsed.port or 0)


def call_from_terminal(plan: CallPlan, *, proxy: str | None, play: str | None, record: str | None) -> CallReport:
    """Reads the recording, places the call, writes what was heard.  Raises CallFailedError, OSError."""
    next_hop = next_hop_of(plan.uri, proxy)
    if play is not None:
        try:
            plan = attrs.evolve(plan, speech=Speech(read_file(Path(play))))
        except ClipError as error:
            raise CallFailedError(str(error)) from error
    report = trio.run(place_call, plan, next_hop)
    if record is not None:
        write_wav(Path(record), report.heard)
    return report


def format_report(report: CallReport, *, as_json: bool) -> str:
    """The figures for people or machines."""
    figures = {field.name: getattr(report, field.name) for field in attrs.fields(CallReport) if field.name != "heard"}
    figures = {name: round(value, 1) if isinstance(value, float) else value for name, value in figures.items()}
    figures["heard_s"] = round(report.heard.size / RATE_HZ, 2)
    if as_json:
        return json.dumps(figures)
    return "\n".join(f"{name:<17} {'–' if value in (None, '') else value}" for name, value in figures.items())
