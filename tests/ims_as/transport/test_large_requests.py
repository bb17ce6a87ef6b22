"""RFC 3261 §18.1.1: what is too large for a datagram goes by TCP, and by UDP after all where nobody listens there."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio

from ims_as.sip.failover import NO_STREAM_S
from ims_as.sip.flow import Destination
from ims_as.sip.message import Request, build_response
from ims_as.sip.sender import MAX_DATAGRAM_BYTES
from ims_as.sip.transaction import ClientEvent, ResponseReceived, ServerTransaction
from ims_as.sip.user_agent import UserAgent
from ims_as.transport.address import ListenAddress
from ims_as.transport.endpoint import Endpoint

OURS, PEER = "127.0.73.1", "127.0.73.2"


def message_of(size: int, number: int = 0) -> Request:
    """A MESSAGE whose body is as large."""
    items = [
        ("Max-Forwards", "70"),
        ("From", f"<sip:a@{OURS}>;tag=1"),
        ("To", f"<sip:b@{PEER}>"),
        ("Call-ID", f"large-{number}"),
        ("CSeq", "1 MESSAGE"),
        ("Content-Type", "text/plain"),
    ]
    return Request("MESSAGE", f"sip:b@{PEER}:5060", items, b"x" * size)


def exchange(
    size: int,
    *,
    ours: tuple[str, ...] = ("udp", "tcp"),
    theirs: tuple[str, ...] = ("udp", "tcp"),
    times: int = 1,
    status: int = 200,
) -> list[tuple[str, int]]:
    """Send it; (transport at the peer, size of the body there) of each that came, and all got that status."""
    seen: list[tuple[str, int]] = []

    async def main() -> None:
        sender = Endpoint(listen=[ListenAddress(name, OURS, 5060) for name in ours])
        receiver = Endpoint(listen=[ListenAddress(name, PEER, 5060) for name in theirs])

        def on_request(request: Request, transaction: ServerTransaction) -> None:
            assert request.via.transport == transaction.flow.transport
            seen.append((transaction.flow.transport, len(request.body)))
            receiver.send_response(transaction, build_response(request, status))

        for endpoint, handler in ((sender, refuse), (receiver, on_request)):
            endpoint.user = UserAgent(endpoint, on_invite=handler, on_request=handler, user_agent="", allow="MESSAGE")
        async with trio.open_nursery() as nursery:
            await nursery.start(sender.run)
            await nursery.start(receiver.run)
            for number in range(times):
                assert await ask(sender, message_of(size, number)) == status
            nursery.cancel_scope.cancel()

    def refuse(request: Request, transaction: ServerTransaction) -> None:
        raise AssertionError("nobody asks us")

    async def ask(sender: Endpoint, request: Request) -> int:
        got_in, got = trio.open_memory_channel[ClientEvent](1)
        on_event: Callable[[ClientEvent], None] = got_in.send_nowait
        sender.send_request(request, on_event=on_event)
        with trio.fail_after(5):
            event = await got.receive()
        assert isinstance(event, ResponseReceived), event
        return event.response.status

    trio.run(main)
    return seen


def test_a_small_one_stays_a_datagram():
    assert exchange(500) == [("UDP", 500)]


def test_a_large_one_goes_by_tcp():
    assert exchange(MAX_DATAGRAM_BYTES) == [("TCP", MAX_DATAGRAM_BYTES)]


@pytest.mark.parametrize("size", [1300, 9000])
def test_where_nobody_listens_on_tcp_it_is_a_datagram_after_all(size: int):
    assert exchange(size, theirs=("udp",), times=2) == [("UDP", size)] * 2


def test_without_tcp_of_our_own_it_is_a_datagram():
    assert exchange(2000, ours=("udp",)) == [("UDP", 2000)]


@pytest.mark.parametrize("size", [500, 2000])
def test_a_place_that_is_overloaded_is_not_asked_again_by_the_other_transport(size: int):
    assert exchange(size, status=503) == [("UDP" if size < 1000 else "TCP", size)]


def test_where_nobody_listens_is_remembered_for_minutes():
    async def main() -> None:
        sender = Endpoint(listen=[ListenAddress(name, OURS, 5060) for name in ("udp", "tcp")])
        async with trio.open_nursery() as nursery:
            await nursery.start(sender.run)
            transaction = sender.send_request(message_of(2000), on_event=lambda event: None)
            with trio.fail_after(5):
                while transaction.successor is None:
                    await trio.sleep(0.001)
            assert sender.failed_targets.has(Destination("TCP", PEER, 5060), sender.now() + NO_STREAM_S - 5)
            assert not sender.failed_targets.has(Destination("TCP", PEER, 5060), sender.now() + NO_STREAM_S)
            nursery.cancel_scope.cancel()

    trio.run(main)
