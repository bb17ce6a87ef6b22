"""Tasks that wait for something that other tasks bring about, cheaper than events and cancel scopes for each (trio)."""

from __future__ import annotations

from heapq import heapify, heappop, heappush

import trio

__all__ = ["Deadlines", "Parked"]

# entries of tasks that wait no more are swept out when there are twice as many as of those that do, and this
_KEPT_ENTRIES = 64


class Parked:
    """A place where one task sleeps until it is woken. A wake while nobody sleeps is lost: look before you sleep."""

    __slots__ = ("_task",)

    def __init__(self) -> None:
        self._task: trio.lowlevel.Task | None = None

    @property
    def is_taken(self) -> bool:
        """True while a task sleeps here."""
        return self._task is not None

    def wake(self) -> None:
        """The sleeper goes on."""
        task = self._task
        if task is not None:
            self._task = None
            trio.lowlevel.reschedule(task)

    async def sleep(self) -> None:
        """Until woken. Safe to cancel."""
        self._task = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(self._leave)

    def _leave(self, _: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED


class Deadlines:
    """Deadlines of many sleepers behind one timer, which `run` keeps; without it each has its own."""

    def __init__(self) -> None:
        self._entries: list[tuple[float, int, Parked]] = []
        self._n_entered = 0
        self._n_waiting = 0
        self._timer: trio.CancelScope | None = None

    async def wait(self, place: Parked, deadline: float) -> None:
        """Sleeps there until woken or until the deadline, in seconds of trio's clock; also wakes when `run` ends.

        Whoever wants to know which of them it was looks at what it waited for, and at the clock. Safe to cancel.
        """
        timer = self._timer
        if timer is None:
            with trio.move_on_at(deadline):
                await place.sleep()
            return
        if len(self._entries) >= 2 * self._n_waiting + _KEPT_ENTRIES:
            self._entries = [entry for entry in self._entries if entry[2].is_taken]
            heapify(self._entries)
        self._n_entered += 1
        heappush(self._entries, (deadline, self._n_entered, place))
        if deadline < timer.deadline:
            timer.deadline = deadline
        self._n_waiting += 1
        try:
            await place.sleep()
        finally:
            self._n_waiting -= 1

    async def run(self) -> None:
        """Wakes sleepers when it is time, until cancelled."""
        try:
            while True:
                now = trio.current_time()
                while self._entries and (self._entries[0][0] <= now or not self._entries[0][2].is_taken):
                    heappop(self._entries)[2].wake()
                next_deadline = self._entries[0][0] if self._entries else float("inf")
                with trio.CancelScope(deadline=next_deadline) as self._timer:
                    await trio.sleep_forever()
        finally:
            self._timer = None
            entries, self._entries = self._entries, []
            for _, _, place in entries:
                place.wake()
