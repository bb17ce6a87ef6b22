"""Evaluation of the criteria on one initial request: TS 23.218 clause 5.2, TS 29.228 Annexes B, C and F.

Reading of what the specification leaves open (and where S-CSCFs differ, we follow Sprout):

* patterns search: they match anywhere unless anchored; header names ignore case, everything else does not;
* a trigger that asks for a session case, registration type or SDP that the request does not have does not hold, so its
  negation does;
* RegistrationType narrows Method REGISTER and nothing else;
* a SIPHeader trigger holds when one instance of one header does; without Content its presence is enough;
* ProfilePartIndicator is compared with the registration state, or with what the session case says of it; where neither
  tells, the criterion is not excluded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

import attrs

from ifc.explain import explain_witness
from ifc.model import (
    InitialFilterCriteria,
    MethodCondition,
    ProfilePart,
    RequestUriCondition,
    ServicePointTrigger,
    SessionCase,
    SessionCaseCondition,
    SessionDescriptionCondition,
    SipHeaderCondition,
    TriggerPoint,
)
from ifc.view import RequestView, request_uri_target

__all__ = ["Match", "Witness", "applies_to_profile_part", "evaluate", "find_evidence", "find_witnesses"]

Witness = tuple[int, ServicePointTrigger, str]
"""(group, trigger that held, what in the request made it hold: empty for a negation)."""


@attrs.frozen
class Match:
    """A criterion that the request meets, and why."""

    criterion: InitialFilterCriteria
    witnesses: tuple[Witness, ...]
    """One trigger of each group (CNF) or all of the group that held (DNF); empty without a trigger point."""

    @property
    def reasons(self) -> tuple[str, ...]:
        """As text, one line per witness, for traces and reports."""
        if not self.witnesses:
            return ("no trigger point: matches every initial request",)
        return tuple(explain_witness(*witness) for witness in self.witnesses)


def evaluate(
    criteria: Sequence[InitialFilterCriteria], view: RequestView, *, registered: bool | None = None
) -> tuple[Match, ...]:
    """The criteria that match, in priority order (those of equal priority in the order given).

    Pure: the whole list is tested against this one request.  An S-CSCF whose AS may change the request tests the rest
    again after each AS.

    Args:
        registered: the served user's registration state where it is known.
    """
    matches = []
    for criterion in sorted(criteria, key=_priority):
        if criterion.profile_part is not None and not applies_to_profile_part(
            criterion.profile_part, view.session_case, registered
        ):
            continue
        trigger_point = criterion.trigger_point
        witnesses = () if trigger_point is None else find_witnesses(trigger_point, view)
        if witnesses is not None:
            matches.append(Match(criterion, witnesses))
    return tuple(matches)


_priority = attrgetter("priority")


def applies_to_profile_part(part: ProfilePart, session_case: SessionCase | None, registered: bool | None) -> bool:
    """Whether a criterion of this part of the profile counts for a user in this state."""
    if registered is None:
        if session_case is None or session_case is SessionCase.ORIGINATING_CDIV:
            return True
        registered = session_case in (SessionCase.ORIGINATING_REGISTERED, SessionCase.TERMINATING_REGISTERED)
    return registered is (part is ProfilePart.REGISTERED)


def find_witnesses(trigger_point: TriggerPoint, view: RequestView) -> tuple[Witness, ...] | None:
    """The triggers that make the trigger point hold; None when it does not."""
    witnesses: list[Witness] = []
    if trigger_point.is_cnf:
        for number, members in trigger_point.groups:
            for trigger in members:
                evidence = find_evidence(trigger, view)
                if evidence is not None:
                    witnesses.append((number, trigger, evidence))
                    break
            else:
                return None
        return tuple(witnesses)
    for number, members in trigger_point.groups:
        for trigger in members:
            evidence = find_evidence(trigger, view)
            if evidence is None:
                witnesses.clear()
                break
            witnesses.append((number, trigger, evidence))
        else:
            return tuple(witnesses)
    return None


def find_evidence(trigger: ServicePointTrigger, view: RequestView) -> str | None:
    """What in the request makes the trigger hold (empty text for a negation), or None when it does not hold."""
    condition = trigger.condition
    evidence = _FINDERS[type(condition)](condition, view)
    types = trigger.registration_types
    if types and evidence is not None and _is_register(condition) and view.registration_type not in types:
        evidence = None
    if trigger.negated:
        return "" if evidence is None else None
    return evidence


def _is_register(condition: object) -> bool:
    return isinstance(condition, MethodCondition) and condition.method == "REGISTER"


def _find_method(condition: MethodCondition, view: RequestView) -> str | None:
    return condition.method if condition.method == view.method else None


def _find_session_case(condition: SessionCaseCondition, view: RequestView) -> str | None:
    return condition.session_case.name if condition.session_case is view.session_case else None


def _find_request_uri(condition: RequestUriCondition, view: RequestView) -> str | None:
    target = request_uri_target(view.request_uri)
    return target if condition.pattern.matches(target) else None


def _find_header(condition: SipHeaderCondition, view: RequestView) -> str | None:
    content = condition.content
    literal = condition.header.literal
    if literal is not None:
        return _find_value(literal, view.header_values(literal), content)
    for name, values in view.headers():
        if condition.header.matches(name):
            evidence = _find_value(name, values, content)
            if evidence is not None:
                return evidence
    return None


def _find_value(name: str, values: Sequence[str], content: Any) -> str | None:
    for value in values:
        if content is None or content.matches(value):
            return f"{name}: {value}"
    return None


def _find_sdp(condition: SessionDescriptionCondition, view: RequestView) -> str | None:
    content = condition.content
    for letter, value in view.sdp_lines():
        if condition.line.matches(letter) and (content is None or content.matches(value)):
            return f"{letter}={value}"
    return None


_FINDERS: dict[type, Callable[[Any, RequestView], str | None]] = {
    MethodCondition: _find_method,
    SessionCaseCondition: _find_session_case,
    RequestUriCondition: _find_request_uri,
    SipHeaderCondition: _find_header,
    SessionDescriptionCondition: _find_sdp,
}
