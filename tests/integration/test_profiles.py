"""The served user's profile over Sh decides; a bad HSS never delays a call past its budget and never fails one."""

import itertools
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import trio

from conformance.lab.hss import LabHss, Subscriber
from ims_as.sip.invite_session import Answered, Ended, ReinviteReceived, Rejected
from tests.support.world import ALICE, BOB, IDENTITY, Leg, World, until, world

_numbers = itertools.count(1)
SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "ims-as.v1.schema.json").read_text())
NIGHT = {"greeting": "We are closed"}
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
    hss: LabHss,
    prefix: str,
    test: Callable[[World], Awaitable[None]],
    *overrides: str,
    engine: bool = True,
    agents_of: dict[str, dict[str, Any]] | None = None,
    core: bool = False,
) -> None:
    """``agents_of``: what agents have besides the world's engine; ``core``: calls of ours go to the world's core."""

    def agents(here: World) -> list[str]:
        engines = [{"type": "websocket", "url": here.engine.url}]
        told = {"default": {}, **(agents_of or {})}
        way = [f"sip.core=sip:{here.core_address}:5060"] if core else []
        return [*way, "agents=" + json.dumps({name: {"engines": engines, **more} for name, more in told.items()})]

    async with trio.open_nursery() as nursery:
        await nursery.start(hss.run)
        async with world(peers(prefix), *overrides, engine=engine, make=agents) as here:
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


def outcome(here: World, leg: Leg) -> tuple[str, str, str, int | None]:
    """How the call ended: result, by, reason, cause."""
    record = here.app.call(leg.session.request.call_id)
    assert record is not None
    ended = record["termination"]
    return ended["result"], ended["by"], ended["reason"], ended["cause"]


def metric(here: World, name: str, **labels: str) -> float:
    return here.app.metrics.registry.get_sample_value(f"ims_as_{name}", labels) or 0.0


def test_the_profile_chooses_the_agent(hss_prefix: str):
    async def test(here: World) -> None:
        leg = here.call()
        await leg.wait(Answered)
        start = await here.engine.wait("start")
        assert (start["agent"], start["greeting"]) == ("night", "We are closed")
        leg.session.bye()

    settings = profile(Agent="night")
    trio.run(lambda: run_with(hss_for(hss_prefix, settings=settings), hss_prefix, test, agents_of={"night": NIGHT}))


def test_an_agent_that_is_not_here_and_a_wrong_value_cost_only_themselves(hss_prefix: str):
    async def test(here: World) -> None:
        leg = here.call()
        await leg.wait(Answered)
        start = await here.engine.wait("start")
        assert (start["agent"], start["language"]) == ("default", "de")
        leg.session.bye()
        record = here.app.call(leg.session.request.call_id)
        assert record is not None
        assert [each.partition(":")[0] for each in record["profile_problems"]] == ["Limits/CallSeconds", "Agent"]
        assert any("no agent 'day'" in each["label"] for each in record["trace"])
        assert metric(here, "profile_problems_total", element="Agent") == 1
        assert metric(here, "profile_problems_total", element="Limits/CallSeconds") == 1

    settings = profile(Agent="day", Language="de", Limits="<CallSeconds>long</CallSeconds>")
    trio.run(lambda: run_with(hss_for(hss_prefix, settings=settings), hss_prefix, test))


def test_service_data_that_is_no_xml_costs_no_call(hss_prefix: str):
    hss = hss_for(hss_prefix, settings=b"<Other/>")

    async def test(here: World) -> None:
        leg = here.call()
        await leg.wait(Answered)
        assert (await here.engine.wait("start"))["agent"] == "default"
        leg.session.bye()
        assert metric(here, "profile_problems_total", element="document") == 1

    trio.run(lambda: run_with(hss, hss_prefix, test))


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ("<ConcurrentCalls>1</ConcurrentCalls>", "concurrent-calls"),
        ("<CallsPerHour>1</CallsPerHour>", "calls-per-hour"),
        ("<CallsPerDay>1</CallsPerDay>", "calls-per-day"),
    ],
)
def test_a_call_beyond_the_users_limit_is_given_back(limits: str, reason: str, hss_prefix: str):
    async def test(here: World) -> None:
        first = here.call()
        await first.wait(Answered)
        second = here.call()
        rejected = await second.wait(Rejected)
        assert rejected.status == 503
        assert rejected.response is not None
        assert "cause=47" in (rejected.response.headers.get("Reason") or "")
        assert outcome(here, second) == ("rejected", "ims-as", reason, 503)
        assert metric(here, "profile_limited_total", limit=reason) == 1
        carol = here.call(to="sip:carol@ims.example.net")  # whose calls are her own
        await carol.wait(Answered)
        for leg in (first, carol):
            leg.session.bye()
        await until(lambda: here.app.context.admission.held == 0)
        third = here.call()
        if reason == "concurrent-calls":
            await third.wait(Answered)
            third.session.bye()
        else:
            assert (await third.wait(Rejected)).status == 503
        await until(lambda: here.app.context.user_limits.up == 0)

    trio.run(lambda: run_with(hss_for(hss_prefix, settings=profile(Limits=limits)), hss_prefix, test))


def test_a_limit_under_session_terminated_passes_the_call_on(hss_prefix: str):
    async def test(here: World) -> None:
        first = here.call()
        await first.wait(Answered)
        here.answer_as_phone()
        second = here.call()
        await second.wait(Answered)
        assert here.arrived[0].routes == [here.odi]
        assert len(here.engine.connections) == 1
        for leg in (first, second):
            leg.session.bye()

    settings = profile(Limits="<ConcurrentCalls>1</ConcurrentCalls>")
    trio.run(lambda: run_with(hss_for(hss_prefix, handling=1, settings=settings), hss_prefix, test))


