"""SIP over TCP and TLS (RFC 3261 §18): listeners, and connections that are reused in both directions.

A request takes an open connection to its next hop where there is one (§18.1.1); over TLS only one whose certificate is
of the domain asked for. The number of connections is bounded, and above it new ones are closed at once.
"""

from __future__ import annotations

import socket
from collections import Counter
from typing import Final

import trio

from ims_as.sip.counters import SipCounters
from ims_as.sip.flow import Flow
from ims_as.transport.connection import Connection, StreamLimits, StreamUser, TlsConnection
from ims_as.transport.tls import TlsContexts

__all__ = ["StreamLimits", "StreamTransport", "StreamUser"]

BACKLOG: Final = 256
MAX_ALIASES: Final = 4
"""Ports that a peer may name for one connection: it has one listener or two."""

Address = tuple[str, int]


class StreamTransport:
    """All TCP and TLS listeners and connections of an endpoint.

    Args:
        tls: None: TCP only.
    """

    def __init__(
        self,
        user: StreamUser,
        counters: SipCounters,
        *,
        tls: TlsContexts | None = None,
        limits: StreamLimits | None = None,
    ) -> None:
        self.user = user
        self.counters = counters
        self._tls = tls
        self.limits = StreamLimits() if limits is None else limits
        self._nursery: trio.Nursery | None = None
        self._listeners: list[tuple[str, socket.socket]] = []
        self._connections: dict[int, Connection] = {}
        self._by_remote: dict[tuple[str, Address], list[Connection]] = {}
        """Where they lead, the newest first; more than one per connection where it has aliases."""
        self._aliases: dict[int, set[int]] = {}
        self._accepted: Counter[str] = Counter()
        """By address of the peer."""
        self._last_number = 0

    def __len__(self) -> int:
        return len(self._connections)

    def bind(self, host: str, port: int, transport: str = "TCP") -> Address:
        """Listen for ``TCP`` or ``TLS``; returns the bound address.

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
        self._listeners.append((transport, sock))
        address: Address = sock.getsockname()[:2]
        return address

    async def serve(self) -> None:
        """Accept and run connections until cancelled; then everything is closed."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                for transport, listener in self._listeners:
                    nursery.start_soon(self._accept, transport, listener)
                await trio.sleep_forever()
        finally:
            self._nursery = None
            self.close()

    def close(self) -> None:
        """Close the listeners; connections close with their tasks. Idempotent."""
        for _, listener in self._listeners:
            listener.close()
        self._listeners.clear()

    async def _accept(self, transport: str, listener: socket.socket) -> None:
        local: Address = listener.getsockname()[:2]
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
            remote: Address = address[:2]
            if not self.user.is_trusted(remote[0]):
                self.counters.drops["untrusted"] += 1
                sock.close()
            elif len(self._connections) >= self.limits.total:
                self.counters.drops["too many connections"] += 1
                sock.close()
            elif self._accepted[remote[0]] >= self.limits.per_host:
                self.counters.drops["too many connections of a host"] += 1
                sock.close()
            else:
                self._start(transport, sock, local, remote, is_ours=False)

    def connect(self, transport: str, local: Address, remote: Address, domain: str = "") -> Flow:
        """The flow to a remote address: an open connection is reused (§18.1.1), else one is opened meanwhile.

        Args:
            domain: whose certificate the other side must have (TLS).

        Raises:
            OSError: too many connections, or the transport is not running.
        """
        for known in self._by_remote.get((transport, remote), ()):
            if known.leads_to(domain):
                return known.flow
        if self._nursery is None:
            raise OSError(f"{transport} is not running")
        if len(self._connections) >= self.limits.total:
            self.counters.drops["too many connections"] += 1
            raise OSError("too many connections")
        sock = socket.socket(socket.AF_INET6 if ":" in remote[0] else socket.AF_INET, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            sock.bind((local[0], 0))  # peers judge us by our address
        except OSError:
            sock.close()
            raise
        return self._start(transport, sock, local, remote, is_ours=True, domain=domain).flow

    def send(self, flow: Flow, data: bytes) -> bool:
        """Send or queue; False when the connection no longer exists."""
        assert flow.connection is not None
        connection = self._connections.get(flow.connection)
        if connection is None:
            return False
        connection.send(data)
        return True

    def _start(
        self, transport: str, sock: socket.socket, local: Address, remote: Address, *, is_ours: bool, domain: str = ""
    ) -> Connection:
        assert self._nursery is not None
        self._last_number += 1
        flow = Flow(transport, local, remote, self._last_number)
        connection: Connection
        if transport == "TLS":
            assert self._tls is not None
            connection = TlsConnection(self, sock, flow, is_ours=is_ours, tls=self._tls, domain=domain)
        else:
            connection = Connection(self, sock, flow, is_ours=is_ours)
        if not is_ours:
            self._accepted[remote[0]] += 1
        self._connections[self._last_number] = connection
        self._by_remote.setdefault((transport, remote), []).insert(0, connection)
        self._nursery.start_soon(connection.run)
        return connection

    def close_untrusted(self) -> None:
        """Cut the connections of peers that are no longer trusted; ours to others stay."""
        for connection in list(self._connections.values()):
            if not connection.is_ours and not self.user.is_trusted(connection.flow.remote[0]):
                connection.close("no longer trusted")

    def forget(self, connection: Connection, reason: str) -> None:
        """For the connection itself: it has ended."""
        flow = connection.flow
        assert flow.connection is not None
        self._connections.pop(flow.connection, None)
        for port in (flow.remote[1], *self._aliases.pop(flow.connection, ())):
            self._unlink(connection, port)
        if not connection.is_ours:
            self._accepted[flow.remote[0]] -= 1
            if not self._accepted[flow.remote[0]]:
                del self._accepted[flow.remote[0]]
        self.user.receive_connection_lost(flow.connection, reason)

    def add_alias(self, connection: Connection, port: int) -> None:
        """For the connection itself: requests to that port of its peer may use it (RFC 5923 §8)."""
        flow = connection.flow
        assert flow.connection is not None
        ports = self._aliases.setdefault(flow.connection, set())
        if port in ports or port == flow.remote[1] or len(ports) >= MAX_ALIASES:
            return
        ports.add(port)
        self._by_remote.setdefault((flow.transport, (flow.remote[0], port)), []).insert(0, connection)

    def _unlink(self, connection: Connection, port: int) -> None:
        key = connection.flow.transport, (connection.flow.remote[0], port)
        others = [other for other in self._by_remote.get(key, ()) if other is not connection]
        if others:
            self._by_remote[key] = others
        else:
            self._by_remote.pop(key, None)
