"""Session descriptions: lossless, bounded, and the views on their lines."""

import string
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ims_as.sip.errors import LocalProtocolError, SdpError
from ims_as.sip.parser import parse_message_untrusted
from ims_as.sip.sdp import (
    MAX_MEDIA,
    MAX_SDP_BYTES,
    MAX_SDP_LINES,
    Direction,
    MediaDescription,
    Origin,
    RtpMap,
    SessionDescription,
    format_connection,
    parse_sdp_untrusted,
)

VECTORS = sorted((Path(__file__).parents[1] / "vectors" / "isc").glob("*invite*.sip"))

FULL = (
    b"v=0\r\no=jdoe 3724394400 3724394405 IN IP4 198.51.100.1\r\ns=Call to Zo\xc3\xab\r\ni=x\r\nu=http://e.com/\r\n"
    b"e=a@b\r\np=+1\r\nc=IN IP4 198.51.100.1\r\nb=AS:80\r\nt=0 0\r\nr=604800 3600 0 90000\r\nz=1 2\r\nk=clear:x\r\n"
    b"a=recvonly\r\na=group:BUNDLE 0 1\r\nx=unknown\r\n"
    b"m=audio 49170/2 RTP/AVP 0 8 97 101 200 x\r\ni=mic\r\nc=IN IP6 2001:db8::2\r\nb=AS:64\r\nb=RS:0\r\n"
    b"a=rtpmap:97 iLBC/8000\r\na=rtpmap:101 telephone-event/8000\r\na=rtpmap:97 other/1\r\na=rtpmap:999 x/1\r\n"
    b"a=fmtp:97 mode=30\r\na=fmtp:101 0-16\r\na=ptime:20\r\na=sendonly\r\na=rtcp-mux\r\n"
    b"m=video 51372 RTP/SAVPF 99\r\na=rtpmap:99 H264/90000\r\na=rtpmap:100 opus/48000/2\r\n"
    b"m=application 0 UDP/DTLS/SCTP webrtc-datachannel\r\n"
)


def sdp(*lines: str, start: tuple[str, ...] = ("v=0", "o=- 1 1 IN IP4 192.0.2.1", "s=-")) -> SessionDescription:
    return parse_sdp_untrusted("\r\n".join([*start, *lines, ""]).encode())


def test_everything_survives():
    description = parse_sdp_untrusted(FULL)
    assert description.to_bytes() == FULL
    assert parse_sdp_untrusted(FULL.replace(b"\r\n", b"\n")) == description
    assert parse_sdp_untrusted(FULL + b"\r\n") == description
    assert parse_sdp_untrusted(FULL[:-2]) == description


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.name[:2])
def test_real_bodies_survive(path):
    body = parse_message_untrusted(path.read_bytes()).body
    assert parse_sdp_untrusted(body).to_bytes() == body


def test_session_views():
    description = parse_sdp_untrusted(FULL)
    assert description.origin == Origin("jdoe", "3724394400", "3724394405", "IP4", "198.51.100.1")
    assert str(description.origin) == "jdoe 3724394400 3724394405 IN IP4 198.51.100.1"
    assert description.connection == "IN IP4 198.51.100.1"
    assert (description.bandwidth, description.timing) == (("AS:80",), ("0 0",))
    assert description.attributes == (("recvonly", None), ("group", "BUNDLE 0 1"))


