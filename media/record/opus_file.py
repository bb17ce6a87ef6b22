"""Ogg/Opus files (RFC 7845): recordings written, clips read.

A recording has two independent mono streams (channel mapping family 1): no trace of one party is in the other's
channel.
"""

from __future__ import annotations

import os
import secrets
import struct
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from media.codecs.base import CodecError
from media.codecs.native import NativeState, load_library
from media.record.ogg import (
    BEGIN,
    END,
    OggError,
    build_page,
    checksum,
    iterate_packets_untrusted,
    iterate_pages_untrusted,
)

__all__ = ["OpusFile", "read_opus_untrusted", "repair_opus"]

_DECLARATIONS: Final = """
void *opus_multistream_encoder_create(int32_t rate, int channels, int streams, int coupled,
    const unsigned char *mapping, int application, int *error);
void opus_multistream_encoder_destroy(void *state);
int opus_multistream_encode(void *state, const int16_t *samples, int n, unsigned char *octets, int32_t n_octets);
int opus_multistream_encoder_ctl(void *state, int request, ...);
void *opus_multistream_decoder_create(int32_t rate, int channels, int streams, int coupled,
    const unsigned char *mapping, int *error);
void opus_multistream_decoder_destroy(void *state);
int opus_multistream_decode(void *state, const unsigned char *octets, int32_t n_octets, int16_t *samples, int n,
    int fec);
"""
_CLOCK_HZ: Final = 48000
_AUDIO: Final = 2049
"""For speech as well: three times cheaper here, and tones and music stay what they are."""
_BIT_RATE, _COMPLEXITY, _LOOKAHEAD = 4002, 4010, 4027
_OUR_COMPLEXITY: Final = 3
_BIT_RATE_OF: Final = {8000: 2 * 16000, 16000: 2 * 24000}
_MAX_OCTETS: Final = 2 * 1275 + 8
_PAGE_PACKETS: Final = 50
"""A second a page: so much is lost with a crash."""
_MAX_FRAME: Final = 5760
"""RFC 6716 §3.4: 120 ms."""
_MAX_CHANNELS: Final = 8


@cache
def _library() -> tuple[Any, Any]:
    """Raises CodecError: it is not installed."""
    return load_library(_DECLARATIONS, "libopus.so.0", "libopus.so")


class _Encoder(NativeState):
    def __init__(self, rate_hz: int) -> None:
        """Raises CodecError."""
        ffi, library = _library()
        state = library.opus_multistream_encoder_create(rate_hz, 2, 2, 0, bytes([0, 1]), _AUDIO, ffi.NULL)
        super().__init__(ffi, state, library.opus_multistream_encoder_destroy, "opus: no encoder")
        self._encode = library.opus_multistream_encode
        self._out = ffi.new("unsigned char[]", _MAX_OCTETS)
        control = library.opus_multistream_encoder_ctl
        for request, value in ((_BIT_RATE, _BIT_RATE_OF[rate_hz]), (_COMPLEXITY, _OUR_COMPLEXITY)):
            control(self._state, request, ffi.cast("int", value))
        lookahead = ffi.new("int32_t *")
        control(self._state, _LOOKAHEAD, lookahead)
        self.skip = int(lookahead[0]) * _CLOCK_HZ // rate_hz
        """What a player leaves out at the beginning, in samples of 48 kHz."""

    def encode(self, samples: NDArray[np.int16]) -> bytes:
        """20 ms, shape (n, 2)."""
        pcm = np.ascontiguousarray(samples)
        n = self._encode(
            self._state, self._ffi.cast("const int16_t *", pcm.ctypes.data), len(pcm), self._out, _MAX_OCTETS
        )
        if n < 0:
            raise CodecError(f"opus: error {n}")
        packet: bytes = self._ffi.buffer(self._out, n)[:]
        return packet


class OpusFile:
    """Stereo samples into an open file; as `media.record.wav.WavFile`."""

    def __init__(self, fd: int, rate_hz: int) -> None:
        """Raises OSError, CodecError."""
        self._fd = fd
        self._encoder = _Encoder(rate_hz)
        self._per_sample = _CLOCK_HZ // rate_hz
        self._frame = rate_hz // 50
        self._rest = np.zeros((0, 2), np.int16)
        self._packets: list[bytes] = []
        self._serial = secrets.randbits(32)
        self._number = 0
        self._size = 0
        self._n = 0
        self._n_encoded = 0
        self.lost = 0
        skip = self._encoder.skip
        head = struct.pack("<8sBBHIhB", b"OpusHead", 1, 2, skip, rate_hz, 0, 1) + bytes([2, 0, 0, 1])
        vendor = b"ims-as"
        tags = b"OpusTags" + struct.pack("<I", len(vendor)) + vendor + struct.pack("<I", 0)
        self._page([head], BEGIN, 0)
        self._page([tags], 0, 0)

    def write(self, samples: NDArray[np.int16]) -> None:
        """Raises OSError: a page is lost, the next ones follow where it was."""
        self._n += len(samples)
        pending = np.concatenate([self._rest, samples])
        n_whole = len(pending) // self._frame * self._frame
        self._rest = pending[n_whole:]
        problem: OSError | None = None
        for at in range(0, n_whole, self._frame):
            problem = self._encode(pending[at : at + self._frame]) or problem
        if problem is not None:
            raise problem

    def _encode(self, frame: NDArray[np.int16]) -> OSError | None:
        # one packet is kept back, for the last page says that it is the last
        problem = self._flush() if len(self._packets) >= _PAGE_PACKETS else None
        self._packets.append(self._encoder.encode(frame))
        self._n_encoded += self._frame
        return problem

    def _flush(self, flags: int = 0, granule: int | None = None) -> OSError | None:
        packets, self._packets = self._packets, []
        try:
            self._page(packets, flags, self._n_encoded * self._per_sample if granule is None else granule)
        except OSError as error:
            self.lost += len(packets) * self._frame
            return error
        return None

    def _page(self, packets: list[bytes], flags: int, granule: int) -> None:
        page = build_page(packets, flags=flags, granule=granule, serial=self._serial, number=self._number)
        self._number += 1
        view, at = memoryview(page), self._size
        while view:
            try:
                written = os.pwrite(self._fd, view, at)
            except OSError:
                os.ftruncate(self._fd, self._size)
                raise
            view, at = view[written:], at + written
        self._size = at

    def close(self) -> None:
        """Completes the file; the caller closes the descriptor.  Raises OSError."""
        end = self._encoder.skip + self._n * self._per_sample
        problem: OSError | None = None
        while self._n_encoded * self._per_sample < end:
            frame = np.zeros((self._frame, 2), np.int16)
            frame[: len(self._rest)] = self._rest
            self._rest = self._rest[:0]
            problem = self._encode(frame) or problem
        problem = self._flush(END, end) or problem
        self._encoder.close()
        if problem is not None:
            raise problem


