"""Session descriptions that cross from one leg's dialog to the other's.

Each dialog needs an ``o=`` line of its own whose version rises exactly when the description changes (RFC 3264 §8); the
rest of the description goes over as it came.  Preconditions are of one hop (RFC 3312): what they say of one party's
access is not true of the other's, and both have their resources by then.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import attrs

from ims_as.sip.offer_answer import SdpSession
from ims_as.sip.sdp import Line, SessionDescription, parse_sdp_untrusted

__all__ = ["media_target", "relay_untrusted"]

_PRECONDITIONS: Final = ("curr:", "des:", "conf:")


def relay_untrusted(body: bytes, session: SdpSession) -> SessionDescription:
    """The same description under the o= line of ``session``.  Raises SdpError when it cannot be read."""
    description = parse_sdp_untrusted(body)
    lines = tuple(line for line in _kept(description.lines) if line[0] not in "vo")
    media = tuple(attrs.evolve(each, lines=tuple(_kept(each.lines))) for each in description.media)
    return session.describe(lines, media)


def _kept(lines: Iterable[Line]) -> Iterable[Line]:
    return (line for line in lines if not (line[0] == "a" and line[1].startswith(_PRECONDITIONS)))


def media_target(description: SessionDescription) -> list[tuple[object, ...]]:
    """What the far side must know to send to this description: kind, address, port and formats of each line."""
    result: list[tuple[object, ...]] = []
    for media in description.media:
        address = description.connection_of(media) if media.port else ""
        result.append((media.media, address, media.port, media.formats))
    return result
