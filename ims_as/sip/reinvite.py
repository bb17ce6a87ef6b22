"""One outgoing re-INVITE, with the back-off of RFC 3261 §14.1 when both sides send one at a time (491)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Protocol

from ims_as.sip.core import EndpointCore
from ims_as.sip.dialog import Dialog
from ims_as.sip.message import Request, Response
from ims_as.sip.timers import TimerHandle
from ims_as.sip.transaction import ClientEvent, ClientTransaction, ResponseReceived, TransactionTimeout

__all__ = ["OutgoingReinvite", "glare_delay"]

MAX_ATTEMPTS: Final = 5
"""A peer that answers 491 so often is not in glare but in trouble."""
ANSWER_LIMIT_S: Final = 60.0
"""A re-INVITE that only gets provisional responses is cancelled then; a person may have to agree to it."""


class ReinviteOwner(Protocol):
    """The session."""

    dialog: Dialog | None

    def build_reinvite(self, body: bytes, headers: Iterable[tuple[str, str]]) -> Request: ...
    def can_retry_reinvite(self) -> bool: ...
    def reinvite_done(self, status: int, response: Response | None) -> None: ...


def glare_delay(token: str, *, is_caller: bool) -> float:
    """Seconds to wait after a 491, RFC 3261 §14.1, in units of 10 ms.

    Args:
        token: random hexadecimal text.
        is_caller: whether we chose the Call-ID: 2.1 to 4 s, else 0 to 2 s.
    """
    fraction = int(token[:8], 16)
    return (210 + fraction % 191) / 100 if is_caller else (fraction % 201) / 100


class OutgoingReinvite:
    """From `start` until it calls `owner.reinvite_done` once; its 2xx are ACKed here, retransmissions too."""

    def __init__(
        self, endpoint: EndpointCore, owner: ReinviteOwner, body: bytes, headers: Iterable[tuple[str, str]]
    ) -> None:
        self.body = body
        self._headers = tuple(headers)
        self._endpoint = endpoint
        self._owner = owner
        self._transaction: ClientTransaction | None = None
        self._timer: TimerHandle | None = None
        self._n_attempts = 0
        self._is_done = False
        self._cseq = 0

    @property
    def is_on_the_wire(self) -> bool:
        """Sent and without final response; False while it backs off."""
        return self._transaction is not None

    def start(self) -> None:
        self._n_attempts += 1
        request = self._owner.build_reinvite(self.body, self._headers)
        self._cseq = request.cseq.number
        self._transaction = self._endpoint.send_request(request, on_event=self._handler(self._cseq))
        self._timer = self._endpoint.call_at(self._endpoint.now() + ANSWER_LIMIT_S, self._cancel)

    def stop(self) -> None:
        """The session has ended: nothing is told any more; an open transaction is cancelled, so that it ends too."""
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

    def _handler(self, cseq: int) -> Callable[[ClientEvent], None]:
        return lambda event: self._on_event(cseq, event)

    def _on_event(self, cseq: int, event: ClientEvent) -> None:
        response = event.response if isinstance(event, ResponseReceived) else None
        if response is not None and response.status < 200:
            return
        is_success = response is not None and response.status < 300
        if is_success:
            dialog = self._owner.dialog
            assert dialog is not None
            if not self._is_done and cseq == self._cseq and response is not None:
                dialog.update_target(response)
            self._endpoint.send_ack(dialog.build_request("ACK", cseq=cseq))
        if cseq != self._cseq or self._transaction is None:
            return  # a 2xx retransmission
        self._transaction = None
        self._stop_timer()
        if self._is_done:
            return
        if response is not None:
            status = response.status
        else:
            status = 408 if isinstance(event, TransactionTimeout) else 503
        if status == 491 and self._n_attempts < MAX_ATTEMPTS:
            self._back_off()
            return
        self._is_done = True
        self._owner.reinvite_done(status, response)

    def _back_off(self) -> None:
        dialog = self._owner.dialog
        assert dialog is not None
        delay = glare_delay(self._endpoint.new_tag(), is_caller=dialog.is_caller)
        self._timer = self._endpoint.call_at(self._endpoint.now() + delay, self._retry)

    def _retry(self) -> None:
        self._timer = None
        if self._owner.can_retry_reinvite():
            self.start()
        else:
            self._back_off()  # the peer's own re-INVITE is not finished yet
