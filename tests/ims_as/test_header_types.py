"""Typed header values."""

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ims_as.sip.errors import SipParseError
from ims_as.sip.header_types import (
    CSeq,
    NameAddr,
    PServedUser,
    RAck,
    Reason,
    SessionExpires,
    Via,
    parse_cseq,
    parse_name_addr,
    parse_name_addrs,
    parse_seconds,
    parse_via,
)
from ims_as.sip.uri import parse_uri


class TestVia:
    def test_parts(self):
        via = parse_via("SIP/2.0/UDP 127.0.0.41:5060;received=127.0.0.9;branch=z9hG4bK-1;rport=5061")
        assert via == Via(
            "UDP", "127.0.0.41", 5060, (("received", "127.0.0.9"), ("branch", "z9hG4bK-1"), ("rport", "5061"))
        )
        assert (via.branch, via.received, via.rport, via.has_rport) == ("z9hG4bK-1", "127.0.0.9", 5061, True)

    def test_spelling_survives_until_a_change(self):
        text = "SIP / 2.0 / UDP first.example.com : 4000 ;ttl=16 ; maddr=224.2.0.1 ;branch=z9hG4bKa7c6a8dlze.1;RPORT"
        via = parse_via(text)
        assert str(via) == text
        assert (via.has_rport, via.rport, via.param("ttl")) == (True, None, "16")
        changed = via.with_param("rport", "99").with_param("received", "::1")
        assert str(changed) == (
            "SIP/2.0/UDP first.example.com:4000;ttl=16;maddr=224.2.0.1;branch=z9hG4bKa7c6a8dlze.1;RPORT=99;received=::1"
        ).replace("RPORT", "rport")
        assert (changed.rport, changed.received) == (99, "::1")

    def test_ipv6(self):
        via = parse_via("SIP/2.0/TCP [2001:db8::9:1]:5061;received=[2001:db8::9:255];branch=b")
        assert (via.host, via.port, via.received) == ("2001:db8::9:1", 5061, "2001:db8::9:255")
        assert str(Via("TCP", "::1", 5060)) == "SIP/2.0/TCP [::1]:5060"

    @pytest.mark.parametrize(
        ("params", "expected"),
        [
            ("", ";received=::1"),
            (";branch=b", ";branch=b;received=::1"),
            (";rport", ";rport=9;received=::1"),
            (";rport;branch=b", ";rport=9;branch=b;received=::1"),
            (";branch=b;rport", ";branch=b;rport=9;received=::1"),
            (";branch=b;rport=5", ";branch=b;rport=9;received=::1"),
            (";branch=b;rport=", ";branch=b;rport=9;received=::1"),
            (";branch=b ; rport", ";branch=b;rport=9;received=::1"),
            (";rport;received=1.2.3.4", ";rport=9;received=::1"),
            (";RPORT;RECEIVED=1", ";rport=9;received=::1"),
            (";rport;Received=1", ";rport=9;received=::1"),
            (";xrport;branch=b", ";xrport;branch=b;received=::1"),
            (";rports;branch=b", ";rports;branch=b;received=::1"),
            (";rports;rport", ";rports;rport=9;received=::1"),
            (';x=";rport;"', ';x=";rport;";received=::1'),
            (';x=";rport;";rport', ';x=";rport;";rport=9;received=::1'),
            (";rport;branch=rport", ";rport=9;branch=rport;received=::1"),
        ],
    )
    def test_source(self, params, expected):
        via = parse_via(f"SIP/2.0/UDP h{params}")
        marked = via.with_source("::1", 9)
        assert str(marked) == f"SIP/2.0/UDP h{expected}"
        assert marked == parse_via(str(marked))
        assert (marked.received, marked.rport) == ("::1", 9 if via.has_rport else None)
        assert Via("UDP", "h", None, via.params).with_source("::1", 9) == marked

    @pytest.mark.parametrize("rport", ["x", "0", "65536", "999999999", "²"])
    def test_senseless_rport_has_no_value(self, rport):
        assert Via("UDP", "h", params=(("rport", rport),)).rport is None

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "SIP/2.0/UDP",
            "SIP/3.0/UDP h",
            "SIP/2.0/UDP h:0",
            "SIP/2.0/UDP h:70000",
            "SIP/2.0/UDP h;;",
            "SIP/2.0/UDP h, SIP/2.0/UDP i",
            "SIP/2.0/UDP [::1",
            "SIP/2.0/UDP h x",
            "HTTP/2.0/UDP h",
        ],
    )
    def test_malformed(self, text):
        with pytest.raises(SipParseError):
            parse_via(text)


