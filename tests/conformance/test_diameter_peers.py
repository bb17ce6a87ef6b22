"""python-diameter as the other side: an HSS for our client and our whole server, and a client of our HSS.

Addresses: 127.0.171.x.
"""

from __future__ import annotations

import itertools
import json
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from conformance.lab.hss import LabHss, Subscriber
from diameter.base_commands import SH_APPLICATION
from diameter.dictionary.base import DisconnectCause
from diameter.message import Message
from diameter.node import DiameterNode, NodeConfig, PeerConfig
from diameter.sh.client import ShClient, ShConfig
from diameter.sh.errors import ShTimeoutError, ShUserUnknownError
from ims_as.sip.invite_session import Answered
from tests.diameter.support import until
from tests.support.python_diameter import Peer, running_peer
from tests.support.world import BOB, IDENTITY, World, world

HOST, LAB_HOST = "127.0.171.1", "127.0.171.2"
REALM = "peer.example"
AS, HSS = "as.peer.example", "hss.peer.example"
SI = "ai-voice-agent"
SETTINGS = "<AgentProfile><Enabled>true</Enabled><Language>de</Language></AgentProfile>"
IFCS = f"""<IFCs><InitialFilterCriteria><Priority>0</Priority><TriggerPoint><ConditionTypeCNF>1</ConditionTypeCNF>
<SPT><ConditionNegated>0</ConditionNegated><Group>0</Group><Method>INVITE</Method></SPT></TriggerPoint>
<ApplicationServer><ServerName>{IDENTITY}</ServerName><DefaultHandling>0</DefaultHandling></ApplicationServer>
</InitialFilterCriteria></IFCs>"""
_numbers = itertools.count(60)


def user(**changes: Any) -> dict[str, Any]:
    scscf = "sip:scscf.peer.example:6060"
    return {"si": SI, "data": SETTINGS, "sequence": 7, "ifcs": IFCS, "state": 1, "scscf": scscf} | changes


def free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def foreign_hss(
    host: str = HOST, port: int = 0, *, realm: str = REALM, as_host: str = AS, **users: Any
) -> AsyncIterator[tuple[Peer, int]]:
    port = port or free_port(host)
    known = json.dumps({BOB: user()} | users)
    async with running_peer("python_diameter_hss.py", host, str(port), realm, as_host, known) as hss:
        yield hss, port


async def with_client(
    scenario: Callable[[Peer, DiameterNode, ShClient], Awaitable[None]], *, watchdog_s: float = 30.0, **config: Any
) -> None:
    async with foreign_hss() as (hss, port), trio.open_nursery() as nursery:
        client: ShClient | None = None

        async def on_request(request: Message, peer: str) -> Message | None:
            assert client is not None
            return client.receive_push(request)

        node = DiameterNode(
            NodeConfig(
                origin_host=AS,
                origin_realm=REALM,
                peers=(PeerConfig(HOST, port),),
                applications=(SH_APPLICATION,),
                reconnect_first_s=0.05,
            ),
            on_request=on_request,
            watchdog_s=watchdog_s,
        )
        settings: dict[str, Any] = {"destination_realm": REALM, "server_name": IDENTITY, "budget_s": 2.0} | config
        client = ShClient(node, ShConfig(service_indication=SI, **settings))
        await nursery.start(node.run)
        await nursery.start(client.run)
        with trio.fail_after(10):
            await node.wait_open()
            await scenario(hss, node, client)
        nursery.cancel_scope.cancel()


