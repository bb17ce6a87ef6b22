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
from ims_as.call.service_settings import SettingProblem
from ims_as.isc.profile_key import read_profile_key_untrusted
from ims_as.isc.served_user import other_identities
from ims_as.media_client import MediaError
from ims_as.sip.body import foreign_type, sdp_of
from ims_as.sip.errors import SdpError

if TYPE_CHECKING:
    from ims_as.call.agent_call import AgentCall

__all__ = ["CallSetup", "note_profile"]


def note_profile(call: AgentCall) -> None:
    """Where the profile came from, what in it could not be used, and what the user has agreed to."""
    profile = call.profile
    call.record.profile_source = profile.source
    call.record.consent = profile.settings.consent.as_dict()
    if profile.failure is not None:
        call.context.log.event("SH_FAILED", call_id=call.record.id, error=profile.failure)
    for problem in profile.settings.problems:
        note_problem(call, problem)


def note_problem(call: AgentCall, problem: SettingProblem) -> None:
    """It costs that setting, never the call."""
    call.record.profile_problems += (str(problem),)
    call.context.metrics.profile_problems.labels(problem.element).inc()
    call.trace("sh", "hss", "ims-as", f"profile: {problem}")


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
        if (limit := self._limit_reached()) is not None:
            call.context.metrics.profile_limited.labels(limit).inc()
            unable(call, limit, "a limit of the user's profile", 503)
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
            if error.code in ("no_port", "full", "no_worker"):
                call.context.log.event("MEDIA_FULL", reason=error.code, detail=error.detail)
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
        call.profile = await load_profile(
            context.sh,
            call.served.uri,
            context.own_hosts,
            wildcard=read_profile_key_untrusted(call.request),
            others=other_identities(call.request, call.served),
        )
        note_profile(call)
        if call.profile.source == "hss":
            context.metrics.sh_seconds.labels("UDR").observe(context.now() - asked)
        if context.sh is not None:
            call.trace("sh", "ims-as", "hss", f"profile ({call.profile.source})")

    def _limit_reached(self) -> str | None:
        """Which limit of the user's profile forbids this call; None: none, and it is counted."""
        call, limits = self._call, self._call.profile.settings.limits
        return call.context.user_limits.start(
            call.record.id,
            user=call.served.uri,
            concurrent=limits.concurrent_calls,
            per_hour=limits.calls_per_hour,
            per_day=limits.calls_per_day,
            now=call.context.now(),
        )

    def _choose_agent(self) -> None:
        call, config = self._call, self._call.context.config
        name = call.profile.settings.agent
        if name is not None and name not in config.agents:
            note_problem(call, SettingProblem("Agent", f"there is no agent {name!r} here"))
        if name not in config.agents:
            rule = find_rule(config, call.request, call.served, call.record)
            name = "default" if rule is None else rule.agent
        call.agent_name = call.record.agent = name
        call.agent = config.agents[name]
