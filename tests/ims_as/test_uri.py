"""SIP, SIPS, tel and other URIs: parsing, spelling kept, comparison."""

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ims_as.sip.errors import SipParseError
from ims_as.sip.uri import MAX_URI_CHARS, OpaqueUri, SipUri, TelUri, check_uri, parse_uri

SPELLINGS = [
    "sip:alice@atlanta.example.com",
    "sip:alice:secretword@atlanta.example.com;transport=tcp",
    "sips:alice@atlanta.example.com?subject=project%20x&priority=urgent",
    "sip:+1-212-555-1212:1234@gateway.com;user=phone",
    "sip:alice;day=tuesday@atlanta.example.com",
    "sip:127.0.0.20;lr=on;ftag=32200a1",
    "sip:iscmark@127.0.0.20:5060;lr;s=2;h=0;d=1;a=7369703a31",
    "sip:[2001:db8::1]:5060;transport=udp",
    "sip:*21#@pbx.example.com",
    "sip:user@host;maddr=[2001:db8::2]",
    "sip:a@b;x=",
    "tel:+1-201-555-0123",
    "tel:7042;phone-context=example.com",
    "urn:service:sos.fire",
    "mailto:alice@example.com",
]


@pytest.mark.parametrize("text", SPELLINGS)
def test_text_survives(text):
    check_uri(text)
    assert str(parse_uri(text)) == text


def test_parts_of_a_sip_uri():
    uri = parse_uri("SIP:a%20b:pw@Host.Example.com:5080;lr;X=y;x=z?h=1")
    assert uri == SipUri("sip", "a%20b", "Host.Example.com", 5080, (("lr", None), ("X", "y"), ("x", "z")), "h=1", "pw")
    assert uri.param("LR") == ""
    assert uri.param("x") == "y"
    assert uri.param("absent") is None
    assert uri.has_param("lr")
    assert not uri.has_param("l")
    assert uri.aor == "sip:a%20b@host.example.com"


def test_ipv6_host_is_held_without_brackets():
    uri = parse_uri("sip:[2001:db8::1]")
    assert isinstance(uri, SipUri)
    assert uri.host == "2001:db8::1"
    assert uri.aor == "sip:[2001:db8::1]"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sip:",
        "sip:@host",
        "sip:a b@host",
        "sip:a@host:99999",
        "sip:a@host:port",
        "sip:a@ho st",
        "sip:a@host;",
        "sip:a@host;=x",
        "sip:a%2@host",
        "sip:a@[::1",
        "sip:a@b@c",
        "sip:ä@host",
        "sip:a@host?",
        "<sip:a@host>",
        "tel:",
        "tel:call-me",
        "host.example.com",
        "1up:x",
        "urn:a\x00b",
        "http://a/\udc80",
        "sip:a@host\n",
    ],
)
def test_malformed(text):
    with pytest.raises(SipParseError):
        parse_uri(text)


def test_too_long_has_its_own_status():
    with pytest.raises(SipParseError) as caught:
        check_uri("sip:" + "a" * MAX_URI_CHARS + "@h")
    assert caught.value.status_hint == 414


def test_with_and_without_params():
    uri = SipUri("sip", "", "127.0.0.30", 5060)
    assert str(uri.with_params(lr="", transport="tcp")) == "sip:127.0.0.30:5060;lr;transport=tcp"
    changed = parse_uri("sip:h;Transport=udp;lr")
    assert isinstance(changed, SipUri)
    assert str(changed.with_params(transport="tcp")) == "sip:h;transport=tcp;lr"
    assert str(changed.without_params("TRANSPORT", "x")) == "sip:h;lr"


# RFC 3261 §19.1.4: the pairs of its text
@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtLanTa.CoM;Transport=tcp"),
        ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
        ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;newparam=5"),
        (
            "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
            "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
        ),
        (
            "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
            "sip:alice@atlanta.com?priority=urgent&subject=project%20x",
        ),
        ("tel:+1-201-555-0123", "tel:+12015550123"),
        ("tel:7042;phone-context=Example.com", "TEL:70-42;phone-context=example.com"),
        ("urn:service:sos", "URN:service:SOS"),
    ],
)
def test_equivalent(one, other):
    assert parse_uri(one).is_equivalent(parse_uri(other))
    assert parse_uri(other).is_equivalent(parse_uri(one))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
        ("sip:bob@biloxi.com:6000", "sip:bob@biloxi.com:6000;transport=tcp"),
        ("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting"),
        ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"),
        ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off"),
        ("sip:a@h", "sips:a@h"),
        ("sip:a@h", "tel:+1"),
        ("tel:+1", "tel:+1;isub=1"),
        ("tel:+1", "sip:+1@h"),
        ("urn:a:b", "urn:a:c"),
        ("urn:a:b", "sip:a"),
    ],
)
def test_not_equivalent(one, other):
    assert not parse_uri(one).is_equivalent(parse_uri(other))


def test_tel_stays_tel():
    uri = parse_uri("tel:+1-201-555-0123;isub=1")
    assert isinstance(uri, TelUri)
    assert (uri.scheme, uri.digits, uri.param("isub"), uri.has_param("x")) == ("tel", "+12015550123", "1", False)
    assert uri.aor == "tel:+12015550123"
    assert parse_uri("tel:70-42;phone-context=Ex.com").aor == "tel:7042;phone-context=ex.com"


def test_opaque():
    uri = parse_uri("URN:service:sos")
    assert isinstance(uri, OpaqueUri)
    assert (uri.scheme, uri.param("x"), uri.has_param("x"), uri.aor) == ("urn", None, False, "URN:service:sos")


names = st.text(string.ascii_letters + string.digits + "-_.!~*'()&=+$,/", min_size=1, max_size=8)
param_text = st.text(string.ascii_letters + string.digits + "-_.!~*'()", min_size=1, max_size=8)
sip_uris = st.builds(
    SipUri,
    st.sampled_from(["sip", "sips"]),
    st.one_of(st.just(""), names),
    st.sampled_from(["h", "example.com", "192.0.2.1", "2001:db8::1", "::1"]),
    st.one_of(st.none(), st.integers(0, 65535)),
    st.lists(st.tuples(param_text, st.one_of(st.none(), param_text)), max_size=4).map(tuple),
)


@settings(deadline=None)
@given(sip_uris)
def test_round_trip(uri):
    assert parse_uri(str(uri)) == uri
    assert uri.is_equivalent(uri)


@settings(deadline=None)
@given(st.text(max_size=60).map(lambda tail: "sip:" + tail))
def test_only_one_kind_of_error(text):
    try:
        uri = parse_uri(text)
    except SipParseError:
        with pytest.raises(SipParseError):
            check_uri(text)
    else:
        check_uri(text)
        assert parse_uri(str(uri)) == uri