def test_a_profile_comes_from_a_foreign_hss() -> None:
    async def scenario(hss: Peer, node: DiameterNode, client: ShClient) -> None:
        profile = await client.fetch(BOB)
        assert profile.service_data == SETTINGS.encode()
        assert (profile.sequence, profile.user_state) == (7, 1)
        assert profile.scscf_name == "sip:scscf.peer.example:6060"
        assert profile.ifcs is not None
        assert IDENTITY.encode() in profile.ifcs
        (row,) = node.peer_states()
        assert (row["origin_host"], row["product"]) == (HSS, "python-diameter")
        with pytest.raises(ShUserUnknownError):
            await client.fetch("sip:nobody@peer.example")
        log = await hss.ask(log=True)
        assert [entry for entry in log if entry[0] == "UserDataRequest"] == [["UserDataRequest", AS, 0xC0]] * 2

    trio.run(lambda: with_client(scenario, subscribe=False))


def test_its_notifications_change_the_cache() -> None:
    async def scenario(hss: Peer, node: DiameterNode, client: ShClient) -> None:
        await client.fetch(BOB)
        await until(lambda: client.stats.subscriptions == 1)
        assert await hss.ask(change=BOB, data="<AgentProfile><Language>fr</Language></AgentProfile>") == [2001]
        profile = await client.fetch(BOB)
        assert (profile.service_data, profile.sequence) == (
            b"<AgentProfile><Language>fr</Language></AgentProfile>",
            8,
        )
        assert client.stats.pulls == 1

    trio.run(lambda: with_client(scenario))


def test_repository_data_is_written_and_a_lost_update_noticed() -> None:
    async def scenario(hss: Peer, node: DiameterNode, client: ShClient) -> None:
        await client.fetch(BOB)
        assert await client.update_repository(BOB, b"<AgentProfile/>") == 8
        # somebody else writes, nobody tells us: our next number is out of sync, and found anew
        assert await hss.ask(change=BOB, data="<AgentProfile><Language>it</Language></AgentProfile>") == []
        assert await client.update_repository(BOB, b"<AgentProfile><Agent>b</Agent></AgentProfile>") == 10
        names = [entry[0] for entry in await hss.ask(log=True)]
        assert names == ["UserDataRequest", *["ProfileUpdateRequest"] * 2, "UserDataRequest", "ProfileUpdateRequest"]

    trio.run(lambda: with_client(scenario, subscribe=False))


def test_watchdog_and_leave() -> None:
    async def scenario(hss: Peer, node: DiameterNode, client: ShClient) -> None:
        assert (await hss.ask(peers=True))["connected"]
        # Tw is short here, and its DWAs keep the peer
        while (await hss.ask(peers=True))["dwr"] < 3:
            await trio.sleep(0.05)
        assert [row["watchdog"] for row in node.peer_states()] == ["OKAY"]
        await node.disconnect(DisconnectCause.REBOOTING)
        assert [row["state"] for row in node.peer_states()] == ["Closed"]
        assert (await hss.ask(peers=True))["dpr"] == 1

    trio.run(lambda: with_client(scenario, watchdog_s=0.2, subscribe=False))


def test_its_silence_costs_the_budget_and_no_more() -> None:
    async def scenario(hss: Peer, node: DiameterNode, client: ShClient) -> None:
        await hss.ask(silent=True)
        began = trio.current_time()
        with pytest.raises(ShTimeoutError):
            await client.fetch(BOB)
        assert 0.29 <= trio.current_time() - began < 1.0

    trio.run(lambda: with_client(scenario, budget_s=0.3, subscribe=False))


