"""A short YAML description of criteria → the XML of TS 29.228 Annex E, or a template file for PyHSS.

    criteria:
      - priority: 10
        server: sip:ai-as.example.net
        default_handling: continued
        all:                                  # every entry holds (CNF); `any` instead: one of them does (DNF)
          - method: INVITE
          - any: [{session_case: terminating-registered}, {session_case: terminating-unregistered}]
          - not: {header: ^Priority$, content: psap-callback}

What cannot be rendered is refused with its path; what has been rendered is read again and must mean the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, TypeVar

import attrs
import yaml

from ifc.ere import Ere, EreError
from ifc.model import (
    ApplicationServer,
    Condition,
    DefaultHandling,
    ImsSubscription,
    InitialFilterCriteria,
    MethodCondition,
    ProfilePart,
    PublicIdentity,
    RegistrationType,
    RequestUriCondition,
    ServicePointTrigger,
    ServiceProfile,
    SessionCase,
    SessionCaseCondition,
    SessionDescriptionCondition,
    SipHeaderCondition,
    TriggerPoint,
)
from ifc.parser import parse_criteria_untrusted
from ifc.writer import write_criteria, write_subscription
from ims_as.config_load import StrictLoader
from ims_as.errors import Problem
from ims_as.ifc_tool.reading import IfcToolError

__all__ = ["Description", "DescriptionError", "Format", "parse_description", "render"]

MAX_DESCRIPTION_CHARS = 262_144
"""As much as the XML may have."""

T = TypeVar("T")

SESSION_CASES = {each.name.lower().replace("_", "-"): each for each in SessionCase}
REGISTRATION_TYPES = {
    "initial": RegistrationType.INITIAL_REGISTRATION,
    "re": RegistrationType.RE_REGISTRATION,
    "de": RegistrationType.DE_REGISTRATION,
}
_HANDLINGS = {"continued": DefaultHandling.SESSION_CONTINUED, "terminated": DefaultHandling.SESSION_TERMINATED}
_PARTS = {"registered": ProfilePart.REGISTERED, "unregistered": ProfilePart.UNREGISTERED}
_CRITERION_KEYS = (
    "priority", "server", "default_handling", "service_info", "include_register", "profile_part", "all", "any",
)  # fmt: skip
_CONDITION_KEYS = {
    "method": ("registration",),
    "session_case": (),
    "header": ("content",),
    "request_uri": (),
    "sdp": ("content",),
}
_SIP_URI = re.compile(r"sips?:[!#-;=?-~]+", re.IGNORECASE)
_JINJA = ("{{", "{%", "{#")


class Format(Enum):
    """XML: <IFCs>, or <IMSSubscription> for a description with a user.  PYHSS: the file that ``ifc_path`` names."""

    XML = "xml"
    PYHSS = "pyhss"


class DescriptionError(IfcToolError):
    """The description cannot be rendered; carries every problem."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


@attrs.frozen
class Description:
    criteria: tuple[InitialFilterCriteria, ...]
    private_identity: str | None = None
    public_identities: tuple[str, ...] = ()


# ---------------------------------------------------------------- YAML → model


class _Bad(ValueError):
    """This part cannot be used."""


@attrs.define
class _Reader:
    problems: list[Problem] = attrs.field(factory=list)

    def attempt(self, path: str, read: Callable[[], T]) -> T | None:
        """The result; None after a problem, which is kept."""
        try:
            return read()
        except (_Bad, EreError) as error:
            self.problems.append(Problem(path, str(error)))
        return None

    def mapping(self, path: str, value: object, keys: Sequence[str]) -> Mapping[str, Any]:
        if not isinstance(value, dict):
            self.problems.append(Problem(path, f"expected keys and values, not {_shown(value)}"))
            return {}
        for key in value:
            if key not in keys:
                self.problems.append(Problem(_join(path, key), f"unknown key; known are {', '.join(keys)}"))
        return value

    def items(self, path: str, value: object) -> list[tuple[str, Any]]:
        if not isinstance(value, list) or not value:
            self.problems.append(Problem(path, f"expected a list that is not empty, not {_shown(value)}"))
            return []
        return [(f"{path}[{index}]", item) for index, item in enumerate(value)]


