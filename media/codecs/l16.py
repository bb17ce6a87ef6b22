"""L16 (RFC 3551 §4.5.11): 16-bit samples in network order, mono. Any rate that a line of ours can have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from media.codecs.base import MAX_FRAMES, Codec, Parameters, PayloadError, Unpacked

__all__ = ["L16_RATES_HZ", "l16"]

L16_RATES_HZ: Final = (8000, 16000)


class _Format:
    def __init__(self, frame_bytes: int) -> None:
        self._frame_bytes = frame_bytes

    def unpack_untrusted(self, payload: bytes) -> Unpacked:
        size = self._frame_bytes
        if not payload or len(payload) % size:
            raise PayloadError(f"L16 payload of {len(payload)} octets")
        end = min(len(payload), MAX_FRAMES * size)
        return Unpacked(tuple(payload[at : at + size] for at in range(0, end, size)))

    def pack(self, frames: Sequence[bytes]) -> bytes:
        return b"".join(frames)


class _Decoder:
    """Repeats the last frame once, half as loud, where one is missing, then is silent."""

    def __init__(self, frame_samples: int) -> None:
        self._silence = np.zeros(frame_samples, np.int16)
        self._last = self._silence

    def decode(self, frame: bytes | None) -> NDArray[np.int16]:
        if frame is None:
            made_up, self._last = self._last // 2, self._silence
            return made_up.astype(np.int16)
        self._last = np.frombuffer(frame, ">i2").astype(np.int16)
        return self._last

    def close(self) -> None:
        pass


class _Encoder:
    def encode(self, samples: NDArray[np.int16]) -> bytes | None:
        return samples.astype(">i2").tobytes()

    def request_mode(self, mode: int) -> None:
        pass

    def close(self) -> None:
        pass


def l16(rate_hz: int) -> Codec:
    """The codec at one rate of `L16_RATES_HZ`."""
    frame_samples = rate_hz // 50

    def make_format(_: Parameters) -> _Format:
        return _Format(2 * frame_samples)

    return Codec(
        name="L16",
        clock_rate_hz=rate_hz,
        sample_rate_hz=rate_hz,
        receive_format=make_format,
        send_format=make_format,
        new_decoder=lambda _: _Decoder(frame_samples),
        new_encoder=lambda _: _Encoder(),
    )
