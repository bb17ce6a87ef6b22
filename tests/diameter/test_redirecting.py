"""Redirects followed: to peers that are there, and to hosts that are connected for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio

from diameter.avp import Avp
from diameter.dictionary import base
from diameter.dictionary.base import BASE, DisconnectCause
from diameter.errors import NoPeerError, RequestTimeoutError
from diameter.message import Message
from diameter.node import DiameterNode
from diameter.redirect import RedirectUsage
from tests.diameter.raw_peer import RawPeer, listen_raw
from tests.diameter.support import build_client, build_request, free_port, run_trio, until

# hosts are named by their addresses, which need no name server
HSS, OTHER = "127.0.79.1", "127.0.79.2"


def redirect(*hosts: str, usage: RedirectUsage | None = None, cache_s: int = 60) -> list[Avp]:
    avps = [BASE["Redirect-Host"].avp(host) for host in hosts]
    if usage is not None:
        avps += [BASE["Redirect-Host-Usage"].avp(usage), BASE["Redirect-Max-Cache-Time"].avp(cache_s)]
    return avps


class Server:
    """A raw peer that redirects, or answers."""

    def __init__(self, name: str, *redirection: Avp, result: int = 2001) -> None:
        self.name = name
        self.redirection = redirection
        self.result = result
        self.seen: list[Message] = []
        self.said: list[Message] = []
        self.n_connections = 0
        self.raw: RawPeer | None = None

    async def listen(self, nursery: trio.Nursery, host: str = "127.0.79.9", port: int = 0) -> tuple[str, int]:
        return await listen_raw(nursery, self._serve, self.name, host=host, port=port)

    async def _serve(self, raw: RawPeer) -> None:
        self.raw = raw
        self.n_connections += 1
        await raw.accept()
        while True:
            message = await raw.read()
            if message.code == 306:
                self.seen.append(message)
                result = 3006 if self.redirection else self.result
                await raw.answer(message, result, *self.redirection)
            elif message.is_request and message.code == 280:
                await raw.send(raw.commands.dwa(message))
            elif message.is_request and message.code == 282:
                self.said.append(message)
                await raw.send(raw.commands.dpa(message))

    @property
    def hosts(self) -> list[str | None]:
        return [request.text(base.DESTINATION_HOST) for request in self.seen]


async def start(nursery: trio.Nursery, *servers: Server, **config: object) -> DiameterNode:
    settings: dict[str, object] = {"redirect_hosts": (HSS, OTHER)} | config
    client = build_client(*[await server.listen(nursery) for server in servers], **settings)
    await nursery.start(client.run)
    await client.wait_open(len(servers))
    return client


async def ask(client: DiameterNode, user: str | None = None, deadline_s: float = 2.0) -> int | None:
    answer = await client.request(build_request(client), deadline_s=deadline_s, user=user)
    return answer.number(base.RESULT_CODE)


def with_hss(
    scenario: Callable[[trio.Nursery, Server, str], Awaitable[None]],
) -> Callable[[trio.Nursery], Awaitable[None]]:
    """The scenario with a server at HSS and its URI."""

    async def run(nursery: trio.Nursery) -> None:
        hss = Server(HSS)
        _, port = await hss.listen(nursery, HSS)
        await scenario(nursery, hss, f"aaa://{HSS}:{port};transport=tcp")

    return run


def test_to_a_peer_that_is_there() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        slf, hss = Server("slf", *redirect("aaa://hss")), Server("hss")
        client = await start(nursery, slf, hss)
        assert await ask(client) == 2001
        assert (slf.hosts, hss.hosts) == ([None], ["hss"])
        assert not hss.seen[0].is_retransmitted
        assert hss.seen[0].end_to_end == slf.seen[0].end_to_end
        assert [state["peer"] for state in client.peer_states()] == [link.name for link in client.links]
        assert len(client.links) == 2

    run_trio(scenario)


def test_to_a_host_that_is_connected_for_it() -> None:
    async def scenario(nursery: trio.Nursery, hss: Server, uri: str) -> None:
        slf = Server("slf", *redirect(uri))
        client = await start(nursery, slf)
        for _ in range(3):
            assert await ask(client) == 2001
        # the agent is asked each time: it did not allow to remember
        assert (len(slf.seen), hss.hosts, hss.n_connections) == (3, [HSS] * 3, 1)
        assert client.counters["redirect"] == 3
        assert client.peer_states()[1]["origin_host"] == HSS

    run_trio(with_hss(scenario))


def test_many_requests_at_once_make_one_connection() -> None:
    async def scenario(nursery: trio.Nursery, hss: Server, uri: str) -> None:
        client = await start(nursery, Server("slf", *redirect(uri)))
        results: list[int | None] = []

        async def one() -> None:
            results.append(await ask(client))

        async with trio.open_nursery() as askers:
            for _ in range(30):
                askers.start_soon(one)
        assert results == [2001] * 30
        assert hss.n_connections == 1

    run_trio(with_hss(scenario))


def test_remembered_redirect_spares_the_agent() -> None:
    async def scenario(nursery: trio.Nursery, hss: Server, uri: str) -> None:
        slf = Server("slf", *redirect(uri, usage=RedirectUsage.ALL_USER))
        client = await start(nursery, slf)
        for user in ("a", "a", "a", "b"):
            assert await ask(client, user) == 2001
        assert (len(slf.seen), hss.hosts) == (2, [HSS] * 4)

    run_trio(with_hss(scenario))


def test_redirect_target_serves_only_what_was_redirected() -> None:
    async def scenario(nursery: trio.Nursery, hss: Server, uri: str) -> None:
        slf = Server("slf", *redirect(uri, usage=RedirectUsage.ALL_USER))
        client = await start(nursery, slf)
        await ask(client, "a")
        slf.redirection = ()
        assert await ask(client, "b") == 2001
        assert (len(slf.seen), len(hss.seen)) == (2, 1)

    run_trio(with_hss(scenario))


def test_remembered_redirect_outlives_the_agent() -> None:
    async def scenario(nursery: trio.Nursery, hss: Server, uri: str) -> None:
        slf = Server("slf", *redirect(uri, usage=RedirectUsage.ALL_REALM))
        client = await start(nursery, slf)
        await ask(client)
        assert slf.raw is not None
        await slf.raw.stream.aclose()
        await until(lambda: client.counters["link_down"] == 1)
        assert await ask(client) == 2001
        assert (len(slf.seen), len(hss.seen)) == (1, 2)

    run_trio(with_hss(scenario))


def test_second_host_is_tried_when_the_first_is_dead() -> None:
    async def scenario(nursery: trio.Nursery, hss: Server, uri: str) -> None:
        dead = f"aaa://{OTHER}:{free_port()}"
        client = await start(nursery, Server("slf", *redirect(dead, uri)))
        assert await ask(client) == 2001
        assert hss.hosts == [HSS]
        # the dead one is not tried again at once
        assert await ask(client) == 2001
        assert client.counters["connect_failed"] == 1

    run_trio(with_hss(scenario))


def test_answer_of_the_agent_counts_when_nobody_is_there() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        slf = Server("slf", *redirect(f"aaa://{OTHER}:{free_port()}"))
        client = await start(nursery, slf)
        assert await ask(client) == 3006
        assert client.counters["redirect_failed"] == 1
        assert (client.n_pending, len(client.links)) == (0, 1)

    run_trio(scenario)


def test_remembered_host_that_died_leads_back_to_the_agent() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        hss = Server(HSS)
        inner = trio.CancelScope()

        async def live(*, task_status: trio.TaskStatus[tuple[str, int]] = trio.TASK_STATUS_IGNORED) -> None:
            with inner:
                async with trio.open_nursery() as own:
                    task_status.started(await hss.listen(own, HSS))

        _, port = await nursery.start(live)
        slf = Server("slf", *redirect(f"aaa://{HSS}:{port}", usage=RedirectUsage.ALL_REALM))
        client = await start(nursery, slf)
        assert await ask(client) == 2001
        inner.cancel()
        await until(lambda: len(client.links) == 1)
        slf.redirection = ()
        assert await ask(client) == 2001
        assert slf.hosts == [None, None]

    run_trio(scenario)


def test_loops_end() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        first, second = Server("a", *redirect("aaa://b")), Server("b", *redirect("aaa://a"))
        client = await start(nursery, first, second)
        assert await ask(client) == 3006
        assert (len(first.seen), len(second.seen)) == (1, 1)

    run_trio(scenario)


def test_chains_are_bounded() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        chain = [Server(f"h{n}", *redirect(f"aaa://h{n + 1}")) for n in range(6)]
        client = await start(nursery, *chain)
        assert await ask(client) == 3006
        assert [len(server.seen) for server in chain] == [1, 1, 1, 1, 0, 0]
        assert client.counters["redirect_loop"] == 1

    run_trio(scenario)


def test_redirect_to_ourselves_is_a_loop() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        client = await start(nursery, Server("slf", *redirect("aaa://CLIENT")))
        assert await ask(client) == 3006
        assert client.counters["redirect_loop"] == 1

    run_trio(scenario)


def test_strange_hosts_are_not_connected_to() -> None:
    async def scenario(nursery: trio.Nursery, hss: Server, uri: str) -> None:
        slf = Server("slf", *redirect(uri, "aaa://evil.example.com", "aaa://notrealm", "aaas://hss.realm"))
        client = await start(nursery, slf, redirect_hosts=())
        assert await ask(client) == 3006
        assert client.counters["redirect_refused"] == 4
        assert hss.n_connections == 0

    run_trio(with_hss(scenario))


def test_following_can_be_switched_off() -> None:
    async def scenario(nursery: trio.Nursery, hss: Server, uri: str) -> None:
        client = await start(nursery, Server("slf", *redirect(uri)), follow_redirects=False)
        assert await ask(client) == 3006
        assert hss.n_connections == 0

    run_trio(with_hss(scenario))


def test_connections_for_redirects_are_bounded_and_closed_when_idle() -> None:
    async def scenario(nursery: trio.Nursery, hss: Server, uri: str) -> None:
        other = Server(OTHER)
        _, port = await other.listen(nursery, OTHER)
        slf = Server("slf", *redirect(uri))
        client = await start(nursery, slf, max_redirect_peers=1, redirect_idle_s=0.2)
        assert await ask(client) == 2001
        slf.redirection = tuple(redirect(f"aaa://{OTHER}:{port}"))
        assert await ask(client) == 3006
        assert client.counters["redirect_no_room"] == 1
        await until(lambda: len(client.links) == 1)
        assert [message.number(base.DISCONNECT_CAUSE) for message in hss.said] == [
            DisconnectCause.DO_NOT_WANT_TO_TALK_TO_YOU
        ]
        assert await ask(client) == 2001
        assert len(other.seen) == 1

    run_trio(with_hss(scenario))


def test_host_with_another_name_than_the_redirect_said_is_not_used() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        impostor = Server("impostor")
        _, port = await impostor.listen(nursery, HSS)
        client = await start(nursery, Server("slf", *redirect(f"aaa://{HSS}:{port}")))
        assert await ask(client) == 3006
        assert client.counters["unexpected_origin_host"] == 1

    run_trio(scenario)


def test_host_that_accepts_and_says_nothing_costs_the_deadline_only() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        async def silence(raw: RawPeer) -> None:
            while True:
                await raw.read()

        _, port = await listen_raw(nursery, silence, host=HSS)
        client = await start(nursery, Server("slf", *redirect(f"aaa://{HSS}:{port}")))
        started = trio.current_time()
        with pytest.raises(RequestTimeoutError):
            await ask(client, deadline_s=0.1)
        assert trio.current_time() - started < 0.5
        assert client.n_pending == 0

    run_trio(scenario)


def test_redirect_without_host_is_given_to_the_caller() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        slf = Server("slf", result=3006)
        client = await start(nursery, slf)
        assert await ask(client) == 3006
        assert client.counters["redirect without usable host"] == 1
        assert client.n_pending == 0

    run_trio(scenario)


def test_lost_target_while_the_request_is_under_way() -> None:
    """It goes back to the agent, with T: the target may have carried it out."""

    async def scenario(nursery: trio.Nursery) -> None:
        async def die(raw: RawPeer) -> None:
            await raw.accept()
            await raw.read_code(306)
            slf.redirection = ()
            await raw.stream.aclose()

        _, port = await listen_raw(nursery, die, HSS, host=HSS)
        slf = Server("slf", *redirect(f"aaa://{HSS}:{port}"))
        client = await start(nursery, slf)
        assert await ask(client) == 2001
        assert [request.is_retransmitted for request in slf.seen] == [False, True]
        assert slf.hosts == [None, None]

    run_trio(scenario)


def test_no_peer_and_no_redirect_is_told_at_once() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        client = await start(nursery)
        with pytest.raises(NoPeerError):
            await ask(client)

    run_trio(scenario)
