"""A forked INVITE: several early dialogs at the caller, 199 (RFC 6228), and what each callee sees."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from ims_as.sip.caller import MAX_FORKS
from ims_as.sip.errors import LocalProtocolError
from ims_as.sip.invite_session import (
    Answered,
    Cancelled,
    EarlyDialogEnded,
    Ended,
    InviteSession,
    Provisional,
    Rejected,
    SessionState,
    UpdateReceived,
)
from ims_as.sip.message import build_response
from tests.support.link import LinkNetwork
from tests.support.sip_agents import ALLOW, OFFER, RecordingAgent
from tests.support.sip_call import ANSWER, Call, name_of, on

WITH_UPDATE: dict[str, Any] = {"allow": f"{ALLOW}, UPDATE"}
CAROLS = ANSWER.replace(b"5000", b"6000")


class Fork:
    """Alice's INVITE, and its CANCEL, reach Bob and Carol alike, as if a proxy had forked it."""

    def __init__(self, **options: Any) -> None:
        self.network = LinkNetwork()
        self.alice = RecordingAgent(self.network.add("10.0.0.1"), **WITH_UPDATE)
        self.bob = RecordingAgent(self.network.add("10.0.0.2"), **WITH_UPDATE)
        self.carol = RecordingAgent(self.network.add("10.0.0.3"), **WITH_UPDATE)
        carry = self.network.carry

        def fork(data: bytes, source: tuple[str, int], target: tuple[str, int]) -> None:
            carry(data, source, target)
            if name_of(data) in ("INVITE", "CANCEL"):
                carry(data, source, ("10.0.0.3", 5060))

        self.network.carry = fork  # type: ignore[method-assign]
        self.caller = self.alice.call(**options)
        self.run(0.01)

    def run(self, seconds: float) -> None:
        self.network.run(seconds)

    @property
    def bobs(self) -> InviteSession:
        return self.bob.sessions[0]

    @property
    def carols(self) -> InviteSession:
        return self.carol.sessions[0]

    def messages(self, host: str) -> list[str]:
        """What Alice sent there."""
        return [name_of(data) for _, source, target, data in self.network.sent if target[0] == host]

    def sent_to(self, host: str) -> list[bytes]:
        return [data for _, _, target, data in self.network.sent if target[0] == host]

    def finish(self) -> None:
        for session in (self.bobs, self.carols):
            session.bye()
        self.caller.bye()
        self.run(200)
        for agent in (self.alice, self.bob, self.carol):
            agent.assert_one_end()
        self.network.assert_clean()


def test_each_callee_has_an_early_dialog_of_its_own() -> None:
    fork = Fork()
    fork.bobs.provisional(183, body=ANSWER)
    fork.run(0.1)
    assert fork.caller.dialog is not None
    assert fork.caller.dialog.id.remote_tag == fork.bobs.key[1]
    assert fork.caller.remote_body == ANSWER
    fork.carols.provisional(183, body=CAROLS)
    fork.run(0.1)
    assert fork.caller.dialog.id.remote_tag == fork.carols.key[1]
    assert fork.caller.remote_body == CAROLS
    events = [event for event in fork.alice.events[fork.caller] if isinstance(event, Provisional)]
    assert [event.to_tag for event in events] == [fork.bobs.key[1], fork.carols.key[1]]
    assert fork.messages("10.0.0.2") == ["INVITE", "PRACK"]
    assert fork.messages("10.0.0.3") == ["INVITE", "PRACK"]
    # the first one answers: what was agreed with it counts
    fork.bobs.answer(b"")
    fork.run(0.1)
    assert fork.caller.state is SessionState.CONFIRMED
    assert fork.caller.dialog.id.remote_tag == fork.bobs.key[1]
    assert fork.caller.remote_body == ANSWER
    fork.finish()


def test_second_answer_is_acked_and_hung_up_with_the_next_cseq() -> None:
    fork = Fork()
    fork.bobs.provisional(183, body=ANSWER)
    fork.carols.provisional(183, body=CAROLS)
    fork.run(0.1)
    fork.bobs.answer(b"")
    fork.run(0.1)
    fork.carols.answer(b"")
    fork.run(1)
    assert fork.messages("10.0.0.3") == ["INVITE", "PRACK", "ACK", "BYE"]
    assert fork.carol.names() == ["Pracked", "Acked", "Ended"]
    assert b"CSeq: 3 BYE" in fork.sent_to("10.0.0.3")[-1]
    assert fork.alice.names() == ["Provisional", "Provisional", "Answered"]
    assert fork.caller.state is SessionState.CONFIRMED
    fork.finish()


