"""The caller is handed to a human in mid-call, because the agent asked for it or because its engine died."""

import json

import trio

from ims_as.call.bypass import BYPASS_HEADER
from ims_as.sip.invite_session import (
    Answered,
    Ended,
    ReinviteAnswered,
    ReinviteReceived,
    ReinviteRejected,
    Rejected,
)
from ims_as.sip.sdp import parse_sdp_untrusted
from tests.support.world import BOB, Leg, World, until, world


async def transferred(here: World) -> tuple[Leg, Leg]:
    """A call that the agent has transferred to the phone; caller's and phone's leg, joined."""
    phones = here.answer_as_phone()
    leg = here.call()
    await leg.wait(Answered)
    await here.engine.wait("start")
    await here.engine.send(event="transfer", target="served-user", data={"reason": "wants a human"})
    reinvite = await leg.wait(ReinviteReceived)
    assert port_of(reinvite.request.body) == here.phone_rtp.port
    leg.session.accept_reinvite(here.caller_rtp.offer())
    return leg, await phones.receive()


def port_of(body: bytes) -> int:
    return parse_sdp_untrusted(body).media[0].port


def origin_of(body: bytes) -> tuple[str, str]:
    origin = parse_sdp_untrusted(body).origin
    return origin.session_id, origin.version


def test_the_parties_talk_directly_and_nothing_of_ours_is_left():
    async def main() -> None:
        async with world() as here:
            leg, phone = await transferred(here)
            await until(lambda: not here.ports_bound() and not here.engine.connections)
            invite = here.arrived[0]
            assert invite.uri == BOB
            assert invite.routes == [f"<sip:{here.core_address}:5060;lr>"]
            assert port_of(invite.body) == here.caller_rtp.port
            assert invite.headers.get(BYPASS_HEADER)
            uui = invite.headers.get("User-to-User") or ""
            data = json.loads(bytes.fromhex(uui.split(";")[0]))
            assert data["reason"] == "wants a human"
            info = invite.headers.get("Call-Info") or ""
            assert info.startswith(f"<http://{here.as_address}:8080/calls/{data['id']}>")
            states = [event["state"] for event in here.engine.events if event["event"] == "transfer"]
            assert states == ["trying", "ringing", "answered"]
            record = here.app.call(data["id"])
            assert record is not None
            assert record["state"] == "joined"
            assert record["transfer"]["released_at"] - record["transfer"]["joined_at"] < 0.2
            phone.session.bye()
            assert (await leg.wait(Ended)).by == "remote"
            await here.until_idle()
            record = here.app.call(data["id"])
            assert record is not None
            assert record["termination"]["result"] == "transferred"
            assert record["termination"]["by"] == "served-user"

    trio.run(main)


def test_our_description_keeps_its_session_and_raises_its_version():
    async def main() -> None:
        async with world() as here:
            phones = here.answer_as_phone()
            leg = here.call()
            await leg.wait(Answered)
            before = origin_of(leg.session.remote_body)
            await here.engine.wait("start")
            await here.engine.send(event="transfer", target="served-user")
            reinvite = await leg.wait(ReinviteReceived)
            after = origin_of(reinvite.request.body)
            assert before[0] == after[0]
            assert int(after[1]) == int(before[1]) + 1
            leg.session.accept_reinvite(here.caller_rtp.offer())
            await phones.receive()
            leg.session.bye()

    trio.run(main)


def test_the_caller_hangs_up_after_the_join():
    async def main() -> None:
        async with world() as here:
            leg, phone = await transferred(here)
            leg.session.bye()
            assert (await phone.wait(Ended)).by == "remote"

    trio.run(main)


def test_offers_are_relayed_after_the_join():
    async def main() -> None:
        async with world() as here:
            leg, phone = await transferred(here)
            await until(lambda: not here.ports_bound())
            leg.session.reinvite(here.caller_rtp.offer(direction="sendonly", version=2))
            relayed = await phone.wait(ReinviteReceived)
            assert b"a=sendonly" in relayed.request.body
            phone.session.accept_reinvite(here.phone_rtp.offer(direction="recvonly", version=2))
            assert b"a=recvonly" in (await leg.wait(ReinviteAnswered)).response.body
            phone.session.reinvite(here.phone_rtp.offer(version=3))
            await leg.wait(ReinviteReceived)
            leg.session.reject_reinvite(488)
            assert (await phone.wait(ReinviteRejected)).status == 488
            leg.session.bye()

    trio.run(main)


def test_a_caller_whose_media_moved_meanwhile_is_made_known_to_the_phone():
    async def main() -> None:
        async with world() as here:
            phones = here.answer_as_phone()
            leg = here.call()
            await leg.wait(Answered)
            await here.engine.wait("start")
            await here.engine.send(event="transfer", target="served-user")
            await leg.wait(ReinviteReceived)
            moved = here.caller_rtp.offer().replace(str(here.caller_rtp.port).encode(), b"4444")
            leg.session.accept_reinvite(moved)
            phone = await phones.receive()
            adjusted = await phone.wait(ReinviteReceived)
            assert port_of(adjusted.request.body) == 4444
            phone.session.accept_reinvite(here.phone_rtp.offer())
            await until(lambda: not here.ports_bound())
            leg.session.bye()

    trio.run(main)


