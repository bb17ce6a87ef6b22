"""Handing the caller to a human in mid-call: third-party call control (RFC 3725, in the form of its flow I).

After the answer the original dialog identifier is dead, so the human is called by a **new** INVITE towards the core,
which carries our bypass token; when the filter criteria bring it back, it is passed on to legacy termination.

1. INVITE to the human offers the caller's own session description.
2. The human answers; the answer goes to the caller as the offer of a re-INVITE.
3. Where the caller's answer differs from what the human was offered, the human gets it in a re-INVITE.
4. Both now send to each other.  The engine is told ``stop``, our port and its socket are closed.

From then on we are a routeing B2BUA of signalling alone: offers are relayed, a BYE of one ends the other.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import TYPE_CHECKING, Any

from ims_as.call.bypass import BYPASS_HEADER
from ims_as.call.record import CallState
from ims_as.call.sdp_relay import SdpRelay, media_target
from ims_as.call.session_data import handover_headers
from ims_as.errors import Result, Termination
from ims_as.isc.history_info import diversion_count
from ims_as.sip.errors import LocalProtocolError, SdpError
from ims_as.sip.invite_session import (
    Answered,
    Ended,
    InviteSession,
    Provisional,
    ReinviteAnswered,
    ReinviteReceived,
    ReinviteRejected,
    Rejected,
    SessionEvent,
)
from ims_as.sip.message import Request
from ims_as.sip.sdp import parse_sdp_untrusted

if TYPE_CHECKING:
    from ims_as.call.agent_call import AgentCall

__all__ = ["Handover", "HandoverState"]

RING_DEADLINE_S = 60.0
"""A human who has not answered by then is taken as absent."""


class HandoverState(Enum):
    CALLING = "calling"
    JOINING = "joining"
    """The caller has been sent the human's description."""
    ADJUSTING = "adjusting"
    """The human has been sent the caller's changed description."""
    JOINED = "joined"
    FAILED = "failed"


