"""SDES (RFC 4568): which lines are usable, what is answered and offered, when keys change, and where none is shown."""

from __future__ import annotations

import itertools
from base64 import b64encode

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ims_as.call.media_description import CallDescription, stream_config
from ims_as.oss.trace import TraceStore
from ims_as.sip.crypto_attribute import SUITES, SrtpMode, SrtpSupport, read_crypto_untrusted
from ims_as.sip.errors import SdpError
from ims_as.sip.key_mask import mask_keys
from ims_as.sip.sdp import MediaDescription, SessionDescription, parse_sdp_untrusted

CM, CM32, GCM = SUITES
KEY = b64encode(bytes(range(30))).decode()
KEY2 = b64encode(bytes(range(100, 130))).decode()
GCM_KEY = b64encode(bytes(range(28))).decode()


def support(mode: SrtpMode) -> SrtpSupport:
    """Keys that can be told apart."""
    numbers = itertools.count(1)
    return SrtpSupport(mode, lambda octets: bytes([next(numbers)] * octets))


def media(*values: str) -> MediaDescription:
    return MediaDescription("audio", 4000, "RTP/SAVP", ("0",), tuple(("a", f"crypto:{value}") for value in values))


def offer(*crypto: str, proto: str = "RTP/SAVP", port: int = 4000, version: int = 1, more: str = "") -> bytes:
    lines = ["v=0", f"o=ue 7 {version} IN IP4 192.0.2.1", "s=-", "c=IN IP4 192.0.2.1", "t=0 0"]
    lines += [f"m=audio {port} {proto} 0 101", "a=rtpmap:101 telephone-event/8000"]
    lines += [f"a=crypto:{value}" for value in crypto]
    return ("\r\n".join(lines) + "\r\n" + more).encode()


def described(mode: SrtpMode = SrtpMode.ACCEPT) -> CallDescription:
    description = CallDescription("192.0.2.30", 42, srtp=support(mode))
    description.bind("192.0.2.30", 20000)
    return description


def crypto_of(body: bytes) -> list[str]:
    return parse_sdp_untrusted(body).media[0].attribute_values("crypto")


class TestLines:
    @pytest.mark.parametrize(
        ("value", "suite", "key"),
        [
            (f"1 {CM} inline:{KEY}", CM, KEY),
            (f"999999999  {CM32}  INLINE:{KEY}|2^20", CM32, KEY),
            (f"0 {CM} inline:{KEY}|1048576 WSH=64 ", CM, KEY),
            (f"3 {CM} inline:{KEY}|2^48 -SOMETHING=1", CM, KEY),
            (f"4 {GCM} inline:{GCM_KEY}", GCM, GCM_KEY),
            (f"4 {GCM} inline:{GCM_KEY.rstrip('=')}|2^31", GCM, GCM_KEY),
        ],
    )
    def test_usable(self, value: str, suite: str, key: str) -> None:
        (line,) = read_crypto_untrusted(media(value))
        assert (line.tag, line.suite, line.key) == (value.split()[0], suite, key)

    @pytest.mark.parametrize(
        "value",
        [
            "",
            f"{CM} inline:{KEY}",
            f"x {CM} inline:{KEY}",
            f"01 {CM} inline:{KEY}",
            f"1000000000 {CM} inline:{KEY}",
            f"-1 {CM} inline:{KEY}",
            f"١ {CM} inline:{KEY}",
            f"1 AES_CM_256_HMAC_SHA1_80 inline:{KEY}",
            f"1 {CM.lower()} inline:{KEY}",
            f"1 F8_128_HMAC_SHA1_80 inline:{KEY}",
            f"1 {CM}",
            f"1 {CM} {KEY}",
            f"1 {CM} uri:{KEY}",
            f"1 {CM} inline:",
            f"1 {CM} inline:{KEY[:-1]}",
            f"1 {CM} inline:{KEY}AAAA",
            f"1 {CM} inline:{KEY[:-1]}=",
            f"1 {CM} inline:{KEY[:-1]}-",
            f"1 {CM} inline:{GCM_KEY}",
            f"1 {GCM} inline:{KEY}",
            f"1 {GCM} inline:{GCM_KEY[:37]}B==",  # bits of a 29th octet
            f"1 {CM} inline:{KEY}|1:4",
            f"1 {CM} inline:{KEY}|2^20|1:4",
            f"1 {CM} inline:{KEY}|2^20|1:4;inline:{KEY2}|2^20|2:4",
            f"1 {CM} inline:{KEY};inline:{KEY2}",
            f"1 {CM} inline:{KEY}|",
            f"1 {CM} inline:{KEY}|0",
            f"1 {CM} inline:{KEY}|2^49",
            f"1 {CM} inline:{KEY}|2^999999999999999",
            f"1 {CM} inline:{KEY}|281474976710657",
            f"1 {CM} inline:{KEY}|99999999999999999999",
            f"1 {CM} inline:{KEY} UNENCRYPTED_SRTP",
            f"1 {CM} inline:{KEY} UNENCRYPTED_SRTCP",
            f"1 {CM} inline:{KEY} UNAUTHENTICATED_SRTP",
            f"1 {CM} inline:{KEY} -UNENCRYPTED_SRTP",
            f"1 {CM} inline:{KEY} KDR=1",
            f"1 {CM} inline:{KEY} FEC_ORDER=FEC_SRTP",
            f"1 {CM} inline:{KEY} WSH=64 UNKNOWN",
        ],
    )
    def test_passed_over(self, value: str) -> None:
        assert read_crypto_untrusted(media(value)) == []

    def test_order_is_preference_and_a_tag_counts_once(self) -> None:
        lines = read_crypto_untrusted(
            media(f"2 {GCM} inline:{GCM_KEY}", f"1 {CM} inline:{KEY}", f"2 {CM} inline:{KEY}")
        )
        assert [(line.tag, line.suite) for line in lines] == [("2", GCM), ("1", CM)]

    def test_few_of_many_are_looked_at(self) -> None:
        assert len(read_crypto_untrusted(media(*(f"{n} {CM} inline:{KEY}" for n in range(500))))) == 32

    @given(st.text(max_size=200))
    def test_nothing_else_than_lines_comes_of_text(self, text: str) -> None:
        for line in read_crypto_untrusted(media(text)):
            assert line.suite in SUITES


