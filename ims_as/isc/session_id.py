"""Session-ID (RFC 7989): one pair of UUIDs that both ends and every node between them see, whatever the Call-IDs.

Each end has a UUID of its own; what it sends says ``own;remote=peer's``, the peer's being nil while it is not known.
A middle box that does not end the session passes both on untouched. The older form (RFC 7329, a single value that the
answering side gives back) is answered in its own manner.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from typing import Final

import attrs

from ims_as.sip.message import Message

__all__ = ["NIL", "SessionEnd", "SessionId", "name_based_id", "read_session_id_untrusted"]

NIL: Final = "0" * 32
_ID_RE: Final = re.compile(r"[0-9a-f]{32}")
_NAMESPACE: Final = uuid.UUID("6f2c1d0e-6b0a-5d3c-9a53-6a0f0f6a7c11")


@attrs.frozen(slots=True)
class SessionId:
    """One Session-ID value."""

    local: str
    """Of who sent it: 32 hexadecimal digits in small letters."""
    remote: str | None
    """Of whom it is sent to; `NIL`: not known yet; None: the older form."""

    def __str__(self) -> str:
        return self.local if self.remote is None else f"{self.local};remote={self.remote}"


def read_session_id_untrusted(message: Message) -> SessionId | None:
    """The message's Session-ID; None where there is none that can be read."""
    text = message.headers.get("Session-ID")
    if text is None or len(text) > 256:
        return None
    local, *params = (part.strip(" \t").lower() for part in text.split(";"))
    if _ID_RE.fullmatch(local) is None:
        return None
    for param in params:
        name, _, value = param.partition("=")
        if name.strip(" \t") == "remote":
            value = value.strip(" \t")
            return SessionId(local, value) if _ID_RE.fullmatch(value) else None
    return SessionId(local, None)


def name_based_id(*parts: str) -> str:
    """A UUID of version 5 from texts that together are unique (§4.1 allows it): the same each time it is asked for."""
    # as uuid.uuid5 does, but for text with bytes that were not UTF-8
    name = "\n".join(parts).encode("utf-8", "backslashreplace")
    digest = hashlib.sha1(_NAMESPACE.bytes + name, usedforsecurity=False).digest()
    return uuid.UUID(bytes=digest[:16], version=5).hex


class SessionEnd:
    """Our end of one session: what we put into our messages, following the peer when its own UUID changes (§6)."""

    __slots__ = ("is_old_form", "local", "remote")

    def __init__(self, local: str, remote: str = NIL) -> None:
        self.local = local
        self.remote = remote
        self.is_old_form = False
        """The peer writes the older form: its one value goes back."""

    def receive(self, message: Message) -> None:
        """Note what the peer's request or response says; a message without Session-ID changes nothing."""
        received = read_session_id_untrusted(message)
        if received is None or received.local == NIL:
            return
        self.remote = received.local
        self.is_old_form = received.remote is None

    def __str__(self) -> str:
        """The header value for the next message of ours."""
        return self.remote if self.is_old_form else f"{self.local};remote={self.remote}"
