"""Findings on initial filter criteria: what is wrong, what is dangerous, what one S-CSCF reads otherwise than another.

Whether a criterion can match a kind of request is decided by three-valued logic: some conditions are known for that
kind (its method, a header that it has), the others may be either way; a trigger point that is false whatever they are
keeps the kind away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from itertools import pairwise
from typing import Any

import attrs
from lxml import etree

from ifc.ere import Ere, EreError
from ifc.model import (
    Condition,
    InitialFilterCriteria,
    MethodCondition,
    RequestUriCondition,
    SessionCase,
    SessionCaseCondition,
    SessionDescriptionCondition,
    SipHeaderCondition,
    TriggerPoint,
)
from ifc.parser import IfcError
from ims_as.ifc_tool.reading import Criteria, read_document_untrusted

__all__ = ["Finding", "Severity", "lint_untrusted", "may_match"]

KAMAILIO_PATTERN_CHARS = 255
"""Header and content patterns beyond this do not fit ims_isc's buffers."""

_PATTERN_ELEMENTS = ("RequestURI", "Header", "Content", "Line")


class Severity(Enum):
    """ERROR: breaks the specification or harms users.  WARNING: dangerous or not portable.  INFO: good to know."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@attrs.frozen
class Finding:
    severity: Severity
    rule: str
    line: int | None
    text: str
    clause: str
    consequence: str

    def to_dict(self) -> dict[str, Any]:
        return {**attrs.asdict(self), "severity": self.severity.value}


def lint_untrusted(
    xml: bytes, *, identity: str | None = None, own_hosts: frozenset[str] = frozenset()
) -> tuple[Finding, ...]:
    """All findings, by line.  Never raises: a document that cannot be read is a finding.

    Args:
        identity: our SIP URI; None does not look at server names.
        own_hosts: further hosts (lower case) by which we are reached.
    """
    try:
        document = read_document_untrusted(xml)
    except IfcError as error:
        consequence = "no S-CSCF can use it: its users have no services at all"
        return (Finding(Severity.ERROR, "unreadable", None, str(error), "TS 29.228 Annex E", consequence),)
    findings = list(_refused_patterns(xml))
    for _, criteria in document.profiles:
        findings += _same_priorities(criteria)
    told = {finding.line for finding in findings}
    for problem in document.problems:
        if problem.is_skipped and problem.line not in told:
            findings.append(
                Finding(
                    Severity.ERROR,
                    "unreadable",
                    problem.line,
                    problem.text,
                    "TS 29.228 Annex E",
                    "the S-CSCF leaves the criterion out, or refuses the whole profile",
                )
            )
    for criterion in document.criteria:
        findings += _lint_criterion(criterion, is_ours=_is_ours(criterion, identity, own_hosts))
    if identity is not None:
        findings += _server_names(document.criteria, identity, own_hosts)
    return tuple(sorted(findings, key=lambda finding: (finding.line or 0, finding.rule)))


# ---------------------------------------------------------------- the document


def _refused_patterns(xml: bytes) -> Iterator[Finding]:
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    for element in etree.fromstring(xml, parser).iterfind(".//{*}SPT//*"):
        name = etree.QName(element).localname if isinstance(element.tag, str) else ""
        if name not in _PATTERN_ELEMENTS or len(element):
            continue
        try:
            text = element.text or ""
            Ere(text.strip() if "\n" in text or "\r" in text else text)
        except EreError as error:
            yield Finding(
                Severity.ERROR,
                "pattern-refused",
                element.sourceline if isinstance(element.sourceline, int) else None,
                f"{name}: {error}",
                "TS 29.228 Annex F",
                "Sprout leaves the criterion out; Kamailio takes the trigger for false, so a negated one always holds",
            )


def _same_priorities(criteria: Criteria) -> Iterator[Finding]:
    for earlier, later in pairwise(criteria):
        if earlier.priority == later.priority:
            yield Finding(
                Severity.ERROR,
                "duplicate-priority",
                later.line,
                f"priority {later.priority} is already that of {earlier.application_server.server_name}",
                "TS 29.228 Annex B",
                "which application server comes first is left to chance",
            )


# ---------------------------------------------------------------- server names


def _host(uri: str) -> str:
    hostport = uri.partition(":")[2].partition(";")[0].rpartition("@")[2].lower()
    return hostport.partition("]")[0] + "]" if hostport.startswith("[") else hostport.partition(":")[0]


def _is_ours(criterion: InitialFilterCriteria, identity: str | None, own_hosts: frozenset[str]) -> bool:
    return identity is None or _host(criterion.application_server.server_name) in {_host(identity), *own_hosts}


def _server_names(criteria: Criteria, identity: str, own_hosts: frozenset[str]) -> Iterator[Finding]:
    has_own = any(_is_ours(criterion, identity, own_hosts) for criterion in criteria)
    for criterion in criteria:
        name = criterion.application_server.server_name
        if not _is_ours(criterion, identity, own_hosts):
            # beside criteria of ours, those of other application servers are in their place
            yield Finding(
                Severity.INFO if has_own else Severity.WARNING,
                "foreign-server",
                criterion.line,
                f"ServerName {name} is not {identity}",
                "TS 29.228 Annex B",
                "the S-CSCF sends these requests to another server",
            )
        elif name != identity:
            yield Finding(
                Severity.INFO,
                "server-name-spelling",
                criterion.line,
                f"ServerName {name} is ours, but not spelled {identity}",
                "TS 29.328 §7.6.8",
                "an HSS that compares Server-Name literally keeps this criterion from us on Sh",
            )


# ---------------------------------------------------------------- what a criterion can match

Known = Callable[[Condition], bool | None]
"""Whether a condition holds for a kind of request; None: it depends."""


def may_match(trigger_point: TriggerPoint | None, known: Known) -> bool:
    """False only if the trigger point is false whatever the unknown conditions are."""
    if trigger_point is None:
        return True

    def may_hold(condition: Condition, *, negated: bool) -> bool:
        value = known(condition)
        return value is None or value is not negated

    outer, inner = (all, any) if trigger_point.is_cnf else (any, all)
    return outer(
        inner(may_hold(member.condition, negated=member.negated) for member in members)
        for _, members in trigger_point.groups
    )


def _register(condition: Condition) -> bool | None:
    match condition:
        case MethodCondition(method):
            return method == "REGISTER"
        case SessionCaseCondition(session_case):
            return None if session_case.is_originating else False
        case SessionDescriptionCondition():
            return False
    return None


def _invite(condition: Condition) -> bool | None:
    return condition.method == "INVITE" if isinstance(condition, MethodCondition) else None


def _invite_with_header(name: str, contents: Sequence[str]) -> Known:
    def known(condition: Condition) -> bool | None:
        if isinstance(condition, SipHeaderCondition) and condition.header.matches(name):
            content = condition.content
            if content is None or all(content.matches(each) for each in contents):
                return True
        return _invite(condition)

    return known


def _emergency(condition: Condition) -> bool | None:
    if isinstance(condition, RequestUriCondition):
        return condition.pattern.matches("service:sos")
    return _invite(condition)


_SAFETY: tuple[tuple[str, Known], ...] = (
    ("emergency calls (negated RequestURI ^(urn:)?service:sos)", _emergency),
    ("call-backs of emergency centres (negated header ^Priority$, content psap-callback)",
     _invite_with_header("Priority", ("psap-callback",))),
    ("priority calls (negated header ^Resource-Priority$, content .*)",
     _invite_with_header("Resource-Priority", ("ets.0", "wps.0", "esnet.0", "q735.0"))),
)  # fmt: skip


# ---------------------------------------------------------------- rules for one criterion


def _lint_criterion(criterion: InitialFilterCriteria, *, is_ours: bool) -> Iterator[Finding]:
    def finding(severity: Severity, rule: str, text: str, clause: str, consequence: str) -> Finding:
        return Finding(severity, rule, criterion.line, f"priority {criterion.priority}: {text}", clause, consequence)

    point = criterion.trigger_point
    takes_register = may_match(point, _register)
    takes_invite = may_match(point, _invite)
    if criterion.application_server.is_terminating_on_failure:
        if takes_register:
            yield finding(
                Severity.ERROR,
                "register-terminated",
                "can match REGISTER, and DefaultHandling is 1 (SESSION_TERMINATED)",
                "TS 24.229 §5.4.1.7",
                "while the application server is down, the S-CSCF de-registers the user",
            )
        if takes_invite:
            yield finding(
                Severity.WARNING,
                "session-terminated",
                "DefaultHandling is 1 (SESSION_TERMINATED)",
                "TS 24.229 §5.4.3.2, §5.4.3.3",
                "while the application server is down, calls are rejected instead of going on to the user's phone",
            )
    if point is None:
        yield finding(
            Severity.WARNING,
            "no-trigger-point",
            "no TriggerPoint",
            "TS 29.228 Annex B",
            "every initial request goes to the application server, REGISTER, MESSAGE and SUBSCRIBE too",
        )
    if takes_invite and is_ours:
        missing = [name for name, known in _SAFETY if may_match(point, known)]
        if missing:
            yield finding(
                Severity.WARNING,
                "no-safety-exclusion",
                f"does not exclude {'; '.join(missing)}",
                "RFC 5031, RFC 7090, RFC 4412",
                "such calls depend on the application server to let them through",
            )
    if point is not None:
        yield from _lint_triggers(point, finding)


def _lint_triggers(point: TriggerPoint, finding: Callable[..., Finding]) -> Iterator[Finding]:
    for trigger in point.triggers:
        condition = trigger.condition
        match condition:
            case SipHeaderCondition(header, content):
                if trigger.negated and content is None:
                    yield finding(
                        Severity.WARNING,
                        "negated-header-without-content",
                        f"negated SIPHeader {header} without Content",
                        "TS 29.228 Annex B",
                        "Kamailio negates twice: the trigger always holds there; write <Content>.*</Content>",
                    )
                if header.literal is None and not (header.text.startswith("^") and header.text.endswith("$")):
                    yield finding(
                        Severity.INFO,
                        "header-not-anchored",
                        f"Header {header} is not anchored with ^ and $",
                        "TS 29.228 Annex F",
                        "it matches every header name that contains it",
                    )
            case RequestUriCondition(pattern) if not trigger.negated:
                yield finding(
                    Severity.WARNING,
                    "request-uri-portability",
                    f"positive RequestURI {pattern}",
                    "TS 29.228 Annex F",
                    "tested on host and port only by the specification and Sprout, on the whole URI by Kamailio",
                )
            case SessionCaseCondition(session_case):
                if trigger.negated:
                    yield finding(
                        Severity.WARNING,
                        "negated-session-case",
                        f"negated SessionCase {session_case.name}",
                        "TS 29.228 Annex B",
                        "all other session cases match, originating ones too",
                    )
                elif session_case in (SessionCase.ORIGINATING_UNREGISTERED, SessionCase.ORIGINATING_CDIV):
                    yield finding(
                        Severity.INFO,
                        "session-case-portability",
                        f"SessionCase {session_case.name}",
                        "TS 29.228 Annex E",
                        "it never occurs at a Kamailio S-CSCF",
                    )
        for pattern_text in _pattern_texts(condition):
            if len(pattern_text) > KAMAILIO_PATTERN_CHARS:
                yield finding(
                    Severity.WARNING,
                    "pattern-too-long",
                    f"pattern of {len(pattern_text)} characters",
                    "TS 29.228 Annex F",
                    f"Kamailio takes {KAMAILIO_PATTERN_CHARS} at most",
                )
    if _has_split_group(point):
        yield finding(
            Severity.WARNING,
            "group-not-adjacent",
            "triggers of one group do not stand together",
            "TS 29.228 Annex B",
            "Kamailio takes them for two groups",
        )


def _pattern_texts(condition: Condition) -> Iterator[str]:
    for value in attrs.asdict(condition, recurse=False).values():
        if isinstance(value, Ere):
            yield value.text


def _has_split_group(point: TriggerPoint) -> bool:
    for number, members in point.groups:
        places = [place for place, trigger in enumerate(point.triggers) if number in trigger.groups]
        if places[-1] - places[0] >= len(members):
            return True
    return False
