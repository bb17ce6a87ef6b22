"""REFER inside a call, both ways (RFC 3515, RFC 4488, RFC 3892), with the subscription that it makes.

`ReferReceiver` is made of the `RequestReceived` of a REFER and tells the referrer, by NOTIFYs with a
``message/sipfrag`` body, what became of it. `ReferSender` sends a REFER and turns what comes back into events. Both go
on when the call's BYE has come before the outcome (RFC 5057): many phones hang up as soon as the REFER is accepted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote

import attrs

from ims_as.sip.dialog_usage import DialogChannel
from ims_as.sip.errors import LocalProtocolError, SipParseError
from ims_as.sip.event_headers import EventType, SubscriptionState
from ims_as.sip.grammar import printable, split_list
from ims_as.sip.header_types import NameAddr, parse_name_addr
from ims_as.sip.message import REASONS, Request, Response, build_response
from ims_as.sip.notifier import Notifier, NotifierEvent
from ims_as.sip.session_events import RequestReceived
from ims_as.sip.subscription import accept_notify, is_notify_for
from ims_as.sip.timers import TimerHandle
from ims_as.sip.transaction import ClientEvent, ResponseReceived, ServerTransaction, TransactionTimeout
from ims_as.sip.uri import SipUri, check_uri

if TYPE_CHECKING:
    from ims_as.sip.invite_session import InviteSession

__all__ = [
    "ReferAccepted",
    "ReferEvent",
    "ReferFailed",
    "ReferFinal",
    "ReferProgress",
    "ReferReceiver",
    "ReferSender",
    "ReferTarget",
    "format_refer_to",
    "format_sipfrag",
    "parse_refer_to_untrusted",
    "parse_sipfrag_untrusted",
]

Header = tuple[str, str]

SIPFRAG_TYPE: Final = "message/sipfrag;version=2.0"
EXPIRES_S: Final = 360
"""Of the implicit subscription: longer than any call rings (§2.4.4 leaves the time to the referee)."""
OUTCOME_LIMIT_S: Final = 300.0
"""Without an outcome by then, a REFER that we sent counts as failed."""
MAX_EMBEDDED_HEADERS: Final = 16
# §19.1.5 of RFC 3261: headers of a URI that would forge a message are not honoured; these carry a service's meaning
_EMBEDDED_HEADERS: Final = {
    name.lower(): name
    for name in ("Replaces", "User-to-User", "Subject", "Accept-Contact", "Reject-Contact", "Request-Disposition")
}
_SIPFRAG_RE: Final = re.compile(r"SIP/2\.0[ \t]+([1-6][0-9]{2})(?:[ \t]+([^\r\n]{0,200})|[ \t]*(?=[\r\n]|\Z))")


# ---------------------------------------------------------------- Refer-To and sipfrag


@attrs.frozen(slots=True)
class ReferTarget:
    """What a Refer-To asks for."""

    uri: str
    """Whom to contact, without `method` parameter and headers."""
    method: str = "INVITE"
    replaces: str | None = None
    """Value of a Replaces header for the new INVITE (RFC 3891), unescaped."""
    headers: tuple[Header, ...] = ()
    """Other headers for the new request; only those that cannot forge one."""
    display_name: str = ""


def parse_refer_to_untrusted(text: str) -> ReferTarget:
    """Read a Refer-To value.

    Raises:
        SipParseError: it is malformed, holds more than one address, or no URI.
    """
    bare = text.strip(" \t")
    if "<" not in bare and "?" in bare:
        bare = f"<{bare}>"  # brackets are mandatory there (RFC 3515 §2.1), and forgotten now and then
    if len(split_list(bare)) != 1:
        raise SipParseError("more than one Refer-To")
    address = parse_name_addr(bare)
    uri = address.uri
    if not isinstance(uri, SipUri):
        return ReferTarget(str(uri), display_name=address.display_name)
    method = (uri.param("method") or "INVITE").upper()
    plain = attrs.evolve(uri.without_params("method"), headers="")
    embedded = _embedded_headers_untrusted(uri.headers)
    return ReferTarget(
        str(plain),
        method,
        embedded.pop("Replaces", None),
        tuple(embedded.items()),
        address.display_name,
    )


def _embedded_headers_untrusted(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in text.split("&")[:MAX_EMBEDDED_HEADERS]:
        name, _, value = part.partition("=")
        known = _EMBEDDED_HEADERS.get(unquote(name).lower())
        plain = unquote(value).strip(" \t")
        if known is not None and plain and plain == printable(plain):
            found.setdefault(known, plain)
    return found


def format_refer_to(uri: str, *, replaces: str | None = None, headers: Iterable[Header] = ()) -> str:
    """Write a Refer-To value.

    Args:
        uri: whom to contact.
        replaces: value of the Replaces header that the new INVITE shall carry.
        headers: more headers for it.

    Raises:
        LocalProtocolError: `uri` is not a URI, or one that cannot carry headers.
    """
    try:
        check_uri(uri)
    except SipParseError as error:
        raise LocalProtocolError(f"Refer-To: {error}") from error
    items = [*headers] if replaces is None else [("Replaces", replaces), *headers]
    if not items:
        return f"<{uri}>"
    if not uri.lower().startswith(("sip:", "sips:")):
        raise LocalProtocolError("only SIP URIs carry headers")
    text = "&".join(f"{quote(name, safe='-')}={quote(value, safe='')}" for name, value in items)
    return f"<{uri}{'&' if '?' in uri else '?'}{text}>"


def format_sipfrag(status: int, reason: str | None = None) -> bytes:
    """A status line as a NOTIFY's body (RFC 3420)."""
    phrase = (
        REASONS.get(status, "Unknown") if reason is None else printable(reason.replace("\r", " ").replace("\n", " "))
    )
    return f"SIP/2.0 {status} {phrase}\r\n".encode()