class Handover:
    """The callee's leg and the join.  Driven by the call's own inbox, so nothing in here runs concurrently."""

    def __init__(self, call: AgentCall, target: str, reason: str, handover_data: Any, *, by_agent: bool) -> None:
        self._call = call
        self._target = target
        self._reason = reason
        self._data = handover_data
        self._by_agent = by_agent
        self.state = HandoverState.CALLING
        self._callee: InviteSession | None = None
        self._offered = b""
        config = call.context.config
        session_id = str(int(call.record.received_at * 1000))
        self._to_callee = SdpRelay("-", session_id, config.media.address)
        # the caller already knows version 1 of ours: what follows must be higher
        self._to_caller = SdpRelay("-", session_id, config.media.address, version=call.description.version)
        self._timer: Any = None

    @property
    def is_joined(self) -> bool:
        return self.state is HandoverState.JOINED

    @property
    def has_failed(self) -> bool:
        return self.state is HandoverState.FAILED

    @property
    def takes_offers(self) -> bool:
        return self.state in (HandoverState.JOINING, HandoverState.ADJUSTING, HandoverState.JOINED)

    # ---------------------------------------------------------------- calling

    def start(self) -> None:
        call = self._call
        uri = self._resolve_target()
        started = call.context.wall()
        call.record.transfer = {
            "target": uri or self._target,
            "reason": self._reason,
            "started_at": started,
            "data": self._data,
        }
        if uri is None:
            self._fail("target not allowed")
            return
        diverted_to = None if self._target == "served-user" else uri
        if diverted_to is not None and diversion_count(call.request) >= call.context.config.sip.max_diversions:
            self._fail("diverted too often")
            return
        route = self._core_route()
        if route is None:
            self._fail("no way into the core")
            return
        context = call.context
        assert call.session is not None
        try:
            self._offered = self._to_callee.rewrite_untrusted(call.session.remote_body)
        except SdpError as error:
            self._fail(str(error))
            return
        token = context.bypass.issue(uri, context.endpoint.new_branch(), now=context.wall())
        reason = self._reason if not isinstance(self._data, dict) else str(self._data.get("reason", self._reason))
        headers = [
            *context.headers.copy_for_new_leg(call.party_request, diverted_to),
            (BYPASS_HEADER, token),
            *handover_headers(call.record.id, reason, api_base=context.api_base),
        ]
        self._tell("trying")
        call_id = context.endpoint.new_call_id()
        call.record.outgoing_call_id = call_id
        context.directory.add_leg(call.record, call_id)  # first, so that the INVITE itself is in the trail
        self._callee = context.user_agent.invite(
            uri=uri,
            from_=str(call.party_request.from_),
            to=f"<{uri}>",
            route=[route],
            headers=headers,
            body=self._offered,
            on_event=self._on_callee,
            call_id=call_id,
        )
        call.trace("decision", "ims-as", "ims-as", f"calls {uri}: {self._reason}")
        self._timer = context.endpoint.call_at(context.now() + RING_DEADLINE_S, self._ring_timeout)

    def _resolve_target(self) -> str | None:
        """The URI to call, None when the agent may not reach it."""
        call = self._call
        assert call.agent is not None
        transfer = call.agent.transfer
        if self._target == "served-user":
            allowed = not self._by_agent or "served-user" in transfer.allow
            return call.served.uri if allowed else None
        if self._target == "queue":
            allowed = not self._by_agent or "queue" in transfer.allow
            return transfer.queue if allowed else None
        for pattern in transfer.allow:
            if pattern not in ("served-user", "queue") and re.fullmatch(pattern, self._target):
                return self._target
        return None

    def _core_route(self) -> str | None:
        """The S-CSCF that sent us the call (the host of its original dialog identifier), without that identifier."""
        call = self._call
        if call.route.rest:
            uri = call.route.rest[0].split("<", 1)[-1].split(">", 1)[0]
            hostport = uri.split(":", 1)[-1].split(";", 1)[0].rsplit("@", 1)[-1]
            transport = re.search(r";transport=\w+", uri)
            return f"<sip:{hostport}{transport.group(0) if transport else ''};lr>"
        if call.profile.scscf_name:
            return f"<{call.profile.scscf_name};lr>"
        return None

    def _ring_timeout(self) -> None:
        if self.state is HandoverState.CALLING and self._callee is not None:
            self._callee.cancel()

    def _on_callee(self, session: InviteSession, event: SessionEvent) -> None:
        self._call.post("callee", event)

    def _tell(self, state: str, cause: str | None = None) -> None:
        call = self._call
        record = call.record.transfer
        if record is not None:
            record["state"] = state
            record[f"{state}_at"] = call.context.wall()
        if call.leg is not None and not call.engine_lost:
            event = {"event": "transfer", "state": state}
            call.leg.tell_engine(event if cause is None else {**event, "cause": cause})

    def _fail(self, cause: str) -> None:
        call = self._call
        self.state = HandoverState.FAILED
        self._stop_timer()
        if call.record.transfer is not None:
            call.record.transfer |= {"state": "failed", "cause": cause, "failed_at": call.context.wall()}
        call.context.metrics.transfers.labels("failed").inc()
        call.context.log.event("TRANSFER_FAILED", call_id=call.record.id, cause=cause)
        call.trace("decision", "ims-as", "ims-as", f"handover failed: {cause}")
        call.handover_failed(cause)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # ---------------------------------------------------------------- events

    async def receive_callee(self, event: SessionEvent) -> None:
        match event:
            case Provisional(response=response) if self.state is HandoverState.CALLING and response.status >= 180:
                self._tell("ringing")
            case Answered(response=response):
                self._stop_timer()
                self._join(response.body)
            case Rejected(status=status):
                if self.state is not HandoverState.FAILED:
                    self._fail(f"{status}")
            case ReinviteAnswered(response=response):
                await self._callee_reinvited(response.body)
            case ReinviteRejected(status=status):
                self._callee_refused(status)
            case ReinviteReceived(request=request):
                self._relay_offer(request, from_caller=False)
            case Ended(by=by, reason=reason):
                self._callee_ended(by, reason)

    def _join(self, answer: bytes) -> None:
        call = self._call
        assert call.session is not None
        self._tell("answered")
        try:
            body = self._to_caller.rewrite_untrusted(answer)
            call.session.reinvite(body)
        except (SdpError, LocalProtocolError) as error:
            self._abandon(f"no join: {error}")
            return
        self.state = HandoverState.JOINING

    def _abandon(self, cause: str) -> None:
        if self._callee is not None and not self._callee.is_terminated:
            self._callee.bye()
        self._fail(cause)

    async def receive_caller(self, event: SessionEvent) -> None:
        """Events of the caller's dialog that belong to the join or to a relayed offer."""
        match event:
            case ReinviteAnswered(response=response) if self.state is HandoverState.JOINING:
                await self._caller_joined(response.body)
            case ReinviteRejected(status=status) if self.state is HandoverState.JOINING:
                self._abandon(f"the caller refused the new media: {status}")
            case ReinviteAnswered(response=response) if self._callee is not None:
                self._accept(self._callee, self._to_callee, response.body)
            case ReinviteRejected(status=status) if self._callee is not None:
                self._callee.reject_reinvite(status)

    async def _caller_joined(self, answer: bytes) -> None:
        assert self._callee is not None
        try:
            same = media_target(parse_sdp_untrusted(answer)) == media_target(parse_sdp_untrusted(self._offered))
            if same:
                await self._joined()
                return
            self._callee.reinvite(self._to_callee.rewrite_untrusted(answer))
        except (SdpError, LocalProtocolError) as error:
            self._abandon(f"no join: {error}")
            return
        self.state = HandoverState.ADJUSTING

    async def _callee_reinvited(self, answer: bytes) -> None:
        if self.state is HandoverState.ADJUSTING:
            await self._joined()
        elif self._call.session is not None:
            self._accept(self._call.session, self._to_caller, answer)

    def _callee_refused(self, status: int) -> None:
        if self.state is HandoverState.ADJUSTING:
            self._abandon(f"the callee refused the caller's media: {status}")
        elif self._call.session is not None:
            self._call.session.reject_reinvite(status)

    async def _joined(self) -> None:
        call = self._call
        self.state = HandoverState.JOINED
        call.record.state = CallState.JOINED
        record = call.record.transfer
        assert record is not None
        record |= {"state": "joined", "joined_at": call.context.wall()}
        call.trace("decision", "ims-as", "ims-as", "caller and callee talk directly")
        await call.release_media("transferred")
        record["released_at"] = call.context.wall()
        call.context.metrics.transfers.labels("joined").inc()

    # ---------------------------------------------------------------- after the join

    def relay_caller_offer(self, request: Request) -> None:
        self._relay_offer(request, from_caller=True)

    def _relay_offer(self, request: Request, *, from_caller: bool) -> None:
        caller, callee = self._call.session, self._callee
        assert caller is not None
        assert callee is not None
        near, far = (caller, callee) if from_caller else (callee, caller)
        relay = self._to_callee if from_caller else self._to_caller
        if self.state is not HandoverState.JOINED:
            near.reject_reinvite(491)
            return
        if not request.body:  # an offer is asked for: what was agreed
            near.accept_reinvite(near.local_body)
            return
        try:
            far.reinvite(relay.rewrite_untrusted(request.body))
        except SdpError:
            near.reject_reinvite(488)
        except LocalProtocolError:
            near.reject_reinvite(491)

    @staticmethod
    def _accept(session: InviteSession, relay: SdpRelay, body: bytes) -> None:
        try:
            session.accept_reinvite(relay.rewrite_untrusted(body))
        except SdpError:
            session.reject_reinvite(488)

    def _callee_ended(self, by: str, reason: str) -> None:
        if self.state is HandoverState.JOINED:
            call = self._call
            who = "served-user" if by == "remote" else "ims-as"
            call.hang_up(Termination(Result.TRANSFERRED, who, "bye", None))
        elif self.state is not HandoverState.FAILED:
            self._fail(f"the callee left while being joined: {reason or by}")

    def close(self) -> None:
        """The call is over: the callee's leg ends too."""
        self._stop_timer()
        callee = self._callee
        if callee is None or callee.is_terminated:
            return
        if self.state is HandoverState.CALLING:
            callee.cancel()
        else:
            callee.bye()
