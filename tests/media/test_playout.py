"""The playout queue against a plain model."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.downlink import AHEAD_TICKS
from media.playout import MAX_MARKS, MAX_QUEUED_S, RING_FRAMES, PlayoutBank, PlayoutQueue, ahead_ticks
from media.table import NEVER, LegTable

FRAME = 320
ROWS = np.array([0])


def build() -> tuple[LegTable, PlayoutBank, PlayoutQueue]:
    table = LegTable(2)
    row = table.allocate()
    bank = PlayoutBank(table, 16000)
    table.due[row] = 0
    return table, bank, PlayoutQueue(table, row, bank)


def ramp(start: int, n: int) -> np.ndarray:
    return ((np.arange(n) + start) % 30000).astype("<i2")


OPERATION = st.one_of(
    st.tuples(st.just("write"), st.integers(1, 20 * FRAME)),
    st.tuples(st.just("frame"), st.just(FRAME)),
    st.tuples(st.just("read"), st.integers(1, 12)),
    st.tuples(st.just("clear"), st.just(0)),
    st.tuples(st.just("mark"), st.just(0)),
)


@settings(deadline=None)
@given(st.lists(OPERATION, max_size=40))
def test_what_comes_out_is_what_went_in(operations: list[tuple[str, int]]) -> None:
    table, bank, queue = build()
    waiting: list[int] = []  # samples accepted and not yet played
    written = played = cleared_at = 0
    marks: list[tuple[int, str]] = []
    for tick, (operation, n) in enumerate(operations):
        match operation:
            case "write":
                queue.write(ramp(written, n).tobytes(), tick)
                waiting += ramp(written, n).tolist()
                written += n
            case "frame" if not table.bulk[0] and queue.depth_frames < RING_FRAMES:
                bank.write_frames(ROWS, ramp(written, n)[None, :], tick)
                waiting += ramp(written, n).tolist()
                written += n
            case "read":
                for _ in range(n):
                    queue.refill()
                    if not queue.depth_frames and not queue.flush_partial():
                        assert not waiting
                        break
                    frame = bank.read_frames(ROWS)[0]
                    size = min(FRAME, len(waiting))
                    assert frame[:size].tolist() == waiting[:size]
                    assert not frame[size:].any()
                    del waiting[:size]
                    played += size
            case "clear":
                played_ms, unreached = queue.clear()
                assert played_ms == (played - cleared_at) * 1000 / 16000
                assert [m.name for m in unreached] == [name for _, name in marks]
                waiting, marks, written, cleared_at = [], [], played, played
            case "mark":
                marks.append((written, f"m{len(marks)}"))
                assert queue.add_mark(marks[-1][1])
        assert int(table.played[0]) == played
        assert int(table.queued[0]) == played + len(waiting)
        reached = [m.name for m in queue.reached_marks()]
        assert reached == [name for position, name in marks if position <= played]
        marks = [m for m in marks if m[0] > played]
        assert int(table.mark_at[0]) == (marks[0][0] if marks else NEVER)


def test_the_queue_is_bounded() -> None:
    table, _, queue = build()
    for _ in range(MAX_QUEUED_S + 5):
        queue.write(bytes(32000), 0)
    assert queue.overflow_samples > 0
    assert queue.queued_ms <= (MAX_QUEUED_S + 1) * 1000
    assert int(table.queued[0]) == (MAX_QUEUED_S + 5) * 16000 - queue.overflow_samples


def test_marks_are_bounded() -> None:
    _, _, queue = build()
    queue.write(bytes(640), 0)
    assert all(queue.add_mark(str(i)) for i in range(MAX_MARKS))
    assert not queue.add_mark("one more")


def test_audio_for_an_idle_leg_makes_it_due() -> None:
    table, _, queue = build()
    table.due[0] = 103
    queue.write(bytes(640), 100)
    assert table.due[0] == 100
    table.due[0] = NEVER
    queue.write(bytes(640), 101)
    assert table.due[0] == NEVER, "a leg that may not send was woken"


@pytest.mark.parametrize(("late_ticks", "is_burst"), [(0, True), (40, False)])
def test_sending_ahead_is_told_from_our_own_lateness(late_ticks: int, is_burst: bool) -> None:
    table, _, queue = build()
    table.note_lost(50, late_ticks)
    queue.write(bytes(640 * 8), 50)
    ahead = int(ahead_ticks(table, ROWS, np.array([16000]), 50)[0])
    assert (ahead > AHEAD_TICKS) == is_burst


def test_a_queue_that_keeps_step_touches_little_memory() -> None:
    _, bank, _ = build()
    for tick in range(100):
        bank.write_frames(ROWS, np.full((1, FRAME), 7, np.int16), tick)
        bank.read_frames(ROWS)
    assert not bank.ring[0, 1:].any()
