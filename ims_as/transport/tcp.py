"""SIP over TCP (RFC 3261 §18): listeners, connections that are reused, bounded queues.

A connection is written to without waiting; what the kernel does not take is queued up to `MAX_QUEUED_BYTES` and sent by
the connection's own writer task. A peer that does not read therefore loses its connection, not our memory. One reader
task per connection feeds a `StreamParser`; a double CRLF is answered by a CRLF (RFC 5626 §3.5.1). An idle connection is
closed after `IDLE_DEADLINE_S`; the number of connections is bounded, and above it new ones are closed at once.
"""

from __future__ import annotations

import socket
from typing import Final, Protocol

import trio

from ims_as.sip.counters import SipCounters
from ims_as.sip.errors import SipParseError
from ims_as.sip.flow import Flow
from ims_as.sip.message import Request, Response
from ims_as.sip.parser import StreamParser

__all__ = ["StreamUser", "TcpTransport"]

MAX_CONNECTIONS: Final = 1024
"""An application server talks to a handful of S-CSCFs and MGCFs; each connection costs a descriptor and a few KiB."""
MAX_QUEUED_BYTES: Final = 1 << 20
"""Some 700 messages that a peer has not read: it has stopped reading."""
IDLE_DEADLINE_S: Final = 600.0
"""Longer than any transaction; a proxy that keeps its connection up sends keep-alives every two minutes or so."""
CONNECT_DEADLINE_S: Final = 4.0
"""As the longest guard of an S-CSCF: later, nobody waits for the request any more."""
READ_BYTES: Final = 65_536
READS_PER_WAKE_UP: Final = 16
"""Then other tasks get their turn."""
BACKLOG: Final = 256


class StreamUser(Protocol):
    """Who gets what the connections read; none of these may raise, except for bugs."""

    def is_trusted(self, host: str) -> bool: ...
    def receive_message_untrusted(self, message: Request | Response, flow: Flow) -> bool: ...
    def receive_error_untrusted(self, error: SipParseError, data: bytes, flow: Flow) -> None: ...
    def receive_connection_lost(self, connection: int, reason: str) -> None: ...


class _Connection:
    """One stream, in either direction."""

    def __init__(self, transport: TcpTransport, sock: socket.socket, flow: Flow, *, is_open: bool) -> None:
        self.flow = flow
        self.last_used = trio.current_time()
        self._transport = transport
        self._socket = sock
        self._is_open = is_open
        self._is_closed = False
        self._queue = bytearray()
        self._wake_writer = trio.Event()
        self._scope = trio.CancelScope()

    def send(self, data: bytes) -> None:
        self.last_used = trio.current_time()
        if self._is_open and not self._queue:
            try:
                n_sent = self._socket.send(data)
            except BlockingIOError:
                n_sent = 0
            except OSError as error:
                self.close(error.strerror or "broken")
                return
            if n_sent == len(data):
                return
            data = data[n_sent:]
        if len(self._queue) + len(data) > MAX_QUEUED_BYTES:
            self._transport.counters.drops["peer does not read"] += 1
            self.close("peer does not read")
            return
        self._queue += data
        self._wake_writer.set()

    def close(self, reason: str) -> None:
        """Idempotent; transactions that wait on this connection learn of it."""
        if self._is_closed:
            return
        self._is_closed = True
        self._scope.cancel()  # run() closes the socket when nobody waits on it any more
        assert self.flow.connection is not None
        self._transport.forget(self, reason)

    async def run(self) -> None:
        """Connect if needed, then read and write until the end of the connection. Safe to cancel: it closes."""
        reason = "closed"
        try:
            with self._scope:
                if not self._is_open:
                    await self._connect()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write)
                    nursery.start_soon(self._watch_idle)
                    reason = await self._read()
                    nursery.cancel_scope.cancel()
        except* OSError as group:
            error = group.exceptions[0]
            reason = str(error)
        finally:
            self.close(reason)
            self._socket.close()

    async def _connect(self) -> None:
        sock = trio.socket.from_stdlib_socket(self._socket)
        try:
            with trio.fail_after(CONNECT_DEADLINE_S):
                await sock.connect(self.flow.remote)
        except trio.TooSlowError as error:
            raise TimeoutError("connect timed out") from error
        self._is_open = True

    async def _write(self) -> None:
        while True:
            await self._wake_writer.wait()
            self._wake_writer = trio.Event()
            while self._queue:
                try:
                    n_sent = self._socket.send(self._queue)
                except BlockingIOError:
                    await trio.lowlevel.wait_writable(self._socket)
                    continue
                del self._queue[:n_sent]

    async def _watch_idle(self) -> None:
        while True:
            left = self.last_used + IDLE_DEADLINE_S - trio.current_time()
            if left <= 0:
                raise TimeoutError("idle")
            await trio.sleep(left)

    async def _read(self) -> str:
        parser = StreamParser()
        sock = self._socket
        n_pongs = 0
        while True:
            await trio.lowlevel.wait_readable(sock)
            for _ in range(READS_PER_WAKE_UP):
                try:
                    data = sock.recv(READ_BYTES)
                except BlockingIOError:
                    break
                if not data:
                    return "closed by peer"
                self.last_used = trio.current_time()
                parser.receive_bytes(data)
                if not self._take_messages(parser, data):
                    return "unusable stream"
                if parser.pings > n_pongs:
                    self.send(b"\r\n" * (parser.pings - n_pongs))
                    n_pongs = parser.pings
                if self._is_closed:
                    return "closed"
            else:
                await trio.lowlevel.checkpoint()

    def _take_messages(self, parser: StreamParser, data: bytes) -> bool:
        user = self._transport.user
        while True:
            try:
                message = parser.next_message()
            except SipParseError as error:
                user.receive_error_untrusted(error, data, self.flow)
                if error.fatal:
                    return False
                continue
            if message is None:
                return True
            if not user.receive_message_untrusted(message, self.flow):
                return False


