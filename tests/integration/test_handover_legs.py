"""The leg to the human in all its forms, and parties that refuse or leave while they are being joined."""

from collections.abc import Callable

import trio

from ims_as.sip.invite_session import (
    Acked,
    Answered,
    Ended,
    Pracked,
    ReinviteAnswered,
    ReinviteReceived,
    ReinviteRejected,
    UpdateAnswered,
    UpdateReceived,
    UpdateRejected,
)
from ims_as.sip.message import Request, build_response
from ims_as.sip.sdp import parse_sdp_untrusted
from ims_as.sip.transaction import ServerTransaction
from tests.support.world import Leg, RtpSocket, World, until, world

RELAY = 'agents.default.transfer.early_media="relay"'


def port_of(body: bytes) -> int:
    return parse_sdp_untrusted(body).media[0].port


async def talking(here: World) -> Leg:
    """A call with the agent; its RTP has been heard."""
    leg = here.call()
    await leg.wait(Answered)
    await here.engine.wait("start")
    await is_heard(here, leg.session.remote_body)
    return leg


async def is_heard(here: World, ours: bytes) -> None:
    """The engine hears the caller, and the caller its echo."""
    description = parse_sdp_untrusted(ours)
    host, port = description.connection_of(description.media[0]), description.media[0].port
    heard = here.engine.audio_bytes
    here.caller_rtp.drain()
    here.caller_rtp.send(host, port, packets=5)
    await until(lambda: here.engine.audio_bytes > heard)
    await here.caller_rtp.receive_type(0)


async def transfer(here: World) -> None:
    await here.engine.send(event="transfer", target="served-user")


async def states(here: World, last: str) -> list[str]:
    found: list[str] = []
    while not found or found[-1] != last:
        found.append((await here.engine.wait("transfer"))["state"])
    return found


Act = Callable[[Request, ServerTransaction], None]


class Forks:
    """A target that forks: the test sends responses with any To tag."""

    def __init__(self, here: World) -> None:
        self._here = here
        self.arrived: tuple[Request, ServerTransaction] | None = None
        here.phone = self._take

    def _take(self, request: Request, transaction: ServerTransaction) -> None:
        self.arrived = request, transaction

    async def wait(self) -> None:
        await until(lambda: self.arrived is not None)

    def respond(self, status: int, tag: str, body: bytes = b"") -> None:
        assert self.arrived is not None
        request, transaction = self.arrived
        headers = [("Contact", f"<sip:{tag}@{self._here.core_address}:5060>")]
        response = build_response(
            request, status, to_tag=tag, headers=headers, body=body, content_type="application/sdp"
        )
        self._here.core.send_response(transaction, response)


def test_several_phones_ring_and_one_answers():
    async def main() -> None:
        async with world() as here:
            forks = Forks(here)
            leg = await talking(here)
            await transfer(here)
            await forks.wait()
            other = RtpSocket(here.phone_rtp.host)
            forks.respond(180, "one")
            forks.respond(183, "two", other.offer())
            forks.respond(180, "two")
            forks.respond(183, "one", here.phone_rtp.offer())
            forks.respond(200, "one", here.phone_rtp.offer())
            reinvite = await leg.wait(ReinviteReceived)
            assert port_of(reinvite.request.body) == here.phone_rtp.port
            leg.session.accept_reinvite(here.caller_rtp.offer())
            await until(lambda: not here.ports_bound())
            other.close()
            await until(
                lambda: (
                    [e["state"] for e in here.engine.events if e["event"] == "transfer"]
                    == ["trying", "ringing", "answered"]
                )
            )
            leg.session.bye()

    trio.run(main)


def test_the_answer_may_be_in_a_provisional_response_of_the_phone_that_answers():
    async def main() -> None:
        async with world() as here:
            forks = Forks(here)
            leg = await talking(here)
            await transfer(here)
            await forks.wait()
            other = RtpSocket(here.phone_rtp.host)
            forks.respond(183, "one", here.phone_rtp.offer())
            forks.respond(183, "two", other.offer())
            forks.respond(200, "one")
            reinvite = await leg.wait(ReinviteReceived)
            assert port_of(reinvite.request.body) == here.phone_rtp.port
            leg.session.accept_reinvite(here.caller_rtp.offer())
            await until(lambda: not here.ports_bound())
            other.close()
            leg.session.bye()

    trio.run(main)


def test_early_media_is_not_relayed_unless_configured():
    async def main() -> None:
        async with world() as here:
            forks = Forks(here)
            leg = await talking(here)
            await transfer(here)
            await forks.wait()
            forks.respond(183, "one", here.phone_rtp.offer())
            await states(here, "ringing")
            await is_heard(here, leg.session.remote_body)
            assert not leg.events
            leg.session.bye()

    trio.run(main)


