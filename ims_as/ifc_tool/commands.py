"""The commands ``ims-as ifc lint|explain|simulate|render``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ims_as.cli_options import EXIT_PROBLEM, EXIT_USAGE, fail, load_or_exit, with_config

if TYPE_CHECKING:
    from ims_as.config import Config
    from ims_as.ifc_tool.explain import ExplainedCriterion
    from ims_as.ifc_tool.lint import Finding
    from ims_as.ifc_tool.reading import Criteria, InitialRequest

__all__ = ["ifc_group"]

MAX_FILE_BYTES = 1024 * 1024
"""Four times what any of the readers takes: they say what is too large for them."""

_COLOURS = {"error": "red", "warning": "yellow", "info": "cyan"}
_CASES = ("originating-registered", "terminating-registered", "terminating-unregistered", "originating-unregistered",
          "originating-cdiv")  # fmt: skip
_FILE = click.File("rb")
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")

C = TypeVar("C", bound=Callable[..., Any])


def _request_options(command: C) -> C:
    for option in (
        click.option("--user", metavar="IMPU", help="Served user, for a subscription with several profiles."),
        click.option(
            "--registration-type",
            type=click.Choice(["initial", "re", "de"]),
            help="Of a REGISTER; default: de with Expires 0, else initial.",
        ),
        click.option("--session-case", type=click.Choice(_CASES), help="Default: as P-Served-User says."),
    ):
        command = option(command)
    return command


@click.group("ifc")
def ifc_group() -> None:
    """Check, explain, try out and write initial filter criteria (TS 29.228).

    FILE is XML: IMSSubscription, ServiceProfile, IFCs, Sh-Data or one InitialFilterCriteria; - is standard input.
    """


def _name(file: Any) -> str:
    return str(getattr(file, "name", "<stdin>"))


def _read(file: Any) -> bytes:
    try:
        read: bytes = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        fail(f"{_name(file)}: {error.strerror}", EXIT_USAGE)
    if len(read) > MAX_FILE_BYTES:
        fail(f"{_name(file)}: more than {MAX_FILE_BYTES} bytes", EXIT_USAGE)
    return read


# ---------------------------------------------------------------- lint


def _own_hosts(config: Config) -> frozenset[str]:
    listed = [address.host for address in (*config.sip.listen, config.sip.advertise) if address is not None]
    return frozenset(f"[{host}]".lower() if ":" in host else host.lower() for host in listed)


@ifc_group.command()
@with_config
@_json
@click.argument("file", type=_FILE)
def lint(path: str | None, overrides: tuple[str, ...], as_json: bool, file: Any) -> None:
    """Findings with line, clause and consequence; exit status 1 when one is an error.

    With a configuration, server names are compared with its `identity`.
    """
    from ims_as.ifc_tool.lint import Severity, lint_untrusted

    identity, own_hosts = None, frozenset[str]()
    if path is not None or overrides:
        config = load_or_exit(path, overrides, needs_file=False, status=EXIT_USAGE)
        identity, own_hosts = config.identity, _own_hosts(config)
    findings = lint_untrusted(_read(file), identity=identity, own_hosts=own_hosts)
    if as_json:
        counts = {each.value: sum(f.severity is each for f in findings) for each in Severity}
        click.echo(json.dumps({"findings": [finding.to_dict() for finding in findings], "counts": counts}, indent=2))
    else:
        _print_findings(findings, _name(file))
    if any(finding.severity is Severity.ERROR for finding in findings):
        sys.exit(EXIT_PROBLEM)


def _print_findings(findings: Sequence[Finding], name: str) -> None:
    for finding in findings:
        severity = finding.severity.value
        where = name if finding.line is None else f"{name}:{finding.line}"
        head = click.style(f"{severity} {finding.rule}", fg=_COLOURS[severity], bold=True)
        click.echo(f"{where}: {head}: {_printable(finding.text)}")
        click.echo(f"    {finding.consequence}  [{finding.clause}]")
    if findings:
        told = (f"{sum(f.severity.value == each for f in findings)} {each}" for each in _COLOURS)
        click.echo(", ".join(told))
    else:
        click.echo(f"{name}: no findings")


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "·" for char in text)


# ---------------------------------------------------------------- explain and simulate


def _load(
    file: Any,
    messages: Sequence[Any],
    session_case: str | None,
    registration_type: str | None,
    user: str | None,
) -> list[tuple[str, Criteria, InitialRequest]]:
    """(name of the message file, criteria that count for it, request); ends the program when one cannot be used."""
    from ifc.model import SessionCase
    from ifc.parser import IfcError
    from ims_as.ifc_tool import reading
    from ims_as.ifc_tool.render import REGISTRATION_TYPES, SESSION_CASES

    case: SessionCase | None = None if session_case is None else SESSION_CASES[session_case]
    kind = None if registration_type is None else REGISTRATION_TYPES[registration_type]
    try:
        document = reading.read_document_untrusted(_read(file))
    except IfcError as error:
        fail(f"{_name(file)}: {error}", EXIT_USAGE)
    for problem in document.problems:
        click.echo(f"{_name(file)}: {problem}", err=True)
    loaded = []
    for message in messages:
        try:
            request = reading.read_request_untrusted(
                _read(message), session_case=case, registration_type=kind, served_user=user
            )
            criteria = document.criteria_of(request.served_user)
        except reading.IfcToolError as error:
            fail(f"{_name(message)}: {error}", EXIT_USAGE)
        if request.session_case is None and reading.asks_for_session_case(criteria):
            fail(f"{_name(message)}: no P-Served-User tells the session case: give --session-case", EXIT_USAGE)
        loaded.append((_name(message), criteria, request))
    return loaded


@ifc_group.command()
@_request_options
@_json
@click.argument("file", type=_FILE)
@click.argument("message", type=_FILE)
def explain(
    session_case: str | None, registration_type: str | None, user: str | None, as_json: bool, file: Any, message: Any
) -> None:
    """Which criteria the SIP request in MESSAGE matches, trigger by trigger."""
    from ims_as.ifc_tool.explain import explain_criteria

    name, criteria, request = _load(file, [message], session_case, registration_type, user)[0]
    explained = explain_criteria(criteria, request.view)
    if as_json:
        body = {**_about(name, request), "criteria": [criterion.to_dict() for criterion in explained]}
        click.echo(json.dumps(body, indent=2))
        return
    case = "unknown" if request.session_case is None else request.session_case.name
    click.echo(_printable(f"{request.view.method} {request.view.request_uri}   {case} ({request.source})"))
    for criterion in explained:
        _print_criterion(criterion)
    if not explained:
        click.echo("no criteria: ordinary routing")


def _about(name: str, request: InitialRequest) -> dict[str, Any]:
    return {
        "message": name,
        "method": request.view.method,
        "request_uri": request.view.request_uri,
        "served_user": request.served_user,
        "session_case": None if request.session_case is None else request.session_case.name,
        "session_case_source": request.source,
    }


def _mark(holds: bool) -> str:
    return click.style("✓", fg="green") if holds else click.style("✗", fg="red")


def _print_criterion(criterion: ExplainedCriterion) -> None:
    verdict = "matches" if criterion.matches else "does not match"
    click.echo()
    click.echo(f"{_mark(criterion.matches)} priority {criterion.priority}: {criterion.server_name} {verdict}")
    click.echo(f"  {criterion.default_handling}; {criterion.reason}")
    joined = "one must hold" if criterion.is_cnf else "all must hold"
    for group in criterion.groups:
        click.echo(f"  {_mark(group.holds)} group {group.number} ({joined})")
        for trigger in group.triggers:
            click.echo(f"      {_mark(trigger.holds)} {trigger.text}  – {_printable(trigger.reason)}")


@ifc_group.command()
@_request_options
@_json
@click.argument("file", type=_FILE)
@click.argument("messages", type=_FILE, nargs=-1, required=True, metavar="MESSAGE...")
def simulate(
    session_case: str | None,
    registration_type: str | None,
    user: str | None,
    as_json: bool,
    file: Any,
    messages: tuple[Any, ...],
) -> None:
    """The application servers that each SIP request would visit, in order, if none of them changes or ends it."""
    from ims_as.ifc_tool.explain import handling_of, triggered_servers

    rows = []
    for name, criteria, request in _load(file, messages, session_case, registration_type, user):
        visited = [
            {
                "priority": each.priority,
                "server_name": each.application_server.server_name,
                "default_handling": handling_of(each),
            }
            for each in triggered_servers(criteria, request.view)
        ]
        rows.append({**_about(name, request), "application_servers": visited})
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    _print_visits(rows)


def _print_visits(rows: Sequence[dict[str, Any]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    columns = (
        Column("message", overflow="fold", min_width=12),
        Column("request", no_wrap=True),
        Column("session case", no_wrap=True),
        Column("application servers", overflow="fold", ratio=1),
    )
    table = Table(*columns, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for row in rows:
        visits = [
            f"{each['priority']} {each['server_name']} {each['default_handling']}"
            for each in row["application_servers"]
        ]
        case = row["session_case"] or "unknown"
        cells = (row["message"].rpartition("/")[2], row["method"], case.lower(), "\n".join(visits) or "none")
        table.add_row(*(Text("\n".join(map(_printable, cell.split("\n")))) for cell in cells))
    Console().print(table)


# ---------------------------------------------------------------- render


@ifc_group.command()
@click.option("--format", "output", type=click.Choice(["xml", "pyhss"]), default="xml", show_default=True)
@click.option(
    "-o", "--output", "target", type=click.File("w", lazy=True), default="-", help="Default: standard output."
)
@_json
@click.argument("file", type=_FILE)
def render(output: str, target: Any, as_json: bool, file: Any) -> None:
    """Write the criteria that the YAML in FILE describes, for an HSS.

    xml: the XML of TS 29.228; pyhss: the template file that ifc_path of PyHSS names.
    """
    from ims_as.ifc_tool.render import DescriptionError, Format, parse_description
    from ims_as.ifc_tool.render import render as render_description

    try:
        text = render_description(parse_description(_read(file).decode()), Format(output))
    except UnicodeDecodeError:
        fail(f"{_name(file)}: not UTF-8", EXIT_PROBLEM)
    except DescriptionError as error:
        if as_json:
            problems = [{"path": each.path, "text": each.text, "line": each.line} for each in error.problems]
            click.echo(json.dumps({"problems": problems}, indent=2))
        else:
            for problem in error.problems:
                click.echo(f"error: {problem}", err=True)
        sys.exit(EXIT_PROBLEM)
    click.echo(json.dumps({"format": output, "content": text}) if as_json else text, file=target, nl=as_json)
