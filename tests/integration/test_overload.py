"""A server whose loop is really late: what is refused, what goes on, and how soon it recovers."""

from __future__ import annotations

import time

import trio

from ims_as.sip.invite_session import Answered, Ended, Rejected
from ims_as.sip.message import Request
from tests.support.world import BOB, World, until, world

BLOCK_S = 0.03


async def keep_loop_busy() -> None:
    """Other work in the same process that leaves it little time."""
    while True:
        time.sleep(BLOCK_S)  # noqa: ASYNC251
        await trio.lowlevel.checkpoint()


async def until_overloaded(here: World) -> None:
    with trio.fail_after(10):
        while not here.app.context.admission.load.is_overloaded:
            await trio.sleep(0.01)


def refusals(here: World) -> int:
    return here.app.endpoint.counters.refusals["latency"]


def test_new_calls_are_refused_and_all_else_goes_on():
    async def main() -> None:
        async with world("limits.latency_target_ms=10") as here:
            early = here.call()
            await early.wait(Answered)
            async with trio.open_nursery() as load:
                load.start_soon(keep_loop_busy)
                await until_overloaded(here)
                accepted = []
                while not refusals(here):  # a few still get in
                    leg = here.call()
                    with trio.fail_after(5):
                        while not leg.events:
                            await trio.sleep(0.01)
                    if isinstance(leg.events[0], Answered):
                        accepted.append(leg)
                assert isinstance(leg.events[0], Rejected)
                response = leg.events[0].response
                assert response is not None
                assert response.status == 503
                assert response.headers.get("Retry-After") == "2"
                assert "latency" in (response.headers.get("Reason") or "")
                assert here.app.is_ready()[0]  # a monitor must not take us out of service for a moment's load
                assert (await here.request("OPTIONS")).status == 200

                here.answer_as_phone()
                emergency = here.call(to="urn:service:sos")
                await emergency.wait(Answered)
                emergency.session.bye()
                early.session.bye()
                await early.wait(Ended)
                load.cancel_scope.cancel()
            began = trio.current_time()
            await until(lambda: not here.app.context.admission.load.is_overloaded)
            late = here.call()
            await late.wait(Answered)
            assert trio.current_time() - began < 2.0
            for leg in (late, *accepted):
                leg.session.bye()
            metrics = here.app.metrics.render()[0].decode()
            assert 'ims_as_admission_rejected_total{reason="latency"}' in metrics
            assert 'ims_as_operator_events_total{id="OVERLOAD_STARTED"} 1.0' in metrics
            assert 'ims_as_operator_events_total{id="OVERLOAD_ENDED"} 1.0' in metrics

    trio.run(main)


def test_options_in_overload_as_configured():
    async def main() -> None:
        async with world("limits.latency_target_ms=10", "limits.options_in_overload=false") as here:
            assert (await here.request("OPTIONS")).status == 200
            async with trio.open_nursery() as load:
                load.start_soon(keep_loop_busy)
                await until_overloaded(here)
                assert (await here.request("OPTIONS")).status == 503
                load.cancel_scope.cancel()

    trio.run(main)


def test_refused_calls_leave_no_trace_and_no_transaction():
    async def main() -> None:
        async with world("limits.calls=1") as here:
            first = here.call()
            await first.wait(Answered)
            seen: list[Request] = []
            for _ in range(50):
                leg = here.call(to=BOB)
                assert (await leg.wait(Rejected)).status == 503
                seen.append(leg.session.request)
            assert here.app.endpoint.stats.server_transactions == 1  # the first call's INVITE
            assert not any(here.app.call(request.call_id) for request in seen)
            assert here.app.gate.refused == {"calls": 50}
            text = here.app.metrics.render()[0].decode()
            assert 'ims_as_sip_refused_total{reason="calls"} 50.0' in text
            assert 'ims_as_calls_total{reason="overload-calls",result="rejected"} 50.0' in text
            assert 'ims_as_operator_events_total{id="ADMISSION_REJECTED"} 1.0' in text
            first.session.bye()

    trio.run(main)
