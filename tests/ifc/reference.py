"""The criteria evaluated straight from the text, TS 29.228 Annexes B, C and F and TS 23.218 §5.2: slow, nothing shared.

Patterns go to Python's ``re`` as they are, so they must be of the part of the language that is the same in both
dialects: plain characters, ``.``, ``[ ]`` without classes, ``* + ? { }``, ``|``, ``( )``, ``^``, ``$``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from ifc.model import (
    Condition,
    InitialFilterCriteria,
    MethodCondition,
    ProfilePart,
    RequestUriCondition,
    ServicePointTrigger,
    SessionCase,
    SessionCaseCondition,
    SipHeaderCondition,
)
from ifc.view import RequestView

__all__ = ["matching_criteria", "trigger_holds"]


def matching_criteria(
    criteria: Sequence[InitialFilterCriteria], view: RequestView, *, registered: bool | None = None
) -> list[InitialFilterCriteria]:
    """The criteria whose application servers are triggered, lowest Priority first."""
    return [
        criterion
        for criterion in sorted(criteria, key=lambda each: each.priority)
        if _counts(criterion.profile_part, view.session_case, registered) and _holds(criterion, view)
    ]


def _counts(part: ProfilePart | None, session_case: SessionCase | None, registered: bool | None) -> bool:
    if part is None:
        return True
    if registered is None:
        if session_case in (None, SessionCase.ORIGINATING_CDIV):
            return True
        registered = session_case in (SessionCase.ORIGINATING_REGISTERED, SessionCase.TERMINATING_REGISTERED)
    return registered if part is ProfilePart.REGISTERED else not registered


def _holds(criterion: InitialFilterCriteria, view: RequestView) -> bool:
    point = criterion.trigger_point
    if point is None:
        return True
    groups: dict[int, list[bool]] = {}
    for trigger in point.triggers:
        for number in trigger.groups:
            groups.setdefault(number, []).append(trigger_holds(trigger, view))
    if point.is_cnf:
        return all(any(group) for group in groups.values())
    return any(all(group) for group in groups.values())


def trigger_holds(trigger: ServicePointTrigger, view: RequestView) -> bool:
    holds = _condition_holds(trigger.condition, view)
    if trigger.condition == MethodCondition("REGISTER") and trigger.registration_types:
        holds = holds and view.registration_type in trigger.registration_types
    return holds is not trigger.negated


def _condition_holds(condition: Condition, view: RequestView) -> bool:
    if isinstance(condition, MethodCondition):
        return condition.method == view.method
    if isinstance(condition, SessionCaseCondition):
        return condition.session_case == view.session_case
    if isinstance(condition, RequestUriCondition):
        return _found(str(condition.pattern), _target(view.request_uri))
    if isinstance(condition, SipHeaderCondition):
        pattern, lines = str(condition.header), _header_values(view)
        flags = re.IGNORECASE
    else:
        pattern, lines, flags = str(condition.line), iter(view.sdp_lines()), 0
    content = condition.content
    return any(
        re.search(pattern, name, flags) and (content is None or _found(str(content), value)) for name, value in lines
    )


def _header_values(view: RequestView) -> Iterator[tuple[str, str]]:
    return ((name, value) for name, values in view.headers() for value in values)


def _target(uri: str) -> str:
    """hostport, telephone-subscriber, or what follows the scheme."""
    found = re.fullmatch(r"(?i)sips?:(?:[^@]*@)?([^@;?]*)(?:[;?][^@]*)?", uri)
    return found[1] if found else uri.partition(":")[2]


def _found(pattern: str, text: str) -> bool:
    return re.search(pattern, text) is not None
