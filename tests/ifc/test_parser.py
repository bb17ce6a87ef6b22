from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ifc import parser
from ifc.errors import IfcError
from ifc.model import DefaultHandling, ProfilePart, RegistrationType, SessionCase, SessionCaseCondition
from ifc.parser import parse_criteria_untrusted, parse_subscription_untrusted

XML = (Path(__file__).parents[1] / "vectors" / "ifc" / "subscription.xml").read_bytes()
SERVER = "<ApplicationServer><ServerName>sip:as.example.net</ServerName></ApplicationServer>"
GOOD = f"<InitialFilterCriteria><Priority>1</Priority>{SERVER}</InitialFilterCriteria>"
TRIGGER = "<SPT><Group>0</Group><Method>INVITE</Method></SPT>"


def criterion(inner: str, priority: int = 0) -> str:
    return f"<InitialFilterCriteria><Priority>{priority}</Priority>{inner}</InitialFilterCriteria>"


def with_spt(inner: str) -> str:
    return criterion(f"<TriggerPoint><ConditionTypeCNF>1</ConditionTypeCNF>{inner}</TriggerPoint>{SERVER}")


def test_everything_is_read() -> None:
    parsed = parse_subscription_untrusted(XML)
    assert parsed.problems == ()
    subscription = parsed.subscription
    assert subscription.private_id == "001010000000002@ims.mnc001.mcc001.3gppnetwork.org"
    profile = subscription.profile_of("tel:+15550000002")
    assert profile is not None
    assert subscription.profile_of("tel:+1") is None
    bob = profile.public_identities[0]
    assert (bob.barred, bob.identity_type, bob.display_name, bob.alias_group) == (True, 0, "Bob", "a1")
    assert bob.service_priority_level == 3
    assert profile.media_profile_id == 4
    assert profile.shared_ifc_set_ids == (7,)
    first, second, third = profile.criteria
    assert [first.priority, second.priority, third.priority] == [3, 5, 20]
    assert first.application_server.server_name == "sip:term@ai-as.example.net:5060;transport=tcp"
    assert first.application_server.default_handling is DefaultHandling.SESSION_CONTINUED
    assert first.profile_part is ProfilePart.REGISTERED
    assert first.trigger_point is not None
    assert first.trigger_point.is_cnf
    assert first.trigger_point.triggers[1].groups == (1, 2)
    assert first.trigger_point.triggers[1].negated
    assert first.trigger_point.triggers[2].condition == SessionCaseCondition(SessionCase.TERMINATING_REGISTERED)
    assert second.trigger_point is not None
    assert not second.trigger_point.is_cnf
    assert second.trigger_point.triggers[0].registration_types == (
        RegistrationType.INITIAL_REGISTRATION,
        RegistrationType.DE_REGISTRATION,
    )
    assert second.application_server.is_terminating_on_failure
    assert second.application_server.service_info == "agent & more"
    assert second.application_server.include_register_request
    assert second.application_server.include_register_response
    assert third.trigger_point is None
    assert third.application_server.default_handling is None
    assert third.profile_part is ProfilePart.UNREGISTERED


@pytest.mark.parametrize(
    "document",
    [
        f"<IFCs>{GOOD}</IFCs>",
        f"<Sh-Data><Sh-IMS-Data><IFCs>{GOOD}</IFCs></Sh-IMS-Data></Sh-Data>",
        f"<ServiceProfile><PublicIdentity><Identity>x</Identity></PublicIdentity>{GOOD}</ServiceProfile>",
        f"<IMSSubscription><PrivateID>p</PrivateID><ServiceProfile>{GOOD}</ServiceProfile></IMSSubscription>",
        GOOD,
        f'<a:IFCs xmlns:a="urn:x" xmlns="urn:x">{GOOD}</a:IFCs>',
        f"<!-- c --><IFCs><!-- c -->{GOOD}<?pi x?></IFCs>",
    ],
)
def test_roots(document: str) -> None:
    parsed = parse_criteria_untrusted(document.encode())
    assert [each.priority for each in parsed.criteria] == [1]
    assert parsed.problems == ()


def test_repository_data_is_not_searched() -> None:
    document = f"<Sh-Data><RepositoryData><ServiceData>{GOOD}</ServiceData></RepositoryData></Sh-Data>"
    assert parse_criteria_untrusted(document.encode()).criteria == ()


