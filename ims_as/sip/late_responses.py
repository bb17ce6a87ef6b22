"""Responses whose connection has gone (RFC 3261 §18.2.2, RFC 3263 §5).

First a connection to the source address and the port in the Via is opened. Where that fails, the host in the Via is
looked up as a next hop is, and its places are tried one after the other; only those that may speak to us, so that
nobody can have our answers sent to a stranger.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import attrs

from ims_as.sip.counters import SipCounters
from ims_as.sip.errors import SipParseError
from ims_as.sip.flow import DEFAULT_PORTS, Destination, Flow
from ims_as.sip.transaction import ServerTransaction

__all__ = ["LateResponses"]

MAX_PER_CONNECTION: Final = 256
"""Responses that wait for one connection to open; further ones have this one try."""

MAX_WAIT_S: Final = 10.0
"""Opening takes no longer, TLS included; what breaks later had been open."""

Look = Callable[[Sequence[Destination] | str], None]


@attrs.define
class _Waiting:
    transaction: ServerTransaction
    message: bytes
    """The latest."""
    others: list[Destination] | None
    """What is left to try; None: the Via has not been looked up yet."""
    until: float


@attrs.define
class LateResponses:
    """The responses that are on such a way.

    Args:
        flow_to, look_up, put, now: those of the endpoint.
        is_allowed: whether an address may have a response that did not come from it.
    """

    _flow_to: Callable[[Destination], Flow | None]
    _look_up: Callable[[Destination, Look], None]
    _put: Callable[[Flow, bytes], str | None]
    _is_allowed: Callable[[str], bool]
    _now: Callable[[], float]
    _counters: SipCounters
    _waiting: dict[int, list[_Waiting]] = attrs.Factory(dict)
    """By connection."""

    def send(self, transaction: ServerTransaction, message: bytes) -> str | None:
        """Send on a new connection; None, or why that is not possible."""
        via = transaction.request.via
        transport = transaction.flow.transport
        port = via.port or DEFAULT_PORTS[transport]
        try:
            flow = self._flow_to(Destination(transport, transaction.flow.remote[0], port, domain=via.host))
        except OSError as error:
            return str(error)
        assert flow is not None
        return self._send_on(flow, transaction, message, None)

    @property
    def is_busy(self) -> bool:
        """Whether any response waits for a connection."""
        return bool(self._waiting)

    def note_response(self, transaction: ServerTransaction, message: bytes) -> None:
        """A further response of a transaction that may be among those."""
        for each in self._waiting.get(transaction.flow.connection or 0, ()):
            if each.transaction is transaction:
                each.message = message

    def receive_connection_open(self, connection: int) -> None:
        """It could be opened: what waited for it is on its way."""
        self._waiting.pop(connection, None)

    def receive_connection_lost(self, connection: int) -> None:
        """A connection that was being opened for a response may be among those."""
        for each in self._waiting.pop(connection, ()):
            if each.transaction.flow.connection != connection or each.until < self._now():
                continue  # a later response has found another way; or it had been open all the time
            if each.others is None:
                self._ask_via(each)
            else:
                self._try_next(each, each.others)

    def _send_on(
        self, flow: Flow, transaction: ServerTransaction, message: bytes, others: list[Destination] | None
    ) -> str | None:
        transaction.flow = flow
        reason = self._put(flow, message)
        if reason is None and flow.connection is not None:
            waiting = self._waiting.setdefault(flow.connection, [])
            if len(waiting) < MAX_PER_CONNECTION:
                waiting.append(_Waiting(transaction, message, others, self._now() + MAX_WAIT_S))
        return reason

    def _ask_via(self, late: _Waiting) -> None:
        transaction = late.transaction
        try:
            via = transaction.request.via
        except SipParseError:
            return
        target = Destination(transaction.flow.transport, via.host, via.port or 0)

        def found(answer: Sequence[Destination] | str) -> None:
            self._try_next(late, [] if isinstance(answer, str) else list(answer))

        if ":" in via.host or via.host.replace(".", "").isdigit():
            found([target])
        else:
            self._look_up(target, found)

    def _try_next(self, late: _Waiting, targets: list[Destination]) -> None:
        while targets:
            target = targets.pop(0)
            if not self._is_allowed(target.host):
                continue
            try:
                flow = self._flow_to(target)
            except OSError:
                continue
            if flow is not None and self._send_on(flow, late.transaction, late.message, targets) is None:
                return
        self._counters.drops["response without a way"] += 1
