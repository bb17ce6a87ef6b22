"""A call as one user agent sees it: INVITE, 2xx and ACK, offers in mid-call, BYE (RFC 3261 §13–§15).

States: INITIAL → EARLY → ANSWERED (callee only: 200 sent, no ACK yet) → CONFIRMED → TERMINATED. Events go to
`on_event(session, event)` synchronously, from inside the call that caused them; exactly one of Rejected, Cancelled and
Ended comes, as the last. Then the session may be alive inside (its BYE has no response yet) but says nothing more.

Methods are safe against races with the peer: on a session that has ended they do nothing (`reinvite`, `update` and
`prack` alone raise).

The parts: `callee` and `caller` until the answer, `exchange` for the offers and answers of each dialog, `session_core`
for what they share. This class is what the session's user calls, and it takes requests inside the dialog apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from ims_as.sip.caller import MAX_FORKS
from ims_as.sip.errors import LocalProtocolError
from ims_as.sip.exchange import DialogExchange
from ims_as.sip.message import Request, build_response
from ims_as.sip.option_tags import RELIABLE
from ims_as.sip.session_core import SessionCore, SessionState
from ims_as.sip.session_events import (
    Acked,
    Answered,
    Cancelled,
    EarlyDialogEnded,
    Ended,
    Pracked,
    Provisional,
    ReinviteAnswered,
    ReinviteReceived,
    ReinviteRejected,
    Rejected,
    RequestReceived,
    SessionEvent,
    UpdateAnswered,
    UpdateReceived,
    UpdateRejected,
)
from ims_as.sip.transaction import ClientEvent, ClientTransaction, ServerTransaction

__all__ = [
    "MAX_FORKS",
    "Acked",
    "Answered",
    "Cancelled",
    "EarlyDialogEnded",
    "Ended",
    "InviteSession",
    "Pracked",
    "Provisional",
    "ReinviteAnswered",
    "ReinviteReceived",
    "ReinviteRejected",
    "Rejected",
    "RequestReceived",
    "SessionEvent",
    "SessionState",
    "UpdateAnswered",
    "UpdateReceived",
    "UpdateRejected",
]

_DEFAULT_STATUSES: Final = {"INFO": 200, "OPTIONS": 200, "NOTIFY": 481, "SUBSCRIBE": 489}
"""What nobody has answered; NOTIFY and SUBSCRIBE of a subscription that exists never get here (RFC 6665 §4.1.3)."""
_OWN_METHODS: Final = frozenset({"INVITE", "ACK", "BYE", "CANCEL", "PRACK", "UPDATE"})

Header = tuple[str, str]


class InviteSession(SessionCore):
    """Made by `UserAgent.accept` (callee) and `UserAgent.invite` (caller)."""

    # ---------------------------------------------------------------- callee

    def provisional(
        self,
        status: int,
        reason: str | None = None,
        *,
        headers: Iterable[Header] = (),
        body: bytes = b"",
        reliable: bool | None = None,
    ) -> bool:
        """Send a 1xx. False when the call is answered or over.

        Args:
            reliable: by RFC 3262; None: when the INVITE requires it, or supports it and there is a body. Never for a
                peer that does not support it, always for one that requires it. Further reliable ones wait inside until
                those before them are acknowledged (`Pracked`); without PRACK in 64*T1 the call is refused with 504.

        A description that must not be there is left out: an offer of ours in an unreliable response, and any after
        the INVITE's answer was given reliably.
        """
        return self._callee is not None and self._callee.provisional(status, reason, headers, body, reliable)

    def answer(self, body: bytes, *, headers: Iterable[Header] = ()) -> bool:
        """Send the 200; it is repeated until the ACK, for 64*T1 at most (then BYE and Ended by timeout).

        It is held back inside while a reliable provisional response with a description has no PRACK, or an offer is
        open in the early dialog; `body` is left out where the answer was given reliably before.
        """
        return self._callee is not None and self._callee.answer(body, headers)

    def reject(self, status: int, reason: str | None = None, *, headers: Iterable[Header] = ()) -> bool:
        """Refuse the call with 300–699; Ended by local follows at once."""
        return self._callee is not None and self._callee.reject(status, reason, headers)

    def withdraw(self) -> ServerTransaction | None:
        """Leave the INVITE to somebody else, who answers its transaction; our early dialog is over and Ended by local
        follows at once. None when it is answered or over."""
        return None if self._callee is None else self._callee.withdraw()

    def receive_cancel(self, transaction: ServerTransaction, cancel: Request) -> None:
        """For the user agent: a CANCEL of the INVITE or of a re-INVITE."""
        self.respond_to(transaction.request, transaction, 487)
        if self.exchange.receive_cancel(transaction):
            self.exchange.wake()
        elif self._callee is not None and transaction is self._callee.server:
            self._callee.receive_cancel(cancel)

    # ---------------------------------------------------------------- caller

    def start(self, send: Callable[[Request, Callable[[ClientEvent], None]], ClientTransaction]) -> None:
        """For the user agent: send the INVITE, by `send` with what is to be told of its transaction."""
        assert self._caller is not None
        self._caller.start(send)

    def abandon(self) -> None:
        """For the user agent: the INVITE could not even be written; nobody is told."""
        self.state = SessionState.TERMINATED
        self._stop_guard()
        self.user_agent.forget(self)

    def cancel(self, *, headers: Iterable[Header] = ()) -> None:
        """Give the call up; Rejected (487 as a rule) follows. A call that was answered meanwhile is hung up."""
        if self._caller is not None:
            self._caller.cancel(headers)

    def prack(self, body: bytes, *, headers: Iterable[Header] = (), to_tag: str | None = None) -> None:
        """Answer the offer of a reliable provisional response (`Provisional.needs_prack`).

        Args:
            to_tag: which early dialog; the latest without it.

        Raises:
            LocalProtocolError: no such offer waits.
        """
        if self._caller is None:
            raise LocalProtocolError("the callee sends no PRACK")
        self._caller.prack(body, headers, to_tag)

    def ack(self, body: bytes, *, headers: Iterable[Header] = ()) -> bool:
        """Answer the offer in the 2xx to our INVITE or re-INVITE (`needs_ack`). False when none waits for it."""
        if self.is_terminated:
            return False
        return self.exchange.ack(body, headers) or (self._caller is not None and self._caller.ack(body, headers))

    def hang_up_early(self, to_tag: str) -> bool:
        """Send BYE in one of several early dialogs (§15.1.1); EarlyDialogEnded follows. False when it is unknown."""
        return self._caller is not None and self.is_early and self._caller.hang_up_early(to_tag)

    # ---------------------------------------------------------------- both: offers inside the dialog

    def reinvite(self, body: bytes, *, headers: Iterable[Header] = ()) -> None:
        """Send a new offer, or ask for one (b""); ReinviteAnswered or ReinviteRejected follows.

        A 491, and a 500 with Retry-After, is tried again inside.

        Raises:
            LocalProtocolError: the session is not confirmed, or an offer of either side is pending.
        """
        if self.state is not SessionState.CONFIRMED:
            raise LocalProtocolError(f"no re-INVITE in state {self.state.value}")
        self.exchange.reinvite(body, headers)

    def accept_reinvite(self, body: bytes, *, headers: Iterable[Header] = ()) -> bool:
        """200 to the pending re-INVITE. False when none is pending any more (cancelled, session ended)."""
        return self.exchange.accept_reinvite(body, headers)

    def reject_reinvite(self, status: int, *, headers: Iterable[Header] = ()) -> bool:
        """Refuse the pending re-INVITE; the session goes on as it was. False when none is pending any more."""
        return self.exchange.reject_reinvite(status, headers)

    def update(self, body: bytes = b"", *, headers: Iterable[Header] = (), to_tag: str | None = None) -> None:
        """Send an UPDATE, with an offer or without; UpdateAnswered or UpdateRejected follows (RFC 3311).

        One that has to wait for a PRACK of ours waits inside; a 491, and a 500 with Retry-After, is tried again inside.

        Args:
            to_tag: caller: which of several early dialogs; the latest without it.

        Raises:
            LocalProtocolError: there is no dialog, or an offer of either side is pending (`can_offer`), or the early
                dialog has not got its first answer.
        """
        exchange = self._exchange_of(to_tag) if to_tag is not None else self.exchange
        if self.is_terminated or exchange is None:
            raise LocalProtocolError("no UPDATE: no such dialog")
        exchange.update(body, headers)

    def accept_update(self, body: bytes, *, headers: Iterable[Header] = (), to_tag: str | None = None) -> bool:
        """Answer the offer of `UpdateReceived`. False when none is pending any more.

        Args:
            to_tag: caller: From tag of that request, where several early dialogs may each have one pending.
        """
        exchange = self._exchange_of(to_tag) if to_tag is not None else self.exchange
        return exchange is not None and exchange.accept_update(body, headers)

    def reject_update(self, status: int, *, headers: Iterable[Header] = (), to_tag: str | None = None) -> bool:
        """Refuse the offer of `UpdateReceived`; the session goes on as it was. False when none is pending any more."""
        exchange = self._exchange_of(to_tag) if to_tag is not None else self.exchange
        return exchange is not None and exchange.reject_update(status, headers)

    def _exchange_of(self, remote_tag: str) -> DialogExchange | None:
        current = self.exchange
        if current.dialog is not None and current.dialog.id.remote_tag == remote_tag:
            return current
        return self._caller.find(remote_tag) if self._caller is not None and self.is_early else None

    # ---------------------------------------------------------------- both: requests inside the dialog

    def send_request(
        self,
        method: str,
        *,
        headers: Iterable[Header] = (),
        body: bytes = b"",
        content_type: str | None = None,
        on_event: Callable[[ClientEvent], None] | None = None,
    ) -> ClientTransaction:
        """Send another request (INFO …) inside the dialog.

        Raises:
            LocalProtocolError: there is no dialog, or the method is one of those that this class sends itself.
        """
        if self.dialog is None or self.is_terminated or method in _OWN_METHODS:
            raise LocalProtocolError(f"no {method} in state {self.state.value}")
        request = self.dialog.build_request(method, headers=headers, body=body, content_type=content_type)
        return self.endpoint.send_request(request, on_event=_ignore if on_event is None else on_event)

    def receive_ack(self, ack: Request) -> None:
        """For the user agent."""
        if not self.exchange.receive_ack(ack):
            return
        if self._waiting_bye is not None:
            self._send_bye(self._waiting_bye)
            return
        if self.state is SessionState.ANSWERED:
            self.state = SessionState.CONFIRMED
        self.emit(Acked(ack))
        if self.exchange.is_waited_for:
            self.exchange.wake()
        # kept for as long as the call lasts, and hardly looked at again
        self.request.headers.compact()

    def receive_request(self, request: Request, transaction: ServerTransaction) -> None:
        """For the user agent: any request with our dialog's tags but ACK and CANCEL."""
        method = request.method
        exchange = self._exchange_of(request.from_tag or "")
        if self.on_peer_request is not None and exchange is not None:
            self.on_peer_request(request)
        if exchange is None or exchange.dialog is None:
            self.respond_to(request, transaction, 481)
        elif not exchange.dialog.accept_cseq(request) and method != "PRACK":
            # PRACK has an order of its own in RAck: one that was lost may be overtaken by an UPDATE
            self.respond_to(request, transaction, 500)
        elif method == "BYE":
            self._receive_bye(request, transaction, exchange)
        elif self.is_terminated:
            self.respond_to(request, transaction, 481)
        elif method == "INVITE":
            if self.is_early and self._callee is not None:
                self.refuse_for_now(request, transaction)  # §14.2: the first INVITE has no final response yet
            elif self.is_early:
                self.respond_to(request, transaction, 491)
            else:
                exchange.receive_reinvite(request, transaction)
        elif method == "PRACK" and RELIABLE in self.user_agent.supported:
            if self._callee is None:
                self.respond_to(request, transaction, 481)
            else:
                self._callee.receive_prack(request, transaction)
        elif method == "UPDATE" and self.user_agent.takes_updates:
            exchange.receive_update(request, transaction)
        else:
            self.emit(RequestReceived(request, transaction))
            if not transaction.is_answered:
                status = _DEFAULT_STATUSES.get(method, 405)
                allow = [("Allow-Events", "refer")] if status == 489 else self.user_agent.common_headers
                self.respond_to(request, transaction, status, allow)

    def respond(
        self,
        event: RequestReceived,
        status: int,
        reason: str | None = None,
        *,
        headers: Iterable[Header] = (),
        body: bytes = b"",
        content_type: str | None = None,
    ) -> None:
        """Answer a request, inside the callback that brought it."""
        items = [*self.response_headers, *headers]
        response = build_response(event.request, status, reason, headers=items, body=body, content_type=content_type)
        self.endpoint.send_response(event.transaction, response)

    def _receive_bye(self, request: Request, transaction: ServerTransaction, exchange: DialogExchange) -> None:
        self.respond_to(request, transaction, 200)
        if self.is_terminated:
            # our BYE crossed it, or need not be sent any more
            if self._waiting_bye is not None:
                self._waiting_bye = None
                self.exchange.close()
                self.user_agent.forget(self)
            return
        if self.is_early:
            if self._callee is not None:
                self.respond_to(self.request, self._callee.server, 487)  # §15.1.2
            elif self._caller is not None and self._caller.left(exchange):
                return  # a callee must not (§15), but it cannot be held to a dialog that it has left
        self.end("remote", request, request.headers.get("Reason") or "bye")

    # ---------------------------------------------------------------- both: end

    def bye(self, *, headers: Iterable[Header] = ()) -> None:
        """End the session, whatever its state: BYE, CANCEL or 480. A BYE that must wait for the ACK (§15) waits."""
        if self.state is SessionState.CONFIRMED:
            self.ack(b"")  # the 2xx that still waits for it
            self._send_bye(headers)
            self.end("local", None, "bye")
        elif self.state is SessionState.ANSWERED:
            self._waiting_bye = tuple(headers)
            self.end("local", None, "bye")
        elif self.is_caller:
            self.cancel(headers=headers)
        else:
            self.reject(480, headers=headers)


def _ignore(event: ClientEvent) -> None:
    """The outcome changes nothing."""
