"""Whatever the HSS does, calls are answered: within the Sh budget, by the default agent where there is no profile."""

import itertools
import json
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
import trio
from attrs import evolve

from diameter.dictionary.sh import SH
from diameter.framing import MessageFramer
from diameter.message import FLAG_REQUEST, Message, decode_message_untrusted
from diameter.sh.messages import PushNotificationRequest, UserDataAnswer, UserIdentity
from diameter.sh.userdata import RepositoryData, ShData, write_sh_data
from ims_as.sip.invite_session import Answered
from tests.diameter.raw_peer import RawPeer, listen_raw
from tests.support.world import BOB, World, until, world

_numbers = itertools.count(1)
Script = Callable[[RawPeer], Awaitable[None]]
BUDGET_S = 0.2
REALM = "ims.example.net"


def sh_data(language: str, *, impu: str = BOB, si: bytes = b"ai-voice-agent") -> bytes:
    data = f"<AgentProfile><Language>{language}</Language></AgentProfile>".encode()
    return write_sh_data(ShData(public_identities=(impu,), repository=(RepositoryData(si, 0, data),)))


def uda(request: Message, xml: bytes | None) -> Message:
    return UserDataAnswer(origin_host="hss", origin_realm=REALM, user_data=xml).to_answer(request)


async def serve(peer: RawPeer, answer: Callable[[Message], Message | bytes | None]) -> None:
    """Capabilities, watchdogs, and what the script says to application requests."""
    await peer.accept()
    await go_on(peer, answer)


async def go_on(peer: RawPeer, answer: Callable[[Message], Message | bytes | None]) -> None:
    while True:
        message = await peer.read()
        if not message.is_request:
            continue
        if message.application_id == 0:
            await peer.send(peer.commands.dwa(message))
            continue
        told = answer(message)
        if isinstance(told, Message):
            told = told.encode()
        if told is not None:
            await peer.stream.send_all(told)


async def never_opens(peer: RawPeer) -> None:
    await trio.sleep_forever()


async def is_silent(peer: RawPeer) -> None:
    await serve(peer, lambda _: None)


async def says_garbage(peer: RawPeer) -> None:
    await serve(peer, lambda _: b"HTTP/1.1 200 OK\r\n\r\n" * 10)


async def stalls(peer: RawPeer) -> None:
    await serve(peer, lambda request: uda(request, sh_data("fr")).encode()[:-40])


async def says_16_mb(peer: RawPeer) -> None:
    await serve(peer, lambda _: b"\x01\xff\xff\xfc" + b"\0" * 100_000)


async def says_40_000_avps(peer: RawPeer) -> None:
    def answer(request: Message) -> bytes:
        frame = uda(request, None).encode() + b"\0\0\x27\x0f\0\0\0\x08" * 40_000
        return frame[:1] + len(frame).to_bytes(3) + frame[4:]

    await serve(peer, answer)


async def tells_of_another(peer: RawPeer) -> None:
    await serve(peer, lambda request: uda(request, sh_data("fr", impu="sip:eve@ims.example.net")))


async def mixes_up_answers(peer: RawPeer) -> None:
    def answer(request: Message) -> Message:
        told = uda(request, sh_data("fr"))
        return evolve(told, end_to_end=told.end_to_end ^ 1)

    await serve(peer, answer)


async def has_another_service(peer: RawPeer) -> None:
    await serve(peer, lambda request: uda(request, sh_data("fr", si=b"another-service")))


async def says_no_xml(peer: RawPeer) -> None:
    await serve(peer, lambda request: uda(request, b"<Sh-Data>" + b"<a>" * 50_000))


async def has_no_result(peer: RawPeer) -> None:
    await serve(peer, lambda request: request.build_answer([SH["User-Data"].avp(sh_data("fr"))]))


async def flaps(peer: RawPeer) -> None:
    """Open, a request, and gone."""
    await peer.accept()
    await peer.read_code(306)


HOSTILE: tuple[Script, ...] = (
    never_opens,
    is_silent,
    says_garbage,
    stalls,
    says_16_mb,
    says_40_000_avps,
    tells_of_another,
    mixes_up_answers,
    has_another_service,
    says_no_xml,
    has_no_result,
    flaps,
)