def test_updates_go_to_the_right_callee() -> None:
    fork = Fork()
    fork.bobs.provisional(183, body=ANSWER)
    fork.carols.provisional(183, body=CAROLS)
    fork.run(0.1)
    for agent in (fork.bob, fork.carol):
        on(agent, UpdateReceived, lambda session, event: session.accept_update(session.local_body + b"a=x\r\n"))
    fork.caller.update(OFFER + b"a=bob\r\n", to_tag=fork.bobs.key[1])
    fork.caller.update(OFFER + b"a=carol\r\n")
    with pytest.raises(LocalProtocolError):
        fork.caller.update(OFFER, to_tag="nobody")
    fork.run(0.5)
    assert fork.bobs.remote_body == OFFER + b"a=bob\r\n"
    assert fork.carols.remote_body == OFFER + b"a=carol\r\n"
    assert fork.caller.remote_body == CAROLS + b"a=x\r\n"
    fork.bobs.answer(b"")
    fork.run(0.1)
    assert (fork.caller.local_body, fork.caller.remote_body) == (OFFER + b"a=bob\r\n", ANSWER + b"a=x\r\n")
    fork.finish()


def test_updates_of_two_callees_at_once() -> None:
    fork = Fork()
    fork.bobs.provisional(183, body=ANSWER)
    fork.carols.provisional(183, body=CAROLS)
    fork.run(0.1)
    fork.bobs.update(b"bob 2")
    fork.carols.update(b"carol 2")
    fork.run(0.1)
    received = [event.request.from_tag for event in fork.alice.events[fork.caller] if isinstance(event, UpdateReceived)]
    assert received == [fork.bobs.key[1], fork.carols.key[1]]
    assert fork.caller.accept_update(b"to bob", to_tag=fork.bobs.key[1])
    assert fork.caller.reject_update(488, to_tag=fork.carols.key[1])
    assert not fork.caller.accept_update(b"late", to_tag="nobody")
    fork.run(0.1)
    assert (fork.bobs.local_body, fork.bobs.remote_body) == (b"bob 2", b"to bob")
    assert (fork.carols.local_body, fork.carols.remote_body) == (CAROLS, OFFER)
    fork.finish()


def test_offers_of_two_callees_to_an_invite_without_one() -> None:
    fork = Fork(body=b"")
    fork.bobs.provisional(183, body=ANSWER)
    fork.carols.provisional(183, body=CAROLS)
    fork.run(0.1)
    fork.caller.prack(b"to bob", to_tag=fork.bobs.key[1])
    fork.caller.prack(b"to carol")
    fork.run(0.1)
    assert fork.bobs.remote_body == b"to bob"
    assert fork.carols.remote_body == b"to carol"
    fork.carols.answer(b"")
    fork.run(0.1)
    assert (fork.caller.local_body, fork.caller.remote_body) == (b"to carol", CAROLS)
    fork.finish()


def test_requests_of_a_callee_that_was_not_chosen_are_481() -> None:
    fork = Fork()
    fork.bobs.provisional(183, body=ANSWER)
    fork.carols.provisional(183, body=CAROLS)
    fork.run(0.1)
    fork.bobs.answer(b"")
    fork.run(0.1)
    statuses: list[int] = []
    fork.carols.send_request("INFO", on_event=lambda event: statuses.append(event.response.status))  # type: ignore[union-attr]
    fork.run(0.1)
    assert statuses == [481]
    fork.finish()


def test_info_of_each_early_dialog_is_in_order_by_itself() -> None:
    fork = Fork()
    fork.bobs.provisional(183, body=ANSWER)
    fork.carols.provisional(183, body=CAROLS)
    fork.run(0.1)
    statuses: list[int] = []
    for _ in range(2):
        for session in (fork.bobs, fork.carols):
            session.send_request("INFO", on_event=lambda event: statuses.append(event.response.status))  # type: ignore[union-attr]
            fork.run(0.1)
    assert statuses == [200] * 4
    fork.finish()


