"""Reliable provisional responses (RFC 3262) and delayed offers, both sides."""

from __future__ import annotations

from typing import Any

import pytest

from ims_as.sip.caller import MAX_RELIABLE
from ims_as.sip.errors import LocalProtocolError
from ims_as.sip.flow import Flow
from ims_as.sip.invite_session import (
    Acked,
    Answered,
    Cancelled,
    Ended,
    InviteSession,
    Pracked,
    Provisional,
    ReinviteAnswered,
    ReinviteReceived,
    Rejected,
    SessionState,
    UpdateReceived,
)
from ims_as.sip.message import Request, Response, build_response
from ims_as.sip.reliable import read_rseq
from tests.support.sip_agents import OFFER, RecordingAgent
from tests.support.sip_call import ANSWER, Call, answer, on

NO_RELIABLE: dict[str, Any] = {"supported": ()}


def progress(agent: RecordingAgent, session: InviteSession) -> None:
    session.provisional(183, body=ANSWER)


def event_of(agent: RecordingAgent, kind: type[Any], session: InviteSession | None = None) -> Any:
    """The only event of that kind."""
    events = agent.events[agent.sessions[-1] if session is None else session]
    (found,) = [event for event in events if isinstance(event, kind)]
    return found


# ---------------------------------------------------------------- the plain way


def test_183_with_a_description_is_reliable_where_the_caller_supports_it() -> None:
    call = Call(progress).run(1)
    assert call.messages == ["INVITE", "183 INVITE", "PRACK", "200 PRACK"]
    (response,) = call.wire("183 INVITE")
    assert response.headers.get("Require") == "100rel"
    rseq = int(response.headers.get("RSeq") or 0)
    assert 0 < rseq < 2**31
    (prack,) = call.wire("PRACK")
    assert prack.headers.get("RAck") == f"{rseq} 1 INVITE"
    assert str(prack.cseq) == "2 PRACK"
    assert (call.caller.local_body, call.caller.remote_body) == (OFFER, ANSWER)
    assert (call.callee.local_body, call.callee.remote_body) == (ANSWER, OFFER)
    event = call.alice.last()
    assert isinstance(event, Provisional)
    assert (event.is_reliable, event.needs_prack, event.body) == (True, False, ANSWER)
    assert event.to_tag == call.callee.key[1]
    assert event_of(call.bob, Pracked).body == b""
    call.callee.answer(ANSWER)
    call.run(1)
    (ok,) = call.wire("200 INVITE")
    assert ok.body == b""  # the answer was given reliably
    assert call.caller.state is SessionState.CONFIRMED
    assert (call.caller.local_body, call.caller.remote_body) == (OFFER, ANSWER)
    call.caller.bye()
    call.run(1)
    (bye,) = call.wire("BYE")
    assert str(bye.cseq) == "3 BYE"
    call.finish()


@pytest.mark.parametrize(
    ("alice", "bob"), [(NO_RELIABLE, {}), ({}, NO_RELIABLE), (NO_RELIABLE, NO_RELIABLE)], ids=["a", "b", "both"]
)
def test_nothing_is_reliable_where_one_side_does_not_support_it(alice: dict[str, Any], bob: dict[str, Any]) -> None:
    call = Call(progress, alice=alice, bob=bob).run(1)
    call.callee.answer(ANSWER)
    call.run(1)
    assert call.messages == ["INVITE", "183 INVITE", "200 INVITE", "ACK"]
    (response,) = call.wire("183 INVITE")
    assert "RSeq" not in response.headers
    assert response.body == ANSWER
    assert call.wire("200 INVITE")[0].body == ANSWER
    assert call.alice.names() == ["Provisional", "Answered"]
    call.caller.bye()
    call.finish()


def test_180_without_a_description_is_not_reliable_by_itself() -> None:
    call = Call(lambda agent, session: session.provisional(180) and None).run(1)
    assert call.messages == ["INVITE", "180 INVITE"]
    call.callee.provisional(182, reliable=True)
    call.run(1)
    assert call.messages[2:] == ["182 INVITE", "PRACK", "200 PRACK"]
    call.callee.answer(ANSWER)
    call.run(1)
    assert call.wire("200 INVITE")[0].body == ANSWER
    call.caller.bye()
    call.finish()


