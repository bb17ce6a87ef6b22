"""UPDATE (RFC 3311) in early and confirmed dialogs, and who may make an offer when."""

from __future__ import annotations

from typing import Any

import pytest

from ims_as.sip.errors import LocalProtocolError
from ims_as.sip.exchange import DialogExchange, Offer
from ims_as.sip.invite_session import (
    Ended,
    InviteSession,
    Pracked,
    ReinviteReceived,
    Rejected,
    SessionState,
    UpdateAnswered,
    UpdateReceived,
    UpdateRejected,
)
from ims_as.sip.message import Request, Response
from ims_as.sip.outgoing_offer import glare_delay
from tests.support.sip_agents import ALLOW, OFFER, OnInvite, RecordingAgent
from tests.support.sip_call import ANSWER, Call, answer, on

WITH_UPDATE: dict[str, Any] = {"allow": f"{ALLOW}, UPDATE"}


def call_with_updates(on_invite: OnInvite = answer, **options: Any) -> Call:
    return Call(on_invite, **{"alice": WITH_UPDATE, "bob": WITH_UPDATE, **options})


def progress(agent: RecordingAgent, session: InviteSession) -> None:
    session.provisional(183, body=ANSWER)


def accept(agent: RecordingAgent, body: bytes) -> None:
    on(agent, UpdateReceived, lambda session, event: session.accept_update(body))


def bodies(call: Call) -> tuple[bytes, bytes]:
    """What is in force, the caller's first; both sides must agree."""
    assert call.caller.local_body == call.callee.remote_body
    assert call.caller.remote_body == call.callee.local_body
    return call.caller.local_body, call.caller.remote_body


def statuses_of(call: Call, session: InviteSession, method: str, **options: Any) -> list[int]:
    """Send a request past the session's own rules; the statuses of its final responses."""
    statuses: list[int] = []
    assert session.dialog is not None
    headers = [("Contact", session.contact), *options.pop("headers", ())]
    request = session.dialog.build_request(method, content_type="application/sdp", headers=headers, **options)

    def note(event: Any) -> None:
        if event.response.status >= 200:
            statuses.append(event.response.status)
        if method == "INVITE" and 200 <= event.response.status < 300:
            assert session.dialog is not None
            session.endpoint.send_ack(session.dialog.build_request("ACK", cseq=request.cseq.number))

    session.endpoint.send_request(request, on_event=note)
    call.run(0.5)
    return statuses


# ---------------------------------------------------------------- the plain way


def test_update_by_both_sides_in_a_confirmed_dialog() -> None:
    call = call_with_updates().run(1)
    assert call.caller.can_update
    assert call.callee.can_update
    accept(call.bob, b"bob 2")
    accept(call.alice, b"alice 3")
    call.caller.update(b"alice 2")
    assert not call.caller.can_offer
    call.run(1)
    assert bodies(call) == (b"alice 2", b"bob 2")
    call.callee.update(b"bob 3", headers=[("Subject", "x")])
    call.run(1)
    assert bodies(call) == (b"alice 3", b"bob 3")
    assert call.alice.names() == ["Answered", "UpdateAnswered", "UpdateReceived"]
    answered = next(event for event in call.alice.events[call.caller] if isinstance(event, UpdateAnswered))
    assert answered.body == b"bob 2"
    update = call.wire("UPDATE")[-1]
    assert update.headers.get("Subject") == "x"
    assert update.contact is not None
    assert call.wire("200 UPDATE")[0].contact is not None
    call.caller.bye()
    call.finish()


@pytest.mark.parametrize("lost", ["", "UPDATE", "200 UPDATE"])
@pytest.mark.parametrize("by_caller", [True, False])
def test_update_in_an_early_dialog(lost: str, by_caller: bool) -> None:
    call = call_with_updates(progress).run(1)
    accept(call.alice, b"alice 2")
    accept(call.bob, b"bob 2")
    call.drop(lost, first=3)
    (call.caller if by_caller else call.callee).update(b"new")
    call.run(8)
    assert call.caller.state is SessionState.EARLY
    expected = (b"new", b"bob 2") if by_caller else (b"alice 2", b"new")
    assert bodies(call) == expected
    call.callee.answer(b"ignored")
    call.run(1)
    assert bodies(call) == expected
    assert call.caller.state is SessionState.CONFIRMED
    call.callee.bye()
    call.finish()


