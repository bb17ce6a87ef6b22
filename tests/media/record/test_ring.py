"""The ring between worker and writer."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from media.record.ring import HEARD, TOLD, FrameRing

NO_LIMIT = 1 << 60


@pytest.fixture
def ring() -> Iterator[FrameRing]:
    made = FrameRing(n_slots=10)
    yield made
    made.close()


def numbers(*values: int) -> np.ndarray:
    return np.array(values, np.uint32)


def frames(*values: int, n: int = 160) -> np.ndarray:
    return np.repeat(np.array(values, np.int16)[:, None], n, 1)


def test_frames_come_out_as_they_went_in_round_after_round(ring: FrameRing) -> None:
    other = FrameRing(ring.fd, 10)
    seen = []
    for i in range(25):
        assert ring.put(numbers(i, i + 100, i + 200), TOLD, np.array([i, i, i]), frames(i, i, i, n=320)) == 3
        while len(taken := other.take(NO_LIMIT)):
            assert (taken["direction"] == TOLD).all()
            assert (taken["samples"][:, 319] == taken["tick"]).all()
            seen += taken["recording"].tolist()
    assert seen == [number for i in range(25) for number in (i, i + 100, i + 200)]
    assert ring.head == ring.tail == 75


def test_a_full_ring_takes_what_fits_and_waits_for_nobody(ring: FrameRing) -> None:
    assert ring.put(numbers(*range(8)), HEARD, 5, frames(*range(8))) == 8
    assert ring.put(numbers(8, 9, 10), HEARD, 5, frames(8, 9, 10)) == 2
    assert ring.put(numbers(11), HEARD, 6, frames(11)) == 0
    assert ring.take(NO_LIMIT)["recording"].tolist() == list(range(10))
    assert ring.put(numbers(11), HEARD, 6, frames(11)) == 1


def test_nothing_beyond_the_limit_is_taken(ring: FrameRing) -> None:
    ring.put(numbers(1, 2, 3), HEARD, 5, frames(1, 2, 3))
    assert ring.take(2)["recording"].tolist() == [1, 2]
    assert len(ring.take(2)) == 0
    assert ring.take(3)["recording"].tolist() == [3]
