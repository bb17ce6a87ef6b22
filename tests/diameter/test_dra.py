"""Requests by realm through agents: which host is remembered, what each result code leads to, back-off, overload."""

from __future__ import annotations

import pytest
import trio

from diameter.dictionary import base
from diameter.dictionary.base import VENDOR_3GPP, ResultCode
from diameter.errors import PeerBusyError, RequestTimeoutError, ThrottledError
from diameter.message import Message
from diameter.node import DiameterNode
from diameter.overload import OC_OLR, SUPPORTED_FEATURES, ReportType, report_avps
from tests.diameter.agent import Agent, Answering, refusing, serving
from tests.diameter.raw_peer import RawPeer
from tests.diameter.support import build_client, build_request, run_trio


async def start(nursery: trio.Nursery, *agents: Agent, **config: object) -> DiameterNode:
    client = build_client(*[await agent.listen(nursery) for agent in agents], **config)
    await nursery.start(client.run)
    await client.wait_open(len(agents))
    return client


async def ask(client: DiameterNode, user: str | None = "sip:u@realm", deadline_s: float = 2.0) -> int | None:
    answer = await client.request(build_request(client), deadline_s=deadline_s, user=user)
    return answer.number(base.RESULT_CODE)


def test_first_answer_names_the_users_host() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        dra = Agent("dra", serving("hss1", "hss2"))
        client = await start(nursery, dra)
        for user in ("a", "b", "a", "b", "a", None, None):
            assert await ask(client, user) == 2001
        assert dra.hosts == [None, None, "hss1", "hss2", "hss1", None, None]
        # Destination-Host stands before Destination-Realm
        codes = [avp.code for avp in dra.seen[2].avps]
        assert codes[codes.index(283) - 1] == 293

    run_trio(scenario)


def test_host_that_is_a_peer_is_not_remembered() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        hss = Agent("hss", refusing(2001))
        client = await start(nursery, hss)
        await ask(client)
        await ask(client)
        assert hss.hosts == [None, None]

    run_trio(scenario)


def test_host_named_by_the_caller_stays() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        dra = Agent("dra", serving("hss1"))
        client = await start(nursery, dra)
        request = build_request(client, destination_host="hss9")
        answer = await client.request(request, deadline_s=1.0, user="a")
        assert answer.number(base.RESULT_CODE) == 3002
        assert dra.hosts == ["hss9"]

    run_trio(scenario)


@pytest.mark.parametrize("code", [3002, 3003, 3005, 3007])
def test_host_that_is_gone_is_forgotten_and_the_realm_asked(code: int) -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        dra = Agent("dra", serving("hss1"))
        client = await start(nursery, dra)
        await ask(client)

        async def moved(raw: RawPeer, request: Message) -> None:
            named = request.text(base.DESTINATION_HOST)
            await raw.answer(request, code if named == "hss1" else 2001, origin_host="hss2")

        dra.answering = moved
        assert await ask(client) == 2001
        assert await ask(client) == 2001
        assert dra.hosts == [None, "hss1", None, "hss2"]
        assert client.counters["host_fallback"] == 1
        # answered, so nobody has carried it out: no T; and it is the same request
        assert not dra.seen[2].is_retransmitted
        assert dra.seen[2].end_to_end == dra.seen[1].end_to_end

    run_trio(scenario)


def test_user_that_was_moved_is_asked_by_realm_next_time() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        dra = Agent("dra", serving("hss1"))
        client = await start(nursery, dra)
        await ask(client)

        async def unknown(raw: RawPeer, request: Message) -> None:
            failure = base.EXPERIMENTAL_RESULT.avp(
                [base.VENDOR_ID.avp(VENDOR_3GPP), base.EXPERIMENTAL_RESULT_CODE.avp(5001)]
            )
            await raw.send(request.build_answer([failure, *raw.commands.identity()]))

        dra.answering = unknown
        assert await ask(client) is None
        dra.answering = serving("hss2")
        await ask(client)
        await ask(client)
        assert dra.hosts == [None, "hss1", None, "hss2"]

    run_trio(scenario)


def test_silent_host_is_forgotten() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        dra = Agent("dra", serving("hss1"))
        client = await start(nursery, dra)
        await ask(client)

        async def silence(raw: RawPeer, request: Message) -> None:
            pass

        dra.answering = silence
        with pytest.raises(RequestTimeoutError):
            await ask(client, deadline_s=0.05)
        dra.answering = serving("hss2")
        await ask(client)
        assert dra.hosts == [None, "hss1", None]

    run_trio(scenario)


def test_host_stays_over_the_failover_from_agent_to_agent() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        first, second = Agent("dra1", serving("hss1")), Agent("dra2", serving("hss1", "hss2"))
        client = await start(nursery, first, second)
        await ask(client)

        async def die(raw: RawPeer, request: Message) -> None:
            await raw.stream.aclose()
            raise EOFError

        first.answering = die
        assert await ask(client) == 2001
        assert (first.hosts, second.hosts) == ([None, "hss1"], ["hss1"])
        assert second.seen[0].is_retransmitted
        assert second.seen[0].end_to_end == first.seen[1].end_to_end
        assert client.counters["retransmission"] == 1

    run_trio(scenario)


@pytest.mark.parametrize("code", [3002, 3003, 3004, 3005, 3007, 3010, 4002])
def test_what_one_peer_cannot_do_another_may(code: int) -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        first, second = Agent("a", refusing(code)), Agent("b", refusing(2001))
        client = await start(nursery, first, second)
        assert await ask(client) == 2001
        assert len(first.seen) == len(second.seen) == 1
        assert not second.seen[0].is_retransmitted
        assert client.counters[f"answered_{ResultCode(code).name.lower()}"] == 1

    run_trio(scenario)


