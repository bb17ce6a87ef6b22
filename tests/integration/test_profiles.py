"""The served user's profile over Sh decides; a bad HSS never delays a call past its budget and never fails one."""

import itertools
import json
import os
from collections.abc import Awaitable, Callable

import pytest
import trio

from conformance.lab.hss import LabHss, Subscriber
from ims_as.sip.invite_session import Answered, Rejected
from tests.support.world import BOB, IDENTITY, World, until, world

_numbers = itertools.count(1)
CRITERIA = """<IFCs><InitialFilterCriteria><Priority>0</Priority><TriggerPoint><ConditionTypeCNF>1</ConditionTypeCNF>
<SPT><ConditionNegated>0</ConditionNegated><Group>0</Group><Method>INVITE</Method></SPT></TriggerPoint>
<ApplicationServer><ServerName>{server}</ServerName><DefaultHandling>{handling}</DefaultHandling></ApplicationServer>
</InitialFilterCriteria></IFCs>"""


def profile(**elements: str) -> bytes:
    inside = "".join(f"<{name}>{value}</{name}>" for name, value in elements.items())
    return f"<AgentProfile>{inside}</AgentProfile>".encode()


@pytest.fixture
def hss_prefix() -> str:
    """A network of its own for the HSS."""
    return f"127.{20 + os.getpid() % 200}.{200 + next(_numbers)}"


def hss_for(prefix: str, *, handling: int = 0, settings: bytes | None = None) -> LabHss:
    subscriber = Subscriber(
        impi="bob@ims.example.net",
        impus=[BOB],
        repository={} if settings is None else {b"ai-voice-agent": settings},
        ifcs=CRITERIA.format(server=IDENTITY, handling=handling).encode(),
    )
    return LabHss(f"{prefix}.10", 3868, {BOB: subscriber})


def peers(prefix: str) -> str:
    return "diameter.peers=" + json.dumps([{"address": f"tcp:{prefix}.10:3868"}])


async def run_with(
    hss: LabHss, prefix: str, test: Callable[[World], Awaitable[None]], *overrides: str, engine: bool = True
) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(hss.run)
        async with world(peers(prefix), *overrides, engine=engine) as here:
            assert here.app.node is not None
            with trio.fail_after(5):
                await here.app.node.wait_open()
            await test(here)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("handling", "passed_on"), [(0, False), (1, True)])
def test_default_handling_decides_between_503_and_pass_on(handling: int, passed_on: bool, hss_prefix: str):
    async def test(here: World) -> None:
        here.answer_as_phone()
        leg = here.call()
        if passed_on:
            await leg.wait(Answered)
            assert here.arrived[0].routes == [here.odi]
            leg.session.bye()
        else:
            assert (await leg.wait(Rejected)).status == 503
            assert not here.arrived

    trio.run(lambda: run_with(hss_for(hss_prefix, handling=handling), hss_prefix, test, engine=False))


def test_a_user_who_has_it_switched_off_is_passed_on(hss_prefix: str):
    async def test(here: World) -> None:
        here.answer_as_phone()
        leg = here.call()
        await leg.wait(Answered)
        assert here.arrived[0].routes == [here.odi]
        assert not here.engine.connections
        leg.session.bye()

    trio.run(lambda: run_with(hss_for(hss_prefix, settings=profile(Enabled="false")), hss_prefix, test))


def test_the_profile_names_greeting_and_language_and_is_cached(hss_prefix: str):
    hss = hss_for(hss_prefix, settings=profile(Enabled="true", Language="de", Greeting="Guten Tag"))

    async def test(here: World) -> None:
        for _ in range(3):
            leg = here.call()
            await leg.wait(Answered)
            start = await here.engine.wait("start")
            assert (start["language"], start["greeting"]) == ("de", "Guten Tag")
            leg.session.bye()
        assert here.app.sh is not None
        assert here.app.sh.stats.pulls == 1
        assert here.app.sh.stats.hits >= 2
        # a change is pushed and used for the next call, without asking
        await until(lambda: here.app.sh.stats.subscriptions == 1)
        hss.set_repository(BOB, b"ai-voice-agent", profile(Enabled="true", Language="fr", Greeting="Bonjour"))
        await until(lambda: here.app.sh.stats.pushes == 1)
        leg = here.call()
        await leg.wait(Answered)
        assert (await here.engine.wait("start"))["language"] == "fr"
        assert here.app.sh.stats.pulls == 1
        leg.session.bye()

    trio.run(lambda: run_with(hss, hss_prefix, test))


def test_a_silent_hss_costs_its_budget_and_no_more(hss_prefix: str):
    hss = hss_for(hss_prefix)

    async def test(here: World) -> None:
        hss.silent = True
        leg = here.call()
        sent = trio.current_time()
        await leg.wait(Answered)
        assert 0.1 < trio.current_time() - sent < 0.6
        assert (await here.engine.wait("start"))["agent"] == "default"
        leg.session.bye()

    trio.run(lambda: run_with(hss, hss_prefix, test, "diameter.sh.budget_ms=150"))


def test_an_unknown_user_gets_the_agent_that_routing_names(hss_prefix: str):
    async def test(here: World) -> None:
        leg = here.call(to="sip:carol@ims.example.net")
        await leg.wait(Answered)
        record = here.app.call(leg.session.request.call_id)
        assert record is not None
        assert record["profile_source"] == "none: the HSS does not know the user"
        leg.session.bye()

    trio.run(lambda: run_with(hss_for(hss_prefix), hss_prefix, test))


def test_without_any_hss_calls_are_served(hss_prefix: str):
    async def main() -> None:
        async with world(peers(hss_prefix)) as here:  # nothing listens there
            leg = here.call()
            await leg.wait(Answered)
            leg.session.bye()

    trio.run(main)