# ---------------------------------------------------------------- one early dialog ends


def respond(fork: Fork, session: InviteSession, status: int, headers: Iterable[tuple[str, str]] = ()) -> None:
    """A response of a callee's side past its session."""
    items = [("Contact", session.contact), *headers]
    response = build_response(fork.caller.request, status, to_tag=session.key[1], headers=items)
    fork.alice.endpoint.receive_datagram_untrusted(response.to_bytes(), Call.alice_flow)


def test_199_ends_one_early_dialog() -> None:
    fork = Fork()
    fork.bobs.provisional(183, body=ANSWER)
    fork.carols.provisional(183, body=CAROLS)
    fork.run(0.1)
    respond(fork, fork.carols, 199)
    event = fork.alice.last()
    assert isinstance(event, EarlyDialogEnded)
    assert event.to_tag == fork.carols.key[1]
    assert event.response is not None
    assert fork.caller.dialog is not None
    assert fork.caller.dialog.id.remote_tag == fork.bobs.key[1]
    assert fork.caller.remote_body == ANSWER
    respond(fork, fork.carols, 199)  # again, and of one that nobody knows
    assert fork.alice.last() is event
    fork.bobs.answer(b"")
    fork.run(0.1)
    assert isinstance(fork.alice.last(), Answered)
    fork.finish()


def test_reliable_199_is_acknowledged() -> None:
    fork = Fork()
    fork.carols.provisional(180)
    fork.run(0.1)
    respond(fork, fork.carols, 199, [("Require", "100rel"), ("RSeq", "5")])
    assert isinstance(fork.alice.last(), EarlyDialogEnded)
    assert fork.messages("10.0.0.3")[-1] == "PRACK"
    assert fork.caller.dialog is None
    fork.finish()


def test_199_of_the_only_early_dialog_leaves_the_call_to_others() -> None:
    fork = Fork()
    fork.carols.provisional(183, body=CAROLS)
    fork.run(0.1)
    respond(fork, fork.carols, 199)
    assert fork.caller.dialog is None
    assert fork.caller.remote_body == b""
    assert not fork.caller.can_offer
    fork.bobs.answer(ANSWER)
    fork.run(0.1)
    assert fork.caller.remote_body == ANSWER
    fork.finish()


def test_2xx_after_199_is_an_answer_all_the_same() -> None:
    fork = Fork()
    fork.carols.provisional(180)
    fork.run(0.1)
    respond(fork, fork.carols, 199)
    fork.carols.answer(CAROLS)
    fork.run(0.1)
    assert fork.caller.state is SessionState.CONFIRMED
    assert fork.caller.remote_body == CAROLS
    fork.finish()


def test_bye_in_one_early_dialog() -> None:
    """§15.1.1: the callee answers its INVITE with 487, which a forking proxy keeps to itself."""
    fork = Fork()
    fork.bobs.provisional(180)
    fork.carols.provisional(180)
    fork.run(0.1)
    carry = fork.network.carry

    def drop_487(data: bytes, source: tuple[str, int], target: tuple[str, int]) -> None:
        if name_of(data) != "487 INVITE":
            carry(data, source, target)

    fork.network.carry = drop_487  # type: ignore[method-assign]
    assert fork.caller.hang_up_early(fork.carols.key[1])
    assert not fork.caller.hang_up_early(fork.carols.key[1])
    fork.run(0.1)
    assert isinstance(fork.carol.last(), Ended)
    assert fork.alice.last() == EarlyDialogEnded(fork.carols.key[1], None)
    fork.bobs.answer(ANSWER)
    fork.run(0.1)
    assert not fork.caller.hang_up_early(fork.bobs.key[1])
    fork.finish()


def test_callee_that_leaves_its_early_dialog() -> None:
    """A callee must not send BYE there; when it does, the others go on, and the last one ends the call."""
    fork = Fork()
    fork.bobs.provisional(180)
    fork.carols.provisional(180)
    fork.run(0.1)
    assert fork.carols.dialog is not None
    fork.carol.endpoint.send_request(fork.carols.dialog.build_request("BYE"), on_event=lambda event: None)
    fork.run(0.1)
    assert fork.alice.last() == EarlyDialogEnded(fork.carols.key[1], None)
    assert fork.bobs.dialog is not None
    fork.bob.endpoint.send_request(fork.bobs.dialog.build_request("BYE"), on_event=lambda event: None)
    fork.run(1)
    end = fork.alice.last()
    assert isinstance(end, Ended)
    assert end.by == "remote"
    assert isinstance(fork.bob.last(), Cancelled)
    fork.finish()