def test_early_media_reaches_the_caller_and_the_answer_needs_no_more():
    async def main() -> None:
        async with world(RELAY) as here:
            forks = Forks(here)
            leg = await talking(here)
            await transfer(here)
            await forks.wait()
            forks.respond(183, "one", here.phone_rtp.offer())
            early = await leg.wait(ReinviteReceived)
            assert port_of(early.request.body) == here.phone_rtp.port
            assert here.engine.connections
            leg.session.accept_reinvite(here.caller_rtp.offer())
            forks.respond(200, "one", here.phone_rtp.offer())
            await until(lambda: not here.ports_bound() and not here.engine.connections)
            assert not leg.events or not isinstance(leg.events[-1], ReinviteReceived)
            leg.session.bye()

    trio.run(main)


def test_another_phone_answers_than_was_heard_early():
    async def main() -> None:
        async with world(RELAY) as here:
            forks = Forks(here)
            leg = await talking(here)
            await transfer(here)
            await forks.wait()
            other = RtpSocket(here.phone_rtp.host)
            forks.respond(183, "one", other.offer())
            await leg.wait(ReinviteReceived)
            forks.respond(200, "two", here.phone_rtp.offer())
            leg.session.accept_reinvite(here.caller_rtp.offer())
            again = await leg.wait(ReinviteReceived)
            assert port_of(again.request.body) == here.phone_rtp.port
            leg.session.accept_reinvite(here.caller_rtp.offer())
            await until(lambda: not here.ports_bound())
            other.close()
            leg.session.bye()

    trio.run(main)


def test_after_early_media_of_a_target_that_refuses_the_agent_goes_on():
    async def main() -> None:
        async with world(RELAY) as here:
            forks = Forks(here)
            leg = await talking(here)
            await transfer(here)
            await forks.wait()
            forks.respond(183, "one", here.phone_rtp.offer())
            await leg.wait(ReinviteReceived)
            leg.session.accept_reinvite(here.caller_rtp.offer())
            forks.respond(486, "one")
            await states(here, "failed")
            back = await leg.wait(ReinviteReceived)
            leg.session.accept_reinvite(here.caller_rtp.offer(version=2))
            await is_heard(here, back.request.body)
            leg.session.bye()

    trio.run(main)


def test_early_media_of_a_phone_that_drops_out_gives_way_to_the_agent_and_then_to_the_next():
    async def main() -> None:
        async with world(RELAY) as here:
            forks = Forks(here)
            leg = await talking(here)
            await transfer(here)
            await forks.wait()
            other = RtpSocket(here.phone_rtp.host)
            forks.respond(183, "one", other.offer())
            await leg.wait(ReinviteReceived)
            leg.session.accept_reinvite(here.caller_rtp.offer())
            forks.respond(199, "one")
            back = await leg.wait(ReinviteReceived)
            leg.session.accept_reinvite(here.caller_rtp.offer(version=2))
            await is_heard(here, back.body)
            forks.respond(183, "two", here.phone_rtp.offer())
            again = await leg.wait(ReinviteReceived)
            assert port_of(again.body) == here.phone_rtp.port
            leg.session.accept_reinvite(here.caller_rtp.offer(version=3))
            forks.respond(200, "two", here.phone_rtp.offer())
            await until(lambda: not here.ports_bound())
            other.close()
            leg.session.bye()

    trio.run(main)


def test_a_caller_that_refuses_the_join_stays_with_the_agent():
    async def main() -> None:
        async with world() as here:
            phones = here.answer_as_phone()
            leg = await talking(here)
            ours = leg.session.remote_body
            await transfer(here)
            await leg.wait(ReinviteReceived)
            leg.session.reject_reinvite(488)
            phone = await phones.receive()
            await phone.wait(Ended)
            assert (await states(here, "failed"))[-1] == "failed"
            await is_heard(here, ours)
            # its next offer is answered as before, one version up
            leg.session.reinvite(here.caller_rtp.offer(formats="8 101", version=2))
            await leg.wait(ReinviteAnswered)
            leg.session.bye()

    trio.run(main)


def test_a_human_that_leaves_while_the_caller_is_asked_gives_it_back_to_the_agent():
    async def main() -> None:
        async with world() as here:
            phones = here.answer_as_phone()
            leg = await talking(here)
            await transfer(here)
            await leg.wait(ReinviteReceived)
            phone = await phones.receive()
            phone.session.bye()
            await states(here, "failed")
            leg.session.accept_reinvite(here.caller_rtp.offer())
            back = await leg.wait(ReinviteReceived)
            leg.session.accept_reinvite(here.caller_rtp.offer(version=2))
            await is_heard(here, back.request.body)
            leg.session.bye()

    trio.run(main)


