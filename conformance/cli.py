"""The program ``ims-as-conformance``: what an application server on ISC must do, tried from outside with SIPp."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

import attrs
import click
import trio

from conformance.case import CASES, DEFAULT_KEYS, NEEDS, Case, CaseError, find_cases
from conformance.lab.processes import LabError
from conformance.runner import DEFAULT_JOBS, Outcome, RunnerError, Targets, Trial, Verdict, leaves_of, try_cases
from conformance.target import tls_context

__all__ = ["main"]

EXIT_FAILED = 1

_patterns = click.argument("patterns", nargs=-1, metavar="[CASE]...")
_directory = click.option(
    "--cases",
    "root",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=CASES,
    help="Folder of the cases, area/name/case.toml; default: those that come with the program.",
)
_area = click.option("--area", "areas", multiple=True, help="Cases of that area; may be repeated.")
_target = click.option(
    "--target",
    "targets",
    multiple=True,
    metavar="[PLACE=]URI",
    help="The server, sip:host:port with ;transport=tcp or tls; PLACE (such as ipv6) names another address of it.  "
    "Default: a server of our own on loopback.",
)
_local = click.option("--local", "local_host", metavar="HOST", help="Our address; default: what leads to the target.")
_keys = click.option(
    "--key", "keys", multiple=True, metavar="NAME=URI", help="A user that the cases call: agent=sip:…."
)
_lacks = click.option(
    "--without", "lacks", multiple=True, type=click.Choice(list(NEEDS)), help="The server has not got."
)
_jobs = click.option("--jobs", type=click.IntRange(1, 64), default=DEFAULT_JOBS, show_default=True, help="At a time.")
_certificate = click.option(
    "--certificate",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="PEM file with a key and the certificate that we show to a target on TLS.",
)
_MARKS = {
    Outcome.PASSED: ("ok", "green"),
    Outcome.FAILED: ("FAILED", "red"),
    Outcome.ERROR: ("ERROR", "red"),
    Outcome.LEFT_OUT: ("left out", "yellow"),
}


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Try a SIP application server from outside, as the S-CSCF and the caller.

    CASE is a name such as isc/answered, an area such as isc, or a pattern such as isc/*.
    """


def _find(root: Path, patterns: Sequence[str], areas: Sequence[str]) -> list[Case]:
    try:
        cases = find_cases(root, (*patterns, *(f"{area}/*" for area in areas)))
    except CaseError as error:
        raise click.UsageError(str(error)) from error
    if not cases:
        raise click.UsageError(f"no cases in {root}")
    return cases


