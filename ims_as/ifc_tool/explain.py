"""Which criteria match a request, trigger by trigger, and which application servers it would visit."""

from __future__ import annotations

from typing import Any

import attrs

from ifc.engine import applies_to_profile_part, evaluate, find_evidence
from ifc.explain import MAX_EVIDENCE_CHARS, describe_trigger
from ifc.model import (
    InitialFilterCriteria,
    MethodCondition,
    RequestUriCondition,
    ServicePointTrigger,
    SessionCaseCondition,
    SipHeaderCondition,
    TriggerPoint,
)
from ifc.view import RequestView, request_uri_target
from ims_as.ifc_tool.reading import Criteria

__all__ = [
    "ExplainedCriterion",
    "ExplainedGroup",
    "ExplainedTrigger",
    "explain_criteria",
    "handling_of",
    "triggered_servers",
]


@attrs.frozen
class ExplainedTrigger:
    text: str
    holds: bool
    reason: str
    decides: bool = False
    """The outcome of the criterion hangs on it: with the opposite it could have been another."""


@attrs.frozen
class ExplainedGroup:
    number: int
    holds: bool
    triggers: tuple[ExplainedTrigger, ...]


@attrs.frozen
class ExplainedCriterion:
    priority: int
    server_name: str
    default_handling: str
    line: int | None
    matches: bool
    reason: str
    """In one sentence; the groups have the details."""
    is_cnf: bool | None
    """None: no trigger point."""
    groups: tuple[ExplainedGroup, ...] = ()

    @property
    def because(self) -> tuple[str, ...]:
        """One line for each trigger that decides; the reason in one sentence where none does."""
        deciding = [each for group in self.groups for each in group.triggers if each.decides]
        told = dict.fromkeys(f"{each.text}: {'holds' if each.holds else 'no'}, {each.reason}" for each in deciding)
        return tuple(told) or (self.reason,)

    def to_dict(self) -> dict[str, Any]:
        return {**attrs.asdict(self), "because": list(self.because)}


def handling_of(criterion: InitialFilterCriteria) -> str:
    """``SESSION_TERMINATED`` or ``SESSION_CONTINUED``, which an absent element means."""
    terminates = criterion.application_server.is_terminating_on_failure
    return "SESSION_TERMINATED" if terminates else "SESSION_CONTINUED"


def explain_criteria(
    criteria: Criteria, view: RequestView, *, registered: bool | None = None
) -> tuple[ExplainedCriterion, ...]:
    """Every criterion in priority order, with every trigger of it."""
    return tuple(_explain(each, view, registered) for each in sorted(criteria, key=lambda each: each.priority))


def triggered_servers(
    criteria: Criteria, view: RequestView, *, registered: bool | None = None
) -> tuple[InitialFilterCriteria, ...]:
    """The criteria whose application servers the request visits, in this order, if none of them changes or ends it."""
    return tuple(match.criterion for match in evaluate(criteria, view, registered=registered))


def _explain(criterion: InitialFilterCriteria, view: RequestView, registered: bool | None) -> ExplainedCriterion:
    matches = bool(evaluate((criterion,), view, registered=registered))
    point = criterion.trigger_point
    groups: tuple[ExplainedGroup, ...] = ()
    if point is not None:
        groups = tuple(_group(*group, view, is_cnf=point.is_cnf) for group in _sorted_groups(point))
    part = criterion.profile_part
    counts = part is None or applies_to_profile_part(part, view.session_case, registered)
    if point is not None and counts:
        groups = tuple(_with_deciding(group, matches=matches, is_cnf=point.is_cnf) for group in groups)
    if part is not None and not applies_to_profile_part(part, view.session_case, registered):
        reason = f"belongs to the {part.name.lower()} part of the profile only"
    elif point is None:
        reason = "no trigger point: every initial request matches"
    elif point.is_cnf:
        failed = [str(group.number) for group in groups if not group.holds]
        reason = f"no trigger of group {' and '.join(failed)} holds" if failed else "a trigger of every group holds"
    else:
        held = [str(group.number) for group in groups if group.holds]
        reason = f"all triggers of group {' and '.join(held)} hold" if held else "no group has all its triggers hold"
    return ExplainedCriterion(
        criterion.priority,
        criterion.application_server.server_name,
        handling_of(criterion),
        criterion.line,
        matches,
        reason,
        None if point is None else point.is_cnf,
        groups,
    )


def _sorted_groups(point: TriggerPoint) -> list[tuple[int, tuple[ServicePointTrigger, ...]]]:
    """By number, triggers as in the document."""
    numbers = sorted({number for trigger in point.triggers for number in trigger.groups})
    return [(number, tuple(each for each in point.triggers if number in each.groups)) for number in numbers]


def _group(number: int, members: tuple[ServicePointTrigger, ...], view: RequestView, *, is_cnf: bool) -> ExplainedGroup:
    triggers = tuple(_trigger(member, view) for member in members)
    holds = [trigger.holds for trigger in triggers]
    return ExplainedGroup(number, any(holds) if is_cnf else all(holds), triggers)


def _with_deciding(group: ExplainedGroup, *, matches: bool, is_cnf: bool) -> ExplainedGroup:
    """A criterion matches by what holds (in DNF: in a group that does), and fails by what does not."""
    counts = group.holds is matches or not (is_cnf or matches)
    if not counts:
        return group
    return attrs.evolve(
        group, triggers=tuple(attrs.evolve(each, decides=each.holds is matches) for each in group.triggers)
    )


def _trigger(trigger: ServicePointTrigger, view: RequestView) -> ExplainedTrigger:
    holds = find_evidence(trigger, view) is not None
    evidence = find_evidence(attrs.evolve(trigger, negated=False), view)
    reason = _looked_at(trigger, view) if evidence is None else _found(trigger, evidence)
    return ExplainedTrigger(describe_trigger(trigger), holds, reason)


def _short(text: str) -> str:
    return text if len(text) <= MAX_EVIDENCE_CHARS else text[:MAX_EVIDENCE_CHARS] + "…"


def _found(trigger: ServicePointTrigger, evidence: str) -> str:
    match trigger.condition:
        case MethodCondition():
            return f"the method is {evidence}"
        case SessionCaseCondition():
            return f"the session case is {evidence}"
        case RequestUriCondition():
            return _short(f"found in {evidence}")
    return _short(evidence)


def _looked_at(trigger: ServicePointTrigger, view: RequestView) -> str:
    """What the request has instead."""
    match trigger.condition:
        case MethodCondition(method):
            if method == view.method and view.registration_type is not None:
                return f"the registration type is {view.registration_type.name}"
            return f"the method is {view.method}"
        case SessionCaseCondition():
            return f"the session case is {'unknown' if view.session_case is None else view.session_case.name}"
        case RequestUriCondition():
            return _short(f"not found in {request_uri_target(view.request_uri)}")
        case SipHeaderCondition(header):
            found = [f"{name}: {', '.join(values)}" for name, values in view.headers() if header.matches(name)]
            return _short("; ".join(found)) if found else "no such header"
    letters = "".join(dict.fromkeys(letter for letter, _ in view.sdp_lines()))
    return f"no such line among {letters}" if letters else "no session description"
