"""A caller handed to a human whose telephone cannot do with its description: the audio goes through our worker."""

from __future__ import annotations

import numpy as np
import trio

from ims_as.sip.invite_session import Acked, Answered, Ended, ReinviteAnswered, ReinviteReceived, RequestReceived
from ims_as.sip.message import Request, build_response
from ims_as.sip.sdp import parse_sdp_untrusted
from ims_as.sip.transaction import ServerTransaction
from media import g711
from tests.integration.test_handover_legs import is_heard, port_of, states, transfer
from tests.support.world import Leg, RtpSocket, World, until, world

PCMU_ONLY, PCMA_ONLY = "0 101", "8 101"
ANCHOR = "agents.default.transfer.media=anchor"
DIRECT = "agents.default.transfer.media=direct"
LOUD = bytes([0x90])
"""A large positive sample in PCMU; 0x80 would be the largest."""


def formats_of(body: bytes) -> list[str]:
    return list(parse_sdp_untrusted(body).media[0].formats)


class PcmaPhone:
    """A telephone that speaks PCMA alone."""

    def __init__(self, here: World) -> None:
        self._here = here
        self.legs: list[Leg] = []
        self.refused = 0
        here.phone = self._take

    def _take(self, request: Request, transaction: ServerTransaction) -> None:
        if "8" not in formats_of(request.body):
            self.refused += 1
            self._here.core.send_response(transaction, build_response(request, 488))
            return
        leg = Leg(None)  # type: ignore[arg-type]
        leg.session = self._here.agent.accept(request, transaction, on_event=leg.on_event)
        leg.session.provisional(180)
        leg.session.answer(self._here.phone_rtp.offer(formats=PCMA_ONLY))
        self.legs.append(leg)

    async def answered(self) -> Leg:
        await until(lambda: self.legs)
        await self.legs[-1].wait(Acked)
        return self.legs[-1]


async def talking(here: World) -> Leg:
    """The caller, which speaks PCMU alone, with the agent."""
    caller = here.call(body=here.caller_rtp.offer(formats=PCMU_ONLY))
    await caller.wait(Answered)
    await here.engine.wait("start")
    await is_heard(here, caller.session.remote_body)
    return caller


async def anchored(here: World) -> tuple[Leg, Leg, PcmaPhone]:
    """The caller speaks PCMU, the phone PCMA, and they talk."""
    phone = PcmaPhone(here)
    caller = await talking(here)
    await transfer(here)
    leg = await phone.answered()
    await until(lambda: not here.engine.connections)
    return caller, leg, phone


def place(leg: Leg) -> tuple[str, int]:
    """Where a leg is to send: our port for it."""
    description = parse_sdp_untrusted(leg.session.remote_body)
    return description.connection_of(description.media[0]), description.media[0].port


async def hears(there: RtpSocket, ours: tuple[str, int], here: RtpSocket, *, send: int, receive: int) -> None:
    """What one party says in its codec, loud, comes to the other in its own."""
    here.drain()
    with trio.fail_after(5):
        while True:
            there.send(*ours, payload_type=send, sample=LOUD if send == 0 else bytes([0xB5]))
            packet = await here.receive()
            if packet[1] & 0x7F != receive:
                continue
            codes = np.frombuffer(packet[12:], np.uint8)[None, :]
            level = np.abs(g711.decode(codes, np.array([receive == 8], np.uint8))).mean()
            if level > 3000:
                return


def test_a_phone_that_refuses_the_callers_codec_is_asked_with_ours():
    async def main() -> None:
        async with world() as here:
            caller, phone_leg, phone = await anchored(here)
            assert phone.refused == 1
            assert {"0", "8"} <= set(formats_of(here.arrived[-1].body)), "our own offer has all that we can do"
            assert port_of(here.arrived[-1].body) != here.caller_rtp.port
            assert await states(here, "answered") == ["trying", "ringing", "answered"]
            assert not [e for e in caller.events if isinstance(e, ReinviteReceived)], "nothing changes for the caller"
            await hears(here.caller_rtp, place(caller), here.phone_rtp, send=0, receive=8)
            await hears(here.phone_rtp, place(phone_leg), here.caller_rtp, send=8, receive=0)
            phone_leg.session.bye()
            await caller.wait(Ended)
            await here.until_idle()
            record = here.app.call(caller.session.request.call_id)
            assert record is not None
            assert (record["transfer"]["state"], record["transfer"]["media"]) == ("joined", "anchored")
            assert record["termination"]["result"] == "transferred"

    trio.run(main)


def test_the_caller_hangs_up_and_the_phone_is_told():
    async def main() -> None:
        async with world() as here:
            caller, phone_leg, _ = await anchored(here)
            caller.session.bye()
            await phone_leg.wait(Ended)
            await here.until_idle()

    trio.run(main)


