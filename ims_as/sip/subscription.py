"""A subscription as the subscriber sees it (RFC 6665 §4.1): SUBSCRIBE, its refreshes, and the NOTIFYs that come.

The dialog is made by the first NOTIFY, which may arrive before the 2xx; NOTIFYs of other forks get 481. Exactly one
`SubscriptionEnded` comes, as the last event; then the subscription may be alive inside for a while (to answer the
NOTIFY that follows an un-SUBSCRIBE) but says nothing more. Events come synchronously.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import attrs

from ims_as.sip.dialog import Dialog, DialogState
from ims_as.sip.dialog_usage import DialogChannel
from ims_as.sip.errors import LocalProtocolError, SipParseError
from ims_as.sip.event_headers import DEFAULT_RETRY_S, EventType, SubscriptionState, resubscribe_delay
from ims_as.sip.flow import Destination
from ims_as.sip.header_types import parse_name_addr, parse_seconds
from ims_as.sip.message import Message, Request, Response
from ims_as.sip.next_hop import next_hop
from ims_as.sip.timers import TimerHandle
from ims_as.sip.transaction import ClientEvent, ResponseReceived, ServerTransaction, TransactionTimeout

if TYPE_CHECKING:
    from ims_as.sip.user_agent import UserAgent

__all__ = [
    "Notified",
    "Subscriber",
    "SubscriptionAccepted",
    "SubscriptionEnded",
    "SubscriptionEvent",
    "accept_notify",
    "is_notify_for",
    "refresh_delay",
    "seconds_of",
]

Header = tuple[str, str]

# §4.1.2.2 (table of §4.2.2): these end the subscription, others leave it until it expires
FATAL_STATUSES: Final = frozenset({404, 405, 410, 416, *range(480, 486), 489, 501, 604})
MIN_REFRESH_S: Final = 5.0
"""A notifier that grants less than twice that is not followed faster."""
MAX_EXPIRES_S: Final = 86_400 * 7
"""A longer grant is refreshed after a week all the same."""


@attrs.frozen(slots=True)
class SubscriptionAccepted:
    """A 2xx to a SUBSCRIBE, the first or a refresh."""

    response: Response
    expires_s: int


@attrs.frozen(slots=True)
class Notified:
    """A NOTIFY; it has been answered 200."""

    request: Request
    state: SubscriptionState


@attrs.frozen(slots=True)
class SubscriptionEnded:
    """Final."""

    reason: str
    """``unsubscribed``, ``expired``, ``no-notify``, ``refused``, ``unreachable``, or the notifier's reason."""
    status: int | None
    """Of the refusing response; None where there was none."""
    retry_after_s: float | None
    """When a new subscription may be tried (§4.1.3); None: not at all, the notifier will not have it."""


SubscriptionEvent = SubscriptionAccepted | Notified | SubscriptionEnded


def refresh_delay(expires_s: float) -> float:
    """Seconds after which to refresh: 600 before the end of a long one, else at half (as TS 24.229 §5.1.1.3)."""
    delay = expires_s - 600 if expires_s > 1200 else expires_s / 2
    return max(delay, MIN_REFRESH_S)


def accept_notify(channel: DialogChannel, request: Request, transaction: ServerTransaction) -> SubscriptionState | None:
    """Take and answer a NOTIFY of ours.

    Returns:
        What it says of the subscription; None when it was out of order or malformed, and was refused.
    """
    if not channel.dialog.accept_cseq(request):
        channel.respond(request, transaction, 500)
        return None
    text = request.headers.get("Subscription-State")
    try:
        # mandatory, but left out by some stacks; they mean that it goes on
        state = SubscriptionState("active") if text is None else SubscriptionState.parse_untrusted(text)
    except SipParseError:
        channel.respond(request, transaction, 400)
        return None
    channel.dialog.update_target(request)
    channel.respond(request, transaction, 200)
    return state


def is_notify_for(request: Request, events: Sequence[EventType]) -> bool:
    """Whether it is a NOTIFY of one of these events."""
    if request.method != "NOTIFY":
        return False
    try:
        event = EventType.parse_untrusted(request.headers.get("Event") or "")
    except SipParseError:
        return False
    return event in events


