"""Sleepers behind one timer: woken, late, cancelled, and when the timer ends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from diameter import waiting
from diameter.waiting import Deadlines, Parked


def run_at_once(scenario: Callable[[trio.Nursery], Awaitable[None]]) -> None:
    """On a clock that jumps when everybody waits."""

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            await scenario(nursery)
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_woken_or_late_whichever_comes_first() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        deadlines = Deadlines()
        nursery.start_soon(deadlines.run)
        await trio.testing.wait_all_tasks_blocked()
        start = trio.current_time()
        ended: dict[str, float] = {}
        places = {"early": Parked(), "late": Parked(), "woken": Parked()}

        async def wait(name: str, deadline_s: float) -> None:
            await deadlines.wait(places[name], start + deadline_s)
            ended[name] = trio.current_time() - start

        async with trio.open_nursery() as waiters:
            waiters.start_soon(wait, "late", 5.0)
            waiters.start_soon(wait, "woken", 4.0)
            await trio.testing.wait_all_tasks_blocked()
            waiters.start_soon(wait, "early", 2.0)
            await trio.sleep(3.0)
            places["woken"].wake()
        assert ended == pytest.approx({"early": 2.0, "woken": 3.0, "late": 5.0})
        assert not any(place.is_taken for place in places.values())

    run_at_once(scenario)


@pytest.mark.parametrize("has_timer", [True, False])
def test_cancelling_leaves_the_place(has_timer: bool) -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        deadlines, place = Deadlines(), Parked()
        if has_timer:
            nursery.start_soon(deadlines.run)
            await trio.testing.wait_all_tasks_blocked()
        start = trio.current_time()
        with trio.move_on_after(1.0) as patience:
            await deadlines.wait(place, start + 10.0)
        assert patience.cancelled_caught
        assert trio.current_time() - start == pytest.approx(1.0)
        assert not place.is_taken
        place.wake()

    run_at_once(scenario)


def test_without_timer_each_has_its_own() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        deadlines, start = Deadlines(), trio.current_time()
        await deadlines.wait(Parked(), start + 0.5)
        assert trio.current_time() - start == pytest.approx(0.5)

    run_at_once(scenario)


def test_end_of_the_timer_leaves_nobody_behind() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        deadlines, start = Deadlines(), trio.current_time()
        n_wakes = 0

        async def wait() -> None:
            nonlocal n_wakes
            while trio.current_time() < start + 7.0:
                await deadlines.wait(Parked(), start + 7.0)
                n_wakes += 1

        async with trio.open_nursery() as waiters:
            with trio.move_on_after(3.0):
                async with trio.open_nursery() as timer:
                    timer.start_soon(deadlines.run)
                    await trio.testing.wait_all_tasks_blocked()
                    waiters.start_soon(wait)
        assert trio.current_time() - start == pytest.approx(7.0)
        assert n_wakes == 2

    run_at_once(scenario)


def test_those_who_wait_no_more_are_swept_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "_KEPT_ENTRIES", 8)

    async def scenario(nursery: trio.Nursery) -> None:
        deadlines, start = Deadlines(), trio.current_time()
        nursery.start_soon(deadlines.run)
        ended: list[float] = []

        async def wait_long() -> None:
            await deadlines.wait(Parked(), start + 50.0)
            ended.append(trio.current_time() - start)

        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(wait_long)
        for _ in range(1000):
            place = Parked()
            async with trio.open_nursery() as waiters:
                waiters.start_soon(deadlines.wait, place, start + 40.0)
                await trio.testing.wait_all_tasks_blocked()
                place.wake()
            assert len(deadlines._entries) <= 12
        await trio.sleep(60.0)
        assert ended == [pytest.approx(50.0)]
        assert not deadlines._entries

    run_at_once(scenario)
