"""One TCP connection: frames in order, one write per message, a peer that does not read."""

from __future__ import annotations

import socket

import pytest
import trio
import trio.testing

from diameter import transport
from diameter.errors import FramingError
from diameter.transport import Connection, connect_tcp, listen_tcp
from tests.diameter.support import HOST, free_port, run_trio, until
from tests.diameter.test_framing import build_frame


def build_pair() -> tuple[Connection, socket.socket]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    return Connection(ours, "pair"), theirs


def test_frames_arrive_in_order() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        connection, theirs = build_pair()
        frames = [build_frame(i, fill=i) for i in range(200)]
        stream = b"".join(frames)
        received: list[bytes] = []
        nursery.start_soon(connection.run, received.append)
        with theirs:
            for start in range(0, len(stream), 1000):
                theirs.send(stream[start : start + 1000])
                await trio.lowlevel.checkpoint()
            await until(lambda: len(received) == 200)
        assert received == frames
        await until(lambda: connection.is_closed)

    run_trio(scenario)


def test_broken_stream_ends_the_connection_with_the_one_error() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        connection, theirs = build_pair()
        received: list[bytes] = []
        with theirs:
            theirs.send(build_frame(1) + bytes(20))
            with pytest.raises(FramingError):
                await connection.run(received.append)
            assert theirs.recv(1) == b""
        assert received == [build_frame(1)]
        assert connection.is_closed
        assert not connection.send(build_frame(1))

    run_trio(scenario)


def test_each_message_is_one_write() -> None:
    writes: list[int] = []

    class Counting(socket.socket):
        def send(self, data, *rest):  # type: ignore[no-untyped-def]
            writes.append(len(data))
            return super().send(data, *rest)

    ours, theirs = socket.socketpair()
    connection = Connection(Counting(fileno=ours.detach()), "pair")

    async def scenario(nursery: trio.Nursery) -> None:
        for size in (1, 50, 2000):
            assert connection.send(build_frame(size))
        connection.close()

    run_trio(scenario)
    theirs.close()
    assert writes == [24, 220, 8020]


def test_peer_that_does_not_read_is_dropped_when_too_much_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "MAX_QUEUED_BYTES", 100_000)

    async def scenario(nursery: trio.Nursery) -> None:
        connection, theirs = build_pair()
        nursery.start_soon(connection.run, lambda frame: None)
        frame = build_frame(5000)
        with theirs:
            n_sent = 0
            while connection.send(frame):
                n_sent += 1
                assert n_sent < 1000
            assert connection.is_closed
            assert n_sent > 1

    run_trio(scenario)


def test_what_the_kernel_does_not_take_follows_later() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        connection, theirs = build_pair()
        nursery.start_soon(connection.run, lambda frame: None)
        frames = [build_frame(20_000, fill=i) for i in range(15)]
        for frame in frames:
            assert connection.send(frame)
        received = b""
        with theirs:
            while len(received) < len(frames) * len(frames[0]):
                try:
                    received += theirs.recv(1 << 20)
                except BlockingIOError:
                    await trio.sleep(0.001)
            assert received == b"".join(frames)

    run_trio(scenario)


def test_closing_wakes_the_reader() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        connection, theirs = build_pair()
        with theirs:
            async with trio.open_nursery() as inner:
                inner.start_soon(connection.run, lambda frame: None)
                await trio.testing.wait_all_tasks_blocked()
                connection.close()
                connection.close()

    run_trio(scenario)


def test_connect_and_listen() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        accepted: list[Connection] = []
        host, port = await nursery.start(listen_tcp, HOST, 0, accepted.append)
        connection = await connect_tcp(host, port, source_host="127.0.77.2")
        assert connection.local_host == "127.0.77.2"
        await until(lambda: len(accepted) == 1)
        assert accepted[0].name.startswith("127.0.77.2:")
        connection.close()
        accepted[0].close()

    run_trio(scenario)


def test_refused_connection() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        with pytest.raises(OSError):
            await connect_tcp(HOST, free_port())

    run_trio(scenario)


def test_one_byte_at_a_time() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        connection, theirs = build_pair()
        frames = [build_frame(0), build_frame(3), build_frame(0)]
        received: list[bytes] = []
        nursery.start_soon(connection.run, received.append)
        with theirs:
            for octet in b"".join(frames):
                theirs.send(bytes([octet]))
                await trio.testing.wait_all_tasks_blocked()
            await until(lambda: received == frames)

    run_trio(scenario)


def test_half_close_ends_the_connection_after_what_has_come() -> None:
    """Diameter has no half-closed connections; a message that was cut off is dropped."""

    async def scenario(nursery: trio.Nursery) -> None:
        connection, theirs = build_pair()
        received: list[bytes] = []
        with theirs:
            theirs.send(build_frame(1) + build_frame(2)[:-1])
            theirs.shutdown(socket.SHUT_WR)
            await connection.run(received.append)
            assert theirs.recv(1) == b""
        assert received == [build_frame(1)]
        assert connection.is_closed
        assert connection.end_reason == ""

    run_trio(scenario)


def test_tls_on_the_plain_port_is_no_diameter() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        connection, theirs = build_pair()
        with theirs:
            theirs.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
            with pytest.raises(FramingError, match="version is not 1"):
                await connection.run(lambda frame: None)
        assert connection.end_reason == "version is not 1"

    run_trio(scenario)
