"""One outgoing re-INVITE: its ACKs, its limit, and reliable provisional responses that it may meet."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from ims_as.sip.body import SDP_TYPE, sdp_of
from ims_as.sip.message import Response
from ims_as.sip.outgoing_offer import OutgoingOffer, glare_delay
from ims_as.sip.reliable import read_rseq
from ims_as.sip.transaction import ClientEvent, ResponseReceived

if TYPE_CHECKING:
    from ims_as.sip.exchange import DialogExchange

__all__ = ["OutgoingReinvite", "glare_delay"]

ANSWER_LIMIT_S: Final = 60.0
"""A re-INVITE that only gets provisional responses is cancelled then; a person may have to agree to it."""

Header = tuple[str, str]


class OutgoingReinvite(OutgoingOffer):
    """Its 2xx are ACKed here, retransmissions too: at once, or when the answer to the peer's offer is known."""

    __slots__ = ("_ack", "_needs_ack", "_rseq", "answer")

    method = "INVITE"

    def __init__(
        self, exchange: DialogExchange, body: bytes, headers: Iterable[Header], *, is_refresh: bool = False
    ) -> None:
        super().__init__(exchange, body, headers, is_refresh=is_refresh)
        self.answer = b""
        """The peer's answer, when a reliable provisional response brought it."""
        self._rseq = 0
        self._ack: tuple[bytes, tuple[Header, ...]] = (b"", ())
        self._needs_ack = False

    def start(self) -> None:
        super().start()
        if self._transaction is not None:
            self._rseq = 0
            self.answer = b""
            self._timer = self._endpoint.call_at(self._endpoint.now() + ANSWER_LIMIT_S, self._cancel)

    def send_ack(self, body: bytes, headers: Iterable[Header] = ()) -> None:
        """The ACK with our answer; later retransmissions of the 2xx get the same."""
        self._needs_ack = False
        self._ack = body, tuple(headers)
        self._send_ack(self._cseq)

    def _on_event(self, cseq: int, event: ClientEvent) -> None:
        response = event.response if isinstance(event, ResponseReceived) else None
        if response is not None and response.status < 200:
            if cseq == self._cseq:
                self._receive_provisional(response)
            return
        if response is not None and response.status < 300:
            if not self._is_done and cseq == self._cseq:
                assert self._exchange.dialog is not None
                self._exchange.dialog.update_target(response)
                self._needs_ack = not self.body and bool(sdp_of(response))
            if not self._needs_ack:
                self._send_ack(cseq)
        self._finish(cseq, event, response)

    @property
    def needs_ack(self) -> bool:
        """The 2xx holds an offer that is not answered."""
        return self._needs_ack

    def _receive_provisional(self, response: Response) -> None:
        """Our re-INVITEs do not offer 100rel; a peer that uses it all the same must not wait in vain."""
        rseq = read_rseq(response)
        if rseq is None or self._rseq not in (0, rseq - 1):
            return
        self._rseq = rseq
        if not self.answer and self.body:
            self.answer = sdp_of(response)
        self._exchange.send_prack(rseq, self._cseq)

    def _send_ack(self, cseq: int) -> None:
        dialog = self._exchange.dialog
        assert dialog is not None
        body, headers = self._ack
        self._endpoint.send_ack(
            dialog.build_request("ACK", cseq=cseq, headers=headers, body=body, content_type=SDP_TYPE)
        )
