"""What comes before the 200: ringing, early media, resources of the caller, and extensions that nobody knows."""

from __future__ import annotations

import pytest
import trio

from ims_as.sip.message import Response
from ims_as.sip.sdp import parse_sdp_untrusted
from ims_as.sip.timers import TimerConfig
from tests.support.raw_caller import RawCaller
from tests.support.world import RtpSocket, World, until, world

RINGING = 'agents.default.answer.mode="ringing"'
EARLY = 'agents.default.answer.mode="early-media"'
AFTER = "agents.default.answer.after_ms=150"
RELIABLE = [("Supported", "100rel")]
FAST = TimerConfig(t1=0.01, t2=0.04)


def media_of(body: bytes) -> tuple[str, int]:
    description = parse_sdp_untrusted(body)
    return description.connection_of(description.media[0]), description.media[0].port


def lines_of(body: bytes) -> list[str]:
    return [line[2:] for line in body.decode().splitlines() if line[2:6] in ("curr", "des:", "conf")]


async def is_heard(here: World, body: bytes, party: RtpSocket) -> None:
    heard = here.engine.audio_bytes
    party.drain()
    party.send(*media_of(body), packets=5)
    await until(lambda: here.engine.audio_bytes > heard)
    await party.receive_type(0)


async def record_of(here: World, caller: RawCaller) -> dict[str, object]:
    await here.until_idle()
    record = here.app.call(caller.call_id)
    assert record is not None
    termination = record["termination"]
    assert isinstance(termination, dict)
    return termination


# ---------------------------------------------------------------- ringing


def test_ringing_before_the_answer_and_nothing_said_is_lost():
    async def main() -> None:
        async with world(RINGING, AFTER) as here:
            with RawCaller(here) as caller:
                here.engine.echo = False
                caller.invite(body=here.caller_rtp.offer())
                ringing = await caller.response()
                assert (ringing.status, ringing.body) == (180, b"")
                assert "RSeq" not in ringing.headers
                await until(lambda: here.engine.connections)
                await here.engine.connections[0].send(b"\x11\x11" * 320 * 20)  # 400 ms of greeting
                ok = await caller.response(status=200)
                assert here.caller_rtp.drain() == 0
                caller.ack(ok)
                await trio.sleep(0.5)
                assert here.caller_rtp.drain() >= 20
                await caller.hang_up()

    trio.run(main)


def test_a_caller_that_requires_it_gets_the_ringing_reliably():
    async def main() -> None:
        async with world(RINGING, AFTER) as here:
            with RawCaller(here) as caller:
                caller.invite(body=here.caller_rtp.offer(), headers=[("Require", "100rel")])
                ringing = await caller.response(status=180)
                assert (await caller.prack(ringing)).status == 200
                ok = await caller.response(status=200)
                caller.ack(ok)
                await is_heard(here, ok.body, here.caller_rtp)
                await caller.hang_up()

    trio.run(main)


def test_an_agent_that_does_not_want_the_call_declines_it():
    async def main() -> None:
        async with world(RINGING, "agents.default.answer.after_ms=5000") as here:
            with RawCaller(here) as caller:
                caller.invite(body=here.caller_rtp.offer())
                await caller.response(status=180)
                await here.engine.send(event="transfer", target="served-user")
                assert (await here.engine.wait("transfer"))["state"] == "failed"
                await here.engine.send(event="hangup")
                refused = await caller.response()
                assert refused.status == 603
                caller.ack(refused)
                assert (await record_of(here, caller))["by"] == "agent"

    trio.run(main)


@pytest.mark.parametrize("on_failure", ["respond-503", "pass-on"])
def test_an_engine_that_dies_while_it_rings(on_failure: str):
    async def main() -> None:
        async with world(RINGING, "agents.default.answer.after_ms=5000", f"sip.on_failure={on_failure}") as here:
            phones = here.answer_as_phone()
            with RawCaller(here) as caller:
                caller.invite(body=here.caller_rtp.offer(), headers=[("Supported", "199")])
                ringing = await caller.response(status=180)
                here.engine.die()
                if on_failure == "respond-503":
                    refused = await caller.response()
                    assert refused.status == 503
                    caller.ack(refused)
                    assert (await record_of(here, caller))["result"] == "rejected"
                    return
                assert (await caller.response()).status == 199
                ok = await caller.response(status=200)
                assert ok.to_tag != ringing.to_tag
                assert here.arrived[0].routes == [here.odi]
                phone = await phones.receive()
                caller.ack(ok)
                assert (await record_of(here, caller))["result"] == "passed-on"
                phone.session.bye()

    trio.run(main)