def test_the_whole_server_lives_with_a_foreign_hss() -> None:
    prefix = f"127.{20 + os.getpid() % 200}.{next(_numbers)}"
    host = f"{prefix}.10"

    async def calls(here: World, hss: Peer) -> None:
        leg = here.call()
        await leg.wait(Answered)
        assert (await here.engine.wait("start"))["language"] == "de"
        leg.session.bye()
        assert here.app.sh is not None
        await until(lambda: here.app.sh is not None and here.app.sh.stats.subscriptions == 1)
        changed = "<AgentProfile><Enabled>true</Enabled><Language>fr</Language></AgentProfile>"
        assert await hss.ask(change=BOB, data=changed) == [2001]
        leg = here.call()
        await leg.wait(Answered)
        assert (await here.engine.wait("start"))["language"] == "fr"
        leg.session.bye()
        # without an HSS the calls go on with what is known
        hss.kill()
        await until(lambda: here.app.node is not None and not here.app.node.is_open())
        leg = here.call()
        await leg.wait(Answered)
        assert (await here.engine.wait("start"))["language"] == "fr"
        leg.session.bye()

    async def main() -> None:
        names = ["origin_host=ai-as.peer.example", f"origin_realm={REALM}", f"destination_realm={REALM}"]
        async with foreign_hss(host, 3868, as_host="ai-as.peer.example") as (hss, _):
            peers = json.dumps([{"address": f"tcp:{host}:3868"}])
            options = [f"diameter.{name}" for name in (*names, f"peers={peers}")]
            async with world(*options) as here:
                assert here.app.node is not None
                with trio.fail_after(20):
                    await here.app.node.wait_open()
                    await calls(here, hss)

    trio.run(main)


# python-diameter asks our HSS


async def with_foreign_client(scenario: Callable[[LabHss, Peer], Awaitable[None]]) -> None:
    bob = Subscriber("bob@peer.example", (BOB,), {SI.encode(): SETTINGS.encode()}, IFCS.encode(), "sip:scscf", 1)
    hss = LabHss(LAB_HOST, 0, {"bob": bob}, origin_host=HSS, origin_realm=REALM)
    async with trio.open_nursery() as nursery:
        await nursery.start(hss.run)
        host, port = hss.address
        async with running_peer("python_diameter_client.py", host, str(port), REALM, HSS, AS) as client:
            with trio.fail_after(20):
                await scenario(hss, client)
        nursery.cancel_scope.cancel()


def test_a_foreign_client_reads_and_writes_at_our_hss() -> None:
    async def scenario(hss: LabHss, client: Peer) -> None:
        answer = await client.ask(udr=BOB, references=[0, 11, 12, 13], si=SI, server=IDENTITY)
        assert (answer["result"], answer["origin"]) == (2001, HSS)
        for part in (SETTINGS, IDENTITY, "<IMSUserState>1</IMSUserState>", "<SCSCFName>sip:scscf</SCSCFName>"):
            assert part in answer["data"]
        assert (await client.ask(udr="sip:nobody@peer.example", references=[11]))["result"] == [10415, 5001]
        document = (
            f"<Sh-Data><RepositoryData><ServiceIndication>{SI}</ServiceIndication><SequenceNumber>%d</SequenceNumber>"
            "<ServiceData><AgentProfile/></ServiceData></RepositoryData></Sh-Data>"
        )
        assert (await client.ask(pur=BOB, data=document % 1))["result"] == 2001
        assert (await client.ask(pur=BOB, data=document % 1))["result"] == [10415, 5105]
        assert (await client.ask(pur=BOB, data="<Sh-Data>"))["result"] == [10415, 5100]
        answer = await client.ask(strange=True)
        assert (answer["result"], answer["failed"]) == (5005, [[10415, 700]])

    trio.run(lambda: with_foreign_client(scenario))


def test_a_foreign_client_is_notified_by_our_hss() -> None:
    async def scenario(hss: LabHss, client: Peer) -> None:
        answer = await client.ask(snr=BOB, references=[0, 11], si=SI)
        assert answer["result"] == 2001
        assert SETTINGS in answer["data"]
        hss.set_repository(BOB, SI.encode(), b"<AgentProfile><Agent>b</Agent></AgentProfile>")
        hss.set_registration(BOB, 0, "sip:scscf")
        first, second = sorted(await client.ask(pushed=2), key=lambda text: "IMSUserState" in text)
        assert "<AgentProfile><Agent>b</Agent></AgentProfile>" in first
        assert "<SequenceNumber>1</SequenceNumber>" in first
        assert "<IMSUserState>0</IMSUserState>" in second
        await until(lambda: hss.n_pushed == 2)

    trio.run(lambda: with_foreign_client(scenario))
