"""Hop-by-hop table, failover and the filter for duplicates."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from diameter.avp import Avp, Avps
from diameter.errors import PendingFullError
from diameter.message import Message, decode_message_untrusted
from diameter.pending import DuplicateFilter, PendingRequest, PendingTable


def build_request(end_to_end: int = 77, code: int = 306) -> Message:
    return Message(code, 16777217, 0xC0, Avps(), end_to_end=end_to_end)


def answer_to(frame: bytes, code: int | None = None) -> Message:
    request = decode_message_untrusted(frame)
    answer = request.build_answer([])
    return answer if code is None else Message(code, 0, 0, Avps(), answer.hop_by_hop, answer.end_to_end)


def build_table(max_requests: int = 10, first: int = 0xFFFFFFFE) -> PendingTable[str]:
    return PendingTable(first_hop_by_hop=first, max_requests=max_requests)


def test_answer_finds_its_request_once() -> None:
    table = build_table()
    row = table.add(build_request(), "w", deadline=1.0)
    answer = answer_to(table.send_on(row, "a"))
    assert table.match(answer, "a") is row
    assert row.answer is answer
    assert table.match(answer, "a") is None
    assert len(table) == 0


def test_answer_from_another_connection_or_command_is_no_match() -> None:
    table = build_table()
    frame = table.send_on(table.add(build_request(), "w", deadline=1.0), "a")
    assert table.match(answer_to(frame), "b") is None
    assert table.match(answer_to(frame, code=307), "a") is None
    assert table.match(answer_to(frame), "a") is not None


def test_hop_by_hop_ids_wrap_and_skip_what_is_in_use() -> None:
    table = build_table(first=0xFFFFFFFF)
    rows = [table.add(build_request(), "w", deadline=1.0) for _ in range(3)]
    assert [row.hop_by_hop for row in rows] == [0xFFFFFFFF, 0, 1]
    table._next_hop_by_hop = 0
    assert table.add(build_request(), "w", deadline=1.0).hop_by_hop == 2


def test_table_is_bounded() -> None:
    table = build_table(max_requests=2)
    row = table.add(build_request(), "w", deadline=1.0)
    table.add(build_request(), "w", deadline=1.0)
    with pytest.raises(PendingFullError):
        table.add(build_request(), "w", deadline=1.0)
    table.discard(row)
    table.add(build_request(), "w", deadline=1.0)


def test_failover_sets_t_and_keeps_the_end_to_end_id() -> None:
    table = build_table()
    row = table.add(build_request(end_to_end=4711), "w", deadline=10.0)
    first = decode_message_untrusted(table.send_on(row, "a"))
    assert table.take_connection("a", now=1.0) == [row]
    assert table.waiting(now=1.0) == [row]
    second = decode_message_untrusted(table.send_on(row, "b"))
    assert (first.is_retransmitted, second.is_retransmitted) == (False, True)
    assert first.end_to_end == second.end_to_end == 4711
    assert first.hop_by_hop != second.hop_by_hop
    assert row.excluded == {"a"}
    assert table.match(answer_to(first.encode()), "a") is None
    assert table.match(answer_to(second.encode()), "b") is row


def test_refused_row_goes_elsewhere_without_t() -> None:
    table = build_table()
    row = table.add(build_request(), "w", deadline=10.0)
    first = answer_to(table.send_on(row, "a"))
    assert table.match(first, "a") is row
    table.restore(row)
    assert (row.answer, row.connection) == (None, None)
    second = table.send_on(row, "b", is_retransmission=False)
    assert not decode_message_untrusted(second).is_retransmitted
    third = table.send_on(row, "c")
    assert decode_message_untrusted(third).is_retransmitted
    assert decode_message_untrusted(table.send_on(row, "d", is_retransmission=False)).is_retransmitted
    assert table.match(answer_to(second), "b") is None
    assert len(table) == 1


def test_rewritten_row_keeps_its_ids_and_t() -> None:
    table = build_table()
    row = table.add(build_request(end_to_end=4711), "w", deadline=10.0)
    table.rewrite(row, Message(306, 16777217, 0xC0, Avps([Avp(1, b"a")]), end_to_end=4711))
    first = decode_message_untrusted(table.send_on(row, "a"))
    assert (len(first.avps), first.end_to_end, first.is_retransmitted) == (1, 4711, False)
    table.take_connection("a", now=0.0)
    table.send_on(row, "b")
    table.rewrite(row, build_request(end_to_end=4711))
    third = decode_message_untrusted(table.send_on(row, "c", is_retransmission=False))
    assert (len(third.avps), third.end_to_end, third.is_retransmitted) == (0, 4711, True)
    assert table.match(answer_to(third.encode()), "c") is row


def test_row_that_waited_without_ever_being_sent_carries_no_t() -> None:
    table = build_table()
    row = table.add(build_request(), "w", deadline=10.0)
    assert not decode_message_untrusted(table.send_on(row, "b")).is_retransmitted


def test_expired_rows_are_not_sent_again() -> None:
    table = build_table()
    row = table.add(build_request(), "w", deadline=5.0)
    table.send_on(row, "a")
    assert table.rows_on("a", now=5.0) == []
    assert table.take_connection("a", now=5.0) == []


def test_discarding_an_old_row_does_not_touch_its_successor() -> None:
    table = build_table(first=1)
    row = table.add(build_request(), "w", deadline=5.0)
    table.match(answer_to(table.send_on(row, "a")), "a")
    table._next_hop_by_hop = row.hop_by_hop
    successor = table.add(build_request(), "x", deadline=5.0)
    table.discard(row)
    assert table.match(answer_to(table.send_on(successor, "a")), "a") is successor


def test_duplicates_get_the_same_answer_again() -> None:
    filter_ = DuplicateFilter(max_answers=2, keep_s=240.0)
    request = build_request(end_to_end=5).with_ids(hop_by_hop=1, end_to_end=5)
    filter_.remember("as", request, request.build_answer([]), now=0.0)
    again = request.with_ids(hop_by_hop=9, end_to_end=5)
    found = filter_.find("as", again, now=240.0)
    assert found is not None
    assert (found.hop_by_hop, found.end_to_end) == (9, 5)
    assert filter_.find("other", again, now=1.0) is None
    assert filter_.find("as", build_request(end_to_end=5, code=307), now=1.0) is None
    assert filter_.find("as", again, now=240.1) is None


def test_end_to_end_id_used_for_another_request_is_no_duplicate() -> None:
    filter_ = DuplicateFilter()
    first = build_request(0)
    filter_.remember("as", first, first.build_answer([]), now=0.0)
    other = Message(306, 16777217, 0xC0, Avps([Avp(263, b"another session")]))
    assert filter_.find("as", other, now=1.0) is None
    assert filter_.find("as", Message(306, 16777217, 0xD0, other.avps), now=1.0) is not None
    assert filter_.find("as", build_request(0), now=1.0) is not None


def test_filter_forgets_the_oldest() -> None:
    filter_ = DuplicateFilter(max_answers=2)
    for end_to_end in (1, 2, 3):
        request = build_request(end_to_end)
        filter_.remember("as", request, request.build_answer([]), now=0.0)
    assert len(filter_) == 2
    assert filter_.find("as", build_request(1), now=1.0) is None
    assert filter_.find("as", build_request(3), now=1.0) is not None


class PendingModel(RuleBasedStateMachine):
    """Every request is answered, discarded or still in the table, whatever connections do."""

    def __init__(self) -> None:
        super().__init__()
        self.table: PendingTable[int] = PendingTable(first_hop_by_hop=0xFFFFFFF0, max_requests=50)
        self.open: dict[PendingRequest[int], bytes] = {}
        self.n = 0

    @precondition(lambda self: len(self.open) < 50)
    @rule(connection=st.sampled_from("abc"))
    def request(self, connection: str) -> None:
        self.n += 1
        row = self.table.add(build_request(self.n), self.n, deadline=1e9)
        self.open[row] = self.table.send_on(row, connection)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        row = data.draw(st.sampled_from(list(self.open)))
        matched = self.table.match(answer_to(self.open[row]), row.connection or "none")
        assert matched is (row if row.connection else None)
        if matched:
            del self.open[row]

    @rule(lost=st.sampled_from("abc"), other=st.sampled_from(["a", "b", "c", None]))
    def lose(self, lost: str, other: str | None) -> None:
        for row in self.table.take_connection(lost, now=0.0):
            if other is not None:
                self.open[row] = self.table.send_on(row, other)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        row = data.draw(st.sampled_from(list(self.open)))
        self.table.discard(row)
        del self.open[row]

    @invariant()
    def nothing_is_lost(self) -> None:
        assert len(self.table) == len(self.open)


PendingModel.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestPendingModel = PendingModel.TestCase