def test_update_that_meets_no_dialog_ends_that_early_dialog() -> None:
    fork = Fork()
    fork.bobs.provisional(183, body=ANSWER)
    fork.carols.provisional(183, body=CAROLS)
    fork.run(0.1)
    on(fork.carol, UpdateReceived, lambda session, event: session.reject_update(481))
    fork.caller.update(b"new")
    fork.run(0.1)
    assert fork.alice.names()[-2:] == ["UpdateRejected", "EarlyDialogEnded"]
    assert fork.caller.dialog is not None
    assert fork.caller.dialog.id.remote_tag == fork.bobs.key[1]
    fork.finish()


def test_rejection_ends_all_early_dialogs_and_what_is_under_way_in_them() -> None:
    fork = Fork()
    fork.bobs.provisional(183, body=ANSWER)
    fork.carols.provisional(183, body=CAROLS)
    fork.run(0.1)
    fork.bobs.update(b"bob 2")
    fork.caller.update(b"new", to_tag=fork.carols.key[1])
    fork.run(0.1)
    fork.carols.reject(603)
    fork.run(0.1)
    end = fork.alice.last()
    assert isinstance(end, Rejected)
    assert end.status == 603
    assert "487 UPDATE" in fork.messages("10.0.0.2")
    fork.finish()


def test_cancel_reaches_all() -> None:
    fork = Fork()
    fork.bobs.provisional(183, body=ANSWER)
    fork.carols.provisional(180)
    fork.run(0.1)
    fork.caller.cancel()
    fork.run(1)
    assert isinstance(fork.bob.last(), Cancelled)
    assert isinstance(fork.carol.last(), Cancelled)
    fork.finish()


def test_late_2xx_of_a_cancelled_call_is_hung_up_in_its_own_dialog() -> None:
    fork = Fork()
    fork.bobs.provisional(183, body=ANSWER)
    fork.carols.provisional(183, body=CAROLS)
    fork.run(0.1)
    fork.caller.cancel()
    fork.carols.answer(b"")
    fork.run(1)
    assert fork.messages("10.0.0.3")[-2:] == ["ACK", "BYE"]
    assert b"CSeq: 3 BYE" in fork.sent_to("10.0.0.3")[-1]
    assert fork.carol.names()[-2:] == ["Acked", "Ended"]
    fork.finish()


# ---------------------------------------------------------------- routes, bounds, odd responses


def test_2xx_may_come_by_another_way_than_the_18x() -> None:
    """§13.2.2.4: route set and target are those of the 2xx, the sequence numbers go on."""
    fork = Fork()
    respond(fork, fork.bobs, 183, [("Record-Route", "<sip:10.0.0.2;early;lr>"), ("Require", "100rel"), ("RSeq", "1")])
    prack = next(data for *_, data in reversed(fork.network.sent) if data.startswith(b"PRACK"))
    assert b"Route: <sip:10.0.0.2;early;lr>" in prack
    respond(fork, fork.bobs, 200, [("Record-Route", "<sip:10.0.0.2;late;lr>")])
    assert fork.network.sent[-1][3].startswith(b"ACK ")
    assert b"Route: <sip:10.0.0.2;late;lr>" in fork.network.sent[-1][3]
    fork.caller.bye()
    bye = fork.network.sent[-1][3]
    assert b"CSeq: 3 BYE" in bye
    assert b"Route: <sip:10.0.0.2;late;lr>" in bye
    fork.finish()


def test_early_dialogs_are_bounded() -> None:
    fork = Fork()
    for number in range(3 * MAX_FORKS):
        response = build_response(
            fork.caller.request, 180, to_tag=f"t{number}", headers=[("Contact", "<sip:dave@10.0.0.4>")]
        )
        fork.alice.endpoint.receive_datagram_untrusted(response.to_bytes(), Call.alice_flow)
    assert fork.alice.names().count("Provisional") == MAX_FORKS
    fork.bobs.answer(ANSWER)
    fork.run(0.1)
    assert fork.caller.state is SessionState.CONFIRMED  # one too many to ring, but none to answer
    fork.carols.reject(486)
    fork.run(0.1)
    fork.finish()


