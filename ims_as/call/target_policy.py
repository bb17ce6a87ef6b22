"""Where a call may be sent: by the agent, by a party that refers another to somebody, by a configured queue."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ims_as.call.agent_call import AgentCall

__all__ = ["SERVED_USER", "core_route", "may_reach", "resolve_target"]

SERVED_USER: Final = "served-user"
QUEUE: Final = "queue"


def resolve_target(call: AgentCall, target: str, *, by_agent: bool) -> str | None:
    """The URI behind ``served-user``, ``queue`` or a URI; None when the agent may not reach it."""
    assert call.agent is not None
    transfer = call.agent.transfer
    if target == SERVED_USER:
        return call.served.uri if not by_agent or SERVED_USER in transfer.allow else None
    if target == QUEUE:
        return transfer.queue if not by_agent or QUEUE in transfer.allow else None
    return target if may_reach(call, target) else None


def may_reach(call: AgentCall, uri: str) -> bool:
    """Whether a URI that somebody named may be called on behalf of this call: ``transfer.allow`` of its agent."""
    if call.agent is None:
        return False
    allow = call.agent.transfer.allow
    if (SERVED_USER in allow and uri == call.served.uri) or (QUEUE in allow and uri == call.agent.transfer.queue):
        return True
    return any(re.fullmatch(pattern, uri) for pattern in allow if pattern not in (SERVED_USER, QUEUE))


def core_route(call: AgentCall) -> str | None:
    """The S-CSCF that sent us the call (the host of its original dialog identifier), without that identifier."""
    if call.route.rest:
        uri = call.route.rest[0].split("<", 1)[-1].split(">", 1)[0]
        hostport = uri.split(":", 1)[-1].split(";", 1)[0].rsplit("@", 1)[-1]
        transport = re.search(r";transport=\w+", uri)
        return f"<sip:{hostport}{transport.group(0) if transport else ''};lr>"
    if call.profile.scscf_name:
        return f"<{call.profile.scscf_name};lr>"
    return None
