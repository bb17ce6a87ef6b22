"""freeDiameter, which we did not write, as relay between us and the lab's HSS. Uses 127.0.83.x and 198.18.83.x."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import trio

from conformance.lab.freediameter import FreeDiameterRelay, LabCertificates, RelayPeer
from conformance.lab.hss import LabHss, Subscriber
from diameter.dictionary import base
from diameter.dictionary.base import RELAY_APPLICATION_ID
from diameter.message import Message
from diameter.node import DiameterNode, NodeConfig, PeerConfig
from diameter.sh.client import ShClient, ShConfig
from ims_as.sip.invite_session import Answered
from ims_as.transport.tls import TlsContexts, TlsOptions
from tests.support.hss_world import OWN_CRITERIA
from tests.support.world import BOB, until, world

REALM = "ims.example.net"
AS, HSS, SECOND_HSS = f"as.{REALM}", f"hss.{REALM}", f"hss2.{REALM}"
SI = b"ai-voice-agent"
CER, DWR, DPR = 257, 280, 282
LIMIT_S = 40.0


def profile(greeting: str) -> bytes:
    return f"<AgentProfile><Enabled>true</Enabled><Greeting>{greeting}</Greeting></AgentProfile>".encode()


def user(number: int) -> str:
    return f"sip:user{number}@{REALM}"


@attrs.define
class Wire:
    """What a node has read and written: direction, peer, message."""

    seen: list[tuple[str, str, Message]] = attrs.Factory(list)

    def tap(self, direction: str, peer: str, message: Message) -> None:
        self.seen.append((direction, peer, message))

    def count(self, direction: str, code: int, *, requests: bool) -> int:
        return sum(
            1 for way, _, each in self.seen if way == direction and each.code == code and each.is_request is requests
        )

    def retransmissions(self) -> Counter[int]:
        """Requests that went out with T, by end-to-end id."""
        return Counter(m.end_to_end for way, _, m in self.seen if way == "out" and m.is_request and m.is_retransmitted)


class Core:
    """An HSS or two, and relays before them; they live in one nursery."""

    def __init__(self, nursery: trio.Nursery, folder: Path) -> None:
        self.nursery = nursery
        self.folder = folder
        self.certificates = LabCertificates(folder)
        self.relays: list[FreeDiameterRelay] = []
        self.scopes: dict[str, trio.CancelScope] = {}

    async def hss(
        self,
        name: str = HSS,
        *,
        n_users: int = 1,
        tls: bool = False,
        watchdog_s: float = 30.0,
        wire: Wire | None = None,
    ) -> LabHss:
        users = [
            Subscriber(impi=user(n)[4:], impus=[user(n)], repository={SI: profile(str(n))}) for n in range(n_users)
        ]
        users.append(Subscriber(BOB[4:], [BOB], {SI: profile("Guten Tag")}, OWN_CRITERIA))
        hss = LabHss(
            f"127.0.83.{10 + len(self.scopes)}",
            0,
            {each.impi: each for each in users},
            origin_host=name,
            origin_realm=REALM,
            watchdog_s=watchdog_s,
            on_wire=None if wire is None else wire.tap,
            tls=await self.contexts(name) if tls else None,
        )
        self.scopes[name] = scope = trio.CancelScope()

        async def run(*, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
            with scope:
                await hss.run(task_status=task_status)

        await self.nursery.start(run)
        return hss

    async def relay(self, *hsses: LabHss, tls: bool = False) -> FreeDiameterRelay:
        number = len(self.relays) + 1
        relay = FreeDiameterRelay(
            self.certificates,
            self.folder / f"dra{number}",
            f"dra{number}.{REALM}",
            REALM,
            f"198.18.83.{number}",
            [RelayPeer(hss.node.origin_host, *hss.address, is_tls=tls) for hss in hsses],
            [f"*.{REALM}"],
            needs_tls=tls,
        )
        self.relays.append(relay)
        await relay.start()
        for hss in hsses:
            with trio.fail_after(LIMIT_S):
                await hss.node.wait_open(
                    1 + sum(hss.node.origin_host == p.identity for r in self.relays[:-1] for p in r.peers)
                )
        return relay

    async def contexts(self, name: str) -> TlsContexts:
        certificate, key = await self.certificates.issue(name)
        return TlsContexts(TlsOptions(certificate, key_file=key, ca=self.certificates.ca))

    async def client(
        self, *peers: PeerConfig, watchdog_s: float = 30.0, wire: Wire | None = None, waits: bool = True, **config: Any
    ) -> tuple[DiameterNode, ShClient]:
        async def on_request(message: Message, peer: str) -> Message:
            return sh.receive_push(message)

        node = DiameterNode(
            NodeConfig(
                **({"origin_host": AS} | config),
                origin_realm=REALM,
                peers=peers,
                wait_s=2.0,
                reconnect_first_s=0.05,
                reconnect_max_s=0.2,
            ),
            on_request=on_request,
            watchdog_s=watchdog_s,
            on_wire=None if wire is None else wire.tap,
        )
        sh = ShClient(
            node,
            ShConfig(destination_realm=REALM, server_name="sip:as.example.net", service_indication=SI, budget_s=10.0),
        )
        await self.nursery.start(node.run)
        await self.nursery.start(sh.run)
        with trio.fail_after(LIMIT_S):
            await node.wait_open(len(peers) if waits else 0)
        return node, sh


@asynccontextmanager
async def core(folder: Path) -> AsyncIterator[Core]:
    async with trio.open_nursery() as nursery:
        here = Core(nursery, folder)
        try:
            with trio.fail_after(LIMIT_S):
                yield here
        finally:
            for relay in here.relays:
                await relay.end()
            nursery.cancel_scope.cancel()


def run_with(folder: Path, test: Callable[[Core], Awaitable[None]]) -> None:
    async def main() -> None:
        async with core(folder) as here:
            await test(here)

    trio.run(main)


def peer_of(relay: FreeDiameterRelay) -> PeerConfig:
    return PeerConfig(relay.address, relay.port, origin_host=relay.identity)


# one relay


def test_capabilities_of_a_relay(tmp_path: Path):
    """It announces 0xffffffff as authentication only, and in its CER that it wants no in-band security."""

    async def test(here: Core) -> None:
        seen, seen_by_hss = Wire(), Wire()
        hss = await here.hss(wire=seen_by_hss)
        relay = await here.relay(hss)
        node, _ = await here.client(peer_of(relay), wire=seen)
        (row,) = node.peer_states()
        assert (row["product"], row["applications"]) == ("freeDiameter", [RELAY_APPLICATION_ID])
        (row,) = hss.node.peer_states()
        assert (row["origin_host"], row["applications"], row["state"]) == (
            relay.identity,
            [RELAY_APPLICATION_ID],
            "R-Open",
        )
        (cer,) = [message for way, _, message in seen_by_hss.seen if way == "in" and message.code == CER]
        (cea,) = [message for way, _, message in seen.seen if way == "in" and message.code == CER]
        for capabilities in (cer, cea):
            assert capabilities.number(base.AUTH_APPLICATION_ID) == RELAY_APPLICATION_ID
            assert capabilities.number(base.ACCT_APPLICATION_ID) is None
        assert cer.number(base.INBAND_SECURITY_ID) == 0

    run_with(tmp_path, test)


def test_profiles_and_notifications_go_through_it(tmp_path: Path):
    """UDR and SNR by Destination-Realm alone, PNR back by our Origin-Host; freeDiameter knows nothing of Sh."""

    async def test(here: Core) -> None:
        hss = await here.hss()
        relay = await here.relay(hss)
        _, sh = await here.client(peer_of(relay))
        found = await sh.fetch(BOB)
        assert found.service_data == profile("Guten Tag")
        udr = hss.requests[0]
        assert (udr.command, udr.peer) == ("UDR", relay.identity)
        assert udr.message.text(base.DESTINATION_REALM) == REALM
        assert udr.message.text(base.DESTINATION_HOST) is None
        assert udr.message.text(base.ROUTE_RECORD) == AS
        await until(lambda: sh.stats.subscriptions == 1)
        hss.set_repository(BOB, SI, profile("Bonjour"))
        await until(lambda: hss.n_pushed == 1)
        cached = sh.cached(BOB)
        assert cached is not None
        assert cached.service_data == profile("Bonjour")

    run_with(tmp_path, test)


def test_watchdogs_both_ways(tmp_path: Path):
    """Ours of 0.3 s and the relay's of 6 s: nobody gives anybody up."""

    async def test(here: Core) -> None:
        hss = await here.hss(watchdog_s=0.3)
        relay = await here.relay(hss)
        wire = Wire()
        node, sh = await here.client(peer_of(relay), wire=wire)
        with trio.fail_after(12):
            while not wire.count("in", DWR, requests=True):
                await trio.sleep(0.05)
        assert wire.count("out", DWR, requests=False) == 1
        # and the HSS has asked the relay some twenty times meanwhile
        assert [row["watchdog"] for row in hss.node.peer_states()] == ["OKAY"]
        assert node.counters["link_up"] == hss.node.counters["link_up"] == 1
        assert (await sh.fetch(BOB)).service_data == profile("Guten Tag")
        assert node.counters["peer_suspect"] == hss.node.counters["peer_suspect"] == 0

    run_with(tmp_path, test)