@main.command("list")
@_directory
@_area
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--markdown", is_flag=True, help="Print tables as in docs/conformance.md.")
@_patterns
def list_command(root: Path, areas: tuple[str, ...], as_json: bool, markdown: bool, patterns: tuple[str, ...]) -> None:
    """The cases: name, what must be so, clause."""
    cases = _find(root, patterns, areas)
    if markdown:
        from conformance.doc import render_cases

        click.echo(render_cases(cases))
        return
    if as_json:
        rows = [
            {
                "name": case.name,
                "summary": case.summary,
                "clause": case.clause,
                "needs": list(case.needs),
                "at": case.at,
                "transport": case.transport,
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
@_area
@_target
@_local
@_keys
@_lacks
@_certificate
@_jobs
@click.option("--junit", type=click.File("wb", lazy=True), metavar="FILE", help="Write the verdicts as JUnit XML.")
@_patterns
def run_command(
    root: Path,
    areas: tuple[str, ...],
    targets: tuple[str, ...],
    local_host: str | None,
    keys: tuple[str, ...],
    lacks: tuple[str, ...],
    certificate: Path | None,
    jobs: int,
    junit: IO[bytes] | None,
    patterns: tuple[str, ...],
) -> None:
    """Run the cases against a server; exit status 0 when all pass, 1 when one does not, 2 when none can be run."""
    cases = _find(root, patterns, areas)
    trials = [Trial(case) for case in cases]
    width = max(len(case.name) for case in cases)
    verdicts = _try(
        trials, targets, local_host, keys, lacks, certificate, jobs, lambda each: _tell(each, each.case.name, width)
    )
    if junit is not None:
        from conformance.junit import junit_xml

        junit.write(junit_xml(verdicts))
    tried = [verdict for verdict in verdicts if verdict.outcome is not Outcome.LEFT_OUT]
    n_passed = sum(verdict.outcome is Outcome.PASSED for verdict in tried)
    left_out = f", {len(verdicts) - len(tried)} left out" if len(tried) < len(verdicts) else ""
    click.echo(f"{n_passed} of {len(tried)} passed{left_out}")
    sys.exit(0 if n_passed == len(tried) else EXIT_FAILED)


@main.command("prove")
@_directory
@_area
@_target
@_local
@_keys
@_lacks
@_certificate
@_jobs
@_patterns
def prove_command(
    root: Path,
    areas: tuple[str, ...],
    targets: tuple[str, ...],
    local_host: str | None,
    keys: tuple[str, ...],
    lacks: tuple[str, ...],
    certificate: Path | None,
    jobs: int,
    patterns: tuple[str, ...],
) -> None:
    """Prove that the cases can fail: each is run against the server made wrong in the ways that the case names.

    Exit status 0 when every case notices every fault.
    """
    cases = _find(root, patterns, areas)
    trials = [Trial(case, (fault,)) for case in cases for fault in case.wrong]
    width = max(len(case.name) for case in cases)

    def tell(verdict: Verdict) -> None:
        fault = ", ".join(each.text for each in verdict.faults)
        if verdict.has_noticed:
            verdict = attrs.evolve(verdict, outcome=Outcome.PASSED, detail="", ladder="")
        elif verdict.outcome is Outcome.PASSED:
            verdict = attrs.evolve(verdict, outcome=Outcome.FAILED, detail="the case did not notice")
        elif verdict.unused:
            verdict = attrs.evolve(verdict, detail=f"the fault met no message\n{verdict.detail}")
        _tell(verdict, f"{verdict.case.name:<{width}}  {fault}", width)

    verdicts = _try(trials, targets, local_host, keys, lacks, certificate, jobs, tell)
    tried = [verdict for verdict in verdicts if verdict.outcome is not Outcome.LEFT_OUT]
    n_noticed = sum(verdict.has_noticed for verdict in tried)
    click.echo(f"{n_noticed} of {len(tried)} faults noticed")
    sys.exit(0 if n_noticed == len(tried) else EXIT_FAILED)


def _try(
    trials: Sequence[Trial],
    targets: Sequence[str],
    local_host: str | None,
    keys: Sequence[str],
    lacks: Sequence[str],
    certificate: Path | None,
    jobs: int,
    tell: Callable[[Verdict], None],
) -> list[Verdict]:
    users = dict(DEFAULT_KEYS)
    for key in keys:
        name, equals, uri = key.partition("=")
        if not equals or name not in users:
            raise click.UsageError(f"--key {key}: expected NAME=URI, NAME one of {', '.join(users)}")
        users[name] = uri

    async def run(where: Targets) -> list[Verdict]:
        return await try_cases(trials, where, keys=users, lacks=lacks, jobs=jobs, on_verdict=tell)

    async def run_on_our_own() -> list[Verdict]:
        from conformance.own_server import own_server

        with tempfile.TemporaryDirectory(prefix="ims-as-conformance-") as directory:
            async with own_server(Path(directory), {trial.case.at for trial in trials}) as server:
                return await run(server.targets)

    try:
        if targets:
            return trio.run(run, attrs.evolve(Targets.parse(targets, local_host), tls=tls_context(certificate)))
        return trio.run(run_on_our_own)
    except RunnerError as error:
        raise click.UsageError(str(error)) from error
    except ImportError as error:
        raise click.UsageError(f"{error.name} is not installed (pip install 'ims-as[dev]')") from error
    except ExceptionGroup as group:  # from within the server's nursery
        ours, others = group.split((RunnerError, LabError))
        if ours is None or others is not None:
            raise
        raise click.UsageError("; ".join(str(error) for error in leaves_of(ours))) from group


def _tell(verdict: Verdict, name: str, width: int) -> None:
    word, colour = _MARKS[verdict.outcome]
    click.echo(f"{name:<{width}}  {click.style(word, fg=colour)}  {verdict.seconds:.1f} s")
    if verdict.detail:
        click.echo(f"    {verdict.case.summary} ({verdict.case.clause})")
        for line in [*verdict.detail.splitlines(), "", *verdict.ladder.splitlines()]:
            click.echo("    " + "".join(char if char.isprintable() else "·" for char in line.expandtabs()))
