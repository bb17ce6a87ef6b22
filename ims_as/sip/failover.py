"""A request that is tried at one place after the other (RFC 3263 §4.3).

The user sees one transaction with one outcome. Behind it, each place gets a client transaction of its own with a new
branch; `ClientTransaction.successor` leads from the first to the one that is under way, so that a CANCEL finds it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import attrs

from ims_as.sip.errors import SipParseError
from ims_as.sip.flow import Destination
from ims_as.sip.header_types import parse_seconds
from ims_as.sip.message import Request, Response
from ims_as.sip.transaction import ClientEvent, ClientTransaction, ResponseReceived, TransportFailure

if TYPE_CHECKING:
    from ims_as.sip.sender import Sender

__all__ = ["AVOID_S", "FailedTargets", "Failover"]

AVOID_S: Final = 32.0
"""A place that failed is tried last for so long: about what its transactions take to time out."""
MAX_AVOID_S: Final = 3600.0
"""However long a Retry-After is."""
NO_STREAM_S: Final = 300.0
"""A place that takes datagrams and no TCP connections is not asked for one again for so long."""
MAX_FAILED: Final = 1024


@attrs.define
class FailedTargets:
    """Places that failed lately; bounded, the oldest is forgotten first."""

    _until: dict[Destination, float] = attrs.Factory(dict)

    def add(self, target: Destination, now: float, seconds: float = AVOID_S) -> None:
        self._until.pop(target, None)
        if len(self._until) >= MAX_FAILED:
            del self._until[next(iter(self._until))]
        self._until[target] = now + seconds

    def has(self, target: Destination, now: float) -> bool:
        until = self._until.get(target)
        if until is not None and until <= now:
            del self._until[target]
            return False
        return until is not None

    def sorted(self, targets: Sequence[Destination], now: float) -> tuple[Destination, ...]:
        """Those that failed behind the others, else in their order."""
        if not self._until:
            return tuple(targets)
        return tuple(sorted(targets, key=lambda target: self.has(target, now)))


class Failover:
    """Stands between a request's transactions and its user.

    Args:
        request: as its user made it, without our Via.
        first: the transaction that the user holds.
        target: where the first one goes.
        others: where to go next, in order.
    """

    __slots__ = ("_core", "_current", "_has_progressed", "_has_response", "_on_event", "_others", "_request", "_target")

    def __init__(
        self,
        core: Sender,
        request: Request,
        first: ClientTransaction,
        target: Destination,
        others: Sequence[Destination],
    ) -> None:
        self._core = core
        self._request = request
        self._current = first
        self._target = target
        self._others = list(others)
        self._on_event: Callable[[ClientEvent], None] = first.on_event
        self._has_response = False
        self._has_progressed = False

    def __call__(self, event: ClientEvent) -> None:
        if self._is_failure(event) and self._may_go_on(event) and self._try_next():
            return
        self._on_event(event)

    def _is_failure(self, event: ClientEvent) -> bool:
        """503, a broken transport, or silence (§4.3): a time-out after a provisional response is none."""
        if isinstance(event, ResponseReceived):
            status = event.response.status
            self._has_response = True
            self._has_progressed = self._has_progressed or 100 < status < 200
            return status == 503
        return isinstance(event, TransportFailure) or not self._has_response

    def _may_go_on(self, event: ClientEvent) -> bool:
        if self._current.is_cancelled or self._has_progressed:
            return False
        if not isinstance(event, TransportFailure):
            # another transport to the same place is for when this one does not work (RFC 3261 §18.1.1)
            here = self._target.host, self._target.port
            self._others = [other for other in self._others if (other.host, other.port) != here]
        if not self._others:
            return False
        self._core.failed_targets.add(self._target, self._core.now(), self._avoid_s(event))
        # a dialog is bound to the one that answered; only what was never sent may go another way
        return isinstance(event, TransportFailure) or self._request.to_tag is None

    def _avoid_s(self, event: ClientEvent) -> float:
        """How long the place that has failed is avoided."""
        if isinstance(event, ResponseReceived):
            return _retry_after_s(event.response)
        nearest = self._others[0]
        is_deaf = nearest.transport == "UDP" and (nearest.host, nearest.port) == (self._target.host, self._target.port)
        return NO_STREAM_S if is_deaf and isinstance(event, TransportFailure) else AVOID_S

    def _try_next(self) -> bool:
        while self._others:
            self._target = self._others.pop(0)
            successor = self._core.send_again(self._request, self._target, self)
            if successor is not None:
                self._current.successor = successor
                self._current = successor
                self._has_response = False
                self._core.counters.failovers[self._target.transport] += 1
                return True
        return False


def _retry_after_s(response: Response) -> float:
    """What a 503 asks for (RFC 3261 §21.5.4), within reason."""
    text = response.headers.get("retry-after")
    try:
        wanted = float(parse_seconds(text)) if text is not None else AVOID_S
    except SipParseError:
        wanted = AVOID_S
    return min(max(wanted, 1.0), MAX_AVOID_S)