def test_a_caller_that_gives_up_while_it_rings():
    async def main() -> None:
        async with world(RINGING, "agents.default.answer.after_ms=5000") as here:
            with RawCaller(here) as caller:
                caller.invite(body=here.caller_rtp.offer())
                await caller.response(status=180)
                caller.cancel()
                assert (await caller.response("CANCEL")).status == 200
                refused = await caller.response()
                assert refused.status == 487
                caller.ack(refused)
                assert (await record_of(here, caller))["result"] == "cancelled"

    trio.run(main)


# ---------------------------------------------------------------- early media


def test_early_media_reliably_and_authorised():
    async def main() -> None:
        async with world(EARLY, AFTER) as here:
            with RawCaller(here) as caller:
                headers = [*RELIABLE, ("P-Early-Media", "supported")]
                caller.invite(body=here.caller_rtp.offer(), headers=headers)
                early = await caller.response(status=183)
                assert early.headers.get("P-Early-Media") == "sendonly"
                assert early.headers.get("RSeq")
                assert (await caller.prack(early)).status == 200
                await here.engine.connections[0].send(b"\x11\x11" * 320 * 5)
                await here.caller_rtp.receive_type(0)
                assert "200 INVITE" not in caller.pending()
                ok = await caller.response(status=200)
                assert ok.body == b""
                assert ok.to_tag == early.to_tag
                caller.ack(ok)
                await is_heard(here, early.body, here.caller_rtp)
                await caller.hang_up()
                assert (await record_of(here, caller))["result"] == "answered"

    trio.run(main)


def test_early_media_for_a_caller_without_100rel():
    async def main() -> None:
        async with world(EARLY, AFTER, 'agents.default.answer.clip="builtin:ringback"') as here:
            with RawCaller(here) as caller:
                caller.invite(body=here.caller_rtp.offer())
                early = await caller.response(status=183)
                assert "RSeq" not in early.headers
                assert "P-Early-Media" not in early.headers
                await here.caller_rtp.receive_type(0)  # ringback
                ok = await caller.response(status=200)
                assert ok.body == early.body
                caller.ack(ok)
                await is_heard(here, ok.body, here.caller_rtp)
                await caller.hang_up()

    trio.run(main)


def test_the_200_waits_for_the_prack():
    async def main() -> None:
        async with world(EARLY, timers=FAST) as here:
            with RawCaller(here) as caller:
                caller.invite(body=here.caller_rtp.offer(), headers=RELIABLE)
                early = await caller.response(status=183)
                again = await caller.response(status=183)
                assert again.headers.get("RSeq") == early.headers.get("RSeq")
                assert "200 INVITE" not in caller.pending()
                await caller.prack(early)
                ok = await caller.response(status=200)
                caller.ack(ok)
                await caller.hang_up()
                assert (await record_of(here, caller))["result"] == "answered"

    trio.run(main)


def test_a_prack_that_never_comes_ends_it():
    async def main() -> None:
        async with world(EARLY, timers=FAST) as here:
            with RawCaller(here) as caller:
                caller.invite(body=here.caller_rtp.offer(), headers=RELIABLE)
                await caller.response(status=183)
                refused = await caller.response(status=504)
                caller.ack(refused)
                termination = await record_of(here, caller)
                assert (termination["result"], termination["reason"]) == ("rejected", "no-prack")

    trio.run(main)


def test_our_offer_in_the_183_and_the_answer_in_the_prack():
    async def main() -> None:
        async with world(EARLY, AFTER) as here:
            with RawCaller(here) as caller:
                caller.invite(headers=RELIABLE)
                early = await caller.response(status=183)
                assert parse_sdp_untrusted(early.body).media[0].formats == ("8", "0", "101")
                await caller.prack(early, body=here.caller_rtp.offer(formats="0 101"))
                await here.engine.connections[0].send(b"\x11\x11" * 320 * 5)
                await here.caller_rtp.receive_type(0)
                ok = await caller.response(status=200)
                assert ok.body == b""
                caller.ack(ok)
                await is_heard(here, early.body, here.caller_rtp)
                await caller.hang_up()

    trio.run(main)


def test_an_unusable_answer_in_the_prack_is_our_inability():
    async def main() -> None:
        async with world(EARLY, AFTER) as here:
            with RawCaller(here) as caller:
                caller.invite(headers=RELIABLE)
                early = await caller.response(status=183)
                await caller.prack(early, body=here.caller_rtp.offer(formats="97"))
                refused = await caller.response()
                assert refused.status == 500
                caller.ack(refused)
                assert (await record_of(here, caller))["reason"] == "codec"

    trio.run(main)


