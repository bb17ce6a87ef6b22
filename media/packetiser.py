"""Packets of other than 20 ms, where the peer wishes for them (RFC 8866 §6.4 ``ptime``, ``maxptime``): one leg's.

Lines of 20 ms are cut into units (10 ms, or what the codec's frame lasts), and units are put together.  Packets leave
evenly: a second half of 10 ms goes 10 ms later, and of packets of 30 or 50 ms every other one waits as long.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import attrs
import numpy as np
from numpy.typing import NDArray

from media import g711
from media.codecs.base import FRAME_MS
from media.coded import CodedStream
from media.control import StreamConfig

__all__ = ["G711_PACKETS_MS", "Packetiser", "Piece", "packet_ms", "packetiser_for"]

G711_PACKETS_MS: Final = (10, 20, 30, 40, 50, 60)
_G711_UNIT_MS: Final = 10

Unit = Any
"""Coded octets; None where the coder pauses; samples for a codec whose packet is one frame."""


@attrs.frozen(slots=True)
class Piece:
    """One packet.

    Attributes:
        payload: None: the coder pauses, nothing is sent.
        timestamp: RTP, of its first sample.
        delay_ms: after this turn.
    """

    payload: bytes | None
    timestamp: int
    delay_ms: int


def packet_ms(possible: Sequence[int], wished: int) -> int:
    """The longest packet that is not longer than wished; the shortest where all are."""
    return max((each for each in possible if each <= wished), default=min(possible))


class Packetiser:
    """One direction of one leg.

    Args:
        packet_ms: length of the packets.
        unit_ms: length of what `cut` makes.
        timestamps_per_ms: of the RTP clock.
        cut: 20 ms of a line, shape (n,), to units.
        pack: units to a payload; None: nothing to send.
    """

    def __init__(
        self,
        packet_ms: int,
        unit_ms: int,
        timestamps_per_ms: int,
        cut: Callable[[NDArray[np.float32]], Sequence[Unit]],
        pack: Callable[[Sequence[Unit]], bytes | None],
    ) -> None:
        self.packet_ms = packet_ms
        self.octets_out = 0
        self._unit_ms = unit_ms
        self._unit_timestamps = unit_ms * timestamps_per_ms
        self._per_packet = packet_ms // unit_ms
        self._cut, self._pack = cut, pack
        # so long before its end does a packet leave when packets leave evenly
        self._lead_ms = FRAME_MS if packet_ms % FRAME_MS == 0 else FRAME_MS // 2
        self._units: list[Unit] = []
        self._start = 0

    def take(self, line: NDArray[np.float32], timestamp: int) -> list[Piece]:
        """20 ms at that RTP timestamp; the packets that are complete.  What does not follow begins a new packet."""
        pieces: list[Piece] = []
        if self._units and timestamp != self._next:
            pieces += self.flush()
        for i, unit in enumerate(self._cut(line)):
            if not self._units:
                if unit is None:
                    pieces.append(Piece(None, timestamp, 0))
                    continue
                self._start = (timestamp + i * self._unit_timestamps) & 0xFFFFFFFF
            self._units.append(unit)
            if len(self._units) == self._per_packet:
                pieces.append(self._make(max(0, (i + 1) * self._unit_ms - self._lead_ms)))
        return pieces

    def flush(self) -> list[Piece]:
        """What waits, as a shorter packet, since something else comes now."""
        return [self._make(0)] if self._units else []

    @property
    def _next(self) -> int:
        return (self._start + len(self._units) * self._unit_timestamps) & 0xFFFFFFFF

    def _make(self, delay_ms: int) -> Piece:
        units, self._units = self._units, []
        payload = self._pack(units)
        self.octets_out += len(payload or b"")
        return Piece(payload, self._start, delay_ms)


def packetiser_for(config: StreamConfig, coded: CodedStream | None) -> Packetiser | None:
    """What a stream needs; None: packets of 20 ms are what the peer wants, or all that the codec can do."""
    possible = G711_PACKETS_MS if coded is None else coded.codec.packets_ms
    length_ms = packet_ms(possible, config.ptime_ms)
    if length_ms == FRAME_MS:
        return None
    per_ms = config.clock_rate // 1000
    if coded is not None:
        unit_ms = coded.codec.unit_ms
        return Packetiser(length_ms, unit_ms, per_ms, coded.cut, coded.pack)
    codec = np.array([g711.CODECS[config.codec]], np.uint8)

    def cut(line: NDArray[np.float32]) -> list[bytes]:
        codes = g711.encode(line[None, :].copy(), codec)[0].tobytes()
        half = len(codes) // 2
        return [codes[:half], codes[half:]]

    return Packetiser(length_ms, _G711_UNIT_MS, per_ms, cut, b"".join)