def test_a_call_ends_when_its_time_is_over(hss_prefix: str):
    async def test(here: World) -> None:
        leg = here.call()
        await leg.wait(Answered)
        answered = trio.current_time()
        assert (await here.engine.wait("start"))["max_seconds"] == 1
        assert (await here.engine.wait("stop"))["reason"] == "max-duration"
        ended = await leg.wait(Ended)
        assert ended.by == "remote"
        assert 0.9 < trio.current_time() - answered < 4
        await until(lambda: here.app.context.admission.held == 0)
        assert outcome(here, leg) == ("answered", "ims-as", "max-duration", None)

    settings = profile(Limits="<CallSeconds>1</CallSeconds>")
    trio.run(lambda: run_with(hss_for(hss_prefix, settings=settings), hss_prefix, test))


def test_who_talks_to_a_person_is_not_ended(hss_prefix: str):
    async def test(here: World) -> None:
        phones = here.answer_as_phone()
        leg = here.call()
        await leg.wait(Answered)
        await here.engine.wait("start")
        await here.engine.send(event="transfer", target="served-user")
        await leg.wait(ReinviteReceived)
        leg.session.accept_reinvite(here.caller_rtp.offer())
        phone = await phones.receive()
        await until(lambda: (here.app.call(leg.session.request.call_id) or {})["state"] == "joined")
        await trio.sleep(1.3)
        assert not [each for each in (*leg.events, *phone.events) if isinstance(each, Ended)]
        leg.session.bye()
        await phone.wait(Ended)

    settings = profile(Limits="<CallSeconds>1</CallSeconds>")
    trio.run(lambda: run_with(hss_for(hss_prefix, settings=settings), hss_prefix, test))


OWN_QUEUE, AGENTS_QUEUE = "sip:desk@ims.example.net", "sip:everybody@ims.example.net"


@pytest.mark.parametrize("queue", [OWN_QUEUE, None, "tel:+49900123456"])
def test_the_users_own_queue_takes_the_place_of_the_agents(queue: str | None, hss_prefix: str):
    """Also when the engine dies; one that the policy denies is not used."""
    settings = profile() if queue is None else profile(Queue=queue)
    expected = OWN_QUEUE if queue == OWN_QUEUE else AGENTS_QUEUE

    async def test(here: World) -> None:
        here.refuse_as_phone(486)
        leg = here.call()
        await leg.wait(Answered)
        await here.engine.wait("start")
        await here.engine.send(event="transfer", target="queue")
        await until(lambda: len(here.arrived) == 1)
        assert here.arrived[0].uri == expected
        while (await here.engine.wait("transfer"))["state"] != "failed":
            pass
        here.engine.die()
        await until(lambda: len(here.arrived) == 2)
        assert here.arrived[1].uri == expected
        leg.session.bye()

    agents = {"default": {"transfer": {"allow": ["queue"], "queue": AGENTS_QUEUE}}}
    hss = hss_for(hss_prefix, settings=settings)
    trio.run(lambda: run_with(hss, hss_prefix, test, agents_of=agents))


@pytest.mark.parametrize("recording", [True, False])
def test_consent_reaches_the_engine_and_the_charging_record(recording: bool, hss_prefix: str, tmp_path: Path):
    async def test(here: World) -> None:
        leg = here.call()
        await leg.wait(Answered)
        start = await here.engine.wait("start")
        assert start["consent"] == {"recording": recording, "announce": True}
        jsonschema.validate(start, {**SCHEMA, "$ref": "#/$defs/toEngine"})
        leg.session.bye()
        record = tmp_path / "current.part"
        await until(lambda: record.exists() and record.read_bytes())
        told = json.loads(record.read_bytes())["serviceSpecificInfo"]
        assert told["consent"] == {"recording": recording, "announce": True}

    text = f"<Recording>{str(recording).lower()}</Recording><Announce>1</Announce>"
    hss = hss_for(hss_prefix, settings=profile(Consent=text))
    trio.run(lambda: run_with(hss, hss_prefix, test, f"cdr.directory={tmp_path}"))


def test_a_call_that_the_agent_makes_for_the_user_is_limited_too(hss_prefix: str):
    hss = hss_for(
        hss_prefix,
        settings=profile(Limits="<CallSeconds>1</CallSeconds>", Consent="<Recording>0</Recording>", Language="de"),
    )

    async def test(here: World) -> None:
        phones = here.answer_as_phone()
        order = {"to": ALICE, "on_behalf_of": BOB}
        call_id, _ = here.app.place_call(order, None)
        phone = await phones.receive()
        start = await here.engine.wait("start")
        assert (start["max_seconds"], start["consent"], start["language"]) == (1, {"recording": False}, "de")
        assert (await phone.wait(Ended)).by == "remote"
        await until(lambda: (here.app.call(call_id) or {})["termination"] is not None)
        record = here.app.call(call_id)
        assert record is not None
        ended = record["termination"]
        assert (ended["result"], ended["by"], ended["reason"]) == ("answered", "ims-as", "max-duration")

    anybody = {"outbound": {"allow": ["sip:.*"], "identities": ["sip:.*"]}}
    trio.run(lambda: run_with(hss, hss_prefix, test, core=True, agents_of={"default": anybody}))


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
