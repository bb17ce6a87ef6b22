"""The descriptions of our own leg: answered, withdrawn, and what the media plane is told."""

import pytest

from ims_as.call.media_description import CallDescription, stream_config
from ims_as.sip.errors import LocalProtocolError, NoCommonCodecError, SdpError
from ims_as.sip.sdp import parse_sdp_untrusted


def offer(*formats: str, direction: str = "sendrecv", port: int = 4000, version: int = 1, more: str = "") -> bytes:
    lines = ["v=0", f"o=ue 7 {version} IN IP4 192.0.2.1", "s=-", "c=IN IP4 192.0.2.1", "t=0 0"]
    lines += [f"m=audio {port} RTP/AVP {' '.join(formats or ('0', '8', '101'))}"]
    lines += ["a=rtpmap:101 telephone-event/8000", f"a={direction}"]
    return ("\r\n".join(lines) + "\r\n" + more).encode()


def described() -> CallDescription:
    description = CallDescription("192.0.2.30", 42)
    description.bind("192.0.2.30", 20000)
    return description


def version_of(body: bytes) -> str:
    return parse_sdp_untrusted(body).origin.version


def test_a_preview_commits_to_nothing():
    description = CallDescription("192.0.2.30", 42)
    assert description.preview_untrusted(offer()).codec == "PCMU"
    assert not description.preview_untrusted(offer()).send
    assert description.stream is None
    with pytest.raises(NoCommonCodecError):
        description.preview_untrusted(offer("97"))
    with pytest.raises(SdpError):
        description.preview_untrusted(b"v=0")


def test_an_answer_and_what_the_media_plane_is_told():
    description = described()
    answer = parse_sdp_untrusted(description.answer_untrusted(offer("8", "101", direction="sendonly")))
    assert (answer.media[0].port, answer.origin.session_id) == (20000, "42")
    assert description.stream is not None
    config = stream_config(description.stream)
    assert (config.codec, config.remote_host, config.remote_port) == ("PCMA", "192.0.2.1", 4000)
    assert (config.send, config.receive, config.dtmf_payload_type) == (False, True, 101)
    assert stream_config(description.stream, send=True).send


def test_rtcp_as_agreed_and_as_the_media_plane_is_told():
    description = described()
    more = "a=rtcp-mux\r\nb=RS:0\r\nb=RR:2500\r\na=rtcp-xr:voip-metrics\r\n"
    answer = parse_sdp_untrusted(description.answer_untrusted(offer("8", more=more))).media[0]
    assert answer.attribute("rtcp-mux") == ""
    assert description.stream is not None
    config = stream_config(description.stream)
    assert (config.rtcp_mux, config.rtcp_rs_bps, config.rtcp_rr_bps, config.rtcp_xr) == (True, 0, 2500, True)
    description.answer_untrusted(offer("8", more="a=rtcp:4321 IN IP4 192.0.2.9\r\n"))
    config = stream_config(description.stream)
    assert (config.rtcp_mux, config.rtcp_host, config.rtcp_port) == (False, "192.0.2.9", 4321)
    assert (config.rtcp_rs_bps, config.rtcp_rr_bps, config.rtcp_xr) == (None, None, False)


def test_the_version_rises_with_a_change_only():
    description = described()
    assert version_of(description.answer_untrusted(offer())) == "1"
    assert version_of(description.answer_untrusted(offer(port=5000))) == "1"
    assert version_of(description.answer_untrusted(offer(direction="sendonly"))) == "2"


def test_a_withdrawn_answer_changes_nothing():
    description = described()
    description.answer_untrusted(offer())
    before = description.stream
    description.answer_untrusted(offer("8", direction="inactive", port=5000))
    assert description.version == 2
    description.withdraw_answer()
    assert (description.stream, description.version) == (before, 1)
    assert version_of(description.answer_untrusted(offer(direction="inactive"))) == "2"


def test_an_unusable_offer_changes_nothing():
    description = described()
    description.answer_untrusted(offer())
    before = description.stream
    with pytest.raises(NoCommonCodecError):
        description.answer_untrusted(offer("97"))
    description.withdraw_answer()
    assert (description.stream, description.version) == (before, 1)


def test_our_offer_and_its_answer():
    description = described()
    assert not description.preview_untrusted(b"").send
    ours = parse_sdp_untrusted(description.offer())
    assert ours.media[0].formats == ("8", "0", "101")
    assert description.is_offering
    with pytest.raises(LocalProtocolError):
        description.answer_untrusted(offer())
    stream = description.take_answer_untrusted(offer("0", "96").replace(b"101 tele", b"96 tele"))
    config = stream_config(stream)
    assert (config.dtmf_payload_type, config.receive_dtmf_payload_type) == (96, 101)
    assert not description.is_offering


@pytest.mark.parametrize("answer", [b"", b"garbage", offer("97"), offer(port=0)])
def test_an_unusable_answer_closes_the_offer(answer: bytes):
    description = described()
    description.answer_untrusted(offer())
    before = description.stream
    description.offer()
    with pytest.raises(SdpError):
        description.take_answer_untrusted(answer)
    assert not description.is_offering
    assert description.stream == before
