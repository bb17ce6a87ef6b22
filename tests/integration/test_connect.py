"""Two people are called and connected to each other; the core is both of their phones."""

import json
from typing import Any

import pytest
import trio

from ims_as.call.order import OrderError
from ims_as.sip.invite_session import (
    Acked,
    Cancelled,
    Ended,
    Pracked,
    ReinviteAnswered,
    ReinviteReceived,
    ReinviteRejected,
    RequestReceived,
)
from ims_as.sip.message import Request, build_response
from ims_as.sip.sdp import parse_sdp_untrusted
from ims_as.sip.transaction import ServerTransaction
from tests.support.world import ALICE, BOB, IDENTITY, Leg, World, until, world


class Phones:
    """Alice's and Bob's phones; what they do is up to the test."""

    def __init__(self, here: World) -> None:
        self.here = here
        self.legs: list[Leg] = []
        self.media = {ALICE: here.caller_rtp, BOB: here.phone_rtp}
        here.phone = self._take

    def _take(self, request: Request, transaction: ServerTransaction) -> None:
        leg = Leg(None)  # type: ignore[arg-type]
        leg.session = self.here.agent.accept(request, transaction, on_event=leg.on_event)
        self.legs.append(leg)

    def order(self, **fields: Any) -> str:
        call_id, _ = self.here.app.place_call({"connect": [ALICE, BOB], **fields}, None)
        return call_id

    async def next(self) -> Leg:
        await until(lambda: self.legs)
        return self.legs.pop(0)

    def offer_of(self, uri: str, **options: Any) -> bytes:
        return self.media[uri].offer(**options)

    def record(self, call_id: str) -> dict[str, Any]:
        found = self.here.app.call(call_id)
        assert found is not None
        return found

    async def ended(self, call_id: str) -> dict[str, Any]:
        await until(lambda: self.record(call_id)["state"] == "ended")
        termination: dict[str, Any] = self.record(call_id)["termination"]
        return termination


def run(test: Any, *overrides: str) -> None:
    def make(here: World) -> list[str]:
        outbound = {"allow": ["sip:.*@ims.example.net"], "identities": ["sip:.*@ims.example.net"]}
        agent = {"engines": [{"type": "websocket", "url": here.engine.url}], "outbound": outbound}
        return [f"sip.core=sip:{here.core_address}:5060", "agents=" + json.dumps({"default": agent}), *overrides]

    async def main() -> None:
        async with world(make=make) as here:
            await test(Phones(here))

    trio.run(main)


def media_of(body: bytes) -> tuple[str, int, str]:
    """Address, port and direction of the first line."""
    description = parse_sdp_untrusted(body)
    line = description.media[0]
    return description.connection_of(line), line.port, description.direction_of(line).value


async def connected(phones: Phones, **fields: Any) -> tuple[str, Leg, Leg]:
    call_id = phones.order(**fields)
    alice = await phones.next()
    assert not alice.session.request.body
    alice.session.provisional(180)
    alice.session.answer(phones.offer_of(ALICE))
    acked = await alice.wait(Acked)
    assert media_of(acked.body)[0] == "0.0.0.0"
    assert media_of(acked.body)[2] == "inactive"
    bob = await phones.next()
    assert not bob.session.request.body
    bob.session.provisional(180)
    bob.session.answer(phones.offer_of(BOB))
    offered = await alice.wait(ReinviteReceived)
    assert media_of(offered.body)[:2] == (phones.here.phone_rtp.host, phones.here.phone_rtp.port)
    alice.session.accept_reinvite(phones.offer_of(ALICE, version=2))
    answered = await bob.wait(Acked)
    assert media_of(answered.body)[:2] == (phones.here.caller_rtp.host, phones.here.caller_rtp.port)
    await alice.wait(Acked)
    return call_id, alice, bob


def test_two_people_are_connected():
    async def test(phones: Phones) -> None:
        here = phones.here
        call_id, alice, bob = await connected(phones, on_behalf_of=ALICE)
        first, second = here.arrived
        assert first.routes == [f"<sip:{here.core_address}:5060;lr>"]
        assert first.headers.get("P-Asserted-Identity") == f"<{IDENTITY}>"
        assert second.routes == [f"<sip:{here.core_address}:5060;lr;orig>"]
        assert second.headers.get("P-Asserted-Identity") == f"<{ALICE}>"
        record = phones.record(call_id)
        assert record["state"] == "joined"
        assert record["legs"] == {"first": "answered", "second": "answered"}
        assert (record["from"], record["to"], record["outgoing_call_id"]) == (ALICE, BOB, second.call_id)
        assert not here.ports_bound()
        assert not here.engine.connections
        # each dialog keeps its own o= line, with rising versions
        black_hole, offer = first, alice.session.remote_body
        assert b"o=- " in offer
        assert black_hole.call_id != second.call_id
        bob.session.bye(headers=[("Reason", "Q.850;cause=16")])
        ended = await alice.wait(Ended)
        assert ended.request is not None
        assert ended.request.headers.get("Reason") == "Q.850;cause=16"
        assert await phones.ended(call_id) == {"result": "connected", "by": "second", "reason": "bye", "cause": None}

    run(test)


