from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from media.conceal import FADE_MS, HISTORY_MS, conceal, continued, cross_fade, pitch_period, recover
from tests.media.support import peak_hz, sine

RATES = [8000, 16000]


def history(frequency_hz: float, rate_hz: int) -> np.ndarray:
    return sine(frequency_hz, HISTORY_MS * rate_hz // 1000, rate_hz)


@pytest.mark.parametrize("rate_hz", RATES)
@pytest.mark.parametrize("frequency_hz", [100, 125, 200, 400, 1000])
def test_a_tone_goes_on_where_it_was(frequency_hz: float, rate_hz: int) -> None:
    before = history(frequency_hz, rate_hz)
    frame = conceal(before, 0, rate_hz)
    expected = sine(frequency_hz, len(frame), rate_hz, start=len(before))
    gain = 1 - np.arange(len(frame)) / (FADE_MS * rate_hz / 1000)
    np.testing.assert_allclose(frame, expected * gain, atol=1500)
    joined = np.concatenate([before, frame])
    assert peak_hz(joined, rate_hz) == pytest.approx(frequency_hz, abs=20)
    assert np.abs(np.diff(joined)).max() < np.abs(np.diff(before)).max() * 1.3, "a click at the joint"


def test_it_fades_to_silence() -> None:
    before = history(200, 8000)
    power = [float(np.square(conceal(before, run)).mean()) for run in range(5)]
    assert power == sorted(power, reverse=True)
    assert power[2] > 0
    assert power[3] == 0


def test_consecutive_frames_join() -> None:
    before = history(150, 8000)
    frames = [conceal(before, run) for run in range(3)]
    step = np.abs(np.diff(before)).max() * 1.3
    for earlier, later in pairwise(frames):
        assert abs(later[0] - earlier[-1]) < step


def test_silence_stays_silence() -> None:
    assert not conceal(np.zeros(HISTORY_MS * 8, np.float32), 0).any()


@pytest.mark.parametrize("frequency_hz", [100, 160, 250])
def test_the_period_is_that_of_the_tone(frequency_hz: int) -> None:
    rest = len(pitch_period(history(frequency_hz, 8000), 8000)) * frequency_hz / 8000
    assert abs(rest - round(rest)) < 0.04


def test_the_longer_the_loss_the_longer_the_fade_into_what_comes_but_for_silence() -> None:
    before = history(100, 8000)
    period = pitch_period(before, 8000)
    changed = []
    for run in (1, 2, 9):
        good = np.full(160, 30000, np.float32)
        recover(good, before, run)
        assert (np.diff(good[: int((good < 30000).sum())]) > 0).any()
        assert abs(good[0] - continued(period, run, 1, 8000)[0]) < 3000
        changed.append(int((good < 30000).sum()))
    assert changed == [len(period) // 4, len(period) // 4 + 64, 40]


def test_less_than_the_fade_may_come() -> None:
    good = np.full(8, 100, np.float32)
    cross_fade(good, pitch_period(history(100, 8000), 8000), 1, 8000)
    assert len(good) == 8
    assert (good[1:] > good[0]).any()
