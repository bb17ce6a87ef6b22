"""A world with an HSS that can be killed and started again: for tests of profiles, their cache and outages."""

from __future__ import annotations

import itertools
import json
import os
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import trio

from conformance.lab.hss import LabHss, Subscriber
from ims_as.sip.invite_session import Answered
from tests.support.world import IDENTITY, World, world

__all__ = ["AGENTS", "OWN_CRITERIA", "SERVICE_INDICATION", "Hss", "agent_of", "hss_world", "profile"]

_networks = itertools.count(1)
SERVICE_INDICATION = b"ai-voice-agent"
OWN_CRITERIA = (
    "<IFCs><InitialFilterCriteria><Priority>1</Priority><ApplicationServer>"
    f"<ServerName>{IDENTITY}</ServerName><DefaultHandling>0</DefaultHandling>"
    "</ApplicationServer></InitialFilterCriteria></IFCs>"
).encode()
"""A user without any would not have come to us."""
AGENTS = ("default", "night", "day")


def profile(agent: str) -> bytes:
    """Service data that names an agent."""
    return f"<AgentProfile><Agent>{agent}</Agent></AgentProfile>".encode()


class Hss:
    """A lab HSS at an address of its own; its data outlive it."""

    def __init__(self, nursery: trio.Nursery, users: Mapping[str, bytes | None]) -> None:
        """``users``: public identity → service data, None for none."""
        self._nursery = nursery
        self.host = f"127.{20 + os.getpid() % 200}.255.{next(_networks) % 250 + 2}"
        self._users = {
            user: Subscriber(
                impi=user.partition(":")[2],
                impus=[user],
                repository={} if data is None else {SERVICE_INDICATION: data},
                ifcs=OWN_CRITERIA,
            )
            for user, data in users.items()
        }
        self._scope = trio.CancelScope()
        self.lab = self._build()
        self._asked: Counter[str] = Counter()

    def _build(self) -> LabHss:
        return LabHss(self.host, 3868, self._users)

    async def start(self, *, keeps_state: bool = False) -> None:
        """``keeps_state``: the connections were lost, not the HSS: it still has its subscriptions."""
        if not keeps_state:
            self._asked += Counter(each.command for each in self.lab.requests)
            self.lab = self._build()
        self._scope = trio.CancelScope()

        async def run(*, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
            with self._scope:
                await self.lab.run(task_status=task_status)

        await self._nursery.start(run)

    def kill(self) -> None:
        """Connections are cut, nothing listens."""
        self._scope.cancel()

    def asked(self, command: str) -> int:
        """How many requests of that name have come, in all its lives."""
        return self._asked[command] + sum(each.command == command for each in self.lab.requests)

    def change(self, user: str, data: bytes | None) -> None:
        """As an operator does it; those who subscribed are told."""
        self.lab.set_repository(user, SERVICE_INDICATION, data)


@asynccontextmanager
async def hss_world(users: Mapping[str, bytes | None], *overrides: str) -> AsyncIterator[tuple[World, Hss]]:
    """A running server with `AGENTS`, connected to an HSS with these users."""

    def agents(here: World) -> list[str]:
        engines = [{"type": "websocket", "url": here.engine.url}]
        return ["agents=" + json.dumps({name: {"engines": engines} for name in AGENTS})]

    async with trio.open_nursery() as nursery:
        hss = Hss(nursery, users)
        await hss.start()
        peers = "diameter.peers=" + json.dumps([{"address": f"tcp:{hss.host}:3868"}])
        async with world(peers, *overrides, make=agents) as here:
            assert here.app.node is not None
            with trio.fail_after(5):
                await here.app.node.wait_open()
            yield here, hss
        nursery.cancel_scope.cancel()


async def agent_of(here: World, user: str, headers: Sequence[tuple[str, str]] = ()) -> tuple[str, str, float]:
    """Of a call for that user: which agent, where the profile came from, seconds that it waited for the profile."""
    leg = here.call(to=user, headers=headers)
    await leg.wait(Answered)
    record = here.app.call(leg.session.request.call_id)
    assert record is not None
    leg.session.bye()
    (told,) = (each for each in record["trace"] if each["kind"] == "sh" and each["target"] == "hss")
    return record["agent"], record["profile_source"], told["at"] - record["received_at"]