def test_media_views():
    audio, video, application = parse_sdp_untrusted(FULL).media
    assert (audio.media, audio.port, audio.port_count, audio.proto) == ("audio", 49170, 2, "RTP/AVP")
    assert audio.formats == ("0", "8", "97", "101", "200", "x")
    assert audio.connection == "IN IP6 2001:db8::2"
    assert audio.bandwidth == ("AS:64", "RS:0")
    assert audio.direction is Direction.SENDONLY
    assert audio.payloads() == [
        (0, RtpMap("PCMU", 8000)),
        (8, RtpMap("PCMA", 8000)),
        (97, RtpMap("iLBC", 8000)),
        (101, RtpMap("telephone-event", 8000)),
    ]
    assert (audio.fmtp(97), audio.fmtp(101), audio.fmtp(9)) == ("mode=30", "0-16", None)
    assert (audio.attribute("rtcp-mux"), audio.attribute("no"), audio.milliseconds("ptime")) == ("", None, 20)
    assert video.rtpmaps[100] == RtpMap("opus", 48000, 2)
    assert video.direction is None
    assert application.port == 0
    assert application.payloads() == []


@pytest.mark.parametrize(
    ("value", "expected"), [("20", 20), ("0", None), ("x", None), ("20.5", None), ("99999", None), ("", None)]
)
def test_packet_time(value, expected):
    media = sdp("m=audio 1 RTP/AVP 0", f"a=ptime:{value}").media[0]
    assert media.milliseconds("ptime") == expected


def test_direction_of_media_is_its_own_or_the_session_s():
    description = sdp("a=inactive", "m=audio 1 RTP/AVP 0", "m=audio 1 RTP/AVP 0", "a=sendrecv")
    assert [description.direction_of(media).value for media in description.media] == ["inactive", "sendrecv"]
    plain = sdp("m=audio 1 RTP/AVP 0")
    assert plain.direction_of(plain.media[0]) is Direction.SENDRECV


def test_directions():
    assert [direction.reversed.value for direction in Direction] == ["sendrecv", "recvonly", "sendonly", "inactive"]
    for one in Direction:
        assert one.reversed.reversed is one
        for other in Direction:
            both = one.restricted_to(other)
            assert both.sends == (one.sends and other.sends)
            assert both.receives == (one.receives and other.receives)
    assert Direction.SENDRECV == "sendrecv"


@pytest.mark.parametrize(
    ("line", "host"),
    [
        ("c=IN IP4 192.0.2.7", "192.0.2.7"),
        ("c=in ip4 0.0.0.0", "0.0.0.0"),
        ("c=IN IP6 2001:DB8::1", "2001:db8::1"),
        ("c=IN IP6 anything.invalid", "::"),
        ("c=IN IP4 anything.invalid", "0.0.0.0"),
    ],
)
def test_connection(line, host):
    description = sdp(line, "m=audio 1 RTP/AVP 0")
    assert description.connection_of(description.media[0]) == host


@pytest.mark.parametrize(
    "line",
    [
        "a=none",
        "c=",
        "c=IN IP4",
        "c=IN IP4 host.example.com",
        "c=IN IP4 224.2.1.1/127",
        "c=IN IP4 224.2.1.1",
        "c=IN IP4 192.0.2.1/127/3",
        "c=IN IP6 192.0.2.1",
        "c=IN IP4 2001:db8::1",
        "c=IN IP6 fe80::1%eth0",
        "c=IN IP6 ff02::1",
        "c=ATM IP4 192.0.2.1",
        "c=IN IP4 192.0.2.999",
        "c=IN IP4 192.0.2.1 x",
    ],
)
def test_unusable_connection(line):
    description = sdp(line, "m=audio 1 RTP/AVP 0")
    with pytest.raises(SdpError):
        description.connection_of(description.media[0])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\r\n",
        b"v=1\r\no=- 1 1 IN IP4 h\r\n",
        b"o=- 1 1 IN IP4 h\r\nv=0\r\n",
        b"v=0\r\ns=-\r\n",
        b"v=0\r\no=- 1 1 IN IP4\r\n",
        b"v=0\r\no=- 1 1 XX IP4 h\r\n",
        b"v=0\r\no=- 1 1 IN IP4 h\r\nnonsense\r\n",
        b"v=0\r\no=- 1 1 IN IP4 h\r\n =x\r\n",
        b"v=0\r\no=- 1 1 IN IP4 h\r\na=x\ry\r\n",
        b"v=0\r\no=- 1 1 IN IP4 h\r\na=x\0\r\n",
        b"v=0\r\no=- 1 1 IN IP4 h\r\nm=audio\r\n",
        b"v=0\r\no=- 1 1 IN IP4 h\r\nm=audio 70000 RTP/AVP 0\r\n",
        b"v=0\r\no=- 1 1 IN IP4 h\r\nm=audio x RTP/AVP 0\r\n",
        b"v=0\r\no=- 1 1 IN IP4 h\r\nm=audio 1 RTP/AVP\r\n",
        b"v=0\r\no=- 1 1 IN IP4 h\r\nm=audio 1/ RTP/AVP 0\r\n",
        b"v=0\r\no=- 1 1 IN IP4 h\r\n" + b"a=x\r\n" * MAX_SDP_LINES,
        b"v=0\r\no=- 1 1 IN IP4 h\r\n" + b"m=audio 1 RTP/AVP 0\r\n" * (MAX_MEDIA + 1),
        b"v=0\r\no=- 1 1 IN IP4 h\r\na=" + b"x" * MAX_SDP_BYTES,
        b"m=audio 1 RTP/AVP 0\r\n",
        b"\xff\xfe\x00",
    ],
    ids=range(21),
)
def test_refused(data):
    with pytest.raises(SdpError):
        parse_sdp_untrusted(data)


