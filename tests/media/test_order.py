"""Release in order: a gap waits, everything else does not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from media.order import MAX_WAIT_TICKS, MIN_WAIT_TICKS, GapBuffer, Verdict, gap_wait_ticks

WAIT = 4


def items(released: list) -> list:
    return [(one.missing, one.item) for one in released]


def test_in_order_is_released_at_once() -> None:
    buffer: GapBuffer[str] = GapBuffer(65535)
    assert items(buffer.receive(65535, "a", tick=0, wait_ticks=WAIT)[1]) == [(0, "a")]
    assert items(buffer.receive(0, "b", tick=0, wait_ticks=WAIT)[1]) == [(0, "b")]
    assert buffer.is_empty
    assert buffer.next_deadline() is None


def test_a_gap_waits_and_is_filled() -> None:
    buffer: GapBuffer[str] = GapBuffer(10)
    assert buffer.receive(11, "b", tick=0, wait_ticks=WAIT) == (Verdict.ACCEPTED, [])
    assert items(buffer.receive(10, "a", tick=2, wait_ticks=WAIT)[1]) == [(0, "a"), (0, "b")]
    assert buffer.next_deadline() is None


def test_a_gap_is_given_up_when_its_wait_is_over() -> None:
    buffer: GapBuffer[str] = GapBuffer(10)
    buffer.receive(13, "d", tick=0, wait_ticks=WAIT)
    assert buffer.handle_timer(tick=WAIT - 1, wait_ticks=WAIT) == []
    assert items(buffer.handle_timer(tick=WAIT, wait_ticks=WAIT)) == [(3, "d")]
    assert buffer.receive(11, "late", tick=WAIT, wait_ticks=WAIT) == (Verdict.LATE, [])


def test_a_second_gap_waits_its_own_time() -> None:
    buffer: GapBuffer[str] = GapBuffer(0)
    buffer.receive(1, "b", tick=0, wait_ticks=WAIT)
    buffer.receive(3, "d", tick=1, wait_ticks=WAIT)
    assert items(buffer.handle_timer(tick=4, wait_ticks=WAIT)) == [(1, "b")]
    assert buffer.next_deadline() == 1 + WAIT  # since the first packet beyond it
    assert items(buffer.handle_timer(tick=8, wait_ticks=WAIT)) == [(1, "d")]


def test_duplicates_and_jumps() -> None:
    buffer: GapBuffer[str] = GapBuffer(0)
    buffer.receive(2, "c", tick=0, wait_ticks=WAIT)
    assert buffer.receive(2, "c", tick=0, wait_ticks=WAIT)[0] is Verdict.DUPLICATE
    verdict, released = buffer.receive(9000, "x", tick=0, wait_ticks=WAIT)
    assert verdict is Verdict.RESYNC
    assert items(released) == [(0, "c"), (0, "x")]
    assert buffer.expected == 9001


@given(
    st.integers(0, 0xFFFF),
    st.lists(st.tuples(st.integers(-3, 40), st.integers(0, 6)), max_size=60),
)
def test_order_is_kept_whatever_comes(first: int, arrivals: list[tuple[int, int]]) -> None:
    """Released numbers rise; with the missing ones they are without a hole; nothing is held for ever."""
    buffer: GapBuffer[int] = GapBuffer(first)
    out: list[tuple[int, int]] = []
    tick = 0
    for offset, pause in arrivals:
        tick += pause
        out += items(buffer.handle_timer(tick=tick, wait_ticks=WAIT))
        out += items(buffer.receive((first + offset) & 0xFFFF, offset, tick=tick, wait_ticks=WAIT)[1])
        assert buffer.is_empty == (buffer.next_deadline() is None)
    while (deadline := buffer.next_deadline()) is not None:
        out += items(buffer.handle_timer(tick=deadline, wait_ticks=WAIT))
    position = 0
    for missing, offset in out:
        assert offset == position + missing
        position = offset + 1
    assert (first + position) & 0xFFFF == buffer.expected
    assert {o for o, _ in arrivals if o >= 0} >= {o for _, o in out}


@given(st.floats(0, 1000))
def test_the_wait_follows_the_jitter_within_limits(jitter_ms: float) -> None:
    assert MIN_WAIT_TICKS <= gap_wait_ticks(jitter_ms, 5) <= MAX_WAIT_TICKS
    assert gap_wait_ticks(jitter_ms, 5) <= gap_wait_ticks(jitter_ms + 10, 5)
