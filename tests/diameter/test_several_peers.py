"""Several peers: failover, failback, what a lost or hanging peer costs, and that all queues are bounded."""

from __future__ import annotations

from collections import Counter

import pytest
import trio
import trio.lowlevel

from diameter.dictionary import base
from diameter.errors import RequestTimeoutError
from diameter.message import Message
from diameter.node import DiameterNode
from diameter.transport import MAX_QUEUED_BYTES
from tests.diameter.raw_peer import RawPeer, listen_raw
from tests.diameter.support import answer_success, build_client, build_request, build_server, run_trio, until


class Recorder:
    """An application that counts how often it sees each end-to-end id."""

    def __init__(self, delay_s: float = 0.0) -> None:
        self.seen: list[Message] = []
        self.delay_s = delay_s

    async def __call__(self, request: Message, peer: str) -> Message | None:
        self.seen.append(request)
        await trio.sleep(self.delay_s)
        return await answer_success(request, peer)


async def live(
    node: DiameterNode, *, task_status: trio.TaskStatus[trio.CancelScope] = trio.TASK_STATUS_IGNORED
) -> None:
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            await nursery.start(node.run)
            task_status.started(scope)


def test_killed_peer_costs_each_request_one_retransmission_at_most() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        recorders = [Recorder(0.005) for _ in range(3)]
        servers = [build_server(f"hss{n}", on_request=recorder) for n, recorder in enumerate(recorders)]
        lives = [await nursery.start(live, server) for server in servers]
        client = build_client(*(server.addresses[0] for server in servers))
        await nursery.start(client.run)
        await client.wait_open(3)
        n_answered = 0

        async def ask() -> None:
            nonlocal n_answered
            for _ in range(20):
                await client.request(build_request(client), deadline_s=5.0)
                n_answered += 1

        async with trio.open_nursery() as askers:
            for _ in range(20):
                askers.start_soon(ask)
            await until(lambda: n_answered > 100)
            lives[0].cancel()
        assert n_answered == 400
        sent = Counter(request.end_to_end for recorder in recorders for request in recorder.seen)
        assert len(sent) == 400
        assert max(sent.values()) == 2
        again = [request for request in recorders[1].seen if request.is_retransmitted]
        assert len(again) == client.counters["retransmission"] <= 20
        # the second one was enough
        assert recorders[2].seen == []

    run_trio(scenario)


def test_primary_is_preferred_again_once_its_watchdog_trusts_it() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        first, second = Recorder(), Recorder()
        server, other = build_server("hss1", on_request=first), build_server("hss2", on_request=second)
        life = await nursery.start(live, server)
        await nursery.start(other.run)
        client = build_client(*server.addresses, *other.addresses, watchdog_s=0.05)
        await nursery.start(client.run)
        await client.wait_open(2)
        life.cancel()
        await until(lambda: not client.links[0].is_open)
        await client.request(build_request(client), deadline_s=1.0)
        again = build_server("hss1", on_request=first, port=server.addresses[0][1])
        await nursery.start(again.run)
        await client.wait_open(2)
        # REOPEN: connected, not trusted yet
        assert client.peer_states()[0]["watchdog"] == "REOPEN"
        await client.request(build_request(client), deadline_s=1.0)
        assert (len(first.seen), len(second.seen)) == (0, 2)
        await until(lambda: client.peer_states()[0]["watchdog"] == "OKAY")
        await client.request(build_request(client), deadline_s=1.0)
        assert (len(first.seen), len(second.seen)) == (1, 2)

    run_trio(scenario)


def test_suspect_peer_that_answers_after_all_is_used_again() -> None:
    """One Tw without DWA makes it SUSPECT; any message from it makes it OKAY."""

    async def scenario(nursery: trio.Nursery) -> None:
        silent = trio.Event()

        async def script(raw: RawPeer) -> None:
            await raw.accept()
            dwr = await raw.read()
            await silent.wait()
            await raw.send(raw.commands.dwa(dwr))
            while True:
                message = await raw.read()
                answer = raw.commands.dwa(message) if message.code == 280 else None
                await (raw.send(answer) if answer else raw.answer(message, 2001))

        second = Recorder()
        other = build_server("hss2", on_request=second)
        await nursery.start(other.run)
        client = build_client(await listen_raw(nursery, script, "hss1"), *other.addresses, watchdog_s=0.2)
        await nursery.start(client.run)
        await client.wait_open(2)
        await until(lambda: client.peer_states()[0]["watchdog"] == "SUSPECT")
        await client.request(build_request(client), deadline_s=1.0)
        assert len(second.seen) == 1
        silent.set()
        await until(lambda: client.peer_states()[0]["watchdog"] == "OKAY")
        answer = await client.request(build_request(client), deadline_s=1.0)
        assert answer.text(base.ORIGIN_HOST) == "hss1"
        assert client.counters["link_down"] == 0

    run_trio(scenario)


def test_peer_that_reads_nothing_is_cut_off_and_its_queue_is_bounded() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        async def script(raw: RawPeer) -> None:
            await raw.accept()
            await trio.sleep_forever()

        second = Recorder()
        other = build_server("hss2", on_request=second)
        await nursery.start(other.run)
        client = build_client(await listen_raw(nursery, script, "hss1"), *other.addresses)
        await nursery.start(client.run)
        await client.wait_open(2)
        request = build_request(client)
        large = Message(
            request.code,
            request.application_id,
            request.flags,
            type(request.avps)((*request.avps, base.USER_NAME.avp("x" * 200_000))),
        )
        answers: list[Message] = []

        async def ask() -> None:
            answers.append(await client.request(large, deadline_s=8.0))

        n_requests = 0
        async with trio.open_nursery() as askers:
            while client.links[0].is_open:
                askers.start_soon(ask)
                n_requests += 1
                await trio.lowlevel.checkpoint()
                assert n_requests * 200_000 < MAX_QUEUED_BYTES + 20_000_000
        assert len(answers) == n_requests
        assert {answer.text(base.ORIGIN_HOST) for answer in answers} == {"server"}

    run_trio(scenario)


def test_peer_that_answers_watchdogs_only_costs_the_deadline_of_each_request() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        async def script(raw: RawPeer) -> None:
            await raw.accept()
            await raw.read_code(0)

        client = build_client(await listen_raw(nursery, script, "hss1"), watchdog_s=0.05)
        await nursery.start(client.run)
        await client.wait_open()
        for _ in range(3):
            with pytest.raises(RequestTimeoutError):
                await client.request(build_request(client), deadline_s=0.1)
        assert client.is_open()
        assert client.n_pending == 0
        assert client.counters["request_timeout"] == 3

    run_trio(scenario)
