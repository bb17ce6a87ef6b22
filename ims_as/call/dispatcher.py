"""What becomes of each request that starts something: the first decisions of a call's life.

In this order (design: the life of a call): Max-Forwards, our own bypass token, emergency and priority (these are passed
on and never anchored nor limited), then the agent call.  Overload was refused before, at the gate (`defence/gate.py`),
which asks `Dispatcher.is_exempt`.  Requests other than INVITE: `other_requests`.
"""

from __future__ import annotations

from ims_as.call.agent_call import AgentCall, caller_identity
from ims_as.call.b2bua import B2buaCall
from ims_as.call.bypass import BYPASS_HEADER
from ims_as.call.connect_call import ConnectCall
from ims_as.call.context import CallContext, new_call_id
from ims_as.call.failure import reason_header
from ims_as.call.other_requests import OtherRequests
from ims_as.call.passthrough import exempt_reason
from ims_as.call.record import CallRecord, CallState
from ims_as.call.routing import role_of
from ims_as.call.takeover import take_over
from ims_as.config_model import Role
from ims_as.defence.incoming_policy import IncomingAction, IncomingVerdict
from ims_as.errors import Result, Termination
from ims_as.isc.b2bua_headers import unsupported_tags
from ims_as.isc.charging import read_charging_vector_untrusted
from ims_as.isc.routing import IscRoute, split_route
from ims_as.isc.served_user import determine_served_user
from ims_as.sip.grammar import format_host
from ims_as.sip.invite_session import InviteSession
from ims_as.sip.message import Request, build_response
from ims_as.sip.option_tags import KNOWN_TO_SESSIONS
from ims_as.sip.transaction import ServerTransaction

__all__ = ["ALLOW", "SUPPORTED", "Dispatcher"]

ALLOW = "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, UPDATE, PRACK, REFER, NOTIFY, REGISTER"
SUPPORTED = (*KNOWN_TO_SESSIONS, "precondition", "replaces", "norefersub")
"""Option tags: what sessions do by themselves, and what the call logic does."""


