"""Whole calls between two user agents on a fake network, with time that the test moves."""

from __future__ import annotations

import pytest

from ims_as.sip.errors import LocalProtocolError
from ims_as.sip.flow import Flow
from ims_as.sip.invite_session import (
    Acked,
    Ended,
    InviteSession,
    Provisional,
    ReinviteAnswered,
    ReinviteReceived,
    ReinviteRejected,
    Rejected,
    RequestReceived,
    SessionEvent,
    SessionState,
)
from ims_as.sip.message import Request, Response, build_response
from ims_as.sip.parser import parse_message_untrusted
from tests.support.link import LinkNetwork, bad_link, link_pair
from tests.support.sip_agents import OFFER, RecordingAgent
from tests.support.sip_call import ANSWER, Call, answer, on, ring

# ---------------------------------------------------------------- set-up and end


def test_call_and_bye_by_the_caller() -> None:
    call = Call().run(1)
    assert call.caller.state is SessionState.CONFIRMED
    assert call.callee.state is SessionState.CONFIRMED
    assert (call.caller.remote_body, call.caller.local_body) == (ANSWER, OFFER)
    assert (call.callee.remote_body, call.callee.local_body) == (OFFER, ANSWER)
    call.caller.bye(headers=[("Reason", "Q.850;cause=16")])
    assert call.caller.is_terminated
    call.run(1)
    assert call.messages == ["INVITE", "200 INVITE", "ACK", "BYE", "200 BYE"]
    assert call.alice.names() == ["Answered", "Ended"]
    assert call.bob.names() == ["Acked", "Ended"]
    end = call.bob.last()
    assert isinstance(end, Ended)
    assert (end.by, end.reason) == ("remote", "Q.850;cause=16")
    call.finish()


def test_bye_by_the_callee() -> None:
    call = Call().run(1)
    call.callee.bye()
    call.run(1)
    end = call.alice.last()
    assert isinstance(end, Ended)
    assert end.by == "remote"
    assert end.request is not None
    call.finish()


def test_ringing_then_answer() -> None:
    call = Call(ring).run(1)
    assert call.caller.state is SessionState.EARLY
    assert isinstance(call.alice.last(), Provisional)
    call.callee.answer(ANSWER, headers=[("P-Charging-Vector", "icid-value=1")])
    call.run(1)
    assert call.alice.names() == ["Provisional", "Answered"]
    call.caller.bye()
    call.finish()


def test_no_100_below_200_ms_and_one_above() -> None:
    call = Call(lambda agent, session: None).run(0.19)
    assert call.messages == ["INVITE"]
    call.run(0.1)
    assert call.messages == ["INVITE", "100 INVITE"]
    call.callee.answer(ANSWER)
    call.run(1)
    call.caller.bye()
    call.finish()


def test_rejected() -> None:
    call = Call(lambda agent, session: session.reject(503, headers=[("Reason", "SIP;cause=503")]) and None).run(1)
    end = call.alice.last()
    assert isinstance(end, Rejected)
    assert end.status == 503
    assert end.response is not None
    assert end.response.headers.get("Reason") == "SIP;cause=503"
    assert call.bob.last() == Ended("local", None, "rejected 503")
    call.finish()


def test_nobody_there() -> None:
    network = LinkNetwork()
    alice = RecordingAgent(network.add("10.0.0.1"))
    alice.call("sip:bob@10.0.0.99")
    network.run(32.1)
    assert alice.last() == Rejected(408, None)
    network.assert_clean()


def test_no_way_to_send() -> None:
    network = LinkNetwork()
    alice = RecordingAgent(network.add("10.0.0.1"))
    alice.call("tel:+15550100")
    assert alice.names() == []
    network.run(0)
    assert alice.last() == Rejected(503, None)
    network.assert_clean()


def test_header_that_cannot_be_written_leaves_nothing() -> None:
    network = LinkNetwork()
    alice = RecordingAgent(network.add("10.0.0.1"))
    with pytest.raises(LocalProtocolError):
        alice.call(headers=[("Subject", "a\r\nVia: x")])
    network.assert_clean()


# ---------------------------------------------------------------- 2xx and ACK


