from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from media.levels import BINS, SAMPLED, LevelMeter, Levels, is_due, levels_of, power_of
from tests.media.support import sine


def measured(samples: NDArray[np.float32]) -> Levels:
    histogram, clipped = np.zeros((2, BINS), np.uint32), np.zeros(2, np.uint32)
    meter = LevelMeter(histogram, clipped)
    for frame in samples[: len(samples) // 160 * 160].reshape(-1, 160):
        line = frame[None, :].astype(np.float32)
        meter.count(np.array([1]), line, power_of(line))
    assert not histogram[0].any()
    return levels_of(histogram[1], int(clipped[1]))


def test_one_frame_of_four_is_counted() -> None:
    assert sum(is_due(tick) for tick in range(3, 3 + 16 * 20, 4)) == 80 // SAMPLED


@pytest.mark.parametrize("amplitude", [300, 1000, 3000, 10000, 30000])
def test_level_of_a_tone(amplitude: float) -> None:
    levels = measured(sine(450, 16000, amplitude=amplitude))
    dbov = 20 * np.log10(amplitude / np.sqrt(2) / 32768)
    assert levels.speech_dbov == pytest.approx(dbov, abs=2)
    assert levels.activity == 1


def test_pauses_do_not_lower_the_level_of_speech() -> None:
    speech = sine(450, 8000, amplitude=4000)
    noise = np.random.default_rng(1).normal(0, 20, 24000).astype(np.float32)
    levels = measured(np.concatenate([noise, speech]))
    assert levels.speech_dbov == pytest.approx(20 * np.log10(4000 / np.sqrt(2) / 32768), abs=2)
    assert levels.activity == pytest.approx(0.25, abs=0.02)
    assert levels.noise_dbov == pytest.approx(20 * np.log10(20 / 32768), abs=2)


def test_silence_has_no_level() -> None:
    levels = measured(np.full(16000, 8, np.float32))
    assert levels.speech_dbov is None
    assert levels.silent
    assert levels.clipped == 0
    assert not measured(sine(450, 16000, amplitude=200)).silent


def test_too_little_says_nothing() -> None:
    levels = measured(sine(450, 160 * 9))
    assert (levels.speech_dbov, levels.noise_dbov, levels.frames) == (None, None, 9)
    assert not levels_of(np.zeros(BINS, np.uint32), 0).silent


def test_clipping_is_seen() -> None:
    loud = np.clip(sine(450, 8000, amplitude=60000), -32124, 32124)
    clean = sine(450, 8000, amplitude=31000)
    assert measured(np.concatenate([loud, clean]).astype(np.float32)).clipped == 0.5


def test_not_a_number_and_beyond_all_bins_is_survived() -> None:
    histogram, clipped = np.zeros((1, BINS), np.uint32), np.zeros(1, np.uint32)
    line = np.full((1, 160), 1e9, np.float32)
    LevelMeter(histogram, clipped).count(np.array([0]), line, power_of(line))
    assert histogram[0, BINS - 1] == 1