class Dispatcher:
    """Hands each INVITE to a call, to the proxy or back."""

    def __init__(self, context: CallContext) -> None:
        self._context = context
        self._other = OtherRequests(context, self.readiness)

    # ---------------------------------------------------------------- INVITE

    def on_invite(self, request: Request, transaction: ServerTransaction) -> None:
        context = self._context
        if request.max_forwards == 0:
            self._respond(request, transaction, 483, [])
            context.metrics.calls.labels(Result.REJECTED.value, "max-forwards").inc()
            return
        if "Replaces" in request.headers and take_over(context, request, transaction):
            return
        exemption = self._exemption(request)
        record = self._new_record(request, transaction)
        route = split_route(request, context.is_own_uri)
        if exemption is not None:
            self._pass_on(request, transaction, record, exemption, has_route=bool(route.rest))
            return
        if "Replaces" in request.headers and route.rest:
            # of a dialog that we do not know: its owner is behind us
            self._pass_on(request, transaction, record, "replaces-elsewhere", has_route=True)
            return
        served = determine_served_user(request, is_own_uri=context.is_own_uri)
        record.served_user, record.session_case = served.uri, served.session_case.name.lower()
        record.trace.add("decision", "ims-as", "ims-as", f"served user {served.uri} by {served.source}")
        role = role_of(context.config, request, served, record)
        if role is Role.B2BUA and (unknown := unsupported_tags(request)):
            record.trace.add("decision", "ims-as", "ims-as", f"no B2BUA for {', '.join(unknown)[:200]}")
            role = Role.PASS_ON
        verdict = context.incoming.decide(record.from_uri, request.uri)
        if verdict.action is IncomingAction.REJECT:
            self._reject(request, transaction, record, verdict)
            return
        if verdict.action is IncomingAction.PASS_ON:
            record.trace.add("decision", "ims-as", "ims-as", f"not for an agent: {verdict.rule}")
            role = Role.PASS_ON
        match role:
            case Role.PASS_ON:
                self._pass_on(request, transaction, record, "routing", has_route=bool(route.rest))
            case Role.B2BUA:
                self._couple(request, transaction, record, route)
            case Role.AGENT:
                call = AgentCall(context, request, transaction, record, served, route)
                transaction.owner = call
                self.start(call)

    def _reject(
        self, request: Request, transaction: ServerTransaction, record: CallRecord, verdict: IncomingVerdict
    ) -> None:
        record.trace.add("decision", "ims-as", "ims-as", f"rejected with {verdict.status}: {verdict.rule}")
        self._respond(request, transaction, verdict.status, [reason_header("policy", "")])
        record.termination = Termination(Result.REJECTED, "ims-as", "policy", verdict.status)
        self._context.directory.add(record)
        self._finish(record)

    def _couple(self, request: Request, transaction: ServerTransaction, record: CallRecord, route: IscRoute) -> None:
        # whoever sent it to us by its Route meant us by the top entry, whatever name of ours is in it
        rest = route.rest if route.own is not None else route.rest[1:]
        if not rest:
            self._pass_on(request, transaction, record, "b2bua", has_route=False)
            return
        call = B2buaCall(self._context, request, transaction, record, rest, self._leave)
        self._enter(call)
        call.start()

    def start(self, call: AgentCall | ConnectCall) -> None:
        """Runs an admitted call in a task of its own; at its end the place is free and the call is recorded."""
        self._enter(call)
        assert self._context.tasks is not None
        self._context.tasks.start_soon(self._run, call)

    def _enter(self, call: AgentCall | ConnectCall | B2buaCall) -> None:
        context = self._context
        context.directory.add(call.record)
        context.calls.add(call)
        context.admission.hold(now=context.now())
        context.metrics.calls_active.inc()

    def _leave(self, call: AgentCall | ConnectCall | B2buaCall) -> None:
        context = self._context
        context.calls.discard(call)
        context.admission.release()
        context.outbound_limits.end(call.record.id)
        context.user_limits.end(call.record.id)
        context.metrics.calls_active.dec()
        self._finish(call.record)

    def _exemption(self, request: Request) -> str | None:
        """Why this INVITE is passed on, whatever our load: it is our own come back, or it is not for an agent."""
        return "own-transfer" if self._has_token(request, uses_up=True) else exempt_reason(request)

    def is_exempt(self, request: Request) -> bool:
        """Whether the INVITE is let in at any load; for the gate, which asks before a transaction is made."""
        if "Replaces" in request.headers and isinstance(self._context.user_agent.find_replaced(request), InviteSession):
            return True  # it takes a call over that is there already
        return self._has_token(request, uses_up=False) or exempt_reason(request) is not None

    def _has_token(self, request: Request, *, uses_up: bool) -> bool:
        token = request.headers.get(BYPASS_HEADER)
        if token is None:
            return False
        context = self._context
        return context.bypass.is_valid_untrusted(token.strip(), request.uri, now=context.wall(), uses_up=uses_up)

    async def _run(self, call: AgentCall | ConnectCall) -> None:
        try:
            await call.run()
        finally:
            self._leave(call)

    def _new_record(self, request: Request, transaction: ServerTransaction) -> CallRecord:
        context = self._context
        call_id = new_call_id()
        record = CallRecord(
            id=call_id,
            sip_call_id=request.call_id,
            from_uri=caller_identity(request),
            to_uri=request.uri,
            received_at=context.wall(),
            trace=context.traces.start(call_id, request.call_id),
        )
        # the trail begins with the INVITE; it came before the record that the endpoint's own events go to
        host, port = format_host(transaction.flow.remote[0]), transaction.flow.remote[1]
        record.trace.add_message("in", f"{host}:{port}", request.to_bytes(), at=record.received_at)
        charging = read_charging_vector_untrusted(request)
        if charging is not None:
            record.icid, record.orig_ioi = charging.icid, charging.orig_ioi or ""
        return record

    def _pass_on(
        self, request: Request, transaction: ServerTransaction, record: CallRecord, reason: str, *, has_route: bool
    ) -> None:
        if not has_route:
            self._respond(request, transaction, 503, [reason_header("no-route", reason)])
            record.termination = Termination(Result.REJECTED, "ims-as", f"{reason}-without-route", 503)
        else:
            record.trace.add("decision", "ims-as", "ims-as", f"passed on by its Route: {reason}")
            record.termination = Termination(Result.PASSED_ON, "ims-as", reason, None)
            self._context.metrics.passed_on.labels(reason).inc()
        self._context.directory.add(record)
        if has_route:
            self._context.proxy.forward(request, transaction)
        self._finish(record)

    def _finish(self, record: CallRecord) -> None:
        """Metrics, CDR and the directory: once for each INVITE."""
        context = self._context
        if record.ended_at is None:
            record.ended_at = context.wall()
        record.state = CallState.ENDED
        context.directory.end(record)
        context.traces.end(record.id)
        termination = record.termination
        assert termination is not None
        context.metrics.count_call(termination)
        if record.answered_at is not None:
            context.metrics.call_seconds.observe(record.ended_at - record.answered_at)
        context.log.event(
            "CALL_ENDED",
            call_id=record.id,
            sip_call_id=record.sip_call_id,
            result=termination.result.value,
            by=termination.by,
            reason=termination.reason,
            setup_ms=record.setup_ms,
        )
        context.write_cdr(record.fields())

    # ---------------------------------------------------------------- everything else

    def on_request(self, request: Request, transaction: ServerTransaction) -> None:
        """Out-of-dialog requests other than INVITE."""
        self._other.receive(request, transaction)

    def _respond(
        self, request: Request, transaction: ServerTransaction, status: int, headers: list[tuple[str, str]]
    ) -> None:
        self._context.endpoint.send_response(transaction, build_response(request, status, headers=headers))

    def readiness(self) -> tuple[bool, list[str]]:
        """Whether a call could be served now, and if not, why."""
        context = self._context
        reasons = []
        if context.admission.draining:
            reasons.append("draining")
        if context.admission.held >= context.admission.max_calls:
            reasons.append("call limit reached")
        if not context.media.is_ready:
            reasons.append("no media worker")
        usable = any(
            context.engines.is_usable(engine.url)
            for agent in context.config.agents.values()
            for engine in agent.engines
        )
        if not usable:
            reasons.append("no engine")
        return not reasons, reasons