class TcpTransport:
    """All TCP listeners and connections of an endpoint."""

    def __init__(self, user: StreamUser, counters: SipCounters, *, max_connections: int = MAX_CONNECTIONS) -> None:
        self.user = user
        self.counters = counters
        self._max_connections = max_connections
        self._nursery: trio.Nursery | None = None
        self._listeners: list[socket.socket] = []
        self._connections: dict[int, _Connection] = {}
        self._by_remote: dict[tuple[str, int], _Connection] = {}
        self._last_number = 0

    def __len__(self) -> int:
        return len(self._connections)

    def bind(self, host: str, port: int) -> tuple[str, int]:
        """Listen; returns the bound address.

        Raises:
            OSError: the address cannot be bound.
        """
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((host, port))
            sock.listen(BACKLOG)
        except OSError:
            sock.close()
            raise
        self._listeners.append(sock)
        address: tuple[str, int] = sock.getsockname()[:2]
        return address

    async def serve(self) -> None:
        """Accept and run connections until cancelled; then everything is closed."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                for listener in self._listeners:
                    nursery.start_soon(self._accept, listener)
                await trio.sleep_forever()
        finally:
            self._nursery = None
            self.close()

    def close(self) -> None:
        """Close the listeners; connections close with their tasks. Idempotent."""
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()

    async def _accept(self, listener: socket.socket) -> None:
        local: tuple[str, int] = listener.getsockname()[:2]
        while True:
            await trio.lowlevel.wait_readable(listener)
            try:
                sock, address = listener.accept()
            except BlockingIOError:
                continue
            except OSError:
                # the peer has gone again, or we are out of descriptors: the others must go on meanwhile
                self.counters.drops["accept failed"] += 1
                await trio.sleep(0.05)
                continue
            remote: tuple[str, int] = address[:2]
            if not self.user.is_trusted(remote[0]):
                self.counters.drops["untrusted"] += 1
                sock.close()
            elif len(self._connections) >= self._max_connections:
                self.counters.drops["too many connections"] += 1
                sock.close()
            else:
                self._start(sock, local, remote, is_open=True)

    def connect(self, local: tuple[str, int], remote: tuple[str, int]) -> Flow:
        """The flow to a remote address: an open connection is reused (§18.1.1), else one is opened meanwhile.

        Raises:
            OSError: too many connections, or the transport is not running.
        """
        known = self._by_remote.get(remote)
        if known is not None:
            return known.flow
        if self._nursery is None:
            raise OSError("TCP is not running")
        if len(self._connections) >= self._max_connections:
            self.counters.drops["too many connections"] += 1
            raise OSError("too many connections")
        sock = socket.socket(socket.AF_INET6 if ":" in remote[0] else socket.AF_INET, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            sock.bind((local[0], 0))  # peers judge us by our address
        except OSError:
            sock.close()
            raise
        return self._start(sock, local, remote, is_open=False).flow

    def send(self, flow: Flow, data: bytes) -> bool:
        """Send or queue; False when the connection no longer exists."""
        assert flow.connection is not None
        connection = self._connections.get(flow.connection)
        if connection is None:
            return False
        connection.send(data)
        return True

    def _start(
        self, sock: socket.socket, local: tuple[str, int], remote: tuple[str, int], *, is_open: bool
    ) -> _Connection:
        assert self._nursery is not None
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._last_number += 1
        flow = Flow("TCP", local, remote, self._last_number)
        connection = _Connection(self, sock, flow, is_open=is_open)
        self._connections[self._last_number] = connection
        self._by_remote[remote] = connection
        self._nursery.start_soon(connection.run)
        return connection

    def forget(self, connection: _Connection, reason: str) -> None:
        """For the connection itself: it has ended."""
        number = connection.flow.connection
        assert number is not None
        self._connections.pop(number, None)
        if self._by_remote.get(connection.flow.remote) is connection:
            del self._by_remote[connection.flow.remote]
        self.user.receive_connection_lost(number, reason)
