"""One stream connection under trio: bytes in, frames out, each message one write. TCP here; `tls`, `sctp` build on it.

Works on a plain non-blocking socket with trio's readiness calls. A message is written in the call that sends it, so
sending never needs a task switch; only what the kernel does not take is queued (bounded) for the writer task. Under
load, when one read has brought several messages, those that go out in turn are gathered for a moment, at most one
segment of whole messages: some HSSes do not put a message together again that comes in two segments. Hence also
TCP_NODELAY, and a write of its own for each message that does not fit.
"""

from __future__ import annotations

import errno
import os
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio

from diameter.errors import FramingError
from diameter.framing import MessageFramer
from diameter.waiting import Parked

__all__ = [
    "Connection",
    "accept_streams",
    "connect_stream",
    "connect_tcp",
    "format_peer",
    "listen_tcp",
    "open_listener",
    "tune_tcp",
]

# one read; several messages of usual size
_READ_BYTES = 64 * 1024
# a peer that does not read while four of the largest messages wait is as good as lost
MAX_QUEUED_BYTES = 2 * 1024 * 1024
# frames taken out of one read before other tasks get their turn: a call takes some fifteen turns, so that under a flood
# of notifications (0.1 ms each) it comes some 15 ms later
_FRAMES_PER_TURN = 8