def test_require_makes_all_reliable() -> None:
    call = Call(
        lambda agent, session: session.provisional(180, reliable=False) and None, headers=[("Require", "100rel")]
    )
    call.run(1)
    assert call.messages == ["INVITE", "180 INVITE", "PRACK", "200 PRACK"]
    call.callee.reject(486)
    call.finish()


def test_reliable_and_unreliable_ones_keep_their_order_on_the_caller_side() -> None:
    def ring_twice(agent: RecordingAgent, session: InviteSession) -> None:
        session.provisional(183, body=ANSWER)
        session.provisional(180, reliable=True)
        session.provisional(182, reliable=True, headers=[("Subject", "third")])

    call = Call(ring_twice).run(1)
    assert call.messages == [
        "INVITE", "183 INVITE", "PRACK", "200 PRACK", "180 INVITE", "PRACK", "200 PRACK",
        "182 INVITE", "PRACK", "200 PRACK",
    ]  # fmt: skip
    numbers = [read_rseq(response) for response in call.wire("183 INVITE") + call.wire("180 INVITE")]  # type: ignore[arg-type]
    assert numbers[1] == numbers[0] + 1  # type: ignore[operator]
    assert [str(prack.cseq) for prack in call.wire("PRACK")] == ["2 PRACK", "3 PRACK", "4 PRACK"]
    assert call.alice.names() == ["Provisional"] * 3
    assert call.bob.names() == ["Pracked"] * 3
    call.caller.cancel()
    call.finish()


def test_the_queue_is_bounded() -> None:
    def flood(agent: RecordingAgent, session: InviteSession) -> None:
        for _ in range(100):
            session.provisional(180, reliable=True)

    call = Call(flood).run(5)
    assert 2 < call.messages.count("180 INVITE") < 20
    call.caller.cancel()
    call.finish()


# ---------------------------------------------------------------- loss


@pytest.mark.parametrize("lost", ["INVITE", "183 INVITE", "PRACK", "200 PRACK", "200 INVITE", "ACK"])
def test_each_message_may_be_lost(lost: str) -> None:
    call = Call(progress, lose=lost)
    on(call.bob, Pracked, lambda session, event: session.answer(b""))
    call.run(10)
    assert call.caller.state is SessionState.CONFIRMED
    assert call.callee.state is SessionState.CONFIRMED
    assert call.alice.names() == ["Provisional", "Answered"]
    assert call.bob.names() == ["Pracked", "Acked"]
    assert (call.caller.remote_body, call.callee.remote_body) == (ANSWER, OFFER)
    call.caller.bye()
    call.finish()


def test_retransmissions_double_without_bound_and_then_the_call_is_refused() -> None:
    call = Call(progress)
    call.drop("PRACK")
    call.run(31)
    assert call.times("183 INVITE") == pytest.approx([0, 0.5, 1.5, 3.5, 7.5, 15.5])
    # one PRACK transaction, however often the response comes
    assert len({str(prack.via) for prack in call.wire("PRACK")}) == 1
    call.run(2)
    assert call.bob.last() == Ended("timeout", None, "no PRACK")
    end = call.alice.last()
    assert isinstance(end, Rejected)
    assert end.status == 504
    call.finish()


def test_retransmission_stops_at_a_final_response() -> None:
    call = Call(progress)
    call.drop("PRACK")
    call.run(0.1)
    call.callee.reject(486)
    call.run(6)
    assert call.bob.endpoint.stats.is_idle
    call.run(14)
    assert call.messages.count("183 INVITE") == 1
    call.finish()


# ---------------------------------------------------------------- the 2xx waits


def test_the_2xx_waits_for_the_prack_of_a_description() -> None:
    def both(agent: RecordingAgent, session: InviteSession) -> None:
        assert session.provisional(183, body=ANSWER)
        assert session.provisional(180, reliable=True)
        assert session.answer(ANSWER, headers=[("Subject", "late")])
        assert not session.answer(ANSWER)
        assert not session.provisional(180)

    call = Call(both)
    call.drop("PRACK", first=2)
    call.run(0.4)
    assert call.callee.state is SessionState.EARLY
    assert "200 INVITE" not in call.messages
    call.run(5)
    assert call.callee.state is SessionState.CONFIRMED
    assert "180 INVITE" not in call.messages  # §3: no new one after the final response
    assert call.wire("200 INVITE")[0].headers.get("Subject") == "late"
    call.callee.bye()
    call.finish()


