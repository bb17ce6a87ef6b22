"""Criteria → SQL for FHoSS (OpenIMSCore), database ``hss_db``.

Traps of its tables: the priority is a column of `sp_ifc`; `registration_type` is a bit mask, not the enum of the XML; a
trigger of several groups is one row for each; text goes into the XML as it is, so ``&`` and ``<`` are escaped here; an
absent content would be printed as the word null.

The script can be run again: rows whose name begins with ours are replaced.  It is plain enough for MySQL and SQLite.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from xml.sax.saxutils import escape

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

__all__ = ["render_fhoss"]

MAX_NAME_CHARS = 16
"""``sp.name`` is a varchar(16)."""
REPOSITORY_BYTES = 32_768

_PERMISSIONS = (
    "udr", "pur", "snr", "udr_rep_data", "udr_impu", "udr_ims_user_state", "udr_scscf_name", "udr_ifc",
    "udr_psi_activation", "udr_dsai", "pur_rep_data", "snr_rep_data", "snr_impu", "snr_ims_user_state",
    "snr_scscf_name", "snr_ifc",
)  # fmt: skip
"""What our server asks over Sh."""
_REFUSED = (
    "udr_location", "udr_user_state", "udr_charging_info", "udr_msisdn", "udr_aliases_rep_data",
    "pur_psi_activation", "pur_dsai", "pur_aliases_rep_data",
    "snr_psi_activation", "snr_dsai", "snr_aliases_rep_data",
)  # fmt: skip

Value = str | int | None


def render_fhoss(description: Description, *, name: str, origin_host: str | None) -> tuple[str, tuple[Problem, ...]]:
    """(script, warnings).  Raises DescriptionError.

    Args:
        name: of the service profile, and what the names of all rows begin with.
        origin_host: Diameter identity of the application server; None gives it no rights on Sh.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) or len(name) > MAX_NAME_CHARS:
        raise DescriptionError(
            [Problem("", f"--name {name}: letters, digits, and . _ - within, at most {MAX_NAME_CHARS}")]
        )
    problems = list(_problems(description))
    if problems:
        raise DescriptionError(problems)
    warnings = list(_warnings(description))
    if origin_host is None:
        text = "no Diameter identity for the application server, so FHoSS refuses it on Sh: give -c as.yaml"
        warnings.append(Problem("", text))
    ours = f"SUBSTR(name, 1, {len(name) + 1}) = {_quote(name + '-')}"
    lines = [
        f"-- Initial filter criteria for FHoSS (hss_db), service profile {name}.  Made by ims-as ifc render.",
        f"-- Replaces everything whose name begins with {name}-; can be run again.",
        "BEGIN;",
        f"DELETE FROM sp_ifc WHERE id_ifc IN (SELECT id FROM ifc WHERE {ours});",
        f"DELETE FROM ifc WHERE {ours};",
        f"DELETE FROM spt WHERE id_tp IN (SELECT id FROM tp WHERE {ours});",
        f"DELETE FROM tp WHERE {ours};",
        f"DELETE FROM application_server WHERE {ours};",
        "INSERT INTO sp (id, name, cn_service_auth) SELECT next.n, "
        f"{_quote(name)}, 0 FROM (SELECT COALESCE(MAX(id), 0) + 1 AS n FROM sp) AS next "
        f"WHERE NOT EXISTS (SELECT 1 FROM sp WHERE name = {_quote(name)});",
    ]
    # FHoSS looks an application server up by its diameter_address: one row has it
    hosts = [origin_host or ""] + [""] * len(description.criteria)
    for criterion, host in zip(description.criteria, hosts, strict=False):
        lines += _criterion(criterion, name, host)
    lines += _users(description, name)
    return "\n".join([*lines, "COMMIT;", ""]), tuple(warnings)


def _problems(description: Description) -> Iterator[Problem]:
    for index, criterion in enumerate(description.criteria):
        for value in _texts(criterion):
            if "\0" in value:
                yield description.problem(f"criteria[{index}]", "a NUL character")


def _texts(criterion: InitialFilterCriteria) -> Iterator[str]:
    yield criterion.application_server.service_info or ""
    for trigger in () if criterion.trigger_point is None else criterion.trigger_point.triggers:
        yield from (value for value in _condition(trigger).values() if isinstance(value, str))


def _warnings(description: Description) -> Iterator[Problem]:
    for index, criterion in enumerate(description.criteria):
        for trigger in () if criterion.trigger_point is None else criterion.trigger_point.triggers:
            condition = trigger.condition
            if isinstance(condition, SipHeaderCondition | SessionDescriptionCondition) and condition.content is None:
                what = condition.header if isinstance(condition, SipHeaderCondition) else condition.line
                text = f"{what} without content is written with content .*, which means the same"
                yield description.problem(f"criteria[{index}]", text)


