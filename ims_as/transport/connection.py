"""One stream connection, in either direction: plain TCP, and TLS over it.

It is written to without waiting: what cannot be sent at once is queued up to `MAX_QUEUED_BYTES`, and sent by the
connection's own writer task. A peer that does not read therefore loses its connection, not our memory. Its reader task
feeds a `StreamParser`; a message that has begun must be there soon, so a peer that drips bytes loses its connection
too. A double CRLF is answered by a CRLF, and sent on connections of ours where that is wanted (RFC 5626 §3.5.1).
"""

from __future__ import annotations

import math
import random
import socket
from typing import Final, Protocol

import attrs
import trio

from ims_as.sip.counters import SipCounters
from ims_as.sip.errors import SipParseError
from ims_as.sip.flow import DEFAULT_PORTS, Flow
from ims_as.sip.message import Request, Response
from ims_as.sip.parser import StreamParser
from ims_as.transport.identity import is_identity
from ims_as.transport.tls import TlsContexts, tls_failure

__all__ = ["Connection", "ConnectionOwner", "StreamLimits", "StreamUser", "TlsConnection"]

MAX_QUEUED_BYTES: Final = 1 << 20
"""Some 700 messages that a peer has not read: it has stopped reading."""
CONNECT_DEADLINE_S: Final = 2.0
"""A second SYN is sent after one second; who does not answer that either is to be given up while the caller waits."""
HANDSHAKE_DEADLINE_S: Final = 5.0
"""Of TLS: two round trips and some arithmetic."""
CLOSE_S: Final = 0.5
"""For the last record of TLS, to a peer that may not read."""
READ_BYTES: Final = 65_536
READS_PER_WAKE_UP: Final = 16
"""Then other tasks get their turn."""
UNACKNOWLEDGED_MS: Final = 32_000
"""64*T1: a peer that has acknowledged nothing by then is dead; the kernel alone would try for a quarter of an hour."""
PONG_S: Final = 10.0
"""RFC 5626 §4.4.1."""


@attrs.frozen
class StreamLimits:
    """What connections may take."""

    total: int = 1024
    """An application server talks to a handful of S-CSCFs and MGCFs; each costs a descriptor and some KiB."""
    per_host: int = 128
    """Accepted from one address."""
    idle_s: float = 600.0
    """Closed after so long without a message or a ping of the peer; 0: never. Longer than any transaction; a proxy that
    keeps its connection up sends keep-alives every two minutes or so."""
    message_s: float = 10.0
    """From the first byte of a message to its last."""
    ping_s: float = 0.0
    """Keep-alives on connections that we have opened; 0: none."""


class StreamUser(Protocol):
    """Who gets what the connections read; none of these may raise, except for bugs."""

    def is_trusted(self, host: str) -> bool: ...
    def receive_message_untrusted(self, message: Request | Response, flow: Flow) -> bool: ...
    def receive_error_untrusted(self, error: SipParseError, data: bytes, flow: Flow) -> None: ...
    def receive_connection_open(self, connection: int) -> None: ...
    def receive_connection_lost(self, connection: int, reason: str) -> None: ...


class ConnectionOwner(Protocol):
    """The table that a connection is in."""

    user: StreamUser
    counters: SipCounters
    limits: StreamLimits

    def forget(self, connection: Connection, reason: str) -> None: ...
    def add_alias(self, connection: Connection, port: int) -> None: ...