def test_200_is_retransmitted_until_the_ack() -> None:
    call = Call()
    call.drop("ACK", until=call.network.clock() + 3)
    call.run(2)
    assert call.callee.state is SessionState.ANSWERED
    assert call.messages.count("200 INVITE") == 3
    assert call.messages.count("ACK") == 3
    call.run(8)
    assert call.callee.state is SessionState.CONFIRMED
    assert call.messages.count("200 INVITE") == 4
    assert call.alice.names() == ["Answered"]
    assert call.bob.names() == ["Acked"]
    call.caller.bye()
    call.finish()


def test_call_without_ack_is_hung_up() -> None:
    call = Call()
    call.drop("ACK")
    call.run(31.9)
    assert call.callee.state is SessionState.ANSWERED
    call.run(1)
    assert call.bob.last() == Ended("timeout", None, "no ACK")
    times = [when - 1000.001 for when, source, _, data in call.network.sent if data.startswith(b"SIP/2.0 200")]
    assert times[:10] == pytest.approx([0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5])
    assert isinstance(call.alice.last(), Ended)
    call.finish()


def test_bye_before_the_ack_waits_for_it() -> None:
    """§15: the callee must not send BYE before the ACK."""
    call = Call()
    call.drop("ACK", until=call.network.clock() + 1)
    call.run(0.2)
    call.callee.bye()
    assert call.bob.last() == Ended("local", None, "bye")
    assert "BYE" not in call.messages
    call.run(2)
    assert call.messages[-2:] == ["BYE", "200 BYE"]
    call.finish()


def test_bye_that_waits_for_an_ack_that_never_comes() -> None:
    call = Call()
    call.drop("ACK")
    call.run(0.2)
    call.callee.bye()
    call.run(33)
    assert call.messages.count("BYE") == 1
    call.finish()


def test_bye_of_the_caller_ends_the_wait_for_the_ack() -> None:
    call = Call()
    call.drop("ACK")
    call.run(0.2)
    call.callee.bye()
    call.caller.bye()
    call.run(1)
    n_sent = len(call.messages)
    call.run(20)
    assert len(call.messages) == n_sent
    call.finish()


def test_bye_crossing() -> None:
    call = Call().run(1)
    call.caller.bye()
    call.callee.bye()
    call.run(1)
    assert call.messages.count("200 BYE") == 2
    call.finish()


def test_bye_that_nobody_answers() -> None:
    call = Call().run(1)
    call.drop("BYE")
    call.caller.bye()
    call.run(40)
    assert call.alice.endpoint.stats.dialogs == 0
    call.callee.bye()
    call.finish()


# ---------------------------------------------------------------- CANCEL


def test_cancel_while_ringing() -> None:
    call = Call(ring).run(1)
    call.caller.cancel(headers=[("Reason", "SIP;cause=200")])
    call.run(1)
    assert call.messages[2:] == ["CANCEL", "200 CANCEL", "487 INVITE", "ACK"]
    end = call.alice.last()
    assert isinstance(end, Rejected)
    assert end.status == 487
    assert call.bob.names() == ["Cancelled"]
    call.finish()


def test_cancel_before_any_provisional_is_held() -> None:
    call = Call(lambda agent, session: None)
    call.caller.cancel()
    call.run(0.1)
    assert call.messages == ["INVITE"]
    call.run(1)
    assert call.messages[:3] == ["INVITE", "100 INVITE", "CANCEL"]
    call.finish()


def test_answer_crosses_cancel() -> None:
    """A 2xx that comes to a cancelled INVITE: ACK, then BYE."""
    call = Call(ring).run(1)
    call.callee.answer(ANSWER)
    call.caller.cancel()
    call.run(1)
    assert call.alice.last() == Rejected(487, None)
    assert "Answered" not in call.alice.names()
    assert call.messages.count("BYE") == 1
    call.finish()


def test_cancelled_call_whose_200_is_repeated_is_hung_up_once() -> None:
    call = Call(ring).run(1)
    call.drop("ACK", until=call.network.clock() + 2)
    call.callee.answer(ANSWER)
    call.caller.cancel()
    call.run(10)
    assert call.messages.count("BYE") == 1
    call.finish()


def test_bye_on_an_unanswered_call() -> None:
    call = Call(ring).run(1)
    call.caller.bye()
    call.run(1)
    assert "CANCEL" in call.messages
    call.finish()
    call = Call(ring).run(1)
    call.callee.bye()
    call.run(1)
    end = call.alice.last()
    assert isinstance(end, Rejected)
    assert end.status == 480
    call.finish()


