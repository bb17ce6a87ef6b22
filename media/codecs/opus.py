"""Opus (libopus; RFC 6716, RFC 7587): wideband mono at 16 kHz, an RTP clock of 48000 whatever is in it.

A packet is one frame for us, however many frames of 2.5 to 60 ms are in it: the decoder takes it as a whole, stereo
included, of which it makes mono. Where a packet is lost the next one may hold a coarse copy of its end (in-band forward
error correction, §5 of RFC 7587); without it the decoder conceals.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from media.codecs.base import Codec, CodecError, Parameters, PayloadError, Redundancy, Unpacked
from media.codecs.native import NativeState, load_library

__all__ = ["OpusFormat", "opus"]

_DECLARATIONS: Final = """
void *opus_decoder_create(int32_t rate, int channels, int *error);
void opus_decoder_destroy(void *state);
int opus_decode(void *state, const unsigned char *octets, int32_t n_octets, int16_t *samples, int n_samples, int fec);
void *opus_encoder_create(int32_t rate, int channels, int application, int *error);
void opus_encoder_destroy(void *state);
int32_t opus_encode(void *state, const int16_t *samples, int n_samples, unsigned char *octets, int32_t n_octets);
int opus_encoder_ctl(void *state, int request, ...);
"""
_CLOCK_HZ: Final = 48000
_RATE_HZ: Final = 16000
_CLOCK_PER_SAMPLE: Final = _CLOCK_HZ // _RATE_HZ
_LINE: Final = 960
"""20 ms of the RTP clock."""
_MAX_TIMESTAMPS: Final = 5760
"""RFC 6716 §3.4: a packet has at most 120 ms."""
_MAX_OCTETS: Final = 1275
"""Of a frame (§3.4), which our own packets have one of."""
_PAUSE_OCTETS: Final = 2
"""A frame that is not longer has nothing but the sender's silence (libopus on DTX)."""

# opus_defines.h
_VOIP: Final = 2048
_BIT_RATE, _MAX_BANDWIDTH, _VBR, _COMPLEXITY, _FEC, _LOSS_PERCENT, _DTX = 4002, 4004, 4006, 4010, 4012, 4014, 4016
_NARROW, _MEDIUM, _WIDE = 1101, 1102, 1103

_OUR_COMPLEXITY: Final = 3
_OUR_BIT_RATE: Final = 24000
"""RFC 7587 §3.1.1 recommends 16 to 20 kbit/s for wideband speech; what is above pays for error correction."""
_MIN_BIT_RATE: Final = 6000
_EXPECTED_LOSS_PERCENT: Final = 10
"""What error correction is dimensioned for: with less the encoder leaves it out at our bit rate."""


def _frame_timestamps(toc: int) -> int:
    """RFC 6716 §3.1: how long the frames of a packet are, in units of the RTP clock."""
    configuration = toc >> 3
    if configuration < 12:
        return (480, 960, 1920, 2880)[configuration & 3]
    if configuration < 16:
        return (480, 960)[configuration & 1]
    return (120, 240, 480, 960)[configuration & 3]


def _n_frames_untrusted(payload: bytes) -> int:
    """§3.2."""
    code = payload[0] & 3
    if code < 3:
        return 1 if code == 0 else 2
    if len(payload) < 2:
        raise PayloadError("no frame count")
    return payload[1] & 0x3F


