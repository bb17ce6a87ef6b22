from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from media.unwrap import (
    sequence_distance,
    timestamp_distance,
    unwrap_sequence,
    unwrap_sequences,
    unwrap_timestamps,
)

POSITION = st.integers(0, 1 << 40)


@given(POSITION, st.integers(-32768, 32767))
def test_a_sequence_number_comes_back_over_any_wrap(position: int, step: int) -> None:
    value = (position + step) & 0xFFFF
    assert unwrap_sequence(position, value) == position + step
    assert sequence_distance(position & 0xFFFF, value) == step


@given(st.lists(st.tuples(POSITION, st.integers(-32768, 32767)), min_size=1, max_size=20))
def test_columns_agree_with_scalars(pairs: list[tuple[int, int]]) -> None:
    reference = np.array([p for p, _ in pairs], np.int64)
    value = np.array([(p + s) & 0xFFFF for p, s in pairs], np.uint16)
    assert unwrap_sequences(reference, value).tolist() == [p + s for p, s in pairs]


@given(POSITION, st.integers(-(1 << 31), (1 << 31) - 1))
def test_timestamps(position: int, step: int) -> None:
    value = (position + step) & 0xFFFFFFFF
    assert timestamp_distance(position & 0xFFFFFFFF, value) == step
    column = unwrap_timestamps(np.array([position]), np.array([value], np.uint32))
    assert column.tolist() == [position + step]
