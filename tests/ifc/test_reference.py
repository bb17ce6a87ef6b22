"""The engine against a plain evaluator that was written straight from the text (tests.ifc.reference)."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ifc.engine import CriteriaPlan, evaluate, find_evidence
from ifc.model import InitialFilterCriteria, ServicePointTrigger
from ifc.view import PlainRequestView
from tests.ifc.reference import matching_criteria, trigger_holds
from tests.ifc.strategies import CRITERIA_LISTS, TRIGGERS, VIEWS

REGISTERED = st.none() | st.booleans()


@settings(max_examples=500, deadline=None)
@given(CRITERIA_LISTS, VIEWS, REGISTERED)
def test_the_same_criteria_match(
    criteria: tuple[InitialFilterCriteria, ...], view: PlainRequestView, registered: bool | None
) -> None:
    expected = matching_criteria(criteria, view, registered=registered)
    assert [match.criterion for match in evaluate(criteria, view, registered=registered)] == expected


@settings(max_examples=100, deadline=None)
@given(CRITERIA_LISTS, st.lists(st.tuples(VIEWS, REGISTERED), min_size=2, max_size=6))
def test_a_plan_remembers_nothing_of_earlier_requests(
    criteria: tuple[InitialFilterCriteria, ...], requests: list[tuple[PlainRequestView, bool | None]]
) -> None:
    plan = CriteriaPlan(criteria)
    for view, registered in requests:
        matches = plan.evaluate(view, registered=registered)
        assert [match.criterion for match in matches] == matching_criteria(criteria, view, registered=registered)
        fresh = CriteriaPlan(criteria).evaluate(view, registered=registered)
        assert [match.reasons for match in matches] == [match.reasons for match in fresh]


@settings(max_examples=300, deadline=None)
@given(CRITERIA_LISTS, VIEWS)
def test_witnesses_are_evidence(criteria: tuple[InitialFilterCriteria, ...], view: PlainRequestView) -> None:
    for match in evaluate(criteria, view):
        point = match.criterion.trigger_point
        groups = [group for group, _, _ in match.witnesses]
        if point is None:
            assert not groups
        elif point.is_cnf:
            assert groups == [number for number, _ in point.groups]
        else:
            assert len(set(groups)) == 1
        for group, trigger, evidence in match.witnesses:
            assert group in trigger.groups
            assert trigger_holds(trigger, view)
            assert (evidence == "") or not trigger.negated


@settings(max_examples=300, deadline=None)
@given(TRIGGERS, VIEWS)
def test_one_trigger(trigger: ServicePointTrigger, view: PlainRequestView) -> None:
    assert (find_evidence(trigger, view) is not None) is trigger_holds(trigger, view)
