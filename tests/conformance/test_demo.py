"""The lab and one of its calls for real: six seconds that show that all parts fit together."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any, ClassVar

import attrs
import pytest
import trio
from click.testing import CliRunner
from rich.console import Console

from conformance.lab import commands
from conformance.lab.demo import SCENARIOS, build_result, run_demo
from conformance.lab.network import Lab, LabAddresses, build_config, build_criteria
from conformance.lab.processes import LabError, is_alive
from conformance.lab.report.model import Fact, Report
from conformance.lab.scenarios import EngineDown
from ifc.model import DefaultHandling
from ifc.parser import parse_criteria_untrusted
from ims_as.config import read_config
from tests.conformance.report_fixture import fake_report

PREFIX = "127.0.89"


class QuickLab(Lab):
    """The phone answers sooner."""

    labs: ClassVar[list[Lab]] = []

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.phone.answer_after_s = 0.1
        self.labs.append(self)


def test_a_call_with_the_engine_down_ends_at_the_phone(tmp_path: Path):
    output = io.StringIO()

    async def main() -> Report:
        with trio.fail_after(40):
            return await run_demo(
                tmp_path,
                prefix=PREFIX,
                console=Console(file=output, width=200),
                scenarios=(("3a", EngineDown),),
                make_lab=QuickLab,
            )

    report = trio.run(main)
    (call,) = report.calls
    assert report.ok, [fact.text for fact in call.facts if not fact.ok]
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["ok"] is True
    (entry,) = result["calls"]
    assert entry["name"] == "engine-down"
    assert entry["legacy_answered"] is True
    assert (entry["ports_left"], entry["ended_by"], entry["failed"]) == (0, "served-user", [])
    assert 100 < entry["setup_ms"] < 2000
    labels = [event.label for event in call.events]
    assert "503 Service Unavailable (INVITE)" in labels
    assert labels.count("INVITE +SDP") == 3
    assert (tmp_path / "index.html").stat().st_size > 100_000
    assert len(list(tmp_path.glob("3a-*.wav"))) == 4
    assert "All calls went as they should" in output.getvalue()
    (lab,) = QuickLab.labs
    assert lab.engine is None
    assert lab.server is not None
    assert not is_alive(lab.server.pid)


def test_an_address_in_use_is_told(tmp_path: Path):
    async def main() -> None:
        blocker = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
        await blocker.bind((f"{PREFIX}.41", 5060))
        with blocker:
            await run_demo(tmp_path, prefix=PREFIX, console=Console(file=io.StringIO()), scenarios=())

    with pytest.raises(BaseExceptionGroup) as failure:
        trio.run(main)
    assert failure.group_contains(OSError, match="in use")


def test_result_is_bad_when_one_call_is():
    report = fake_report()
    assert not report.ok
    result = build_result(report)
    assert result["ok"] is False
    assert [call["ok"] for call in result["calls"]] == [True, False]
    assert not attrs.evolve(report, calls=()).ok
    assert not attrs.evolve(report.calls[0], facts=()).ok
    assert not attrs.evolve(report.calls[0], facts=(Fact("x", False),)).ok


def test_four_kinds_of_calls():
    assert [number for number, _ in SCENARIOS] == ["1", "2", "3a", "3b", "3c", "4"]
    assert len({kind.name for _, kind in SCENARIOS}) == 6


def test_configuration_is_accepted(tmp_path: Path):
    import yaml

    path = tmp_path / "as.yaml"
    path.write_text(yaml.safe_dump(build_config(LabAddresses(PREFIX), tmp_path)))
    config, warnings = read_config(str(path))
    assert not warnings
    assert str(config.sip.listen[0]) == f"udp:{PREFIX}.30:5060"
    assert config.agents["default"].engines[0].url == f"ws://{PREFIX}.40:9000/"


@pytest.mark.parametrize("handling", list(DefaultHandling))
def test_criteria_say_what_they_shall(handling: DefaultHandling):
    parsed = parse_criteria_untrusted(build_criteria(handling))
    assert not parsed.problems
    assert parsed.criteria[0].application_server.default_handling is handling


@pytest.mark.parametrize("prefix", ["10.0.0", "127.0", "127.0.0.1", "127.0.x", "127.0.300"])
@pytest.mark.parametrize("command", [commands.demo, commands.lab])
def test_prefix_stays_on_the_loopback(command, prefix, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(command, ["--prefix", prefix])
    assert result.exit_code == 2
    assert "127.0.0" in result.output


@pytest.mark.parametrize(("ok", "code"), [(True, 0), (False, 1)])
def test_exit_status_is_the_verdict(monkeypatch, tmp_path, ok, code):
    report = fake_report()
    if ok:
        report = attrs.evolve(report, calls=report.calls[:1])

    async def fake(directory: Path, *, prefix: str) -> Report:
        return report

    monkeypatch.setattr("conformance.lab.demo.run_demo", fake)
    assert CliRunner().invoke(commands.demo, ["--report", str(tmp_path)]).exit_code == code


def test_a_lab_that_does_not_start_is_another_status(monkeypatch, tmp_path):
    async def broken(directory: Path, *, prefix: str) -> Report:
        raise LabError("ims-as did not get ready")

    monkeypatch.setattr("conformance.lab.demo.run_demo", broken)
    result = CliRunner().invoke(commands.demo, ["--report", str(tmp_path)])
    assert result.exit_code == 2
    assert "did not get ready" in result.output