class TestAnswer:
    def test_one_line_with_its_tag_and_a_key_of_ours(self) -> None:
        description = described()
        answer = description.answer_untrusted(offer(f"7 {CM32} inline:{KEY}", f"8 {CM} inline:{KEY2}"))
        assert parse_sdp_untrusted(answer).media[0].proto == "RTP/SAVP"
        config = stream_config(description.stream)  # type: ignore[arg-type]
        assert crypto_of(answer) == [f"7 {CM32} inline:{config.srtp_send_key}"]
        assert (config.srtp_suite, config.srtp_receive_key) == (CM32, KEY)
        assert config.srtp_send_key not in ("", KEY)

    def test_with_feedback_as_offered(self) -> None:
        answer = described().answer_untrusted(offer(f"1 {GCM} inline:{GCM_KEY}", proto="RTP/SAVPF"))
        assert parse_sdp_untrusted(answer).media[0].proto == "RTP/SAVPF"

    @pytest.mark.parametrize("crypto", [(), (f"1 {CM} inline:{KEY} UNENCRYPTED_SRTP",), ("garbage",)])
    def test_no_usable_key_is_no_usable_line(self, crypto: tuple[str, ...]) -> None:
        with pytest.raises(SdpError, match="crypto"):
            described().answer_untrusted(offer(*crypto))

    def test_the_next_audio_line_is_tried(self) -> None:
        answer = parse_sdp_untrusted(described().answer_untrusted(offer(more="m=audio 5000 RTP/AVP 0\r\n")))
        assert [(line.proto, bool(line.port)) for line in answer.media] == [("RTP/SAVP", False), ("RTP/AVP", True)]

    @pytest.mark.parametrize(
        ("mode", "proto", "expected"),
        [
            (SrtpMode.NEVER, "RTP/AVP", 0),
            (SrtpMode.NEVER, "RTP/SAVP", None),
            (SrtpMode.ACCEPT, "RTP/AVP", 0),
            (SrtpMode.ACCEPT, "RTP/SAVP", 1),
            (SrtpMode.OFFER, "RTP/AVP", 1),
            (SrtpMode.OFFER, "RTP/SAVP", 1),
            (SrtpMode.REQUIRE, "RTP/AVP", None),
            (SrtpMode.REQUIRE, "RTP/SAVP", 1),
        ],
    )
    def test_modes(self, mode: SrtpMode, proto: str, expected: int | None) -> None:
        body = offer(f"1 {CM} inline:{KEY}", proto=proto)
        if expected is None:
            with pytest.raises(SdpError):
                described(mode).preview_untrusted(body)
            return
        answer = described(mode).answer_untrusted(body)
        assert len(crypto_of(answer)) == expected
        assert parse_sdp_untrusted(answer).media[0].proto == proto

    @pytest.mark.parametrize("mode", [SrtpMode.ACCEPT, SrtpMode.OFFER])
    def test_plain_offers_stay_plain(self, mode: SrtpMode) -> None:
        description = described(mode)
        answer = description.answer_untrusted(offer(proto="RTP/AVP"))
        assert crypto_of(answer) == []
        assert stream_config(description.stream).srtp_suite is None  # type: ignore[arg-type]


