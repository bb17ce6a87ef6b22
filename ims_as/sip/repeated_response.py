"""A response that is sent again until somebody acknowledges it: a 2xx its ACK, a reliable provisional its PRACK."""

from __future__ import annotations

import math
from collections.abc import Callable

from ims_as.sip.core import EndpointCore
from ims_as.sip.message import Response
from ims_as.sip.timers import TimerHandle
from ims_as.sip.transaction import ServerTransaction

__all__ = ["RepeatedResponse", "repeated_ok"]


class RepeatedResponse:
    """Sent at once, again after T1, 2*T1, 4*T1 …, given up after 64*T1.

    Args:
        longest_s: the interval grows no longer than this.
        on_timeout: called when it is given up.
    """

    __slots__ = (
        "_endpoint",
        "_give_up_at",
        "_interval",
        "_longest_s",
        "_on_timeout",
        "_timer",
        "cseq",
        "response",
        "server",
    )

    def __init__(
        self,
        endpoint: EndpointCore,
        server: ServerTransaction,
        response: Response,
        on_timeout: Callable[[], None],
        *,
        longest_s: float = math.inf,
    ) -> None:
        self.server = server
        self.response = response
        self.cseq = server.request.cseq.number  # the transaction forgets most of its request
        self._endpoint = endpoint
        self._on_timeout = on_timeout
        self._longest_s = longest_s
        self._interval = endpoint.timers.t1
        self._give_up_at = endpoint.now() + endpoint.timers.transaction_timeout
        self._timer: TimerHandle | None = None

    def start(self) -> bool:
        """Send it; False when the transaction cannot take it any more (nothing is started then)."""
        if not self._endpoint.send_response(self.server, self.response):
            return False
        self._schedule()
        return True

    def stop(self) -> None:
        """The acknowledgement came, or nobody wants it any more."""
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
        self._endpoint.send_response(self.server, self.response)
        self._interval = min(self._interval * 2, self._longest_s)
        self._schedule()


def repeated_ok(
    endpoint: EndpointCore, server: ServerTransaction, response: Response, on_timeout: Callable[[], None]
) -> RepeatedResponse:
    """The 2xx of an INVITE until its ACK: at most T2 apart, on every transport (RFC 3261 §13.3.1.4)."""
    return RepeatedResponse(endpoint, server, response, on_timeout, longest_s=endpoint.timers.t2)
