"""A plane half without sockets: collects what it is told, with ticks moved by the test."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from media.control import StreamConfig
from media.downlink import Downlink
from media.dtmf import Digit
from media.leg import Leg, LegCounters, Receiver
from media.playout import PlayoutBank, PlayoutQueue
from media.rtp import RtpPacket, parse_rtp_untrusted
from media.table import LegTable
from media.uplink import Uplink


class Stage:
    """One table with legs, and both halves of the plane."""

    def __init__(self, n_legs: int = 1, rate_hz: int = 16000, **config: Any) -> None:
        self.table = LegTable(max(4, n_legs))
        self.banks = [PlayoutBank(self.table, 8000), PlayoutBank(self.table, rate_hz)]
        self.uplink = Uplink(self.table, self.banks, self)
        self.downlink = Downlink(self.table, self.banks, self, 64)
        self.legs: dict[int, Leg] = {}
        self.sent: list[tuple[int, int, RtpPacket]] = []
        """(tick, row, packet)."""
        self.up: list[tuple[int, NDArray[np.int16]]] = []
        self.notes: list[tuple[Any, ...]] = []
        self.tick = 0
        for _ in range(n_legs):
            row = self.table.allocate()
            counters = LegCounters()
            stream = StreamConfig(**{"codec": "PCMU", "payload_type": 0, "dtmf_payload_type": 101, **config})
            leg = Leg(f"leg{row}", row, Receiver(self.table, row, stream, counters), counters)
            leg.receiver.configure(stream)
            leg.playout = PlayoutQueue(self.table, row, self.banks[1])
            self.table.bank[row] = self.table.play_bank[row] = 1
            self.legs[row] = leg

    @property
    def leg(self) -> Leg:
        return self.legs[0]

    def receive(self, *datagrams: bytes | tuple[int, bytes], tick: int | None = None) -> None:
        """Datagrams of one pass, for row 0 or (row, octets)."""
        pairs = [d if isinstance(d, tuple) else (0, d) for d in datagrams]
        for view, (_, octets) in zip(self.uplink.block.views, pairs, strict=False):
            view[: len(octets)] = octets
        rows = np.array([row for row, _ in pairs])
        lengths = np.array([len(octets) for _, octets in pairs])
        self.uplink.receive_untrusted(rows, lengths, self.tick if tick is None else tick)

    def advance(self, n_ticks: int, late: int = 0) -> None:
        """Runs sub-ticks; ``late``: so many are lost first."""
        for i in range(n_ticks):
            lost = late if i == 0 else 0
            self.tick += 1 + lost
            self.table.note_lost(self.tick, lost)
            self.uplink.handle_timers(self.tick)
            self.downlink.leave_out_missed(self.tick)
            self.downlink.drop_owed(self.tick)
            self.downlink.send_due(self.tick)

    def say(self, pcm: NDArray[Any], row: int = 0) -> None:
        queue = self.legs[row].playout
        assert queue is not None
        queue.write(pcm.astype("<i2").tobytes(), self.tick + 1)  # in the pass that sends next

    def audio_up(self, row: int = 0) -> NDArray[np.int16]:
        frames = [frame for r, frame in self.up if r == row]
        return np.concatenate(frames) if frames else np.zeros(0, np.int16)

    # ---- what the halves call
    def leg_of(self, row: int) -> Leg:
        return self.legs[row]

    def to_engine(self, bank: PlayoutBank, rows: NDArray[np.intp], samples: NDArray[np.int16]) -> None:
        assert samples.flags.c_contiguous
        assert samples.shape == (len(rows), bank.frame)
        self.up += [(int(row), samples[i].copy()) for i, row in enumerate(rows)]

    def digit_received(self, leg: Leg, digit: Digit) -> None:
        self.notes.append(("digit", leg.row, digit.digit))

    def speech_changed(self, leg: Leg, is_start: bool, tick: int) -> None:
        self.notes.append(("speech", leg.row, is_start, tick))

    def send_packets(self, rows: NDArray[np.intp], views: list[memoryview]) -> None:
        for row, view in zip(rows.tolist(), views, strict=False):
            self.sent.append((self.tick, row, parse_rtp_untrusted(view)))

    def send_event(self, leg: Leg, packet: bytes) -> None:
        self.sent.append((self.tick, leg.row, parse_rtp_untrusted(packet)))

    def engine_heard(self, leg: Leg, tick: int) -> None:
        self.notes.append(("heard", leg.row, tick))

    def engine_spoke(self, leg: Leg, tick: int) -> None:
        self.notes.append(("spoke", leg.row, tick))

    def engine_cut(self, leg: Leg, tick: int) -> None:
        self.notes.append(("cut", leg.row, tick))

    def mark_reached(self, leg: Leg) -> None:
        assert leg.playout is not None
        self.notes += [("mark", leg.row, mark.name) for mark in leg.playout.reached_marks()]

    def clip_ended(self, leg: Leg) -> None:
        self.table.clip[leg.row] = False
        self.notes.append(("clip", leg.row))
