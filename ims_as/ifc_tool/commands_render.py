"""``ims-as ifc render``: criteria for an HSS from a YAML description."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from ims_as.cli_options import EXIT_PROBLEM, fail
from ims_as.ifc_tool.command_input import FILE, json_option, name_of, read_file

__all__ = ["render_command"]


@click.command("render")
@click.option("--format", "output", type=click.Choice(["xml", "pyhss"]), default="xml", show_default=True)
@click.option(
    "-o", "--output", "target", type=click.File("w", lazy=True), default="-", help="Default: standard output."
)
@json_option
@click.argument("file", type=FILE)
def render_command(output: str, target: Any, as_json: bool, file: Any) -> None:
    """Write the criteria that the YAML in FILE describes, for an HSS.

    xml: the XML of TS 29.228; pyhss: the template file that ifc_path of PyHSS names.
    """
    from ims_as.ifc_tool.render import DescriptionError, Format, parse_description
    from ims_as.ifc_tool.render import render as render_description

    try:
        text = render_description(parse_description(read_file(file).decode()), Format(output))
    except UnicodeDecodeError:
        fail(f"{name_of(file)}: not UTF-8", EXIT_PROBLEM)
    except DescriptionError as error:
        if as_json:
            problems = [{"path": each.path, "text": each.text, "line": each.line} for each in error.problems]
            click.echo(json.dumps({"problems": problems}, indent=2))
        else:
            for problem in error.problems:
                click.echo(f"error: {problem}", err=True)
        sys.exit(EXIT_PROBLEM)
    click.echo(json.dumps({"format": output, "content": text}) if as_json else text, file=target, nl=as_json)
