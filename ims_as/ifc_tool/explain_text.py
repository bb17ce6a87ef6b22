"""What `explain` found out, for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from ims_as.ifc_tool.command_input import printable

if TYPE_CHECKING:
    from ims_as.ifc_tool.explain import ExplainedCriterion, ExplainedTrigger

__all__ = ["print_explained"]


def print_explained(request: str, criteria: Sequence[ExplainedCriterion], console: Console | None = None) -> None:
    """Each criterion with its groups and triggers, then where the request goes; what decided is in bold."""
    console = console or Console(highlight=False, soft_wrap=True)
    console.print(Text(printable(request), style="bold"))
    for criterion in criteria:
        console.print()
        for line in _lines(criterion):
            console.print(line)
    console.print()
    console.print(_outcome(criteria))


def _mark(holds: bool) -> Text:
    return Text("✓ " if holds else "✗ ", style="green" if holds else "red")


def _lines(criterion: ExplainedCriterion) -> Iterator[Text]:
    verdict = "matches" if criterion.matches else "does not match"
    head = f"priority {criterion.priority}: {printable(criterion.server_name)} {verdict}"
    yield _mark(criterion.matches).append(head, style="bold")
    where = "" if criterion.line is None else f" (line {criterion.line})"
    yield Text(f"  {criterion.default_handling}; {criterion.reason}").append(where, style="dim")
    joined = "one must hold" if criterion.is_cnf else "all must hold"
    for group in criterion.groups:
        yield Text("  ").append_text(_mark(group.holds)).append(f"group {group.number} ({joined})")
        for trigger in group.triggers:
            yield Text("      ").append_text(_trigger(trigger))


def _trigger(trigger: ExplainedTrigger) -> Text:
    line = _mark(trigger.holds).append(printable(trigger.text), style="bold" if trigger.decides else "")
    return line.append(f"  – {printable(trigger.reason)}", style="" if trigger.decides else "dim")


def _outcome(criteria: Sequence[ExplainedCriterion]) -> Text:
    visited = [each for each in criteria if each.matches]
    if not criteria:
        return Text("no criteria: ordinary routing")
    if not visited:
        return Text("no application server: ordinary routing", style="bold")
    names = (f"{each.priority} {printable(each.server_name)} ({each.default_handling})" for each in visited)
    return Text("→ " + ", then ".join(names), style="bold")
