"""The codecs of the quality measurements: what a phone sends of a recording, and what the codec alone makes of it.

"The codec alone" has no network and no server: the same packets, the same ones of them lost, and what the codec itself
does where one is missing. G.711 has nothing for that: there it is libspandsp's concealment (class of G.711 Appendix I),
which is not ours. That of G.722 is ours: no library has one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs
import numpy as np
import soxr
from numpy.typing import NDArray

from media import g711
from media.codecs.base import Codec, FrameDecoder, Redundancy, Unpacked
from media.codecs.native import load_library
from media.codecs.registry import find_codec
from media.control import StreamConfig

__all__ = ["SPOKEN", "Packet", "Spoken", "at_rate", "decode_alone", "encode_all"]

Pcm = NDArray[np.int16]
IsLost = Callable[[int], bool]
FRAMES_PER_S = 50


@attrs.frozen
class Spoken:
    """A codec as one call has it."""

    label: str
    name: str
    clock_hz: int
    rate_hz: int
    """Of its samples."""
    parameters: dict[str, str] = attrs.Factory(dict)
    payload_type: int = 98

    @property
    def codec(self) -> Codec:
        """Not of G.711.  Raises LookupError: its library is not installed."""
        codec = find_codec(self.name, self.clock_hz)
        if codec is None:
            raise LookupError(f"{self.name}: its library is not installed")
        return codec

    @property
    def is_g711(self) -> bool:
        return self.name in g711.CODECS

    @property
    def frame_samples(self) -> int:
        return self.rate_hz // FRAMES_PER_S

    @property
    def frame_timestamps(self) -> int:
        return self.clock_hz // FRAMES_PER_S

    def stream(self, **fields: Any) -> StreamConfig:
        """As negotiated."""
        return StreamConfig(
            codec=self.name,
            payload_type=self.payload_type,
            clock_rate=self.clock_hz,
            send_parameters=self.parameters,
            receive_parameters=self.parameters,
            **fields,
        )


SPOKEN = {
    each.label: each
    for each in (
        Spoken("PCMU", "PCMU", 8000, 8000, payload_type=0),
        Spoken("PCMA", "PCMA", 8000, 8000, payload_type=8),
        Spoken("G722", "G722", 8000, 16000, payload_type=9),
        Spoken("AMR 12.2", "AMR", 8000, 8000, {"mode-set": "7"}),
        Spoken("AMR-WB 12.65", "AMR-WB", 16000, 16000, {"mode-set": "2"}),
        Spoken("AMR-WB 23.85", "AMR-WB", 16000, 16000, {"mode-set": "8"}),
        Spoken("G729", "G729", 8000, 8000, payload_type=18),
        Spoken("Opus", "OPUS", 48000, 16000, {"useinbandfec": "1"}),
    )
}


@attrs.frozen
class Packet:
    """One that is sent."""

    frame: int
    """Its 20 ms, from 0; a pause (DTX) leaves some out."""
    payload: bytes


def at_rate(pcm: Pcm, from_hz: int, to_hz: int) -> Pcm:
    """Resampled by soxr, not by ours."""
    if from_hz == to_hz:
        return pcm
    made: Pcm = soxr.resample(pcm, from_hz, to_hz, quality="VHQ")
    return made


def encode_all(spoken: Spoken, pcm: Pcm) -> list[Packet]:
    """Packets of 20 ms; ``pcm`` at the codec's rate."""
    size = spoken.frame_samples
    frames = [pcm[at : at + size] for at in range(0, len(pcm) - size + 1, size)]
    if spoken.is_g711:
        number = np.array([g711.CODECS[spoken.name]], np.uint8)
        return [
            Packet(i, g711.encode(frame[None].astype(np.float32), number).tobytes()) for i, frame in enumerate(frames)
        ]
    encoder = spoken.codec.new_encoder(spoken.parameters)
    packing = spoken.codec.send_format(spoken.parameters)
    coded = [(i, encoder.encode(frame)) for i, frame in enumerate(frames)]
    encoder.close()
    return [Packet(i, packing.pack([frame])) for i, frame in coded if frame is not None]


def decode_alone(spoken: Spoken, packets: Sequence[Packet], is_lost: IsLost) -> Pcm:
    """What is heard when the packets whose number `is_lost` are missing; at the codec's rate, from frame 0 on."""
    decoder: FrameDecoder = _G711(spoken) if spoken.is_g711 else spoken.codec.new_decoder(spoken.parameters)
    reading = None if spoken.is_g711 else spoken.codec.receive_format(spoken.parameters)
    heard: list[Pcm] = []
    at = 0
    for number, packet in enumerate(packets):
        if is_lost(number):
            continue
        unpacked = Unpacked((packet.payload,)) if reading is None else reading.unpack_untrusted(packet.payload)
        while at < packet.frame:
            repeats = unpacked.repeats and number and is_lost(number - 1) and at == packet.frame - 1
            heard.append(decoder.decode(Redundancy(unpacked.frames[0] or b"") if repeats else None))
            at += 1
        heard += [decoder.decode(frame) for frame in unpacked.frames]
        at += 1
    decoder.close()
    return np.concatenate(heard)


class _G711:
    """A decoder whose lost frames libspandsp makes up."""

    def __init__(self, spoken: Spoken) -> None:
        self._number = np.array([g711.CODECS[spoken.name]], np.uint8)
        self._concealing = Spandsp(spoken.frame_samples)

    def decode(self, frame: bytes | None) -> Pcm:
        if frame is None:
            return self._concealing.fill()
        codes = np.frombuffer(frame, np.uint8)[None]
        return self._concealing.receive(g711.decode(codes, self._number)[0].astype(np.int16))

    def close(self) -> None:
        """Spandsp's state goes with the object."""


class Spandsp:
    """The concealment of libspandsp."""

    def __init__(self, n_samples: int) -> None:
        self._ffi, self._library = load_library(
            """
            void *plc_init(void *state);
            int plc_free(void *state);
            int plc_rx(void *state, int16_t samples[], int n_samples);
            int plc_fillin(void *state, int16_t samples[], int n_samples);
            """,
            "libspandsp.so.2",
        )
        self._state = self._ffi.gc(self._library.plc_init(self._ffi.NULL), self._library.plc_free)
        self._n_samples = n_samples

    def receive(self, samples: Pcm) -> Pcm:
        """What is heard of good samples."""
        made = samples.copy()
        self._library.plc_rx(self._state, self._ffi.from_buffer("int16_t[]", made), len(made))
        return made

    def fill(self) -> Pcm:
        """In place of what is lost."""
        made = np.zeros(self._n_samples, np.int16)
        self._library.plc_fillin(self._state, self._ffi.from_buffer("int16_t[]", made), len(made))
        return made
