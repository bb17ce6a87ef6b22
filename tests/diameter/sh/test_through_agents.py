"""The Sh client behind an agent: the user's host is named from the second request on; overload leaves the cache."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio

from diameter.avp import Avp
from diameter.base_commands import SH_APPLICATION
from diameter.dictionary import base
from diameter.dictionary.base import ResultCode
from diameter.dictionary.sh import DataReference
from diameter.message import Message
from diameter.overload import ReportType, report_avps
from diameter.sh.client import ShClient, ShConfig
from diameter.sh.errors import ShNoPeerError, ShRefusedError
from tests.diameter.agent import Agent
from tests.diameter.raw_peer import RawPeer
from tests.diameter.support import build_client, run_trio

BOB, CAROL = "sip:bob@realm", "sip:carol@realm"


def run(scenario: Callable[[ShClient, Agent], Awaitable[None]]) -> None:
    async def inside(nursery: trio.Nursery) -> None:
        agent = Agent("dra", answer_from("hss1"))
        node = build_client(await agent.listen(nursery))
        await nursery.start(node.run)
        await node.wait_open()
        config = ShConfig(
            destination_realm="realm", server_name="sip:as@realm", service_indication="ai", subscribe=False, cache_s=0
        )
        await scenario(ShClient(node, config), agent)

    run_trio(inside)


def answer_from(host: str, *extra: Avp) -> Callable[[RawPeer, Message], Awaitable[None]]:
    async def answer(raw: RawPeer, request: Message) -> None:
        state = [SH_APPLICATION.avp(), base.AUTH_SESSION_STATE.avp(1)]
        await raw.answer(request, 2001, *state, *extra, origin_host=host)

    return answer


async def pull(client: ShClient, user: str) -> None:
    await client.pull(user, [DataReference.IMS_USER_STATE])


def test_host_of_the_first_answer_is_named_afterwards() -> None:
    async def scenario(client: ShClient, agent: Agent) -> None:
        await pull(client, BOB)
        agent.answering = answer_from("hss2")
        await pull(client, CAROL)
        await pull(client, BOB)
        await pull(client, BOB)
        await pull(client, CAROL)
        # the second answer for Bob came from another host: that one counts from then on
        assert agent.hosts == [None, None, "hss1", "hss2", "hss2"]

    run(scenario)


def test_host_that_cannot_be_delivered_to_costs_no_profile() -> None:
    async def scenario(client: ShClient, agent: Agent) -> None:
        await pull(client, BOB)

        async def gone(raw: RawPeer, request: Message) -> None:
            if request.text(base.DESTINATION_HOST):
                await raw.answer(request, ResultCode.UNABLE_TO_DELIVER)
            else:
                await answer_from("hss2")(raw, request)

        agent.answering = gone
        await pull(client, BOB)
        assert agent.hosts == [None, "hss1", None]

    run(scenario)


def test_throttled_request_is_as_good_as_no_hss() -> None:
    async def scenario(client: ShClient, agent: Agent) -> None:
        agent.answering = answer_from("dra", *report_avps(sequence=1, kind=ReportType.REALM, reduction=100))
        profile = await client.fetch(BOB)
        n_sent = len(agent.seen)
        assert await client.fetch(BOB) is profile
        assert client.stats.stale == 1
        with pytest.raises(ShNoPeerError):
            await client.fetch(CAROL)
        assert len(agent.seen) == n_sent

    run(scenario)


def test_busy_hss_is_told_apart_and_then_left_alone() -> None:
    async def scenario(client: ShClient, agent: Agent) -> None:
        async def busy(raw: RawPeer, request: Message) -> None:
            await raw.answer(request, ResultCode.TOO_BUSY)

        agent.answering = busy
        with pytest.raises(ShRefusedError):
            await pull(client, BOB)
        with pytest.raises(ShNoPeerError):
            await pull(client, BOB)
        assert len(agent.seen) == 1

    run(scenario)