def test_the_2xx_does_not_wait_for_the_prack_of_a_response_without_description() -> None:
    def both(agent: RecordingAgent, session: InviteSession) -> None:
        session.provisional(180, reliable=True)
        session.answer(ANSWER)

    call = Call(both).run(1)
    assert call.messages[:3] == ["INVITE", "180 INVITE", "200 INVITE"]
    assert "481 PRACK" not in call.messages  # a late PRACK still finds its response
    assert call.messages.count("200 PRACK") == 1
    assert call.bob.names() == ["Acked"]
    call.caller.bye()
    call.finish()


def test_cancel_while_the_2xx_waits() -> None:
    def both(agent: RecordingAgent, session: InviteSession) -> None:
        session.provisional(183, body=ANSWER)
        session.answer(ANSWER)

    call = Call(both)
    call.drop("PRACK")
    call.run(0.2)
    call.caller.cancel()
    call.run(1)
    assert isinstance(call.bob.last(), Cancelled)
    assert "200 INVITE" not in call.messages
    call.finish()


def test_bye_of_the_callee_while_the_2xx_waits() -> None:
    def both(agent: RecordingAgent, session: InviteSession) -> None:
        session.provisional(183, body=ANSWER)
        session.answer(ANSWER)

    call = Call(both)
    call.drop("PRACK")
    call.run(0.2)
    call.callee.bye()
    call.run(1)
    end = call.alice.last()
    assert isinstance(end, Rejected)
    assert end.status == 480
    call.finish()


# ---------------------------------------------------------------- what does not fit


def prack(call: Call, rack: str, *, body: bytes = b"") -> list[int]:
    """Send a PRACK in the caller's dialog; the statuses of its responses."""
    statuses: list[int] = []
    assert call.caller.dialog is not None
    headers = [("RAck", rack), ("Content-Type", "application/sdp")]
    request = call.caller.dialog.build_request("PRACK", headers=headers, body=body)
    call.alice.endpoint.send_request(request, on_event=lambda event: statuses.append(event.response.status))  # type: ignore[union-attr]
    call.run(0.5)
    return statuses


def test_prack_for_nothing() -> None:
    call = Call(progress)
    call.drop("PRACK", until=call.network.clock() + 0.3)
    call.run(0.3)
    call.network.fate = lambda data, source, target: (0.001,)
    rseq = read_rseq(call.wire("183 INVITE")[0])  # type: ignore[arg-type]
    assert rseq is not None
    assert prack(call, f"{rseq + 1} 1 INVITE") == [481]
    call.run(3)
    assert prack(call, f"{rseq} 1 INVITE") == [481]  # acknowledged already
    assert prack(call, "nonsense") == [400]
    call.callee.answer(b"")
    call.run(1)
    assert prack(call, f"{rseq} 1 INVITE") == [481]
    call.caller.bye()
    call.finish()


def test_prack_to_a_caller_is_481() -> None:
    call = Call().run(1)
    statuses: list[int] = []
    assert call.callee.dialog is not None
    request = call.callee.dialog.build_request("PRACK", headers=[("RAck", "1 1 INVITE")])
    call.bob.endpoint.send_request(request, on_event=lambda event: statuses.append(event.response.status))  # type: ignore[union-attr]
    call.run(0.5)
    assert statuses == [481]
    call.caller.bye()
    call.finish()


def test_prack_without_the_extension_is_405() -> None:
    call = Call(bob=NO_RELIABLE).run(1)
    assert prack(call, "1 1 INVITE") == [405]
    call.caller.bye()
    call.finish()


