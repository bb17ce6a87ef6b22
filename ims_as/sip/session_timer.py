"""Session timers as RFC 4028 has them negotiated; pure: who refreshes, how often, and when the session is given up.

`uac` and `uas` in Session-Expires are the roles of the one request that carries it. Whoever sends the next refresh is
the `uac` of that, so roles are turned into "we" and "they" at once.
"""

from __future__ import annotations

from typing import Final, Literal

import attrs

from ims_as.sip.errors import SipParseError
from ims_as.sip.header_types import SessionExpires, parse_seconds
from ims_as.sip.message import Message, Request, Response
from ims_as.sip.option_tags import TIMER, has_tag

__all__ = [
    "MIN_SE_FLOOR_S",
    "SessionTimer",
    "SessionTimerConfig",
    "TooSmall",
    "answer_timer",
    "is_interval_fine",
    "offer_timer",
    "read_answer",
    "retry_interval",
]

MIN_SE_FLOOR_S: Final = 90
"""RFC 4028 §5: the least that a Min-SE may be, and what it is where there is none."""
MAX_INTERVAL_S: Final = 86_400
"""A day: what asks for more gets this (§9 lets a callee reduce it)."""
GIVE_UP_S: Final = 32.0
"""§10: the BYE comes this long before expiry, or a third of the interval when that is less."""

Header = tuple[str, str]


@attrs.frozen(slots=True)
class SessionTimerConfig:
    """What we ask for. Seconds.

    Attributes:
        expires_s: our interval, where the peer names none.
        min_se_s: less is refused with 422; at least 90.
        refresher: who is to refresh where we may choose; None leaves it to the callee.
    """

    expires_s: int = 1800
    min_se_s: int = MIN_SE_FLOOR_S
    refresher: Literal["we", "they"] | None = None

    def __attrs_post_init__(self) -> None:
        if not MIN_SE_FLOOR_S <= self.min_se_s <= self.expires_s <= MAX_INTERVAL_S:
            raise ValueError(f"wanted {MIN_SE_FLOOR_S} <= min_se_s <= expires_s <= {MAX_INTERVAL_S}")


@attrs.frozen(slots=True)
class SessionTimer:
    """What was agreed. It starts anew with each 2xx to a request that carries it."""

    interval_s: int
    we_refresh: bool

    @property
    def refresh_after_s(self) -> float:
        """When the refresher sends the next request: half the interval (§10)."""
        return self.interval_s / 2

    @property
    def give_up_after_s(self) -> float:
        """When a session that nobody refreshed is ended by a BYE (§10)."""
        return self.interval_s - min(GIVE_UP_S, self.interval_s / 3)

    def to_headers(self, *, min_se_s: int = MIN_SE_FLOOR_S) -> list[Header]:
        """Of a refresh that we send: the roles stay as they are (§7.4)."""
        headers = [("Session-Expires", f"{self.interval_s};refresher={'uac' if self.we_refresh else 'uas'}")]
        if min_se_s > MIN_SE_FLOOR_S:
            headers.append(("Min-SE", str(min_se_s)))
        return headers


@attrs.frozen(slots=True)
class TooSmall:
    """The request is to be answered 422 with this Min-SE (§6)."""

    min_se_s: int


def offer_timer(config: SessionTimerConfig, *, interval_s: int | None = None, min_se_s: int = 0) -> list[Header]:
    """Headers of a first request of ours (§7.1). `Supported: timer` is the caller's to add.

    Args:
        interval_s, min_se_s: after a 422, what `retry_interval` says.
    """
    interval = max(config.expires_s if interval_s is None else interval_s, min_se_s)
    refresher = {"we": ";refresher=uac", "they": ";refresher=uas", None: ""}[config.refresher]
    headers = [("Session-Expires", f"{interval}{refresher}")]
    least = max(config.min_se_s, min_se_s)
    if least > MIN_SE_FLOOR_S:
        headers.append(("Min-SE", str(least)))
    return headers


def read_answer(response: Response, *, offered_s: int) -> SessionTimer | None:
    """What a 2xx to a request of ours makes of the timer (§7.2).

    A peer without session timers is refreshed by us all the same: that is how a call is found to be dead whose BYE
    was lost.

    Args:
        offered_s: interval in our request; 0 where it had none: then there is no timer unless the peer wants one.
    """
    agreed = _session_expires(response)
    if agreed is None:
        return SessionTimer(offered_s, True) if offered_s else None
    # without the parameter, which is mandatory here, we do what can't be wrong
    return SessionTimer(_bounded(agreed.interval_s), agreed.refresher != "uas")


def retry_interval(response: Response, *, offered_s: int) -> int | None:
    """The interval, and Min-SE, of the request that follows a 422 (§7.3); None when it is no reason to try again."""
    least = _min_se(response)
    if response.status != 422 or least <= offered_s or least > MAX_INTERVAL_S:
        return None
    return least


def is_interval_fine(request: Request, config: SessionTimerConfig) -> bool:
    """Whether `answer_timer` would not say `TooSmall`: for the many requests that are fine, at less cost."""
    asked = _session_expires(request)
    return asked is None or asked.interval_s >= config.min_se_s


def answer_timer(
    request: Request, config: SessionTimerConfig, *, current: SessionTimer | None = None
) -> tuple[SessionTimer, list[Header]] | TooSmall:
    """The callee's side, §9: what is agreed, and the headers of the 2xx; or 422.

    Args:
        request: an INVITE, re-INVITE or UPDATE.
        current: what is in force, for a refresh that says nothing of its own: then it goes on.
    """
    peer_supports = has_tag(request, "supported", TIMER)
    asked = _session_expires(request)
    least = _min_se(request)
    if asked is not None and asked.interval_s < config.min_se_s and peer_supports:
        return TooSmall(config.min_se_s)
    if asked is not None:
        # it may be reduced, but not below the Min-SE of anybody on the way
        interval = max(min(asked.interval_s, config.expires_s), least) if asked.interval_s > least else asked.interval_s
    elif current is not None:
        interval = max(current.interval_s, least)
    else:
        interval = max(config.expires_s, least)
    interval = _bounded(interval)
    wanted = asked.refresher if asked is not None and asked.refresher in ("uac", "uas") else None
    if not peer_supports:
        peer_refreshes = False
    elif wanted is not None:
        peer_refreshes = wanted == "uac"
    elif current is not None:
        peer_refreshes = not current.we_refresh
    else:
        peer_refreshes = config.refresher != "we"
    headers = [("Session-Expires", f"{interval};refresher={'uac' if peer_refreshes else 'uas'}")]
    if peer_supports:
        # §9: when the caller refreshes it must understand this; when it only supports it, it may as well know
        headers.insert(0, ("Require", "timer"))
    return SessionTimer(interval, not peer_refreshes), headers


def _bounded(seconds: int) -> int:
    """Between what is sensible: a peer that says 1 must not make us send for ever."""
    return min(max(seconds, MIN_SE_FLOOR_S), MAX_INTERVAL_S)


def _session_expires(message: Message) -> SessionExpires | None:
    text = message.headers.get("session-expires")
    if text is None:
        return None
    try:
        return SessionExpires.parse(text)
    except SipParseError:
        return None  # an optional header that cannot be read is as if it were not there


def _min_se(message: Message) -> int:
    text = message.headers.get("min-se")
    if text is None:
        return MIN_SE_FLOOR_S
    try:
        return max(parse_seconds(text.split(";", 1)[0].strip()), MIN_SE_FLOOR_S)
    except SipParseError:
        return MIN_SE_FLOOR_S
