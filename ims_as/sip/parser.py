"""Bytes to messages: one header parser for datagrams and streams (RFC 3261 §7, §18.3).

Work is done in three steps, and the step that fails decides what can still be said to the peer:

1. *structure*: lines, names, size and count limits. A failure here loses the message, on a stream the connection;
   what is sound of it may still do for an answer.
2. *framing*: Content-Length. On a stream a failure loses the connection.
3. *meaning*: what routing needs (start line, top Via, From, To, Call-ID, CSeq, Max-Forwards, Contact of requests and
   responses that make dialogs). A failure costs this message only; a request can be answered from
   `SipParseError.partial`.

All other headers stay text and are read by who needs them, so a malformed P-Associated-URI disturbs nobody.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from ims_as.sip.counters import METHODS
from ims_as.sip.errors import SipParseError
from ims_as.sip.grammar import TOKEN, TOKEN_RE, split_list
from ims_as.sip.header_types import SOUND_ADDRESSES
from ims_as.sip.headers import Headers, Index, header_key, index_again, known_header_key
from ims_as.sip.message import DIALOG_METHODS, Request, Response
from ims_as.sip.uri import check_uri

__all__ = [
    "MAX_BODY_BYTES",
    "MAX_HEADERS",
    "MAX_HEADER_SECTION_BYTES",
    "MAX_METHOD_CHARS",
    "Outline",
    "StreamParser",
    "outline_message_untrusted",
    "parse_message_untrusted",
    "read_outline_untrusted",
]

# a datagram holds no more than 65,507 bytes, and a stream has no need for more than a datagram
MAX_HEADER_SECTION_BYTES: Final = 65536
# 70 hops (the default Max-Forwards) may each add a Via and a Record-Route: 140 lines, and as many again for the rest;
# folded lines count as they are on the wire
MAX_HEADERS: Final = 280
# bodies are SDP, a REGISTER in a REGISTER, a small multipart; Kamailio's default for a whole message is 64 KB
MAX_BODY_BYTES: Final = 262144
# longest registered method: SUBSCRIBE; RFC 4475 §3.1.1.2 tests with 51
MAX_METHOD_CHARS: Final = 64

_WHITE_SPACE: Final = (" ", "\t")
_FOLD_RE: Final = re.compile(rb"\r\n[ \t]+")
_VERSION_RE: Final = re.compile(r"SIP/[0-9]{1,3}\.[0-9]{1,3}", re.IGNORECASE)
_METHOD_RE: Final = re.compile(TOKEN)
_CONTROL_RE: Final = re.compile(r"[\0\r\n]")
_STATUS_RE: Final = re.compile(r"([1-6][0-9]{2})(?: (.*))?")
_SINGLE: Final = ("from", "to", "call-id", "cseq", "max-forwards", "content-length")
_MANDATORY: Final = ("via", "from", "to", "call-id", "cseq")


def _split_lines(head: bytes) -> tuple[str, Headers]:
    """Step 1: start line and headers of a header section without its final empty line."""
    if len(head) > MAX_HEADER_SECTION_BYTES:
        raise SipParseError("header section too large", 513, fatal=True)
    try:
        text = head.decode()
    except UnicodeDecodeError:
        # RFC 3261 §7.3.1 wants UTF-8, peers send Latin-1 in display names: keep the bytes, they go out as they came
        text = head.decode("utf-8", "surrogateescape")
    if "\0" in text:
        raise SipParseError("NUL in header section", fatal=True)
    lines = text.split("\r\n")
    n_ends = len(lines) - 1
    if text.count("\n") != n_ends or text.count("\r") != n_ends:
        raise SipParseError("bare CR or LF in header section", fatal=True)
    if n_ends > MAX_HEADERS:
        raise SipParseError("too many headers", 513, fatal=True)
    start_line = lines[0]
    del lines[0]
    index: Index = {}
    for line in lines:
        name, colon, value = line.partition(":")
        key = known_header_key(name)
        if key is None or not colon:
            if line[:1] in _WHITE_SPACE:
                # line folding, §7.3.1: rare and deprecated, so it is only looked for when it is met
                return _split_lines(_FOLD_RE.sub(b" ", head))
            name = name.rstrip(" \t")  # HCOLON = *( SP / HTAB ) ":" SWS
            if not colon or TOKEN_RE.fullmatch(name) is None:
                raise SipParseError("malformed header line", fatal=True)
            key = header_key(name)
        if key in index:
            index_again(index, key, value.strip(" \t"))
        else:
            index[key] = value.strip(" \t")
    return start_line, Headers.from_parsed(text[len(start_line) + 2 :], index)


def _content_length(headers: Headers) -> int | None:
    """Step 2: Content-Length = 1*DIGIT; None when absent."""
    text = headers.indexed().get("content-length")
    if text is None:
        return None
    if not isinstance(text, str):
        if any(other != text[0] for other in text):
            raise SipParseError("Content-Length twice", fatal=True)
        text = text[0]
    # ten digits are enough for any number that could be right, and bound the conversion
    if not (text.isascii() and text.isdigit()) or len(text) > 10:
        raise SipParseError("malformed Content-Length", fatal=True)
    return int(text)


def _check_meaning(start_line: str, headers: Headers, body: bytes) -> Request | Response:
    """Step 3: the message itself."""
    if start_line[:4].upper() == "SIP/":
        version, _, rest = start_line.partition(" ")
        if version.upper() != "SIP/2.0":
            raise SipParseError("version is not SIP/2.0", 505)
        match = _STATUS_RE.fullmatch(rest)
        if match is None:
            raise SipParseError("malformed status line")
        response = Response(int(match[1]), match[2] or "", headers, body)
        _check_headers(response, response.cseq.method if "cseq" in headers else "")
        return response
    parts = start_line.split(" ")
    request = Request(parts[0], parts[1] if len(parts) > 1 else "", headers, body)
    try:
        _check_request_line(parts)
        _check_headers(request, request.method)
        if request.cseq.method != request.method:
            raise SipParseError("CSeq method differs from request")
    except SipParseError as error:
        error.partial = _answerable(request)
        raise
    return request


def _check_request_line(parts: list[str]) -> None:
    if len(parts) != 3:
        raise SipParseError("malformed request line")
    method, uri, version = parts
    if version != "SIP/2.0" and version.upper() != "SIP/2.0":
        if _VERSION_RE.fullmatch(version):
            raise SipParseError("version is not SIP/2.0", 505)
        raise SipParseError("malformed request line")
    if method not in METHODS and (len(method) > MAX_METHOD_CHARS or _METHOD_RE.fullmatch(method) is None):
        raise SipParseError("malformed method")
    check_uri(uri)


def _check_headers(message: Request | Response, method: str) -> None:
    index = message.headers.indexed()
    for key in _MANDATORY:
        if key not in index:
            raise SipParseError(f"{key} is missing")
    for key in _SINGLE:
        if index.get(key).__class__ is list:
            raise SipParseError(f"{key} more than once")
    call_id = index["call-id"]
    if not call_id or " " in call_id or "\t" in call_id:
        raise SipParseError("malformed Call-ID")
    message.read_routing_headers()
    if method in DIALOG_METHODS and "contact" in index and (isinstance(message, Request) or 100 < message.status < 300):
        contact = index["contact"]
        text = contact if isinstance(contact, str) else contact[0]
        if text != "*":
            message.headers.typed["contact"] = SOUND_ADDRESSES[split_list(text)[0] if "," in text else text]


def _answerable(request: Request) -> Request | None:
    """What `build_response` needs, taken from a broken request; None when it cannot or must not be answered."""
    headers = request.headers
    if request.method == "ACK" or not all(headers.get(key) for key in _MANDATORY):
        return None
    try:
        _ = request.via
    except SipParseError:
        return None
    items = [("Via", value) for value in headers.get_all("via")]
    items += [(name, headers.get(name) or "") for name in ("From", "To", "Call-ID", "CSeq")]
    return Request(request.method, request.uri, items)


def _salvage(head: bytes) -> Request | None:
    """The same for a header section whose lines are broken or too many: what is sound in its first part."""
    text = _FOLD_RE.sub(b" ", head[:MAX_HEADER_SECTION_BYTES]).decode("utf-8", "surrogateescape")
    start_line, *lines = text.split("\r\n", MAX_HEADERS)[:MAX_HEADERS]
    parts = start_line.split(" ")
    if len(parts) != 3 or parts[2].upper() != "SIP/2.0" or _METHOD_RE.fullmatch(parts[0]) is None:
        return None
    items: list[tuple[str, str]] = []
    for line in lines:
        name, _, value = line.partition(":")
        if header_key(name.rstrip(" \t")) in _MANDATORY and not _CONTROL_RE.search(value):
            items.append((name.rstrip(" \t"), value.strip(" \t")))
    return _answerable(Request(parts[0], parts[1], items))


class Outline(NamedTuple):
    """A datagram after step 1: its lines are sound, what they say has not been looked at."""

    start_line: str
    headers: Headers
    data: bytes
    body_at: int
    """Where the body begins in `data`."""


def outline_message_untrusted(data: bytes) -> Outline:
    """Step 1 of reading a message that fills a datagram: enough to refuse it.

    Raises:
        SipParseError: the datagram is not a SIP message; nothing else is ever raised.
    """
    start = 0
    while data.startswith(b"\r\n", start):  # §7.5: empty lines before the start line are ignored
        start += 2
    end = data.find(b"\r\n\r\n", start, start + MAX_HEADER_SECTION_BYTES + 4)
    if end < 0:
        partial = _salvage(data[start:])
        if len(data) - start > MAX_HEADER_SECTION_BYTES:
            raise SipParseError("header section too large", 513, partial, fatal=True)
        raise SipParseError("no end of header section", 400, partial, fatal=True)
    head = data[start:end]
    try:
        start_line, headers = _split_lines(head)
    except SipParseError as error:
        error.partial = _salvage(head)
        raise
    return Outline(start_line, headers, data, end + 4)


def read_outline_untrusted(outline: Outline) -> Request | Response:
    """The other steps.

    Bytes after Content-Length are dropped; without Content-Length the body goes to the end (RFC 3261 §18.3).

    Raises:
        SipParseError: the datagram is not a SIP message; nothing else is ever raised.
    """
    start_line, headers, data, start = outline
    length, error = None, None
    try:
        length = _content_length(headers)
    except SipParseError as caught:
        error = caught
    body = data[start:] if length is None else data[start : start + length]
    message = _check_meaning(start_line, headers, body)
    if error is None and length is not None and len(body) < length:
        error = SipParseError("body shorter than Content-Length")
    if error is None and len(body) > MAX_BODY_BYTES:
        error = SipParseError("body too large", 513)
    if error is not None:
        if isinstance(message, Request):
            error.partial = _answerable(message)
        raise error
    return message


def parse_message_untrusted(data: bytes) -> Request | Response:
    """Read one message that fills a datagram: all steps.

    Raises:
        SipParseError: the datagram is not a SIP message; nothing else is ever raised.
    """
    return read_outline_untrusted(outline_message_untrusted(data))


class StreamParser:
    """Cuts a byte stream into messages (RFC 3261 §18.3: Content-Length rules) and counts keep-alives (RFC 5626 §3.5.1).

    Feed `receive_bytes`, then call `next_message` until it returns None. Each byte is looked at a bounded number of
    times, however slowly the peer sends. Memory is bounded by the two size limits plus what one call of
    `receive_bytes` brings.

    Attributes:
        pings: number of double-CRLF keep-alives so far; the owner answers each with one CRLF.
        pongs_due: set by the owner after a keep-alive of its own: so many single CRLF are answers to it.
    """

    def __init__(self) -> None:
        self.pings = 0
        self.pongs_due = 0
        self._buffer = bytearray()
        self._searched = 0
        self._n_crlf = 0
        self._head: tuple[str, Headers] | None = None
        self._body_bytes = 0
        self._is_dead = False

    def receive_bytes(self, data: bytes) -> None:
        """Take bytes from the peer; ignored after a fatal error."""
        if not self._is_dead:
            self._buffer += data

    @property
    def buffered_bytes(self) -> int:
        """Bytes that wait for the rest of their message."""
        return len(self._buffer)

    @property
    def is_midway(self) -> bool:
        """Whether a part of a message is here and the rest is not."""
        return bool(self._buffer) or self._head is not None

    def next_message(self) -> Request | Response | None:
        """The next whole message, or None when more bytes are needed.

        Raises:
            SipParseError: with `fatal` set the boundary of messages is lost: answer (if `partial` is there), then
                close the connection; nothing more will come. Without `fatal` only this message is bad: call again.
        """
        if self._is_dead:
            return None
        try:
            return self._next_message()
        except SipParseError as error:
            if error.fatal:
                self._is_dead = True
                self._buffer.clear()
            raise

    def _next_message(self) -> Request | Response | None:
        buffer = self._buffer
        if self._head is None:
            self._skip_keep_alives()
            end = buffer.find(b"\r\n\r\n", self._searched)
            if end < 0 and len(buffer) <= MAX_HEADER_SECTION_BYTES:
                self._searched = max(0, len(buffer) - 3)
                return None
            if end < 0 or end > MAX_HEADER_SECTION_BYTES:
                raise SipParseError("header section too large", 513, _salvage(bytes(buffer)), fatal=True)
            head = bytes(buffer[:end])
            try:
                start_line, headers = _split_lines(head)
            except SipParseError as error:
                error.partial = _salvage(head)
                raise
            del buffer[: end + 4]
            self._searched = 0
            self._body_bytes = self._frame(start_line, headers)
            self._head = start_line, headers
        if len(buffer) < self._body_bytes:
            return None
        start_line, headers = self._head
        body = bytes(buffer[: self._body_bytes])
        del buffer[: self._body_bytes]
        self._head = None
        return _check_meaning(start_line, headers, body)

    def _skip_keep_alives(self) -> None:
        buffer = self._buffer
        n_skipped = 0
        while buffer.startswith(b"\r\n", n_skipped):
            n_skipped += 2
            if self.pongs_due:
                self.pongs_due -= 1
                continue
            self._n_crlf += 1
            if self._n_crlf == 2:
                self.pings += 1
                self._n_crlf = 0
        if n_skipped:
            del buffer[:n_skipped]
            self._searched = 0
        if buffer and buffer != b"\r":
            self._n_crlf = 0

    @staticmethod
    def _frame(start_line: str, headers: Headers) -> int:
        """Length of the body; every error here is fatal, but tells the peer why where that is possible."""
        try:
            length = _content_length(headers)
            if length is None:
                raise SipParseError("no Content-Length on a stream", fatal=True)
            if length > MAX_BODY_BYTES:
                raise SipParseError("body too large", 513, fatal=True)
        except SipParseError as error:
            if start_line[:4].upper() != "SIP/":
                parts = start_line.split(" ")
                error.partial = _answerable(Request(parts[0], parts[1] if len(parts) > 1 else "", headers))
            raise
        return length
