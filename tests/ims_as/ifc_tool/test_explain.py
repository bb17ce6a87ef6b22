from __future__ import annotations

import io

from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from ims_as.ifc_tool.explain import ExplainedTrigger, explain_criteria, triggered_servers
from ims_as.ifc_tool.explain_text import print_explained
from ims_as.ifc_tool.reading import read_document_untrusted, read_request_untrusted
from tests.ims_as.ifc_tool.documents import INVITE, REGISTER, SAFE, VECTORS, criterion, ifcs, message

VIEW = read_request_untrusted(message("01")).view


def explain_one(*conditions: str | tuple[int, str], **options: int) -> list[ExplainedTrigger]:
    (explained,) = explain_criteria(read_document_untrusted(ifcs(criterion(*conditions, **options))).criteria, VIEW)  # type: ignore[arg-type]
    return [trigger for group in explained.groups for trigger in group.triggers]


def test_every_criterion_is_told_in_priority_order():
    document = read_document_untrusted((VECTORS / "ifc/subscription.xml").read_bytes())
    explained = explain_criteria(document.criteria, VIEW)
    assert [(each.priority, each.matches) for each in explained] == [(3, True), (5, False), (20, False)]
    assert explained[0].reason == "a trigger of every group holds"
    assert explained[1].reason == "no group has all its triggers hold"
    assert explained[1].default_handling == "SESSION_TERMINATED"
    assert explained[2].reason == "belongs to the unregistered part of the profile only"
    (visited,) = triggered_servers(document.criteria, VIEW)
    assert visited.priority == 3


def test_reasons_say_what_the_request_has_instead():
    absent = "<SIPHeader><Header>^X-Loop$</Header></SIPHeader>"
    other = "<SIPHeader><Header>^supported$</Header><Content>^gruu$</Content></SIPHeader>"
    conditions = [REGISTER, "<SessionCase>0</SessionCase>", "<RequestURI>^example.org$</RequestURI>", absent, other,
                  "<SessionDescription><Line>k</Line></SessionDescription>"]  # fmt: skip
    triggers = explain_one(*conditions)
    assert not any(trigger.holds for trigger in triggers)
    assert [trigger.reason for trigger in triggers] == [
        "the method is INVITE",
        "the session case is TERMINATING_REGISTERED",
        "not found in ims.mnc001.mcc001.3gppnetwork.org",
        "no such header",
        "supported: 100rel, timer",
        "no such line among vosctma",
    ]


def test_reasons_say_what_was_found():
    conditions = [INVITE, "<RequestURI>mnc001</RequestURI>", "<SIPHeader><Header>^Supported$</Header></SIPHeader>"]
    triggers = explain_one(*conditions)
    assert all(trigger.holds for trigger in triggers)
    assert [trigger.reason for trigger in triggers] == [
        "the method is INVITE",
        "found in ims.mnc001.mcc001.3gppnetwork.org",
        "supported: 100rel",
    ]


def test_a_negated_trigger_fails_with_the_evidence():
    (trigger,) = explain_one((1, INVITE))
    assert not trigger.holds
    assert trigger.text == "not (Method is INVITE)"
    assert trigger.reason == "the method is INVITE"


def deciding(*conditions: str | tuple[int, str], **options: object) -> tuple[bool, list[str]]:
    xml = ifcs(criterion(*conditions, **options))  # type: ignore[arg-type]
    (explained,) = explain_criteria(read_document_untrusted(xml).criteria, VIEW)
    assert explained.because
    return explained.matches, [each.text for group in explained.groups for each in group.triggers if each.decides]


def test_what_decided_is_told():
    term, orig = "<SessionCase>1</SessionCase>", "<SessionCase>0</SessionCase>"
    # CNF fails by each group in which nothing holds, matches by what holds
    assert deciding(INVITE, orig, REGISTER, groups=(0, 1, 1)) == (
        False, ["SessionCase is ORIGINATING_REGISTERED", "Method is REGISTER"]
    )  # fmt: skip
    assert deciding(INVITE, orig, term, groups=(0, 1, 1)) == (
        True, ["Method is INVITE", "SessionCase is TERMINATING_REGISTERED"]
    )  # fmt: skip
    # DNF fails by what does not hold in any group, matches by the groups that hold
    assert deciding(INVITE, orig, REGISTER, cnf=0, groups=(0, 0, 1)) == (
        False, ["SessionCase is ORIGINATING_REGISTERED", "Method is REGISTER"]
    )  # fmt: skip
    assert deciding(INVITE, orig, INVITE, term, cnf=0, groups=(0, 0, 1, 1)) == (
        True, ["Method is INVITE", "SessionCase is TERMINATING_REGISTERED"]
    )  # fmt: skip
    assert deciding((1, INVITE), term) == (False, ["not (Method is INVITE)"])


def test_because_is_one_line_for_each():
    (explained,) = explain_criteria(read_document_untrusted(ifcs(criterion(REGISTER))).criteria, VIEW)
    assert explained.because == ("Method is REGISTER: no, the method is INVITE",)
    assert explained.to_dict()["because"] == list(explained.because)
    (explained,) = explain_criteria(read_document_untrusted(ifcs(criterion())).criteria, VIEW)
    assert explained.because == (explained.reason,)


def test_for_a_terminal():
    document = read_document_untrusted((VECTORS / "ifc/subscription.xml").read_bytes())
    console = Console(file=io.StringIO(), width=60, soft_wrap=True, highlight=False)
    print_explained("INVITE sip:bob\x1b[31m@example.net", explain_criteria(document.criteria, VIEW), console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "\x1b" not in text
    assert "✓ priority 3: sip:term@ai-as.example.net:5060;transport=tcp matches" in text
    assert text.endswith("→ 3 sip:term@ai-as.example.net:5060;transport=tcp (SESSION_CONTINUED)\n")
    print_explained("INVITE sip:bob", explain_criteria(document.criteria[1:2], VIEW), console)
    assert console.file.getvalue().endswith("no application server: ordinary routing\n")  # type: ignore[attr-defined]
    print_explained("INVITE sip:bob", (), console)
    assert console.file.getvalue().endswith("no criteria: ordinary routing\n")  # type: ignore[attr-defined]


def test_no_trigger_point_matches_everything():
    (explained,) = explain_criteria(read_document_untrusted(ifcs(criterion())).criteria, VIEW)
    assert explained.matches
    assert explained.is_cnf is None
    assert "every initial request" in explained.reason


conditions = st.sampled_from([INVITE, REGISTER, *SAFE, (1, INVITE), "<SessionCase>1</SessionCase>"])


@given(st.lists(conditions, min_size=1, max_size=5), st.integers(0, 1), st.data())
@settings(max_examples=60)
def test_the_groups_agree_with_the_engine(members: list[str], cnf: int, data: st.DataObject):
    groups = tuple(data.draw(st.lists(st.integers(0, 2), min_size=len(members), max_size=len(members))))
    xml = ifcs(criterion(*members, cnf=cnf, groups=groups))
    (explained,) = explain_criteria(read_document_untrusted(xml).criteria, VIEW)
    held = [group.holds for group in explained.groups]
    assert explained.matches is (all(held) if cnf else any(held))
