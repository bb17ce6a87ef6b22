"""The tap in both halves of the plane: what reaches the ring, with which time, and what it costs nobody else."""

from __future__ import annotations

import numpy as np
import pytest

from media import g711
from media.record.ring import HEARD, TOLD, FrameRing
from media.record.tap import Tap
from media.rtp import build_rtp
from tests.media.plane_support import Stage
from tests.media.support import sine, ulaw


class Recorded(Stage):
    """A stage with a tap; some of its rows record."""

    def __init__(self, n_legs: int, rows: list[int], n_slots: int = 4096, **config: object) -> None:
        super().__init__(n_legs, **config)
        self.tap = Tap(self.table)
        self.tap.ring = FrameRing(n_slots=n_slots)
        self.uplink._tap = self.downlink._tap = self.tap
        for row in rows:
            self.tap.recording[row] = 100 + row
        self.tap.active = len(rows)
        self.stamp = 0
        for row in range(n_legs):
            self.downlink.start(row, 0)

    def frames(self, row: int, direction: int) -> list[tuple[int, np.ndarray]]:
        assert self.tap.ring is not None
        taken = self.tap.ring.take(1 << 60, 1 << 20)
        self.tap.ring._tail[0] = 0
        return [
            (int(slot["tick"]), slot["samples"][: slot["n_samples"]])
            for slot in taken
            if slot["recording"] == 100 + row and slot["direction"] == direction
        ]

    def hear(self, samples: np.ndarray, *rows: int) -> None:
        self.stamp += 1
        packet = build_rtp(
            payload_type=0,
            marker=False,
            sequence=self.stamp,
            timestamp=160 * self.stamp,
            ssrc=7,
            payload=ulaw(samples),
        )
        self.receive(*[(row, packet) for row in rows])


@pytest.fixture
def stage() -> Recorded:
    return Recorded(3, [0, 2])


def test_only_those_that_record_are_taken_and_both_directions(stage: Recorded) -> None:
    heard = [sine(400, 160, start=160 * i) for i in range(20)]
    said = sine(700, 20 * 320, 16000)
    for i, samples in enumerate(heard):
        stage.hear(samples, 0, 1, 2)
        for row in range(3):
            stage.say(said[320 * i : 320 * (i + 1)], row)
        stage.advance(4)
    for row in (0, 2):
        left, right = stage.frames(row, HEARD), stage.frames(row, TOLD)
        assert [tick for tick, _ in left] == [4 * i for i in range(20)]
        decoded = [g711.decode(np.frombuffer(ulaw(s), np.uint8)[None, :], np.zeros(1, np.uint8))[0] for s in heard]
        assert (np.concatenate([s for _, s in left]) == np.concatenate(decoded)).all()
        sent = [packet for _, r, packet in stage.sent if r == row]
        loud = np.concatenate([s for _, s in right])
        codes = g711.encode(loud[None, :].astype(np.float32), np.zeros(1, np.uint8))[0]
        assert bytes(codes) in b"".join(bytes(packet.payload) for packet in sent)
        ticks = np.diff([tick for tick, _ in right])
        assert (ticks == 4).all()
    assert stage.frames(1, HEARD) == []
    assert not stage.tap.lost.any()


def test_silence_towards_the_party_is_not_carried(stage: Recorded) -> None:
    stage.advance(200)
    assert stage.frames(0, TOLD) == []
    assert len(stage.sent) == 150


def test_a_full_ring_costs_the_recording_and_nothing_of_the_call() -> None:
    stage = Recorded(2, [0, 1], n_slots=5)
    for i in range(10):
        stage.hear(sine(400, 160, start=160 * i), 0, 1)
        stage.advance(4)
    assert stage.tap.lost.tolist()[:2] == [7, 8]
    assert len(stage.up) == 20
    assert len(stage.sent) == 20


def test_a_wide_line_goes_as_it_is() -> None:
    stage = Recorded(1, [0], codec="L16", payload_type=96, clock_rate=16000)
    stage.say(sine(3000, 16000, 16000))
    stage.advance(200)
    right = stage.frames(0, TOLD)
    assert {len(samples) for _, samples in right} == {320}
    assert np.abs(np.concatenate([s for _, s in right])).max() == pytest.approx(8000, rel=0.01)
