"""The user agent core: finds the session of a message, and makes sessions (RFC 3261 §8, §12.2.2).

A request without To tag starts something: INVITE goes to `on_invite`, others to `on_request`. One with a To tag belongs
to a session by Call-ID and that tag, or to another usage of the same dialog (a subscription), which is `attach`ed and
asked first; else `passthrough` may take it (a proxy that has record-routed), else it is answered 481. A CANCEL goes to
the transaction's `owner` (a session, a proxy branch), which has `receive_cancel`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, runtime_checkable

from ims_as.sip.core import EndpointCore
from ims_as.sip.dialog_usage import DialogUsage
from ims_as.sip.errors import LocalProtocolError, SipParseError
from ims_as.sip.flow import Destination, Flow
from ims_as.sip.header_types import parse_name_addr
from ims_as.sip.invite_session import InviteSession, SessionEvent
from ims_as.sip.message import Request, Response, build_response
from ims_as.sip.next_hop import next_hop
from ims_as.sip.option_tags import KNOWN_TO_SESSIONS, RELIABLE, REPLACES, TIMER, allows, unsupported_tags
from ims_as.sip.refresher import SessionRefresher, refused_interval
from ims_as.sip.replaces import find_replaced
from ims_as.sip.session_core import SessionCore
from ims_as.sip.session_timer import SessionTimerConfig
from ims_as.sip.stateless import NO_DIALOG, WRONG_SOURCE
from ims_as.sip.transaction import ServerTransaction

__all__ = ["CancelOwner", "UserAgent"]

RequestHandler = Callable[[Request, ServerTransaction], None]


@runtime_checkable
class CancelOwner(Protocol):
    """What `ServerTransaction.owner` may be."""

    def receive_cancel(self, transaction: ServerTransaction, cancel: Request) -> None: ...


class UserAgent:
    """Implements `TransactionUser` over an endpoint; the caller makes it the endpoint's `user`.

    Args:
        on_invite: a new call; `accept` it, or answer the transaction otherwise.
        on_request: another request outside of dialogs.
        user_agent: for the User-Agent and Server header; "" leaves it out.
        allow: the Allow header. With UPDATE in it, `on_event` of each session has to take `UpdateReceived`; PRACK is
            added where it belongs.
        supported: option tags for Supported, small letters. Those of `KNOWN_TO_SESSIONS` are looked after inside.
        session_timer: what we want of session timers (RFC 4028); None: only what the peer wants, 90 s or more.
    """

    def __init__(
        self,
        endpoint: EndpointCore,
        *,
        on_invite: RequestHandler,
        on_request: RequestHandler,
        user_agent: str,
        allow: str,
        supported: Sequence[str] = KNOWN_TO_SESSIONS,
        session_timer: SessionTimerConfig | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.supported = tuple(supported)
        self.session_timer = session_timer
        self.passthrough: Callable[[Request, ServerTransaction], bool] | None = None
        """In-dialog requests of no session; True when it has taken it."""
        self.on_unhandled_ack: Callable[[Request, Flow], None] | None = None
        """ACKs of no session."""
        self.accepts_source: Callable[[InviteSession, str], bool] | None = None
        """Whether a request inside a session may come from that address; None: from any that is trusted."""
        self.on_unowned_cancel: Callable[[ServerTransaction, Request], None] | None = None
        """CANCEL of a transaction without owner; by default 487 is sent."""
        if RELIABLE in supported and not allows([allow], "PRACK"):
            allow = f"{allow}, PRACK"
        self.takes_updates = allows([allow], "UPDATE")
        """Else an UPDATE in a call is answered 405."""
        self.common_headers = _describe(allow, supported, user_agent)
        """Part of every INVITE and of its responses above 100."""
        self.offer_headers = _describe(allow, [tag for tag in supported if tag != RELIABLE], user_agent)
        """The same for re-INVITE and UPDATE: no reliable 1xx is wanted for a re-INVITE, whose answer is its 2xx."""
        self._on_invite = on_invite
        self._on_request = on_request
        self._sessions: dict[tuple[str, str], InviteSession] = {}
        self._usages: dict[tuple[str, str], tuple[DialogUsage, ...]] = {}
        endpoint.dialog_gauges.append(self._sessions.__len__)
        endpoint.dialog_gauges.append(self._usages.__len__)

    @property
    def sessions(self) -> list[InviteSession]:
        """Sessions that are not over, those included that wait for the response to their BYE."""
        return list(self._sessions.values())

    def forget(self, session: SessionCore) -> None:
        """For the session: nothing more will come of it."""
        if self._sessions.get(session.key) is session:
            del self._sessions[session.key]
            session.release()

    def attach(self, call_id: str, local_tag: str, usage: DialogUsage) -> None:
        """Offer this usage the requests of that dialog until `detach`, before the dialog's session gets them."""
        key = call_id, local_tag
        self._usages[key] = (*self._usages.get(key, ()), usage)

    def detach(self, call_id: str, local_tag: str, usage: DialogUsage) -> None:
        """The usage is over; harmless when it is not attached."""
        key = call_id, local_tag
        left = tuple(other for other in self._usages.get(key, ()) if other is not usage)
        if left:
            self._usages[key] = left
        else:
            self._usages.pop(key, None)

    def unsupported(self, request: Request) -> list[str]:
        """The option tags in Require that we do not support: for a 420 with Unsupported, or for the call to go on
        elsewhere. In-dialog requests are answered here."""
        return unsupported_tags(request, self.supported)

    def interval_refusal(self, request: Request) -> list[tuple[str, str]] | None:
        """Headers for a 422 to an INVITE whose session interval is too small, else None (RFC 4028 §9).

        A session refuses such an INVITE at its first response above 100; this is to know it earlier.
        """
        return refused_interval(request, self.session_timer) if TIMER in self.supported else None

    def find_replaced(self, request: Request) -> InviteSession | int | None:
        """The session that an INVITE asks to replace (RFC 3891), None when it asks for nothing, or a refusing status.

        Whether the caller may do that, and what to do with the session replaced, is for the user: `bye` it when the new
        call is answered (an early one of ours: at once).
        """
        return find_replaced(request, self._sessions.get) if REPLACES in self.supported else None

    # ---------------------------------------------------------------- making sessions

    def accept(
        self,
        request: Request,
        transaction: ServerTransaction,
        *,
        on_event: Callable[[InviteSession, SessionEvent], None],
        contact_params: str = "",
        response_headers: Iterable[tuple[str, str]] = (),
        request_headers: Iterable[tuple[str, str]] = (),
    ) -> InviteSession:
        """Become the callee of an INVITE. Nothing is sent yet.

        Args:
            contact_params: header parameters of our Contact, with the ";" in front.
            response_headers: part of all our responses in the session.
            request_headers: part of all our requests in the dialog.
        """
        contact = f"<{self.endpoint.local_uri(transaction.flow, request=request)}>{contact_params}"
        session = InviteSession(
            self, request, local_tag=transaction.to_tag, contact=contact, on_event=on_event, server=transaction
        )
        session.response_headers = tuple(response_headers)
        session.request_headers = tuple(request_headers)
        transaction.owner = session
        self._sessions[session.key] = session
        return session

    def invite(
        self,
        *,
        uri: str,
        from_: str,
        to: str,
        route: Sequence[str] = (),
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        content_type: str = "application/sdp",
        on_event: Callable[[InviteSession, SessionEvent], None],
        call_id: str | None = None,
        destination: Destination | None = None,
        max_forwards: int = 70,
        contact_params: str = "",
    ) -> InviteSession:
        """Call somebody. `from_` and `to` are header values; a From tag is added (§8.1.1).

        Raises:
            LocalProtocolError: `from_` is not an address, or a header holds CR, LF or NUL.
        """
        tag = self.endpoint.new_tag()
        try:
            sender = parse_name_addr(from_).without_param("tag").with_tag(tag)
        except SipParseError as error:
            raise LocalProtocolError(f"From: {error}") from error
        items = [("Route", value) for value in route]
        items += [
            ("Max-Forwards", str(max_forwards)),
            ("From", str(sender)),
            ("To", to),
            ("Call-ID", call_id or self.endpoint.new_call_id()),
            ("CSeq", "1 INVITE"),
        ]
        request = Request("INVITE", uri, items, body)
        contact = f"<{self._local_uri(request, destination)}>{contact_params}"
        for name, value in (("Contact", contact), *self.common_headers, *headers):
            request.headers.add(name, value)
        if body:
            request.headers.add("Content-Type", content_type)
        session = InviteSession(self, request, local_tag=tag, contact=contact, on_event=on_event)
        if self.session_timer is not None and TIMER in self.supported:
            session.refresher = SessionRefresher(session, self.session_timer)
            for name, value in session.refresher.request_headers():
                request.headers.add(name, value)
        self._sessions[session.key] = session
        try:
            session.start(
                lambda each, handler: self.endpoint.send_request(each, destination=destination, on_event=handler)
            )
        except LocalProtocolError:
            session.abandon()
            raise
        return session

    def _local_uri(self, request: Request, destination: Destination | None) -> str:
        try:
            there = next_hop(request) if destination is None else destination
        except SipParseError:
            there = Destination("UDP", "")  # the request will fail, and tell so by an event
        return str(self.endpoint.local_uri(there))

    # ---------------------------------------------------------------- TransactionUser

    def on_request(self, request: Request, transaction: ServerTransaction) -> None:
        """A new server transaction."""
        to_tag = request.to_tag
        if to_tag is not None:
            key = request.call_id, to_tag
            session = self._sessions.get(key)
            if session is not None and not self._may_come_from(transaction.flow, session):
                self.endpoint.refuse(transaction, WRONG_SOURCE)
                return
            usages = self._usages.get(key, ()) if self._usages else ()
            if (session is not None or usages) and (unknown := self.unsupported(request)):
                headers = [("Unsupported", ", ".join(unknown))]
                self.endpoint.send_response(transaction, build_response(request, 420, headers=headers))
                return
            for usage in usages:
                if usage.receive_request(request, transaction):
                    return
            if session is not None:
                session.receive_request(request, transaction)
            elif self.passthrough is None or not self.passthrough(request, transaction):
                self.endpoint.refuse(transaction, NO_DIALOG)
        elif request.method == "INVITE":
            self._on_invite(request, transaction)
        elif request.method == "BYE":
            self.endpoint.refuse(transaction, NO_DIALOG)
        else:
            self._on_request(request, transaction)

    def _may_come_from(self, flow: Flow, session: InviteSession) -> bool:
        return self.accepts_source is None or self.accepts_source(session, flow.remote[0])

    def on_ack(self, request: Request, flow: Flow) -> None:
        """The ACK of a 2xx."""
        session = self._sessions.get((request.call_id, request.to_tag or ""))
        if session is not None and not self._may_come_from(flow, session):
            self.endpoint.counters.drops["ACK from elsewhere"] += 1
        elif session is not None:
            session.receive_ack(request)
        elif self.on_unhandled_ack is not None:
            self.on_unhandled_ack(request, flow)
        else:
            self.endpoint.counters.drops["ACK for no session"] += 1

    def on_cancel(self, transaction: ServerTransaction, cancel: Request) -> None:
        """A CANCEL, answered 200 already."""
        owner = transaction.owner
        if isinstance(owner, CancelOwner):
            owner.receive_cancel(transaction, cancel)
        elif self.on_unowned_cancel is not None:
            self.on_unowned_cancel(transaction, cancel)
        else:
            self.endpoint.send_response(transaction, build_response(transaction.request, 487))

    def on_stray_response(self, response: Response, flow: Flow) -> None:
        """A response that comes after its transaction is over; counted by the endpoint, of no use to anybody."""


def _describe(allow: str, supported: Sequence[str], user_agent: str) -> tuple[tuple[str, str], ...]:
    headers = (("Allow", allow), ("Supported", ", ".join(supported)), ("User-Agent", user_agent))
    return tuple(header for header in headers if header[1])
