"""What a running server does with profiles: asks once, hears of changes, forgets nothing that it was told."""

from __future__ import annotations

import pytest
import trio

from conformance.lab.hss import LabHss, Subscriber
from diameter.node import DiameterNode, NodeConfig, PeerConfig
from diameter.sh.client import ShClient, ShConfig, ShProfile
from diameter.sh.messages import UserDataRequest
from tests.support.hss_world import OWN_CRITERIA, SERVICE_INDICATION, agent_of, hss_world, profile
from tests.support.world import BOB, World, until

CAROL = "sip:carol@ims.example.net"
SHARED = 1000


async def subscribed(here: World) -> None:
    """Returns when the server knows that the HSS would tell of a change."""
    await until(lambda: here.app.sh is not None and here.app.sh.stats.subscriptions)


def test_a_change_in_the_hss_chooses_another_agent_for_the_next_call():
    async def main() -> None:
        async with hss_world({BOB: profile("day")}) as (here, hss):
            assert (await agent_of(here, BOB))[:2] == ("day", "hss")
            await subscribed(here)
            hss.change(BOB, profile("night"))
            await until(lambda: hss.lab.n_pushed == 1)
            assert (await agent_of(here, BOB))[:2] == ("night", "cache")
            assert hss.asked("UDR") == 1
            hss.change(BOB, None)
            await until(lambda: hss.lab.n_pushed == 2)
            assert (await agent_of(here, BOB))[0] == "default"

    trio.run(main)


def test_who_is_not_known_is_asked_for_once():
    async def main() -> None:
        async with hss_world({BOB: profile("day")}) as (here, hss):
            for _ in range(3):
                agent, source, _ = await agent_of(here, CAROL)
                assert (agent, source) == ("default", "none: the HSS does not know the user")
            assert hss.asked("UDR") == 1

    trio.run(main)


def test_all_that_fall_under_a_wildcard_share_one_profile():
    wildcard = "sip:room-!.*!@ims.example.net"
    rooms = [f"sip:room-{number}@ims.example.net" for number in (1, 2)]

    async def main() -> None:
        async with hss_world({rooms[0]: profile("night")}) as (here, hss):
            for room in rooms:
                assert (await agent_of(here, room, [("P-Profile-Key", f"<{wildcard}>")]))[0] == "night"
            (request,) = (each.message for each in hss.lab.requests if each.command == "UDR")
            assert UserDataRequest.read_untrusted(request).wildcarded_public_identity == wildcard
            # without the key the second one is a user like any other, whom the HSS does not know
            assert (await agent_of(here, "sip:room-3@ims.example.net"))[0] == "default"

    trio.run(main)


def test_many_calls_at_once_for_one_user_ask_once():
    async def main() -> None:
        async with hss_world({BOB: profile("night")}, "diameter.sh.budget_ms=2000") as (here, hss):
            hss.lab.delay_s = 0.2
            agents: list[str] = []

            async def call() -> None:
                agents.append((await agent_of(here, BOB))[0])

            async with trio.open_nursery() as nursery:
                for _ in range(20):
                    nursery.start_soon(call)
            assert agents == ["night"] * 20
            assert hss.asked("UDR") == 1

    trio.run(main)


def test_a_thousand_fetches_for_one_user_cost_one_request():
    async def main() -> None:
        users = {BOB: Subscriber("bob@x", [BOB], {SERVICE_INDICATION: profile("night")}, OWN_CRITERIA)}
        hss = LabHss("127.0.0.1", 0, users)
        hss.delay_s = 0.1
        async with trio.open_nursery() as nursery:
            await nursery.start(hss.run)
            host, port = hss.address
            node = DiameterNode(NodeConfig(origin_host="as.x", origin_realm="x", peers=(PeerConfig(host, port),)))
            await nursery.start(node.run)
            with trio.fail_after(5):
                await node.wait_open()
            config = ShConfig(
                destination_realm="x", server_name="sip:as.x", service_indication="ai-voice-agent", budget_s=5.0
            )
            client = ShClient(node, config)
            found: list[ShProfile] = []

            async def fetch() -> None:
                found.append(await client.fetch(BOB))

            async with trio.open_nursery() as fetching:
                for _ in range(SHARED):
                    fetching.start_soon(fetch)
            assert {each.service_data for each in found} == {profile("night")}
            assert len(found) == SHARED
            assert [each.command for each in hss.requests] == ["UDR"]
            nursery.cancel_scope.cancel()

    trio.run(main)


@pytest.mark.parametrize("keeps_state", [False, True])
def test_a_change_made_during_an_outage_is_seen_after_it(keeps_state: bool):
    """Whether the HSS was started anew or only its connections were lost: its notification came to nobody."""

    async def main() -> None:
        async with hss_world({BOB: profile("day")}) as (here, hss):
            assert here.app.node is not None
            assert (await agent_of(here, BOB))[0] == "day"
            await subscribed(here)
            hss.kill()
            await until(lambda: here.app.node is not None and not here.app.node.is_open())
            hss.change(BOB, profile("night"))
            assert (await agent_of(here, BOB))[0] == "day"
            if not keeps_state:
                await trio.sleep(1.0)  # Origin-State-Id is in seconds
            await hss.start(keeps_state=keeps_state)
            with trio.fail_after(5):
                await here.app.node.wait_open()
            assert (await agent_of(here, BOB))[0] == "night"

    trio.run(main)