def test_versions_of_our_description_rise():
    async def test(phones: Phones) -> None:
        call_id = phones.order()
        alice = await phones.next()
        alice.session.answer(phones.offer_of(ALICE))
        one = parse_sdp_untrusted((await alice.wait(Acked)).body).origin
        bob = await phones.next()
        bob.session.answer(phones.offer_of(BOB))
        offered = await alice.wait(ReinviteReceived)
        two = parse_sdp_untrusted(offered.body).origin
        assert one.session_id == two.session_id
        assert int(two.version) == int(one.version) + 1
        alice.session.accept_reinvite(phones.offer_of(ALICE, version=2))
        await bob.wait(Acked)
        alice.session.bye()
        await bob.wait(Ended)
        assert (await phones.ended(call_id))["by"] == "first"

    run(test)


def test_offers_after_the_join():
    async def test(phones: Phones) -> None:
        call_id, alice, bob = await connected(phones)
        alice.session.reinvite(phones.offer_of(ALICE, direction="sendonly", version=3))
        offered = await bob.wait(ReinviteReceived)
        assert media_of(offered.body)[2] == "sendonly"
        bob.session.accept_reinvite(phones.offer_of(BOB, direction="recvonly", version=2))
        assert media_of((await alice.wait(ReinviteAnswered)).body)[2] == "recvonly"
        await bob.wait(Acked)
        # without an offer: the other one's comes back, and the answer goes with the ACK
        bob.session.reinvite(b"")
        asked = await alice.wait(ReinviteReceived)
        assert not asked.body
        alice.session.accept_reinvite(phones.offer_of(ALICE, version=4))
        answered = await bob.wait(ReinviteAnswered)
        assert answered.needs_ack
        assert media_of(answered.body)[1] == phones.here.caller_rtp.port
        bob.session.ack(phones.offer_of(BOB, version=3))
        acked = await alice.wait(Acked)
        assert media_of(acked.body)[1] == phones.here.phone_rtp.port
        # refused by the other, the call goes on
        alice.session.reinvite(phones.offer_of(ALICE, version=5))
        await bob.wait(ReinviteReceived)
        bob.session.reject_reinvite(488)
        assert (await alice.wait(ReinviteRejected)).status == 488
        assert phones.record(call_id)["state"] == "joined"
        alice.session.bye()
        await bob.wait(Ended)

    run(test)


@pytest.mark.parametrize("pass_refer", [True, False])
def test_other_requests_after_the_join(pass_refer: bool):
    async def test(phones: Phones) -> None:
        _, alice, bob = await connected(phones)
        statuses: list[int] = []

        def on_event(event: Any) -> None:
            statuses.append(event.response.status)

        await until(lambda: bob.session.state.value == "confirmed")
        alice.session.send_request("INFO", body=b"Signal=1", content_type="application/dtmf-relay", on_event=on_event)
        info = await bob.wait(RequestReceived)
        assert info.request.body == b"Signal=1"
        await until(lambda: statuses == [200])
        refer = [("Refer-To", "<sip:carol@ims.example.net>")]
        alice.session.send_request("REFER", headers=refer, on_event=on_event)
        await until(lambda: len(statuses) == 2)
        assert statuses[1] == (405 if pass_refer else 403)  # Bob's phone does not know REFER
        alice.session.bye()
        await bob.wait(Ended)

    run(test, f"sip.pass_refer={str(pass_refer).lower()}")


def test_a_video_line_of_one_alone():
    """RFC 3264 §8: what a dialog has had as m= lines it keeps, though the other side has fewer."""

    async def test(phones: Phones) -> None:
        phones.order()
        alice = await phones.next()
        video = b"m=video 5004 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"
        alice.session.answer(phones.offer_of(ALICE) + video)
        hole = parse_sdp_untrusted((await alice.wait(Acked)).body)
        assert [line.port for line in hole.media] == [9, 0]
        bob = await phones.next()
        bob.session.answer(phones.offer_of(BOB))
        offered = parse_sdp_untrusted((await alice.wait(ReinviteReceived)).body)
        assert [line.port > 0 for line in offered.media] == [True, False]
        alice.session.accept_reinvite(phones.offer_of(ALICE, version=2) + video.replace(b"5004", b"0"))
        assert len(parse_sdp_untrusted((await bob.wait(Acked)).body).media) == 1
        alice.session.bye()
        await bob.wait(Ended)

    run(test)


