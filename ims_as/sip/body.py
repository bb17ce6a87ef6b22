"""Bodies of messages: of one part or several (RFC 5621, RFC 2046 §5.1), and the session description among them.

REGISTER and INVITE on ISC may carry several parts: SDP with location, ISUP, service information.
"""

from __future__ import annotations

from typing import Final

import attrs

from ims_as.sip.message import Message

__all__ = ["MAX_PARTS", "SDP_TYPE", "BodyPart", "foreign_type", "read_parts_untrusted", "sdp_of"]

MAX_PARTS: Final = 8
"""A third-party REGISTER has three at most; an INVITE with SDP, location and user data has three as well."""
MAX_BOUNDARY_CHARS: Final = 70
"""RFC 2046 §5.1.1."""
MAX_PART_HEADER_BYTES: Final = 2048
SDP_TYPE: Final = "application/sdp"


@attrs.frozen
class BodyPart:
    content_type: str
    """In lower case, without parameters."""
    body: bytes
    disposition: str = ""
    """Content-Disposition in lower case, without parameters; "" when there is none."""


def sdp_of(message: Message) -> bytes:
    """The session description of a message, b"" when it has none.

    A body without Content-Type counts as one (§20.15 of RFC 3261 forbids it, but nothing else can be meant); of several
    parts the first with disposition ``session`` or none (RFC 5621 §3.2; ``early-session`` is another matter, RFC 3959).
    """
    body = message.body
    if not body:
        return b""
    content_type = message.content_type
    if content_type is None or content_type == SDP_TYPE:
        return body
    if not content_type.startswith("multipart/"):
        return b""
    for part in read_parts_untrusted(message):
        if part.content_type == SDP_TYPE and part.disposition in ("", "session"):
            return part.body
    return b""


def foreign_type(message: Message) -> str | None:
    """The type of a body that is no session description and yet must be understood (415 in RFC 3261 §8.2.3).

    None: there is no body, it has a description, or it may be left unread (``handling=optional``, RFC 5621 §8).
    """
    if not message.body or sdp_of(message):
        return None
    disposition = (message.headers.get("Content-Disposition") or "").replace(" ", "").lower()
    return None if "handling=optional" in disposition else message.content_type or "unknown"


def read_parts_untrusted(message: Message) -> tuple[BodyPart, ...]:
    """The body's parts; a body that is not multipart is one part.  What cannot be read is left out, nothing raises."""
    content_type = message.content_type
    if content_type is None or not message.body:
        return ()
    if not content_type.startswith("multipart/"):
        return (BodyPart(content_type, message.body, _bare(message.headers.get("Content-Disposition") or "")),)
    boundary = _boundary(message.headers.get("Content-Type") or "")
    if not boundary:
        return ()
    # a delimiter stands at the beginning of a line, also of the first
    chunks = (b"\r\n" + message.body).split(b"\r\n--" + boundary, MAX_PARTS + 1)
    parts = []
    for chunk in chunks[1 : MAX_PARTS + 1]:
        if chunk.startswith(b"--"):
            break
        part = _read_part(chunk)
        if part is not None:
            parts.append(part)
    return tuple(parts)


def _bare(value: str) -> str:
    return value.partition(";")[0].strip().lower()


def _boundary(content_type: str) -> bytes:
    for parameter in content_type.split(";")[1:]:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "boundary":
            value = value.strip().strip('"')
            return value.encode("utf-8", "replace") if len(value) <= MAX_BOUNDARY_CHARS else b""
    return b""


def _read_part(chunk: bytes) -> BodyPart | None:
    # the rest of the delimiter line may be white space; then headers, an empty line and the body
    padding, newline, rest = chunk.partition(b"\r\n")
    if padding.strip() or not newline:
        return None
    if rest.startswith(b"\r\n"):
        return BodyPart("text/plain", rest[2:])  # no headers: RFC 2046 §5.1
    head, separator, body = rest.partition(b"\r\n\r\n")
    if not separator or len(head) > MAX_PART_HEADER_BYTES:
        return None
    content_type, disposition = "text/plain", ""
    for line in head.decode("utf-8", "replace").split("\r\n"):
        name, _, value = line.partition(":")
        key = name.strip().lower()
        if key in ("content-type", "c"):
            content_type = _bare(value)
        elif key == "content-disposition":
            disposition = _bare(value)
    return BodyPart(content_type, body, disposition)
