"""Messages that cross, come late, come twice or never come; afterwards nothing is left of the call nor of SIP."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from ims_as.call import call_setup
from ims_as.call.profile import UserProfile
from ims_as.sip.invite_session import Answered, Ended, ReinviteReceived
from ims_as.sip.message import Request, build_response
from ims_as.sip.sdp import parse_sdp_untrusted
from ims_as.sip.timers import TimerConfig
from ims_as.sip.transaction import ServerTransaction
from tests.support.raw_caller import RawCaller
from tests.support.world import World, until, world

FAST = TimerConfig(t1=0.01, t2=0.04, t4=0.05, timer_d=0.2, trying_after=0.02)
EARLY = 'agents.default.answer.mode="early-media"'
RELIABLE = [("Supported", "100rel")]


@asynccontextmanager
async def strict_world(*overrides: str, engine: bool = True) -> AsyncIterator[World]:
    """A world whose server has nothing left at the end: no transaction, timer, dialog, task, port or engine."""
    async with world(*overrides, engine=engine, timers=FAST) as here:
        tasks = here.app.context.tasks
        assert tasks is not None
        before = len(tasks.child_tasks)
        yield here
        await here.until_idle()
        await until(lambda: here.app.endpoint.stats.is_idle)
        assert len(tasks.child_tasks) == before
        assert not here.app.endpoint.counters.guard_errors
        assert all(call["termination"]["reason"] != "internal-error" for call in here.app.calls())


def ended(here: World, caller: RawCaller) -> dict[str, Any]:
    record = here.app.call(caller.call_id)
    assert record is not None
    return record["termination"]


async def answered(here: World, caller: RawCaller) -> bytes:
    """A call that is up and acknowledged; our description."""
    caller.invite(body=here.caller_rtp.offer())
    ok = await caller.response(status=200)
    caller.ack(ok)
    return ok.body


async def is_heard(here: World, ours: bytes) -> None:
    description = parse_sdp_untrusted(ours)
    host, port = description.connection_of(description.media[0]), description.media[0].port
    heard = here.engine.audio_bytes
    here.caller_rtp.drain()
    here.caller_rtp.send(host, port, packets=5)
    await until(lambda: here.engine.audio_bytes > heard)
    await here.caller_rtp.receive_type(0)


# ---------------------------------------------------------------- CANCEL at each moment


async def cancelled(here: World, caller: RawCaller) -> None:
    caller.cancel()
    assert (await caller.response("CANCEL")).status == 200
    refused = await caller.response()
    assert refused.status == 487
    caller.ack(refused)
    await here.until_idle()
    assert ended(here, caller)["result"] == "cancelled"


def test_cancel_before_the_profile_has_come(monkeypatch: pytest.MonkeyPatch):
    asked = trio.Event()

    async def never(*_: object, **__: object) -> UserProfile:
        asked.set()
        await trio.sleep_forever()
        raise AssertionError

    monkeypatch.setattr(call_setup, "load_profile", never)

    async def main() -> None:
        async with strict_world() as here:
            with RawCaller(here) as caller:
                caller.invite(body=here.caller_rtp.offer())
                with trio.fail_after(10):
                    await asked.wait()
                await cancelled(here, caller)
                assert not here.engine.connections

    trio.run(main)


def test_cancel_while_the_engine_is_connected():
    async def main() -> None:
        async with strict_world("sip.answer_budget_ms=3000", engine=False) as here:
            listeners = await trio.open_tcp_listeners(9000, host=here.engine.host)
            with RawCaller(here) as caller:
                caller.invite(body=here.caller_rtp.offer())
                await until(here.ports_bound)
                await cancelled(here, caller)
            await listeners[0].aclose()

    trio.run(main)


@pytest.mark.parametrize("acknowledged", [False, True])
def test_cancel_after_a_reliable_183(acknowledged: bool):
    async def main() -> None:
        async with strict_world(EARLY, "agents.default.answer.after_ms=5000") as here:
            with RawCaller(here) as caller:
                caller.invite(body=here.caller_rtp.offer(), headers=RELIABLE)
                early = await caller.response(status=183)
                if acknowledged:
                    await caller.prack(early)
                await cancelled(here, caller)

    trio.run(main)


def test_cancel_that_crosses_the_200_comes_too_late():
    async def main() -> None:
        async with strict_world() as here:
            with RawCaller(here) as caller:
                caller.invite(body=here.caller_rtp.offer())
                await until(lambda: here.app.endpoint.counters.responses_out.get(200))
                caller.cancel()
                assert (await caller.response("CANCEL")).status == 200
                ok = await caller.response()
                assert ok.status == 200
                caller.ack(ok)
                await is_heard(here, ok.body)
                await caller.hang_up()
                await here.until_idle()
                assert ended(here, caller)["result"] == "answered"
                assert "487 INVITE" not in caller.pending()

    trio.run(main)


def test_cancel_of_nothing_is_481():
    async def main() -> None:
        async with strict_world() as here:
            with RawCaller(here) as caller:
                caller.send("CANCEL", branch="z9hG4bK-never-seen")
                assert (await caller.response("CANCEL")).status == 481

    trio.run(main)


def test_cancel_of_a_reinvite_changes_nothing_on_either_plane():
    async def main() -> None:
        async with strict_world() as here:
            with RawCaller(here) as caller:
                ours = await answered(here, caller)
                await is_heard(here, ours)
                # both in one go: the CANCEL is there before the media plane has answered
                caller.invite(body=here.phone_rtp.offer(formats="8", version=2))
                caller.send("CANCEL", cseq=2, branch=caller._branches[2])
                assert (await caller.response("CANCEL")).status == 200
                refused = await caller.response(cseq=2)
                caller.ack(refused)
                if refused.status == 487:
                    await is_heard(here, ours)
                    caller.invite(body=here.caller_rtp.offer(version=3))
                    again = await caller.response(cseq=3)
                    caller.ack(again)
                    assert parse_sdp_untrusted(again.body).origin == parse_sdp_untrusted(ours).origin
                await caller.hang_up()

    trio.run(main)


# ---------------------------------------------------------------- ACK


def test_a_late_ack():
    async def main() -> None:
        async with strict_world() as here:
            with RawCaller(here) as caller:
                caller.invite(body=here.caller_rtp.offer())
                first = await caller.response(status=200)
                for _ in range(3):
                    again = await caller.response(status=200)
                    assert again.to_bytes() == first.to_bytes()
                caller.ack(first)
                caller.ack(first)
                await is_heard(here, first.body)
                await caller.hang_up()

    trio.run(main)


def test_an_ack_that_never_comes():
    async def main() -> None:
        async with strict_world() as here:
            with RawCaller(here) as caller:
                caller.invite(body=here.caller_rtp.offer())
                await caller.response(status=200)
                caller.respond(await caller.incoming("BYE"), 200)
                await here.until_idle()
                assert ended(here, caller)["reason"] == "no-ack"

    trio.run(main)


def test_nobody_answers_our_bye_either():
    async def main() -> None:
        async with strict_world() as here:
            with RawCaller(here) as caller:
                caller.invite(body=here.caller_rtp.offer())
                await caller.response(status=200)
                await here.until_idle()

    trio.run(main)


def test_bye_instead_of_the_ack():
    async def main() -> None:
        async with strict_world() as here:
            with RawCaller(here) as caller:
                caller.invite(body=here.caller_rtp.offer())
                await caller.response(status=200)
                await caller.hang_up()
                await here.until_idle()
                assert ended(here, caller)["result"] == "answered"

    trio.run(main)


def test_an_agent_that_hangs_up_before_the_ack():
    """RFC 3261 §15: our BYE waits for the ACK."""

    async def main() -> None:
        async with strict_world() as here:
            with RawCaller(here) as caller:
                caller.invite(body=here.caller_rtp.offer())
                ok = await caller.response(status=200)
                await here.engine.send(event="hangup")
                await until(lambda: not here.engine.connections)
                assert "BYE" not in caller.pending()
                caller.ack(ok)
                caller.respond(await caller.incoming("BYE"), 200)

    trio.run(main)


def test_a_reinvite_before_the_ack_has_to_wait():
    async def main() -> None:
        async with strict_world() as here:
            with RawCaller(here) as caller:
                caller.invite(body=here.caller_rtp.offer())
                ok = await caller.response(status=200)
                caller.invite(body=here.caller_rtp.offer(version=2))
                refused = await caller.response(cseq=2)
                assert refused.status in (491, 500)
                caller.ack(refused)
                caller.ack(ok)
                await is_heard(here, ok.body)
                await caller.hang_up()

    trio.run(main)


# ---------------------------------------------------------------- BYE


def test_byes_that_cross():
    async def main() -> None:
        async with strict_world() as here:
            with RawCaller(here) as caller:
                await answered(here, caller)
                await here.engine.wait("start")
                await here.engine.send(event="hangup")
                ours = await caller.incoming("BYE")
                await caller.hang_up()
                caller.respond(ours, 200)
                await here.until_idle()
                assert ended(here, caller)["by"] == "agent"

    trio.run(main)


def test_a_bye_that_crosses_its_own_reinvite():
    async def main() -> None:
        async with strict_world() as here:
            with RawCaller(here) as caller:
                await answered(here, caller)
                number = caller.invite(body=here.caller_rtp.offer(version=2))
                caller.request("BYE")
                assert (await caller.response("BYE")).status == 200
                final = await caller.response(cseq=number)
                assert final.status in (200, 487)
                caller.ack(final)

    trio.run(main)


def test_a_bye_that_crosses_our_reinvite():
    async def main() -> None:
        async with strict_world() as here:
            phones = here.answer_as_phone()
            with RawCaller(here) as caller:
                await answered(here, caller)
                await here.engine.wait("start")
                await here.engine.send(event="transfer", target="served-user")
                reinvite = await caller.incoming("INVITE")
                await caller.hang_up()
                caller.respond(reinvite, 481)
                phone = await phones.receive()
                assert (await phone.wait(Ended)).by == "remote"
                await here.until_idle()

    trio.run(main)


def test_a_bye_that_crosses_our_update_of_a_joined_call():
    async def main() -> None:
        async with strict_world() as here:
            phones = here.answer_as_phone()
            leg = here.call()
            await leg.wait(Answered)
            await here.engine.wait("start")
            await here.engine.send(event="transfer", target="served-user")
            await leg.wait(ReinviteReceived)
            leg.session.accept_reinvite(here.caller_rtp.offer())
            phone = await phones.receive()
            await until(lambda: not here.ports_bound())
            leg.session.update(here.caller_rtp.offer(direction="sendonly", version=2))
            phone.session.bye()
            assert (await leg.wait(Ended)).by == "remote"

    trio.run(main)


def test_both_parties_of_a_joined_call_hang_up_at_once():
    async def main() -> None:
        async with strict_world() as here:
            phones = here.answer_as_phone()
            leg = here.call()
            await leg.wait(Answered)
            await here.engine.wait("start")
            await here.engine.send(event="transfer", target="served-user")
            await leg.wait(ReinviteReceived)
            leg.session.accept_reinvite(here.caller_rtp.offer())
            phone = await phones.receive()
            await until(lambda: not here.ports_bound())
            leg.session.bye()
            phone.session.bye()

    trio.run(main)


def test_a_phone_that_answers_although_it_was_cancelled_is_hung_up():
    async def main() -> None:
        async with strict_world() as here:
            arrived: list[tuple[Request, ServerTransaction]] = []
            here.phone = lambda request, transaction: arrived.append((request, transaction))
            with RawCaller(here) as caller:
                await answered(here, caller)
                await here.engine.wait("start")
                await here.engine.send(event="transfer", target="served-user")
                await until(lambda: arrived)
                request, transaction = arrived[0]
                headers = [("Contact", f"<sip:phone@{here.core_address}:5060>")]
                ringing = build_response(request, 180, to_tag="phone", headers=headers)
                here.core.send_response(transaction, ringing)
                await until(lambda: transaction.is_answered or transaction.request is request)
                await caller.hang_up()
                # its 200 was on the way when our CANCEL came
                transaction.owner = _Deaf()
                ok = build_response(
                    request,
                    200,
                    to_tag="phone",
                    headers=headers,
                    body=here.phone_rtp.offer(),
                    content_type="application/sdp",
                )
                here.core.send_response(transaction, ok)
                await here.until_idle()

    trio.run(main)


class _Deaf:
    """Takes a CANCEL and does nothing about it."""

    def receive_cancel(self, transaction: ServerTransaction, cancel: Request) -> None:
        """See above."""


# ---------------------------------------------------------------- what fits nothing


def test_requests_that_fit_nothing():
    async def main() -> None:
        async with strict_world() as here:
            with RawCaller(here) as caller:
                ours = await answered(here, caller)
                for method in ("BYE", "UPDATE", "INFO", "PRACK", "NOTIFY"):
                    number = caller.send(method, cseq=50, to_tag="not-ours", headers=[("RAck", "1 1 INVITE")])
                    assert (await caller.response(method, cseq=number)).status == 481
                caller.send("ACK", cseq=77)
                caller.send("ACK", cseq=1, to_tag="not-ours")
                caller.cseq = 50
                caller.request("PRACK", headers=[("RAck", "9 1 INVITE")])
                assert (await caller.response("PRACK")).status == 481
                caller.send("INFO", cseq=3, body=b"5", content_type="application/dtmf")
                assert (await caller.response("INFO", cseq=3)).status == 500  # out of order
                caller.send_bytes(b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bKx\r\n\r\n")
                await is_heard(here, ours)
                await caller.hang_up()
                caller.request("UPDATE", body=here.caller_rtp.offer(version=9))
                assert (await caller.response("UPDATE")).status == 481

    trio.run(main)


@pytest.mark.parametrize("seed", range(4))
def test_whatever_order_a_caller_chooses_nothing_is_left(seed: int):
    """Random calls: each step is one that a confused or hasty caller could take."""

    async def one_call(here: World, rng: random.Random, caller: RawCaller) -> None:
        early = rng.random() < 0.5
        headers = [("Supported", "100rel, timer")] if early else []
        caller.invite(body=b"" if rng.random() < 0.3 else here.caller_rtp.offer(), headers=headers)
        if rng.random() < 0.3:
            await trio.sleep(rng.random() * 0.02)
            caller.cancel()
        for _ in range(rng.randrange(6)):
            await trio.sleep(rng.random() * 0.02)
            caller.pending()
            for message in [*caller.received]:
                caller.received.remove(message)
                if isinstance(message, Request):
                    if message.method != "ACK" and rng.random() < 0.7:
                        caller.respond(message, rng.choice([200, 200, 481, 500]))
                    continue
                tag = getattr(message, "to_tag", None)
                status = getattr(message, "status", 0)
                if status > 100 and tag:
                    caller.to_tag = tag
                if status == 183 and "RSeq" in message.headers and rng.random() < 0.7:
                    caller.cseq += 1
                    rack = f"{message.headers.get('RSeq')} 1 INVITE"
                    caller.send("PRACK", headers=[("RAck", rack)], body=rng.choice([b"", here.caller_rtp.offer()]))
                elif status >= 200 and message.cseq.method == "INVITE" and rng.random() < 0.7:  # type: ignore[attr-defined]
                    caller.ack(message, body=rng.choice([b"", here.caller_rtp.offer()]))  # type: ignore[arg-type]
            if not caller.to_tag:
                continue
            step = rng.choice(["INVITE", "UPDATE", "INFO", "BYE", "nothing", "nothing"])
            if step == "INVITE":
                caller.invite(body=rng.choice([b"", here.caller_rtp.offer(version=2), b"garbage"]))
            elif step != "nothing":
                caller.request(step, body=here.caller_rtp.offer(version=3) if step == "UPDATE" else b"")
        caller.request("BYE")
        await trio.sleep(0.01)

    async def main() -> None:
        rng = random.Random(seed)
        mode = "early-media" if seed % 2 else "direct"
        async with strict_world(f'agents.default.answer.mode="{mode}"', "agents.default.answer.after_ms=20") as here:
            for _ in range(12):
                with RawCaller(here) as caller:
                    await one_call(here, rng, caller)
            await here.until_idle()

    trio.run(main)