def test_a_human_that_refuses_the_callers_media_gives_it_back_to_the_agent():
    async def main() -> None:
        async with world() as here:
            phones = here.answer_as_phone()
            leg = await talking(here)
            await transfer(here)
            await leg.wait(ReinviteReceived)
            leg.session.accept_reinvite(here.caller_rtp.offer(formats="8 101"))
            phone = await phones.receive()
            await phone.wait(ReinviteReceived)
            phone.session.reject_reinvite(488)
            await phone.wait(Ended)
            back = await leg.wait(ReinviteReceived)
            leg.session.accept_reinvite(here.caller_rtp.offer(version=2))
            await is_heard(here, back.request.body)
            leg.session.bye()

    trio.run(main)


def test_a_caller_that_does_not_come_back_is_hung_up():
    async def main() -> None:
        async with world() as here:
            phones = here.answer_as_phone()
            leg = await talking(here)
            await transfer(here)
            await leg.wait(ReinviteReceived)
            leg.session.accept_reinvite(here.caller_rtp.offer(formats="8 101"))
            phone = await phones.receive()
            await phone.wait(ReinviteReceived)
            phone.session.reject_reinvite(488)
            await leg.wait(ReinviteReceived)
            leg.session.reject_reinvite(488)
            await leg.wait(Ended)
            await here.until_idle()
            record = here.app.call(leg.session.request.call_id)
            assert record is not None
            assert record["termination"]["reason"] == "return-refused"

    trio.run(main)


def test_the_join_waits_for_a_reinvite_of_the_caller_that_is_under_way():
    async def main() -> None:
        async with world() as here:
            forks = Forks(here)
            leg = await talking(here)
            await transfer(here)
            await forks.wait()
            # its re-INVITE is answered but not acknowledged when the human answers
            leg.session.reinvite(here.caller_rtp.offer(direction="sendonly", version=2))
            forks.respond(200, "one", here.phone_rtp.offer())
            joining = await leg.wait(ReinviteReceived)
            assert port_of(joining.request.body) == here.phone_rtp.port
            leg.session.accept_reinvite(here.caller_rtp.offer())
            await until(lambda: not here.ports_bound())
            leg.session.bye()

    trio.run(main)


# ---------------------------------------------------------------- after the join


async def joined(here: World) -> tuple[Leg, Leg]:
    phones = here.answer_as_phone()
    leg = await talking(here)
    await transfer(here)
    await leg.wait(ReinviteReceived)
    leg.session.accept_reinvite(here.caller_rtp.offer())
    await until(lambda: not here.ports_bound())
    return leg, await phones.receive()


def test_offers_of_both_at_a_time_are_glare_and_both_come_through():
    async def main() -> None:
        async with world() as here:
            leg, phone = await joined(here)
            leg.session.reinvite(here.caller_rtp.offer(direction="sendonly", version=2))
            phone.session.reinvite(here.phone_rtp.offer(direction="sendonly", version=2))
            # each side backs off as RFC 3261 §14.1 says; one of the two goes first
            done: list[str] = []

            async def play(name: str, each: Leg) -> None:
                while len(done) < 2:
                    for event in [*each.events]:
                        each.events.remove(event)
                        if isinstance(event, ReinviteReceived):
                            body = here.caller_rtp if each is leg else here.phone_rtp
                            each.session.accept_reinvite(body.offer(direction="recvonly", version=3))
                        elif isinstance(event, ReinviteAnswered):
                            done.append(name)
                    await trio.sleep(0.01)

            with trio.fail_after(15):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(play, "caller", leg)
                    nursery.start_soon(play, "phone", phone)
            assert sorted(done) == ["caller", "phone"]
            leg.session.bye()

    trio.run(main)


def test_a_refusal_of_one_party_is_told_to_the_other():
    async def main() -> None:
        async with world() as here:
            leg, phone = await joined(here)
            leg.session.reinvite(here.caller_rtp.offer(version=2))
            await phone.wait(ReinviteReceived)
            phone.session.reject_reinvite(488)
            assert (await leg.wait(ReinviteRejected)).status == 488
            phone.session.bye()
            await leg.wait(Ended)

    trio.run(main)