class Connection:
    """A connected socket.

    Args:
        segment_bytes: what one write of several messages may have; 0: never several (over SCTP they are its messages).

    Attributes:
        name: `host:port` of the far end, for logs.
        end_reason: why it ended, "" while it has not or when one side just closed it; a constant phrase.
    """

    def __init__(self, sock: socket.socket, name: str, *, segment_bytes: int = 0) -> None:
        self._sock = sock
        self._framer = MessageFramer()
        self._segment_bytes = segment_bytes
        self._is_gathering = False
        self._is_handing_out = False
        # written before anything else; empty while anything is queued
        self._gathered: list[bytes] = []
        self._gathered_bytes = 0
        self._queue: deque[memoryview] = deque()
        self._queued_bytes = 0
        self._writer = Parked()
        self._is_closed = False
        self._is_finished = False
        self.name = name
        self.end_reason = ""

    @property
    def queued_bytes(self) -> int:
        """What the peer has not taken yet, apart from what the system holds for it."""
        return self._queued_bytes

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    @property
    def local_host(self) -> str:
        """Our own address on this connection."""
        return str(self._sock.getsockname()[0])

    def vouches_for(self, origin_host: str) -> bool:
        """Whether the far end may call itself that. Without TLS nobody knows better."""
        return True

    def send(self, frame: bytes) -> bool:
        """Writes one whole message, now or in a moment; never waits.

        Returns:
            False when the connection is closed, or had to be closed now because the peer does not read.
        """
        if self._is_closed:
            return False
        if not self._is_gathering or self._queue:
            return self._write(frame)
        size = len(frame)
        if self._gathered_bytes + size > self._segment_bytes:
            if not self._flush():
                return False
            if size > self._segment_bytes or self._queue:
                return self._write(frame)
        self._gathered.append(frame)
        self._gathered_bytes += size
        if not self._is_handing_out:
            self._writer.wake()
        return True

    def _flush(self) -> bool:
        """Writes what is gathered; the answer is that of `send`."""
        if not self._gathered:
            return True
        octets = self._gathered[0] if len(self._gathered) == 1 else b"".join(self._gathered)
        self._gathered.clear()
        self._gathered_bytes = 0
        return self._write(octets)

    def _write(self, octets: bytes) -> bool:
        if not self._queue:
            try:
                n_sent = self._sock.send(octets)
            except (BlockingIOError, InterruptedError):
                n_sent = 0
            except OSError:
                self.close()
                return False
            if n_sent == len(octets):
                return True
            self._enqueue(memoryview(octets)[n_sent:])
        else:
            self._enqueue(memoryview(octets))
        if self._queued_bytes > MAX_QUEUED_BYTES:
            self.end_reason = "peer does not read"
            self.close()
            return False
        return True

    async def run(self, on_frame: Callable[[bytes], None]) -> None:
        """Reads until the far end closes, the connection is closed, or the stream is not Diameter.

        `on_frame` gets every whole message, in order; it must not block. Cancelling closes the connection.

        Raises:
            FramingError: the message boundary is lost. The connection is closed then.
        """
        broken: FramingError | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write_loop)
            try:
                await self._read_loop(on_frame)
            except FramingError as error:
                # raised below: the nursery would wrap it into a group
                broken = error
                self.end_reason = error.reason
            finally:
                self.close()
                nursery.cancel_scope.cancel()
        if broken is not None:
            raise broken

    def close(self) -> None:
        """Closes the socket; what the kernel has not taken is dropped. Wakes reader and writer. Safe to call twice."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._gathered:
            with suppress(OSError):
                self._sock.send(b"".join(self._gathered))
            self._gathered.clear()
        self._queue.clear()
        self._queued_bytes = 0
        trio.lowlevel.notify_closing(self._sock)
        self._sock.close()
        self._writer.wake()

    def _enqueue(self, rest: memoryview) -> None:
        self._queue.append(rest)
        self._queued_bytes += len(rest)
        self._writer.wake()

    def _decode(self, chunk: bytes) -> bytes:
        """What a read has brought, as Diameter. Called with b"" first: something may have come with a handshake."""
        return chunk

    async def _read_loop(self, on_frame: Callable[[bytes], None]) -> None:
        await self._hand_out(self._decode(b""), on_frame)
        while not self._is_finished and await self._wait(trio.lowlevel.wait_readable):
            try:
                chunk = self._sock.recv(_READ_BYTES)
            except (BlockingIOError, InterruptedError):
                continue
            except OSError:
                return
            if not chunk:
                return
            await self._hand_out(self._decode(chunk), on_frame)

    async def _hand_out(self, octets: bytes, on_frame: Callable[[bytes], None]) -> None:
        framer = self._framer
        framer.receive_bytes(octets)
        can_gather = self._segment_bytes > 0
        n_frames = n_this_turn = 0
        while not self._is_closed:
            # what is sent meanwhile is written here, what other tasks send because of it by the writer
            self._is_handing_out = self._is_gathering = can_gather
            while n_this_turn < _FRAMES_PER_TURN and (frame := framer.next_message_untrusted()) is not None:
                on_frame(frame)
                n_this_turn += 1
                if self._is_closed:
                    return
            n_frames += n_this_turn
            self._is_handing_out = False
            self._is_gathering = can_gather and n_frames > 1
            self._flush()
            if n_this_turn < _FRAMES_PER_TURN:
                return
            n_this_turn = 0
            await trio.lowlevel.checkpoint()

    async def _write_loop(self) -> None:
        while not self._is_closed:
            self._flush()
            if not self._queue:
                await self._writer.sleep()
                continue
            if not await self._wait(trio.lowlevel.wait_writable):
                return
            try:
                n_sent = self._sock.send(self._queue[0])
            except (BlockingIOError, InterruptedError):
                continue
            except OSError:
                self.close()
                return
            self._queued_bytes -= n_sent
            if n_sent == len(self._queue[0]):
                self._queue.popleft()
            else:
                self._queue[0] = self._queue[0][n_sent:]

    async def _wait(self, wait: Callable[[socket.socket], Awaitable[None]]) -> bool:
        """Waits for readiness; False when the socket is closed or was closed meanwhile."""
        if self._is_closed:
            return False
        try:
            await wait(self._sock)
        except (trio.ClosedResourceError, OSError):
            return False
        return True


async def connect_tcp(host: str, port: int, *, source_host: str | None = None) -> Connection:
    """Opens a connection over TCP; see `connect_stream`."""
    sock, name = await connect_stream(host, port, source_host=source_host)
    return _tcp_connection(sock, name)


async def listen_tcp(
    host: str,
    port: int,
    on_connection: Callable[[Connection], None],
    *,
    task_status: trio.TaskStatus[tuple[str, int]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Accepts until cancelled; started with the bound (host, port). `on_connection` owns what it gets.

    Raises:
        OSError: cannot bind.
    """
    with open_listener(host, port) as listener:
        task_status.started(listener.getsockname()[:2])
        await accept_streams(listener, lambda sock, name: on_connection(_tcp_connection(sock, name)))


