from __future__ import annotations

import struct
import time

import numpy as np
import pytest
import trio

from conformance.lab import pcmu
from conformance.lab.rtp_leg import ReceivedPacket, RtpLeg, assemble

HOST = "127.0.88.50"
SOURCE = ("127.0.0.9", 4000)


def tone(n_samples: int) -> np.ndarray:
    return (8000 * np.sin(2 * np.pi * 440 * np.arange(n_samples) / 8000)).astype(np.int16)


def packet(
    number: int, at: float, *, first: int = 100, ssrc: int = 7, payload: bytes = b"\x00" * 160
) -> ReceivedPacket:
    timestamp = (first + 160 * number) & 0xFFFFFFFF
    return ReceivedPacket(at, SOURCE, 0, number & 0xFFFF, timestamp, ssrc, payload)


def test_packets_go_where_their_timestamps_say():
    # the second came late, the third is missing, the fourth came before the second
    packets = [packet(0, 10.0), packet(3, 10.061), packet(1, 10.09)]
    recording = assemble(packets, 10.0, 10.1)
    level = np.abs(recording.reshape(-1, 160)).max(axis=1)
    assert (level > 0).tolist() == [True, True, False, True, False, False]


def test_timestamps_wrap():
    packets = [packet(n, 5.0 + n * 0.02, first=0xFFFFFF00) for n in range(4)]
    recording = assemble(packets, 5.0, 5.08)
    assert np.all(recording[:640] != 0)


def test_a_new_source_and_a_jump_are_placed_by_arrival():
    packets = [packet(0, 1.0), packet(0, 1.1, first=999_999), packet(1, 1.2, ssrc=8)]
    recording = assemble(packets, 1.0, 1.3)
    level = np.abs(recording.reshape(-1, 160)).max(axis=1)
    assert np.flatnonzero(level).tolist() == [0, 5, 10]


def test_other_payload_types_are_no_sound():
    event = ReceivedPacket(1.0, SOURCE, 101, 1, 1, 1, b"\x01\x0a\x00\xa0")
    assert not assemble([event], 1.0, 1.1).any()


def test_garbage_is_counted_and_nothing_else():
    leg = RtpLeg(HOST)
    for datagram in (b"", b"\x80" * 11, b"\x00" * 172, b"GET / HTTP/1.1\r\n\r\n"):
        leg._receive_untrusted(datagram, SOURCE, 1.0)
    assert (leg.n_not_rtp, leg.received) == (4, [])


async def _exchange() -> tuple[RtpLeg, RtpLeg]:
    one, two = RtpLeg(HOST), RtpLeg(HOST)
    one.remote, two.remote = None, None
    one_address, two_address = await one.bind(), await two.bind()
    one.remote, two.remote = two_address, one_address
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.run)
            nursery.start_soon(two.run)
            before = time.time()
            await one.play(tone(2400)).wait()
            heard = await two.wait_for_speech_end(before)
            assert 0.2 < heard.end - heard.start < 0.45
            nursery.cancel_scope.cancel()
    return one, two


def test_two_legs_hear_each_other():
    one, two = trio.run(_exchange)
    assert set(two.sources()) == {one.local}
    n_packets, first, last = two.sources()[one.local]
    assert n_packets == pytest.approx((last - first) / 0.02, abs=3)
    assert two.first_sound(0.0) is not None
    assert two.first_sound(0.0, SOURCE) is None
    assert one.first_sound(0.0) is None
    # the tone is in both recordings, 300 ms long
    for recording in (one.sent_pcm(), two.heard_pcm()):
        assert 2300 < np.count_nonzero(np.abs(recording) > 100) < 2500
    assert all(sent.destination == two.local for sent in one.sent)


async def _pacing() -> list[float]:
    leg, other = RtpLeg(HOST), RtpLeg(HOST)
    await leg.bind()
    leg.remote = await other.bind()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(leg.run)
        nursery.start_soon(other.run)
        await leg.play(tone(8000)).wait()
        nursery.cancel_scope.cancel()
    return [sent.at for sent in leg.sent]


def test_sending_keeps_to_the_schedule():
    times = trio.run(_pacing)
    assert 50 <= len(times) <= 52
    assert times[49] - times[0] == pytest.approx(49 * 0.02, abs=0.03)


def test_header_on_the_wire():
    leg = RtpLeg(HOST)
    payload = pcmu.encode(tone(160))
    leg._receive_untrusted(struct.pack("!BBHII", 0x81, 0x80, 65535, 2**32 - 1, 9) + b"CSRC" + payload, SOURCE, 2.0)
    assert leg.received == [ReceivedPacket(2.0, SOURCE, 0, 65535, 2**32 - 1, 9, payload)]
