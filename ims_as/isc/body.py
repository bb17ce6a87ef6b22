"""Bodies of several parts (RFC 5621, RFC 2046 §5.1): REGISTER and INVITE on ISC may carry them."""

from __future__ import annotations

import attrs

from ims_as.sip.message import Message

__all__ = ["MAX_PARTS", "BodyPart", "read_parts_untrusted"]

MAX_PARTS = 8
"""A third-party REGISTER has three at most; an INVITE with SDP, location and user data has three as well."""
MAX_BOUNDARY_CHARS = 70
"""RFC 2046 §5.1.1."""
MAX_PART_HEADER_BYTES = 2048


@attrs.frozen
class BodyPart:
    content_type: str
    """In lower case, without parameters."""
    body: bytes


def read_parts_untrusted(message: Message) -> tuple[BodyPart, ...]:
    """The body's parts; a body that is not multipart is one part.  What cannot be read is left out, nothing raises."""
    content_type = message.content_type
    if content_type is None or not message.body:
        return ()
    if not content_type.startswith("multipart/"):
        return (BodyPart(content_type, message.body),)
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
    content_type = "text/plain"
    for line in head.decode("utf-8", "replace").split("\r\n"):
        name, _, value = line.partition(":")
        if name.strip().lower() in ("content-type", "c"):
            content_type = value.partition(";")[0].strip().lower()
    return BodyPart(content_type, body)
