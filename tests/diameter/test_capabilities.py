"""Capabilities exchange, RFC 6733 §5.3: what is common, who is known, what is announced, who wins."""

from __future__ import annotations

import pytest
import trio

from diameter.avp import Avp, Avps
from diameter.base_commands import SH_APPLICATION, Application, BaseCommands, read_capabilities_untrusted
from diameter.dictionary import base
from diameter.dictionary.base import BASE, RELAY_APPLICATION_ID
from diameter.errors import RemoteDiameterError
from diameter.message import Message
from diameter.node import DiameterNode, NodeConfig, PeerConfig
from tests.diameter.raw_peer import RawPeer, connect_raw, listen_raw
from tests.diameter.support import HOST, build_client, build_request, build_server, run_trio, until

RELAY = Application(RELAY_APPLICATION_ID)


def extended(message: Message, *extra: Avp) -> Message:
    return Message(message.code, 0, message.flags, Avps([*message.avps, *extra]))


def capabilities_with(*extra: Avp, applications: tuple[Application, ...] = (SH_APPLICATION,)) -> Message:
    return extended(BaseCommands("peer", "realm", "test", 0, 1, applications).cer(HOST), *extra)


def test_what_we_announce() -> None:
    commands = BaseCommands("as", "realm", "ims-as", 0, 7, (SH_APPLICATION, Application(4)))
    cer = commands.cer("127.0.0.1", "::1")
    command = BASE.find_command(cer)
    assert command is not None
    BASE.check_untrusted(cer, command)
    read = read_capabilities_untrusted(cer)
    assert read.host_ips == ("127.0.0.1", "::1")
    assert read.vendors == {10415}
    assert read.applications == {16777217, 4}
    vendor_specific = cer.group(base.VENDOR_SPECIFIC_APPLICATION_ID)
    assert vendor_specific is not None
    assert [avp.code for avp in vendor_specific] == [266, 258]
    assert not cer.is_proxiable


@pytest.mark.parametrize(
    "announced",
    [
        base.AUTH_APPLICATION_ID.avp(16777217),
        base.ACCT_APPLICATION_ID.avp(16777217),
        base.VENDOR_SPECIFIC_APPLICATION_ID.avp([base.VENDOR_ID.avp(10415), base.AUTH_APPLICATION_ID.avp(16777217)]),
        base.VENDOR_SPECIFIC_APPLICATION_ID.avp([base.VENDOR_ID.avp(10415), base.ACCT_APPLICATION_ID.avp(16777217)]),
        base.VENDOR_SPECIFIC_APPLICATION_ID.avp([base.AUTH_APPLICATION_ID.avp(16777217)]),
        base.AUTH_APPLICATION_ID.avp(RELAY_APPLICATION_ID),
    ],
    ids=["auth", "acct", "vendor-auth", "vendor-acct", "vendor-missing", "relay"],
)
def test_sh_counts_wherever_it_is_announced(announced: Avp) -> None:
    read = read_capabilities_untrusted(capabilities_with(announced, applications=()))
    assert read.shares((SH_APPLICATION,))


def test_a_relay_of_ours_shares_all() -> None:
    read = read_capabilities_untrusted(capabilities_with(applications=(Application(4),)))
    assert not read.shares((SH_APPLICATION,))
    assert read.shares((RELAY,))


@pytest.mark.parametrize(("offered", "is_common"), [((), True), ((0,), True), ((0, 1), True), ((1,), False)])
def test_security_after_the_exchange_is_not_offered(offered: tuple[int, ...], is_common: bool) -> None:
    cer = capabilities_with(*(base.INBAND_SECURITY_ID.avp(each) for each in offered))
    assert read_capabilities_untrusted(cer).shares_security() is is_common


@pytest.mark.parametrize(
    "broken",
    [
        Avp(258, b"\0\0"),
        Avp(260, b"\0\0\1\2\x40\0\0\xff"),
        Avp(257, b"\0\1\1"),
        Avp(299, b""),
        Avp(265, b"123"),
    ],
)
def test_capabilities_that_cannot_be_read(broken: Avp) -> None:
    with pytest.raises(RemoteDiameterError):
        read_capabilities_untrusted(capabilities_with(broken))


def test_cer_with_broken_avps_is_answered_and_closed() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        server = build_server()
        await nursery.start(server.run)
        raw = await connect_raw(nursery, server.addresses[0])
        await raw.send(extended(raw.commands.cer(HOST), Avp(258, b"\0\0")))
        cea = await raw.read()
        assert (cea.code, cea.number(base.RESULT_CODE)) == (257, 5014)
        assert await raw.is_closed()
        assert server.peer_states() == []

    run_trio(scenario)


@pytest.mark.parametrize(
    ("name", "result"), [("hss.known", 2001), ("HSS.Known", 2001), ("a.example.net", 2001), ("a.example.com", 3010)]
)
def test_strangers_are_told_that_they_are_unknown(name: str, result: int) -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        server = build_server(accept_from=("hss.known", ".example.net"))
        await nursery.start(server.run)
        raw = await connect_raw(nursery, server.addresses[0], name)
        cea = await raw.open()
        assert (cea.number(base.RESULT_CODE), cea.is_error) == (result, result == 3010)
        if result != 2001:
            assert await raw.is_closed()
        assert server.counters["unknown peer"] == (result == 3010)
        assert len(server.peer_states()) == (result == 2001)

    run_trio(scenario)


