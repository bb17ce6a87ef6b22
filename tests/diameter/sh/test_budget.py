"""No HSS makes a caller of ShClient wait longer than the budget: held against a clock that only idle time moves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
import trio
import trio.testing

from diameter.dictionary.sh import SH
from diameter.message import Message
from diameter.node import DiameterNode, NodeConfig, PeerConfig
from diameter.sh.client import ShClient, ShConfig
from diameter.sh.errors import ShAnswerError, ShError, ShNoPeerError, ShTimeoutError
from diameter.sh.messages import UserDataAnswer
from tests.diameter.raw_peer import RawPeer, listen_raw

HOST = "127.0.143.1"
BOB = "sip:bob@example.net"
BUDGET_S = 0.3
IDLE_S = 0.05
"""Real seconds without anything to do after which the clock jumps: far more than loopback needs."""
Script = Callable[[RawPeer], Awaitable[None]]


def answer(request: Message, xml: bytes | None = None) -> bytes:
    return UserDataAnswer(origin_host="hss", origin_realm="realm", user_data=xml).to_answer(request).encode()


async def is_silent(peer: RawPeer) -> None:
    await peer.accept()
    await trio.sleep_forever()


async def answers_half(peer: RawPeer) -> None:
    await peer.accept()
    await peer.stream.send_all(answer(await peer.read_code(306))[:-8])
    await trio.sleep_forever()


async def answers_half_byte_by_byte(peer: RawPeer) -> None:
    await peer.accept()
    for byte in answer(await peer.read_code(306))[:-1]:
        await peer.stream.send_all(bytes((byte,)))
        await trio.sleep(0.1)


async def answers_somebody_else(peer: RawPeer) -> None:
    await peer.accept()
    request = await peer.read_code(306)
    while True:
        await peer.stream.send_all(answer(request.with_ids(hop_by_hop=1, end_to_end=2)))
        await trio.sleep(0.05)


async def says_garbage(peer: RawPeer) -> None:
    await peer.accept()
    await peer.read_code(306)
    await peer.stream.send_all(b"\xff" * 1000)
    await peer.is_closed()


async def closes(peer: RawPeer) -> None:
    await peer.accept()
    await peer.read_code(306)


async def is_too_busy(peer: RawPeer) -> None:
    await peer.accept()
    while True:
        await peer.answer(await peer.read_code(306), 3004)


async def has_endless_xml(peer: RawPeer) -> None:
    await peer.accept()
    while True:
        await peer.stream.send_all(answer(await peer.read_code(306), b"<Sh-Data>" + b"<a>" * 60_000))


async def has_no_result(peer: RawPeer) -> None:
    await peer.accept()
    while True:
        request = await peer.read_code(306)
        await peer.send(request.build_answer([SH["User-Data"].avp(b"<Sh-Data/>")]))


async def refuses_and_is_silent(peer: RawPeer) -> None:
    """Asked for several references it refuses, asked one by one it says nothing."""
    await peer.accept()
    await peer.answer(await peer.read_code(306), 5009)
    await trio.sleep_forever()


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (is_silent, ShTimeoutError),
        (answers_half, ShTimeoutError),
        (answers_half_byte_by_byte, ShTimeoutError),
        (answers_somebody_else, ShTimeoutError),
        (says_garbage, ShTimeoutError),
        (closes, ShTimeoutError),
        (is_too_busy, ShError),
        (has_endless_xml, ShAnswerError),
        (has_no_result, ShAnswerError),
        (refuses_and_is_silent, ShTimeoutError),
    ],
)
def test_a_caller_waits_for_the_budget_at_most(script: Script, error: type[ShError]) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            node = DiameterNode(
                NodeConfig(
                    origin_host="as",
                    origin_realm="realm",
                    peers=(PeerConfig(*await listen_raw(nursery, script, host=HOST)),),
                )
            )
            config = ShConfig(
                destination_realm="realm",
                server_name="sip:as.example.net",
                service_indication="ai",
                budget_s=BUDGET_S,
                subscribe=False,
            )
            client = ShClient(node, config)
            await nursery.start(node.run)
            await node.wait_open()
            for _ in range(3):
                began = trio.current_time()
                with pytest.raises((error, ShNoPeerError)):
                    await client.fetch(BOB)
                assert trio.current_time() - began <= BUDGET_S + 1e-6
            assert node.n_pending == 0
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=IDLE_S))


def test_a_half_message_ends_with_the_watchdog() -> None:
    """Nothing whole comes any more: RFC 3539 closes the connection, and the next one is good."""
    n_connections = 0

    async def stalls_once(peer: RawPeer) -> None:
        nonlocal n_connections
        n_connections += 1
        await peer.accept()
        request = await peer.read_code(306)
        if n_connections == 1:
            await peer.stream.send_all(answer(request)[:-4])
            await trio.sleep_forever()
        await peer.stream.send_all(answer(request, b"<Sh-Data/>"))
        await peer.read_code(306)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            peers = (PeerConfig(*await listen_raw(nursery, stalls_once, host=HOST)),)
            node = DiameterNode(NodeConfig(origin_host="as", origin_realm="realm", peers=peers), watchdog_s=6.0)
            config = ShConfig(destination_realm="realm", server_name="sip:as", service_indication="ai", subscribe=False)
            client = ShClient(node, config)
            await nursery.start(node.run)
            await node.wait_open()
            began = trio.current_time()
            with pytest.raises(ShTimeoutError):
                await client.fetch(BOB)
            while n_connections < 2 or not node.is_open():
                await trio.sleep(1.0)
            # DWR after Tw, FAILOVER and CLOSE after one more each; Tw is 6 s give or take 2
            assert 12 < trio.current_time() - began < 30
            assert node.counters["watchdog_closed"] == 1
            with suppress(ShTimeoutError):
                await client.fetch(BOB)  # a peer that comes back has to answer watchdogs first
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=IDLE_S))