class Connection:
    """A TCP connection, accepted or still to be opened."""

    def __init__(self, owner: ConnectionOwner, sock: socket.socket, flow: Flow, *, is_ours: bool) -> None:
        self.flow = flow
        self.is_ours = is_ours
        """We open it; else it was accepted."""
        self.last_used = trio.current_time()
        self._owner = owner
        self._socket = sock
        self._is_open = False
        self._is_closed = False
        self._queue = bytearray()
        self._wake_writer = trio.Event()
        self._scope = trio.CancelScope()
        self._arrival = trio.CancelScope()
        """Around the reader; its deadline is that of a message which has begun."""
        self._parser = StreamParser()
        self._pong_by = math.inf
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS)

    def leads_to(self, domain: str) -> bool:
        """Whether a request for that domain may use this connection."""
        return True

    def send(self, data: bytes) -> None:
        self.last_used = trio.current_time()
        self._put(data)

    def _put(self, data: bytes) -> None:
        if self._is_open and not self._queue:
            try:
                n_sent = self._send_now(data)
            except OSError as error:
                self.close(error.strerror or "broken")
                return
            if n_sent == len(data):
                return
            data = data[n_sent:]
        if len(self._queue) + len(data) > MAX_QUEUED_BYTES:
            self._owner.counters.drops["peer does not read"] += 1
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
        self._owner.forget(self, reason)

    async def run(self) -> None:
        """Connect if needed, then read and write until the end of the connection. Safe to cancel: it closes."""
        reason = "closed"
        try:
            with self._scope:
                if self.is_ours:
                    await self._connect()
                await self._secure()
                self._is_open = True
                if self.is_ours:
                    assert self.flow.connection is not None
                    self._owner.user.receive_connection_open(self.flow.connection)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write)
                    nursery.start_soon(self._watch)
                    with self._arrival:
                        reason = await self._read()
                    if self._arrival.cancelled_caught:
                        reason = "slow sender"
                        self._owner.counters.drops[reason] += 1
                    nursery.cancel_scope.cancel()
        except* OSError as group:
            reason = str(group.exceptions[0])
        finally:
            self.close(reason)
            await self._finish()

    async def _connect(self) -> None:
        sock = trio.socket.from_stdlib_socket(self._socket)
        try:
            with trio.fail_after(CONNECT_DEADLINE_S):
                await sock.connect(self.flow.remote)
        except trio.TooSlowError as error:
            raise TimeoutError("connect timed out") from error

    async def _secure(self) -> None:
        """What is to be done before the first byte of SIP."""

    async def _finish(self) -> None:
        """What is to be done after the last one; safe from cancellation."""
        self._socket.close()

    def _send_now(self, data: bytes) -> int:
        """As much as goes without waiting; how much that is."""
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0

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

    async def _watch(self) -> None:
        """Raises TimeoutError when the connection is of no use any more."""
        limits = self._owner.limits
        ping_s = limits.ping_s if self.is_ours else 0.0
        ping_at = trio.current_time() + _spread(ping_s) if ping_s else math.inf
        while True:
            now = trio.current_time()
            idle_at = self.last_used + limits.idle_s if limits.idle_s else math.inf
            if now >= idle_at:
                raise TimeoutError("idle")
            if now >= self._pong_by:
                self._owner.counters.drops["no pong"] += 1
                raise TimeoutError("no pong")
            if now >= ping_at:
                self._put(b"\r\n\r\n")
                self._parser.pongs_due = 1
                self._pong_by = min(self._pong_by, now + PONG_S)
                ping_at = now + _spread(ping_s)
            await trio.sleep_until(min(idle_at, ping_at, self._pong_by))

    async def _read(self) -> str:
        """Until the end; why it ended."""
        sock = self._socket
        while True:
            await trio.lowlevel.wait_readable(sock)
            for _ in range(READS_PER_WAKE_UP):
                try:
                    data = sock.recv(READ_BYTES)
                except BlockingIOError:
                    break
                reason = self._take_untrusted(data)
                if reason is not None:
                    return reason
            else:
                await trio.lowlevel.checkpoint()

    def _take_untrusted(self, data: bytes) -> str | None:
        """What was read, b"" at the end of the stream; why the connection has to end, or None."""
        if not data:
            return "closed by peer"
        parser = self._parser
        if self._pong_by == math.inf or len(data) > 2:
            self.last_used = trio.current_time()
        self._pong_by = math.inf  # whatever it says, it is alive
        n_pings = parser.pings
        parser.receive_bytes(data)
        n_messages = self._take_messages(data)
        if n_messages is None:
            return "unusable stream"
        if parser.pings > n_pings:
            self.send(b"\r\n" * (parser.pings - n_pings))
        arrival = self._arrival
        if not parser.is_midway:
            if arrival.deadline != math.inf:
                arrival.deadline = math.inf
        elif n_messages or arrival.deadline == math.inf:
            arrival.deadline = trio.current_time() + self._owner.limits.message_s
        return "closed" if self._is_closed else None

    def _take_messages(self, data: bytes) -> int | None:
        """How many there were; None when the stream is of no use any more."""
        parser, user = self._parser, self._owner.user
        n_messages = 0
        while True:
            try:
                message = parser.next_message()
            except SipParseError as error:
                user.receive_error_untrusted(error, data, self.flow)
                if error.fatal:
                    return None
                n_messages += 1
                continue
            if message is None:
                return n_messages
            n_messages += 1
            self._note_untrusted(message)
            if not user.receive_message_untrusted(message, self.flow):
                return None

    def _note_untrusted(self, message: Request | Response) -> None:
        """A message, before its user gets it."""


