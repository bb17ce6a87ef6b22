"""Requests, responses, and the messages derived from others."""

import pytest

from ims_as.sip.errors import LocalProtocolError, SipParseError
from ims_as.sip.header_types import CSeq
from ims_as.sip.message import REASONS, Message, Request, Response, build_ack, build_cancel, build_response
from ims_as.sip.parser import parse_message_untrusted


def invite(**changes: str) -> Request:
    values = {
        "Via": "SIP/2.0/UDP a.example;branch=z9hG4bK1, SIP/2.0/UDP b.example;branch=z9hG4bK2",
        "Record-Route": "<sip:p;lr>",
        "Route": "<sip:r1;lr>,  <sip:r2;lr;s=2>",
        "Max-Forwards": "70",
        "From": '"Alice" <sip:alice@h>;tag=f1',
        "To": "<sip:bob@h>",
        "Call-ID": "c@h",
        "CSeq": "7 INVITE",
        "Contact": "<sip:alice@192.0.2.1>, <sip:other@h>",
        "Content-Type": "application/SDP; charset=x",
        "Expires": "30",
        "Timestamp": "54",
        **changes,
    }
    return Request("INVITE", "sip:bob@h", [(name.replace("_", "-"), value) for name, value in values.items()], b"v=0")


def test_typed_properties():
    request = invite()
    assert (request.via.branch, [via.branch for via in request.vias]) == ("z9hG4bK1", ["z9hG4bK1", "z9hG4bK2"])
    assert (request.call_id, request.cseq, request.max_forwards) == ("c@h", CSeq(7, "INVITE"), 70)
    assert (request.from_.display_name, request.from_tag, request.to_tag) == ("Alice", "f1", None)
    assert request.routes == ["<sip:r1;lr>", "<sip:r2;lr;s=2>"]
    assert request.record_routes == ["<sip:p;lr>"]
    assert request.contact is not None
    assert request.contact.uri_text == "sip:alice@192.0.2.1"
    assert (request.content_type, request.expires) == ("application/sdp", 30)
    assert str(request.request_uri) == "sip:bob@h"
    assert repr(request) == "<Request INVITE sip:bob@h>"


def test_properties_follow_the_headers():
    request = invite()
    assert request.via is request.via
    request.headers.prepend("Via", "SIP/2.0/TCP own;branch=new")
    assert request.via.branch == "new"
    request.headers.set("CSeq", "8 INVITE")
    assert request.cseq.number == 8
    request.headers.remove("Max-Forwards")
    assert request.max_forwards is None


def test_absent_and_broken():
    empty = Response(200, "OK")
    assert (empty.contact, empty.content_type, empty.expires, empty.routes, empty.vias) == (None, None, None, [], [])
    for name in ("via", "call_id", "cseq", "from_", "to"):
        with pytest.raises(SipParseError):
            getattr(empty, name)
    with pytest.raises(SipParseError):
        empty.read_routing_headers()
    assert Request("REGISTER", "sip:h", [("m", "*")]).contact is None
    for name, text in (("Contact", "<"), ("Expires", "soon"), ("Max-Forwards", "256"), ("Max-Forwards", "-1")):
        with pytest.raises(SipParseError):
            getattr(Response(200, "OK", [(name, text)]), name.lower().replace("-", "_"))


def test_bytes():
    request = Request("OPTIONS", "sip:h", [("Via", "v"), ("l", "99"), ("X", "é")], b"12")
    assert request.to_bytes() == "OPTIONS sip:h SIP/2.0\r\nVia: v\r\nl: 2\r\nX: é\r\n\r\n12".encode()
    response = Response(404, "Not Found", [("Via", "v")])
    assert response.to_bytes() == b"SIP/2.0 404 Not Found\r\nVia: v\r\nContent-Length: 0\r\n\r\n"
    assert repr(response) == "<Response 404 Not Found>"
    with pytest.raises(AssertionError):
        Message([]).to_bytes()


@pytest.mark.parametrize(
    "message",
    [
        Request("OPTIONS", "sip:h", [("X", "a\r\nEvil: 1")]),
        Request("OPTIONS", "sip:h", [("X\n", "a")]),
        Request("OPTIONS", "sip:h\r", []),
        Response(200, "O\nK", []),
        Response(200, "OK", [("X", "a\0")]),
    ],
)
def test_forged_lines_are_refused(message):
    with pytest.raises(LocalProtocolError):
        message.to_bytes()


