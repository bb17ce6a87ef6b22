"""A media worker that is killed: its calls go on with another one, and nothing else happens to them."""

import json
import os
import signal

import pytest
import trio

from ims_as.local_workers import LocalWorkers
from ims_as.media_pool import MediaPool
from ims_as.sip.invite_session import Answered, Ended, InviteSession, ReinviteReceived, Rejected, UpdateReceived
from ims_as.sip.message import Request
from ims_as.sip.transaction import ServerTransaction
from tests.integration.test_anchored import PCMA_ONLY, PCMU_ONLY, anchored, hears, place
from tests.integration.test_leaks import worker_pid
from tests.support.world import Leg, World, until, world

TWO = "media.workers=2"


def moves(here: World) -> None:
    """As if the workers were on machines of their own: a lost leg gets another port."""
    here.app.media.keeps_ports = False


def pids_of(pool: MediaPool) -> dict[str, int]:
    """Process of each slot."""
    source = pool._source
    assert isinstance(source, LocalWorkers)
    return {slot: worker.process.pid for slot, worker in source.workers().items()}


def kill_worker_of(here: World, leg: Leg) -> None:
    """The worker that has this call's media."""
    os.kill(pids_of(here.app.media)[slot_of(here, leg)], signal.SIGKILL)


def slot_of(here: World, leg: Leg) -> str:
    call = next(each for each in here.app.context.calls if each.record.sip_call_id == leg.session.request.call_id)
    return str(call.leg.link.name)


def port_in(body: bytes) -> int:
    return int(body.split(b"m=audio ")[1].split(b" ")[0])


async def has_audio(here: World, port: int) -> None:
    """Both ways, through the engine's echo."""
    heard = here.engine.audio_bytes
    here.caller_rtp.drain()
    with trio.fail_after(5):
        while here.engine.audio_bytes == heard:
            here.caller_rtp.send(here.as_address, port, payload_type=0)
            await trio.sleep(0.02)
    await here.caller_rtp.receive_type(0)


def test_its_call_goes_on_at_the_same_port_of_another_worker():
    async def main() -> None:
        async with world(TWO) as here:
            leg = here.call()
            answered = await leg.wait(Answered)
            await here.engine.wait("start")
            kill_worker_of(here, leg)
            start = await here.engine.wait("start")
            assert start["resume"] is True
            await has_audio(here, port_in(answered.body))
            leg.session.bye()
            await here.until_idle()
            assert not any(isinstance(event, ReinviteReceived) for event in leg.events)
            record = here.app.call(leg.session.request.call_id)
            assert record is not None
            assert record["media_moves"] == 1

    trio.run(main)


def test_its_call_is_told_of_another_port():
    async def main() -> None:
        async with world(TWO) as here:
            moves(here)
            leg = here.call()
            answered = await leg.wait(Answered)
            await here.engine.wait("start")
            before = port_in(answered.body)
            kill_worker_of(here, leg)
            offer = (await leg.wait(ReinviteReceived)).body
            assert port_in(offer) != before
            origin = [body.split(b"o=")[1].split(b"\r\n")[0].split() for body in (answered.body, offer)]
            assert origin[0][1] == origin[1][1]
            assert int(origin[1][2]) == int(origin[0][2]) + 1
            assert leg.session.accept_reinvite(here.caller_rtp.offer(version=2))
            start = await here.engine.wait("start")
            assert start["resume"] is True
            await has_audio(here, port_in(offer))
            record = here.app.call(leg.session.request.call_id)
            assert record is not None
            assert record["state"] == "talking"
            assert record["media_moves"] == 1
            leg.session.bye()
            await here.until_idle()
            assert not any(isinstance(event, ReinviteReceived) for event in leg.events)
            record = here.app.call(leg.session.request.call_id)
            assert record is not None
            assert record["termination"]["by"] == "caller"
            assert here.app.media.restarts == 1

    trio.run(main)


def test_the_only_worker_comes_back_and_takes_its_calls():
    async def main() -> None:
        async with world() as here:
            leg = here.call()
            answered = await leg.wait(Answered)
            os.kill(worker_pid(), signal.SIGKILL)
            await until(lambda: here.app.media.restarts == 1)
            await has_audio(here, port_in(answered.body))
            leg.session.bye()

    trio.run(main)


def test_an_offer_of_the_caller_waits_for_the_new_port():
    async def main() -> None:
        async with world() as here:
            moves(here)
            leg = here.call()
            answered = await leg.wait(Answered)
            os.kill(worker_pid(), signal.SIGKILL)
            await until(lambda: not here.app.context.media.is_ready)
            leg.session.reinvite(here.caller_rtp.offer(version=2))
            # the answer tells the port: no offer of ours is needed
            reply = await leg.wait_for(lambda event: type(event).__name__ == "ReinviteAnswered")
            assert port_in(reply.body) != port_in(answered.body)
            await has_audio(here, port_in(reply.body))
            assert not any(isinstance(event, ReinviteReceived) for event in leg.events)
            leg.session.bye()

    trio.run(main)


