"""A re-INVITE or UPDATE of ours on its way, with the back-off when both sides send one at a time.

491 is tried again after the time of RFC 3261 §14.1 (RFC 3311 §5.3 for UPDATE), a 500 with a short Retry-After (an offer
of the peer is not finished) after that time, a 422 with a longer session interval at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Final

from ims_as.sip.errors import SipParseError
from ims_as.sip.header_types import parse_seconds
from ims_as.sip.message import Response
from ims_as.sip.timers import TimerHandle
from ims_as.sip.transaction import ClientEvent, ClientTransaction, ResponseReceived, TransactionTimeout

if TYPE_CHECKING:
    from ims_as.sip.exchange import DialogExchange

__all__ = ["OutgoingOffer", "OutgoingUpdate", "glare_delay"]

MAX_ATTEMPTS: Final = 5
"""A peer that answers 491 so often is not in glare but in trouble."""
MAX_RETRY_AFTER_S: Final = 10
"""§14.2 and RFC 3311 §5.2 choose from 0 to 10; a longer one means something else."""

Header = tuple[str, str]


def glare_delay(token: str, *, is_caller: bool) -> float:
    """Seconds to wait after a 491, RFC 3261 §14.1, in units of 10 ms.

    Args:
        token: random hexadecimal text.
        is_caller: whether we chose the Call-ID: 2.1 to 4 s, else 0 to 2 s.
    """
    fraction = int(token[:8], 16)
    return (210 + fraction % 191) / 100 if is_caller else (fraction % 201) / 100


def _retry_after(response: Response | None) -> int | None:
    text = None if response is None else response.headers.get("retry-after")
    if text is None:
        return None
    try:
        seconds = parse_seconds(text)
    except SipParseError:
        return None
    return seconds if seconds <= MAX_RETRY_AFTER_S else None


class OutgoingOffer:
    """From `start` until it calls `DialogExchange.outgoing_done` once. Subclasses know the method."""

    __slots__ = (
        "_cseq",
        "_endpoint",
        "_exchange",
        "_headers",
        "_is_done",
        "_is_waiting",
        "_n_attempts",
        "_timer",
        "_transaction",
        "body",
        "is_in_call",
        "is_refresh",
    )

    method: ClassVar[str]

    def __init__(
        self, exchange: DialogExchange, body: bytes, headers: Iterable[Header], *, is_refresh: bool = False
    ) -> None:
        self.body = body
        """Our offer; b"" when there is none."""
        self.is_refresh = is_refresh
        """Made by the session timer: the session's user does not know of it."""
        self.is_in_call = False
        """It was sent when the call was answered, so it negotiates the session timer."""
        self._headers = tuple(headers)
        self._exchange = exchange
        self._endpoint = exchange.session.endpoint
        self._transaction: ClientTransaction | None = None
        self._timer: TimerHandle | None = None
        self._n_attempts = 0
        self._is_done = False
        self._is_waiting = False
        """For a PRACK or an offer of the peer to end, not for a time."""
        self._cseq = 0

    @property
    def is_on_the_wire(self) -> bool:
        """Sent and without final response; False while it backs off."""
        return self._transaction is not None

    def start(self) -> None:
        """Send it, or wait until it may be sent."""
        self._is_waiting = not self._exchange.may_send(self)
        if self._is_waiting:
            self._back_off(self._glare_delay())
            return
        self.is_in_call = self._exchange.session.is_answered
        request = self._exchange.build_offer_request(self.method, self.body, self._headers)
        cseq = request.cseq.number
        self._transaction = self._endpoint.send_request(request, on_event=partial(self._on_event, cseq))
        self._cseq = cseq
        self._n_attempts += 1
        self._exchange.offer_sent(self)

    def wake(self) -> None:
        """What it waited for may be over."""
        if self._is_waiting and not self._is_done and self._exchange.may_send(self):
            self._stop_timer()
            self.start()

    def stop(self) -> None:
        """The session has ended: nothing is told any more; an open INVITE is cancelled, so that it ends too."""
        self._is_done = True
        self._stop_timer()
        self._cancel()

    def _cancel(self) -> None:
        if self._transaction is not None:
            self._endpoint.cancel(self._transaction)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_event(self, cseq: int, event: ClientEvent) -> None:
        response = event.response if isinstance(event, ResponseReceived) else None
        if response is None or response.status >= 200:
            self._finish(cseq, event, response)

    def _finish(self, cseq: int, event: ClientEvent, response: Response | None) -> None:
        """The final outcome of one attempt."""
        if cseq != self._cseq or self._transaction is None:
            return
        self._transaction = None
        self._stop_timer()
        if self._is_done:
            return
        self._exchange.offer_closed(self)
        if response is not None:
            status = response.status
        else:
            status = 408 if isinstance(event, TransactionTimeout) else 503
        if status >= 300 and self._n_attempts < MAX_ATTEMPTS and self._tries_again(status, response):
            return
        self._is_done = True
        self._exchange.outgoing_done(self, status, response)

    def _tries_again(self, status: int, response: Response | None) -> bool:
        if status == 491:
            self._back_off(self._glare_delay())
        elif status == 500 and (seconds := _retry_after(response)) is not None:
            self._back_off(seconds or self._glare_delay())
        elif status == 422 and response is not None and self._exchange.session.receive_422(response):
            self.start()
        else:
            return False
        return True

    def _glare_delay(self) -> float:
        return glare_delay(self._endpoint.new_tag(), is_caller=self._exchange.session.is_caller)

    def _back_off(self, seconds: float) -> None:
        self._stop_timer()
        self._timer = self._endpoint.call_at(self._endpoint.now() + seconds, self._retry)

    def _retry(self) -> None:
        self._timer = None
        self.start()


class OutgoingUpdate(OutgoingOffer):
    """An UPDATE (RFC 3311), with or without an offer."""

    __slots__ = ()
    method = "UPDATE"