class TestNameAddr:
    @pytest.mark.parametrize(
        ("text", "display", "uri", "tag"),
        [
            ('"Alice" <sip:1@h>;tag=32200a1', "Alice", "sip:1@h", "32200a1"),
            ("<sip:h>", "", "sip:h", None),
            ("sip:+12125551212@h;tag=887s", "", "sip:+12125551212@h", "887s"),
            ("The Operator <sip:op@h>;tag=287447", "The Operator", "sip:op@h", "287447"),
            ("caller<sip:c@h>;tag=323", "caller", "sip:c@h", "323"),
            ('"a \\"b\\" <sip:x@y>" <sip:c@h;p=1> ; TAG = 1 ;q', 'a "b" <sip:x@y>', "sip:c@h;p=1", "1"),
            ("Zoë <sip:z@h>", "Zoë", "sip:z@h", None),
            ("tel:+123;tag=1", "", "tel:+123", "1"),
            ("<sip:h>;tag=", "", "sip:h", None),
        ],
    )
    def test_parts(self, text, display, uri, tag):
        address = parse_name_addr(text)
        assert (address.display_name, address.uri_text, address.tag) == (display, uri, tag)
        assert str(address) == text
        assert address.uri == parse_uri(uri)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "*",
            '"Alice <sip:h>',
            "Bell, Alexander <sip:a@h>;tag=43",
            '"T" < sip:t@h >',
            "<sip:a@h",
            "sip:a@h>",
            "<sip:a@h>;;tag=1",
            "<sip:a@h>, <sip:b@h>",
            "sip:u@h?Route=%3Csip:h%3E",
            "<>",
            '"a" "b" <sip:h>',
            "a <sip:h> b",
        ],
    )
    def test_malformed(self, text):
        if text == "*":
            assert parse_name_addr(text).uri_text == "*"  # the caller knows whether "*" is a Contact
            return
        with pytest.raises(SipParseError):
            parse_name_addr(text)

    def test_tag_is_added_behind_the_untouched_text(self):
        text = '"Alice"  <sip:1@h;x> ;a="b"'
        assert str(parse_name_addr(text).with_tag("t")) == text + ";tag=t"
        assert str(parse_name_addr("sip:a@h;x=1").with_tag("t")) == "<sip:a@h>;x=1;tag=t"
        assert str(parse_name_addr("<sip:a@h>;tag=1").with_tag("2")) == "<sip:a@h>;tag=2"

    def test_params(self):
        address = NameAddr('A "b"', "sip:h", (("text", '"x y"'), ("lr", None)))
        assert str(address) == '"A \\"b\\"" <sip:h>;text="x y";lr'
        assert (address.param("Text"), address.param("lr"), address.param("no")) == ("x y", "", None)
        assert str(address.without_param("TEXT")) == '"A \\"b\\"" <sip:h>;lr'
        assert address.without_param("no") is address
        assert address.has_param("lr")

    def test_bytes_that_are_no_text_do_not_reach_the_display_name(self):
        assert parse_name_addr('"Andr\udce9" <sip:a@h>').display_name == "Andr\ufffd"

    def test_lists(self):
        lines = ['"a, b" <sip:a@h>, sip:b@h', "<tel:+1>"]
        assert [a.uri_text for a in parse_name_addrs(lines)] == ["sip:a@h", "sip:b@h", "tel:+1"]

    def test_malformed_uri_shows_when_asked_for(self):
        with pytest.raises(SipParseError):
            _ = parse_name_addr("<sip:a@h:x>").uri


class TestCSeq:
    def test_round_trip(self):
        assert parse_cseq("0009 \t INVITE") == CSeq(9, "INVITE")
        assert str(parse_cseq("2147483647 ACK")) == "2147483647 ACK"

    @pytest.mark.parametrize(
        "text", ["", "1", "INVITE", "1INVITE", "-1 A", "1 A B", "2147483648 A", "9" * 20 + " A", "² A"]
    )
    def test_malformed(self, text):
        with pytest.raises(SipParseError):
            parse_cseq(text)


def test_p_served_user():
    user = PServedUser.parse("<sip:1@ims.example>;SesCase=TERM;regstate=unreg;orig-cdiv")
    assert (user.uri_text, user.sescase, user.regstate, user.orig_cdiv) == ("sip:1@ims.example", "term", "unreg", True)
    plain = PServedUser.parse("<sip:1@ims.example>")
    assert (plain.sescase, plain.regstate, plain.orig_cdiv, str(plain)) == (None, None, False, "<sip:1@ims.example>")
    with pytest.raises(SipParseError):
        PServedUser.parse("<sip:1@ims.example>;;")


def test_reason():
    reason = Reason.parse('SIP ;cause=200 ;text="Call \\"done\\" elsewhere"')
    assert reason == Reason("SIP", 200, 'Call "done" elsewhere')
    assert str(reason) == 'SIP;cause=200;text="Call \\"done\\" elsewhere"'
    assert str(Reason("Q.850", 16)) == "Q.850;cause=16"
    assert Reason.parse("X;cause=many").cause is None
    with pytest.raises(SipParseError):
        Reason.parse("a b;cause=1")


def test_rack():
    assert RAck.parse("776656 1 INVITE") == RAck(776656, 1, "INVITE")
    assert str(RAck(1, 2, "INVITE")) == "1 2 INVITE"
    with pytest.raises(SipParseError):
        RAck.parse("1 INVITE")


def test_session_expires():
    assert SessionExpires.parse("1800 ;Refresher=UAS;x=1").refresher == "uas"
    assert str(SessionExpires.parse("90;refresher=uac")) == "90;refresher=uac"
    assert SessionExpires.parse("90").refresher is None
    for text in ("", "x", "-1", "4294967296", "99999999999"):
        with pytest.raises(SipParseError):
            SessionExpires.parse(text)


def test_seconds():
    assert parse_seconds("3600") == 3600
    assert parse_seconds("18000 (in a meeting);duration=3600") == 18000
    for text in ("", "-1", "1.5", "4294967296", "1 (", "²"):
        with pytest.raises(SipParseError):
            parse_seconds(text)


token = st.text(string.ascii_letters + string.digits + "-.!%*_+`'~", min_size=1, max_size=8)
params = st.lists(st.tuples(token, st.one_of(st.none(), token)), max_size=3).map(tuple)


@settings(deadline=None)
@given(token, st.sampled_from(["h", "192.0.2.1", "::1"]), st.one_of(st.none(), st.integers(1, 65535)), params)
def test_via_round_trip(transport, host, port, values):
    via = Via(transport, host, port, values)
    assert parse_via(str(via)) == via


# line ends cannot be in a header value, everything else can
@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20), params)
def test_name_addr_round_trip(display, values):
    address = NameAddr(display, "sip:a@h", values)
    assert parse_name_addr(str(address)) == address
