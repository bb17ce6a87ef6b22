"""RFC 4733: each digit once, whatever is lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.dtmf import (
    DIGITS,
    EVENT_TIMEOUT_MS,
    Digit,
    DtmfParseError,
    DtmfReceiver,
    DtmfSender,
    parse_event_untrusted,
)


def event(digit: str, duration: int, end: bool = False) -> bytes:
    return bytes([DIGITS.index(digit), 0x8A if end else 0x0A]) + duration.to_bytes(2, "big")


def packets_of(digit: str, timestamp: int) -> list[tuple[int, bytes]]:
    """As a sender makes them: updates every 20 ms, the end three times."""
    updates = [(timestamp, event(digit, 160 * i)) for i in range(1, 6)]
    return [*updates, *[(timestamp, event(digit, 800, end=True))] * 3]


def test_a_whole_event() -> None:
    receiver = DtmfReceiver()
    digits = [d for ts, p in packets_of("7", 1000) for d in receiver.receive_untrusted(ts, p, now_ms=0)]
    assert digits == [Digit("7", 100)]
    assert receiver.next_deadline() is None


@given(
    st.lists(st.sampled_from(DIGITS), min_size=1, max_size=6),
    st.data(),
)
def test_each_digit_once_though_packets_are_lost(dialled: list[str], data: st.DataObject) -> None:
    receiver, heard, now_ms = DtmfReceiver(), [], 0.0
    for i, digit in enumerate(dialled):
        packets = packets_of(digit, 8000 * i)
        kept = data.draw(st.sets(st.integers(0, len(packets) - 1), min_size=1))
        for k, (timestamp, payload) in enumerate(packets):
            now_ms += 20
            heard += receiver.handle_timer(now_ms=now_ms)
            if k in kept:
                heard += receiver.receive_untrusted(timestamp, payload, now_ms=now_ms)
    heard += receiver.handle_timer(now_ms=now_ms + EVENT_TIMEOUT_MS)
    assert [d.digit for d in heard] == dialled
    assert all(20 <= d.duration_ms <= 100 for d in heard)


def test_a_long_event_in_segments_is_one_digit() -> None:
    receiver = DtmfReceiver()
    heard = receiver.receive_untrusted(0, event("1", 0xFFFF), now_ms=0)
    heard += receiver.receive_untrusted(0xFFFF, event("1", 800), now_ms=20)
    heard += receiver.receive_untrusted(0xFFFF, event("1", 1600, end=True), now_ms=40)
    assert heard == [Digit("1", (0xFFFF + 1600) // 8)]


@given(st.binary(max_size=8))
def test_any_payload_gives_an_event_or_the_one_error(payload: bytes) -> None:
    try:
        assert parse_event_untrusted(payload).event < 16
    except DtmfParseError:
        assert len(payload) < 4 or payload[0] >= 16


def test_sender_is_understood_by_receiver() -> None:
    sender, receiver, heard, timestamp = DtmfSender(), DtmfReceiver(), [], 0
    sender.send("19*#aD")
    slots = 0
    while sender.is_active:
        step = sender.next_slot()
        slots += 1
        if step.payload:
            heard += receiver.receive_untrusted(timestamp + step.offset, step.payload, now_ms=slots * 20)
        timestamp += 160
    assert "".join(d.digit for d in heard) == "19*#AD"
    assert {d.duration_ms for d in heard} == {100}
    assert slots == 60


def test_sender_refuses_what_is_no_digit_and_too_many() -> None:
    sender = DtmfSender()
    with pytest.raises(ValueError, match="not DTMF"):
        sender.send("1x")
    with pytest.raises(ValueError, match="too many"):
        sender.send("1" * 65)
    assert not sender.is_active
