"""Admission towards a latency target, on a model of a server with one queue."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ims_as.defence.overload import MAX_LOSS, LoadMonitor
from tests.support.queue_model import PROBE_S, QueueModel

TARGET_S = 0.05


def ended(model: QueueModel) -> None:
    """Every accepted call completes: the model ends all that are still up."""
    model.run(model.hold_s + 1.0, 1.0)
    assert model.accepted - model.completed <= 1


@pytest.mark.parametrize(("factor", "least"), [(1.2, 0.93), (2.0, 0.93), (5.0, 0.8)])
def test_goodput_stays_near_the_peak_for_a_minute(factor: float, least: float) -> None:
    """At five times the peak refusing alone takes a seventh of the server."""
    model = QueueModel(LoadMonitor(TARGET_S))
    peak = model.capacity
    model.run(5, 0.5 * peak)
    assert not any(outcome.refused for outcome in model.seconds.values())
    model.run(60, factor * peak)
    seconds = [model.seconds[second] for second in range(6, 65)]
    assert sum(outcome.completed for outcome in seconds) / len(seconds) >= least * peak
    assert max(outcome.longest_wait_s for outcome in seconds[1:]) < 0.3
    assert min(outcome.completed for outcome in seconds) > 0.3 * peak
    ended(model)


def test_recovery_takes_less_than_two_seconds() -> None:
    model = QueueModel(LoadMonitor(TARGET_S))
    model.run(20, 2 * model.capacity)
    assert model.monitor.is_overloaded
    model.run(5, 0.8 * model.capacity)
    assert model.seconds[20].longest_wait_s < 0.3
    assert [model.seconds[second].refused for second in (22, 23, 24)] == [0, 0, 0]
    assert model.seconds[23].longest_wait_s < TARGET_S
    assert not model.monitor.is_overloaded


@pytest.mark.parametrize(("stall_s", "refused"), [(0.1, 0), (0.3, 10), (1.0, 400)])
def test_a_stall_is_not_overload(stall_s: float, refused: int) -> None:
    model = QueueModel(LoadMonitor(TARGET_S), stall=lambda now: stall_s if 10.0 <= now < 10.05 else 0.0)
    model.run(20, 0.6 * model.capacity)
    assert sum(outcome.refused for outcome in model.seconds.values()) <= refused
    assert sum(model.seconds[second].refused for second in range(13, 20)) == 0


def test_a_machine_that_was_taken_away_for_a_moment_is_back_at_once() -> None:
    """Three seconds at a tenth of the speed: what is left of it is served, and two seconds later all is as before."""
    model = QueueModel(LoadMonitor(0.1))
    load = 0.7 * model.capacity
    model.run(10, load)
    model.change_speed(0.1)
    model.run(3, load)
    model.change_speed(10)
    model.run(5, load)
    assert model.seconds[12].completed > 0.5 * 0.1 * model.capacity
    assert [model.seconds[second].refused for second in (16, 17)] == [0, 0]
    assert model.seconds[17].completed > 0.99 * load
    ended(model)


def test_it_follows_a_machine_that_becomes_slower_and_faster() -> None:
    model = QueueModel(LoadMonitor(TARGET_S))
    model.run(20, 2 * model.capacity)
    model.invite_s *= 3
    slow = model.capacity
    model.run(20, 2 * slow)
    assert 0.85 * slow <= sum(model.seconds[second].completed for second in range(25, 40)) / 15 <= 1.1 * slow
    assert model.seconds[39].longest_wait_s < 0.5
    model.invite_s /= 3
    model.run(20, 2 * model.capacity)
    assert sum(model.seconds[second].completed for second in range(45, 60)) / 15 >= 0.85 * model.capacity


@given(st.lists(st.floats(0.0, 30.0), min_size=1, max_size=120))
def test_some_calls_always_get_in(waits: list[float]) -> None:
    monitor = LoadMonitor(TARGET_S)
    now, admitted = 100.0, 0
    for wait in waits:
        for _ in range(5):
            now += PROBE_S / 5
            if not monitor.refuses(now=now):
                monitor.take()
                admitted += 1
        monitor.observe(wait, now=now)
        assert monitor.limit is None or monitor.limit >= 1.0
        assert 0.0 <= monitor.loss <= MAX_LOSS
    assert admitted >= int(len(waits) * PROBE_S) - 1


def test_a_target_of_zero_is_no_control() -> None:
    model = QueueModel(LoadMonitor(0.0))
    model.run(3, 2 * model.capacity)
    assert not any(outcome.refused for outcome in model.seconds.values())


def overloaded(monitor: LoadMonitor, now: float, seconds: float, *, offered: int, obeys: bool) -> float:
    """Offers so many calls per tick, less what the monitor asks for when they obey; the queue stays long."""
    carry = 0.0
    for _ in range(int(seconds / PROBE_S)):
        now += PROBE_S
        carry += offered * ((1.0 - monitor.loss) if obeys else 1.0)
        for _ in range(int(carry)):
            if not monitor.refuses(now=now, throttles=True):
                monitor.take()
        carry -= int(carry)
        monitor.observe(0.06, now=now)
    return now


def test_a_peer_that_throttles_itself_is_asked_for_just_enough() -> None:
    monitor = LoadMonitor(TARGET_S)
    now = overloaded(monitor, 100.0, 2.0, offered=50, obeys=True)
    assert monitor.loss > 0.1
    for _ in range(200):  # calm: nothing waits and nothing is refused
        now += PROBE_S
        monitor.observe(0.0, now=now)
    assert (monitor.loss, monitor.limit) == (0.0, None)


def test_one_that_does_not_is_never_asked_to_stop() -> None:
    monitor = LoadMonitor(TARGET_S)
    overloaded(monitor, 100.0, 60.0, offered=200, obeys=False)
    assert monitor.loss == MAX_LOSS
