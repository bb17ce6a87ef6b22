"""The demo's first call goes as it should while garbage is shot at every port of the lab."""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path

import httpx
import trio
from rich.console import Console

from conformance.lab.demo import run_demo
from conformance.lab.report.model import Report
from conformance.lab.scenarios import Answered
from tests.support.garbage import shoot_datagrams, shoot_streams

PREFIX = "127.0.88"
PAUSE_S = 0.02


class AnsweredUnderFire(Answered):
    async def play(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._shoot)
            await super().play()
            nursery.cancel_scope.cancel()
        async with httpx.AsyncClient() as client:
            text = (await client.get(f"{self.lab.addresses.api_url}/metrics")).text
        lines = [line for line in text.splitlines() if line.startswith("ims_as_sip_rejected_total")]
        n_rejected = sum(float(line.split()[-1]) for line in lines)
        self.check("The garbage reached its aim and was counted", n_rejected > 100)

    async def _shoot(self) -> None:
        addresses = self.lab.addresses
        async with trio.open_nursery() as nursery:
            datagrams = partial(shoot_datagrams, pause_s=PAUSE_S)
            streams = partial(shoot_streams, pause_s=PAUSE_S)
            nursery.start_soon(datagrams, f"{PREFIX}.66", (addresses.ims_as, 5060))
            nursery.start_soon(streams, (addresses.ims_as, 5060))
            nursery.start_soon(streams, (addresses.ims_as, 8080))
            nursery.start_soon(streams, (addresses.hss, 3868))
            nursery.start_soon(streams, (addresses.engine, 9000))
            while self.lab.caller.calls == [] or self.lab.caller.calls[-1].rtp.remote is None:
                await trio.sleep(0.01)
            remote = self.lab.caller.calls[-1].rtp.remote
            nursery.start_soon(datagrams, f"{PREFIX}.67", remote)


def test_the_first_call(tmp_path: Path):
    async def main() -> Report:
        with trio.fail_after(70):
            return await run_demo(
                tmp_path,
                prefix=PREFIX,
                console=Console(file=io.StringIO(), width=200),
                scenarios=(("1", AnsweredUnderFire),),
            )

    report = trio.run(main)
    (call,) = report.calls
    assert report.ok, [fact.text for fact in call.facts if not fact.ok]
