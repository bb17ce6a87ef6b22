from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ifc.engine import find_witnesses
from ifc.model import MethodCondition, RequestUriCondition, ServicePointTrigger, TriggerPoint
from ifc.view import PlainRequestView
from ims_as.ifc_tool.lint import Finding, Severity, lint_untrusted, may_match
from tests.ims_as.ifc_tool.documents import IDENTITY, INVITE, REGISTER, SAFE, TERMINATING, VECTORS, criterion, ifcs


def lint(*criteria: str, identity: str | None = None, own_hosts: frozenset[str] = frozenset()) -> dict[str, Finding]:
    """Rule → finding; every rule at most once."""
    findings = lint_untrusted(ifcs(*criteria), identity=identity, own_hosts=own_hosts)
    rules = [finding.rule for finding in findings]
    assert len(rules) == len(set(rules)), rules
    return {finding.rule: finding for finding in findings}


def test_a_portable_safe_criterion_has_no_findings():
    terminating = "<SessionCase>1</SessionCase>"
    assert lint(criterion(INVITE, terminating, *SAFE), identity=IDENTITY) == {}


def test_a_document_that_is_none_is_one_error():
    for xml in (b"", b"<IFCs>", b"<html/>", b"\xff\xfe", b"<!DOCTYPE x [<!ENTITY a 'b'>]><IFCs>&a;</IFCs>"):
        (finding,) = lint_untrusted(xml)
        assert (finding.severity, finding.rule) == (Severity.ERROR, "unreadable")


def test_an_unreadable_criterion_is_told_with_its_line():
    bad = criterion(INVITE, *SAFE).replace("<Priority>1</Priority>", "<Priority>first</Priority>")
    xml = ifcs(criterion(INVITE, TERMINATING, *SAFE, priority=2), bad)
    (finding,) = lint_untrusted(xml)
    assert (finding.severity, finding.rule) == (Severity.ERROR, "unreadable")
    assert "first" in xml.decode().splitlines()[(finding.line or 0) - 1]


def test_a_refused_pattern_is_told_once_with_its_own_line():
    header = "<SIPHeader>\n<Header>^X$</Header>\n<Content>(</Content></SIPHeader>"
    xml = ifcs(criterion(INVITE, header, *SAFE))
    (finding,) = lint_untrusted(xml)
    assert (finding.severity, finding.rule) == (Severity.ERROR, "pattern-refused")
    assert xml.decode().splitlines()[(finding.line or 0) - 1].startswith("<Content>(")
    assert "Kamailio" in finding.consequence


def test_a_pattern_may_stand_on_lines_of_its_own():
    header = "<SIPHeader>\n<Header>\n    ^X-Y$\n  </Header>\n</SIPHeader>"
    assert lint(criterion(INVITE, TERMINATING, header, *SAFE)) == {}


def test_patterns_outside_of_triggers_are_not_looked_at():
    xml = b"<Sh-Data><RepositoryData><ServiceData><Content>(</Content></ServiceData></RepositoryData></Sh-Data>"
    assert lint_untrusted(xml) == ()


def test_session_terminated_is_a_danger_for_calls():
    finding = lint(criterion(INVITE, *SAFE, handling=1))["session-terminated"]
    assert finding.severity is Severity.WARNING
    assert "rejected" in finding.consequence
    assert "session-terminated" not in lint(criterion(INVITE, *SAFE, handling=None))
    assert "session-terminated" not in lint(criterion("<Method>MESSAGE</Method>", handling=1))


@pytest.mark.parametrize(
    ("conditions", "cnf", "groups"),
    [
        ([REGISTER], 1, None),
        ([], 1, None),
        ([INVITE, REGISTER], 1, (0, 0)),
        ([INVITE, REGISTER], 0, None),
        ([(1, INVITE)], 1, None),
        (["<SessionCase>0</SessionCase>"], 1, None),
    ],
)
def test_register_with_session_terminated_is_an_error(conditions: list[str], cnf: int, groups: tuple[int, ...] | None):
    finding = lint(criterion(*conditions, handling=1, cnf=cnf, groups=groups))["register-terminated"]
    assert finding.severity is Severity.ERROR
    assert "de-registers" in finding.consequence


@pytest.mark.parametrize(
    "conditions",
    [
        [INVITE],
        [(1, REGISTER)],
        ["<SessionCase>1</SessionCase>"],
        [INVITE, REGISTER],
        ["<SessionDescription><Line>m</Line></SessionDescription>"],
    ],
)
def test_criteria_that_no_register_matches_are_not_blamed_for_it(conditions: list[str]):
    assert "register-terminated" not in lint(criterion(*conditions, handling=1))


def test_duplicate_priority_is_an_error_within_one_profile_only():
    calls = (INVITE, TERMINATING, *SAFE)
    found = lint(criterion(*calls), criterion(*calls, server="sip:other.example.net"))
    assert found["duplicate-priority"].severity is Severity.ERROR
    profile = f"<ServiceProfile>{criterion(*calls)}</ServiceProfile>"
    subscription = f"<IMSSubscription><PrivateID>a@b</PrivateID>{profile}{profile}</IMSSubscription>"
    assert lint_untrusted(subscription.encode()) == ()