def repair_opus(fd: int) -> tuple[int, int]:
    """Cuts a file that was not completed after its last whole page, and marks that as the last.

    Returns:
        rate in Hz and length in samples; no rate: there is nothing in it.

    Raises:
        OSError: it cannot be read or written.
    """
    octets = os.pread(fd, os.fstat(fd).st_size, 0)
    first = last = None
    try:
        for page in iterate_pages_untrusted(octets):
            first, last = first or page, page
    except OggError:
        return 0, 0
    if first is None or last is None or len(first.body) < 19 or last is first:
        return 0, 0
    skip, rate_hz = struct.unpack_from("<HI", first.body, 10)
    page_octets = bytearray(octets[last.at : last.at + last.size])
    page_octets[5] |= END
    page_octets[22:26] = bytes(4)
    page_octets[22:26] = checksum(bytes(page_octets)).to_bytes(4, "little")
    os.pwrite(fd, page_octets, last.at)
    os.ftruncate(fd, last.at + last.size)
    return rate_hz, max(0, last.granule - skip) * rate_hz // _CLOCK_HZ


class _Decoder(NativeState):
    def __init__(self, channels: int, streams: int, coupled: int, mapping: bytes) -> None:
        """Raises CodecError."""
        ffi, library = _library()
        state = library.opus_multistream_decoder_create(_CLOCK_HZ, channels, streams, coupled, mapping, ffi.NULL)
        super().__init__(ffi, state, library.opus_multistream_decoder_destroy, "opus: no decoder")
        self._decode = library.opus_multistream_decode
        self._samples = np.zeros((_MAX_FRAME, channels), np.int16)
        self._out = ffi.cast("int16_t *", self._samples.ctypes.data)

    def decode(self, packet: bytes) -> NDArray[np.int16]:
        """A packet that is malformed is left out."""
        n = self._decode(self._state, packet, len(packet), self._out, _MAX_FRAME, 0)
        return self._samples[: max(0, n)].copy()


def read_opus_untrusted(octets: bytes | memoryview, max_s: float) -> NDArray[np.int16]:
    """The samples of an Ogg/Opus file at 48 kHz, shape (n, channels).

    Raises:
        OggError: it is none, or longer than ``max_s``.
        CodecError: libopus is not installed, or does not take it.
    """
    packets = iterate_packets_untrusted(octets)
    head, _ = next(packets, (b"", 0))
    if len(head) < 19 or head[:8] != b"OpusHead" or head[8] >> 4:
        raise OggError("not Opus")
    channels, family = head[9], head[18]
    (skip,) = struct.unpack_from("<H", head, 10)
    (gain,) = struct.unpack_from("<h", head, 16)
    if family == 0 and channels in (1, 2):
        streams, coupled, mapping = 1, channels - 1, bytes(range(channels))
    elif family in (1, 255) and 1 <= channels <= _MAX_CHANNELS and len(head) >= 21 + channels:
        streams, coupled, mapping = head[19], head[20], head[21 : 21 + channels]
    else:
        raise OggError(f"{channels} channels of mapping family {family}")
    if not 0 < streams <= _MAX_CHANNELS or coupled > streams:
        raise OggError(f"{streams} streams")
    next(packets, None)  # comments
    decoder = _Decoder(channels, streams, coupled, mapping)
    parts: list[NDArray[np.int16]] = []
    n = 0
    end: int | None = None
    try:
        for packet, granule in packets:
            end = granule if granule >= 0 else end
            if not packet:
                continue
            parts.append(decoder.decode(packet))
            n += len(parts[-1])
            if n > max_s * _CLOCK_HZ + skip:
                raise OggError(f"longer than {max_s:g} s")
    finally:
        decoder.close()
    if not parts:
        raise OggError("empty")
    samples = np.concatenate(parts)[skip:]
    if end is not None and skip < end < n:
        samples = samples[: end - skip]
    if not len(samples):
        raise OggError("empty")
    if gain:
        louder = samples.astype(np.float32) * np.float32(10 ** (gain / 256 / 20))
        samples = np.clip(np.rint(louder), -32768, 32767).astype(np.int16)
    return samples
