from __future__ import annotations

from ifc.engine import evaluate
from ifc.model import (
    ApplicationServer,
    Condition,
    InitialFilterCriteria,
    RequestUriCondition,
    ServicePointTrigger,
    SessionCaseCondition,
    SessionDescriptionCondition,
    SipHeaderCondition,
    TriggerPoint,
)
from ifc.view import RequestView
from ims_as.isc.session_case import SessionCase
from ims_as.isc.view import MAX_SDP_LINES, SipRequestView
from tests.ims_as.isc_messages import build_request, from_wire


def holds(view: RequestView, condition: Condition, *, negated: bool = False) -> bool:
    trigger_point = TriggerPoint(True, (ServicePointTrigger(condition, negated=negated),))
    return bool(evaluate([InitialFilterCriteria(0, trigger_point, ApplicationServer("sip:a"))], view))


def test_wire() -> None:
    view = SipRequestView(from_wire("01-isc-invite-term-dh0.sip"), SessionCase.TERMINATING_REGISTERED)
    assert view.method == "INVITE"
    assert holds(view, SessionCaseCondition(SessionCase.TERMINATING_REGISTERED))
    assert holds(view, RequestUriCondition(r"^ims\.mnc001\.mcc001\.3gppnetwork\.org$"))
    assert holds(view, SipHeaderCondition("^Allow$", "^UPDATE$"))
    assert holds(view, SipHeaderCondition("^P-Served-User$", "regstate=reg$"))
    assert holds(view, SipHeaderCondition("^Route$", "^<sip:iscmark@"))
    assert not holds(view, SipHeaderCondition("^Allow$", "CANCEL, BYE"))
    assert holds(view, SipHeaderCondition("^Resource-Priority$", ".*"), negated=True)
    assert holds(view, SessionDescriptionCondition("^m$", "^audio .* 96 8 0 101$"))
    assert holds(view, SessionDescriptionCondition("a", "^rtpmap:96 AMR-WB/16000$"))
    assert not holds(view, SessionDescriptionCondition("m", "^video"))


def test_names_values_and_white_space() -> None:
    headers = [
        ("s", "Hello,   you"),
        ("k", "100rel,timer ,  precondition"),
        ("Supported", "path"),
        ("X-Empty", ""),
        ("Date", "Sat, 13 Nov 2010 23:29:00 GMT"),
        ("X-Fold", "a \t b"),
        ("X-Quoted", '"a, b" <sip:a,b@c>, d'),
    ]
    view = SipRequestView(build_request(headers=headers))
    assert view.header_values("subject") == ("Hello, you",)
    assert view.header_values("supported") == ("100rel", "timer", "precondition", "path")
    assert view.header_values("x-empty") == ("",)
    assert view.header_values("date") == ("Sat, 13 Nov 2010 23:29:00 GMT",)
    assert view.header_values("x-fold") == ("a b",)
    assert view.header_values("x-quoted") == ('"a, b" <sip:a,b@c>', "d")
    assert view.header_values("x-none") == ()
    assert dict(view.headers())["subject"] == ("Hello, you",)
    assert [name for name, _ in view.headers()].count("supported") == 1
    assert holds(view, SipHeaderCondition("^Subject$"))
    assert holds(view, SipHeaderCondition("^X-Empty$"))
    assert holds(view, SipHeaderCondition("^x-.*$", "^d$"))


def test_sdp_in_a_multipart_body() -> None:
    body = (
        b"--b\r\nContent-Type: application/pidf+xml\r\n\r\nm=no\r\n"
        b"--b\r\nContent-Type: application/sdp\r\n\r\nv=0\nm=audio 1 RTP/AVP 0\r\nnonsense\r\n--b--\r\n"
    )
    view = SipRequestView(build_request(headers=[("Content-Type", "multipart/mixed;boundary=b")], body=body))
    assert view.sdp_lines() == (("v", "0"), ("m", "audio 1 RTP/AVP 0"))


def test_no_sdp() -> None:
    assert SipRequestView(build_request(headers=[("Content-Type", "text/plain")], body=b"m=x")).sdp_lines() == ()
    assert SipRequestView(build_request()).sdp_lines() == ()


def test_sdp_is_bounded() -> None:
    request = build_request(headers=[("Content-Type", "application/sdp")], body=b"a=x\r\n" * 5000)
    assert len(SipRequestView(request).sdp_lines()) == MAX_SDP_LINES
