"""Criteria → a script for mongosh that puts them into the subscribers of Open5GS.

Open5GS reads numbers only as 32 bit integers, knows one group per trigger and no service info, profile part,
registration type or included REGISTER, and never writes an SDP trigger into the XML.  The version read keeps the number
of triggers of every criterion in the first one, so that only a single criterion works.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ifc.model import (
    InitialFilterCriteria,
    MethodCondition,
    RequestUriCondition,
    ServicePointTrigger,
    SessionCaseCondition,
    SessionDescriptionCondition,
    SipHeaderCondition,
)
from ims_as.ifc_tool.description import Description, DescriptionError, Problem

__all__ = ["render_open5gs"]

MAX_TRIGGERS = 20

_IMSI = re.compile(r"([0-9]{6,15})(?:@.*)?")


def render_open5gs(description: Description) -> tuple[str, tuple[Problem, ...]]:
    """(script, warnings).  Raises DescriptionError."""
    errors, warnings = [], []
    if len(description.criteria) > 1:
        text = (
            f"{len(description.criteria)} criteria, but only one works: Open5GS keeps the number of triggers of each "
            "in the first one"
        )
        errors.append(description.problem("criteria[1]", text))
    for index, criterion in enumerate(description.criteria):
        path = f"criteria[{index}]"
        errors += [description.problem(path, text) for text in _errors(criterion)]
        warnings += [description.problem(path, text) for text in _warnings(criterion)]
    query: dict[str, str] = {}
    if description.private_identity is not None:
        imsi = _IMSI.fullmatch(description.private_identity)
        if imsi is None:
            text = "Open5GS knows a subscriber by the IMSI, with which this private identity does not begin"
            errors.append(description.problem("user.private", text))
        else:
            query = {"imsi": imsi[1]}
        if description.public_identities:
            text = "public identities come from the subscriber's msisdn and IMSI: these are left out"
            warnings.append(description.problem("user.public", text))
    if errors:
        raise DescriptionError(errors)
    whom = f"subscriber {query['imsi']}" if query else "all subscribers: narrow the first {} down"
    document = [_criterion(each) for each in description.criteria]
    lines = (
        f"// Initial filter criteria for Open5GS, {whom}.  Made by ims-as ifc render.",
        "// Run with: mongosh open5gs THIS-FILE",
        f"db.subscribers.updateMany({json.dumps(query)}, {{ $set: {{ ifc: {_script(document, 2)} }} }});",
    )
    return "\n".join(lines) + "\n", tuple(warnings)


def _errors(criterion: InitialFilterCriteria) -> Iterator[str]:
    if criterion.profile_part is not None:
        yield "Open5GS has no ProfilePartIndicator: name the session cases instead"
    point = criterion.trigger_point
    if point is None:
        yield "without triggers Open5GS does not keep it: name a method"
        return
    if sum(len(set(trigger.groups)) for trigger in point.triggers) > MAX_TRIGGERS:
        yield f"more than {MAX_TRIGGERS} triggers (one of several groups counts in each)"
    for trigger in point.triggers:
        if isinstance(trigger.condition, SessionDescriptionCondition):
            yield "Open5GS never gives an SDP trigger to the S-CSCF"
        if trigger.registration_types:
            yield "Open5GS has no RegistrationType: every REGISTER would match"
        if any(mark in text for text in _texts(trigger.condition) for mark in "&<"):
            yield "& and < in a pattern: Open5GS writes text into the XML as it is; write . instead"
    if any(mark in criterion.application_server.server_name for mark in "&<"):
        yield "& and < in the server name: Open5GS writes text into the XML as it is"


def _texts(condition: object) -> list[str]:
    match condition:
        case RequestUriCondition(pattern):
            return [str(pattern)]
        case SipHeaderCondition(header, content):
            return [str(header), str(content or "")]
        case MethodCondition(method):
            return [method]
    return []


def _warnings(criterion: InitialFilterCriteria) -> Iterator[str]:
    server = criterion.application_server
    if server.service_info is not None:
        yield "Open5GS has no ServiceInfo: third-party REGISTERs come without it"
    if server.include_register_request or server.include_register_response:
        yield "Open5GS has no IncludeRegister…: third-party REGISTERs come without the user's"
    for trigger in () if criterion.trigger_point is None else criterion.trigger_point.triggers:
        if isinstance(trigger.condition, SipHeaderCondition) and trigger.condition.content is None:
            yield f"{trigger.condition.header} without content is written with content .*, which means the same"


def _criterion(criterion: InitialFilterCriteria) -> dict[str, Any]:
    point, server = criterion.trigger_point, criterion.application_server
    assert point is not None, "refused above"
    pairs = [(group, trigger) for trigger in point.triggers for group in dict.fromkeys(trigger.groups)]
    return {
        "priority": criterion.priority,
        "application_server": {
            "server_name": server.server_name,
            "default_handling": int(server.default_handling or 0),
        },
        "trigger_point": {
            "condition_type_cnf": int(point.is_cnf),
            "spt": [_trigger(trigger, group) for group, trigger in sorted(pairs, key=lambda pair: pair[0])],
        },
    }


def _trigger(trigger: ServicePointTrigger, group: int) -> dict[str, Any]:
    head: dict[str, Any] = {"condition_negated": int(trigger.negated), "group": group}
    match trigger.condition:
        case MethodCondition(method):
            return {**head, "method": method}
        case SessionCaseCondition(session_case):
            return {**head, "session_case": int(session_case)}
        case RequestUriCondition(pattern):
            return {**head, "request_uri": str(pattern)}
        case SipHeaderCondition(header, content):
            return {**head, "sip_header": {"header": str(header), "content": str(content or ".*")}}
    raise AssertionError("refused above")


def _script(value: object, depth: int) -> str:
    """JavaScript: JSON with NumberInt(), short things on one line."""
    if isinstance(value, int):
        return f"NumberInt({value})"
    if isinstance(value, str):
        return json.dumps(value)
    indent = "  " * depth
    if isinstance(value, Mapping):
        parts = [f"{name}: {_script(each, depth + 1)}" for name, each in value.items()]
        opening, closing = "{", "}"
    else:
        assert isinstance(value, list)
        parts = [_script(each, depth + 1) for each in value]
        opening, closing = "[", "]"
    line = f"{opening} {', '.join(parts)} {closing}"
    if len(line) + len(indent) <= 110 and "\n" not in line:
        return line
    inner = ",\n".join(f"{indent}{part}" for part in parts)
    return f"{opening}\n{inner}\n{indent[2:]}{closing}"