def test_prack_overtaken_by_another_request_is_taken() -> None:
    """Its CSeq is lower than what came meanwhile; RAck has an order of its own."""
    call = Call(progress)
    call.drop("PRACK", first=1)
    call.run(0.1)
    call.caller.send_request("INFO")
    call.run(2)
    assert call.messages.count("200 PRACK") == 1
    assert call.bob.names() == ["RequestReceived", "Pracked"]
    call.caller.cancel()
    call.finish()


def reliable_response(call: Call, status: int, rseq: str, *, tag: str = "x", body: bytes = b"") -> bytes:
    headers = [("Contact", "<sip:carol@10.0.0.3>"), ("Require", "100rel"), ("RSeq", rseq)]
    if body:
        headers.append(("Content-Type", "application/sdp"))
    return build_response(call.caller.request, status, to_tag=tag, headers=headers, body=body).to_bytes()


def receive(call: Call, data: bytes) -> None:
    call.alice.endpoint.receive_datagram_untrusted(data, Flow("UDP", ("10.0.0.1", 5060), ("10.0.0.2", 5060)))


def test_out_of_order_responses_are_not_taken() -> None:
    call = Call(lambda agent, session: None).run(0.1)
    receive(call, reliable_response(call, 183, "100"))
    receive(call, reliable_response(call, 180, "102"))
    receive(call, reliable_response(call, 183, "100"))
    receive(call, reliable_response(call, 182, "99"))
    assert [prack.headers.get("RAck") for prack in call.wire("PRACK")] == ["100 1 INVITE"]
    receive(call, reliable_response(call, 181, "101"))
    assert [prack.headers.get("RAck") for prack in call.wire("PRACK")] == ["100 1 INVITE", "101 1 INVITE"]
    assert [event.response.status for event in call.alice.events[call.caller] if isinstance(event, Provisional)] == [
        183,
        181,
    ]
    call.run(1)
    call.callee.reject(486)
    call.finish()


def test_pracks_are_bounded() -> None:
    call = Call(lambda agent, session: None).run(0.1)
    for number in range(1, 200):
        receive(call, reliable_response(call, 180, str(number)))
    assert len(call.wire("PRACK")) == MAX_RELIABLE
    call.run(40)
    call.callee.reject(486)
    call.finish()


@pytest.mark.parametrize("text", ["0", "4294967296", "-1", "x", "", "99999999999"])
def test_malformed_rseq_is_no_number(text: str) -> None:
    response = Response(183, "x", [("Require", "100rel"), ("RSeq", text)])
    assert read_rseq(response) is None
    assert read_rseq(Response(183, "x", [("RSeq", "1")])) is None
    assert read_rseq(Response(183, "x", [("Require", "foo, 100REL"), ("RSeq", "1")])) == 1


def test_each_fork_has_numbers_of_its_own() -> None:
    call = Call(lambda agent, session: None).run(0.1)
    receive(call, reliable_response(call, 183, "7", tag="one", body=ANSWER))
    receive(call, reliable_response(call, 183, "7", tag="two", body=ANSWER))
    receive(call, reliable_response(call, 180, "8", tag="one"))
    pracks = call.wire("PRACK")
    assert [(each.to_tag, str(each.cseq)) for each in pracks] == [
        ("one", "2 PRACK"),
        ("two", "2 PRACK"),
        ("one", "3 PRACK"),
    ]
    assert all(isinstance(each, Request) and each.uri == "sip:carol@10.0.0.3" for each in pracks)
    call.run(40)
    call.callee.reject(486)
    call.finish()


# ---------------------------------------------------------------- delayed offer: INVITE without a description


def test_offer_in_the_2xx_and_answer_in_the_ack() -> None:
    call = Call(body=b"").run(0.3)
    event = event_of(call.alice, Answered)
    assert event.needs_ack
    assert event.body == ANSWER
    assert call.caller.state is SessionState.CONFIRMED
    assert "ACK" not in call.messages
    call.run(2)  # retransmissions of the 200 do not fetch an ACK
    assert call.messages.count("200 INVITE") > 1
    assert "ACK" not in call.messages
    assert call.caller.ack(OFFER)
    assert not call.caller.ack(OFFER)
    call.run(1)
    acked = event_of(call.bob, Acked)
    assert acked.body == OFFER
    assert (call.caller.local_body, call.caller.remote_body) == (OFFER, ANSWER)
    assert (call.callee.local_body, call.callee.remote_body) == (ANSWER, OFFER)
    call.caller.bye()
    call.finish()