def test_caller_sends_bye_in_an_early_dialog() -> None:
    call = Call(ring).run(1)
    assert call.caller.dialog is not None
    bye = call.caller.dialog.build_request("BYE")
    call.alice.endpoint.send_request(bye, on_event=lambda event: None)
    call.run(1)
    assert call.messages[2:4] == ["BYE", "200 BYE"]
    end = call.alice.last()
    assert isinstance(end, Rejected)
    assert end.status == 487
    call.finish()


def test_never_answered_call_is_given_up() -> None:
    call = Call(ring)
    call.run(301)
    call.finish()
    assert isinstance(call.alice.last(), Rejected)


def test_two_callees_answer() -> None:
    """A fork behind a proxy: the second dialog is ACKed and hung up (§13.2.2.4)."""
    call = Call().run(1)
    request = call.caller.request
    other = build_response(
        request, 200, to_tag="second", headers=[("Contact", "<sip:carol@10.0.0.3>")], body=ANSWER
    ).to_bytes()
    flow = Flow("UDP", ("10.0.0.1", 5060), ("10.0.0.2", 5060))
    for _ in range(2):
        call.alice.endpoint.receive_datagram_untrusted(other, flow)
    to_carol = [parse_message_untrusted(data) for _, _, target, data in call.network.sent if target[0] == "10.0.0.3"]
    assert [message.method for message in to_carol if isinstance(message, Request)] == ["ACK", "BYE", "ACK"]
    assert {message.to_tag for message in to_carol} == {"second"}
    assert call.caller.state is SessionState.CONFIRMED
    call.caller.bye()
    call.finish()


# ---------------------------------------------------------------- re-INVITE


def test_reinvite_both_ways() -> None:
    call = Call().run(1)
    on(call.bob, ReinviteReceived, lambda session, event: session.accept_reinvite(b"bob 2"))
    on(call.alice, ReinviteReceived, lambda session, event: session.accept_reinvite(b"alice 3"))
    call.caller.reinvite(b"alice 2")
    call.run(1)
    assert (call.caller.local_body, call.caller.remote_body) == (b"alice 2", b"bob 2")
    assert (call.callee.local_body, call.callee.remote_body) == (b"bob 2", b"alice 2")
    call.callee.reinvite(b"bob 3")
    call.run(1)
    assert (call.caller.local_body, call.caller.remote_body) == (b"alice 3", b"bob 3")
    assert call.alice.names() == ["Answered", "ReinviteAnswered", "ReinviteReceived", "Acked"]
    call.callee.bye()
    call.finish()


def test_reinvite_that_is_refused_changes_nothing() -> None:
    call = Call().run(1)
    on(call.bob, ReinviteReceived, lambda session, event: session.reject_reinvite(488))
    call.caller.reinvite(b"new")
    call.run(1)
    end = call.alice.last()
    assert isinstance(end, ReinviteRejected)
    assert end.status == 488
    assert call.caller.local_body == OFFER
    assert call.caller.state is SessionState.CONFIRMED
    call.caller.bye()
    call.finish()


def test_only_one_reinvite_at_a_time() -> None:
    call = Call()
    with pytest.raises(LocalProtocolError):
        call.caller.reinvite(b"too early")
    call.run(1)
    call.caller.reinvite(b"one")
    with pytest.raises(LocalProtocolError):
        call.caller.reinvite(b"two")
    call.run(1)
    with pytest.raises(LocalProtocolError):
        call.callee.reinvite(b"theirs is pending")
    call.caller.bye()
    with pytest.raises(LocalProtocolError):
        call.caller.reinvite(b"too late")
    call.finish()


def test_glare_is_settled_inside() -> None:
    call = Call().run(1)
    on(call.bob, ReinviteReceived, lambda session, event: session.accept_reinvite(b"bob a"))
    on(call.alice, ReinviteReceived, lambda session, event: session.accept_reinvite(b"alice a"))
    call.caller.reinvite(b"alice o")
    call.callee.reinvite(b"bob o")
    call.run(0.01)
    assert call.messages.count("491 INVITE") == 2
    call.run(10)
    for agent in (call.alice, call.bob):
        assert agent.names().count("ReinviteAnswered") == 1
        assert agent.names().count("ReinviteRejected") == 0
    call.caller.bye()
    call.finish()


def test_endless_491_is_told() -> None:
    call = Call().run(1)
    on(call.bob, ReinviteReceived, lambda session, event: session.reject_reinvite(491))
    call.caller.reinvite(b"new")
    call.run(30)
    end = call.alice.last()
    assert isinstance(end, ReinviteRejected)
    assert end.status == 491
    call.caller.bye()
    call.finish()


