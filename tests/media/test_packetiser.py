"""Packets of 10 to 60 ms: every codec, from an engine through the wire's form to an engine."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.codecs.registry import find_codec
from media.packetiser import Packetiser, packet_ms
from media.rtp import RtpPacket, build_rtp
from media.table import FRAME_TICKS, TICK_MS
from tests.media.codecs.speech import likeness, speech
from tests.media.plane_support import Stage
from tests.media.support import from_ulaw, sine

EVERY_10_MS = (10, 20, 30, 40, 50, 60)
CODECS: dict[str, tuple[dict[str, Any], tuple[int, ...], float]] = {
    "PCMU": ({}, EVERY_10_MS, 0.97),
    "L16": ({"codec": "L16", "clock_rate": 16000, "payload_type": 97}, (10, 20, 30, 40), 0.99),
    "G722": ({"codec": "G722", "payload_type": 9}, EVERY_10_MS, 0.97),
    "G729": ({"codec": "G729", "payload_type": 18}, EVERY_10_MS, 0.8),
    "AMR": ({"codec": "AMR", "payload_type": 97}, (20, 40, 60), 0.85),
    "AMR octet-aligned": (
        {
            "codec": "AMR",
            "payload_type": 97,
            "send_parameters": {"octet-align": "1"},
            "receive_parameters": {"octet-align": "1"},
        },
        (20, 40, 60),
        0.85,
    ),
    "AMR-WB": ({"codec": "AMR-WB", "clock_rate": 16000, "payload_type": 98}, (20, 40, 60), 0.85),
    "AMR-WB octet-aligned": (
        {
            "codec": "AMR-WB",
            "clock_rate": 16000,
            "payload_type": 98,
            "send_parameters": {"octet-align": "1"},
            "receive_parameters": {"octet-align": "1"},
        },
        (20, 40, 60),
        0.85,
    ),
    "opus": ({"codec": "opus", "clock_rate": 48000, "payload_type": 106}, (10, 20, 40, 60), 0.85),
}


def sent_by(config: dict[str, Any], ptime_ms: int, seconds: float) -> list[tuple[int, RtpPacket]]:
    """What a leg sends of recorded speech that its engine says in one go."""
    stage = Stage(**config, ptime_ms=ptime_ms)
    stage.downlink.start(0, 0)
    stage.say(speech(16000, seconds))
    stage.advance(round(seconds * 1000) // TICK_MS)
    return [(tick, packet) for tick, _, packet in stage.sent]


@pytest.mark.parametrize("wished_ms", [10, 15, 20, 30, 40, 50, 60])
@pytest.mark.parametrize("name", CODECS)
def test_every_packet_time_of_every_codec(name: str, wished_ms: int) -> None:
    config, possible, like = CODECS[name]
    ptime_ms = packet_ms(possible, wished_ms)
    per_ms = config.get("clock_rate", 8000) // 1000
    packets = sent_by(config, wished_ms, 3.0)
    # DTX leaves some out, and the last one may be incomplete
    assert len(packets) <= 3000 // ptime_ms
    assert len(packets) >= (2400 if name.startswith("AMR") else 2900) // ptime_ms
    steps = set()
    for (tick, packet), (next_tick, following) in pairwise(packets):
        assert (following.sequence - packet.sequence) & 0xFFFF == 1
        step = (following.timestamp - packet.timestamp) & 0xFFFFFFFF
        steps.add(step)
        # evenly, and no drift: what has passed on the wire's clock has passed on ours
        elapsed = ((following.timestamp - packets[0][1].timestamp) & 0xFFFFFFFF) / per_ms
        assert abs((next_tick - packets[0][0]) * TICK_MS - elapsed) <= 15
        assert next_tick > tick
    assert min(steps) == ptime_ms * per_ms
    assert [packet.marker for _, packet in packets[:3]] == [True, False, False]
    # heard by a leg of ours
    hearer = Stage(**config)
    for tick, packet in packets:
        hearer.advance(tick - hearer.tick)
        hearer.receive(
            build_rtp(
                payload_type=packet.payload_type,
                marker=packet.marker,
                sequence=packet.sequence,
                timestamp=packet.timestamp,
                ssrc=packet.ssrc,
                payload=packet.payload,
            )
        )
    assert hearer.leg.counters.invalid == hearer.leg.counters.lost == 0
    assert likeness(speech(16000, 3.0), hearer.audio_up()) > like


@pytest.mark.parametrize("ptime_ms", EVERY_10_MS)
def test_silence_and_what_follows_it_go_in_the_same_packets(ptime_ms: int) -> None:
    stage = Stage(ptime_ms=ptime_ms)
    stage.downlink.start(0, 0)
    stage.advance(50)
    stage.say(sine(500, 16000, 16000))
    stage.advance(300)
    packets = [packet for _, _, packet in stage.sent]
    assert {len(packet.payload) for packet in packets} == {8 * ptime_ms}
    assert {(b.timestamp - a.timestamp) & 0xFFFFFFFF for a, b in pairwise(packets)} == {8 * ptime_ms}
    heard = np.concatenate([from_ulaw(packet.payload) for packet in packets])
    assert 8000 * 0.98 <= np.count_nonzero(np.abs(heard) > 10) <= 8000 * 1.04
    gaps = {b - a for (a, _, _), (b, _, _) in pairwise(stage.sent[20:])}
    assert max(gaps) <= ptime_ms // TICK_MS + 4  # late audio is waited for, and then silence follows
    assert min(gaps) >= ptime_ms // TICK_MS - 2
    made = stage.leg.octets_out(stage.table)
    assert 0 <= made - sum(len(packet.payload) for packet in packets) <= 80  # 10 ms may wait for their turn


@pytest.mark.parametrize("ptime_ms", [10, 30, 40, 60])
def test_a_digit_waits_for_no_packet_and_the_stream_goes_on(ptime_ms: int) -> None:
    stage = Stage(ptime_ms=ptime_ms)
    stage.downlink.start(0, 0)
    stage.advance(5 * FRAME_TICKS)
    stage.leg.dtmf.send("5")
    stage.table.event[0] = True
    stage.advance(30 * FRAME_TICKS)
    packets = [packet for _, _, packet in stage.sent]
    assert all((b.sequence - a.sequence) & 0xFFFF == 1 for a, b in pairwise(packets))
    events = [i for i, packet in enumerate(packets) if packet.payload_type == 101]
    assert len(events) == 7
    begun = packets[events[0]].timestamp
    before, after = packets[: events[0]], packets[events[-1] + 1 :]
    # what was said before it is complete, in a shorter packet if need be; the pause has its time
    assert sum(len(packet.payload) for packet in before) == begun - before[0].timestamp
    assert after[0].timestamp - begun == 10 * 160
    assert after[0].marker
    assert {len(packet.payload) for packet in after} == {8 * ptime_ms}


def test_a_new_packet_time_holds_from_the_next_packet() -> None:
    stage = Stage()
    stage.downlink.start(0, 0)
    config = stage.leg.receiver.config
    for ptime_ms in (20, 40, 20, 10):
        stage.leg.receiver.configure(config.__class__("PCMU", 0, ptime_ms=ptime_ms))
        stage.sent.clear()
        stage.advance(20 * FRAME_TICKS)
        assert {len(packet.payload) for _, _, packet in stage.sent} == {8 * ptime_ms}


def test_a_coder_that_pauses_in_the_middle_of_a_packet() -> None:
    """AMR: what is left out between frames is said so, what is left out at an end is not sent."""
    codec = find_codec("AMR-WB", 16000)
    assert codec is not None
    for aligned in ("0", "1"):
        form = codec.send_format({"octet-align": aligned})
        stage = Stage(**{**CODECS["AMR-WB"][0], "ptime_ms": 60, "send_parameters": {"octet-align": aligned}})
        coded = stage.leg.receiver.coded
        assert coded is not None
        frame = codec.new_encoder({}).encode(speech(16000, 1.0)[:320])
        assert frame is not None
        middle, end = coded.pack([frame, None, frame]), coded.pack([frame, None, None])
        assert middle is not None
        assert end is not None
        assert form.unpack_untrusted(middle).frames == (frame, None, frame)
        assert form.unpack_untrusted(end).frames == (frame,)


def test_a_pause_of_the_coder_begins_no_packet() -> None:
    """Silence in AMR: SID frames every 160 ms, each with its own timestamp, and the marker when speech comes back."""
    stage = Stage(**{**CODECS["AMR-WB"][0], "ptime_ms": 40})
    stage.downlink.start(0, 0)
    stage.advance(200 * FRAME_TICKS)
    quiet = [(tick, packet) for tick, _, packet in stage.sent if tick > 100 * FRAME_TICKS]
    assert 8 <= len(quiet) <= 20
    first_tick, first = quiet[0]
    for tick, packet in quiet:
        assert ((packet.timestamp - first.timestamp) & 0xFFFFFFFF) == (tick - first_tick) * TICK_MS * 16
    stage.sent.clear()
    stage.say(speech(16000, 1.0))
    stage.advance(50)
    assert stage.sent[0][2].marker or stage.sent[1][2].marker


@pytest.mark.parametrize(
    ("possible", "wished", "made"),
    [
        (EVERY_10_MS, 60, 60), (EVERY_10_MS, 25, 20), (EVERY_10_MS, 5, 10), (EVERY_10_MS, 200, 60),
        ((20, 40, 60), 30, 20), ((20, 40, 60), 10, 20), ((10, 20, 40, 60), 50, 40),
    ],
)  # fmt: skip
def test_what_a_codec_cannot_do_is_shortened(possible: tuple[int, ...], wished: int, made: int) -> None:
    assert packet_ms(possible, wished) == made


@given(st.sampled_from(EVERY_10_MS), st.lists(st.integers(0, 3), max_size=40))
def test_nothing_is_lost_or_moved_whatever_is_left_out(ptime_ms: int, skips: list[int]) -> None:
    """Each sample once, at its timestamp, though the stream jumps."""
    packetiser = Packetiser(
        ptime_ms,
        10,
        8,
        lambda line: [bytes(line[:1].astype(np.uint8)) * 80, bytes(line[80:81].astype(np.uint8)) * 80],
        b"".join,
    )
    timestamp, expected, heard = 0xFFFFF000, {}, {}
    pieces = []
    for number, skip in enumerate(skips):
        timestamp = (timestamp + 160 * skip) & 0xFFFFFFFF
        line = np.concatenate([np.full(80, 2 * number % 250), np.full(80, (2 * number + 1) % 250)]).astype(np.float32)
        expected[timestamp] = 2 * number % 250
        expected[(timestamp + 80) & 0xFFFFFFFF] = (2 * number + 1) % 250
        pieces += packetiser.take(line, timestamp)
        timestamp = (timestamp + 160) & 0xFFFFFFFF
    pieces += packetiser.flush()
    for piece in pieces:
        assert piece.payload is not None
        assert len(piece.payload) <= 8 * ptime_ms
        for at in range(0, len(piece.payload), 80):
            heard[(piece.timestamp + at) & 0xFFFFFFFF] = piece.payload[at]
    assert heard == expected
