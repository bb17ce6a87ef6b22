"""The session timer of one call while it runs (RFC 4028); `session_timer` says what is agreed.

One timer: the refresher's next request, at half the interval, or else the BYE shortly before the session expires. Every
re-INVITE and UPDATE negotiates anew, ours and the peer's, and each 2xx to one starts the time again. A refresh of ours
is an UPDATE without body where the peer takes it, else a re-INVITE with the description that is in force.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from ims_as.sip.message import Request, Response
from ims_as.sip.session_timer import (
    MIN_SE_FLOOR_S,
    SessionTimer,
    SessionTimerConfig,
    TooSmall,
    answer_timer,
    is_interval_fine,
    offer_timer,
    read_answer,
    retry_interval,
)
from ims_as.sip.timers import TimerHandle

if TYPE_CHECKING:
    from ims_as.sip.session_core import SessionCore

__all__ = ["SessionRefresher", "refused_interval"]

BUSY_RETRY_S: Final = 5.0
"""A refresh that meets an exchange under way, or a failure, is tried again after that."""
_FOLLOWING_THE_PEER: Final = SessionTimerConfig()
"""Where we want no session timer ourselves, but the peer does."""

Header = tuple[str, str]


def refused_interval(request: Request, config: SessionTimerConfig | None) -> list[Header] | None:
    """Headers for a 422 to an INVITE whose session interval is too small, else None (§9)."""
    config = config or _FOLLOWING_THE_PEER
    if is_interval_fine(request, config):
        return None
    answer = answer_timer(request, config)
    return [("Min-SE", str(answer.min_se_s))] if isinstance(answer, TooSmall) else None


class SessionRefresher:
    """Made when somebody wants a session timer, so not for most calls."""

    __slots__ = ("_config", "_expires_at", "_interval_s", "_least_s", "_session", "_timer", "agreed")

    def __init__(self, session: SessionCore, config: SessionTimerConfig | None) -> None:
        self.agreed: SessionTimer | None = None
        """What is in force."""
        self._session = session
        self._config = config
        self._interval_s = config.expires_s if config is not None else 0
        """In our latest request; 0: it asks for none."""
        self._least_s = config.min_se_s if config is not None else MIN_SE_FLOOR_S
        """Min-SE of our requests; a 422 raises it."""
        self._timer: TimerHandle | None = None
        self._expires_at = 0.0

    # ---------------------------------------------------------------- requests of ours

    def request_headers(self) -> list[Header]:
        """Of the INVITE, and of a re-INVITE or UPDATE in the confirmed dialog."""
        if self.agreed is not None:
            self._interval_s = self.agreed.interval_s
            return self.agreed.to_headers(min_se_s=self._least_s)
        if self._config is None:
            return []
        return offer_timer(self._config, interval_s=self._interval_s, min_se_s=self._least_s)

    def receive_2xx(self, response: Response) -> None:
        """To one of them."""
        self._run(read_answer(response, offered_s=self._interval_s))

    def receive_422(self, response: Response) -> bool:
        """Take over the interval that the peer, or somebody on the way, wants; False: do not try again."""
        least = retry_interval(response, offered_s=self._interval_s)
        if least is None:
            return False
        self._interval_s = self._least_s = least
        if self.agreed is not None:
            self.agreed = SessionTimer(least, self.agreed.we_refresh)
        return True

    # ---------------------------------------------------------------- requests of the peer

    def refusal(self, request: Request) -> list[Header] | None:
        """Headers for a 422, None when its interval is fine."""
        return refused_interval(request, self._config)

    def response_headers(self, request: Request) -> Sequence[Header]:
        """Of our 2xx; from now on this is agreed."""
        if self._config is None and self.agreed is None and "session-expires" not in request.headers:
            return ()
        answer = answer_timer(request, self._config or _FOLLOWING_THE_PEER, current=self.agreed)
        if isinstance(answer, TooSmall):
            return ()  # the user's own 2xx to what should have been refused
        agreed, headers = answer
        self._run(agreed)
        return headers

    # ---------------------------------------------------------------- running

    def _run(self, agreed: SessionTimer | None) -> None:
        self.stop()
        self.agreed = agreed
        if agreed is None:
            return
        now = self._session.endpoint.now()
        self._expires_at = now + agreed.give_up_after_s
        self._schedule(now + agreed.refresh_after_s if agreed.we_refresh else self._expires_at)

    def stop(self) -> None:
        """The session is over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _schedule(self, when: float) -> None:
        self.stop()
        self._timer = self._session.endpoint.call_at(min(when, self._expires_at), self._fire)

    def _fire(self) -> None:
        self._timer = None
        session = self._session
        now = session.endpoint.now()
        if now >= self._expires_at:
            session.expired()
        elif session.exchange.refresh():
            self._schedule(self._expires_at)
        else:
            self._schedule(now + BUSY_RETRY_S)

    def refresh_failed(self) -> None:
        """Our refresh was refused, but the dialog is not gone."""
        self._schedule(self._session.endpoint.now() + BUSY_RETRY_S)
