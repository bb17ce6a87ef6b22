"""From packets to engine frames, tick by tick."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from media.rtp import build_rtp
from media.table import FRAME_TICKS
from media.uplink import FILL_AFTER_TICKS
from tests.media.plane_support import Stage
from tests.media.support import from_ulaw, peak_hz, sine, ulaw


def packet(i: int, payload: bytes | None = None, *, first: int = 65500, ssrc: int = 9, payload_type: int = 0) -> bytes:
    return build_rtp(
        payload_type=payload_type,
        marker=False,
        sequence=first + i,
        timestamp=4294960000 + 160 * i,
        ssrc=ssrc,
        payload=payload if payload is not None else ulaw(sine(500, 160, start=160 * i)),
    )


def test_a_stream_over_the_wrap_is_columnar_and_unbroken() -> None:
    stage = Stage()
    for i in range(100):
        stage.receive(packet(i), tick=4 * i)
    assert len(stage.up) == 100
    audio = stage.audio_up().astype(float)
    assert peak_hz(audio[3200:], 16000) == pytest.approx(500, abs=3)
    assert np.abs(np.diff(audio[3200:])).max() < 1800
    assert stage.leg.counters.lost == 0
    assert stage.table.packets_in[0] == 100
    assert stage.table.plain[0]
    assert stage.table.jitter[0] < 0.01


def test_many_legs_in_one_pass() -> None:
    stage = Stage(3)
    for i in range(20):
        stage.receive(*[(row, packet(i, ulaw(sine(300 * (row + 1), 160, start=160 * i)))) for row in (2, 0, 1)])
    for row in range(3):
        assert peak_hz(stage.audio_up(row)[640:], 16000) == pytest.approx(300 * (row + 1), abs=10)


@pytest.mark.parametrize("size", [80, 240, 320, 480, 1])
def test_other_packet_lengths_are_cut_to_frames(size: int) -> None:
    stage = Stage()
    n = 4800 // size
    for i in range(n):
        payload = ulaw(sine(500, size, start=size * i))
        stage.receive(packet(i, payload))
    assert len(stage.up) == n * size // 160


def test_reordered_packets_are_put_right_and_late_ones_dropped() -> None:
    stage = Stage()
    for i in (0, 1, 3, 2, 4, 6):
        stage.receive(packet(i), tick=i)
    assert len(stage.up) == 5
    stage.tick = 30
    stage.uplink.handle_timers(30)
    assert len(stage.up) >= 7
    counters = stage.leg.counters
    assert (counters.reordered, counters.lost, counters.late) == (1, 1, 0)
    stage.receive(packet(5), tick=31)
    stage.receive(packet(5), tick=31)
    assert counters.late == 2


def test_a_silent_party_is_filled_in_real_time() -> None:
    stage = Stage()
    for i in range(10):
        stage.receive(packet(i), tick=4 * i)
    stage.tick = 36
    stage.advance(400)
    made_up = len(stage.up) - 10
    assert made_up == pytest.approx((400 - FILL_AFTER_TICKS) / 4, abs=2)
    assert not stage.audio_up()[-3200:].any()
    before = len(stage.up)
    stage.receive(packet(10), tick=stage.tick)
    assert len(stage.up) == before + 1
    assert stage.table.plain[0]


def test_speech_is_reported_with_its_true_end() -> None:
    stage = Stage()
    for i in range(50):
        stage.receive(packet(i), tick=4 * i)
    for i in range(50, 80):
        stage.receive(packet(i, b"\xff" * 160), tick=4 * i)
    speech = [n for n in stage.notes if n[0] == "speech"]
    assert [n[2] for n in speech] == [True, False]
    assert speech[1][3] == pytest.approx(4 * 50, abs=4)


def test_a_new_source_is_taken_over() -> None:
    stage = Stage()
    for i in range(5):
        stage.receive(packet(i))
    for i in range(5):
        stage.receive(packet(i, first=1000, ssrc=77))
    assert len(stage.up) == 10
    assert stage.leg.counters.lost == 0


def test_comfort_noise_and_events_keep_the_sequence() -> None:
    stage = Stage()
    stage.receive(packet(0))
    stage.receive(packet(1, b"\x50", payload_type=13))
    stage.receive(packet(2, bytes([3, 0x8A, 0, 160]), payload_type=101))
    stage.receive(packet(3))
    assert len(stage.up) == 2
    assert [note for note in stage.notes if note[0] == "digit"] == [("digit", 0, "3")]
    assert stage.leg.counters.lost == 0


def rms(frame: NDArray[np.int16]) -> float:
    return float(np.sqrt(np.mean(frame.astype(float) ** 2)))


@pytest.mark.parametrize(("level", "expected"), [(50, 101.6), (70, 10.2), (0x80 | 60, 32.1), (0, 1016), (127, 0)])
def test_a_pause_sounds_as_the_party_says(level: int, expected: float) -> None:
    stage = Stage()
    for i in range(5):
        stage.receive(packet(i))
        stage.advance(FRAME_TICKS)
    stage.receive(packet(5, bytes([level, 1, 2]), payload_type=13))
    stage.advance(FRAME_TICKS * 20)
    stage.receive(packet(6, bytes([level]), payload_type=13))
    stage.advance(FRAME_TICKS * 20)
    pause = stage.up[5:]
    assert 39 <= len(pause) <= 41  # in real time, whether refreshed or not
    assert np.median([rms(frame) for _, frame in pause[2:]]) == pytest.approx(expected, rel=0.15, abs=0.6)
    assert stage.leg.counters.concealed_frames == stage.leg.counters.lost == 0
    assert not any(note[0] == "speech" and note[2] for note in stage.notes[1:])
    before = len(stage.up)
    stage.receive(packet(7))
    assert len(stage.up) == before + 1
    assert stage.leg.receiver.noise is None
    assert stage.table.plain[0]


def test_a_pause_that_ends_at_once_leaves_no_noise() -> None:
    stage = Stage()
    stage.receive(packet(0))
    stage.receive(packet(1, b"\x46", payload_type=13))
    stage.receive(packet(2))
    assert stage.leg.receiver.noise is None
    stage.advance(FRAME_TICKS * 6)
    assert stage.leg.counters.concealed_frames > 0  # what comes next is missing, and no pause


def test_what_is_lost_after_a_pause_is_noise_and_not_speech() -> None:
    stage = Stage()
    stage.receive(packet(0))
    stage.receive(packet(1, b"\x46", payload_type=13))
    stage.receive(packet(3))
    stage.advance(14)
    assert stage.leg.counters.lost == 1
    assert stage.leg.counters.concealed_frames == 0


def test_noise_before_any_speech() -> None:
    stage = Stage()
    stage.receive(packet(0, b"\x3c", payload_type=13))
    stage.advance(FRAME_TICKS * 10)
    assert 9 <= len(stage.up) <= 10
    assert rms(stage.audio_up()) == pytest.approx(32, rel=0.2)


def test_held_stream_is_not_heard() -> None:
    stage = Stage(receive=False)
    for i in range(5):
        stage.receive(packet(i))
    assert stage.up == []


def test_bridged_audio_goes_to_the_other_legs_queue() -> None:
    stage = Stage(2)
    stage.table.bank[:2] = -1
    stage.table.peer[0], stage.table.peer[1] = 1, 0
    stage.table.play_bank[:2] = 0
    for i in range(40):
        stage.receive(packet(i))
    assert 0 < stage.table.write[1] <= 24, "a queue that nobody reads is bounded"
    assert stage.table.write[0] == 0


@settings(deadline=None, max_examples=60)
@given(st.lists(st.binary(max_size=400), max_size=30))
def test_garbage_never_breaks_the_stream(garbage: list[bytes]) -> None:
    stage = Stage()
    for i, octets in enumerate([b"", *garbage]):
        if octets and octets[:1] != b"\x80":
            stage.receive(octets, tick=4 * i)
        stage.receive(packet(i), tick=4 * i)
    stage.tick = 4 * len(garbage)
    assert len(stage.up) >= 1


@settings(deadline=None, max_examples=60)
@given(st.permutations(range(30)), st.sets(st.integers(0, 29)), st.integers(0, 3))
def test_whatever_order_audio_is_in_order(order: list[int], lost: set[int], pace: int) -> None:
    """Shuffled within windows of five and with loss: what is heard of each packet is heard once and in order."""
    stage = Stage(rate_hz=8000)
    stage.table.bank[0] = 0
    near = sorted(range(30), key=lambda i: (i // 5, order[i]))
    codes = [0x80 + 3 * i for i in range(30)]
    level = {float(from_ulaw(bytes([code]))[0]): i for i, code in enumerate(codes)}
    for step, i in enumerate(near):
        stage.tick = 1 + step * pace
        stage.uplink.handle_timers(stage.tick)
        if i not in lost:
            stage.receive(packet(i, bytes([codes[i]]) * 160))
    for _ in range(40):
        stage.tick += 1
        stage.uplink.handle_timers(stage.tick)
    # concealed frames are ramps or silence, received ones are flat behind the cross-fade
    heard = [level[float(frame[80])] for _, frame in stage.up if np.ptp(frame[80:]) == 0 and frame[80]]
    assert heard == sorted(set(heard))
    assert not set(heard) & lost


def test_packets_of_100_ms_are_no_pauses() -> None:
    stage = Stage()
    for i in range(10):
        datagram = build_rtp(
            payload_type=0, marker=False, sequence=i, timestamp=800 * i, ssrc=9, payload=ulaw(sine(500, 800))
        )
        stage.receive(datagram)
        stage.advance(20)
    assert len(stage.up) == 50
    assert stage.leg.counters.filled_frames == 0


def test_while_a_missing_packet_is_waited_for_nothing_is_made_up() -> None:
    stage = Stage()
    for i in range(10):
        stage.receive(packet(i))
        stage.advance(4)
    stage.table.jitter[0] = 30  # which makes the wait 80 ms
    stage.advance(8)
    stage.receive(packet(11))
    stage.advance(14)  # 110 ms since the last frame
    assert stage.leg.counters.filled_frames == 0
    stage.receive(packet(10))
    assert len(stage.up) == 12
    assert stage.leg.counters.lost == 0


def test_where_packets_come_unevenly_a_pause_shows_later() -> None:
    stage = Stage()
    for i in range(10):
        stage.receive(packet(i))
        stage.advance(4)
    stage.table.jitter[0] = 30
    stage.advance(FILL_AFTER_TICKS - 4)
    assert stage.leg.counters.filled_frames == 0
    stage.advance(12)
    assert stage.leg.counters.filled_frames == 1
    stage.advance(4 * 5)
    assert stage.leg.counters.filled_frames == 6  # in real time from then on


def test_late_packets_make_the_wait_long_enough_and_duplicates_do_not() -> None:
    stage = Stage()
    order = [0, 1, 3, 4, 5, 6, 2, 7, 8, 10, 11, 12, 13, 9, 14, 14, 14]
    for number in order:
        stage.receive(packet(number))
        stage.advance(2)
    counters = stage.leg.counters
    assert (counters.late, counters.lost, counters.duplicate) == (1, 1, 2)
    assert len(stage.up) == 15


@pytest.mark.parametrize("payload_type", [0, 9])
@pytest.mark.parametrize("tick", [0, 100 * 24 * 3600 * 200])
def test_jitter_is_exact_over_a_wrap_of_timestamps_and_in_a_worker_of_a_hundred_days(
    tick: int, payload_type: int
) -> None:
    stage = Stage(codec="PCMU" if payload_type == 0 else "G722", payload_type=payload_type)
    stage.tick = tick
    for i in range(200):  # 32000 units before the wrap are over in the middle
        datagram = build_rtp(
            payload_type=payload_type,
            marker=False,
            sequence=i,
            timestamp=(4294967296 - 16000 + 160 * i) & 0xFFFFFFFF,
            ssrc=9,
            payload=b"\xff" * 160,
        )
        stage.receive(datagram, tick=tick + 4 * i + i % 2)
    assert stage.table.jitter[0] == pytest.approx(5, abs=0.1)


def linear(row: int, value: int, sequence: int = 1) -> tuple[int, bytes]:
    """20 ms of L16/16000, all of one value."""
    packet = build_rtp(
        payload_type=96,
        marker=False,
        sequence=sequence,
        timestamp=320 * sequence,
        ssrc=row + 1,
        payload=np.full(320, value, ">i2").tobytes(),
    )
    return row, packet


def test_lines_of_coded_legs_in_one_pass_come_each_to_its_own_engine() -> None:
    stage = Stage(3, codec="L16", payload_type=96, clock_rate=16000)
    values = {0: 1000, 1: -2000, 2: 3000}
    for sequence in range(1, 6):
        stage.receive(*(linear(row, value, sequence) for row, value in reversed(values.items())))
        stage.advance(4)
    for row, value in values.items():
        assert np.abs(stage.audio_up(row)[-640:] - value).max() <= 1


def test_a_line_that_waits_for_others_goes_with_its_leg() -> None:
    stage = Stage(2, codec="L16", payload_type=96, clock_rate=16000)
    for row in range(2):
        stage.uplink._gather(row, np.full((1, 320), 500, np.float32), 1)
    stage.uplink.forget(1)
    stage.uplink._deliver_gathered(1)
    assert [row for row, _ in stage.up] == [0]