def test_update_without_an_offer_is_answered_inside() -> None:
    call = call_with_updates().run(1)
    call.caller.contact = "<sip:alice@10.0.0.1:5060;moved=1>"
    call.caller.update()
    call.run(1)
    assert call.alice.names() == ["Answered", "UpdateAnswered"]
    assert call.bob.names() == ["Acked"]
    assert bodies(call) == (OFFER, ANSWER)
    call.callee.bye()
    assert call.network.sent[-1][3].startswith(b"BYE sip:alice@10.0.0.1:5060;moved=1 ")
    call.finish()


def test_update_that_is_refused_changes_nothing() -> None:
    call = call_with_updates().run(1)
    on(call.bob, UpdateReceived, lambda session, event: session.reject_update(488, headers=[("Warning", "x")]))
    call.caller.contact = "<sip:alice@10.0.0.1:5060;moved=1>"
    call.caller.update(b"new")
    call.run(1)
    event = call.alice.last()
    assert isinstance(event, UpdateRejected)
    assert (event.status, event.response is not None and event.response.headers.get("Warning")) == (488, "x")
    assert bodies(call) == (OFFER, ANSWER)
    assert call.callee.dialog is not None
    assert "moved" not in call.callee.dialog.remote_target
    assert not call.callee.accept_update(b"late")
    assert not call.callee.reject_update(488)
    call.caller.bye()
    call.finish()


def test_update_goes_to_the_target_of_the_latest_one() -> None:
    call = call_with_updates(progress).run(1)
    accept(call.alice, b"alice 2")
    accept(call.bob, b"bob 2")
    call.callee.contact = "<sip:bob@10.0.0.2:5060;moved=1>"
    call.callee.update(b"bob new")
    call.run(1)
    call.caller.update(b"alice new")
    call.run(1)
    assert [each.uri for each in call.wire("UPDATE") if isinstance(each, Request)] == [
        "sip:10.0.0.1:5060",
        "sip:bob@10.0.0.2:5060;moved=1",
    ]
    call.caller.cancel()
    call.finish()


def test_user_agent_without_update_answers_405() -> None:
    call = Call().run(1)
    assert not call.caller.can_update
    assert statuses_of(call, call.caller, "UPDATE", body=b"x") == [405]
    assert call.bob.names() == ["Acked", "RequestReceived"]
    call.caller.bye()
    call.finish()


@pytest.mark.parametrize("status", [408, 481])
def test_update_to_a_dialog_that_is_gone_ends_it(status: int) -> None:
    call = call_with_updates().run(1)
    on(call.bob, UpdateReceived, lambda session, event: session.reject_update(status))
    call.caller.update(b"new")
    call.run(1)
    assert call.alice.names()[-2:] == ["UpdateRejected", "Ended"]
    assert call.alice.last() == Ended("failure", None, f"UPDATE: {status}")
    call.finish()


def test_update_that_nobody_answers_ends_a_confirmed_dialog() -> None:
    call = call_with_updates().run(1)
    call.drop("UPDATE", "BYE")
    call.caller.update(b"new")
    call.run(70)
    assert call.alice.names()[-2:] == ["UpdateRejected", "Ended"]
    call.callee.bye()
    call.finish()


@pytest.mark.parametrize("by_caller", [True, False])
def test_early_dialog_that_is_gone(by_caller: bool) -> None:
    call = call_with_updates(progress).run(1)
    for agent in (call.alice, call.bob):
        on(agent, UpdateReceived, lambda session, event: session.reject_update(481))
    (call.caller if by_caller else call.callee).update(b"new")
    call.run(1)
    end = call.alice.last()
    assert isinstance(end, Rejected)
    assert end.status == (487 if by_caller else 500)
    call.finish()


def test_update_that_the_user_never_answers() -> None:
    call = call_with_updates().run(1)
    call.caller.update(b"new")
    call.run(31)
    assert not call.callee.can_offer
    call.network.fate = lambda data, source, target: ()  # the BYE of the caller is lost
    call.run(40)
    assert isinstance(call.alice.last(), Ended)
    assert call.callee.can_offer
    assert not call.callee.accept_update(b"late")
    call.callee.bye()
    call.finish()


def test_session_ends_while_an_update_is_pending() -> None:
    call = call_with_updates().run(1)
    call.caller.update(b"new")
    call.run(0.1)
    call.callee.bye()
    call.run(1)
    assert "487 UPDATE" in call.messages
    assert not call.callee.accept_update(b"late")
    call.finish()


# ---------------------------------------------------------------- when an offer may go out


