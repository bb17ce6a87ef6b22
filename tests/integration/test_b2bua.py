"""Calls that go on as a new dialog, on real sockets: the core is caller, S-CSCF and phone."""

from typing import Any

import pytest
import trio

from ims_as.sip.invite_session import (
    Acked,
    Answered,
    Cancelled,
    Ended,
    Provisional,
    ReinviteAnswered,
    ReinviteReceived,
    Rejected,
    RequestReceived,
)
from ims_as.sip.message import Request
from ims_as.sip.transaction import ResponseReceived, ServerTransaction
from tests.support.world import ALICE, BOB, Leg, World, until, world

ROLE = 'routing=[{match: {request_uri: "bob"}, role: b2bua}, {match: {request_uri: "carol"}, role: pass-on}, {}]'


def run(test: Any, *overrides: str, **options: Any) -> None:
    async def main() -> None:
        async with world(ROLE, *overrides, **options) as here:
            await test(here)

    trio.run(main)


def ring(here: World) -> list[Leg]:
    """INVITEs that reach the core ring; their legs."""
    legs: list[Leg] = []

    def take(request: Request, transaction: ServerTransaction) -> None:
        leg = Leg(None)  # type: ignore[arg-type]
        leg.session = here.agent.accept(request, transaction, on_event=leg.on_event)
        leg.session.provisional(180)
        legs.append(leg)

    here.phone = take
    return legs


async def talk(here: World, **options: Any) -> tuple[Leg, Leg]:
    legs = ring(here)
    caller = here.call(**options)
    await caller.wait(Provisional)
    legs[0].session.answer(here.phone_rtp.offer())
    await caller.wait(Answered)
    await legs[0].wait(Acked)
    return caller, legs[0]


def record_of(here: World, leg: Leg) -> dict[str, Any]:
    found = here.app.call(leg.session.request.call_id)
    assert found is not None
    return found


async def termination(here: World, leg: Leg) -> dict[str, Any]:
    await until(lambda: record_of(here, leg)["state"] == "ended")
    ended: dict[str, Any] = record_of(here, leg)["termination"]
    return ended


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_call(transport: str):
    async def test(here: World) -> None:
        caller, phone = await talk(here, transport=transport)
        (invite,) = here.arrived
        assert invite.routes == [here.odi]
        assert invite.call_id != caller.session.request.call_id
        assert invite.headers.get("P-Asserted-Identity") == f"<{ALICE}>"
        record = record_of(here, caller)
        assert record["state"] == "joined"
        assert record["outgoing_call_id"] == invite.call_id
        assert here.app.call(invite.call_id) == record
        assert not here.engine.connections
        assert not here.ports_bound()
        # offers both ways, and with what the other says
        caller.session.reinvite(here.caller_rtp.offer(direction="sendonly", version=2))
        offered = await phone.wait(ReinviteReceived)
        assert b"a=sendonly" in offered.request.body
        phone.session.accept_reinvite(here.phone_rtp.offer(direction="recvonly", version=2))
        assert b"a=recvonly" in (await caller.wait(ReinviteAnswered)).response.body
        await phone.wait(Acked)
        phone.session.reinvite(here.phone_rtp.offer(version=3))
        await caller.wait(ReinviteReceived)
        caller.session.accept_reinvite(here.caller_rtp.offer(version=3))
        await phone.wait(ReinviteAnswered)
        phone.session.bye(headers=[("Reason", "Q.850;cause=16")])
        ended = await caller.wait(Ended)
        assert "Q.850" in ended.reason
        assert await termination(here, caller) == {
            "result": "connected",
            "by": "callee",
            "reason": "bye",
            "cause": None,
        }
        # the whole of it is in one trail, both legs
        labels = [event["label"] for event in record_of(here, caller)["trace"]]
        assert sum("INVITE" in label for label in labels) >= 8

    run(test)


def test_info_and_message_inside_the_dialog():
    async def test(here: World) -> None:
        caller, phone = await talk(here)
        statuses: list[int] = []

        def on_event(event: object) -> None:
            assert isinstance(event, ResponseReceived)
            statuses.append(event.response.status)

        caller.session.send_request("INFO", body=b"Signal=1", content_type="application/dtmf-relay", on_event=on_event)
        info = await phone.wait(RequestReceived)
        assert (info.request.method, info.request.body) == ("INFO", b"Signal=1")
        await until(lambda: statuses == [200])
        phone.session.send_request("MESSAGE", body=b"hello", content_type="text/plain", on_event=on_event)
        message = await caller.wait(RequestReceived)
        assert message.request.content_type == "text/plain"
        await until(lambda: statuses == [200, 405])
        caller.session.bye()
        await phone.wait(Ended)

    run(test)


def test_the_caller_gives_up():
    async def test(here: World) -> None:
        legs = ring(here)
        caller = here.call()
        await caller.wait(Provisional)
        assert record_of(here, caller)["state"] == "ringing"
        caller.session.cancel(headers=[("Reason", "SIP;cause=200")])
        cancelled = await legs[0].wait(Cancelled)
        assert cancelled.request.headers.get("Reason") == "SIP;cause=200"
        assert (await caller.wait(Rejected)).status == 487
        assert (await termination(here, caller))["result"] == "cancelled"

    run(test)


@pytest.mark.parametrize(("status", "seen"), [(486, 486), (302, 302), (503, 500)])
def test_the_callee_refuses(status: int, seen: int):
    async def test(here: World) -> None:
        here.refuse_as_phone(status)
        caller = here.call()
        assert (await caller.wait(Rejected)).status == seen
        ended = await termination(here, caller)
        assert (ended["result"], ended["by"], ended["cause"]) == ("unanswered", "callee", status)

    run(test)


def test_hanging_up_over_the_api_and_at_the_end_of_the_process():
    async def test(here: World) -> None:
        caller, phone = await talk(here)
        assert here.app.hang_up(caller.session.request.call_id)
        await caller.wait(Ended)
        await phone.wait(Ended)
        assert await termination(here, caller) == {
            "result": "connected",
            "by": "ims-as",
            "reason": "hangup",
            "cause": None,
        }

    run(test)


def test_rules_choose_the_role():
    async def test(here: World) -> None:
        phones = here.answer_as_phone()
        leg = here.call(to="sip:carol@ims.example.net")
        await leg.wait(Answered)
        (invite,) = here.arrived
        assert invite.call_id == leg.session.request.call_id  # passed on by the proxy
        leg.session.bye()
        await phones.receive()
        agent = here.call(to="sip:dave@ims.example.net")
        await agent.wait(Answered)
        await here.engine.wait("start")
        agent.session.bye()

    run(test)


def test_what_does_not_work_through_a_b2bua_is_passed_on_by_the_proxy():
    async def test(here: World) -> None:
        phones = here.answer_as_phone()
        leg = here.call(headers=[("Require", "gruu")])
        await leg.wait(Answered)
        assert here.arrived[0].call_id == leg.session.request.call_id
        assert here.arrived[0].headers.get("Require") == "gruu"
        leg.session.bye()
        await phones.receive()

    run(test)


def test_nowhere_to_go():
    async def test(here: World) -> None:
        leg = here.call(odi=False)
        assert (await leg.wait(Rejected)).status == 503

    run(test)


def test_a_b2bua_call_counts_against_the_limit():
    async def test(here: World) -> None:
        caller, phone = await talk(here)
        second = here.call(to=BOB)
        assert (await second.wait(Rejected)).status == 503
        caller.session.bye()
        await phone.wait(Ended)

    run(test, "limits.calls=1")
