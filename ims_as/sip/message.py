"""Requests and responses, and the messages that RFC 3261 derives from others.

Headers may be changed at any time; typed properties are kept together with the text that they were read from and
are read again when it has changed. On a message from `parse_message_untrusted`, `via`, `from_`, `to`, `call_id`,
`cseq` and `max_forwards` cannot fail; the other typed properties raise SipParseError when the peer wrote nonsense.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, TypeVar, cast

from ims_as.sip.errors import SipParseError
from ims_as.sip.grammar import split_list
from ims_as.sip.header_types import (
    CSEQS,
    SOUND_ADDRESSES,
    CSeq,
    NameAddr,
    Via,
    parse_cseq,
    parse_name_addr,
    parse_seconds,
    parse_via,
)
from ims_as.sip.headers import Headers
from ims_as.sip.uri import Uri, parse_uri
from ims_as.sip.writer import write_message, write_text

__all__ = [
    "DEFAULT_MAX_FORWARDS",
    "DIALOG_METHODS",
    "REASONS",
    "Message",
    "Request",
    "Response",
    "build_ack",
    "build_cancel",
    "build_response",
]

T = TypeVar("T")

# RFC 3261 §8.1.1.6
DEFAULT_MAX_FORWARDS: Final = 70
# requests whose responses can make a dialog and so carry Record-Route back, RFC 3261 §12.1.1, RFC 6665, RFC 3515
DIALOG_METHODS: Final = frozenset({"INVITE", "SUBSCRIBE", "NOTIFY", "REFER", "UPDATE"})

REASONS: Final[dict[int, str]] = {
    100: "Trying", 180: "Ringing", 181: "Call Is Being Forwarded", 182: "Queued", 183: "Session Progress",
    199: "Early Dialog Terminated",
    200: "OK", 202: "Accepted", 204: "No Notification",
    300: "Multiple Choices", 301: "Moved Permanently", 302: "Moved Temporarily", 305: "Use Proxy",
    380: "Alternative Service",
    400: "Bad Request", 401: "Unauthorized", 402: "Payment Required", 403: "Forbidden", 404: "Not Found",
    405: "Method Not Allowed", 406: "Not Acceptable", 407: "Proxy Authentication Required", 408: "Request Timeout",
    410: "Gone", 412: "Conditional Request Failed", 413: "Request Entity Too Large", 414: "Request-URI Too Long",
    415: "Unsupported Media Type", 416: "Unsupported URI Scheme", 417: "Unknown Resource-Priority",
    420: "Bad Extension", 421: "Extension Required", 422: "Session Interval Too Small", 423: "Interval Too Brief",
    424: "Bad Location Information", 428: "Use Identity Header", 429: "Provide Referrer Identity",
    430: "Flow Failed", 433: "Anonymity Disallowed", 436: "Bad Identity Info", 437: "Unsupported Credential",
    438: "Invalid Identity Header", 439: "First Hop Lacks Outbound Support", 440: "Max-Breadth Exceeded",
    469: "Bad Info Package", 470: "Consent Needed", 480: "Temporarily Unavailable",
    481: "Call/Transaction Does Not Exist", 482: "Loop Detected", 483: "Too Many Hops", 484: "Address Incomplete",
    485: "Ambiguous", 486: "Busy Here", 487: "Request Terminated", 488: "Not Acceptable Here", 489: "Bad Event",
    491: "Request Pending", 493: "Undecipherable", 494: "Security Agreement Required",
    500: "Server Internal Error", 501: "Not Implemented", 502: "Bad Gateway", 503: "Service Unavailable",
    504: "Server Time-out", 505: "Version Not Supported", 513: "Message Too Large", 555: "Push Notification Service "
    "Not Supported", 580: "Precondition Failure",
    600: "Busy Everywhere", 603: "Decline", 604: "Does Not Exist Anywhere", 606: "Not Acceptable",
    607: "Unwanted", 608: "Rejected",
}  # fmt: skip
"""Reason phrases by status (RFC 3261 §21 and the IANA registry)."""


class Message:
    """What requests and responses have in common. Not made directly."""

    __slots__ = ("body", "headers")

    def __init__(self, headers: Headers | Iterable[tuple[str, str]], body: bytes = b"") -> None:
        self.headers = headers if isinstance(headers, Headers) else Headers(headers)
        self.body = body

    def _read(self, key: str, parse: Callable[[str], T]) -> T | None:
        """First line of the header, typed; kept by the headers as long as it stays the same."""
        typed = self.headers.typed
        if key in typed:
            return cast(T, typed[key])
        text = self.headers.get(key)
        if text is None:
            return None
        value = typed[key] = parse(text)
        return value

    def _need(self, key: str, parse: Callable[[str], T]) -> T:
        value = self._read(key, parse)
        if value is None:
            raise SipParseError(f"{key} is missing")
        return value

    def read_routing_headers(self) -> None:
        """Read Via (top), From, To, CSeq and Max-Forwards, which later cannot fail any more, nor can their URIs.

        Raises:
            SipParseError: one of them is missing or malformed.
        """
        headers = self.headers
        index, typed = headers.indexed(), headers.typed
        try:
            via, sender, to, cseq = index["via"], index["from"], index["to"], index["cseq"]
        except KeyError as missing:
            raise SipParseError(f"{missing.args[0]} is missing") from None
        if "via" not in typed:
            first = via if isinstance(via, str) else via[0]
            typed["via"] = _parse_first_via(first) if "," in first else parse_via(first)
        typed["from"] = SOUND_ADDRESSES[sender if isinstance(sender, str) else sender[0]]
        typed["to"] = SOUND_ADDRESSES[to if isinstance(to, str) else to[0]]
        typed["cseq"] = CSEQS[cseq if isinstance(cseq, str) else cseq[0]]
        forwards = index.get("max-forwards")
        if forwards is not None:
            typed["max-forwards"] = _parse_max_forwards(forwards if isinstance(forwards, str) else forwards[0])

    @property
    def via(self) -> Via:
        """The top Via."""
        typed = self.headers.typed
        return typed["via"] if "via" in typed else self._need("via", _parse_first_via)

    @property
    def vias(self) -> list[Via]:
        """All Via values, top first."""
        return [parse_via(text) for text in self.headers.get_list("via")]

    @property
    def call_id(self) -> str:
        """Call-ID."""
        value = self.headers.get("call-id")
        if not value:
            raise SipParseError("call-id is missing")
        return value

    @property
    def cseq(self) -> CSeq:
        """CSeq."""
        typed = self.headers.typed
        return typed["cseq"] if "cseq" in typed else self._need("cseq", parse_cseq)

    @property
    def from_(self) -> NameAddr:
        """From."""
        typed = self.headers.typed
        return typed["from"] if "from" in typed else self._need("from", parse_name_addr)

    @property
    def to(self) -> NameAddr:
        """To."""
        typed = self.headers.typed
        return typed["to"] if "to" in typed else self._need("to", parse_name_addr)

    @property
    def from_tag(self) -> str | None:
        """Tag of From."""
        return self.from_.tag

    @property
    def to_tag(self) -> str | None:
        """Tag of To."""
        return self.to.tag

    @property
    def max_forwards(self) -> int | None:
        """Max-Forwards, None when absent."""
        return self._read("max-forwards", _parse_max_forwards)

    @property
    def routes(self) -> list[str]:
        """The Route values byte for byte, top first."""
        return self.headers.get_list("route")

    @property
    def record_routes(self) -> list[str]:
        """The Record-Route values byte for byte, top first."""
        return self.headers.get_list("record-route")

    @property
    def contact(self) -> NameAddr | None:
        """The first Contact; None when there is none or it is "*"."""
        text = self.headers.get("contact")
        if text is None or text == "*":
            return None
        return self._read("contact", _parse_first_address)

    @property
    def content_type(self) -> str | None:
        """Media type of the body in small letters, parameters left out."""
        value = self.headers.get("content-type")
        return value.partition(";")[0].strip(" \t").lower() if value else None

    @property
    def expires(self) -> int | None:
        """Expires in seconds, None when absent."""
        return self._read("expires", parse_seconds)

    def start_line(self) -> str:
        """The first line without its end."""
        raise AssertionError("a message is a Request or a Response")

    def to_bytes(self) -> bytes:
        """The message for the wire, with the right Content-Length.

        Raises:
            LocalProtocolError: CR, LF or NUL in the start line or a header.
        """
        headers = self.headers
        if headers.text and headers.get("content-length") == str(len(self.body)):
            return write_text(self.start_line(), headers.text, self.body)
        return write_message(self.start_line(), headers.lines(), self.body)


class Request(Message):
    """A request; `uri` is the Request-URI as text."""

    __slots__ = ("method", "uri")

    def __init__(
        self, method: str, uri: str, headers: Headers | Iterable[tuple[str, str]] = (), body: bytes = b""
    ) -> None:
        self.headers = headers if isinstance(headers, Headers) else Headers(headers)
        self.body = body
        self.method = method
        self.uri = uri

    @property
    def request_uri(self) -> Uri:
        """The Request-URI, parsed (never fails on a parsed message)."""
        return parse_uri(self.uri)

    def start_line(self) -> str:
        """The request line."""
        return f"{self.method} {self.uri} SIP/2.0"

    def copy(self) -> Request:
        """An independent copy."""
        return Request(self.method, self.uri, self.headers.copy(), self.body)

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.uri}>"


class Response(Message):
    """A response."""

    __slots__ = ("reason", "status")

    def __init__(
        self, status: int, reason: str, headers: Headers | Iterable[tuple[str, str]] = (), body: bytes = b""
    ) -> None:
        self.headers = headers if isinstance(headers, Headers) else Headers(headers)
        self.body = body
        self.status = status
        self.reason = reason

    def start_line(self) -> str:
        """The status line."""
        return f"SIP/2.0 {self.status} {self.reason}"

    def copy(self) -> Response:
        """An independent copy."""
        return Response(self.status, self.reason, self.headers.copy(), self.body)

    def __repr__(self) -> str:
        return f"<Response {self.status} {self.reason}>"


def _parse_first_via(text: str) -> Via:
    return parse_via(split_list(text)[0] if "," in text else text)


def _parse_first_address(text: str) -> NameAddr:
    return parse_name_addr(split_list(text)[0] if "," in text else text)


def _parse_max_forwards(text: str) -> int:
    # Max-Forwards = 1*DIGIT, RFC 3261 §20.22: 0 to 255; leading zeros are allowed, ten digits bound the conversion
    if not (text.isascii() and text.isdigit()) or len(text) > 10 or int(text) > 255:
        raise SipParseError("malformed Max-Forwards")
    return int(text)


def build_response(
    request: Request,
    status: int,
    reason: str | None = None,
    *,
    to_tag: str | None = None,
    headers: Iterable[tuple[str, str]] = (),
    body: bytes = b"",
    content_type: str | None = None,
) -> Response:
    """A response to a request, RFC 3261 §8.2.6.

    Via, From, To, Call-ID and CSeq are copied line by line; `to_tag` is added when To has none; Record-Route is
    copied where the response can make a dialog (101–299, §12.1.1); Timestamp into 100. Works on
    `SipParseError.partial` too.
    """
    source = request.headers.indexed()
    items: list[tuple[str, str]] = []
    for name, key in _COPIED:
        found = source.get(key)
        if isinstance(found, str):
            items.append((name, found))
        elif found is not None:
            # several of Via are copied, of the others the first is as good as any
            items += [(name, value) for value in (found if key == "via" else found[:1])]
    if to_tag:
        for position, (name, value) in enumerate(items):
            if name == "To":
                items[position] = ("To", _with_tag(request, value, to_tag))
    if 100 < status < 300 and request.method in DIALOG_METHODS:
        items += [("Record-Route", value) for value in request.headers.get_all("record-route")]
    if status == 100:
        items += [("Timestamp", value) for value in request.headers.get_all("timestamp")[:1]]
    items += headers
    if content_type is not None and body:
        items.append(("Content-Type", content_type))
    return Response(status, REASONS.get(status, "Unknown") if reason is None else reason, items, body)


_COPIED: Final = (("Via", "via"), ("From", "from"), ("To", "to"), ("Call-ID", "call-id"), ("CSeq", "cseq"))


def _with_tag(request: Request, to: str, tag: str) -> str:
    try:
        address = request.to
    except SipParseError:
        return to  # an answer to a malformed request echoes it
    return to if address.tag else str(address.with_tag(tag))


def build_ack(invite: Request, response: Response) -> Request:
    """The ACK of a non-2xx final response, RFC 3261 §17.1.1.3: top Via, Route and Request-URI of the INVITE."""
    return _build_hop_request("ACK", invite, response.headers.get("to") or str(invite.to))


def build_cancel(invite: Request) -> Request:
    """The CANCEL of an INVITE that was sent, RFC 3261 §9.1."""
    return _build_hop_request("CANCEL", invite, invite.headers.get("to") or str(invite.to))


def _build_hop_request(method: str, invite: Request, to: str) -> Request:
    source = invite.headers
    items = [("Via", str(invite.via))]
    items += [("Route", value) for value in source.get_all("route")]
    items += [
        ("Max-Forwards", str(DEFAULT_MAX_FORWARDS)),
        ("From", source.get("from") or ""),
        ("To", to),
        ("Call-ID", invite.call_id),
        ("CSeq", f"{invite.cseq.number} {method}"),
    ]
    return Request(method, invite.uri, items)
