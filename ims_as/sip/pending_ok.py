"""The 2xx of an INVITE until its ACK (RFC 3261 §13.3.1.4): retransmitted by the user agent on every transport."""

from __future__ import annotations

from collections.abc import Callable

from ims_as.sip.core import EndpointCore
from ims_as.sip.message import Response
from ims_as.sip.timers import TimerHandle
from ims_as.sip.transaction import ServerTransaction

__all__ = ["PendingOk"]


class PendingOk:
    """One 2xx on its way: sent at once, again after T1, 2*T1 … T2, given up after 64*T1."""

    __slots__ = ("_endpoint", "_give_up_at", "_interval", "_on_timeout", "_timer", "cseq", "response", "transaction")

    def __init__(
        self,
        endpoint: EndpointCore,
        transaction: ServerTransaction,
        response: Response,
        on_timeout: Callable[[], None],
    ) -> None:
        self.transaction = transaction
        self.response = response
        self.cseq = transaction.request.cseq.number
        self._endpoint = endpoint
        self._on_timeout = on_timeout
        self._interval = endpoint.timers.t1
        self._give_up_at = endpoint.now() + endpoint.timers.transaction_timeout
        self._timer: TimerHandle | None = None

    def start(self) -> bool:
        """Send it; False when the transaction cannot take it any more (nothing is started then)."""
        if not self._endpoint.send_response(self.transaction, self.response):
            return False
        self._schedule()
        return True

    def stop(self) -> None:
        """The ACK came, or nobody wants it any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _schedule(self) -> None:
        when = min(self._endpoint.now() + self._interval, self._give_up_at)
        self._timer = self._endpoint.call_at(when, self._fire)

    def _fire(self) -> None:
        self._timer = None
        if self._endpoint.now() >= self._give_up_at:
            self._on_timeout()
            return
        self._endpoint.send_response(self.transaction, self.response)
        self._interval = min(self._interval * 2, self._endpoint.timers.t2)
        self._schedule()
