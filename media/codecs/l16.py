"""L16 (RFC 3551 §4.5.11): 16-bit samples in network order, mono. Any rate that a line of ours can have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from media.codecs.base import MAX_FRAMES, Codec, Parameters, PayloadError, Unpacked

__all__ = ["L16_RATES_HZ", "l16"]

L16_RATES_HZ: Final = (8000, 16000)
_MAX_OCTETS: Final = 1400
"""Of a payload that fits into a datagram of an Ethernet frame."""


class _Format:
    """Each 10 ms are a frame."""

    def __init__(self, frame_samples: int) -> None:
        self._frame_samples = frame_samples
        self._frame_bytes = 2 * frame_samples

    def unpack_untrusted(self, payload: bytes) -> Unpacked:
        size = self._frame_bytes
        if not payload or len(payload) % size:
            raise PayloadError(f"L16 payload of {len(payload)} octets")
        end = min(len(payload), 2 * MAX_FRAMES * size)
        frames = tuple(payload[at : at + size] for at in range(0, end, size))
        return Unpacked(frames, frame_timestamps=self._frame_samples)

    def pack(self, frames: Sequence[bytes]) -> bytes:
        return b"".join(frames)


class _Decoder:
    """Repeats the last 20 ms once, half as loud, where one is missing, then is silent."""

    def __init__(self, frame_samples: int) -> None:
        self._silence = np.zeros(frame_samples, np.int16)
        self._last = self._silence

    def decode(self, frame: bytes | None) -> NDArray[np.int16]:
        if frame is None:
            made_up, self._last = self._last // 2, self._silence
            return made_up.astype(np.int16)
        samples = np.frombuffer(frame, ">i2").astype(np.int16)
        self._last = np.concatenate([self._last, samples])[-len(self._silence) :]
        return samples

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
        return _Format(frame_samples // 2)

    return Codec(
        name="L16",
        clock_rate_hz=rate_hz,
        sample_rate_hz=rate_hz,
        receive_format=make_format,
        send_format=make_format,
        new_decoder=lambda _: _Decoder(frame_samples),
        new_encoder=lambda _: _Encoder(),
        packets_ms=tuple(each for each in (10, 20, 30, 40, 50, 60) if each * rate_hz // 500 <= _MAX_OCTETS),
    )
