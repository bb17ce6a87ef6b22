from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ims_as.sip.timers import SLOT_S, TimerConfig, TimerHeap


def test_values_follow_from_t1() -> None:
    assert TimerConfig().transaction_timeout == 32.0
    assert TimerConfig(t1=0.1).transaction_timeout == 6.4


def test_fires_in_order_and_once() -> None:
    heap = TimerHeap()
    fired: list[str] = []
    heap.schedule(2.0, lambda: fired.append("second"))
    heap.schedule(1.0, lambda: fired.append("first"))
    heap.schedule(2.0, lambda: fired.append("third"))
    assert heap.next_deadline() == 1.0
    assert heap.run_due(0.9) == 0
    assert heap.run_due(2.0) == 3
    assert fired == ["first", "second", "third"]
    assert heap.next_deadline() is None
    assert len(heap) == 0


def test_cancel_is_idempotent_and_harmless_afterwards() -> None:
    heap = TimerHeap()
    fired: list[int] = []
    cancelled = heap.schedule(1.0, lambda: fired.append(1))
    kept = heap.schedule(1.0, lambda: fired.append(2))
    cancelled.cancel()
    cancelled.cancel()
    assert len(heap) == 1
    assert not cancelled.is_pending
    heap.run_due(1.0)
    kept.cancel()
    assert fired == [2]
    assert len(heap) == 0


def test_a_callback_may_schedule_and_cancel() -> None:
    heap = TimerHeap()
    fired: list[str] = []
    victim = heap.schedule(1.0, lambda: fired.append("victim"))

    def first() -> None:
        victim.cancel()
        heap.schedule(0.5, lambda: fired.append("past"))
        heap.schedule(1.5, lambda: fired.append("later"))

    heap.schedule(0.9, first)
    heap.run_due(1.0)
    assert fired == ["past"]
    assert heap.next_deadline() == 1.5


def test_cancelled_timers_do_not_stay() -> None:
    """A call cancels nearly all of its 32 s timers: the heap must not hold them until then."""
    heap = TimerHeap()
    for number in range(100_000):
        heap.schedule(number + 32.0, lambda: None).cancel()
    assert len(heap) == 0
    assert len(heap._entries) < 5000


@given(st.lists(st.tuples(st.integers(0, 50), st.booleans()), max_size=60), st.integers(0, 50))
def test_like_a_sorted_list(plan: list[tuple[int, bool]], now: int) -> None:
    heap = TimerHeap()
    fired: list[int] = []
    handles = [heap.schedule(when, lambda n=number: fired.append(n)) for number, (when, _) in enumerate(plan)]
    for handle, (_, is_cancelled) in zip(handles, plan, strict=True):
        if is_cancelled:
            handle.cancel()
    live = sorted((when, number) for number, (when, is_cancelled) in enumerate(plan) if not is_cancelled)
    assert heap.next_deadline() == (live[0][0] if live else None)
    heap.run_due(now)
    assert fired == [number for when, number in live if when <= now]
    assert len(heap) == len(live) - len(fired)


@given(st.lists(st.tuples(st.floats(0, 3), st.booleans()), max_size=60), st.floats(0, 4))
def test_timers_in_slots_fire_a_little_late_at_most(plan: list[tuple[float, bool]], now: float) -> None:
    heap = TimerHeap()
    fired: list[int] = []
    handles = [heap.schedule_about(when, lambda n=number: fired.append(n)) for number, (when, _) in enumerate(plan)]
    for handle, (_, is_cancelled) in zip(handles, plan, strict=True):
        if is_cancelled:
            handle.cancel()
            handle.cancel()
    live = {number for number, (_, is_cancelled) in enumerate(plan) if not is_cancelled}
    assert len(heap) == len(live)
    heap.run_due(now)
    assert {number for number in live if plan[number][0] <= now - SLOT_S} <= set(fired)
    assert set(fired) <= {number for number in live if plan[number][0] <= now}
    assert {number for number, handle in enumerate(handles) if handle.is_pending} == live - set(fired)
    assert len(heap) == len(live) - len(fired)
    for handle in handles:
        handle.cancel()
    assert len(heap) == 0
    heap.run_due(10)
    assert (len(heap), heap.next_deadline()) == (0, None)


def test_slots_share_an_entry_and_mix_with_exact_timers() -> None:
    heap = TimerHeap()
    fired: list[str] = []
    for name in "ab":
        heap.schedule_about(31.9, lambda name=name: fired.append(name))
    heap.schedule(32.0, lambda: fired.append("c"))
    assert len(heap._entries) == 2
    assert len(heap) == 3
    assert heap.next_deadline() == 32.0
    heap.run_due(32.0)
    assert fired == ["a", "b", "c"]


def test_an_error_in_a_slot_loses_no_timer() -> None:
    heap = TimerHeap()
    fired: list[int] = []

    def fail() -> None:
        raise ZeroDivisionError

    heap.schedule_about(1.0, lambda: fired.append(1))
    heap.schedule_about(1.0, fail)
    heap.schedule_about(1.0, lambda: fired.append(3))
    heap.schedule_about(1.0, lambda: heap.schedule_about(0.9, lambda: fired.append(4)))
    with pytest.raises(ZeroDivisionError):
        heap.run_due(1.0)
    assert (fired, len(heap)) == ([1], 2)
    heap.run_due(1.0)
    assert (fired, len(heap)) == ([1, 3, 4], 0)
