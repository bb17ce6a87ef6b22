"""An agent calls somebody: the originating user agent (TS 23.218 §9.1.1.2, TS 24.229 §5.7.3).

The port is bound and the engine connected before anybody's telephone rings.  Until the callee answers the engine hears
what comes as early media and is told how far the call is; what it says is kept until then.  Several callees may answer
early (forks): each early dialog has an exchange of its own over our one offer, and the one that answers wins.

After the answer everything is as in a call that came in.
"""

from __future__ import annotations

import copy
from typing import Any, Final

import attrs

from ims_as.call.agent_call import API_HANGUP, AgentCall
from ims_as.call.bypass import BYPASS_HEADER
from ims_as.call.call_quality import start_watching
from ims_as.call.call_setup import note_profile
from ims_as.call.context import CallContext, new_call_id
from ims_as.call.dtmf_info import INFO_PACKAGES
from ims_as.call.duration import limit_duration
from ims_as.call.engine_chain import EngineChain
from ims_as.call.media_description import CallDescription, stream_config
from ims_as.call.order import CallOrder
from ims_as.call.originate import NoWayError, Way, call_by, find_way, note_session_id
from ims_as.call.record import CallRecord, CallState
from ims_as.errors import Result, Termination
from ims_as.isc.routing import IscRoute
from ims_as.isc.served_user import ServedUser
from ims_as.isc.session_case import SessionCase
from ims_as.isc.session_id import SessionEnd
from ims_as.media_client import MediaError
from ims_as.sip.body import sdp_of
from ims_as.sip.errors import LocalProtocolError, SdpError
from ims_as.sip.invite_session import (
    Answered,
    EarlyDialogEnded,
    Provisional,
    Rejected,
    SessionEvent,
    UpdateReceived,
)
from ims_as.sip.message import Request, Response
from ims_as.sip.timers import TimerHandle

__all__ = ["OutboundCall", "outcome_of"]

RING_TIMEOUT: Final = "ring-timeout"
MAX_EARLY_DIALOGS: Final = 16

_OUTCOMES: Final = {
    **dict.fromkeys((486, 600), "busy"),
    **dict.fromkeys((408, 480, 487), "no-answer"),
    **dict.fromkeys((403, 603, 607, 608), "declined"),
    **dict.fromkeys((404, 410, 416, 484, 485, 604), "unknown-number"),
}
_OF_THE_CALLEE: Final = frozenset({480, 486, 600, 603, 607})


def outcome_of(status: int) -> str:
    """One word for a final response other than 2xx."""
    if status in _OUTCOMES:
        return _OUTCOMES[status]
    return "redirected" if status < 400 else "refused" if status < 500 else "network-failure"