def test_without_100rel_there_is_no_offer_in_a_183():
    async def main() -> None:
        async with world(EARLY, AFTER) as here:
            with RawCaller(here) as caller:
                caller.invite()
                ringing = await caller.response()
                assert (ringing.status, ringing.body) == (180, b"")
                ok = await caller.response(status=200)
                caller.ack(ok, body=here.caller_rtp.offer())
                await is_heard(here, ok.body, here.caller_rtp)
                await caller.hang_up()

    trio.run(main)


def test_an_update_before_the_answer_moves_the_early_media():
    async def main() -> None:
        async with world(EARLY, "agents.default.answer.after_ms=1000") as here:
            with RawCaller(here) as caller:
                caller.invite(body=here.caller_rtp.offer(), headers=RELIABLE)
                await caller.prack(await caller.response(status=183))
                answer = await caller.update(here.phone_rtp.offer(formats="8 101", version=2))
                assert answer.status == 200
                await here.engine.connections[0].send(b"\x11\x11" * 320 * 5)
                await here.phone_rtp.receive_type(8)
                refused = await caller.update(here.phone_rtp.offer(formats="97", version=3))
                assert refused.status == 488
                ok = await caller.response(status=200)
                caller.ack(ok)
                await here.engine.connections[0].send(b"\x11\x11" * 320 * 5)
                here.phone_rtp.drain()
                await here.phone_rtp.receive_type(8)
                await caller.hang_up()

    trio.run(main)


# ---------------------------------------------------------------- preconditions


def resources(here: World, local: str, *, strength: str = "mandatory", version: int = 1) -> bytes:
    """The offer of a phone whose radio bearer is there or not."""
    lines = [
        f"curr:qos local {local}",
        "curr:qos remote none",
        f"des:qos {strength} local sendrecv",
        f"des:qos {strength} remote sendrecv",
    ]
    return here.caller_rtp.offer(version=version) + "".join(f"a={line}\r\n" for line in lines).encode()


REQUIRED = [("Require", "precondition"), ("Supported", "100rel, precondition")]


async def described(here: World, caller: RawCaller) -> Response:
    caller.invite(body=resources(here, "none"), headers=REQUIRED)
    early = await caller.response(status=183)
    assert (await caller.prack(early)).status == 200
    return early


def test_a_caller_without_resources_is_not_answered_before_its_update():
    async def main() -> None:
        async with world() as here:
            with RawCaller(here) as caller:
                early = await described(here, caller)
                assert set(early.headers.get_list("Require")) == {"100rel", "precondition"}
                assert lines_of(early.body) == [
                    "curr:qos local sendrecv",
                    "curr:qos remote none",
                    "des:qos mandatory local sendrecv",
                    "des:qos mandatory remote sendrecv",
                    "conf:qos remote sendrecv",
                ]
                await until(lambda: here.engine.connections)
                await here.engine.connections[0].send(b"\x11\x11" * 320 * 5)
                await trio.sleep(0.1)
                assert here.caller_rtp.drain() == 0
                assert not caller.pending()
                still = await caller.update(resources(here, "none", version=2))
                assert "curr:qos remote none" in lines_of(still.body)
                assert not caller.pending()
                confirmed = await caller.update(resources(here, "sendrecv", version=3))
                assert lines_of(confirmed.body)[1] == "curr:qos remote sendrecv"
                assert "conf:qos remote sendrecv" not in lines_of(confirmed.body)
                ok = await caller.response(status=200)
                assert ok.body == b""
                caller.ack(ok)
                await is_heard(here, confirmed.body, here.caller_rtp)
                await caller.hang_up()
                assert (await record_of(here, caller))["result"] == "answered"

    trio.run(main)


def test_resources_then_ringing():
    async def main() -> None:
        async with world(RINGING, AFTER) as here:
            with RawCaller(here) as caller:
                await described(here, caller)
                await caller.update(resources(here, "sendrecv", version=2))
                assert (await caller.response(status=180)).body == b""
                ok = await caller.response(status=200)
                caller.ack(ok)
                await caller.hang_up()

    trio.run(main)


@pytest.mark.parametrize(
    "offer",
    [
        {"local": "sendrecv"},
        {"local": "none", "strength": "optional"},
    ],
)
def test_a_caller_that_has_or_only_wishes_for_resources_is_answered_at_once(offer: dict[str, str]):
    async def main() -> None:
        async with world() as here:
            with RawCaller(here) as caller:
                headers = [("Supported", "100rel, precondition")]
                caller.invite(body=resources(here, **offer), headers=headers)  # type: ignore[arg-type]
                ok = await caller.response()
                assert ok.status == 200
                assert "curr:qos local sendrecv" in lines_of(ok.body)
                caller.ack(ok)
                await is_heard(here, ok.body, here.caller_rtp)
                await caller.hang_up()

    trio.run(main)


