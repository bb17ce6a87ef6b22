"""Which answer an inability gets: the table of the failure doctrine (F1, F2).

An S-CSCF returns a call to legacy termination only on 408, 5xx or silence, and only under SESSION_CONTINUED (or when
the element is absent).  Under SESSION_TERMINATED a 5xx kills the call, so the INVITE is passed on by its own Route
instead.  A 4xx would reach the caller: it is never used for an inability of ours.
"""

from __future__ import annotations

from enum import Enum

from ifc.model import DefaultHandling
from ims_as.config import OnFailure

__all__ = ["FailureAction", "choose_failure_action", "reason_header"]


class FailureAction(Enum):
    RESPOND = "respond"
    PASS_ON = "pass-on"


def choose_failure_action(
    on_failure: OnFailure, default_handling: DefaultHandling | None, *, has_route: bool
) -> FailureAction:
    """has_route: a Route entry is left after ours, so that there is somewhere to pass the INVITE on to."""
    if not has_route or on_failure is OnFailure.RESPOND_503:
        return FailureAction.RESPOND
    if on_failure is OnFailure.PASS_ON or default_handling is DefaultHandling.SESSION_TERMINATED:
        return FailureAction.PASS_ON
    return FailureAction.RESPOND


_Q850 = {"engine_refused": 27, "engine_timeout": 102, "no_port": 47, "full": 47, "no_worker": 47, "codec": 65}
_Q850 |= {"policy": 21, "concurrent-calls": 47, "calls-per-hour": 47, "calls-per-day": 47}
"""Causes of ITU-T Q.850; 41 (temporary failure) stands for the rest."""


def reason_header(code: str, detail: str) -> tuple[str, str]:
    """``Reason`` of a final response: only Q.850 causes may stand there (RFC 6432 §4)."""
    text = (f"{code}: {detail}" if detail else code).encode("ascii", "replace").decode()[:120]
    text = text.replace("\\", "").replace('"', "'").replace("\r", " ").replace("\n", " ")
    return "Reason", f'Q.850;cause={_Q850.get(code, 41)};text="{text}"'