class TestKeysInForce:
    def test_a_refresh_keeps_them_and_the_version(self) -> None:
        description = described()
        first = description.answer_untrusted(offer(f"1 {CM} inline:{KEY}"))
        again = description.answer_untrusted(offer(f"1 {CM} inline:{KEY}", version=2))
        assert again == first
        moved = description.answer_untrusted(offer(f"1 {GCM} inline:{GCM_KEY}", f"5 {CM} inline:{KEY}", port=5000))
        assert crypto_of(moved) == [crypto_of(first)[0].replace("1 ", "5 ", 1)]

    def test_a_new_key_of_the_peer_changes_both(self) -> None:
        description = described()
        first = crypto_of(description.answer_untrusted(offer(f"1 {CM} inline:{KEY}")))
        second = crypto_of(description.answer_untrusted(offer(f"1 {CM} inline:{KEY2}")))
        assert first != second
        description.withdraw_answer()
        assert crypto_of(description.offer()) == first

    def test_our_reoffer_has_the_line_in_force_only(self) -> None:
        description = described()
        answer = description.answer_untrusted(offer(f"3 {CM} inline:{KEY}"))
        ours = description.offer()
        assert crypto_of(ours) == crypto_of(answer)
        assert parse_sdp_untrusted(ours).media[0].proto == "RTP/SAVP"
        stream = description.take_answer_untrusted(offer(f"3 {CM} inline:{KEY}"))
        assert stream_config(stream).srtp_receive_key == KEY

    def test_a_refresh_of_ours_that_brings_a_new_key(self) -> None:
        description = described()
        description.answer_untrusted(offer(f"3 {CM} inline:{KEY}"))
        before = stream_config(description.stream).srtp_send_key  # type: ignore[arg-type]
        config = stream_config(description.reread_untrusted(offer(f"3 {CM} inline:{KEY2}")))
        assert (config.srtp_send_key, config.srtp_receive_key) == (before, KEY2)

    def test_after_another_party_keys_are_new(self) -> None:
        description = described()
        first = crypto_of(description.answer_untrusted(offer(f"1 {CM} inline:{KEY}")))
        description.relay_untrusted(offer(proto="RTP/AVP"))
        again = description.offer()
        assert parse_sdp_untrusted(again).media[0].proto == "RTP/SAVP"
        assert first[0].split("inline:")[1] not in again.decode()
        assert len(crypto_of(again)) == 2

    def test_what_was_relayed_in_vain_changes_nothing(self) -> None:
        description = described()
        first = crypto_of(description.answer_untrusted(offer(f"1 {CM} inline:{KEY}")))
        description.relay_untrusted(offer(proto="RTP/AVP"))
        description.forget_relayed()
        assert crypto_of(description.offer()) == first


