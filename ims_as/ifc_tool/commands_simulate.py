"""``ims-as ifc simulate``: SIP files and captures through a user's criteria."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from ims_as.cli_options import EXIT_USAGE, fail
from ims_as.ifc_tool.command_input import (
    FILE,
    about_request,
    json_option,
    name_of,
    printable,
    read_document,
    read_file,
    request_options,
)

if TYPE_CHECKING:
    from ims_as.ifc_tool.simulate import CaptureReport, Simulated, Simulation

__all__ = ["simulate_command"]

_END_COLOURS = {"released": "red", "deregistered": "red", "lost": "red", "no-target": "yellow", "rejected": "yellow"}
_SNIFFED_BYTES = 4


@click.command("simulate")
@request_options
@click.option("--as-fails", is_flag=True, help="Every application server fails (408, 5xx, silence, no connection).")
@click.option(
    "--as",
    "told",
    multiple=True,
    metavar="SERVER=OUTCOME",
    help="What one server does: passes, answers, rejects, fails, fails-late (after a 18x). "
    "SERVER: its ServerName, host, or the priority of the criterion. Default: passes.",
)
@click.option("--to", metavar="ADDRESS[:PORT]", help="Of a capture, only requests sent there, such as the S-CSCF.")
@json_option
@click.argument("file", type=FILE)
@click.argument("messages", type=FILE, nargs=-1, required=True, metavar="MESSAGE...")
def simulate_command(
    session_case: str | None,
    registration_type: str | None,
    user: str | None,
    as_fails: bool,
    told: tuple[str, ...],
    to: str | None,
    as_json: bool,
    file: Any,
    messages: tuple[Any, ...],
) -> None:
    """Which application servers each request visits, in order, and where it ends.

    A MESSAGE is a SIP request or a capture (pcap, pcapng). Of a capture every initial request of the user counts once,
    and a REGISTER after its 200. What a server changes in a request that it passes on is not known here.
    """
    from ims_as.ifc_tool.chain import Outcome
    from ims_as.ifc_tool.description import REGISTRATION_TYPES, SESSION_CASES
    from ims_as.ifc_tool.reading import IfcToolError
    from ims_as.ifc_tool.simulate import Simulation

    document = read_document(file)
    try:
        simulation = Simulation(
            document,
            session_case=None if session_case is None else SESSION_CASES[session_case],
            registration_type=None if registration_type is None else REGISTRATION_TYPES[registration_type],
            user=user,
            told=told,
            default=Outcome.FAILS if as_fails else Outcome.PASSES,
            to=to,
        )
    except IfcToolError as error:
        fail(f"{name_of(file)}: {error}", EXIT_USAGE)
    simulated: list[Simulated] = []
    captures: list[CaptureReport] = []
    for message in messages:
        simulated += _simulate_one(simulation, message, captures)
    if as_json:
        requests = [_describe(each) for each in simulated]
        click.echo(json.dumps({"requests": requests, "captures": [each.to_dict() for each in captures]}, indent=2))
        return
    if simulated:
        _print_requests(simulated)
    for report in captures:
        _print_capture(report, sum(each.name == report.name for each in simulated))


def _simulate_one(simulation: Simulation, message: Any, captures: list[CaptureReport]) -> list[Simulated]:
    from ims_as.ifc_tool.pcap import MAX_CAPTURE_BYTES, PcapError, is_capture_untrusted
    from ims_as.ifc_tool.reading import IfcToolError

    name = name_of(message)
    try:
        begun = message.read(_SNIFFED_BYTES)
        if not is_capture_untrusted(begun):
            return simulation.file_untrusted(name, read_file(message, begun=begun))
        simulated, report = simulation.capture_untrusted(name, read_file(message, MAX_CAPTURE_BYTES, begun=begun))
    except (IfcToolError, PcapError) as error:
        fail(f"{name}: {error}", EXIT_USAGE)
    except OSError as error:
        fail(f"{name}: {error.strerror}", EXIT_USAGE)
    captures.append(report)
    return simulated


def _describe(simulated: Simulated) -> dict[str, Any]:
    found = simulated.found
    kind = simulated.request.view.registration_type
    return {
        **about_request(simulated.name, simulated.request),
        "registration_type": None if kind is None else kind.name,
        "packet": None if found is None else found.number,
        "time": None if found is None else round(found.time_s, 6),
        "source": None if found is None else found.source,
        "destination": None if found is None else found.destination,
        "also_in_packets": [] if found is None else found.hops,
        **simulated.chain.to_dict(),
    }


def _print_capture(report: CaptureReport, n_rows: int) -> None:
    cut = ", cut short" if report.is_cut_short else ""
    click.echo(
        f"{report.name}: {report.n_packets} packets{cut}, {report.n_messages} SIP messages, "
        f"{n_rows or 'no'} initial {'request' if n_rows == 1 else 'requests'} of the user"
    )
    for reason, count in sorted(report.skipped.items(), key=lambda item: -item[1]):
        click.echo(f"    left out: {count} {reason}")


def _print_requests(rows: Sequence[Simulated]) -> None:
    """The name of the message on a line of its own, its servers in columns below it."""
    steps = [step for row in rows for step in row.chain.steps]
    widths = [
        max((len(text(step)) for step in steps), default=0)
        for text in (lambda step: str(step.priority), lambda step: step.server_name, lambda step: step.outcome)
    ]
    for row in rows:
        view = row.request.view
        where = row.name.rpartition("/")[2] + (f":{row.found.number}" if row.found is not None else "")
        case = "unknown" if row.request.session_case is None else row.request.session_case.name
        kind = "" if view.registration_type is None else f" {view.registration_type.name}"
        head = click.style(printable(f"{where}  {view.method} {view.request_uri}"), bold=True)
        click.echo(f"{head}   {case}{kind} ({row.request.source})")
        for step in row.chain.steps:
            which = f"{step.priority:>{widths[0]}}  {step.server_name:<{widths[1]}}"
            line = f"  {which}  {step.outcome:<{widths[2]}}  {step.default_handling}: {step.then}"
            click.echo(printable(line))
        told = printable(row.chain.text)
        click.echo("  → " + click.style(told, fg=_END_COLOURS.get(row.chain.end.value)))
    click.echo()