def test_any_order_and_spelling() -> None:
    document = (
        f"<IFCs><InitialFilterCriteria>{SERVER}<Unknown/><TriggerPoint><SPT><Method> INVITE\n</Method>"
        "<Group>1</Group><ConditionNegated>false</ConditionNegated></SPT><ConditionTypeCNF>true</ConditionTypeCNF>"
        "</TriggerPoint><Priority>\n 4 </Priority></InitialFilterCriteria></IFCs>"
    )
    (read,) = parse_criteria_untrusted(document.encode()).criteria
    assert read.priority == 4
    assert read.trigger_point is not None
    assert read.trigger_point.is_cnf


def test_pretty_printed_pattern() -> None:
    pattern = "<SPT><Group>0</Group><RequestURI>\n   example\n  </RequestURI></SPT>"
    blank = "<SPT><Group>0</Group><RequestURI> example</RequestURI></SPT>"
    texts = []
    for inner in (pattern, blank):
        (read,) = parse_criteria_untrusted(with_spt(inner).encode()).criteria
        assert read.trigger_point is not None
        texts.append(str(read.trigger_point.triggers[0].condition.pattern))  # type: ignore[union-attr]
    assert texts == ["example", " example"]


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        (f"<InitialFilterCriteria>{SERVER}</InitialFilterCriteria>", "without Priority"),
        (criterion(""), "without ApplicationServer"),
        (criterion("<ApplicationServer/>"), "without ServerName"),
        (criterion("<ApplicationServer><ServerName> </ServerName></ApplicationServer>"), "ServerName is empty"),
        (criterion("<ApplicationServer><ServerName>as.net</ServerName></ApplicationServer>"), "not a SIP URI"),
        (criterion("<ApplicationServer><ServerName>sip:a&#13;b</ServerName></ApplicationServer>"), "not a SIP URI"),
        (criterion("<ApplicationServer><ServerName>sip:a&gt;b</ServerName></ApplicationServer>"), "not a SIP URI"),
        (criterion("<ApplicationServer><ServerName>sip:</ServerName></ApplicationServer>"), "not a SIP URI"),
        (criterion(SERVER + SERVER), "ApplicationServer more than once"),
        (criterion(f"{SERVER}<Priority>4</Priority>"), "Priority more than once"),
        (criterion(f"{SERVER}<ProfilePartIndicator>2</ProfilePartIndicator>"), "not one of 0, 1"),
        (f"<InitialFilterCriteria><Priority>-1</Priority>{SERVER}</InitialFilterCriteria>", "not a number"),
        (f"<InitialFilterCriteria><Priority>9999999999</Priority>{SERVER}</InitialFilterCriteria>", "not a number"),
        (f"<InitialFilterCriteria><Priority>²</Priority>{SERVER}</InitialFilterCriteria>", "not a number"),
        (f"<InitialFilterCriteria><Priority><x/></Priority>{SERVER}</InitialFilterCriteria>", "holds elements"),
        (criterion(f"<TriggerPoint/>{SERVER}"), "TriggerPoint without SPT"),
        (criterion(f"<TriggerPoint>{TRIGGER}</TriggerPoint>{SERVER}"), "without ConditionTypeCNF"),
        (with_spt(TRIGGER * (parser.MAX_TRIGGERS + 1)), "more than 100 SPTs"),
        (with_spt("<SPT><Group>0</Group></SPT>"), "0 conditions"),
        (with_spt("<SPT><Method>INVITE</Method></SPT>"), "without Group"),
        (with_spt("<SPT><Group>0</Group><Method>A</Method><Method>B</Method></SPT>"), "2 conditions"),
        (with_spt("<SPT><Group>0</Group><Method>A</Method><SessionCase>1</SessionCase></SPT>"), "2 conditions"),
        (with_spt("<SPT><Group>0</Group><SessionCase>5</SessionCase></SPT>"), "not one of 0, 1, 2, 3, 4"),
        (with_spt("<SPT><Group>0</Group><SIPHeader/></SPT>"), "SIPHeader without Header"),
        (with_spt("<SPT><Group>0</Group><SIPHeader><Header>(</Header></SIPHeader></SPT>"), "( without )"),
        (with_spt("<SPT><Group>0</Group><RequestURI>\\d</RequestURI></SPT>"), "not in POSIX"),
        (with_spt("<SPT><Group>x</Group><Method>A</Method></SPT>"), "not a number"),
        (with_spt("<SPT><ConditionNegated>no</ConditionNegated><Group>1</Group><Method>A</Method></SPT>"), "neither"),
        (
            with_spt(
                "<SPT><Group>1</Group><Method>A</Method><Extension><RegistrationType>3</RegistrationType></Extension></SPT>"
            ),
            "not one of 0, 1, 2",
        ),
    ],
)
def test_a_bad_criterion_is_left_out_and_reported(bad: str, complaint: str) -> None:
    parsed = parse_criteria_untrusted(f"<IFCs>\n{GOOD}\n\n{bad}\n</IFCs>".encode())
    assert [each.priority for each in parsed.criteria] == [1]
    (problem,) = parsed.problems
    assert problem.is_skipped
    assert problem.line == 4
    assert complaint in problem.text
    assert str(problem).startswith("line 4: ")


