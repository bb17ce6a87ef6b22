"""A media worker that is killed costs its own calls and nothing else."""

import os
import signal

import trio

from ims_as.sip.invite_session import Answered, Ended, Rejected
from tests.integration.test_leaks import worker_pid
from tests.support.world import until, world


def test_its_calls_end_and_the_next_worker_takes_the_next_call():
    async def main() -> None:
        async with world() as here:
            leg = here.call()
            await leg.wait(Answered)
            killed = worker_pid()
            os.kill(killed, signal.SIGKILL)
            assert (await leg.wait(Ended)).by == "remote"
            await until(lambda: here.app.context.media.is_ready and worker_pid() != killed)
            again = here.call()
            await again.wait(Answered)
            again.session.bye()
            await here.until_idle()
            record = here.app.call(leg.session.request.call_id)
            assert record is not None
            assert record["termination"]["reason"] == "media-worker-lost"
            assert here.app.media.restarts == 1

    trio.run(main)


def test_an_invite_while_no_worker_is_there_goes_back_to_the_core():
    async def main() -> None:
        async with world() as here:
            os.kill(worker_pid(), signal.SIGKILL)
            await until(lambda: not here.app.context.media.is_ready)
            leg = here.call()
            assert (await leg.wait(Rejected)).status == 503
            await until(lambda: here.app.context.media.is_ready)

    trio.run(main)
