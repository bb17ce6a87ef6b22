"""The conformance cases against a server of our own, as ``ims-as-conformance`` tries and proves them."""

from __future__ import annotations

import attrs
import pytest
import trio

from conformance.case import find_cases
from conformance.own_server import OwnServer, own_server
from conformance.runner import Outcome, Targets, Trial, Verdict, try_cases

CASES = find_cases()
JOBS = 16
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


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Verdict]]:
    """Of all of it, tried at the same time: most of what a case does is wait."""
    proofs = [Trial(case, (fault,)) for case in CASES for fault in case.wrong]
    # what is bound to a transport, a place or a link is tried once
    over_tcp = [Trial(case) for case in CASES if not (case.transport or case.at or case.link)]
    found: dict[str, list[Verdict]] = {}

    async def pass_all() -> None:
        async with own_server(tmp_path_factory.mktemp("server")) as server:
            tcp = attrs.evolve(server.targets, main=attrs.evolve(server.targets.main, transport="tcp"))

            async def try_all(name: str, trials: list[Trial], targets: Targets) -> None:
                found[name] = await try_cases(trials, targets, jobs=JOBS // 2)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(try_all, "udp", [Trial(case) for case in CASES], server.targets)
                nursery.start_soon(try_all, "tcp", over_tcp, tcp)
            await until_idle(server)

    async def fail_all() -> None:
        # what an aborted case leaves with two wrong sides is not looked at
        async with own_server(tmp_path_factory.mktemp("wrong")) as server:
            found["proofs"] = await try_cases(proofs, server.targets, jobs=JOBS)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pass_all)
            nursery.start_soon(fail_all)

    trio.run(main)
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