def test_goodbyes(tmp_path: Path):
    """Its DPR is answered and it is connected to again; ours makes it forget us."""

    async def test(here: Core) -> None:
        hss = await here.hss()
        relay = await here.relay(hss)
        wire = Wire()
        node, sh = await here.client(peer_of(relay), wire=wire)
        await relay.stop()
        await until(lambda: not node.is_open())
        assert wire.count("in", DPR, requests=True) == wire.count("out", DPR, requests=False) == 1
        await relay.start()
        await node.wait_open()
        await hss.node.wait_open()
        assert (await sh.fetch(BOB)).service_data == profile("Guten Tag")
        await node.disconnect()
        assert wire.count("out", DPR, requests=True) == wire.count("in", DPR, requests=False) == 1
        assert f"Peer '{AS}' sent a DPR with cause: REBOOTING" in relay.log.read_text()

    run_with(tmp_path, test)


def test_over_tls_on_both_sides_of_it(tmp_path: Path):
    async def test(here: Core) -> None:
        hss = await here.hss(tls=True)
        relay = await here.relay(hss, tls=True)
        peer = PeerConfig(relay.address, relay.tls_port, "tls", relay.identity)
        _, sh = await here.client(peer, tls=await here.contexts(AS))
        assert (await sh.fetch(BOB)).service_data == profile("Guten Tag")
        await until(lambda: sh.stats.subscriptions == 1)
        hss.set_repository(BOB, SI, profile("Bonjour"))
        await until(lambda: hss.n_pushed == 1)

    run_with(tmp_path, test)


