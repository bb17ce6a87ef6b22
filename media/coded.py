"""A leg whose codec has state (every one but G.711): packets to 20 ms of samples, and back.

Everything here runs per packet of such a leg; `media.codecs` has the codecs, `media.uplink` and `media.downlink` the
columns around it. Frames are told apart by their timestamps, so that what redundancy brings twice is heard once, and
what it brings of a lost packet is not made up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import attrs
import numpy as np
from numpy.typing import NDArray

from media.codecs.base import FRAME_MS, Codec, CodecError, Parameters, Redundancy
from media.codecs.registry import find_codec
from media.control import ControlError, StreamConfig
from media.rtp import RtpPacket

__all__ = ["MAX_CONCEALED", "NO_DATA", "CodedItem", "CodedStream", "open_coded"]

MAX_CONCEALED: Final = 50
"""Frames made up for one gap: a second; a longer gap is cut short, the engine gains nothing from silence in a burst."""
NO_DATA: Final = b""
"""A frame that its sender left out: comfort noise, not loss."""
MAX_SURPLUS: Final = 10
"""Frames; more than 200 ms of a pause is not due to jitter, and not made up for."""
MAX_MISSING: Final = 500
"""Frames; a larger step of the timestamp is a new stream's."""

CodedItem = bytes | None
"""A coded frame, the `Redundancy` of one, `NO_DATA`, or None for 20 ms to be concealed."""