def _spread(seconds: float) -> float:
    """RFC 5626 §4.4.1: between 80 and 100 %, so that not all come at once."""
    return seconds * (0.8 + 0.2 * random.random())


class TlsConnection(Connection):
    """The same through TLS, with the peer's identity checked before the first message (RFC 5922 §7.3, §7.4).

    Args:
        domain: whose certificate it must be where we open the connection: what was asked for, not its address.
    """

    def __init__(
        self,
        owner: ConnectionOwner,
        sock: socket.socket,
        flow: Flow,
        *,
        is_ours: bool,
        tls: TlsContexts,
        domain: str = "",
    ) -> None:
        super().__init__(owner, sock, flow, is_ours=is_ours)
        self.identities: frozenset[str] = frozenset()
        """Of the peer, verified; none before the end of the handshake."""
        self._domain = domain.lower()
        self._tls = tls
        self._stream: trio.SSLStream[trio.SocketStream]

    def leads_to(self, domain: str) -> bool:
        return (self.is_ours and domain.lower() == self._domain) or is_identity(self.identities, domain)

    def _note_untrusted(self, message: Request | Response) -> None:
        """RFC 5923: a peer whose certificate is that of its Via takes requests on the connection that it has opened."""
        if self.is_ours or not self.identities or not isinstance(message, Request):
            return
        via = message.via
        if via.param("alias") is not None and is_identity(self.identities, via.host):
            self._owner.add_alias(self, via.port or DEFAULT_PORTS["TLS"])

    async def _secure(self) -> None:
        tls = self._tls
        try:
            self._stream = trio.SSLStream(
                trio.SocketStream(trio.socket.from_stdlib_socket(self._socket)),
                tls.client if self.is_ours else tls.server,
                server_hostname=self._domain if self.is_ours else None,
                server_side=not self.is_ours,
            )
            with trio.fail_after(HANDSHAKE_DEADLINE_S):
                await self._stream.do_handshake()
            certificate = self._stream.getpeercert()
            self.identities = tls.check_peer(certificate, self._domain if self.is_ours else None)
        except trio.TooSlowError as error:
            raise self._failure(TimeoutError()) from error
        except (OSError, ValueError, trio.BrokenResourceError) as error:
            raise self._failure(error) from error

    async def _finish(self) -> None:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_S):
            if self._is_open:
                await self._stream.aclose()  # says so to the peer (close_notify), and waits for no answer
        self._socket.close()

    def _failure(self, error: Exception) -> OSError:
        reason = f"TLS: {tls_failure(error)}"
        self._owner.counters.drops[reason] += 1
        return OSError(reason)

    def _send_now(self, data: bytes) -> int:
        return 0  # by the writer task, which may wait

    async def _write(self) -> None:
        try:
            while True:
                await self._wake_writer.wait()
                self._wake_writer = trio.Event()
                while self._queue:
                    data = bytes(self._queue[:READ_BYTES])
                    del self._queue[: len(data)]
                    await self._stream.send_all(data)
        except trio.BrokenResourceError as error:
            raise OSError("broken") from error

    async def _read(self) -> str:
        try:
            while True:
                data = bytes(await self._stream.receive_some(READ_BYTES))
                reason = self._take_untrusted(data)
                if reason is not None:
                    return reason
        except trio.BrokenResourceError as error:
            if self._is_closed:
                return "closed"
            if tls_failure(error) == "closed by peer":
                return "closed by peer"  # without close_notify: no news, messages have their own length
            # with TLS 1.3 a peer that refuses our certificate says so only now
            raise self._failure(error) from error
