"""Handing the caller to a human with the audio through our media worker, which joins the two and transcodes.

For parties whose descriptions do not fit together (other codecs, SRTP on one side only, IPv4 and IPv6), and for agents
that want it so (``transfer.media: anchor``).  The callee gets an offer of our own, the caller's description does not
change: the caller goes on talking to the same port, and whom it hears changes when the callee answers.

Afterwards offers of either party are answered by us, each for its own leg; digits and requests that are no offers go
through to the other one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ims_as.call.callee import Callee
from ims_as.call.dialog_relay import DialogRelay
from ims_as.call.media_description import CallDescription, stream_config
from ims_as.call.record import CallState
from ims_as.call.transfer_attempt import TransferAttempt
from ims_as.errors import Result, Termination
from ims_as.media_client import MediaError, MediaLeg
from ims_as.sip.errors import LocalProtocolError, SdpError
from ims_as.sip.invite_session import (
    Acked,
    Answered,
    Ended,
    InviteSession,
    Provisional,
    ReinviteAnswered,
    ReinviteReceived,
    ReinviteRejected,
    Rejected,
    SessionEvent,
    UpdateReceived,
)
from ims_as.sip.offer_answer import AudioStream
from ims_as.sip.timers import TimerHandle

if TYPE_CHECKING:
    from collections.abc import Callable

    from ims_as.call.agent_call import AgentCall

__all__ = ["MISFIT", "AnchoredHandover"]

MISFIT: Final = frozenset({415, 488, 606})
"""What a target says that cannot do with the caller's description."""
RING_DEADLINE_S: Final = 60.0
TELL_RETRY_S: Final = 0.1
TELL_ATTEMPTS: Final = 100


