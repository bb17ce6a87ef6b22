"""What is sent leg by leg: packets of coded legs, of other than 20 ms, telephone events, and tones of digits."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from media import g711
from media.packetiser import Packetiser
from media.rtp import build_rtp
from media.table import FRAME_SAMPLES, FRAME_TICKS, TICK_MS, LegTable, Source
from media.tone_sender import fade_out, tone_frame

if TYPE_CHECKING:
    from media.downlink import DownlinkUser
    from media.leg import Leg

__all__ = ["LegSender"]

_WIDE: Final = 2


class LegSender:
    """Part of the downlink."""

    def __init__(self, table: LegTable, user: DownlinkUser) -> None:
        self._table = table
        self._user = user
        self._later: dict[int, deque[tuple[int, bytes]]] = {}
        """Packets with the ticks at which they go, by row."""

    def forget(self, row: int) -> None:
        """The leg is gone, or sends no more."""
        self._later.pop(row, None)

    @property
    def has_later(self) -> bool:
        return bool(self._later)

    def send_later(self, tick: int) -> None:
        """Sends what was to wait until now."""
        for row in list(self._later):
            waiting = self._later[row]
            while waiting and waiting[0][0] <= tick:
                self._send(row, waiting.popleft()[1])
            if not waiting:
                del self._later[row]

    def send_frames(self, rows: NDArray[np.intp], lines: Iterable[NDArray[np.float32]], tick: int) -> None:
        """20 ms of each of ``rows``, shape (n,); a coder that pauses (DTX) sends nothing.  Turns are the caller's."""
        table = self._table
        for row, line in zip(rows.tolist(), lines, strict=True):
            leg = self._user.leg_of(row)
            packetiser = leg.receiver.packetiser
            if packetiser is not None:
                self._send_pieces(row, packetiser, line, tick)
                continue
            coded = leg.receiver.coded
            if coded is not None:
                payload = coded.encode(line)
            else:
                payload = g711.encode(line[None, :].copy(), table.codec[row : row + 1])[0].tobytes()
            if payload is None:
                table.marker[row] = True
            else:
                self._send(row, self._packet(row, payload, int(table.timestamp[row])))

    def _send_pieces(self, row: int, packetiser: Packetiser, line: NDArray[np.float32], tick: int) -> None:
        if row in self._later:  # the turn came early: order goes before evenness
            self._send_waiting(row)
        for piece in packetiser.take(line, int(self._table.timestamp[row])):
            if piece.payload is None:
                self._table.marker[row] = True
                continue
            packet = self._packet(row, piece.payload, piece.timestamp)
            if piece.delay_ms:
                self._later.setdefault(row, deque()).append((tick + piece.delay_ms // TICK_MS, packet))
            else:
                self._send(row, packet)

    def _flush(self, leg: Leg) -> None:
        self._send_waiting(leg.row)
        for piece in leg.receiver.packetiser.flush() if leg.receiver.packetiser is not None else ():
            if piece.payload is not None:
                self._send(leg.row, self._packet(leg.row, piece.payload, piece.timestamp))

    def _send_waiting(self, row: int) -> None:
        for _, packet in self._later.pop(row, ()):
            self._send(row, packet)

    def _packet(
        self, row: int, payload: bytes, timestamp: int, payload_type: int | None = None, marker: bool | None = None
    ) -> bytes:
        table = self._table
        packet = build_rtp(
            payload_type=int(table.payload_type[row]) if payload_type is None else payload_type,
            marker=bool(table.marker[row]) if marker is None else marker,
            sequence=int(table.sequence[row]),
            timestamp=timestamp,
            ssrc=int(table.ssrc[row]),
            payload=payload,
        )
        table.sequence[row] += 1
        table.marker[row] = False
        table.packets_out[row] += 1
        return packet

    def _send(self, row: int, packet: bytes) -> None:
        self._user.send_event(self._user.leg_of(row), packet)

    def send_digits(self, rows: Sequence[int], tick: int) -> None:
        """The turn of legs on which digits are dialled: an event's packet, or 20 ms of its tones, or of the pause."""
        table = self._table
        for row in rows:
            leg = self._user.leg_of(row)
            if leg.receiver.config.dtmf_payload_type is None:
                self._send_tone(leg, tick)
            else:
                self._send_event(leg)
            table.timestamp[row] += table.frame_timestamps[row]
            table.nominal[row] += FRAME_TICKS
            table.due[row] += FRAME_TICKS
            table.event[row] = leg.dtmf.is_active

    def _send_event(self, leg: Leg) -> None:
        row, table, config = leg.row, self._table, leg.receiver.config
        self._flush(leg)
        slot = int(table.frame_timestamps[row])
        step = leg.dtmf.next_slot(slot, slot * (config.dtmf_clock_rate or config.clock_rate) // config.clock_rate)
        if step.payload:
            timestamp = int(table.timestamp[row]) + step.offset
            self._send(row, self._packet(row, step.payload, timestamp, config.dtmf_payload_type, step.marker))
        table.marker[row] = True

    def _send_tone(self, leg: Leg, tick: int) -> None:
        row, table = leg.row, self._table
        size = FRAME_SAMPLES * (_WIDE if table.wide[row] else 1)
        line = tone_frame(leg.dtmf.next_tone(), size)
        if table.source[row] != Source.SILENCE:
            line = fade_out(line, table.tail[row])
            table.source[row] = Source.SILENCE
        table.tail[row] = 0
        self.send_frames(np.array([row]), [line], tick)
