"""Delay does not stay after the machine stood still: a real worker, stopped for 200 ms while it serves a call."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from bench.media_stall import NUMBERS, Track, measure, number_of, tones

MARGIN_MS = 30.0
"""What a busy machine adds by itself; a stall that stayed would be 200."""
ATTEMPTS = 4
"""A machine that stands still by itself spoils one; delay that stays is there in each."""


def is_back_to_normal(found: dict[str, Any]) -> bool:
    added = [found[name]["after"] - found[name]["before"] for name in ("up_ms", "down_ms")]
    return all(not math.isnan(each) and each < MARGIN_MS for each in added) and found["up_ms"]["worst"] > 150


@pytest.mark.parametrize("engine", ["live", "ahead"])
def test_delay_is_back_to_normal_within_a_second(engine: str) -> None:
    attempts: list[dict[str, Any]] = []
    while not attempts or not is_back_to_normal(attempts[-1]):
        assert len(attempts) < ATTEMPTS, attempts
        attempts.append(measure(engine, 0.2, 1))


def test_frames_tell_their_number_through_resampling_and_coding() -> None:
    assert [number_of(tones(n, 8000), 8000) for n in range(NUMBERS)] == list(range(NUMBERS))
    assert [number_of(tones(n, 16000), 16000) for n in range(NUMBERS)] == list(range(NUMBERS))
    assert number_of(np.zeros(160), 8000) is None


def test_delays_are_told_by_the_newest_frame_of_that_number() -> None:
    track = Track(sent_at=[0.02 * n for n in range(100)])
    track.arrived(99 % NUMBERS, 2.0)
    track.arrived(90 % NUMBERS, 2.0)
    track.arrived(None, 2.0)
    assert [round(delay) for _, delay in track.delays] == [20, 200]