def test_what_it_and_we_refuse_over_tls(tmp_path: Path):
    """It: plain text, and certificates of other authorities (any name will do). We: whom we did not want."""

    async def test(here: Core) -> None:
        relay = await here.relay(tls=True)
        (tmp_path / "strange").mkdir()
        certificate, key = await LabCertificates(tmp_path / "strange").issue(AS)
        strange = TlsContexts(TlsOptions(certificate, key_file=key, ca=here.certificates.ca))
        tls_peer = PeerConfig(relay.address, relay.tls_port, "tls", relay.identity)
        for peer, tls, failure in (
            (peer_of(relay), None, "capabilities_refused: 3010"),
            (tls_peer, strange, ("closed before CEA", "TLS: ")),
            (attrs.evolve(tls_peer, origin_host=HSS), await here.contexts(AS), "TLS: certificate of somebody else"),
        ):
            node, _ = await here.client(peer, tls=tls, waits=False)
            row = node.peer_states
            await until(lambda row=row, failure=failure: row()[0]["failure"].startswith(failure))
            assert node.counters["link_up"] == 0

    run_with(tmp_path, test)


# two of them


class Load:
    """Requests for one user after the other, none from the cache."""

    def __init__(self, sh: ShClient, nursery: trio.Nursery) -> None:
        self.sh = sh
        self.nursery = nursery
        self.n_started = 0
        self.found: list[str] = []
        self.failed: list[Exception] = []

    async def _ask(self, impu: str) -> None:
        try:
            self.found.append((await self.sh.fetch(impu)).impu)
        except Exception as error:
            self.failed.append(error)

    async def run(self, n_requests: int, interval_s: float = 0.002) -> None:
        for _ in range(n_requests):
            self.nursery.start_soon(self._ask, user(self.n_started))
            self.n_started += 1
            await trio.sleep(interval_s)

    async def finish(self) -> None:
        await until(lambda: len(self.found) + len(self.failed) == self.n_started)


