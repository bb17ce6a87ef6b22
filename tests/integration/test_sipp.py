"""SIPp, an implementation that is not ours, as the S-CSCF in front of a real server."""

from pathlib import Path

import pytest
import trio

import conformance
from conformance.sipp import run_client
from tests.support.world import world

CASE = Path(conformance.__file__).parent / "cases" / "isc" / "answered" / "uac.xml"


@pytest.mark.parametrize("transport", ["u1", "t1"])
def test_answered(transport: str):
    async def main() -> None:
        async with world() as here:
            result = await trio.to_thread.run_sync(
                lambda: run_client(
                    CASE,
                    target=(here.as_address, 5060),
                    local=(f"{here.prefix}.50", 5080),
                    calls=20,
                    rate=20,
                    timeout_s=25,
                    transport=transport,
                )
            )
            assert result.ok, f"{result.command}\n{result.errors}"
            await here.until_idle()
            assert len(here.app.calls()) == 20
            assert {call["termination"]["result"] for call in here.app.calls()} == {"answered"}

    trio.run(main)


def test_a_server_that_refuses_fails_the_case():
    async def main() -> None:
        async with world(engine=False) as here:
            result = await trio.to_thread.run_sync(
                lambda: run_client(
                    CASE, target=(here.as_address, 5060), local=(f"{here.prefix}.50", 5080), calls=1, timeout_s=25
                )
            )
            assert not result.ok

    trio.run(main)