class TestOffer:
    @pytest.mark.parametrize(
        ("mode", "proto", "lines"),
        [
            (SrtpMode.NEVER, "RTP/AVP", 0),
            (SrtpMode.ACCEPT, "RTP/AVP", 0),
            (SrtpMode.OFFER, "RTP/AVP", 2),
            (SrtpMode.REQUIRE, "RTP/SAVP", 2),
        ],
    )
    def test_modes(self, mode: SrtpMode, proto: str, lines: int) -> None:
        ours = described(mode).offer()
        assert parse_sdp_untrusted(ours).media[0].proto == proto
        keys = [value.split("inline:")[1] for value in crypto_of(ours)]
        assert len(set(keys)) == lines

    def test_the_answer_takes_one(self) -> None:
        description = described(SrtpMode.REQUIRE)
        ours = crypto_of(description.offer())
        config = stream_config(description.take_answer_untrusted(offer(f"2 {GCM} inline:{GCM_KEY}")))
        assert (config.srtp_suite, config.srtp_receive_key) == (GCM, GCM_KEY)
        assert ours[1] == f"2 {GCM} inline:{config.srtp_send_key}"

    def test_an_opportunistic_offer_may_come_to_nothing(self) -> None:
        description = described(SrtpMode.OFFER)
        description.offer()
        assert stream_config(description.take_answer_untrusted(offer(proto="RTP/AVP"))).srtp_suite is None
        assert crypto_of(description.offer()) == []

    @pytest.mark.parametrize(
        "crypto",
        [
            (),
            (f"3 {CM} inline:{KEY}",),
            (f"1 {GCM} inline:{GCM_KEY}",),
            (f"1 {CM32} inline:{KEY}",),
            (f"1 {CM} inline:{KEY}", f"2 {GCM} inline:{GCM_KEY}"),
            (f"1 {CM} inline:{KEY} UNENCRYPTED_SRTP",),
            (f"1 {CM} inline:{b64encode(bytes([1] * 30)).decode()}",),  # ours
        ],
    )
    def test_answers_that_take_none_of_it(self, crypto: tuple[str, ...]) -> None:
        description = described(SrtpMode.REQUIRE)
        description.offer()
        with pytest.raises(SdpError, match="crypto"):
            description.take_answer_untrusted(offer(*crypto))

    def test_a_secure_offer_is_not_answered_in_the_clear(self) -> None:
        description = described(SrtpMode.REQUIRE)
        description.offer()
        with pytest.raises(SdpError):
            description.take_answer_untrusted(offer(proto="RTP/AVP"))


class TestNoKeyIsShown:
    def test_in_reprs(self) -> None:
        description = described()
        body = description.answer_untrusted(offer(f"1 {CM} inline:{KEY}|2^20"))
        assert description.stream is not None
        shown = repr(
            [
                parse_sdp_untrusted(body),
                parse_sdp_untrusted(offer(f"1 {CM} inline:{KEY}")),
                description.stream,
                stream_config(description.stream),
                read_crypto_untrusted(media(f"1 {CM} inline:{KEY}")),
                SessionDescription((("a", f"crypto:1 {CM} inline:{KEY}"), ("k", f"base64:{KEY}"))),
            ]
        )
        ours = stream_config(description.stream).srtp_send_key
        assert KEY not in shown
        assert ours not in shown
        assert CM in shown

    def test_in_traces(self) -> None:
        body = offer(f"1 {CM} inline:{KEY}|2^20|1:4;inline:{KEY2}", more=f"k=clear:{KEY}\r\na=key-mgmt:mikey {KEY}\r\n")
        trace = TraceStore(lambda: 0.0).start("c")
        trace.add_message("in", "caller", b"INVITE sip:a SIP/2.0\r\n\r\n" + body)
        (event,) = trace.events()
        assert KEY not in event.text
        assert KEY2 not in event.text
        assert f"a=crypto:1 {CM} inline:***|2^20|1:4;inline:***\n" in event.text
        assert "k=clear:***\na=key-mgmt:mikey ***" in event.text

    @given(st.text())
    def test_other_text_stays(self, text: str) -> None:
        if "inline:" not in text.lower() and "=" not in text:
            assert mask_keys(text) == text

    @pytest.mark.parametrize("word", ["inline", "Inline", "INLINE", "inLine"])
    def test_however_it_is_written(self, word: str) -> None:
        assert KEY not in mask_keys(f"a=crypto:1 {CM} {word}:{KEY}")

    def test_equal_streams_are_equal_with_their_keys(self) -> None:
        description = described()
        description.answer_untrusted(offer(f"1 {CM} inline:{KEY}"))
        one = description.stream
        assert one is not None
        assert one.crypto is not None
        other = attrs.evolve(one, crypto=attrs.evolve(one.crypto, receive_key=KEY2))
        assert one != other
