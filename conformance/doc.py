"""The tables of docs/conformance.md, made from the cases themselves."""

from __future__ import annotations

from collections.abc import Sequence

from conformance.case import NEEDS, PLACES, Case

__all__ = ["render_cases", "render_needs"]


def render_needs() -> str:
    """What a target may have to provide, and its addresses."""
    lines = ["| needs | what your server must do |", "| --- | --- |"]
    lines += [f"| {need} | {meaning} |" for need, meaning in NEEDS.items()]
    lines += ["", "| place | |", "| --- | --- |"]
    lines += [f"| `{place}` | {meaning} |" for place, meaning in PLACES.items()]
    return "\n".join(lines)


def render_cases(cases: Sequence[Case]) -> str:
    """One table for each area."""
    lines: list[str] = []
    for area in dict.fromkeys(case.area for case in cases):
        members = [case for case in cases if case.area == area]
        lines += [
            "",
            f"### {area} ({len(members)})",
            "",
            "| case | what must be so | clause | needs |",
            "| --- | --- | --- | --- |",
        ]
        for case in members:
            needs = ", ".join([*case.needs, *(f"`{word}`" for word in (case.at, case.transport) if word)])
            name = case.name.partition("/")[2]
            lines.append(f"| {name} | {case.summary.replace('|', chr(92) + '|')} | {case.clause} | {needs} |")
    return "\n".join(lines).strip()
