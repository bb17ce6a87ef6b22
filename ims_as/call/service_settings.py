"""What a subscriber wants of us: the repository data ``<AgentProfile>`` under our Service-Indication, as settings.

Read tolerantly: elements are known by their local names, unknown ones are ignored, and a value that is wrong costs
that element alone and is told in ``problems``; a call never fails because of its profile.  `SETTINGS` is the one table
of what there is; ``agent-profile.xsd`` says the same to those who write profiles.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Final

import attrs
from lxml import etree

from ims_as.sip.errors import SipParseError
from ims_as.sip.uri import SipUri, TelUri, parse_uri

__all__ = [
    "DOCUMENT",
    "MAX_SETTINGS_BYTES",
    "ROOT",
    "SETTINGS",
    "CallLimits",
    "Consent",
    "ServiceSettings",
    "Setting",
    "SettingProblem",
    "parse_service_settings_untrusted",
]

MAX_SETTINGS_BYTES: Final = 65536
MAX_TEXT_CHARS: Final = 1000
MAX_NAME_CHARS: Final = 64
MAX_URI_CHARS: Final = 512
MAX_COUNT: Final = 1_000_000
MAX_SECONDS: Final = 86_400

ROOT: Final = "AgentProfile"
DOCUMENT: Final = "document"
"""In a problem: the document as a whole."""

_TRUE: Final = frozenset({"true", "1", "yes", "on"})
_FALSE: Final = frozenset({"false", "0", "no", "off"})
_LANGUAGE: Final = re.compile(r"[a-zA-Z]{1,8}(-[a-zA-Z0-9]{1,8}){0,7}")


@attrs.frozen
class CallLimits:
    """How much of the agent the user may have, counted on this node; None: no limit."""

    concurrent_calls: int | None = None
    """Calls at a time."""
    call_seconds: int | None = None
    """Seconds from the answer until a call with the agent is ended."""
    calls_per_hour: int | None = None
    calls_per_day: int | None = None


@attrs.frozen
class Consent:
    """What the user has agreed to, or wants callers to be told; None: not said, which is no consent."""

    recording: bool | None = None
    """Whether the call may be recorded."""
    announce: bool | None = None
    """Whether the caller must be told that it talks to a machine (and that it is recorded, where it is)."""

    def as_dict(self) -> dict[str, bool]:
        """What was said, for engine, API and charging record."""
        return {name: value for name, value in attrs.asdict(self).items() if value is not None}


@attrs.frozen
class SettingProblem:
    """A value that could not be used."""

    element: str
    """Path of the element such as ``Limits/CallSeconds``, or `DOCUMENT`: from a fixed vocabulary, fit for a metric."""
    reason: str

    def __str__(self) -> str:
        return f"{self.element}: {self.reason}"


@attrs.frozen
class ServiceSettings:
    """What is not set is None, or as the class says."""

    enabled: bool = True
    """Off: calls are passed on by their Route."""
    agent: str | None = None
    language: str | None = None
    greeting: str | None = None
    limits: CallLimits = CallLimits()
    queue: str | None = None
    """URI where a human is found, instead of the agent's ``transfer.queue``."""
    consent: Consent = Consent()
    problems: tuple[SettingProblem, ...] = ()


# ---------------------------------------------------------------- values


def _read_bool(text: str) -> bool:
    lower = text.lower()
    if lower in _TRUE:
        return True
    if lower in _FALSE:
        return False
    raise ValueError("neither true nor false")