@pytest.mark.parametrize("status", [408, 481])
def test_reinvite_to_a_dialog_that_is_gone_ends_it(status: int) -> None:
    call = Call().run(1)
    on(call.bob, ReinviteReceived, lambda session, event: session.reject_reinvite(status))
    call.caller.reinvite(b"new")
    call.run(1)
    assert call.alice.names()[-2:] == ["ReinviteRejected", "Ended"]
    end = call.alice.last()
    assert isinstance(end, Ended)
    assert end.by == "failure"
    assert "BYE" in call.messages
    call.finish()


def test_reinvite_that_nobody_answers_ends_the_dialog() -> None:
    call = Call().run(1)
    call.drop("INVITE", "BYE")
    call.caller.reinvite(b"new")
    call.run(70)
    assert call.alice.names()[-2:] == ["ReinviteRejected", "Ended"]
    call.callee.bye()
    call.finish()


def test_reinvite_that_stays_open_is_cancelled() -> None:
    call = Call().run(1)
    call.caller.reinvite(b"new")
    call.run(61)
    assert "CANCEL" in call.messages
    end = call.alice.last()
    assert isinstance(end, ReinviteRejected)
    assert end.status == 487
    assert not call.callee.accept_reinvite(b"too late")
    call.caller.bye()
    call.finish()


def test_bye_during_a_reinvite() -> None:
    call = Call().run(1)
    call.caller.reinvite(b"new")
    call.run(0.1)
    call.callee.bye()
    call.run(1)
    assert not call.callee.reject_reinvite(500)
    call.finish()


def test_bye_right_after_accepting_a_reinvite() -> None:
    call = Call().run(1)
    call.drop("ACK")
    call.caller.reinvite(b"new")
    call.run(0.1)
    call.callee.accept_reinvite(b"fine")
    call.callee.bye()
    call.run(40)
    assert call.messages.count("BYE") == 1
    call.finish()


def test_reinvite_while_one_is_unanswered_is_500() -> None:
    call = Call().run(1)
    call.caller.reinvite(b"one")
    call.run(0.1)
    responses: list[object] = []
    assert call.caller.dialog is not None
    second = call.caller.dialog.build_request("INVITE", body=b"two", headers=[("Contact", call.caller.contact)])
    call.alice.endpoint.send_request(second, on_event=lambda event: responses.append(event.response.status))  # type: ignore[union-attr]
    call.run(1)
    assert responses == [500]
    call.callee.accept_reinvite(ANSWER)
    call.run(1)
    call.caller.bye()
    call.finish()


def test_target_refresh_moves_the_next_request() -> None:
    call = Call().run(1)
    on(call.bob, ReinviteReceived, lambda session, event: session.accept_reinvite(b"ok"))
    call.caller.contact = "<sip:alice@10.0.0.1:5060;moved=1>"
    call.caller.reinvite(b"new")
    call.run(1)
    call.callee.bye()
    assert call.network.sent[-1][3].startswith(b"BYE sip:alice@10.0.0.1:5060;moved=1 ")
    call.finish()


# ---------------------------------------------------------------- other requests


def request_in(call: Call, method: str, **changes: str) -> int:
    """Send a request inside the caller's dialog; the status of its final response."""
    assert call.caller.dialog is not None
    request = call.caller.dialog.build_request(method)
    for name, value in changes.items():
        request.headers.set(name, value)
    statuses: list[int] = []
    call.alice.endpoint.send_request(request, on_event=lambda event: statuses.append(event.response.status))  # type: ignore[union-attr]
    call.run(0.5)
    return statuses[-1]


def test_default_answers() -> None:
    call = Call().run(1)
    assert request_in(call, "INFO") == 200
    assert request_in(call, "OPTIONS") == 200
    assert request_in(call, "REFER") == 405
    call.caller.bye()
    call.finish()


def test_info_may_be_answered_by_the_user() -> None:
    call = Call().run(1)

    def refuse(session: InviteSession, event: SessionEvent) -> None:
        assert isinstance(event, RequestReceived)
        session.respond(event, 469)

    call.bob.handlers[RequestReceived] = refuse
    statuses: list[int] = []
    call.caller.send_request("INFO", on_event=lambda event: statuses.append(event.response.status))  # type: ignore[union-attr]
    call.run(0.5)
    assert statuses == [469]
    with pytest.raises(LocalProtocolError):
        call.caller.send_request("BYE")
    call.caller.bye()
    call.finish()


