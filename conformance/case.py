"""A conformance case: a folder ``cases/<area>/<name>`` with ``case.toml`` and SIPp scenarios.

summary = "what must be so"
clause = "where it is written"
scenario = "uac.xml"
timeout_s = 20
wrong = ["status 200/INVITE 404"]    # faults (conformance.fault) of a wrong server; the case must fail for each
needs = ["voice agent"]              # optional: what must stand behind the target, words of NEEDS
peer = "uas.xml"                     # optional: the scenario of the next hop, at [next_hop]
link = ["drop to:INVITE#1"]          # optional: what the network does to the messages
transport = "udp"                    # optional: the case only means something on udp or tcp
at = "ipv6"                          # optional: which other address of the target, words of PLACES
retransmit = false                   # optional: SIPp sends nothing twice, and takes no copy for one
calls = 1                            # optional
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import attrs

from conformance.fault import Fault, FaultError, parse_fault

__all__ = ["CASES", "DEFAULT_KEYS", "NEEDS", "PLACES", "Case", "CaseError", "find_cases", "load_case"]

CASES = Path(__file__).parent / "cases"

MAX_TIMEOUT_S = 300
MAX_CALLS = 1000

NEEDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "voice agent": "INVITEs for `[agent]` are answered 200, at once and without any 18x, and the call stays up",
        "agent that hangs up": "INVITEs for `[hangup]` are answered 200; half a second later the server sends BYE",
        "slow agent": "INVITEs for `[slow]` are answered 200 after about a second, with nothing above 100 before",
        "agent without engine": "for INVITEs for `[dead]` there is no resource; default handling is SESSION_CONTINUED",
        "agent that transfers": "INVITEs for `[transfer]` are answered 200; half a second later the server calls the "
        "served user through the core, which is the host of the second Route entry",
        "agent that rings": "INVITEs for `[ringing]` are answered 180 and 300 ms later 200",
        "agent with early media": "INVITEs for `[early]` are answered 183 with a description, reliably where the "
        "caller can, and 200 when that is acknowledged",
        "agent that refers": "INVITEs for `[refer]` are answered 200; half a second later the server sends REFER",
        "referrals": "callers may refer the server to `sip:carol@ims.example.net`, which it calls through the core, "
        "and to nobody else",
        "b2bua": "INVITEs for `[b2bua]` go on by their Route as new dialogs",
        "one call at most": "the target at place `limited` takes one call at a time",
    }
)
"""What a target may have to provide beyond speaking SIP, and what that means."""

PLACES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "ipv6": "the target on IPv6, UDP",
        "ipv6-tcp": "the target on IPv6, TCP",
        "tls": "the target on TLS",
        "limited": "a target that takes one call at a time",
    }
)
"""Addresses of a target besides its main one."""

DEFAULT_KEYS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "agent": "sip:bob@ims.example.net",
        "hangup": "sip:hangup@ims.example.net",
        "slow": "sip:slow@ims.example.net",
        "dead": "sip:dead@ims.example.net",
        "transfer": "sip:transfer@ims.example.net",
        "ringing": "sip:ringing@ims.example.net",
        "early": "sip:early@ims.example.net",
        "refer": "sip:refer@ims.example.net",
        "b2bua": "sip:b2bua@ims.example.net",
    }
)
"""Keywords of the scenarios: the users that the cases call."""

_TRANSPORTS = ("", "udp", "tcp")


class CaseError(Exception):
    """A case folder cannot be used; the text says why."""


@attrs.frozen
class Case:
    name: str
    """``area/name``."""
    summary: str
    clause: str
    """The clauses that it rests on."""
    scenario: Path
    timeout_s: float
    calls: int = 1
    needs: tuple[str, ...] = ()
    """What must stand behind the target."""
    peer: Path | None = None
    """The scenario of the next hop."""
    link: tuple[Fault, ...] = ()
    wrong: tuple[Fault, ...] = ()
    transport: str = ""
    """Empty: as the target."""
    at: str = ""
    """Empty: the main address of the target."""
    retransmit: bool = True

    @property
    def area(self) -> str:
        return self.name.partition("/")[0]


def load_case(folder: Path) -> Case:
    """Reads ``case.toml``.  Raises CaseError."""
    name = f"{folder.parent.name}/{folder.name}"
    path = folder / "case.toml"
    try:
        keys = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CaseError(f"{name}: {path.name}: {error}") from error

    def take(key: str, kind: type | tuple[type, ...], default: Any = None) -> Any:
        value = keys.pop(key, default)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise CaseError(f"{name}: {key} is {value!r}")
        return value

    def take_texts(key: str) -> tuple[str, ...]:
        values = take(key, list, [])
        if not all(isinstance(each, str) for each in values):
            raise CaseError(f"{name}: {key} is a list of texts")
        return tuple(values)

    def take_word(key: str, words: Sequence[str]) -> str:
        value: str = take(key, str, "")
        if value not in words:
            raise CaseError(f"{name}: {key} {value!r} is none of {', '.join(filter(None, words))}")
        return value

    def take_faults(key: str) -> tuple[Fault, ...]:
        try:
            return tuple(parse_fault(text) for text in take_texts(key))
        except FaultError as error:
            raise CaseError(f"{name}: {key}: {error}") from error

    def take_scenario(key: str, default: str | None) -> Path | None:
        written: str = take(key, str, default)
        if default is not None and not written:
            return None
        if Path(written).name != written or not (folder / written).is_file():
            raise CaseError(f"{name}: no scenario {written!r} in the folder")
        return folder / written

    summary, clause, scenario = take("summary", str), take("clause", str), take_scenario("scenario", None)
    timeout_s, calls, needs = take("timeout_s", (int, float)), take("calls", int, 1), take_texts("needs")
    assert scenario is not None
    case = Case(
        name,
        summary,
        clause,
        scenario,
        float(timeout_s),
        calls,
        needs,
        peer=take_scenario("peer", ""),
        link=take_faults("link"),
        wrong=take_faults("wrong"),
        transport=take_word("transport", _TRANSPORTS),
        at=take_word("at", ("", *PLACES)),
        retransmit=take("retransmit", bool, True),
    )
    if keys:
        raise CaseError(f"{name}: unknown key {', '.join(sorted(keys))}")
    if not 0 < timeout_s <= MAX_TIMEOUT_S or not 0 < calls <= MAX_CALLS:
        raise CaseError(f"{name}: timeout_s goes to {MAX_TIMEOUT_S}, calls to {MAX_CALLS}")
    if unknown := [each for each in needs if each not in NEEDS]:
        raise CaseError(f"{name}: needs {unknown[0]!r} is none of {', '.join(NEEDS)}")
    return case


def find_cases(root: Path = CASES, patterns: Sequence[str] = ()) -> list[Case]:
    """The cases by name; with patterns (``isc/*``, ``isc`` for the whole area) only those that match one.

    Raises:
        CaseError: a folder cannot be used, or a pattern matches nothing.
    """
    cases = [load_case(path.parent) for path in sorted(root.glob("*/*/case.toml"))]
    for pattern in patterns:
        if not any(_matches(case, pattern) for case in cases):
            raise CaseError(f"no case {pattern}")
    return [case for case in cases if not patterns or any(_matches(case, pattern) for pattern in patterns)]


def _matches(case: Case, pattern: str) -> bool:
    return case.area == pattern or fnmatchcase(case.name, pattern)
