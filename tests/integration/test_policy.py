"""Policy in whole calls: an agent that was talked into toll fraud, calls that are no agent's, limits."""

from __future__ import annotations

import trio

from ims_as.sip.invite_session import Answered, Rejected
from tests.support.world import Leg, World, world

WIDE = 'agents.default.transfer={"allow":["tel:.*","sip:.*"]}'
BERLIN = "policy.destinations=[{allow: {prefixes: ['+4930']}}]"


async def answered(here: World) -> Leg:
    leg = here.call()
    await leg.wait(Answered)
    await here.engine.wait("start")
    return leg


async def transfer(here: World, target: str) -> str:
    """What the engine hears of it first."""
    await here.engine.send(event="transfer", target=target)
    event = await here.engine.wait("transfer")
    return event["state"] if event["state"] != "failed" else f"failed: {event['cause']}"


def decisions(here: World, leg: Leg) -> list[str]:
    record = here.app.call(leg.session.request.call_id)
    assert record is not None
    return [event["label"] for event in record["trace"] if event["kind"] == "decision"]


def test_an_agent_cannot_be_talked_into_toll_fraud():
    async def main() -> None:
        async with world(WIDE) as here:
            leg = await answered(here)
            for target in ("tel:+88216123456", "tel:+49-900-123456", "tel:112", "sip:%2b979123456@ims.example.net",
                           "sip:bob@ims.example.net?Route=%3Csip:x%3E"):  # fmt: skip
                assert await transfer(here, target) == "failed: target not allowed"
            assert not here.arrived
            assert any("policy.deny_groups: satellite" in text for text in decisions(here, leg))
            assert any("emergency number" in text for text in decisions(here, leg))
            leg.session.bye()

    trio.run(main)


def test_a_rule_allows_what_the_agent_itself_may_not():
    async def main() -> None:
        async with world(BERLIN) as here:
            here.refuse_as_phone(486)
            leg = await answered(here)
            assert await transfer(here, "tel:+4989123456") == "failed: target not allowed"
            assert await transfer(here, "tel:+49-30-123456") == "trying"
            assert (await here.engine.wait("transfer"))["cause"] == "486"
            assert [request.uri for request in here.arrived] == ["tel:+49-30-123456"]
            leg.session.bye()

    trio.run(main)


def test_calls_per_hour_and_at_once():
    async def main() -> None:
        async with world(BERLIN, "policy.limits={per_caller_per_hour: 2, per_agent_at_once: 1}") as here:
            here.refuse_as_phone(486)
            leg = await answered(here)
            for _ in range(2):
                assert await transfer(here, "tel:+4930123456") == "trying"
                await here.engine.wait("transfer")
            assert await transfer(here, "tel:+4930123456") == "failed: policy.limits.per_caller_per_hour"
            assert here.app.context.outbound_limits.up == 1
            leg.session.bye()
            await here.until_idle()
            assert here.app.context.outbound_limits.up == 0

    trio.run(main)


def test_calls_by_their_parties():
    rules = "policy.incoming=[{action: pass-on, caller: {uri: 'sip:alice@.*'}, called: {uri: 'sip:vip@.*'}},"
    rules += " {action: reject, called: {prefixes: ['+252']}, status: 486}]"

    async def main() -> None:
        async with world(rules) as here:
            (await answered(here)).session.bye()

            rejected = here.call(to="tel:+252-1234567")
            event = await rejected.wait(Rejected)
            assert event.status == 486
            assert event.response is not None
            assert (event.response.headers.get("Reason") or "").startswith("Q.850;cause=21")

            here.answer_as_phone()
            passed = here.call(to="sip:vip@ims.example.net")
            await passed.wait(Answered)
            assert here.arrived[0].routes == [here.odi]
            passed.session.bye()
            record = here.app.call(rejected.session.request.call_id)
            assert record is not None
            assert record["termination"] == {"result": "rejected", "by": "ims-as", "reason": "policy", "cause": 486}

    trio.run(main)
