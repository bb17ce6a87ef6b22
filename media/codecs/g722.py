"""G.722 at 64 kbit/s (libspandsp): samples at 16 kHz, an RTP clock of 8000 all the same (RFC 3551 §4.5.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from media.codecs.base import FRAME_MS, MAX_FRAMES, Codec, Parameters, PayloadError, Unpacked
from media.codecs.native import NativeState, load_library
from media.codecs.repetition import Repetition

__all__ = ["G722Format", "g722"]

_DECLARATIONS: Final = """
void *g722_encode_init(void *state, int rate, int options);
int g722_encode_free(void *state);
int g722_encode(void *state, unsigned char out[], const short samples[], int n_samples);
void *g722_decode_init(void *state, int rate, int options);
int g722_decode_free(void *state);
int g722_decode(void *state, short samples[], const unsigned char octets[], int n_octets);
"""
_BIT_RATE: Final = 64000
_CLOCK_HZ: Final = 8000
_RATE_HZ: Final = 16000
_FRAME_OCTETS: Final = _CLOCK_HZ * FRAME_MS // 1000
_MAX_OCTETS: Final = MAX_FRAMES * _FRAME_OCTETS


class G722Format:
    """An octet is two samples, and one unit of the RTP clock: a payload of any length is one frame."""

    def unpack_untrusted(self, payload: bytes) -> Unpacked:
        if not payload:
            raise PayloadError("empty payload")
        octets = payload[:_MAX_OCTETS]
        return Unpacked((octets,), frame_timestamps=len(octets))

    def pack(self, frames: Sequence[bytes]) -> bytes:
        return b"".join(frames)


class _Decoder(NativeState):
    def __init__(self, ffi: Any, library: Any) -> None:
        state = library.g722_decode_init(ffi.NULL, _BIT_RATE, 0)
        super().__init__(ffi, state, library.g722_decode_free, "G722: no decoder")
        self._decode = library.g722_decode
        self._samples = np.zeros(2 * _MAX_OCTETS, np.int16)
        self._out = ffi.cast("short *", self._samples.ctypes.data)
        self._repetition = Repetition(_RATE_HZ)

    def decode(self, frame: bytes | None) -> NDArray[np.int16]:
        if frame is None:
            return self._repetition.conceal()
        n_samples = self._decode(self._state, self._out, frame, min(len(frame), _MAX_OCTETS))
        return self._repetition.receive(self._samples[:n_samples].copy())


class _Encoder(NativeState):
    def __init__(self, ffi: Any, library: Any) -> None:
        state = library.g722_encode_init(ffi.NULL, _BIT_RATE, 0)
        super().__init__(ffi, state, library.g722_encode_free, "G722: no encoder")
        self._encode = library.g722_encode
        self._out = ffi.new("unsigned char[]", _FRAME_OCTETS)

    def encode(self, samples: NDArray[np.int16]) -> bytes | None:
        samples = np.ascontiguousarray(samples)
        speech = self._ffi.cast("const short *", samples.ctypes.data)
        n_octets = self._encode(self._state, self._out, speech, len(samples))
        frame: bytes = self._ffi.buffer(self._out, n_octets)[:]
        return frame

    def request_mode(self, mode: int) -> None:
        pass


def g722() -> Codec:
    """The codec.  Raises CodecError."""
    ffi, library = load_library(_DECLARATIONS, "libspandsp.so.2", "libspandsp.so")

    def make_format(_: Parameters) -> G722Format:
        return G722Format()

    return Codec(
        name="G722",
        clock_rate_hz=_CLOCK_HZ,
        sample_rate_hz=_RATE_HZ,
        receive_format=make_format,
        send_format=make_format,
        new_decoder=lambda _: _Decoder(ffi, library),
        new_encoder=lambda _: _Encoder(ffi, library),
    )
