"""An HSS goes away under load: who takes over, how soon, and what becomes of the requests under way?

    python -m bench.hss_failover            500 requests/s; the hung HSS takes a watchdog (6 s) or two: half a minute

Two HSSes as processes (``diameterd.c``), our Sh client here, each request for a user that is not in the cache, with
the usual budget of 300 ms. *Killed*: SIGKILL, the connection breaks. *Hung*: SIGSTOP, the connection stays and nothing
is answered until the watchdog is not either. *Alone*: the last HSS is killed; half of the requests are for users in the
cache.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import trio
from attrs import define, field

from bench.diameter import PORT, PROFILE, REALM, SERVER, SI, write_answers
from bench.programs import build_programs
from diameter.message import Message
from diameter.node import DiameterNode, NodeConfig, PeerConfig
from diameter.sh.client import ShClient, ShConfig
from diameter.sh.errors import ShError
from diameter.sh.messages import UserDataAnswer, UserDataRequest, UserIdentity
from diameter.sh.userdata import RepositoryData, ShData, write_sh_data

__all__ = ["run"]

HOSTS: Final = ("127.0.85.1", "127.0.85.2")
WATCHDOG_S: Final = 6.0
"""The least that RFC 3539 allows."""
AFTER_S: Final = 2.0
"""When the HSS goes away."""


def user(number: int) -> str:
    return f"sip:user{number}@{REALM}"


def _answer_for_anybody() -> bytes:
    """The AVPs of a UDA after its Session-Id; no identity in the document, for it answers to any user."""
    head = {"session_id": "", "origin_host": SERVER, "origin_realm": REALM}
    udr = UserDataRequest(**head, user_identity=UserIdentity(public_identity=user(0))).to_message()
    document = write_sh_data(ShData(repository=(RepositoryData(SI, 7, PROFILE),), user_state=1))
    uda = UserDataAnswer(origin_host=SERVER, origin_realm=REALM, user_data=document).to_answer(udr)
    return b"".join(avp.encode() for avp in uda.avps[1:])


@contextmanager
def hsses() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Both, as processes."""
    program = build_programs() / "diameterd"
    processes: list[subprocess.Popen[bytes]] = []
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        for number, host in enumerate(HOSTS):
            answers = Path(directory) / host
            answers.mkdir()
            write_answers(answers)
            (answers / "306").write_bytes(_answer_for_anybody())
            for each in answers.iterdir():
                # an identity of its own, of the same length
                each.write_bytes(each.read_bytes().replace(SERVER.encode(), f"hs{number}.{REALM}".encode()))
            process = stack.enter_context(subprocess.Popen([program, host, str(PORT), answers], stdout=subprocess.PIPE))
            stack.callback(process.kill)
            processes.append(process)
            assert process.stdout is not None
            process.stdout.readline()
        yield processes


async def until_closed(node: DiameterNode) -> None:
    """Until no peer is open."""
    for _ in range(5000):
        if not node.is_open():
            return
        await trio.sleep(0.001)


@define
class Watched:
    """Requests of one run and what became of them."""

    sh: ShClient
    waits: list[tuple[float, float]] = field(factory=list)
    """(begun, seconds) of those that got a profile."""
    errors: Counter[str] = field(factory=Counter)
    slowest_error_s: float = 0.0

    async def ask(self, impu: str) -> None:
        begun = trio.current_time()
        try:
            await self.sh.fetch(impu)
        except ShError as error:
            self.errors[type(error).__name__] += 1
            self.slowest_error_s = max(self.slowest_error_s, trio.current_time() - begun)
        else:
            self.waits.append((begun, trio.current_time() - begun))


async def _load(watched: Watched, nursery: trio.Nursery, rate: float, seconds: float, first: int) -> int:
    """Requests at that rate, whatever the answers do; the number of the next user."""
    begun = trio.current_time()
    number = first
    while (due := trio.current_time() - begun) < seconds:
        while number < first + due * rate:
            nursery.start_soon(watched.ask, user(number))
            number += 1
        await trio.sleep(0.002)
    return number


