"""What comes when a call is as good as over, or not yet begun: nothing is left open, and nobody is answered for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import trio

from ims_as.call.engine_chain import EngineChain
from ims_as.media_client import MediaError
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
    (call,) = here.app.context.calls
    assert here.app.hang_up(call.record.id)
    deliver(here, caller, lambda: caller.send(method, cseq=9, headers=headers, body=body))


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


def deliver(here: World, caller: RawCaller, send: Callable[[], object]) -> None:
    """What the caller sends is received at once, before any task of the server runs."""
    written: list[bytes] = []
    caller.send_bytes = written.append  # type: ignore[method-assign]
    send()
    del caller.send_bytes  # type: ignore[method-assign]
    flow = Flow("UDP", (here.as_address, 5060), (caller.host, 5060))
    for data in written:
        here.app.endpoint.receive_datagram_untrusted(data, flow)


async def is_cancelled(here: World, caller: RawCaller) -> None:
    refused = await caller.response()
    assert refused.status == 487
    caller.ack(refused)
    await here.until_idle()
    record = here.app.call(caller.call_id)
    assert record is not None
    assert record["termination"]["result"] == "cancelled"
    assert not here.app.metrics.guard_errors.labels("call")._value.get()


def test_a_cancel_right_behind_an_invite_that_cannot_be_served():
    async def main() -> None:
        async with world() as here:
            with RawCaller(here) as caller:

                def invite_and_cancel() -> None:
                    caller.invite(body=b"no session description")
                    caller.cancel()

                deliver(here, caller, invite_and_cancel)
                await is_cancelled(here, caller)

    trio.run(main)


@pytest.mark.parametrize("works", [True, False])
def test_a_cancel_in_the_moment_when_the_engine_has_answered(works: bool, monkeypatch: pytest.MonkeyPatch):
    original = EngineChain.open

    async def main() -> None:
        async with world() as here:
            with RawCaller(here) as caller:

                async def open_and_cancel(self: EngineChain, *arguments: Any, **options: Any) -> None:
                    await original(self, *arguments, **options)
                    deliver(here, caller, caller.cancel)
                    if not works:
                        raise MediaError("engine_timeout", "")

                monkeypatch.setattr(EngineChain, "open", open_and_cancel)
                caller.invite(body=here.caller_rtp.offer())
                await is_cancelled(here, caller)

    trio.run(main)