class Subscriber:
    """One subscription outside of any call. Made and started by `subscribe`."""

    def __init__(
        self,
        user_agent: UserAgent,
        request: Request,
        event: EventType,
        *,
        expires_s: int,
        contact: str,
        headers: Sequence[Header],
        destination: Destination | None,
        on_event: Callable[[Subscriber, SubscriptionEvent], None],
    ) -> None:
        self.request = request
        """The first SUBSCRIBE."""
        self.event = event
        self.is_ended = False
        self._user_agent = user_agent
        self._endpoint = user_agent.endpoint
        self._expires_s = expires_s
        self._contact = contact
        self._headers = tuple(headers)
        self._destination = destination
        self._emit_to = on_event
        self._local_tag = request.from_tag or ""
        self._channel: DialogChannel | None = None
        self._is_sending = False
        self._is_raised = False
        """The interval was raised once after a 423."""
        self._wants_end = False
        self._refresh: TimerHandle | None = None
        self._expiry: TimerHandle | None = None
        self._timer_n: TimerHandle | None = None

    @classmethod
    def subscribe(
        cls,
        user_agent: UserAgent,
        *,
        uri: str,
        from_: str,
        to: str,
        event: EventType,
        expires_s: int,
        on_event: Callable[[Subscriber, SubscriptionEvent], None],
        accept: str = "",
        route: Sequence[str] = (),
        headers: Sequence[Header] = (),
        destination: Destination | None = None,
    ) -> Subscriber:
        """Send the first SUBSCRIBE (§4.1.2.1).

        Args:
            from_: header value; a tag is added.
            accept: the body types that we read.
            headers: more headers, for each SUBSCRIBE of it.

        Raises:
            LocalProtocolError: `from_` is not an address, or a header holds CR, LF or NUL.
        """
        endpoint = user_agent.endpoint
        try:
            sender = parse_name_addr(from_).without_param("tag").with_tag(endpoint.new_tag())
        except SipParseError as error:
            raise LocalProtocolError(f"From: {error}") from error
        items = [("Route", value) for value in route]
        items += [("Max-Forwards", "70"), ("From", str(sender)), ("To", to)]
        items += [("Call-ID", endpoint.new_call_id()), ("CSeq", "1 SUBSCRIBE")]
        request = Request("SUBSCRIBE", uri, items)
        try:
            there = next_hop(request) if destination is None else destination
        except SipParseError:
            there = Destination("UDP", "")  # the request will fail, and tell so by an event
        contact = f"<{endpoint.local_uri(there)}>"
        own = [("Event", str(event)), *([("Accept", accept)] if accept else []), *headers]
        for name, value in (("Contact", contact), *user_agent.common_headers, *own, ("Expires", str(expires_s))):
            request.headers.add(name, value)
        subscriber = cls(
            user_agent,
            request,
            event,
            expires_s=expires_s,
            contact=contact,
            headers=own,
            destination=destination,
            on_event=on_event,
        )
        subscriber._start()
        return subscriber

    def unsubscribe(self) -> None:
        """End it: SUBSCRIBE with Expires 0, and SubscriptionEnded when that is answered. Once is enough."""
        if self.is_ended or self._wants_end:
            return
        self._wants_end = True
        self._stop(self._refresh)
        if self._channel is not None and not self._is_sending:
            self._send(0)

    def refresh(self) -> bool:
        """SUBSCRIBE now, so that a NOTIFY with the whole state follows; False when that cannot be, or is under way."""
        if self.is_ended or self._wants_end or self._channel is None or self._is_sending:
            return False
        self._send(self._expires_s)
        return True

    # ---------------------------------------------------------------- SUBSCRIBE

    def _start(self) -> None:
        self._user_agent.attach(*self._key, self)
        self._is_sending = True
        self._start_timer_n()
        try:
            self._endpoint.send_request(self.request, destination=self._destination, on_event=self._handler(False))
        except LocalProtocolError:
            self._forget()
            raise

    @property
    def _key(self) -> tuple[str, str]:
        return self.request.call_id, self._local_tag

    def _send(self, expires_s: int) -> None:
        assert self._channel is not None
        self._is_sending = True
        self._start_timer_n()
        headers = [*self._headers, ("Expires", str(expires_s))]
        self._channel.send("SUBSCRIBE", headers=headers, on_event=self._handler(expires_s == 0))

    def _handler(self, is_last: bool) -> Callable[[ClientEvent], None]:
        return lambda event: self._on_response(event, is_last)

    def _on_response(self, event: ClientEvent, is_last: bool) -> None:
        response = event.response if isinstance(event, ResponseReceived) else None
        if response is not None and response.status < 200:
            return
        self._is_sending = False
        if self.is_ended:
            return
        if is_last:
            # what it grants or refuses changes nothing; a NOTIFY that is under way will still be answered
            self._end("unsubscribed", None, 0.0, linger=True)
        elif response is not None and response.status < 300:
            self._receive_2xx(response)
        elif response is not None and response.status == 423 and not self._is_raised:
            self._raise_interval(response)
        else:
            self._receive_failure(event, response)

    def _receive_2xx(self, response: Response) -> None:
        granted = min(seconds_of(response, "Expires", self._expires_s), self._expires_s)
        if response.status == 204:
            self._stop(self._timer_n)
        self._set_expiry(granted)
        self._emit(SubscriptionAccepted(response, granted))
        if self._wants_end and self._channel is not None and not self.is_ended and not self._is_sending:
            self._send(0)

    def _raise_interval(self, response: Response) -> None:
        """423 (§4.1.2.1): once more with what the notifier wants at least."""
        wanted = seconds_of(response, "Min-Expires", 0)
        self._is_raised = True
        if not self._expires_s < wanted <= MAX_EXPIRES_S:
            self._end("refused", 423, None)
            return
        self._expires_s = wanted
        if self._channel is not None:
            self._send(wanted)
            return
        again = Request("SUBSCRIBE", self.request.uri, self.request.headers.items())
        again.headers.remove("Via")
        again.headers.set("CSeq", f"{self.request.cseq.number + 1} SUBSCRIBE")
        again.headers.set("Expires", str(wanted))
        self.request = again
        self._is_sending = True
        self._start_timer_n()
        self._endpoint.send_request(again, destination=self._destination, on_event=self._handler(False))

    def _receive_failure(self, event: ClientEvent, response: Response | None) -> None:
        status = None if response is None else response.status
        if self._channel is not None and (status is None or status not in FATAL_STATUSES) and not self._wants_end:
            self._stop(self._timer_n)
            return  # a failed refresh: valid until it expires (§4.1.2.2), and tried again before that
        if response is None:
            reason = "no answer" if isinstance(event, TransactionTimeout) else "unreachable"
            self._end(reason, None, DEFAULT_RETRY_S)
            return
        assert status is not None
        retry: float | None = None
        if status >= 500 or status in (408, 480, 481) or "Retry-After" in response.headers:
            retry = float(seconds_of(response, "Retry-After", int(DEFAULT_RETRY_S)))
        self._end("refused", status, retry)

    # ---------------------------------------------------------------- NOTIFY

    def receive_request(self, request: Request, transaction: ServerTransaction) -> bool:
        """For the user agent."""
        if not is_notify_for(request, (self.event,)):
            return False
        channel = self._channel
        if channel is None:
            channel = self._make_dialog(request)
        elif not channel.is_from_peer(request):
            return False  # another fork: 481 ends that one (§4.1.4)
        state = accept_notify(channel, request, transaction)
        if state is None or self.is_ended:
            if state is not None and state.is_terminated:
                self._forget()
            return True
        self._stop(self._timer_n)
        if state.expires_s is not None and not state.is_terminated:
            self._set_expiry(min(state.expires_s, self._expires_s))
        self._emit(Notified(request, state))
        if state.is_terminated and not self.is_ended:
            reason = "unsubscribed" if self._wants_end else state.reason or "terminated"
            self._end(reason, None, 0.0 if self._wants_end else resubscribe_delay(state))
        elif self._wants_end and not self._is_sending and not self.is_ended:
            self._send(0)
        return True

    def _make_dialog(self, notify: Request) -> DialogChannel:
        dialog = Dialog.from_uas(notify, self._local_tag)
        dialog.is_caller = True
        dialog.state = DialogState.CONFIRMED
        dialog.local_cseq = self.request.cseq.number
        dialog.remote_cseq = None
        self._channel = DialogChannel(self._user_agent, dialog, self._contact)
        return self._channel

    # ---------------------------------------------------------------- time and end

    def _set_expiry(self, expires_s: int) -> None:
        now = self._endpoint.now()
        self._stop(self._expiry)
        self._stop(self._refresh)
        self._expiry = self._endpoint.call_at(now + expires_s, self._expire)
        if not self._wants_end:
            self._refresh = self._endpoint.call_at(now + refresh_delay(min(expires_s, MAX_EXPIRES_S)), self._do_refresh)

    def _do_refresh(self) -> None:
        if self._channel is not None and not self._is_sending:
            self._send(self._expires_s)
        assert self._expiry is not None
        # should it fail, once more at half of what is left
        left = self._expiry.when - self._endpoint.now()
        self._refresh = self._endpoint.call_at(self._endpoint.now() + max(left / 2, MIN_REFRESH_S), self._do_refresh)

    def _expire(self) -> None:
        self._end("expired", None, 0.0)

    def _start_timer_n(self) -> None:
        self._stop(self._timer_n)
        when = self._endpoint.now() + self._endpoint.timers.transaction_timeout
        self._timer_n = self._endpoint.call_at(when, self._notify_missing)

    def _notify_missing(self) -> None:
        """Timer N (§4.1.2.4)."""
        if self.is_ended:
            self._forget()
        elif not self._is_sending:  # else the SUBSCRIBE itself is about to fail, and says more
            self._end("unsubscribed" if self._wants_end else "no-notify", None, DEFAULT_RETRY_S)

    def _end(self, reason: str, status: int | None, retry_after_s: float | None, *, linger: bool = False) -> None:
        self.is_ended = True
        self._stop(self._refresh)
        self._stop(self._expiry)
        if not linger or self._timer_n is None or not self._timer_n.is_pending:
            self._forget()
        self._emit(SubscriptionEnded(reason, status, retry_after_s))
        self._emit_to = _ignore

    def _forget(self) -> None:
        self._stop(self._timer_n)
        self._user_agent.detach(*self._key, self)

    @staticmethod
    def _stop(timer: TimerHandle | None) -> None:
        if timer is not None:
            timer.cancel()

    def _emit(self, event: SubscriptionEvent) -> None:
        self._emit_to(self, event)


def _ignore(_: Subscriber, event: SubscriptionEvent) -> None:
    del event


def seconds_of(message: Message, name: str, default: int) -> int:
    """A header's number of seconds; the default where it is missing or malformed."""
    text = message.headers.get(name)
    if text is None:
        return default
    try:
        return parse_seconds(text)
    except SipParseError:
        return default