def test_retransmitted_2xx_gets_the_same_ack() -> None:
    call = Call(body=b"")
    on(call.alice, Answered, lambda session, event: session.ack(OFFER, headers=[("Subject", "x")]))
    call.drop("ACK", first=2)
    call.run(10)
    acks = call.wire("ACK")
    assert len(acks) == 3
    assert {(ack.body, ack.headers.get("Subject"), ack.content_type) for ack in acks} == {
        (OFFER, "x", "application/sdp")
    }
    assert call.bob.names() == ["Acked"]
    call.caller.bye()
    call.finish()


def test_bye_before_the_answer_in_the_ack() -> None:
    call = Call(body=b"").run(0.3)
    call.caller.bye()
    call.run(1)
    assert call.messages[-3:] == ["ACK", "BYE", "200 BYE"]
    call.finish()


def test_callee_gives_up_while_the_ack_is_not_made() -> None:
    call = Call(body=b"").run(40)
    assert isinstance(call.alice.last(), Ended)
    assert call.bob.last() == Ended("timeout", None, "no ACK")
    assert not call.caller.ack(OFFER)
    call.finish()


def offer_early(agent: RecordingAgent, session: InviteSession) -> None:
    session.provisional(183, body=ANSWER)
    assert session.local_body == ANSWER


@pytest.mark.parametrize("lost", ["", "183 INVITE", "PRACK", "200 PRACK", "200 INVITE", "ACK"])
def test_offer_in_the_183_and_answer_in_the_prack(lost: str) -> None:
    call = Call(offer_early, body=b"")
    call.drop(lost, first=2)
    call.run(4)
    event = event_of(call.alice, Provisional)
    assert event.needs_prack
    assert "PRACK" not in call.messages
    call.caller.prack(OFFER, headers=[("Subject", "x")])
    with pytest.raises(LocalProtocolError):
        call.caller.prack(OFFER)
    call.run(5)
    assert event_of(call.bob, Pracked).body == OFFER
    assert call.wire("PRACK")[0].headers.get("Subject") == "x"
    call.callee.answer(ANSWER)
    call.run(10)
    assert {ok.body for ok in call.wire("200 INVITE")} == {b""}
    assert (call.caller.local_body, call.caller.remote_body) == (OFFER, ANSWER)
    assert (call.callee.local_body, call.callee.remote_body) == (ANSWER, OFFER)
    assert not event_of(call.alice, Answered).needs_ack
    call.caller.bye()
    call.finish()


def test_our_offer_does_not_go_out_unreliably() -> None:
    call = Call(offer_early_unreliable, body=b"", alice=NO_RELIABLE).run(1)
    (response,) = call.wire("183 INVITE")
    assert response.body == b""
    call.callee.answer(ANSWER)
    call.run(0.2)
    assert event_of(call.alice, Answered).needs_ack
    call.caller.ack(OFFER)
    call.run(1)
    call.caller.bye()
    call.finish()


def offer_early_unreliable(agent: RecordingAgent, session: InviteSession) -> None:
    session.provisional(183, body=ANSWER)


def test_prack_without_the_answer_leaves_the_offer_to_the_2xx() -> None:
    call = Call(offer_early, body=b"").run(0.1)
    rseq = read_rseq(call.wire("183 INVITE")[0])  # type: ignore[arg-type]
    assert prack(call, f"{rseq} 1 INVITE") == [200]
    assert event_of(call.bob, Pracked).body == b""
    call.callee.answer(ANSWER)
    call.run(0.3)
    assert call.wire("200 INVITE")[0].body == ANSWER
    assert event_of(call.alice, Answered).needs_ack
    call.caller.ack(OFFER)
    call.run(1)
    assert call.callee.remote_body == OFFER
    call.caller.bye()
    call.finish()


