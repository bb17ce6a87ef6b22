"""Offer/answer: choice of line and codec, hold, DTMF, versions."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ims_as.sip.errors import LocalProtocolError, NoCommonCodecError, SdpError
from ims_as.sip.offer_answer import (
    AudioStream,
    CodecOffer,
    LocalMedia,
    OfferAnswer,
    OfferAnswerState,
    SdpSession,
    apply_answer,
    build_offer,
    negotiate_answer,
)
from ims_as.sip.sdp import Direction, SessionDescription, parse_sdp_untrusted

LOCAL = LocalMedia("127.0.0.30", 20000)
WIDE = CodecOffer("L16", 16000, 96, None)


def session(address: str = "127.0.0.30") -> SdpSession:
    return SdpSession("-", 7, 1, address)


def offer(*lines: str, connection: str | None = "IN IP4 127.0.0.41", top: tuple[str, ...] = ()) -> SessionDescription:
    head = ["v=0", "o=alice 1 1 IN IP4 127.0.0.41", "s=-", *([f"c={connection}"] if connection else []), "t=3 4", *top]
    return parse_sdp_untrusted("\r\n".join([*head, *lines, ""]).encode())


def answer_text(*lines: str, local: LocalMedia = LOCAL, **options: str) -> list[str]:
    answer = negotiate_answer(offer(*lines, **options), local, session=session(local.address)).answer
    return answer.to_bytes().decode().splitlines()


def stream_of(*lines: str, local: LocalMedia = LOCAL, **options: str) -> AudioStream:
    return negotiate_answer(offer(*lines, **options), local, session=session(local.address)).stream


class TestAnswer:
    def test_whole(self):
        lines = answer_text(
            "m=audio 40000 RTP/AVP 96 8 0 100 101",
            "a=rtpmap:96 AMR-WB/16000",
            "a=rtpmap:100 telephone-event/16000",
            "a=rtpmap:101 telephone-event/8000",
            "a=fmtp:101 0-15",
            "a=ptime:20",
        )
        assert lines == [
            "v=0",
            "o=- 7 1 IN IP4 127.0.0.30",
            "s=-",
            "c=IN IP4 127.0.0.30",
            "t=3 4",
            "m=audio 20000 RTP/AVP 8 101",
            "a=rtpmap:8 PCMA/8000",
            "a=rtpmap:101 telephone-event/8000",
            "a=fmtp:101 0-15",
            "a=ptime:20",
            "a=sendrecv",
        ]

    def test_stream(self):
        stream = stream_of("m=audio 40000 RTP/AVP 8 101", "a=rtpmap:101 telephone-event/8000")
        assert stream == AudioStream("PCMA", 8, 8000, "127.0.0.41", 40000, Direction.SENDRECV, 101, 20, 8, 101)

    def test_comfort_noise_is_taken_beside_g711(self):
        lines = answer_text("m=audio 40000 RTP/AVP 13 0 101", "a=rtpmap:101 telephone-event/8000")
        assert "m=audio 20000 RTP/AVP 0 13 101" in lines
        assert "a=rtpmap:13 CN/8000" in lines

    def test_comfort_noise_is_left_where_it_is_something_else(self):
        for offered in (("m=audio 1 RTP/AVP 0 13", "a=rtpmap:13 GSM/8000"), ("m=audio 1 RTP/AVP 0",)):
            assert "m=audio 20000 RTP/AVP 0" in answer_text(*offered)
        wide = LocalMedia("127.0.0.30", 20000, codecs=(WIDE,))
        lines = answer_text("m=audio 1 RTP/AVP 96 13", "a=rtpmap:96 L16/16000", local=wide)
        assert "m=audio 20000 RTP/AVP 96" in lines

    def test_offerer_s_order_decides(self):
        assert stream_of("m=audio 1 RTP/AVP 0 8").codec == "PCMU"
        assert stream_of("m=audio 1 RTP/AVP 8 0").codec == "PCMA"

    def test_dynamic_number_for_a_static_codec(self):
        stream = stream_of("m=audio 1 RTP/AVP 118 8", "a=rtpmap:118 pcmu/8000/1")
        assert (stream.codec, stream.payload_type) == ("PCMU", 118)
        assert "a=rtpmap:118 PCMU/8000" in answer_text("m=audio 1 RTP/AVP 118", "a=rtpmap:118 PCMU/8000")

    def test_rtpmap_beats_the_static_table(self):
        assert stream_of("m=audio 1 RTP/AVP 0 8", "a=rtpmap:0 EVRC/8000").codec == "PCMA"

    def test_other_clock_or_channels_is_another_codec(self):
        assert (
            stream_of("m=audio 1 RTP/AVP 97 98 8", "a=rtpmap:97 PCMU/16000", "a=rtpmap:98 PCMU/8000/2").codec == "PCMA"
        )

    def test_codec_of_ours_with_parameters(self):
        local = LocalMedia("127.0.0.30", 2, (CodecOffer("AMR-WB", 16000, 96, "octet-align=1"),))
        lines = answer_text(
            "m=audio 1 RTP/AVP 103 104 105",
            "a=rtpmap:103 AMR-WB/16000",
            "a=rtpmap:104 AMR-WB/16000",
            "a=fmtp:104 octet-align=1; mode-set=0,1,2",
            "a=rtpmap:105 telephone-event/16000",
            local=local,
        )
        assert lines[5:9] == [
            "m=audio 2 RTP/AVP 104 105",
            "a=rtpmap:104 AMR-WB/16000",
            "a=fmtp:104 octet-align=1; mode-set=0,1,2; mode-change-capability=2; max-red=0",
            "a=rtpmap:105 telephone-event/16000",
        ]

    def test_dtmf_needs_the_codec_s_clock_and_our_wish(self):
        lines = ("m=audio 1 RTP/AVP 8 100", "a=rtpmap:100 telephone-event/16000")
        assert stream_of(*lines).dtmf_payload_type is None
        lines = ("m=audio 1 RTP/AVP 8 100", "a=rtpmap:100 telephone-event/8000")
        assert stream_of(*lines).dtmf_payload_type == 100
        silent = LocalMedia("127.0.0.30", 2, dtmf=False)
        assert stream_of(*lines, local=silent).dtmf_payload_type is None

    def test_order_and_number_of_lines_are_kept(self):
        lines = answer_text(
            "m=video 5 RTP/AVP 99",
            "m=audio 0 RTP/AVP 8",
            "m=audio 6 RTP/SAVP 8",
            "m=audio 7 RTP/AVPF 0",
            "m=audio 8 RTP/AVP 8",
            "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
        )
        assert [line for line in lines if line.startswith("m=")] == [
            "m=video 0 RTP/AVP 99",
            "m=audio 0 RTP/AVP 8",
            "m=audio 0 RTP/SAVP 8",
            "m=audio 20000 RTP/AVPF 0",
            "m=audio 0 RTP/AVP 8",
            "m=application 0 UDP/DTLS/SCTP webrtc-datachannel",
        ]

    def test_a_line_without_our_codec_is_passed_over(self):
        assert stream_of("m=audio 5 RTP/AVP 18", "m=audio 6 RTP/AVP 8").remote_port == 6

    def test_address_of_the_line_beats_that_of_the_session(self):
        assert stream_of("m=audio 1 RTP/AVP 8", "c=IN IP4 127.0.0.99").remote_host == "127.0.0.99"

    def test_ipv6(self):
        local = LocalMedia("::1", 20000)
        lines = answer_text("m=audio 1 RTP/AVP 8", connection="IN IP6 ::2", local=local)
        assert lines[1] == "o=- 7 1 IN IP6 ::1"
        assert lines[3] == "c=IN IP6 ::1"
        assert stream_of("m=audio 1 RTP/AVP 8", connection="IN IP6 ::2", local=local).remote_host == "::2"

    @pytest.mark.parametrize(
        ("lines", "ptime_ms"),
        [
            ((), 20),
            (("a=ptime:30",), 30),
            (("a=ptime:200",), 60),
            (("a=ptime:40",), 40),
            (("a=ptime:1",), 10),
            (("a=ptime:25",), 20),
            (("a=ptime:40", "a=maxptime:30"), 30),
            (("a=maxptime:15",), 10),
            (("a=maxptime:1",), 10),
            (("a=maxptime:240",), 20),
        ],
    )
    def test_packet_time_of_the_peer(self, lines, ptime_ms):
        assert stream_of("m=audio 1 RTP/AVP 8", *lines).ptime_ms == ptime_ms

    def test_no_codec(self):
        with pytest.raises(NoCommonCodecError):
            negotiate_answer(offer("m=audio 1 RTP/AVP 18 96", "m=audio 1 RTP/SAVP 8"), LOCAL, session=session())

    @pytest.mark.parametrize(
        ("lines", "connection"),
        [
            ((), "IN IP4 127.0.0.1"),
            (("m=video 1 RTP/AVP 8",), "IN IP4 127.0.0.1"),
            (("m=audio 0 RTP/AVP 8",), "IN IP4 127.0.0.1"),
            (("m=audio 1 RTP/SAVP 8",), "IN IP4 127.0.0.1"),
            (("m=audio 1 RTP/AVP 8",), None),
            (("m=audio 1 RTP/AVP 8",), "IN IP4 host.example.com"),
            (("m=audio 1 RTP/AVP 8",), "IN IP6 ::2"),
        ],
    )
    def test_no_usable_line(self, lines, connection):
        with pytest.raises(SdpError) as caught:
            negotiate_answer(offer(*lines, connection=connection), LOCAL, session=session())
        assert not isinstance(caught.value, NoCommonCodecError)

    def test_missing_codec_is_the_reason_that_counts(self):
        with pytest.raises(NoCommonCodecError):
            negotiate_answer(
                offer("m=audio 1 RTP/AVP 18", "c=IN IP4 127.0.0.1", "m=audio 1 RTP/AVP 8", connection=None),
                LOCAL,
                session=session(),
            )

    def test_timing_is_there_even_if_the_offer_has_none(self):
        description = parse_sdp_untrusted(b"v=0\no=- 1 1 IN IP4 h\nc=IN IP4 127.0.0.1\nm=audio 1 RTP/AVP 8\n")
        assert negotiate_answer(description, LOCAL, session=session()).answer.timing == ("0 0",)


class TestHold:
    @pytest.mark.parametrize(
        ("theirs", "ours"),
        [("sendrecv", "sendrecv"), ("sendonly", "recvonly"), ("recvonly", "sendonly"), ("inactive", "inactive")],
    )
    def test_directions(self, theirs, ours):
        lines = ("m=audio 1 RTP/AVP 8", f"a={theirs}")
        assert answer_text(*lines)[-1] == f"a={ours}"
        assert stream_of(*lines).direction == ours

    def test_session_level(self):
        stream = negotiate_answer(offer("m=audio 1 RTP/AVP 8", top=("a=sendonly",)), LOCAL, session=session()).stream
        assert stream.direction is Direction.RECVONLY

    @pytest.mark.parametrize("connection", ["IN IP4 0.0.0.0", "IN IP6 ::", "IN IP4 x.invalid"])
    def test_old_hold(self, connection):
        stream = stream_of("m=audio 1 RTP/AVP 8", connection=connection)
        assert stream.direction is Direction.RECVONLY
        assert stream_of("m=audio 1 RTP/AVP 8", "a=recvonly", connection=connection).direction is Direction.INACTIVE

    def test_what_we_do_not_want_is_not_agreed(self):
        held = LocalMedia("127.0.0.30", 2, direction=Direction.SENDONLY)
        assert stream_of("m=audio 1 RTP/AVP 8", local=held).direction is Direction.SENDONLY
        assert stream_of("m=audio 1 RTP/AVP 8", "a=sendonly", local=held).direction is Direction.INACTIVE


class TestVersions:
    def test_only_a_change_counts(self):
        ours = session()
        first = negotiate_answer(offer("m=audio 1 RTP/AVP 8"), LOCAL, session=ours).answer
        again = negotiate_answer(offer("m=audio 2 RTP/AVP 8"), LOCAL, session=ours).answer
        assert first == again
        assert first.origin.version == "1"
        held = negotiate_answer(offer("m=audio 1 RTP/AVP 8", "a=sendonly"), LOCAL, session=ours).answer
        assert held.origin.version == "2"
        back = negotiate_answer(offer("m=audio 1 RTP/AVP 8"), LOCAL, session=ours).answer
        assert back.origin.version == "3"
        assert back.origin.session_id == first.origin.session_id

    def test_offers_too(self):
        ours = session()
        assert [build_offer(LOCAL, ours).origin.version for _ in range(2)] == ["1", "1"]
        assert build_offer(LocalMedia("127.0.0.30", 20002), ours).origin.version == "2"


class TestOffer:
    def test_whole(self):
        assert build_offer(LOCAL, session()).to_bytes().decode().splitlines() == [
            "v=0",
            "o=- 7 1 IN IP4 127.0.0.30",
            "s=-",
            "c=IN IP4 127.0.0.30",
            "t=0 0",
            "m=audio 20000 RTP/AVP 8 0 101",
            "a=rtpmap:8 PCMA/8000",
            "a=rtpmap:0 PCMU/8000",
            "a=rtpmap:101 telephone-event/8000",
            "a=fmtp:101 0-15",
            "a=rtcp:20001",
            "a=rtcp-mux",
            "a=ptime:20",
            "a=sendrecv",
        ]

    def test_one_telephone_event_per_clock_beside_taken_numbers(self):
        codecs = (CodecOffer("L16", 16000, 101), CodecOffer("PCMA", 8000, 8))
        media = build_offer(LocalMedia("127.0.0.30", 2, codecs), session()).media[0]
        assert media.formats == ("101", "8", "102", "103")
        assert media.rtpmaps[102].clock_rate == 16000

    @pytest.mark.parametrize("codecs", [(), (WIDE, WIDE), (CodecOffer("X", 8000, 128),)])
    def test_impossible(self, codecs):
        with pytest.raises(LocalProtocolError):
            build_offer(LocalMedia("127.0.0.30", 2, codecs, dtmf=False), session())


class TestApplyAnswer:
    def test_stream(self):
        ours = build_offer(LOCAL, session())
        stream = apply_answer(
            ours, offer("m=audio 9 RTP/AVP 0 97", "a=rtpmap:97 telephone-event/8000", "a=ptime:30", "a=recvonly")
        )
        assert stream == AudioStream("PCMU", 0, 8000, "127.0.0.41", 9, Direction.SENDONLY, 97, 30, 0, 101)

    def test_own_number_in_the_answer(self):
        ours = build_offer(LocalMedia("127.0.0.30", 2, (WIDE,), dtmf=False), session())
        stream = apply_answer(ours, offer("m=audio 9 RTP/AVP 111", "a=rtpmap:111 L16/16000"))
        assert (stream.payload_type, stream.receive_payload_type, stream.dtmf_payload_type) == (111, 96, None)

    def test_dtmf_that_was_not_offered_is_not_used(self):
        ours = build_offer(LocalMedia("127.0.0.30", 2, dtmf=False), session())
        stream = apply_answer(ours, offer("m=audio 9 RTP/AVP 8 97", "a=rtpmap:97 telephone-event/8000"))
        assert (stream.dtmf_payload_type, stream.receive_dtmf_payload_type) == (None, None)

    def test_hold_in_the_answer(self):
        stream = apply_answer(build_offer(LOCAL, session()), offer("m=audio 9 RTP/AVP 8", connection="IN IP4 0.0.0.0"))
        assert stream.direction is Direction.RECVONLY

    def test_our_own_hold_stays(self):
        ours = build_offer(LocalMedia("127.0.0.30", 2, direction=Direction.SENDONLY), session())
        assert apply_answer(ours, offer("m=audio 9 RTP/AVP 8")).direction is Direction.SENDONLY

    @pytest.mark.parametrize(
        ("lines", "kind"),
        [
            (("m=audio 9 RTP/AVP 18",), NoCommonCodecError),
            (("m=audio 9 RTP/AVP 101", "a=rtpmap:101 telephone-event/8000"), NoCommonCodecError),
            (("m=audio 0 RTP/AVP 8",), SdpError),
            (("m=audio 9 RTP/SAVP 8",), SdpError),
            (("m=video 9 RTP/AVP 8",), SdpError),
            ((), SdpError),
            (("m=audio 9 RTP/AVP 8", "m=video 0 RTP/AVP 8"), SdpError),
            (("m=audio 9 RTP/AVP 8", "c=IN IP6 ::2"), SdpError),
        ],
    )
    def test_refused(self, lines, kind):
        with pytest.raises(SdpError) as caught:
            apply_answer(build_offer(LOCAL, session()), offer(*lines))
        assert type(caught.value) is kind

    def test_offer_without_audio_is_our_mistake(self):
        with pytest.raises(LocalProtocolError):
            apply_answer(offer("m=video 1 RTP/AVP 8"), offer("m=video 1 RTP/AVP 8"))


class TestState:
    def test_exchange_in_both_directions(self):
        exchange = OfferAnswer(LOCAL, session())
        agreed = exchange.receive_offer(offer("m=audio 1 RTP/AVP 8"))
        assert exchange.stream is agreed.stream
        moved = LocalMedia("127.0.0.30", 20002)
        ours = exchange.send_offer(local=moved)
        assert exchange.state is OfferAnswerState.LOCAL_OFFER
        assert ours.media[0].port == 20002
        assert exchange.receive_answer(offer("m=audio 5 RTP/AVP 0")).codec == "PCMU"
        assert exchange.state is OfferAnswerState.STABLE
        assert exchange.local is moved

    def test_glare(self):
        exchange = OfferAnswer(LOCAL, session())
        exchange.send_offer()
        with pytest.raises(LocalProtocolError):
            exchange.send_offer()
        with pytest.raises(LocalProtocolError):
            exchange.receive_offer(offer("m=audio 1 RTP/AVP 8"))
        assert exchange.abandon_offer() is not None
        exchange.receive_offer(offer("m=audio 1 RTP/AVP 8"))

    def test_failure_changes_nothing(self):
        exchange = OfferAnswer(LOCAL, session())
        before = exchange.receive_offer(offer("m=audio 1 RTP/AVP 8")).stream
        with pytest.raises(NoCommonCodecError):
            exchange.receive_offer(offer("m=audio 1 RTP/AVP 18"), local=LocalMedia("127.0.0.30", 2))
        exchange.send_offer()
        with pytest.raises(SdpError):
            exchange.receive_answer(offer("m=audio 0 RTP/AVP 8"))
        assert (exchange.stream, exchange.local, exchange.state) == (before, LOCAL, OfferAnswerState.STABLE)
        with pytest.raises(LocalProtocolError):
            exchange.receive_answer(offer("m=audio 1 RTP/AVP 8"))


media_lines = st.builds(
    lambda kind, port, proto, numbers, direction, maps: (
        f"m={kind} {port} {proto} {' '.join(map(str, numbers))}",
        *(f"a=rtpmap:{number} {name}" for number, name in maps),
        *([f"a={direction}"] if direction else []),
    ),
    st.sampled_from(["audio", "audio", "video"]),
    st.sampled_from([0, 9, 40000]),
    st.sampled_from(["RTP/AVP", "RTP/AVP", "RTP/AVPF", "RTP/SAVP"]),
    st.lists(st.integers(0, 127), min_size=1, max_size=5, unique=True),
    st.sampled_from(["", "sendrecv", "sendonly", "recvonly", "inactive"]),
    st.lists(
        st.tuples(
            st.integers(0, 127),
            st.sampled_from(["PCMU/8000", "pcma/8000", "PCMA/16000", "telephone-event/8000", "AMR/8000"]),
        ),
        max_size=4,
    ),
)


@settings(deadline=None, max_examples=300)
@given(st.lists(media_lines, min_size=1, max_size=4), st.sampled_from(["IN IP4 127.0.0.41", "IN IP4 0.0.0.0"]))
def test_every_answer_fits_its_offer(lines, connection):
    theirs = offer(*(line for group in lines for line in group), connection=connection)
    try:
        negotiated = negotiate_answer(theirs, LOCAL, session=session())
    except SdpError:
        return
    answer = parse_sdp_untrusted(negotiated.answer.to_bytes())
    assert answer == negotiated.answer
    assert len(answer.media) == len(theirs.media)
    accepted = [(o, a) for o, a in zip(theirs.media, answer.media, strict=True) if a.port]
    assert len(accepted) == 1
    for offered, answered in zip(theirs.media, answer.media, strict=True):
        assert (answered.media, answered.proto) == (offered.media, offered.proto)
        assert set(answered.formats) <= set(offered.formats)
        assert not (answered.port and not offered.port)
    offered, answered = accepted[0]
    ours, peer = answer.direction_of(answered), theirs.direction_of(offered)
    assert not (ours.sends and not peer.receives)
    assert not (ours.receives and not peer.sends)
    stream = negotiated.stream
    assert stream.direction is ours
    assert stream.codec in ("PCMU", "PCMA")
    assert dict(offered.payloads())[stream.payload_type].name.upper() == stream.codec


@settings(deadline=None)
@given(st.permutations([8, 0]), st.booleans(), st.sampled_from(list(Direction)), st.sampled_from(list(Direction)))
def test_two_of_us_agree(order, dtmf, ours, theirs):
    codecs = tuple(CodecOffer("PCMA" if number == 8 else "PCMU", 8000, number) for number in order)
    caller = LocalMedia("127.0.0.41", 4000, codecs, direction=ours)
    callee = LocalMedia("127.0.0.30", 2000, dtmf=dtmf, direction=theirs)
    sent = build_offer(caller, session("127.0.0.41"))
    negotiated = negotiate_answer(parse_sdp_untrusted(sent.to_bytes()), callee, session=session())
    got = apply_answer(sent, parse_sdp_untrusted(negotiated.answer.to_bytes()))
    assert got.codec == negotiated.stream.codec == codecs[0].name
    assert got.direction is negotiated.stream.direction.reversed
    assert (got.dtmf_payload_type, negotiated.stream.dtmf_payload_type) == ((101, 101) if dtmf else (None, None))
    assert (got.remote_port, negotiated.stream.remote_port) == (2000, 4000)


class TestLaterOffers:
    """RFC 3264 §8: lines stay where they are, numbers keep their meaning."""

    def exchange(self, *lines: str) -> OfferAnswer:
        exchange = OfferAnswer(LOCAL, session())
        exchange.receive_offer(offer(*lines))
        return exchange

    def test_lines_stay_and_ours_has_all_codecs(self):
        exchange = self.exchange("m=video 1 RTP/AVP 99", "m=audio 1 RTP/AVPF 0", "m=audio 2 RTP/AVP 8")
        mine = exchange.send_offer()
        assert [(line.media, bool(line.port), line.proto) for line in mine.media] == [
            ("video", False, "RTP/AVP"),
            ("audio", True, "RTP/AVPF"),
            ("audio", False, "RTP/AVP"),
        ]
        assert mine.media[1].formats == ("8", "0", "101")
        assert mine.origin.version == "2"

    def test_numbers_keep_their_meaning(self):
        exchange = self.exchange(
            "m=audio 1 RTP/AVP 118 0 101 102 8",
            "a=rtpmap:118 PCMA/8000",
            "a=rtpmap:101 AMR/8000",
            "a=rtpmap:102 telephone-event/16000",
            "a=rtpmap:8 L16/8000",
        )
        assert exchange.send_offer().media[0].formats == ("118", "0", "103")

    def test_no_number_left(self):
        lines = [f"a=rtpmap:{number} X{number}/8000" for number in range(128)]
        exchange = OfferAnswer(LOCAL, session())
        formats = " ".join(str(number) for number in range(128) if number != 0)
        exchange.receive_offer(offer(f"m=audio 1 RTP/AVP {formats} 0", *lines[1:]))
        with pytest.raises(LocalProtocolError):
            exchange.send_offer()
        assert exchange.state is OfferAnswerState.STABLE

    def test_the_answer_is_read_at_its_line(self):
        exchange = self.exchange("m=video 1 RTP/AVP 99", "m=audio 1 RTP/AVP 0")
        exchange.send_offer()
        stream = exchange.receive_answer(offer("m=video 0 RTP/AVP 99", "m=audio 7 RTP/AVP 8"))
        assert (stream.codec, stream.remote_port) == ("PCMA", 7)

    def test_an_offer_that_was_not_sent_is_forgotten(self):
        exchange = self.exchange("m=audio 1 RTP/AVP 0")
        before = exchange.stream
        exchange.send_offer()
        exchange.withdraw_offer()
        assert (exchange.stream, exchange.session.version, exchange.state) == (before, 1, OfferAnswerState.STABLE)
        assert exchange.send_offer().origin.version == "2"

    def test_an_answer_that_was_not_sent_is_forgotten(self):
        exchange = self.exchange("m=audio 1 RTP/AVP 0")
        before = exchange.stream
        exchange.receive_offer(offer("m=audio 3 RTP/AVP 8", "m=video 1 RTP/AVP 99"))
        exchange.withdraw_answer()
        assert (exchange.stream, exchange.session.version) == (before, 1)
        assert len(exchange.send_offer().media) == 1
