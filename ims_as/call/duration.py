"""The longest that a subscriber lets an agent talk (``Limits/CallSeconds`` of its profile)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ims_as.errors import Result, Termination

if TYPE_CHECKING:
    from ims_as.call.agent_call import AgentCall

__all__ = ["MAX_DURATION", "limit_duration"]

MAX_DURATION: Final = "max-duration"
"""Reason of the termination, and of the engine's ``stop``."""
HANDOVER_GRACE_S: Final = 2.0
"""A caller who is just being handed to somebody else is looked at again after so long."""


def limit_duration(call: AgentCall) -> None:
    """To be called when the call is answered; a caller who then talks to somebody else is left alone."""
    seconds = call.profile.settings.limits.call_seconds
    if seconds is not None:
        call.post_later(seconds, "retry", lambda: _end(call))


def _end(call: AgentCall) -> None:
    if call.is_joined:
        return
    if call.handover is not None and call.handover.is_pending:
        call.post_later(HANDOVER_GRACE_S, "retry", lambda: _end(call))
        return
    call.trace("decision", "ims-as", "ims-as", "the profile's Limits/CallSeconds are over")
    call.hang_up(Termination(Result.ANSWERED, "ims-as", MAX_DURATION, None))