def test_no_offer_before_the_first_answer() -> None:
    call = call_with_updates(lambda agent, session: session.provisional(180) and None).run(0.1)
    assert not call.caller.can_offer
    with pytest.raises(LocalProtocolError):
        call.caller.update(b"too early")
    with pytest.raises(LocalProtocolError):
        call.callee.update(b"too early")
    # that of a peer that does not know it: ours is open, theirs is open
    assert statuses_of(call, call.callee, "UPDATE", body=b"x") == [491]
    assert statuses_of(call, call.caller, "UPDATE", body=b"x") == [500]
    (refusal,) = call.wire("500 UPDATE")
    assert 0 <= int(refusal.headers.get("Retry-After") or -1) <= 10
    call.caller.cancel()
    call.finish()


def test_no_update_without_a_dialog() -> None:
    call = call_with_updates(lambda agent, session: None)
    with pytest.raises(LocalProtocolError):
        call.caller.update()
    with pytest.raises(LocalProtocolError):
        call.caller.update(to_tag="nobody")
    call.run(0.1)
    call.callee.reject(486)
    call.run(1)
    with pytest.raises(LocalProtocolError):
        call.caller.update()
    call.finish()


def test_callee_does_not_offer_before_its_answer_has_arrived() -> None:
    call = call_with_updates(progress)
    call.drop("PRACK", first=1)
    call.run(0.1)
    assert not call.callee.can_offer
    with pytest.raises(LocalProtocolError):
        call.callee.update(b"too early")
    call.run(2)
    assert call.callee.can_offer
    call.caller.cancel()
    call.finish()


def test_callee_does_not_offer_before_the_ack() -> None:
    """The 2xx may be lost: the caller would not know the dialog of the UPDATE."""
    call = call_with_updates()
    call.drop("ACK", first=1)
    call.run(0.1)
    assert call.callee.state is SessionState.ANSWERED
    assert not call.callee.can_offer
    with pytest.raises(LocalProtocolError):
        call.callee.update(b"too early")
    call.run(2)
    assert call.callee.can_offer
    call.caller.bye()
    call.finish()


def test_update_waits_for_the_prack_before_it() -> None:
    """It must not overtake it: the PRACK's CSeq is lower."""
    call = call_with_updates(progress)
    call.drop("PRACK", first=2)
    call.run(0.1)
    accept(call.bob, b"bob 2")
    call.caller.update(b"alice 2")
    call.run(0.3)
    assert "UPDATE" not in call.messages
    call.run(1.6)
    assert call.messages[-4:] == ["PRACK", "200 PRACK", "UPDATE", "200 UPDATE"]
    assert bodies(call) == (b"alice 2", b"bob 2")
    call.caller.cancel()
    call.finish()


def test_answer_waits_for_an_open_update() -> None:
    call = call_with_updates(progress).run(1)
    call.caller.update(b"alice 2")
    call.run(0.1)
    assert call.callee.answer(b"")
    call.run(0.1)
    assert "200 INVITE" not in call.messages
    assert call.callee.accept_update(b"bob 2")
    call.run(1)
    assert call.messages[-3:] == ["200 UPDATE", "200 INVITE", "ACK"]
    assert bodies(call) == (b"alice 2", b"bob 2")
    call.caller.bye()
    call.finish()


def test_answer_waits_for_an_update_of_our_own() -> None:
    call = call_with_updates(progress).run(1)
    call.callee.update(b"bob 2")
    assert call.callee.answer(b"")
    call.run(0.1)
    assert "200 INVITE" not in call.messages
    assert call.caller.accept_update(b"alice 2")
    call.run(1)
    assert call.caller.state is SessionState.CONFIRMED
    assert bodies(call) == (b"alice 2", b"bob 2")
    call.caller.bye()
    call.finish()


def test_update_may_follow_an_answer_whose_prack_is_lost() -> None:
    """The answer has reached the caller, so its UPDATE is right."""
    call = call_with_updates(progress)
    call.drop("PRACK", first=1)
    call.run(0.1)
    accept(call.bob, b"bob 2")
    assert statuses_of(call, call.caller, "UPDATE", body=b"alice 2") == [200]
    call.run(2)
    assert call.bob.names() == ["UpdateReceived", "Pracked"]
    call.caller.cancel()
    call.finish()