class OutboundCall(AgentCall):
    """A call by an agent.  ``session`` is the dialog with the callee."""

    party = "callee"

    def __init__(self, context: CallContext, order: CallOrder, record: CallRecord) -> None:
        addresses = [("From", f"<{order.identity}>"), ("To", f"<{order.to}>"), ("Call-ID", record.sip_call_id)]
        served = ServedUser(order.identity, SessionCase.ORIGINATING_REGISTERED, None, "order")
        request = Request("INVITE", order.to, addresses)
        super().__init__(context, request, None, record, served, IscRoute(None, ()))
        self.agent_name = record.agent = order.agent
        self.agent = context.config.agents[order.agent]
        self.application_data = order.data
        self._order = order
        self._offered = self.description
        """Our offer, unanswered: each early dialog answers a copy."""
        self._early: dict[str, CallDescription] = {}
        self._settled: set[str] = set()
        """To tags whose answer came reliably."""
        self._ring_timer: TimerHandle | None = None
        self._told: set[str] = set()
        self._way: Way | None = None

    @property
    def party_request(self) -> Request:
        request = self.request.copy()
        for name in ("P-Served-User", BYPASS_HEADER, *(name for name, _ in self._order.headers)):
            request.headers.remove(name)
        request.headers.set("From", f"<{self._order.to}>")
        request.headers.set("P-Asserted-Identity", f"<{self._order.to}>")
        return request

    # ---------------------------------------------------------------- set-up

    async def _set_up(self) -> bool:
        context = self.context
        self.record.icid = new_call_id()
        order = self._order
        try:
            way = self._way = await find_way(
                context,
                to=order.to,
                identity=order.identity,
                is_served_user=order.is_served_user,
                icid=self.record.icid,
                session_id=SessionEnd(self.record.id),
            )
        except NoWayError as error:
            self.trace("decision", "ims-as", "ims-as", f"no way into the core: {error}")
            self.end(Termination(Result.UNANSWERED, "ims-as", "no-core-route", None))
            return False
        self.profile = way.profile
        note_profile(self)
        self.route = IscRoute(None, way.route)
        assert self.agent is not None
        self.engines = EngineChain(self, self.agent.engines)
        deadline = context.now() + context.config.sip.answer_budget_ms / 1000
        try:
            await self.engines.open(self._offered.preview_untrusted(b""), deadline=deadline)
        except MediaError as error:
            self.end(Termination(Result.UNANSWERED, "ims-as", error.code, 503))
            return False
        assert self.leg is not None
        self._offered.bind(self.leg.host, self.leg.port)
        self._invite(way)
        return self.session is not None

    def _invite(self, way: Way) -> None:
        context, order, record = self.context, self._order, self.record
        self.trace("decision", "ims-as", "ims-as", f"calls {order.to} as {order.identity}")
        try:
            self.session = call_by(
                context,
                way,
                order.to,
                body=self._offered.offer(),
                headers=[("Recv-Info", ", ".join(INFO_PACKAGES)), *order.headers],
                on_event=self.on_caller,
                call_id=record.sip_call_id,
            )
        except LocalProtocolError as error:
            self.trace("decision", "ims-as", "ims-as", f"not sent: {error}")
            self.end(Termination(Result.UNANSWERED, "ims-as", "bad-request", None))
            return
        self.request = self.session.request
        record.state = CallState.CALLING
        self._tell("trying")
        when = context.now() + order.ring_timeout_s
        self._ring_timer = context.endpoint.call_at(when, lambda: self.shut_down(RING_TIMEOUT))

    # ---------------------------------------------------------------- until the answer

    async def _receive_caller(self, event: SessionEvent) -> None:
        match event:
            case Provisional(response=response) if self.is_ringing:
                await self._receive_progress(response)
            case Answered(response=response) if self.is_ringing:
                await self._receive_answer(response)
            case Rejected(status=status) if self.is_ringing:
                by = "callee" if status in _OF_THE_CALLEE else "network"
                self.end(Termination(Result.UNANSWERED, by, outcome_of(status), status))
            case UpdateReceived(request=request) if self.is_ringing:
                self.description = self._early.get(request.from_tag or "", self.description)
                await super()._receive_caller(event)
            case EarlyDialogEnded(to_tag=tag) if self.is_ringing:
                self._early.pop(tag, None)
            case _:
                await super()._receive_caller(event)

    async def _receive_progress(self, response: Response) -> None:
        if response.status == 180 and self.record.ringing_at is None:
            self.record.ringing_at = self.context.wall()
            self.record.state = CallState.RINGING
        if response.status == 180:
            self._tell("ringing")
        description = self._answer_of(response)
        if description is None or description.stream is None or self.leg is None:
            return
        self.description = description
        early = attrs.evolve(stream_config(description.stream, send=False), timeout_ms=0)
        try:
            await self.leg.modify(early)
        except MediaError:
            return  # only early media is missing
        self._tell("early-media")

    def _answer_of(self, response: Response) -> CallDescription | None:
        """The exchange of the response's dialog after it; None when there is no usable answer in it.

        The first answer counts if it came reliably (RFC 3261 §13.2.1); else the last, for it was only a preview.
        """
        tag, body = response.to_tag or "", sdp_of(response)
        known = self._early.get(tag)
        if not body or tag in self._settled:
            return known
        if known is None and len(self._early) >= MAX_EARLY_DIALOGS and response.status < 200:
            return None
        description = copy.deepcopy(self._offered)
        try:
            description.take_answer_untrusted(body)
        except SdpError as error:
            self.trace("decision", "ims-as", "ims-as", "the callee's answer cannot be used", str(error))
            return known if response.status < 200 else None
        self._early[tag] = description
        if "RSeq" in response.headers:
            self._settled.add(tag)
        return description

    async def _receive_answer(self, response: Response) -> None:
        record, context = self.record, self.context
        self._stop_ringing()
        if self._way is not None and self.session is not None:
            note_session_id(self._way, self.session, response)
        record.answered_at = context.wall()
        context.metrics.ring_seconds.observe(record.answered_at - record.received_at)
        description = self._answer_of(response)
        if description is None or description.stream is None or (self.leg is None and not self.recovery.is_pending):
            self.hang_up(Termination(Result.FAILED, "callee", "answer-unusable", 488))
            return
        self.description = description
        try:
            if self.leg is not None:
                await self.leg.modify(stream_config(description.stream))
        except MediaError as error:
            if not error.is_lost:
                self.hang_up(Termination(Result.FAILED, "ims-as", error.code, None))
                return
        if record.state is not CallState.FILLING:
            record.state = CallState.TALKING
        limit_duration(self)
        start_watching(self)
        self._tell("answered")
        self.recovery.tell_party()
        self.recording.answered()

    def _tell(self, state: str) -> None:
        """Each step once, however many phones ring."""
        if state in self._told:
            return
        self._told.add(state)
        if self.leg is not None:
            self.leg.tell_engine({"event": "progress", "state": state})

    # ---------------------------------------------------------------- ends

    def hand_over(self, target: str, reason: str, handover_data: Any, *, by_agent: bool = True) -> None:
        if not self.is_ringing:
            super().hand_over(target, reason, handover_data, by_agent=by_agent)
        elif by_agent:
            self.handover_failed("not answered yet")
        else:
            self.hang_up(Termination(Result.UNANSWERED, "engine", "engine-lost", None))

    def _local_termination(self, reason: str) -> Termination:
        if not self.is_ringing:
            return super()._local_termination(reason)
        if reason == RING_TIMEOUT:
            return Termination(Result.UNANSWERED, "callee", "no-answer", 408)
        if reason == API_HANGUP:
            return Termination(Result.CANCELLED, "api", "hangup", None)
        return Termination(Result.UNANSWERED, "ims-as", reason, None)

    def _stop_ringing(self) -> None:
        if self._ring_timer is not None:
            self._ring_timer.cancel()
            self._ring_timer = None

    async def close(self) -> None:
        self._stop_ringing()
        await super().close()
        termination = self.record.termination
        if termination is not None:
            answered = self.record.answered_at is not None
            self.context.metrics.outbound_calls.labels("answered" if answered else termination.reason).inc()
