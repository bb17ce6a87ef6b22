"""DiameterNode: a host's peers in one nursery, `request()` → answer (trio).

A request costs a table row and an event, no task. It goes to the best open peer at once; when that peer is lost or
suspect, the row moves to another one with the T bit and the same end-to-end id, and if none is open it waits for one
until its deadline. Peers are connected to for ever (Tc: 0.2 s, doubling to 30 s); with `listen` the node also takes
connections, each becoming a peer of its own after its CER. Requests of peers run `on_request` in a task each, bounded.

Shutdown, in order: 1. `disconnect()` sends DPR to every open peer and waits shortly for DPA; 2. cancel `run`.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import trio
from attrs import evolve, field, frozen

from diameter.base_commands import CER_CODE, SH_APPLICATION, Application, BaseCommands
from diameter.dictionary import base
from diameter.dictionary.base import DisconnectCause, ResultCode
from diameter.errors import (
    FramingError,
    LocalDiameterError,
    NoPeerError,
    RemoteDiameterError,
    RequestTimeoutError,
)
from diameter.message import FLAG_RETRANSMITTED, Message, Result, decode_message_untrusted
from diameter.peer import PeerState
from diameter.peer_link import PeerConfig, PeerLink
from diameter.pending import DuplicateFilter, PendingRequest, PendingTable
from diameter.routing import ReconnectTimer, Route, choose_route
from diameter.transport import Connection, connect_tcp, listen_tcp

__all__ = ["DiameterNode", "NodeConfig", "PeerConfig", "RequestHandler", "WireTap"]

RequestHandler = Callable[[Message, str], Awaitable[Message | None]]
"""(request, peer name) → answer; None: no answer at all. RemoteDiameterError becomes an error answer."""
WireTap = Callable[[str, str, Message], None]
"""(direction "in" or "out", peer name, message)."""

_ID_MASK = 0xFFFFFFFF
# protocol errors after which another peer is asked
_ELSEWHERE = (Result(ResultCode.UNABLE_TO_DELIVER), Result(ResultCode.TOO_BUSY))
# connections that have not sent their CER yet; each costs a socket and a task
_MAX_STRANGERS = 64
# peers that connected to us; an HSS serves some dozen, and each is a few kB here
_MAX_ACCEPTED = 512


@frozen(kw_only=True)
class NodeConfig:
    """One node.

    Attributes:
        origin_host: our DiameterIdentity; must stay the same over restarts (subscriptions hang on it).
        origin_realm: our realm.
        peers: peers to connect to, in order of preference.
        listen: addresses (host, port) to accept on.
        product_name: announced in CER/CEA.
        vendor_id: IANA enterprise number, 0 for none (RFC 6733 §5.3.3).
        applications: what we announce and answer.
        source_host: local address of outgoing connections, None lets the system choose.
        wait_s: seconds for connecting, CEA and DPA each.
        reconnect_first_s, reconnect_max_s: Tc, first and longest.
        max_pending: unanswered requests at most.
        max_inbound: requests of peers under way at most; more are answered TOO_BUSY.
    """

    origin_host: str
    origin_realm: str
    peers: tuple[PeerConfig, ...] = ()
    listen: tuple[tuple[str, int], ...] = ()
    product_name: str = "ims-as"
    vendor_id: int = 0
    applications: tuple[Application, ...] = field(default=(SH_APPLICATION,))
    source_host: str | None = None
    wait_s: float = 5.0
    reconnect_first_s: float = 0.2
    reconnect_max_s: float = 30.0
    max_pending: int = 10_000
    max_inbound: int = 2_000


class DiameterNode:
    """A Diameter host, client or server or both.

    Args:
        on_request: answers requests of peers; None answers COMMAND_UNSUPPORTED.
        on_wire: sees every message that is read or written, in order.
        clock: wall clock in seconds; feeds Origin-State-Id, Session-Id and end-to-end ids.
        watchdog_s: Tw, 30 s by default; RFC 3539 forbids less than 6 s outside of tests.

    Attributes:
        commands: builds the base commands with our identity.
        addresses: bound (host, port) of `listen`, after `run` has started.
        counters: events by name, for metrics.
        on_restart: called with the Origin-Host of a peer that has lost its state.
    """

    def __init__(
        self,
        config: NodeConfig,
        *,
        on_request: RequestHandler | None = None,
        on_wire: WireTap | None = None,
        clock: Callable[[], float] = time.time,
        watchdog_s: float = 30.0,
    ) -> None:
        for peer in config.peers:
            if peer.transport != "tcp":
                raise LocalDiameterError(f"transport {peer.transport} is not supported")
        started = int(clock())
        self._config = config
        self._on_request = on_request
        self._on_wire = on_wire
        self._watchdog_s = watchdog_s
        self._random = random.Random()
        self._session_prefix = f"{config.origin_host};{started & _ID_MASK};"
        self._session_number = self._random.getrandbits(20)
        # RFC 6733 §3: high 12 bits from the time, low 20 random
        self._end_to_end = (started & 0xFFF) << 20 | self._random.getrandbits(20)
        self._hop_by_hop = self._random.getrandbits(32)
        self._pending: PendingTable[trio.Event] = PendingTable(
            first_hop_by_hop=self._random.getrandbits(32), max_requests=config.max_pending
        )
        self._duplicates = DuplicateFilter()
        self._application_ids = frozenset(application.application_id for application in config.applications)
        self.commands = BaseCommands(
            config.origin_host,
            config.origin_realm,
            config.product_name,
            config.vendor_id,
            started & _ID_MASK,
            config.applications,
        )
        self._configured = [self._new_link(peer.name, peer) for peer in config.peers]
        self._accepted: list[PeerLink] = []
        self._n_strangers = 0
        self._n_inbound = 0
        self._is_stopping = False
        self._nursery: trio.Nursery | None = None
        self._wake = trio.Event()
        self._changed = trio.Event()
        self.addresses: list[tuple[str, int]] = []
        self.counters: Counter[str] = Counter()
        self.on_restart: Callable[[str], None] | None = None

    @property
    def origin_host(self) -> str:
        return self._config.origin_host

    @property
    def origin_realm(self) -> str:
        return self._config.origin_realm

    @property
    def n_pending(self) -> int:
        """Requests of ours without answer."""
        return len(self._pending)

    def new_session_id(self) -> str:
        """A Session-Id that was never used before (RFC 6733 §8.8)."""
        self._session_number += 1
        return f"{self._session_prefix}{self._session_number & _ID_MASK}"

    def is_open(self) -> bool:
        """True when at least one peer can take a request."""
        return any(link.is_open for link in self._links())

    async def wait_open(self, n_peers: int = 1) -> None:
        """Returns when that many peers are open. Safe to cancel."""
        while sum(link.is_open for link in self._links()) < n_peers:
            await self._changed.wait()

    def peer_states(self) -> list[dict[str, Any]]:
        """One row per peer: peer, is_open, origin_host, state, watchdog, product, applications, opened."""
        return [
            {
                "peer": link.name,
                "is_open": link.is_open,
                "origin_host": link.origin_host,
                "state": link.machine.state.value,
                "watchdog": link.watchdog.state.value,
                "product": link.capabilities.product_name if link.capabilities else "",
                "applications": sorted(link.capabilities.applications) if link.capabilities else [],
                "opened": link.n_opened,
            }
            for link in self._links()
        ]

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listens and keeps peers connected until cancelled; started when all listeners are bound.

        Raises:
            OSError: a listener cannot bind.
        """
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            self._is_stopping = False
            try:
                for host, port in self._config.listen:
                    address: tuple[str, int] = await nursery.start(listen_tcp, host, port, self._accept)
                    self.addresses.append(address)
                for link in self._configured:
                    nursery.start_soon(self._keep_connected, link)
                nursery.start_soon(self._run_timers)
                task_status.started()
                await trio.sleep_forever()
            finally:
                self._nursery = None

    async def request(self, message: Message, *, deadline_s: float) -> Message:
        """Sends a request and waits for its answer. Safe to cancel: a late answer is dropped.

        Args:
            message: the request; hop-by-hop and end-to-end ids are set here.
            deadline_s: seconds from now.

        Raises:
            NoPeerError: no open peer serves the application (at once), or the table is full.
            RequestTimeoutError: no answer in time, failover included.
        """
        now = trio.current_time()
        route = choose_route(
            (route for link in self._links() if (route := link.route())),
            application_id=message.application_id,
            destination_host=message.text(base.DESTINATION_HOST),
        )
        if route is None:
            self.counters["no_peer"] += 1
            raise NoPeerError(f"no open peer for application {message.application_id}")
        identified = evolve(message, end_to_end=self.next_end_to_end())
        answered = trio.Event()
        row = self._pending.add(identified, answered, deadline=now + deadline_s)
        try:
            self._send_row(row, route.connection)
            with trio.move_on_at(row.deadline):
                await answered.wait()
        finally:
            self._pending.discard(row)
        if row.answer is None:
            self.counters["request_timeout"] += 1
            raise RequestTimeoutError(f"no answer within {deadline_s} s")
        return row.answer

    async def disconnect(self, cause: DisconnectCause = DisconnectCause.REBOOTING) -> None:
        """DPR to every open peer; returns when they have closed, at the latest after `wait_s`. No reconnecting."""
        self._is_stopping = True
        for link in self._links():
            link.stop(cause)
        with trio.move_on_after(self._config.wait_s):
            while any(link.machine.state is not PeerState.CLOSED for link in self._links()):
                await self._changed.wait()

    # what links tell us

    def on_link_up(self, link: PeerLink) -> None:
        self.counters["link_up"] += 1
        self._notify()
        for row in self._pending.waiting(now=trio.current_time()):
            self._resend(row)

    def on_link_suspect(self, link: PeerLink, connection: Connection) -> None:
        for row in self._pending.rows_on(connection, now=trio.current_time()):
            # without another peer the row stays: the suspect may still answer
            row.excluded.add(connection)
            self._resend(row)

    def on_link_down(self, link: PeerLink, connection: Connection) -> None:
        self.counters["link_down"] += 1
        self._notify()
        for row in self._pending.take_connection(connection, now=trio.current_time()):
            self._resend(row)

    def on_link_message(self, link: PeerLink, connection: Connection, message: Message) -> None:
        if not message.is_request:
            self._receive_answer(message, connection)
        elif self._n_inbound >= self._config.max_inbound or self._nursery is None:
            self.counters["too_busy"] += 1
            busy = RemoteDiameterError("too busy", ResultCode.TOO_BUSY)
            self._answer(link, connection, self.commands.error_answer(message, busy))
        else:
            self._n_inbound += 1
            self._nursery.start_soon(self._serve_request, link, connection, message)

    def on_link_wire(self, direction: str, link: PeerLink, message: Message) -> None:
        if self._on_wire is not None:
            self._on_wire(direction, link.name, message)

    def on_peer_restart(self, link: PeerLink) -> None:
        self.counters["peer_restart"] += 1
        if self.on_restart is not None:
            self.on_restart(link.origin_host)

    def on_timers_changed(self) -> None:
        self._wake.set()
        self._notify()

    def next_hop_by_hop(self) -> int:
        self._hop_by_hop = (self._hop_by_hop + 1) & _ID_MASK
        return self._hop_by_hop

    def next_end_to_end(self) -> int:
        self._end_to_end = (self._end_to_end + 1) & _ID_MASK
        return self._end_to_end

    def count(self, what: str) -> None:
        self.counters[what] += 1

    # requests of ours

    def _send_row(self, row: PendingRequest[trio.Event], connection: Any, *, is_retransmission: bool = True) -> None:
        frame = self._pending.send_on(row, connection, is_retransmission=is_retransmission)
        if connection.send(frame) and self._on_wire is not None:
            flags = row.message.flags | frame[4] & FLAG_RETRANSMITTED
            sent = evolve(row.message, flags=flags, hop_by_hop=row.hop_by_hop)
            link = next((link for link in self._links() if (r := link.route()) and r.connection is connection), None)
            self._on_wire("out", link.name if link else "", sent)
        # a connection that fails here is closed; its end brings the row back by on_link_down

    def _resend(self, row: PendingRequest[trio.Event]) -> None:
        route = self._other_route(row)
        if route is not None:
            self.counters["failover"] += 1
            self._send_row(row, route.connection)

    def _other_route(self, row: PendingRequest[trio.Event]) -> Route | None:
        return choose_route(
            (route for link in self._links() if (route := link.route())),
            application_id=row.message.application_id,
            excluded=row.excluded,
        )

    def _receive_answer(self, answer: Message, connection: Connection) -> None:
        row = self._pending.match(answer, connection)
        if row is None:
            self.counters["stray_answer"] += 1
            return
        if answer.is_error and answer.result() in _ELSEWHERE:
            # RFC 6733 §7.1.3: another peer may deliver it
            row.excluded.add(connection)
            route = self._other_route(row)
            if route is not None:
                self.counters["rerouted"] += 1
                self._pending.restore(row)
                self._send_row(row, route.connection, is_retransmission=False)
                return
        row.waiter.set()

    # requests of peers

    async def _serve_request(self, link: PeerLink, connection: Connection, request: Message) -> None:
        try:
            answer = await self._build_answer(link, request)
        finally:
            self._n_inbound -= 1
        if answer is not None:
            self._answer(link, connection, answer)

    async def _build_answer(self, link: PeerLink, request: Message) -> Message | None:
        now = trio.current_time()
        try:
            if request.application_id not in self._application_ids:
                raise RemoteDiameterError("application unsupported", ResultCode.APPLICATION_UNSUPPORTED)
            for avp in request.avps.find_all(base.ROUTE_RECORD.key):
                if base.ROUTE_RECORD.value(avp).lower() == self.origin_host.lower():
                    raise RemoteDiameterError("own host in Route-Record", ResultCode.LOOP_DETECTED)
            origin_host = request.text(base.ORIGIN_HOST) or link.origin_host
            if request.is_retransmitted:
                earlier = self._duplicates.find(origin_host, request, now=now)
                if earlier is not None:
                    self.counters["duplicate"] += 1
                    return earlier
            if self._on_request is None:
                raise RemoteDiameterError("command unsupported", ResultCode.COMMAND_UNSUPPORTED)
            answer = await self._on_request(request, link.name)
        except RemoteDiameterError as error:
            self.counters[error.reason] += 1
            return self.commands.error_answer(request, error)
        if answer is not None:
            self._duplicates.remember(origin_host, answer, now=now)
        return answer

    def _answer(self, link: PeerLink, connection: Connection, answer: Message) -> None:
        if connection.send(answer.encode()):
            self.on_link_wire("out", link, answer)

    # connections

    async def _keep_connected(self, link: PeerLink) -> None:
        assert link.config is not None, "only configured peers are connected to"
        host, port = link.config.host, link.config.port
        while True:
            if not self._is_stopping:
                await link.connect_once(lambda: connect_tcp(host, port, source_host=self._config.source_host))
            if self._is_stopping or link.machine.state is not PeerState.CLOSED:
                # stopping, or the peer has connected to us: look again when something changes
                await self._changed.wait()
            else:
                await trio.sleep(link.reconnect.next_delay_s())

    def _accept(self, connection: Connection) -> None:
        if self._nursery is None or self._is_stopping or self._n_strangers >= _MAX_STRANGERS:
            self.counters["connection_refused"] += 1
            connection.close()
            return
        self._n_strangers += 1
        self._nursery.start_soon(self._serve_accepted, connection)

    async def _serve_accepted(self, connection: Connection) -> None:
        """A stranger until its CER; then its link gets every frame."""
        link: PeerLink | None = None
        is_stranger = True

        def receive_frame(frame: bytes) -> None:
            nonlocal link, is_stranger
            if link is not None:
                link.receive_frame_untrusted(connection, frame)
                return
            link = self._admit_untrusted(connection, frame)
            if link is None:
                connection.close()
                return
            is_stranger = False
            self._n_strangers -= 1
            patience.deadline = float("inf")

        try:
            with trio.move_on_after(self._config.wait_s) as patience:
                await connection.run(receive_frame)
        except FramingError as error:
            self.counters[error.reason] += 1
        finally:
            connection.close()
            if is_stranger:
                self._n_strangers -= 1
            if link is not None:
                link.connection_ended(connection)
                if link in self._accepted and link.machine.state is PeerState.CLOSED:
                    self._accepted.remove(link)
            self._notify()

    def _admit_untrusted(self, connection: Connection, frame: bytes) -> PeerLink | None:
        """The link of a new connection by its first message, which has to be a CER."""
        try:
            cer = decode_message_untrusted(frame)
            if cer.code != CER_CODE or cer.application_id != 0 or not cer.is_request:
                raise RemoteDiameterError("first message is no CER")
            origin_host = (cer.text(base.ORIGIN_HOST) or "").lower()
        except RemoteDiameterError as error:
            self.counters[error.reason] += 1
            return None
        for link in self._links():
            if origin_host and link.origin_host.lower() == origin_host:
                return link if link.accept(connection, cer) else None
        if len(self._accepted) >= _MAX_ACCEPTED:
            self.counters["connection_refused"] += 1
            return None
        link = self._new_link(origin_host, None)
        if not link.accept(connection, cer):
            return None
        self._accepted.append(link)
        return link

    def _new_link(self, name: str, config: PeerConfig | None) -> PeerLink:
        return PeerLink(
            self,
            name,
            config=config,
            tw_s=self._watchdog_s,
            wait_s=self._config.wait_s,
            reconnect=ReconnectTimer(first_s=self._config.reconnect_first_s, max_s=self._config.reconnect_max_s),
            jitter=lambda: self._random.uniform(-1.0, 1.0),
        )

    def _links(self) -> list[PeerLink]:
        return self._configured + self._accepted

    async def _run_timers(self) -> None:
        """One task for the timers of all peers."""
        while True:
            deadlines = [deadline for link in self._links() if (deadline := link.next_deadline()) is not None]
            with trio.move_on_at(min(deadlines, default=float("inf"))):
                await self._wake.wait()
            self._wake = trio.Event()
            for link in self._links():
                link.handle_timer()

    def _notify(self) -> None:
        """Wakes whoever waits for a change of peers."""
        self._changed.set()
        self._changed = trio.Event()