def _join(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _Bad(f"expected text, not {_shown(value)}")
    return value


def _word(value: object, words: Mapping[str, T]) -> T:
    if not isinstance(value, str) or value not in words:
        raise _Bad(f"expected {' or '.join(words)}, not {_shown(value)}")
    return words[value]


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**31:
        raise _Bad(f"expected a whole number from 0, not {_shown(value)}")
    return value


def parse_description(text: str) -> Description:
    """Reads the YAML.  Raises DescriptionError with every problem and its path."""
    if len(text) > MAX_DESCRIPTION_CHARS:
        raise DescriptionError([Problem("", f"{len(text)} characters, at most {MAX_DESCRIPTION_CHARS}")])
    try:
        tree = yaml.load(text, StrictLoader)
    except yaml.MarkedYAMLError as error:
        line = None if error.problem_mark is None else error.problem_mark.line + 1
        raise DescriptionError([Problem("", f"not valid YAML: {error.problem}", line)]) from error
    except (yaml.YAMLError, RecursionError) as error:
        raise DescriptionError([Problem("", f"not valid YAML: {error}")]) from error
    reader = _Reader()
    root = reader.mapping("", tree, ("user", "criteria"))
    criteria = [_read_criterion(reader, *item) for item in reader.items("criteria", root.get("criteria"))]
    private: str | None = None
    public: tuple[str, ...] = ()
    if "user" in root:
        private, public = _read_user(reader, root["user"])
    _check_priorities(reader, criteria)
    if reader.problems:
        raise DescriptionError(reader.problems)
    return Description(tuple(each for each in criteria if each is not None), private, public)


def _read_user(reader: _Reader, value: object) -> tuple[str | None, tuple[str, ...]]:
    user = reader.mapping("user", value, ("private", "public"))
    private = reader.attempt("user.private", lambda: _text(user.get("private")))
    public = [
        reader.attempt(path, lambda item=item: _identity(item))  # type: ignore[misc]
        for path, item in reader.items("user.public", user.get("public"))
    ]
    return private, tuple(each for each in public if each is not None)


def _identity(value: object) -> str:
    text = _text(value)
    if not text.lower().startswith(("sip:", "sips:", "tel:")) or any(char.isspace() for char in text):
        raise _Bad(f"expected a sip: or tel: URI, not {_shown(value)}")
    return text


def _check_priorities(reader: _Reader, criteria: Sequence[InitialFilterCriteria | None]) -> None:
    seen: dict[int, int] = {}
    for index, criterion in enumerate(criteria):
        if criterion is None:
            continue
        first = seen.setdefault(criterion.priority, index)
        if first != index:
            text = f"{criterion.priority} is already that of criteria[{first}]"
            reader.problems.append(Problem(f"criteria[{index}].priority", text))


def _read_criterion(reader: _Reader, path: str, value: object) -> InitialFilterCriteria | None:
    before = len(reader.problems)
    keys = reader.mapping(path, value, _CRITERION_KEYS)
    if len(reader.problems) > before:
        return None

    def read(key: str, convert: Callable[[object], T], *, required: bool = False) -> T | None:
        if key not in keys and not required:
            return None
        return reader.attempt(_join(path, key), lambda: convert(keys.get(key)))

    def server_uri(value: object) -> str:
        if not _SIP_URI.fullmatch(text := _text(value)):
            raise _Bad(f"expected a SIP URI, not {_shown(value)}")
        return text

    def parts(value: object) -> frozenset[str]:
        values = value if isinstance(value, list) else [value]
        return frozenset(_word(each, {"request": "request", "response": "response"}) for each in values)

    priority = read("priority", _number, required=True)
    server = read("server", server_uri, required=True)
    included = read("include_register", parts) or frozenset()
    handling = read("default_handling", lambda value: _word(value, _HANDLINGS))
    info = read("service_info", _text)
    part = read("profile_part", lambda value: _word(value, _PARTS))
    trigger_point = _read_trigger_point(reader, path, keys)
    if len(reader.problems) > before or priority is None or server is None:
        return None
    application_server = ApplicationServer(server, handling, info, "request" in included, "response" in included)
    return InitialFilterCriteria(priority, trigger_point, application_server, part)


def _read_trigger_point(reader: _Reader, path: str, keys: Mapping[str, Any]) -> TriggerPoint | None:
    outer = [key for key in ("all", "any") if key in keys]
    if not outer:
        return None
    if len(outer) > 1:
        reader.problems.append(Problem(path, "either all or any"))
        return None
    inner = "any" if outer[0] == "all" else "all"
    triggers: list[ServicePointTrigger] = []
    for number, (where, item) in enumerate(reader.items(_join(path, outer[0]), keys[outer[0]])):
        members = [(where, item)]
        if isinstance(item, dict) and inner in item:
            reader.mapping(where, item, (inner,))
            members = reader.items(_join(where, inner), item[inner])
        elif isinstance(item, dict) and outer[0] in item:
            reader.problems.append(
                Problem(where, f"{outer[0]} inside {outer[0]}: triggers have two levels, all of any, or any of all")
            )
            continue
        for place, member in members:
            if (trigger := _read_trigger(reader, place, member, number)) is not None:
                triggers.append(trigger)
    return TriggerPoint(outer[0] == "all", tuple(triggers))


def _read_trigger(reader: _Reader, path: str, value: object, group: int) -> ServicePointTrigger | None:
    negated = isinstance(value, dict) and "not" in value
    if isinstance(value, dict) and negated:
        reader.mapping(path, value, ("not",))
        path, value = _join(path, "not"), value["not"]
    kinds = [kind for kind in _CONDITION_KEYS if isinstance(value, dict) and kind in value]
    if len(kinds) != 1:
        text = f"expected one of {', '.join(_CONDITION_KEYS)}" + (f", not {' and '.join(kinds)}" if kinds else "")
        reader.problems.append(Problem(path, text))
        return None
    before = len(reader.problems)
    keys = reader.mapping(path, value, (kinds[0], *_CONDITION_KEYS[kinds[0]]))
    condition = reader.attempt(_join(path, kinds[0]), lambda: _read_condition(kinds[0], keys))
    types: tuple[RegistrationType, ...] = ()
    if "registration" in keys:
        types = reader.attempt(_join(path, "registration"), lambda: _registration_types(keys)) or ()
    if condition is None or len(reader.problems) > before:
        return None
    return ServicePointTrigger(condition, (group,), negated, types)


def _read_condition(kind: str, keys: Mapping[str, Any]) -> Condition:
    value = keys[kind]
    content = None if "content" not in keys else Ere(_text(keys["content"]))
    match kind:
        case "method":
            return MethodCondition(_text(value).strip())
        case "session_case":
            return SessionCaseCondition(_word(value, SESSION_CASES))
        case "header":
            return SipHeaderCondition(_text(value), content)
        case "request_uri":
            return RequestUriCondition(_text(value))
    return SessionDescriptionCondition(_text(value), content)


def _registration_types(keys: Mapping[str, Any]) -> tuple[RegistrationType, ...]:
    if keys.get("method") != "REGISTER":
        raise _Bad("means something for method REGISTER only")
    value = keys["registration"]
    values = value if isinstance(value, list) else [value]
    if not 1 <= len(values) <= 2:
        raise _Bad("expected one type or two (none: all of them)")
    return tuple(_word(each, REGISTRATION_TYPES) for each in values)


# ---------------------------------------------------------------- model → text


def render(description: Description, output: Format) -> str:
    """The document.  Raises DescriptionError for what that format cannot hold."""
    try:
        text = _xml(description) if output is Format.XML else _pyhss(description)
    except ValueError as error:
        raise DescriptionError([Problem("", f"not fit for XML: {error}")]) from error
    read = parse_criteria_untrusted(text.encode())
    wanted = tuple(sorted(description.criteria, key=lambda criterion: criterion.priority))
    if read.problems or read.criteria != wanted:
        told = "; ".join(map(str, read.problems)) or "it reads as other criteria"
        raise DescriptionError([Problem("", f"what was rendered cannot be read back: {told}")])
    return text


def _xml(description: Description) -> str:
    if description.private_identity is None:
        return write_criteria(description.criteria).decode()
    return _subscription(description, description.private_identity, description.public_identities)


def _subscription(description: Description, private: str, public: Sequence[str]) -> str:
    identities = tuple(PublicIdentity(identity) for identity in public)
    profile = ServiceProfile(identities, description.criteria)
    return write_subscription(ImsSubscription(private, (profile,))).decode()


def _pyhss(description: Description) -> str:
    """PyHSS puts the subscriber into a Jinja2 template; with a user in the description nothing is left to put in."""
    for index, criterion in enumerate(description.criteria):
        text = write_criteria([criterion]).decode()
        if any(mark in text for mark in _JINJA):
            raise DescriptionError([Problem(f"criteria[{index}]", f"{' or '.join(_JINJA)} would be taken for Jinja2")])
    if description.private_identity is not None:
        return _subscription(description, description.private_identity, description.public_identities)
    imsi, msisdn, mnc, mcc = (f"{{{{ iFC_vars['{name}'] }}}}" for name in ("imsi", "msisdn", "mnc", "mcc"))
    domain = f"ims.mnc{mnc}.mcc{mcc}.3gppnetwork.org"
    public = (f"sip:{msisdn}@{domain}", f"sip:{imsi}@{domain}", f"tel:{msisdn}")
    return _subscription(description, f"{imsi}@{domain}", public)