def test_prack_without_a_waiting_offer_raises() -> None:
    call = Call(progress).run(1)
    with pytest.raises(LocalProtocolError):
        call.caller.prack(OFFER)
    with pytest.raises(LocalProtocolError):
        call.callee.prack(OFFER)
    with pytest.raises(LocalProtocolError):
        call.caller.prack(OFFER, to_tag="nobody")
    call.caller.cancel()
    call.finish()


# ---------------------------------------------------------------- an offer in the PRACK


def test_offer_in_the_prack_is_answered_in_its_200() -> None:
    def both(agent: RecordingAgent, session: InviteSession) -> None:
        session.provisional(183, body=ANSWER)

    call = Call(both)
    call.drop("PRACK")
    call.run(0.1)
    call.network.fate = lambda data, source, target: (0.001,)
    held: list[bool] = []
    on(call.bob, Pracked, lambda session, event: held.append(session.answer(b"")))
    on(call.bob, UpdateReceived, lambda session, event: session.accept_update(b"bob 2"))
    rseq = read_rseq(call.wire("183 INVITE")[0])  # type: ignore[arg-type]
    assert prack(call, f"{rseq} 1 INVITE", body=b"alice 2") == [200]
    assert call.bob.names()[:2] == ["Pracked", "UpdateReceived"]
    assert [response.body for response in call.wire("200 PRACK") if response.body] == [b"bob 2"]
    assert (call.callee.local_body, call.callee.remote_body) == (b"bob 2", b"alice 2")
    assert held == [True]
    call.run(3)
    call.caller.bye()
    call.finish()


def test_the_2xx_waits_for_the_answer_to_the_offer_in_the_prack() -> None:
    call = Call(progress)
    call.drop("PRACK")
    call.run(0.1)
    call.network.fate = lambda data, source, target: (0.001,)
    rseq = read_rseq(call.wire("183 INVITE")[0])  # type: ignore[arg-type]
    assert prack(call, f"{rseq} 1 INVITE", body=b"alice 2") == []
    assert call.callee.answer(b"")
    call.run(0.1)
    assert "200 INVITE" not in call.messages
    assert call.callee.reject_update(488)
    call.run(1)
    assert "488 PRACK" in call.messages
    assert "200 INVITE" in call.messages
    assert call.callee.remote_body == OFFER
    call.caller.bye()
    call.finish()


# ---------------------------------------------------------------- delayed offer: re-INVITE without a description


def test_reinvite_without_an_offer() -> None:
    call = Call().run(1)
    on(call.bob, ReinviteReceived, lambda session, event: session.accept_reinvite(b"bob 2"))
    call.caller.reinvite(b"")
    call.run(2)
    event = event_of(call.alice, ReinviteAnswered)
    assert event.needs_ack
    assert event.body == b"bob 2"
    assert call.wire("INVITE")[0].headers.get("Supported") == "100rel, timer, 199"
    assert call.wire("INVITE")[1].headers.get("Supported") == "timer, 199"
    assert call.messages.count("ACK") == 1  # that of the first INVITE
    with pytest.raises(LocalProtocolError):
        call.caller.reinvite(b"not while it is open")
    call.drop("ACK", first=1)
    assert call.caller.ack(b"alice 2")
    assert not call.caller.ack(b"alice 2")
    call.run(5)
    assert [ack.body for ack in call.wire("ACK")] == [b"", b"alice 2", b"alice 2"]
    assert (call.caller.local_body, call.caller.remote_body) == (b"alice 2", b"bob 2")
    assert (call.callee.local_body, call.callee.remote_body) == (b"bob 2", b"alice 2")
    call.caller.reinvite(b"alice 3")
    call.run(1)
    assert call.callee.remote_body == b"alice 3"
    call.caller.bye()
    call.finish()


def test_reinvite_without_an_offer_by_the_callee_and_its_end_before_the_ack() -> None:
    call = Call().run(1)
    on(call.alice, ReinviteReceived, lambda session, event: session.accept_reinvite(b"alice 2"))
    call.callee.reinvite(b"")
    call.run(0.3)
    assert event_of(call.bob, ReinviteAnswered).needs_ack
    call.callee.bye()
    call.run(1)
    assert call.messages[-3:] == ["ACK", "BYE", "200 BYE"]
    call.finish()


