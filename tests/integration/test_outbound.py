"""An agent calls somebody: on behalf of a user through the S-CSCF, or as the service itself."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from ims_as.call.bypass import BYPASS_HEADER
from ims_as.call.order import OrderError
from ims_as.sip.invite_session import (
    Acked,
    Cancelled,
    Ended,
    Pracked,
    ReinviteAnswered,
    ReinviteReceived,
    UpdateAnswered,
)
from ims_as.sip.message import Request, build_response
from ims_as.sip.sdp import parse_sdp_untrusted
from ims_as.sip.transaction import ServerTransaction
from tests.integration.test_engine_schema import check
from tests.support.world import ALICE, BOB, IDENTITY, Leg, World, until, world


def agents(here_url: str, **outbound: Any) -> str:
    outbound = {"allow": ["sip:.*@ims.example.net"], "identities": ["sip:.*@ims.example.net"], **outbound}
    default = {"engines": [{"type": "websocket", "url": here_url}], "outbound": outbound}
    return "agents=" + json.dumps({"default": default})


class Outbound:
    """A world whose agent may call, with what the phone does on demand."""

    def __init__(self, here: World) -> None:
        self.here = here
        self.calls: list[Leg] = []
        here.phone = self._take

    def _take(self, request: Request, transaction: ServerTransaction) -> None:
        leg = Leg(None)  # type: ignore[arg-type]
        leg.session = self.here.agent.accept(request, transaction, on_event=leg.on_event)
        self.calls.append(leg)

    def order(self, **fields: Any) -> str:
        content = {"to": BOB, "on_behalf_of": ALICE, **fields}
        call_id, _ = self.here.app.place_call({n: v for n, v in content.items() if v is not None}, None)
        return call_id

    async def phone(self) -> Leg:
        await until(lambda: self.calls)
        return self.calls.pop(0)

    async def progress(self, state: str) -> None:
        event = await self.here.engine.wait("progress")
        assert event["state"] == state

    def record(self, call_id: str) -> dict[str, Any]:
        found = self.here.app.call(call_id)
        assert found is not None
        return found

    async def ended(self, call_id: str) -> dict[str, Any]:
        await until(lambda: self.record(call_id)["state"] == "ended")
        termination: dict[str, Any] = self.record(call_id)["termination"]
        return termination


def run(test: Any, *overrides: str, engine: bool = True, **outbound: Any) -> None:
    async def main() -> None:
        def make(here: World) -> list[str]:
            return [f"sip.core=sip:{here.core_address}:5060", agents(here.engine.url, **outbound), *overrides]

        async with world(make=make, engine=engine) as here:
            await test(Outbound(here))

    trio.run(main)


async def talking(out: Outbound, **fields: Any) -> tuple[str, Leg]:
    call_id = out.order(**fields)
    phone = await out.phone()
    phone.session.provisional(180)
    await out.progress("trying")
    await out.progress("ringing")
    phone.session.answer(out.here.phone_rtp.offer())
    await out.progress("answered")
    return call_id, phone


def test_on_behalf_of_a_user():
    async def test(out: Outbound) -> None:
        here = out.here
        call_id, phone = await talking(out, headers={"X-Campaign": "7"}, data={"topic": "appointment"})
        (invite,) = here.arrived
        assert invite.uri == BOB
        assert invite.routes == [f"<sip:{here.core_address}:5060;lr;orig>"]
        assert invite.headers.get("P-Asserted-Identity") == f"<{ALICE}>"
        assert invite.headers.get("P-Served-User") == f"<{ALICE}>;sescase=orig"
        assert invite.headers.get("P-Asserted-Service") == "urn:urn-7:3gpp-service.ims.icsi.mmtel"
        assert "3gpp-service.ims.icsi.mmtel" in (invite.headers.get("Accept-Contact") or "")
        assert "+g.3gpp.icsi-ref" in (invite.headers.get("Contact") or "")
        assert invite.headers.get("X-Campaign") == "7"
        assert "History-Info" not in invite.headers
        assert invite.max_forwards == 70
        record = out.record(call_id)
        assert f'icid-value="{record["icid"]}"' in (invite.headers.get("P-Charging-Vector") or "")
        assert (invite.headers.get("Session-ID") or "").startswith(f"{call_id};remote=")
        formats = parse_sdp_untrusted(invite.body).media[0].formats
        assert formats[:2] == ("8", "0")
        start = here.engine.events[0]
        assert (start["event"], start["direction"], start["data"]) == ("start", "outbound", {"topic": "appointment"})
        assert (start["from"], start["to"], start["served_user"]) == (ALICE, BOB, ALICE)
        assert record["state"] == "talking"
        assert record["direction"] == "outbound"
        assert record["ringing_at"] <= record["answered_at"]
        # audio both ways
        port = parse_sdp_untrusted(invite.body).media[0].port
        here.phone_rtp.send(here.as_address, port, 5)
        await until(lambda: here.engine.audio_bytes)
        await here.phone_rtp.receive()
        phone.session.bye()
        assert await out.ended(call_id) == {"result": "answered", "by": "callee", "reason": "bye", "cause": None}
        for event in here.engine.events:
            check("toEngine", event)
        assert here.app.metrics.registry.get_sample_value("ims_as_outbound_calls_total", {"outcome": "answered"}) == 1

    run(test)


def test_later_requests_carry_the_calls_identifiers():
    async def test(out: Outbound) -> None:
        call_id = out.order()
        phone = await out.phone()
        theirs = "cd" * 16
        phone.session.answer(out.here.phone_rtp.offer(), headers=[("Session-ID", f"{theirs};remote={call_id}")])
        await until(lambda: out.record(call_id)["state"] == "talking")
        out.here.app.hang_up(call_id)
        bye = (await phone.wait(Ended)).request
        assert bye is not None
        assert f'icid-value="{out.record(call_id)["icid"]}"' in (bye.headers.get("P-Charging-Vector") or "")
        assert bye.headers.get("Session-ID") == f"{call_id};remote={theirs}"
        await out.ended(call_id)

    run(test)


def test_as_the_service_itself():
    async def test(out: Outbound) -> None:
        _, phone = await talking(out, on_behalf_of=None)
        (invite,) = out.here.arrived
        assert invite.routes == [f"<sip:{out.here.core_address}:5060;lr>"]
        assert invite.headers.get("P-Asserted-Identity") == f"<{IDENTITY}>"
        assert "P-Served-User" not in invite.headers
        phone.session.bye()

    run(test)


def test_the_users_own_scscf_is_the_one_that_registered_it():
    async def test(out: Outbound) -> None:
        here = out.here
        uri = f"sip:scscf7@{here.core_address}:5060"
        headers = [("Expires", "600"), ("Contact", f"<{uri}>"), ("P-Charging-Function-Addresses", "ccf=c1;ecf=e1")]
        register = Request(
            "REGISTER",
            IDENTITY,
            [
                ("Route", f"<{IDENTITY};lr>"),
                ("Max-Forwards", "70"),
                ("From", "<sip:scscf@x>;tag=1"),
                ("To", f"<{ALICE}>"),
                ("Call-ID", here.core.new_call_id()),
                ("CSeq", "1 REGISTER"),
                *headers,
            ],
        )
        here.core.send_request(register, on_event=lambda event: None)
        await until(lambda: len(here.app.context.registrations))
        _, phone = await talking(out)
        (invite,) = here.arrived
        assert invite.routes == [f"<{uri};lr;orig>"]
        assert invite.headers.get("P-Served-User") == f"<{ALICE}>;sescase=orig;regstate=reg"
        assert invite.headers.get("P-Charging-Function-Addresses") == "ccf=c1;ecf=e1"
        phone.session.bye()

    run(test)


def test_our_own_criteria_do_not_catch_it():
    """It comes by our iFC for the caller and again for the callee; each time it is passed on untouched."""

    async def test(out: Outbound) -> None:
        here = out.here
        call_id = out.order()
        phone = await out.phone()
        (invite,) = here.arrived
        token = invite.headers.get(BYPASS_HEADER)
        for passes in (1, 2):
            leg = here.call(headers=[(BYPASS_HEADER, token or "")])
            await until(lambda expected=passes + 1: len(here.arrived) == expected)  # type: ignore[misc]
            back = out.calls.pop()
            back.session.reject(486)
            await until(lambda gone=leg: gone.session.is_terminated)  # type: ignore[misc]
        leg = here.call(headers=[(BYPASS_HEADER, token or "")])  # used up: an agent takes it
        await until(lambda: leg.session.dialog is not None and leg.session.dialog.state.value == "confirmed")
        leg.session.bye()
        phone.session.reject(486)
        await out.ended(call_id)

    run(test)


@pytest.mark.parametrize(
    ("status", "by", "reason"),
    [
        (486, "callee", "busy"),
        (600, "callee", "busy"),
        (480, "callee", "no-answer"),
        (603, "callee", "declined"),
        (404, "network", "unknown-number"),
        (302, "network", "redirected"),
        (488, "network", "refused"),
        (503, "network", "network-failure"),
    ],
)
def test_nobody_to_talk_to(status: int, by: str, reason: str):
    async def test(out: Outbound) -> None:
        out.here.refuse_as_phone(status)
        call_id = out.order()
        ended = await out.ended(call_id)
        assert ended == {"result": "unanswered", "by": by, "reason": reason, "cause": status}

    run(test)


def test_it_rings_no_longer_than_ordered():
    async def test(out: Outbound) -> None:
        call_id = out.order(ring_timeout_s=1)
        phone = await out.phone()
        phone.session.provisional(180)
        cancelled = await phone.wait(Cancelled)
        assert "408" in (cancelled.request.headers.get("Reason") or "")
        assert await out.ended(call_id) == {"result": "unanswered", "by": "callee", "reason": "no-answer", "cause": 408}

    run(test)


def test_early_media_is_heard_and_the_one_who_answers_wins():
    """Two phones ring, both with early media; the engine is told once and the second phone answers."""

    async def test(out: Outbound) -> None:
        here = out.here
        requests: list[tuple[Request, ServerTransaction]] = []
        here.phone = lambda request, transaction: requests.append((request, transaction))
        call_id = out.order()
        await until(lambda: requests)
        request, transaction = requests[0]
        port = parse_sdp_untrusted(request.body).media[0].port

        def respond(status: int, tag: str, body: bytes) -> None:
            contact = [("Contact", f"<sip:{tag}@{here.core_address}:5060>")]
            response = build_response(
                request, status, to_tag=tag, headers=contact, body=body, content_type="application/sdp"
            )
            here.core.send_response(transaction, response)

        respond(183, "a", here.caller_rtp.offer(formats="0"))
        await out.progress("trying")
        await out.progress("early-media")
        assert out.record(call_id)["state"] == "calling"
        here.caller_rtp.send(here.as_address, port, 3)
        await until(lambda: here.engine.audio_bytes)
        await here.engine.send(event="clear")
        assert here.caller_rtp.drain() == 0  # nothing is sent before the answer
        respond(183, "b", here.phone_rtp.offer())
        respond(180, "b", b"")
        await out.progress("ringing")
        respond(200, "b", b"")  # its answer came with the 183
        await out.progress("answered")
        await here.phone_rtp.receive()
        assert out.record(call_id)["state"] == "talking"
        here.app.hang_up(call_id)
        assert (await out.ended(call_id))["by"] == "api"
        assert here.app.endpoint.counters.requests_out["BYE"] == 1

    run(test)


def test_a_reliable_early_answer_is_the_answer():
    """The 183 is acknowledged, an UPDATE moves the early media, and the 200 need not say it again."""

    async def test(out: Outbound) -> None:
        here = out.here
        call_id = out.order()
        phone = await out.phone()
        phone.session.provisional(183, body=here.caller_rtp.offer(), reliable=True)
        await phone.wait(Pracked)
        await out.progress("trying")
        await out.progress("early-media")
        phone.session.update(here.phone_rtp.offer(version=2))
        answered = await phone.wait(UpdateAnswered)
        assert parse_sdp_untrusted(answered.body).media[0].port
        phone.session.answer(b"")
        await out.progress("answered")
        await here.phone_rtp.receive()
        assert here.caller_rtp.drain() == 0
        phone.session.bye()
        await out.ended(call_id)

    run(test)


def test_a_greeting_that_comes_too_early_is_kept_until_somebody_hears_it():
    async def test(out: Outbound) -> None:
        here = out.here
        here.engine.echo = False
        call_id = out.order()
        phone = await out.phone()
        phone.session.provisional(180)
        await out.progress("trying")
        await here.engine.connections[0].send(b"\x00\x20" * 320 * 10)
        await out.progress("ringing")
        phone.session.answer(here.phone_rtp.offer(formats="0"))
        await out.progress("answered")
        loud = 0
        with trio.fail_after(5):
            while loud < 8:
                packet = await here.phone_rtp.receive()
                loud += packet[12:] != b"\xff" * 160
        phone.session.bye()
        await out.ended(call_id)

    run(test)


def test_an_answer_that_cannot_be_used():
    async def test(out: Outbound) -> None:
        call_id = out.order()
        phone = await out.phone()
        phone.session.answer(b"v=0\r\nno sdp")
        ended = await phone.wait(Ended)
        assert ended.request is not None
        assert "488" in (ended.request.headers.get("Reason") or "")
        assert (await out.ended(call_id))["reason"] == "answer-unusable"

    run(test)


def test_no_engine_and_nobodys_phone_rings():
    async def test(out: Outbound) -> None:
        out.here.engine.die()
        call_id = out.order()
        ended = await out.ended(call_id)
        assert (ended["result"], ended["by"]) == ("unanswered", "ims-as")
        # the connection is refused, or taken by a listener that is just closing
        assert ended["reason"] in ("engine_refused", "engine_rejected")
        assert not out.here.arrived

    run(test)


def test_an_engine_that_is_known_to_be_down():
    async def test(out: Outbound) -> None:
        with pytest.raises(OrderError) as refusal:
            out.order()
        assert (refusal.value.status, refusal.value.code) == (503, "no-engine")

    run(test, engine=False)


def test_the_engine_dies_while_it_rings():
    async def test(out: Outbound) -> None:
        call_id = out.order()
        phone = await out.phone()
        phone.session.provisional(180)
        await out.progress("trying")
        out.here.engine.die()
        await phone.wait(Cancelled)
        assert (await out.ended(call_id))["reason"] == "engine-lost"

    run(test)


def test_the_agent_gives_up_while_it_rings():
    async def test(out: Outbound) -> None:
        call_id = out.order()
        phone = await out.phone()
        phone.session.provisional(180)
        await out.progress("trying")
        await out.here.engine.send(event="transfer", target="served-user")
        assert (await out.here.engine.wait("transfer"))["state"] == "failed"
        await out.here.engine.send(event="hangup", reason="changed my mind")
        await phone.wait(Cancelled)
        assert await out.ended(call_id) == {"result": "unanswered", "by": "agent", "reason": "hangup", "cause": None}

    run(test)


def test_hanging_up_crosses_the_answer():
    """The CANCEL comes too late: what was answered is ended by a BYE, and nothing is left."""

    async def test(out: Outbound) -> None:
        call_id = out.order()
        phone = await out.phone()
        phone.session.provisional(180)
        await out.progress("trying")
        await out.progress("ringing")
        assert out.here.app.hang_up(call_id)
        phone.session.answer(out.here.phone_rtp.offer())
        assert (await phone.wait(Ended)).by == "remote"
        assert await out.ended(call_id) == {"result": "cancelled", "by": "api", "reason": "hangup", "cause": None}
        assert not out.here.app.hang_up(call_id)

    run(test)


def test_the_callee_is_handed_to_a_person():
    async def test(out: Outbound) -> None:
        here = out.here
        call_id, phone = await talking(out)
        await phone.wait(Acked)
        await here.engine.send(event="transfer", target="served-user", data={"reason": "wants a human"})
        human = await out.phone()
        invite = here.arrived[1]
        assert invite.uri == ALICE
        assert invite.headers.get("P-Asserted-Identity") == f"<{BOB}>"
        human.session.answer(here.caller_rtp.offer())
        reinvite = await phone.wait(ReinviteReceived)
        assert parse_sdp_untrusted(reinvite.request.body).media[0].port == here.caller_rtp.port
        phone.session.accept_reinvite(here.phone_rtp.offer())
        await until(lambda: out.record(call_id)["state"] == "joined")
        human.session.bye()
        assert (await phone.wait(Ended)).by == "remote"
        assert (await out.ended(call_id))["result"] == "transferred"

    run(test)


def test_the_callee_changes_its_media():
    async def test(out: Outbound) -> None:
        call_id, phone = await talking(out)
        await phone.wait(Acked)
        phone.session.reinvite(out.here.caller_rtp.offer(version=2))
        await phone.wait(ReinviteAnswered)
        await out.here.caller_rtp.receive()
        phone.session.bye()
        await out.ended(call_id)

    run(test)


def test_draining_and_overload_refuse_orders():
    async def test(out: Outbound) -> None:
        first, phone = await talking(out)
        with pytest.raises(OrderError) as refusal:
            out.order()
        assert (refusal.value.status, refusal.value.code, refusal.value.retry_after_s) == (503, "overload-calls", 2)
        phone.session.bye()
        await out.ended(first)
        await out.here.app.drain()
        with pytest.raises(OrderError) as refusal:
            out.order()
        assert refusal.value.code == "overload-draining"

    run(test, "limits.calls=1")


def test_over_http(tmp_path: Path):
    async def test(out: Outbound) -> None:
        here = out.here
        base = f"http://{here.as_address}:8080"
        headers = {"authorization": "Bearer s3cret", "idempotency-key": "k1"}
        order = {"to": BOB, "on_behalf_of": ALICE}
        async with httpx.AsyncClient(trust_env=False, base_url=base) as client:
            assert (await client.post("/calls", json=order)).status_code == 401
            made = await client.post("/calls", json=order, headers=headers)
            assert made.status_code == 201
            assert made.json()["direction"] == "outbound"
            again = await client.post("/calls", json=order, headers=headers)
            assert again.headers["idempotent-replayed"] == "true"
            assert again.headers["location"] == made.headers["location"]
            phone = await out.phone()
            phone.session.provisional(180)
            await until(lambda: out.record(made.json()["id"])["state"] == "ringing")
            shown = await client.get(made.headers["location"])
            assert shown.json()["state"] == "ringing"
            gone = await client.delete(made.headers["location"], headers=headers)
            assert gone.status_code == 202
            await phone.wait(Cancelled)
            await out.ended(made.json()["id"])
            assert not out.calls  # nobody was called twice
            assert (await client.delete(made.headers["location"], headers=headers)).status_code == 409

    secret = tmp_path / "token"
    secret.write_text("s3cret")
    run(test, f"api.token={{file: {secret}}}")


def test_an_answer_among_other_parts():
    async def test(out: Outbound) -> None:
        here = out.here
        parts = b"--b\r\nContent-Type: application/sdp\r\n\r\n" + here.phone_rtp.offer() + b"\r\n--b--\r\n"

        def answer(request: Request, transaction: ServerTransaction) -> None:
            contact = [("Contact", f"<sip:bob@{here.core_address}:5060>")]
            response = build_response(
                request, 200, headers=contact, body=parts, content_type="multipart/mixed;boundary=b"
            )
            here.core.send_response(transaction, response)

        here.phone = answer
        call_id = out.order()
        await out.progress("trying")
        await out.progress("answered")
        assert here.app.hang_up(call_id)
        assert (await out.ended(call_id))["result"] == "answered"

    run(test)