def test_configured_peers_may_connect_without_being_listed() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        dead = PeerConfig(HOST, 9, origin_host="hss")
        server = build_server(accept_from=(), peers=(dead,))
        await nursery.start(server.run)
        raw = await connect_raw(nursery, server.addresses[0], "HSS")
        assert (await raw.open()).number(base.RESULT_CODE) == 2001
        assert [state["is_open"] for state in server.peer_states()] == [True]

    run_trio(scenario)


def test_only_tls_after_the_exchange_is_refused() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        server = build_server()
        await nursery.start(server.run)
        raw = await connect_raw(nursery, server.addresses[0])
        await raw.send(extended(raw.commands.cer(HOST), base.INBAND_SECURITY_ID.avp(1)))
        assert (await raw.read()).number(base.RESULT_CODE) == 5017
        assert await raw.is_closed()

    run_trio(scenario)


@pytest.mark.parametrize("result", [3010, 5010, 5012, 4003])
def test_cea_with_an_error_is_kept_for_the_operator(result: int) -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        async def script(raw: RawPeer) -> None:
            await raw.refuse(result)

        client = build_client(await listen_raw(nursery, script))
        await nursery.start(client.run)
        await until(lambda: client.counters["capabilities_refused"] >= 2)
        state = client.peer_states()[0]
        assert (state["failure"], state["is_open"], state["opened"]) == (f"capabilities_refused: {result}", False, 0)

    run_trio(scenario)


@pytest.mark.parametrize(
    ("applications", "extra", "error"),
    [
        ((Application(4),), (), "no_common_application"),
        ((SH_APPLICATION,), (base.INBAND_SECURITY_ID.avp(1),), "no_common_security"),
    ],
)
def test_good_cea_without_anything_in_common(
    applications: tuple[Application, ...], extra: tuple[Avp, ...], error: str
) -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        async def script(raw: RawPeer) -> None:
            await raw.accept(*extra)
            assert await raw.is_closed()

        client = build_client(await listen_raw(nursery, script, "raw", *applications))
        await nursery.start(client.run)
        await until(lambda: client.counters[error] >= 1)
        assert client.peer_states()[0]["failure"] == error
        assert not client.is_open()

    run_trio(scenario)


def test_second_cer_is_refused_and_the_peer_stays() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        server = build_server()
        await nursery.start(server.run)
        raw = await connect_raw(nursery, server.addresses[0])
        await raw.open()
        assert (await raw.open()).number(base.RESULT_CODE) == 5012
        # neither do answers to nothing harm
        await raw.send(raw.commands.cea(raw.commands.cer(HOST), HOST, 2001))
        await raw.send(raw.commands.dpa(raw.commands.dpr(base.DisconnectCause.BUSY)))
        await raw.send(raw.commands.dwr())
        assert (await raw.read()).number(base.RESULT_CODE) == 2001
        assert server.counters["unexpected_message"] == 3

    run_trio(scenario)


@pytest.mark.parametrize(("ours", "kept"), [("z-node", "theirs"), ("a-node", "ours")])
def test_election_when_both_sides_connect(ours: str, kept: str) -> None:
    """The node with the higher Origin-Host keeps the connection that the other one opened (§5.6.4)."""

    async def scenario(nursery: trio.Nursery) -> None:
        initiated: list[RawPeer] = []

        async def script(raw: RawPeer) -> None:
            initiated.append(raw)
            await raw.read()
            await trio.sleep_forever()

        address = await listen_raw(nursery, script, "m-raw")
        node = DiameterNode(
            NodeConfig(
                origin_host=ours,
                origin_realm="realm",
                listen=((HOST, 0),),
                peers=(PeerConfig(*address, origin_host="m-raw"),),
                wait_s=2.0,
            )
        )
        await nursery.start(node.run)
        await until(lambda: bool(initiated) and bool(initiated[0].received))
        incoming = await connect_raw(nursery, node.addresses[0], "m-raw")
        await incoming.send(incoming.commands.cer(HOST))
        if kept == "theirs":
            assert (await incoming.read()).number(base.RESULT_CODE) == 2001
            await until(lambda: node.peer_states()[0]["state"] == "R-Open")
            carrier = incoming
        else:
            await until(lambda: node.peer_states()[0]["state"] == "Wait-Returns")
            outgoing = initiated[0]
            await outgoing.send(outgoing.commands.cea(outgoing.received[0], HOST, 2001))
            assert await incoming.is_closed()
            await until(lambda: node.peer_states()[0]["state"] == "I-Open")
            carrier = outgoing
        outcome: list[Message] = []

        async def ask() -> None:
            outcome.append(await node.request(build_request(node), deadline_s=2.0))

        async with trio.open_nursery() as askers:
            askers.start_soon(ask)
            await carrier.answer(await carrier.read_code(306), 2001)
        assert len(outcome) == 1
        assert len(node.peer_states()) == 1

    run_trio(scenario)


def test_peer_that_accepts_and_never_answers_the_cer() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        n_cers = 0

        async def script(raw: RawPeer) -> None:
            nonlocal n_cers
            await raw.read()
            n_cers += 1
            assert await raw.is_closed()

        client = build_client(await listen_raw(nursery, script), wait_s=0.05)
        await nursery.start(client.run)
        await until(lambda: n_cers == 3)
        assert client.peer_states()[0]["failure"] == "no sound answer to CER or DPR"
        assert not client.is_open()

    run_trio(scenario)