def test_session_ends_by_the_peer_while_our_ack_is_not_made() -> None:
    call = Call(body=b"").run(0.1)
    call.callee.bye()  # waits for the ACK
    call.run(0.1)
    call.caller.ack(OFFER)
    call.run(1)
    assert call.messages[-2:] == ["BYE", "200 BYE"]
    call.finish()


def test_plain_calls_start_no_more_timers() -> None:
    """The setup guard apart: transactions have two timers at most, the pending 200 has one."""
    call = Call(answer).run(0.0005)
    assert call.bob.endpoint.stats.timers == 0
    call.run(1)
    before = call.bob.endpoint.stats.timers
    assert before == 1  # timer L
    call.caller.bye()
    call.finish()


# ---------------------------------------------------------------- descriptions among other parts


MIXED = (
    b"--b\r\nContent-Type: application/isup\r\nContent-Disposition: signal;handling=optional\r\n\r\n\x01\x02\r\n"
    b"--b\r\nContent-Type: application/sdp\r\nContent-Disposition: early-session\r\n\r\nearly\r\n"
    b"--b\r\nContent-Type: application/sdp\r\n\r\n%b\r\n--b--\r\n"
)


def test_multipart_invite_and_responses() -> None:
    def decide(agent: RecordingAgent, session: InviteSession) -> None:
        session.provisional(183, body=ANSWER)

    call = Call(decide, body=MIXED % OFFER, content_type='multipart/mixed;boundary="b"').run(1)
    assert call.caller.local_body == OFFER
    assert call.callee.remote_body == OFFER
    assert call.callee.request.body == MIXED % OFFER
    call.callee.answer(b"")
    call.run(1)
    on(call.alice, ReinviteReceived, lambda session, event: session.accept_reinvite(event.body + b"a=seen\r\n"))
    assert call.callee.dialog is not None
    reinvite = call.callee.dialog.build_request(
        "INVITE",
        headers=[("Contact", call.callee.contact)],
        body=MIXED % b"again\r\n",
        content_type="multipart/mixed;boundary=b",
    )
    answers: list[bytes] = []

    def note(event: Any) -> None:
        answers.append(event.response.body)
        assert call.callee.dialog is not None
        call.callee.endpoint.send_ack(call.callee.dialog.build_request("ACK", cseq=reinvite.cseq.number))

    call.bob.endpoint.send_request(reinvite, on_event=note)
    call.run(1)
    assert answers == [b"again\r\na=seen\r\n"]
    assert call.caller.remote_body == b"again\r\n"
    call.caller.bye()
    call.finish()


def test_body_of_another_kind_is_no_offer() -> None:
    call = Call(answer, body=b"hello", content_type="text/plain").run(1)
    assert call.callee.remote_body == b""
    assert event_of(call.alice, Answered).needs_ack  # the 2xx made the offer
    call.caller.ack(OFFER)
    call.run(1)
    call.caller.bye()
    call.finish()


def test_reliable_response_to_a_reinvite_is_acknowledged_all_the_same() -> None:
    """We do not ask for it, but a peer that uses it must not wait in vain; its description is the answer."""
    call = Call().run(1)
    held: list[Any] = []
    on(call.bob, ReinviteReceived, lambda session, event: held.append((event.request, session.exchange._reinvite)))
    call.caller.reinvite(b"alice 2")
    call.run(0.1)
    ((request, pending),) = held

    def respond(status: int, rseq: int, body: bytes = b"") -> None:
        headers = [("Contact", call.callee.contact), ("Require", "100rel"), ("RSeq", str(rseq))]
        response = build_response(request, status, headers=headers, body=body, content_type="application/sdp")
        call.bob.endpoint.send_response(pending[1], response)
        call.run(0.1)

    respond(183, 7, b"bob 2")
    respond(183, 9)  # out of order
    respond(180, 8)
    assert [prack.headers.get("RAck") for prack in call.wire("PRACK")] == ["7 2 INVITE", "8 2 INVITE"]
    call.callee.accept_reinvite(b"")
    call.run(1)
    assert event_of(call.alice, ReinviteAnswered).needs_ack is False
    assert call.caller.remote_body == b"bob 2"
    call.caller.bye()
    call.finish()