def parse_sipfrag_untrusted(body: bytes) -> tuple[int, str] | None:
    """Status and reason phrase of a fragment's status line; None where there is none."""
    match = _SIPFRAG_RE.match(body[:512].decode("utf-8", "replace").lstrip("\r\n"))
    return None if match is None else (int(match[1]), printable((match[2] or "").strip(" \t")))


# ---------------------------------------------------------------- receiving


class ReferReceiver:
    """A REFER of the peer. To be answered by `accept` or `reject` in the callback that brought it.

    After `accept` the referrer has been told ``100 Trying``; `notify` tells the rest, and a final status closes it.

    Raises:
        SipParseError: Refer-To is missing, double or malformed; answer with its `status_hint`.
    """

    def __init__(self, session: InviteSession, event: RequestReceived) -> None:
        request = event.request
        values = request.headers.get_all("Refer-To")
        if len(values) != 1:
            raise SipParseError("no or several Refer-To")
        self.request = request
        self.target = parse_refer_to_untrusted(values[0])
        self.referred_by = _referred_by(request)
        """The referrer as it says itself (RFC 3892); None where it says nothing readable."""
        self.wants_outcome = (request.headers.get("Refer-Sub") or "").partition(";")[0].strip().lower() != "false"
        """False: the referrer asked for no NOTIFYs (RFC 4488)."""
        self.is_done = False
        """The outcome was told, or nobody wants it any more."""
        self._session = session
        self._transaction: ServerTransaction = event.transaction
        self._notifier: Notifier | None = None

    def accept(self, status: int = 202, *, headers: Iterable[Header] = ()) -> bool:
        """Answer 2xx and begin to tell; False when the REFER was answered before."""
        session, transaction = self._session, self._transaction
        if transaction.is_answered or session.dialog is None:
            return False
        items = [("Contact", session.contact), *session.user_agent.common_headers]
        if not self.wants_outcome:
            items.append(("Refer-Sub", "false"))
        response = build_response(self.request, status, headers=[*items, *headers])
        session.user_agent.endpoint.send_response(transaction, response)
        session.dialog.update_target(self.request)
        if not self.wants_outcome:
            self.is_done = True
            return True
        # the id tells this REFER from others of the dialog; the first may go without, as most write it (§2.4.6)
        session.dialog.refers_received += 1
        event = EventType("refer", None if session.dialog.refers_received == 1 else str(self.request.cseq.number))
        channel = DialogChannel(session.user_agent, session.dialog, session.contact)
        self._notifier = Notifier(channel, event, expires_s=EXPIRES_S, longest_s=EXPIRES_S, on_event=self._on_event)
        self.notify(100)
        return True

    def reject(self, status: int, reason: str | None = None, *, headers: Iterable[Header] = ()) -> bool:
        """Refuse it; False when it was answered before."""
        self.is_done = True
        if self._transaction.is_answered:
            return False
        response = build_response(self.request, status, reason, headers=headers)
        return self._session.user_agent.endpoint.send_response(self._transaction, response)

    def notify(self, status: int, reason: str | None = None) -> bool:
        """Tell how the new call stands; 200–699 is the outcome and the end. False when nobody listens (any more)."""
        notifier = self._notifier
        if notifier is None or self.is_done:
            return False
        body = format_sipfrag(status, reason)
        if status < 200:
            return notifier.notify(body, SIPFRAG_TYPE)
        self.is_done = True
        return notifier.terminate("noresource", body, SIPFRAG_TYPE)

    def close(self) -> None:
        """We stop caring: a referrer that was not told the outcome is told 503."""
        self.notify(503)

    def _on_event(self, notifier: Notifier, event: NotifierEvent) -> None:
        self.is_done = notifier.is_over


def _referred_by(request: Request) -> NameAddr | None:
    try:
        text = request.headers.get("Referred-By")
        return None if text is None else parse_name_addr(text)
    except SipParseError:
        return None


# ---------------------------------------------------------------- sending


@attrs.frozen(slots=True)
class ReferAccepted:
    """A 2xx came. The last event where no outcome will be told."""

    response: Response
    tells_outcome: bool


@attrs.frozen(slots=True)
class ReferProgress:
    """The new call has got this provisional response."""

    status: int
    reason: str


@attrs.frozen(slots=True)
class ReferFinal:
    """Final: the new call's outcome, 200–699."""

    status: int
    reason: str


