"""A subscription as the notifier sees it (RFC 6665 §4.2): NOTIFYs in order, refreshes, expiry.

One NOTIFY is under way at a time; while it is, the latest state waits and replaces what waited before it, so that a
slow subscriber costs one state and never gets an old one after a new one. The last NOTIFY says ``terminated``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, Literal

import attrs

from ims_as.sip.dialog import Dialog, DialogState
from ims_as.sip.dialog_usage import DialogChannel
from ims_as.sip.errors import SipParseError
from ims_as.sip.event_headers import EventType, SubscriptionState
from ims_as.sip.message import Request, build_response
from ims_as.sip.subscription import FATAL_STATUSES, seconds_of
from ims_as.sip.timers import TimerHandle
from ims_as.sip.transaction import ClientEvent, ResponseReceived, ServerTransaction

if TYPE_CHECKING:
    from ims_as.sip.user_agent import UserAgent

__all__ = ["Notifier", "NotifierEnded", "NotifierEvent", "Refreshed"]

Header = tuple[str, str]

LEAST_EXPIRES_S: Final = 60
"""Shorter wishes are refused with 423 (§4.2.1.1), zero and those of an hour or more never."""


@attrs.frozen(slots=True)
class Refreshed:
    """The subscriber asked for more time and has got it; the current state was sent again."""

    expires_s: int


@attrs.frozen(slots=True)
class NotifierEnded:
    """Final, and only when it was not our `terminate`: the subscriber is gone."""

    reason: Literal["unsubscribed", "expired", "refused", "unreachable"]
    status: int | None = None


NotifierEvent = Refreshed | NotifierEnded


@attrs.frozen(slots=True)
class _Notice:
    body: bytes
    content_type: str | None
    terminated: SubscriptionState | None


class Notifier:
    """One subscription of a peer with us; `accept` makes one of a SUBSCRIBE, a REFER makes one by itself.

    Args:
        expires_s: what was granted; 0 sends one NOTIFY and is over (a fetch, §4.4.3).
        longest_s: cap for refreshes.
    """

    def __init__(
        self,
        channel: DialogChannel,
        event: EventType,
        *,
        expires_s: int,
        on_event: Callable[[Notifier, NotifierEvent], None],
        longest_s: int = 3600,
        state: str = "active",
    ) -> None:
        self.event = event
        self.state = state
        """``active`` or ``pending``, for the next NOTIFY."""
        self.is_over = False
        """No state is taken any more."""
        self._channel = channel
        self._endpoint = channel.endpoint
        self._emit = on_event
        self._longest_s = longest_s
        self._latest = _Notice(b"", None, None)
        self._waiting: _Notice | None = None
        self._is_under_way = False
        self._expires_at = self._endpoint.now() + expires_s
        self._is_fetch = expires_s == 0
        self._expiry: TimerHandle | None = None
        channel.user_agent.attach(*channel.key, self)
        if not self._is_fetch:
            self._expiry = self._endpoint.call_at(self._expires_at, self._expire)

    @classmethod
    def accept(
        cls,
        user_agent: UserAgent,
        request: Request,
        transaction: ServerTransaction,
        *,
        on_event: Callable[[Notifier, NotifierEvent], None],
        longest_s: int = 3600,
        state: str = "active",
        headers: Sequence[Header] = (),
    ) -> Notifier | None:
        """Answer a SUBSCRIBE outside of dialogs with 200; the first `notify` must follow at once (§4.2.1.2).

        Returns:
            None when it was refused: 400 without a readable Event, 423 for too short a time.
        """
        endpoint = user_agent.endpoint
        try:
            event = EventType.parse_untrusted(request.headers.get("Event") or "")
        except SipParseError:
            endpoint.send_response(transaction, build_response(request, 400))
            return None
        wanted = seconds_of(request, "Expires", longest_s)
        if 0 < wanted < LEAST_EXPIRES_S:
            endpoint.send_response(
                transaction, build_response(request, 423, headers=[("Min-Expires", str(LEAST_EXPIRES_S))])
            )
            return None
        granted = min(wanted, longest_s)
        dialog = Dialog.from_uas(request, transaction.to_tag)
        dialog.state = DialogState.CONFIRMED
        channel = DialogChannel(user_agent, dialog, f"<{endpoint.local_uri(transaction.flow)}>")
        channel.respond(request, transaction, 200, [("Expires", str(granted)), *headers])
        return cls(channel, event, expires_s=granted, on_event=on_event, longest_s=longest_s, state=state)

    # ---------------------------------------------------------------- NOTIFY

    def notify(self, body: bytes, content_type: str | None) -> bool:
        """Tell the current state; False when the subscription is over."""
        if self.is_over:
            return False
        last = SubscriptionState("terminated", reason="timeout") if self._is_fetch else None
        self._put(_Notice(body, content_type, last))
        return True

    def terminate(
        self, reason: str, body: bytes = b"", content_type: str | None = None, *, retry_after_s: int | None = None
    ) -> bool:
        """Tell the last state; False when the subscription is over already.

        Args:
            reason: of §4.2.2: ``deactivated``, ``probation``, ``rejected``, ``timeout``, ``giveup``, ``noresource``.
        """
        if self.is_over:
            return False
        self._put(_Notice(body, content_type, SubscriptionState("terminated", None, reason, retry_after_s)))
        return True

    def _put(self, notice: _Notice) -> None:
        self._latest = notice
        if notice.terminated is not None:
            self.is_over = True
            self._stop_expiry()
        if self._is_under_way:
            self._waiting = notice
        else:
            self._send(notice)

    def _send(self, notice: _Notice) -> None:
        left = max(0, round(self._expires_at - self._endpoint.now()))
        state = notice.terminated or SubscriptionState(self.state, left)
        headers = [("Event", str(self.event)), ("Subscription-State", str(state))]
        self._is_under_way = True
        self._channel.send(
            "NOTIFY", headers=headers, body=notice.body, content_type=notice.content_type, on_event=self._on_response
        )

    def _on_response(self, event: ClientEvent) -> None:
        response = event.response if isinstance(event, ResponseReceived) else None
        if response is not None and response.status < 200:
            return
        self._is_under_way = False
        if response is None:
            self._end(NotifierEnded("unreachable"))
        elif response.status in FATAL_STATUSES and "Retry-After" not in response.headers:
            self._end(NotifierEnded("refused", response.status))
        elif self._waiting is not None:
            notice, self._waiting = self._waiting, None
            self._send(notice)
        elif self.is_over:
            self._detach()

    # ---------------------------------------------------------------- SUBSCRIBE in the dialog

    def receive_request(self, request: Request, transaction: ServerTransaction) -> bool:
        """For the user agent: a refresh or the end of this subscription."""
        if request.method != "SUBSCRIBE" or self.is_over:
            return False
        try:
            if EventType.parse_untrusted(request.headers.get("Event") or "") != self.event:
                return False
        except SipParseError:
            return False
        channel = self._channel
        if not channel.is_from_peer(request):
            return False
        if not channel.dialog.accept_cseq(request):
            channel.respond(request, transaction, 500)
            return True
        wanted = seconds_of(request, "Expires", self._longest_s)
        if 0 < wanted < LEAST_EXPIRES_S:
            channel.respond(request, transaction, 423, [("Min-Expires", str(LEAST_EXPIRES_S))])
            return True
        channel.dialog.update_target(request)
        granted = min(wanted, self._longest_s)
        channel.respond(request, transaction, 200, [("Expires", str(granted))])
        if granted == 0:
            self._finish("unsubscribed")
            return True
        self._stop_expiry()
        self._expires_at = self._endpoint.now() + granted
        self._expiry = self._endpoint.call_at(self._expires_at, self._expire)
        self._put(self._latest)
        self._emit(self, Refreshed(granted))
        return True

    # ---------------------------------------------------------------- end

    def _expire(self) -> None:
        self._finish("expired")

    def _finish(self, reason: Literal["unsubscribed", "expired"]) -> None:
        """Over by the subscriber's will or lack of it: the last state once more, with ``timeout`` (§4.2.1.4)."""
        latest = self._latest
        self._put(attrs.evolve(latest, terminated=SubscriptionState("terminated", reason="timeout")))
        self._emit(self, NotifierEnded(reason))

    def _end(self, event: NotifierEnded) -> None:
        was_over, self.is_over = self.is_over, True
        self._waiting = None
        self._stop_expiry()
        self._detach()
        if not was_over:
            self._emit(self, event)

    def _detach(self) -> None:
        self._channel.user_agent.detach(*self._channel.key, self)

    def _stop_expiry(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