def _number(maximum: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        digits = text.removeprefix("+")
        if not (digits.isascii() and digits.isdigit() and len(digits) < 10 and 1 <= int(digits) <= maximum):
            raise ValueError(f"not a number from 1 to {maximum}")
        return int(digits)

    return read


def _text(maximum: int) -> Callable[[str], str]:
    def read(text: str) -> str:
        if len(text) > maximum:
            raise ValueError(f"{len(text)} characters, at most {maximum}")
        return text

    return read


def _read_language(text: str) -> str:
    if not _LANGUAGE.fullmatch(text):
        raise ValueError("not a language tag such as de or pt-BR")
    return text


def _read_queue(text: str) -> str:
    if len(text) > MAX_URI_CHARS or not text.isascii() or not text.isprintable() or any(c in ' <>"' for c in text):
        raise ValueError("not a usable URI")
    try:
        uri = parse_uri(text)
    except SipParseError as error:
        raise ValueError(str(error)) from error
    match uri:
        case TelUri():
            return text
        case SipUri() if not uri.headers and not uri.password and not uri.has_param("method"):
            return text
        case SipUri():
            raise ValueError("no headers, password or method in the URI")
    raise ValueError("not a sip, sips or tel URI")


# ---------------------------------------------------------------- the table


@attrs.frozen
class Setting:
    """One setting: how it is called on the command line, where it stands in the XML, and how it is read."""

    name: str
    path: tuple[str, ...]
    """Local names below the root."""
    read: Callable[[str], Any]
    """The stripped text of the element, not empty → value.  Raises ValueError with the reason."""


SETTINGS: Final[tuple[Setting, ...]] = (
    Setting("enabled", ("Enabled",), _read_bool),
    Setting("agent", ("Agent",), _text(MAX_NAME_CHARS)),
    Setting("language", ("Language",), _read_language),
    Setting("greeting", ("Greeting",), _text(MAX_TEXT_CHARS)),
    Setting("limits.concurrent_calls", ("Limits", "ConcurrentCalls"), _number(MAX_COUNT)),
    Setting("limits.call_seconds", ("Limits", "CallSeconds"), _number(MAX_SECONDS)),
    Setting("limits.calls_per_hour", ("Limits", "CallsPerHour"), _number(MAX_COUNT)),
    Setting("limits.calls_per_day", ("Limits", "CallsPerDay"), _number(MAX_COUNT)),
    Setting("queue", ("Queue",), _read_queue),
    Setting("consent.recording", ("Consent", "Recording"), _read_bool),
    Setting("consent.announce", ("Consent", "Announce"), _read_bool),
)
_BY_PATH: Final = {setting.path: setting for setting in SETTINGS}
_GROUPS: Final = frozenset(setting.path[0] for setting in SETTINGS if len(setting.path) > 1)


# ---------------------------------------------------------------- reading


def parse_service_settings_untrusted(xml: bytes) -> ServiceSettings:
    """The settings in a document, the defaults where it does not say, or says it wrongly.

    Raises:
        ValueError: not XML, or more than `MAX_SETTINGS_BYTES`.
    """
    if len(xml) > MAX_SETTINGS_BYTES:
        raise ValueError(f"service data of {len(xml)} bytes")
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        huge_tree=False,
        load_dtd=False,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        root = etree.fromstring(xml, parser)
    except etree.XMLSyntaxError as error:
        raise ValueError(f"service data: {error}") from error
    profile = next((each for each in root.iter() if local_name(each) == ROOT), None)
    if profile is None:
        return ServiceSettings(problems=(SettingProblem(DOCUMENT, f"no {ROOT} element"),))
    return _build(profile)


def local_name(element: etree._Element) -> str:
    """The name without its namespace; empty for what is not an element (an entity)."""
    return etree.QName(element).localname if isinstance(element.tag, str) else ""


def elements_of(profile: etree._Element) -> Iterator[tuple[Setting, etree._Element]]:
    """The elements of a profile that are settings, in their order in the document."""
    for child in profile:
        name = local_name(child)
        if name in _GROUPS:
            for inner in child:
                if (setting := _BY_PATH.get((name, local_name(inner)))) is not None:
                    yield setting, inner
        elif (setting := _BY_PATH.get((name,))) is not None:
            yield setting, child


def _build(profile: etree._Element) -> ServiceSettings:
    values: dict[str, Any] = {}
    problems: list[SettingProblem] = []
    for setting, element in elements_of(profile):
        text = (element.text or "").strip()
        if not text or setting.name in values:
            continue
        try:
            values[setting.name] = setting.read(text)
        except ValueError as error:
            problems.append(SettingProblem("/".join(setting.path), str(error)))
    return ServiceSettings(
        enabled=values.get("enabled", True),
        agent=values.get("agent"),
        language=values.get("language"),
        greeting=values.get("greeting"),
        limits=CallLimits(**_group(values, "limits.")),
        queue=values.get("queue"),
        consent=Consent(**_group(values, "consent.")),
        problems=tuple(problems[: len(SETTINGS)]),
    )


def _group(values: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}
