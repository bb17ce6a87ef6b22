from __future__ import annotations

import pytest
from hypothesis import given, settings

from ifc.engine import evaluate, find_evidence, find_witnesses
from ifc.model import (
    ApplicationServer,
    Condition,
    InitialFilterCriteria,
    MethodCondition,
    ProfilePart,
    RegistrationType,
    RequestUriCondition,
    ServicePointTrigger,
    SessionCase,
    SessionCaseCondition,
    SessionDescriptionCondition,
    SipHeaderCondition,
    TriggerPoint,
)
from ifc.view import PlainRequestView
from tests.ifc.strategies import CRITERIA_LISTS, TRIGGER_POINTS, VIEWS

INVITE = PlainRequestView(
    method="INVITE",
    request_uri="sip:15550000002@ims.example.net:5060;user=phone",
    session_case=SessionCase.TERMINATING_REGISTERED,
    header_map={
        "From": ["<sip:alice@example.net>;tag=1"],
        "P-Asserted-Identity": ['"Alice" <sip:alice@example.net>', "<tel:+15550100>"],
        "Resource-Priority": ["ets.0"],
        "Subject": [""],
    },
    sdp=[("v", "0"), ("m", "audio 40000 RTP/AVP 8"), ("a", "sendrecv"), ("m", "video 40002 RTP/AVP 96")],
)
RE_REGISTER = PlainRequestView("REGISTER", "sip:ims.example.net", registration_type=RegistrationType.RE_REGISTRATION)
TEL = PlainRequestView("INVITE", "tel:+15550100;phone-context=x")
SERVER = ApplicationServer("sip:as.example.net")


def header(name: str, content: str | None = None) -> SipHeaderCondition:
    return SipHeaderCondition(name, content)


def uri(pattern: str) -> RequestUriCondition:
    return RequestUriCondition(pattern)


def sdp(line: str, content: str | None = None) -> SessionDescriptionCondition:
    return SessionDescriptionCondition(line, content)


@pytest.mark.parametrize(
    ("condition", "view", "holds"),
    [
        (MethodCondition("INVITE"), INVITE, True),
        (MethodCondition("invite"), INVITE, False),
        (MethodCondition("INV"), INVITE, False),
        (SessionCaseCondition(SessionCase.TERMINATING_REGISTERED), INVITE, True),
        (SessionCaseCondition(SessionCase.TERMINATING_UNREGISTERED), INVITE, False),
        (SessionCaseCondition(SessionCase.ORIGINATING_REGISTERED), TEL, False),
        (uri(r"^ims\.example\.net:5060$"), INVITE, True),
        (uri("15550000002"), INVITE, False),
        (uri("user=phone"), INVITE, False),
        (uri(r"^\+1555"), TEL, True),
        (uri("^tel"), TEL, False),
        (header("^priority$"), INVITE, False),
        (header("priority"), INVITE, True),
        (header("^Subject$"), INVITE, True),
        (header("^Subject$", "."), INVITE, False),
        (header("^subject$", "^$"), INVITE, True),
        (header("^P-Asserted-Identity$", r"^<tel:\+1555"), INVITE, True),
        (header("^P-Asserted-Identity$", "alice.*tel"), INVITE, False),
        (header("^P-.*$", "Alice"), INVITE, True),
        (header("^P-.*$", "alice@EXAMPLE"), INVITE, False),
        (header("^X-None$", ".*"), INVITE, False),
        (sdp("m"), INVITE, True),
        (sdp("m", "^video"), INVITE, True),
        (sdp("m", "^a"), INVITE, True),
        (sdp("^a$", "^recvonly"), INVITE, False),
        (sdp("k"), INVITE, False),
        (sdp("m"), TEL, False),
    ],
)
def test_one_trigger(condition: Condition, view: PlainRequestView, holds: bool) -> None:
    assert (find_evidence(ServicePointTrigger(condition), view) is not None) is holds
    assert (find_evidence(ServicePointTrigger(condition, negated=True), view) is not None) is not holds


@pytest.mark.parametrize(
    ("condition", "types", "view", "holds"),
    [
        (MethodCondition("REGISTER"), [], RE_REGISTER, True),
        (MethodCondition("REGISTER"), [1], RE_REGISTER, True),
        (MethodCondition("REGISTER"), [0, 2], RE_REGISTER, False),
        (MethodCondition("REGISTER"), [0], PlainRequestView("REGISTER", "sip:a"), False),
        # only means something with Method REGISTER
        (MethodCondition("INVITE"), [0], INVITE, True),
        (header("^From$"), [2], INVITE, True),
    ],
)
def test_registration_type(condition: Condition, types: list[int], view: PlainRequestView, holds: bool) -> None:
    trigger = ServicePointTrigger(condition, registration_types=tuple(map(RegistrationType, types)))
    assert (find_evidence(trigger, view) is not None) is holds


def spt(method: str, *groups: int, negated: bool = False) -> ServicePointTrigger:
    return ServicePointTrigger(MethodCondition(method), groups, negated)


