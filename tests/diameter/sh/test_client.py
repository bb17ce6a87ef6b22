"""ShClient against the lab's HSS on loopback: cache, budget, fallback, subscriptions, updates."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing
from attrs import define

from conformance.lab.hss import LabHss, Subscriber
from diameter.dictionary.sh import SH
from diameter.errors import LocalDiameterError, RemoteDiameterError
from diameter.message import Message, Result
from diameter.node import DiameterNode, NodeConfig, PeerConfig
from diameter.sh.client import ShClient, ShConfig
from diameter.sh.errors import (
    ShAnswerError,
    ShError,
    ShNoPeerError,
    ShRefusedError,
    ShTimeoutError,
    ShUserUnknownError,
)
from diameter.sh.messages import PushNotificationRequest, UserDataAnswer, UserIdentity
from tests.diameter.support import HOST, build_server, run_trio, until

BOB = "sip:bob@example.net"
IFC = b"""<InitialFilterCriteria><Priority>%d</Priority><ApplicationServer>
<ServerName>sip:%b:5060;lr</ServerName><DefaultHandling>0</DefaultHandling></ApplicationServer></InitialFilterCriteria>"""
IFCS = b"<IFCs>" + IFC % (1, b"orig@as.example.net") + IFC % (2, b"tas.example.net") + b"</IFCs>"


def build_bob(**changes: Any) -> Subscriber:
    values: dict[str, Any] = {
        "impi": "bob@example.net",
        "impus": (BOB, "tel:+15550100"),
        "repository": {b"ai": b"<a>1</a>"},
        "ifcs": IFCS,
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


def run_world(
    scenario: Callable[[World], Awaitable[None]], *, subscribers: tuple[Subscriber, ...] = (), **config: Any
) -> None:
    settings: dict[str, Any] = {"budget_s": 1.0, "background_s": 1.0} | config

    async def inside(nursery: trio.Nursery) -> None:
        users = subscribers or (build_bob(),)
        hss = LabHss(HOST, 0, {user.impi: user for user in users}, origin_host="hss", origin_realm="realm")
        await nursery.start(hss.run)
        client: ShClient

        async def on_request(message: Message, peer: str) -> Message | None:
            return client.receive_push(message)

        node = DiameterNode(
            NodeConfig(
                origin_host="as",
                origin_realm="realm",
                peers=(PeerConfig(*hss.address),),
                reconnect_first_s=0.02,
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


def test_profile_in_one_pull() -> None:
    async def scenario(world: World) -> None:
        profile = await world.client.fetch(BOB)
        assert (profile.impu, profile.service_data, profile.sequence) == (BOB, b"<a>1</a>", 0)
        assert (profile.scscf_name, profile.user_state) == ("sip:scscf.example.net", 1)
        assert profile.ifcs is not None
        assert b"as.example.net" in profile.ifcs
        assert b"tas.example.net" not in profile.ifcs
        assert world.client.cached(BOB) is profile
        assert await world.client.fetch(BOB) is profile
        assert world.commands() == ["UDR"]
        udr = world.hss.requests[0].message
        assert [SH["Data-Reference"].value(avp) for avp in udr.avps.find_all(SH["Data-Reference"].key)] == [
            0,
            13,
            11,
            12,
        ]
        features = udr.avps.find(SH["Supported-Features"].key)
        assert features is not None
        assert not features.is_mandatory

    run_world(scenario, subscribe=False)


def test_many_calls_for_one_user_make_one_pull() -> None:
    async def scenario(world: World) -> None:
        world.hss.delay_s = 0.02
        found: list[object] = []

        async def call() -> None:
            found.append(await world.client.fetch(BOB))

        async with trio.open_nursery() as calls:
            for _ in range(100):
                calls.start_soon(call)
        assert len(found) == 100
        assert world.commands() == ["UDR"]
        assert world.client.stats.shared == 99

    run_world(scenario, subscribe=False)


def test_cancelled_leader_leaves_the_work_to_another() -> None:
    async def scenario(world: World) -> None:
        world.hss.delay_s = 0.2
        found: list[object] = []

        async def call() -> None:
            found.append(await world.client.fetch(BOB))

        async with trio.open_nursery() as calls:
            with trio.CancelScope() as leader:
                async with trio.open_nursery() as first:
                    first.start_soon(call)
                    await until(lambda: world.client.stats.pulls == 1)
                    calls.start_soon(call)
                    await until(lambda: world.client.stats.shared == 1)
                    leader.cancel()
        assert len(found) == 1
        assert world.client.stats.pulls == 2

    run_world(scenario, subscribe=False)


def test_unknown_user_is_remembered() -> None:
    async def scenario(world: World) -> None:
        for _ in range(3):
            with pytest.raises(ShUserUnknownError):
                await world.client.fetch("sip:eve@example.net")
        assert world.commands() == ["UDR"]
        assert world.client.cached("sip:eve@example.net", stale_ok=True) is None

    run_world(scenario, subscribe=False)


def test_silent_hss_costs_the_budget_and_the_old_profile_is_used() -> None:
    async def scenario(world: World) -> None:
        first = await world.client.fetch(BOB)
        world.hss.silent = True
        started = trio.current_time()
        assert await world.client.fetch(BOB) is first
        with pytest.raises(ShTimeoutError):
            await world.client.fetch("tel:+15550100")
        assert trio.current_time() - started < 0.6
        assert world.client.stats.stale == 1
        assert world.client.cached(BOB) is None
        assert world.client.cached(BOB, stale_ok=True) is first

    run_world(scenario, subscribe=False, cache_s=0.0, budget_s=0.1)


def test_waiters_never_wait_longer_than_their_own_budget() -> None:
    async def scenario(world: World) -> None:
        world.hss.silent = True
        waited: list[float] = []

        async def call() -> None:
            started = trio.current_time()
            with pytest.raises(ShTimeoutError):
                await world.client.fetch(BOB)
            waited.append(trio.current_time() - started)

        async with trio.open_nursery() as calls:
            for _ in range(5):
                calls.start_soon(call)
                await trio.sleep(0.02)
        assert max(waited) < 0.2

    run_world(scenario, subscribe=False, budget_s=0.1)


def test_late_answer_serves_the_next_call() -> None:
    async def scenario(world: World) -> None:
        world.hss.delay_s = 0.1
        with pytest.raises(ShTimeoutError):
            await world.client.fetch(BOB)
        await until(lambda: world.client.cached(BOB) is not None)

    run_world(scenario, subscribe=False, budget_s=0.03)


def test_no_hss_is_told_at_once() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        node = DiameterNode(NodeConfig(origin_host="as", origin_realm="realm"))
        client = ShClient(node, ShConfig(destination_realm="r", server_name="sip:as", service_indication=b"ai"))
        await nursery.start(node.run)
        with trio.fail_after(0.2), pytest.raises(ShNoPeerError):
            await client.fetch(BOB)

    run_trio(scenario)


def test_hss_of_one_reference_each_is_asked_one_by_one_and_remembered() -> None:
    async def scenario(world: World) -> None:
        world.hss.sh.single_reference = True
        profile = await world.client.fetch(BOB)
        assert (profile.service_data, profile.user_state) == (b"<a>1</a>", 1)
        assert profile.ifcs is not None
        assert world.commands() == ["UDR"] * 5
        await world.client.fetch("tel:+15550100")
        assert world.commands() == ["UDR"] * 9

    run_world(scenario, subscribe=False)


def test_what_we_may_not_read_stays_empty() -> None:
    async def scenario(world: World) -> None:
        world.hss.sh.denied = {13}
        profile = await world.client.fetch(BOB)
        assert profile.ifcs is None
        assert profile.service_data == b"<a>1</a>"
        world.hss.sh.denied = {0, 11, 12, 13}
        with pytest.raises(ShRefusedError) as caught:
            await world.client.fetch("tel:+15550100")
        assert caught.value.result.code == 5102

    run_world(scenario, subscribe=False)


def test_user_without_data_has_an_empty_profile() -> None:
    async def scenario(world: World) -> None:
        profile = await world.client.fetch(BOB)
        assert (profile.service_data, profile.sequence, profile.user_state) == (None, None, 0)

    run_world(scenario, subscribers=(build_bob(repository={}, ifcs=b"<IFCs/>", scscf_name="", state=0),))


def test_subscription_keeps_the_cache_fresh() -> None:
    async def scenario(world: World) -> None:
        await world.client.fetch(BOB)
        await until(lambda: world.client.stats.subscriptions == 1)
        world.hss.set_repository(BOB, b"ai", b"<a>2</a>")
        await until(lambda: world.hss.n_pushed == 1)
        profile = world.client.cached(BOB)
        assert profile is not None
        assert (profile.service_data, profile.sequence) == (b"<a>2</a>", 1)
        world.hss.set_registration(BOB, 0, "")
        await until(lambda: world.client.stats.pushes == 3)
        assert world.client.cached(BOB).user_state == 0  # type: ignore[union-attr]
        assert world.client.cached(BOB).scscf_name == ""  # type: ignore[union-attr]
        world.hss.set_ifcs(BOB, b"<IFCs/>")
        await until(lambda: world.client.stats.pushes == 4)
        assert world.client.cached(BOB).ifcs == b"<IFCs/>"  # type: ignore[union-attr]
        assert world.commands() == ["UDR", "SNR"]

    run_world(scenario)


def test_unanswered_subscriptions_are_left_alone() -> None:
    async def scenario(world: World) -> None:
        world.hss.ignores_subscriptions = True
        await world.client.fetch(BOB)
        await until(lambda: world.client.stats.subscriptions_failed == 1)
        await world.client.fetch("tel:+15550100")
        await trio.testing.wait_all_tasks_blocked()
        assert world.commands() == ["UDR", "SNR", "UDR"]

    run_world(scenario, background_s=0.05)


def test_absent_item_cannot_be_subscribed_and_is_polled() -> None:
    async def scenario(world: World) -> None:
        await world.client.fetch(BOB)
        await until(lambda: world.client.stats.subscriptions_failed == 1)
        assert world.hss.sh.subscriptions == set()

    run_world(scenario, subscribers=(build_bob(repository={}),))


def test_refused_pair_falls_back_to_the_item_alone() -> None:
    async def scenario(world: World) -> None:
        await world.client.fetch(BOB)
        await until(lambda: world.client.stats.subscriptions == 1)
        assert {each.data_reference for each in world.hss.sh.subscriptions} == {0}

    class NoState(set[int]):
        """Denies reference 11 to subscriptions only: the pull comes first."""

        n_asked = 0

        def intersection(self, *others: Any) -> set[Any]:
            self.n_asked += 1
            return {11} & set(others[0]) if self.n_asked > 1 else set()

    async def prepared(world: World) -> None:
        world.hss.sh.denied = NoState()
        await scenario(world)

    run_world(prepared)


def test_restarted_hss_is_subscribed_again() -> None:
    async def scenario(world: World) -> None:
        await world.client.fetch(BOB)
        await until(lambda: world.client.stats.subscriptions == 1)
        assert world.node.on_restart is not None
        world.node.on_restart("hss")
        await world.client.fetch(BOB)
        await until(lambda: world.client.stats.subscriptions == 2)
        assert world.commands() == ["UDR", "SNR", "UDR", "SNR"]

    run_world(scenario, poll_s=0.0)


def test_update_follows_the_sequence() -> None:
    async def scenario(world: World) -> None:
        bob = world.hss.find(BOB)
        assert bob is not None
        await world.client.fetch(BOB)
        assert await world.client.update_repository(BOB, b"<a>2</a>") == 1
        assert (bob.repository[b"ai"], bob.sequences[b"ai"]) == (b"<a>2</a>", 1)
        assert world.client.cached(BOB).service_data == b"<a>2</a>"  # type: ignore[union-attr]
        assert await world.client.update_repository(BOB, None) is None
        assert bob.repository == {}
        assert await world.client.update_repository(BOB, b"<a>3</a>") == 0

    run_world(scenario, subscribe=False)


def test_update_out_of_step_pulls_and_tries_again() -> None:
    async def scenario(world: World) -> None:
        await world.client.fetch(BOB)
        world.hss.set_repository(BOB, b"ai", b"<a>other</a>")
        assert await world.client.update_repository(BOB, b"<a>2</a>") == 2
        assert world.commands() == ["UDR", "PUR", "UDR", "PUR"]

    run_world(scenario, subscribe=False)


def test_update_without_a_profile_pulls_first() -> None:
    async def scenario(world: World) -> None:
        assert await world.client.update_repository(BOB, b"<a>2</a>") == 1
        with pytest.raises(ShUserUnknownError):
            await world.client.update_repository("sip:eve@example.net", b"<a/>")
        with pytest.raises(LocalDiameterError):
            await world.client.update_repository(BOB, b"<a>")
        with pytest.raises(ShRefusedError) as caught:
            await world.client.update_repository(BOB, b"<a>" + b"x" * 40_000 + b"</a>")
        assert caught.value.result.code == 5008
        world.hss.silent = True
        with pytest.raises(ShTimeoutError):
            await world.client.update_repository(BOB, b"<a/>")

    run_world(scenario, subscribe=False, background_s=0.1)


def build_push(impu: str, xml: bytes) -> Message:
    return PushNotificationRequest(
        session_id="hss;1;1",
        origin_host="hss",
        origin_realm="realm",
        destination_host="as",
        destination_realm="realm",
        user_identity=UserIdentity(public_identity=impu),
        user_data=xml,
    ).to_message()


def test_pushes_that_are_not_ours() -> None:
    async def scenario(world: World) -> None:
        await world.client.fetch(BOB)
        unknown = world.client.receive_push(build_push("sip:eve@example.net", b"<Sh-Data/>")).result()
        assert unknown == Result(5001, 10415)
        for foreign in (
            b"<RepositoryData><ServiceIndication>other</ServiceIndication><SequenceNumber>0</SequenceNumber>"
            b"<ServiceData><a/></ServiceData></RepositoryData>",
            b"<CSUserState>0</CSUserState>",
        ):
            other = world.client.receive_push(build_push(BOB, b"<Sh-Data>%b</Sh-Data>" % foreign)).result()
            assert other == Result(5107, 10415)
        assert world.client.stats.pushes == 0
        assert world.client.stats.pushes_refused == 3
        broken = world.client.receive_push(build_push(BOB, b"<Sh-Data>")).result()
        assert broken is not None
        assert (broken.vendor, broken.code) == (10415, 5100)
        with pytest.raises(RemoteDiameterError) as caught:
            world.client.receive_push(SH.command("UDR").message([]))
        assert caught.value.result_code == 3001
        gone = (
            b"<Sh-Data><Extension><Extension><DeletedIdentities><IMSPublicIdentity>%b</IMSPublicIdentity>"
            % BOB.encode()
        )
        gone += b"</DeletedIdentities></Extension></Extension></Sh-Data>"
        answer = world.client.receive_push(build_push(BOB, gone)).result()
        assert answer is not None
        assert answer.is_success
        assert world.client.cached(BOB, stale_ok=True) is None

    run_world(scenario, subscribe=False)


def test_push_during_a_pull_is_newer_than_its_answer() -> None:
    async def scenario(world: World) -> None:
        world.hss.delay_s = 0.05
        found: list[Any] = []

        async def call() -> None:
            found.append(await world.client.fetch(BOB))

        async with trio.open_nursery() as calls:
            calls.start_soon(call)
            await until(lambda: world.client.stats.pulls == 1)
            xml = b"<Sh-Data><Sh-IMS-Data><IMSUserState>2</IMSUserState></Sh-IMS-Data></Sh-Data>"
            answer = world.client.receive_push(build_push(BOB, xml)).result()
            assert answer is not None
            assert answer.is_success
        assert found[0].user_state == 2

    run_world(scenario, subscribe=False)


@pytest.mark.parametrize(
    ("user_data", "has_result", "error"),
    [(b"<Sh-Data>", True, ShAnswerError), (b"", False, ShAnswerError), (b"", True, None)],
)
def test_answers_that_make_no_sense(user_data: bytes, has_result: bool, error: type[ShError] | None) -> None:
    async def odd(request: Message, peer: str) -> Message | None:
        if not has_result:
            return request.build_answer([])
        return UserDataAnswer(origin_host="hss", origin_realm="realm", user_data=user_data).to_answer(request)

    async def scenario(nursery: trio.Nursery) -> None:
        server = build_server(on_request=odd)
        await nursery.start(server.run)
        node = DiameterNode(
            NodeConfig(origin_host="as", origin_realm="realm", peers=(PeerConfig(*server.addresses[0]),))
        )
        client = ShClient(node, ShConfig(destination_realm="r", server_name="sip:as", service_indication=b"ai"))
        await nursery.start(node.run)
        await node.wait_open()
        if error is None:
            assert (await client.fetch(BOB)).service_data is None
        else:
            with pytest.raises(error):
                await client.fetch(BOB)

    run_trio(scenario)