def run_with(script: Script, test: Callable[[World], Awaitable[None]], *overrides: str) -> None:
    async def main() -> None:
        host = f"127.{20 + os.getpid() % 200}.{180 + next(_numbers)}.10"
        async with trio.open_nursery() as nursery:
            _, port = await listen_raw(nursery, script, "hss", realm=REALM, host=host)
            settings = [
                "diameter.peers=" + json.dumps([{"address": f"tcp:{host}:{port}"}]),
                f"diameter.sh.budget_ms={int(BUDGET_S * 1000)}",
                *overrides,
            ]
            async with world(*settings) as here:
                await test(here)
            nursery.cancel_scope.cancel()

    trio.run(main)


async def call(here: World) -> tuple[str | None, float]:
    """Which language the profile gave, and how long the call waited for its profile."""
    leg = here.call()
    sent = trio.current_time()
    await leg.wait(Answered)
    waited = trio.current_time() - sent
    start = await here.engine.wait("start")
    assert start["agent"] == "default"
    leg.session.bye()
    language: str | None = start.get("language")
    return language, waited


@pytest.mark.parametrize("script", HOSTILE, ids=lambda script: script.__name__)
def test_calls_are_answered_whatever_the_hss_does(script: Script):
    async def test(here: World) -> None:
        assert here.app.node is not None
        if script is not never_opens:
            with trio.fail_after(5):
                await here.app.node.wait_open()
        for _ in range(2):
            language, waited = await call(here)
            assert language is None, "a profile that is not the user's"
            # the rest is the call itself; a test machine may be slow
            assert waited < BUDGET_S + 1.5
        assert here.app.node.n_pending <= 2
        if script is tells_of_another:
            assert here.app.sh is not None
            assert here.app.sh.stats.foreign == 2

    run_with(script, test, "diameter.sh.subscribe=false")


def test_calls_go_on_while_the_hss_floods_us_with_notifications():
    """Notifications as fast as TCP takes them: each is answered, none delays a call."""
    n_answered = 0

    async def floods(peer: RawPeer) -> None:
        nonlocal n_answered
        push = PushNotificationRequest(
            session_id="hss;1;1",
            origin_host="hss",
            origin_realm=REALM,
            destination_host="as",
            destination_realm=REALM,
            user_identity=UserIdentity(public_identity=BOB),
            user_data=sh_data("it"),
        ).to_message()
        await peer.accept()

        replies, asked = trio.open_memory_channel[Message](1000)

        async def flood() -> None:
            number = 0
            while True:
                burst = []
                with suppress(trio.WouldBlock):
                    while True:
                        burst.append(asked.receive_nowait().encode())
                for _ in range(50):
                    number += 1
                    burst.append(push.with_ids(hop_by_hop=number, end_to_end=number).encode())
                try:
                    await peer.stream.send_all(b"".join(burst))
                except trio.BrokenResourceError:
                    return  # the end of the test

        async with trio.open_nursery() as nursery:
            nursery.start_soon(flood)
            framer = MessageFramer()
            with suppress(trio.BrokenResourceError):  # the end of the test
                async for chunk in peer.stream:
                    framer.receive_bytes(chunk)
                    while (frame := framer.next_message_untrusted()) is not None:
                        if not frame[4] & FLAG_REQUEST:
                            n_answered += 1
                            continue
                        message = decode_message_untrusted(frame)
                        is_base = message.application_id == 0
                        await replies.send(peer.commands.dwa(message) if is_base else uda(message, sh_data("de")))

    async def test(here: World) -> None:
        with trio.fail_after(5):
            assert here.app.node is not None
            await here.app.node.wait_open()
        await until(lambda: n_answered > 200)
        waits = [(await call(here))[1] for _ in range(3)]
        before = n_answered
        await until(lambda: n_answered > before)
        assert max(waits) < BUDGET_S + 1.5

    run_with(floods, test, "diameter.sh.subscribe=false")


def test_a_peer_that_flaps_is_not_hammered():
    """Each new connection is at most as early as the reconnect timer wants it."""
    opened: list[float] = []

    async def opens_and_goes(peer: RawPeer) -> None:
        opened.append(trio.current_time())
        await peer.accept()

    async def test(here: World) -> None:
        await until(lambda: len(opened) >= 4)
        assert min(later - earlier for earlier, later in itertools.pairwise(opened)) > 0.1
        for _ in range(2):
            assert (await call(here))[0] is None

    run_with(opens_and_goes, test, "diameter.sh.subscribe=false")
