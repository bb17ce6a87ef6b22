"""Unwrapping of RTP sequence numbers (16 bits) and timestamps (32 bits), as columns and as scalars.

A wrapped value is placed at the unwrapped one that is nearest to a reference, as RFC 1982 compares serial numbers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["sequence_distance", "timestamp_distance", "unwrap_sequence", "unwrap_sequences", "unwrap_timestamps"]


def sequence_distance(reference: int, value: int) -> int:
    """Signed distance from ``reference`` to ``value`` modulo 2^16: -32768 … 32767."""
    return ((value - reference + 0x8000) & 0xFFFF) - 0x8000


def timestamp_distance(reference: int, value: int) -> int:
    """Signed distance modulo 2^32."""
    return ((value - reference + 0x80000000) & 0xFFFFFFFF) - 0x80000000


def unwrap_sequence(reference: int, value: int) -> int:
    """The integer nearest to ``reference`` (unwrapped) that equals ``value`` modulo 2^16."""
    return reference + sequence_distance(reference, value)


def unwrap_sequences(reference: NDArray[np.int64], value: NDArray[np.integer]) -> NDArray[np.int64]:
    """`unwrap_sequence` of columns, shape (n,)."""
    return reference + (value.astype(np.uint16) - reference.astype(np.uint16)).view(np.int16)


def unwrap_timestamps(reference: NDArray[np.int64], value: NDArray[np.integer]) -> NDArray[np.int64]:
    """The same modulo 2^32."""
    return reference + (value.astype(np.uint32) - reference.astype(np.uint32)).view(np.int32)
