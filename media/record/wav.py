"""WAV files that are right at every moment: 16-bit PCM, sizes in the header kept up with each write, RF64 (EBU Tech
3306) beyond 4 GiB.
"""

from __future__ import annotations

import os
import struct
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["HEADER_BYTES", "WavFile", "build_header", "repair_wav"]

HEADER_BYTES: Final = 80
"""RIFF header, 28 octets kept free for the sizes of RF64, format, header of the data."""
_LIMIT: Final = (1 << 32) - 1
_CHANNELS: Final = 2
_FRAME: Final = 2 * _CHANNELS


def build_header(rate_hz: int, data_bytes: int) -> bytes:
    """The first `HEADER_BYTES` octets of a stereo file with so many octets of samples."""
    riff_bytes = HEADER_BYTES - 8 + data_bytes
    is_large = riff_bytes > _LIMIT
    if is_large:
        start = struct.pack("<4sI4s4sIQQQI", b"RF64", _LIMIT, b"WAVE", b"ds64", 28, riff_bytes, data_bytes, 0, 0)
        # the third number of ds64 counts samples of a compressed format, which this is not
    else:
        start = struct.pack("<4sI4s4sI28x", b"RIFF", riff_bytes, b"WAVE", b"JUNK", 28)
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, _CHANNELS, rate_hz, rate_hz * _FRAME, _FRAME, 16)
    return start + form + struct.pack("<4sI", b"data", _LIMIT if is_large else data_bytes)


class WavFile:
    """Stereo samples into an open file.

    Attributes:
        lost: samples that could not be written: silence in the file.
    """

    def __init__(self, fd: int, rate_hz: int) -> None:
        """Raises OSError."""
        self._fd = fd
        self._rate_hz = rate_hz
        self._n = 0
        self.lost = 0
        _write_all(fd, build_header(rate_hz, 0), 0)

    def write(self, samples: NDArray[np.int16]) -> None:
        """Appends samples, shape (n, 2).  Raises OSError: they are lost, the next ones go to their own place."""
        at = HEADER_BYTES + self._n * _FRAME
        self._n += len(samples)
        try:
            _write_all(self._fd, np.ascontiguousarray(samples, "<i2").tobytes(), at)
            _write_all(self._fd, build_header(self._rate_hz, self._n * _FRAME), 0)
        except OSError:
            self.lost += len(samples)
            raise

    def close(self) -> None:
        """Completes the file; the caller closes the descriptor.  Raises OSError."""
        size = HEADER_BYTES + self._n * _FRAME
        if os.fstat(self._fd).st_size < size:
            os.ftruncate(self._fd, size)  # the end was lost: silence
        _write_all(self._fd, build_header(self._rate_hz, self._n * _FRAME), 0)


def _write_all(fd: int, octets: bytes, at: int) -> None:
    view = memoryview(octets)
    while view:
        written = os.pwrite(fd, view, at)
        view, at = view[written:], at + written


def repair_wav(fd: int) -> tuple[int, int]:
    """Makes the header of a file that was not completed agree with what is in it.

    Returns:
        rate in Hz and length in samples; no rate: there is nothing in it.

    Raises:
        OSError: it cannot be read or written.
    """
    header = os.pread(fd, HEADER_BYTES, 0)
    if len(header) < HEADER_BYTES or header[8:12] != b"WAVE" or header[72:76] != b"data":
        return 0, 0
    (rate_hz,) = struct.unpack_from("<I", header, 60)
    n = (os.fstat(fd).st_size - HEADER_BYTES) // _FRAME
    os.ftruncate(fd, HEADER_BYTES + n * _FRAME)
    _write_all(fd, build_header(rate_hz, n * _FRAME), 0)
    return rate_hz, n
