"""The HSS goes and comes back: calls never notice, operators do."""

from __future__ import annotations

import json

import httpx
import pytest
import trio

from diameter.dictionary.sh import DataReference
from tests.support.hss_world import agent_of, hss_world, profile
from tests.support.world import BOB, World, until

CAROL, DAVE = "sip:carol@ims.example.net", "sip:dave@ims.example.net"
REALM = "ims.mnc001.mcc001.3gppnetwork.org"
BUDGET_S = 0.2
USERS = {BOB: profile("night"), CAROL: profile("night")}
SETTINGS = ("diameter.alarm_after_s=0.2", f"diameter.sh.budget_ms={round(BUDGET_S * 1000)}")


async def api(here: World, path: str, method: str = "GET") -> dict[str, object]:
    async with httpx.AsyncClient(trust_env=False) as client:
        response = await client.request(method, f"http://{here.as_address}:8080{path}")
        assert response.status_code == 200
        content: dict[str, object] = response.json()
        return content


def active(here: World) -> set[str]:
    return {each["alarm"] for each in here.app.alarms()["alarms"]}


def metric(here: World, alarm: str, object_: str) -> float | None:
    labels = {"alarm": alarm, "object": object_}
    return here.app.metrics.registry.get_sample_value("ims_as_alarm_active", labels)


def test_an_outage_costs_no_call_and_raises_alarms_that_its_end_clears(capsys: pytest.CaptureFixture[str]):
    async def main() -> None:
        async with hss_world(USERS, *SETTINGS) as (here, hss):
            agent, source, _ = await agent_of(here, BOB)
            assert (agent, source) == ("night", "hss")
            assert not active(here)
            hss.kill()
            await until(lambda: active(here) == {"hss-unreachable", "hss-peer-down"})
            # whoever is cached keeps the profile, others get the agent of the routing; at once, as no peer is open
            assert (await agent_of(here, BOB))[0] == "night"
            agent, source, waited_s = await agent_of(here, CAROL)
            assert agent == "default"
            assert source.startswith("none: ")
            assert waited_s < BUDGET_S + 0.3
            assert metric(here, "hss-unreachable", REALM) == 1
            listed = (await api(here, "/alarms"))["alarms"]
            assert isinstance(listed, list)
            assert [(each["alarm"], each["severity"]) for each in listed] == [
                ("hss-unreachable", "major"),
                ("hss-peer-down", "minor"),
            ]
            assert listed[0]["object"] == REALM
            acknowledged = await api(here, f"/alarms/{listed[0]['id']}/acknowledge", "POST")
            assert acknowledged["acknowledged_at"]
            await hss.start()
            await until(lambda: not active(here))
            assert metric(here, "hss-unreachable", REALM) == 0
            assert len(here.app.alarms()["cleared"]) == 2
            # the users that could not be asked are asked again
            assert (await agent_of(here, CAROL))[:2] == ("night", "hss")

    trio.run(main)
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"ALARM_' in line]
    assert [(each["id"], each["alarm"]) for each in told] == [
        ("ALARM_RAISED", "hss-peer-down"),
        ("ALARM_RAISED", "hss-unreachable"),
        ("ALARM_ACKNOWLEDGED", "hss-unreachable"),
        ("ALARM_CLEARED", "hss-peer-down"),
        ("ALARM_CLEARED", "hss-unreachable"),
    ]
    assert told[1]["what_to_do"]


def test_an_hss_that_accepts_and_never_answers_is_unreachable():
    async def main() -> None:
        async with hss_world(USERS, *SETTINGS) as (here, hss):
            assert (await agent_of(here, BOB))[0] == "night"
            hss.lab.silent = True
            for number in range(3):
                agent, _, waited_s = await agent_of(here, f"sip:new{number}@ims.example.net")
                assert agent == "default"
                assert BUDGET_S * 0.9 < waited_s < BUDGET_S + 0.3
            await until(lambda: active(here) == {"hss-unreachable"})
            assert "in a row" in here.app.alarms()["alarms"][0]["detail"]
            assert (await agent_of(here, BOB))[0] == "night"
            hss.lab.silent = False
            await agent_of(here, DAVE)
            await until(lambda: not active(here))

    trio.run(main)


def test_a_missing_permission_costs_the_profile_and_is_an_alarm():
    async def main() -> None:
        async with hss_world(USERS, *SETTINGS) as (here, hss):
            hss.lab.sh.denied = {DataReference.REPOSITORY_DATA}
            assert (await agent_of(here, BOB))[0] == "default"
            await until(lambda: active(here) == {"sh-not-permitted"})

    trio.run(main)


@pytest.mark.parametrize("how", ["killed", "silent"])
def test_no_call_of_a_burst_waits_longer_than_the_budget_or_fails(how: str, capsys: pytest.CaptureFixture[str]):
    """Users who are cached, stale ones among them, keep their agent; new ones get that of the routing."""

    async def main() -> None:
        async with hss_world(USERS, *SETTINGS, "diameter.sh.cache_s=0") as (here, hss):
            for _ in range(2):
                assert (await agent_of(here, BOB))[:2] == ("night", "hss")  # asked each time
            if how == "killed":
                hss.kill()
                await until(lambda: here.app.node is not None and not here.app.node.is_open())
            else:
                hss.lab.silent = True
            found: dict[str, tuple[str, str, float]] = {}

            async def call(user: str) -> None:
                found[user] = await agent_of(here, user)

            async with trio.open_nursery() as nursery:
                for user in (BOB, CAROL, *(f"sip:new{number}@ims.example.net" for number in range(8))):
                    nursery.start_soon(call, user)
            assert {user: agent for user, (agent, *_) in found.items() if user != BOB} == dict.fromkeys(
                found.keys() - {BOB}, "default"
            )
            assert found[BOB][:2] == ("night", "stale")
            assert max(waited_s for *_, waited_s in found.values()) < BUDGET_S + 0.3

    trio.run(main)
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"SH_FAILED"' in line]
    assert len(told) == 10
    assert all(each["error"] and each["call_id"] for each in told)
