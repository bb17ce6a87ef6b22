"""Each rule of the linter: a document that breaks it, and the same document mended."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ims_as.ifc_tool.findings import RULES, Finding
from ims_as.ifc_tool.lint import lint_untrusted
from tests.ims_as.ifc_tool.documents import IDENTITY, INVITE, REGISTER, SAFE, criterion, ifcs

TERM = "<SessionCase>1</SessionCase>"
UNREGISTERED = "<SessionCase>2</SessionCase>"
ORIG = "<SessionCase>0</SessionCase>"
CALL = (INVITE, TERM, *SAFE)
OTHER = "sip:tas.example.net"


def header(name: str, content: str | None = None) -> str:
    inner = "" if content is None else f"<Content>{content}</Content>"
    return f"<SIPHeader><Header>{name}</Header>{inner}</SIPHeader>"


def sdp(line: str, content: str | None = None) -> str:
    inner = "" if content is None else f"<Content>{content}</Content>"
    return f"<SessionDescription><Line>{line}</Line>{inner}</SessionDescription>"


def uri(pattern: str) -> str:
    return f"<RequestURI>{pattern}</RequestURI>"


def call(*conditions: str | tuple[int, str], **options: object) -> bytes:
    return ifcs(criterion(*CALL, *conditions, **options))  # type: ignore[arg-type]


def server(elements: str) -> Callable[[bytes], bytes]:
    """Puts elements into the ApplicationServer."""
    return lambda xml: xml.replace(b"</ApplicationServer>", elements.encode() + b"</ApplicationServer>")


GOOD = call()
REGISTERS = ifcs(criterion(REGISTER))
FLAGS = "<Extension><IncludeRegisterRequest/><IncludeRegisterResponse/></Extension>"
TYPE = "<Extension><RegistrationType>0</RegistrationType></Extension>"


def subscription(number: int) -> bytes:
    extension = f"<Extension><SharedIFCSetID>{number}</SharedIFCSetID></Extension>"
    profile = f"<ServiceProfile>{criterion(*CALL)}{extension}</ServiceProfile>"
    return f"<IMSSubscription><PrivateID>a@b</PrivateID>{profile}</IMSSubscription>".encode()


def many() -> bytes:
    """More criteria than can be compared, each a riddle."""
    conditions = [(place % 2, header(f"^X-{place}$", f"a{place}b")) for place in range(16)]
    groups = tuple(place // 2 for place in range(16))
    return ifcs(*(criterion(*conditions, priority=n, groups=groups, server=OTHER) for n in range(60)))


BAD: dict[str, list[tuple[bytes, bytes]]] = {
    "unreadable": [
        (b"<IFCs>", GOOD),
        (GOOD.replace(b"<Priority>1<", b"<Priority>first<"), GOOD),
        (call("<SessionCase>7</SessionCase>"), GOOD),
    ],
    "pattern-refused": [(call(header("^X$", "(")), call(header("^X$", "[(]"))), (call(uri("\\d")), GOOD)],
    "negative-group": [(GOOD.replace(b"<Group>0<", b"<Group>-1<"), GOOD)],
    "condition-type-missing": [(GOOD.replace(b"<ConditionTypeCNF>1</ConditionTypeCNF>", b""), GOOD)],
    "element-order": [
        (GOOD.replace(b"<Priority>1</Priority>", b"").replace(b"</Init", b"<Priority>1</Priority></Init"), GOOD),
        (GOOD.replace(b"<Group>0</Group><Method>INVITE</Method>", b"<Method>INVITE</Method><Group>0</Group>"), GOOD),
    ],
    "unknown-element": [
        (server("<Weight>1</Weight>")(GOOD), server("<Extension><Weight>1</Weight></Extension>")(GOOD)),
        (server("<Weight>1</Weight>")(GOOD), server("<Weight xmlns='urn:vendor'>1</Weight>")(GOOD)),
    ],
    "duplicate-priority": [
        (ifcs(criterion(*CALL), criterion(*CALL, server=OTHER)), ifcs(criterion(*CALL), criterion(*CALL, priority=2)))
    ],
    "shared-set-unknown": [(subscription(9), subscription(7))],
    "shared-set": [(subscription(7), GOOD)],
    "foreign-server": [(call(server=OTHER), GOOD)],
    "server-name-spelling": [(call(server=IDENTITY + ":5060"), GOOD)],
    "session-case-ambiguous": [
        (ifcs(criterion(INVITE, *SAFE)), GOOD),
        (
            ifcs(criterion(*CALL), criterion(INVITE, ORIG, *SAFE, priority=2)),
            ifcs(criterion(*CALL), criterion(INVITE, ORIG, *SAFE, priority=2, server="sip:orig@ai-as.example.net")),
        ),
    ],
    "default-handling-absent": [(call(handling=None), GOOD)],
    "service-info-too-long": [
        (
            server(f"<ServiceInfo>{'x' * 256}</ServiceInfo>")(REGISTERS),
            server("<ServiceInfo>x</ServiceInfo>")(REGISTERS),
        )
    ],
    "service-info-unused": [
        (server("<ServiceInfo>x</ServiceInfo>")(GOOD), server("<ServiceInfo>x</ServiceInfo>")(REGISTERS))
    ],
    "include-register-unused": [(server(FLAGS)(GOOD), server(FLAGS)(REGISTERS))],
    "include-register-both": [
        (server(FLAGS)(REGISTERS), server("<Extension><IncludeRegisterRequest/></Extension>")(REGISTERS))
    ],
    "never-matches": [
        (ifcs(criterion(INVITE, "<Method>MESSAGE</Method>", *SAFE)), GOOD),
        (call((1, INVITE)), GOOD),
        (ifcs(criterion(REGISTER, TERM)), REGISTERS),
        (ifcs(criterion(REGISTER, sdp("^m$"))), REGISTERS),
        (call(ORIG), GOOD),
        (call(UNREGISTERED), ifcs(criterion(*CALL, UNREGISTERED, groups=(0, 1, 2, 3, 4, 1)))),
        (
            GOOD.replace(b"</Init", b"<ProfilePartIndicator>1</ProfilePartIndicator></Init"),
            GOOD.replace(b"</Init", b"<ProfilePartIndicator>0</ProfilePartIndicator></Init"),
        ),
        (
            call(header("^Subject$", "^a$"), (1, header("^Subject$"))),
            call((1, header("^Subject$", "^a$")), header("^Subject$")),
        ),
        (
            call(header("^Subject$", "^ab$"), (1, header("[sS]ubject", "b"))),
            call(header("^Subject$", "^a$"), (1, header("[sS]ubject", "b"))),
        ),
        (call(uri("^a.example$"), uri("^b$")), call(uri("^a.example$"), uri("^b"))),
        (
            ifcs(criterion(INVITE, REGISTER, cnf=0, groups=(0, 0))),
            ifcs(criterion(INVITE, REGISTER, cnf=0, groups=(0, 1))),
        ),
    ],
    "unreachable": [
        (
            ifcs(criterion(INVITE, TERM), criterion(*CALL, priority=2, server=OTHER)),
            ifcs(criterion(*CALL), criterion(INVITE, TERM, priority=2, server=OTHER)),
        ),
        (
            ifcs(criterion(INVITE, TERM), criterion(*CALL, priority=2, server=OTHER)),
            ifcs(criterion(INVITE, TERM, server=OTHER), criterion(*CALL, priority=2)),
        ),
    ],
    "repeated-server": [
        (
            ifcs(criterion(*CALL), criterion(INVITE, TERM, header("^Subject$"), priority=2)),
            ifcs(criterion(*CALL), criterion(INVITE, ORIG, header("^Subject$"), priority=2)),
        )
    ],
    "register-terminated": [(ifcs(criterion(REGISTER, handling=1)), REGISTERS)],
    "session-terminated": [(call(handling=1), GOOD)],
    "unregistered-nowhere": [
        (ifcs(criterion(INVITE, UNREGISTERED, *SAFE)), GOOD),
        (
            ifcs(criterion(INVITE, UNREGISTERED, server=OTHER)),
            ifcs(criterion(INVITE, UNREGISTERED, server=OTHER, handling=1)),
        ),
    ],
    "no-trigger-point": [(ifcs(criterion()), GOOD)],
    "any-method": [
        (ifcs(criterion(TERM, *SAFE)), GOOD),
        (ifcs(criterion((1, REGISTER), TERM, *SAFE)), ifcs(criterion(INVITE, TERM, *SAFE))),
    ],
    "no-safety-exclusion": [(ifcs(criterion(INVITE, TERM)), GOOD)],
    "group-always-holds": [
        (
            ifcs(criterion(*CALL, (1, ORIG), (1, UNREGISTERED), groups=(0, 1, 2, 3, 4, 5, 5))),
            ifcs(criterion(*CALL, (1, ORIG), (1, UNREGISTERED), groups=(0, 1, 2, 3, 4, 5, 6))),
        ),
    ],
    "group-never-holds": [
        (
            ifcs(criterion(INVITE, TERM, ORIG, TERM, cnf=0, groups=(0, 0, 1, 1))),
            ifcs(criterion(INVITE, TERM, ORIG, INVITE, cnf=0, groups=(0, 0, 1, 1))),
        )
    ],
    "not-all-compared": [(many(), GOOD)],
    "method-case": [(ifcs(criterion("<Method>Invite</Method>")), GOOD)],
    "method-unknown": [(ifcs(criterion("<Method>CALL</Method>")), GOOD)],
    "method-not-initial": [(ifcs(criterion("<Method>BYE</Method>")), GOOD)],
    "registration-type-without-register": [
        (GOOD.replace(INVITE.encode(), INVITE.encode() + TYPE.encode()), ifcs(criterion(REGISTER + TYPE)))
    ],
    "session-case-with-register": [(ifcs(criterion(REGISTER, ORIG)), REGISTERS)],
    "negated-session-case": [(call((1, ORIG)), GOOD)],
    "session-case-portability": [(ifcs(criterion(INVITE, "<SessionCase>4</SessionCase>")), GOOD)],
    "request-uri-user-part": [
        (call((1, uri("^bob@"))), call((1, uri("^example")))),
        (call((1, uri("^sip:"))), call((1, uri("^(urn:)?service:sos")))),
        (call((1, uri("^tel:\\+1"))), call((1, uri("^\\+1")))),
    ],
    "request-uri-portability": [(call(uri("^example.net$")), call((1, uri("^example.net$"))))],
    "header-name-impossible": [
        (call(header("^Priority:$", "x")), call(header("^Priority$", "x"))),
        (call(header("a^b", "x")), call(header("^ab$", "x"))),
    ],
    "header-name-compact": [(call(header("^f$", "x")), call(header("^From$", "x")))],
    "header-not-anchored": [(call(header("Priority", "x")), call(header("^Priority$", "x")))],
    "negated-header-without-content": [(call((1, header("^X$"))), call((1, header("^X$", ".*"))))],
    "content-never-matches": [
        (call(header("^X$", "a^b")), call(header("^X$", "^ab"))),
        (call(sdp("^m$", "a$b")), call(sdp("^m$", "ab$"))),
    ],
    "content-needs-comma": [
        (call(header("^Supported$", "100rel, *timer")), call(header("^Supported$", "100rel|timer"))),
        (call(header("^Supported$", "a,b")), call(header("^Subject$", "a,b"))),
    ],
    "pattern-empty": [(call(header("^X$", "")), call(header("^X$", ".*")))],
    "sdp-line-impossible": [(call(sdp("m=audio")), call(sdp("^m$", "^audio")))],
    "sdp-content-with-letter": [(call(sdp("^m$", "^m=audio")), call(sdp("^m$", "^audio")))],
    "pattern-too-long": [(call(header("^X$", "a" * 256)), call(header("^X$", "a" * 255)))],
    "group-not-adjacent": [
        (
            ifcs(criterion(TERM, INVITE, *SAFE, UNREGISTERED, groups=(0, 1, 2, 3, 4, 0))),
            ifcs(criterion(TERM, UNREGISTERED, INVITE, *SAFE, groups=(0, 0, 1, 2, 3, 4))),
        )
    ],
    "open5gs": [
        (ifcs(criterion(*CALL), criterion(REGISTER, priority=2)), GOOD),
        (call(sdp("^m$", "audio")), GOOD),
        (server("<ServiceInfo>x</ServiceInfo>")(REGISTERS), REGISTERS),
    ],
    "fhoss": [(call(header("^X$", "a&amp;b")), GOOD), (call(sdp("^m$")), call(sdp("^m$", ".*")))],
}  # fmt: skip


def rules(xml: bytes) -> dict[str, Finding]:
    return {each.rule: each for each in lint_untrusted(xml, identity=IDENTITY, shared={7: ()})}


@pytest.mark.parametrize(("rule", "bad", "good"), [(rule, *pair) for rule, pairs in BAD.items() for pair in pairs])
def test_rule(rule: str, bad: bytes, good: bytes) -> None:
    findings = rules(bad)
    assert rule in findings, sorted(findings)
    assert findings[rule].clause == RULES[rule].clause
    assert rule not in rules(good)


def test_every_rule_is_tried() -> None:
    assert set(BAD) == set(RULES)


def test_nothing_is_found_in_what_is_good() -> None:
    assert rules(GOOD) == {}
    assert set(rules(REGISTERS)) == set()


WITHOUT_LINE = {"unreadable", "shared-set", "shared-set-unknown", "not-all-compared", "open5gs", "fhoss"}


def test_each_finding_of_a_criterion_has_its_line() -> None:
    for bad in (bad for rule, pairs in BAD.items() for bad, _ in pairs if rule != "not-all-compared"):
        for finding in lint_untrusted(bad, identity=IDENTITY, shared={7: ()}):
            if finding.line is None:
                assert finding.rule in {
                    "unreadable",
                    "shared-set",
                    "shared-set-unknown",
                    "not-all-compared",
                    "open5gs",
                    "fhoss",
                }
            else:
                assert 1 <= finding.line <= bad.count(b"\n") + 1