def test_early_media_of_the_second_reaches_the_first():
    async def test(phones: Phones) -> None:
        call_id = phones.order()
        alice = await phones.next()
        alice.session.answer(phones.offer_of(ALICE))
        await alice.wait(Acked)
        bob = await phones.next()
        bob.session.provisional(183, body=phones.offer_of(BOB), reliable=True)
        offered = await alice.wait(ReinviteReceived)
        assert media_of(offered.body)[1] == phones.here.phone_rtp.port
        alice.session.accept_reinvite(phones.offer_of(ALICE, version=2))
        pracked = await bob.wait(Pracked)
        assert media_of(pracked.body)[1] == phones.here.caller_rtp.port
        assert phones.record(call_id)["state"] == "calling"
        bob.session.answer(b"")
        await until(lambda: phones.record(call_id)["state"] == "joined")
        bob.session.bye()
        await alice.wait(Ended)

    run(test)


def test_another_phone_answers_than_the_one_that_offered_early():
    """Two phones of the second party offer early; the first party has the description of one, and the other answers."""

    async def test(phones: Phones) -> None:
        here = phones.here
        call_id = phones.order()
        alice = await phones.next()
        invites: list[tuple[Request, ServerTransaction]] = []
        inside: list[Request] = []
        acks: list[Request] = []
        here.phone = lambda request, transaction: invites.append((request, transaction))
        alice.session.answer(phones.offer_of(ALICE))
        await alice.wait(Acked)

        def respond(request: Request, transaction: ServerTransaction, status: int, tag: str, body: bytes) -> None:
            headers = [("Contact", f"<sip:{tag or 'b2'}@{here.core_address}:5060>")]
            if status == 183:
                headers += [("Require", "100rel"), ("RSeq", "7")]
            response = build_response(
                request, status, to_tag=tag, headers=headers, body=body, content_type="application/sdp"
            )
            here.core.send_response(transaction, response)

        def take(request: Request, transaction: ServerTransaction) -> bool:
            inside.append(request)
            respond(request, transaction, 200, "", phones.offer_of(BOB) if request.method == "INVITE" else b"")
            return True

        here.agent.passthrough = take
        here.agent.on_unhandled_ack = lambda ack, flow: acks.append(ack)
        await until(lambda: invites)
        request, transaction = invites[0]
        respond(request, transaction, 183, "b1", phones.offer_of(BOB))
        await alice.wait(ReinviteReceived)
        alice.session.accept_reinvite(phones.offer_of(ALICE, version=2))
        await until(lambda: [each.to_tag for each in inside] == ["b1"])
        respond(request, transaction, 183, "b2", phones.offer_of(BOB))
        await until(lambda: [each.to_tag for each in inside] == ["b1", "b2"])
        assert media_of(inside[0].body)[2] == "sendrecv"
        assert media_of(inside[1].body)[2] == "inactive"
        respond(request, transaction, 200, "b2", b"")
        offered = await alice.wait(ReinviteReceived)
        assert [each.method for each in inside] == ["PRACK", "PRACK", "INVITE"]
        assert media_of(offered.body)[1] == here.phone_rtp.port
        alice.session.accept_reinvite(phones.offer_of(ALICE, version=3))
        await until(lambda: phones.record(call_id)["state"] == "joined")
        await until(lambda: len(acks) == 2)
        assert media_of(acks[-1].body)[1] == here.caller_rtp.port
        alice.session.bye()
        await phones.ended(call_id)

    run(test)


@pytest.mark.parametrize("status", [486, 404, 503, 302])
def test_the_first_is_not_to_be_had(status: int):
    async def test(phones: Phones) -> None:
        call_id = phones.order()
        alice = await phones.next()
        alice.session.reject(status)
        ended = await phones.ended(call_id)
        assert (ended["result"], ended["by"], ended["cause"]) == ("unanswered", "first", status)
        assert len(phones.here.arrived) == 1

    run(test)


def test_the_second_is_not_to_be_had():
    async def test(phones: Phones) -> None:
        call_id = phones.order()
        alice = await phones.next()
        alice.session.answer(phones.offer_of(ALICE))
        bob = await phones.next()
        bob.session.reject(486)
        ended = await alice.wait(Ended)
        assert ended.request is not None
        assert ended.request.headers.get("Reason") == 'SIP;cause=486;text="busy"'
        assert await phones.ended(call_id) == {"result": "unanswered", "by": "second", "reason": "busy", "cause": 486}
        assert phones.record(call_id)["legs"] == {"first": "answered", "second": "busy"}

    run(test)