@pytest.mark.parametrize("takes_update", [True, False])
def test_a_caller_that_refuses_is_told_by_update_or_hung_up(takes_update):
    async def main() -> None:
        async with world(TWO) as here:
            moves(here)
            seen: list[bytes] = []

            def refuse(session: InviteSession, event: object) -> None:
                leg.on_event(session, event)  # type: ignore[arg-type]
                if isinstance(event, ReinviteReceived):
                    session.reject_reinvite(488)
                elif isinstance(event, UpdateReceived):
                    seen.append(event.body)
                    if takes_update:
                        session.accept_update(here.caller_rtp.offer(version=2))
                    else:
                        session.reject_update(488)

            leg = here.call(on_event=refuse)
            await leg.wait(Answered)
            kill_worker_of(here, leg)
            await leg.wait(UpdateReceived)
            if takes_update:
                await has_audio(here, port_in(seen[0]))
                leg.session.bye()
            else:
                assert (await leg.wait(Ended)).by == "remote"
            await here.until_idle()
            record = here.app.call(leg.session.request.call_id)
            assert record is not None
            assert record["termination"]["reason"] == ("bye" if takes_update else "media-move-refused")

    trio.run(main)


def test_a_call_that_rings_is_answered_with_the_new_port():
    def agents(here: World) -> list[str]:
        engine = {"type": "websocket", "url": here.engine.url}
        agent = {"engines": [engine], "answer": {"mode": "ringing", "after_ms": 1500}}
        return ["agents=" + json.dumps({"default": agent})]

    async def main() -> None:
        async with world(TWO, make=agents) as here:
            moves(here)
            leg = here.call()
            await here.engine.wait("start")
            await until(lambda: here.app.context.calls and next(iter(here.app.context.calls)).session is not None)
            kill_worker_of(here, leg)
            answered = await leg.wait(Answered)
            await has_audio(here, port_in(answered.body))
            assert not any(isinstance(event, ReinviteReceived) for event in leg.events)
            leg.session.bye()

    trio.run(main)


@pytest.mark.parametrize("keeps_ports", [True, False])
def test_two_parties_that_talk_through_the_worker_go_on(keeps_ports):
    async def main() -> None:
        async with world(TWO) as here:
            here.app.media.keeps_ports = keeps_ports
            caller, phone_leg, _ = await anchored(here)
            kill_worker_of(here, caller)
            if not keeps_ports:
                offer = await caller.wait(ReinviteReceived)
                caller.session.accept_reinvite(here.caller_rtp.offer(formats=PCMU_ONLY, version=2))
                assert port_in(offer.body) == place(caller)[1]
                await phone_leg.wait(ReinviteReceived)
                phone_leg.session.accept_reinvite(here.phone_rtp.offer(formats=PCMA_ONLY, version=2))
            await until(lambda: here.app.media.restarts == 1 and here.app.media.legs == 2)
            await hears(here.caller_rtp, place(caller), here.phone_rtp, send=0, receive=8)
            await hears(here.phone_rtp, place(phone_leg), here.caller_rtp, send=8, receive=0)
            assert not here.engine.connections
            phone_leg.session.bye()
            await caller.wait(Ended)

    trio.run(main)


def test_a_caller_whose_transfer_rings_goes_on_with_the_agent_and_is_joined():
    async def main() -> None:
        async with world(TWO) as here:
            ringing: list[InviteSession] = []

            def ring(request: Request, transaction: ServerTransaction) -> None:
                ringing.append(here.agent.accept(request, transaction, on_event=lambda *_: None))
                ringing[0].provisional(180)

            here.phone = ring
            caller = here.call()
            answered = await caller.wait(Answered)
            await here.engine.wait("start")
            await here.engine.send(event="transfer", target="served-user")
            await until(lambda: ringing)
            kill_worker_of(here, caller)
            assert (await here.engine.wait("start"))["resume"] is True
            await has_audio(here, port_in(answered.body))
            ringing[0].answer(here.phone_rtp.offer())
            await caller.wait(ReinviteReceived)
            caller.session.accept_reinvite(here.caller_rtp.offer(version=2))
            await until(lambda: here.app.media.legs == 0)
            caller.session.bye()

    trio.run(main)


def test_an_invite_while_no_worker_is_there_goes_back_to_the_core():
    async def main() -> None:
        async with world() as here:
            os.kill(worker_pid(), signal.SIGKILL)
            await until(lambda: not here.app.context.media.is_ready)
            leg = here.call()
            assert (await leg.wait(Rejected)).status == 503
            await until(lambda: here.app.context.media.is_ready)

    trio.run(main)


def test_a_worker_that_hangs_is_killed_and_replaced():
    async def main() -> None:
        async with world(TWO) as here:
            leg = here.call()
            answered = await leg.wait(Answered)
            await here.engine.wait("start")
            os.kill(pids_of(here.app.media)[slot_of(here, leg)], signal.SIGSTOP)
            began = trio.current_time()
            start = await here.engine.wait("start")
            assert start["resume"] is True
            assert trio.current_time() - began < 4
            await has_audio(here, port_in(answered.body))
            leg.session.bye()

    trio.run(main)


def test_a_leg_that_the_worker_gave_up_gets_another_one_at_the_same_port():
    async def main() -> None:
        async with world() as here:
            leg = here.call()
            answered = await leg.wait(Answered)
            await here.engine.wait("start")
            call = next(iter(here.app.context.calls))
            failed = call.leg
            await failed.link.command("release", failed.name, reason="failed")
            call.on_media({"ev": "leg_failed", "leg": failed.name, "detail": "for this test"})
            assert (await here.engine.wait("start"))["resume"] is True
            await has_audio(here, port_in(answered.body))
            assert here.app.media.restarts == 0
            leg.session.bye()

    trio.run(main)
