"""Handing the caller to a human in mid-call: third-party call control (RFC 3725, in the form of its flow I).

After the answer the original dialog identifier is dead, so the human is called by a **new** INVITE towards the core,
which carries our bypass token; when the filter criteria bring it back, it is passed on to legacy termination.

1. INVITE to the human offers the caller's own session description.
2. The human answers; the answer goes to the caller as the offer of a re-INVITE.
3. Where the caller's answer differs from what the human was offered, the human gets it in a re-INVITE.
4. Both now send to each other.  The engine is told ``stop``, our port and its socket are closed.

From then on we are a routeing B2BUA of signalling alone (``join``).  When it comes to nothing the caller gets our own
description again and the agent goes on, if it is there.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from ims_as.call.anchored import MISFIT, AnchoredHandover
from ims_as.call.callee import Callee
from ims_as.call.join import Join, Side, same_target
from ims_as.call.record import CallState
from ims_as.call.sdp_relay import answer_for_untrusted, relay_untrusted
from ims_as.call.target_policy import SERVED_USER, limit_reached, resolve_target
from ims_as.call.transfer_attempt import TransferAttempt
from ims_as.config import TransferEarlyMedia, TransferMedia
from ims_as.isc.history_info import diversion_count
from ims_as.sip.errors import LocalProtocolError, SdpError
from ims_as.sip.invite_session import (
    Answered,
    EarlyDialogEnded,
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
from ims_as.sip.offer_answer import SdpSession
from ims_as.sip.refer import ReferReceiver
from ims_as.sip.timers import TimerHandle

if TYPE_CHECKING:
    from ims_as.call.agent_call import AgentCall

__all__ = ["Handover", "HandoverState"]

RING_DEADLINE_S: Final = 60.0
"""A human who has not answered by then is taken as absent."""
JOIN_RETRY_S: Final = 0.2
JOIN_DEADLINE_S: Final = 10.0
"""For so long the join waits for an exchange with the caller that is under way."""


class HandoverState(Enum):
    CALLING = "calling"
    JOINING = "joining"
    """The callee has answered; the caller is being sent its description."""
    ADJUSTING = "adjusting"
    """The callee has been sent the caller's changed description."""
    JOINED = "joined"
    FAILED = "failed"