@pytest.mark.parametrize("who", ["first", "second"])
def test_it_rings_no_longer_than_ordered(who: str):
    async def test(phones: Phones) -> None:
        call_id = phones.order(ring_timeout_s=1)
        alice = await phones.next()
        leg = alice
        if who == "second":
            alice.session.answer(phones.offer_of(ALICE))
            leg = await phones.next()
        leg.session.provisional(180)
        await leg.wait(Cancelled)
        if who == "second":
            await alice.wait(Ended)
        assert await phones.ended(call_id) == {"result": "unanswered", "by": who, "reason": "no-answer", "cause": 408}

    run(test)


def test_the_first_hangs_up_while_the_second_rings():
    async def test(phones: Phones) -> None:
        call_id = phones.order()
        alice = await phones.next()
        alice.session.answer(phones.offer_of(ALICE))
        bob = await phones.next()
        bob.session.provisional(180)
        await alice.wait(Acked)
        alice.session.bye()
        await bob.wait(Cancelled)
        assert (await phones.ended(call_id))["result"] == "cancelled"

    run(test)


def test_the_first_refuses_the_seconds_media():
    async def test(phones: Phones) -> None:
        call_id = phones.order()
        alice = await phones.next()
        alice.session.answer(phones.offer_of(ALICE))
        bob = await phones.next()
        bob.session.answer(phones.offer_of(BOB))
        await alice.wait(ReinviteReceived)
        alice.session.reject_reinvite(488)
        assert media_of((await bob.wait(Acked)).body)[2] == "inactive"
        await bob.wait(Ended)
        await alice.wait(Ended)
        assert (await phones.ended(call_id))["reason"] == "media-refused"

    run(test)


@pytest.mark.parametrize("who", ["first", "second"])
def test_an_offer_that_nobody_can_read(who: str):
    async def test(phones: Phones) -> None:
        call_id = phones.order()
        alice = await phones.next()
        alice.session.answer(b"v=0\r\nnonsense" if who == "first" else phones.offer_of(ALICE))
        bob = await phones.next()
        bob.session.answer(b"v=0\r\nnonsense" if who == "second" else phones.offer_of(BOB))
        if who == "first":  # its next one may be better
            await alice.wait(ReinviteReceived)
            alice.session.accept_reinvite(phones.offer_of(ALICE, version=2))
            await bob.wait(Acked)
            alice.session.bye()
        await bob.wait(Ended)
        ended = await phones.ended(call_id)
        assert ended["reason"] == ("bye" if who == "first" else "media-refused")

    run(test)


def test_the_first_changes_its_media_while_it_waits():

    async def test(phones: Phones) -> None:
        phones.order()
        alice = await phones.next()
        alice.session.answer(phones.offer_of(ALICE))
        await alice.wait(Acked)
        bob = await phones.next()
        alice.session.reinvite(phones.offer_of(ALICE, direction="sendonly", version=2))
        held = await alice.wait(ReinviteAnswered)
        assert media_of(held.body)[2] == "inactive"
        bob.session.answer(phones.offer_of(BOB))
        await alice.wait(ReinviteReceived)
        alice.session.accept_reinvite(phones.offer_of(ALICE, version=3))
        await bob.wait(Acked)
        alice.session.bye()
        await bob.wait(Ended)

    run(test)


def test_hanging_up_over_the_api():
    async def test(phones: Phones) -> None:
        call_id, alice, bob = await connected(phones)
        assert phones.here.app.hang_up(call_id)
        await alice.wait(Ended)
        await bob.wait(Ended)
        assert await phones.ended(call_id) == {"result": "connected", "by": "api", "reason": "hangup", "cause": None}

    run(test)


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"connect": [ALICE]}, 422, "bad-connect"),
        ({"connect": ALICE}, 422, "bad-connect"),
        ({"connect": [ALICE, ALICE]}, 422, "bad-connect"),
        ({"connect": [ALICE, IDENTITY]}, 422, "own-address"),
        ({"connect": [ALICE, "sip:x@elsewhere.example"]}, 403, "destination-not-allowed"),
        ({"connect": [ALICE, 7]}, 400, "missing"),
        ({"to": BOB}, 400, "unknown-field"),
        ({"data": {}}, 400, "unknown-field"),
    ],
)
def test_what_is_refused(fields: dict[str, Any], status: int, code: str):
    async def test(phones: Phones) -> None:
        with pytest.raises(OrderError) as refusal:
            phones.order(**fields)
        assert (refusal.value.status, refusal.value.code) == (status, code)

    run(test)
