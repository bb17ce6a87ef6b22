"""The demo: all scenarios in a row, told in the terminal, shown in a report, summed up in ``result.json``."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import trio
from rich.console import Console
from rich.markup import escape

from conformance.lab.network import Lab
from conformance.lab.processes import LabError
from conformance.lab.recogniser_process import RecogniserProcess
from conformance.lab.report import write_report
from conformance.lab.report.model import CallReport, Report
from conformance.lab.scenario import Recognisers, Scenario
from conformance.lab.scenarios import (
    Answered,
    EngineDies,
    EngineDown,
    EngineHangs,
    EngineRefusesTerminated,
    Transferred,
)
from conformance.lab.speech import GRAMMAR_ANSWER, SpeechError

__all__ = ["SCENARIOS", "Teller", "build_result", "run_demo"]

SCENARIOS: tuple[tuple[str, type[Scenario]], ...] = (
    ("1", Answered),
    ("2", Transferred),
    ("3a", EngineDown),
    ("3b", EngineRefusesTerminated),
    ("3c", EngineHangs),
    ("4", EngineDies),
)


class Teller:
    """Tells in the terminal what happens, as a person likes to read it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()

    def headline(self, text: str) -> None:
        self._console.print(f"\n[bold]{escape(text)}[/bold]")

    def step(self, text: str) -> None:
        seconds = time.monotonic() - self._began
        self._console.print(f"  [dim]{seconds:5.1f} s[/dim]  {escape(text)}", highlight=False, soft_wrap=True)

    def call_done(self, call: CallReport) -> None:
        for fact in call.facts:
            sign = "[green]✓[/green]" if fact.ok else "[red]✗[/red]"
            self._console.print(f"           {sign} {escape(fact.text)}", highlight=False, soft_wrap=True)
        for timing in call.timings:
            color = "default" if timing.ok is None else "green" if timing.ok else "red"
            limit = f" [dim]{timing.limit}[/dim]" if timing.limit else ""
            name = escape(timing.name)
            self._console.print(
                f"           [dim]{name}[/dim] [{color}]{timing.value}[/{color}]{limit}", highlight=False
            )

    def verdict(self, report: Report, page: Path) -> None:
        color, text = ("green", "All calls went as they should.") if report.ok else ("red", "Not all calls went well.")
        took = report.ended_at - report.began_at
        self._console.print(
            f"\n[bold {color}]{text}[/bold {color}] [dim]{took:.0f} s[/dim]\n{page}", highlight=False, soft_wrap=True
        )


def build_result(report: Report) -> dict[str, object]:
    """The content of result.json."""
    return {"calls": [{**call.result, "ok": call.ok} for call in report.calls], "ok": report.ok}


def _environment(lab: Lab) -> tuple[tuple[str, str], ...]:
    addresses = lab.addresses
    capture = "packet capture on the loopback" if lab.capture.is_running else "the phones’ own records (no root)"
    return (
        ("Machine", f"{os.cpu_count()} cores, {platform.system()} {platform.release()}, {platform.machine()}"),
        ("Versions", f"ims-as {version('ims-as')}, Python {platform.python_version()}, trio {version('trio')}"),
        (
            "Network",
            f"caller {addresses.caller}, S-CSCF {addresses.scscf}, ims-as {addresses.ims_as}, "
            f"engine {addresses.engine}, HSS {addresses.hss}, phone {addresses.phone}",
        ),
        ("RTP seen by", capture),
        ("Speech", "PocketSphinx with a grammar of playing cards; espeak-ng; recordings of people, see lab/audio"),
    )


def _make_directories(directory: Path) -> Path:
    """The report's folder and one inside it for this run's logs."""
    directory.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix="logs-", dir=directory))


@contextlib.contextmanager
def _recognisers() -> Iterator[Recognisers]:
    """Raises SpeechError."""
    with contextlib.ExitStack() as stack:
        cards = RecogniserProcess()
        stack.callback(cards.close)
        answers = RecogniserProcess(GRAMMAR_ANSWER)
        stack.callback(answers.close)
        yield Recognisers(cards, answers)


async def _play_all(
    lab: Lab, teller: Teller, recognisers: Recognisers, scenarios: tuple[tuple[str, type[Scenario]], ...]
) -> tuple[CallReport, ...]:
    calls = []
    for number, kind in scenarios:
        teller.headline(f"{number}  {kind.title}")
        call = await kind(lab, number, teller.step).run(recognisers)
        teller.call_done(call)
        calls.append(call)
    return tuple(calls)


async def run_demo(
    directory: Path,
    *,
    prefix: str = "127.0.0",
    console: Console | None = None,
    scenarios: tuple[tuple[str, type[Scenario]], ...] = SCENARIOS,
    make_lab: Callable[..., Lab] = Lab,
) -> Report:
    """Runs the calls and writes the report.

    Raises:
        LabError: the network could not be started.
        OSError: an address is in use, or ``directory`` cannot be written.
    """
    teller = Teller(console or Console())
    logs = _make_directories(directory)
    began_at = time.time()
    teller.headline("The lab starts: HSS, S-CSCF, ims-as, media worker, voice agent, two phones")
    try:
        with _recognisers() as recognisers:
            async with trio.open_nursery() as nursery:
                lab = make_lab(logs, prefix=prefix)
                await nursery.start(lab.run)
                teller.step("everything is up")
                calls = await _play_all(lab, teller, recognisers, scenarios)
                environment = _environment(lab)
                nursery.cancel_scope.cancel()
    except SpeechError as error:
        raise LabError(str(error)) from error
    report = Report("ims-as: calls through the lab", began_at, time.time(), calls, environment)
    page = write_report(report, directory)
    (directory / "result.json").write_text(json.dumps(build_result(report), indent=2, ensure_ascii=False) + "\n")
    teller.verdict(report, page)
    return report
