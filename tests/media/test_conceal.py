from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from media.conceal import FADE_FRAMES, FRAME, HISTORY, OVERLAP, best_lag, conceal, overlap_into
from tests.media.support import peak_hz, sine


@pytest.mark.parametrize("frequency_hz", [100, 125, 200, 400, 1000])
def test_a_tone_goes_on_where_it_was(frequency_hz: float) -> None:
    history = sine(frequency_hz, HISTORY)[None, :]
    expected = sine(frequency_hz, FRAME, start=HISTORY)
    frame = conceal(history, 0)[0, :FRAME]
    np.testing.assert_allclose(frame[:80], expected[:80], atol=1500)
    joined = np.concatenate([history[0], frame])
    assert peak_hz(joined, 8000) == pytest.approx(frequency_hz, abs=20)
    assert np.abs(np.diff(joined)).max() < np.abs(np.diff(history[0])).max() * 1.3, "a click at the joint"


def test_it_fades_to_silence() -> None:
    history = sine(200, HISTORY)[None, :]
    power = [float(np.square(conceal(history, run)[0, :FRAME]).mean()) for run in range(FADE_FRAMES + 1)]
    assert power == sorted(power, reverse=True)
    assert power[-1] == 0


def test_consecutive_frames_join() -> None:
    history = sine(150, HISTORY)[None, :]
    frames = [conceal(history, run)[0] for run in range(FADE_FRAMES)]
    for earlier, later in pairwise(frames):
        np.testing.assert_allclose(earlier[FRAME:][:5], later[:5], atol=400)


def test_legs_do_not_mix() -> None:
    history = np.stack([sine(100, HISTORY), sine(400, HISTORY), np.zeros(HISTORY, np.float32)])
    together = conceal(history, 0)
    for i in range(3):
        np.testing.assert_array_equal(together[i], conceal(history[i : i + 1], 0)[0])
    assert not together[2].any()


def test_the_lag_is_a_multiple_of_the_period() -> None:
    lag = best_lag(np.stack([sine(100, HISTORY), sine(160, HISTORY)]))
    assert lag[0] == pytest.approx(80, abs=1) or lag[0] == pytest.approx(160, abs=1)
    assert min(lag[1] % 50, 50 - lag[1] % 50) <= 1


def test_overlap_begins_with_the_old_and_ends_with_the_new() -> None:
    good, tail = np.full(FRAME, 100, np.float32), np.full(OVERLAP, -100, np.float32)
    overlap_into(good, tail)
    assert good[0] == -100
    assert good[OVERLAP - 1] == 100
    assert (np.diff(good[:OVERLAP]) > 0).all()
