"""The control channel from the signalling side, against a scripted worker on a socket pair."""

import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from ims_as.media_client import MediaError, MediaLeg, WorkerLink
from media.control import EngineTarget, StreamConfig, encode_line

Message = dict[str, Any]
STREAM = StreamConfig(codec="PCMU", payload_type=0, remote_host="127.0.0.1", remote_port=4000)
ENGINE = EngineTarget(type="websocket", url="ws://127.0.0.1:1/")


@asynccontextmanager
async def scripted_worker(
    answer: Callable[[Message], list[Message]],
) -> AsyncIterator[tuple[WorkerLink, trio.SocketStream, list[Message]]]:
    ours, theirs = socket.socketpair()
    streams = []
    for sock in (ours, theirs):
        sock.setblocking(False)
        streams.append(trio.SocketStream(trio.socket.from_stdlib_socket(sock)))
    seen: list[Message] = []
    link = WorkerLink("w0", streams[0])

    async def serve() -> None:
        buffer = b""
        with contextlib.suppress(trio.ClosedResourceError):
            async for chunk in streams[1]:
                buffer += chunk
                *lines, buffer = buffer.split(b"\n")
                for line in lines:
                    message = json.loads(line)
                    seen.append(message)
                    for reply in answer(message):
                        await streams[1].send_all(encode_line(reply))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.run)
        nursery.start_soon(serve)
        yield link, streams[1], seen
        nursery.cancel_scope.cancel()
    for stream in streams:
        await trio.aclose_forcefully(stream)


def test_open_and_release():
    events: list[Message] = []

    def answer(message: Message) -> list[Message]:
        if message["cmd"] == "open":
            return [
                {"ev": "first_rtp", "leg": message["leg"], "at": 1.0},
                {"re": message["id"], "ok": True, "host": "127.0.0.30", "port": 20000, "engine_ms": 1.5},
            ]
        return [{"re": message["id"], "ok": True, "stats": {"received": 3}}]

    async def main() -> None:
        async with scripted_worker(answer) as (link, _, seen):
            leg = MediaLeg("l1", link, events.append)
            reply = await leg.open(STREAM, ENGINE)
            assert (leg.host, leg.port, reply["engine_ms"]) == ("127.0.0.30", 20000, 1.5)
            assert events == [{"ev": "first_rtp", "leg": "l1", "at": 1.0}]
            assert await leg.release("bye") == {"received": 3}
            assert await leg.release("again") == {}
            assert [each["cmd"] for each in seen] == ["open", "release"]
            assert link.legs == 0

    trio.run(main)


def test_a_refused_open_leaves_nothing_listening():
    async def main() -> None:
        async with scripted_worker(lambda m: [{"re": m["id"], "ok": False, "error": "engine_refused"}]) as (
            link,
            _,
            _seen,
        ):
            leg = MediaLeg("l1", link, lambda _: None)
            with pytest.raises(MediaError) as caught:
                await leg.open(STREAM, ENGINE)
            assert caught.value.code == "engine_refused"
            assert link.legs == 0

    trio.run(main)


def test_a_silent_worker_costs_the_deadline_only():
    async def main() -> None:
        async with scripted_worker(lambda _: []) as (link, _, _seen):
            with pytest.raises(MediaError) as caught:
                await link.command("ping", deadline_s=0.05)
            assert caught.value.code == "deadline"

    trio.run(main)


def test_a_lost_worker_fails_what_is_pending_and_tells_the_legs():
    events: list[Message] = []

    async def main() -> None:
        async with scripted_worker(lambda _: []) as (link, worker, _seen):
            link.listen("l1", events.append)
            async with trio.open_nursery() as nursery:

                async def ask() -> None:
                    with pytest.raises(MediaError) as caught:
                        await link.command("stats", "l1")
                    assert caught.value.code == "worker_lost"

                nursery.start_soon(ask)
                await trio.testing.wait_all_tasks_blocked()
                await worker.aclose()
            assert not link.alive
            assert events == [{"ev": "worker_lost", "leg": "l1"}]
            with pytest.raises(MediaError):
                await link.command("ping")

    trio.run(main)


@pytest.mark.parametrize("garbage", [b"not json\n", b"[]\n", b"x" * 100_000])
def test_garbage_closes_the_link(garbage: bytes):
    async def main() -> None:
        async with scripted_worker(lambda _: []) as (link, worker, _seen):
            await worker.send_all(garbage)
            with trio.fail_after(2):
                while link.alive:
                    await trio.testing.wait_all_tasks_blocked(0.001)

    trio.run(main)


def test_a_late_reply_and_an_unknown_leg_are_ignored():
    async def main() -> None:
        async with scripted_worker(
            lambda m: [{"re": 999, "ok": True}, {"ev": "dtmf", "leg": "nobody"}, {"re": m["id"], "ok": True}]
        ) as (
            link,
            _,
            _seen,
        ):
            assert (await link.command("ping"))["ok"]
            assert link.unknown_messages == 1

    trio.run(main)
