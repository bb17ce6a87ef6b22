"""What descriptions say of RTCP, in offers and answers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ims_as.sip.offer_answer import LocalMedia, SdpSession, apply_answer, build_offer, negotiate_answer
from ims_as.sip.rtcp_attributes import NOTHING_SAID, StreamRtcp, read_rtcp_untrusted
from ims_as.sip.sdp import MediaDescription, SessionDescription, parse_sdp_untrusted

OURS = "127.0.0.30"


def description(*lines: str, top: tuple[str, ...] = (), host: str = "IN IP4 127.0.0.41") -> SessionDescription:
    head = ("v=0", "o=a 1 1 IN IP4 127.0.0.41", "s=-", f"c={host}", "t=0 0", *top, "m=audio 40000 RTP/AVP 8")
    return parse_sdp_untrusted("\r\n".join([*head, *lines, ""]).encode())


def read(*lines: str, top: tuple[str, ...] = (), may_mux: bool = True, ours: str = OURS) -> StreamRtcp:
    whole = description(*lines, top=top)
    return read_rtcp_untrusted(whole, whole.media[0], may_mux=may_mux, our_address=ours)


def answered(*lines: str, top: tuple[str, ...] = ()) -> MediaDescription:
    session = SdpSession("-", 7, 1, OURS)
    negotiated = negotiate_answer(description(*lines, top=top), LocalMedia(OURS, 20000), session=session)
    return parse_sdp_untrusted(negotiated.answer.to_bytes()).media[0]


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ("a=rtcp:4001", (None, 4001)),
        ("a=rtcp:4001 IN IP4 127.0.0.42", ("127.0.0.42", 4001)),
        ("a=rtcp:4001 in ip4 127.0.0.42", ("127.0.0.42", 4001)),
        ("a=rtcp:4001 IN IP6 ::1", (None, 0)),
        ("a=rtcp:4001 IN IP4 ::1", (None, 0)),
        ("a=rtcp:4001 IN IP4 224.0.0.1", (None, 0)),
        ("a=rtcp:4001 IN IP4 somewhere", (None, 0)),
        ("a=rtcp:0", (None, 0)),
        ("a=rtcp:65536", (None, 0)),
        ("a=rtcp:x", (None, 0)),
        ("a=rtcp", (None, 0)),
    ],
)
def test_the_place(line: str, place: tuple[str | None, int]):
    rtcp = read(line)
    assert (rtcp.host, rtcp.port) == place


def test_the_place_in_ipv6():
    assert read("a=rtcp:4001 IN IP6 2001:DB8::7", ours="2001:db8::1").host == "2001:db8::7"
    assert read("a=rtcp:4001 IN IP4 127.0.0.42", ours="2001:db8::1") == NOTHING_SAID


def test_sharing_the_port_needs_both():
    assert read("a=rtcp-mux", "a=rtcp:4001").is_muxed
    assert read("a=rtcp-mux", "a=rtcp:4001").port == 0, "the other port is for who cannot share"
    assert not read("a=rtcp-mux", may_mux=False).is_muxed
    assert read("a=rtcp-mux", "a=rtcp:4001", may_mux=False).port == 4001


def test_bandwidth_of_the_line_beats_that_of_the_session():
    rtcp = read("b=RS:600", "b=AS:80", top=("b=RS:1", "b=RR:2000"))
    assert (rtcp.rs_bps, rtcp.rr_bps) == (600, 2000)
    assert read("b=RS:0", "b=RR:0", "a=rtcp-mux", "a=rtcp:5") == StreamRtcp(rs_bps=0, rr_bps=0)
    assert read("b=RS:0", "a=rtcp-mux") == StreamRtcp(rs_bps=0, is_muxed=True)
    assert read("b=RS:-1", "b=RR:9999999999", "b=rs:5") == NOTHING_SAID


def test_extended_reports_that_we_have():
    assert read("a=rtcp-xr:pkt-loss-rle voip-metrics rcvr-rtt=all:10").reports == ("voip-metrics", "rcvr-rtt=all:10")
    assert read("a=rtcp-xr").reports == ()


def test_the_answer():
    media = answered("b=RR:2000", "b=RS:0", "a=rtcp:40001", "a=rtcp-mux", "a=rtcp-xr:voip-metrics stat-summary=loss")
    assert media.lines[:2] == (("b", "RS:0"), ("b", "RR:2000"))
    assert media.attribute("rtcp-mux") == ""
    assert media.attribute("rtcp-xr") == "voip-metrics"
    assert media.attribute("rtcp") is None


def test_the_answer_to_an_offer_without_rtcp():
    media = answered("b=RS:0", "b=RR:0", "a=rtcp-mux", "a=rtcp-xr:voip-metrics")
    assert media.bandwidth == ("RS:0", "RR:0")
    assert (media.attribute("rtcp-mux"), media.attribute("rtcp-xr")) == (None, None)


def test_an_answer_says_nothing_that_was_not_offered():
    media = answered()
    assert media.bandwidth == ()
    assert not [name for name, _ in media.attributes if name.startswith("rtcp")]


@pytest.mark.parametrize(
    ("lines", "rtcp"),
    [
        ((), NOTHING_SAID),
        (("a=rtcp-mux",), StreamRtcp(is_muxed=True)),
        (("a=rtcp:9000 IN IP4 127.0.0.42",), StreamRtcp("127.0.0.42", 9000)),
        (("b=RS:0", "b=RR:0"), StreamRtcp(rs_bps=0, rr_bps=0)),
    ],
)
def test_the_answer_to_our_offer(lines: tuple[str, ...], rtcp: StreamRtcp):
    offer = build_offer(LocalMedia(OURS, 20000), SdpSession("-", 7, 1, OURS))
    assert offer.media[0].attribute_values("rtcp") == ["20001"]
    assert apply_answer(offer, description(*lines)).rtcp == rtcp


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\r\n\0"), max_size=60))
def test_any_text_is_read(text: str):
    for line in (f"a=rtcp:{text}", f"a=rtcp-xr:{text}", f"b=RS:{text}", f"b=RR{text}"):
        whole = description(line)
        rtcp = read_rtcp_untrusted(whole, whole.media[0], may_mux=True, our_address=OURS)
        assert 0 <= rtcp.port < 65536
        session = SdpSession("-", 7, 1, OURS)
        parse_sdp_untrusted(negotiate_answer(whole, LocalMedia(OURS, 20000), session=session).answer.to_bytes())
