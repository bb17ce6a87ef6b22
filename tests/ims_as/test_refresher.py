"""Session timers in whole calls (RFC 4028)."""

from __future__ import annotations

from typing import Any

import pytest

from ims_as.sip.invite_session import (
    Ended,
    InviteSession,
    ReinviteAnswered,
    ReinviteReceived,
    Rejected,
    SessionState,
    UpdateReceived,
)
from ims_as.sip.message import Message, Request, build_response
from ims_as.sip.session_timer import SessionTimerConfig
from tests.support.sip_agents import ALLOW, OFFER, RecordingAgent
from tests.support.sip_call import ANSWER, Call, answer, on

UPDATE = f"{ALLOW}, UPDATE"


def timed(expires_s: int = 90, *, refresher: Any = None, min_se_s: int = 90, allow: str = UPDATE) -> dict[str, Any]:
    return {"allow": allow, "session_timer": SessionTimerConfig(expires_s, min_se_s, refresher)}


UNTIMED: dict[str, Any] = {"allow": UPDATE}
IGNORANT: dict[str, Any] = {"allow": UPDATE, "supported": ("100rel",)}


def expires(message: Message) -> str | None:
    return message.headers.get("Session-Expires")


def sources(call: Call, method: str) -> set[str]:
    return {source[0] for _, source, _, data in call.network.sent if data.startswith(method.encode())}


def refuse_update(session: InviteSession, event: UpdateReceived) -> None:
    session.reject_update(488)


# ---------------------------------------------------------------- who refreshes


@pytest.mark.parametrize(
    ("alice", "bob", "agreed", "refreshing"),
    [
        (timed(), UNTIMED, "90;refresher=uac", "10.0.0.1"),
        (timed(refresher="we"), UNTIMED, "90;refresher=uac", "10.0.0.1"),
        (timed(refresher="they"), UNTIMED, "90;refresher=uas", "10.0.0.2"),
        (UNTIMED, timed(), "90;refresher=uac", "10.0.0.1"),
        (UNTIMED, timed(refresher="we"), "90;refresher=uas", "10.0.0.2"),
        (timed(1800), timed(100), "100;refresher=uac", "10.0.0.1"),
        (IGNORANT, timed(), "90;refresher=uas", "10.0.0.2"),
        (timed(), IGNORANT, None, "10.0.0.1"),
        (timed(refresher="they"), IGNORANT, None, "10.0.0.1"),
    ],
)
def test_the_refresher_keeps_the_session_alive(
    alice: dict[str, Any], bob: dict[str, Any], agreed: str | None, refreshing: str
) -> None:
    call = Call(alice=alice, bob=bob).run(1)
    assert expires(call.wire("200 INVITE")[0]) == agreed
    call.run(400)
    assert call.caller.state is SessionState.CONFIRMED
    assert call.callee.state is SessionState.CONFIRMED
    assert sources(call, "UPDATE") == {refreshing}
    assert 7 <= call.messages.count("UPDATE") <= 9
    assert all(update.body == b"" for update in call.wire("UPDATE"))
    # nobody but the session knows of it
    assert call.alice.names() == ["Answered"]
    assert call.bob.names() == ["Acked"]
    call.caller.bye()
    call.finish()


@pytest.mark.parametrize(("alice", "bob"), [(UNTIMED, UNTIMED), (IGNORANT, UNTIMED), (UNTIMED, IGNORANT)])
def test_nobody_wants_a_timer(alice: dict[str, Any], bob: dict[str, Any]) -> None:
    call = Call(alice=alice, bob=bob).run(1)
    assert expires(call.wire("INVITE")[0]) is None
    assert expires(call.wire("200 INVITE")[0]) is None
    assert call.caller.refresher is None
    assert call.callee.refresher is None
    call.caller.bye()
    call.finish()


def test_the_timer_is_ignored_where_it_is_not_supported() -> None:
    """A peer that sends Session-Expires to us who do not offer it."""
    call = Call(alice=IGNORANT, bob=IGNORANT, headers=[("Session-Expires", "90;refresher=uas")]).run(1)
    assert call.callee.refresher is None
    call.run(200)
    assert call.caller.state is SessionState.CONFIRMED
    call.caller.bye()
    call.finish()