async def _with_client(n_peers: int, scene: Callable[[Watched, DiameterNode, list[Message]], Awaitable[None]]) -> None:
    sent: list[Message] = []

    def tap(direction: str, peer: str, message: Message) -> None:
        if direction == "out" and message.is_request and message.application_id:
            sent.append(message)

    async with trio.open_nursery() as nursery:
        node = DiameterNode(
            NodeConfig(
                origin_host=f"as.{REALM}",
                origin_realm=REALM,
                peers=tuple(PeerConfig(host, PORT) for host in HOSTS[:n_peers]),
            ),
            on_wire=tap,
            watchdog_s=WATCHDOG_S,
        )
        settings = ShConfig(
            destination_realm=REALM,
            server_name=f"sip:as.{REALM}",
            service_indication=SI,
            subscribe=False,
        )
        sh = ShClient(node, settings)
        await nursery.start(node.run)
        await nursery.start(sh.run)
        await node.wait_open(n_peers)
        await scene(Watched(sh), node, sent)
        nursery.cancel_scope.cancel()


def lost(rate: float, seconds: float, signal_number: int) -> dict[str, Any]:
    """The first of two HSSes gets that signal."""
    result: dict[str, Any] = {"what": "killed" if signal_number == signal.SIGKILL else "hung", "rate": rate}

    async def scene(watched: Watched, node: DiameterNode, sent: list[Message]) -> None:
        async with trio.open_nursery() as nursery:
            number = await _load(watched, nursery, rate, AFTER_S, 0)
            away_at = trio.current_time()
            os.kill(processes[0].pid, signal_number)
            await _load(watched, nursery, rate, seconds - AFTER_S, number)
        # answered although begun after the loss, for the first time
        served = min((begun + wait for begun, wait in watched.waits if begun > away_at), default=float("inf"))
        sendings = Counter(message.end_to_end for message in sent)
        result.update(
            requests=len(watched.waits) + sum(watched.errors.values()),
            without_profile=sum(watched.errors.values()),
            errors=dict(watched.errors),
            failover_ms=round((served - away_at) * 1000, 1),
            longest_wait_ms=round(max(wait for _, wait in watched.waits) * 1000, 1),
            longest_failure_ms=round(watched.slowest_error_s * 1000, 1),
            sent_twice=sum(1 for count in sendings.values() if count == 2),
            sent_more=sum(1 for count in sendings.values() if count > 2),
        )

    with hsses() as processes:
        trio.run(_with_client, 2, scene)
    return result


def alone(rate: float, seconds: float) -> dict[str, Any]:
    """The only HSS is killed; then half of the requests are for users in the cache."""
    result: dict[str, Any] = {"what": "alone", "rate": rate}

    async def scene(watched: Watched, node: DiameterNode, sent: list[Message]) -> None:
        async with trio.open_nursery() as nursery:
            number = await _load(watched, nursery, rate / 2, seconds, 0)
        n_known = len(watched.waits)
        processes[0].kill()
        await until_closed(node)
        later = Watched(watched.sh)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_load, later, nursery, rate / 2, seconds, 0)
            nursery.start_soon(_load, later, nursery, rate / 2, seconds, number)
        result.update(
            known=n_known,
            from_cache=len(later.waits),
            cache_max_ms=round(max(wait for _, wait in later.waits) * 1000, 2),
            default_agent=sum(later.errors.values()),
            told_after_max_ms=round(later.slowest_error_s * 1000, 2),
        )

    with hsses() as processes:
        trio.run(_with_client, 1, scene)
    return result


def run(rate: float = 500.0) -> list[dict[str, Any]]:
    """All three."""
    return [
        lost(rate, 5.0, signal.SIGKILL),
        lost(rate, AFTER_S + 2.5 * WATCHDOG_S + 2.0, signal.SIGSTOP),
        alone(rate, 2.0),
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="An HSS goes away under load.")
    parser.add_argument("--rate", type=float, default=500.0, help="requests per second")
    for row in run(parser.parse_args().rate):
        print(", ".join(f"{name} {value}" for name, value in row.items()), flush=True)
