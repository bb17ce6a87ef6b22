"""The caller's part of a session until it is answered: the INVITE, its early dialogs, PRACK, ACK and CANCEL.

A forked INVITE makes one early dialog for each To tag. The first 2xx wins; a 2xx of another dialog, or one that comes
to a call that was given up, is ACKed and hung up (RFC 3261 §13.2.2.4).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from ims_as.sip.body import SDP_TYPE, sdp_of
from ims_as.sip.dialog import Dialog
from ims_as.sip.errors import LocalProtocolError
from ims_as.sip.exchange import DialogExchange, Offer
from ims_as.sip.message import Request, Response
from ims_as.sip.reliable import read_rseq
from ims_as.sip.session_events import Answered, EarlyDialogEnded, Provisional, Rejected
from ims_as.sip.transaction import ClientEvent, ClientTransaction, ResponseReceived, TransactionTimeout

if TYPE_CHECKING:
    from ims_as.sip.session_core import SessionCore

__all__ = ["MAX_FORKS", "CallerSide"]

MAX_FORKS: Final = 16
"""Early dialogs, and 2xx of other dialogs, that are remembered; what comes beyond is ignored."""

MAX_RELIABLE: Final = 64
"""Provisional responses of one early dialog that get a PRACK: one every five seconds until a call is given up."""
MAX_ATTEMPTS: Final = 3
"""INVITEs, when one proxy after the other wants a longer session interval."""

Header = tuple[str, str]


class CallerSide:
    """Made with the session; the session's public methods say what is promised."""

    __slots__ = ("_ack", "_client", "_early", "_forks", "_left", "_n_attempts", "_send", "_session", "is_cancelled")

    def __init__(self, session: SessionCore) -> None:
        self._session = session
        self._client: ClientTransaction | None = None
        self._early: dict[str, DialogExchange] = {}
        self._forks: dict[str, Dialog] = {}
        """Dialogs that were hung up, by To tag; their 2xx are still ACKed."""
        self._left: dict[str, Dialog] = {}
        """Early dialogs that are over, in case of a 2xx all the same: their sequence numbers go on."""
        self._ack: tuple[bytes, tuple[Header, ...]] | None = None
        """Body and headers of the ACK that was sent."""
        self._send: Callable[[Request, Callable[[ClientEvent], None]], ClientTransaction] | None = None
        self._n_attempts = 1
        self.is_cancelled = False

    # ---------------------------------------------------------------- early dialogs

    @property
    def early(self) -> list[DialogExchange]:
        """The early dialogs, oldest first."""
        return list(self._early.values())

    def find(self, tag: str) -> DialogExchange | None:
        """The early dialog with that To tag."""
        return self._early.get(tag)

    def _open(self, tag: str, response: Response) -> DialogExchange:
        """The exchange of a response's dialog, a new one for a tag that was not seen before."""
        session = self._session
        exchange = self._early.get(tag)
        if exchange is None:
            exchange = self._early[tag] = session.new_exchange(self._dialog_of(tag, response))
        else:
            assert exchange.dialog is not None
            exchange.dialog.update_target(response)
        exchange.note_allow(response)
        return exchange

    def _dialog_of(self, tag: str, response: Response) -> Dialog:
        """One that was left and comes back (a 2xx after 199, or of a callee that was not the first) counts on."""
        dialog = self._left.pop(tag, None)
        if dialog is None:
            dialog = Dialog.from_uac(self._session.request, response)
            dialog.headers = self._session.request_headers
        return dialog

    def _leave(self, tag: str, exchange: DialogExchange) -> None:
        exchange.close()
        if exchange.dialog is not None and len(self._left) < MAX_FORKS:
            self._left[tag] = exchange.dialog

    def _end_early(self, tag: str, response: Response | None) -> None:
        exchange = self._early.pop(tag, None)
        if exchange is None:
            return
        session = self._session
        self._leave(tag, exchange)
        if session.exchange is exchange:
            left = list(self._early.values())
            session.exchange = left[-1] if left else session.new_exchange(None)
        session.emit(EarlyDialogEnded(tag, response))

    def hang_up_early(self, tag: str) -> bool:
        """BYE to one early dialog (§15.1.1); the INVITE goes on for the others."""
        exchange = self._early.get(tag)
        if exchange is None or exchange.dialog is None:
            return False
        self._session.endpoint.send_request(exchange.dialog.build_request("BYE"), on_event=_ignore)
        self._end_early(tag, None)
        return True

    def left(self, exchange: DialogExchange) -> bool:
        """The peer knows an early dialog no more: the others go on, the INVITE of the only one is cancelled.

        Returns:
            Whether there are others.
        """
        if len(self._early) > 1 and exchange.dialog is not None:
            self._end_early(exchange.dialog.id.remote_tag, None)
            return True
        self.cancel()
        return False

    # ---------------------------------------------------------------- INVITE

    def start(self, send: Callable[[Request, Callable[[ClientEvent], None]], ClientTransaction]) -> None:
        self._send = send
        self._client = send(self._session.request, self._on_invite_event)

    def _start_again(self) -> None:
        """After a 422: the same INVITE with the next CSeq and a longer session interval (RFC 4028 §7.3)."""
        session = self._session
        refresher = session.refresher
        assert refresher is not None
        assert self._send is not None
        for exchange in self._early.values():
            exchange.close()
        self._early.clear()
        request = session.request.copy()
        for name in ("Via", "Session-Expires", "Min-SE"):
            request.headers.remove(name)
        request.headers.set("CSeq", f"{request.cseq.number + 1} INVITE")
        for name, value in refresher.request_headers():
            request.headers.add(name, value)
        self._n_attempts += 1
        session.restart_as_caller(request)
        self._client = self._send(request, self._on_invite_event)

    def cancel(self, headers: Iterable[Header] = ()) -> None:
        if self._client is None or not self._session.is_early or self.is_cancelled:
            return
        self.is_cancelled = True
        self._session.endpoint.cancel(self._client, headers=headers)

    def _on_invite_event(self, event: ClientEvent) -> None:
        session = self._session
        if isinstance(event, ResponseReceived):
            response = event.response
            if 200 <= response.status < 300:
                self._receive_2xx(response)
            elif not session.is_early:
                return
            elif response.status < 200:
                self._receive_provisional(response)
            elif self._starts_again(response):
                self._start_again()
            else:
                session.terminate(Rejected(response.status, response))
        elif not session.is_terminated:
            status = 408 if isinstance(event, TransactionTimeout) else 503
            session.terminate(Rejected(487 if self.is_cancelled else status, None))

    def _starts_again(self, response: Response) -> bool:
        return (
            response.status == 422
            and not self.is_cancelled
            and self._n_attempts < MAX_ATTEMPTS
            and self._session.receive_422(response)
        )

    def _receive_provisional(self, response: Response) -> None:
        if response.status == 100:
            return
        session = self._session
        tag = response.to_tag
        if tag is None:  # a server of RFC 2543: no dialog
            session.emit(Provisional(response))
            return
        if response.status == 199 and tag not in self._early:
            return
        if tag not in self._early and len(self._early) >= MAX_FORKS:
            return
        exchange = self._open(tag, response)
        rseq = read_rseq(response)
        if rseq is not None:
            if exchange.rseq not in (0, rseq - 1) or exchange.n_reliable >= MAX_RELIABLE:
                return  # seen before, or out of order: RFC 3262 §4
            exchange.rseq = rseq
            exchange.n_reliable += 1
        session.early_as_caller(exchange)
        needs_prack = self._take_early_description(exchange, response, is_reliable=rseq is not None)
        if rseq is not None and not needs_prack:
            exchange.send_prack(rseq, session.request.cseq.number)
        if response.status == 199:
            self._end_early(tag, response)
        else:
            session.emit(Provisional(response, needs_prack))

    @staticmethod
    def _take_early_description(exchange: DialogExchange, response: Response, *, is_reliable: bool) -> bool:
        """Apply the description of a provisional response; True when it is an offer."""
        body = sdp_of(response)
        if not body or exchange.is_settled:
            return False
        if exchange.offer is Offer.LOCAL:
            exchange.remote_body = body
            if is_reliable:
                exchange.offer = Offer.NONE
                exchange.is_settled = True
            return False
        if exchange.offer is Offer.NONE and is_reliable:
            exchange.remote_body = body
            exchange.offer = Offer.REMOTE
            return True
        return False

    def prack(self, body: bytes, headers: Iterable[Header], to_tag: str | None) -> None:
        """Answer the offer of a reliable provisional response."""
        session = self._session
        exchange = session.exchange if to_tag is None else self._early.get(to_tag)
        if exchange is None or exchange.is_settled or exchange.offer is not Offer.REMOTE or not session.is_early:
            raise LocalProtocolError("no offer waits for its answer in a PRACK")
        exchange.offer = Offer.NONE
        exchange.is_settled = True
        exchange.local_body = body
        exchange.send_prack(exchange.rseq, session.request.cseq.number, body, headers)

    # ---------------------------------------------------------------- 2xx and ACK

    def _receive_2xx(self, response: Response) -> None:
        session = self._session
        tag = response.to_tag or ""
        dialog = None if session.is_early else session.dialog
        if tag in self._forks:
            self._acknowledge(self._forks[tag])
        elif dialog is not None and dialog.id.remote_tag == tag and session.was_answered:
            if self._ack is not None:
                self._send_ack(dialog)  # a retransmission
        elif not session.is_early or self.is_cancelled:
            self._hang_up_fork(response, tag)
            if self.is_cancelled and not session.is_terminated:
                session.terminate(Rejected(487, None))
        else:
            self._be_answered(response, tag)

    def _be_answered(self, response: Response, tag: str) -> None:
        session = self._session
        exchange = self._open(tag, response)
        dialog = exchange.dialog
        assert dialog is not None
        dialog.confirm(response)
        body = sdp_of(response)
        needs_ack = False
        if exchange.is_settled:
            pass
        elif exchange.offer is Offer.LOCAL:
            exchange.offer = Offer.NONE
            exchange.is_settled = bool(body)
            exchange.remote_body = body or exchange.remote_body
        elif body or exchange.offer is Offer.REMOTE:
            exchange.offer = Offer.REMOTE
            exchange.remote_body = body or exchange.remote_body
            needs_ack = True
        del self._early[tag]
        for other in self._early.items():
            self._leave(*other)
        self._early.clear()
        session.answered_as_caller(exchange, response)
        if not needs_ack:
            self._ack = b"", ()
            self._send_ack(dialog)
        session.emit(Answered(response, needs_ack))

    def ack(self, body: bytes, headers: Iterable[Header] = ()) -> bool:
        """Answer the offer in the 2xx. False when none waits for it."""
        session = self._session
        exchange = session.exchange
        if not session.was_answered or self._ack is not None or exchange.dialog is None:
            return False
        exchange.offer = Offer.NONE
        exchange.is_settled = True
        if body:
            exchange.local_body = body
        self._ack = body, tuple(headers)
        self._send_ack(exchange.dialog)
        exchange.wake()
        return True

    def _send_ack(self, dialog: Dialog) -> None:
        assert self._ack is not None
        body, headers = self._ack
        self._acknowledge(dialog, body, headers)

    def _acknowledge(self, dialog: Dialog, body: bytes = b"", headers: Iterable[Header] = ()) -> None:
        session = self._session
        cseq = session.request.cseq.number
        ack = dialog.build_request("ACK", cseq=cseq, headers=headers, body=body, content_type=SDP_TYPE)
        session.endpoint.send_ack(ack)

    def _hang_up_fork(self, response: Response, tag: str) -> None:
        """A 2xx that nobody wants any more, or of a second callee: ACK, then BYE."""
        if len(self._forks) >= MAX_FORKS:
            return
        early = self._early.pop(tag, None)
        if early is not None:
            self._leave(tag, early)
        fork = self._dialog_of(tag, response)
        fork.confirm(response)
        self._forks[tag] = fork
        self._acknowledge(fork)
        self._session.endpoint.send_request(fork.build_request("BYE"), on_event=_ignore)

    def stop(self) -> None:
        """The session is over."""
        for each in self._early.items():
            self._leave(*each)
        self._early.clear()


def _ignore(event: ClientEvent) -> None:
    """The outcome changes nothing."""
