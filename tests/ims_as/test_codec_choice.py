"""The selection of a codec: properties against a plain rule, and the offers of real phones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ims_as.call.codecs import CODEC_NAMES, missing_codecs, own_codecs
from ims_as.sip.codec_choice import G711_CODECS, CodecOffer, pick_codec, pick_dtmf, read_parameters_untrusted
from ims_as.sip.errors import NoCommonCodecError
from ims_as.sip.offer_answer import LocalMedia, OfferAnswer, SdpSession, apply_answer, build_offer
from ims_as.sip.sdp import MediaDescription, SessionDescription, parse_sdp_untrusted

EFFICIENT = CodecOffer("AMR-WB", 16000, 104)
ALIGNED = CodecOffer("AMR-WB", 16000, 105, "octet-align=1")
NARROW = CodecOffer("AMR", 8000, 102)
OURS = (EFFICIENT, ALIGNED, CodecOffer("G722", 8000, 9), *G711_CODECS, NARROW)

VOLTE = """v=0
o=- 1 1 IN IP4 192.0.2.5
s=-
c=IN IP4 192.0.2.5
t=0 0
m=audio 49152 RTP/AVP 97 98 99 100 101 102
b=AS:42
a=rtpmap:97 EVS/16000/1
a=fmtp:97 br=5.9-24.4; bw=nb-swb; max-red=220
a=rtpmap:98 AMR-WB/16000/1
a=fmtp:98 mode-change-capability=2; max-red=220
a=rtpmap:99 AMR-WB/16000/1
a=fmtp:99 octet-align=1; mode-change-capability=2; max-red=220
a=rtpmap:100 AMR/8000/1
a=fmtp:100 mode-change-capability=2; max-red=220
a=rtpmap:101 telephone-event/16000
a=rtpmap:102 telephone-event/8000
a=ptime:20
a=maxptime:240
a=sendrecv
""".replace("\n", "\r\n")


def line_of(*formats: tuple[str, str]) -> MediaDescription:
    """An audio line with these formats (encoding, fmtp), numbered from 96."""
    lines: list[tuple[str, str]] = []
    for number, (encoding, fmtp) in enumerate(formats, 96):
        lines.append(("a", f"rtpmap:{number} {encoding}"))
        if fmtp:
            lines.append(("a", f"fmtp:{number} {fmtp}"))
    return MediaDescription("audio", 4000, "RTP/AVP", tuple(str(96 + n) for n in range(len(formats))), tuple(lines))


def test_a_volte_phone_gets_amr_wb_and_its_digits() -> None:
    exchange = OfferAnswer(LocalMedia("192.0.2.30", 20000, OURS), SdpSession("-", 1, 1, "192.0.2.30"))
    negotiated = exchange.receive_offer(parse_sdp_untrusted(VOLTE.encode()))
    media = negotiated.answer.media[0]
    assert media.formats == ("98", "101")
    assert media.fmtp(98) == "mode-change-capability=2; max-red=0"
    stream = negotiated.stream
    assert (stream.codec, stream.clock_rate, stream.dtmf_payload_type) == ("AMR-WB", 16000, 101)
    assert stream.send_parameters == {"mode-change-capability": "2", "max-red": "220"}


def test_a_phone_with_evs_alone_is_not_ours() -> None:
    with pytest.raises(NoCommonCodecError):
        pick_codec(line_of(("EVS/16000", "br=5.9-24.4")), OURS)


@pytest.mark.parametrize(
    "fmtp",
    ["crc=1", "octet-align=1; crc=1", "robust-sorting=1", "octet-align=1; interleaving=30", "mode-set=9", "mode-set=a"],
)
def test_forms_that_we_do_not_speak(fmtp: str) -> None:
    with pytest.raises(NoCommonCodecError):
        pick_codec(line_of(("AMR-WB/16000", fmtp)), OURS)


def test_answers_keep_what_must_be_equal() -> None:
    choice = pick_codec(line_of(("AMR-WB/16000", "octet-align=1; mode-set=0,1,2; mode-change-period=2")), OURS)
    assert (choice.codec, choice.fmtp) == (
        ALIGNED,
        "octet-align=1; mode-set=0,1,2; mode-change-capability=2; max-red=0",
    )
    assert choice.theirs["mode-change-period"] == "2"
    assert choice.ours == read_parameters_untrusted(choice.fmtp)
    g729 = (CodecOffer("G729", 8000, 18),)
    assert pick_codec(line_of(("G729/8000", "annexb=no")), g729).fmtp == "annexb=no"
    assert pick_codec(line_of(("G729/8000", "")), g729).fmtp is None


@pytest.mark.parametrize(
    ("clocks", "chosen"),
    [((8000,), (96, 8000)), ((8000, 48000), (97, 48000)), ((48000, 8000), (96, 48000)), ((16000,), None), ((), None)],
)
def test_telephone_event_of_the_codecs_clock_or_else_of_8000_hz(
    clocks: tuple[int, ...], chosen: tuple[int, int] | None
) -> None:
    line = line_of(*((f"telephone-event/{clock}", "0-15") for clock in clocks), ("opus/48000/2", ""))
    assert pick_dtmf(line, 48000) == chosen


FORMATS = st.sampled_from(
    [
        ("EVS/16000", "br=5.9-24.4"),
        ("AMR-WB/16000", ""),
        ("AMR-WB/16000/1", "octet-align=1"),
        ("AMR-WB/16000", "crc=1; octet-align=1"),
        ("AMR/8000", "mode-set=7"),
        ("AMR/8000", "octet-align=1"),
        ("PCMA/8000", ""),
        ("pcmu/8000", ""),
        ("G722/8000", ""),
        ("PCMU/16000", ""),
        ("telephone-event/8000", "0-15"),
    ]
)


def fits(encoding: str, fmtp: str) -> CodecOffer | None:
    """The rule in one breath."""
    name, rate, *channels = encoding.split("/")
    for codec in OURS:
        same = (codec.name.lower(), str(codec.clock_rate)) == (name.lower(), rate) and channels in ([], ["1"])
        form = ("octet-align=1" in fmtp) == ("octet-align=1" in (codec.fmtp or ""))
        if same and (form or not codec.name.startswith("AMR")) and "crc" not in fmtp:
            return codec
    return None


@given(st.lists(FORMATS, max_size=8), st.booleans())
def test_as_the_rule_says(formats: list[tuple[str, str]], prefers_wideband: bool) -> None:
    media = line_of(*formats)
    candidates = [(96 + n, codec) for n, each in enumerate(formats) if (codec := fits(*each)) is not None]
    wide = [each for each in candidates if each[1].is_wideband]
    expected = (wide if prefers_wideband and wide else candidates)[:1]
    try:
        choice = pick_codec(media, OURS, prefers_wideband=prefers_wideband)
    except NoCommonCodecError:
        assert not expected
    else:
        assert [(choice.payload_type, choice.codec)] == expected


@given(
    st.lists(st.sampled_from(OURS), min_size=1, unique=True), st.lists(st.sampled_from(OURS), min_size=1, unique=True)
)
def test_both_sides_come_to_the_same_codec(caller: list[CodecOffer], callee: list[CodecOffer]) -> None:
    """An offer of ours answered by us: the same form, clock and number at both ends, or nothing in common."""
    offer = build_offer(LocalMedia("192.0.2.1", 4000, tuple(caller)), SdpSession("-", 1, 1, "192.0.2.1"))
    exchange = OfferAnswer(LocalMedia("192.0.2.2", 5000, tuple(callee)), SdpSession("-", 2, 1, "192.0.2.2"))
    try:
        negotiated = exchange.receive_offer(parse_sdp_untrusted(offer.to_bytes()))
    except NoCommonCodecError:
        assert not set(caller) & set(callee)
        return
    answered: SessionDescription = parse_sdp_untrusted(negotiated.answer.to_bytes())
    stream, other = apply_answer(offer, answered), negotiated.stream
    assert (stream.codec, stream.clock_rate, stream.payload_type) == (other.codec, other.clock_rate, other.payload_type)
    aligned = [each.get("octet-align", "0") for each in (stream.send_parameters, other.send_parameters)]
    assert aligned[0] == aligned[1]
    assert stream.receive_payload_type == other.payload_type
    assert stream.dtmf_payload_type == other.dtmf_payload_type


def test_own_codecs() -> None:
    assert {codec.name for codec in own_codecs(())} >= {"PCMA", "PCMU", "AMR", "AMR-WB"}
    assert "L16" not in {codec.name for codec in own_codecs(())}
    assert [codec.name for codec in own_codecs(("pcmu", "AMR-WB"))] == ["PCMU", "AMR-WB", "AMR-WB"]
    numbers = [codec.payload_type for codec in own_codecs(CODEC_NAMES)]
    assert len(set(numbers)) == len(numbers)
    assert missing_codecs(("PCMU",)) == {}
