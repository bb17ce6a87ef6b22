"""The live resampler against soxr, and its delay."""

from __future__ import annotations

import numpy as np
import pytest
import soxr

from media.resample import LINE_RATE_HZ, Downsampler, Upsampler
from tests.media.support import sine

FACTORS = [2, 3, 6]


def stream(resampler: Upsampler | Downsampler, samples: np.ndarray, frame: int) -> np.ndarray:
    """Frame by frame with history, as the plane does."""
    history = np.zeros((1, resampler.history), np.float32)
    out = []
    for start in range(0, len(samples) - frame + 1, frame):
        extended = np.concatenate([history, samples[None, start : start + frame]], axis=1).astype(np.float32)
        history = extended[:, -resampler.history :]
        out.append(resampler.process(extended)[0])
    return np.concatenate(out)


def speech_like(n: int, rate: int, seed: int = 1) -> np.ndarray:
    """Noise in the telephone band."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).normal(size=n))
    frequency = np.fft.rfftfreq(n, 1 / rate)
    spectrum[(frequency < 200) | (frequency > 3300)] = 0
    noise = np.fft.irfft(spectrum, n)
    return (4000 * noise / np.abs(noise).max()).astype(np.float32)


def error_db(ours: np.ndarray, reference: np.ndarray, most_delay: int) -> tuple[float, int]:
    """Power of the difference relative to the signal at the best delay, and that delay in samples."""
    middle = slice(2000, min(len(ours), len(reference)) - 2000)
    best = min((float(np.mean((ours[middle] - np.roll(reference, d)[middle]) ** 2)), d) for d in range(most_delay + 1))
    return 10 * np.log10(best[0] / np.mean(reference[middle] ** 2)), best[1]


@pytest.mark.parametrize("factor", FACTORS)
def test_up_is_as_good_as_soxr(factor: int) -> None:
    line = speech_like(16000, LINE_RATE_HZ)
    ours = stream(Upsampler(factor), line, 160)
    # compared at the higher rate, where the 11.75-sample delay of the filter is a whole number or half of one
    reference = soxr.resample(line, LINE_RATE_HZ, 2 * factor * LINE_RATE_HZ, "VHQ")
    double = soxr.resample(ours, factor * LINE_RATE_HZ, 2 * factor * LINE_RATE_HZ, "VHQ")
    error, delay = error_db(double, reference, 60 * factor)
    assert error < -50
    assert delay / (2 * factor * 8) <= 1.5


@pytest.mark.parametrize("factor", FACTORS)
def test_down_is_as_good_as_soxr(factor: int) -> None:
    rate = factor * LINE_RATE_HZ
    wide = speech_like(16000 * factor, rate)
    ours = stream(Downsampler(factor), wide, 160 * factor)
    reference = soxr.resample(wide, rate, 2 * factor * LINE_RATE_HZ, "VHQ")
    double = soxr.resample(ours, LINE_RATE_HZ, 2 * factor * LINE_RATE_HZ, "VHQ")
    error, delay = error_db(double, reference, 60 * factor)
    assert error < -45
    assert delay / (2 * factor * 8) <= 1.5


@pytest.mark.parametrize("factor", FACTORS)
def test_images_and_aliases_are_gone(factor: int) -> None:
    rate = factor * LINE_RATE_HZ
    up = stream(Upsampler(factor), sine(2000, 8000), 160)[2000:]
    spectrum = np.abs(np.fft.rfft(up * np.hanning(len(up))))
    frequency = np.fft.rfftfreq(len(up), 1 / rate)
    assert spectrum[frequency > 4600].max() < spectrum.max() * 10 ** (-50 / 20)
    down = stream(Downsampler(factor), sine(5000, 8000 * factor, rate), 160 * factor)[1000:]
    assert np.abs(down).max() < 8000 * 10 ** (-45 / 20)


def test_gain_is_one() -> None:
    expected = pytest.approx(8000 / np.sqrt(2), rel=0.01)
    for factor in FACTORS:
        up = stream(Upsampler(factor), sine(1000, 8000), 160)[800 * factor :]
        assert np.sqrt(np.square(up).mean()) == expected
        down = stream(Downsampler(factor), sine(1000, 8000 * factor, 8000 * factor), 160 * factor)[800:]
        assert np.sqrt(np.square(down).mean()) == expected


def test_rows_do_not_mix() -> None:
    up = Upsampler(2)
    both = np.random.default_rng(3).normal(size=(2, up.history + 160)).astype(np.float32)
    together = up.process(both)
    for i in range(2):
        np.testing.assert_allclose(together[i], up.process(np.ascontiguousarray(both[i : i + 1]))[0], atol=1e-5)
