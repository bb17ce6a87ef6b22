"""The directory finds calls by any of their ids, and forgets the oldest that ended."""

import pytest

import ims_as.call.record
from ims_as.call.record import CallDirectory, CallRecord
from ims_as.errors import Result, Termination
from ims_as.oss.trace import TraceStore


def make(number: int) -> CallRecord:
    trace = TraceStore(lambda: 0.0).start(f"id{number}")
    return CallRecord(f"id{number}", f"sip{number}", "sip:a@x", "sip:b@x", float(number), trace)


def test_by_our_id_and_by_any_leg():
    directory = CallDirectory()
    record = make(1)
    directory.add(record)
    directory.add_leg(record, "sip1-b")
    for name in ("id1", "sip1", "sip1-b"):
        assert directory.find(name) is record
    directory.end(record)
    assert directory.find("sip1-b") is record
    assert directory.find("other") is None


def test_ended_calls_are_bounded_and_leave_nothing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ims_as.call.record, "MAX_ENDED_CALLS", 3)
    directory = CallDirectory()
    for number in range(10):
        record = make(number)
        directory.add(record)
        directory.add_leg(record, f"leg{number}")
        directory.end(record)
    assert [summary["id"] for summary in directory.summaries()] == ["id9", "id8", "id7"]
    assert directory.find("leg0") is None
    assert not directory.active
    assert len(directory._by_call_id) == 6
    assert len(directory._legs) == 3


def test_a_charging_record_has_no_transcript_and_the_detail_has():
    record = make(1)
    record.add_transcript("user", "hello", 1.0)
    record.answered_at = 1.25
    record.termination = Termination(Result.ANSWERED, "caller", "bye", None)
    assert "transcript" not in record.fields()
    assert record.detail()["transcript"] == [{"role": "user", "text": "hello", "at": 1.0}]
    assert record.summary()["setup_ms"] == 250.0
    assert record.summary()["termination"]["result"] == "answered"
