"""The program ``ims-as-conformance``: what an application server on ISC must do, tried from outside with SIPp."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import IO

import click

from conformance.case import CASES, Case, CaseError, find_cases
from conformance.runner import Outcome, RunnerError, Target, Verdict, junit_xml, run_cases

__all__ = ["main"]

EXIT_FAILED = 1

_cases = click.argument("patterns", nargs=-1, metavar="[CASE]...")
_directory = click.option(
    "--cases",
    "root",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=CASES,
    help="Folder of the cases, area/name/case.toml; default: those that come with the program.",
)
_MARKS = {Outcome.PASSED: ("ok", "green"), Outcome.FAILED: ("FAILED", "red"), Outcome.ERROR: ("ERROR", "red")}


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Try a SIP application server from outside, as the S-CSCF and the caller.

    CASE is a name such as isc/answered, an area such as isc, or a pattern such as isc/*.
    """


def _find(root: Path, patterns: tuple[str, ...]) -> list[Case]:
    try:
        cases = find_cases(root, patterns)
    except CaseError as error:
        raise click.UsageError(str(error)) from error
    if not cases:
        raise click.UsageError(f"no cases in {root}")
    return cases


@main.command("list")
@_directory
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@_cases
def list_command(root: Path, as_json: bool, patterns: tuple[str, ...]) -> None:
    """The cases: name, what must be so, clause."""
    cases = _find(root, patterns)
    if as_json:
        rows = [
            {
                "name": case.name,
                "summary": case.summary,
                "clause": case.clause,
                "needs": list(case.needs),
                "timeout_s": case.timeout_s,
            }
            for case in cases
        ]
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    width = max(len(case.name) for case in cases)
    for case in cases:
        needs = f"; needs {', '.join(case.needs)}" if case.needs else ""
        click.echo(f"{case.name:<{width}}  {case.summary}")
        click.echo(f"{'':<{width}}  {case.clause}{needs}")


@main.command("run")
@_directory
@click.option(
    "--target", default="sip:127.0.0.30:5060", show_default=True, metavar="URI", help="The server; ;transport=tcp."
)
@click.option("--local", "local_host", metavar="HOST", help="Our address; default: the one that leads to the target.")
@click.option("--junit", type=click.File("wb", lazy=True), metavar="FILE", help="Write the verdicts as JUnit XML.")
@_cases
def run_command(
    root: Path, target: str, local_host: str | None, junit: IO[bytes] | None, patterns: tuple[str, ...]
) -> None:
    """Run the cases against a server; exit status 0 when all pass, 1 when one does not."""
    cases = _find(root, patterns)
    width = max(len(case.name) for case in cases)

    def tell(verdict: Verdict) -> None:
        word, colour = _MARKS[verdict.outcome]
        click.echo(f"{verdict.case.name:<{width}}  {click.style(word, fg=colour)}  {verdict.seconds:.1f} s")
        if verdict.detail:
            click.echo(f"    {verdict.case.summary} ({verdict.case.clause})")
            for line in verdict.detail.splitlines():
                click.echo("    " + "".join(char if char.isprintable() else "·" for char in line.expandtabs()))

    try:
        verdicts = run_cases(cases, Target.parse(target, local_host), on_verdict=tell)
    except RunnerError as error:
        raise click.UsageError(str(error)) from error
    except ImportError as error:
        raise click.UsageError(f"{error.name} is not installed (pip install 'ims-as[dev]')") from error
    if junit is not None:
        junit.write(junit_xml(verdicts))
    n_passed = sum(verdict.outcome is Outcome.PASSED for verdict in verdicts)
    click.echo(f"{n_passed} of {len(verdicts)} passed")
    sys.exit(0 if n_passed == len(verdicts) else EXIT_FAILED)
