"""The targets. Each checks more than the error type: what was read must mean the same when it is written again."""

from __future__ import annotations

import functools
from collections.abc import Callable

from ims_as.call.bypass import BypassTokens
from ims_as.call.sdp_relay import relay_untrusted
from ims_as.isc.registration import RegistrationTable
from ims_as.isc.registration_reader import read_service_info_untrusted
from ims_as.isc.routing import split_route
from ims_as.isc.served_user import determine_served_user
from ims_as.sip.body import read_parts_untrusted
from ims_as.sip.errors import SdpError, SipParseError
from ims_as.sip.header_types import (
    CSeq,
    PServedUser,
    RAck,
    Reason,
    SessionExpires,
    parse_cseq,
    parse_name_addr,
    parse_name_addrs,
    parse_seconds,
    parse_via,
)
from ims_as.sip.message import Message, Request, Response, build_ack, build_response
from ims_as.sip.next_hop import next_hop
from ims_as.sip.offer_answer import LocalMedia, SdpSession, apply_answer, build_offer, negotiate_answer
from ims_as.sip.parser import StreamParser, parse_message_untrusted
from ims_as.sip.replaces import Replaces
from ims_as.sip.sdp import parse_sdp_untrusted
from ims_as.sip.uri import parse_uri
from tests.fuzz.capture import CAPTURE_TARGETS
from tests.fuzz.clips import CLIP_TARGETS
from tests.fuzz.defence import DEFENCE_TARGETS
from tests.fuzz.diameter import DIAMETER_TARGETS
from tests.fuzz.diameter_seeds import DIAMETER_TOKENS
from tests.fuzz.endpoint import CallFuzzer, EndpointFuzzer
from tests.fuzz.hss_peer import HSS_PEER_SEEDS, HssPeerFuzzer
from tests.fuzz.ifc import IFC_TARGETS
from tests.fuzz.ims import IMS_TARGETS
from tests.fuzz.media import MEDIA_TARGETS
from tests.fuzz.seeds import MESSAGES, MULTIPART, SDPS, SIP_TOKENS, URIS, VALUES
from tests.fuzz.session import CallerFuzzer, EarlyCallFuzzer
from tests.fuzz.srtp import SRTP_TARGETS
from tests.fuzz.target import Target

__all__ = ["TARGETS"]


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def read_message(data: bytes) -> None:
    """Whole datagram: read, written, read again; every header that the stack uses is looked at."""
    message = parse_message_untrusted(data)
    again = parse_message_untrusted(message.to_bytes())
    assert type(again) is type(message)
    assert again.start_line() == message.start_line()
    assert _told(again) == _told(message)
    assert again.body == message.body
    assert (again.call_id, again.cseq, again.from_tag, again.to_tag) == (
        message.call_id,
        message.cseq,
        message.from_tag,
        message.to_tag,
    )
    if isinstance(message, Request):
        build_response(message, 200, to_tag="x").to_bytes()
        build_ack(message, build_response(message, 486, to_tag="x")).to_bytes()


def _told(message: Message) -> list[tuple[str, str]]:
    """The headers, but for Content-Length, which is ours to write."""
    return [item for item in message.headers if item[0].lower() not in ("content-length", "l")]


def read_stream(data: bytes) -> None:
    """A stream gives the same messages however it is cut."""
    whole = _all_of((data,))
    cut = len(data) // 3
    pieces = (data[:cut], data[cut : cut + 1], data[cut + 1 :])
    assert _all_of(pieces) == whole


def _all_of(pieces: tuple[bytes, ...]) -> list[bytes | str]:
    parser = StreamParser()
    told: list[bytes | str] = []
    for piece in pieces:
        try:
            parser.receive_bytes(piece)
            while (message := parser.next_message()) is not None:
                told.append(message.to_bytes())
        except SipParseError as error:
            return [*told, error.reason]
    return told


def read_sdp(data: bytes) -> None:
    """A description: written and read again it is the same; it can be answered, and our answer fits it."""
    description = parse_sdp_untrusted(data)
    assert parse_sdp_untrusted(description.to_bytes()) == description
    local = LocalMedia("127.0.0.9", 4000)
    negotiated = negotiate_answer(description, local, session=SdpSession("-", 1, 1, "127.0.0.9"))
    answer = parse_sdp_untrusted(negotiated.answer.to_bytes())
    assert len(answer.media) == len(description.media)
    assert 0 <= negotiated.stream.payload_type <= 127


def read_sdp_answer(data: bytes) -> None:
    """An answer to our offer."""
    offer = build_offer(LocalMedia("127.0.0.9", 4000), SdpSession("-", 1, 1, "127.0.0.9"))
    stream = apply_answer(offer, parse_sdp_untrusted(data))
    assert 0 < stream.remote_port < 65536


def relay_sdp(data: bytes) -> None:
    """A description that crosses to another dialog is readable there."""
    session = SdpSession("-", 7, 1, "127.0.0.9")
    parse_sdp_untrusted(relay_untrusted(data, session).to_bytes())


def read_uri(data: bytes) -> None:
    text = _text(data)
    uri = parse_uri(text)
    again = parse_uri(str(uri))
    assert again == uri
    assert uri.is_equivalent(again)
    assert isinstance(uri.aor, str)


