"""What the parts of a session share: its state, its messages, its end.

`callee`, `caller` and `exchange` know a session as this class; `InviteSession` adds what its user calls and the
requests of the peer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Literal

from ims_as.sip.body import SDP_TYPE, sdp_of
from ims_as.sip.callee import CalleeSide
from ims_as.sip.caller import CallerSide
from ims_as.sip.dialog import Dialog, DialogState
from ims_as.sip.errors import LocalProtocolError
from ims_as.sip.exchange import DialogExchange, Offer, PastExchange
from ims_as.sip.message import Request, Response, build_response
from ims_as.sip.option_tags import TIMER
from ims_as.sip.refresher import SessionRefresher, refused_interval
from ims_as.sip.replaces import Replaces
from ims_as.sip.session_events import Ended, SessionEvent
from ims_as.sip.timers import TimerHandle
from ims_as.sip.transaction import ClientEvent, ResponseReceived, ServerTransaction

if TYPE_CHECKING:
    from ims_as.sip.user_agent import UserAgent

__all__ = ["SessionCore", "SessionState"]

SETUP_LIMIT_S: Final = 300.0
"""A call that is neither answered nor refused by then is given up, whatever the other timers do."""

Header = tuple[str, str]


class SessionState(Enum):
    INITIAL = "initial"
    EARLY = "early"
    ANSWERED = "answered"
    CONFIRMED = "confirmed"
    TERMINATED = "terminated"

    __hash__ = object.__hash__


_EARLY: Final = (SessionState.INITIAL, SessionState.EARLY)


class SessionCore:
    """Not made directly."""

    def __init__(
        self,
        user_agent: UserAgent,
        request: Request,
        *,
        local_tag: str,
        contact: str,
        on_event: Callable[[Any, SessionEvent], None],
        server: ServerTransaction | None = None,
    ) -> None:
        self.request = request
        """The INVITE that began it."""
        self.key = (request.call_id, local_tag)
        self.state = SessionState.INITIAL
        self.is_caller = server is None
        self.contact = contact
        """Our Contact value."""
        self.on_peer_request: Callable[[Request], None] | None = None
        """Sees each request of the peer in the dialog before it is handled: to keep the headers below up to date."""
        self.response_headers: tuple[Header, ...] = ()
        """Part of all our responses above 100 in the session."""
        self.request_headers: tuple[Header, ...] = ()
        """Part of all our requests in the dialog; to be set before there is one."""
        self.user_agent = user_agent
        """Whose session it is."""
        self.endpoint = user_agent.endpoint
        self.was_answered = False
        """A 2xx to the INVITE was sent or received."""
        self._emit_to = on_event
        self._callee = None if server is None else CalleeSide(self, server)
        self._caller = CallerSide(self) if server is None else None
        self._waiting_bye: tuple[Header, ...] | None = None
        """Headers of a BYE that waits for the ACK of our 200 (§15)."""
        self._is_bye_sent = False
        self.refresher: SessionRefresher | None = None
        """The session timer, where somebody wants one."""
        self.exchange = self.new_exchange(None)
        """Of the latest dialog: offers, answers and what was agreed."""
        endpoint = self.endpoint
        self._guard: TimerHandle | None = endpoint.call_at(endpoint.now() + SETUP_LIMIT_S, self._give_up)

    def new_exchange(self, dialog: Dialog | None) -> DialogExchange:
        """For the parts: as the INVITE has left it."""
        body = sdp_of(self.request)
        if self.is_caller:
            offer = Offer.LOCAL if body else Offer.NONE
            return DialogExchange(self, dialog, local_body=body, remote_body=b"", offer=offer)
        offer = Offer.REMOTE if body else Offer.NONE
        return DialogExchange(self, dialog, local_body=b"", remote_body=body, offer=offer)

    # ---------------------------------------------------------------- state

    @property
    def id(self) -> str:
        """Unique in the process."""
        return f"{self.key[0]};{self.key[1]}"

    @property
    def dialog(self) -> Dialog | None:
        """The dialog that was answered, before that the latest early one; None until a response above 100."""
        return self.exchange.dialog

    @property
    def local_body(self) -> bytes:
        """Our latest session description that is or was in force: offer or answer."""
        return self.exchange.local_body

    @property
    def remote_body(self) -> bytes:
        """The peer's latest session description."""
        return self.exchange.remote_body

    @property
    def is_early(self) -> bool:
        """Neither answered nor over."""
        return self.state in _EARLY

    @property
    def is_answered(self) -> bool:
        """Answered and not over."""
        return self.state in (SessionState.CONFIRMED, SessionState.ANSWERED)

    @property
    def is_terminated(self) -> bool:
        return self.state is SessionState.TERMINATED

    @property
    def remote_tags(self) -> list[str]:
        """The peer's tags of all dialogs that are left: one, but for a caller whose INVITE was forked."""
        exchanges = [self.exchange, *(self._caller.early if self._caller is not None and self.is_early else ())]
        return [exchange.dialog.id.remote_tag for exchange in exchanges if exchange.dialog is not None]

    def replaces(self, *, early_only: bool = False) -> str:
        """Value of a Replaces header for whoever shall take our place in the call (RFC 3891).

        Raises:
            LocalProtocolError: there is no dialog.
        """
        if self.dialog is None:
            raise LocalProtocolError("nothing to replace")
        return str(Replaces.of(self.dialog.id, early_only=early_only))

    @property
    def can_update(self) -> bool:
        """The peer says in Allow that it takes UPDATE."""
        return self.exchange.can_update

    @property
    def can_offer(self) -> bool:
        """An offer of ours may go out now: by `update`, or by `reinvite` once the call is confirmed."""
        return not self.is_terminated and self.dialog is not None and self.exchange.is_free

    # ---------------------------------------------------------------- for the callee's part

    def make_callee_dialog(self) -> None:
        """For the callee's part: a response above 100 is about to go out."""
        if self.exchange.dialog is None:
            dialog = self.exchange.dialog = Dialog.from_uas(self.request, self.key[1])
            dialog.headers = self.request_headers
        self.state = SessionState.EARLY

    def answered_as_callee(self) -> None:
        """For the callee's part: the 2xx is sent."""
        self.state = SessionState.ANSWERED
        self.was_answered = True
        self._stop_guard()

    def ack_missing(self) -> None:
        """For the parts: 64*T1 without ACK (§13.3.1.4, §14.2): BYE."""
        self.exchange.ok = None
        if self._waiting_bye is not None:
            self._send_bye(self._waiting_bye)
            return
        self._send_bye(())
        self.end("timeout", None, "no ACK")

    # ---------------------------------------------------------------- for the caller's part

    def early_as_caller(self, exchange: DialogExchange) -> None:
        """For the caller's part: a provisional response of that dialog."""
        self.exchange = exchange
        self.state = SessionState.EARLY

    def answered_as_caller(self, exchange: DialogExchange, response: Response) -> None:
        """For the caller's part: the first 2xx."""
        self.exchange = exchange
        self.state = SessionState.CONFIRMED
        self.was_answered = True
        self._stop_guard()
        self.refreshed(response)

    def restart_as_caller(self, request: Request) -> None:
        """For the caller's part: the INVITE goes out once more, changed."""
        self.request = request
        self.exchange = self.new_exchange(None)
        self.state = SessionState.INITIAL

    # ---------------------------------------------------------------- for the exchange

    def may_offer(self, exchange: DialogExchange) -> bool:
        """For the exchange: whether the INVITE's own offer and answer are far enough for another offer of ours."""
        if self.state is SessionState.CONFIRMED:
            return True
        if self.state is SessionState.TERMINATED or not exchange.is_settled:
            return False
        return self._callee is None or self._callee.may_offer

    def exchange_changed(self) -> None:
        """For the exchange: an offer was answered, or given up."""
        if self._callee is not None:
            self._callee.go_on()

    def dialog_lost(self, exchange: DialogExchange, reason: str) -> None:
        """For the exchange: the peer has lost the dialog (§12.2.1.2)."""
        if self.is_answered:
            self._send_bye(())
            self.end("failure", None, reason)
        elif self.is_terminated:
            return
        elif self._caller is not None:
            self._caller.left(exchange)
        elif self._callee is not None:
            self.respond_to(self.request, self._callee.server, 500)
            self.end("failure", None, reason)

    # ---------------------------------------------------------------- session timer

    def refreshed(self, response: Response) -> None:
        """For the parts: a 2xx to the INVITE, or to a re-INVITE or UPDATE of ours in the confirmed dialog."""
        if not self.is_answered:
            return
        if self.refresher is None:
            if "session-expires" not in response.headers or TIMER not in self.user_agent.supported:
                return
            self.refresher = SessionRefresher(self, None)
        self.refresher.receive_2xx(response)

    def refresh_failed(self) -> None:
        """For the exchange: a refresh by the session timer was refused."""
        if self.refresher is not None and self.is_answered:
            self.refresher.refresh_failed()

    def receive_422(self, response: Response) -> bool:
        """For outgoing requests: whether to try again with the session interval that the peer wants."""
        return self.refresher is not None and self.refresher.receive_422(response)

    def is_interval_refused(self, request: Request, transaction: ServerTransaction) -> bool:
        """For the parts: whether the request was answered 422."""
        if TIMER not in self.user_agent.supported:
            return False
        headers = refused_interval(request, self.user_agent.session_timer)
        if headers is None:
            return False
        self.respond_to(request, transaction, 422, headers)
        return True

    def timer_headers(self, request: Request) -> Sequence[Header]:
        """For the parts: what our 2xx says of the session timer; it starts with it."""
        refresher = self.refresher
        if refresher is None:
            config = self.user_agent.session_timer
            if config is None and "session-expires" not in request.headers:
                return ()
            if TIMER not in self.user_agent.supported:
                return ()
            refresher = self.refresher = SessionRefresher(self, config)
        return refresher.response_headers(request)

    def stop_refresher(self) -> None:
        """For the parts."""
        if self.refresher is not None:
            self.refresher.stop()

    def expired(self) -> None:
        """For the refresher: nobody has refreshed the session (RFC 4028 §10)."""
        if self.is_answered:
            self._send_bye([("Reason", 'SIP;cause=408;text="session timer"')])
            self.end("timeout", None, "session timer")

    def _send_bye(self, headers: Iterable[Header]) -> None:
        assert self.dialog is not None
        self._waiting_bye = None
        self._is_bye_sent = True
        request = self.dialog.build_request("BYE", headers=headers)
        self.endpoint.send_request(request, on_event=self._on_bye_event)

    def _on_bye_event(self, event: ClientEvent) -> None:
        if not isinstance(event, ResponseReceived) or event.response.status >= 200:
            self.user_agent.forget(self)

    def end(self, by: Literal["remote", "local", "timeout", "failure"], request: Request | None, reason: str) -> None:
        """For the parts."""
        if not self.is_terminated:
            self.terminate(Ended(by, request, reason))

    def terminate(self, event: SessionEvent) -> None:
        """For the parts: the end, with the last event."""
        self.state = SessionState.TERMINATED
        exchange = self.exchange
        if exchange.dialog is not None:
            exchange.dialog.state = DialogState.TERMINATED
        self._stop_guard()
        self.stop_refresher()
        exchange.close(keep_ok=self._waiting_bye is not None)
        if self._caller is not None:
            self._caller.stop()
        elif self._callee is not None:
            self._callee.stop()
        if self._waiting_bye is None and not self._is_bye_sent:
            self.user_agent.forget(self)
        # else the session lives on inside until its BYE is answered, but its user need not live as long
        emit, self._emit_to = self._emit_to, _ignore_event
        emit(self, event)

    def release(self) -> None:
        """For the user agent, which has forgotten the session: no message of its dialog comes any more.

        A caller's INVITE may still bring 2xx of other callees, so its part stays until that transaction ends.
        """
        if self._callee is not None:
            self._callee.release()
            self._callee = self.refresher = None
            self.exchange = PastExchange(self.exchange)

    def _give_up(self) -> None:
        self._guard = None
        if self._caller is not None:
            self._caller.cancel()
        elif self._callee is not None:
            self.respond_to(self.request, self._callee.server, 480)
            self.end("timeout", None, "never answered")

    def _stop_guard(self) -> None:
        if self._guard is not None:
            self._guard.cancel()
            self._guard = None

    # ---------------------------------------------------------------- for the parts: messages

    def emit(self, event: SessionEvent) -> None:
        """Tell the user."""
        self._emit_to(self, event)

    def offer_headers(self) -> list[Header]:
        """Headers of a re-INVITE or UPDATE."""
        items = [("Contact", self.contact), *self.user_agent.offer_headers]
        if self.refresher is not None and self.is_answered:
            items += self.refresher.request_headers()
        return items

    def respond_to(
        self, request: Request, transaction: ServerTransaction, status: int, headers: Iterable[Header] = ()
    ) -> None:
        """Answer a request with a response that has no body."""
        items = [*self.response_headers, *headers]
        self.endpoint.send_response(transaction, build_response(request, status, headers=items))

    def refuse_for_now(self, request: Request, transaction: ServerTransaction) -> None:
        """500 with Retry-After from 0 to 10 s: an offer of the peer is not finished (§14.2, RFC 3311 §5.2)."""
        retry = str(int(self.endpoint.new_tag()[:4], 16) % 11)
        self.respond_to(request, transaction, 500, [("Retry-After", retry)])

    def build_response(
        self, request: Request, status: int, reason: str | None, headers: Iterable[Header], body: bytes
    ) -> Response:
        """A response with what all of ours above 100 carry."""
        items: list[Header] = []
        if status > 100:
            items = [("Contact", self.contact), *self.user_agent.common_headers, *self.response_headers]
        items += headers
        return build_response(
            request, status, reason, to_tag=self.key[1], headers=items, body=body, content_type=SDP_TYPE
        )


def _ignore_event(_: SessionCore, event: SessionEvent) -> None:
    del event
