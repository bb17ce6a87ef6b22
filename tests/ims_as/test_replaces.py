"""Replaces (RFC 3891): the header, and which session it finds."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ims_as.sip.dialog import DialogId
from ims_as.sip.errors import LocalProtocolError, SipParseError
from ims_as.sip.invite_session import InviteSession
from ims_as.sip.option_tags import KNOWN_TO_SESSIONS
from ims_as.sip.replaces import Replaces
from tests.support.sip_agents import RecordingAgent
from tests.support.sip_call import ANSWER, Call, ring
from tests.support.sip_messages import build_request

REPLACING: dict[str, Any] = {"supported": (*KNOWN_TO_SESSIONS, "replaces")}


def find(agent: RecordingAgent, *values: str, headers: tuple[tuple[str, str], ...] = ()) -> InviteSession | int | None:
    lines = tuple(("Replaces", value) for value in values)
    return agent.agent.find_replaced(build_request(headers=(*lines, *headers)))


# ---------------------------------------------------------------- the header


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a@b;to-tag=x;from-tag=y", Replaces("a@b", "x", "y")),
        ("a@b ; From-Tag=y ;TO-TAG=x;early-only;z=1", Replaces("a@b", "x", "y", True)),
        ("(a)/b[c]?;to-tag=x;from-tag=0", Replaces("(a)/b[c]?", "x", "0")),
    ],
)
def test_parse(text: str, expected: Replaces) -> None:
    parsed = Replaces.parse_untrusted(text)
    assert parsed == expected
    assert Replaces.parse_untrusted(str(parsed)) == parsed


@pytest.mark.parametrize(
    "text",
    [
        "", ";to-tag=x;from-tag=y", "a;to-tag=x", "a;from-tag=y", "a;to-tag;from-tag=y",
        "a;to-tag=x;to-tag=z;from-tag=y", "a,b;to-tag=x;from-tag=y", "a b;to-tag=x;from-tag=y",
        "a;to-tag=x;from-tag=y;;", "a" * 513 + ";to-tag=x;from-tag=y",
    ],
)  # fmt: skip
def test_malformed(text: str) -> None:
    with pytest.raises(SipParseError):
        Replaces.parse_untrusted(text)


@given(st.text(max_size=60))
def test_nothing_else_is_raised(text: str) -> None:
    with suppress(SipParseError):
        Replaces.parse_untrusted(text)


def test_tags_are_the_view_of_the_peer() -> None:
    assert (
        str(Replaces.of(DialogId("c", "ours", "theirs"), early_only=True)) == "c;to-tag=theirs;from-tag=ours;early-only"
    )
    assert str(Replaces.of(DialogId("c", "ours", ""))) == "c;to-tag=0;from-tag=ours"


# ---------------------------------------------------------------- which session


def test_confirmed_session_at_either_side() -> None:
    call = Call(alice=REPLACING, bob=REPLACING).run(1)
    assert find(call.bob, call.caller.replaces()) is call.callee
    assert find(call.alice, call.callee.replaces()) is call.caller
    assert find(call.bob, call.caller.replaces(early_only=True)) == 486
    # the tags are not to be exchanged, and not to be guessed
    assert find(call.alice, call.caller.replaces()) == 481
    callee_tag, caller_tag = call.callee.key[1], call.caller.key[1]
    assert find(call.bob, f"{call.caller.key[0]};to-tag={callee_tag};from-tag=x") == 481
    assert find(call.bob, f"x;to-tag={callee_tag};from-tag={caller_tag}") == 481
    assert find(call.bob, f"{call.caller.key[0]};to-tag={callee_tag};from-tag=0") == 481
    call.caller.bye()
    call.finish()


def test_early_session_only_at_the_side_that_called() -> None:
    call = Call(ring, alice=REPLACING, bob=REPLACING).run(1)
    assert find(call.alice, call.callee.replaces(early_only=True)) is call.caller
    assert find(call.alice, call.callee.replaces()) is call.caller
    assert find(call.bob, call.caller.replaces()) == 481
    call.callee.answer(ANSWER)
    call.run(1)
    assert find(call.bob, call.caller.replaces()) is call.callee
    call.caller.bye()
    call.finish()


def test_session_that_is_over() -> None:
    call = Call(alice=REPLACING, bob=REPLACING).run(1)
    value = call.callee.replaces()
    call.caller.bye()
    assert find(call.alice, value) == 603  # it waits for the response to its BYE
    call.run(1)
    assert find(call.alice, value) == 481
    call.finish()


def test_malformed_requests() -> None:
    call = Call(bob=REPLACING).run(1)
    value = call.caller.replaces()
    assert find(call.bob) is None
    assert find(call.bob, "nonsense") == 400
    assert find(call.bob, value, value) == 400
    assert find(call.bob, value, headers=(("Join", value),)) == 400
    call.caller.bye()
    call.finish()


def test_it_is_ignored_where_it_is_not_supported() -> None:
    call = Call().run(1)
    assert find(call.bob, call.caller.replaces()) is None
    call.caller.bye()
    call.finish()


def test_nothing_to_replace() -> None:
    call = Call(lambda agent, session: None)
    with pytest.raises(LocalProtocolError):
        call.caller.replaces()
    call.run(0.1)
    call.callee.reject(486)
    call.finish()


def test_any_early_dialog_of_a_forked_call() -> None:
    call = Call(ring, alice=REPLACING).run(1)
    first = call.callee.replaces()
    data = next(data for *_, data in call.network.sent if data.startswith(b"SIP/2.0 180"))
    other = data.replace(call.callee.key[1].encode(), b"other")
    call.alice.endpoint.receive_datagram_untrusted(other, call.alice_flow)
    assert find(call.alice, first) is call.caller
    assert find(call.alice, first.replace(call.callee.key[1], "other")) is call.caller
    call.callee.answer(ANSWER)
    call.run(1)
    assert find(call.alice, first) is call.caller
    assert find(call.alice, first.replace(call.callee.key[1], "other")) == 481
    call.caller.bye()
    call.finish()


def test_the_replaced_call_is_hung_up_when_the_new_one_is_answered() -> None:
    """Carol (another call of Alice's agent here) takes Alice's place at Bob."""

    def decide(agent: RecordingAgent, session: InviteSession) -> None:
        replaced = agent.agent.find_replaced(session.request)
        session.answer(ANSWER)
        if isinstance(replaced, InviteSession):
            replaced.bye()

    call = Call(decide, bob=REPLACING).run(1)
    new = call.alice.call(headers=[("Replaces", call.caller.replaces()), ("Require", "replaces")])
    call.run(1)
    assert call.caller.is_terminated
    assert not new.is_terminated
    new.bye()
    call.finish()
