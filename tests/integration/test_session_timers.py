"""Session timers through a real server: refreshed by us, ended when nobody does, refused when too short."""

from __future__ import annotations

import pytest
import trio

from ims_as.sip.invite_session import Answered, Ended, ReinviteReceived
from ims_as.sip.message import Request, build_response
from ims_as.sip.session_timer import SessionTimer
from ims_as.sip.transaction import ServerTransaction
from tests.support.raw_caller import RawCaller
from tests.support.world import until, world

TIMER = [("Supported", "timer"), ("Session-Expires", "100;refresher=uac")]


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals of 100 s that pass in 0.3 s."""
    monkeypatch.setattr(SessionTimer, "refresh_after_s", property(lambda timer: timer.interval_s / 700))
    monkeypatch.setattr(SessionTimer, "give_up_after_s", property(lambda timer: timer.interval_s / 330))


def test_a_caller_that_does_not_refresh_is_hung_up(short: None):
    async def main() -> None:
        async with world() as here:
            with RawCaller(here) as caller:
                caller.invite(body=here.caller_rtp.offer(), headers=TIMER)
                ok = await caller.response()
                assert ok.headers.get("Session-Expires") == "100;refresher=uac"
                caller.ack(ok)
                caller.respond(await caller.incoming("BYE"), 200)
                await here.until_idle()
                record = here.app.call(caller.call_id)
                assert record is not None
                assert record["termination"]["reason"] == "session-timer"

    trio.run(main)


def test_we_refresh_where_the_caller_wants_it(short: None):
    async def main() -> None:
        async with world() as here:
            with RawCaller(here) as caller:
                headers = [("Supported", "timer"), ("Session-Expires", "100;refresher=uas"), ("Allow", "UPDATE")]
                caller.invite(body=here.caller_rtp.offer(), headers=headers)
                ok = await caller.response()
                caller.ack(ok)
                for _ in range(2):
                    refresh = await caller.incoming("UPDATE")
                    assert (refresh.headers.get("Session-Expires") or "").startswith("100;refresher=uac")
                    assert refresh.body == b""
                    answer = [("Session-Expires", "100;refresher=uac"), ("Require", "timer")]
                    caller.respond(refresh, 200, headers=answer)
                await caller.hang_up()

    trio.run(main)


def test_too_short_an_interval_is_refused_before_any_work():
    async def main() -> None:
        async with world("sip.session_timer.min_se_s=600") as here:
            with RawCaller(here) as caller:
                caller.invite(body=here.caller_rtp.offer(), headers=TIMER)
                refused = await caller.response()
                assert (refused.status, refused.headers.get("Min-SE")) == (422, "600")
                caller.ack(refused)
                assert not here.engine.connections

    trio.run(main)


def test_a_human_whose_session_is_lost_ends_the_joined_call(short: None):
    async def main() -> None:
        async with world("sip.session_timer.expires_s=100", "sip.session_timer.refresher=they") as here:

            def answer_and_forget(request: Request, transaction: ServerTransaction) -> None:
                """A phone that agrees to refresh, and never does."""
                asked = request.headers.get("Session-Expires") or ""
                assert asked.startswith("100")
                headers = [("Contact", f"<sip:phone@{here.core_address}:5060>"), ("Require", "timer")]
                headers.append(("Session-Expires", "100;refresher=uas"))
                body = here.phone_rtp.offer()
                response = build_response(
                    request, 200, to_tag="phone", headers=headers, body=body, content_type="application/sdp"
                )
                here.core.send_response(transaction, response)

            here.phone = answer_and_forget
            leg = here.call()
            await leg.wait(Answered)
            await here.engine.wait("start")
            await here.engine.send(event="transfer", target="served-user")
            await leg.wait(ReinviteReceived)
            leg.session.accept_reinvite(here.caller_rtp.offer())
            await until(lambda: not here.ports_bound())
            assert (await leg.wait(Ended)).by == "remote"
            await here.until_idle()
            record = here.app.call(leg.session.request.call_id)
            assert record is not None
            assert record["termination"]["result"] == "transferred"
            assert record["termination"]["reason"] == "far-timeout"

    trio.run(main)
