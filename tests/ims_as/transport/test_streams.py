"""What peers do to a stream listener."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest
import trio
import trio.testing

from ims_as.sip.counters import SipCounters
from ims_as.sip.errors import SipParseError
from ims_as.sip.flow import Flow
from ims_as.sip.message import Request, Response
from ims_as.sip.parser import StreamParser
from ims_as.transport import connection
from ims_as.transport.connection import StreamLimits
from ims_as.transport.streams import StreamTransport
from tests.support.sip_messages import request_bytes

OPTIONS = request_bytes("OPTIONS")


class NotingUser:
    def __init__(self) -> None:
        self.messages: list[tuple[Request | Response, Flow]] = []
        self.errors: list[str] = []
        self.opened: list[int] = []
        self.lost: list[tuple[int, str]] = []
        self.trusted = True
        self.works = True

    def is_trusted(self, host: str) -> bool:
        return self.trusted

    def receive_message_untrusted(self, message: Request | Response, flow: Flow) -> bool:
        self.messages.append((message, flow))
        return self.works

    def receive_error_untrusted(self, error: SipParseError, data: bytes, flow: Flow) -> None:
        self.errors.append(error.reason)

    def receive_connection_open(self, connection: int) -> None:
        self.opened.append(connection)

    def receive_connection_lost(self, connection: int, reason: str) -> None:
        self.lost.append((connection, reason))


class Fixture:
    def __init__(self, limits: StreamLimits | None = None) -> None:
        self.user = NotingUser()
        self.counters = SipCounters()
        self.transport = StreamTransport(self.user, self.counters, limits=limits)
        self.address = self.transport.bind("127.0.77.3", 0)

    async def connect(self, source: str | None = None) -> trio.SocketStream:
        return await trio.open_tcp_stream(*self.address, local_address=source)


async def until(is_true: Callable[[], object]) -> None:
    with trio.fail_after(5):
        while not is_true():
            await trio.lowlevel.checkpoint()


@asynccontextmanager
async def serving(limits: StreamLimits | None = None) -> AsyncIterator[Fixture]:
    fixture = Fixture(limits)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fixture.transport.serve)
            await trio.testing.wait_all_tasks_blocked()
            yield fixture
            nursery.cancel_scope.cancel()
    assert len(fixture.transport) == 0


def test_messages_in_pieces_and_in_one_piece() -> None:
    async def test() -> None:
        async with serving() as fixture, await fixture.connect() as stream:
            for position in range(0, len(OPTIONS), 7):
                await stream.send_all(OPTIONS[position : position + 7])
            await stream.send_all(OPTIONS * 3)
            await until(lambda: len(fixture.user.messages) == 4)
            flow = fixture.user.messages[0][1]
            assert flow.local == fixture.address
            assert flow.connection is not None
            assert fixture.transport.send(flow, b"answer")
            assert await stream.receive_some() == b"answer"

    trio.run(test)


def test_keep_alive_is_answered() -> None:
    async def test() -> None:
        async with serving() as fixture, await fixture.connect() as stream:
            await stream.send_all(b"\r\n\r\n")
            assert await stream.receive_some() == b"\r\n"
            await stream.send_all(b"\r\n\r\n\r\n\r\n" + OPTIONS)
            await until(lambda: fixture.user.messages)
            assert await stream.receive_some() == b"\r\n\r\n"

    trio.run(test)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        b"OPTIONS sip:x SIP/2.0\r\nContent-Length: 99999999999\r\n\r\n",
        b"A" * 70_000,
    ],
)
def test_lost_boundary_closes_that_connection_only(garbage: bytes) -> None:
    async def test() -> None:
        async with serving() as fixture, await fixture.connect() as good, await fixture.connect() as bad:
            await bad.send_all(garbage)
            with suppress(trio.BrokenResourceError):  # closed with bytes unread: a reset
                assert await bad.receive_some() == b""
            await until(lambda: fixture.user.lost)
            assert len(fixture.user.errors) == 1
            await good.send_all(OPTIONS)
            await until(lambda: fixture.user.messages)
            assert len(fixture.transport) == 1

    trio.run(test)


def test_broken_message_in_good_framing_costs_that_message() -> None:
    async def test() -> None:
        async with serving() as fixture, await fixture.connect() as stream:
            await stream.send_all(OPTIONS.replace(b"CSeq: 1 OPTIONS", b"CSeq: 1 BYE") + OPTIONS)
            await until(lambda: fixture.user.messages)
            assert len(fixture.user.errors) == 1
            assert len(fixture.transport) == 1

    trio.run(test)


def test_unforeseen_error_closes_the_connection() -> None:
    async def test() -> None:
        async with serving() as fixture, await fixture.connect() as stream:
            fixture.user.works = False
            await stream.send_all(OPTIONS)
            assert await stream.receive_some() == b""
            await until(lambda: fixture.user.lost)

    trio.run(test)


def test_strangers_are_closed_at_once() -> None:
    async def test() -> None:
        async with serving() as fixture:
            fixture.user.trusted = False
            async with await fixture.connect() as stream:
                assert await stream.receive_some() == b""
            assert fixture.counters.drops["untrusted"] == 1
            assert len(fixture.transport) == 0

    trio.run(test)


def test_number_of_connections_is_bounded() -> None:
    async def test() -> None:
        async with serving(StreamLimits(total=2)) as fixture, await fixture.connect(), await fixture.connect():
            await until(lambda: len(fixture.transport) == 2)
            async with await fixture.connect() as third:
                assert await third.receive_some() == b""
            assert fixture.counters.drops["too many connections"] == 1
            with pytest.raises(OSError):
                fixture.transport.connect("TCP", fixture.address, ("127.0.77.4", 5060))

    trio.run(test)


def test_peer_that_does_not_read_loses_its_connection() -> None:
    async def test() -> None:
        async with serving() as fixture, await fixture.connect() as stream:
            await stream.send_all(OPTIONS)
            await until(lambda: fixture.user.messages)
            flow = fixture.user.messages[0][1]
            for _ in range(100):
                fixture.transport.send(flow, b"x" * 200_000)
            assert len(fixture.transport) == 0
            assert fixture.counters.drops["peer does not read"] == 1
            assert not fixture.transport.send(flow, b"x")

    trio.run(test)


def test_queued_bytes_arrive_in_order() -> None:
    async def test() -> None:
        async with serving() as fixture, await fixture.connect() as stream:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            await stream.send_all(OPTIONS)
            await until(lambda: fixture.user.messages)
            flow = fixture.user.messages[0][1]
            expected = b""
            for number in range(2000):
                chunk = f"{number};".encode() * 100
                expected += chunk
                fixture.transport.send(flow, chunk)
                await trio.lowlevel.checkpoint()
                if number % 10 == 9:
                    received = b""
                    while len(received) < len(expected):
                        received += await stream.receive_some()
                    assert received == expected
                    expected = b""

    trio.run(test)


def test_connection_is_opened_once_and_queues_meanwhile() -> None:
    async def test() -> None:
        async with serving() as fixture:
            other = StreamTransport(NotingUser(), SipCounters())
            other.bind("127.0.77.4", 0)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(other.serve)
                await trio.testing.wait_all_tasks_blocked()
                flow = other.connect("TCP", ("127.0.77.4", 0), fixture.address)
                other.send(flow, OPTIONS)
                assert other.connect("TCP", ("127.0.77.4", 0), fixture.address) == flow
                other.send(flow, OPTIONS)
                await until(lambda: len(fixture.user.messages) == 2)
                assert fixture.user.messages[0][1].remote[0] == "127.0.77.4"
                nursery.cancel_scope.cancel()

    trio.run(test)


def test_number_of_connections_of_one_host_is_bounded() -> None:
    async def test() -> None:
        async with serving(StreamLimits(per_host=1)) as fixture:
            async with await fixture.connect("127.0.77.7"):
                await until(lambda: len(fixture.transport) == 1)
                async with await fixture.connect("127.0.77.7") as second:
                    assert await second.receive_some() == b""
                assert fixture.counters.drops == {"too many connections of a host": 1}
                async with await fixture.connect("127.0.77.8") as other:
                    await other.send_all(OPTIONS)
                    await until(lambda: fixture.user.messages)
            await until(lambda: not fixture.transport)
            async with await fixture.connect("127.0.77.7") as again:
                await again.send_all(OPTIONS)
                await until(lambda: len(fixture.user.messages) == 2)

    trio.run(test)


def test_idle_connection_is_closed() -> None:
    async def test() -> None:
        async with serving(StreamLimits(idle_s=0.03)) as fixture, await fixture.connect() as stream:
            await stream.send_all(OPTIONS)
            assert await stream.receive_some() == b""
            await until(lambda: fixture.user.lost)
            assert fixture.user.messages
            assert fixture.user.lost[0][1] == "idle"
            assert not fixture.counters.drops

    trio.run(test)


@pytest.mark.parametrize("prefix", [b"O", OPTIONS[:-2], OPTIONS.replace(b"Length: 0", b"Length: 50000"), b"\r\n\r"])
def test_slow_sender_loses_its_connection_only(prefix: bytes) -> None:
    async def test() -> None:
        async with (
            serving(StreamLimits(message_s=0.2)) as fixture,
            await fixture.connect() as good,
            await fixture.connect() as bad,
        ):
            await bad.send_all(OPTIONS)
            await until(lambda: fixture.user.messages)
            started = trio.current_time()
            await bad.send_all(prefix)
            with suppress(trio.BrokenResourceError):
                while not fixture.user.lost:  # it goes on, one byte after the other
                    await trio.sleep(0.01)
                    await bad.send_all(b"x")
            assert 0.19 < trio.current_time() - started < 3
            assert fixture.counters.drops == {"slow sender": 1}
            assert fixture.user.lost[0][1] == "slow sender"
            await good.send_all(OPTIONS)
            await until(lambda: len(fixture.user.messages) == 2)
            assert len(fixture.transport) == 1

    trio.run(test)


def test_many_messages_may_take_longer_than_one() -> None:
    async def test() -> None:
        async with serving(StreamLimits(message_s=0.2)) as fixture, await fixture.connect() as stream:
            whole = OPTIONS * 30
            cut = len(OPTIONS) // 2
            pieces = [whole[:cut], *(whole[at : at + len(OPTIONS)] for at in range(cut, len(whole), len(OPTIONS)))]
            for piece in pieces:  # each ends in the middle of a message
                await stream.send_all(piece)
                await trio.sleep(0.02)
            await until(lambda: len(fixture.user.messages) == 30)
            await trio.sleep(0.3)  # nothing has begun: there is no hurry
            await stream.send_all(OPTIONS)
            await until(lambda: len(fixture.user.messages) == 31)
            assert not fixture.counters.drops

    trio.run(test)


@asynccontextmanager
async def pinging(
    fixture: Fixture, ping_s: float, idle_s: float = 600
) -> AsyncIterator[tuple[NotingUser, SipCounters]]:
    """A transport that has opened a connection to the fixture, and pings."""
    user, counters = NotingUser(), SipCounters()
    transport = StreamTransport(user, counters, limits=StreamLimits(ping_s=ping_s, idle_s=idle_s))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(transport.serve)
        await trio.testing.wait_all_tasks_blocked()
        transport.connect("TCP", ("127.0.77.4", 0), fixture.address)
        yield user, counters
        nursery.cancel_scope.cancel()


def test_our_keep_alives() -> None:
    async def test() -> None:
        async with serving() as fixture, pinging(fixture, 0.01) as (user, counters):
            await until(lambda: len(fixture.transport) == 1)
            (connection,) = fixture.transport._connections.values()
            await until(lambda: connection._parser.pings >= 5)
            # between pongs, messages come as ever
            fixture.transport.send(connection.flow, OPTIONS)
            await until(lambda: user.messages)
            assert not user.lost
            assert not user.errors
            assert not counters.drops

    trio.run(test)


def test_keep_alives_do_not_keep_us_from_closing_what_is_idle() -> None:
    async def test() -> None:
        async with serving() as fixture, pinging(fixture, 0.01, idle_s=0.1) as (user, _):
            await until(lambda: user.lost)
            assert user.lost[0][1] == "idle"

    trio.run(test)


def test_no_pong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "PONG_S", 0.05)

    async def test() -> None:
        with socket.create_server(("127.0.77.9", 0)) as deaf:
            fixture = Fixture()
            fixture.address = deaf.getsockname()
            async with pinging(fixture, 0.01) as (user, counters):
                await until(lambda: user.lost)
                assert user.lost[0][1] == "no pong"
                assert counters.drops == {"no pong": 1}
        fixture.transport.close()

    with_deadline(test)


def with_deadline(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        with trio.fail_after(10):
            await test()

    trio.run(bounded)


def test_ping_of_the_peer_while_our_pong_is_due() -> None:
    parser = StreamParser()
    parser.pongs_due = 1
    parser.receive_bytes(b"\r\n\r\n\r\n" + OPTIONS)
    assert parser.next_message() is not None
    assert (parser.pings, parser.pongs_due) == (1, 0)
    parser.receive_bytes(b"\r\n")
    assert parser.next_message() is None
    assert parser.pings == 1
    assert not parser.is_midway


def test_dead_peers_are_noticed_by_the_kernel() -> None:
    async def test() -> None:
        async with serving() as fixture, await fixture.connect():
            await until(lambda: len(fixture.transport) == 1)
            (accepted,) = fixture.transport._connections.values()
            timeout_ms = accepted._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
            assert timeout_ms == connection.UNACKNOWLEDGED_MS

    trio.run(test)