def test_one_timer_more_while_it_runs() -> None:
    call = Call(alice=timed(), bob=UNTIMED).run(40)
    assert call.alice.endpoint.stats.timers == 1
    assert call.bob.endpoint.stats.timers == 1
    call.caller.bye()
    call.finish()


def test_roles_stay_through_refreshes_by_either_side() -> None:
    call = Call(alice=timed(refresher="they"), bob=UNTIMED).run(1)
    call.caller.update()
    call.run(1)
    assert expires(call.wire("UPDATE")[-1]) == "90;refresher=uas"
    assert expires(call.wire("200 UPDATE")[-1]) == "90;refresher=uas"
    call.callee.update()
    call.run(1)
    assert expires(call.wire("UPDATE")[-1]) == "90;refresher=uac"
    call.run(100)
    assert {each.from_tag for each in call.wire("UPDATE")[2:]} == {call.callee.key[1]}
    call.caller.bye()
    call.finish()


# ---------------------------------------------------------------- refresh by re-INVITE


def test_refresh_by_reinvite_where_update_is_not_taken() -> None:
    call = Call(alice=timed(), bob={"allow": ALLOW}).run(1)
    on(call.bob, ReinviteReceived, lambda session, event: session.accept_reinvite(session.local_body))
    call.run(100)
    reinvites = call.wire("INVITE")[1:]
    assert len(reinvites) == 2
    assert {each.body for each in reinvites} == {OFFER}
    assert {expires(each) for each in reinvites} == {"90;refresher=uac"}
    assert call.alice.names() == ["Answered"]
    call.caller.bye()
    call.finish()


def test_refresh_that_brings_another_description_is_told() -> None:
    call = Call(alice=timed(), bob={"allow": ALLOW}).run(1)
    on(call.bob, ReinviteReceived, lambda session, event: session.accept_reinvite(b"bob 2"))
    call.run(100)
    assert call.alice.names() == ["Answered", "ReinviteAnswered"]
    assert call.caller.remote_body == b"bob 2"
    call.caller.bye()
    call.finish()


def test_peer_that_takes_no_update_after_all() -> None:
    call = Call(alice=timed(), bob={"allow": ALLOW}).run(1)
    on(call.bob, ReinviteReceived, lambda session, event: session.accept_reinvite(session.local_body))
    call.caller.exchange.peer_allow = ["UPDATE"]
    call.run(52)
    assert call.messages.count("405 UPDATE") == 1
    assert call.messages.count("INVITE") == 2
    call.run(100)
    assert call.messages.count("UPDATE") == 1 or call.caller.state is SessionState.CONFIRMED
    call.caller.bye()
    call.finish()


def test_users_offer_waits_for_a_refresh() -> None:
    call = Call(alice=timed(), bob={"allow": ALLOW}).run(45.0025)
    assert call.messages[-1] == "INVITE"  # the refresh
    call.caller.reinvite(b"alice 2")
    on(call.bob, ReinviteReceived, lambda session, event: session.accept_reinvite(ANSWER))
    call.run(1)
    assert [each.body for each in call.wire("INVITE")] == [OFFER, OFFER, b"alice 2"]
    assert call.alice.names() == ["Answered", "ReinviteAnswered"]
    assert call.callee.remote_body == b"alice 2"
    call.caller.bye()
    call.finish()


def test_refresh_waits_for_an_exchange_under_way() -> None:
    call = Call(alice=timed(), bob=UNTIMED).run(44)
    call.callee.reinvite(b"bob 2")
    call.run(2)
    assert "UPDATE" not in call.messages
    call.caller.reject_reinvite(488)
    call.run(5)
    assert "UPDATE" in call.messages
    call.run(100)
    assert call.caller.state is SessionState.CONFIRMED
    call.caller.bye()
    call.finish()


