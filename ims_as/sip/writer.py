"""Writing a message: start line, header lines, Content-Length, body (RFC 3261 §7)."""

from __future__ import annotations

from collections.abc import Iterable

from ims_as.sip.errors import LocalProtocolError

__all__ = ["write_message", "write_text"]


def write_message(start_line: str, items: Iterable[tuple[str, str]], body: bytes) -> bytes:
    """Serialise; Content-Length is always right, in its place if the message had one, else last.

    Raises:
        LocalProtocolError: CR, LF or NUL in the start line, a name or a value: it would end the line early and
            let one header's value forge another header.
    """
    items = items if isinstance(items, list) else list(items)
    # most have no line of their own for it
    lines = [f"{name}: {value}" for name, value in items if len(name) != 14 and len(name) != 1]
    if len(lines) == len(items):
        lines.append(f"Content-Length: {len(body)}")
    else:
        lines = _lines_with_length(items, len(body))
    lines.insert(0, start_line)
    n_lines = len(lines)
    lines += ("", "")
    head = "\r\n".join(lines)
    if head.count("\n") != n_lines + 1 or head.count("\r") != n_lines + 1 or "\0" in head:
        raise LocalProtocolError("line end or NUL inside a header")
    # bytes of a peer that are not UTF-8 came in as surrogates and go out as they were
    return head.encode("utf-8", "surrogateescape") + body


def write_text(start_line: str, text: str, body: bytes) -> bytes:
    """The same from lines that a parser has checked, Content-Length included; raises LocalProtocolError."""
    if "\n" in start_line or "\r" in start_line or "\0" in start_line:
        raise LocalProtocolError("line end or NUL inside the start line")
    return f"{start_line}\r\n{text}\r\n\r\n".encode("utf-8", "surrogateescape") + body


def _lines_with_length(items: list[tuple[str, str]], length: int) -> list[str]:
    lines = []
    has_length = False
    for name, value in items:
        if len(name) in (1, 14) and name.lower() in ("content-length", "l"):
            if has_length:
                continue
            has_length = True
            lines.append(f"{name}: {length}")
        else:
            lines.append(f"{name}: {value}")
    if not has_length:
        lines.append(f"Content-Length: {length}")
    return lines
