"""A drained worker keeps its calls, gets no new ones and ends with the last one; another one is in its place."""

import os

import trio

from ims_as.sip.invite_session import Answered, ReinviteReceived
from tests.integration.test_worker_lost import has_audio, pids_of, port_in
from tests.support.world import until, world


def is_running(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().split()[2] != "Z"
    except OSError:
        return False


def test_a_worker_is_drained():
    async def main() -> None:
        async with world() as here:
            old = here.call()
            answered = await old.wait(Answered)
            pid = pids_of(here.app.media)["w0"]
            assert await here.app.drain_worker("w0")
            assert not await here.app.drain_worker("w7")
            assert pids_of(here.app.media)["w0"] != pid
            new = here.call()
            fresh = await new.wait(Answered)
            (row, draining) = here.app.workers()
            assert (row["worker"], row["is_draining"], row["legs"]) == ("w0", False, 1)
            assert (draining["worker"], draining["is_draining"], draining["legs"]) == ("w0", True, 1)
            await has_audio(here, port_in(answered.body))
            assert port_in(fresh.body) != port_in(answered.body)
            assert is_running(pid)
            old.session.bye()
            await until(lambda: not is_running(pid))
            assert here.app.media.restarts == 0
            assert not any(isinstance(event, ReinviteReceived) for event in old.events)
            await has_audio(here, port_in(fresh.body))
            new.session.bye()
            await until(lambda: [row["legs"] for row in here.app.workers() if row["is_up"]] == [0])

    trio.run(main)


def test_a_drained_worker_that_is_killed_is_a_lost_one_for_its_calls():
    async def main() -> None:
        async with world() as here:
            call = here.call()
            answered = await call.wait(Answered)
            await here.engine.wait("start")
            pid = pids_of(here.app.media)["w0"]
            await here.app.drain_worker("w0")
            os.kill(pid, 9)
            assert (await here.engine.wait("start"))["resume"] is True
            await has_audio(here, port_in(answered.body))
            call.session.bye()

    trio.run(main)
