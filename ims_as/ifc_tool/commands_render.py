"""``ims-as ifc render``: criteria for an HSS from a YAML description, or from the configuration."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import click

from ims_as.cli_options import EXIT_PROBLEM, EXIT_USAGE, load_or_exit, with_config
from ims_as.ifc_tool.command_input import FILE, json_option, name_of, read_file

if TYPE_CHECKING:
    from ims_as.config import Config
    from ims_as.ifc_tool.description import Description, Problem

__all__ = ["render_command"]


@click.command("render")
@with_config
@click.option(
    "--format", "output", type=click.Choice(["xml", "pyhss", "fhoss", "open5gs", "yaml"]), default="xml",
    show_default=True,
)  # fmt: skip
@click.option("--from-config", is_flag=True, help="The recommended criteria for the configured server; without FILE.")
@click.option(
    "--cases",
    metavar="LIST",
    help="With --from-config, of terminating, originating and register. Default: terminating,originating.",
)
@click.option(
    "--priority", type=click.IntRange(0, 2**31 - 10), metavar="N", help="With --from-config: of the first. Default: 10."
)
@click.option("--name", default="ims-as", show_default=True, help="FHoSS: the service profile, at most 16 characters.")
@click.option(
    "-o", "--output", "target", type=click.File("w", lazy=True), default="-", help="Default: standard output."
)
@json_option
@click.argument("file", type=FILE, required=False)
def render_command(
    path: str | None,
    overrides: tuple[str, ...],
    output: str,
    from_config: bool,
    cases: str | None,
    priority: int | None,
    name: str,
    target: Any,
    as_json: bool,
    file: Any,
) -> None:
    """Write the criteria that the YAML in FILE describes, for an HSS.

    xml: the XML of TS 29.228; pyhss: the template file that ifc_path of PyHSS names; fhoss: SQL for hss_db;
    open5gs: a script for mongosh; yaml: the description itself.

    What the target cannot hold is an error (exit status 1), or a warning where nothing is lost.
    """
    from ims_as.ifc_tool.description import DescriptionError
    from ims_as.ifc_tool.render import Format, Options, render

    if from_config is (file is not None):
        raise click.UsageError("give FILE or --from-config")
    if not from_config and (cases is not None or priority is not None):
        raise click.UsageError("--cases and --priority go with --from-config")
    config: Config | None = None
    if from_config or path is not None or overrides:
        config = load_or_exit(path, overrides, needs_file=from_config and not overrides, status=EXIT_USAGE)
    source = "configuration" if file is None else name_of(file)
    try:
        description = _describe(config, cases, priority) if file is None else _parse(file)
        origin_host = None if config is None else config.diameter.origin_host
        rendered = render(description, Format(output), Options(name, origin_host))
    except DescriptionError as error:
        _refuse(error.problems, source, as_json=as_json)
    if as_json:
        warnings = [_told(each) for each in rendered.warnings]
        body = json.dumps({"format": output, "content": rendered.text, "warnings": warnings})
        click.echo(body, file=target)
        return
    _print(rendered.warnings, source, "warning")
    click.echo(rendered.text, file=target, nl=False)


def _describe(config: Config | None, cases: str | None, priority: int | None) -> Description:
    from ims_as.ifc_tool.recommended import recommend

    assert config is not None, "loaded above"
    chosen = [each.strip() for each in (cases or "terminating,originating").split(",") if each.strip()]
    return recommend(config.identity, chosen, first_priority=10 if priority is None else priority)


def _parse(file: Any) -> Description:
    from ims_as.ifc_tool.description import DescriptionError, Problem, parse_description

    try:
        return parse_description(read_file(file).decode())
    except UnicodeDecodeError as error:
        raise DescriptionError([Problem("", f"not UTF-8 at byte {error.start}")]) from None


def _told(problem: Problem) -> dict[str, Any]:
    return {"path": problem.path, "text": problem.text, "line": problem.line, "column": problem.column}


def _print(problems: Sequence[Problem], source: str, severity: str) -> None:
    for problem in problems:
        place = problem.at(source)
        head, _, rest = place.partition(": ")
        click.echo(f"{head}: {severity}: {rest}", err=True)


def _refuse(problems: Sequence[Problem], source: str, *, as_json: bool) -> NoReturn:
    if as_json:
        click.echo(json.dumps({"problems": [_told(each) for each in problems]}, indent=2))
    else:
        _print(problems, source, "error")
    sys.exit(EXIT_PROBLEM)
