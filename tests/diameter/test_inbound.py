"""Requests of peers: a plain function answers at once, a coroutine in a task; errors and duplicates are alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from diameter.base_commands import SH_APPLICATION, BaseCommands
from diameter.dictionary import base
from diameter.dictionary.sh import SH
from diameter.errors import RemoteDiameterError
from diameter.inbound import InboundRequests
from diameter.message import FLAG_RETRANSMITTED, Message, Result
from tests.diameter.support import run_trio, until

COMMANDS = BaseCommands("as", "realm", "test", 0, 1, (SH_APPLICATION,))
Handler = Callable[[Message, str], Awaitable[Message | None] | Message | None]


def build_request(*, end_to_end: int = 1, flags: int = 0) -> Message:
    message = SH.command("PNR").message([base.SESSION_ID.avp("s"), base.ORIGIN_HOST.avp("hss")])
    return Message(message.code, message.application_id, message.flags | flags, message.avps, 7, end_to_end)


def success(request: Message, peer: str) -> Message | None:
    return request.build_answer([base.RESULT_CODE.avp(2001), base.ORIGIN_HOST.avp(peer)])


def refuse(request: Message, peer: str) -> Message | None:
    raise RemoteDiameterError("not today", 5012)


def silent(request: Message, peer: str) -> Message | None:
    return None


def in_a_task(handler: Callable[[Message, str], Message | None]) -> Handler:
    async def handle(request: Message, peer: str) -> Message | None:
        await trio.lowlevel.checkpoint()
        return handler(request, peer)

    return handle


@pytest.mark.parametrize("wrap", [lambda handler: handler, in_a_task], ids=["plain", "coroutine"])
@pytest.mark.parametrize(
    ("handler", "results"), [(success, [Result(2001)]), (refuse, [Result(5012)]), (silent, [])], ids=lambda each: ""
)
def test_answers(wrap: Callable[[Handler], Handler], handler: Handler, results: list[Result]) -> None:
    answers: list[Message] = []

    async def scenario(nursery: trio.Nursery) -> None:
        requests = InboundRequests(COMMANDS, wrap(handler), Counter(), max_requests=1)
        requests.receive(nursery, build_request(), "peer", "hss", answers.append)
        if wrap is not in_a_task:
            assert [answer.result() for answer in answers] == results, "a plain function is answered at once"
        await trio.testing.wait_all_tasks_blocked()
        assert [answer.result() for answer in answers] == results
        # its place is free again
        requests.receive(nursery, build_request(end_to_end=2), "peer", "hss", answers.append)
        await until(lambda: len(answers) == 2 * len(results))
        assert Result(3004) not in [answer.result() for answer in answers]

    run_trio(scenario)


@pytest.mark.parametrize("wrap", [lambda handler: handler, in_a_task], ids=["plain", "coroutine"])
def test_a_duplicate_gets_the_first_answer(wrap: Callable[[Handler], Handler]) -> None:
    n_served = 0
    answers: list[Message] = []

    def count(request: Message, peer: str) -> Message | None:
        nonlocal n_served
        n_served += 1
        return success(request, peer)

    async def scenario(nursery: trio.Nursery) -> None:
        counters: Counter[str] = Counter()
        requests = InboundRequests(COMMANDS, wrap(count), counters, max_requests=10)
        requests.receive(nursery, build_request(), "peer", "hss", answers.append)
        await trio.testing.wait_all_tasks_blocked()
        requests.receive(nursery, build_request(flags=FLAG_RETRANSMITTED), "peer", "hss", answers.append)
        await trio.testing.wait_all_tasks_blocked()
        assert n_served == 1
        assert answers[0] == answers[1]
        assert counters["duplicate"] == 1

    run_trio(scenario)
