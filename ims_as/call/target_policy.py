"""Where a call may be sent: by the agent, by a party that refers another to somebody, by a configured queue."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ims_as.call.agent_call import AgentCall

__all__ = ["SERVED_USER", "core_route", "limit_reached", "may_reach", "queue_of", "resolve_target"]

SERVED_USER: Final = "served-user"
QUEUE: Final = "queue"


def resolve_target(call: AgentCall, target: str, *, by_agent: bool) -> str | None:
    """The URI behind ``served-user``, ``queue`` or a URI; None when the agent may not reach it."""
    assert call.agent is not None
    transfer = call.agent.transfer
    if target == SERVED_USER:
        return call.served.uri if not by_agent or SERVED_USER in transfer.allow else None
    if target == QUEUE:
        return queue_of(call) if not by_agent or QUEUE in transfer.allow else None
    return target if may_reach(call, target) else None


def queue_of(call: AgentCall) -> str | None:
    """Where a human is found: the served user's own queue, unless ``policy`` denies it, else the agent's."""
    own = call.profile.settings.queue
    if own is not None:
        verdict = call.context.destinations.check(own, agent=call.agent_name, also=[re.escape(own)])
        if verdict.allowed:
            return own
        call.trace("decision", "ims-as", "ims-as", f"the profile's queue {own} is not used: {verdict.rule}")
    return None if call.agent is None else call.agent.transfer.queue


def may_reach(call: AgentCall, uri: str) -> bool:
    """Whether a URI that somebody named may be called on behalf of this call: by ``policy.destinations``, and then by
    ``transfer.allow`` of its agent."""
    if call.agent is None:
        return False
    allow = call.agent.transfer.allow
    if (SERVED_USER in allow and uri == call.served.uri) or (QUEUE in allow and uri == queue_of(call)):
        return True
    also = [pattern for pattern in allow if pattern not in (SERVED_USER, QUEUE)]
    verdict = call.context.destinations.check(uri, agent=call.agent_name, also=also)
    call.trace("decision", "ims-as", "ims-as", f"{'may' if verdict.allowed else 'must not'} call {uri}: {verdict.rule}")
    return verdict.allowed


def limit_reached(call: AgentCall) -> str | None:
    """Which of ``policy.limits`` forbids this call to call somebody now; None: none, and the call is counted."""
    context = call.context
    return context.outbound_limits.start(
        call.record.id, agent=call.agent_name, caller=call.record.from_uri, now=context.now()
    )


def core_route(call: AgentCall) -> str | None:
    """The S-CSCF that sent us the call (the host of its original dialog identifier), without that identifier."""
    if call.route.rest:
        uri = call.route.rest[0].split("<", 1)[-1].split(">", 1)[0]
        hostport = uri.split(":", 1)[-1].split(";", 1)[0].rsplit("@", 1)[-1]
        transport = re.search(r";transport=\w+", uri)
        scheme = "sips" if uri[:5].lower() == "sips:" else "sip"
        return f"<{scheme}:{hostport}{transport.group(0) if transport else ''};lr>"
    if call.profile.scscf_name:
        return f"<{call.profile.scscf_name};lr>"
    return None
