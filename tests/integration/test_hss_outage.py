"""The HSS goes and comes back: calls never notice, operators do."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Awaitable, Callable

import httpx
import pytest
import trio

from conformance.lab.hss import LabHss, Subscriber
from ims_as.sip.invite_session import Answered
from tests.support.world import BOB, World, until, world

_numbers = itertools.count(1)
CAROL, DAVE = "sip:carol@ims.example.net", "sip:dave@ims.example.net"
REALM = "ims.mnc001.mcc001.3gppnetwork.org"
SI = b"ai-voice-agent"
BUDGET_S = 0.2


def profile(agent: str) -> bytes:
    return f"<AgentProfile><Agent>{agent}</Agent></AgentProfile>".encode()


class Hss:
    """A lab HSS that can be killed and started again at the same address; its data are kept."""

    def __init__(self, nursery: trio.Nursery, prefix: str) -> None:
        self._nursery = nursery
        self._host = f"{prefix}.10"
        self._users = {
            user: Subscriber(impi=user.partition(":")[2], impus=[user], repository={SI: profile("night")})
            for user in (BOB, CAROL)
        }
        self._scope = trio.CancelScope()
        self.lab = self._build()

    def _build(self) -> LabHss:
        return LabHss(self._host, 3868, self._users)

    async def start(self) -> None:
        self.lab = self._build()
        self._scope = trio.CancelScope()

        async def run(*, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
            with self._scope:
                await self.lab.run(task_status=task_status)

        await self._nursery.start(run)

    def kill(self) -> None:
        """Connections are cut, nothing listens."""
        self._scope.cancel()


@pytest.fixture
def prefix() -> str:
    """A network of its own for the HSS."""
    return f"127.{20 + os.getpid() % 200}.{150 + next(_numbers)}"


async def with_hss(prefix: str, test: Callable[[World, Hss], Awaitable[None]]) -> None:
    def agents(here: World) -> list[str]:
        engines = [{"type": "websocket", "url": here.engine.url}]
        return ["agents=" + json.dumps({name: {"engines": engines} for name in ("default", "night", "day")})]

    settings = (
        "diameter.peers=" + json.dumps([{"address": f"tcp:{prefix}.10:3868"}]),
        "diameter.alarm_after_s=0.2",
        f"diameter.sh.budget_ms={round(BUDGET_S * 1000)}",
    )
    async with trio.open_nursery() as nursery:
        hss = Hss(nursery, prefix)
        await hss.start()
        async with world(*settings, make=agents) as here:
            assert here.app.node is not None
            with trio.fail_after(5):
                await here.app.node.wait_open()
            await test(here, hss)
        nursery.cancel_scope.cancel()


async def agent_of(here: World, user: str) -> tuple[str, str, float]:
    """Of a call for that user: which agent, where the profile came from, seconds until the answer."""
    sent = trio.current_time()
    leg = here.call(to=user)
    await leg.wait(Answered)
    took_s = trio.current_time() - sent
    await here.engine.wait("start")
    record = here.app.call(leg.session.request.call_id)
    assert record is not None
    leg.session.bye()
    return record["agent"], record["profile_source"], took_s


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


def test_an_outage_costs_no_call_and_raises_alarms_that_its_end_clears(prefix: str, capsys: pytest.CaptureFixture[str]):
    async def test(here: World, hss: Hss) -> None:
        agent, source, _ = await agent_of(here, BOB)
        assert (agent, source) == ("night", "hss")
        assert not active(here)
        hss.kill()
        await until(lambda: active(here) == {"hss-unreachable", "hss-peer-down"})
        # whoever is cached keeps the profile, others get the agent of the routing; at once, as no peer is open
        assert (await agent_of(here, BOB))[0] == "night"
        agent, source, took_s = await agent_of(here, CAROL)
        assert agent == "default"
        assert source.startswith("none: ")
        assert took_s < BUDGET_S + 0.3
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

    trio.run(with_hss, prefix, test)
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"ALARM_' in line]
    assert [(each["id"], each["alarm"]) for each in told] == [
        ("ALARM_RAISED", "hss-peer-down"),
        ("ALARM_RAISED", "hss-unreachable"),
        ("ALARM_ACKNOWLEDGED", "hss-unreachable"),
        ("ALARM_CLEARED", "hss-peer-down"),
        ("ALARM_CLEARED", "hss-unreachable"),
    ]
    assert told[1]["what_to_do"]


def test_an_hss_that_accepts_and_never_answers_is_unreachable(prefix: str):
    async def test(here: World, hss: Hss) -> None:
        assert (await agent_of(here, BOB))[0] == "night"
        hss.lab.silent = True
        for number in range(3):
            agent, _, took_s = await agent_of(here, f"sip:new{number}@ims.example.net")
            assert agent == "default"
            assert BUDGET_S * 0.9 < took_s < BUDGET_S + 0.3
        await until(lambda: active(here) == {"hss-unreachable"})
        assert "in a row" in here.app.alarms()["alarms"][0]["detail"]
        assert (await agent_of(here, BOB))[0] == "night"
        hss.lab.silent = False
        await agent_of(here, DAVE)
        await until(lambda: not active(here))

    trio.run(with_hss, prefix, test)
