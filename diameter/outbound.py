"""Requests of ours: sent to the best peer, moved when that one is lost, matched with their answers (trio).

A request costs a table row and an event, no task.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import trio
from attrs import evolve

from diameter.dictionary import base
from diameter.dictionary.base import ResultCode
from diameter.errors import NoPeerError, RequestTimeoutError
from diameter.message import FLAG_RETRANSMITTED, Message, Result
from diameter.peer_link import PeerLink
from diameter.pending import PendingRequest, PendingTable
from diameter.routing import Route, choose_route
from diameter.transport import Connection

__all__ = ["OutboundRequests", "WireTap"]

WireTap = Callable[[str, str, Message], None]
"""(direction "in" or "out", peer name, message)."""

_Row = PendingRequest[trio.Event]

# protocol errors after which another peer is asked
_ELSEWHERE = (Result(ResultCode.UNABLE_TO_DELIVER), Result(ResultCode.TOO_BUSY))


class OutboundRequests:
    """The unanswered requests of one node.

    Args:
        links: the node's peers in order of preference; the list itself, as it changes.
        next_end_to_end: gives a new end-to-end id.
    """

    def __init__(
        self,
        links: list[PeerLink],
        counters: Counter[str],
        *,
        next_end_to_end: Callable[[], int],
        on_wire: WireTap | None,
        first_hop_by_hop: int,
        max_pending: int,
    ) -> None:
        self._links = links
        self._counters = counters
        self._next_end_to_end = next_end_to_end
        self._on_wire = on_wire
        self._pending: PendingTable[trio.Event] = PendingTable(
            first_hop_by_hop=first_hop_by_hop, max_requests=max_pending
        )

    def __len__(self) -> int:
        return len(self._pending)

    async def request(self, message: Message, *, deadline_s: float) -> Message:
        """As `DiameterNode.request`."""
        now = trio.current_time()
        route = choose_route(
            (route for link in self._links if (route := link.route()) is not None),
            application_id=message.application_id,
            destination_host=message.text(base.DESTINATION_HOST),
        )
        if route is None:
            self._counters["no_peer"] += 1
            raise NoPeerError(f"no open peer for application {message.application_id}")
        identified = message.with_ids(hop_by_hop=0, end_to_end=self._next_end_to_end())
        answered = trio.Event()
        row = self._pending.add(identified, answered, deadline=now + deadline_s)
        try:
            self._send(row, route)
            with trio.move_on_at(row.deadline):
                await answered.wait()
        finally:
            self._pending.discard(row)
        if row.answer is None:
            self._counters["request_timeout"] += 1
            raise RequestTimeoutError(f"no answer within {deadline_s} s")
        return row.answer

    def receive_answer(self, answer: Message, connection: Connection) -> None:
        """An answer has come."""
        row = self._pending.match(answer, connection)
        if row is None:
            self._counters["stray_answer"] += 1
            return
        if answer.is_error and answer.result() in _ELSEWHERE:
            # RFC 6733 §7.1.3: another peer may deliver it
            row.excluded.add(connection)
            route = self._other_route(row)
            if route is not None:
                self._counters["rerouted"] += 1
                self._pending.restore(row)
                self._send(row, route, is_retransmission=False)
                return
        row.waiter.set()

    def peer_opened(self) -> None:
        """A peer can be used again: it gets what waits."""
        for row in self._pending.waiting(now=trio.current_time()):
            self._resend(row)

    def connection_suspect(self, connection: Connection) -> None:
        """The watchdog doubts: requests go to another peer; without one they stay, the suspect may still answer."""
        for row in self._pending.rows_on(connection, now=trio.current_time()):
            row.excluded.add(connection)
            self._resend(row)

    def connection_lost(self, connection: Connection) -> None:
        """Requests on it go to another peer, or wait for one."""
        for row in self._pending.take_connection(connection, now=trio.current_time()):
            self._resend(row)

    def _send(self, row: _Row, route: Route, *, is_retransmission: bool = True) -> None:
        connection = route.connection
        assert isinstance(connection, Connection), "routes of links carry their connection"
        frame = self._pending.send_on(row, connection, is_retransmission=is_retransmission)
        # a connection that fails here is closed; its end brings the row back by `connection_lost`
        if connection.send(frame) and self._on_wire is not None:
            flags = row.message.flags | frame[4] & FLAG_RETRANSMITTED
            self._on_wire("out", route.peer, evolve(row.message, flags=flags, hop_by_hop=row.hop_by_hop))

    def _resend(self, row: _Row) -> None:
        route = self._other_route(row)
        if route is not None:
            self._counters["failover"] += 1
            self._send(row, route)

    def _other_route(self, row: _Row) -> Route | None:
        return choose_route(
            (route for link in self._links if (route := link.route()) is not None),
            application_id=row.message.application_id,
            excluded=row.excluded,
        )
