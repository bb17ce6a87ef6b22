"""One dialog of a session and the offers and answers inside it (RFC 3264, RFC 6337), by whatever message they travel.

At most one offer is open in a dialog. `offer` says whose it is, however it came: in the INVITE, a reliable provisional
response, its PRACK, the 2xx, an UPDATE or a re-INVITE. What may not be sent or accepted now follows from it: 491 where
ours is open, 500 with Retry-After where the peer's is (RFC 3261 §14.2, RFC 3311 §5.2).

A caller whose INVITE was forked has one of these for each early dialog.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import TYPE_CHECKING

from ims_as.sip.body import SDP_TYPE, sdp_of
from ims_as.sip.dialog import Dialog
from ims_as.sip.errors import LocalProtocolError
from ims_as.sip.message import Request, Response
from ims_as.sip.option_tags import allows
from ims_as.sip.outgoing_offer import OutgoingOffer, OutgoingUpdate
from ims_as.sip.reinvite import OutgoingReinvite
from ims_as.sip.repeated_response import RepeatedResponse, repeated_ok
from ims_as.sip.session_events import (
    ReinviteAnswered,
    ReinviteReceived,
    ReinviteRejected,
    UpdateAnswered,
    UpdateReceived,
    UpdateRejected,
)
from ims_as.sip.transaction import ClientEvent, ResponseReceived, ServerTransaction

if TYPE_CHECKING:
    from ims_as.sip.session_core import SessionCore

__all__ = ["DialogExchange", "Offer"]

Header = tuple[str, str]


class Offer(Enum):
    """Whose offer waits for its answer."""

    NONE = "none"
    LOCAL = "ours"
    REMOTE = "the peer's"


class DialogExchange:
    """Made by the session: first without a dialog, for the INVITE itself."""

    __slots__ = (
        "_n_pracks",
        "_outgoing",
        "_queued",
        "_reinvite",
        "_unacked",
        "_update",
        "dialog",
        "is_settled",
        "local_body",
        "n_reliable",
        "offer",
        "ok",
        "peer_allow",
        "remote_body",
        "rseq",
        "session",
    )

    def __init__(
        self, session: SessionCore, dialog: Dialog | None, *, local_body: bytes, remote_body: bytes, offer: Offer
    ) -> None:
        self.session = session
        self.dialog = dialog
        self.local_body = local_body
        """Our description in force, or the offer in our INVITE; the SDP alone."""
        self.remote_body = remote_body
        """The peer's in force, or a preview of it (an unreliable provisional response)."""
        self.offer = offer
        self.is_settled = False
        """The INVITE's own exchange is complete: descriptions in its later responses do not count (§13.2.1)."""
        self.rseq = 0
        """Caller: number of the latest reliable provisional response taken."""
        self.n_reliable = 0
        """Caller: how many of them were taken."""
        self.peer_allow: list[str] | None = None
        """The peer's latest Allow lines."""
        self.ok: RepeatedResponse | None = None
        """Our 2xx that waits for its ACK."""
        self._outgoing: OutgoingOffer | None = None
        self._queued: OutgoingOffer | None = None
        """Waits for a session refresh to end."""
        self._reinvite: tuple[Request, ServerTransaction] | None = None
        self._update: tuple[Request, ServerTransaction] | None = None
        """An UPDATE or PRACK with an offer."""
        self._unacked: OutgoingReinvite | None = None
        """Its 2xx holds an offer that our ACK has to answer."""
        self._n_pracks = 0

    # ---------------------------------------------------------------- state

    @property
    def can_update(self) -> bool:
        """The peer says in Allow that it takes UPDATE."""
        if self.peer_allow is None and not self.session.is_caller:
            self.note_allow(self.session.request)
        return self.peer_allow is not None and allows(self.peer_allow, "UPDATE")

    @property
    def is_free(self) -> bool:
        """No offer is open and nothing that could carry one is pending, so one of ours may go out."""
        return (
            self.offer is Offer.NONE
            and self._reinvite is None
            and self._update is None
            and self.ok is None
            and self._unacked is None
            and (self._outgoing is None or not self._outgoing.is_on_the_wire)
            and self.session.may_offer(self)
        )

    @property
    def holds_ok(self) -> bool:
        """An exchange is open inside the early dialog: the 2xx of the INVITE has to wait."""
        outgoing = self._outgoing
        return self._update is not None or (
            outgoing is not None and outgoing.is_on_the_wire and outgoing.method == "UPDATE" and bool(outgoing.body)
        )

    def note_allow(self, message: Request | Response) -> None:
        """Remember the peer's Allow where there is one."""
        values = message.headers.get_all("allow")
        if values:
            self.peer_allow = values

    # ---------------------------------------------------------------- offers of ours

    def reinvite(self, body: bytes, headers: Iterable[Header], *, is_refresh: bool = False) -> None:
        self._start(OutgoingReinvite(self, body, headers, is_refresh=is_refresh))

    def update(self, body: bytes, headers: Iterable[Header], *, is_refresh: bool = False) -> None:
        if self.dialog is None:
            raise LocalProtocolError("no UPDATE without a dialog")
        self._start(OutgoingUpdate(self, body, headers, is_refresh=is_refresh))

    def _start(self, request: OutgoingOffer) -> None:
        current = self._outgoing
        if current is not None and current.is_refresh and self._queued is None:
            self._queued = request
            return
        if current is not None or (_is_offer(request) and not self.is_free):
            raise LocalProtocolError("an offer is pending")
        self._outgoing = request
        try:
            request.start()
        except LocalProtocolError:
            self._outgoing = None
            raise

    def refresh(self) -> bool:
        """Refresh the session (RFC 4028 §10); False when another exchange is under way, which may do it as well."""
        if self._outgoing is not None or self._reinvite is not None or self._update is not None:
            return False
        if self.can_update:
            self.update(b"", (), is_refresh=True)
            return True
        if not self.is_free:
            return False
        self.reinvite(self.local_body, (), is_refresh=True)
        return True

    def build_offer_request(self, method: str, body: bytes, headers: Iterable[Header]) -> Request:
        """For `OutgoingOffer`."""
        assert self.dialog is not None
        items = self.session.offer_headers()
        items += headers
        return self.dialog.build_request(method, headers=items, body=body, content_type=SDP_TYPE)

    def may_send(self, request: OutgoingOffer) -> bool:
        """For `OutgoingOffer`: now, rather than later. A PRACK before it must not be overtaken (its CSeq is lower)."""
        if self._n_pracks:
            return False
        return self.is_free if _is_offer(request) else True

    def offer_sent(self, request: OutgoingOffer) -> None:
        """For `OutgoingOffer`."""
        if request.body:
            self.offer = Offer.LOCAL

    def offer_closed(self, request: OutgoingOffer) -> None:
        """For `OutgoingOffer`: its attempt has a final response."""
        if request.body:
            self.offer = Offer.NONE

    def outgoing_done(self, request: OutgoingOffer, status: int, response: Response | None) -> None:
        """For `OutgoingOffer`: its final outcome."""
        self._outgoing = None
        session = self.session
        if response is not None and status < 300:
            self._outgoing_accepted(request, response)
        else:
            if request.is_refresh:
                if status in (405, 501):
                    self.peer_allow = []  # it does not take UPDATE after all
                session.refresh_failed()
            elif isinstance(request, OutgoingReinvite):
                session.emit(ReinviteRejected(status, response))
            else:
                session.emit(UpdateRejected(status, response))
            if status in (408, 481):
                # §12.2.1.2: the peer has lost the dialog
                session.dialog_lost(self, f"{'re-INVITE' if request.method == 'INVITE' else request.method}: {status}")
        self._start_queued()
        self.wake()

    def _start_queued(self) -> None:
        if self._queued is None or self._outgoing is not None:
            return
        request = self._outgoing = self._queued
        self._queued = None
        try:
            request.start()
        except LocalProtocolError:
            self.outgoing_done(request, 503, None)

    def _outgoing_accepted(self, request: OutgoingOffer, response: Response) -> None:
        assert self.dialog is not None
        session = self.session
        body = sdp_of(response)
        self.note_allow(response)
        if request.is_in_call:
            session.refreshed(response)
        needs_ack = False
        if isinstance(request, OutgoingReinvite):
            body = request.answer or body
            needs_ack = request.needs_ack
        else:
            self.dialog.update_target(response)
        is_news = bool(body) and body != self.remote_body
        if request.body:
            self.local_body = request.body
        if body:
            self.remote_body = body
        if needs_ack:
            assert isinstance(request, OutgoingReinvite)
            self.offer = Offer.REMOTE
            self._unacked = request
        if not request.is_refresh or needs_ack:
            is_reinvite = request.method == "INVITE"
            session.emit(ReinviteAnswered(response, needs_ack) if is_reinvite else UpdateAnswered(response))
        elif is_news:
            session.emit(ReinviteAnswered(response))

    def ack(self, body: bytes, headers: Iterable[Header]) -> bool:
        """Answer the offer in the 2xx of our re-INVITE. False when none waits for it."""
        request, self._unacked = self._unacked, None
        if request is None:
            return False
        self.offer = Offer.NONE
        if body:
            self.local_body = body
        request.send_ack(body, headers)
        self.wake()
        return True

    @property
    def is_waited_for(self) -> bool:
        """A request of ours waits, or backs off."""
        return self._outgoing is not None

    def wake(self) -> None:
        """Something has ended that others may have waited for."""
        if self._outgoing is not None:
            self._outgoing.wake()
        self.session.exchange_changed()

    # ---------------------------------------------------------------- PRACK of ours

    def send_prack(self, rseq: int, cseq: int, body: bytes = b"", headers: Iterable[Header] = ()) -> None:
        """Acknowledge a reliable provisional response. What becomes of the PRACK itself does not matter."""
        assert self.dialog is not None
        items: list[Header] = [("RAck", f"{rseq} {cseq} INVITE"), *headers]
        request = self.dialog.build_request("PRACK", headers=items, body=body, content_type=SDP_TYPE)
        self._n_pracks += 1
        self.session.endpoint.send_request(request, on_event=self._on_prack_event)

    def _on_prack_event(self, event: ClientEvent) -> None:
        if not isinstance(event, ResponseReceived) or event.response.status >= 200:
            self._n_pracks -= 1
            self.wake()

    # ---------------------------------------------------------------- re-INVITE of the peer

    def receive_reinvite(self, request: Request, transaction: ServerTransaction) -> None:
        session = self.session
        body = sdp_of(request)
        if self._reinvite is not None or self.offer is Offer.REMOTE:
            session.refuse_for_now(request, transaction)  # §14.2
        elif (
            self.ok is not None
            or self.offer is Offer.LOCAL
            or (self._outgoing is not None and self._outgoing.is_on_the_wire and self._outgoing.method == "INVITE")
        ):
            session.respond_to(request, transaction, 491)
        elif session.is_interval_refused(request, transaction):
            return
        else:
            self._reinvite = request, transaction
            if body:
                self.offer = Offer.REMOTE
            transaction.owner = session
            session.emit(ReinviteReceived(request))

    def receive_cancel(self, transaction: ServerTransaction) -> bool:
        """A CANCEL; True when it was for the pending re-INVITE."""
        if self._reinvite is None or self._reinvite[1] is not transaction:
            return False
        self._take_reinvite()
        return True

    def accept_reinvite(self, body: bytes, headers: Iterable[Header]) -> bool:
        if self._reinvite is None:
            return False
        request, transaction = self._take_reinvite()
        assert self.dialog is not None
        offered = sdp_of(request)
        items = [*self.session.timer_headers(request), *headers]
        response = self.session.build_response(request, 200, None, items, body)
        ok = repeated_ok(self.session.endpoint, transaction, response, self.session.ack_missing)
        if not ok.start():
            return False
        self.dialog.update_target(request)
        self.note_allow(request)
        self.ok = ok
        if offered:
            self.remote_body = offered
        elif body:
            self.offer = Offer.LOCAL
        self.local_body = body or self.local_body
        return True

    def reject_reinvite(self, status: int, headers: Iterable[Header]) -> bool:
        if self._reinvite is None:
            return False
        request, transaction = self._take_reinvite()
        self.session.respond_to(request, transaction, status, headers)
        self.wake()
        return True

    def _take_reinvite(self) -> tuple[Request, ServerTransaction]:
        assert self._reinvite is not None
        pending, self._reinvite = self._reinvite, None
        self.offer = Offer.NONE
        return pending

    def receive_ack(self, ack: Request) -> bool:
        """False when it is not the ACK that our 2xx waits for."""
        ok = self.ok
        if ok is None or ack.cseq.number != ok.cseq:
            return False
        ok.stop()
        self.ok = None
        if self.offer is Offer.LOCAL:
            self.offer = Offer.NONE
            self.remote_body = sdp_of(ack) or self.remote_body
        return True

    # ---------------------------------------------------------------- UPDATE (and PRACK with an offer) of the peer

    def receive_update(self, request: Request, transaction: ServerTransaction) -> None:
        session = self.session
        if self._update is not None:
            session.refuse_for_now(request, transaction)
        elif not sdp_of(request):
            if not session.is_interval_refused(request, transaction):
                self._accept(request, transaction, b"", ())
        elif self.offer is Offer.REMOTE or self._reinvite is not None:
            session.refuse_for_now(request, transaction)
        elif (
            self.offer is Offer.LOCAL
            or not (self.is_settled or session.is_answered)
            or (self._outgoing is not None and self._outgoing.is_on_the_wire and _is_offer(self._outgoing))
        ):
            session.respond_to(request, transaction, 491)
        elif not session.is_interval_refused(request, transaction):
            self.take_offer(request, transaction)

    def take_offer(self, request: Request, transaction: ServerTransaction) -> None:
        """An offer in an UPDATE or PRACK: the user has to answer it."""
        self._update = request, transaction
        self.offer = Offer.REMOTE
        transaction.on_timeout = self._update_forgotten
        self.session.emit(UpdateReceived(request))

    def accept_update(self, body: bytes, headers: Iterable[Header]) -> bool:
        if self._update is None:
            return False
        request, transaction = self._take_update()
        if not self._accept(request, transaction, body, headers):
            return False
        self.remote_body = sdp_of(request)
        self.local_body = body
        self.wake()
        return True

    def _accept(self, request: Request, transaction: ServerTransaction, body: bytes, headers: Iterable[Header]) -> bool:
        assert self.dialog is not None
        if request.method == "UPDATE":
            self.dialog.update_target(request)
            self.note_allow(request)
        items = list(headers)
        if request.method == "UPDATE" and self.session.is_answered:
            items = [*self.session.timer_headers(request), *items]
        response = self.session.build_response(request, 200, None, items, body)
        return self.session.endpoint.send_response(transaction, response)

    def reject_update(self, status: int, headers: Iterable[Header]) -> bool:
        if self._update is None:
            return False
        request, transaction = self._take_update()
        self.session.respond_to(request, transaction, status, headers)
        self.wake()
        return True

    def _take_update(self) -> tuple[Request, ServerTransaction]:
        assert self._update is not None
        pending, self._update = self._update, None
        self.offer = Offer.NONE
        return pending

    def _update_forgotten(self) -> None:
        """The user did not answer in 64*T1; the peer has given up."""
        if self._update is not None:
            self._take_update()
            self.wake()

    # ---------------------------------------------------------------- end

    def close(self, *, keep_ok: bool = False) -> None:
        """The dialog is over. `keep_ok`: our BYE waits for the ACK of the 2xx."""
        for outgoing in (self._outgoing, self._queued):
            if outgoing is not None:
                outgoing.stop()
        self._outgoing = self._queued = None
        if self._unacked is not None:
            self._unacked.send_ack(b"")
            self._unacked = None
        for pending in (self._reinvite, self._update):
            if pending is not None:
                request, transaction = pending
                self.session.respond_to(request, transaction, 487)
        self._reinvite = self._update = None
        if self.ok is not None and not keep_ok:
            self.ok.stop()
            self.ok = None


class PastExchange(DialogExchange):
    """What is left of the exchanges of a session that is over: what was agreed, and no way back to the session.

    A session and its exchange refer to each other; that circle is cut here, so that a call that has ended is freed at
    once and not when the garbage collector comes by.
    """

    __slots__ = ()

    def __init__(self, exchange: DialogExchange) -> None:
        self.dialog = exchange.dialog
        self.local_body = exchange.local_body
        self.remote_body = exchange.remote_body
        self.is_settled = exchange.is_settled
        self.peer_allow = exchange.peer_allow
        self.rseq = exchange.rseq
        self.n_reliable = exchange.n_reliable
        self.ok = None
        self.offer = Offer.NONE
        self._outgoing = self._queued = self._reinvite = self._update = self._unacked = None
        self._n_pracks = 0

    @property
    def can_update(self) -> bool:
        return False

    @property
    def is_free(self) -> bool:
        return False

    def wake(self) -> None:
        """Nobody waits."""


def _is_offer(request: OutgoingOffer) -> bool:
    """A re-INVITE without a body asks the peer for one."""
    return bool(request.body) or request.method == "INVITE"
