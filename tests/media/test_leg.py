"""One leg's packets that are not plain, and its objects."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.control import ControlError, StreamConfig
from media.leg import MAX_CONCEALED, MAX_TTFB, Leg, LegCounters, Receiver, UplinkItem
from media.mixing import FADE_FRAMES
from media.order import RESYNC_DISTANCE
from media.rtp import build_rtp
from media.table import FRAME_SAMPLES, NEVER, LegTable

TICKS_PER_PACKET = 4


def build(**config: object) -> tuple[LegTable, Leg]:
    table = LegTable(2)
    row = table.allocate()
    stream = StreamConfig(**{"codec": "PCMU", "payload_type": 0, "dtmf_payload_type": 101, **config})  # type: ignore[arg-type]
    counters = LegCounters()
    leg = Leg("a", row, Receiver(table, row, stream, counters), counters)
    leg.receiver.configure(stream)
    return table, leg


def packet(sequence: int, payload: bytes = b"\x11" * FRAME_SAMPLES, payload_type: int = 0, ssrc: int = 5) -> memoryview:
    return memoryview(
        build_rtp(
            payload_type=payload_type,
            marker=False,
            sequence=sequence & 0xFFFF,
            timestamp=sequence * 160 & 0xFFFFFFFF,
            ssrc=ssrc,
            payload=payload,
        )
    )


def numbered(sequence: int) -> memoryview:
    return packet(sequence, bytes([sequence & 0xFF]) * FRAME_SAMPLES)


@pytest.mark.parametrize("ptime_samples", [40, 80, 160, 240, 320, 480])
def test_packets_of_any_length_become_frames(ptime_samples: int) -> None:
    _, leg = build()
    sent = bytes(range(240)) * (ptime_samples * 12 // 240)
    frames: list[UplinkItem] = []
    for i in range(12):
        payload = sent[i * ptime_samples : (i + 1) * ptime_samples]
        frames += leg.receiver.receive_untrusted(packet(i, payload), i)[0]
    assert all(frame is not None and len(frame) == FRAME_SAMPLES for frame in frames)
    joined = b"".join(frame for frame in frames if frame is not None)
    assert joined == sent[: len(joined)]
    assert len(sent) - len(joined) < FRAME_SAMPLES


def test_a_gap_waits_and_is_given_up() -> None:
    table, leg = build()
    receiver = leg.receiver
    assert receiver.receive_untrusted(numbered(1), 0)[0]
    assert receiver.receive_untrusted(numbered(4), 4) == ([], [])
    assert receiver.needs_timer
    assert not table.plain[0], "the columnar path would release out of order"
    assert receiver.handle_timer(5) == ([], [])
    items, _ = receiver.handle_timer(30)
    assert items == [None, None, bytes([4]) * FRAME_SAMPLES]
    assert leg.counters.lost == 2
    assert not receiver.needs_timer
    assert table.plain[0]
    assert receiver.receive_untrusted(numbered(2), 31)[0] == []
    assert leg.counters.late == 1


def test_what_was_filled_is_not_concealed_again() -> None:
    _, leg = build()
    leg.receiver.receive_untrusted(numbered(1), 0)
    leg.receiver.fill()
    leg.receiver.fill()
    leg.receiver.receive_untrusted(numbered(5), 40)
    items, _ = leg.receiver.handle_timer(80)
    assert items == [None, bytes([5]) * FRAME_SAMPLES], "three were lost, two of them made up already"


def test_a_long_gap_is_cut_short_and_a_longer_one_is_a_new_stream() -> None:
    _, leg = build()
    leg.receiver.receive_untrusted(numbered(0), 0)
    leg.receiver.receive_untrusted(numbered(200), 4)
    items, _ = leg.receiver.handle_timer(40)
    assert items.count(None) == MAX_CONCEALED
    items, _ = leg.receiver.receive_untrusted(numbered(202 + RESYNC_DISTANCE), 44)
    assert len(items) == 1
    assert leg.counters.resync == 1


def test_a_new_source_starts_anew() -> None:
    table, leg = build()
    leg.receiver.receive_untrusted(packet(1), 0)
    items, _ = leg.receiver.receive_untrusted(packet(40000, ssrc=6), 4)
    assert len(items) == 1
    assert int(table.next_sequence[0]) == 40001
    assert leg.counters.lost == leg.counters.resync == 0


def test_a_digit_comes_once_and_takes_its_place_in_the_order() -> None:
    table, leg = build()
    leg.receiver.receive_untrusted(packet(1), 0)
    digits = []
    for i, end in enumerate((0, 0, 0x80, 0x80, 0x80)):
        event = bytes([7, end | 10]) + (160 * (i + 1)).to_bytes(2, "big")
        one = build_rtp(payload_type=101, marker=False, sequence=2 + i, timestamp=320, ssrc=5, payload=event)
        items, found = leg.receiver.receive_untrusted(memoryview(one), 4 * (i + 1))
        assert items == []
        digits += found
    assert [d.digit for d in digits] == ["7"]
    assert leg.receiver.receive_untrusted(packet(7), 24)[0]
    assert leg.counters.lost == 0
    assert int(table.packets_in[0]) == 7


def test_other_payload_types_and_garbage_are_counted() -> None:
    table, leg = build()
    for datagram in (packet(1, payload_type=96), memoryview(b"\x80"), memoryview(b"")):
        assert leg.receiver.receive_untrusted(datagram, 0) == ([], [])
    assert leg.counters.invalid == 3
    assert int(table.packets_in[0]) == 0


def test_a_peer_may_send_with_other_numbers_than_it_receives() -> None:
    table, leg = build(payload_type=8, dtmf_payload_type=96, receive_payload_type=0, receive_dtmf_payload_type=101)
    assert leg.receiver.receive_untrusted(packet(1), 0)[0]
    assert leg.receiver.receive_untrusted(packet(2, payload_type=8), 4) == ([], [])
    event = bytes([7, 0x8A]) + (160).to_bytes(2, "big")
    one = build_rtp(payload_type=101, marker=False, sequence=2, timestamp=320, ssrc=5, payload=event)
    assert [digit.digit for digit in leg.receiver.receive_untrusted(memoryview(one), 4)[1]] == ["7"]
    assert int(table.payload_type[0]) == 8


def test_nothing_is_received_on_hold() -> None:
    table, leg = build(receive=False)
    assert leg.receiver.receive_untrusted(packet(1), 0) == ([], [])
    assert not table.plain[0]
    assert table.rtp_timeout[0] == NEVER
    leg.receiver.configure(StreamConfig("PCMA", 8))
    assert table.plain[0]
    assert table.rtp_timeout[0] == 6000


@pytest.mark.parametrize(
    "config", [{"codec": "opus"}, {"payload_type": -1}, {"payload_type": 128}, {"receive_payload_type": 128}]
)
def test_bad_configuration_is_refused(config: dict[str, object]) -> None:
    with pytest.raises(ControlError):
        build(**config)


def test_clip_frames_end_or_loop() -> None:
    _, leg = build()
    with pytest.raises(ControlError):
        leg.next_clip_frame()
    leg.clip = np.arange(2 * FRAME_SAMPLES, dtype=np.int16)
    leg.clip_frames = FADE_FRAMES  # the beginning fades in
    seen = [leg.next_clip_frame() for _ in range(2)]
    assert [ended for _, ended in seen] == [False, True]
    assert int(seen[1][0][0]) == FRAME_SAMPLES
    leg.clip_loop = True
    assert [leg.next_clip_frame()[1] for _ in range(4)] == [False] * 4


def test_statistics() -> None:
    table, leg = build()
    assert leg.stats(table)["ttfb_ms"] is None
    for ms in range(MAX_TTFB + 100):
        leg.note_ttfb(float(ms))
    stats = leg.stats(table)
    assert stats["ttfb_max_ms"] == MAX_TTFB + 99
    assert stats["ttfb_ms"] == 100 + MAX_TTFB // 2
    assert len(leg.ttfb_ms) == MAX_TTFB


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(-4, 6), st.integers(0, 12), st.binary(max_size=3)), max_size=60),
    st.integers(0, 0xFFFF),
)
def test_frames_go_up_in_order_whatever_the_network_does(steps: list[tuple[int, int, bytes]], first: int) -> None:
    """Sequence numbers jump to and fro, ticks pass, garbage comes between: released numbers only rise."""
    _, leg = build()
    tick, newest = 0, first
    released: list[UplinkItem] = []
    sent: dict[bytes, int] = {}
    for jump, ticks, garbage in steps:
        newest = max(first, newest + jump)
        marked = newest.to_bytes(4, "big") * (FRAME_SAMPLES // 4)
        sent[marked] = newest
        released += leg.receiver.receive_untrusted(packet(newest, marked), tick)[0]
        leg.receiver.receive_untrusted(memoryview(garbage), tick)
        for _ in range(ticks):
            tick += 1
            released += leg.receiver.handle_timer(tick)[0]
    for _ in range(40):
        tick += TICKS_PER_PACKET
        released += leg.receiver.handle_timer(tick)[0]
    numbers = [sent[item] for item in released if item is not None]
    assert numbers == sorted(set(numbers))
    assert not leg.receiver.needs_timer
    counters = leg.counters
    assert len(numbers) + counters.late + counters.duplicate == len(steps)
    if numbers:
        assert counters.lost == numbers[-1] - numbers[0] + 1 - len(numbers)
