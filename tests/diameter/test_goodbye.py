"""Disconnect-Peer, RFC 6733 §5.4, both ways and at once; what happens to requests under way."""

from __future__ import annotations

import pytest
import trio

from diameter.dictionary import base
from diameter.dictionary.base import DisconnectCause
from diameter.message import Message
from diameter.node import DiameterNode
from tests.diameter.raw_peer import RawPeer, connect_raw, listen_raw
from tests.diameter.support import build_client, build_request, build_server, run_trio, until


async def ask(client: DiameterNode, found: list[Message]) -> None:
    found.append(await client.request(build_request(client), deadline_s=3.0))


@pytest.mark.parametrize(
    ("cause", "is_held_off"),
    [
        (DisconnectCause.REBOOTING, False),
        (DisconnectCause.BUSY, True),
        (DisconnectCause.DO_NOT_WANT_TO_TALK_TO_YOU, True),
    ],
)
def test_causes(cause: DisconnectCause, is_held_off: bool) -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        n_connections = 0

        async def script(raw: RawPeer) -> None:
            nonlocal n_connections
            n_connections += 1
            await raw.accept()
            await raw.leave(cause)

        # 0.3 s stands for Tc
        client = build_client(await listen_raw(nursery, script), reconnect_max_s=0.3)
        await nursery.start(client.run)
        await until(lambda: client.counters[f"dpr_{cause.name.lower()}"] == 1)
        assert client.peer_states()[0]["failure"] == f"goodbye: {cause.name}"
        left = trio.current_time()
        await until(lambda: n_connections == 2)
        waited = trio.current_time() - left
        assert (waited > 0.2) is is_held_off

    run_trio(scenario)


def test_goodbye_with_a_cause_that_nobody_knows() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        server = build_server()
        await nursery.start(server.run)
        raw = await connect_raw(nursery, server.addresses[0])
        await raw.open()
        avps = [*raw.commands.identity(), base.DISCONNECT_CAUSE.avp(77)]
        await raw.send(base.BASE.command("DPR").message(avps))
        assert (await raw.read()).number(base.RESULT_CODE) == 2001
        assert server.counters["dpr_unknown_cause"] == 1

    run_trio(scenario)


def test_answers_under_way_at_the_peers_goodbye_are_taken() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        async def script(raw: RawPeer) -> None:
            await raw.accept()
            request = await raw.read_code(306)
            await raw.send(raw.commands.dpr(DisconnectCause.REBOOTING))
            await raw.read_code(282)
            await raw.answer(request, 2001, origin_host="leaving")
            await raw.stream.aclose()

        second = build_server("second")
        await nursery.start(second.run)
        client = build_client(await listen_raw(nursery, script), *second.addresses)
        await nursery.start(client.run)
        await client.wait_open(2)
        found: list[Message] = []
        await ask(client, found)
        assert found[0].text(base.ORIGIN_HOST) == "leaving"
        assert client.counters["failover"] == 0

    run_trio(scenario)


def test_requests_of_a_leaving_peer_that_never_closes_go_elsewhere_soon() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        async def script(raw: RawPeer) -> None:
            await raw.accept()
            await raw.read_code(306)
            await raw.send(raw.commands.dpr(DisconnectCause.REBOOTING))
            while True:
                await raw.read()

        second = build_server("second")
        await nursery.start(second.run)
        client = build_client(await listen_raw(nursery, script), *second.addresses, wait_s=2.5)
        await nursery.start(client.run)
        await client.wait_open(2)
        started = trio.current_time()
        found: list[Message] = []
        await ask(client, found)
        assert found[0].text(base.ORIGIN_HOST) == "server"
        # long before the timer of Closing
        assert trio.current_time() - started < 1.0
        # new requests do not go to the leaving peer
        await ask(client, found)
        assert client.counters["failover"] == 1

    run_trio(scenario)


def test_answers_that_come_after_our_goodbye_are_taken() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        async def script(raw: RawPeer) -> None:
            await raw.accept()
            request = await raw.read_code(306)
            dpr = await raw.read_code(282)
            await raw.answer(request, 2001)
            await raw.send(raw.commands.dpa(dpr))
            assert await raw.is_closed()

        client = build_client(await listen_raw(nursery, script))
        await nursery.start(client.run)
        await client.wait_open()
        found: list[Message] = []
        nursery.start_soon(ask, client, found)
        await until(lambda: client.n_pending == 1)
        await client.disconnect(DisconnectCause.REBOOTING)
        await until(lambda: len(found) == 1)
        assert client.peer_states()[0]["state"] == "Closed"

    run_trio(scenario)


@pytest.mark.parametrize("cause", list(DisconnectCause))
def test_our_goodbye_names_its_cause(cause: DisconnectCause) -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        causes: list[int | None] = []

        async def script(raw: RawPeer) -> None:
            await raw.accept()
            dpr = await raw.read_code(282)
            causes.append(dpr.number(base.DISCONNECT_CAUSE))
            await raw.send(raw.commands.dpa(dpr))

        client = build_client(await listen_raw(nursery, script))
        await nursery.start(client.run)
        await client.wait_open()
        await client.disconnect(cause)
        assert causes == [cause]

    run_trio(scenario)


def test_both_sides_say_goodbye_at_once() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        async def script(raw: RawPeer) -> None:
            await raw.accept()
            ours = await raw.read_code(282)
            assert ours.is_request
            await raw.send(raw.commands.dpr(DisconnectCause.REBOOTING))
            dpa = await raw.read_code(282)
            assert not dpa.is_request
            await raw.send(raw.commands.dpa(ours))
            assert await raw.is_closed()
            done.set()

        done = trio.Event()
        client = build_client(await listen_raw(nursery, script), wait_s=5.0)
        await nursery.start(client.run)
        await client.wait_open()
        with trio.fail_after(2.0):
            await client.disconnect()
            await done.wait()

    run_trio(scenario)


def test_peer_that_ignores_our_goodbye_costs_the_wait_and_no_more() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        async def script(raw: RawPeer) -> None:
            await raw.accept()
            while True:
                await raw.read()

        client = build_client(await listen_raw(nursery, script), wait_s=0.1)
        await nursery.start(client.run)
        await client.wait_open()
        with trio.fail_after(1.0):
            await client.disconnect()
        await until(lambda: client.peer_states()[0]["state"] == "Closed")

    run_trio(scenario)