@pytest.mark.parametrize("on_failure", ["respond-503", "pass-on"])
def test_resources_that_do_not_come_end_in_the_failure_table(on_failure: str):
    async def main() -> None:
        async with world("agents.default.answer.resources_ms=150", f"sip.on_failure={on_failure}") as here:
            phones = here.answer_as_phone()
            with RawCaller(here) as caller:
                await described(here, caller)
                final = await caller.response()
                if on_failure == "respond-503":
                    assert final.status == 580
                    caller.ack(final)
                    assert (await record_of(here, caller))["reason"] == "precondition"
                    return
                ok = final if final.status == 200 else await caller.response(status=200)
                assert here.arrived[0].body == resources(here, "none")
                caller.ack(ok)
                assert (await record_of(here, caller))["result"] == "passed-on"
                (await phones.receive()).session.bye()

    trio.run(main)


def test_a_caller_that_cannot_do_reliable_responses_cannot_have_preconditions():
    async def main() -> None:
        async with world() as here:
            with RawCaller(here) as caller:
                caller.invite(body=resources(here, "none"))
                refused = await caller.response()
                assert refused.status == 580
                caller.ack(refused)
                await here.until_idle()

    trio.run(main)


def test_preconditions_without_an_offer():
    async def main() -> None:
        async with world() as here:
            with RawCaller(here) as caller:
                caller.invite(headers=REQUIRED)
                early = await caller.response(status=183)
                await caller.prack(early, body=resources(here, "none"))
                assert "200 INVITE" not in caller.pending()
                await caller.update(resources(here, "sendrecv", version=2))
                ok = await caller.response(status=200)
                caller.ack(ok)
                await is_heard(here, early.body, here.caller_rtp)
                await caller.hang_up()

    trio.run(main)


def test_a_caller_that_gives_up_while_its_resources_are_awaited():
    async def main() -> None:
        async with world() as here:
            with RawCaller(here) as caller:
                await described(here, caller)
                caller.cancel()
                refused = await caller.response()
                assert refused.status == 487
                caller.ack(refused)
                assert (await record_of(here, caller))["result"] == "cancelled"

    trio.run(main)


# ---------------------------------------------------------------- extensions


def test_an_extension_that_we_do_not_know_goes_on_by_the_route():
    async def main() -> None:
        async with world() as here:
            phones = here.answer_as_phone()
            with RawCaller(here) as caller:
                caller.invite(body=here.caller_rtp.offer(), headers=[("Require", "teleport")])
                ok = await caller.response(status=200)
                assert here.arrived[0].headers.get("Require") == "teleport"
                assert not here.engine.connections
                caller.ack(ok)
                assert (await record_of(here, caller))["reason"] == "unsupported-extension"
                (await phones.receive()).session.bye()

    trio.run(main)


def test_without_a_route_it_is_420():
    async def main() -> None:
        async with world() as here:
            response = await here.invite_directly([("Require", "teleport, 100rel")])
            assert response.status == 420
            assert response.headers.get("Unsupported") == "teleport"
            await here.until_idle()

    trio.run(main)


def test_an_extension_required_in_the_dialog_is_420():
    async def main() -> None:
        async with world() as here:
            with RawCaller(here) as caller:
                caller.invite(body=here.caller_rtp.offer())
                caller.ack(await caller.response())
                caller.invite(body=here.caller_rtp.offer(version=2), headers=[("Require", "teleport")])
                refused = await caller.response(cseq=2)
                assert refused.status == 420
                caller.ack(refused)
                await caller.hang_up()

    trio.run(main)


def test_a_bug_before_the_answer_is_a_5xx_for_the_core(monkeypatch: pytest.MonkeyPatch):
    async def fail(*_: object) -> bool:
        raise RuntimeError("bug")

    monkeypatch.setattr("ims_as.call.answering.Answering._alert", fail)

    async def main() -> None:
        async with world() as here:
            with RawCaller(here) as caller:
                caller.invite(body=here.caller_rtp.offer())
                refused = await caller.response()
                assert refused.status == 500
                caller.ack(refused)
                assert (await record_of(here, caller))["reason"] == "internal-error"

    trio.run(main)


def test_a_flood_of_requests_does_not_hide_the_end_of_the_call():
    async def main() -> None:
        async with world() as here:
            with RawCaller(here) as caller:
                caller.invite(body=here.caller_rtp.offer())
                caller.ack(await caller.response(status=200))
                await here.engine.wait("start")
                for _ in range(700):
                    caller.request("INFO", body=b"Signal=1\r\n", content_type="application/dtmf-relay")
                caller.request("BYE")
                assert (await record_of(here, caller))["reason"] in ("bye", "flooded")

    trio.run(main)