@pytest.mark.parametrize("code", [3001, 3008, 3009, 5001, 5012, 5004])
def test_what_is_wrong_with_the_request_is_the_callers_affair(code: int) -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        first, second = Agent("a", refusing(code)), Agent("b", refusing(2001))
        client = await start(nursery, first, second)
        assert await ask(client) == code
        assert second.seen == []

    run_trio(scenario)


@pytest.mark.parametrize("code", [3002, 3004, 3005])
def test_each_peer_is_asked_once_and_the_last_answer_counts(code: int) -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        agents = [Agent(name, refusing(code)) for name in "abc"]
        client = await start(nursery, *agents)
        assert await ask(client) == code
        assert [len(agent.seen) for agent in agents] == [1, 1, 1]
        assert client.n_pending == 0

    run_trio(scenario)


def test_busy_peer_gets_a_pause_while_another_serves() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        first, second = Agent("a", refusing(3004, times=1)), Agent("b", refusing(2001))
        client = await start(nursery, first, second)
        for _ in range(5):
            assert await ask(client) == 2001
        assert (len(first.seen), len(second.seen)) == (1, 5)
        await trio.sleep(0.1)
        # the first one is preferred again
        assert await ask(client) == 2001
        assert (len(first.seen), len(second.seen)) == (2, 5)

    run_trio(scenario)


def test_only_peer_that_is_busy_is_not_asked_for_a_while() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        hss = Agent("hss", refusing(3004, times=2))
        client = await start(nursery, hss)
        assert await ask(client) == 3004
        with pytest.raises(PeerBusyError):
            await ask(client)
        await trio.sleep(0.1)
        assert await ask(client) == 3004
        await trio.sleep(0.1)
        with pytest.raises(PeerBusyError):
            await ask(client)
        await trio.sleep(0.1)
        for _ in range(3):
            assert await ask(client) == 2001
        assert len(hss.seen) == 5
        assert client.counters["paused"] == 2

    run_trio(scenario)


def test_busy_host_behind_an_agent_costs_the_agent_nothing() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        dra = Agent("dra", serving("hss1"))
        client = await start(nursery, dra)
        await ask(client)

        async def busy(raw: RawPeer, request: Message) -> None:
            named = request.text(base.DESTINATION_HOST)
            await raw.answer(request, 3004 if named else 2001, origin_host=named or "hss2")

        dra.answering = busy
        assert await ask(client) == 2001
        assert await ask(client, None) == 2001
        assert dra.hosts == [None, "hss1", None, None]

    run_trio(scenario)


def overloaded(kind: ReportType, reduction: int, *, origin_host: str | None = None) -> Answering:
    async def answer(raw: RawPeer, request: Message) -> None:
        assert request.avps.find(SUPPORTED_FEATURES.key) == SUPPORTED_FEATURES
        avps = report_avps(sequence=1, kind=kind, reduction=reduction)
        await raw.answer(request, 2001, *avps, origin_host=origin_host)

    return answer


async def n_throttled(client: DiameterNode, n: int, user: str | None = None) -> int:
    found = 0
    for _ in range(n):
        try:
            await ask(client, user)
        except ThrottledError:
            found += 1
    return found


def test_overloaded_peer_gets_less() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        hss = Agent("hss", overloaded(ReportType.HOST, 25))
        client = await start(nursery, hss)
        await ask(client)
        assert await n_throttled(client, 40) == 10
        assert len(hss.seen) == 31
        assert client.counters["overload_report"] == 1
        assert client.counters["throttled"] == 10

    run_trio(scenario)


def test_load_of_an_overloaded_peer_goes_to_another_one() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        first, second = Agent("a", overloaded(ReportType.HOST, 50)), Agent("b", refusing(2001))
        client = await start(nursery, first, second)
        await ask(client)
        assert await n_throttled(client, 20) == 0
        assert (len(first.seen), len(second.seen)) == (11, 10)

    run_trio(scenario)


def test_overloaded_host_behind_an_agent() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        dra = Agent("dra", overloaded(ReportType.HOST, 50, origin_host="hss1"))
        client = await start(nursery, dra)
        await ask(client, "u")
        assert await n_throttled(client, 10, "u") == 5
        # a report of a host is not one of its realm
        assert await n_throttled(client, 10, None) == 0

    run_trio(scenario)


def test_overloaded_realm() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        dra = Agent("dra", overloaded(ReportType.REALM, 100, origin_host="hss1"))
        client = await start(nursery, dra)
        await ask(client, "u")
        assert await n_throttled(client, 5, None) == 5
        # what names its host is not meant
        assert await n_throttled(client, 5, "u") == 0

    run_trio(scenario)


def test_overload_report_that_cannot_be_read_costs_nothing() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        async def nonsense(raw: RawPeer, request: Message) -> None:
            await raw.answer(request, 2001, SUPPORTED_FEATURES, OC_OLR.avp([]))

        client = await start(nursery, Agent("hss", nonsense))
        assert await n_throttled(client, 3) == 0
        assert client.counters["overload report incomplete"] == 3

    run_trio(scenario)


def test_overload_control_can_be_left_out() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        hss = Agent("hss", refusing(2001))
        client = await start(nursery, hss, overload_control=False)
        await ask(client)
        assert hss.seen[0].avps.find(SUPPORTED_FEATURES.key) is None

    run_trio(scenario)
