"""A request that is tried at one place after the other (RFC 3263 §4.3).

The user sees one transaction with one outcome. Behind it, each place gets a client transaction of its own with a new
branch; `ClientTransaction.successor` leads from the first to the one that is under way, so that a CANCEL finds it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import attrs

from ims_as.sip.flow import Destination
from ims_as.sip.message import Request
from ims_as.sip.transaction import ClientEvent, ClientTransaction, ResponseReceived, TransportFailure

if TYPE_CHECKING:
    from ims_as.sip.sender import Sender

__all__ = ["AVOID_S", "FailedTargets", "Failover"]

AVOID_S: Final = 32.0
"""A place that failed is tried last for so long: about what its transactions take to time out."""
MAX_FAILED: Final = 1024


@attrs.define
class FailedTargets:
    """Places that failed lately; bounded, the oldest is forgotten first."""

    _until: dict[Destination, float] = attrs.Factory(dict)

    def add(self, target: Destination, now: float) -> None:
        self._until.pop(target, None)
        if len(self._until) >= MAX_FAILED:
            del self._until[next(iter(self._until))]
        self._until[target] = now + AVOID_S

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

    __slots__ = ("_core", "_current", "_has_progressed", "_on_event", "_others", "_request", "_target")

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
        self._has_progressed = False

    def __call__(self, event: ClientEvent) -> None:
        if isinstance(event, ResponseReceived):
            status = event.response.status
            if 100 < status < 200:
                self._has_progressed = True
            is_failure = status == 503
        else:
            is_failure = True
        if is_failure and self._may_go_on(event) and self._try_next():
            return
        self._on_event(event)

    def _may_go_on(self, event: ClientEvent) -> bool:
        if self._current.is_cancelled or self._has_progressed:
            return False
        if not isinstance(event, TransportFailure):
            # another transport to the same place is for when this one does not work (RFC 3261 §18.1.1)
            here = self._target.host, self._target.port
            self._others = [other for other in self._others if (other.host, other.port) != here]
        if not self._others:
            return False
        self._core.failed_targets.add(self._target, self._core.now())
        # a dialog is bound to the one that answered; only what was never sent may go another way
        return isinstance(event, TransportFailure) or self._request.to_tag is None

    def _try_next(self) -> bool:
        while self._others:
            self._target = self._others.pop(0)
            successor = self._core.send_again(self._request, self._target, self)
            if successor is not None:
                self._current.successor = successor
                self._current = successor
                self._core.counters.failovers[self._target.transport] += 1
                return True
        return False
