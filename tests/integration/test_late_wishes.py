"""What comes when a call is as good as over, or not yet begun: nothing is left open, and nobody is answered for it."""

from __future__ import annotations

import json

import trio

from ims_as.sip.flow import Flow
from ims_as.sip.invite_session import ReinviteReceived, Rejected
from tests.integration.test_refer import ALLOW, CAROL, states, talking
from tests.support.raw_caller import Headers, RawCaller
from tests.support.world import World, until, world


async def answered(here: World, caller: RawCaller) -> None:
    caller.invite(body=here.caller_rtp.offer())
    caller.ack(await caller.response(status=200))
    await here.engine.wait("start")


def hang_up_and_receive(here: World, caller: RawCaller, method: str, headers: Headers, body: bytes = b"") -> None:
    """The operator ends the call, and before its task has run the request comes."""
    written: list[bytes] = []
    caller.send_bytes = written.append  # type: ignore[method-assign]
    caller.send(method, cseq=9, headers=headers, body=body)
    (call,) = here.app.context.calls
    assert here.app.hang_up(call.record.id)
    flow = Flow("UDP", (here.as_address, 5060), (caller.host, 5060))
    here.app.endpoint.receive_datagram_untrusted(written[0], flow)
    del caller.send_bytes  # type: ignore[method-assign]


def test_a_referral_that_comes_too_late_is_closed():
    async def main() -> None:
        async with world(ALLOW) as here:
            with RawCaller(here) as caller:
                await answered(here, caller)
                hang_up_and_receive(here, caller, "REFER", [("Refer-To", f"<{CAROL}>")])
                caller.respond(await caller.incoming("BYE"), 200)
                for told in (b"SIP/2.0 100", b"SIP/2.0 503"):
                    notify = await caller.incoming("NOTIFY")
                    assert notify.body.startswith(told)
                    caller.respond(notify, 200)
                await here.until_idle()
                assert not here.arrived

    trio.run(main)


def test_a_take_over_that_comes_too_late_is_refused():
    async def main() -> None:
        async with world() as here:
            with RawCaller(here) as caller:
                await answered(here, caller)
                replaced = f"{caller.call_id};to-tag={caller.to_tag};from-tag=raw"
                caller.call_id, caller.to_tag = f"other@{caller.host}", ""
                hang_up_and_receive(here, caller, "INVITE", [("Replaces", replaced)], here.caller_rtp.offer())
                refused = await caller.response()
                assert refused.status == 603
                caller.ack(refused)
                caller.respond(await caller.incoming("BYE"), 200)
                await here.until_idle()

    trio.run(main)


def test_a_call_that_is_ended_while_it_is_set_up_is_not_answered_first():
    def slow_engine(here: World) -> list[str]:
        engine = {"type": "websocket", "url": here.engine.url, "ready": "event"}
        return ["agents=" + json.dumps({"default": {"engines": [engine]}}), "sip.answer_budget_ms=4000"]

    async def main() -> None:
        async with world(make=slow_engine) as here:
            leg = here.call()
            await until(lambda: here.engine.connections)
            (call,) = here.app.context.calls
            assert here.app.hang_up(call.record.id)
            assert (await leg.wait(Rejected)).status == 503
            await here.until_idle()

    trio.run(main)


def test_an_engine_lost_after_a_transfer_that_failed_leads_to_a_human_too():
    async def main() -> None:
        async with world() as here:
            here.refuse_as_phone(486)
            leg = await talking(here)
            await here.engine.send(event="transfer", target="served-user")
            await states(here, "failed")
            phones = here.answer_as_phone()
            here.engine.die()
            with trio.fail_after(5):
                await phones.receive()
            await leg.wait(ReinviteReceived)
            leg.session.accept_reinvite(here.caller_rtp.offer())
            leg.session.bye()
            await here.until_idle()

    trio.run(main)
