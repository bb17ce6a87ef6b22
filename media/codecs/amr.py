"""AMR (libopencore-amrnb) and AMR-WB (libopencore-amrwb, libvo-amrwbenc)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from media.codecs.amr_adaptation import ModeAdaptation
from media.codecs.amr_modes import ModeControl, read_mode_set
from media.codecs.amr_payload import AMR, AMR_WB, NO_DATA, NO_DATA_FRAME, AmrFormat, AmrKind, is_octet_aligned
from media.codecs.base import Codec, CodecError, Parameters, PayloadFormat
from media.codecs.native import NativeState, load_library

__all__ = ["amr", "amr_wb"]

_NARROW: Final = """
void *Decoder_Interface_init(void);
void Decoder_Interface_exit(void *state);
void Decoder_Interface_Decode(void *state, const unsigned char *in, short *out, int bfi);
void *Encoder_Interface_init(int dtx);
void Encoder_Interface_exit(void *state);
int Encoder_Interface_Encode(void *state, int mode, const short *speech, unsigned char *out, int force_speech);
"""
_WIDE_DECODER: Final = """
void *D_IF_init(void);
void D_IF_exit(void *state);
void D_IF_decode(void *state, const unsigned char *bits, short *synth, int bfi);
"""
_WIDE_ENCODER: Final = """
void *E_IF_init(void);
void E_IF_exit(void *state);
int E_IF_encode(void *state, int mode, const short *speech, unsigned char *out, int dtx);
"""
_MAX_FRAME_OCTETS: Final = 64
_FIRST_MODE: Final = {"AMR": 7, "AMR-WB": 2}
"""12.2 and 12.65 kbit/s, what networks are dimensioned for."""
# read and not spoken: a receiver that took such a line would misread every packet
_NOT_SPOKEN: Final = ("crc", "robust-sorting", "interleaving")


class _Decoder(NativeState):
    def __init__(self, ffi: Any, kind: AmrKind, new: Callable[[], Any], free: Any, decode: Any) -> None:
        state = new()
        super().__init__(ffi, state, free, f"{kind.name}: no decoder")
        self._decode = decode
        self._samples = np.zeros(kind.sample_rate_hz // 50, np.int16)
        self._out = ffi.cast("short *", self._samples.ctypes.data)

    def decode(self, frame: bytes | None) -> NDArray[np.int16]:
        """A damaged frame (quality bit clear) counts as lost: what it would sound like nobody knows."""
        if frame is None or not frame[0] & 4:
            frame = NO_DATA_FRAME
        self._decode(self._state, frame, self._out, 0)
        return self._samples.copy()


class _Encoder(NativeState):
    """``encode``: (mode, samples, out) → octets."""

    def __init__(self, ffi: Any, kind: AmrKind, parameters: Parameters, state: Any, free: Any, encode: Any) -> None:
        super().__init__(ffi, state, free, f"{kind.name}: no encoder")
        self._encode = encode
        self._modes = ModeControl(parameters, kind, first=_FIRST_MODE[kind.name])
        self._out = ffi.new("unsigned char[]", _MAX_FRAME_OCTETS)

    def encode(self, samples: NDArray[np.int16]) -> bytes | None:
        samples = samples.copy()  # libopencore-amrnb filters its input in place
        speech = self._ffi.cast("const short *", samples.ctypes.data)
        n_octets = self._encode(self._state, self._modes.next_mode(), speech, self._out)
        frame: bytes = self._ffi.buffer(self._out, n_octets)[:]
        return None if n_octets < 1 or frame[0] >> 3 & 0x0F == NO_DATA else frame

    def request_mode(self, mode: int) -> None:
        self._modes.request(mode)


def _formats(kind: AmrKind) -> Callable[[Parameters], AmrFormat]:
    def make(parameters: Parameters) -> AmrFormat:
        for name in _NOT_SPOKEN:
            if parameters.get(name, "0").strip() != "0":
                raise CodecError(f"{kind.name}: {name} is not spoken")
        read_mode_set(parameters, kind)
        return AmrFormat(kind, octet_aligned=is_octet_aligned(parameters))

    return make


def _adaptation(kind: AmrKind) -> Callable[[Parameters, PayloadFormat], ModeAdaptation]:
    def make(parameters: Parameters, packing: PayloadFormat) -> ModeAdaptation:
        assert isinstance(packing, AmrFormat)
        return ModeAdaptation(kind, parameters, packing)

    return make


def _codec(kind: AmrKind, new_decoder: Any, new_encoder: Any) -> Codec:
    return Codec(
        name=kind.name,
        clock_rate_hz=kind.sample_rate_hz,
        sample_rate_hz=kind.sample_rate_hz,
        receive_format=_formats(kind),
        send_format=_formats(kind),
        new_decoder=new_decoder,
        new_encoder=new_encoder,
        packets_ms=(20, 40, 60),
        unit_ms=20,
        left_out=NO_DATA_FRAME,
        new_adaptation=_adaptation(kind),
    )


def amr() -> Codec:
    """AMR at 8 kHz; silence is sent as SID frames (DTX).  Raises CodecError."""
    ffi, lib = load_library(_NARROW, "libopencore-amrnb.so.0", "libopencore-amrnb.so")

    def encode(state: Any, mode: int, speech: Any, out: Any) -> int:
        n_octets: int = lib.Encoder_Interface_Encode(state, mode, speech, out, 0)
        return n_octets

    return _codec(
        AMR,
        lambda _: _Decoder(
            ffi, AMR, lib.Decoder_Interface_init, lib.Decoder_Interface_exit, lib.Decoder_Interface_Decode
        ),
        lambda parameters: _Encoder(
            ffi, AMR, parameters, lib.Encoder_Interface_init(1), lib.Encoder_Interface_exit, encode
        ),
    )


def amr_wb() -> Codec:
    """AMR-WB at 16 kHz; silence is sent as SID frames (DTX).  Raises CodecError."""
    ffi, decoder = load_library(_WIDE_DECODER, "libopencore-amrwb.so.0", "libopencore-amrwb.so")
    encoder_ffi, encoder = load_library(_WIDE_ENCODER, "libvo-amrwbenc.so.0", "libvo-amrwbenc.so")

    def encode(state: Any, mode: int, speech: Any, out: Any) -> int:
        n_octets: int = encoder.E_IF_encode(state, mode, speech, out, 1)
        return n_octets

    return _codec(
        AMR_WB,
        lambda _: _Decoder(ffi, AMR_WB, decoder.D_IF_init, decoder.D_IF_exit, decoder.D_IF_decode),
        lambda parameters: _Encoder(encoder_ffi, AMR_WB, parameters, encoder.E_IF_init(), encoder.E_IF_exit, encode),
    )
