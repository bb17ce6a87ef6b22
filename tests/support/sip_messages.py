"""Small requests and responses for tests."""

from __future__ import annotations

from ims_as.sip.message import Request, Response, build_response
from ims_as.sip.parser import parse_message_untrusted

__all__ = ["build_request", "request_bytes", "response_to"]


def request_bytes(
    method: str = "INVITE",
    *,
    uri: str = "sip:bob@10.0.0.2",
    branch: str = "z9hG4bK-1",
    via: str | None = None,
    call_id: str = "call-1",
    cseq: str | None = None,
    from_tag: str = "from-1",
    to_tag: str | None = None,
    headers: tuple[tuple[str, str], ...] = (),
    body: bytes = b"",
) -> bytes:
    """A request from 10.0.0.1 as it comes over the wire."""
    top = f"SIP/2.0/UDP 10.0.0.1:5060;branch={branch}" if via is None else via
    lines = [
        f"{method} {uri} SIP/2.0",
        f"Via: {top}",
        "Max-Forwards: 70",
        f"From: <sip:alice@10.0.0.1>;tag={from_tag}",
        f"To: <sip:bob@10.0.0.2>{f';tag={to_tag}' if to_tag else ''}",
        f"Call-ID: {call_id}",
        f"CSeq: {cseq or '1 ' + method}",
        "Contact: <sip:alice@10.0.0.1:5060>",
        *(f"{name}: {value}" for name, value in headers),
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def build_request(method: str = "INVITE", **options: object) -> Request:
    message = parse_message_untrusted(request_bytes(method, **options))  # type: ignore[arg-type]
    assert isinstance(message, Request)
    return message


def response_to(request: Request, status: int, *, to_tag: str | None = "to-1") -> Response:
    return build_response(request, status, to_tag=to_tag, headers=[("Contact", "<sip:bob@10.0.0.2:5060>")])
