"""The callee's part of a session until it is answered: provisional responses, the 2xx, refusal, PRACK.

Where the INVITE had no offer, the first description that goes out reliably is ours to offer; the answer comes in the
PRACK or in the ACK. A 2xx waits inside while a reliable provisional response with a description is not acknowledged
(RFC 3262 §3), and while an offer is open in the early dialog.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

from ims_as.sip.body import sdp_of
from ims_as.sip.dialog import DialogState
from ims_as.sip.errors import SipParseError
from ims_as.sip.exchange import Offer
from ims_as.sip.header_types import RAck
from ims_as.sip.message import Request, Response, build_response
from ims_as.sip.option_tags import RELIABLE, has_tag
from ims_as.sip.reliable import ReliableProvisionals
from ims_as.sip.repeated_response import repeated_ok
from ims_as.sip.session_events import Cancelled, Pracked
from ims_as.sip.transaction import ServerTransaction

if TYPE_CHECKING:
    from ims_as.sip.session_core import SessionCore

__all__ = ["CalleeSide"]

Header = tuple[str, str]


class CalleeSide:
    """Made with the session; the session's public methods say what is promised."""

    __slots__ = ("_held", "_reliable", "_session", "server")

    def __init__(self, session: SessionCore, server: ServerTransaction) -> None:
        self.server = server
        self._session = session
        self._reliable: ReliableProvisionals | None = None
        self._held: tuple[bytes, tuple[Header, ...]] | None = None
        """Body and headers of a 2xx that has to wait."""

    @property
    def may_offer(self) -> bool:
        """RFC 3311 §5.1: not before our answer is known to have arrived."""
        return self._held is None and (self._reliable is None or not self._reliable.holds_description)

    def provisional(
        self, status: int, reason: str | None, headers: Iterable[Header], body: bytes, reliable: bool | None
    ) -> bool:
        session = self._session
        if not session.is_early or self._held is not None:
            return False
        if status == 100:
            session.endpoint.send_response(self.server, build_response(session.request, 100, reason, headers=headers))
            return True
        if self._is_interval_refused():
            return False
        session.make_callee_dialog()
        if self._is_reliable(reliable, body):
            if self._reliable is None:
                self._reliable = ReliableProvisionals(
                    session.endpoint, self.server, session.request.cseq.number, self._prack_missing
                )
            self._reliable.send(partial(self._build_reliable, status, reason, tuple(headers), body))
            return True
        exchange = session.exchange
        if exchange.is_settled or exchange.offer is not Offer.REMOTE:
            body = b""  # §13.2.1: an offer goes reliably, and after the answer nothing follows
        response = session.build_response(session.request, status, reason, headers, body)
        session.endpoint.send_response(self.server, response)
        if body:
            exchange.local_body = body
        return True

    def _is_interval_refused(self) -> bool:
        """422 (RFC 4028 §9); the caller comes again with a longer one."""
        session, request = self._session, self._session.request
        if "session-expires" not in request.headers or not session.is_interval_refused(request, self.server):
            return False
        session.end("local", None, "rejected 422")
        return True

    def _is_reliable(self, wanted: bool | None, body: bytes) -> bool:
        session = self._session
        if RELIABLE not in session.user_agent.supported:
            return False
        request = session.request
        if has_tag(request, "require", RELIABLE):
            return True
        return (bool(body) if wanted is None else wanted) and has_tag(request, "supported", RELIABLE)

    def _build_reliable(
        self, status: int, reason: str | None, headers: tuple[Header, ...], body: bytes, rseq: int
    ) -> Response:
        session = self._session
        exchange = session.exchange
        if exchange.is_settled or exchange.offer is Offer.LOCAL:
            body = b""
        if body:
            exchange.local_body = body
            if exchange.offer is Offer.REMOTE:
                exchange.offer = Offer.NONE
                exchange.is_settled = True
            else:
                exchange.offer = Offer.LOCAL
        items = [("Require", RELIABLE), ("RSeq", str(rseq)), *headers]
        return session.build_response(session.request, status, reason, items, body)

    def receive_prack(self, request: Request, transaction: ServerTransaction) -> None:
        session = self._session
        try:
            rack = RAck.parse(request.headers.get("rack") or "")
        except SipParseError:
            session.respond_to(request, transaction, 400)
            return
        if self._reliable is None or not self._reliable.acknowledge(rack):
            session.respond_to(request, transaction, 481)
            return
        exchange = session.exchange
        body = sdp_of(request)
        if exchange.offer is Offer.LOCAL and not exchange.is_settled and session.is_early:
            exchange.offer = Offer.NONE
            if body:
                exchange.remote_body = body
                exchange.is_settled = True
            session.respond_to(request, transaction, 200)
            session.emit(Pracked(request, body))
        elif body and exchange.offer is Offer.NONE and session.is_early:
            session.emit(Pracked(request))
            exchange.take_offer(request, transaction)
        elif body and session.is_early and exchange.offer is not Offer.NONE:
            session.respond_to(request, transaction, 491)
            session.emit(Pracked(request))
        else:
            session.respond_to(request, transaction, 200)
            if session.is_early:
                session.emit(Pracked(request))
        self.go_on()

    def go_on(self) -> None:
        """Send what may be sent now: the held 2xx, or the next reliable response."""
        if not self._session.is_early:
            return
        if self._held is None:
            if self._reliable is not None:
                self._reliable.go_on()
        elif not self._must_wait():
            (body, headers), self._held = self._held, None
            self._send_ok(body, headers)

    def _prack_missing(self) -> None:
        session = self._session
        session.respond_to(session.request, self.server, 504)
        session.end("timeout", None, "no PRACK")

    def answer(self, body: bytes, headers: Iterable[Header]) -> bool:
        session = self._session
        if not session.is_early or self._held is not None or self._is_interval_refused():
            return False
        session.make_callee_dialog()
        if self._must_wait():
            self._held = body, tuple(headers)
            if self._reliable is not None:
                self._reliable.forget_queued()
            return True
        return self._send_ok(body, headers)

    def _must_wait(self) -> bool:
        return (self._reliable is not None and self._reliable.holds_description) or self._session.exchange.holds_ok

    def _send_ok(self, body: bytes, headers: Iterable[Header]) -> bool:
        session = self._session
        exchange = session.exchange
        if exchange.is_settled:
            body = b""
        items = [*session.timer_headers(session.request), *headers]
        response = session.build_response(session.request, 200, None, items, body)
        ok = repeated_ok(session.endpoint, self.server, response, session.ack_missing)
        if not ok.start():
            session.stop_refresher()
            return False
        exchange.ok = ok
        if exchange.is_settled:
            pass
        elif exchange.offer is Offer.REMOTE:
            exchange.offer = Offer.NONE
            exchange.local_body = body
            exchange.is_settled = bool(body)
        else:
            exchange.offer = Offer.LOCAL if body else Offer.NONE
            exchange.local_body = body
        self.stop()
        assert exchange.dialog is not None
        exchange.dialog.state = DialogState.CONFIRMED
        session.answered_as_callee()
        return True

    def reject(self, status: int, reason: str | None, headers: Iterable[Header]) -> bool:
        session = self._session
        if not session.is_early:
            return False
        items = [*session.response_headers, *headers]
        response = build_response(session.request, status, reason, headers=items)
        session.endpoint.send_response(self.server, response)
        session.end("local", None, f"rejected {status}")
        return True

    def withdraw(self) -> ServerTransaction | None:
        """Leave the INVITE unanswered; None when it is answered or over."""
        session = self._session
        if not session.is_early:
            return None
        session.end("local", None, "withdrawn")
        return self.server

    def receive_cancel(self, cancel: Request) -> None:
        """The INVITE was cancelled, and has been answered 487."""
        if not self._session.is_terminated:
            self._session.terminate(Cancelled(cancel))

    def stop(self) -> None:
        """The final response is sent."""
        self._held = None
        if self._reliable is not None:
            self._reliable.close()

    def release(self) -> None:
        """The session is over for good."""
        self._reliable = None
