from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ifc.engine import evaluate
from ifc.model import InitialFilterCriteria, RegistrationType, SessionCase
from ifc.parser import parse_criteria_untrusted
from ifc.view import PlainRequestView
from ims_as.ifc_tool.logic import Budget, BudgetSpent, find_request
from tests.ifc.strategies import CRITERIA, VIEWS
from tests.ims_as.ifc_tool.documents import INVITE, REGISTER, SAFE, TERMINATING, criterion, ifcs


def is_possible(view: PlainRequestView) -> bool:
    """What an S-CSCF can come to see: a REGISTER originates, has a type and no session description."""
    if view.session_case is None or (view.method == "REGISTER") is (view.registration_type is None):
        return False
    return view.method != "REGISTER" or (view.session_case.is_originating and view.session_case < 4 and not view.sdp)


@settings(max_examples=400, deadline=None)
@given(CRITERIA, CRITERIA, VIEWS.filter(is_possible), st.booleans())
def test_what_a_request_does_is_never_called_impossible(
    one: InitialFilterCriteria, other: InitialFilterCriteria, view: PlainRequestView, diverter_is_registered: bool
) -> None:
    registered = diverter_is_registered if view.session_case is SessionCase.ORIGINATING_CDIV else None
    wanted = [(each, bool(evaluate([each], view, registered=registered))) for each in (one, other)]
    try:
        assert find_request(wanted, Budget(50_000)) is not None
    except BudgetSpent:
        assume(False)


def one(*conditions: str | tuple[int, str], **options: int) -> InitialFilterCriteria:
    (parsed,) = parse_criteria_untrusted(ifcs(criterion(*conditions, **options))).criteria  # type: ignore[arg-type]
    return parsed


def test_the_kind_of_request_is_told() -> None:
    kind = find_request([(one(INVITE, TERMINATING, *SAFE), True)], Budget(1000))
    assert str(kind) == "INVITE, TERMINATING_REGISTERED"
    kind = find_request([(one(REGISTER), True)], Budget(1000))
    assert kind is not None
    assert (kind.method, kind.registration_type) == ("REGISTER", RegistrationType.INITIAL_REGISTRATION)
    assert kind.session_case is SessionCase.ORIGINATING_REGISTERED


def test_what_is_known_beforehand_counts() -> None:
    calls = one(INVITE, *SAFE)
    assert find_request([(calls, True)], Budget(1000), lambda condition: False) is not None
    assert find_request([(calls, True)], Budget(1000), lambda condition: True) is None


def test_a_search_that_grows_is_given_up() -> None:
    conditions = [(place % 2, f"<SIPHeader><Header>^X-{place}$</Header></SIPHeader>") for place in range(20)]
    riddle = one(*conditions, groups=tuple(place // 2 for place in range(20)))  # type: ignore[arg-type]
    with pytest.raises(BudgetSpent):
        find_request([(riddle, True)], Budget(10))


@settings(max_examples=50, deadline=None)
@given(st.lists(CRITERIA, max_size=3))
def test_nothing_and_its_opposite(criteria: list[InitialFilterCriteria]) -> None:
    """No request matches a criterion and misses it."""
    for each in criteria:
        try:
            assert find_request([(each, True), (each, False)], Budget(20_000)) is None
        except BudgetSpent:
            continue