def test_any_reinvite_or_update_refreshes() -> None:
    call = Call(alice=timed(), bob=UNTIMED).run(1)
    on(call.bob, ReinviteReceived, lambda session, event: session.accept_reinvite(ANSWER))
    on(call.alice, UpdateReceived, lambda session, event: session.accept_update(OFFER))
    for _ in range(5):
        call.run(30)
        call.caller.reinvite(OFFER)
        call.run(30)
        call.callee.update(ANSWER)
    call.run(1)
    assert sources(call, "UPDATE") == {"10.0.0.2"}  # the refresher had nothing to do
    call.caller.bye()
    call.finish()


# ---------------------------------------------------------------- the end


def test_refresher_that_is_gone() -> None:
    call = Call(alice=timed(), bob=UNTIMED).run(1)
    call.drop("UPDATE", "BYE")
    call.run(58)
    assert call.callee.state is SessionState.CONFIRMED
    assert call.caller.state is SessionState.CONFIRMED
    call.run(2)  # a third before the end: at 60 s
    assert call.bob.last() == Ended("timeout", None, "session timer")
    assert call.alice.last() == Ended("timeout", None, "session timer")
    (reason,) = {each.headers.get("Reason") for each in call.wire("BYE")}
    assert reason == 'SIP;cause=408;text="session timer"'
    call.finish()


def test_bye_of_a_dead_session_comes_32_seconds_before_the_end() -> None:
    call = Call(alice=timed(1800), bob=UNTIMED).run(1)
    call.drop("UPDATE", "BYE")
    call.caller.exchange.peer_allow = []
    call.alice.endpoint.failing = "cable cut"
    call.run(1766)
    assert call.callee.state is SessionState.CONFIRMED
    call.run(3)
    assert call.bob.last() == Ended("timeout", None, "session timer")
    call.run(100)
    call.caller.bye()
    call.finish()


def test_session_ends_with_the_dialog_of_the_peer() -> None:
    call = Call(alice=timed(), bob=UNTIMED).run(1)
    call.callee.bye()
    call.run(200)
    assert "UPDATE" not in call.messages
    call.finish()


def test_refresh_to_a_dialog_that_is_gone() -> None:
    call = Call(alice=timed(), bob=UNTIMED).run(1)
    call.bob.agent.forget(call.callee)
    call.run(50)
    assert call.alice.last() == Ended("failure", None, "UPDATE: 481")
    call.callee.bye()
    call.finish()


def test_refused_refresh_is_tried_again_until_the_end() -> None:
    call = Call(alice=timed(), bob={"allow": ALLOW}).run(1)
    on(call.bob, ReinviteReceived, lambda session, event: session.reject_reinvite(503))
    call.run(58)
    assert call.caller.state is SessionState.CONFIRMED
    assert call.messages.count("503 INVITE") == 3
    call.run(3)
    assert call.bob.last() == Ended("timeout", None, "session timer")
    call.finish()


def test_refused_refresh_that_is_accepted_later() -> None:
    call = Call(alice=timed(), bob={"allow": ALLOW}).run(1)
    refused: list[bool] = []

    def refuse_once(session: InviteSession, event: ReinviteReceived) -> None:
        if refused:
            session.accept_reinvite(ANSWER)
        else:
            refused.append(session.reject_reinvite(503))

    on(call.bob, ReinviteReceived, refuse_once)
    call.run(400)
    assert call.caller.state is SessionState.CONFIRMED
    assert call.alice.names() == ["Answered"]
    call.caller.bye()
    call.finish()


# ---------------------------------------------------------------- 422


