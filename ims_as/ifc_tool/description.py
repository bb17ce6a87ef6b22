"""A short YAML description of criteria, read with the place of everything that is wrong, and written.

    criteria:
      - priority: 10
        server: sip:ai-as.example.net
        default_handling: continued
        all:                                  # every entry holds (CNF); `any` instead: one of them does (DNF)
          - method: INVITE
          - any: [{session_case: terminating-registered}, {session_case: terminating-unregistered}]
          - not: {header: ^Priority$, content: psap-callback}

`docs/ifc-render.md` has all keys.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import attrs
import yaml

from ifc.ere import Ere, EreError
from ifc.model import (
    ApplicationServer,
    Condition,
    DefaultHandling,
    InitialFilterCriteria,
    MethodCondition,
    ProfilePart,
    RegistrationType,
    RequestUriCondition,
    ServicePointTrigger,
    SessionCase,
    SessionCaseCondition,
    SessionDescriptionCondition,
    SipHeaderCondition,
    TriggerPoint,
)
from ims_as.config_load import StrictLoader
from ims_as.ifc_tool.reading import IfcToolError

__all__ = [
    "REGISTRATION_TYPES",
    "SESSION_CASES",
    "Description",
    "DescriptionError",
    "Problem",
    "parse_description",
    "write_description",
]

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


@attrs.frozen
class Problem:
    """What is wrong, or what a target cannot hold, and where the description says it."""

    path: str
    """``criteria[0].all[1].header``; empty for the description as a whole."""
    text: str
    line: int | None = None
    column: int | None = None
    """Both from 1; None where it is in no one place."""

    def __str__(self) -> str:
        return f"{self.path}: {self.text}" if self.path else self.text

    def at(self, name: str) -> str:
        """``file:line:column: path: text``."""
        place = "" if self.line is None else f":{self.line}" + ("" if self.column is None else f":{self.column}")
        return f"{name}{place}: {self}"


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
    places: Mapping[str, tuple[int, int]] = attrs.field(factory=dict, eq=False, repr=False)
    """Path → line and column."""

    def problem(self, path: str, text: str) -> Problem:
        """With the place of the path, or of the nearest that is there."""
        return Problem(path, text, *_place(self.places, path))


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
        tree, places = _load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = (None, None) if mark is None else (mark.line + 1, mark.column + 1)
        raise DescriptionError([Problem("", f"not valid YAML: {error.problem}", *place)]) from error
    except (yaml.YAMLError, RecursionError) as error:
        raise DescriptionError([Problem("", f"not valid YAML: {error}")]) from error
    reader = _Reader()
    description = _read_description(reader, tree)
    if description is None:
        raise DescriptionError([Problem(each.path, each.text, *_place(places, each.path)) for each in reader.problems])
    return attrs.evolve(description, places=places)


def _load(text: str) -> tuple[Any, dict[str, tuple[int, int]]]:
    loader = StrictLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None, {}
        return loader.construct_document(node), dict(_places(node, ""))
    finally:
        loader.dispose()


def _places(node: yaml.Node, path: str) -> Iterator[tuple[str, tuple[int, int]]]:
    yield path, (node.start_mark.line + 1, node.start_mark.column + 1)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _places(value, _join(path, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _places(value, f"{path}[{index}]")


def _place(places: Mapping[str, tuple[int, int]], path: str) -> tuple[int, int] | tuple[None, None]:
    while path and path not in places:
        path = path[: max(path.rfind("."), path.rfind("["), 0)]
    return places.get(path, (None, None))


def _read_description(reader: _Reader, tree: object) -> Description | None:
    """None: the reader has problems."""
    root = reader.mapping("", tree, ("user", "criteria"))
    criteria = [_read_criterion(reader, *item) for item in reader.items("criteria", root.get("criteria"))]
    private: str | None = None
    public: tuple[str, ...] = ()
    if "user" in root:
        private, public = _read_user(reader, root["user"])
    _check_priorities(reader, criteria)
    if reader.problems:
        return None
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


# ---------------------------------------------------------------- model → YAML


def write_description(description: Description) -> str:
    """YAML that reads as the same criteria; groups that overlap are written out."""
    root: dict[str, Any] = {}
    if description.private_identity is not None:
        root["user"] = {"private": description.private_identity, "public": list(description.public_identities)}
    root["criteria"] = [_criterion_tree(each) for each in description.criteria]
    return yaml.safe_dump(root, sort_keys=False, allow_unicode=True, width=118)


def _word_of(value: T, words: Mapping[str, T]) -> str:
    return next(word for word, each in words.items() if each == value)


def _criterion_tree(criterion: InitialFilterCriteria) -> dict[str, Any]:
    server = criterion.application_server
    tree: dict[str, Any] = {"priority": criterion.priority, "server": server.server_name}
    if server.default_handling is not None:
        tree["default_handling"] = _word_of(server.default_handling, _HANDLINGS)
    if server.service_info is not None:
        tree["service_info"] = server.service_info
    parts = {"request": server.include_register_request, "response": server.include_register_response}
    if any(parts.values()):
        tree["include_register"] = [part for part, is_asked in parts.items() if is_asked]
    if criterion.profile_part is not None:
        tree["profile_part"] = _word_of(criterion.profile_part, _PARTS)
    point = criterion.trigger_point
    if point is not None:
        inner = "any" if point.is_cnf else "all"
        numbers = sorted({number for trigger in point.triggers for number in trigger.groups})
        groups = [[_trigger_tree(each) for each in point.triggers if number in each.groups] for number in numbers]
        tree["all" if point.is_cnf else "any"] = [group[0] if len(group) == 1 else {inner: group} for group in groups]
    return tree


def _trigger_tree(trigger: ServicePointTrigger) -> dict[str, Any]:
    tree: dict[str, Any]
    match trigger.condition:
        case MethodCondition(method):
            tree = {"method": method}
        case SessionCaseCondition(session_case):
            tree = {"session_case": _word_of(session_case, SESSION_CASES)}
        case RequestUriCondition(pattern):
            tree = {"request_uri": str(pattern)}
        case SipHeaderCondition(header, content):
            tree = {"header": str(header), **({} if content is None else {"content": str(content)})}
        case SessionDescriptionCondition(line, content):
            tree = {"sdp": str(line), **({} if content is None else {"content": str(content)})}
    if trigger.registration_types:
        tree["registration"] = [_word_of(each, REGISTRATION_TYPES) for each in trigger.registration_types]
    return {"not": tree} if trigger.negated else tree
