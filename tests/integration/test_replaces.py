"""INVITEs with Replaces that take over dialogs of a call of ours."""

from __future__ import annotations

import pytest
import trio

from ims_as.sip.invite_session import Acked, Answered, Ended, ReinviteAnswered, ReinviteReceived, Rejected
from ims_as.sip.sdp import parse_sdp_untrusted
from tests.support.world import Leg, RtpSocket, World, until, world

DAVE = "sip:dave@ims.example.net"


def port_of(body: bytes) -> int:
    return parse_sdp_untrusted(body).media[0].port


async def talking(here: World) -> Leg:
    leg = here.call()
    await leg.wait(Answered)
    await here.engine.wait("start")
    return leg


def replacing(here: World, leg: Leg, *, body: bytes | None = None, flags: str = "") -> Leg:
    """A call by somebody else that takes the leg's place; its RTP is the phone's."""
    value = leg.session.replaces() + flags
    offer = here.phone_rtp.offer() if body is None else body
    return here.call(body=offer, headers=[("Replaces", value), ("Require", "replaces")])


async def is_heard(here: World, ours: bytes, party: RtpSocket) -> None:
    description = parse_sdp_untrusted(ours)
    host, port = description.connection_of(description.media[0]), description.media[0].port
    heard = here.engine.audio_bytes
    party.drain()
    party.send(host, port, packets=5)
    await until(lambda: here.engine.audio_bytes > heard)
    await party.receive_type(0)


def test_the_agent_goes_on_with_the_new_caller():
    async def main() -> None:
        async with world() as here:
            leg = await talking(here)
            await is_heard(here, leg.session.remote_body, here.caller_rtp)
            new = replacing(here, leg)
            answer = await new.wait(Answered)
            assert (await leg.wait(Ended)).by == "remote"
            assert (await here.engine.wait("party"))["cause"] == "replaces"
            await is_heard(here, answer.body, here.phone_rtp)
            assert len(here.engine.connections) == 1
            # it is the call's caller now: hold, hand-over
            new.session.reinvite(here.phone_rtp.offer(direction="sendonly", version=2))
            await new.wait(ReinviteAnswered)
            await here.engine.wait("hold")
            assert here.app.call(new.session.request.call_id) is not None
            new.session.bye()
            await here.until_idle()
            record = here.app.call(leg.session.request.call_id)
            assert record is not None
            assert record["termination"]["result"] == "answered"

    trio.run(main)


def test_the_new_caller_may_have_no_offer():
    async def main() -> None:
        async with world() as here:
            leg = await talking(here)
            new = replacing(here, leg, body=b"")
            answered = await new.wait(Answered)
            assert answered.needs_ack
            new.session.ack(here.phone_rtp.offer(formats="0 101"))
            await leg.wait(Ended)
            await here.engine.wait("party")
            await until(lambda: new.session.is_answered)
            await is_heard(here, answered.body, here.phone_rtp)
            new.session.bye()

    trio.run(main)


def test_a_new_caller_that_we_cannot_serve_changes_nothing():
    async def main() -> None:
        async with world() as here:
            leg = await talking(here)
            new = replacing(here, leg, body=here.phone_rtp.offer(formats="97"))
            assert (await new.wait(Rejected)).status == 488
            await is_heard(here, leg.session.remote_body, here.caller_rtp)
            leg.session.bye()

    trio.run(main)


@pytest.mark.parametrize(("flags", "status"), [(";early-only", 486), (";to-tag=x", 400)])
def test_replaces_that_does_not_fit_is_refused(flags: str, status: int):
    async def main() -> None:
        async with world() as here:
            leg = await talking(here)
            new = replacing(here, leg, flags=flags)
            assert (await new.wait(Rejected)).status == status
            leg.session.bye()

    trio.run(main)


def test_a_dialog_that_is_not_ours_is_looked_for_behind_us():
    async def main() -> None:
        async with world() as here:
            phones = here.answer_as_phone()
            new = here.call(headers=[("Replaces", "cid@elsewhere;to-tag=1;from-tag=2")])
            await new.wait(Answered)
            assert here.arrived[0].headers.get("Replaces") == "cid@elsewhere;to-tag=1;from-tag=2"
            assert here.arrived[0].routes == [here.odi]
            assert not here.engine.connections
            new.session.bye()
            await (await phones.receive()).wait(Ended)

    trio.run(main)


async def joined(here: World) -> tuple[Leg, Leg]:
    phones = here.answer_as_phone()
    leg = await talking(here)
    await here.engine.send(event="transfer", target="served-user")
    await leg.wait(ReinviteReceived)
    leg.session.accept_reinvite(here.caller_rtp.offer())
    await until(lambda: not here.ports_bound())
    return leg, await phones.receive()


@pytest.mark.parametrize("which", ["caller", "phone"])
def test_after_a_join_either_party_may_be_replaced(which: str):
    async def main() -> None:
        async with world() as here:
            leg, phone = await joined(here)
            gone, stays = (leg, phone) if which == "caller" else (phone, leg)
            other = RtpSocket(f"{here.prefix}.44")
            new = replacing(here, gone, body=other.offer())
            offered = await stays.wait(ReinviteReceived)
            assert port_of(offered.body) == other.port
            rtp = here.phone_rtp if stays is phone else here.caller_rtp
            stays.session.accept_reinvite(rtp.offer(version=2))
            assert port_of((await new.wait(Answered)).body) == rtp.port
            assert (await gone.wait(Ended)).by == "remote"
            # offers go on between the two that are left, both ways
            new.session.reinvite(other.offer(direction="sendonly", version=2))
            assert b"a=sendonly" in (await stays.wait(ReinviteReceived)).body
            stays.session.accept_reinvite(rtp.offer(direction="recvonly", version=3))
            await new.wait(ReinviteAnswered)
            stays.session.reinvite(rtp.offer(version=4))
            await new.wait(ReinviteReceived)
            new.session.accept_reinvite(other.offer(version=3))
            await stays.wait(ReinviteAnswered)
            new.session.bye()
            await stays.wait(Ended)
            other.close()

    trio.run(main)


def test_after_a_join_one_without_an_offer_gets_what_the_other_said():
    async def main() -> None:
        async with world() as here:
            leg, phone = await joined(here)
            other = RtpSocket(f"{here.prefix}.44")
            new = replacing(here, phone, body=b"")
            answered = await new.wait(Answered)
            assert port_of(answered.body) == here.caller_rtp.port
            new.session.ack(other.offer())
            await phone.wait(Ended)
            told = await leg.wait(ReinviteReceived)
            assert port_of(told.body) == other.port
            leg.session.accept_reinvite(here.caller_rtp.offer(version=2))
            while not isinstance(leg.events[-1:] and leg.events[-1], Acked):
                await trio.sleep(0.01)
            new.session.bye()
            await leg.wait(Ended)
            other.close()

    trio.run(main)


def test_a_refusal_of_the_other_party_leaves_the_join_as_it_was():
    async def main() -> None:
        async with world() as here:
            leg, phone = await joined(here)
            new = replacing(here, phone)
            await leg.wait(ReinviteReceived)
            leg.session.reject_reinvite(488)
            assert (await new.wait(Rejected)).status == 488
            phone.session.bye()
            await leg.wait(Ended)

    trio.run(main)