def test_digits_go_through_both_ways():
    async def main() -> None:
        async with world() as here:
            caller, phone_leg, _ = await anchored(here)
            await hears(here.caller_rtp, place(caller), here.phone_rtp, send=0, receive=8)
            await hears(here.phone_rtp, place(phone_leg), here.caller_rtp, send=8, receive=0)
            here.caller_rtp.send_digit(*place(caller), 5)
            assert (await here.phone_rtp.receive_type(101))[12] == 5
            here.phone_rtp.send_digit(*place(phone_leg), 7)
            assert (await here.caller_rtp.receive_type(101))[12] == 7
            caller.session.bye()
            await here.until_idle()

    trio.run(main)


def test_each_party_is_answered_by_us_when_it_holds_or_moves():
    async def main() -> None:
        async with world() as here:
            caller, phone_leg, _ = await anchored(here)
            phone_leg.session.reinvite(here.phone_rtp.offer(formats=PCMA_ONLY, direction="sendonly", version=2))
            answer = await phone_leg.wait(ReinviteAnswered)
            assert b"a=recvonly" in answer.body
            assert not [e for e in caller.events if isinstance(e, ReinviteReceived)]
            moved = RtpSocket(here.phone_rtp.host)
            phone_leg.session.reinvite(moved.offer(formats=PCMA_ONLY, version=3))
            await phone_leg.wait(ReinviteAnswered)
            await hears(here.caller_rtp, place(caller), moved, send=0, receive=8)
            phone_leg.session.reinvite(b"")
            asked = await phone_leg.wait(ReinviteAnswered)
            assert asked.needs_ack
            assert "8" in formats_of(asked.body)
            phone_leg.session.ack(here.phone_rtp.offer(formats=PCMA_ONLY, version=4))
            await hears(here.caller_rtp, place(caller), here.phone_rtp, send=0, receive=8)
            caller.session.reinvite(here.caller_rtp.offer(formats=PCMU_ONLY, direction="sendonly", version=2))
            assert b"a=recvonly" in (await caller.wait(ReinviteAnswered)).body
            moved.close()
            caller.session.bye()
            await here.until_idle()

    trio.run(main)


def test_requests_that_are_no_offers_go_through():
    async def main() -> None:
        async with world() as here:
            caller, phone_leg, _ = await anchored(here)
            caller.session.send_request("MESSAGE", body=b"hello", content_type="text/plain", on_event=lambda _: None)
            received = await phone_leg.wait(RequestReceived)
            assert received.request.body == b"hello"
            phone_leg.session.respond(received, 200)
            caller.session.bye()
            await here.until_idle()

    trio.run(main)


def test_an_agent_may_want_all_audio_through_us():
    async def main() -> None:
        async with world(ANCHOR) as here:
            phones = here.answer_as_phone()
            caller = await talking(here)
            await transfer(here)
            phone_leg = await phones.receive()
            await until(lambda: not here.engine.connections)
            assert len(here.arrived) == 1
            assert port_of(here.arrived[0].body) != here.caller_rtp.port
            await hears(here.caller_rtp, place(caller), here.phone_rtp, send=0, receive=0)
            phone_leg.session.bye()
            await caller.wait(Ended)
            await here.until_idle()

    trio.run(main)


def test_an_agent_may_want_no_audio_through_us():
    async def main() -> None:
        async with world(DIRECT) as here:
            phone = PcmaPhone(here)
            caller = await talking(here)
            await transfer(here)
            assert (await states(here, "failed"))[-1] == "failed"
            assert (phone.refused, phone.legs) == (1, [])
            caller.session.bye()
            await here.until_idle()

    trio.run(main)


def test_a_phone_that_does_not_answer_leaves_the_caller_with_the_agent():
    async def main() -> None:
        async with world(ANCHOR) as here:
            here.refuse_as_phone(486)
            caller = await talking(here)
            await transfer(here)
            assert (await states(here, "failed"))[-1] == "failed"
            assert here.app.context.media.legs == 1, "the port for the phone is gone"
            caller.session.bye()
            await here.until_idle()

    trio.run(main)


def test_the_caller_hangs_up_while_the_phone_rings():
    async def main() -> None:
        async with world(ANCHOR) as here:
            rung: list[Leg] = []

            def ring(request: Request, transaction: ServerTransaction) -> None:
                leg = Leg(None)  # type: ignore[arg-type]
                leg.session = here.agent.accept(request, transaction, on_event=leg.on_event)
                leg.session.provisional(180)
                rung.append(leg)

            here.phone = ring
            caller = await talking(here)
            await transfer(here)
            await until(lambda: rung)
            caller.session.bye()
            await until(lambda: rung[0].session.is_terminated)
            await here.until_idle()

    trio.run(main)