def test_old_cseq_is_500() -> None:
    call = Call().run(1)
    assert request_in(call, "INFO", CSeq="9 INFO") == 200
    assert request_in(call, "INFO", CSeq="8 INFO") == 500
    assert request_in(call, "BYE", CSeq="10 BYE") == 200
    call.caller.bye()
    call.finish()


def test_wrong_tags_are_481() -> None:
    call = Call().run(1)
    assert request_in(call, "INFO", To="<sip:bob@10.0.0.2>;tag=nobody") == 481
    assert request_in(call, "INVITE", To="<sip:bob@10.0.0.2>;tag=nobody") == 481
    assert request_in(call, "BYE", From="<sip:alice@10.0.0.1>;tag=stranger") == 481
    assert call.callee.state is SessionState.CONFIRMED
    call.caller.bye()
    call.finish()


def test_calls_on_an_ended_session_do_nothing() -> None:
    call = Call().run(1)
    call.caller.bye()
    call.run(1)
    for session in (call.caller, call.callee):
        session.bye()
        session.cancel()
        assert not session.provisional(180)
        assert not session.answer(ANSWER)
        assert not session.reject(486)
        assert not session.accept_reinvite(ANSWER)
    call.finish()


# ---------------------------------------------------------------- a bad network, many calls


@pytest.mark.parametrize("seed", range(12))
def test_calls_over_a_bad_network_end_and_leave_nothing(seed: int) -> None:
    network, a, b = link_pair(bad_link(seed))
    alice = RecordingAgent(a)
    bob = RecordingAgent(b, lambda agent, session: session.provisional(180) and session.answer(ANSWER) and None)
    on(bob, ReinviteReceived, lambda session, event: session.accept_reinvite(ANSWER))
    on(alice, ReinviteReceived, lambda session, event: session.accept_reinvite(OFFER))
    calls = [alice.call() for _ in range(10)]
    network.run(20)
    for number, session in enumerate(calls):
        if session.state is SessionState.CONFIRMED and number % 2:
            session.reinvite(OFFER)
    for number, session in enumerate(bob.sessions):
        if session.state is SessionState.CONFIRMED and not number % 3:
            session.reinvite(ANSWER)
    network.run(40)
    for number, session in enumerate(calls):
        if number % 2:
            session.bye()
    for session in bob.sessions:
        session.bye()
    network.run(400)
    alice.assert_one_end()
    bob.assert_one_end()
    network.assert_clean()
    assert sum("Answered" in alice.names(session) for session in calls) >= 8


@pytest.mark.parametrize("seed", range(6))
def test_cancels_over_a_bad_network(seed: int) -> None:
    network, a, b = link_pair(bad_link(100 + seed))
    alice = RecordingAgent(a)
    bob = RecordingAgent(b, ring)
    calls = [alice.call() for _ in range(10)]
    network.run(seed * 0.3)
    for number, session in enumerate(list(bob.sessions)):
        if number % 2:
            session.answer(ANSWER)
    for session in calls:
        session.cancel()
    network.run(100)
    for session in bob.sessions:
        session.bye()
    network.run(400)
    alice.assert_one_end()
    bob.assert_one_end()
    network.assert_clean()


def test_two_hundred_calls_leave_nothing() -> None:
    network, a, b = link_pair()
    alice = RecordingAgent(a)
    bob = RecordingAgent(b, answer)
    for _ in range(200):
        session = alice.call()
        network.run(0.05)
        session.bye()
        network.run(0.05)
    network.run(40)
    alice.assert_one_end()
    bob.assert_one_end()
    network.assert_clean()
    assert a.next_deadline() is None
    assert b.next_deadline() is None


def test_events_are_what_they_say() -> None:
    call = Call().run(1)
    (acked,) = call.bob.events[call.callee]
    assert isinstance(acked, Acked)
    assert acked.request.method == "ACK"
    on(call.bob, ReinviteReceived, lambda session, event: session.accept_reinvite(b"x"))
    call.caller.reinvite(b"y")
    call.run(1)
    event = call.alice.last()
    assert isinstance(event, ReinviteAnswered)
    assert isinstance(event.response, Response)
    call.caller.bye()
    call.finish()