_VALUE_READERS: tuple[Callable[[str], object], ...] = (
    parse_via,
    parse_name_addr,
    parse_cseq,
    RAck.parse,
    SessionExpires.parse,
    PServedUser.parse,
    Reason.parse,
    parse_seconds,
    Replaces.parse_untrusted,
    lambda text: parse_name_addrs([text]),
)


def read_value(data: bytes) -> None:
    """A header value, read by each of the readers; what one accepts it accepts again when written."""
    text = _text(data)
    accepted = False
    for read in _VALUE_READERS:
        try:
            value = read(text)
        except SipParseError:
            continue
        accepted = True
        if isinstance(value, CSeq | RAck | SessionExpires | PServedUser | Replaces):
            assert read(str(value)) == value
    if not accepted:
        raise SipParseError("nobody reads it")


def read_body(data: bytes) -> None:
    """A multipart body, under the usual and under a hostile boundary."""
    for content_type in ('multipart/mixed;boundary="b1"', "multipart/mixed;boundary=-"):
        request = Request("REGISTER", "sip:x", [("Content-Type", content_type)], data)
        for part in read_parts_untrusted(request):
            assert len(part.body) <= len(data)


def read_service_info(data: bytes) -> None:
    text = read_service_info_untrusted(data)
    assert text is None or len(text) <= len(data) * 4


def read_isc(data: bytes) -> None:
    """What the ISC side reads of a request: served user, session case, Route, third-party REGISTER, next hop."""
    message = parse_message_untrusted(data)
    if isinstance(message, Response):
        return

    def is_own(uri: str) -> bool:
        return "127.0.0.30" in uri

    served = determine_served_user(message, is_own_uri=is_own)
    assert isinstance(served.uri, str)
    split_route(message, is_own)
    table = RegistrationTable(max_registrations=3)
    response = table.receive_register(message, now=1000.0)
    assert response.status in (200, 400, 403, 404, 423, 500)
    response.to_bytes()
    assert len(table) <= 3
    next_hop(message)


def read_bypass_token(data: bytes) -> None:
    tokens = _tokens()
    assert not tokens.is_valid_untrusted(_text(data), "sip:bob@example.net", now=1e9)


@functools.cache
def _tokens() -> BypassTokens:
    return BypassTokens(b"another secret")


_TOKEN = BypassTokens(b"secret").issue("sip:bob@example.net", "n", now=1e9).encode()
_XML = b'<?xml version="1.0"?><ims-3gpp version="1"><service-info>IMSI <b>x</b> &amp;</service-info></ims-3gpp>'
_XML_TOKENS = (
    b"<!DOCTYPE a [<!ENTITY e 'x'>]>",
    b"&e;",
    b"<![CDATA[",
    b"]]>",
    b"<!--",
    b"-->",
    b"<a>",
    b"</a>",
    b"xmlns=",
)

_ALL = (
    Target("message", read_message, (SipParseError,), MESSAGES, SIP_TOKENS),
    Target("stream", read_stream, (), (*MESSAGES, MESSAGES[0] + b"\r\n\r\n" + MESSAGES[-1]), SIP_TOKENS),
    Target("sdp", read_sdp, (SdpError,), SDPS, SIP_TOKENS),
    Target("sdp-answer", read_sdp_answer, (SdpError,), SDPS, SIP_TOKENS),
    Target("sdp-relay", relay_sdp, (SdpError,), SDPS, SIP_TOKENS),
    Target("uri", read_uri, (SipParseError,), URIS, SIP_TOKENS),
    Target("header-value", read_value, (SipParseError,), VALUES, SIP_TOKENS),
    Target("body", read_body, (), (MULTIPART,), (b"--b1", b"--b1--", b"---", b"Content-Type: ")),
    Target("service-info", read_service_info, (), (_XML,), _XML_TOKENS),
    Target("isc", read_isc, (SipParseError,), MESSAGES, SIP_TOKENS),
    Target("bypass-token", read_bypass_token, (), (_TOKEN,)),
    Target("endpoint", EndpointFuzzer().read, (), MESSAGES, SIP_TOKENS),
    Target("call", CallFuzzer().read, (), CallFuzzer.seeds(), SIP_TOKENS),
    Target("early-call", (_early := EarlyCallFuzzer()).read, (), _early.seeds(), SIP_TOKENS),
    Target("caller", (_caller := CallerFuzzer(SDPS[0])).read, (), _caller.seeds(), SIP_TOKENS),
    Target("hss-peer", HssPeerFuzzer().read, (), HSS_PEER_SEEDS, DIAMETER_TOKENS),
    Target("caller-without-offer", (_asker := CallerFuzzer(b"")).read, (), _asker.seeds(), SIP_TOKENS),
)

TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        *_ALL,
        *IMS_TARGETS,
        *DEFENCE_TARGETS,
        *DIAMETER_TARGETS,
        *IFC_TARGETS,
        *CAPTURE_TARGETS,
        *CLIP_TARGETS,
        *MEDIA_TARGETS,
        *SRTP_TARGETS,
    )
}