def test_provisional_without_a_tag_makes_no_dialog() -> None:
    fork = Fork()
    response = build_response(fork.caller.request, 180)
    fork.alice.endpoint.receive_datagram_untrusted(response.to_bytes(), Call.alice_flow)
    event = fork.alice.last()
    assert isinstance(event, Provisional)
    assert event.to_tag is None
    assert fork.caller.dialog is None
    fork.caller.cancel()
    fork.run(1)
    fork.finish()


def test_spurious_responses_after_the_end() -> None:
    fork = Fork()
    fork.bobs.provisional(183, body=ANSWER)
    fork.run(0.1)
    fork.bobs.answer(b"")
    fork.run(0.1)
    names = fork.alice.names()
    respond(fork, fork.carols, 183, [("Require", "100rel"), ("RSeq", "5")])
    respond(fork, fork.bobs, 180)
    respond(fork, fork.carols, 486)
    assert fork.alice.names() == names
    assert fork.messages("10.0.0.3") == ["INVITE"]
    fork.caller.bye()
    fork.run(0.1)
    respond(fork, fork.bobs, 200)
    respond(fork, fork.carols, 200)
    fork.run(0.1)
    fork.finish()


def test_answer_of_an_early_dialog_that_was_hung_up() -> None:
    """The BYE and the 2xx have crossed: the second BYE counts on from the first."""
    fork = Fork()
    fork.bobs.provisional(183, body=ANSWER)
    fork.carols.provisional(183, body=CAROLS)
    fork.run(0.1)
    assert fork.caller.hang_up_early(fork.carols.key[1])
    fork.bobs.answer(b"")
    fork.run(0.1)
    respond(fork, fork.carols, 200)
    assert fork.messages("10.0.0.3")[-2:] == ["ACK", "BYE"]
    assert b"CSeq: 4 BYE" in fork.sent_to("10.0.0.3")[-1]
    fork.finish()


def test_second_answer_is_hung_up_by_its_own_route() -> None:
    fork = Fork()
    fork.carols.provisional(180)
    fork.run(0.1)
    fork.bobs.answer(ANSWER)
    fork.run(0.1)
    respond(fork, fork.carols, 200, [("Record-Route", "<sip:10.0.0.3;late;lr>")])
    for data in (data for *_, target, data in fork.network.sent[-2:] if target[0] == "10.0.0.3"):
        assert data[:4] in (b"ACK ", b"BYE ")
        assert b"Route: <sip:10.0.0.3;late;lr>" in data
    assert fork.messages("10.0.0.3")[-2:] == ["ACK", "BYE"]
    fork.carols.reject(486)
    fork.finish()


def test_answer_ends_what_is_under_way_in_other_early_dialogs() -> None:
    fork = Fork()
    fork.bobs.provisional(183, body=ANSWER)
    fork.carols.provisional(183, body=CAROLS)
    fork.run(0.1)
    fork.carols.update(b"carol 2")
    on(fork.bob, UpdateReceived, lambda session, event: session.reject_update(491))
    fork.caller.update(b"to bob", to_tag=fork.bobs.key[1])
    fork.run(0.1)
    fork.carols.answer(b"")  # waits for its UPDATE
    assert fork.caller.accept_update(b"to carol", to_tag=fork.carols.key[1])
    fork.run(0.1)
    assert fork.caller.state is SessionState.CONFIRMED
    n_updates = fork.messages("10.0.0.2").count("UPDATE")
    fork.run(10)
    assert fork.messages("10.0.0.2").count("UPDATE") == n_updates  # the one that backed off is given up
    fork.finish()


def test_answer_refuses_a_pending_update_of_another_callee() -> None:
    fork = Fork()
    fork.bobs.provisional(183, body=ANSWER)
    fork.carols.provisional(183, body=CAROLS)
    fork.run(0.1)
    fork.carols.update(b"carol 2")
    fork.run(0.1)
    fork.bobs.answer(b"")
    fork.run(0.1)
    assert "487 UPDATE" in fork.messages("10.0.0.3")
    assert not fork.caller.accept_update(b"late", to_tag=fork.carols.key[1])
    fork.finish()
