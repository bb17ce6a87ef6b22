"""The conformance cases against a server of our own, as ``ims-as-conformance`` tries and proves them."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
import trio

from conformance.case import Case, find_cases
from conformance.own_server import OwnServer, own_server
from conformance.runner import Outcome, Targets, Trial, Verdict, try_cases

CASES = find_cases()
IDLE_DEADLINE_S = 40.0
"""An abandoned call ends by itself after 64*T1 at the latest."""


def say(verdict: Verdict) -> str:
    faults = ", ".join(fault.text for fault in verdict.faults)
    return f"{verdict.case.name} {faults} {verdict.outcome}\n{verdict.detail}\n{verdict.ladder}"


async def until_idle(server: OwnServer) -> None:
    """No call may be left, however it was treated."""
    with trio.move_on_after(IDLE_DEADLINE_S):
        while left := [call for call in await server.calls() if call["state"] != "ended"]:
            await trio.sleep(0.2)
        return
    raise AssertionError(left)


def test_there_are_cases_of_every_kind():
    assert len({case.summary for case in CASES}) == len(CASES)
    assert len(CASES) >= 60


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_the_server_passes_every_case(tmp_path: Path, transport: str):
    def is_wanted(case: Case) -> bool:  # what is bound to a transport or a place has been tried in the first run
        return transport == "udp" or not (case.transport or case.at or case.link)

    async def main() -> list[Verdict]:
        trials = [Trial(case) for case in CASES if is_wanted(case)]
        async with own_server(tmp_path) as server:
            targets = attrs.evolve(server.targets, main=attrs.evolve(server.targets.main, transport=transport))
            verdicts = await try_cases(trials, targets)
            await until_idle(server)
        return verdicts

    verdicts = trio.run(main)
    assert [say(verdict) for verdict in verdicts if verdict.outcome is not Outcome.PASSED] == []


def test_every_case_fails_on_a_server_that_is_wrong(tmp_path: Path):
    async def main() -> list[Verdict]:
        trials = [Trial(case, (fault,)) for case in CASES for fault in case.wrong]
        async with own_server(tmp_path) as server:
            verdicts = await try_cases(trials, server.targets)
            await until_idle(server)
        return verdicts

    verdicts = trio.run(main)
    assert [say(verdict) for verdict in verdicts if not verdict.has_noticed] == []
    assert {verdict.case.name for verdict in verdicts} == {case.name for case in CASES}


def test_a_target_that_is_not_there_fails_and_does_not_hang():
    case = next(case for case in CASES if case.name == "sip/options")

    async def main() -> list[Verdict]:
        return await try_cases([Trial(case)], Targets.parse(["sip:127.0.93.1:5060"], "127.0.93.2"))

    (verdict,) = trio.run(main)
    assert verdict.outcome is Outcome.FAILED
    assert verdict.seconds < case.timeout_s