class Handover(TransferAttempt):
    """The callee's leg and the join.  Driven by the call's own inbox, so nothing in here runs concurrently."""

    def __init__(
        self,
        call: AgentCall,
        target: str,
        reason: str,
        handover_data: Any,
        *,
        by_agent: bool,
        referral: ReferReceiver | None = None,
    ) -> None:
        """``referral``: of the party that the caller is joined to, who wants it handed on; it names the target."""
        self._call = call
        self._referral = referral
        self._target = target
        self._reason = reason
        self._data = handover_data
        self._by_agent = by_agent
        self.state = HandoverState.CALLING
        self._callee: InviteSession | None = None
        self._offered = b""
        self._answer = b""
        self._caller_has = b""
        """The callee's description that the caller was sent."""
        self._caller_answer: bytes | None = None
        """What the caller answered to it."""
        agent = call.agent
        self._may_relay_early = agent is not None and agent.transfer.early_media is TransferEarlyMedia.RELAY
        self._media = TransferMedia.AUTO if agent is None else agent.transfer.media
        self._to: Callee | None = None
        self._heard: str | None = None
        """To tag of the early dialog whose media the caller hears."""
        self._has_rung = False
        self._join_until = 0.0
        config = call.context.config
        self._to_callee = SdpSession("-", int(call.record.received_at * 1000), 1, config.media.address)
        self._timer: TimerHandle | None = None

    @property
    def is_joined(self) -> bool:
        return self.state is HandoverState.JOINED

    @property
    def owns_offers(self) -> bool:
        """The caller's description is being changed by us: its own offers must wait."""
        return self.is_pending and (self.state is not HandoverState.CALLING or bool(self._caller_has))

    # ---------------------------------------------------------------- calling

    def start(self) -> None:
        """Calls the human, or fails at once."""
        call, context = self._call, self._call.context
        if self._referral is not None:
            uri: str | None = self._referral.target.uri
        else:
            uri = resolve_target(call, self._target, by_agent=self._by_agent)
        call.record.transfer = {
            "target": uri or self._target,
            "reason": self._reason,
            "started_at": context.wall(),
            "data": self._data,
        }
        if uri is None:
            self._fail("target not allowed")
            return
        if self._target != SERVED_USER and (limit := limit_reached(call)) is not None:
            self._fail(limit)
            return
        diverted_to = None if self._target == SERVED_USER else uri
        if diverted_to is not None and diversion_count(call.request) >= call.context.config.sip.max_diversions:
            self._fail("diverted too often")
            return
        self._to = Callee.of(call, uri, self._reason, self._data, diverted_to, self._referral)
        if self._to is None:
            self._fail("no way into the core")
            return
        self._tell("trying")
        if call.leg is not None and self._media is TransferMedia.ANCHOR:
            self._anchor("configured")
            return
        assert call.session is not None
        try:
            self._offered = relay_untrusted(call.session.remote_body, self._to_callee).to_bytes()
        except SdpError as error:
            self._misfit(str(error))
            return
        self._callee = self._to.invite(call, self._offered, self._on_callee)
        self._timer = context.endpoint.call_at(context.now() + RING_DEADLINE_S, self._ring_timeout)

    def _ring_timeout(self) -> None:
        self._timer = None
        if self.state is HandoverState.CALLING and self._callee is not None:
            self._callee.cancel()

    def _on_callee(self, session: InviteSession, event: SessionEvent) -> None:
        self._call.post("callee", (self, event))

    # ---------------------------------------------------------------- outcome

    def _tell(self, state: str) -> None:
        self._call.tell_transfer(state)
        if self._referral is not None and state == "ringing":
            self._referral.notify(180)

    def _abandon(self, cause: str) -> None:
        if self._callee is not None:
            self._callee.bye()
        self._fail(cause)

    def _fail(self, cause: str) -> None:
        if not self.is_pending:
            return
        call = self._call
        self.state, self.is_pending = HandoverState.FAILED, False
        self._stop_timer()
        if self._referral is not None:
            self._referral.notify(int(cause) if cause.isdigit() else 503)
        if call.record.transfer is not None:
            call.record.transfer |= {"state": "failed", "cause": cause, "failed_at": call.context.wall()}
        call.context.metrics.transfers.labels("failed").inc()
        call.context.log.event("TRANSFER_FAILED", call_id=call.record.id, cause=cause)
        call.trace("decision", "ims-as", "ims-as", f"handover failed: {cause}")
        call.handover_failed(cause, has_moved=bool(self._caller_has))

    def _misfit(self, cause: str) -> None:
        """The caller's description does not do for the callee; ours may, while there is audio of ours."""
        if self._call.leg is None or self._media is TransferMedia.DIRECT or not self.is_pending:
            self._fail(cause)
        else:
            self._anchor(cause)

    def _anchor(self, cause: str) -> None:
        call = self._call
        assert self._to is not None
        self.is_pending = False
        self._stop_timer()
        if self._caller_has:  # it hears early media of a telephone that is out of it
            self._stop_early_media()
        call.trace("decision", "ims-as", "ims-as", f"the audio of the two goes through us: {cause}")
        call.handover = AnchoredHandover(call, self._to)
        call.handover.start()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # ---------------------------------------------------------------- the callee's dialog

    async def receive_callee(self, event: SessionEvent | None) -> None:
        """An event of the leg to the human; None: time to try the join again."""
        join = self._call.join
        if self.is_joined and event is not None and join is not None and join.far.session is self._callee:
            await join.receive(join.far, event)
            return
        if not self.is_pending:
            return
        match event:
            case None:
                await self._try_join()
            case Provisional(response=response):
                self._receive_progress(response.status, event.body, event.to_tag)
            case EarlyDialogEnded(to_tag=tag) if tag == self._heard and self.state is HandoverState.CALLING:
                self._stop_early_media()
            case UpdateReceived(request=request):
                self._receive_update(event.body, request.from_tag or "")
            case Answered() if self._callee is not None:
                self._stop_timer()
                self._tell("answered")
                self._answer = event.body or self._callee.remote_body
                self._join_until = self._call.context.now() + JOIN_DEADLINE_S
                await self._try_join()
            case Rejected(status=status) if status in MISFIT:
                self._misfit(f"{status}")
            case Rejected(status=status):
                self._fail(f"{status}")
            case ReinviteAnswered() if self.state is HandoverState.ADJUSTING:
                await self._joined()
            case ReinviteRejected(status=status):
                self._abandon(f"the callee refused the caller's media: {status}")
            case ReinviteReceived() if self._callee is not None:
                self._callee.reject_reinvite(491)
            case Ended(by=by, reason=reason):
                self._fail(f"the callee left while being joined: {reason or by}")

    def _receive_progress(self, status: int, body: bytes, tag: str | None) -> None:
        if self.state is not HandoverState.CALLING:
            return
        if status >= 180 and status != 199 and not self._has_rung:
            self._has_rung = True
            self._tell("ringing")
        if body and self._may_relay_early and not self._caller_has:
            self._heard = tag
            self._send_to_caller(body)

    def _stop_early_media(self) -> None:
        """The telephone that the caller hears is out of it (199); others may still ring."""
        call = self._call
        self._heard = None
        if self._caller_has:
            self._caller_has = b""
            if call.join is not None:
                call.join.take_back(has_moved=True)
            elif call.leg is not None:
                call.offers.reclaim()

    def _receive_update(self, offer: bytes, tag: str) -> None:
        """The callee changes its early dialog, as a rule when its resources are there; the caller is not bothered."""
        callee, caller = self._callee, self._call.session
        assert callee is not None
        assert caller is not None
        if self.state is not HandoverState.CALLING:
            callee.reject_update(491, to_tag=tag)
            return
        try:
            answer = answer_for_untrusted(offer, caller.remote_body, self._to_callee)
        except SdpError:
            callee.reject_update(488, to_tag=tag)
            return
        callee.accept_update(answer.to_bytes(), to_tag=tag)

    # ---------------------------------------------------------------- joining

    async def _try_join(self) -> None:
        """The callee has answered; an exchange with the caller that is under way is waited for."""
        call = self._call
        if not self.is_pending or call.session is None:
            return
        self.state = HandoverState.JOINING
        try:
            if self._caller_has and same_target(self._caller_has, self._answer):
                if self._caller_answer is not None:
                    await self._adjust_callee(self._caller_answer)
                return  # else the answer is on its way
        except SdpError as error:
            self._abandon(f"no join: {error}")
            return
        self._send_to_caller(self._answer)

    def _send_to_caller(self, description: bytes) -> None:
        """Offers the callee's description to the caller."""
        call = self._call
        assert call.session is not None
        try:
            call.session.reinvite(call.description.relay_untrusted(description))
        except SdpError as error:
            if self.state is HandoverState.JOINING:
                self._abandon(f"no join: {error}")
        except LocalProtocolError as error:
            if self.state is not HandoverState.JOINING:
                return  # early media is missed, no more
            now = call.context.now()
            if call.session.is_terminated or now >= self._join_until:
                self._abandon(f"no join: {error}")
                return
            call.post_later(JOIN_RETRY_S, "callee", (self, None))
        else:
            self._caller_has, self._caller_answer = description, None

    async def receive_caller(self, event: SessionEvent) -> None:
        """Events of the caller's dialog that belong to the join."""
        match event:
            case ReinviteAnswered():
                self._caller_answer = event.body
                if self.state is HandoverState.JOINING:
                    await self._caller_joined(event.body)
            case ReinviteRejected(status=status):
                self._call.description.forget_relayed()
                self._caller_has, self._may_relay_early = b"", False
                if self.state is HandoverState.JOINING:
                    self._abandon(f"the caller refused the new media: {status}")
            case ReinviteReceived() if self._call.session is not None:
                self._call.session.reject_reinvite(491)
            case UpdateReceived() if self._call.session is not None:
                self._call.session.reject_update(491)

    async def _caller_joined(self, answer: bytes) -> None:
        try:
            if not same_target(self._caller_has, self._answer):  # that was early media of another phone
                self._send_to_caller(self._answer)
                return
        except SdpError as error:
            self._abandon(f"no join: {error}")
            return
        await self._adjust_callee(answer)

    async def _adjust_callee(self, answer: bytes) -> None:
        assert self._callee is not None
        try:
            if same_target(answer, self._offered):
                await self._joined()
                return
            self._callee.reinvite(relay_untrusted(answer, self._to_callee).to_bytes())
        except (SdpError, LocalProtocolError) as error:
            self._abandon(f"no join: {error}")
            return
        self.state = HandoverState.ADJUSTING

    async def _joined(self) -> None:
        call, callee = self._call, self._callee
        if not self.is_pending or callee is None or call.session is None:
            return
        self.state, self.is_pending = HandoverState.JOINED, False
        call.record.state = CallState.JOINED
        record = call.record.transfer
        assert record is not None
        record |= {"state": "joined", "joined_at": call.context.wall()}
        call.trace("decision", "ims-as", "ims-as", "caller and callee talk directly")
        if self._referral is not None:
            self._referral.notify(200)
        near = Side(call.party, call.session, call.description.relay_untrusted)
        far = Side("callee", callee, lambda body: relay_untrusted(body, self._to_callee).to_bytes())
        call.set_join(Join(call, near, far))
        await call.release_media("transferred")
        record["released_at"] = call.context.wall()
        call.context.metrics.transfers.labels("joined").inc()

    def close(self) -> None:
        """The call is over: the callee's leg ends too."""
        self._stop_timer()
        if self._referral is not None:
            self._referral.close()
        if self._callee is not None:
            self._callee.bye()
