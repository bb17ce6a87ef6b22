"""The commands ``ims-as ifc …``: `lint` and `explain` here, the others in modules of their own."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from ims_as.cli_options import EXIT_PROBLEM, EXIT_USAGE, fail, load_or_exit, with_config
from ims_as.ifc_tool.command_input import (
    FILE,
    about_request,
    json_option,
    name_of,
    own_hosts_of,
    printable,
    read_document,
    read_file,
    read_shared,
    request_options,
    shared_option,
)
from ims_as.ifc_tool.commands_render import render_command
from ims_as.ifc_tool.commands_simulate import simulate_command
from ims_as.ifc_tool.commands_verify import verify_command

if TYPE_CHECKING:
    from ims_as.ifc_tool.lint import Finding
    from ims_as.ifc_tool.reading import Criteria, InitialRequest

__all__ = ["ifc_group"]

_COLOURS = {"error": "red", "warning": "yellow", "info": "cyan"}


@click.group("ifc")
def ifc_group() -> None:
    """Check, explain, try out, write and verify initial filter criteria (TS 29.228).

    FILE is XML: IMSSubscription, ServiceProfile, IFCs, Sh-Data or one InitialFilterCriteria; - is standard input.
    """


ifc_group.add_command(simulate_command)
ifc_group.add_command(render_command)
ifc_group.add_command(verify_command)


# ---------------------------------------------------------------- lint


@ifc_group.command()
@with_config
@json_option
@shared_option
@click.argument("file", type=FILE)
def lint(path: str | None, overrides: tuple[str, ...], as_json: bool, shared: Any, file: Any) -> None:
    """Findings with line, clause and consequence; exit status 1 when one is an error.

    With a configuration, server names are compared with its `identity`.
    """
    from ims_as.ifc_tool.lint import Severity, lint_untrusted

    identity, own_hosts = None, frozenset[str]()
    if path is not None or overrides:
        config = load_or_exit(path, overrides, needs_file=False, status=EXIT_USAGE)
        identity, own_hosts = config.identity, own_hosts_of(config)
    table = read_shared(shared)
    findings = lint_untrusted(read_file(file), identity=identity, own_hosts=own_hosts, shared=table)
    if as_json:
        counts = {each.value: sum(f.severity is each for f in findings) for each in Severity}
        click.echo(json.dumps({"findings": [finding.to_dict() for finding in findings], "counts": counts}, indent=2))
    else:
        _print_findings(findings, name_of(file))
    if any(finding.severity is Severity.ERROR for finding in findings):
        sys.exit(EXIT_PROBLEM)


def _print_findings(findings: Sequence[Finding], name: str) -> None:
    for finding in findings:
        severity = finding.severity.value
        where = name if finding.line is None else f"{name}:{finding.line}"
        head = click.style(f"{severity} {finding.rule}", fg=_COLOURS[severity], bold=True)
        click.echo(f"{where}: {head}: {printable(finding.text)}")
        click.echo(f"    {finding.consequence}  [{finding.clause}]")
    if findings:
        told = (f"{sum(f.severity.value == each for f in findings)} {each}" for each in _COLOURS)
        click.echo(", ".join(told))
    else:
        click.echo(f"{name}: no findings")


# ---------------------------------------------------------------- explain


def _load(
    file: Any, message: Any, shared: Any, session_case: str | None, registration_type: str | None, user: str | None
) -> tuple[Criteria, InitialRequest]:
    """(criteria that count, request); ends the program when one cannot be used."""
    from ims_as.ifc_tool import reading
    from ims_as.ifc_tool.description import REGISTRATION_TYPES, SESSION_CASES

    document = read_document(file, read_shared(shared))
    try:
        request = reading.read_request_untrusted(
            read_file(message),
            session_case=None if session_case is None else SESSION_CASES[session_case],
            registration_type=None if registration_type is None else REGISTRATION_TYPES[registration_type],
            served_user=user,
        )
        criteria = document.criteria_of(request.served_user)
    except reading.IfcToolError as error:
        fail(f"{name_of(message)}: {error}", EXIT_USAGE)
    if request.session_case is None and reading.asks_for_session_case(criteria):
        fail(f"{name_of(message)}: no P-Served-User tells the session case: give --session-case", EXIT_USAGE)
    return criteria, request


@ifc_group.command()
@request_options
@json_option
@shared_option
@click.argument("file", type=FILE)
@click.argument("message", type=FILE)
def explain(
    session_case: str | None,
    registration_type: str | None,
    user: str | None,
    as_json: bool,
    shared: Any,
    file: Any,
    message: Any,
) -> None:
    """Which criteria the SIP request in MESSAGE matches, trigger by trigger."""
    from ims_as.ifc_tool.explain import explain_criteria

    criteria, request = _load(file, message, shared, session_case, registration_type, user)
    explained = explain_criteria(criteria, request.view)
    if as_json:
        told = [criterion.to_dict() for criterion in explained]
        visited = [criterion.server_name for criterion in explained if criterion.matches]
        body = {**about_request(name_of(message), request), "application_servers": visited, "criteria": told}
        click.echo(json.dumps(body, indent=2))
        return
    from ims_as.ifc_tool.explain_text import print_explained

    case = "unknown" if request.session_case is None else request.session_case.name
    print_explained(f"{request.view.method} {request.view.request_uri}   {case} ({request.source})", explained)
