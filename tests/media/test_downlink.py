"""Pacing, phases, backlog and clicks, tick by tick."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.rtp import RtpPacket
from media.table import FRAME_TICKS
from tests.media.plane_support import Stage
from tests.media.support import from_ulaw, sine

SILENCE = b"\xff" * 160


def build(n_legs: int = 1) -> Stage:
    stage = Stage(n_legs)
    for row in stage.legs:
        stage.downlink.start(row, 0)
    return stage


def is_loud(packet: RtpPacket) -> bool:
    return bool(np.abs(from_ulaw(packet.payload)).max() > 1000)


def frame(i: int, amplitude: float = 8000) -> np.ndarray:
    return sine(500, 320, 16000, amplitude, start=320 * i)


def real_time(stage: Stage, n_frames: int, offset: int, first: int = 0, amplitude: float = 8000) -> None:
    """An engine that sends one frame every 20 ms, at tick ``offset`` of the four."""
    for i in range(n_frames):
        stage.advance(offset)
        stage.say(frame(first + i, amplitude))
        stage.advance(FRAME_TICKS - offset)


def check_stream(stage: Stage, row: int = 0) -> list[tuple[int, RtpPacket]]:
    """Sequence numbers without a hole, timestamps that follow the clock within a frame and a half."""
    packets = [(tick, packet) for tick, r, packet in stage.sent if r == row]
    for (tick, packet), (next_tick, following) in pairwise(packets):
        assert (following.sequence - packet.sequence) & 0xFFFF == 1
        assert (following.timestamp - packet.timestamp) % 160 == 0
        assert next_tick >= tick
    for tick, packet in packets:
        position = ((packet.timestamp - packets[0][1].timestamp) & 0xFFFFFFFF) // 40
        assert abs((tick - packets[0][0]) - position) <= 7
    return packets


def test_silence_is_a_steady_stream() -> None:
    stage = build(5)
    stage.advance(200)
    for row in stage.legs:
        packets = check_stream(stage, row)
        assert len(packets) == 50
        assert {b - a for (a, _), (b, _) in pairwise(packets)} == {FRAME_TICKS}
        assert {p.payload for _, p in packets} == {SILENCE}
        assert [p.marker for _, p in packets[:2]] == [True, False]
    per_tick = [sum(1 for t, _, _ in stage.sent if t == tick) for tick in range(100, 104)]
    assert max(per_tick) <= 2, "legs should be spread over the sub-ticks"


@pytest.mark.parametrize("offset", [0, 1, 2, 3])
@pytest.mark.parametrize("row_turn", [0, 1, 2, 3])
def test_audio_does_not_wait_for_its_turn(offset: int, row_turn: int) -> None:
    stage = build(4)
    stage.advance(41)
    for i in range(30):
        stage.advance(offset)
        stage.say(frame(i), row_turn)
        came = stage.tick + 1
        stage.advance(FRAME_TICKS - offset)
        if i:
            sent = [t for t, r, p in stage.sent if r == row_turn and t > came - FRAME_TICKS and is_loud(p)]
            assert sent[-1] - came <= 1, f"frame {i} waited"
    check_stream(stage, row_turn)


def test_a_sentence_sent_ahead_is_paced_and_complete() -> None:
    stage = build()
    stage.advance(10)
    stage.say(sine(500, 16000 * 3, 16000))
    stage.advance(1000)
    packets = check_stream(stage)
    loud = [tick for tick, p in packets if is_loud(p)]
    assert len(loud) in (150, 151)  # the last one is the fade, after late audio was waited for
    assert {b - a for a, b in pairwise(loud[:150])} == {FRAME_TICKS}
    assert stage.table.trimmed[0] == 0


def test_an_early_talker_never_runs_away_from_the_clock() -> None:
    stage = build()
    for i in range(60):
        real_time(stage, 5, i % 4, first=5 * i)
        stage.advance(13)
    check_stream(stage)


def test_late_audio_is_waited_for_before_silence_is_sent() -> None:
    stage = build()
    stage.advance(40)
    real_time(stage, 20, 1)
    stage.advance(2)  # the engine's clock slips by 10 ms
    before = len(stage.sent)
    real_time(stage, 20, 1, first=20)
    assert all(is_loud(p) for _, _, p in stage.sent[before : before + 19])
    assert stage.table.underruns[0] == 0
    check_stream(stage)


def test_delay_does_not_stay_after_a_stall_of_ours() -> None:
    stage = build()
    stage.advance(40)
    real_time(stage, 60, 1)
    lost = 25  # 500 ms in which the engine's frames piled up
    stage.advance(1, late=lost * FRAME_TICKS - 1)
    for i in range(lost):
        stage.say(frame(60 + i))
    stage.advance(1)
    real_time(stage, 400, 1, first=85)
    queue = stage.leg.playout
    assert queue is not None
    assert queue.queued_ms <= 40
    assert stage.table.trimmed[0] >= lost - 2
    check_stream(stage)


def test_what_a_short_stall_left_waiting_goes_at_once() -> None:
    stage = build()
    stage.advance(40)
    stage.say(sine(500, 16000, 16000))
    stage.advance(40)
    before = len(stage.sent)
    stage.advance(1, late=2 * FRAME_TICKS - 1)
    assert len(stage.sent) - before == 2
    assert stage.table.skipped[0] == 0
    check_stream(stage)


def test_delay_does_not_stay_after_a_stall_of_the_engine_and_silence_goes_first() -> None:
    stage = build()
    stage.advance(40)
    real_time(stage, 60, 1)
    stage.advance(10 * FRAME_TICKS)
    for i in range(10):
        stage.say(frame(60 + i))
    loud_before = sum(is_loud(p) for _, _, p in stage.sent)
    real_time(stage, 30, 1, first=70)
    real_time(stage, 100, 1, first=100, amplitude=20)
    queue = stage.leg.playout
    assert queue is not None
    assert queue.queued_ms <= 40
    heard = sum(is_loud(p) for _, _, p in stage.sent) - loud_before
    assert heard >= 39, "speech was left out although there was silence to leave out"


def test_sentences_sent_ahead_are_never_trimmed() -> None:
    stage = build()
    stage.advance(40)
    total = 0
    for _ in range(5):
        stage.say(sine(500, 16000, 16000))
        total += 50
        stage.advance(30 * FRAME_TICKS)
        stage.say(sine(500, 16000, 16000))
        total += 50
        stage.advance(110 * FRAME_TICKS)
    assert stage.table.trimmed[0] == 0
    assert total <= sum(is_loud(p) for _, _, p in stage.sent) <= total + 5


def test_clear_is_silent_within_a_frame_and_without_a_click() -> None:
    stage = build()
    stage.advance(10)
    stage.say(sine(100, 16000 * 2, 16000))
    stage.advance(100)
    queue = stage.leg.playout
    assert queue is not None
    queue.clear()
    cleared_at = stage.tick
    stage.sent.clear()
    stage.advance(12)
    packets = [p for _, _, p in stage.sent]
    assert stage.sent[0][0] - cleared_at <= FRAME_TICKS, "silence waited for late audio"
    assert all(p.payload[40:] == SILENCE[40:] for p in packets)
    assert [p.payload == SILENCE for p in packets] == [False, True, True]
    assert np.abs(np.diff(from_ulaw(packets[0].payload))).max() < 1200


def test_underrun_and_return_make_no_click() -> None:
    stage = build()
    stage.advance(10)
    for _ in range(3):
        stage.say(sine(100, 320 * 5, 16000, start=0))
        stage.advance(5 * FRAME_TICKS + 31)
    heard = np.concatenate([from_ulaw(p.payload) for _, _, p in stage.sent])
    assert np.abs(np.diff(heard)).max() < 1500  # the tone itself has steps of 630
    assert stage.table.underruns[0] == 3


def test_less_than_a_frame_is_played_when_nothing_follows() -> None:
    stage = build()
    stage.advance(10)
    stage.say(frame(0)[:100])
    stage.advance(20)
    assert sum(is_loud(p) for _, _, p in stage.sent) >= 1
    assert stage.table.played[0] == 100


def test_marks_and_first_sound() -> None:
    stage = build()
    stage.advance(10)
    queue = stage.leg.playout
    assert queue is not None
    stage.say(sine(500, 320 * 3, 16000))
    queue.add_mark("third")
    stage.advance(2 * FRAME_TICKS)
    assert [n for n in stage.notes if n[0] == "mark"] == []
    stage.advance(2 * FRAME_TICKS)
    assert [n for n in stage.notes if n[0] == "mark"] == [("mark", 0, "third")]
    assert [n for n in stage.notes if n[0] == "heard"] == [("heard", 0, 11)]


def test_clip_gives_way_to_the_engine() -> None:
    stage = build()
    stage.leg.clip = sine(300, 1600).astype(np.int16)
    stage.leg.clip_loop = False
    stage.table.clip[0] = True
    stage.advance(5 * FRAME_TICKS)
    assert is_loud(stage.sent[-1][2])
    stage.say(frame(0, 8000))
    stage.advance(FRAME_TICKS)
    assert ("heard", 0, stage.tick - FRAME_TICKS + 1) in stage.notes
    stage.advance(40)
    assert ("clip", 0) in stage.notes
    assert stage.sent[-1][2].payload == SILENCE


def test_telephone_events_take_the_place_of_audio() -> None:
    stage = build()
    stage.advance(10)
    stage.leg.dtmf.send("5")
    stage.table.event[0] = True
    stage.advance(60)
    events = [p for _, _, p in stage.sent if p.payload_type == 101]
    assert len(events) == 7
    assert len({p.timestamp for p in events}) == 1
    assert [p.marker for p in events] == [True] + [False] * 6
    sequences = [p.sequence for _, _, p in stage.sent]
    assert all((b - a) & 0xFFFF == 1 for a, b in pairwise(sequences))


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 8), st.integers(0, 40)), max_size=60))
def test_any_engine_gets_a_proper_stream(steps: list[tuple[int, int, int]]) -> None:
    """Whatever comes when, and however late we are: one packet per 20 ms on average, in order, on the clock."""
    stage = build()
    for ticks, frames, late in steps:
        stage.advance(ticks)
        if frames:
            stage.say(sine(440, 320 * frames - 7, 16000))
        if late > 30:
            stage.advance(1, late=late)
    stage.advance(20)
    check_stream(stage)
    skipped = int(stage.table.skipped[0])
    assert abs(len(stage.sent) + skipped - stage.tick / FRAME_TICKS) <= 3


def test_what_is_said_right_after_a_clear_makes_no_click_and_ends_what_was_cleared() -> None:
    stage = Stage()
    stage.downlink.start(0, 0)
    stage.say(sine(300, 16000, 16000))
    stage.advance(40)
    queue = stage.leg.playout
    assert queue is not None
    queue.clear()
    stage.say(-sine(300, 16000, 16000, start=37))
    assert not [note for note in stage.notes if note[0] == "cut"]
    stage.advance(FRAME_TICKS)
    ((_, _, told),) = [note for note in stage.notes if note[0] == "cut"]
    assert told > 40
    heard = np.concatenate([from_ulaw(packet.payload) for _, _, packet in stage.sent])
    assert np.abs(np.diff(heard)).max() < 3000, "8000 peak to peak would be a click"
    stage.advance(100)
    assert len([note for note in stage.notes if note[0] == "cut"]) == 1
