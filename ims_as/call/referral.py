"""A party refers the other side of its call to somebody else (RFC 3515, RFC 5589).

While the caller talks to the agent, the agent is the transferee: it calls the target, with the ``Replaces`` of an
attended transfer, and goes on with whoever answers.  After a join the human may refer the caller, and then the caller
is handed on by a `Handover`; a REFER of the caller goes through to the human's phone.  Either way the target must be
one that the call may reach, and the referrer is told the outcome by NOTIFY unless it asked for none (RFC 4488).
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Final

from ims_as.call.bypass import BYPASS_HEADER
from ims_as.call.media_description import CallDescription, stream_config
from ims_as.call.target_policy import core_route, limit_reached, may_reach
from ims_as.call.transfer_attempt import TransferAttempt
from ims_as.media_client import MediaError
from ims_as.sip.errors import SdpError, SipParseError
from ims_as.sip.invite_session import (
    Answered,
    Ended,
    InviteSession,
    Provisional,
    Rejected,
    RequestReceived,
    SessionEvent,
    UpdateReceived,
)
from ims_as.sip.message import Request
from ims_as.sip.refer import ReferReceiver
from ims_as.sip.timers import TimerHandle

if TYPE_CHECKING:
    from ims_as.call.agent_call import AgentCall

__all__ = ["AgentMove", "accept_refer", "referral_headers"]

RING_DEADLINE_S: Final = 60.0
MAX_FORKS: Final = 16


def accept_refer(call: AgentCall, session: InviteSession, event: RequestReceived) -> ReferReceiver | None:
    """Answers a REFER at once; the referral to carry out, None when it was refused."""
    try:
        receiver = ReferReceiver(session, event)
    except SipParseError as error:
        session.respond(event, error.status_hint)
        return None
    uri = receiver.target.uri
    if receiver.target.method != "INVITE":
        status = 603  # RFC 3515 §2.4.2: nothing but calls is made for others here
    elif not may_reach(call, uri):
        status = 403
    elif call.handover is not None and call.handover.is_pending:
        status = 491
    elif core_route(call) is None:
        status = 503
    else:
        call.trace("decision", "ims-as", "ims-as", f"referred to {uri}")
        receiver.accept()
        return receiver
    call.trace("decision", "ims-as", "ims-as", f"REFER refused: {status}", uri)
    receiver.reject(status)
    return None


def referral_headers(receiver: ReferReceiver) -> list[tuple[str, str]]:
    """What the INVITE to the target has because of the REFER."""
    target = receiver.target
    headers = list(target.headers)
    if target.replaces is not None:
        headers += [("Replaces", target.replaces), ("Require", "replaces")]
    if receiver.referred_by is not None:
        headers.append(("Referred-By", str(receiver.referred_by)))
    return headers


class AgentMove(TransferAttempt):
    """The agent calls whom the caller referred it to, and goes on with that party when it answers."""

    def __init__(self, call: AgentCall, receiver: ReferReceiver) -> None:
        self._call = call
        self._receiver = receiver
        self._session: InviteSession | None = None
        self._description: CallDescription | None = None
        self._early: dict[str, CallDescription] = {}
        """Our offer as each early dialog has answered it, by To tag."""
        self._timer: TimerHandle | None = None
        self._description_in_force: CallDescription | None = None

    def start(self) -> None:
        """Calls the target."""
        call, context = self._call, self._call.context
        leg, route = call.leg, core_route(call)
        if leg is None or route is None:
            self._fail(503)
            return
        if limit_reached(call) is not None:
            self._fail(603)
            return
        uri = self._receiver.target.uri
        call.record.transfer = {"target": uri, "reason": "referred by the caller", "started_at": context.wall()}
        self._description = CallDescription(
            context.config.media.address, int(context.wall() * 1000), context.codecs, context.srtp
        )
        self._description.bind(leg.host, leg.port)
        call_id = context.endpoint.new_call_id()
        call.record.outgoing_call_id = call_id
        context.directory.add_leg(call.record, call_id)
        token = context.bypass.issue(uri, context.endpoint.new_branch(), now=context.wall())
        self._session = context.user_agent.invite(
            uri=uri,
            from_=f"<{call.served.uri}>",
            to=f"<{uri}>",
            route=[route],
            headers=[
                ("P-Asserted-Identity", f"<{call.served.uri}>"),
                (BYPASS_HEADER, token),
                *context.headers.dialog_headers(call.request),
                *referral_headers(self._receiver),
            ],
            body=self._description.offer(),
            on_event=self._on_event,
            call_id=call_id,
        )
        self._timer = context.endpoint.call_at(context.now() + RING_DEADLINE_S, self._session.cancel)

    def _on_event(self, session: InviteSession, event: SessionEvent) -> None:
        if self._call.session is session:
            self._call.on_caller(session, event)
        elif isinstance(event, RequestReceived):
            return  # the session answers it
        else:
            self._call.post("callee", (self, event))

    async def receive_callee(self, event: SessionEvent) -> None:
        """An event of the leg to the target."""
        if not self.is_pending:
            # it came while the answer was being taken: the target may have hung up already
            if self._session is not None and self._call.session is self._session:
                self._call.post("caller", event)
            return
        match event:
            case Provisional(response=response):
                self._receiver.notify(response.status, response.reason)
                if event.body and event.is_reliable:
                    self._take_early(event.to_tag or "", event.body)
            case UpdateReceived(request=request):
                self._receive_update(event.body, request.from_tag or "")
            case Answered(response=response):
                await self._answered(response.to_tag or "", event.body)
            case Rejected(status=status):
                self._fail(status)
            case Ended():
                self._fail(487)

    def _take_early(self, tag: str, answer: bytes) -> None:
        if tag in self._early or len(self._early) >= MAX_FORKS:
            return
        description = copy.deepcopy(self._description)
        assert description is not None
        try:
            description.take_answer_untrusted(answer)
        except SdpError as error:
            self._call.trace("decision", "ims-as", "ims-as", "the target's early answer cannot be used", str(error))
            return
        self._early[tag] = description

    def _receive_update(self, offer: bytes, tag: str) -> None:
        """In an early dialog: what is agreed is applied with the answer."""
        assert self._session is not None
        description = self._early.get(tag)
        try:
            if description is None:
                raise SdpError("nothing was agreed")
            answer = description.answer_untrusted(offer)
        except SdpError:
            self._session.reject_update(488, to_tag=tag)
            return
        self._session.accept_update(answer, to_tag=tag)

    async def _answered(self, tag: str, answer: bytes) -> None:
        call = self._call
        description = self._description_in_force = self._early.get(tag, self._description)
        assert description is not None
        assert self._session is not None
        if call.leg is None and not call.recovery.is_pending:
            self._session.bye()
            self._fail(503)
            return
        try:
            stream = description.stream
            if description.is_offering or stream is None:
                stream = description.take_answer_untrusted(answer or self._session.remote_body)
            if call.leg is not None:
                await call.leg.modify(stream_config(stream))
        except (SdpError, MediaError) as error:
            if isinstance(error, MediaError) and error.is_lost:
                self._moved()
                return
            call.trace("decision", "ims-as", "ims-as", "the target's answer cannot be used", str(error))
            self._session.bye(headers=[("Reason", "SIP;cause=488")])
            self._fail(488)
            return
        self._moved()

    def _moved(self) -> None:
        """The agent talks to the target from now on."""
        call, session, description = self._call, self._session, self._description_in_force
        assert session is not None
        assert description is not None
        self.is_pending = False
        self._stop_timer()
        uri = self._receiver.target.uri
        call.record.transfer = (call.record.transfer or {}) | {"state": "moved", "moved_at": call.context.wall()}
        self._receiver.notify(200)
        call.change_party(session, description, uri, "refer", invite=_invite_of(uri, session.request))

    def _fail(self, status: int) -> None:
        call = self._call
        self.is_pending = False
        self._stop_timer()
        self._receiver.notify(status)
        if call.record.transfer is not None:
            call.record.transfer |= {"state": "failed", "cause": str(status), "failed_at": call.context.wall()}
        call.trace("decision", "ims-as", "ims-as", f"the agent stays: {status}")

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def close(self) -> None:
        """The call is over."""
        self._stop_timer()
        self._receiver.close()
        if self._session is not None:
            self._session.bye()


def _invite_of(uri: str, ours: Request) -> Request:
    """What is known of the target, as an INVITE of its own would say it."""
    request = ours.copy()
    for name in ("P-Served-User", "Replaces", "Require", "Referred-By", BYPASS_HEADER):
        request.headers.remove(name)
    request.headers.set("From", f"<{uri}>")
    request.headers.set("P-Asserted-Identity", f"<{uri}>")
    return request
