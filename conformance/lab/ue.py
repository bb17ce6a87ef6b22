"""``LabPhone``: a SIP phone with real RTP, used as calling UE and as the served user's legacy phone.

Each call is a ``PhoneCall`` with its own ``RtpLeg``.  A re-INVITE that moves the media is obeyed at once: the next
packet goes to the new address.  All SIP messages are kept as wire events for the report.
"""

from __future__ import annotations

import secrets
import time
import wave
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import soxr
import trio

from conformance.lab import pcmu
from conformance.lab.rtp_leg import HeardSpeech, RtpLeg
from ims_as.sip.errors import SdpError
from ims_as.sip.invite_session import (
    Acked,
    Answered,
    Cancelled,
    Ended,
    InviteSession,
    Provisional,
    ReinviteAnswered,
    ReinviteReceived,
    ReinviteRejected,
    Rejected,
    SessionEvent,
)
from ims_as.sip.message import Request, build_response
from ims_as.sip.offer_answer import AudioStream, CodecOffer, LocalMedia, OfferAnswer, SdpSession
from ims_as.sip.sdp import parse_sdp_untrusted
from ims_as.sip.transaction import ServerTransaction
from ims_as.sip.user_agent import UserAgent
from ims_as.transport.address import ListenAddress
from ims_as.transport.endpoint import Endpoint, WireEvent

__all__ = ["CallFailedError", "LabPhone", "PhoneCall", "read_wav"]

ALLOW: Final = "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO"
MAX_WIRE_EVENTS: Final = 5000
_PCMU = (CodecOffer("PCMU", pcmu.RATE_HZ, pcmu.PAYLOAD_TYPE),)


class CallFailedError(Exception):
    """The call did not come about; ``status`` is that of the final response."""

    def __init__(self, status: int) -> None:
        super().__init__(f"call failed with {status}")
        self.status = status


def read_wav(path: Path) -> npt.NDArray[np.int16]:
    """A mono 16-bit WAV resampled to 8 kHz.  Raises OSError, wave.Error, ValueError when it is of another kind."""
    with wave.open(str(path)) as wav:
        if wav.getnchannels() != 1 or wav.getsampwidth() != 2:
            raise ValueError(f"{path.name}: not mono 16-bit")
        pcm = np.frombuffer(wav.readframes(wav.getnframes()), "<i2").astype(np.int16)
        return np.asarray(soxr.resample(pcm, wav.getframerate(), pcmu.RATE_HZ, quality="HQ"), np.int16)


class PhoneCall:
    """One call of a phone.  Times are wall clock, None until it happened."""

    def __init__(self, phone: LabPhone, rtp: RtpLeg) -> None:
        self.phone = phone
        self.rtp = rtp
        self.session: InviteSession | None = None
        self.invite: Request | None = None
        """The INVITE sent or received."""
        self.began_at = time.time()
        self.ringing_at: float | None = None
        self.answered_at: float | None = None
        self.acked_at: float | None = None
        """Callee: ACK received; caller: 2xx received, ACK sent."""
        self.moved_at: list[float] = []
        """When the media was moved by the peer's re-INVITE."""
        self.ended_at: float | None = None
        self.ended_by: str | None = None
        self.failure: int | None = None
        """Final status of a call that did not come about."""
        local = LocalMedia(*rtp.local, codecs=_PCMU, dtmf=True)
        self.media = OfferAnswer(local, SdpSession("-", secrets.randbelow(1 << 31), 1, rtp.local[0]))
        self.answered = trio.Event()
        self.moved = trio.Event()
        self.ended = trio.Event()

    @property
    def is_up(self) -> bool:
        return self.answered_at is not None and self.ended_at is None

    async def play(self, audio: Path | npt.NDArray[np.int16]) -> tuple[float, float]:
        """Speaks a WAV, or 8 kHz samples; returns when it began and when its last packet had been sent."""
        pcm = read_wav(audio) if isinstance(audio, Path) else audio
        began = time.time()
        await self.rtp.play(pcm).wait()
        return began, time.time()

    async def wait_for_speech_end(self, after: float) -> HeardSpeech:
        """The first utterance heard that ends after ``after``."""
        return await self.rtp.wait_for_speech_end(after)

    def heard_since(self, at: float) -> npt.NDArray[np.int16]:
        """What was heard from ``at`` on, at 8 kHz."""
        return self.rtp.heard_pcm()[max(0, int((at - self.rtp.began_at) * pcmu.RATE_HZ)) :]

    def bye(self) -> None:
        """Hangs up, whatever the call's state."""
        if self.session is not None:
            self.session.bye()

    # ---------------------------------------------------------------- for the phone

    def apply(self, stream: AudioStream) -> None:
        self.rtp.remote = (stream.remote_host, stream.remote_port)
        self.rtp.is_sending = stream.direction.sends

    def end(self, by: str, failure: int | None = None) -> None:
        if self.ended_at is None:
            self.ended_at = time.time()
            self.ended_by = by
            self.failure = failure
        self.rtp.remote = None
        self.ended.set()
        self.answered.set()