def test_an_update_goes_through_as_one():
    async def main() -> None:
        async with world() as here:
            leg, phone = await joined(here)
            leg.session.update(here.caller_rtp.offer(direction="sendonly", version=2))
            update = await phone.wait(UpdateReceived)
            assert b"a=sendonly" in update.body
            phone.session.accept_update(here.phone_rtp.offer(direction="recvonly", version=2))
            assert b"a=recvonly" in (await leg.wait(UpdateAnswered)).body
            phone.session.update(here.phone_rtp.offer(version=3))
            await leg.wait(UpdateReceived)
            leg.session.reject_update(488)
            assert (await phone.wait(UpdateRejected)).status == 488
            leg.session.bye()

    trio.run(main)


def test_an_update_for_a_phone_that_takes_none_is_a_reinvite():
    async def main() -> None:
        async with world() as here:
            leg, phone = await joined(here)
            # the phone's answers said what it takes; from now on it takes no UPDATE
            for session in here.app.context.user_agent.sessions:
                session.exchange.peer_allow = ["INVITE, ACK, BYE"]
            leg.session.update(here.caller_rtp.offer(direction="sendonly", version=2))
            await phone.wait(ReinviteReceived)
            phone.session.accept_reinvite(here.phone_rtp.offer(direction="recvonly", version=2))
            assert b"a=recvonly" in (await leg.wait(UpdateAnswered)).body
            leg.session.bye()

    trio.run(main)


def test_a_reinvite_without_an_offer_is_asked_of_the_other_end_to_end():
    async def main() -> None:
        async with world() as here:
            leg, phone = await joined(here)
            leg.session.reinvite(b"")
            assert (await phone.wait(ReinviteReceived)).body == b""
            phone.session.accept_reinvite(here.phone_rtp.offer(formats="8 0 101", version=2))
            answered = await leg.wait(ReinviteAnswered)
            assert answered.needs_ack
            assert parse_sdp_untrusted(answered.body).media[0].formats == ("8", "0", "101")
            leg.session.ack(here.caller_rtp.offer(formats="8 101", version=2))
            while not (acked := await phone.wait(Acked)).body:
                pass
            assert parse_sdp_untrusted(acked.body).media[0].formats == ("8", "101")
            assert port_of(acked.body) == here.caller_rtp.port
            # and the next offer goes its usual way
            phone.session.reinvite(here.phone_rtp.offer(version=3))
            await leg.wait(ReinviteReceived)
            leg.session.accept_reinvite(here.caller_rtp.offer(version=3))
            await phone.wait(ReinviteAnswered)
            leg.session.bye()

    trio.run(main)


def test_an_ack_without_the_answer_it_owes_leaves_both_as_they_were():
    async def main() -> None:
        async with world() as here:
            leg, phone = await joined(here)
            leg.session.reinvite(b"")
            await phone.wait(ReinviteReceived)
            phone.session.accept_reinvite(here.phone_rtp.offer(version=2))
            await leg.wait(ReinviteAnswered)
            leg.session.ack(b"")
            while not (acked := await phone.wait(Acked)).body:
                pass
            assert port_of(acked.body) == here.caller_rtp.port
            leg.session.bye()

    trio.run(main)


def test_a_phone_that_reserves_resources_in_its_early_dialog_is_answered_by_us():
    async def main() -> None:
        async with world() as here:
            ringing: list[Leg] = []

            def ring(request: Request, transaction: ServerTransaction) -> None:
                phone = Leg(None)  # type: ignore[arg-type]
                phone.session = here.agent.accept(request, transaction, on_event=phone.on_event)
                phone.session.provisional(183, body=here.phone_rtp.offer())
                ringing.append(phone)

            here.phone = ring
            leg = await talking(here)
            await transfer(here)
            await until(lambda: ringing)
            phone = ringing[0]
            await phone.wait(Pracked)
            resources = b"a=curr:qos local sendrecv\r\na=curr:qos remote none\r\na=des:qos mandatory local sendrecv\r\n"
            phone.session.update(here.phone_rtp.offer(version=2) + resources)
            answer = (await phone.wait(UpdateAnswered)).body
            assert port_of(answer) == here.caller_rtp.port
            assert b"a=curr:qos remote sendrecv" in answer
            phone.session.update(here.phone_rtp.offer(formats="97", version=3))
            assert (await phone.wait(UpdateRejected)).status == 488
            assert not leg.events
            phone.session.answer(b"")
            joining = await leg.wait(ReinviteReceived)
            assert b"a=curr" not in joining.body
            leg.session.accept_reinvite(here.caller_rtp.offer())
            await until(lambda: not here.ports_bound())
            leg.session.bye()

    trio.run(main)
