"""G.711 tables against independent definitions."""

from __future__ import annotations

import numpy as np
import pytest

from media import g711

ULAW, ALAW = np.array([0], np.uint8), np.array([1], np.uint8)


def all_codes() -> np.ndarray:
    return np.arange(256, dtype=np.uint8)[None, :]


@pytest.mark.parametrize("codec", [ULAW, ALAW])
def test_codes_survive_a_round_trip(codec: np.ndarray) -> None:
    again = g711.encode(g711.decode(all_codes(), codec), codec)
    expected = all_codes().copy()
    if codec[0] == 0:
        expected[0, 0x7F] = 0xFF  # µ-law has two zeros; the positive one is sent
    np.testing.assert_array_equal(again, expected)


@pytest.mark.parametrize(
    ("codec", "code", "sample"),
    # G.711 Table 2a and 1a: ends and middle of the scales, 16-bit
    [
        (ULAW, 0x80, 32124),
        (ULAW, 0x00, -32124),
        (ULAW, 0xFF, 0),
        (ULAW, 0xF0, 120),
        (ALAW, 0xD5, 8),
        (ALAW, 0x55, -8),
        (ALAW, 0xAA, 32256),
        (ALAW, 0x2A, -32256),
    ],
)
def test_known_values(codec: np.ndarray, code: int, sample: int) -> None:
    assert g711.decode(np.array([[code]], np.uint8), codec)[0, 0] == sample


@pytest.mark.parametrize("codec", [ULAW, ALAW])
def test_encoding_takes_the_nearest_value(codec: np.ndarray) -> None:
    samples = np.arange(-32768, 32768, 7, dtype=np.float32)[None, :]
    decoded = g711.decode(g711.encode(samples.copy(), codec), codec)
    values = np.sort(np.unique(g711.decode(all_codes(), codec)))
    nearest = values[np.abs(values[None, :] - samples[0][:, None]).argmin(axis=1)]
    step = np.diff(values).max()
    # the decision levels of G.711 are not all half-way: never more than one step of the smallest size apart
    assert np.abs(decoded[0] - samples[0]).max() <= step / 2 + 132
    assert np.abs(decoded[0] - samples[0]).sum() <= 1.02 * np.abs(nearest - samples[0]).sum() + len(nearest) * 2


def test_legs_with_different_codecs_in_one_batch() -> None:
    codec = np.array([0, 1, 0], np.uint8)
    samples = np.tile(np.array([-5000, 0, 12000], np.float32), (3, 1))
    codes = g711.encode(samples.copy(), codec)
    np.testing.assert_array_equal(codes[0], codes[2])
    assert not np.array_equal(codes[0], codes[1])
    np.testing.assert_allclose(g711.decode(codes, codec), samples, atol=300)


def test_too_loud_is_clipped() -> None:
    assert g711.encode(np.array([[1e6, -1e6]], np.float32), ULAW).tolist() == [[0x80, 0x00]]


def test_silence_codes() -> None:
    for codec in (ULAW, ALAW):
        assert abs(g711.decode(g711.SILENCE[codec][None, :], codec)[0, 0]) <= 8
