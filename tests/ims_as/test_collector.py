"""When garbage is collected; the time is the test's own."""

from __future__ import annotations

import gc
import weakref

import trio
import trio.testing

from ims_as.collector import (
    LOOK_EVERY_S,
    QUIET_COLLECTIONS,
    URGENT_COLLECTIONS,
    WORTH_COLLECTIONS,
    YOUNG_OBJECTS,
    is_due,
    keep_collecting,
)


class Circle:
    def __init__(self) -> None:
        self.me = self


def test_a_quiet_moment_is_used_and_an_urgent_one_not_waited_for() -> None:
    assert not is_due(WORTH_COLLECTIONS - 1, 0)
    assert is_due(WORTH_COLLECTIONS, QUIET_COLLECTIONS)
    assert not is_due(WORTH_COLLECTIONS, QUIET_COLLECTIONS + 1)
    assert not is_due(URGENT_COLLECTIONS - 1, QUIET_COLLECTIONS + 1)
    assert is_due(URGENT_COLLECTIONS, URGENT_COLLECTIONS)


def test_circles_go_in_the_end_and_the_settings_come_back() -> None:
    before = gc.get_threshold(), gc.get_freeze_count()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_collecting)
            await trio.testing.wait_all_tasks_blocked()
            assert gc.get_freeze_count() > 0
            # two collections of the young make it old
            old = Circle()
            gone = weakref.ref(old)
            gc.collect(0)
            gc.collect(0)
            del old
            kept = [[] for _ in range(YOUNG_OBJECTS * (WORTH_COLLECTIONS + 1))]
            assert gone() is not None
            await trio.sleep(LOOK_EVERY_S + 0.1)
            assert gone() is not None  # that second was not quiet
            await trio.sleep(LOOK_EVERY_S)
            assert gone() is None
            del kept
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert (gc.get_threshold(), gc.get_freeze_count()) == before
