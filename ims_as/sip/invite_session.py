"""A call as one user agent sees it: INVITE, 2xx and ACK, re-INVITEs, BYE (RFC 3261 §13–§15).

States: INITIAL → EARLY → ANSWERED (callee only: 200 sent, no ACK yet) → CONFIRMED → TERMINATED. Events go to
`on_event(session, event)` synchronously, from inside the call that caused them; exactly one of Rejected, Cancelled and
Ended comes, as the last. Then the session may be alive inside (its BYE has no response yet) but says nothing more.

Methods are safe against races with the peer: on a session that has ended they do nothing (`reinvite` alone raises).

Without an offer in `invite` or `reinvite`, the offer comes in the 2xx and the ACK goes out at once without the answer
that RFC 3264 wants there: use it only where the peer's offer does not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from typing import TYPE_CHECKING, Final, Literal

from ims_as.sip.dialog import Dialog, DialogState
from ims_as.sip.errors import LocalProtocolError
from ims_as.sip.message import Request, Response, build_response
from ims_as.sip.pending_ok import PendingOk
from ims_as.sip.reinvite import OutgoingReinvite
from ims_as.sip.session_events import (
    Acked,
    Answered,
    Cancelled,
    Ended,
    Provisional,
    ReinviteAnswered,
    ReinviteReceived,
    ReinviteRejected,
    Rejected,
    RequestReceived,
    SessionEvent,
)
from ims_as.sip.timers import TimerHandle
from ims_as.sip.transaction import (
    ClientEvent,
    ClientTransaction,
    ResponseReceived,
    ServerTransaction,
    TransactionTimeout,
)

if TYPE_CHECKING:
    from ims_as.sip.user_agent import UserAgent

__all__ = [
    "Acked",
    "Answered",
    "Cancelled",
    "Ended",
    "InviteSession",
    "Provisional",
    "ReinviteAnswered",
    "ReinviteReceived",
    "ReinviteRejected",
    "Rejected",
    "RequestReceived",
    "SessionEvent",
    "SessionState",
]

SETUP_LIMIT_S: Final = 300.0
"""A call that is neither answered nor refused by then is given up, whatever the other timers do."""
MAX_FORKS: Final = 16
"""2xx of other dialogs that are remembered, to ACK their retransmissions."""
_ANSWERED_BY_DEFAULT: Final = frozenset({"INFO", "OPTIONS"})

Header = tuple[str, str]


class SessionState(Enum):
    INITIAL = "initial"
    EARLY = "early"
    ANSWERED = "answered"
    CONFIRMED = "confirmed"
    TERMINATED = "terminated"


class InviteSession:
    """Made by `UserAgent.accept` (callee) and `UserAgent.invite` (caller)."""

    def __init__(
        self,
        user_agent: UserAgent,
        request: Request,
        *,
        local_tag: str,
        contact: str,
        on_event: Callable[[InviteSession, SessionEvent], None],
        server: ServerTransaction | None = None,
    ) -> None:
        self.request = request
        """The INVITE that began it."""
        self.key = (request.call_id, local_tag)
        self.dialog: Dialog | None = None
        """None until a response above 100."""
        self.state = SessionState.INITIAL
        self.is_caller = server is None
        self.contact = contact
        """Our Contact value."""
        self.local_body = request.body if server is None else b""
        """The latest body of ours that is or was in force: offer or answer."""
        self.remote_body = b"" if server is None else request.body
        """The latest of the peer."""
        self.response_headers: tuple[Header, ...] = ()
        """Part of all our responses above 100 in the session."""
        self.request_headers: tuple[Header, ...] = ()
        """Part of all our requests in the dialog; to be set before there is one."""
        self._user_agent = user_agent
        self._endpoint = user_agent.endpoint
        self._emit_to = on_event
        self._server = server
        self._client: ClientTransaction | None = None
        self._is_cancelled = False
        self._forks: dict[str, Dialog] = {}
        self._ok: PendingOk | None = None
        self._waiting_bye: tuple[Header, ...] | None = None
        """Headers of a BYE that waits for the ACK of our 200 (§15)."""
        self._is_bye_sent = False
        self._outgoing: OutgoingReinvite | None = None
        self._incoming: tuple[Request, ServerTransaction] | None = None
        endpoint = self._endpoint
        self._guard: TimerHandle | None = endpoint.call_at(endpoint.now() + SETUP_LIMIT_S, self._give_up)

    @property
    def id(self) -> str:
        """Unique in the process."""
        return f"{self.key[0]};{self.key[1]}"

    @property
    def user_agent(self) -> UserAgent:
        """Whose session it is."""
        return self._user_agent

    @property
    def is_terminated(self) -> bool:
        return self.state is SessionState.TERMINATED

    # ---------------------------------------------------------------- callee

    def provisional(
        self, status: int, reason: str | None = None, *, headers: Iterable[Header] = (), body: bytes = b""
    ) -> bool:
        """Send a 1xx. False when the call is answered or over."""
        server = self._server
        if server is None or self.state not in (SessionState.INITIAL, SessionState.EARLY):
            return False
        self._endpoint.send_response(server, self._build_response(self.request, status, reason, headers, body))
        if body:
            self.local_body = body
        if status > 100:
            self.state = SessionState.EARLY
            self._make_callee_dialog()
        return True

    def answer(self, body: bytes, *, headers: Iterable[Header] = ()) -> bool:
        """Send the 200; it is repeated until the ACK, for 64*T1 at most (then BYE and Ended by timeout)."""
        server = self._server
        if server is None or self.state not in (SessionState.INITIAL, SessionState.EARLY):
            return False
        response = self._build_response(self.request, 200, None, headers, body)
        self._make_callee_dialog()
        assert self.dialog is not None
        ok = PendingOk(self._endpoint, server, response, self._ack_missing)
        if not ok.start():
            return False
        self._ok = ok
        self.dialog.state = DialogState.CONFIRMED
        self.local_body = body
        self.state = SessionState.ANSWERED
        self._stop_guard()
        return True

    def reject(self, status: int, reason: str | None = None, *, headers: Iterable[Header] = ()) -> bool:
        """Refuse the call with 300–699; Ended by local follows at once."""
        server = self._server
        if server is None or self.state not in (SessionState.INITIAL, SessionState.EARLY):
            return False
        items = [*self.response_headers, *headers]
        self._endpoint.send_response(server, build_response(self.request, status, reason, headers=items))
        self._end("local", None, f"rejected {status}")
        return True

    def receive_cancel(self, transaction: ServerTransaction, cancel: Request) -> None:
        """For the user agent: a CANCEL of the INVITE or of a re-INVITE."""
        self._endpoint.send_response(transaction, build_response(transaction.request, 487))
        if self._incoming is not None and self._incoming[1] is transaction:
            self._incoming = None
        elif transaction is self._server and not self.is_terminated:
            self._terminate(Cancelled(cancel))

    def _make_callee_dialog(self) -> None:
        if self.dialog is None:
            self.dialog = Dialog.from_uas(self.request, self.key[1])
            self.dialog.headers = self.request_headers

    def _ack_missing(self) -> None:
        """64*T1 without ACK (§13.3.1.4, §14.2): BYE."""
        self._ok = None
        if self._waiting_bye is not None:
            self._send_bye(self._waiting_bye)
            return
        self._send_bye(())
        self._end("timeout", None, "no ACK")

    # ---------------------------------------------------------------- caller

    def start(self, send: Callable[[Callable[[ClientEvent], None]], ClientTransaction]) -> None:
        """For the user agent: send the INVITE."""
        self._client = send(self._on_invite_event)

    def abandon(self) -> None:
        """For the user agent: the INVITE could not even be written; nobody is told."""
        self.state = SessionState.TERMINATED
        self._stop_guard()
        self._user_agent.forget(self)

    def cancel(self, *, headers: Iterable[Header] = ()) -> None:
        """Give the call up; Rejected (487 as a rule) follows. A call that was answered meanwhile is hung up."""
        if self._client is None or self.state not in (SessionState.INITIAL, SessionState.EARLY) or self._is_cancelled:
            return
        self._is_cancelled = True
        self._endpoint.cancel(self._client, headers=headers)

    def _on_invite_event(self, event: ClientEvent) -> None:
        if isinstance(event, ResponseReceived):
            response = event.response
            if 200 <= response.status < 300:
                self._receive_2xx(response)
            elif self.state not in (SessionState.INITIAL, SessionState.EARLY):
                return
            elif response.status < 200:
                self._receive_provisional(response)
            else:
                self._terminate(Rejected(response.status, response))
        elif not self.is_terminated:
            status = 408 if isinstance(event, TransactionTimeout) else 503
            self._terminate(Rejected(487 if self._is_cancelled else status, None))

    def _receive_provisional(self, response: Response) -> None:
        if response.status == 100:
            return
        if response.to_tag is not None:
            self.dialog = Dialog.from_uac(self.request, response)
            self.dialog.headers = self.request_headers
            self.state = SessionState.EARLY
        if response.body:
            self.remote_body = response.body
        self._emit(Provisional(response))

    def _receive_2xx(self, response: Response) -> None:
        tag = response.to_tag or ""
        dialog = self.dialog if self.state in (SessionState.CONFIRMED, SessionState.TERMINATED) else None
        if tag in self._forks:
            self._send_ack(self._forks[tag])
        elif dialog is not None and dialog.id.remote_tag == tag:
            self._send_ack(dialog)  # a retransmission
        elif self.state is SessionState.CONFIRMED or self.is_terminated or self._is_cancelled:
            self._hang_up_fork(response, tag)
            if self._is_cancelled and not self.is_terminated:
                self._terminate(Rejected(487, None))
        else:
            self.dialog = Dialog.from_uac(self.request, response)
            self.dialog.headers = self.request_headers
            self.state = SessionState.CONFIRMED
            self._stop_guard()
            if response.body:
                self.remote_body = response.body
            self._send_ack(self.dialog)
            self._emit(Answered(response))

    def _hang_up_fork(self, response: Response, tag: str) -> None:
        """A 2xx that nobody wants any more, or of a second callee: ACK, then BYE (§13.2.2.4)."""
        if len(self._forks) >= MAX_FORKS:
            return
        fork = self._forks[tag] = Dialog.from_uac(self.request, response)
        self._send_ack(fork)
        self._endpoint.send_request(fork.build_request("BYE"), on_event=_ignore)

    def _send_ack(self, dialog: Dialog) -> None:
        self._endpoint.send_ack(dialog.build_request("ACK", cseq=self.request.cseq.number))

    # ---------------------------------------------------------------- both: end

    def bye(self, *, headers: Iterable[Header] = ()) -> None:
        """End the session, whatever its state: BYE, CANCEL or 480. A BYE that must wait for the ACK (§15) waits."""
        if self.state is SessionState.CONFIRMED:
            self._send_bye(headers)
            self._end("local", None, "bye")
        elif self.state is SessionState.ANSWERED:
            self._waiting_bye = tuple(headers)
            self._end("local", None, "bye")
        elif self.is_caller:
            self.cancel(headers=headers)
        else:
            self.reject(480, headers=headers)

    def _send_bye(self, headers: Iterable[Header]) -> None:
        assert self.dialog is not None
        self._waiting_bye = None
        self._is_bye_sent = True
        request = self.dialog.build_request("BYE", headers=headers)
        self._endpoint.send_request(request, on_event=self._on_bye_event)

    def _on_bye_event(self, event: ClientEvent) -> None:
        if not isinstance(event, ResponseReceived) or event.response.status >= 200:
            self._user_agent.forget(self)

    def _end(self, by: Literal["remote", "local", "timeout", "failure"], request: Request | None, reason: str) -> None:
        if not self.is_terminated:
            self._terminate(Ended(by, request, reason))

    def _terminate(self, event: SessionEvent) -> None:
        self.state = SessionState.TERMINATED
        if self.dialog is not None:
            self.dialog.state = DialogState.TERMINATED
        self._stop_guard()
        if self._outgoing is not None:
            self._outgoing.stop()
            self._outgoing = None
        if self._incoming is not None:
            request, transaction = self._incoming
            self._incoming = None
            self._endpoint.send_response(transaction, build_response(request, 487))
        if self._ok is not None and self._waiting_bye is None:
            self._ok.stop()
            self._ok = None
        if self._waiting_bye is None and not self._is_bye_sent:
            self._user_agent.forget(self)
        # else the session lives on inside until its BYE is answered, but its user need not live as long
        emit, self._emit_to = self._emit_to, _ignore_event
        emit(self, event)

    def _give_up(self) -> None:
        self._guard = None
        if self.is_caller:
            self.cancel()
        elif self._server is not None:
            self._endpoint.send_response(self._server, build_response(self.request, 480))
            self._end("timeout", None, "never answered")

    def _stop_guard(self) -> None:
        if self._guard is not None:
            self._guard.cancel()
            self._guard = None

    def _emit(self, event: SessionEvent) -> None:
        self._emit_to(self, event)

    # ---------------------------------------------------------------- both: re-INVITE

    def reinvite(self, body: bytes, *, headers: Iterable[Header] = ()) -> None:
        """Send a new offer; ReinviteAnswered or ReinviteRejected follows. A 491 is tried again inside.

        Raises:
            LocalProtocolError: the session is not confirmed, or an offer of either side is pending.
        """
        if self.state is not SessionState.CONFIRMED:
            raise LocalProtocolError(f"no re-INVITE in state {self.state.value}")
        if self._outgoing is not None or self._incoming is not None or self._ok is not None:
            raise LocalProtocolError("a re-INVITE is pending")
        self._outgoing = OutgoingReinvite(self._endpoint, self, body, headers)
        self._outgoing.start()

    def build_reinvite(self, body: bytes, headers: Iterable[Header]) -> Request:
        """For `OutgoingReinvite`."""
        assert self.dialog is not None
        items = [("Contact", self.contact), *self._user_agent.common_headers, *headers]
        return self.dialog.build_request("INVITE", headers=items, body=body, content_type="application/sdp")

    def can_retry_reinvite(self) -> bool:
        """For `OutgoingReinvite`."""
        return self._incoming is None and self._ok is None

    def reinvite_done(self, status: int, response: Response | None) -> None:
        """For `OutgoingReinvite`: its final outcome."""
        outgoing, self._outgoing = self._outgoing, None
        assert outgoing is not None
        if response is not None and status < 300:
            self.local_body = outgoing.body
            if response.body:
                self.remote_body = response.body
            self._emit(ReinviteAnswered(response))
            return
        self._emit(ReinviteRejected(status, response))
        if status in (408, 481) and not self.is_terminated:  # §14.1: the peer has lost the dialog
            self._send_bye(())
            self._end("failure", None, f"re-INVITE: {status}")

    def accept_reinvite(self, body: bytes, *, headers: Iterable[Header] = ()) -> bool:
        """200 to the pending re-INVITE. False when none is pending any more (cancelled, session ended)."""
        if self._incoming is None:
            return False
        request, transaction = self._incoming
        self._incoming = None
        assert self.dialog is not None
        self.dialog.update_target(request)
        if request.body:
            self.remote_body = request.body
        response = self._build_response(request, 200, None, headers, body)
        ok = PendingOk(self._endpoint, transaction, response, self._ack_missing)
        if not ok.start():
            return False
        self._ok = ok
        self.local_body = body
        return True

    def reject_reinvite(self, status: int, *, headers: Iterable[Header] = ()) -> bool:
        """Refuse the pending re-INVITE; the session goes on as it was. False when none is pending any more."""
        if self._incoming is None:
            return False
        request, transaction = self._incoming
        self._incoming = None
        self._endpoint.send_response(transaction, build_response(request, status, headers=headers))
        return True

    def _receive_reinvite(self, request: Request, transaction: ServerTransaction) -> None:
        if self._incoming is not None or self.state in (SessionState.INITIAL, SessionState.EARLY):
            # §14.2: the first INVITE has no final response yet
            retry = str(int(self._endpoint.new_tag()[:4], 16) % 11)
            self._respond(request, transaction, 500, headers=[("Retry-After", retry)])
        elif self._ok is not None or (self._outgoing is not None and self._outgoing.is_on_the_wire):
            self._respond(request, transaction, 491)
        else:
            self._incoming = request, transaction
            transaction.owner = self
            self._emit(ReinviteReceived(request))

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
        if self.dialog is None or self.is_terminated or method in ("INVITE", "ACK", "BYE", "CANCEL"):
            raise LocalProtocolError(f"no {method} in state {self.state.value}")
        request = self.dialog.build_request(method, headers=headers, body=body, content_type=content_type)
        return self._endpoint.send_request(request, on_event=_ignore if on_event is None else on_event)

    def receive_ack(self, ack: Request) -> None:
        """For the user agent."""
        ok = self._ok
        if ok is None or ack.cseq.number != ok.cseq:
            return
        ok.stop()
        self._ok = None
        if self._waiting_bye is not None:
            self._send_bye(self._waiting_bye)
            return
        if self.state is SessionState.ANSWERED:
            self.state = SessionState.CONFIRMED
        if ack.body:
            self.remote_body = ack.body
        self._emit(Acked(ack))

    def receive_request(self, request: Request, transaction: ServerTransaction) -> None:
        """For the user agent: any request with our dialog's tags but ACK and CANCEL."""
        method = request.method
        dialog = self.dialog
        if dialog is None or dialog.id.remote_tag != (request.from_tag or ""):
            self._respond(request, transaction, 481)
        elif not dialog.accept_cseq(request):
            self._respond(request, transaction, 500)
        elif method == "BYE":
            self._receive_bye(request, transaction)
        elif self.is_terminated:
            self._respond(request, transaction, 481)
        elif method == "INVITE":
            self._receive_reinvite(request, transaction)
        else:
            self._emit(RequestReceived(request, transaction))
            if not transaction.is_answered:
                is_fine = method in _ANSWERED_BY_DEFAULT
                self._respond(request, transaction, 200 if is_fine else 405, headers=self._user_agent.common_headers)

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
        self._endpoint.send_response(event.transaction, response)

    def _receive_bye(self, request: Request, transaction: ServerTransaction) -> None:
        self._respond(request, transaction, 200)
        if self.is_terminated:
            # our BYE crossed it, or need not be sent any more
            if self._waiting_bye is not None:
                self._waiting_bye = None
                if self._ok is not None:
                    self._ok.stop()
                    self._ok = None
                self._user_agent.forget(self)
            return
        server = self._server
        if server is not None and not server.is_answered:
            self._endpoint.send_response(server, build_response(self.request, 487))  # §15.1.2
        self._end("remote", request, request.headers.get("Reason") or "bye")

    def _respond(
        self, request: Request, transaction: ServerTransaction, status: int, headers: Iterable[Header] = ()
    ) -> None:
        items = [*self.response_headers, *headers]
        self._endpoint.send_response(transaction, build_response(request, status, headers=items))

    def _build_response(
        self, request: Request, status: int, reason: str | None, headers: Iterable[Header], body: bytes
    ) -> Response:
        items: list[Header] = []
        if status > 100:
            items = [("Contact", self.contact), *self._user_agent.common_headers, *self.response_headers]
        items += headers
        return build_response(
            request, status, reason, to_tag=self.key[1], headers=items, body=body, content_type="application/sdp"
        )


def _ignore_event(_: InviteSession, event: SessionEvent) -> None:
    del event


def _ignore(event: ClientEvent) -> None:
    """The outcome changes nothing."""
