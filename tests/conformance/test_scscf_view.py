from __future__ import annotations

from conformance.lab.scscf_view import view_of
from ifc.model import RegistrationType, SessionCase
from ims_as.sip.message import Request

SDP = b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 1 RTP/AVP 0\r\na=sendrecv\r\n"


def test_view() -> None:
    headers = [("k", "100rel,  timer"), ("Supported", "path"), ("Subject", "a,  b"), ("X-Empty", "")]
    request = Request("INVITE", "sip:bob@example.net", [*headers, ("c", "application/sdp")], SDP)
    view = view_of(request, SessionCase.ORIGINATING_CDIV)
    assert (view.method, view.request_uri) == ("INVITE", "sip:bob@example.net")
    assert view.session_case is SessionCase.ORIGINATING_CDIV
    assert view.header_values("supported") == ["100rel", "timer", "path"]
    assert view.header_values("subject") == ["a, b"]
    assert view.header_values("x-empty") == [""]
    assert view.header_values("y") == ()
    assert ("m", "audio 1 RTP/AVP 0") in view.sdp_lines()
    assert ("a", "sendrecv") in view.sdp_lines()


def test_without_sdp() -> None:
    for kind, body in (("text/plain", SDP), ("application/sdp", b"nonsense"), ("application/sdp", b"")):
        assert view_of(Request("INVITE", "sip:a", [("Content-Type", kind)], body), None).sdp_lines() == ()
    view = view_of(Request("REGISTER", "sip:a"), None, RegistrationType.RE_REGISTRATION)
    assert view.registration_type is RegistrationType.RE_REGISTRATION
