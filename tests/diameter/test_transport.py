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


class Counting(socket.socket):
    """Notes the size of each write."""

    def send(self, data, *rest):  # type: ignore[no-untyped-def]
        self.writes.append(len(data))
        return super().send(data, *rest)

    writes: list[int]


def build_counting(segment_bytes: int) -> tuple[Connection, socket.socket, list[int]]:
    near, theirs = socket.socketpair()
    ours = Counting(fileno=near.detach())
    ours.writes = writes = []
    ours.setblocking(False)
    theirs.setblocking(False)
    return Connection(ours, "pair", segment_bytes=segment_bytes), theirs, writes


def test_each_message_is_one_write() -> None:
    connection, theirs, writes = build_counting(0)

    async def scenario(nursery: trio.Nursery) -> None:
        for size in (1, 50, 2000):
            assert connection.send(build_frame(size))
        connection.close()

    run_trio(scenario)
    theirs.close()
    assert writes == [24, 220, 8020]


@pytest.mark.parametrize(
    ("segment_bytes", "expected"),
    [(0, [24] * 11), (1460, [24 * 8, 24 * 3]), (50, [48] * 4 + [48, 24]), (20, [24] * 11)],
)
def test_replies_to_what_one_read_has_brought_share_a_segment(segment_bytes: int, expected: list[int]) -> None:
    connection, theirs, writes = build_counting(segment_bytes)

    async def scenario(nursery: trio.Nursery) -> None:
        with theirs:
            theirs.send(b"".join(build_frame(1, fill=n) for n in range(11)))
            nursery.start_soon(connection.run, lambda frame: connection.send(frame))
            await until(lambda: sum(writes) == 11 * 24)
            assert theirs.recv(1 << 16) == b"".join(build_frame(1, fill=n) for n in range(11))

    run_trio(scenario)
    assert writes == expected


@pytest.mark.parametrize(("n_read", "expected"), [(1, [24] * 6), (2, [144])])
def test_what_other_tasks_send_under_load_is_gathered(n_read: int, expected: list[int]) -> None:
    """Load is when one read brings several messages; else each goes out in the call that sends it."""
    connection, theirs, writes = build_counting(1460)

    async def scenario(nursery: trio.Nursery) -> None:
        received: list[bytes] = []
        nursery.start_soon(connection.run, received.append)
        with theirs:
            theirs.send(build_frame(1) * n_read)
            await until(lambda: len(received) == n_read)
            for n in range(6):
                assert connection.send(build_frame(1, fill=n))
                assert len(writes) == (n + 1 if n_read == 1 else 0)
            await trio.testing.wait_all_tasks_blocked()
            assert theirs.recv(1 << 16) == b"".join(build_frame(1, fill=n) for n in range(6))

    run_trio(scenario)
    assert writes == expected


def test_a_large_message_follows_what_was_gathered_before_it() -> None:
    connection, theirs, writes = build_counting(100)
    frames = [build_frame(n, fill=n) for n in (1, 2, 100, 3)]

    async def scenario(nursery: trio.Nursery) -> None:
        received: list[bytes] = []
        nursery.start_soon(connection.run, received.append)
        with theirs:
            theirs.send(build_frame(1) * 2)
            await until(lambda: len(received) == 2)
            for frame in frames:
                assert connection.send(frame)
            await trio.testing.wait_all_tasks_blocked()
            assert theirs.recv(1 << 16) == b"".join(frames)

    run_trio(scenario)
    assert writes == [24 + 28, 420, 32]


def test_closing_writes_what_was_gathered() -> None:
    connection, theirs, _ = build_counting(1460)

    async def scenario(nursery: trio.Nursery) -> None:
        received: list[bytes] = []
        nursery.start_soon(connection.run, received.append)
        theirs.send(build_frame(1) * 2)
        await until(lambda: len(received) == 2)
        assert connection.send(build_frame(3))
        connection.close()
        assert not connection.send(build_frame(4))
        with theirs:
            assert theirs.recv(1 << 16) == build_frame(3)
            assert theirs.recv(1) == b""

    run_trio(scenario)


def test_gathered_messages_count_when_the_peer_does_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "MAX_QUEUED_BYTES", 100_000)
    connection, theirs, _ = build_counting(60_000)

    async def scenario(nursery: trio.Nursery) -> None:
        received: list[bytes] = []
        nursery.start_soon(connection.run, received.append)
        with theirs:
            theirs.send(build_frame(1) * 2)
            await until(lambda: len(received) == 2)
            n_sent = 0
            while connection.send(build_frame(5000)):
                n_sent += 1
                assert n_sent < 1000
        assert connection.is_closed
        assert connection.end_reason == "peer does not read"

    run_trio(scenario)


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
