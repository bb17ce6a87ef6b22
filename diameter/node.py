"""DiameterNode: a host's peers in one nursery, `request()` → answer (trio).

A request costs a table row and no task. It goes to the best open peer at once; when that peer is lost or suspect, the
row moves to another one with the T bit and the same end-to-end id, and if none is open it waits for one until its
deadline. Peers are connected to for ever (Tc: 0.2 s, doubling to 30 s); with `listen` the node also takes connections,
each becoming a peer of its own after its CER. Requests of peers run `on_request` in a task each, bounded.

The parts: `outbound` (requests of ours), `inbound` (requests of peers), `acceptor` (connections that peers open),
`peer_link` (one peer).

Shutdown, in order: 1. `disconnect()` sends DPR to every open peer and waits shortly for DPA; 2. cancel `run`.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import trio

from diameter.acceptor import Acceptor
from diameter.base_commands import BaseCommands
from diameter.connector import Connector, Listen
from diameter.dictionary.base import DisconnectCause
from diameter.inbound import InboundRequests, RequestHandler
from diameter.message import Message
from diameter.node_config import NodeConfig
from diameter.outbound import OutboundRequests, WireTap
from diameter.peer import PeerState
from diameter.peer_link import PeerConfig, PeerLink
from diameter.redirect_targets import RedirectTargets
from diameter.routing import ReconnectTimer
from diameter.transport import Connection

__all__ = ["DiameterNode", "Listen", "NodeConfig", "PeerConfig", "RequestHandler", "WireTap"]

_ID_MASK = 0xFFFFFFFF
# after a DPR of the peer its answers under way get this long; a call on the Sh budget cannot wait for the timer of
# Closing
_LEAVING_S = 0.1


class DiameterNode:
    """A Diameter host, client or server or both.

    Args:
        on_request: answers requests of peers; None answers COMMAND_UNSUPPORTED.
        on_wire: sees every message that is read or written, in order.
        clock: wall clock in seconds; feeds Origin-State-Id, Session-Id and end-to-end ids.
        watchdog_s: Tw, 30 s by default; RFC 3539 forbids less than 6 s outside of tests.

    Attributes:
        commands: builds the base commands with our identity.
        links: the peers: configured ones in order of preference, then those that connected to us.
        addresses: bound (host, port) of `listen`, after `run` has started.
        counters: events by name, for metrics.
        on_restart: called with the Origin-Host of a peer that has lost its state.
        on_isolated: called when the last open peer is lost: what peers send from now on comes to nobody.
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
        self._listen = [Listen(*address) for address in config.listen]
        self._connector = Connector(
            [*(peer.transport for peer in config.peers), *(each.transport for each in self._listen)],
            tls=config.tls,
            source_host=config.source_host,
            handshake_s=config.wait_s,
            count=self.count,
        )
        started = int(clock())
        self._config = config
        self._on_wire = on_wire
        self._watchdog_s = watchdog_s
        self._random = random.Random()
        self._session_prefix = f"{config.origin_host};{started & _ID_MASK};"
        self._session_number = self._random.getrandbits(20)
        # RFC 6733 §3: high 12 bits from the time, low 20 random
        self._end_to_end = (started & 0xFFF) << 20 | self._random.getrandbits(20)
        self._hop_by_hop = self._random.getrandbits(32)
        self.commands = BaseCommands(
            config.origin_host,
            config.origin_realm,
            config.product_name,
            config.vendor_id,
            started & _ID_MASK,
            config.applications,
        )
        self.addresses: list[tuple[str, int]] = []
        self.counters: Counter[str] = Counter()
        self.on_restart: Callable[[str], None] | None = None
        self.on_isolated: Callable[[], None] | None = None
        self.links = [self.new_link(peer.name, peer) for peer in config.peers]
        self._outbound = OutboundRequests(
            self.links,
            self.counters,
            RedirectTargets(self, config),
            next_end_to_end=self.next_end_to_end,
            on_wire=on_wire,
            first_hop_by_hop=self._random.getrandbits(32),
            max_pending=config.max_pending,
            overload_control=config.overload_control,
        )
        self._inbound = InboundRequests(self.commands, on_request, self.counters, max_requests=config.max_inbound)
        self._acceptor = Acceptor(self, wait_s=config.wait_s, accept_from=config.accept_from)
        self._is_stopping = False
        self._nursery: trio.Nursery | None = None
        self._wake = trio.Event()
        self._changed = trio.Event()

    @property
    def origin_host(self) -> str:
        return self._config.origin_host

    @property
    def origin_realm(self) -> str:
        return self._config.origin_realm

    @property
    def n_pending(self) -> int:
        """Requests of ours without answer."""
        return len(self._outbound)

    def overload_reductions(self) -> dict[str, int]:
        """Percentages that hosts and realms want less now (RFC 7683)."""
        return self._outbound.overload.reductions(now=trio.current_time())

    def new_session_id(self) -> str:
        """A Session-Id that was never used before (RFC 6733 §8.8)."""
        self._session_number += 1
        return f"{self._session_prefix}{self._session_number & _ID_MASK}"

    def is_open(self) -> bool:
        """True when at least one peer can take a request."""
        return any(link.is_open for link in self.links)

    async def wait_open(self, n_peers: int = 1) -> None:
        """Returns when that many peers are open. Safe to cancel."""
        while sum(link.is_open for link in self.links) < n_peers:
            await self._changed.wait()

    def peer_states(self) -> list[dict[str, Any]]:
        """One row per peer: peer, is_open, origin_host, state, watchdog, product, applications, opened, failure."""
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
                "failure": link.last_failure,
            }
            for link in self.links
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
                for each in self._listen:
                    address: tuple[str, int] = await nursery.start(self._connector.listen, each, self._accept)
                    self.addresses.append(address)
                for link in self.links:
                    nursery.start_soon(self._keep_connected, link)
                nursery.start_soon(self._run_timers)
                nursery.start_soon(self._outbound.run)
                task_status.started()
                await trio.sleep_forever()
            finally:
                self._nursery = None

    async def request(self, message: Message, *, deadline_s: float, user: str | None = None) -> Message:
        """Sends a request and waits for its answer. Safe to cancel: a late answer is dropped.

        Args:
            message: the request; hop-by-hop and end-to-end ids are set here.
            deadline_s: seconds from now.
            user: key of the user that it is about. The host behind an agent that answers for him is remembered, and
                becomes Destination-Host of his next requests until it fails (TS 29.328 §6.1).

        Raises:
            NoPeerError: no open peer serves the application (at once); PendingFullError: the table is full;
                PeerBusyError: the peers have answered TOO_BUSY; ThrottledError: an overload report wants it dropped.
            RequestTimeoutError: no answer in time, failover included.
        """
        return await self._outbound.request(message, deadline_s=deadline_s, user=user)

    async def disconnect(self, cause: DisconnectCause = DisconnectCause.REBOOTING) -> None:
        """DPR to every open peer; returns when they have closed, at the latest after `wait_s`. No reconnecting."""
        self._is_stopping = True
        for link in self.links:
            link.stop(cause)
        with trio.move_on_after(self._config.wait_s):
            while any(link.machine.state is not PeerState.CLOSED for link in self.links):
                await self._changed.wait()

    # what links tell us

    def on_link_up(self, link: PeerLink) -> None:
        self.counters["link_up"] += 1
        self.notify()
        self._outbound.peer_opened()

    def on_link_suspect(self, link: PeerLink, connection: Connection) -> None:
        self._outbound.connection_suspect(connection)

    def on_link_leaving(self, link: PeerLink, connection: Connection) -> None:
        if self._nursery is not None:
            self._nursery.start_soon(self._leave, connection)

    def on_link_down(self, link: PeerLink, connection: Connection) -> None:
        self.counters["link_down"] += 1
        self.notify()
        if self.on_isolated is not None and not self.is_open():
            self.on_isolated()
        self._outbound.connection_lost(connection)

    def on_link_message(self, link: PeerLink, connection: Connection, message: Message) -> None:
        if not message.is_request:
            self._outbound.receive_answer(message, link, connection)
            return

        def reply(answer: Message) -> None:
            if connection.send(answer.encode()):
                self.on_link_wire("out", link, answer)

        self._inbound.receive(self._nursery, message, link.name, link.origin_host, reply)

    def on_link_wire(self, direction: str, link: PeerLink, message: Message) -> None:
        if self._on_wire is not None:
            self._on_wire(direction, link.name, message)

    def on_target_gone(self, link: PeerLink) -> None:
        self.notify()
        self._outbound.target_gone(link)

    def on_peer_restart(self, link: PeerLink) -> None:
        self.counters["peer_restart"] += 1
        if self.on_restart is not None:
            self.on_restart(link.origin_host)

    def on_timers_changed(self) -> None:
        self._wake.set()
        self.notify()

    def next_hop_by_hop(self) -> int:
        self._hop_by_hop = (self._hop_by_hop + 1) & _ID_MASK
        return self._hop_by_hop

    def next_end_to_end(self) -> int:
        self._end_to_end = (self._end_to_end + 1) & _ID_MASK
        return self._end_to_end

    def count(self, what: str) -> None:
        self.counters[what] += 1

    def notify(self) -> None:
        """Wakes whoever waits for a change of peers."""
        self._changed.set()
        self._changed = trio.Event()

    # connections

    @property
    def nursery(self) -> trio.Nursery | None:
        """Where tasks of the node run; None while it does not, or says goodbye."""
        return None if self._is_stopping else self._nursery

    async def connect(self, peer: PeerConfig) -> Connection:
        """A connection to a peer. Raises OSError."""
        return await self._connector.connect(peer)

    def new_link(self, name: str, config: PeerConfig | None) -> PeerLink:
        """A peer that is not connected yet."""
        return PeerLink(
            self,
            name,
            config=config,
            tw_s=self._watchdog_s,
            wait_s=self._config.wait_s,
            reconnect=ReconnectTimer(first_s=self._config.reconnect_first_s, max_s=self._config.reconnect_max_s),
            jitter=lambda: self._random.uniform(-1.0, 1.0),
        )

    def _accept(self, connection: Connection) -> None:
        self._acceptor.accept(self.nursery, connection)

    async def _keep_connected(self, link: PeerLink) -> None:
        assert link.config is not None, "only configured peers are connected to"
        peer = link.config
        while True:
            if not self._is_stopping:
                await link.connect_once(lambda: self.connect(peer))
            if self._is_stopping or link.machine.state is not PeerState.CLOSED:
                # stopping, or the peer has connected to us: look again when something changes
                await self._changed.wait()
            else:
                await trio.sleep(link.reconnect.next_delay_s())

    async def _leave(self, connection: Connection) -> None:
        """The peer has said goodbye: what it does not answer in a moment goes elsewhere."""
        await trio.sleep(_LEAVING_S)
        self._outbound.connection_suspect(connection)

    async def _run_timers(self) -> None:
        """One task for the timers of all peers."""
        while True:
            deadlines = [deadline for link in self.links if (deadline := link.next_deadline()) is not None]
            with trio.move_on_at(min(deadlines, default=float("inf"))):
                await self._wake.wait()
            self._wake = trio.Event()
            for link in list(self.links):
                link.handle_timer()
