"""Requests of ours: sent to the best peer, moved when that one is lost, matched with their answers (trio).

A request costs a table row and a place in the queue of deadlines, no task. An answer that says "not here" does not end
it: another peer is asked, the remembered host is left out, a redirect is followed. Each peer is asked once only, so
that this ends.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import trio
from attrs import evolve

from diameter.avp import Avps
from diameter.backoff import BusyBackoff
from diameter.dictionary import base
from diameter.dictionary.base import ResultCode
from diameter.errors import NoPeerError, PeerBusyError, RemoteDiameterError, RequestTimeoutError, ThrottledError
from diameter.host_memory import HostMemory
from diameter.message import FLAG_RETRANSMITTED, Message, Result
from diameter.overload import OC_OLR, SUPPORTED_FEATURES, OverloadControl
from diameter.peer_link import PeerLink
from diameter.pending import Detour, PendingRequest, PendingTable
from diameter.redirect import DiameterUri, RedirectCache, read_redirection_untrusted
from diameter.redirect_targets import RedirectTargets
from diameter.routing import Route
from diameter.selection import RouteSelection
from diameter.transport import Connection
from diameter.waiting import Deadlines, Parked

__all__ = ["OutboundRequests", "WireTap"]

WireTap = Callable[[str, str, Message], None]
"""(direction "in" or "out", peer name, message)."""

_Row = PendingRequest[Parked]

# answers after which another peer is asked: the request was not carried out (RFC 6733 §7.1.3, §7.1.4)
_ELSEWHERE = frozenset(
    {
        ResultCode.UNABLE_TO_DELIVER,
        ResultCode.REALM_NOT_SERVED,
        ResultCode.TOO_BUSY,
        ResultCode.LOOP_DETECTED,
        ResultCode.APPLICATION_UNSUPPORTED,
        ResultCode.UNKNOWN_PEER,
        ResultCode.OUT_OF_SPACE,
    }
)
_REFUSED = {ThrottledError: "throttled", PeerBusyError: "paused"}
_MAX_REDIRECTS = 3
# queued on one connection by failover
_MAX_BURST_BYTES = 512 * 1024
# what each request and answer is asked for
_DESTINATION_HOST = base.DESTINATION_HOST.key
_OC_OLR = OC_OLR.key
_RESULT_CODE = base.RESULT_CODE.key
_SUCCESS = Result(ResultCode.SUCCESS)
_SUCCESS_DATA = ResultCode.SUCCESS.to_bytes(4)


class OutboundRequests:
    """The unanswered requests of one node.

    Args:
        links: the node's peers in order of preference; the list itself, as it changes.
        next_end_to_end: gives a new end-to-end id.
        overload_control: offer overload control in each request.
    """

    def __init__(
        self,
        links: list[PeerLink],
        counters: Counter[str],
        targets: RedirectTargets,
        *,
        next_end_to_end: Callable[[], int],
        on_wire: WireTap | None,
        first_hop_by_hop: int,
        max_pending: int,
        overload_control: bool,
    ) -> None:
        self._links = links
        self._counters = counters
        self._targets = targets
        self._next_end_to_end = next_end_to_end
        self._on_wire = on_wire
        self._offer = (SUPPORTED_FEATURES,) if overload_control else ()
        self._pending: PendingTable[Parked] = PendingTable(first_hop_by_hop=first_hop_by_hop, max_requests=max_pending)
        self._deadlines = Deadlines()
        self._backoff = BusyBackoff()
        self._hosts = HostMemory()
        self._redirects = RedirectCache()
        self.overload = OverloadControl()
        self._is_held = False
        self._selection = RouteSelection(links, self._backoff, self.overload)

    def __len__(self) -> int:
        return len(self._pending)

    async def run(self) -> None:
        """Keeps the deadlines of requests, until cancelled; without it each request looks after its own."""
        await self._deadlines.run()

    async def request(self, message: Message, *, deadline_s: float, user: str | None) -> Message:
        """As `DiameterNode.request`."""
        now = trio.current_time()
        host = None if message.avps.find(_DESTINATION_HOST) is None else message.text(base.DESTINATION_HOST)
        avps: Avps = message.avps
        is_host_ours = False
        if host is None and user is not None:
            known = self._hosts.find(message.application_id, user)
            if known is not None and not self._backoff.is_busy(known, now=now):
                host, is_host_ours = known, True
                avps = _with_host(avps, known)
        route: Route | None = None
        hosts: tuple[DiameterUri, ...] = ()
        try:
            route = self._selection.first(message, host, now=now)
        except NoPeerError as error:
            hosts = self._redirects.find(message, user, "", now=now) if host is None else ()
            if not hosts:
                self._counters[_REFUSED.get(type(error), "no_peer")] += 1
                raise
        if self._redirects.entries and route is not None and host is None:
            hosts = self._redirects.find(message, user, route.origin_host, now=now)
        identified = Message(
            message.code,
            message.application_id,
            message.flags,
            Avps((*avps, *self._offer)),
            end_to_end=self._next_end_to_end(),
        )
        row = self._pending.add(identified, Parked(), deadline=now + deadline_s)
        row.user, row.host, row.is_host_ours = user, host, is_host_ours
        try:
            if not hosts or not self._take_detour(row, list(hosts), None):
                if route is None:
                    self._redirects.forget(hosts)
                    raise NoPeerError(f"no open peer for application {message.application_id}")
                self._send(row, route)
            while row.answer is None and trio.current_time() < row.deadline:
                await self._deadlines.wait(row.waiter, row.deadline)
        finally:
            self._pending.discard(row)
        if row.answer is None:
            self._counters["request_timeout"] += 1
            self._forget_host(row)
            self._doubt_silent(row, patience_s=deadline_s / 2)
            raise RequestTimeoutError(f"no answer within {deadline_s} s")
        return row.answer

    def _doubt_silent(self, row: _Row, *, patience_s: float) -> None:
        """A peer that has said nothing at all while a request waited for it: what else waits for it goes elsewhere."""
        if trio.current_time() - row.sent_at < patience_s:
            return  # it got the request late, from one that was lost
        for link in self._links:
            connection = row.connection
            route = link.route()
            if route is None or route.connection is not connection or link.heard_at >= row.sent_at:
                continue
            assert isinstance(connection, Connection), "routes of links carry their connection"
            link.doubt()
            self.connection_suspect(connection)

    # what the node tells us

    def receive_answer(self, answer: Message, link: PeerLink, connection: Connection) -> None:
        """An answer has come."""
        row = self._pending.match(answer, connection)
        if row is None:
            self._counters["stray_answer"] += 1
            return
        if self._offer and answer.avps.find(_OC_OLR) is not None:
            self._learn_overload(answer)
        plain = answer.avps.find(_RESULT_CODE)
        result = _SUCCESS if plain is not None and plain.data == _SUCCESS_DATA else answer.result()
        if result is not None and not result.is_success:
            if not result.vendor and self._goes_on(row, answer, result.code, link, connection):
                return
            self._forget_host(row)
        elif row.user is not None and result is not None:
            self._learn_host(row, answer, link)
        if self._backoff.pauses and result != Result(ResultCode.TOO_BUSY):
            self._backoff.note_served(link.origin_host, now=trio.current_time())
            if row.host is not None:
                self._backoff.note_served(row.host, now=trio.current_time())
        row.waiter.wake()
        if self._is_held and not connection.queued_bytes:
            self._is_held = False
            self.peer_opened()

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
            self._leave_detour(row)
            self._resend(row)

    def target_gone(self, link: PeerLink) -> None:
        """A peer that a redirect had named could not be reached, or has left: what waits for it goes on."""
        for row in self._pending.waiting(now=trio.current_time()):
            detour = row.detour
            if detour is None or detour.target is not link or self._take_detour(row, detour.hosts, detour.answer):
                continue
            self._counters["redirect_failed"] += 1
            self._leave_detour(row)
            if detour.answer is not None:
                # nobody that the agent has named is there: its answer is the last word
                self._pending.discard(row)
                row.answer = detour.answer
                row.waiter.wake()
            else:
                self._resend(row)

    # sending

    def _send(self, row: _Row, route: Route, *, is_retransmission: bool = True) -> None:
        connection = route.connection
        assert isinstance(connection, Connection), "routes of links carry their connection"
        frame = self._pending.send_on(row, connection, is_retransmission=is_retransmission)
        row.sent_at = trio.current_time()
        # a connection that fails here is closed; its end brings the row back by `connection_lost`
        if connection.send(frame) and self._on_wire is not None:
            flags = row.message.flags | frame[4] & FLAG_RETRANSMITTED
            self._on_wire("out", route.peer, evolve(row.message, flags=flags, hop_by_hop=row.hop_by_hop))

    def _resend(self, row: _Row) -> None:
        detour = row.detour
        if detour is not None and isinstance(detour.target, PeerLink):
            route = detour.target.route()
            if route is not None and route.connection not in row.excluded:
                detour.target.last_used = trio.current_time()
                self._send(row, route, is_retransmission=False)
            return
        route = self._other_route(row, is_urgent=True)
        if route is not None:
            assert isinstance(route.connection, Connection), "routes of links carry their connection"
            if route.connection.queued_bytes > _MAX_BURST_BYTES:
                # all that a lost peer had at once could look as if this one did not read: the rest follows its answers
                self._is_held = True
                return
            if row.n_sent:
                self._counters["failover"] += 1
                self._counters["retransmission"] += 1
            self._send(row, route)

    def _other_route(self, row: _Row, *, is_urgent: bool) -> Route | None:
        return self._selection.other(
            row.message.application_id, row.host, row.excluded, now=trio.current_time(), is_urgent=is_urgent
        )

    # answers that are not the last word

    def _goes_on(self, row: _Row, answer: Message, code: int, link: PeerLink, connection: Connection) -> bool:
        """True when the request was sent again because of such an answer."""
        if code == ResultCode.REDIRECT_INDICATION:
            return self._redirect(row, answer, connection)
        if code not in _ELSEWHERE:
            return False
        self._counters[f"answered_{ResultCode(code).name.lower()}"] += 1
        row.excluded.add(connection)
        busy_host = self._note_busy(row, answer, link) if code == ResultCode.TOO_BUSY else ""
        if row.is_host_ours and row.detour is None:
            # RFC 6733 §7.1.3: the host may be gone while the realm is not; the same peer may know another one
            if busy_host != link.origin_host:
                row.excluded.discard(connection)
            self._forget_host(row)
            self._drop_host(row)
            self._counters["host_fallback"] += 1
        self._leave_detour(row)
        route = self._other_route(row, is_urgent=False)
        if route is None:
            return False
        self._counters["rerouted"] += 1
        self._pending.restore(row)
        self._send(row, route, is_retransmission=False)
        return True

    def _note_busy(self, row: _Row, answer: Message, link: PeerLink) -> str:
        """Who is busy: the peer, or the host behind it that the request had named."""
        origin_host = answer.text(base.ORIGIN_HOST) or link.origin_host
        is_host_behind = row.host is not None and row.host.lower() == origin_host.lower()
        busy_host = origin_host if is_host_behind else link.origin_host
        self._backoff.note_busy(busy_host, now=trio.current_time())
        return busy_host

    def _redirect(self, row: _Row, answer: Message, connection: Connection) -> bool:
        self._counters["redirect"] += 1
        row.excluded.add(connection)
        row.n_redirects += 1
        if row.n_redirects > _MAX_REDIRECTS:
            self._counters["redirect_loop"] += 1
            return False
        try:
            redirection = read_redirection_untrusted(answer)
        except RemoteDiameterError as error:
            self._counters[error.reason] += 1
            return False
        self._drop_host(row)
        self._pending.restore(row)
        if self._take_detour(row, list(redirection.hosts), answer):
            self._redirects.store(redirection, row.message, row.user, now=trio.current_time())
            return True
        self._counters["redirect_failed"] += 1
        self._pending.discard(row)
        row.answer = answer
        return False

    def _take_detour(self, row: _Row, hosts: list[DiameterUri], answer: Message | None) -> bool:
        """Sends the row to the first of the hosts that can be had, maybe once it is connected."""
        realm = row.message.text(base.DESTINATION_REALM) or ""
        while hosts:
            uri = hosts.pop(0)
            target = self._targets.find(uri, realm)
            route = target.route() if target is not None else None
            if target is None or (route is not None and route.connection in row.excluded):
                continue
            row.detour = Detour(hosts, target, answer)
            self._set_host(row, uri.host)
            if route is not None:
                target.last_used = trio.current_time()
                self._send(row, route, is_retransmission=False)
            return True
        return False

    def _leave_detour(self, row: _Row) -> None:
        """The redirect has come to nothing: the request is as it was before."""
        if row.detour is not None:
            row.detour = None
            self._drop_host(row)
            row.excluded = {row.connection} if row.connection is not None else set()

    # Destination-Host, and what answers teach

    def _set_host(self, row: _Row, host: str) -> None:
        row.host, row.is_host_ours = host, True
        avps = _with_host(_without_host(row.message.avps), host)
        self._pending.rewrite(row, evolve(row.message, avps=avps))

    def _drop_host(self, row: _Row) -> None:
        if row.is_host_ours:
            row.host, row.is_host_ours = None, False
            self._pending.rewrite(row, evolve(row.message, avps=_without_host(row.message.avps)))

    def _learn_host(self, row: _Row, answer: Message, link: PeerLink) -> None:
        """Only hosts behind an agent are worth remembering, see `diameter.host_memory`."""
        assert row.user is not None, "asked for users only"
        origin_host = answer.text(base.ORIGIN_HOST)
        if not origin_host or origin_host == row.host or origin_host.lower() == link.origin_host.lower():
            return
        if not self._selection.is_peer(origin_host):
            self._hosts.learn(answer.application_id, row.user, origin_host)

    def _forget_host(self, row: _Row) -> None:
        if row.user is not None and row.is_host_ours:
            self._hosts.forget(row.message.application_id, row.user)

    def _learn_overload(self, answer: Message) -> None:
        try:
            if self.overload.learn_untrusted(answer, now=trio.current_time()):
                self._counters["overload_report"] += 1
        except RemoteDiameterError as error:
            self._counters[error.reason] += 1


def _with_host(avps: Avps, host: str) -> Avps:
    """Destination-Host goes before Destination-Realm, as the commands print it."""
    at = next((index for index, avp in enumerate(avps) if avp.key == base.DESTINATION_REALM.key), len(avps))
    return Avps((*avps[:at], base.DESTINATION_HOST.avp(host), *avps[at:]))


def _without_host(avps: Avps) -> Avps:
    return Avps(avp for avp in avps if avp.key != base.DESTINATION_HOST.key)
