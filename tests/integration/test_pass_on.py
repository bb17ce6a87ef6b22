"""Calls that are never anchored: what the proxy role does with them on real sockets."""

import pytest
import trio

from ims_as.sip.invite_session import Acked, Answered, Ended, ReinviteAnswered, ReinviteReceived, Rejected
from tests.support.world import until, world

EMERGENCY = "urn:service:sos"


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_we_are_out_of_the_dialog_by_default(transport: str):
    async def main() -> None:
        async with world() as here:
            phones = here.answer_as_phone()
            leg = here.call(to=EMERGENCY, transport=transport)
            await leg.wait(Answered)
            phone = await phones.receive()
            (invite,) = here.arrived
            assert invite.routes == [here.odi]
            assert not invite.record_routes
            leg.session.bye()
            assert (await phone.wait(Ended)).by == "remote"
            assert not here.app.endpoint.counters.requests_in["BYE"]

    trio.run(main)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_with_record_route_the_dialog_goes_by_us(transport: str):
    async def main() -> None:
        async with world("sip.record_route=true") as here:
            phones = here.answer_as_phone()
            leg = here.call(to=EMERGENCY, transport=transport)
            await leg.wait(Answered)
            phone = await phones.receive()
            (invite,) = here.arrived
            # the ODI is a UDP address: from TCP there are two sides
            assert len(invite.record_routes) == (1 if transport == "udp" else 2)
            await phone.wait(Acked)
            phone.session.reinvite(here.phone_rtp.offer(version=2))
            await leg.wait(ReinviteReceived)
            leg.session.accept_reinvite(here.caller_rtp.offer(version=2))
            await phone.wait(ReinviteAnswered)
            leg.session.bye()
            assert (await phone.wait(Ended)).by == "remote"
            counters = here.app.endpoint.counters
            await until(lambda: counters.requests_out["ACK"] == 2)
            assert counters.requests_in["BYE"] == counters.requests_out["BYE"] == 1
            assert counters.requests_in["ACK"] == counters.requests_out["ACK"] == 2

    trio.run(main)


def test_overload_behind_us_is_not_ours():
    async def main() -> None:
        async with world() as here:
            here.refuse_as_phone(503)
            leg = here.call(to=EMERGENCY)
            assert (await leg.wait(Rejected)).status == 500

    trio.run(main)


def test_a_large_request_passes_over_tcp():
    async def main() -> None:
        async with world() as here:
            phones = here.answer_as_phone()
            headers = [("X-Large", "x" * 1000)] * 20
            leg = here.call(to=EMERGENCY, transport="tcp", headers=headers)
            await leg.wait(Answered)
            await phones.receive()
            assert here.arrived[0].headers.get_all("X-Large") == ["x" * 1000] * 20
            leg.session.bye()

    trio.run(main)
