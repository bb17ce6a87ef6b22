"""An HSS goes away under load: killed or hung, with a second one and without. Uses 127.0.84.x."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from attrs import define, field

from conformance.lab.hss import LabHss, Subscriber
from diameter.message import Message
from diameter.node import DiameterNode, NodeConfig, PeerConfig
from diameter.sh.client import ShClient, ShConfig
from diameter.sh.errors import ShNoPeerError, ShTimeoutError
from tests.diameter.support import until

REALM, SI = "realm", b"ai"
FIRST, SECOND = "127.0.84.1", "127.0.84.2"
N_USERS = 600


def user(number: int) -> str:
    return f"sip:user{number}@example.net"


class Pipe:
    """A TCP connection to an HSS passed on, until it is cut or goes dumb: then it swallows what comes, as a host does
    whose programs hang."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self.is_dumb = False
        self.address: tuple[str, int]

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        (listener,) = await trio.open_tcp_listeners(0, host=FIRST)
        self.address = listener.socket.getsockname()
        async with trio.open_nursery() as nursery:
            await nursery.start(trio.serve_listeners, self._serve, [listener])
            task_status.started()

    async def _serve(self, near: trio.SocketStream) -> None:
        try:
            far = await trio.open_tcp_stream(*self._target)
        except OSError:
            await near.aclose()
            return
        async with far, trio.open_nursery() as nursery:
            nursery.start_soon(self._pass_on, near, far)
            await self._pass_on(far, near)
            nursery.cancel_scope.cancel()

    async def _pass_on(self, source: trio.SocketStream, sink: trio.SocketStream) -> None:
        try:
            async for chunk in source:
                if not self.is_dumb:
                    await sink.send_all(chunk)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass


