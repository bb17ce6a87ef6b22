"""The SIP endpoint on trio: sockets and the timer task around `ims_as.sip.core.EndpointCore`.

All methods are synchronous and send at once; the tasks are one per UDP socket, one per TCP listener and connection, and
one for all timers.
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import trio

from ims_as.sip.core import CONNECTION_GONE, EndpointCore, EndpointStats, Targets, WireEvent
from ims_as.sip.counters import SipCounters
from ims_as.sip.flow import Destination, Flow
from ims_as.sip.timers import TimerConfig
from ims_as.sip.transaction import (
    ClientEvent,
    ClientTransaction,
    ResponseReceived,
    ServerTransaction,
    TransactionTimeout,
    TransportFailure,
)
from ims_as.sip.transaction_layer import MAX_TRANSACTIONS, TransactionUser
from ims_as.transport.address import ListenAddress
from ims_as.transport.resolver import NameServers, Resolver, key_of
from ims_as.transport.streams import StreamLimits, StreamTransport
from ims_as.transport.tls import TlsContexts, TlsOptions
from ims_as.transport.udp import UdpListener

__all__ = [
    "ClientEvent",
    "ClientTransaction",
    "Destination",
    "Endpoint",
    "EndpointStats",
    "Flow",
    "ListenAddress",
    "ResponseReceived",
    "ServerTransaction",
    "SipCounters",
    "TransactionTimeout",
    "TransactionUser",
    "TransportFailure",
    "WireEvent",
]

TIMER_SLACK_S: Final = 0.002
"""The timer task sleeps this much longer than it need, so that timers close to each other share a wake-up."""
TOKENS_PER_CALL: Final = 128
"""Of the kernel's random numbers: 1 KiB costs it little more than 8 bytes."""
MAX_LOOK_UPS: Final = 64
"""Names being resolved at once; each may hold a thread."""


class TokenSource:
    """64 random bits as text, again and again; the kernel is asked for many at a time."""

    def __init__(self) -> None:
        self._digits = ""
        self._at = 0

    def __call__(self) -> str:
        at = self._at
        if at >= len(self._digits):
            self._digits = secrets.token_hex(8 * TOKENS_PER_CALL)
            at = 0
        self._at = at + 16
        return self._digits[at : at + 16]