@attrs.define(eq=False, slots=False)
class CodedStream:
    """Both directions of one leg.

    Attributes:
        is_pausing: what came last announced a pause (DTX).
        surplus: frames made up beyond the sender's time: the next pause is made so much shorter.
        octets_out: payload octets sent.
        heard, said: the last frames with speech received and sent, as the codec has them; None: none yet.
    """

    codec: Codec
    send_parameters: Parameters
    receive_parameters: Parameters
    is_pausing: bool = False
    surplus: int = 0
    octets_out: int = 0
    heard: bytes | None = None
    said: bytes | None = None
    _next: int | None = None
    _owed: int = 0
    """Units of the RTP clock that were lost and are less than 20 ms."""
    _rest: NDArray[np.int16] = attrs.Factory(lambda: np.zeros(0, np.int16))
    """Decoded, and less than 20 ms."""

    def __attrs_post_init__(self) -> None:
        """Raises CodecError: parameters that the codec cannot do."""
        self._unpacking = self.codec.receive_format(self.receive_parameters)
        self._packing = self.codec.send_format(self.send_parameters)
        adaptation = self.codec.new_adaptation
        self._adaptation = None if adaptation is None else adaptation(self.receive_parameters, self._packing)
        self._decoder = self.codec.new_decoder(self.receive_parameters)
        try:
            self._encoder = self.codec.new_encoder(self.send_parameters)
        except CodecError:
            self._decoder.close()
            raise

    @property
    def line_samples(self) -> int:
        """Of 20 ms."""
        return self.codec.frame_samples

    def is_same(self, config: StreamConfig) -> bool:
        """Whether a new configuration leaves the codec as it is."""
        return (
            (self.codec.name, self.codec.clock_rate_hz) == (config.codec.upper(), config.clock_rate)
            and self.send_parameters == config.send_parameters
            and self.receive_parameters == config.receive_parameters
        )

    def restart(self) -> None:
        """Another source: its timestamps have nothing to do with the former ones."""
        self._next = None
        self._owed = 0
        self._rest = self._rest[:0]
        self.is_pausing = False
        self.surplus = 0
        if self._adaptation is not None:
            self._adaptation.restart()

    def receive_untrusted(self, packet: RtpPacket, missing: int, filled: int) -> list[CodedItem]:
        """The frames of a packet that follows, in order, what came before.

        Args:
            missing: packets that were given up before it.
            filled: frames that were made up meanwhile because nothing came.

        Raises:
            PayloadError: the payload cannot be read.
        """
        unpacked = self._unpacking.unpack_untrusted(packet.payload)
        if unpacked.mode_request is not None:
            self._encoder.request_mode(unpacked.mode_request)
        if self._adaptation is not None:
            self._adaptation.note(unpacked.frames, missing)
        line = self.codec.frame_timestamps
        step = unpacked.frame_timestamps or line
        items: list[CodedItem] = []
        first = 0
        if self._next is not None:
            ahead = ((packet.timestamp - self._next + 0x80000000) & 0xFFFFFFFF) - 0x80000000
            if 0 <= ahead <= MAX_MISSING * line:
                items = self._items_until(ahead, missing, filled)
                if missing and 0 < unpacked.repeats <= len(items):
                    items[-unpacked.repeats :] = [Redundancy(unpacked.frames[0] or b"")]
            elif -len(unpacked.frames) * step < ahead < 0:
                first = -ahead // step  # sent once more
            elif ahead <= -len(unpacked.frames) * step and ahead > -MAX_MISSING * line:
                first = len(unpacked.frames)
        if first < len(unpacked.frames):
            self._next = (packet.timestamp + len(unpacked.frames) * step) & 0xFFFFFFFF
        items += [NO_DATA if frame is None else frame for frame in unpacked.frames[first:]]
        self.is_pausing = unpacked.is_pause
        if unpacked.frames and not unpacked.is_pause:
            self.heard = unpacked.frames[-1]
        return items

    def _items_until(self, ahead: int, missing: int, filled: int) -> list[CodedItem]:
        """For the time between what came before and a packet that is ``ahead`` of it, less what was made up meanwhile.

        So pauses last as long as the sender says, however unevenly their packets come.
        """
        n_lines = 0
        if ahead:
            n_lines, self._owed = divmod(ahead + self._owed, self.codec.frame_timestamps)
        due = n_lines - filled - self.surplus
        self.surplus = min(max(0, -due), MAX_SURPLUS)
        if missing:
            return [None] * min(max(0, due), MAX_CONCEALED)
        return [NO_DATA] * min(max(0, due), MAX_SURPLUS)

    def decode(self, item: CodedItem) -> Iterator[NDArray[np.float32]]:
        """Lines of 20 ms, shape (1, `line_samples`); none or several for a codec with shorter or longer frames."""
        samples = self._decoder.decode(item or None)
        if len(self._rest):
            samples = np.concatenate([self._rest, samples])
        size = self.line_samples
        end = len(samples) - len(samples) % size
        self._rest = samples[end:]
        for at in range(0, end, size):
            yield samples[None, at : at + size].astype(np.float32)

    def encode(self, line: NDArray[np.float32]) -> bytes | None:
        """The payload of a packet with 20 ms, shape (`line_samples`,); None: nothing is to be sent."""
        samples = np.clip(np.rint(line), -32768, 32767).astype(np.int16)
        frame = self._encoder.encode(samples)
        if frame is None:
            return None
        self.said = frame
        payload = self._packing.pack([frame])
        self.octets_out += len(payload)
        return payload

    def cut(self, line: NDArray[np.float32]) -> Sequence[Any]:
        """20 ms, shape (`line_samples`,), in the codec's units, for `pack`; None: nothing is to be sent for it."""
        samples = np.clip(np.rint(line), -32768, 32767).astype(np.int16)
        units = np.split(samples, FRAME_MS // self.codec.unit_ms)
        return units if self.codec.is_whole else [self._encoder.encode(unit) for unit in units]

    def pack(self, units: Sequence[Any]) -> bytes | None:
        """Units in a row, the first of which is there, to a payload; None: nothing is to be sent."""
        if self.codec.is_whole:
            frame = self._encoder.encode(np.concatenate(units))
            frames = [] if frame is None else [frame]
        else:
            n_frames = max(i for i, unit in enumerate(units, 1) if unit is not None)
            frames = [self.codec.left_out if unit is None else unit for unit in units[:n_frames]]
        if not frames:
            return None
        self.said = frames[-1]
        payload = self._packing.pack(frames)
        self.octets_out += len(payload)
        return payload

    def close(self) -> None:
        self._decoder.close()
        self._encoder.close()


def open_coded(config: StreamConfig) -> CodedStream:
    """The codec of a configuration.

    Raises:
        ControlError: this machine does not have it, or not with these parameters.
    """
    codec = find_codec(config.codec, config.clock_rate)
    if codec is None:
        raise ControlError(f"codec {config.codec!r}/{config.clock_rate}")
    try:
        return CodedStream(codec, config.send_parameters, config.receive_parameters)
    except CodecError as error:
        raise ControlError(f"codec {config.codec!r}: {error}") from error