class AnchoredHandover(TransferAttempt):
    """The callee's leg with a port of ours.  Driven by the call's own inbox."""

    def __init__(self, call: AgentCall, callee: Callee) -> None:
        config = call.context.config
        self._call = call
        self._callee = callee
        self._session: InviteSession | None = None
        self._leg: MediaLeg | None = None
        self._lost: MediaLeg | None = None
        """What it was before its worker was lost."""
        self._description = CallDescription(
            config.media.address, int(call.context.wall() * 1000), call.context.codecs, call.context.srtp
        )
        self._relays: tuple[DialogRelay, ...] = ()
        self._timer: TimerHandle | None = None
        self._has_rung = False
        self._on_hold = False

    def start(self) -> None:
        """A port first: the offer names it."""
        self._call.post("callee", (self, None))

    def _on_event(self, session: InviteSession, event: SessionEvent) -> None:
        self._call.post("callee", (self, event))

    def _on_media(self, event: dict[str, Any]) -> None:
        self._call.post("callee", (self, event))

    async def receive_callee(self, event: SessionEvent | dict[str, Any] | None) -> None:
        """An event of the leg to the human, or of its audio; None: the beginning."""
        match event:
            case None:
                await self._call_human()
            case dict():
                self._receive_media(event)
            case Provisional(response=response) if response.status >= 180 and response.status != 199:
                self._ringing()
            case Answered() if self.is_pending and self._session is not None:
                await self._join(event.body or self._session.remote_body)
            case Rejected(status=status):
                self._fail(f"{status}")
            case ReinviteReceived() if self._session is not None:
                session = self._session
                await self._receive_offer(event.body, session.accept_reinvite, session.reject_reinvite)
            case UpdateReceived(request=request) if self._session is not None:
                session, tag = self._session, request.from_tag or ""
                await self._receive_offer(
                    event.body,
                    lambda body: session.accept_update(body, to_tag=tag),
                    lambda status: session.reject_update(status, to_tag=tag),
                )
            case ReinviteRejected(status=status) if self._description.is_offering:
                self._description.abandon_offer()
                self._call.hang_up(Termination(Result.FAILED, "callee", "media-move-refused", status))
            case Acked() | ReinviteAnswered() if self._description.is_offering:
                await self._take_answer(event.body)
            case Ended(by=by, reason=reason):
                self._ended(by, reason)

    # ---------------------------------------------------------------- calling

    async def _call_human(self) -> None:
        call, context = self._call, self._call.context
        if call.leg is None:
            self._fail("no media")
            return
        leg = call.leg.beside(self._on_media)
        try:
            await leg.open(self._description.preview_untrusted(b""), None)
        except MediaError as error:
            self._fail(error.code)
            return
        self._leg = leg
        self._description.bind(leg.host, leg.port)
        if call.record.transfer is not None:
            call.record.transfer["media"] = "anchored"
        self._session = self._callee.invite(call, self._description.offer(), self._on_event)
        self._timer = context.endpoint.call_at(context.now() + RING_DEADLINE_S, self._ring_timeout)

    def _ring_timeout(self) -> None:
        self._timer = None
        if self.is_pending and self._session is not None:
            self._session.cancel()

    def _ringing(self) -> None:
        if self.is_pending and not self._has_rung:
            self._has_rung = True
            self._call.tell_transfer("ringing")

    # ---------------------------------------------------------------- outcome

    async def _join(self, answer: bytes) -> None:
        """The callee has answered: from now on the two hear each other."""
        call, leg, session = self._call, self._leg, self._session
        self._stop_timer()
        call.tell_transfer("answered")
        if leg is None or session is None or call.leg is None or call.session is None:
            self._abandon("no media")
            return
        try:
            stream = self._description.take_answer_untrusted(answer)
            await leg.modify(stream_config(stream))
            call.leg.detach("transferred")
            await call.leg.bridge(leg)
        except (SdpError, MediaError) as error:
            self._abandon(f"no join: {error}")
            return
        self._note_direction(stream)
        self.is_pending, self.is_bridged = False, True
        self._tell_callee()
        call.record.state = CallState.JOINED
        if call.record.transfer is not None:
            call.record.transfer |= {"state": "joined", "joined_at": call.context.wall()}
        call.trace("decision", "ims-as", "ims-as", "caller and callee talk through our media worker")
        self._relays = DialogRelay(call.session, session), DialogRelay(session, call.session)
        call.context.metrics.transfers.labels("joined").inc()

    def _abandon(self, cause: str) -> None:
        if self._session is not None:
            self._session.bye()
        self._fail(cause)

    def _fail(self, cause: str) -> None:
        if not self.is_pending:
            return
        call = self._call
        self.is_pending = False
        self._stop_timer()
        self._discard_leg()
        if call.record.transfer is not None:
            call.record.transfer |= {"state": "failed", "cause": cause, "failed_at": call.context.wall()}
        call.context.metrics.transfers.labels("failed").inc()
        call.context.log.event("TRANSFER_FAILED", call_id=call.record.id, cause=cause)
        call.trace("decision", "ims-as", "ims-as", f"handover failed: {cause}")
        call.handover_failed(cause)

    def _ended(self, by: str, reason: str) -> None:
        if self.is_pending:
            self._fail(f"the callee left while being joined: {reason or by}")
        elif by == "remote":
            self._call.hang_up(Termination(Result.TRANSFERRED, "served-user", "bye", None))
        else:  # its session timer has run out, or it has lost the dialog
            self._call.hang_up(Termination(Result.TRANSFERRED, "network", f"far-{by}", None))

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _discard_leg(self) -> None:
        leg, self._leg = self._leg, None
        if leg is not None:
            leg.discard("transferred")

    # ---------------------------------------------------------------- while they talk

    async def _receive_offer(
        self, offer: bytes, accept: Callable[[bytes], bool], reject: Callable[[int], object]
    ) -> None:
        """The callee's own offers: hold, another address."""
        leg, description, before = self._leg, self._description, self._description.stream
        if leg is None or self.is_pending:
            reject(491)
            return
        try:
            answer = description.answer_untrusted(offer) if offer else description.offer()
        except SdpError:
            reject(488)
            return
        except LocalProtocolError:
            reject(491)
            return
        stream = description.stream
        try:
            if offer and stream is not None:
                await leg.modify(stream_config(stream))
        except MediaError:
            description.withdraw_answer()
            reject(500)
            return
        if not accept(answer):
            if not offer:
                description.withdraw_offer()
                return
            description.withdraw_answer()
            if before is not None:
                leg.modify_soon(stream_config(before))
        elif offer and stream is not None:
            self._note_direction(stream)

    async def _take_answer(self, answer: bytes) -> None:
        """To an offer that the callee asked for."""
        leg, description = self._leg, self._description
        if leg is None:
            return
        if not answer:
            description.withdraw_offer()  # it owes us one; what was agreed before still works
            return
        try:
            stream = description.take_answer_untrusted(answer)
            await leg.modify(stream_config(stream))
        except (SdpError, MediaError) as error:
            self._call.trace("decision", "ims-as", "ims-as", "the callee's answer cannot be used", str(error))
        else:
            self._note_direction(stream)

    def _note_direction(self, stream: AudioStream) -> None:
        self._on_hold = not stream.direction.sends

    def _receive_media(self, event: dict[str, Any]) -> None:
        call = self._call
        match event.get("ev"):
            case "dtmf" if self.is_bridged and call.leg is not None:
                call.leg.send_dtmf(str(event.get("digit", "")))
            case "rtp_timeout" if self.is_bridged and not self._on_hold:
                call.context.metrics.rtp_timeouts.inc()
                call.hang_up(Termination(Result.FAILED, "ims-as", "rtp-timeout", None))
            case "leg_failed":
                self._leg = None
                if self.is_bridged:
                    call.hang_up(Termination(Result.FAILED, "ims-as", "internal-error", None))
                else:
                    self._abandon("internal-error")
            case "worker_lost" if self._leg is not None:
                self._lost, self._leg = self._leg, None  # until the caller's leg is on another worker

    async def caller_moved(self) -> None:
        """Our leg follows it."""
        call, lost, self._lost = self._call, self._lost, None
        if lost is None or lost.stream is None or call.leg is None:
            return
        leg = call.leg.beside(self._on_media)
        try:
            await leg.open(lost.stream, None, port=lost.port if call.context.media.keeps_ports else None)
            if self.is_bridged:
                await call.leg.bridge(leg)
        except MediaError as error:
            leg.discard()
            if error.is_lost:
                self._lost = lost  # with the caller's leg, once more
            elif self.is_bridged:
                call.hang_up(Termination(Result.FAILED, "ims-as", "media-worker-lost", None))
            else:
                self._abandon(error.code)
            return
        self._leg = leg
        self._tell_callee()

    def _tell_callee(self, attempts: int = TELL_ATTEMPTS) -> None:
        """Offers the callee the new port where it is another one."""
        session, leg, description = self._session, self._leg, self._description
        if session is None or leg is None or session.is_terminated:
            return
        if description.told in (None, (leg.host, leg.port)):
            return  # nothing is agreed yet, or nothing has changed
        description.bind(leg.host, leg.port)
        try:
            offer = description.offer_again()
        except LocalProtocolError:
            self._tell_later(attempts)
            return
        try:
            session.reinvite(offer)
        except LocalProtocolError:
            description.withdraw_offer()
            self._tell_later(attempts)

    def _tell_later(self, attempts: int) -> None:
        if attempts > 1:
            self._call.post_later(TELL_RETRY_S, "retry", lambda: self._tell_callee(attempts - 1))
        else:
            self._call.hang_up(Termination(Result.FAILED, "ims-as", "media-move-refused", None))

    def take_digit(self, digit: str) -> None:
        """Of the caller, for the human."""
        if self._leg is not None:
            self._leg.send_dtmf(digit)

    def close(self) -> None:
        """The call is over: the callee's leg ends too."""
        self._stop_timer()
        for relay in self._relays:
            relay.detach()
        if self._session is not None:
            self._session.bye()
        self._discard_leg()
