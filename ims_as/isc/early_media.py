"""P-Early-Media (RFC 5009): whether a media stream may flow before the answer, and who was asked for it."""

from __future__ import annotations

from typing import Final, Literal

import attrs

from ims_as.isc.params import MAX_VALUES
from ims_as.sip.message import Message

__all__ = ["EarlyMedia", "early_media_response", "read_early_media_untrusted"]

Direction = Literal["sendrecv", "sendonly", "recvonly", "inactive"]
_DIRECTIONS: Final[dict[str, Direction]] = {
    "sendrecv": "sendrecv",
    "sendonly": "sendonly",
    "recvonly": "recvonly",
    "inactive": "inactive",
}


@attrs.frozen(slots=True)
class EarlyMedia:
    """One P-Early-Media."""

    directions: tuple[Direction, ...] = ()
    """One for each media line, as the sender of the header sees the flow; the last holds for the lines after it."""
    is_supported: bool = False
    """In a request: the sender understands the header in responses."""
    is_gated: bool = False
    """A gate on the way is closed already."""

    def __str__(self) -> str:
        flags = (("supported", self.is_supported), ("gated", self.is_gated))
        return ", ".join([*self.directions, *(name for name, is_set in flags if is_set)])

    def direction(self, line: int) -> Direction | None:
        """Of the media line with that number; None: nothing is said of it."""
        if not self.directions:
            return None
        return self.directions[min(line, len(self.directions) - 1)]


def read_early_media_untrusted(message: Message) -> EarlyMedia | None:
    """The message's P-Early-Media; unknown values are left out."""
    if "P-Early-Media" not in message.headers:
        return None
    values = [value.lower() for value in message.headers.get_list("P-Early-Media")[:MAX_VALUES]]
    directions = tuple(_DIRECTIONS[value] for value in values if value in _DIRECTIONS)
    return EarlyMedia(directions, "supported" in values, "gated" in values)


def early_media_response(request: Message, direction: Direction = "sendrecv") -> EarlyMedia | None:
    """What a 18x with early media carries: the direction, only where the caller's side understands it (§8)."""
    asked = read_early_media_untrusted(request)
    return EarlyMedia((direction,)) if asked is not None and asked.is_supported else None