def _criterion(criterion: InitialFilterCriteria, prefix: str, origin_host: str) -> Iterator[str]:
    name = f"{prefix}-{criterion.priority}"
    server = criterion.application_server
    handling = -1 if server.default_handling is None else int(server.default_handling)
    part = -1 if criterion.profile_part is None else int(criterion.profile_part)
    yield f"-- priority {criterion.priority}: {_comment(server.server_name)}"
    may_use_sh = 1 if origin_host else 0
    yield _insert(
        "application_server",
        {
            "name": name,
            "server_name": escape(server.server_name),
            "default_handling": handling,
            "service_info": escape(server.service_info or ""),
            "diameter_address": origin_host,
            "rep_data_size_limit": REPOSITORY_BYTES,
            **dict.fromkeys(_PERMISSIONS, may_use_sh),
            **dict.fromkeys(_REFUSED, 0),
            "include_register_response": int(server.include_register_response),
            "include_register_request": int(server.include_register_request),
        },
    )
    trigger_point = "NULL"
    if criterion.trigger_point is not None:
        yield _insert("tp", {"name": name, "condition_type_cnf": int(criterion.trigger_point.is_cnf)})
        trigger_point = f"(SELECT id FROM tp WHERE name = {_quote(name)})"
        for group, trigger in _by_group(criterion.trigger_point.triggers):
            yield from _trigger(trigger, group, trigger_point)
    yield _insert(
        "ifc",
        {"name": name, "profile_part_ind": part},
        id_application_server=f"(SELECT id FROM application_server WHERE name = {_quote(name)})",
        id_tp=trigger_point,
    )
    yield _insert(
        "sp_ifc",
        {"priority": criterion.priority},
        id_sp=f"(SELECT id FROM sp WHERE name = {_quote(prefix)})",
        id_ifc=f"(SELECT id FROM ifc WHERE name = {_quote(name)})",
    )


def _by_group(triggers: Sequence[ServicePointTrigger]) -> list[tuple[int, ServicePointTrigger]]:
    """Those of one group stand together, as Kamailio wants it."""
    pairs = [(group, trigger) for trigger in triggers for group in dict.fromkeys(trigger.groups)]
    return sorted(pairs, key=lambda pair: pair[0])


def _trigger(trigger: ServicePointTrigger, group: int, trigger_point: str) -> Iterator[str]:
    condition = _condition(trigger)
    columns: dict[str, Value] = {
        "condition_negated": int(trigger.negated),
        "grp": group,
        **dict.fromkeys(("requesturi", "method", "header", "header_content", "session_case"), None),
        **dict.fromkeys(("sdp_line", "sdp_line_content"), None),
        **condition,
        "registration_type": sum(1 << int(each) for each in set(trigger.registration_types)),
    }
    written = [value for value in condition.values() if isinstance(value, str) and "\\" in value]
    if written:
        yield f"-- in hexadecimal, for its backslashes: {_comment('   '.join(written))}"
    yield _insert("spt", columns, id_tp=trigger_point)


def _condition(trigger: ServicePointTrigger) -> dict[str, Value]:
    match trigger.condition:
        case RequestUriCondition(pattern):
            return {"type": 0, "requesturi": escape(str(pattern))}
        case MethodCondition(method):
            return {"type": 1, "method": escape(method)}
        case SipHeaderCondition(header, content):
            return {"type": 2, "header": escape(str(header)), "header_content": escape(str(content or ".*"))}
        case SessionCaseCondition(session_case):
            return {"type": 3, "session_case": int(session_case)}
        case SessionDescriptionCondition(line, content):
            return {"type": 4, "sdp_line": escape(str(line)), "sdp_line_content": escape(str(content or ".*"))}


def _users(description: Description, name: str) -> Iterator[str]:
    if description.public_identities:
        listed = ", ".join(_quote(identity) for identity in description.public_identities)
        profile = f"(SELECT id FROM sp WHERE name = {_quote(name)})"
        yield f"UPDATE impu SET id_sp = {profile} WHERE identity IN ({listed});"
    else:
        yield f"-- Give users this profile: UPDATE impu SET id_sp = (SELECT id FROM sp WHERE name = {_quote(name)})"
        yield "-- WHERE identity IN ('sip:bob@example.net', 'tel:+15550100');"


def _insert(table: str, columns: Mapping[str, Value], **expressions: str) -> str:
    """With the next free id; expressions are SQL."""
    values = [*(_literal(value) for value in columns.values()), *expressions.values()]
    names = ", ".join(["id", *columns, *expressions])
    chosen = ", ".join(["COALESCE(MAX(id), 0) + 1", *values])
    return f"INSERT INTO {table} ({names})\n    SELECT {chosen} FROM {table};"


def _literal(value: Value) -> str:
    if value is None:
        return "NULL"
    return str(value) if isinstance(value, int) else _quote(value)


def _quote(text: str) -> str:
    """MySQL takes a backslash for the beginning of an escape, SQLite and standard SQL do not: hexadecimal is the same
    for all."""
    if "\\" in text:
        return f"CAST(X'{text.encode().hex().upper()}' AS CHAR)"
    return "'" + text.replace("'", "''") + "'"


def _comment(text: str) -> str:
    return "".join(char if char.isprintable() else "·" for char in text)
