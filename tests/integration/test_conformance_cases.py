"""The conformance cases against a server of our own, as ``ims-as-conformance`` tries and proves them."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from conformance.case import find_cases
from conformance.runner import Outcome, Targets, Trial, Verdict, try_cases

CASES = find_cases()
ROOT = Path(__file__).parents[2]
DEADLINE_S = 400


def say(verdict: Verdict) -> str:
    faults = ", ".join(fault.text for fault in verdict.faults)
    return f"{verdict.case.name} {faults} {verdict.outcome}\n{verdict.detail}\n{verdict.ladder}"


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Verdict]]:
    folder = tmp_path_factory.mktemp("conformance")
    command = [sys.executable, "-m", "tests.support.conformance_run", str(folder)]
    subprocess.run(command, check=True, cwd=ROOT, timeout=DEADLINE_S)
    found: dict[str, list[Verdict]] = pickle.loads((folder / "verdicts").read_bytes())
    return found


def test_there_are_cases_of_every_kind():
    assert len({case.summary for case in CASES}) == len(CASES)
    assert len(CASES) >= 260


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_the_server_passes_every_case(verdicts: dict[str, list[Verdict]], transport: str):
    assert [say(verdict) for verdict in verdicts[transport] if verdict.outcome is not Outcome.PASSED] == []


def test_every_case_fails_on_a_server_that_is_wrong(verdicts: dict[str, list[Verdict]]):
    assert [say(verdict) for verdict in verdicts["proofs"] if not verdict.has_noticed] == []
    assert {verdict.case.name for verdict in verdicts["proofs"]} == {case.name for case in CASES}


def test_a_target_that_is_not_there_fails_and_does_not_hang():
    case = next(case for case in CASES if case.name == "sip/options")

    async def main() -> list[Verdict]:
        return await try_cases([Trial(case)], Targets.parse(["sip:127.0.93.1:5060"], "127.0.93.2"))

    (verdict,) = trio.run(main)
    assert verdict.outcome is Outcome.FAILED
    assert verdict.seconds < case.timeout_s