def test_callee_wants_longer_intervals() -> None:
    call = Call(alice=timed(90), bob=timed(1800, min_se_s=300)).run(1)
    first, second = call.wire("INVITE")
    assert call.messages == ["INVITE", "422 INVITE", "ACK", "INVITE", "200 INVITE", "ACK"]
    assert call.wire("422 INVITE")[0].headers.get("Min-SE") == "300"
    assert (expires(first), first.headers.get("Min-SE")) == ("90", None)
    assert (expires(second), second.headers.get("Min-SE")) == ("300", "300")
    assert [str(each.cseq) for each in (first, second)] == ["1 INVITE", "2 INVITE"]
    assert (first.call_id, first.from_tag, first.body) == (second.call_id, second.from_tag, second.body)
    assert len(second.vias) == 1
    assert call.alice.names() == ["Answered"]
    assert str(call.wire("ACK")[-1].cseq) == "2 ACK"
    first_callee, second_callee = call.bob.sessions
    assert first_callee.is_terminated
    assert second_callee.state is SessionState.CONFIRMED
    call.run(400)
    assert expires(call.wire("UPDATE")[-1]) == "300;refresher=uac"
    assert call.wire("UPDATE")[-1].headers.get("Min-SE") == "300"
    call.caller.bye()
    call.run(1)
    assert call.wire("BYE")[0].cseq.number > 2
    call.finish()


def test_422_on_a_ringing_call_comes_before_the_ringing() -> None:
    call = Call(
        lambda agent, session: session.provisional(180) and None, alice=timed(90), bob=timed(1800, min_se_s=300)
    ).run(1)
    assert call.messages == ["INVITE", "422 INVITE", "ACK", "INVITE", "180 INVITE"]
    call.caller.cancel()
    call.finish()


def test_caller_does_not_try_again_in_vain() -> None:
    def refuse(agent: RecordingAgent, session: InviteSession) -> None:
        session.reject(422, headers=[("Min-SE", "80")])

    call = Call(refuse, alice=timed(90), bob=UNTIMED).run(1)
    assert call.messages.count("INVITE") == 1
    end = call.alice.last()
    assert isinstance(end, Rejected)
    assert end.status == 422
    call.finish()
    call = Call(refuse, alice=UNTIMED, bob=UNTIMED).run(1)
    assert call.messages.count("INVITE") == 1
    call.finish()


def test_endless_422_ends() -> None:
    least = iter(range(100, 1000, 100))

    def refuse(agent: RecordingAgent, session: InviteSession) -> None:
        session.reject(422, headers=[("Min-SE", str(next(least)))])

    call = Call(refuse, alice=timed(90), bob=UNTIMED).run(1)
    assert call.messages.count("INVITE") == 3
    assert isinstance(call.alice.last(), Rejected)
    call.finish()


def test_cancelled_call_does_not_try_again() -> None:
    call = Call(lambda agent, session: None, alice=timed(90), bob=UNTIMED).run(0.1)
    call.caller.cancel()
    call.callee.reject(422, headers=[("Min-SE", "300")])
    call.run(1)
    assert call.messages.count("INVITE") == 1
    call.finish()


def test_422_to_a_refresh() -> None:
    call = Call(alice=timed(90), bob=UNTIMED).run(1)
    call.bob.agent.session_timer = SessionTimerConfig(1800, 200)
    call.run(50)
    assert call.messages[-4:] == ["UPDATE", "422 UPDATE", "UPDATE", "200 UPDATE"]
    assert [expires(each) for each in call.wire("UPDATE")] == ["90;refresher=uac", "200;refresher=uac"]
    call.run(600)
    assert call.caller.state is SessionState.CONFIRMED
    call.caller.bye()
    call.finish()


def test_422_to_a_reinvite_and_to_an_update_with_an_offer() -> None:
    call = Call(alice=timed(90), bob=UNTIMED).run(1)
    on(call.bob, ReinviteReceived, lambda session, event: session.accept_reinvite(b"bob 2"))
    call.bob.agent.session_timer = SessionTimerConfig(1800, 200)
    call.caller.reinvite(b"alice 2")
    call.run(1)
    assert call.messages.count("422 INVITE") == 1
    assert call.alice.names() == ["Answered", "ReinviteAnswered"]
    assert call.bob.names().count("ReinviteReceived") == 1
    on(call.bob, UpdateReceived, lambda session, event: session.accept_update(b"bob 3"))
    call.bob.agent.session_timer = SessionTimerConfig(1800, 300)
    call.caller.update(b"alice 3")
    call.run(1)
    assert call.messages.count("422 UPDATE") == 1
    assert (call.caller.remote_body, call.callee.remote_body) == (b"bob 3", b"alice 3")
    call.caller.bye()
    call.finish()


