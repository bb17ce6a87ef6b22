"""A conformance case: a folder ``cases/<area>/<name>`` with ``case.toml`` and a SIPp scenario.

summary = "what must be so"
clause = "where it is written"
scenario = "uac.xml"
timeout_s = 20
calls = 1                        # optional
needs = ["voice agent"]          # optional: what must stand behind the target
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import attrs

__all__ = ["CASES", "Case", "CaseError", "find_cases", "load_case"]

CASES = Path(__file__).parent / "cases"

MAX_TIMEOUT_S = 300
MAX_CALLS = 1000


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
    """What must stand behind the target, for people."""

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
        if not isinstance(value, kind) or isinstance(value, bool):
            raise CaseError(f"{name}: {key} is {value!r}")
        return value

    summary, clause, scenario = take("summary", str), take("clause", str), take("scenario", str)
    timeout_s, calls, needs = take("timeout_s", (int, float)), take("calls", int, 1), take("needs", list, [])
    if keys:
        raise CaseError(f"{name}: unknown key {', '.join(sorted(keys))}")
    if not 0 < timeout_s <= MAX_TIMEOUT_S or not 0 < calls <= MAX_CALLS:
        raise CaseError(f"{name}: timeout_s goes to {MAX_TIMEOUT_S}, calls to {MAX_CALLS}")
    if not all(isinstance(each, str) for each in needs):
        raise CaseError(f"{name}: needs is a list of texts")
    if Path(scenario).name != scenario or not (folder / scenario).is_file():
        raise CaseError(f"{name}: no scenario {scenario!r} in the folder")
    return Case(name, summary, clause, folder / scenario, float(timeout_s), calls, tuple(needs))


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