class Endpoint(EndpointCore):
    """A SIP endpoint on UDP, TCP and TLS sockets.

    Args:
        listen: local addresses; port 0 lets the kernel choose, `addresses` tells what it chose.
        advertise: host and port for Via and Contact instead of the listeners' own.
        is_trusted: whether an IP address may speak to us; everybody by default.
        hosts: static names to address and port.
        dns: whom to ask for other names; those of the system by default.
        tls: certificates; without them there is no TLS.
        streams: bounds of TCP and TLS connections.

    Raises:
        ValueError: no listen address, or TLS without a certificate (`TlsSetupError`: with one that cannot be used).
    """

    def __init__(
        self,
        *,
        listen: Sequence[ListenAddress],
        advertise: tuple[str, int] | None = None,
        is_trusted: Callable[[str], bool] | None = None,
        hosts: Mapping[str, tuple[str, int]] | None = None,
        dns: NameServers | None = None,
        tls: TlsOptions | None = None,
        streams: StreamLimits | None = None,
        timers: TimerConfig | None = None,
        on_wire: Callable[[WireEvent], None] | None = None,
        counters: SipCounters | None = None,
        server_name: str = "ims-as",
        max_transactions: int = MAX_TRANSACTIONS,
    ) -> None:
        super().__init__(
            clock=trio.current_time,
            wall_clock=time.time,
            token=TokenSource(),
            is_trusted=is_trusted,
            advertise=advertise,
            timers=timers,
            on_wire=on_wire,
            counters=counters,
            server_name=server_name,
            max_transactions=max_transactions,
        )
        if not listen:
            raise ValueError("an endpoint needs a listen address")
        for address in listen:
            if address.transport == "tls" and tls is None:
                raise ValueError(f"{address}: TLS needs a certificate")
        self._listen = tuple(listen)
        self._transports = tuple(dict.fromkeys(address.transport.upper() for address in listen))
        """By preference."""
        self._families = [
            kind for kind, sign in (("A", "."), ("AAAA", ":")) if any(sign in each.host for each in listen)
        ]
        self._resolver = Resolver({} if hosts is None else hosts, dns, families=self._families)
        self._udp: dict[tuple[str, int], UdpListener] = {}
        self._tls = None if tls is None else TlsContexts(tls)
        self._streams = StreamTransport(self, self.counters, tls=self._tls, limits=streams)
        self._addresses: list[ListenAddress] = []
        self._nursery: trio.Nursery | None = None
        self._timer_scope: trio.CancelScope | None = None
        self._look_ups: dict[object, list[Callable[[Targets | str], None]]] = {}
        """Who waits for each name that is being asked for."""
        self._layer.on_deadline = self._wake_timer_task

    @property
    def addresses(self) -> tuple[ListenAddress, ...]:
        """What is bound, in the order of `listen`; empty before `run`."""
        return tuple(self._addresses)

    @property
    def n_connections(self) -> int:
        return len(self._streams)

    def reload_tls(self) -> None:
        """Read certificate, key and authorities again; open connections keep theirs. Nothing to do without TLS.

        Raises:
            TlsSetupError: they cannot be used; the former ones stay.
        """
        if self._tls is not None:
            self._tls.reload()

    def forget_trust(self) -> None:
        """The allow-list has changed: ask it anew, and cut the connections of those who are not on it any more."""
        super().forget_trust()
        self._streams.close_untrusted()

    def name_hosts(self, hosts: Mapping[str, tuple[str, int]], dns: NameServers) -> None:
        """Other static names and name servers from now on; look-ups under way end with the former ones."""
        self._resolver = Resolver(hosts, dns, families=self._families)

    def oldest_wait_s(self) -> float:
        """How long the oldest datagram that was not read yet has been here, seconds."""
        return max((listener.oldest_wait_s() for listener in self._udp.values()), default=0.0)

    async def run(self, task_status: trio.TaskStatus[Endpoint] = trio.TASK_STATUS_IGNORED) -> None:
        """Bind, then serve until cancelled; then all sockets are closed. `task_status` gets the endpoint.

        Raises:
            OSError: an address cannot be bound.
        """
        try:
            for address in self._listen:
                if address.transport == "udp":
                    listener = UdpListener(address.host, address.port, self.counters)
                    self._udp[listener.local] = listener
                    bound = listener.local
                else:
                    bound = self._streams.bind(address.host, address.port, address.transport.upper())
                self._addresses.append(ListenAddress(address.transport, *bound))
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self._streams.serve)
                nursery.start_soon(self._run_timers)
                for listener in self._udp.values():
                    nursery.start_soon(
                        listener.serve, self.receive_datagram_untrusted, self.receive_unreachable_untrusted
                    )
                await trio.lowlevel.checkpoint()  # the task of the streams has its nursery before anybody sends
                task_status.started(self)
        finally:
            self._nursery = None
            self._streams.close()
            for listener in self._udp.values():
                listener.close()
            self._udp.clear()

    # ---------------------------------------------------------------- timers

    async def _run_timers(self) -> None:
        while True:
            deadline = self.next_deadline()
            with trio.CancelScope(deadline=math.inf if deadline is None else deadline + TIMER_SLACK_S) as scope:
                self._timer_scope = scope
                await trio.sleep_forever()
            self._timer_scope = None
            try:
                self.handle_timers(trio.current_time())
            except Exception as error:  # it costs what the timer was for; the others go on
                self._note_guard_error(error, b"")

    def _wake_timer_task(self, when: float) -> None:
        scope = self._timer_scope
        if scope is not None and when + TIMER_SLACK_S < scope.deadline:
            scope.deadline = when + TIMER_SLACK_S

    # ---------------------------------------------------------------- EndpointCore's network

    def _transmit_bytes(self, flow: Flow, data: bytes) -> str | None:
        if flow.connection is not None:
            return None if self._streams.send(flow, data) else CONNECTION_GONE
        listener = self._udp.get(flow.local)
        return "no such listener" if listener is None else listener.send(data, flow.remote)

    def _flow_to(self, destination: Destination) -> Flow | None:
        remote = self._resolver.known(destination)
        if remote is None:
            return None
        local = self._find_local(destination.transport, remote[0])
        if destination.transport == "UDP":
            return Flow("UDP", local, remote)
        return self._streams.connect(destination.transport, local, remote, destination.domain or destination.host)

    def _look_up(self, destination: Destination, callback: Callable[[Targets | str], None]) -> None:
        kept = self._resolver.kept(destination)
        if kept:
            callback(kept)
            return
        key = key_of(destination)
        waiting = self._look_ups.get(key)
        if waiting is not None:
            waiting.append(callback)
        elif self._nursery is None or len(self._look_ups) >= MAX_LOOK_UPS:
            self.counters.drops["look-up refused"] += 1
            self.call_at(self.now(), lambda: callback("too many look-ups"))
        else:
            self._look_ups[key] = [callback]
            self._nursery.start_soon(self._run_look_up, destination)

    async def _run_look_up(self, destination: Destination) -> None:
        answer: Targets | str
        callbacks: list[Callable[[Targets | str], None]] = []
        try:
            answer = await self._resolver.look_up(destination, self._transports)
        except OSError as error:
            answer = str(error)
        finally:
            callbacks = self._look_ups.pop(key_of(destination))
        for callback in callbacks:
            try:
                callback(answer)
            except Exception as error:  # it costs the request that waited
                self._note_guard_error(error, b"")

    def _listener(self, transport: str, host: str) -> tuple[str, int]:
        try:
            return self._find_local(transport, host)
        except OSError:
            # nothing listens there: the request will fail, but it needs a Contact until then
            first = (self._addresses or self._listen)[0]
            return first.host, first.port

    def _spoken(self, transport: str) -> str:
        listen = self._addresses or self._listen
        if any(address.transport == transport.lower() for address in listen):
            return transport
        return listen[0].transport.upper()

    def _find_local(self, transport: str, host: str) -> tuple[str, int]:
        """The listener with that address, else the first of its address family, else (for names) the first."""
        wanted = transport.lower()
        candidates = [(a.host, a.port) for a in self._addresses or self._listen if a.transport == wanted]
        for candidate in candidates:
            if candidate[0] == host:
                return candidate
        same_family = [candidate for candidate in candidates if (":" in candidate[0]) == (":" in host)]
        if same_family:
            return same_family[0]
        raise OSError(f"no {transport} listener to reach {host} from")