def test_copies_are_independent():
    for message in (invite(), Response(200, "OK", [("Via", "v")], b"x")):
        other = message.copy()
        assert other.to_bytes() == message.to_bytes()
        other.headers.remove("Via")
        assert "Via" in message.headers


class TestBuildResponse:
    def test_copies_what_it_must(self):
        response = build_response(
            invite(), 180, to_tag="t9", headers=[("Server", "s")], body=b"x", content_type="text/plain"
        )
        assert response.reason == "Ringing"
        assert response.headers.items() == [
            ("Via", "SIP/2.0/UDP a.example;branch=z9hG4bK1, SIP/2.0/UDP b.example;branch=z9hG4bK2"),
            ("From", '"Alice" <sip:alice@h>;tag=f1'),
            ("To", "<sip:bob@h>;tag=t9"),
            ("Call-ID", "c@h"),
            ("CSeq", "7 INVITE"),
            ("Record-Route", "<sip:p;lr>"),
            ("Server", "s"),
            ("Content-Type", "text/plain"),
        ]
        assert response.body == b"x"

    def test_100_has_timestamp_and_no_record_route(self):
        response = build_response(invite(), 100)
        assert response.headers.get("Timestamp") == "54"
        assert "Record-Route" not in response.headers
        assert response.to_tag is None

    def test_failure_has_no_record_route(self):
        response = build_response(invite(), 503, "Busy now", to_tag="x", content_type="text/plain")
        assert "Record-Route" not in response.headers
        assert "Content-Type" not in response.headers
        assert response.reason == "Busy now"

    def test_given_tag_stays(self):
        assert build_response(invite(To="<sip:b@h>;tag=old"), 200, to_tag="new").to_tag == "old"

    def test_malformed_to_is_echoed(self):
        assert build_response(invite(To="<<"), 400, to_tag="new").headers.get("To") == "<<"

    def test_unknown_status(self):
        assert build_response(invite(), 299).reason == "Unknown"
        assert all(100 <= status < 700 and reason for status, reason in REASONS.items())


def test_ack_of_a_failure():
    request = invite()
    response = build_response(request, 486, to_tag="b1")
    ack = build_ack(request, response)
    assert (ack.method, ack.uri, ack.body) == ("ACK", "sip:bob@h", b"")
    assert ack.headers.items() == [
        ("Via", "SIP/2.0/UDP a.example;branch=z9hG4bK1"),
        ("Route", "<sip:r1;lr>,  <sip:r2;lr;s=2>"),
        ("Max-Forwards", "70"),
        ("From", '"Alice" <sip:alice@h>;tag=f1'),
        ("To", "<sip:bob@h>;tag=b1"),
        ("Call-ID", "c@h"),
        ("CSeq", "7 ACK"),
    ]


def test_cancel():
    cancel = build_cancel(invite())
    assert cancel.start_line() == "CANCEL sip:bob@h SIP/2.0"
    assert (cancel.headers.get("To"), str(cancel.cseq)) == ("<sip:bob@h>", "7 CANCEL")
    assert [via.branch for via in cancel.vias] == ["z9hG4bK1"]


def test_untouched_lines_go_out_as_they_came_and_the_length_is_always_right():
    lines = b"v:SIP/2.0/UDP h\r\nf: <sip:a>\r\nt: <sip:b>\r\ni:c\r\nCSeq:1 OPTIONS\r\nl:  2"
    data = b"OPTIONS sip:h SIP/2.0\r\n" + lines + b"\r\n\r\n12"
    message = parse_message_untrusted(data)
    assert message.to_bytes() == data
    message.body = b"123"
    assert message.to_bytes().endswith(b"\r\nl: 3\r\n\r\n123")
    message = parse_message_untrusted(data.replace(b"\r\nl:  2", b""))
    assert message.to_bytes().endswith(b"CSeq: 1 OPTIONS\r\nContent-Length: 2\r\n\r\n12")
    message = parse_message_untrusted(data)
    assert isinstance(message, Request)
    message.uri = "sip:x\r\nX: y"
    with pytest.raises(LocalProtocolError):
        message.to_bytes()