def test_offer_before_the_ack_of_our_offer_is_491() -> None:
    call = call_with_updates(body=b"").run(0.1)
    assert statuses_of(call, call.caller, "UPDATE", body=b"x") == [491]
    assert statuses_of(call, call.caller, "INVITE", body=b"x") == [491]
    call.caller.ack(OFFER)
    call.run(1)
    accept(call.bob, b"bob 2")
    assert statuses_of(call, call.caller, "UPDATE", body=b"x") == [200]
    call.caller.bye()
    call.finish()


def test_one_offer_at_a_time() -> None:
    call = call_with_updates().run(1)
    call.caller.update(b"alice 2")
    with pytest.raises(LocalProtocolError):
        call.caller.update(b"second")
    with pytest.raises(LocalProtocolError):
        call.caller.reinvite(b"second")
    call.run(0.1)
    with pytest.raises(LocalProtocolError):
        call.callee.update(b"theirs is open")
    with pytest.raises(LocalProtocolError):
        call.callee.reinvite(b"theirs is open")
    # a second one of the peer
    assert statuses_of(call, call.caller, "UPDATE", body=b"x") == [500]
    assert statuses_of(call, call.caller, "INVITE", body=b"x") == [500]
    call.callee.accept_update(b"bob 2")
    call.run(1)
    assert bodies(call) == (b"alice 2", b"bob 2")
    call.caller.bye()
    call.finish()


def test_update_while_a_reinvite_of_the_peer_is_not_answered() -> None:
    call = call_with_updates().run(1)
    call.caller.reinvite(b"alice 2")
    call.run(0.1)
    assert statuses_of(call, call.caller, "UPDATE", body=b"x") == [500]
    with pytest.raises(LocalProtocolError):
        call.callee.update(b"theirs is open")
    assert statuses_of(call, call.callee, "UPDATE", body=b"x") == [491]
    call.callee.accept_reinvite(b"bob 2")
    call.run(1)
    assert bodies(call) == (b"alice 2", b"bob 2")
    call.caller.bye()
    call.finish()


def test_reinvite_to_a_caller_that_has_no_answer_yet_is_491() -> None:
    call = call_with_updates(progress).run(1)
    assert statuses_of(call, call.callee, "INVITE", body=b"x") == [491]
    assert statuses_of(call, call.caller, "INVITE", body=b"x") == [500]
    call.caller.cancel()
    call.finish()


# ---------------------------------------------------------------- glare


@pytest.mark.parametrize("methods", [("update", "update"), ("update", "reinvite"), ("reinvite", "update")])
def test_glare_is_settled_inside(methods: tuple[str, str]) -> None:
    call = call_with_updates().run(1)
    for agent, body in ((call.alice, b"alice a"), (call.bob, b"bob a")):
        accept(agent, body)
        on(agent, ReinviteReceived, lambda session, event, body=body: session.accept_reinvite(body))
    getattr(call.caller, methods[0])(b"alice o")
    getattr(call.callee, methods[1])(b"bob o")
    call.run(0.01)
    assert [name for name in call.messages if name.startswith("491")] != []
    started = call.network.clock()
    call.run(10)
    for agent in (call.alice, call.bob):
        assert not [name for name in agent.names() if name.endswith("Rejected")]
    bodies(call)
    again = [when - started for when, source, *_ in call.network.sent if when > started]
    assert again
    call.caller.bye()
    call.finish()


def test_who_chose_the_call_id_waits_longer() -> None:
    call = call_with_updates(progress).run(1)
    accept(call.alice, b"alice a")
    accept(call.bob, b"bob a")
    call.caller.update(b"alice o")
    call.callee.update(b"bob o")
    call.run(0.01)
    crossed = call.network.clock()
    call.run(10)
    again = {
        source: when - crossed
        for when, source, _, data in call.network.sent
        if when > crossed and data[:6] == b"UPDATE"
    }
    assert 2.0 <= again["10.0.0.1", 5060] <= 4.0
    assert again["10.0.0.2", 5060] <= 2.0
    call.caller.cancel()
    call.finish()


def test_retry_after_is_waited_for() -> None:
    call = call_with_updates().run(1)
    refused: list[bool] = []

    def refuse_once(session: InviteSession, event: UpdateReceived) -> None:
        if refused:
            session.accept_update(b"bob 2")
        else:
            refused.append(session.reject_update(500, headers=[("Retry-After", "7 (busy)")]))

    on(call.bob, UpdateReceived, refuse_once)
    call.caller.update(b"alice 2")
    call.run(6.9)
    assert call.messages.count("UPDATE") == 1
    call.run(1)
    assert call.messages.count("UPDATE") == 2
    assert bodies(call) == (b"alice 2", b"bob 2")
    call.caller.bye()
    call.finish()


