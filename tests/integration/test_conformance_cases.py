"""The conformance cases against a real server, as ``ims-as-conformance run`` tries them."""

from __future__ import annotations

import pytest
import trio

from conformance.case import find_cases
from conformance.runner import Outcome, Target, run_cases
from tests.support.world import world


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_the_server_passes_every_case(transport: str):
    async def main() -> None:
        async with world() as here:
            target = Target(here.as_address, 5060, transport, f"{here.prefix}.50")
            verdicts = await trio.to_thread.run_sync(run_cases, find_cases(), target)
            await here.until_idle()
        assert [verdict.detail for verdict in verdicts if verdict.outcome is not Outcome.PASSED] == []

    trio.run(main)
