"""Event and Subscription-State (RFC 6665 §8.2): which subscription a message is about, and how that one stands."""

from __future__ import annotations

import re
from typing import Final

import attrs

from ims_as.sip.errors import SipParseError
from ims_as.sip.grammar import TOKEN, find_param, format_params, parse_params
from ims_as.sip.header_types import MAX_SECONDS

__all__ = ["EventType", "SubscriptionState", "resubscribe_delay"]

# event-type = event-package *( "." event-template ): tokens that may not hold a dot themselves, joined by dots
_TOKEN_RE: Final = re.compile(TOKEN)
MAX_ID_CHARS: Final = 128

DEFAULT_RETRY_S: Final = 60.0
"""Before a new SUBSCRIBE where the notifier asked for patience but named no time."""


def _split_untrusted(text: str, what: str) -> tuple[str, tuple[tuple[str, str | None], ...]]:
    head, semicolon, rest = text.partition(";")
    head = head.strip(" \t")
    if _TOKEN_RE.fullmatch(head) is None:
        raise SipParseError(f"malformed {what}")
    return head, parse_params(semicolon + rest) if rest.strip(" \t") else ()


@attrs.frozen(slots=True)
class EventType:
    """Event (§8.2.1). Two subscriptions in a dialog differ in package or id, compared letter by letter."""

    package: str
    id: str | None = None

    def __str__(self) -> str:
        return self.package if self.id is None else f"{self.package};id={self.id}"

    @classmethod
    def parse_untrusted(cls, text: str) -> EventType:
        """Read the value; raises SipParseError. Parameters other than `id` are left out."""
        package, params = _split_untrusted(text, "Event")
        event_id = find_param(params, "id")
        if event_id is not None and len(event_id) > MAX_ID_CHARS:
            raise SipParseError("malformed Event")
        return cls(package, event_id or None)


@attrs.frozen(slots=True)
class SubscriptionState:
    """Subscription-State (§8.2.3)."""

    state: str
    """``active``, ``pending``, ``terminated`` or an extension, in small letters."""
    expires_s: int | None = None
    """Seconds that are left; authoritative where it is given (§4.1.3)."""
    reason: str | None = None
    """Why it was terminated, in small letters."""
    retry_after_s: int | None = None

    @property
    def is_terminated(self) -> bool:
        return self.state == "terminated"

    def __str__(self) -> str:
        numbers = (("expires", self.expires_s), ("retry-after", self.retry_after_s))
        params: list[tuple[str, str | None]] = [] if self.reason is None else [("reason", self.reason)]
        params += [(name, str(value)) for name, value in numbers if value is not None]
        return f"{self.state}{format_params(tuple(params))}"

    @classmethod
    def parse_untrusted(cls, text: str) -> SubscriptionState:
        """Read the value; raises SipParseError."""
        state, params = _split_untrusted(text, "Subscription-State")
        reason = find_param(params, "reason")
        return cls(
            state.lower(),
            _seconds(find_param(params, "expires")),
            reason.lower() if reason else None,
            _seconds(find_param(params, "retry-after")),
        )


def _seconds(text: str | None) -> int | None:
    if not text or not (text.isascii() and text.isdigit()) or len(text) > 10:
        return None
    return min(int(text), MAX_SECONDS)


def resubscribe_delay(state: SubscriptionState) -> float | None:
    """Seconds after which a new subscription may be tried, None when it must not be (§4.1.3).

    An unknown or missing reason allows it, as the RFC says.
    """
    match state.reason:
        case "rejected" | "noresource" | "invariant":
            return None
        case "deactivated" | "timeout":
            return float(state.retry_after_s or 0)
    return DEFAULT_RETRY_S if state.retry_after_s is None else float(state.retry_after_s)
