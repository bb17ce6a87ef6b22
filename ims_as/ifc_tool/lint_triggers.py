"""Rules for one trigger: methods, session cases, patterns."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator
from typing import Final

import attrs

from ifc.ere import Ere
from ifc.ere_syntax import CharSet
from ifc.model import (
    Condition,
    InitialFilterCriteria,
    MethodCondition,
    RequestUriCondition,
    ServicePointTrigger,
    SessionCase,
    SessionCaseCondition,
    SessionDescriptionCondition,
    SipHeaderCondition,
    TriggerPoint,
)
from ims_as.ifc_tool.findings import Finding, found
from ims_as.isc.view import NOT_LISTS
from ims_as.sip.headers import COMPACT_NAMES

__all__ = ["trigger_findings"]

KAMAILIO_PATTERN_CHARS: Final = 255
"""Header and content patterns beyond this do not fit ims_isc's buffers."""

INITIAL_METHODS: Final = frozenset(
    {"INVITE", "REGISTER", "OPTIONS", "MESSAGE", "SUBSCRIBE", "NOTIFY", "REFER", "PUBLISH"}
)
NEVER_INITIAL: Final = frozenset({"ACK", "BYE", "CANCEL", "INFO", "PRACK", "UPDATE"})


def _chars(text: str) -> CharSet:
    return CharSet(tuple(sorted((ord(char), ord(char)) for char in set(text))))


TOKEN: Final = _chars(string.ascii_letters + string.digits + "-.!%*_+`'~")
TARGET: Final = _chars(string.ascii_letters + string.digits + "-._~!$&'()*+,;=:%[]/")
"""What can stand in hostport, a telephone number with its parameters, or a URN."""
VALUE: Final = CharSet(((0x00, 0x09), (0x0B, 0x10FFFF)))
VALUE_WITHOUT_COMMA: Final = CharSet(((0x00, 0x09), (0x0B, 0x2B), (0x2D, 0x10FFFF)))

_SCHEME: Final = re.compile(r"\^?\(?(sips?|tel|urn)(\\?:|\||\))")
_LETTER_AND_EQUALS: Final = re.compile(r"\^?[a-z]=")


def trigger_findings(criterion: InitialFilterCriteria) -> Iterator[Finding]:
    point = criterion.trigger_point
    if point is None:
        return
    for trigger in point.triggers:
        for rule, text in _one(trigger):
            yield found(rule, criterion.line, f"priority {criterion.priority}: {text}")
    if _has_split_group(point):
        text = f"priority {criterion.priority}: triggers of one group do not stand together"
        yield found("group-not-adjacent", criterion.line, text)


def _one(trigger: ServicePointTrigger) -> Iterator[tuple[str, str]]:
    condition = trigger.condition
    is_register = isinstance(condition, MethodCondition) and condition.method.upper() == "REGISTER"
    if trigger.registration_types and not is_register:
        yield "registration-type-without-register", f"RegistrationType beside a {_element(condition)}"
    match condition:
        case MethodCondition(method):
            yield from _method(method)
        case SessionCaseCondition(session_case):
            yield from _session_case(session_case, negated=trigger.negated)
        case RequestUriCondition(pattern):
            yield from _request_uri(pattern, negated=trigger.negated)
        case SipHeaderCondition():
            yield from _header(condition, negated=trigger.negated)
        case SessionDescriptionCondition():
            yield from _sdp(condition)
    for element, pattern in _patterns(condition):
        if len(pattern.text) > KAMAILIO_PATTERN_CHARS:
            yield "pattern-too-long", f"{element} of {len(pattern.text)} characters"
        if not pattern.text:
            yield "pattern-empty", f"{element} is empty"


def _element(condition: Condition) -> str:
    return {
        MethodCondition: "Method other than REGISTER",
        SessionCaseCondition: "SessionCase",
        RequestUriCondition: "RequestURI",
        SipHeaderCondition: "SIPHeader",
        SessionDescriptionCondition: "SessionDescription",
    }[type(condition)]


def _patterns(condition: Condition) -> Iterator[tuple[str, Ere]]:
    for field in attrs.fields(type(condition)):
        value = getattr(condition, field.name)
        if isinstance(value, Ere):
            yield {"pattern": "RequestURI"}.get(field.name, field.name.capitalize()), value


def _method(method: str) -> Iterator[tuple[str, str]]:
    known = INITIAL_METHODS | NEVER_INITIAL
    if method in NEVER_INITIAL:
        yield "method-not-initial", f"Method {method}"
    elif method not in known:
        is_spelling = method.upper() in known
        yield ("method-case" if is_spelling else "method-unknown"), f"Method {method}"


def _session_case(session_case: SessionCase, *, negated: bool) -> Iterator[tuple[str, str]]:
    if negated:
        yield "negated-session-case", f"negated SessionCase {session_case.name}"
    elif session_case in (SessionCase.ORIGINATING_UNREGISTERED, SessionCase.ORIGINATING_CDIV):
        yield "session-case-portability", f"SessionCase {session_case.name}"


def _request_uri(pattern: Ere, *, negated: bool) -> Iterator[tuple[str, str]]:
    # ^(urn:)?service:sos is meant so: with urn: for Kamailio, without for the others
    optional = "?" in pattern.text[:8]
    if not pattern.can_match(TARGET) or (_SCHEME.match(pattern.text) and not optional):
        yield "request-uri-user-part", f"RequestURI {pattern}"
    elif not negated:
        yield "request-uri-portability", f"positive RequestURI {pattern}"


def _header(condition: SipHeaderCondition, *, negated: bool) -> Iterator[tuple[str, str]]:
    header, content = condition.header, condition.content
    if not header.can_match(TOKEN):
        yield "header-name-impossible", f"Header {header}"
    elif header.literal in COMPACT_NAMES:
        name = COMPACT_NAMES[header.literal]
        yield "header-name-compact", f"Header {header} is the compact form of {name}: write ^{name}$"
    elif header.literal is None and not (header.text.startswith("^") and header.text.endswith("$")):
        yield "header-not-anchored", f"Header {header} is not anchored with ^ and $"
    if negated and content is None:
        yield "negated-header-without-content", f"negated SIPHeader {header} without Content"
    if content is not None:
        if not content.can_match(VALUE):
            yield "content-never-matches", f"Content {content}"
        elif header.literal not in NOT_LISTS and not content.can_match(VALUE_WITHOUT_COMMA):
            yield "content-needs-comma", f"Content {content} of Header {header}"


def _sdp(condition: SessionDescriptionCondition) -> Iterator[tuple[str, str]]:
    line, content = condition.line, condition.content
    if not any(map(line.matches, string.ascii_letters)):
        yield "sdp-line-impossible", f"Line {line}"
    if content is not None:
        if not content.can_match(VALUE):
            yield "content-never-matches", f"Content {content}"
        elif _LETTER_AND_EQUALS.match(content.text):
            yield "sdp-content-with-letter", f"Content {content}"


def _has_split_group(point: TriggerPoint) -> bool:
    for number, members in point.groups:
        places = [place for place, trigger in enumerate(point.triggers) if number in trigger.groups]
        if places[-1] - places[0] >= len(members):
            return True
    return False