class OpusFormat:
    """What is inside the packet is left to the decoder, which reads no further than its length."""

    def unpack_untrusted(self, payload: bytes) -> Unpacked:
        """Raises PayloadError: no octets, no frames, or more than 120 ms."""
        if not payload:
            raise PayloadError("empty payload")
        each, n_frames = _frame_timestamps(payload[0]), _n_frames_untrusted(payload)
        if not 0 < each * n_frames <= _MAX_TIMESTAMPS:
            raise PayloadError(f"{n_frames} frames of {each // 48} ms")
        return Unpacked(
            (payload,),
            is_pause=len(payload) <= _PAUSE_OCTETS,
            frame_timestamps=each * n_frames,
            repeats=max(1, each // _LINE) if len(payload) > _PAUSE_OCTETS else 0,
        )

    def pack(self, frames: Sequence[bytes]) -> bytes:
        """One frame, of up to 60 ms; our packets never have more."""
        (frame,) = frames
        return frame


class _Decoder(NativeState):
    def __init__(self, ffi: Any, library: Any) -> None:
        state = library.opus_decoder_create(_RATE_HZ, 1, ffi.NULL)
        super().__init__(ffi, state, library.opus_decoder_destroy, "opus: no decoder")
        self._decode = library.opus_decode
        self._samples = np.zeros(_MAX_TIMESTAMPS // _CLOCK_PER_SAMPLE, np.int16)
        self._out = ffi.cast("int16_t *", self._samples.ctypes.data)

    def decode(self, frame: bytes | None) -> NDArray[np.int16]:
        """A packet that turns out to be malformed counts as lost."""
        if frame is None:
            return self._conceal(_LINE // _CLOCK_PER_SAMPLE)
        each = _frame_timestamps(frame[0])
        if isinstance(frame, Redundancy):
            n_samples = max(each, _LINE) // _CLOCK_PER_SAMPLE
            n_decoded = self._decode(self._state, frame, len(frame), self._out, n_samples, 1)
        else:
            n_samples = each * _n_frames_untrusted(frame) // _CLOCK_PER_SAMPLE
            n_decoded = self._decode(self._state, frame, len(frame), self._out, len(self._samples), 0)
        return self._samples[:n_decoded].copy() if n_decoded == n_samples else self._conceal(n_samples)

    def _conceal(self, n_samples: int) -> NDArray[np.int16]:
        n_decoded = self._decode(self._state, self._ffi.NULL, 0, self._out, n_samples, 0)
        if n_decoded != n_samples:
            return np.zeros(n_samples, np.int16)
        return self._samples[:n_samples].copy()


def _number(parameters: Parameters, name: str) -> int | None:
    """Of a parameter; what is no number was not said."""
    text = parameters.get(name, "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None


class _Encoder(NativeState):
    def __init__(self, ffi: Any, library: Any, parameters: Parameters) -> None:
        state = library.opus_encoder_create(_RATE_HZ, 1, _VOIP, ffi.NULL)
        super().__init__(ffi, state, library.opus_encoder_destroy, "opus: no encoder")
        self._encode = library.opus_encode
        self._out = ffi.new("unsigned char[]", _MAX_OCTETS)
        for request, value in _settings(parameters).items():
            if library.opus_encoder_ctl(self._state, request, ffi.cast("int", value)):
                raise CodecError(f"opus: setting {request} of {value} is refused")

    def encode(self, samples: NDArray[np.int16]) -> bytes | None:
        samples = np.ascontiguousarray(samples)
        speech = self._ffi.cast("const int16_t *", samples.ctypes.data)
        n_octets = self._encode(self._state, speech, len(samples), self._out, _MAX_OCTETS)
        if n_octets <= _PAUSE_OCTETS:
            return None
        frame: bytes = self._ffi.buffer(self._out, n_octets)[:]
        return frame

    def request_mode(self, mode: int) -> None:
        pass


def _settings(parameters: Parameters) -> dict[int, int]:
    """RFC 7587 §6.1, what the receiver of our packets says of itself."""
    bit_rate = _number(parameters, "maxaveragebitrate") or _OUR_BIT_RATE
    playback_hz = _number(parameters, "maxplaybackrate") or _CLOCK_HZ
    has_fec = _number(parameters, "useinbandfec") == 1
    return {
        _COMPLEXITY: _OUR_COMPLEXITY,
        _BIT_RATE: max(_MIN_BIT_RATE, min(bit_rate, _OUR_BIT_RATE)),
        _MAX_BANDWIDTH: _WIDE if playback_hz >= _RATE_HZ else _MEDIUM if playback_hz >= 12000 else _NARROW,
        _VBR: int(_number(parameters, "cbr") != 1),
        _DTX: int(_number(parameters, "usedtx") == 1),
        _FEC: int(has_fec),
        _LOSS_PERCENT: _EXPECTED_LOSS_PERCENT if has_fec else 0,
    }


def opus() -> Codec:
    """The codec.  Raises CodecError."""
    ffi, library = load_library(_DECLARATIONS, "libopus.so.0", "libopus.so")

    def make_format(_: Parameters) -> OpusFormat:
        return OpusFormat()

    return Codec(
        name="OPUS",
        clock_rate_hz=_CLOCK_HZ,
        sample_rate_hz=_RATE_HZ,
        receive_format=make_format,
        send_format=make_format,
        new_decoder=lambda _: _Decoder(ffi, library),
        new_encoder=lambda parameters: _Encoder(ffi, library, parameters),
        packets_ms=(10, 20, 40, 60),
        is_whole=True,
    )
