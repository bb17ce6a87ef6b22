"""Workers that have no room: a call is refused or passed on before any audio is late."""

import pytest
import trio

from ims_as.media_placement import WorkerLoad
from ims_as.media_pool import MediaPool
from ims_as.sip.invite_session import Answered, Rejected
from tests.support.world import World, world

LIMIT = "media.max_load=0.85"


def stays_at(pool: MediaPool, **loads: float) -> None:
    """The workers' own reports do not count any more."""
    for slot, load in loads.items():
        tracker = pool.links[slot].load
        WorkerLoad.report(tracker, load, load, 0.0)
        tracker.report = lambda *_: None  # type: ignore[method-assign]


def test_a_call_goes_back_to_the_core_when_all_workers_are_busy():
    async def main() -> None:
        async with world("media.workers=2", LIMIT) as here:
            stays_at(here.app.media, w0=0.9, w1=0.86)
            began = trio.current_time()
            rejected = await here.call().wait(Rejected)
            assert rejected.status == 503
            assert rejected.response is not None
            assert "cause=47" in (rejected.response.headers.get("reason") or "")
            assert "retry-after" not in rejected.response.headers
            assert trio.current_time() - began < 1
            assert here.app.media.refused == 1
            assert not here.engine.events, "no engine was bothered"

    trio.run(main)


def test_a_call_that_must_not_get_a_503_goes_on_by_its_route():
    async def main() -> None:
        async with world(LIMIT, "sip.on_failure=pass-on") as here:
            stays_at(here.app.media, w0=0.95)
            here.refuse_as_phone(486)
            assert (await here.call().wait(Rejected)).status == 486
            assert len(here.arrived) == 1

    trio.run(main)


def test_the_less_busy_worker_gets_the_calls_and_a_call_that_is_up_finds_room():
    async def main() -> None:
        async with world("media.workers=2", LIMIT) as here:
            stays_at(here.app.media, w0=0.7, w1=0.6)
            assert await placed(here, 6) == {"w0": 0, "w1": 6}
            pool = here.app.media
            stays_at(pool, w0=0.86, w1=0.9)
            assert pool.new_leg(lambda _: None, is_moving=True).link.name == "w0"

    trio.run(main)


def test_a_burst_is_spread():
    async def main() -> None:
        async with world("media.workers=2", LIMIT) as here:
            stays_at(here.app.media, w0=0.1, w1=0.1)
            assert await placed(here, 6) == {"w0": 3, "w1": 3}

    trio.run(main)


async def placed(here: World, count: int) -> dict[str, int]:
    """So many calls; how many each worker has got."""
    calls = [here.call() for _ in range(count)]
    for call in calls:
        await call.wait(Answered)
    legs = {slot: link.legs for slot, link in here.app.media.links.items()}
    for call in calls:
        call.session.bye()
    await here.until_idle()
    return legs


@pytest.mark.parametrize("load", [0.1, 0.5])
def test_no_limit_refuses_nobody(load):
    async def main() -> None:
        async with world() as here:
            stays_at(here.app.media, w0=load + 0.5)
            call = here.call()
            await call.wait(Answered)
            call.session.bye()

    trio.run(main)
