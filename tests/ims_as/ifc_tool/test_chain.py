from __future__ import annotations

import pytest

from ifc.model import SessionCase
from ifc.parser import parse_criteria_untrusted
from ifc.view import PlainRequestView
from ims_as.ifc_tool.chain import Chain, End, Outcome, read_outcomes, run_chain
from ims_as.ifc_tool.reading import Criteria, IfcToolError
from tests.ims_as.ifc_tool.documents import INVITE, criterion, ifcs

FIRST, SECOND = "sip:first@as.example.net:5070;transport=tcp", "sip:[2001:db8::1]:5060"


def criteria(*, first: int | None = 0, second: int | None = 0, condition: str = INVITE) -> Criteria:
    return parse_criteria_untrusted(
        ifcs(
            criterion(condition, priority=2, server=SECOND, handling=second),
            criterion(condition, priority=1, server=FIRST, handling=first),
        )
    ).criteria


def run(
    told: str, found: Criteria, case: SessionCase = SessionCase.TERMINATING_REGISTERED, method: str = "INVITE"
) -> Chain:
    view = PlainRequestView(method, "sip:bob@example.net", case)
    return run_chain(found, view, read_outcomes(told.split(), found))


def steps(chain: Chain) -> list[tuple[int, str]]:
    return [(step.priority, step.outcome) for step in chain.steps]


@pytest.mark.parametrize(
    ("told", "handling", "expected", "end"),
    [
        ("", 0, [(1, "passes"), (2, "passes")], End.ROUTED),
        ("1=answers", 0, [(1, "answers")], End.ANSWERED),
        ("1=rejects", 0, [(1, "rejects")], End.REJECTED),
        ("1=fails", 0, [(1, "fails"), (2, "passes")], End.ROUTED),
        ("1=fails", None, [(1, "fails"), (2, "passes")], End.ROUTED),
        ("1=fails", 1, [(1, "fails")], End.RELEASED),
        ("1=fails-late", 0, [(1, "fails-late")], End.LOST),
        ("1=fails 2=answers", 0, [(1, "fails"), (2, "answers")], End.ANSWERED),
        ("1=fails 2=fails", 0, [(1, "fails"), (2, "fails")], End.ROUTED),
    ],
)
def test_outcomes(told: str, handling: int | None, expected: list[tuple[int, str]], end: End):
    chain = run(told, criteria(first=handling))
    assert (steps(chain), chain.end) == (expected, end)


def test_what_is_left_when_all_have_failed():
    told = {
        case: run("1=fails 2=fails", criteria(), case).text
        for case in (
            SessionCase.TERMINATING_REGISTERED, SessionCase.TERMINATING_UNREGISTERED, SessionCase.ORIGINATING_REGISTERED
        )
    }  # fmt: skip
    assert [text.split()[0] for text in told.values()] == ["reaches", "refused", "goes"]
    assert run("", criteria(), SessionCase.TERMINATING_UNREGISTERED).end is End.NO_TARGET
    assert run_chain((), PlainRequestView("INVITE", "sip:a")).text == "ordinary routing"


def test_every_server_gets_its_own_register():
    found = criteria(first=1, condition="<Method>REGISTER</Method>")
    case = SessionCase.ORIGINATING_REGISTERED
    told = run("1=fails", found, case, "REGISTER")
    assert (steps(told), told.end) == ([(1, "fails"), (2, "passes")], End.DEREGISTERED)
    told = run("2=fails", found, case, "REGISTER")
    assert (told.end, told.text) == (End.REGISTERED, "2 told by third-party REGISTER")
    assert run("", criteria(), case, "REGISTER").text == "no server is told"


@pytest.mark.parametrize(
    "name",
    ["1", FIRST, FIRST.upper(), "first@as.example.net:5070", "as.example.net:5070", "as.example.net"],
)
def test_names_of_a_server(name: str):
    chosen = read_outcomes([f"{name}=fails"], criteria(), default=Outcome.ANSWERS)
    assert [chosen(each) for each in criteria()] == [Outcome.FAILS, Outcome.ANSWERS]
    second = read_outcomes(["[2001:db8::1]=rejects"], criteria())
    assert [second(each) for each in criteria()] == [Outcome.PASSES, Outcome.REJECTS]


@pytest.mark.parametrize(
    ("told", "reason"),
    [("1", "expected SERVER=OUTCOME"), ("1=dies", "an outcome of passes, answers"), ("=fails", "expected"),
     ("as.example.com=fails", "the servers are sip:")],
)  # fmt: skip
def test_outcomes_that_cannot_be_meant(told: str, reason: str):
    with pytest.raises(IfcToolError, match=reason):
        read_outcomes([told], criteria())