def test_nobody_answers_and_the_agent_goes_on():
    async def main() -> None:
        async with world() as here:
            here.refuse_as_phone(486)
            leg = here.call()
            await leg.wait(Answered)
            await here.engine.wait("start")
            await here.engine.send(event="transfer", target="served-user")
            states = [(await here.engine.wait("transfer"))["state"] for _ in range(2)]
            assert states == ["trying", "failed"]
            assert not leg.events
            # a second try may succeed
            here.answer_as_phone()
            await here.engine.send(event="transfer", target="served-user")
            await leg.wait(ReinviteReceived)
            leg.session.accept_reinvite(here.caller_rtp.offer())
            await until(lambda: not here.ports_bound())
            leg.session.bye()

    trio.run(main)


def test_a_target_that_is_not_allowed_is_refused():
    async def main() -> None:
        async with world() as here:
            leg = here.call()
            await leg.wait(Answered)
            await here.engine.wait("start")
            await here.engine.send(event="transfer", target="sip:premium@elsewhere.example")
            refused = await here.engine.wait("transfer")
            assert refused["state"] == "failed"
            assert not here.arrived
            leg.session.bye()

    trio.run(main)


def test_the_caller_hangs_up_while_the_phone_rings():
    async def main() -> None:
        async with world() as here:
            ringing: list[Leg] = []

            def ring(request, transaction):  # type: ignore[no-untyped-def]
                phone = Leg(None)  # type: ignore[arg-type]
                phone.session = here.agent.accept(request, transaction, on_event=phone.on_event)
                phone.session.provisional(180)
                ringing.append(phone)

            here.phone = ring
            leg = here.call()
            await leg.wait(Answered)
            await here.engine.wait("start")
            await here.engine.send(event="transfer", target="served-user")
            while (await here.engine.wait("transfer"))["state"] != "ringing":
                pass
            leg.session.bye()
            await here.until_idle()
            assert [type(event).__name__ for event in ringing[0].events] == ["Cancelled"]

    trio.run(main)


def test_our_own_transferred_invite_is_passed_on_once():
    async def main() -> None:
        async with world() as here:
            leg, phone = await transferred(here)
            token = here.arrived[0].headers.get(BYPASS_HEADER) or ""
            # as the S-CSCF sends it to us again, for the iFC matches
            again = here.call(headers=[(BYPASS_HEADER, token)])
            await again.wait(Answered)
            assert here.arrived[1].routes == [here.odi]
            # the token is used up: the same again is a call for the agent
            third = here.call(headers=[(BYPASS_HEADER, token)])
            await third.wait(Answered)
            assert len(here.arrived) == 2
            for each in (again, third, leg):
                each.session.bye()
            await phone.wait(Ended)

    trio.run(main)


def test_an_engine_that_dies_is_replaced_by_a_human_with_the_session_data():
    async def main() -> None:
        async with world() as here:
            phones = here.answer_as_phone()
            leg = here.call()
            await leg.wait(Answered)
            await here.engine.wait("start")
            await here.engine.send(event="transcript", role="user", text="queen of clubs", final=True)
            description = parse_sdp_untrusted(leg.session.remote_body)
            host, port = description.connection_of(description.media[0]), description.media[0].port
            here.caller_rtp.send(host, port, packets=5)
            died = trio.current_time()
            here.engine.die()
            await here.caller_rtp.receive()
            reinvite = await leg.wait(ReinviteReceived)
            assert trio.current_time() - died < 2.0
            leg.session.accept_reinvite(here.caller_rtp.offer())
            await phones.receive()
            assert port_of(reinvite.request.body) == here.phone_rtp.port
            invite = here.arrived[0]
            data = json.loads(bytes.fromhex((invite.headers.get("User-to-User") or "").split(";")[0]))
            assert data["reason"].startswith("engine lost")
            record = here.app.call(data["id"])
            assert record is not None
            assert record["transcript"][0]["text"] == "queen of clubs"
            labels = [event["label"] for event in record["trace"]]
            assert "filler starts" in labels
            leg.session.bye()

    trio.run(main)


def test_an_engine_that_comes_back_takes_the_call_again():
    async def main() -> None:
        async with world() as here:
            leg = here.call()
            await leg.wait(Answered)
            await here.engine.wait("start")
            await here.engine.connections[0].aclose()
            resumed = await here.engine.wait("start")
            assert resumed["resume"] is True
            assert not here.arrived
            await until(lambda: (here.app.call(leg.session.request.call_id) or {})["state"] == "talking")
            leg.session.bye()

    trio.run(main)


def test_engine_and_phone_gone_is_told_and_hung_up():
    async def main() -> None:
        async with world() as here:
            here.refuse_as_phone(480)
            leg = here.call()
            await leg.wait(Answered)
            await here.engine.wait("start")
            here.engine.die()
            await leg.wait(Ended)
            await here.until_idle()
            record = here.app.call(leg.session.request.call_id)
            assert record is not None
            assert record["termination"]["reason"] == "engine-lost"

    trio.run(main)


def test_a_call_that_is_refused_by_the_phone_after_pass_on_ends_as_the_core_says():
    async def main() -> None:
        async with world("sip.on_failure=pass-on", engine=False) as here:
            here.refuse_as_phone(486)
            leg = here.call()
            assert (await leg.wait(Rejected)).status == 486

    trio.run(main)