@pytest.mark.parametrize("headers", [[], [("Retry-After", "11")], [("Retry-After", "soon")]])
def test_other_500_is_told(headers: list[tuple[str, str]]) -> None:
    call = call_with_updates().run(1)
    on(call.bob, UpdateReceived, lambda session, event: session.reject_update(500, headers=headers))
    call.caller.update(b"alice 2")
    call.run(30)
    assert isinstance(call.alice.last(), UpdateRejected)
    assert call.messages.count("UPDATE") == 1
    call.caller.bye()
    call.finish()


def test_endless_glare_is_told() -> None:
    call = call_with_updates().run(1)
    on(call.bob, UpdateReceived, lambda session, event: session.reject_update(491))
    call.caller.update(b"alice 2")
    call.run(40)
    event = call.alice.last()
    assert isinstance(event, UpdateRejected)
    assert event.status == 491
    assert call.messages.count("UPDATE") == 5
    call.caller.bye()
    call.finish()


def test_offer_that_backs_off_lets_the_peers_pass() -> None:
    call = call_with_updates().run(1)
    refused: list[bool] = []

    def refuse_once(session: InviteSession, event: UpdateReceived) -> None:
        if not refused:
            refused.append(session.reject_update(491))

    on(call.bob, UpdateReceived, refuse_once)
    call.caller.update(b"alice 2")
    call.run(0.1)
    call.callee.update(b"bob o")
    call.run(5)  # long enough for the retry, which has to wait for the answer
    assert {str(each.cseq) for each in call.wire("UPDATE") if each.from_tag == call.caller.key[1]} == {"2 UPDATE"}
    accept(call.bob, b"bob 2")
    call.caller.accept_update(b"alice a")
    call.run(5)
    assert bodies(call) == (b"alice 2", b"bob 2")
    call.caller.bye()
    call.finish()


def test_end_while_backing_off() -> None:
    call = call_with_updates().run(1)
    on(call.bob, UpdateReceived, lambda session, event: session.reject_update(491))
    call.caller.update(b"alice 2")
    call.run(0.1)
    call.caller.bye()
    call.run(10)
    assert call.messages.count("UPDATE") == 1
    call.finish()


def test_header_that_cannot_be_written_leaves_the_session_free() -> None:
    call = call_with_updates().run(1)
    with pytest.raises(LocalProtocolError):
        call.caller.update(b"x", headers=[("Subject", "a\r\nVia: x")])
    assert call.caller.can_offer
    with pytest.raises(LocalProtocolError):
        call.caller.reinvite(b"x", headers=[("Subject", "a\r\nVia: x")])
    assert call.caller.can_offer
    call.caller.bye()
    call.finish()


def test_glare_delay() -> None:
    delays = {glare_delay(f"{number:08x}", is_caller=True) for number in range(400)}
    assert (min(delays), max(delays), len(delays)) == (2.1, 4.0, 191)
    delays = {glare_delay(f"{number:08x}", is_caller=False) for number in range(400)}
    assert (min(delays), max(delays), len(delays)) == (0.0, 2.0, 201)


# ---------------------------------------------------------------- what requests may require


def test_unknown_extension_in_an_indialog_request_is_420() -> None:
    call = call_with_updates().run(1)
    assert statuses_of(call, call.caller, "UPDATE", headers=[("Require", "timer, Foo"), ("Require", "bar")]) == [420]
    (refusal,) = call.wire("420 UPDATE")
    assert isinstance(refusal, Response)
    assert refusal.headers.get("Unsupported") == "Foo, bar"
    assert statuses_of(call, call.caller, "UPDATE", headers=[("Require", "TIMER")]) == [200]
    assert statuses_of(call, call.caller, "INVITE", headers=[("Require", "foo")]) == [420]
    call.caller.bye()
    call.finish()


def test_offer_states_are_what_they_say() -> None:
    call = call_with_updates(progress).run(1)
    exchange: DialogExchange = call.callee.exchange
    assert exchange.offer is Offer.NONE
    assert exchange.is_settled
    assert any(isinstance(event, Pracked) for event in call.bob.events[call.callee])
    call.caller.update(b"alice 2")
    call.run(0.1)
    assert exchange.offer is Offer.REMOTE
    assert call.caller.exchange.offer is Offer.LOCAL
    call.caller.cancel()
    call.finish()
