"""RFC 4733: each digit once, whatever is lost."""

from __future__ import annotations

from random import Random

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


def long_event(units: int, *, step: int = 160, ratio: int = 1, start: int = 0xFFFF0000) -> list[tuple[int, bytes]]:
    """Of that duration, in segments (RFC 4733 §2.5.1.3), the end three times."""
    found, timestamp, base = [], start, 0
    for duration in range(step, units + 1, step):
        while duration - base > 0xFFFF:
            found.append((timestamp, event("6", 0xFFFF)))
            base += 0xFFFF
            timestamp = (timestamp + 0xFFFF * ratio) & 0xFFFFFFFF
        found.append((timestamp, event("6", duration - base)))
    return [*found, *[(timestamp, event("6", units - base, end=True))] * 3]


@pytest.mark.parametrize("ratio", [1, 2, 6])
@given(units=st.integers(1, 1500), data=st.data())
def test_a_long_event_is_one_digit_whatever_is_lost(ratio: int, units: int, data: st.DataObject) -> None:
    """Up to 30 s; also with timestamps of another clock than the durations'."""
    packets = long_event(160 * units, ratio=ratio)
    lost = data.draw(st.sets(st.integers(0, len(packets) - 1), max_size=len(packets) - 1))
    for burst in data.draw(st.lists(st.integers(0, len(packets) - 1), max_size=4)):
        lost |= set(range(burst, burst + 12))  # longer than the timeout
    lost -= {data.draw(st.integers(0, len(packets) - 1))}
    receiver, heard = DtmfReceiver(timestamps_per_unit=ratio), []
    for number, (timestamp, payload) in enumerate(packets):
        heard += receiver.handle_timer(now_ms=20 * number)
        if number not in lost:
            heard += receiver.receive_untrusted(timestamp, payload, now_ms=20 * number)
    heard += receiver.handle_timer(now_ms=20 * len(packets) + EVENT_TIMEOUT_MS)
    assert [digit.digit for digit in heard][:1] == ["6"]
    # a loss of more than a whole segment (8 s) cannot be told from another press
    segments = {timestamp for number, (timestamp, _) in enumerate(packets) if number not in lost}
    if len(segments) == len({timestamp for timestamp, _ in packets}):
        assert len(heard) == 1


def test_a_duration_that_wraps_is_one_digit_of_its_length() -> None:
    receiver, heard = DtmfReceiver(), []
    for number, duration in enumerate(range(160, 80000, 160)):
        heard += receiver.receive_untrusted(5, event("6", duration & 0xFFFF), now_ms=20 * number)
    heard += receiver.receive_untrusted(5, event("6", 0xFFF0), now_ms=10000)  # late, from before
    heard += receiver.receive_untrusted(5, event("6", 80000 & 0xFFFF, end=True), now_ms=10000)
    assert heard == [Digit("6", 10000)]


@given(st.lists(st.sampled_from("123"), min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_each_digit_once_though_packets_overtake_each_other(dialled: list[str], random: Random) -> None:
    """Within 60 ms; the first packet of each digit, with the marker, may be the last to come."""
    packets = [
        (4000 * i + 20 * k + random.uniform(0, 60), timestamp, payload)
        for i, digit in enumerate(dialled)
        for k, (timestamp, payload) in enumerate(packets_of(digit, 8000 * i))
    ]
    receiver, heard = DtmfReceiver(), []
    for now_ms, timestamp, payload in sorted(packets):
        heard += receiver.handle_timer(now_ms=now_ms)
        heard += receiver.receive_untrusted(timestamp, payload, now_ms=now_ms)
    heard += receiver.handle_timer(now_ms=1e6)
    assert [digit.digit for digit in heard] == dialled


@pytest.mark.parametrize("clock_hz", [8000, 16000, 48000])
def test_durations_of_any_clock(clock_hz: int) -> None:
    receiver = DtmfReceiver(units_per_ms=clock_hz // 1000)
    assert receiver.receive_untrusted(0, event("5", clock_hz // 10, end=True), now_ms=0) == [Digit("5", 100)]


def test_an_end_alone_and_its_copies_are_a_digit() -> None:
    receiver = DtmfReceiver()
    heard = [d for _ in range(3) for d in receiver.receive_untrusted(7, event("5", 800, end=True), now_ms=0)]
    assert heard == [Digit("5", 100)]


def test_events_of_8000_hz_in_a_stream_of_48000() -> None:
    """Opus beside telephone-event/8000: the stream's timestamps, the event's durations."""
    sender = DtmfSender()
    sender.send("5")
    steps = [sender.next_slot(960, 160) for _ in range(7)]
    assert [step.offset for step in steps] == [-960 * i for i in range(7)]
    assert [int.from_bytes(step.payload[2:], "big") for step in steps] == [160, 320, 480, 640, 800, 800, 800]


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
