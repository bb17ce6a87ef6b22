"""A server whose loop is really late: what is refused, what goes on, and how soon it recovers."""

from __future__ import annotations

import socket
import time

import trio

from ims_as.defence.oc import OverloadControl
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


def test_limits_of_a_peer_and_of_its_network():
    async def main() -> None:
        limits = "limits.per_peer={requests_per_second: 0.01, burst_s: 300}"  # three at once
        async with world(limits) as here:
            assert [(await here.request("OPTIONS")).status for _ in range(4)] == [200, 200, 200, 503]
            text = here.app.metrics.render()[0].decode()
            assert 'ims_as_sip_refused_total{reason="peer-requests"} 1.0' in text
            here.overrides = (limits, 'limits.per_network=[{network: "127.0.0.0/8", calls_per_second: 0.01}]')
            await here.app.reload()
            assert (await here.request("OPTIONS")).status == 200
            first = here.call()
            await first.wait(Answered)
            second = here.call()
            assert (await second.wait(Rejected)).status == 503
            first.session.bye()
            await here.until_idle()
            here.overrides = ("limits.per_peer={messages_per_second: 0.001}",)
            await here.app.reload()
            assert (await here.request("OPTIONS")).status == 200
            here.core.send_request(here.options(), on_event=lambda _: None)
            await until(lambda: here.app.endpoint.counters.refusals["flood"])

    trio.run(main)


def test_only_the_hop_of_a_call_may_end_it_where_that_is_asked():
    async def main() -> None:
        async with world("sip.strict_source=true") as here:
            leg = here.call()
            await leg.wait(Answered)
            dialog = leg.session.dialog
            assert dialog is not None
            bye = dialog.build_request("BYE")
            bye.headers.prepend("Via", f"SIP/2.0/UDP {here.prefix}.66:5060;branch=z9hG4bK-spoofed;rport")
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
                other.bind((f"{here.prefix}.66", 5060))
                other.setblocking(False)
                other.sendto(bye.to_bytes(), (here.as_address, 5060))
                with trio.fail_after(5):
                    await trio.lowlevel.wait_readable(other)
                assert other.recv(2000).startswith(b"SIP/2.0 481 ")
            assert here.app.endpoint.counters.refusals["in-dialog request from elsewhere"] == 1
            leg.session.bye()
            await leg.wait(Ended)

    trio.run(main)


def test_a_peer_that_can_throttle_is_told_how_much_in_each_response():
    async def main() -> None:
        async with world("limits.latency_target_ms=10") as here:
            here.core.overload_control = OverloadControl(is_exempt=lambda _: False)
            told: list[str | None] = []
            async with trio.open_nursery() as load:
                load.start_soon(keep_loop_busy)
                await until_overloaded(here)
                with trio.fail_after(10):
                    while not (told and told[-1]):
                        leg = here.call()
                        while not leg.events:
                            await trio.sleep(0.01)
                        event = leg.events[0]
                        if isinstance(event, Rejected) and event.response is not None:
                            told.append(event.response.via.param("oc"))
                            assert "Retry-After" not in event.response.headers
                        elif isinstance(event, Answered):
                            leg.session.bye()
                load.cancel_scope.cancel()
            assert 0 < int(told[-1] or 0) <= 95
            await until(lambda: not here.app.context.admission.load.is_overloaded)

    trio.run(main)
