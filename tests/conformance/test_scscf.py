"""The lab S-CSCF on loopback: each row of the default handling table, and the ways back on the ODI."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from ifc.model import (
    ApplicationServer,
    DefaultHandling,
    InitialFilterCriteria,
    ServicePointTrigger,
    SessionCase,
    SipHeaderCondition,
    TriggerPoint,
)
from ims_as.sip.errors import SipParseError
from ims_as.sip.message import Request, build_response
from ims_as.sip.session_events import Answered, Cancelled, Ended, Provisional, Rejected
from ims_as.sip.timers import TimerConfig
from tests.conformance.scscf_network import ALICE, ANSWER, BOB, CAROL, DOMAIN, Network, network

TERMINATED = DefaultHandling.SESSION_TERMINATED


def run_on_network(**options: Any) -> Callable[[Callable[[Network], Awaitable[None]]], Callable[[], None]]:
    def decorate(test: Callable[[Network], Awaitable[None]]) -> Callable[[], None]:
        async def main() -> None:
            async with network(**options) as net:
                await test(net)

        @functools.wraps(test)
        def wrapper() -> None:
            trio.run(main)

        del wrapper.__wrapped__  # pytest would take the scenario's parameter for a fixture
        return wrapper

    return decorate


def odi_of(request: Request) -> str:
    """The second Route value, checked."""
    own, odi = request.routes
    assert own.endswith(";lr>")
    assert odi.startswith("<sip:odi_")
    return odi


async def expect_phone(net: Network) -> Request:
    """The phone rings and answers, alice is connected, and the call can be ended through the S-CSCF."""
    request, session = await net.phone.answer()
    answered = await net.alice.next_event(Answered)
    assert answered.response.body == ANSWER
    await net.phone.events.receive()  # the ACK
    session.bye()
    ended = await net.alice.next_event(Ended)
    assert ended.by == "remote"
    assert net.scscf.open_invocations == 0
    return request


# ---------------------------------------------------------------- without an AS


@run_on_network()
async def test_no_criterion(net: Network) -> None:
    net.call()
    request = await expect_phone(net)
    assert request.uri == f"sip:bob@{net.phone.address}"
    assert request.routes == []
    assert request.headers.get("P-Called-Party-ID") == f"<{BOB}>"
    assert "P-Served-User" not in request.headers
    assert request.max_forwards == 69


@run_on_network()
async def test_unknown_and_unregistered(net: Network) -> None:
    net.call("sip:nobody@ims.example.net")
    assert (await net.alice.next_event(Rejected)).status == 404
    net.profiles[CAROL] = b""
    net.call(CAROL)
    assert (await net.alice.next_event(Rejected)).status == 480


@run_on_network()
async def test_unreadable_profile_counts_as_none(net: Network) -> None:
    net.profiles[BOB] = b"<nonsense/>"
    net.call()
    await expect_phone(net)
    assert "cannot be read" in net.decisions


@run_on_network()
async def test_max_forwards(net: Network) -> None:
    net.serve(BOB, net.criterion())
    net.call(max_forwards=0)
    assert (await net.alice.next_event(Rejected)).status == 483
    assert net.scscf.open_invocations == 0


# ---------------------------------------------------------------- the AS answers


@run_on_network()
async def test_as_answers(net: Network) -> None:
    net.serve(BOB, net.criterion())
    call = net.call()
    request, session = await net.server.answer()
    assert request.uri == BOB
    assert request.routes[0] == f"<sip:{net.server.address};lr>"
    odi_of(request)
    assert request.headers.get_all("P-Served-User") == [f"<{BOB}>;sescase=term;regstate=reg"]
    assert "icid-value=" in (request.headers.get("P-Charging-Vector") or "")
    assert request.record_routes == [f"<{net.scscf.uri};lr>"]
    await net.alice.next_event(Answered)
    await net.server.events.receive()
    # in the dialog both ways, through the S-CSCF
    call.bye()
    ended = await net.server.next_event(Ended)
    assert ended.by == "remote"
    assert len(ended.request.vias) == 2
    assert net.scscf.open_invocations == 0
    assert f"{net.server.address}: 200 OK, final" in net.decisions
    assert "SessionCase is TERMINATING_REGISTERED" in net.decisions
    assert session.is_terminated


@run_on_network()
async def test_charging_vector_is_kept(net: Network) -> None:
    net.serve(BOB, net.criterion())
    net.call(headers=[("P-Charging-Vector", "icid-value=x"), ("P-Served-User", "<sip:mallory@x>;sescase=orig")])
    request = await net.server.reject(486)
    assert request.headers.get_all("P-Charging-Vector") == ["icid-value=x"]
    assert request.headers.get_all("P-Served-User") == [f"<{BOB}>;sescase=term;regstate=reg"]


@run_on_network()
async def test_in_dialog_requests_of_nobody(net: Network) -> None:
    request = Request(
        "BYE",
        net.scscf.uri,
        [("From", f"<{ALICE}>;tag=1"), ("To", f"<{BOB}>;tag=2"), ("Call-ID", "x"), ("CSeq", "1 BYE")],
    )
    net.alice.send(request)
    assert (await net.alice.responses.receive()).status == 481


# ---------------------------------------------------------------- default handling


@pytest.mark.parametrize("status", [408, 500, 503, 504, 580])
@pytest.mark.parametrize("handling", [DefaultHandling.SESSION_CONTINUED, None])
def test_failure_continues(status: int, handling: DefaultHandling | None) -> None:
    @run_on_network()
    async def scenario(net: Network) -> None:
        net.serve(BOB, net.criterion(handling=handling))
        net.call()
        await net.server.reject(status)
        request = await expect_phone(net)
        # the request as it was before the AS
        assert request.routes == []
        assert request.record_routes == [f"<{net.scscf.uri};lr>"]

    scenario()


@pytest.mark.parametrize("status", [408, 503])
def test_failure_with_session_terminated(status: int) -> None:
    @run_on_network()
    async def scenario(net: Network) -> None:
        net.serve(BOB, net.criterion(handling=TERMINATED))
        net.call()
        await net.server.reject(status)
        assert (await net.alice.next_event(Rejected)).status == status
        assert net.phone.invites.statistics().current_buffer_used == 0
        assert net.scscf.open_invocations == 0

    scenario()


@pytest.mark.parametrize("status", [302, 403, 486, 488, 603])
def test_other_failures_end_the_call(status: int) -> None:
    @run_on_network()
    async def scenario(net: Network) -> None:
        net.serve(BOB, net.criterion())
        net.call()
        await net.server.reject(status)
        assert (await net.alice.next_event(Rejected)).status == status
        assert net.phone.invites.statistics().current_buffer_used == 0

    scenario()


@run_on_network()
async def test_silence_continues_after_the_guard(net: Network) -> None:
    net.serve(BOB, net.criterion())
    began = trio.current_time()
    net.call()
    _, session = await net.server.accept()
    await expect_phone(net)
    assert trio.current_time() - began >= 0.15
    # too late: it gets the CANCEL it was owed, and its answer reaches nobody
    session.provisional(180)
    await net.server.next_event(Cancelled)
    assert net.alice.events.statistics().current_buffer_used == 0
    assert "silent until the guard fired" in net.decisions


@run_on_network()
async def test_late_200_is_dropped(net: Network) -> None:
    net.serve(BOB, net.criterion())
    net.call()
    _, session = await net.server.accept()
    await net.phone.accept()
    session.answer(b"late")
    net.phone.ua.sessions[0].answer(ANSWER)
    assert (await net.alice.next_event(Answered)).response.body == ANSWER
    assert net.alice.events.statistics().current_buffer_used == 0


@run_on_network()
async def test_silence_with_session_terminated(net: Network) -> None:
    net.serve(BOB, net.criterion(handling=TERMINATED))
    net.call()
    await net.server.accept()
    assert (await net.alice.next_event(Rejected)).status == 408
    assert net.scscf.open_invocations == 0


@run_on_network(continued_s=0.1, terminated_s=60.0)
async def test_guard_depends_on_default_handling(net: Network) -> None:
    net.serve(BOB, net.criterion(handling=TERMINATED))
    net.call()
    _, session = await net.server.accept()
    assert "guard 60 s" in net.decisions
    session.reject(500)
    await net.alice.next_event(Rejected)
    net.serve(BOB, net.criterion())
    net.call()
    await expect_phone(net)


@run_on_network(timers=TimerConfig(t1=0.005, timer_c=0.4))
async def test_100_stops_the_guard(net: Network) -> None:
    net.serve(BOB, net.criterion())
    net.call()
    _, session = await net.server.accept()
    session.provisional(100)
    with trio.move_on_after(0.3) as scope:  # twice the guard
        await net.phone.invites.receive()
    assert scope.cancelled_caught
    # only timer C ends it: CANCEL, 487, and that counts as 408
    await net.server.next_event(Cancelled)
    await expect_phone(net)
    assert "timer C" in net.decisions


@run_on_network()
async def test_100_then_503_continues(net: Network) -> None:
    net.serve(BOB, net.criterion())
    net.call()
    _, session = await net.server.accept()
    session.provisional(100)
    session.reject(503)
    await expect_phone(net)


@run_on_network()
async def test_no_fallback_after_18x(net: Network) -> None:
    net.serve(BOB, net.criterion())
    net.call()
    _, session = await net.server.accept()
    session.provisional(180)
    assert (await net.alice.next_event(Provisional)).response.status == 180
    session.reject(503)
    assert (await net.alice.next_event(Rejected)).status == 503
    assert net.phone.invites.statistics().current_buffer_used == 0
    assert "after a provisional response: no default handling" in net.decisions


@run_on_network()
async def test_unreachable_as(net: Network) -> None:
    trigger_point = net.criterion().trigger_point
    for name in ("sip:as.invalid;transport=sctp", "sip:127.0.78.99:9;transport=tcp"):
        net.serve(BOB, InitialFilterCriteria(0, trigger_point, ApplicationServer(name)))
        net.call()
        await expect_phone(net)


@run_on_network()
async def test_next_criterion_gets_the_original_request(net: Network) -> None:
    net.serve(BOB, net.criterion(), net.criterion(net.second, priority=1, handling=TERMINATED))
    net.call()
    first = await net.server.reject(503)
    second = await net.second.reject(480)
    assert odi_of(first) != odi_of(second)
    assert second.routes[0] == f"<sip:{net.second.address};lr>"
    assert second.headers.get_all("P-Served-User") == [f"<{BOB}>;sescase=term;regstate=reg"]
    assert second.record_routes == first.record_routes
    assert (await net.alice.next_event(Rejected)).status == 480


@run_on_network()
async def test_unregistered_user_after_the_last_criterion(net: Network) -> None:
    del net.scscf.contacts[BOB]
    net.serve(BOB, net.criterion(case=SessionCase.TERMINATING_UNREGISTERED))
    net.call()
    request = await net.server.reject(503)
    assert request.headers.get("P-Served-User") == f"<{BOB}>;sescase=term;regstate=unreg"
    assert (await net.alice.next_event(Rejected)).status == 480


# ---------------------------------------------------------------- CANCEL


@run_on_network()
async def test_cancel_reaches_the_as(net: Network) -> None:
    net.serve(BOB, net.criterion())
    call = net.call()
    _, session = await net.server.accept()
    session.provisional(180)
    await net.alice.next_event(Provisional)
    call.cancel()
    await net.server.next_event(Cancelled)
    assert (await net.alice.next_event(Rejected)).status == 487
    assert net.scscf.open_invocations == 0


@run_on_network(continued_s=0.3)
async def test_cancel_while_the_as_is_silent(net: Network) -> None:
    net.serve(BOB, net.criterion())
    call = net.call()
    await net.server.accept()
    # the S-CSCF's own 100 lets alice cancel
    call.cancel()
    assert (await net.alice.next_event(Rejected)).status == 487
    assert net.phone.invites.statistics().current_buffer_used == 0


@run_on_network()
async def test_cancel_reaches_the_phone_after_fallback(net: Network) -> None:
    net.serve(BOB, net.criterion())
    call = net.call()
    await net.server.reject(503)
    _, session = await net.phone.accept()
    session.provisional(180)
    await net.alice.next_event(Provisional)
    call.cancel()
    await net.phone.next_event(Cancelled)
    assert (await net.alice.next_event(Rejected)).status == 487


# ---------------------------------------------------------------- back on the ODI


@run_on_network()
async def test_passed_on_by_a_proxy(net: Network) -> None:
    net.serve(BOB, net.criterion(handling=TERMINATED))
    net.call()
    request, transaction = await net.server.invites.receive()
    net.server.proxy.forward(
        request, transaction, pop_route=True, edit=lambda copy: copy.headers.add("X-Changed", "yes")
    )
    delivered = await expect_phone(net)
    assert delivered.headers.get("X-Changed") == "yes"
    assert delivered.record_routes == [f"<{net.scscf.uri};lr>"] * 2
    assert delivered.call_id == request.call_id
    assert "sent INVITE back on odi_" in net.decisions


@run_on_network()
async def test_changed_request_meets_the_next_criterion(net: Network) -> None:
    changed = TriggerPoint(True, (ServicePointTrigger(SipHeaderCondition("^X-Changed$", "^yes$")),))
    second = InitialFilterCriteria(1, changed, ApplicationServer(f"sip:{net.second.address}"))
    net.serve(BOB, net.criterion(), second)
    net.call()
    request, transaction = await net.server.invites.receive()
    net.server.proxy.forward(request, transaction, edit=lambda copy: copy.headers.add("X-Changed", "yes"))
    await net.second.reject(503)
    # what the second AS failed on is the first one's request, and that goes on
    delivered = await expect_phone(net)
    assert delivered.headers.get("X-Changed") == "yes"


@run_on_network()
async def test_b2bua(net: Network) -> None:
    net.serve(BOB, net.criterion())
    net.call()
    request, session = await net.server.accept()
    net.call(agent=net.server, route=[odi_of(request)])
    delivered, _ = await net.phone.answer()
    assert delivered.call_id != request.call_id
    await net.server.next_event(Answered)
    session.answer(ANSWER)
    assert (await net.alice.next_event(Answered)).response.body == ANSWER
    assert net.scscf.open_invocations == 0


@run_on_network()
async def test_no_fallback_after_the_odi_was_used(net: Network) -> None:
    net.serve(BOB, net.criterion())
    net.call()
    request, session = await net.server.accept()
    net.call(agent=net.server, route=[odi_of(request)])
    await net.phone.reject(486)
    await net.server.next_event(Rejected)
    session.reject(503)
    assert (await net.alice.next_event(Rejected)).status == 503
    assert net.phone.invites.statistics().current_buffer_used == 0
    assert "came back on the ODI: no default handling" in net.decisions


@run_on_network()
async def test_odi_is_dead_after_the_final_response(net: Network) -> None:
    net.serve(BOB, net.criterion())
    net.call()
    request, _ = await net.server.answer()
    await net.alice.next_event(Answered)
    await net.server.events.receive()
    net.call(agent=net.server, route=[odi_of(request)])
    again = await net.server.reject(486)
    assert odi_of(again) != odi_of(request)
    assert "is unknown or over: a new request" in net.decisions


@run_on_network()
async def test_unknown_odi(net: Network) -> None:
    net.serve(BOB, net.criterion())
    net.call(route=[net.scscf.uri.replace("sip:", "<sip:odi_nonsense@") + ";lr>"])
    await net.server.reject(503)
    await expect_phone(net)


@run_on_network()
async def test_retargeted_by_the_as(net: Network) -> None:
    net.profiles[CAROL] = b""
    net.scscf.contacts[CAROL] = f"sip:carol@{net.second.address}"
    net.serve(BOB, net.criterion(), net.criterion(net.phone, priority=9, case=SessionCase.ORIGINATING_CDIV))
    net.call()
    request, transaction = await net.server.invites.receive()
    net.server.proxy.forward(request, transaction, uri=CAROL)
    diverted, transaction = await net.phone.invites.receive()
    assert diverted.headers.get("P-Served-User") == f"<{BOB}>;orig-cdiv"
    net.phone.proxy.forward(diverted, transaction)
    delivered, _ = await net.second.answer()
    assert delivered.uri == f"sip:carol@{net.second.address}"
    await net.alice.next_event(Answered)


# ---------------------------------------------------------------- originating


@pytest.mark.parametrize("by", ["parameter", "contact"])
def test_originating_then_terminating(by: str) -> None:
    @run_on_network()
    async def scenario(net: Network) -> None:
        net.serve(ALICE, net.criterion(case=SessionCase.ORIGINATING_REGISTERED))
        net.serve(BOB, net.criterion(net.second))
        net.scscf.contacts[ALICE] = f"sip:alice@{net.alice.address if by == 'contact' else '127.0.78.99:5060'}"
        net.call(route=[f"<{net.scscf.uri};lr{';orig' if by == 'parameter' else ''}>"])
        request, transaction = await net.server.invites.receive()
        assert request.headers.get("P-Served-User") == f"<{ALICE}>;sescase=orig;regstate=reg"
        net.server.proxy.forward(request, transaction)
        request = await net.second.reject(503)
        assert request.headers.get("P-Served-User") == f"<{BOB}>;sescase=term;regstate=reg"
        await expect_phone(net)

    scenario()


@run_on_network()
async def test_terminating_only_for_a_request_of_an_as(net: Network) -> None:
    net.serve(ALICE, net.criterion(case=None))
    net.scscf.contacts[ALICE] = "sip:alice@127.0.78.99:5060"
    net.call(agent=net.server)
    await net.phone.reject(486)
    await net.server.next_event(Rejected)


# ---------------------------------------------------------------- REGISTER


def register(net: Network, *headers: tuple[str, str]) -> Request:
    items = [
        ("Route", f"<{net.scscf.uri};lr>"),
        ("Max-Forwards", "70"),
        ("From", f"<{ALICE}>;tag=1"),
        ("To", f"<{ALICE}>"),
        ("Call-ID", net.alice.endpoint.new_call_id()),
        ("CSeq", "1 REGISTER"),
        *headers,
    ]
    return Request("REGISTER", f"sip:{DOMAIN}", items)


@run_on_network()
async def test_register_and_third_party_register(net: Network) -> None:
    net.serve(
        ALICE,
        net.criterion(
            case=None,
            method="REGISTER",
            service_info="a & b",
            include_register_request=True,
            include_register_response=True,
        ),
    )
    net.alice.send(register(net, ("Contact", f"<sip:alice@{net.alice.address}>"), ("Expires", "600")))
    response = await net.alice.responses.receive()
    assert response.status == 200
    assert response.headers.get("Service-Route") == f"<{net.scscf.uri};lr;orig>"
    assert net.scscf.contacts[ALICE] == f"sip:alice@{net.alice.address}"
    request, _ = await net.server.requests.receive()
    assert request.to.uri_text == ALICE
    assert request.from_.uri_text == net.scscf.uri
    assert request.expires == 600
    assert request.content_type == "multipart/mixed"
    assert b"<service-info>a &amp; b</service-info>" in request.body
    assert b"REGISTER sip:ims.example.net SIP/2.0" in request.body
    assert b"SIP/2.0 200 OK" in request.body
    net.alice.send(register(net, ("Contact", "*"), ("Expires", "0")))
    assert (await net.alice.responses.receive()).status == 200
    request, _ = await net.server.requests.receive()
    assert request.expires == 0
    assert ALICE not in net.scscf.contacts


@run_on_network()
async def test_third_party_register_alone(net: Network) -> None:
    net.serve(BOB, net.criterion(case=None, method="REGISTER"), net.criterion(priority=1))
    assert net.scscf.register(BOB, contact="sip:bob@127.0.78.50") == 1
    request, _ = await net.server.requests.receive()
    assert request.body == b""
    assert net.scscf.contacts[BOB] == "sip:bob@127.0.78.50"
    assert net.scscf.register(BOB, expires_s=0) == 1
    assert BOB not in net.scscf.contacts
    assert net.scscf.register("sip:nobody@x") == 0


@run_on_network()
async def test_failed_third_party_register_de_registers(net: Network) -> None:
    net.serve(BOB, net.criterion(case=None, method="REGISTER", handling=TERMINATED))
    net.scscf.register(BOB)
    request, transaction = await net.server.requests.receive()
    net.server.endpoint.send_response(transaction, build_response(request, 500))
    while BOB in net.scscf.contacts:
        await trio.lowlevel.checkpoint()
    assert "de-registered" in net.decisions


@run_on_network()
async def test_bad_register(net: Network) -> None:
    net.alice.send(register(net, ("Contact", "<sip:a>"), ("Expires", "soon")))
    assert (await net.alice.responses.receive()).status == 400
    with pytest.raises(SipParseError):
        _ = register(net, ("Expires", "soon")).expires


@run_on_network()
async def test_options(net: Network) -> None:
    request = Request(
        "OPTIONS",
        net.scscf.uri,
        [("From", f"<{ALICE}>;tag=1"), ("To", f"<{BOB}>"), ("Call-ID", "x"), ("CSeq", "1 OPTIONS")],
    )
    net.alice.send(request)
    assert (await net.alice.responses.receive()).status == 200
