"""Session descriptions that cross from one leg's dialog to the other's.

Each dialog needs an ``o=`` line of its own whose version rises exactly when the description changes (RFC 3264 §8); the
rest of the description goes over as it came.
"""

from __future__ import annotations

import attrs

from ims_as.sip.sdp import SessionDescription, parse_sdp_untrusted

__all__ = ["SdpRelay", "media_target"]


@attrs.define
class SdpRelay:
    """Rewrites descriptions for one dialog.  ``username``, ``session_id``, ``address``: our o= line in that dialog."""

    username: str
    session_id: str
    address: str
    version: int = 0
    _last: bytes = b""

    def rewrite_untrusted(self, body: bytes) -> bytes:
        """The same description under our o= line.  Raises SdpError when it cannot be read."""
        lines = parse_sdp_untrusted(body).to_bytes().split(b"\r\n")
        at = next(index for index, line in enumerate(lines) if line.startswith(b"o="))
        rest = b"\r\n".join(lines[:at] + lines[at + 1 :])
        if rest != self._last:
            self.version += 1
            self._last = rest
        family = "IP6" if ":" in self.address else "IP4"
        lines[at] = f"o={self.username} {self.session_id} {self.version} IN {family} {self.address}".encode()
        return b"\r\n".join(lines)


def media_target(description: SessionDescription) -> list[tuple[object, ...]]:
    """What the far side must know to send to this description: kind, address, port and formats of each line."""
    result: list[tuple[object, ...]] = []
    for media in description.media:
        address = description.connection_of(media) if media.port else ""
        result.append((media.media, address, media.port, media.formats))
    return result
