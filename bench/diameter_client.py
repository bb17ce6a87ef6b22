"""Our Diameter client under load, in a process of its own: python -m bench.diameter_client WHAT HOST PORT REALM N MORE

- node: typed UDR, request, typed UDA; MORE of them under way at once
- fetch: ShClient for N users, Sh-Data read and cached; MORE of them under way at once
- rate: the same, MORE a second, with their latency
- answer: PNRs are read and answered
- push: PNRs are taken into the cache

Prints one JSON line; the CPU is this process's, user and system. The collector is set as in the server.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from diameter.base_commands import SH_APPLICATION
from diameter.dictionary.sh import FEATURE_NOTIF_EFF, DataReference
from diameter.message import Message
from diameter.node import DiameterNode, NodeConfig, PeerConfig
from diameter.sh.client import ShClient, ShConfig
from diameter.sh.messages import (
    PushNotificationAnswer,
    PushNotificationRequest,
    SupportedFeatures,
    UserDataAnswer,
    UserDataRequest,
    UserIdentity,
)
from ims_as.collector import keep_collecting

NAME = "as.bench.example"
USER = "sip:user-00000000@bench.example"
REFERENCES = (
    DataReference.REPOSITORY_DATA,
    DataReference.INITIAL_FILTER_CRITERIA,
    DataReference.IMS_USER_STATE,
    DataReference.S_CSCF_NAME,
)


def cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


class Client:
    def __init__(self, host: str, port: int, realm: str, *, n_users: int) -> None:
        self.realm = realm
        self.node = DiameterNode(
            NodeConfig(
                origin_host=NAME, origin_realm=realm, peers=(PeerConfig(host, port),), applications=(SH_APPLICATION,)
            ),
            on_request=self._on_request,
        )
        self.answers_only = False
        self.n_pushed = 0
        self.all_pushed = trio.Event()
        self.to_push = 0
        self.sh = ShClient(
            self.node,
            ShConfig(
                destination_realm=realm,
                server_name=f"sip:{NAME}",
                service_indication="ai-voice-agent",
                budget_s=10.0,
                subscribe=False,
                max_users=n_users + 10,
            ),
        )

    def _on_request(self, request: Message, peer: str) -> Message | None:
        if self.answers_only:
            push = PushNotificationRequest.read_untrusted(request)
            assert push.user_data
            answer = PushNotificationAnswer(origin_host=NAME, origin_realm=self.realm).to_answer(request)
        else:
            answer = self.sh.receive_push(request)
        self.n_pushed += 1
        if self.n_pushed == self.to_push:
            self.all_pushed.set()
        return answer

    async def ask(self, number: int) -> None:
        request = UserDataRequest(
            session_id=self.node.new_session_id(),
            origin_host=NAME,
            origin_realm=self.realm,
            destination_realm=self.realm,
            supported_features=(SupportedFeatures(FEATURE_NOTIF_EFF),),
            user_identity=UserIdentity(public_identity=USER),
            server_name=f"sip:{NAME}",
            service_indications=(b"ai-voice-agent",),
            data_references=REFERENCES,
        )
        answer = UserDataAnswer.read_untrusted(await self.node.request(request.to_message(), deadline_s=10.0))
        assert answer.result.is_success
        assert answer.user_data

    async def fetch(self, number: int) -> None:
        profile = await self.sh.fetch(f"sip:user-{number:08d}@bench.example")
        assert profile.service_data is not None


async def in_parallel(work: Callable[[int], Awaitable[None]], count: int, width: int) -> dict[str, Any]:
    numbers = iter(range(count))

    async def worker() -> None:
        for number in numbers:
            await work(number)

    spent, began = cpu_s(), time.perf_counter()
    async with trio.open_nursery() as nursery:
        for _ in range(width):
            nursery.start_soon(worker)
    return {"count": count, "cpu_s": cpu_s() - spent, "seconds": time.perf_counter() - began}


async def at_rate(work: Callable[[int], Awaitable[None]], count: int, rate: float) -> dict[str, Any]:
    """Each one when it is due, whatever became of those before: the latency counts from then."""
    latencies: list[float] = []

    async def one(number: int, due: float) -> None:
        await work(number)
        latencies.append(trio.current_time() - due)

    spent, start = cpu_s(), trio.current_time() + 0.01
    async with trio.open_nursery() as nursery:
        for number in range(count):
            due = start + number / rate
            await trio.sleep_until(due)
            nursery.start_soon(one, number, due)
    latencies.sort()
    picked = {name: 1000 * latencies[int(share * (count - 1))] for name, share in (("p50", 0.5), ("p99", 0.99))}
    return {"count": count, "cpu_s": cpu_s() - spent, **picked, "max": 1000 * latencies[-1]}


async def run(what: str, host: str, port: int, realm: str, count: int, more: float) -> dict[str, Any]:
    client = Client(host, port, realm, n_users=count)
    async with trio.open_nursery() as nursery:
        await nursery.start(client.node.run)
        await client.node.wait_open()
        await in_parallel(client.ask, 500, 16)  # warm; the server pushes after the first of these
        nursery.start_soon(keep_collecting)
        await trio.sleep(0.01)
        match what:
            case "node":
                result = await in_parallel(client.ask, count, int(more))
            case "fetch":
                result = await in_parallel(client.fetch, count, int(more))
            case "rate":
                result = await at_rate(client.fetch, count, more)
            case _:
                raise SystemExit(f"no such thing: {what}")
        nursery.cancel_scope.cancel()
    return result


async def run_pushes(what: str, host: str, port: int, realm: str, count: int) -> dict[str, Any]:
    """The server sends as soon as it has had a UDR: our only one, which also makes the profile known."""
    client = Client(host, port, realm, n_users=count)
    client.to_push = count
    client.answers_only = what == "answer"
    async with trio.open_nursery() as nursery:
        await nursery.start(client.node.run)
        await client.node.wait_open()
        nursery.start_soon(keep_collecting)
        await trio.sleep(0.01)
        spent, began = cpu_s(), time.perf_counter()
        await client.sh.fetch(USER)
        await client.all_pushed.wait()
        result = {"count": count, "cpu_s": cpu_s() - spent, "seconds": time.perf_counter() - began}
        nursery.cancel_scope.cancel()
    assert client.answers_only or client.sh.stats.pushes == count
    return result


def main() -> None:
    what, host, port, realm, count, more = sys.argv[1:]
    if what in ("push", "answer"):
        result = trio.run(run_pushes, what, host, int(port), realm, int(count))
    else:
        result = trio.run(run, what, host, int(port), realm, int(count), float(more))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
