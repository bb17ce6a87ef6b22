"""The criteria that we recommend for this application server.

One ServerName per session case, so that a core without P-Served-User tells the case all the same; default handling
continued; emergency calls, call-backs of emergency centres, priority calls and our own transferred INVITEs stay away.
Written so that S-CSCFs agree on the meaning: anchored header names, content given, groups in ascending order.
"""

from __future__ import annotations

from collections.abc import Sequence

from ifc.model import (
    ApplicationServer,
    Condition,
    DefaultHandling,
    InitialFilterCriteria,
    MethodCondition,
    RequestUriCondition,
    ServicePointTrigger,
    SessionCase,
    SessionCaseCondition,
    SipHeaderCondition,
    TriggerPoint,
)
from ims_as.call.bypass import BYPASS_HEADER
from ims_as.ifc_tool.description import Description, DescriptionError, Problem
from ims_as.isc.server_names import CASES, server_name_for

__all__ = ["recommend"]

_SESSION_CASES = {
    "terminating": (SessionCase.TERMINATING_REGISTERED, SessionCase.TERMINATING_UNREGISTERED),
    "originating": (SessionCase.ORIGINATING_REGISTERED, SessionCase.ORIGINATING_UNREGISTERED),
}
_NEVER: tuple[Condition, ...] = (
    RequestUriCondition("^(urn:)?service:sos"),
    SipHeaderCondition("^Priority$", "psap-callback"),
    SipHeaderCondition("^Resource-Priority$", ".*"),
    SipHeaderCondition(f"^{BYPASS_HEADER}$", ".*"),
)


def recommend(identity: str, cases: Sequence[str], *, first_priority: int = 10) -> Description:
    """The description; priorities count up from `first_priority` in the order of `CASES`.

    Args:
        identity: our SIP URI, as `identity` of the configuration.
        cases: of `CASES`.

    Raises:
        DescriptionError: no case, or one that there is not.
    """
    unknown = [case for case in cases if case not in CASES]
    if unknown or not cases:
        told = f"no {', '.join(unknown)}" if unknown else "none given"
        raise DescriptionError([Problem("", f"cases are {', '.join(CASES)}: {told}")])
    chosen = [case for case in CASES if case in cases]
    return Description(
        tuple(
            InitialFilterCriteria(
                first_priority + number,
                TriggerPoint(is_cnf=True, triggers=tuple(_triggers(case))),
                _server(identity, case),
            )
            for number, case in enumerate(chosen)
        )
    )


def _server(identity: str, case: str) -> ApplicationServer:
    """With the user's REGISTER and its answer, from which the contacts and their features are known."""
    included = case == "register"
    name = server_name_for(identity, case)
    return ApplicationServer(name, DefaultHandling.SESSION_CONTINUED, None, included, included)


def _triggers(case: str) -> list[ServicePointTrigger]:
    if case == "register":
        return [ServicePointTrigger(MethodCondition("REGISTER"))]
    triggers = [ServicePointTrigger(MethodCondition("INVITE"))]
    triggers += [ServicePointTrigger(SessionCaseCondition(each), (1,)) for each in _SESSION_CASES[case]]
    triggers += [ServicePointTrigger(each, (group,), negated=True) for group, each in enumerate(_NEVER, 2)]
    return triggers
