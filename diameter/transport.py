"""One TCP connection under trio: bytes in, frames out, each message one write.

Works on a plain non-blocking socket with trio's readiness calls. A message is written in the call that sends it, so
sending never needs a task switch; only what the kernel does not take is queued (bounded) for the writer task. Some
HSSes do not put a message together again that comes in two segments, hence one write for each and TCP_NODELAY.
"""

from __future__ import annotations

import errno
import socket
from collections import deque
from collections.abc import Awaitable, Callable

import trio

from diameter.errors import FramingError
from diameter.framing import MessageFramer

__all__ = ["Connection", "connect_tcp", "listen_tcp"]

# one read; several messages of usual size
_READ_BYTES = 64 * 1024
# a peer that does not read while four of the largest messages wait is as good as lost
MAX_QUEUED_BYTES = 2 * 1024 * 1024
# frames taken out of one read before other tasks get their turn
_FRAMES_PER_TURN = 64


class Connection:
    """A connected socket.

    Attributes:
        name: `host:port` of the far end, for logs.
    """

    def __init__(self, sock: socket.socket, name: str) -> None:
        self._sock = sock
        self._framer = MessageFramer()
        self._queue: deque[memoryview] = deque()
        self._queued_bytes = 0
        self._writable = trio.Event()
        self._is_closed = False
        self.name = name

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    @property
    def local_host(self) -> str:
        """Our own address on this connection."""
        return str(self._sock.getsockname()[0])

    def send(self, frame: bytes) -> bool:
        """Writes one whole message; never waits.

        Returns:
            False when the connection is closed, or had to be closed now because the peer does not read.
        """
        if self._is_closed:
            return False
        if not self._queue:
            try:
                n_sent = self._sock.send(frame)
            except (BlockingIOError, InterruptedError):
                n_sent = 0
            except OSError:
                self.close()
                return False
            if n_sent == len(frame):
                return True
            self._enqueue(memoryview(frame)[n_sent:])
        else:
            self._enqueue(memoryview(frame))
        if self._queued_bytes > MAX_QUEUED_BYTES:
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
            finally:
                self.close()
                nursery.cancel_scope.cancel()
        if broken is not None:
            raise broken

    def close(self) -> None:
        """Closes the socket; what is queued is dropped. Wakes reader and writer. Safe to call twice."""
        if self._is_closed:
            return
        self._is_closed = True
        self._queue.clear()
        self._queued_bytes = 0
        trio.lowlevel.notify_closing(self._sock)
        self._sock.close()
        self._writable.set()

    def _enqueue(self, rest: memoryview) -> None:
        self._queue.append(rest)
        self._queued_bytes += len(rest)
        self._writable.set()

    async def _read_loop(self, on_frame: Callable[[bytes], None]) -> None:
        framer = self._framer
        while await self._wait(trio.lowlevel.wait_readable):
            try:
                chunk = self._sock.recv(_READ_BYTES)
            except (BlockingIOError, InterruptedError):
                continue
            except OSError:
                return
            if not chunk:
                return
            framer.receive_bytes(chunk)
            n_frames = 0
            while not self._is_closed and (frame := framer.next_message_untrusted()) is not None:
                on_frame(frame)
                n_frames += 1
                if n_frames % _FRAMES_PER_TURN == 0:
                    await trio.lowlevel.checkpoint()
            if self._is_closed:
                return

    async def _write_loop(self) -> None:
        while not self._is_closed:
            if not self._queue:
                self._writable = trio.Event()
                await self._writable.wait()
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
    """Opens a connection.

    Raises:
        OSError: refused, unreachable, unknown name. Cancelling closes the socket.
    """
    addresses = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    family, _, _, _, address = addresses[0]
    sock = trio.socket.socket(family, socket.SOCK_STREAM)
    try:
        if source_host is not None:
            await sock.bind((source_host, 0))
        await sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return _adopt(sock, f"{host}:{port}")


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
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = trio.socket.socket(family, socket.SOCK_STREAM)
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        await listener.bind((host, port))
        listener.listen(128)
        task_status.started(listener.getsockname()[:2])
        while True:
            try:
                sock, address = await listener.accept()
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    # nothing can be accepted until something is closed: do not spin
                    await trio.sleep(0.1)
                    continue
                if error.errno in (errno.ECONNABORTED, errno.EPROTO):
                    continue
                raise
            on_connection(_adopt(sock, f"{address[0]}:{address[1]}"))


def _adopt(sock: trio.socket.SocketType, name: str) -> Connection:
    plain = socket.socket(fileno=sock.detach())
    plain.setblocking(False)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return Connection(plain, name)
