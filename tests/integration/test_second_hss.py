"""One of two HSSes dies while calls come in: every caller gets the agent that the profile describes. 127.0.86.x."""

from __future__ import annotations

import json

import trio

from conformance.lab.hss import LabHss, Subscriber
from ims_as.sip.invite_session import Answered
from tests.support.hss_world import OWN_CRITERIA
from tests.support.world import until, world

HOSTS = ("127.0.86.1", "127.0.86.2")
SI = b"ai-voice-agent"
N_CALLS = 24


def user(number: int) -> str:
    return f"sip:user{number}@ims.example.net"


def build_hss(host: str) -> LabHss:
    users = {}
    for number in range(N_CALLS):
        profile = f"<AgentProfile><Greeting>Hello {number}</Greeting></AgentProfile>".encode()
        users[user(number)] = Subscriber(str(number), [user(number)], {SI: profile}, OWN_CRITERIA)
    return LabHss(host, 3868, users, origin_host=f"hss-{host}")


def test_calls_do_not_notice_that_an_hss_has_died():
    peers = [{"address": f"tcp:{host}"} for host in HOSTS]
    # whatever the machine does, no call is to run out of its budget here
    overrides = [f"diameter.peers={json.dumps(peers)}", "diameter.sh.budget_ms=5000", "sip.answer_budget_ms=10000"]

    async def main() -> None:
        first, second = map(build_hss, HOSTS)
        async with trio.open_nursery() as nursery:
            dying = trio.CancelScope()

            async def run(*, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
                with dying:
                    await first.run(task_status=task_status)

            await nursery.start(run)
            await nursery.start(second.run)
            async with world(*overrides) as here:
                node = here.app.node
                assert node is not None
                with trio.fail_after(5):
                    await node.wait_open(2)
                legs = [here.call(to=user(number)) for number in range(8)]
                for leg in legs:
                    await leg.wait(Answered)
                assert not second.requests
                first.delay_s = 10.0  # the next ones are surely under way when it dies
                legs += [here.call(to=user(number)) for number in range(8, 16)]
                await until(lambda: [each.command for each in first.requests].count("UDR") == 16)
                dying.cancel()
                legs += [here.call(to=user(number)) for number in range(16, N_CALLS)]
                for leg in legs[8:]:
                    await leg.wait(Answered)
                greetings = {(await here.engine.wait("start"))["greeting"] for _ in range(N_CALLS)}
                assert greetings == {f"Hello {number}" for number in range(N_CALLS)}
                assert node.counters["failover"] >= 8
                for leg in legs:
                    leg.session.bye()
            nursery.cancel_scope.cancel()

    trio.run(main)
