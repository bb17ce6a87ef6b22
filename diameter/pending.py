"""Requests that wait for their answer, sans-IO (RFC 6733 §5.5.4, §5.1).

One row per request: the encoded message, where it was sent, until when an answer is wanted, and who waits. Answers
are matched by hop-by-hop id and connection; when a connection is lost its rows are taken out for the other peer, or
kept aside until a peer opens. The table is bounded, so that silent peers cannot make it grow.

`DuplicateFilter` is the other side of failover: a request that was answered before gets the same answer again (§3, key:
Origin-Host and end-to-end id).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

from attrs import define, evolve, field

from diameter.errors import PendingFullError
from diameter.message import FLAG_RETRANSMITTED, Message, mark_retransmitted
from diameter.redirect import DiameterUri

__all__ = ["Detour", "DuplicateFilter", "PendingRequest", "PendingTable", "is_repeated"]

_ID_MASK = 0xFFFFFFFF

W = TypeVar("W")


@define(eq=False)
class Detour:
    """Where a redirected request is to go.

    Attributes:
        hosts: those that are still to be tried.
        target: the peer that is to get it, opaque here.
        answer: the redirect indication; None when the redirection was remembered.
    """

    hosts: list[DiameterUri]
    target: object
    answer: Message | None


@define(eq=False)
class PendingRequest(Generic[W]):
    """One row.

    Attributes:
        message: the request with its end-to-end id; the hop-by-hop id changes at each sending.
        frame: encoded request as last sent.
        waiter: whoever wants the answer, opaque here.
        deadline: monotonic seconds; after it nothing is re-sent.
        connection: where it was sent last; None while no peer is open.
        hop_by_hop: key in the table.
        n_sent: how often it was written to a connection.
        sent_at: when it was last, monotonic seconds; set by the owner.
        excluded: connections that have had it and were lost or suspect.
        answer: set by the owner before the waiter is told.
        user: key under which the host that serves it is remembered.
        host: Destination-Host.
        is_host_ours: True when the node has put it in (remembered, or redirected), so that it may take it out again.
        detour: set while it is redirected.
        n_redirects: how often it was.
    """

    message: Message
    frame: bytes
    waiter: W
    deadline: float
    connection: Hashable | None = None
    hop_by_hop: int = 0
    n_sent: int = 0
    sent_at: float = 0.0
    excluded: set[Hashable] = field(factory=set)
    answer: Message | None = None
    user: str | None = None
    host: str | None = None
    is_host_ours: bool = False
    detour: Detour | None = None
    n_redirects: int = 0


class PendingTable(Generic[W]):
    """The rows of one node.

    Args:
        first_hop_by_hop: where the 32-bit counter starts (a random number, RFC 6733 §3).
        max_requests: rows at most.
    """

    def __init__(self, *, first_hop_by_hop: int, max_requests: int) -> None:
        self._next_hop_by_hop = first_hop_by_hop & _ID_MASK
        self._max_requests = max_requests
        self._rows: dict[int, PendingRequest[W]] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, message: Message, waiter: W, *, deadline: float) -> PendingRequest[W]:
        """A new row, not sent yet.

        Raises:
            PendingFullError: the table is full.
        """
        if len(self._rows) >= self._max_requests:
            raise PendingFullError(f"{self._max_requests} requests are unanswered")
        row = PendingRequest(message, b"", waiter, deadline, hop_by_hop=self._take_id())
        self._rows[row.hop_by_hop] = row
        return row

    def send_on(self, row: PendingRequest[W], connection: Hashable, *, is_retransmission: bool = True) -> bytes:
        """Books the row on a connection and returns the bytes for it.

        T is set from the second sending on, unless the first one was answered (`is_retransmission` False): then
        nobody can have carried it out.
        """
        if row.n_sent == 0:
            row.frame = row.message.encode(hop_by_hop=row.hop_by_hop)
        else:
            del self._rows[row.hop_by_hop]
            row.hop_by_hop = self._take_id()
            self._rows[row.hop_by_hop] = row
            row.frame = mark_retransmitted(
                row.frame,
                hop_by_hop=row.hop_by_hop,
                is_retransmitted=is_retransmission or bool(row.frame[4] & FLAG_RETRANSMITTED),
            )
        row.connection = connection
        row.n_sent += 1
        return row.frame

    def match(self, answer: Message, connection: Hashable) -> PendingRequest[W] | None:
        """Takes out the row that the answer belongs to; None for an answer that nobody waits for.

        An answer from another connection than the request went to, to another command, or with another end-to-end
        id is not a match: whoever mixes up answers would give one user the profile of another.
        """
        row = self._rows.get(answer.hop_by_hop)
        if row is None or row.connection != connection:
            return None
        asked = row.message
        if asked.code != answer.code or asked.end_to_end != answer.end_to_end:
            return None
        del self._rows[answer.hop_by_hop]
        row.answer = answer
        return row

    def restore(self, row: PendingRequest[W]) -> None:
        """Puts a matched row back: its answer was none, it has to be sent again."""
        row.hop_by_hop = self._take_id()
        self._rows[row.hop_by_hop] = row
        row.connection = row.answer = None

    def rewrite(self, row: PendingRequest[W], message: Message) -> None:
        """Gives a row other AVPs for its next sending; T stays when it was set."""
        if row.n_sent:
            flags = message.flags | row.frame[4] & FLAG_RETRANSMITTED
            message = evolve(message, flags=flags)
            row.frame = message.encode(hop_by_hop=row.hop_by_hop)
        row.message = message

    def discard(self, row: PendingRequest[W]) -> None:
        """Forgets a row, answered or not."""
        if self._rows.get(row.hop_by_hop) is row:
            del self._rows[row.hop_by_hop]

    def take_connection(self, connection: Hashable, *, now: float) -> list[PendingRequest[W]]:
        """The rows that were sent on a lost or suspect connection and are still wanted, oldest first.

        They stay in the table with no connection, until `send_on` books them elsewhere.
        """
        found = self.rows_on(connection, now=now)
        for row in found:
            row.excluded.add(connection)
            row.connection = None
        return found

    def rows_on(self, connection: Hashable, *, now: float) -> list[PendingRequest[W]]:
        """The rows that were sent on a connection and are still wanted, oldest first. Nothing changes."""
        return [row for row in self._rows.values() if row.connection == connection and row.deadline > now]

    def waiting(self, *, now: float) -> list[PendingRequest[W]]:
        """Rows that have no connection and are still wanted."""
        return [row for row in self._rows.values() if row.connection is None and row.deadline > now]

    def _take_id(self) -> int:
        while True:
            candidate = self._next_hop_by_hop
            self._next_hop_by_hop = (candidate + 1) & _ID_MASK
            if candidate not in self._rows:
                return candidate


def is_repeated(request: Message, first: Message) -> bool:
    """True when a request with the identity of an earlier one is that one again: it says so by T, or is equal.

    Peers that use an end-to-end id twice for different requests do exist.
    """
    return request.code == first.code and (request.is_retransmitted or request.avps == first.avps)


class DuplicateFilter:
    """Answers given, by (Origin-Host, end-to-end id); the oldest is forgotten first.

    Args:
        max_answers: bound; with a kB each some thousand are cheap.
        keep_s: RFC 6733 §3 promises unique end-to-end ids for four minutes only.
    """

    def __init__(self, *, max_answers: int = 4096, keep_s: float = 240.0) -> None:
        self._max_answers = max_answers
        self._keep_s = keep_s
        self._answers: OrderedDict[tuple[str, int], tuple[float, Message, Message]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._answers)

    def remember(self, origin_host: str, request: Message, answer: Message, *, now: float) -> None:
        """Stores what was answered."""
        self._answers[origin_host, request.end_to_end] = (now, request, answer)
        while len(self._answers) > self._max_answers:
            self._answers.popitem(last=False)

    def find(self, origin_host: str, request: Message, *, now: float) -> Message | None:
        """The earlier answer to a repeated request, with the request's hop-by-hop id."""
        stored = self._answers.get((origin_host, request.end_to_end))
        if stored is None or now - stored[0] > self._keep_s or not is_repeated(request, stored[1]):
            return None
        return stored[2].with_ids(hop_by_hop=request.hop_by_hop, end_to_end=request.end_to_end)
