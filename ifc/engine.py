"""Evaluation of the criteria on one initial request: TS 23.218 clause 5.2, TS 29.228 Annexes B, C and F.

Reading of what the specification leaves open (and where S-CSCFs differ, we follow Sprout):

* patterns search: they match anywhere unless anchored; header names ignore case, everything else does not;
* a trigger that asks for a session case, registration type or SDP that the request does not have does not hold, so its
  negation does;
* RegistrationType narrows Method REGISTER and nothing else;
* a SIPHeader trigger holds when one instance of one header does; without Content its presence is enough;
* ProfilePartIndicator is compared with the registration state, or with what the session case says of it; where neither
  tells, the criterion is not excluded;
* a request on which the patterns would have to do more than `ifc.reading.MAX_STEPS` of work meets none of the criteria
  that are not decided by then: it goes on to ordinary routing.
"""

from __future__ import annotations

from collections.abc import Sequence

from ifc.model import InitialFilterCriteria, ServicePointTrigger, TriggerPoint
from ifc.plan import CriteriaPlan, Match, Witness, applies_to_profile_part, is_register_trigger
from ifc.reading import Reading, RequestTooDear, compile_condition, evidence_text
from ifc.view import RequestView

__all__ = [
    "CriteriaPlan",
    "Match",
    "Witness",
    "applies_to_profile_part",
    "evaluate",
    "find_evidence",
    "find_witnesses",
]

MAX_PLANS = 256
"""Lists of criteria that are kept ready; whoever serves more users keeps the `CriteriaPlan` with each user."""

_plans: dict[tuple[int, ...], CriteriaPlan] = {}
"""By the identities of the criteria, which the plan keeps alive: the same criteria are the same plan."""


def evaluate(
    criteria: Sequence[InitialFilterCriteria], view: RequestView, *, registered: bool | None = None
) -> tuple[Match, ...]:
    """The criteria that match, in priority order (those of equal priority in the order given).

    Pure: the whole list is tested against this one request.  An S-CSCF whose AS may change the request tests the rest
    again after each AS.

    Args:
        registered: the served user's registration state where it is known.
    """
    key = tuple(map(id, criteria))
    plan = _plans.get(key)
    if plan is None:
        if len(_plans) >= MAX_PLANS:
            _plans.clear()
        plan = _plans[key] = CriteriaPlan(criteria)
    return plan.evaluate(view, registered=registered)


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
    try:
        found = compile_condition(condition)(Reading(view))
    except RequestTooDear:
        return None
    types = trigger.registration_types
    if types and found is not None and is_register_trigger(condition) and view.registration_type not in types:
        found = None
    if trigger.negated:
        return "" if found is None else None
    return None if found is None else evidence_text(found)
