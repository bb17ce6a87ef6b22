"""Hundreds of calls in a row, some ended every which way: descriptors, tasks, objects, ports and rows are back."""

import gc
import os
import weakref
from collections import Counter

import trio

import ims_as.call.record
from ims_as.sip.invite_session import Answered, Ended, Rejected
from tests.support.world import Leg, World, until, world

CALLS = 120


class CountTasks(trio.abc.Instrument):
    """How many tasks there are."""

    def __init__(self) -> None:
        self.count = 0

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        self.count += 1

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        self.count -= 1


async def one_call(here: World, number: int) -> None:
    leg = here.call()
    match number % 4:
        case 0:  # the caller gives up
            leg.session.cancel()
            while not any(isinstance(event, Answered | Rejected) for event in leg.events):
                await trio.sleep(0.002)
            await end(leg)
        case 1:  # the agent hangs up
            await leg.wait(Answered)
            here.engine.events.clear()
            await here.engine.send(event="hangup")
            await leg.wait(Ended)
        case _:
            await leg.wait(Answered)
            await end(leg)
    here.engine.events.clear()


async def end(leg: Leg) -> None:
    if not leg.session.is_terminated:
        leg.session.bye()


def descriptors(pid: int | str) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def worker_pid() -> int:
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as text, open(f"/proc/{pid}/stat") as stat:
                if b"media.worker" in text.read() and int(stat.read().rpartition(")")[2].split()[1]) == os.getpid():
                    return int(pid)
        except OSError:
            continue
    raise LookupError("no media worker")


def objects_of_calls() -> Counter[str]:
    gc.collect()
    names = Counter(type(each).__name__ for each in gc.get_objects())
    return Counter({name: names[name] for name in ("AgentCall", "MediaLeg", "InviteSession", "Handover", "CallRecord")})


def test_many_calls_leave_nothing(monkeypatch):
    monkeypatch.setattr(ims_as.call.record, "MAX_ENDED_CALLS", 5)
    tasks = CountTasks()

    async def main() -> None:
        async with world() as here:
            worker = worker_pid()
            for number in range(12):
                await one_call(here, number)
            await here.until_idle()
            before = (tasks.count, descriptors("self"), descriptors(worker))
            for number in range(CALLS):
                await one_call(here, number)
            await here.until_idle()
            await until(lambda: (tasks.count, descriptors("self")) <= before[:2])
            await until(lambda: descriptors(worker) <= before[2])
            left = objects_of_calls()
            assert left["AgentCall"] == left["MediaLeg"] == left["Handover"] == 0
            assert left["CallRecord"] <= 5

    trio.run(main, instruments=[tasks])


def test_a_call_that_is_over_is_freed_without_the_collector():
    async def main() -> None:
        async with world() as here:
            leg = here.call()
            await leg.wait(Answered)
            gone = weakref.ref(next(iter(here.app.context.calls)))
            gc.collect()
            gc.disable()
            try:
                await end(leg)
                await here.until_idle()
                await until(lambda: gone() is None)
            finally:
                gc.enable()

    trio.run(main)
