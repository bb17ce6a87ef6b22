"""The commands that the lab adds to ``ims-as``: ``demo`` and ``lab``."""

from __future__ import annotations

import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click
import trio

from conformance.lab.processes import LabError
from conformance.lab.quirks import Quirk, parse_quirks

__all__ = ["demo", "lab"]

EXIT_BROKEN = 2
"""The lab itself could not run; 1 says that a call did not go as it should."""

_prefix = click.option(
    "--prefix", default="127.0.0", show_default=True, help="First three octets of all addresses, inside 127.0.0.0/8."
)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _check_prefix(prefix: str) -> str:
    octets = prefix.split(".")
    if len(octets) != 3 or octets[0] != "127" or not all(o.isdigit() and int(o) < 256 for o in octets):
        raise click.BadParameter("must look like 127.0.0", param_hint="--prefix")
    return prefix


@click.command()
@click.option(
    "--report",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("demo-report"),
    show_default=True,
    help="Folder for the report, the recordings and result.json.",
)
@_prefix
def demo(directory: Path, prefix: str) -> None:
    """Run four kinds of calls through a small real network and report on them."""
    from conformance.lab.demo import run_demo

    reports = []

    async def run() -> None:
        reports.append(await run_demo(directory, prefix=_check_prefix(prefix)))

    try:
        trio.run(run)
    except* (LabError, OSError) as group:
        for error in _leaves(group):
            click.echo(f"ims-as demo: {error}", err=True)
    if not reports:
        sys.exit(EXIT_BROKEN)
    sys.exit(0 if reports[0].ok else 1)


@click.command()
@_prefix
@click.option("--keep", type=click.Path(path_type=Path, file_okay=False), help="Folder for configuration and logs.")
@click.option(
    "--hss-quirk",
    "quirks",
    type=click.Choice(["pyhss", *(quirk.value for quirk in Quirk)]),
    multiple=True,
    help="Let the HSS deviate from the specifications; may be given several times, pyhss is all of them.",
)
def lab(prefix: str, keep: Path | None, quirks: tuple[str, ...]) -> None:
    """Run the embedded network until Ctrl-C."""
    try:
        with tempfile.TemporaryDirectory(prefix="ims-as-lab-") as scratch:
            directory = keep or Path(scratch)
            directory.mkdir(parents=True, exist_ok=True)
            trio.run(_run_lab, _check_prefix(prefix), directory, parse_quirks(quirks))
    except* (LabError, OSError) as group:
        for error in _leaves(group):
            click.echo(f"ims-as lab: {error}", err=True)
        sys.exit(EXIT_BROKEN)


async def _run_lab(prefix: str, directory: Path, quirks: frozenset[Quirk]) -> None:
    from conformance.lab.network import ALICE, ANNA, PHONE_ANSWERS_AFTER_S, Lab

    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            network = await nursery.start(Lab(directory, prefix=prefix, hss_quirks=quirks).run)
            addresses = network.addresses
            click.echo(f"S-CSCF        sip:{addresses.scscf}:5060  (send calls for {ALICE} here)")
            click.echo(f"also served   {ANNA}  (SESSION_TERMINATED)")
            click.echo(f"HSS           {addresses.hss}:3868")
            click.echo(f"ims-as        sip:{addresses.ims_as}:5060, API {addresses.api_url}")
            click.echo(f"voice agent   {addresses.engine_url}")
            click.echo(f"legacy phone  sip:{addresses.phone}:5060, answers after {PHONE_ANSWERS_AFTER_S} s")
            click.echo(f"logs          {directory}")
            click.echo("Ctrl-C ends everything.")
            async for _ in signals:
                break
            nursery.cancel_scope.cancel()
