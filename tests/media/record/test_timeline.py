"""Both channels at their time, however long, with clocks that differ, jitter, stalls and pauses."""

from __future__ import annotations

import numpy as np
import pytest

from media.record.ring import HEARD, TOLD
from media.record.timeline import HOLD_MS, Timeline

RATE = 8000
FRAME = 160
PER_TICK = 40


class Tape:
    def __init__(self, rate_hz: int = RATE, start: int = 1000) -> None:
        self.parts: list[np.ndarray] = []
        self.line = Timeline(rate_hz, start, self.parts.append)

    @property
    def samples(self) -> np.ndarray:
        return np.concatenate(self.parts) if self.parts else np.zeros((0, 2), np.int16)


def frame(value: int, n: int = FRAME) -> np.ndarray:
    return np.full(n, value, np.int16)


def test_what_is_told_stands_where_its_timestamp_puts_it() -> None:
    tape = Tape()
    tape.line.lay(TOLD, 998, frame(5))  # began before the recording: the rest of it counts
    tape.line.lay(TOLD, 1002, frame(6))
    tape.line.lay(TOLD, 1100, frame(7))
    assert tape.line.finish(1200) == 200 * PER_TICK
    right = tape.samples[:, 1]
    assert right[: 2 * PER_TICK].tolist() == [5] * 80
    assert right[80:240].tolist() == [6] * FRAME
    assert not right[240:4000].any()
    assert right[4000:4160].tolist() == [7] * FRAME
    assert not right[4160:].any()
    assert len(right) == 8000


def test_jitter_leaves_the_party_without_a_seam() -> None:
    """Frames come 0 to 35 ms late: not a sample is moved after the first half second."""
    rng = np.random.default_rng(3)
    tape = Tape()
    wave = (10000 * np.sin(np.arange(500 * FRAME) * 0.05)).astype(np.int16)
    late = rng.integers(0, 8, 500)
    late[0] = 0
    for i in range(500):
        tape.line.lay(HEARD, 1000 + 4 * i + int(late[i]), wave[i * FRAME : (i + 1) * FRAME])
        tape.line.advance(1000 + 4 * i)
    tape.line.finish(1000 + 4 * 500)
    assert tape.line.moved == 0
    assert (tape.samples[: 500 * FRAME, 0] == wave).all()


@pytest.mark.parametrize("ppm", [-200, 150])
def test_an_hour_with_another_clock_stays_within_a_frame(ppm: int) -> None:
    """The party's frames are numbered; each is found within 20 ms of the tick at which its packet was sent."""
    rng = np.random.default_rng(4)
    tape = Tape()
    n = 3600 * 50
    arrival = 1000 + np.arange(n) * 4 * (1 + ppm / 1e6)
    jitter = rng.exponential(1.5, n)
    ticks = np.maximum.accumulate(np.floor(arrival + jitter)).astype(int)
    written = 0
    worst = 0.0
    for i in range(n):
        tape.line.lay(HEARD, int(ticks[i]), frame(1 + i % 20000))
        if i % 500 == 499:
            tape.line.advance(int(ticks[i]))
            for part in tape.parts:
                left = part[:, 0]
                at = np.flatnonzero(np.diff(left)) + 1
                for place in at[::10].tolist():
                    number = int(left[place]) - 1
                    if number < 0:
                        continue
                    index = number + 20000 * round((written + place) / FRAME / 20000 - number / 20000)
                    sent = (arrival[index] - 1000) * PER_TICK
                    worst = max(worst, abs(written + place - sent) / RATE)
                written += len(part)
            tape.parts.clear()
    assert tape.line.moved >= 3600 * abs(ppm) / 1e6 / 0.02 / 2
    assert worst < 0.020


def test_a_stall_of_ours_moves_nothing() -> None:
    """For 200 ms nothing is read, then everything comes at once."""
    tape = Tape()
    ticks = [1000 + 4 * i for i in range(200)]
    ticks[100:111] = [ticks[110]] * 11
    for i, tick in enumerate(ticks):
        tape.line.lay(HEARD, tick, frame(i + 1))
    tape.line.finish(1000 + 800)
    assert (tape.samples[:, 0] == np.repeat(np.arange(1, 201), FRAME)).all()


def test_a_hold_is_silence() -> None:
    tape = Tape()
    for i in range(50):
        tape.line.lay(HEARD, 1000 + 4 * i, frame(9))
    for i in range(50):
        tape.line.lay(HEARD, 3000 + 4 * i, frame(8))
    tape.line.finish(3200)
    left = tape.samples[:, 0]
    assert (left[:8000] == 9).all()
    assert not left[8000:80000].any()
    assert (left[80000:] == 8).all()


def test_a_pause_that_is_cut_leaves_no_time() -> None:
    tape = Tape()
    for i in range(50):
        tape.line.lay(TOLD, 1000 + 4 * i, frame(1))
    tape.line.skip(1200, 9200)
    for i in range(50):
        tape.line.lay(TOLD, 9199 + 4 * i, frame(2))  # the first began in the pause
    assert tape.line.finish(9400) == 16000
    right = tape.samples[:, 1]
    assert (right[:8000] == 1).all()
    assert (right[8000 : 16000 - PER_TICK] == 2).all()


def test_only_what_is_old_enough_is_written() -> None:
    tape = Tape()
    tape.line.lay(TOLD, 1000, frame(3))
    tape.line.advance(1000 + HOLD_MS // 5)
    assert len(tape.samples) == 0
    tape.line.advance(1010 + HOLD_MS // 5)
    assert len(tape.samples) == 10 * PER_TICK
    tape.line.lay(TOLD, 4000, frame(4))  # far ahead of its window: nothing is lost
    tape.line.finish(4004)
    assert (tape.samples[-FRAME:, 1] == 4).all()
    assert len(tape.samples) == 3004 * PER_TICK


@pytest.mark.parametrize(("rate_hz", "n_in"), [(8000, 320), (16000, 160)])
def test_a_line_that_changes_in_the_call_is_brought_to_the_rate_of_the_file(rate_hz: int, n_in: int) -> None:
    tape = Tape(rate_hz)
    wave = (8000 * np.sin(2 * np.pi * 500 * np.arange(100 * n_in) / (50 * n_in))).astype(np.int16)
    for i in range(100):
        tape.line.lay(TOLD, 1000 + 4 * i, wave[i * n_in : (i + 1) * n_in])
    tape.line.finish(1400)
    right = tape.samples[rate_hz // 2 :, 1].astype(float)
    spectrum = np.abs(np.fft.rfft(right * np.hanning(len(right))))
    assert np.argmax(spectrum) * rate_hz / len(right) == pytest.approx(500, abs=2)
    assert np.abs(right).max() == pytest.approx(8000, rel=0.02)