def _tcp_connection(sock: socket.socket, name: str) -> Connection:
    try:
        segment_bytes = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)
    except OSError:
        segment_bytes = 0  # it has ended already, which the first read tells
    return Connection(tune_tcp(sock), name, segment_bytes=segment_bytes)


def tune_tcp(sock: socket.socket) -> socket.socket:
    """A message must not wait for the acknowledgement of the one before."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


async def connect_stream(
    host: str, port: int, *, source_host: str | None = None, protocol: int = socket.IPPROTO_TCP
) -> tuple[socket.socket, str]:
    """A connected, non-blocking stream socket, and the far end as `host:port`.

    The name is looked up anew and all its addresses are tried in the order of the system (RFC 6724); where the caller
    has set a deadline, each gets an equal share of what is left of it, so that one dead address does not use up all.

    Args:
        host: name or address.
        source_host: own address; addresses of the other family are passed over.
        protocol: IPPROTO_TCP or IPPROTO_SCTP.

    Raises:
        OSError: unknown name; or refused or unreachable, as the last address said. Cancelling closes the socket.
    """
    family = socket.AF_UNSPEC if source_host is None else _family(source_host)
    found = await trio.socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    failure: OSError = TimeoutError(errno.ETIMEDOUT, "no address answered in time")
    for n_left, (family, _, _, _, address) in zip(range(len(found), 0, -1), found, strict=True):
        now = trio.current_time()
        with trio.move_on_at(now + (trio.current_effective_deadline() - now) / n_left):
            try:
                return await _connect_one(family, protocol, address, source_host), format_peer(host, port)
            except OSError as error:
                failure = error
    raise failure


async def _connect_one(
    family: int, protocol: int, address: tuple[object, ...], source_host: str | None
) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM, protocol)
    try:
        sock.setblocking(False)
        if source_host is not None:
            sock.bind((source_host, 0))
        error = sock.connect_ex(address)
        if error == errno.EINPROGRESS:
            await trio.lowlevel.wait_writable(sock)
            error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        else:
            await trio.lowlevel.checkpoint()
        if error:
            raise OSError(error, os.strerror(error))
    except BaseException:
        sock.close()
        raise
    return sock


def open_listener(host: str, port: int, *, protocol: int = socket.IPPROTO_TCP) -> socket.socket:
    """A bound, listening, non-blocking socket; `host` is an address.

    Raises:
        OSError: cannot bind.
    """
    listener = socket.socket(_family(host), socket.SOCK_STREAM, protocol)
    try:
        listener.setblocking(False)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if listener.family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((host, port))
        listener.listen(128)
    except BaseException:
        listener.close()
        raise
    return listener


async def accept_streams(listener: socket.socket, on_socket: Callable[[socket.socket, str], None]) -> None:
    """Accepts until cancelled; `on_socket` owns the socket, which is non-blocking, and gets its far end as a name."""
    while True:
        await trio.lowlevel.wait_readable(listener)
        try:
            sock, address = listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                # nothing can be accepted until something is closed: do not spin
                await trio.sleep(0.1)
                continue
            if error.errno in (errno.ECONNABORTED, errno.EPROTO, errno.EAGAIN, errno.EINTR):
                continue
            raise
        sock.setblocking(False)
        on_socket(sock, format_peer(address[0], address[1]))


def format_peer(host: str, port: int) -> str:
    """`host:port`, IPv6 in []."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _family(host: str) -> int:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
