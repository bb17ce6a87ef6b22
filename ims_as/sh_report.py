"""What ``ims-as sh`` prints: a user's data for machines (plain values) and for people (lines of text)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs
from lxml import etree

from diameter.sh.client import ShProfile
from diameter.sh.userdata import ShData
from ifc.explain import describe_trigger_point
from ifc.parser import IfcError, parse_criteria_untrusted
from ims_as.call.profile_document import (
    SettingChange,
    compare_profiles_untrusted,
    flatten,
    show,
    unknown_elements_untrusted,
)
from ims_as.call.service_settings import DOCUMENT, parse_service_settings_untrusted

__all__ = ["change_lines", "describe_changes", "describe_profile", "describe_push", "profile_lines", "push_lines"]

USER_STATES = ("NOT_REGISTERED", "REGISTERED", "REGISTERED_UNREG_SERVICES", "AUTHENTICATION_PENDING")
"""IMSUserState of TS 29.328 Annex D."""

LABEL_CHARS = 12
SETTING_CHARS = 23


def describe_profile(profile: ShProfile, service_indication: str) -> dict[str, Any]:
    """A profile as plain values; None: the HSS did not say."""
    criteria, problems = _criteria(profile.ifcs)
    return {
        "impu": profile.impu,
        "user_state": _state(profile.user_state),
        "scscf_name": profile.scscf_name,
        "aliases": list(profile.aliases),
        "service_indication": service_indication,
        "sequence": profile.sequence,
        "service_data": _text(profile.service_data),
        **_settings(profile.service_data),
        "criteria": criteria,
        "problems": problems,
    }


def describe_push(data: ShData, service_indication: str = "", before: bytes | None = None) -> dict[str, Any]:
    """What a notification says; only what is in it.

    Args:
        service_indication: of the item that is compared with what it was.
        before: that item, None where there was none.
    """
    told: dict[str, Any] = {}
    if data.repository:
        told["repository"] = [
            {
                "service_indication": _text(item.service_indication),
                "sequence": item.sequence_number,
                "service_data": _text(item.service_data),
                **_settings(item.service_data),
            }
            for item in data.repository
        ]
        for item, shown in zip(data.repository, told["repository"], strict=True):
            if item.service_indication == service_indication.encode():
                changes = describe_changes(before, item.service_data)
                if changes is not None:
                    shown["changes"] = changes
    if data.user_state is not None:
        told["user_state"] = _state(data.user_state)
    if data.scscf_name is not None:
        told["scscf_name"] = data.scscf_name
    if data.ifcs is not None:
        told["criteria"], told["problems"] = _criteria(data.ifcs)
    if data.deleted_identities:
        told["deleted_identities"] = list(data.deleted_identities)
    return told


def profile_lines(told: Mapping[str, Any]) -> Iterator[str]:
    """The values of `describe_profile` for people."""
    yield _line("user", told["impu"])
    if told["aliases"]:
        yield _line("also", ", ".join(told["aliases"]))
    yield _line("state", told["user_state"] or "not told")
    yield _line("S-CSCF", _scscf(told["scscf_name"]))
    yield from _repository_lines(told["service_indication"], told["sequence"], told)
    yield from _criteria_lines(told["criteria"], told["problems"])


def push_lines(told: Mapping[str, Any]) -> Iterator[str]:
    """The values of `describe_push` for people."""
    for item in told.get("repository", ()):
        sequence = None if item["service_data"] is None else item["sequence"]
        yield from _repository_lines(item["service_indication"], sequence, item)
    if "user_state" in told:
        yield _line("state", told["user_state"])
    if "scscf_name" in told:
        yield _line("S-CSCF", _scscf(told["scscf_name"]))
    if "criteria" in told:
        yield from _criteria_lines(told["criteria"], told["problems"])
    for identity in told.get("deleted_identities", ()):
        yield _line("deleted", identity)
    if not told:
        yield "nothing that is known here"


# ---------------------------------------------------------------- parts


def _line(label: str, text: str) -> str:
    return f"{label:<{LABEL_CHARS}} {_printable(text)}"


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "·" for char in text)


def _scscf(name: str | None) -> str:
    return "not told" if name is None else name or "none assigned"


def _state(state: int | None) -> str | None:
    if state is None:
        return None
    return USER_STATES[state] if state < len(USER_STATES) else str(state)


def _text(octets: bytes | None) -> str | None:
    return None if octets is None else octets.decode("utf-8", "replace")


def _criteria(ifcs: bytes | None) -> tuple[list[dict[str, Any]] | None, list[str]]:
    """Criteria in priority order, and what cannot be read."""
    if ifcs is None:
        return None, []
    try:
        parsed = parse_criteria_untrusted(ifcs)
    except IfcError as error:
        return [], [str(error)]
    criteria = [
        {
            "priority": each.priority,
            "server_name": each.application_server.server_name,
            "default_handling": (
                "SESSION_TERMINATED" if each.application_server.is_terminating_on_failure else "SESSION_CONTINUED"
            ),
            "profile_part": None if each.profile_part is None else each.profile_part.name,
            "condition": None if each.trigger_point is None else describe_trigger_point(each.trigger_point),
        }
        for each in parsed.criteria
    ]
    return criteria, [str(problem) for problem in parsed.problems]


def _settings(service_data: bytes | None) -> dict[str, Any]:
    """The settings of a profile as the server reads them; nothing for data that is not one."""
    if service_data is None:
        return {}
    try:
        settings = parse_service_settings_untrusted(service_data)
        unknown = unknown_elements_untrusted(service_data)
    except ValueError:
        return {}
    if any(problem.element == DOCUMENT for problem in settings.problems):
        return {}
    return {
        "settings": {name: value for name, value in flatten(settings).items() if value is not None},
        "setting_problems": [str(problem) for problem in settings.problems],
        "unknown_elements": unknown,
    }


def _repository_lines(service_indication: str, sequence: int | None, told: Mapping[str, Any]) -> Iterator[str]:
    service_data = told["service_data"]
    where = f"{service_indication}, " + ("no data" if service_data is None else f"sequence number {sequence}")
    yield _line("repository", where)
    if "changes" in told:
        yield from change_lines(told["changes"])
        return
    if "settings" not in told:
        for line in _pretty(service_data).splitlines():
            yield _line("", line)
        return
    for name, value in told["settings"].items():
        yield _line("", f"{name:<{SETTING_CHARS}} {show(value)}")
    for problem in told["setting_problems"]:
        yield _line("not used", problem)
    if told["unknown_elements"]:
        yield _line("unknown", ", ".join(told["unknown_elements"]))


def describe_changes(before: bytes | None, after: bytes | None) -> list[dict[str, Any]] | None:
    """The settings that differ, as plain values; None where one of the two is not a profile."""
    if any(xml is not None and not _settings(xml) for xml in (before, after)):
        return None
    return [attrs.asdict(change) for change in compare_profiles_untrusted(before, after)]


def change_lines(changes: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The values of `describe_changes` for people."""
    for change in changes:
        yield _line("", str(SettingChange(**change)))
    if not changes:
        yield _line("", "no setting differs")


def _pretty(xml: str | None) -> str:
    """Indented where it is XML; some HSSes keep plain text."""
    if xml is None:
        return ""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, remove_blank_text=True)
    try:
        root = etree.fromstring(xml.encode(), parser)
    except etree.XMLSyntaxError:
        return xml
    return etree.tostring(root, pretty_print=True, encoding="unicode")


def _criteria_lines(criteria: Sequence[Mapping[str, Any]] | None, problems: Sequence[str]) -> Iterator[str]:
    if criteria is None:
        yield _line("iFC", "not told")
    elif not criteria and not problems:
        yield _line("iFC", "none for this application server")
    for each in criteria or ():
        yield _line("iFC", f"priority {each['priority']}: {each['server_name']}, {each['default_handling']}")
        when = "every initial request" if each["condition"] is None else f"when {each['condition']}"
        part = "" if each["profile_part"] is None else f"; {each['profile_part'].lower()} part of the profile only"
        yield _line("", when + part)
    for problem in problems:
        yield _line("iFC problem", problem)