def test_foreign_bytes_survive():
    data = b"v=0\r\no=- 1 1 IN IP4 h\r\ns=Andr\xe9\r\n"
    assert parse_sdp_untrusted(data).to_bytes() == data


def test_forged_lines_are_refused():
    for bad in ("a\r\nm=x", "a\n", "\0"):
        with pytest.raises(LocalProtocolError):
            SessionDescription((("v", "0"), ("s", bad))).to_bytes()
    with pytest.raises(SdpError):
        _ = SessionDescription((("v", "0"),)).origin


def test_rejected_line_keeps_kind_and_formats():
    media = sdp("m=video 5 RTP/SAVP 99 98", "a=x").media[0]
    assert media.rejected() == MediaDescription("video", 0, "RTP/SAVP", ("99", "98"))


def test_format_connection():
    assert format_connection("192.0.2.1") == "IN IP4 192.0.2.1"
    assert format_connection("::1") == "IN IP6 ::1"


@settings(deadline=None, max_examples=200)
@given(st.integers(0, len(FULL)), st.integers(0, 30), st.binary(max_size=8))
def test_mutations_raise_one_kind_of_error(where, n_gone, piece):
    data = FULL[:where] + piece + FULL[where + n_gone :]
    try:
        description = parse_sdp_untrusted(data)
    except SdpError:
        return
    assert parse_sdp_untrusted(description.to_bytes()) == description
    for media in description.media:
        _ = media.payloads(), media.direction, media.milliseconds("ptime"), media.bandwidth
        try:
            description.connection_of(media)
        except SdpError:
            continue


value = st.text(string.ascii_letters + string.digits + " :/;=äß€", max_size=12)
line = st.tuples(st.sampled_from("abcdikprtuxz"), value)
token = st.text(string.ascii_letters + string.digits, min_size=1, max_size=5)


@settings(deadline=None)
@given(
    st.lists(line, max_size=4),
    st.lists(
        st.builds(
            MediaDescription,
            token,
            st.integers(0, 65535),
            st.sampled_from(["RTP/AVP", "udp", "UDP/TLS/RTP/SAVPF"]),
            st.lists(token, min_size=1, max_size=4).map(tuple),
            st.lists(line, max_size=4).map(tuple),
            st.one_of(st.none(), st.integers(0, 65535)),
        ),
        max_size=3,
    ),
)
def test_round_trip(lines, media):
    description = SessionDescription((("v", "0"), ("o", "- 1 1 IN IP4 h"), *lines), tuple(media))
    assert parse_sdp_untrusted(description.to_bytes()) == description