@attrs.frozen(slots=True)
class ReferFailed:
    """Final: the REFER was refused, or its outcome is not known."""

    status: int
    """Of the response; 408 without an answer or outcome in time, 503 when it could not be sent."""
    reason: str


ReferEvent = ReferAccepted | ReferProgress | ReferFinal | ReferFailed


class ReferSender:
    """A REFER of ours in a confirmed call; made and sent at once.

    `ReferAccepted`, `ReferProgress` may be missing or come in any order, since NOTIFYs may overtake the 2xx;
    `ReferFinal` or `ReferFailed` comes once, as the last.

    Args:
        refer_to: the header's value, see `format_refer_to`.
        referred_by: Referred-By value; None leaves it out.
        wants_outcome: False asks for no NOTIFYs (RFC 4488); the peer may send them nevertheless.

    Raises:
        LocalProtocolError: the call has no dialog or is over.
    """

    def __init__(
        self,
        session: InviteSession,
        refer_to: str,
        *,
        on_event: Callable[[ReferSender, ReferEvent], None],
        referred_by: str | None = None,
        wants_outcome: bool = True,
        headers: Iterable[Header] = (),
        outcome_limit_s: float = OUTCOME_LIMIT_S,
    ) -> None:
        if session.dialog is None or session.is_terminated:
            raise LocalProtocolError("no dialog for a REFER")
        self.is_done = False
        self._emit_to = on_event
        self._channel = DialogChannel(session.user_agent, session.dialog, session.contact)
        self._endpoint = self._channel.endpoint
        items: list[Header] = [("Refer-To", refer_to)]
        if referred_by is not None:
            items.append(("Referred-By", referred_by))
        if not wants_outcome:
            items += [("Refer-Sub", "false"), ("Supported", "norefersub")]
        request = self._channel.send("REFER", headers=[*items, *headers], on_event=self._on_response).request
        self._events: tuple[EventType, ...] = (EventType("refer"), EventType("refer", str(request.cseq.number)))
        self._limit: TimerHandle | None = self._endpoint.call_at(
            self._endpoint.now() + outcome_limit_s, self._outcome_missing
        )
        self._channel.user_agent.attach(*self._channel.key, self)

    def give_up(self) -> None:
        """Forget it: nothing more is told, later NOTIFYs are answered 481."""
        self.is_done = True
        self._emit_to = _ignore
        self._forget()

    def _on_response(self, event: ClientEvent) -> None:
        response = event.response if isinstance(event, ResponseReceived) else None
        if self.is_done or (response is not None and response.status < 200):
            return
        if response is None:
            is_timeout = isinstance(event, TransactionTimeout)
            self._end(ReferFailed(408, "no answer") if is_timeout else ReferFailed(503, event.reason))  # type: ignore[union-attr]
        elif response.status >= 300:
            self._end(ReferFailed(response.status, response.reason))
        else:
            tells = (response.headers.get("Refer-Sub") or "").partition(";")[0].strip().lower() != "false"
            if not tells:
                self._end(ReferAccepted(response, False))
                return
            self._channel.dialog.update_target(response)
            self._emit_to(self, ReferAccepted(response, True))

    def receive_request(self, request: Request, transaction: ServerTransaction) -> bool:
        """For the user agent: a NOTIFY of this REFER."""
        if not is_notify_for(request, self._events) or not self._channel.is_from_peer(request):
            return False
        event = EventType.parse_untrusted(request.headers.get("Event") or "")
        if event.id is not None:
            self._events = (event,)  # it names us, so that one without id is another's
        state = accept_notify(self._channel, request, transaction)
        if state is not None:
            self._read_notify(request, state)
        return True

    def _read_notify(self, request: Request, state: SubscriptionState) -> None:
        line = parse_sipfrag_untrusted(request.body)
        if not self.is_done and line is not None:
            status, reason = line
            if status >= 200:
                self._end(ReferFinal(status, reason), linger=not state.is_terminated)
            elif status > 100:
                self._emit_to(self, ReferProgress(status, reason))
        if state.is_terminated:
            if not self.is_done:
                self._end(ReferFailed(408, f"no outcome: {state.reason or 'terminated'}"))
            self._forget()

    def _outcome_missing(self) -> None:
        self._limit = None
        if self.is_done:
            self._forget()
        else:
            self._end(ReferFailed(408, "no outcome in time"))

    def _end(self, event: ReferEvent, *, linger: bool = False) -> None:
        """The last event. With `linger` the NOTIFY that ends the subscription is awaited and answered."""
        self.is_done = True
        self._forget()
        if linger:
            when = self._endpoint.now() + self._endpoint.timers.transaction_timeout
            self._limit = self._endpoint.call_at(when, self._outcome_missing)
            self._channel.user_agent.attach(*self._channel.key, self)
        emit, self._emit_to = self._emit_to, _ignore
        emit(self, event)

    def _forget(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None
        self._channel.user_agent.detach(*self._channel.key, self)


def _ignore(_: ReferSender, event: ReferEvent) -> None:
    del event
