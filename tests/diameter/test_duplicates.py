"""Requests of peers that come twice: answered once by the application, each time on the wire."""

from __future__ import annotations

import pytest
import trio

from diameter.avp import Avps
from diameter.dictionary import base
from diameter.message import Message
from diameter.node import DiameterNode
from tests.diameter.raw_peer import RawPeer, connect_raw
from tests.diameter.support import build_server, run_trio, until


class Application:
    """Answers with the number of the request, at once or when told."""

    def __init__(self) -> None:
        self.handled: list[Message] = []
        self.go = trio.Event()
        self.go.set()

    async def __call__(self, request: Message, peer: str) -> Message | None:
        self.handled.append(request)
        number = len(self.handled)
        await self.go.wait()
        return request.build_answer([base.RESULT_CODE.avp(2000 + number)])


def request(
    *, hop_by_hop: int, end_to_end: int = 4711, flags: int = 0xC0, session: str = "s", host: str = "raw"
) -> Message:
    avps = Avps([base.SESSION_ID.avp(session), base.ORIGIN_HOST.avp(host)])
    return Message(306, 16777217, flags, avps, hop_by_hop, end_to_end)


async def start(
    nursery: trio.Nursery, application: Application, n_peers: int = 1
) -> tuple[DiameterNode, list[RawPeer]]:
    server = build_server(on_request=application)
    await nursery.start(server.run)
    peers = []
    for number in range(n_peers):
        raw = await connect_raw(nursery, server.addresses[0], f"agent{number}")
        await raw.open()
        peers.append(raw)
    return server, peers


async def answer_of(raw: RawPeer) -> tuple[int, int | None]:
    answer = await raw.read()
    return answer.hop_by_hop, answer.number(base.RESULT_CODE)


@pytest.mark.parametrize("flags", [0xC0, 0xD0], ids=["equal", "with T"])
def test_same_answer_again(flags: int) -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        application = Application()
        server, (first, second) = await start(nursery, application, 2)
        await first.send(request(hop_by_hop=1))
        assert await answer_of(first) == (1, 2001)
        # the agent has failed over: the repetition comes on another connection
        await second.send(request(hop_by_hop=9, flags=flags))
        assert await answer_of(second) == (9, 2001)
        assert len(application.handled) == 1
        assert server.counters["duplicate"] == 1

    run_trio(scenario)


def test_repeated_while_the_first_is_under_way() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        application = Application()
        application.go = trio.Event()
        server, (first, second) = await start(nursery, application, 2)
        await first.send(request(hop_by_hop=1))
        await until(lambda: len(application.handled) == 1)
        for hop_by_hop in range(10):
            await second.send(request(hop_by_hop=hop_by_hop, flags=0xD0))
        await until(lambda: server.counters["duplicate"] == 10)
        application.go.set()
        assert await answer_of(first) == (1, 2001)
        # a few of them are answered, the rest costs nothing
        answers = {await answer_of(second) for _ in range(4)}
        assert len(answers) == 4
        assert {result for _, result in answers} == {2001}
        assert len(application.handled) == 1
        await second.send(request(hop_by_hop=77, flags=0xD0))
        assert await answer_of(second) == (77, 2001)

    run_trio(scenario)


@pytest.mark.parametrize(
    "other",
    [
        request(hop_by_hop=2, session="t"),
        request(hop_by_hop=2, end_to_end=4712),
        request(hop_by_hop=2, host="somebody else", flags=0xD0),
    ],
    ids=["other session", "other id", "other host"],
)
def test_what_is_no_duplicate(other: Message) -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        application = Application()
        _, (raw,) = await start(nursery, application)
        await raw.send(request(hop_by_hop=1))
        assert await answer_of(raw) == (1, 2001)
        await raw.send(other)
        assert await answer_of(raw) == (2, 2002)

    run_trio(scenario)


def test_ids_used_twice_at_the_same_time_are_two_requests() -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        application = Application()
        application.go = trio.Event()
        _, (raw,) = await start(nursery, application)
        await raw.send(request(hop_by_hop=1, session="a"))
        await raw.send(request(hop_by_hop=2, session="b"))
        await until(lambda: len(application.handled) == 2)
        application.go.set()
        assert {(await answer_of(raw))[0] for _ in range(2)} == {1, 2}

    run_trio(scenario)
