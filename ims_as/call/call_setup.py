"""From the INVITE to an engine that is ready, or to what the failure table says instead; then ``answering`` goes on.

Profile, codec, port and engine come first, all before anything above 100 is sent, since an 18x would end the S-CSCF's
default handling.  The whole of it runs under ``answer_budget_ms`` counted from the INVITE; what is not ready by then is
an inability.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ims_as.call.answering import Answering
from ims_as.call.engine_chain import EngineChain
from ims_as.call.give_back import pass_on, refuse, unable
from ims_as.call.profile import load_profile
from ims_as.call.routing import find_rule
from ims_as.media_client import MediaError
from ims_as.sip.body import foreign_type, sdp_of
from ims_as.sip.errors import SdpError

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
        if call.record.termination is not None:  # cancelled in the very moment when the wait was over
            return False
        if not call.profile.settings.enabled:
            pass_on(call, "profile-disabled")
            return False
        if tags := call.context.user_agent.unsupported(call.request):
            self._refuse_extension(tags)
            return False
        if (headers := call.context.user_agent.interval_refusal(call.request)) is not None:
            refuse(call, 422, "session-interval", headers)
            return False
        if (kind := foreign_type(call.request)) is not None:
            unable(call, "body", f"a body of type {kind}", 500)
            return False
        self._choose_agent()
        assert call.agent is not None
        try:
            wanted = call.description.preview_untrusted(sdp_of(call.request))
        except SdpError as error:
            unable(call, "codec", str(error), 500)
            return False
        call.engines = EngineChain(call, call.agent.engines)
        try:
            # nothing is sent to the caller before the answer: what plays now would be early media that nobody agreed to
            await call.engines.open(wanted, deadline=deadline)
        except MediaError as error:
            if call.record.termination is None:
                unable(call, error.code, error.detail, 503)
            return False
        if call.record.termination is not None:
            return False
        return await Answering(call, call.agent.answer).run()

    def _refuse_extension(self, tags: list[str]) -> None:
        """F2: a 420 would reach the caller, so the INVITE goes on if it can."""
        call = self._call
        if call.route.rest:
            pass_on(call, "unsupported-extension")
        else:
            refuse(call, 420, "unsupported-extension", [("Unsupported", ", ".join(tags))])

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