@define
class Hss:
    """A lab HSS that can be killed and started again."""

    nursery: trio.Nursery
    host: str
    port: int = 0
    lab: LabHss = field(init=False)
    _scope: trio.CancelScope = field(factory=trio.CancelScope)

    async def start(self) -> None:
        users = {user(n): Subscriber(impi=f"{n}", impus=[user(n)], repository={SI: b"<a/>"}) for n in range(N_USERS)}
        self.lab = LabHss(self.host, self.port, users, origin_host=f"hss-{self.host}", origin_realm=REALM)
        self._scope = trio.CancelScope()

        async def run(*, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
            with self._scope:
                await self.lab.run(task_status=task_status)

        await self.nursery.start(run)
        self.port = self.lab.address[1]

    def kill(self) -> None:
        """Its connections are reset or closed, as by the kernel for a process that has died."""
        self._scope.cancel()


class Load:
    """Calls of one new user after the other, 500 a second as far as the machine can."""

    def __init__(self, sh: ShClient, nursery: trio.Nursery) -> None:
        self._sh = sh
        self._nursery = nursery
        self.n_started = 0
        self.found: list[str] = []
        self.failed: list[Exception] = []

    async def run(self, n_calls: int) -> None:
        for _ in range(n_calls):
            self._nursery.start_soon(self._call, user(self.n_started))
            self.n_started += 1
            await trio.sleep(0.002)

    async def _call(self, impu: str) -> None:
        try:
            self.found.append((await self._sh.fetch(impu)).impu)
        except Exception as error:
            self.failed.append(error)

    async def finish(self) -> None:
        await until(lambda: len(self.found) + len(self.failed) == self.n_started)


@define
class Scene:
    nursery: trio.Nursery
    first: Hss
    second: Hss
    pipe: Pipe
    node: DiameterNode
    sh: ShClient
    sent: list[Message]

    def load(self) -> Load:
        return Load(self.sh, self.nursery)

    def retransmissions(self) -> Counter[int]:
        """How often each request was sent again."""
        return Counter(request.end_to_end for request in self.sent if request.is_retransmitted)

    def sendings(self) -> Counter[int]:
        return Counter(request.end_to_end for request in self.sent)


@asynccontextmanager
async def scene(*, watchdog_s: float = 30.0, alone: bool = False, budget_s: float = 20.0) -> AsyncIterator[Scene]:
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            first, second = Hss(nursery, FIRST), Hss(nursery, SECOND)
            await first.start()
            await second.start()
            pipe = Pipe(first.lab.address)
            await nursery.start(pipe.run)
            sent: list[Message] = []

            def tap(direction: str, peer: str, message: Message) -> None:
                if direction == "out" and message.is_request and message.application_id:
                    sent.append(message)

            async def on_request(message: Message, peer: str) -> Message:
                return sh.receive_push(message)

            addresses = [pipe.address] if alone else [pipe.address, second.lab.address]
            node = DiameterNode(
                NodeConfig(
                    origin_host="as",
                    origin_realm=REALM,
                    peers=tuple(PeerConfig(*address[:2]) for address in addresses),
                    wait_s=0.5,
                    reconnect_first_s=0.02,
                    reconnect_max_s=0.1,
                ),
                on_request=on_request,
                on_wire=tap,
                watchdog_s=watchdog_s,
            )
            # where the budget is no matter, a machine that is slow must not make a request fail
            settings = {"destination_realm": REALM, "server_name": "sip:as", "service_indication": SI}
            sh = ShClient(node, ShConfig(**settings, budget_s=budget_s))
            await nursery.start(node.run)
            await nursery.start(sh.run)
            await node.wait_open(len(addresses))
            yield Scene(nursery, first, second, pipe, node, sh, sent)
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("is_killed", [True, False])
def test_second_hss_takes_over_with_one_retransmission_each(is_killed: bool) -> None:
    """Killed: by the connection's end. Hung: by the watchdog, once it is not answered."""

    async def main() -> None:
        async with scene(watchdog_s=30.0 if is_killed else 0.4) as here:
            load = here.load()
            await load.run(100)
            # some requests are surely under way when it happens
            here.first.lab.delay_s = 0.3
            await load.run(50)
            assert not here.second.lab.requests
            if is_killed:
                here.first.kill()
            else:
                here.pipe.is_dumb = True
            await load.run(200)
            await load.finish()
            assert load.failed == []
            assert sorted(load.found) == sorted(map(user, range(350)))
            again = here.retransmissions()
            assert len(again) >= 10
            assert max(here.sendings().values()) == 2
            assert here.node.counters["failover"] == len(again)
            assert here.node.counters["request_timeout"] == 0
            # each that was sent again says so and keeps its end-to-end identifier: the HSS can tell
            seen = Counter(
                record.message.end_to_end for record in here.second.lab.requests if record.message.is_retransmitted
            )
            assert set(again) <= set(seen)

    trio.run(main)


def test_hung_hss_costs_one_budget_not_the_watchdog() -> None:
    """What waits when the first request runs out of time goes to the second HSS; so do all that come later."""

    async def main() -> None:
        async with scene(watchdog_s=30.0, budget_s=1.5) as here:
            load = here.load()
            await load.run(50)
            await load.finish()
            here.pipe.is_dumb = True
            n_before = load.n_started
            await load.run(5)
            await trio.sleep(0.7)  # the next ones have as much left when these run out of time
            await load.run(20)
            await until(lambda: here.node.counters["peer_silent"] == 1)
            await load.run(50)
            await load.finish()
            assert 1 <= len(load.failed) <= 5
            assert set(map(user, range(n_before + 5, load.n_started))) <= set(load.found)
            assert len(here.retransmissions()) >= 20
            assert max(here.sendings().values()) == 2
            # the watchdog knows nothing of all this
            assert [row["watchdog"] for row in here.node.peer_states()] == ["OKAY", "OKAY"]

    trio.run(main)


def test_silent_peer_that_speaks_again_is_preferred_again() -> None:
    async def main() -> None:
        async with scene(watchdog_s=30.0, budget_s=0.3) as here:
            here.first.lab.silent = True  # to requests: watchdogs are answered
            with pytest.raises(ShTimeoutError):
                await here.sh.fetch(user(0))
            await until(lambda: here.node.counters["peer_silent"] == 1)
            here.first.lab.silent = False
            # the answer to our DWR is enough
            await until(lambda: (route := here.node.links[0].route()) is not None and not route.is_silent)
            n_before = len(here.first.lab.requests)
            assert (await here.sh.fetch(user(1))).impu == user(1)
            assert "UDR" in [each.command for each in list(here.first.lab.requests)[n_before:]]

    trio.run(main)


def test_first_hss_is_used_again_once_it_is_back() -> None:
    async def main() -> None:
        async with scene(watchdog_s=0.1) as here:
            load = here.load()
            await load.run(20)
            here.first.kill()
            await load.run(20)
            await load.finish()
            await here.first.start()
            # RFC 3539: three answered watchdogs
            await until(lambda: [row["watchdog"] for row in here.node.peer_states()] == ["OKAY", "OKAY"])
            n_before = len(here.second.lab.requests)
            await load.run(20)
            await load.finish()
            assert load.failed == []
            assert len([each for each in here.first.lab.requests if each.command == "UDR"]) == 20
            assert "UDR" not in [each.command for each in list(here.second.lab.requests)[n_before:]]

    trio.run(main)


def test_without_any_hss_the_cache_serves_and_new_users_are_told_at_once() -> None:
    async def main() -> None:
        async with scene(alone=True) as here:
            known = here.load()
            await known.run(50)
            await known.finish()
            here.first.kill()
            await until(lambda: not here.node.is_open())
            for number in range(50):
                assert (await here.sh.fetch(user(number))).impu == user(number)
            for number in range(50, 60):
                with pytest.raises(ShNoPeerError):
                    await here.sh.fetch(user(number))
            await here.first.start()
            await here.node.wait_open()
            assert (await here.sh.fetch(user(50))).impu == user(50)

    trio.run(main)
