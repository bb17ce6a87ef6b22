"""From the INVITE to the answer, or to what the failure table says instead.

Profile, codec, port and engine come first, all before anything above 100 is sent, since an 18x would end the S-CSCF's
default handling.  The whole of it runs under ``answer_budget_ms`` counted from the INVITE; what is not ready by then is
an inability.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ims_as.call.caller_requests import recv_info
from ims_as.call.engine_chain import EngineChain
from ims_as.call.failure import FailureAction, choose_failure_action, reason_header
from ims_as.call.media_description import stream_config
from ims_as.call.profile import load_profile
from ims_as.call.record import CallState
from ims_as.call.routing import find_rule
from ims_as.errors import Result, Termination
from ims_as.isc.features import MMTEL_CONTACT_PARAM
from ims_as.media_client import MediaError
from ims_as.sip.errors import NoCommonCodecError, SdpError
from ims_as.sip.message import build_response

if TYPE_CHECKING:
    from ims_as.call.agent_call import AgentCall

__all__ = ["CallSetup"]


class CallSetup:
    """The set-up of one call."""

    def __init__(self, call: AgentCall) -> None:
        self._call = call

    async def run(self) -> bool:
        """True when the call was answered by the agent."""
        call = self._call
        deadline = call.received + call.context.config.sip.answer_budget_ms / 1000
        await self._load_profile()
        if not call.profile.settings.enabled:
            return self._pass_on("profile-disabled")
        self._choose_agent()
        assert call.agent is not None
        try:
            wanted = call.description.preview_untrusted(call.request.body)
        except (SdpError, NoCommonCodecError) as error:
            return self._unable("codec", str(error), 500)
        call.engines = EngineChain(call, call.agent.engines)
        try:
            # nothing is sent to the caller before the answer: what plays now would be early media that nobody agreed to
            await call.engines.open(wanted, deadline=deadline)
        except MediaError as error:
            return self._unable(error.code, error.detail, 503)
        self._answer()
        return True

    async def _load_profile(self) -> None:
        call, context = self._call, self._call.context
        asked = context.now()
        call.profile = await load_profile(context.sh, call.served.uri, context.own_hosts)
        call.record.profile_source = call.profile.source
        if call.profile.source == "hss":
            context.metrics.sh_seconds.labels("UDR").observe(context.now() - asked)
        if context.sh is not None:
            call.trace("sh", "ims-as", "hss", f"profile ({call.profile.source})")

    def _choose_agent(self) -> None:
        call, config = self._call, self._call.context.config
        name = call.profile.settings.agent
        if name not in config.agents:
            rule = find_rule(config, call.request, call.served, call.record)
            name = "default" if rule is None else rule.agent
        call.agent_name = call.record.agent = name
        call.agent = config.agents[name]

    def _answer(self) -> None:
        call, context = self._call, self._call.context
        leg = call.leg
        assert leg is not None
        call.description.bind(leg.host, leg.port)
        in_responses, in_requests = context.headers.call_headers(call.request)
        call.session = context.user_agent.accept(
            call.request,
            call.take_transaction(),
            on_event=call.on_caller,
            contact_params=MMTEL_CONTACT_PARAM,
            response_headers=in_responses,
            request_headers=in_requests,
        )
        context.headers.follow_session(call.session, call.request)
        headers = recv_info(call.request)
        if call.request.body:
            call.session.answer(call.description.answer_untrusted(call.request.body), headers=headers)
            stream = call.description.stream
            assert stream is not None
            leg.modify_soon(stream_config(stream))
            call.offers.note_direction(stream)
        else:  # our offer; the answer comes with the ACK
            call.session.answer(call.description.offer(), headers=headers)
        call.record.answered_at = context.wall()
        call.record.state = CallState.TALKING
        setup_ms = call.record.setup_ms
        if setup_ms is not None:
            context.metrics.setup_seconds.observe(setup_ms / 1000)

    # ---------------------------------------------------------------- inability

    def _unable(self, code: str, detail: str, status: int) -> bool:
        """We can't serve this call: failure table F1, F2."""
        call, context = self._call, self._call.context
        action = choose_failure_action(
            context.config.sip.on_failure, call.profile.default_handling, has_route=bool(call.route.rest)
        )
        call.trace("decision", "ims-as", "ims-as", f"unable: {code} → {action.value}", detail)
        if action is FailureAction.PASS_ON:
            return self._pass_on(code)
        headers = [reason_header(code, detail), *context.headers.response_headers(call.request)]
        response = build_response(call.request, status, headers=headers)
        context.endpoint.send_response(call.take_transaction(), response)
        call.end(Termination(Result.REJECTED, "ims-as", code, status))
        return False

    def _pass_on(self, reason: str) -> bool:
        call, context = self._call, self._call.context
        if not call.route.rest:
            headers = [reason_header("no-route", reason), *context.headers.response_headers(call.request)]
            response = build_response(call.request, 503, headers=headers)
            context.endpoint.send_response(call.take_transaction(), response)
            call.end(Termination(Result.REJECTED, "ims-as", f"{reason}-without-route", 503))
            return False
        call.trace("decision", "ims-as", "ims-as", f"passed on by its Route: {reason}")
        context.proxy.forward(call.request, call.take_transaction())
        call.end(Termination(Result.PASSED_ON, "ims-as", reason, None))
        return False