def test_the_user_agent_knows_a_422_before_the_session() -> None:
    call = Call(alice=timed(90), bob=timed(1800, min_se_s=300)).run(1)
    invite = call.wire("INVITE")[0]
    assert isinstance(invite, Request)
    assert call.bob.agent.interval_refusal(invite) == [("Min-SE", "300")]
    assert call.alice.agent.interval_refusal(invite) is None
    call.caller.bye()
    call.finish()


# ---------------------------------------------------------------- odd peers


@pytest.mark.parametrize("text", ["x", "", "0", "4294967296", "90;refresher=nobody"])
def test_nonsense_in_session_expires(text: str) -> None:
    call = Call(alice={"allow": UPDATE}, bob=UNTIMED, headers=[("Session-Expires", text)]).run(1)
    call.run(300)
    assert not call.bob.endpoint.counters.guard_errors
    for session in (call.caller, *call.bob.sessions):
        session.bye()
    call.finish()


def test_update_in_an_early_dialog_says_nothing_of_the_timer() -> None:
    call = Call(
        lambda agent, session: session.provisional(183, body=ANSWER) and None,
        alice=timed(refresher="they"),
        bob=timed(),
    ).run(1)
    call.drop("200 UPDATE", first=1)
    call.caller.update()
    call.run(0.1)
    assert expires(call.wire("UPDATE")[0]) is None
    call.callee.answer(b"")
    call.run(5)
    # the late 200 of that UPDATE, which has no Session-Expires, does not change what the 200 of the INVITE said
    assert call.caller.refresher is not None
    assert call.caller.refresher.agreed is not None
    assert not call.caller.refresher.agreed.we_refresh
    call.run(100)
    assert call.caller.state is SessionState.CONFIRMED
    call.caller.bye()
    call.finish()


def test_2xx_with_a_timer_that_we_did_not_ask_for() -> None:
    def answer_by_hand(agent: RecordingAgent, session: InviteSession) -> None:
        session.answer(ANSWER, headers=[("Session-Expires", "90;refresher=uac"), ("Require", "timer")])

    call = Call(answer_by_hand, alice=UNTIMED, bob=UNTIMED).run(47)
    assert call.messages.count("UPDATE") == 1
    assert expires(call.wire("UPDATE")[0]) == "90;refresher=uac"
    call.caller.bye()
    call.finish()


def test_refresh_of_a_call_without_descriptions_asks_for_an_offer() -> None:
    def no_answer(agent: RecordingAgent, session: InviteSession) -> None:
        session.answer(b"")

    call = Call(no_answer, alice=timed(), bob={"allow": ALLOW}, body=b"").run(1)
    on(call.bob, ReinviteReceived, lambda session, event: session.accept_reinvite(ANSWER))
    on(call.alice, ReinviteAnswered, lambda session, event: session.ack(OFFER))
    call.run(50)
    assert call.alice.names() == ["Answered", "ReinviteAnswered"]
    assert call.callee.remote_body == OFFER
    call.caller.bye()
    call.finish()


def test_unanswered_session_without_a_final_response_has_no_timer() -> None:
    call = Call(alice=timed(), bob=UNTIMED, on_invite=lambda agent, session: None).run(0.1)
    request = call.caller.request
    stray = build_response(request, 183, to_tag="x", headers=[("Session-Expires", "90")]).to_bytes()
    call.alice.endpoint.receive_datagram_untrusted(stray, call.alice_flow)
    assert call.caller.refresher is not None
    assert call.caller.refresher.agreed is None
    call.callee.reject(486)
    call.finish()


def test_plain_answer_has_no_refresher() -> None:
    call = Call(answer).run(1)
    assert call.callee.refresher is None
    call.caller.bye()
    call.finish()
