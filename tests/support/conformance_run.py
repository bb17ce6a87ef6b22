"""All conformance cases and their proofs, in a process of its own: ``python -m tests.support.conformance_run FOLDER``.

A relay in a process that has run thousands of tests is late whenever its garbage is collected; here it is not. Writes
the verdicts to ``FOLDER/verdicts``.
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import attrs
import trio

from conformance.case import find_cases
from conformance.own_server import OwnServer, own_server
from conformance.runner import Targets, Trial, Verdict, try_cases

CASES = find_cases()
JOBS = 16
IDLE_DEADLINE_S = 40.0
"""An abandoned call ends by itself after 64*T1 at the latest."""


async def until_idle(server: OwnServer) -> None:
    """No call may be left, however it was treated."""
    with trio.move_on_after(IDLE_DEADLINE_S):
        while left := [call for call in await server.calls() if call["state"] != "ended"]:
            await trio.sleep(0.2)
        return
    raise AssertionError(left)


def try_all_cases(folder: Path) -> dict[str, list[Verdict]]:
    """Of all of it, tried at the same time: most of what a case does is wait."""
    proofs = [Trial(case, (fault,)) for case in CASES for fault in case.wrong]
    # what is bound to a transport, a place or a link is tried once
    over_tcp = [Trial(case) for case in CASES if not (case.transport or case.at or case.link)]
    found: dict[str, list[Verdict]] = {}

    async def pass_all() -> None:
        async with own_server(_made(folder / "server")) as server:
            tcp = attrs.evolve(server.targets, main=attrs.evolve(server.targets.main, transport="tcp"))

            async def try_all(name: str, trials: list[Trial], targets: Targets) -> None:
                found[name] = await try_cases(trials, targets, jobs=JOBS // 2)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(try_all, "udp", [Trial(case) for case in CASES], server.targets)
                nursery.start_soon(try_all, "tcp", over_tcp, tcp)
            await until_idle(server)

    async def fail_all() -> None:
        # what an aborted case leaves with two wrong sides is not looked at
        async with own_server(_made(folder / "wrong")) as server:
            found["proofs"] = await try_cases(proofs, server.targets, jobs=JOBS)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pass_all)
            nursery.start_soon(fail_all)

    trio.run(main)
    return found


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


if __name__ == "__main__":
    into = Path(sys.argv[1])
    (into / "verdicts").write_bytes(pickle.dumps(try_all_cases(into)))
