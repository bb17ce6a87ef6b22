"""What a codec of the media plane is: a payload format, and a coder and decoder of 20 ms frames per leg.

G.711 is not here: its legs are columns (`media.g711`). Every other codec has state, so its legs are handled one by one,
in three steps that know nothing of each other:

* a `PayloadFormat` (pure) takes an RTP payload apart into coded frames, and puts frames into a payload;
* a `FrameDecoder` makes samples of each frame, or makes 20 ms up where a frame is missing;
* a `FrameEncoder` makes a coded frame of 20 ms of samples.

Samples are int16 at ``sample_rate_hz``, which need not be the RTP clock (G.722: 16000 Hz, clock 8000).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

import attrs
import numpy as np
from numpy.typing import NDArray

__all__ = [
    "FRAME_MS",
    "MAX_FRAMES",
    "Adaptation",
    "Codec",
    "CodecError",
    "FrameDecoder",
    "FrameEncoder",
    "Parameters",
    "PayloadError",
    "PayloadFormat",
    "Redundancy",
    "Unpacked",
]

FRAME_MS: Final = 20
MAX_FRAMES: Final = 12
"""240 ms, the maxptime of VoLTE phones; what a packet has beyond is dropped."""

Parameters = Mapping[str, str]
"""fmtp parameters, names in lower case; a parameter without value has ""."""


class CodecError(Exception):
    """The codec's library is missing, or refused its settings."""


class PayloadError(Exception):
    """A payload that its format does not allow; costs that packet."""


class Redundancy(bytes):
    """A frame of which only what it repeats of the time before it is to be heard (Opus' forward error correction)."""


@attrs.frozen(slots=True)
class Unpacked:
    """What a payload holds.

    Attributes:
        frames: coded frames in order; None: the sender says that this one is missing, or sent none (DTX).
        mode_request: the mode that the peer asks us to send (AMR's CMR), None: no wish.
        is_pause: the sender pauses after it (DTX): what follows is comfort noise until more comes.
    """

    frames: tuple[bytes | None, ...]
    mode_request: int | None = None
    is_pause: bool = False
    frame_timestamps: int | None = None
    """Units of the RTP clock that each frame lasts; None: 20 ms."""
    repeats: int = 0
    """So many times 20 ms before the first frame can be had of it, by `Redundancy`."""


class PayloadFormat(Protocol):
    """One direction of one leg."""

    def unpack_untrusted(self, payload: bytes) -> Unpacked:
        """Raises PayloadError."""
        ...

    def pack(self, frames: Sequence[bytes]) -> bytes:
        """The payload of a packet with these frames, at least one."""
        ...


class FrameDecoder(Protocol):
    """State of one incoming stream."""

    def decode(self, frame: bytes | None) -> NDArray[np.int16]:
        """As long as the frame; None (always 20 ms) conceals a lost frame or fills a pause.

        A `Redundancy` gives what its format said by `Unpacked.repeats`, 20 ms each.

        Never raises for what is in a frame that `PayloadFormat` let through.
        """
        ...

    def close(self) -> None:
        """Gives the library's memory back; calling it twice is harmless."""
        ...


class FrameEncoder(Protocol):
    """State of one outgoing stream."""

    def encode(self, samples: NDArray[np.int16]) -> bytes | None:
        """One frame of 20 ms, or of `Codec.unit_ms`; None: nothing is to be sent for it (DTX)."""
        ...

    def request_mode(self, mode: int) -> None:
        """The peer wishes that mode; what the session does not allow is brought to the nearest that it does."""
        ...

    def close(self) -> None: ...


class Adaptation(Protocol):
    """What a receiver asks of the sender, by what it sends itself, when much is lost."""

    def note(self, frames: Sequence[bytes | None], lost_packets: int) -> None:
        """A packet came, and so many before it did not."""
        ...

    def restart(self) -> None:
        """Another source."""
        ...


@attrs.frozen(kw_only=True)
class Codec:
    """One codec that this machine has.

    Attributes:
        name: encoding name as in rtpmap, upper case.
        clock_rate_hz: of RTP timestamps.
        sample_rate_hz: of the samples of decoder and encoder; timestamps grow by ``clock_rate_hz / 50`` a frame.
        receive_format, send_format: made from the fmtp parameters of that direction.
        new_decoder, new_encoder: for a stream; the encoder's argument is the parameters of what we send.

    All four raise CodecError for parameters that they cannot do, which the signalling side should have refused.
    """

    name: str
    clock_rate_hz: int
    sample_rate_hz: int
    receive_format: Callable[[Parameters], PayloadFormat]
    send_format: Callable[[Parameters], PayloadFormat]
    new_decoder: Callable[[Parameters], FrameDecoder]
    new_encoder: Callable[[Parameters], FrameEncoder]
    packets_ms: tuple[int, ...] = (10, 20, 30, 40, 50, 60)
    """Packets that we can send, 20 among them."""
    unit_ms: int = 10
    """The shortest piece that the encoder takes."""
    is_whole: bool = False
    """A packet is one frame whatever it lasts: the encoder takes all of it at once."""
    new_adaptation: Callable[[Parameters, PayloadFormat], Adaptation] | None = None
    """Made from the parameters of what we receive and the format of what we send."""
    left_out: bytes = b""
    """Stands in a packet for a frame that was not made (DTX)."""

    @property
    def frame_samples(self) -> int:
        return self.sample_rate_hz * FRAME_MS // 1000

    @property
    def frame_timestamps(self) -> int:
        """By how much the RTP timestamp grows in a frame."""
        return self.clock_rate_hz * FRAME_MS // 1000