def test_relay_killed_under_load_and_back(tmp_path: Path):
    """Nothing is lost, nothing is sent more than twice, and the first relay is used again once it is back."""

    async def test(here: Core) -> None:
        hss = await here.hss(n_users=500)
        first = await here.relay(hss)
        second = await here.relay(hss)
        wire = Wire()
        node, sh = await here.client(peer_of(first), peer_of(second), wire=wire, watchdog_s=0.2)
        load = Load(sh, here.nursery)
        await load.run(100)
        # held for a moment, so that some are surely under way when it dies
        hss.delay_s = 0.2
        await load.run(50)
        assert {way for _, way, message in wire.seen if message.code == 306} == {f"{first.address}:{first.port}"}
        await first.kill()
        hss.delay_s = 0.0
        await load.run(150)
        await load.finish()
        assert load.failed == []
        assert sorted(load.found) == sorted(map(user, range(300)))
        again = wire.retransmissions()
        assert again
        assert set(again.values()) == {1}
        assert node.counters["failover"] == len(again)

        await first.start()
        await until(lambda: [row["watchdog"] for row in node.peer_states()] == ["OKAY", "OKAY"])
        await hss.node.wait_open(2)
        wire.seen.clear()
        await load.run(20)
        await load.finish()
        assert load.failed == []
        peers = {way for direction, way, message in wire.seen if message.code == 306 and direction == "out"}
        assert peers == {f"{first.address}:{first.port}"}

    run_with(tmp_path, test)


def test_relay_without_its_hss_sends_us_elsewhere(tmp_path: Path):
    """The HSS behind the first relay dies: DIAMETER_UNABLE_TO_DELIVER, and the second relay with its HSS serves."""

    async def test(here: Core) -> None:
        hsses = [await here.hss(HSS, n_users=100), await here.hss(SECOND_HSS, n_users=100)]
        first, second = await here.relay(hsses[0]), await here.relay(hsses[1])
        node, sh = await here.client(peer_of(first), peer_of(second))
        load = Load(sh, here.nursery)
        await load.run(20)
        await load.finish()
        here.scopes[HSS].cancel()
        await load.run(40)
        await load.finish()
        assert load.failed == []
        assert node.counters["rerouted"] > 0
        assert node.counters["link_down"] == 0

    run_with(tmp_path, test)


# the whole server


def test_a_call_is_answered_by_the_profile_that_came_through_it(tmp_path: Path):
    async def test(here: Core) -> None:
        hss = await here.hss()
        relay = await here.relay(hss)
        peers = [{"address": f"tcp:{relay.address}:{relay.port}", "origin_host": relay.identity}]
        overrides = [f"diameter.origin_host={AS}", f"diameter.origin_realm={REALM}"]
        overrides += [f"diameter.destination_realm={REALM}", f"diameter.peers={json.dumps(peers)}"]
        async with world(*overrides) as server:
            assert server.app.node is not None
            await server.app.node.wait_open()
            for greeting in ("Guten Tag", "Bonjour"):
                leg = server.call()
                await leg.wait(Answered)
                assert (await server.engine.wait("start"))["greeting"] == greeting
                leg.session.bye()
                await until(lambda: any(record.command == "SNR" for record in hss.requests))
                hss.set_repository(BOB, SI, profile("Bonjour"))
                await until(lambda: hss.n_pushed)
        assert [record.command for record in hss.requests].count("UDR") == 1

    run_with(tmp_path, test)