def test_a_bad_identity_is_left_out_and_reported() -> None:
    document = (
        "<IMSSubscription><PrivateID>p</PrivateID><ServiceProfile><PublicIdentity/>"
        f"<PublicIdentity><Identity>tel:1</Identity></PublicIdentity>{GOOD}</ServiceProfile></IMSSubscription>"
    )
    parsed = parse_subscription_untrusted(document.encode())
    (profile,) = parsed.subscription.service_profiles
    assert [each.identity for each in profile.public_identities] == ["tel:1"]
    assert len(profile.criteria) == 1
    assert [problem.text for problem in parsed.problems] == ["PublicIdentity without Identity"]


def test_priority_used_twice_is_reported_and_kept() -> None:
    parsed = parse_criteria_untrusted(f"<IFCs>{GOOD}{GOOD}</IFCs>".encode())
    assert len(parsed.criteria) == 2
    (problem,) = parsed.problems
    assert not problem.is_skipped


def test_limits() -> None:
    parsed = parse_criteria_untrusted(f"<IFCs>{GOOD * (parser.MAX_CRITERIA + 5)}</IFCs>".encode())
    assert len(parsed.criteria) == parser.MAX_CRITERIA
    assert len(parsed.problems) == parser.MAX_PROBLEMS
    with pytest.raises(IfcError, match="at most"):
        parse_criteria_untrusted(b"<IFCs>" + b" " * parser.MAX_DOCUMENT_BYTES + b"</IFCs>")


BOMB = b'<!DOCTYPE IFCs [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;">]><IFCs>&b;</IFCs>'
EXTERNAL = b'<!DOCTYPE IFCs SYSTEM "file:///etc/passwd"><IFCs/>'


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"x",
        b"<IFCs>",
        b"<html/>",
        BOMB,
        EXTERNAL,
        BOMB.decode().encode("utf-16"),
        b"<IFCs>&x;</IFCs>",
        b"\xff" * 9,
        b"<IFCs>" * 5000,
        b'<?xml version="1.0" encoding="nonsense"?><IFCs/>',
    ],
)
def test_not_a_document(document: bytes) -> None:
    with pytest.raises(IfcError):
        parse_criteria_untrusted(document)
    with pytest.raises(IfcError):
        parse_subscription_untrusted(document)


@pytest.mark.parametrize("inner", ["", "<PrivateID/>", "<PrivateID>a</PrivateID><PrivateID>b</PrivateID>"])
def test_subscription_without_frame(inner: str) -> None:
    with pytest.raises(IfcError):
        parse_subscription_untrusted(f"<IMSSubscription>{inner}</IMSSubscription>".encode())


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_bytes_raise_nothing_else(document: bytes) -> None:
    with contextlib.suppress(IfcError):
        assert not parse_criteria_untrusted(document).criteria


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(XML) - 1), st.integers(0, 40), st.binary(max_size=6))
def test_damaged_documents_raise_nothing_else(at: int, size: int, patch: bytes) -> None:
    damaged = XML[:at] + patch + XML[at + size :]
    for parse in (parse_criteria_untrusted, parse_subscription_untrusted):
        try:
            parse(damaged)
        except IfcError:
            continue


NAMES = ["IFCs", "InitialFilterCriteria", "Priority", "TriggerPoint", "SPT", "Group", "Method", "SIPHeader", "Header"]
TREES = st.recursive(
    st.sampled_from(["", "0", "1", "sip:a"]),
    lambda inner: st.tuples(st.sampled_from(NAMES), st.lists(inner, max_size=4)).map(
        lambda two: f"<{two[0]}>{''.join(two[1])}</{two[0]}>"
    ),
    max_leaves=20,
)


@settings(max_examples=200, deadline=None)
@given(TREES)
def test_any_tree_raises_nothing_else(inner: str) -> None:
    parsed = parse_criteria_untrusted(f"<IFCs><InitialFilterCriteria>{inner}</InitialFilterCriteria></IFCs>".encode())
    assert len(parsed.criteria) + len(parsed.problems) >= 1