@pytest.mark.parametrize(
    ("is_cnf", "triggers", "holds"),
    [
        (True, [spt("INVITE", 0), spt("BYE", 0)], True),
        (True, [spt("INVITE", 0), spt("BYE", 1)], False),
        (True, [spt("INVITE", 0, 1), spt("BYE", 1)], True),
        (True, [spt("INVITE", 0), spt("BYE", 1, negated=True)], True),
        (False, [spt("INVITE", 0), spt("BYE", 0)], False),
        (False, [spt("INVITE", 0), spt("BYE", 1)], True),
        (False, [spt("BYE", 0), spt("INVITE", 0, 1)], True),
        (False, [spt("BYE", 0), spt("INVITE", 0)], False),
        (False, [spt("INVITE", 2, 2)], True),
    ],
)
def test_groups(is_cnf: bool, triggers: list[ServicePointTrigger], holds: bool) -> None:
    assert (find_witnesses(TriggerPoint(is_cnf, tuple(triggers)), INVITE) is not None) is holds


def criterion(
    priority: int, trigger_point: TriggerPoint | None = None, part: ProfilePart | None = None
) -> InitialFilterCriteria:
    return InitialFilterCriteria(priority, trigger_point, SERVER, part)


def test_priority_order() -> None:
    criteria = [criterion(7), criterion(0), criterion(3, TriggerPoint(True, (spt("BYE", 0),))), criterion(5)]
    assert [match.criterion.priority for match in evaluate(criteria, INVITE)] == [0, 5, 7]


@pytest.mark.parametrize(
    ("part", "case", "registered", "counts"),
    [
        (None, SessionCase.TERMINATING_UNREGISTERED, None, True),
        (ProfilePart.REGISTERED, SessionCase.TERMINATING_REGISTERED, None, True),
        (ProfilePart.REGISTERED, SessionCase.ORIGINATING_REGISTERED, None, True),
        (ProfilePart.REGISTERED, SessionCase.TERMINATING_UNREGISTERED, None, False),
        (ProfilePart.UNREGISTERED, SessionCase.TERMINATING_UNREGISTERED, None, True),
        (ProfilePart.UNREGISTERED, SessionCase.ORIGINATING_UNREGISTERED, None, True),
        (ProfilePart.UNREGISTERED, SessionCase.ORIGINATING_REGISTERED, None, False),
        (ProfilePart.UNREGISTERED, None, None, True),
        (ProfilePart.UNREGISTERED, SessionCase.ORIGINATING_CDIV, None, True),
        (ProfilePart.REGISTERED, SessionCase.ORIGINATING_CDIV, False, False),
        (ProfilePart.REGISTERED, SessionCase.TERMINATING_UNREGISTERED, True, True),
    ],
)
def test_profile_part(
    part: ProfilePart | None, case: SessionCase | None, registered: bool | None, counts: bool
) -> None:
    view = PlainRequestView("INVITE", "sip:a@b", case)
    assert bool(evaluate([criterion(0, None, part)], view, registered=registered)) is counts


def test_reasons() -> None:
    trigger_point = TriggerPoint(
        True,
        (
            ServicePointTrigger(header("^P-Asserted", "tel"), (2,)),
            spt("INVITE", 0),
            ServicePointTrigger(header("^Priority$", ".*"), (1,), negated=True),
        ),
    )
    (match,) = evaluate([criterion(0, trigger_point)], INVITE)
    assert sorted(match.reasons) == [
        "group 0: Method is INVITE",
        "group 1: not (header ^Priority$ matches .*)",
        "group 2: header ^P-Asserted matches tel (P-Asserted-Identity: <tel:+15550100>)",
    ]
    (match,) = evaluate([criterion(0)], INVITE)
    assert match.reasons == ("no trigger point: matches every initial request",)


def brute_force(trigger_point: TriggerPoint, view: PlainRequestView) -> bool:
    """Annex B as it is written: fold over the groups."""
    numbers = {number for trigger in trigger_point.triggers for number in trigger.groups}
    folded = []
    for number in numbers:
        held = [
            find_evidence(trigger, view) is not None for trigger in trigger_point.triggers if number in trigger.groups
        ]
        folded.append(any(held) if trigger_point.is_cnf else all(held))
    return all(folded) if trigger_point.is_cnf else any(folded)


@settings(max_examples=300, deadline=None)
@given(TRIGGER_POINTS, VIEWS)
def test_agrees_with_brute_force(trigger_point: TriggerPoint, view: PlainRequestView) -> None:
    witnesses = find_witnesses(trigger_point, view)
    assert (witnesses is not None) is brute_force(trigger_point, view)
    for group, trigger, _ in witnesses or ():
        assert group in trigger.groups
        assert find_evidence(trigger, view) is not None


@settings(max_examples=100, deadline=None)
@given(CRITERIA_LISTS, VIEWS)
def test_criteria_are_independent(criteria: tuple[InitialFilterCriteria, ...], view: PlainRequestView) -> None:
    together = [match.criterion for match in evaluate(criteria, view)]
    alone = [each for each in criteria if evaluate([each], view)]
    assert together == alone
