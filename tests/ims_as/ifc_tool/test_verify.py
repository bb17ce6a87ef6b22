"""The verdict on criteria, without an HSS."""

from __future__ import annotations

import pytest

from ims_as.ifc_tool.lint import lint_untrusted
from ims_as.ifc_tool.recommended import recommend
from ims_as.ifc_tool.render import Format, render
from ims_as.ifc_tool.verify import Answers, Expectation, Status, Verdict, example_invite, judge
from tests.ims_as.ifc_tool.documents import INVITE, REGISTER, SAFE, criterion, ifcs

IDENTITY = "sip:as.example.net"
BOB = "sip:bob@example.net"
TERM, ORIG = "<SessionCase>1</SessionCase>", "<SessionCase>0</SessionCase>"


def verdict(
    *criteria: str | bytes, sides: str = "terminating", impu: str = BOB, answers: Answers | None = None
) -> Verdict:
    xml = criteria[0] if criteria and isinstance(criteria[0], bytes) else ifcs(*(str(each) for each in criteria))
    expected = Expectation(IDENTITY, frozenset({"as.example.net"}), tuple(sides.split(",")), example_invite)
    return judge(impu, answers or Answers((xml,), (IDENTITY,)), expected)


def mine(
    *conditions: str | tuple[int, str], server: str = IDENTITY, handling: int | None = 0, priority: int = 1
) -> str:
    return criterion(*conditions, *SAFE, server=server, handling=handling, priority=priority)


def rules(found: Verdict) -> dict[str, str]:
    return {each.rule: each.severity.value for each in found.findings}


@pytest.mark.parametrize("impu", [BOB, "tel:+15550100"])
def test_what_we_recommend_is_safe(impu: str):
    xml = render(recommend(IDENTITY, ["terminating", "originating", "register"]), Format.XML).text.encode()
    found = verdict(xml, sides="terminating,originating", impu=impu)
    assert (found.status, found.answered) == (Status.SAFE, "ours")
    assert [(each.session_case, each.server_name) for each in found.reached] == [
        ("TERMINATING_REGISTERED", "sip:term@as.example.net"),
        ("TERMINATING_UNREGISTERED", "sip:term@as.example.net"),
        ("ORIGINATING_REGISTERED", "sip:orig@as.example.net"),
        ("ORIGINATING_UNREGISTERED", "sip:orig@as.example.net"),
    ]
    assert set(rules(found).values()) <= {"info"}


@pytest.mark.parametrize(
    ("criteria", "status", "expected"),
    [
        ((mine(INVITE, TERM),), Status.SAFE, {"not-reached-unregistered": "info"}),
        ((mine(INVITE, TERM, handling=1),), Status.UNSAFE, {"session-terminated": "error"}),
        ((mine(INVITE, TERM, handling=None),), Status.SAFE, {}),
        ((mine(INVITE, ORIG),), Status.UNSAFE, {"not-reached": "error", "takes-originating": "warning"}),
        ((mine(INVITE),), Status.SAFE, {"takes-originating": "warning"}),
        ((mine("<Method>MESSAGE</Method>"),), Status.UNSAFE, {"not-reached": "error"}),
        ((mine(INVITE, TERM, server="sip:orig@as.example.net"),), Status.UNSAFE, {"wrong-case": "error"}),
        ((), Status.UNSAFE, {"no-criteria": "error"}),
        ((mine(INVITE, TERM, server="sip:other"),), Status.UNSAFE, {"no-criteria": "error"}),
        ((criterion(INVITE, TERM, server=IDENTITY),), Status.SAFE, {"no-safety-exclusion": "warning"}),
        ((mine(INVITE, TERM), criterion(REGISTER, server=IDENTITY, handling=1, priority=2)), Status.UNSAFE,
         {"register-terminated": "error"}),
        ((mine(INVITE, TERM), criterion(INVITE, server="sip:tas", handling=1, priority=0)), Status.SAFE,
         {"before-us": "warning"}),
        ((mine(INVITE, TERM), "<InitialFilterCriteria><Priority>x</Priority></InitialFilterCriteria>"), Status.UNSAFE,
         {"unreadable": "error"}),
        ((b"<IFCs",), Status.UNSAFE, {"unreadable": "error", "no-criteria": "error"}),
    ],
)  # fmt: skip
def test_verdicts(criteria: tuple[str | bytes, ...], status: Status, expected: dict[str, str]):
    found = verdict(*criteria)
    assert expected.items() <= rules(found).items()
    assert found.status is status


def test_a_call_that_does_not_come_is_explained():
    (finding,) = [each for each in verdict(mine(INVITE, ORIG)).findings if each.rule == "not-reached"]
    assert "TERMINATING_REGISTERED does not reach us (priority 1: no trigger of group 1 holds" in finding.text
    assert "SessionCase is ORIGINATING_REGISTERED – the session case is TERMINATING_REGISTERED" in finding.text
    (finding,) = verdict(mine(INVITE, server="sip:x"), mine(INVITE, server="sip:a", priority=2)).findings
    assert finding.text == f"the HSS has no criteria for {IDENTITY}, only for sip:a, sip:x"


def test_originating_calls_are_judged_when_asked_for():
    found = verdict(mine(INVITE, TERM), sides="originating")
    assert rules(found)["not-reached"] == "error"
    assert rules(found)["takes-terminating"] == "warning"
    assert verdict(mine(INVITE, ORIG), sides="originating").status is Status.SAFE


def test_what_others_have_after_us_is_not_known():
    xml = render(recommend(IDENTITY, ["terminating"]), Format.XML).text.encode()
    assert "unregistered-nowhere" in {each.rule for each in lint_untrusted(xml)}
    assert "unregistered-nowhere" not in rules(verdict(xml))


def test_whose_criteria_the_hss_gives():
    other = criterion(INVITE, server="sip:tas", priority=9)
    assert verdict(mine(INVITE, TERM), other).answered == "all"
    assert verdict(other).answered == "all"
    assert verdict().answered == "none"


def test_an_hss_that_compares_literally():
    names = (IDENTITY, "sip:term@as.example.net", "sip:orig@as.example.net")
    by_name = (ifcs(), ifcs(mine(INVITE, TERM, server=names[1])), ifcs())
    found = verdict(answers=Answers(by_name, names))
    assert (found.status, rules(found)["server-name-spelling"]) == (Status.SAFE, "info")
    # the same criterion by two names is one
    twice = ifcs(mine(INVITE, TERM))
    assert len(verdict(answers=Answers((twice, twice), names[:2])).reached) == 1


def test_what_is_switched_off_is_unsafe():
    xml = (ifcs(mine(INVITE, TERM)),)
    on = verdict(answers=Answers(xml, (IDENTITY,), 1, 1, (("agent", 0),)))
    assert (on.status, on.user_state) == (Status.SAFE, 1)
    off = verdict(answers=Answers(xml, (IDENTITY,), 1, 0, (("other", 0), ("agent", 1))))
    assert rules(off).items() >= {"psi-inactive": "error", "dsai-inactive": "error"}.items()
    assert off.status is Status.UNSAFE
