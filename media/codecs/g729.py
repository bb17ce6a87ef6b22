"""G.729 Annex A, with Annex B (silence) in what we receive (libbcg729, which the operator installs: it is GPL).

A packet has frames of 10 ms, 10 octets each, and as the last one perhaps a SID frame of 2 octets (RFC 3551 §4.5.6).
We never send SID frames, which every receiver allows, also one that says ``annexb=no`` (RFC 4856 §2.1.9).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from media.codecs.base import MAX_FRAMES, Codec, Parameters, PayloadError, Unpacked
from media.codecs.native import NativeState, load_library

__all__ = ["G729Format", "g729"]

_DECLARATIONS: Final = """
void *initBcg729DecoderChannel(void);
void closeBcg729DecoderChannel(void *state);
void bcg729Decoder(void *state, const uint8_t octets[], uint8_t n_octets, uint8_t is_erased, uint8_t is_sid,
                   uint8_t is_rfc3389, int16_t samples[]);
void *initBcg729EncoderChannel(uint8_t has_vad);
void closeBcg729EncoderChannel(void *state);
void bcg729Encoder(void *state, const int16_t samples[], uint8_t octets[], uint8_t *n_octets);
"""
_RATE_HZ: Final = 8000
_FRAME_OCTETS: Final = 10
_FRAME_SAMPLES: Final = 80
_SID_OCTETS: Final = 2
_MAX_OCTETS: Final = 2 * MAX_FRAMES * _FRAME_OCTETS


class G729Format:
    """Each 10 ms are a frame of their own, so packets may have any number of them."""

    def unpack_untrusted(self, payload: bytes) -> Unpacked:
        n_octets = len(payload)
        rest = n_octets % _FRAME_OCTETS
        if not payload or rest not in (0, _SID_OCTETS):
            raise PayloadError(f"G729 payload of {n_octets} octets")
        end = min(n_octets, _MAX_OCTETS)
        frames = tuple(payload[at : at + _FRAME_OCTETS] for at in range(0, end, _FRAME_OCTETS))
        return Unpacked(frames, is_pause=len(frames[-1]) == _SID_OCTETS, frame_timestamps=_FRAME_SAMPLES)

    def pack(self, frames: Sequence[bytes]) -> bytes:
        return b"".join(frames)


class _Decoder(NativeState):
    """Conceals by the decoder's own means; after a SID frame a missing frame is comfort noise."""

    def __init__(self, ffi: Any, library: Any) -> None:
        state = library.initBcg729DecoderChannel()
        super().__init__(ffi, state, library.closeBcg729DecoderChannel, "G729: no decoder")
        self._decode = library.bcg729Decoder
        self._samples = np.zeros(2 * _FRAME_SAMPLES, np.int16)
        self._out = ffi.cast("int16_t *", self._samples.ctypes.data)

    def decode(self, frame: bytes | None) -> NDArray[np.int16]:
        if frame is None:
            missing = self._ffi.NULL
            self._decode(self._state, missing, 0, 1, 0, 0, self._out)
            self._decode(self._state, missing, 0, 1, 0, 0, self._out + _FRAME_SAMPLES)
            return self._samples.copy()
        self._decode(self._state, frame, len(frame), 0, len(frame) == _SID_OCTETS, 0, self._out)
        return self._samples[:_FRAME_SAMPLES].copy()


class _Encoder(NativeState):
    """Frames of 10 ms, at most two at once, always of speech."""

    def __init__(self, ffi: Any, library: Any) -> None:
        state = library.initBcg729EncoderChannel(0)
        super().__init__(ffi, state, library.closeBcg729EncoderChannel, "G729: no encoder")
        self._encode = library.bcg729Encoder
        self._out = ffi.new("uint8_t[]", 2 * _FRAME_OCTETS)
        self._n_octets = ffi.new("uint8_t *")

    def encode(self, samples: NDArray[np.int16]) -> bytes | None:
        samples = np.ascontiguousarray(samples)
        speech = self._ffi.cast("const int16_t *", samples.ctypes.data)
        n_frames = len(samples) // _FRAME_SAMPLES
        for i in range(n_frames):
            self._encode(self._state, speech + i * _FRAME_SAMPLES, self._out + i * _FRAME_OCTETS, self._n_octets)
        frames: bytes = self._ffi.buffer(self._out)[: n_frames * _FRAME_OCTETS]
        return frames

    def request_mode(self, mode: int) -> None:
        pass


def g729() -> Codec:
    """The codec.  Raises CodecError."""
    ffi, library = load_library(_DECLARATIONS, "libbcg729.so.0", "libbcg729.so")

    def make_format(_: Parameters) -> G729Format:
        return G729Format()

    return Codec(
        name="G729",
        clock_rate_hz=_RATE_HZ,
        sample_rate_hz=_RATE_HZ,
        receive_format=make_format,
        send_format=make_format,
        new_decoder=lambda _: _Decoder(ffi, library),
        new_encoder=lambda _: _Encoder(ffi, library),
    )
