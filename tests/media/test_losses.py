from __future__ import annotations

import random

import pytest

from media.losses import WINDOW_PACKETS, LossPattern, LossShare
from media.quality import rating


def stream(lost: list[bool]) -> tuple[LossPattern, int]:
    """What a leg notes of a stream of which the packets marked are lost; the last one comes."""
    pattern, received, missing = LossPattern(), 0, 0
    for is_lost in [*lost, False]:
        if is_lost:
            missing += 1
            continue
        received += 1
        if missing:
            pattern.note(missing, received)
            missing = 0
    return pattern, received


def test_nothing_lost() -> None:
    assert LossPattern().whole(1000) == LossPattern().worst(1000) == LossShare(0.0, 1.0)
    assert LossPattern().whole(0) == LossShare(0.0, 1.0)


def test_random_loss_has_a_burst_ratio_of_one() -> None:
    source = random.Random(1)
    pattern, received = stream([source.random() < 0.1 for _ in range(100_000)])
    share = pattern.whole(received)
    assert share.percent == pytest.approx(10, abs=0.5)
    assert share.burst_ratio == pytest.approx(1, abs=0.03)


def test_bursts_are_longer_than_random_ones() -> None:
    pattern, received = stream(([False] * 95 + [True] * 5) * 100)
    share = pattern.whole(received)
    assert share.percent == pytest.approx(5, abs=0.01)
    assert share.burst_ratio == pytest.approx(5 * 0.95, abs=0.01)


def test_the_worst_ten_seconds_are_found_wherever_they_are() -> None:
    quiet, bad = [False] * 2000, [False, True] * 50
    pattern, received = stream([*quiet, *bad, *quiet])
    worst = pattern.worst(received)
    assert worst.percent == 100 * 50 / WINDOW_PACKETS
    assert worst.burst_ratio == 1
    assert pattern.whole(received).percent < 1.3
    assert rating("PCMA", worst.percent).mos_lq < rating("PCMA", pattern.whole(received).percent).mos_lq


def test_losses_further_apart_than_the_window_do_not_add_up() -> None:
    pattern, received = stream(([True] * 5 + [False] * WINDOW_PACKETS) * 5)
    assert pattern.worst(received).percent == 100 * 5 / WINDOW_PACKETS
    assert len(pattern._window) == 1


def test_a_gap_longer_than_the_window_is_all_of_it() -> None:
    pattern, received = stream([False] * 10 + [True] * (WINDOW_PACKETS + 50) + [False] * 10)
    assert pattern.worst(received).percent == 100


def test_memory_is_bounded() -> None:
    pattern, _ = stream([False, True] * 20_000)
    assert len(pattern._window) <= WINDOW_PACKETS // 2