class LabPhone:
    """A phone at ``sip:host:port``.

    Args:
        impu: its public identity.
        route: Route values of outgoing calls, such as ``<sip:127.0.0.20:5060;lr>``.
        answer_after_s: how long it rings before it answers; None: it rings until the caller gives up.
    """

    def __init__(
        self,
        *,
        name: str,
        impu: str,
        host: str,
        port: int = 5060,
        route: Iterable[str] = (),
        answer_after_s: float | None = None,
    ) -> None:
        self.name = name
        self.impu = impu
        self.answer_after_s = answer_after_s
        self.calls: list[PhoneCall] = []
        self.wire: list[WireEvent] = []
        self._host = host
        self._route = tuple(route)
        self.endpoint = Endpoint(
            listen=[ListenAddress("udp", host, port)], on_wire=self._on_wire, server_name="lab-phone"
        )
        self._agent = UserAgent(
            self.endpoint, on_invite=self._on_invite, on_request=self._on_request, user_agent="lab-phone", allow=ALLOW
        )
        self.endpoint.user = self._agent
        self._nursery: trio.Nursery | None = None
        self._called = trio.Event()

    @property
    def contact(self) -> str:
        """Contact URI; valid once it runs."""
        address = self.endpoint.addresses[0]
        return f"sip:{address.host}:{address.port}"

    async def run(self, task_status: trio.TaskStatus[LabPhone] = trio.TASK_STATUS_IGNORED) -> None:
        """Serves until cancelled.  Raises OSError when the address cannot be bound."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            await nursery.start(self.endpoint.run)
            task_status.started(self)

    # ---------------------------------------------------------------- calling

    async def call(self, target: str, *, headers: Iterable[tuple[str, str]] = ()) -> PhoneCall:
        """Calls and waits for the answer.  Raises CallFailedError.  Cancelled: the call is given up."""
        call = await self.start_call(target, headers=headers)
        try:
            await call.answered.wait()
        except trio.Cancelled:
            call.bye()
            raise
        if call.failure is not None:
            raise CallFailedError(call.failure)
        return call

    async def start_call(self, target: str, *, headers: Iterable[tuple[str, str]] = ()) -> PhoneCall:
        """Sends the INVITE and returns at once; ``call.answered`` is set by any final response."""
        call = await self._new_call()
        call.began_at = time.time()
        call.session = self._agent.invite(
            uri=target,
            from_=f"<{self.impu}>",
            to=f"<{target}>",
            route=self._route,
            headers=[("P-Asserted-Identity", f"<{self.impu}>"), *headers],
            body=call.media.send_offer().to_bytes(),
            on_event=lambda session, event: self._on_event(call, session, event),
        )
        call.invite = call.session.request
        return call

    async def wait_for_call(self, number: int = 1) -> PhoneCall:
        """The ``number``-th call that came in or went out."""
        while len(self.calls) < number:
            await self._called.wait()
        return self.calls[number - 1]

    async def _new_call(self) -> PhoneCall:
        assert self._nursery is not None
        rtp = RtpLeg(self._host)
        await rtp.bind()
        call = PhoneCall(self, rtp)
        self._nursery.start_soon(self._run_media, call)
        self.calls.append(call)
        self._called.set()
        self._called = trio.Event()
        return call

    @staticmethod
    async def _run_media(call: PhoneCall) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call.rtp.run)
            await call.ended.wait()
            nursery.cancel_scope.cancel()

    # ---------------------------------------------------------------- being called

    def _on_invite(self, request: Request, transaction: ServerTransaction) -> None:
        assert self._nursery is not None
        self._nursery.start_soon(self._ring, request, transaction)

    async def _ring(self, request: Request, transaction: ServerTransaction) -> None:
        call = await self._new_call()
        call.invite = request
        session = self._agent.accept(
            request, transaction, on_event=lambda session, event: self._on_event(call, session, event)
        )
        call.session = session
        session.provisional(180)
        call.ringing_at = time.time()
        if self.answer_after_s is not None:
            self.endpoint.call_at(trio.current_time() + self.answer_after_s, lambda: self._answer(call, request))

    def _answer(self, call: PhoneCall, request: Request) -> None:
        assert call.session is not None
        if call.ended_at is not None:
            return
        body = self._answer_to(call, request.body)
        if body is None:
            call.session.reject(488)
        elif call.session.answer(body):
            call.answered_at = time.time()
            call.answered.set()

    @staticmethod
    def _answer_to(call: PhoneCall, offer: bytes) -> bytes | None:
        """Our answer, or our offer where none came; None when there is nothing to agree on."""
        if not offer:
            return call.media.send_offer().to_bytes()
        try:
            negotiated = call.media.receive_offer(parse_sdp_untrusted(offer))
        except SdpError:
            return None
        call.apply(negotiated.stream)
        return negotiated.answer.to_bytes()

    # ---------------------------------------------------------------- session events

    def _on_event(self, call: PhoneCall, session: InviteSession, event: SessionEvent) -> None:
        match event:
            case Provisional(response) if response.status >= 180:
                call.ringing_at = call.ringing_at or time.time()
            case Answered(response):
                call.answered_at = call.acked_at = time.time()
                if self._take_answer(call, response.body):
                    call.answered.set()
                else:
                    session.bye()
            case Acked(request):
                call.acked_at = time.time()
                if request.body:
                    self._take_answer(call, request.body)
            case ReinviteReceived(request):
                self._on_reinvite(call, session, request)
            case ReinviteAnswered(response):
                self._take_answer(call, response.body)
            case ReinviteRejected():
                call.media.abandon_offer()
            case Rejected(status):
                call.end("rejected", status)
            case Cancelled():
                call.end("caller", 487)
            case Ended(by, _, _):
                call.end(by)

    @staticmethod
    def _take_answer(call: PhoneCall, body: bytes) -> bool:
        try:
            call.apply(call.media.receive_answer(parse_sdp_untrusted(body)))
        except SdpError:
            return False
        return True

    def _on_reinvite(self, call: PhoneCall, session: InviteSession, request: Request) -> None:
        before = call.rtp.remote
        body = self._answer_to(call, request.body)
        if body is None:
            session.reject_reinvite(488)
            return
        session.accept_reinvite(body)
        if call.rtp.remote != before:
            call.moved_at.append(time.time())
            call.moved.set()

    def _on_request(self, request: Request, transaction: ServerTransaction) -> None:
        status = 200 if request.method == "OPTIONS" else 405
        response = build_response(request, status, headers=[("Allow", ALLOW)])
        self.endpoint.send_response(transaction, response)

    def _on_wire(self, event: WireEvent) -> None:
        if len(self.wire) < MAX_WIRE_EVENTS:
            self.wire.append(event)
