"""ShClient against an HSS that deviates as real ones do: the right profile all the same, and nothing waits for ever."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from attrs import define

from conformance.lab.hss import LabHss, Subscriber
from conformance.lab.hss_quirks import split_whole
from conformance.lab.quirks import PYHSS, Quirk, parse_quirks
from diameter.message import Message
from diameter.node import DiameterNode, NodeConfig, PeerConfig
from diameter.sh.client import ShClient, ShConfig
from diameter.sh.errors import ShAnswerError, ShTimeoutError, ShUserUnknownError
from tests.diameter.support import build_request, run_trio, until

HOST = "127.0.140.1"
BOB = "sip:15550100@example.net"
IFC = b"""<InitialFilterCriteria><Priority>%d</Priority><ApplicationServer>
<ServerName>sip:%b:5060;lr</ServerName><DefaultHandling>0</DefaultHandling></ApplicationServer></InitialFilterCriteria>"""
EACH_AND_ALL = [*((quirk,) for quirk in Quirk), tuple(Quirk)]


def build_bob(**changes: Any) -> Subscriber:
    values: dict[str, Any] = {
        "impi": "001010000000100@example.net",
        "impus": (BOB, "tel:+15550100"),
        "repository": {b"other": b"<b/>", b"ai": b"<a>1</a>"},
        "ifcs": b"<IFCs>" + IFC % (1, b"orig@as.example.net") + IFC % (2, b"tas.example.net") + b"</IFCs>",
        "scscf_name": "sip:scscf.example.net",
        "state": 1,
    }
    return Subscriber(**values | changes)


@define
class World:
    nursery: trio.Nursery
    hss: LabHss
    node: DiameterNode
    client: ShClient

    def commands(self) -> list[str]:
        return [record.command for record in self.hss.requests]


def run_world(quirks: tuple[Quirk, ...], scenario: Callable[[World], Awaitable[None]], **config: Any) -> None:
    settings: dict[str, Any] = {"budget_s": 1.0, "background_s": 1.0} | config

    async def inside(nursery: trio.Nursery) -> None:
        bob = build_bob()
        hss = LabHss(HOST, 0, {"bob": bob}, origin_host="hss", origin_realm="realm", quirks=quirks)
        await nursery.start(hss.run)
        client: ShClient

        async def on_request(message: Message, peer: str) -> Message | None:
            return client.receive_push(message)

        node = DiameterNode(
            NodeConfig(
                origin_host="as", origin_realm="realm", peers=(PeerConfig(*hss.address),), reconnect_first_s=0.02
            ),
            on_request=on_request,
        )
        client = ShClient(
            node,
            ShConfig(destination_realm="realm", server_name="sip:as.example.net", service_indication="ai", **settings),
        )
        await nursery.start(node.run)
        await nursery.start(client.run)
        await node.wait_open()
        await scenario(World(nursery, hss, node, client))

    run_trio(inside)


@pytest.mark.parametrize("quirks", EACH_AND_ALL, ids="+".join)
def test_the_right_profile_from_each(quirks: tuple[Quirk, ...]) -> None:
    async def scenario(world: World) -> None:
        profile = await world.client.fetch(BOB)
        has_item = Quirk.NO_REPOSITORY not in quirks
        assert (profile.impu, profile.service_data) == (BOB, b"<a>1</a>" if has_item else None)
        assert profile.sequence == (0 if has_item else None)
        assert (profile.scscf_name, profile.user_state) == ("sip:scscf.example.net", 1)
        assert profile.ifcs is not None
        assert b"orig@as.example.net" in profile.ifcs
        assert (b"sip:tas.example.net" in profile.ifcs) == (Quirk.WHOLE_SH_DATA in quirks)
        assert world.client.cached(BOB) is profile
        assert world.commands() == ["UDR"]
        assert world.client.stats.one_by_one == 0

    run_world(quirks, scenario, subscribe=False)


@pytest.mark.parametrize("quirks", EACH_AND_ALL, ids="+".join)
def test_a_stranger_is_unknown_to_each(quirks: tuple[Quirk, ...]) -> None:
    async def scenario(world: World) -> None:
        for _ in range(2):
            with pytest.raises(ShUserUnknownError):
                await world.client.fetch("sip:eve@example.net")
        assert world.commands() == ["UDR"]

    run_world(quirks, scenario, subscribe=False)


@pytest.mark.parametrize("quirks", [(Quirk.NO_SNR_ANSWER,), (Quirk.NO_SNR_ANSWER, Quirk.NO_PNR), tuple(Quirk)])
def test_polls_where_subscribing_is_not_answered(quirks: tuple[Quirk, ...]) -> None:
    async def scenario(world: World) -> None:
        await world.client.fetch(BOB)
        await until(lambda: world.client.stats.subscriptions_failed == 1)
        assert world.client.stats.subscriptions == 0
        world.hss.set_registration(BOB, 2, "sip:other.example.net")

        async def poll() -> bool:
            return (await world.client.fetch(BOB)).user_state == 2

        while not await poll():
            await trio.sleep(0.01)
        commands = world.commands()
        assert commands.count("SNR") == 1
        assert commands.count("UDR") >= 2

    run_world(quirks, scenario, poll_s=0.05, background_s=0.3)


def test_an_update_that_nobody_answers_ends_with_its_deadline() -> None:
    async def scenario(world: World) -> None:
        await world.client.fetch(BOB)
        began = trio.current_time()
        with pytest.raises(ShTimeoutError):
            await world.client.update_repository(BOB, b"<a>2</a>")
        assert trio.current_time() - began < 0.5
        assert world.node.n_pending == 0
        assert world.client.cached(BOB) is None  # it may have been stored: ask
        assert (await world.client.fetch(BOB)).service_data == b"<a>1</a>"

    run_world((Quirk.NO_PUR_ANSWER,), scenario, background_s=0.1, subscribe=False)


def test_an_unchecked_update_is_stored() -> None:
    async def scenario(world: World) -> None:
        await world.client.fetch(BOB)
        world.hss.set_repository(BOB, b"ai", b"<a>other</a>")
        assert await world.client.update_repository(BOB, b"<a>2</a>") == 1
        assert world.commands() == ["UDR", "PUR"]

    run_world((Quirk.PUR_UNCHECKED,), scenario, subscribe=False)


def test_each_message_is_one_write() -> None:
    """An HSS that puts nothing together gets all of a burst."""

    async def scenario(world: World) -> None:
        users = [f"sip:1555{number:04}@example.net" for number in range(100)]  # some 40 kB, less than one read
        for number, impu in enumerate(users):
            world.hss.add(build_bob(impi=f"{number}@example.net", impus=(impu,)))
        found = []

        async def call(impu: str) -> None:
            found.append((await world.client.fetch(impu)).impu)

        async with trio.open_nursery() as calls:
            for impu in users:
                calls.start_soon(call, impu)
        assert sorted(found) == users
        assert world.hss.n_lost_reads == 0

    run_world((Quirk.NO_REASSEMBLY,), scenario, subscribe=False, budget_s=10.0)


def test_what_the_front_loses() -> None:
    """The quirk itself: a request in two segments is never answered, the next one is."""

    async def scenario(world: World) -> None:
        stream = await trio.open_tcp_stream(*world.hss.address)
        async with stream:
            await stream.send_all(world.node.commands.cer(HOST).encode())
            assert len(split_whole(await stream.receive_some())) == 1
            whole = build_request(world.node).encode()
            await stream.send_all(whole[:30])
            await until(lambda: world.hss.n_lost_reads == 1)
            await stream.send_all(whole[30:])
            await until(lambda: world.hss.n_lost_reads == 2)
            assert world.commands() == []

    async def without_us(world: World) -> None:
        await world.node.disconnect()
        await scenario(world)

    run_world((Quirk.NO_REASSEMBLY,), without_us, subscribe=False)


def test_names_of_quirks() -> None:
    assert parse_quirks(["pyhss"]) == PYHSS == frozenset(Quirk)
    assert parse_quirks([]) == frozenset()
    assert parse_quirks(["slow", "no-pnr"]) == {Quirk.SLOW, Quirk.NO_PNR}
    with pytest.raises(ValueError, match="fast"):
        parse_quirks(["fast"])


@pytest.mark.parametrize("quirks", [(Quirk.PUR_CUT,), (Quirk.PUR_CUT, Quirk.NO_REPOSITORY, Quirk.PUR_UNCHECKED)])
def test_a_cut_update_is_noticed(quirks: tuple[Quirk, ...]) -> None:
    async def scenario(world: World) -> None:
        await world.client.fetch(BOB)
        with pytest.raises(ShAnswerError, match="not kept"):
            await world.client.update_repository(BOB, b"<a>" + b"<b>text</b>" * 1000 + b"</a>")
        assert world.commands() == ["UDR", "PUR", "UDR"]
        assert world.client.cached(BOB) is None

    run_world(quirks, scenario, subscribe=False)


def test_a_long_update_that_is_kept_is_good() -> None:
    async def scenario(world: World) -> None:
        await world.client.fetch(BOB)
        assert await world.client.update_repository(BOB, b"<a>" + b"<b>text</b>\n" * 1000 + b"</a>") == 1
        assert world.commands() == ["UDR", "PUR", "UDR"]
        assert await world.client.update_repository(BOB, b"<a/>") == 2
        assert world.commands() == ["UDR", "PUR", "UDR", "PUR"]

    run_world((), scenario, subscribe=False)


def test_our_messages_are_below_8_kb() -> None:
    """What PyHSS cuts or loses is longer than any request of a call."""

    async def scenario(world: World) -> None:
        impu = "sip:" + "1" * 200 + "@" + "x" * 200 + ".example.net"
        world.hss.add(build_bob(impi="1@example.net", impus=(impu,)))
        await world.client.fetch(impu)
        await until(lambda: world.client.stats.subscriptions == 1)
        assert max(len(record.message.encode()) for record in world.hss.requests) < 2048

    run_world((), scenario)


def test_a_user_is_asked_for_by_the_name_that_such_an_hss_knows() -> None:
    async def scenario(world: World) -> None:
        profile = await world.client.fetch("tel:+15550100", others=[BOB])
        assert (profile.impu, profile.service_data) == (BOB, b"<a>1</a>")
        assert world.commands() == ["UDR"]
        with pytest.raises(ShUserUnknownError):
            await world.client.fetch("tel:+15550199")

    run_world((Quirk.NUMBERS_ONLY,), scenario, subscribe=False)
