"""The criteria and their outcome as text for operators."""

from __future__ import annotations

from ifc.model import (
    Condition,
    InitialFilterCriteria,
    MethodCondition,
    RequestUriCondition,
    ServicePointTrigger,
    SessionCaseCondition,
    SipHeaderCondition,
    TriggerPoint,
)

__all__ = ["describe_condition", "describe_criterion", "describe_trigger", "describe_trigger_point", "explain_witness"]

MAX_EVIDENCE_CHARS = 120
"""A caller's header may be kilobytes long; a reason is one line."""


def describe_condition(condition: Condition) -> str:
    """``Method is INVITE``, ``header ^Priority$ matches psap-callback``."""
    match condition:
        case RequestUriCondition(pattern):
            return f"RequestURI matches {pattern}"
        case MethodCondition(method):
            return f"Method is {method}"
        case SipHeaderCondition(header, None):
            return f"header {header} is present"
        case SipHeaderCondition(header, content):
            return f"header {header} matches {content}"
        case SessionCaseCondition(session_case):
            return f"SessionCase is {session_case.name}"
    line, content = condition.line, condition.content
    return f"SDP line {line} is present" if content is None else f"SDP line {line} matches {content}"


def describe_trigger(trigger: ServicePointTrigger) -> str:
    text = describe_condition(trigger.condition)
    if trigger.registration_types:
        text += " of type " + " or ".join(each.name for each in trigger.registration_types)
    return f"not ({text})" if trigger.negated else text


def describe_trigger_point(trigger_point: TriggerPoint) -> str:
    """``(A or B) and (C)`` for CNF, ``(A and B) or (C)`` for DNF, groups in ascending order."""
    inner, outer = (" or ", " and ") if trigger_point.is_cnf else (" and ", " or ")
    groups = sorted(trigger_point.groups, key=lambda group: group[0])
    return outer.join(f"({inner.join(map(describe_trigger, members))})" for _, members in groups)


def describe_criterion(criterion: InitialFilterCriteria) -> str:
    """One line: priority, condition, AS, default handling."""
    server = criterion.application_server
    when = "always" if criterion.trigger_point is None else f"when {describe_trigger_point(criterion.trigger_point)}"
    part = "" if criterion.profile_part is None else f", {criterion.profile_part.name.lower()} part of the profile only"
    handling = "SESSION_TERMINATED" if server.is_terminating_on_failure else "SESSION_CONTINUED"
    return f"priority {criterion.priority}: {server.server_name} ({handling}) {when}{part}"


def explain_witness(group: int, trigger: ServicePointTrigger, evidence: str) -> str:
    """Why a group held: ``group 2: header ^P-.*$ is present (P-Early-Media: supported)``."""
    text = f"group {group}: {describe_trigger(trigger)}"
    if not evidence or isinstance(trigger.condition, MethodCondition | SessionCaseCondition):
        return text
    if len(evidence) > MAX_EVIDENCE_CHARS:
        evidence = evidence[:MAX_EVIDENCE_CHARS] + "…"
    return f"{text} ({evidence})"