def test_server_names_are_compared_with_the_configuration():
    calls = (INVITE, TERMINATING, *SAFE)
    ours = criterion(*calls)
    other = criterion(*calls, priority=2, server="sip:tas.example.net")
    assert lint(other) == {}
    assert lint(other, identity=IDENTITY)["foreign-server"].severity is Severity.WARNING
    assert lint(ours, other, identity=IDENTITY)["foreign-server"].severity is Severity.INFO
    spelled = criterion(*calls, server="sip:term@AI-AS.example.net:5060;lr")
    assert lint(spelled, identity=IDENTITY)["server-name-spelling"].severity is Severity.INFO
    by_address = criterion(*calls, server="sip:[2001:db8::1]:5060")
    assert "foreign-server" in lint(by_address, identity=IDENTITY)
    assert "foreign-server" not in lint(by_address, identity=IDENTITY, own_hosts=frozenset({"[2001:db8::1]"}))


def test_missing_safety_exclusions_are_named():
    text = lint(criterion(INVITE, *SAFE[:2]))["no-safety-exclusion"].text
    assert "Resource-Priority" in text
    assert "emergency" not in text
    assert "no-safety-exclusion" not in lint(criterion("<Method>MESSAGE</Method>"))
    # a negated trigger beside another one in its group excludes nothing
    assert "no-safety-exclusion" in lint(
        criterion(INVITE, *SAFE, "<SessionCase>1</SessionCase>", groups=(0, 1, 2, 3, 3))
    )
    # another server's criteria are its own concern
    found = lint(criterion(INVITE, TERMINATING, server="sip:tas.example.net"), identity=IDENTITY)
    assert list(found) == ["foreign-server"]


def test_a_content_that_leaves_priority_calls_out_is_no_exclusion():
    weak = (1, "<SIPHeader><Header>^Resource-Priority$</Header><Content>^ets</Content></SIPHeader>")
    assert "no-safety-exclusion" in lint(criterion(INVITE, *SAFE[:2], weak))


def test_what_s_cscfs_read_differently():
    negated = (1, "<SIPHeader><Header>^X-Loop$</Header></SIPHeader>")
    assert "Kamailio" in lint(criterion(INVITE, *SAFE, negated))["negated-header-without-content"].consequence
    uri = "<RequestURI>^example.net$</RequestURI>"
    assert lint(criterion(INVITE, *SAFE, uri))["request-uri-portability"].severity is Severity.WARNING
    loose = "<SIPHeader><Header>Priority</Header></SIPHeader>"
    assert lint(criterion(INVITE, *SAFE, loose))["header-not-anchored"].severity is Severity.INFO
    long = f"<SIPHeader><Header>^X$</Header><Content>{'a' * 256}</Content></SIPHeader>"
    assert "256 characters" in lint(criterion(INVITE, *SAFE, long))["pattern-too-long"].text
    assert "negated-session-case" in lint(criterion(INVITE, *SAFE, (1, "<SessionCase>0</SessionCase>")))
    assert "session-case-portability" in lint(criterion(INVITE, *SAFE, "<SessionCase>4</SessionCase>"))


def test_groups_must_stand_together_for_kamailio():
    cases = ("<SessionCase>1</SessionCase>", "<SessionCase>2</SessionCase>")
    split = criterion(cases[0], INVITE, *SAFE, cases[1], groups=(0, 1, 2, 3, 4, 0))
    assert "group-not-adjacent" in lint(split)
    together = criterion(*cases, INVITE, *SAFE, groups=(0, 0, 1, 2, 3, 4))
    assert "group-not-adjacent" not in lint(together)


def test_the_profile_of_the_vectors_has_its_known_faults():
    findings = lint_untrusted((VECTORS / "ifc/subscription.xml").read_bytes())
    errors = [(finding.rule, finding.line) for finding in findings if finding.severity is Severity.ERROR]
    assert errors == [("register-terminated", 69)]


@given(st.binary(max_size=300))
@settings(max_examples=100)
def test_lint_never_raises(xml: bytes):
    lint_untrusted(xml)


CONDITIONS = (
    MethodCondition("INVITE"),
    MethodCondition("REGISTER"),
    RequestUriCondition("a"),
    RequestUriCondition("b"),
)
triggers = st.builds(
    ServicePointTrigger,
    st.sampled_from(CONDITIONS),
    st.lists(st.integers(0, 2), min_size=1, max_size=2).map(tuple),
    st.booleans(),
)


@given(st.booleans(), st.lists(triggers, min_size=1, max_size=5).map(tuple), st.sampled_from(["c", "a", "b", "ab"]))
@settings(max_examples=200)
def test_may_match_never_excludes_what_the_engine_matches(
    cnf: bool, members: tuple[ServicePointTrigger, ...], host: str
):
    """With the method known and the Request-URI unknown, each request that matches must have been possible."""

    def known(condition: object) -> bool | None:
        return condition.method == "INVITE" if isinstance(condition, MethodCondition) else None

    point = TriggerPoint(cnf, members)
    if find_witnesses(point, PlainRequestView("INVITE", f"sip:{host}")) is not None:
        assert may_match(point, known)


def test_may_match_is_exact_where_all_is_known():
    point = TriggerPoint(True, (ServicePointTrigger(CONDITIONS[0]), ServicePointTrigger(CONDITIONS[1], (1,))))
    assert not may_match(point, lambda condition: condition == CONDITIONS[0])
    assert may_match(point, lambda condition: True)
    assert may_match(None, lambda condition: False)
