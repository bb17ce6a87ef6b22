"""From the party to the engine: a block of received packets becomes frames at the engines' rates, as columns.

A packet that is plain (fixed header, 20 ms, the next of its stream, nothing pending on its leg) stays in the block;
every other one goes through the leg's `Receiver`, which answers with the frames to release.  Both join in `_deliver`:
decode, measure, resample.  Legs occur at most once in each batch, so that histories stay columns.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from media import g711
from media.coded import CodedStream
from media.conceal import conceal, recover
from media.dtmf import Digit
from media.inband import DigitEar
from media.leg import Leg, UplinkItem
from media.levels import LevelMeter, is_due
from media.playout import RING_FRAMES, PlayoutBank
from media.record.tap import Tap
from media.rtp import HEADER_BYTES, MAX_PACKET_BYTES, HeaderColumns, row_views
from media.table import FRAME_SAMPLES, FRAME_TICKS, NEVER, TICK_MS, LegTable
from media.vad import HANGOVER_FRAMES, VadColumns

__all__ = ["BATCH_ROWS", "FILL_AFTER_TICKS", "ReceiveBlock", "Uplink", "UplinkUser"]

BATCH_ROWS: Final = 512
"""Packets per pass: more would not be faster and would leave the cache."""
FILL_AFTER_TICKS: Final = 15
"""75 ms without a packet: from then on the engine gets made-up frames in real time, or it would never notice that the
caller, whose phone sends nothing in pauses, has stopped speaking."""
PAUSE_TICKS: Final = FRAME_TICKS + 3
"""The same where the phone has announced its pause (DTX): only jitter is waited for."""
MAX_PACKET_FRAMES: Final = 10
"""A packet of up to 200 ms (RFC 3551 §4.2) keeps the engine busy for as long."""
CATCH_UP_PACKETS: Final = 4096
"""So many packets are passed on late after a stall, some 15 ms of work, divided by the legs; older ones are thrown
away.  Catching up must not be the next stall."""
MIN_KEPT_FRAMES: Final = 2
TICKS_OF_CLOCK: Final = TICK_MS * 8
"""Units of G.711's clock in a sub-tick."""
_PLAIN_BYTES: Final = HEADER_BYTES + FRAME_SAMPLES


class ReceiveBlock:
    """Where datagrams are received, with one memoryview per row made once.

    The stride is not a power of two, so that the same octet of all rows does not fall into one set of the cache.
    """

    def __init__(self, n_rows: int = BATCH_ROWS, width: int = MAX_PACKET_BYTES + 64) -> None:
        self.octets = np.zeros((n_rows, width), np.uint8)
        self.width = width
        self.views = row_views(self.octets)


class UplinkUser(Protocol):
    """Who is told, and who sends."""

    def leg_of(self, row: int) -> Leg: ...

    def to_engine(self, bank: PlayoutBank, rows: NDArray[np.intp], samples: NDArray[np.int16]) -> None:
        """Frames for the engines of ``rows``, C-contiguous, shape (n, bank.frame)."""
        ...

    def digit_received(self, leg: Leg, digit: Digit) -> None: ...

    def speech_changed(self, leg: Leg, is_start: bool, tick: int) -> None:
        """``tick``: when it really began or ended."""
        ...


class Uplink:
    """The receiving half of the plane."""

    def __init__(self, table: LegTable, banks: list[PlayoutBank], user: UplinkUser, tap: Tap | None = None) -> None:
        self._table = table
        self._tap = tap or Tap(table)
        self._banks = banks
        self._user = user
        self.vad = VadColumns(table.capacity)
        self.digits = DigitEar(table, user)
        self._meter = LevelMeter(table.levels_in, table.clipped_in)
        self.block = ReceiveBlock()
        self._headers = HeaderColumns(self.block.octets)
        self._codes = self.block.octets[:, HEADER_BYTES:_PLAIN_BYTES]
        self._watched: set[int] = set()
        self._gathered: dict[int, dict[int, NDArray[np.float32]]] = {FRAME_SAMPLES: {}, 2 * FRAME_SAMPLES: {}}
        """By width: one line of each leg."""
        self._before_stall: NDArray[np.float32] | None = None
        self._kept_ms = self._lost_ms = 0
        self.guarded = 0
        """Packets dropped because of an error of ours."""

    @property
    def is_catching_up(self) -> bool:
        return self._before_stall is not None

    def begin_catch_up(self, lost_ticks: int) -> None:
        """A stall of ours: from now to `end_catch_up` packets are as old as their timestamps say."""
        if self._before_stall is None:
            self._before_stall = self._table.transit[: self._table.high].copy()
            self._lost_ms = 0
        self._lost_ms += lost_ticks * TICK_MS
        kept_frames = max(MIN_KEPT_FRAMES, CATCH_UP_PACKETS // max(1, self._table.in_use))
        self._kept_ms = kept_frames * FRAME_TICKS * TICK_MS

    def end_catch_up(self) -> None:
        """The sockets are empty."""
        self._before_stall = None

    def _fresh(self, rows: NDArray[np.intp], transit: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which packets are not too old.  A sender's jump in time is not age, and a new leg has no age to go by."""
        before = self._before_stall
        if before is None:
            return np.ones(len(rows), np.bool_)
        known = rows < len(before)
        age = np.where(known, transit - before[np.where(known, rows, 0)], 0)
        fresh: NDArray[np.bool_] = ~((age > self._kept_ms) & (age <= self._lost_ms + self._kept_ms))
        return fresh

    def receive_untrusted(self, rows: NDArray[np.intp], lengths: NDArray[np.intp], tick: int) -> None:
        """Takes the first ``len(rows)`` datagrams of the block; each leg at most once."""
        table, headers, n = self._table, self._headers, len(rows)
        sequence = headers.sequence[:n].astype(np.uint16)
        plain = (
            (headers.first(n) == table.first[rows])
            & (lengths == _PLAIN_BYTES)
            & (sequence == table.next_sequence[rows])
            & (headers.ssrc[:n] == table.ssrc_in[rows])
            & table.plain[rows]
        )
        if plain.all():
            codes = self._codes[:n]
            timestamp = headers.timestamp[:n]
        else:
            self._receive_others(rows, lengths, np.flatnonzero(~plain), tick)
            rows = rows[plain]
            if not len(rows):
                return
            codes = self._codes[:n][plain]
            sequence = sequence[plain]
            timestamp = headers.timestamp[:n][plain]
        table.next_sequence[rows] = sequence + np.uint16(1)
        table.packets_in[rows] += 1
        table.octets_in[rows] += FRAME_SAMPLES
        table.last_rtp[rows] = tick
        table.fill_at[rows] = tick + FILL_AFTER_TICKS
        # RFC 3550 A.8 in ms; timestamps wrap, and so does what they should be now
        now = table.transit_base[rows] + np.uint32(tick * TICKS_OF_CLOCK & 0xFFFFFFFF)
        transit = ((now - timestamp.astype(np.uint32)).view(np.int32) * np.float32(0.125)).astype(np.float32)
        if self._before_stall is not None:  # our own lateness is not the network's jitter
            fresh = self._fresh(rows, transit)
            if not fresh.all():
                table.stale[rows[~fresh]] += 1
                rows, codes = rows[fresh], codes[fresh]
                if not len(rows):
                    return
        else:
            change = np.abs(transit - table.transit[rows])
            table.transit[rows] = transit
            jitter = table.jitter[rows]
            # not a number after a new source, huge after a pause: neither is jitter
            table.jitter[rows] = np.where(change < 500, jitter + (change - jitter) * np.float32(1 / 16), jitter)
        self._deliver(rows, codes, tick)
        table.history[rows, :FRAME_SAMPLES] = table.history[rows, FRAME_SAMPLES:]
        table.history[rows, FRAME_SAMPLES:] = codes

    def _receive_others(
        self, rows: NDArray[np.intp], lengths: NDArray[np.intp], indexes: NDArray[np.intp], tick: int
    ) -> None:
        for i in indexes.tolist():
            leg = self._user.leg_of(int(rows[i]))
            try:
                items, digits = leg.receiver.receive_untrusted(self.block.views[i][: int(lengths[i])], tick)
                self._take(leg, items, digits, tick)
            except Exception:  # the guard: what we did not foresee in one packet must not end the other calls
                self.guarded += 1
            if leg.receiver.needs_timer:
                self._watched.add(leg.row)
        self._deliver_gathered(tick)

    def handle_timers(self, tick: int) -> None:
        """Gives up gaps, ends digits, and fills where nothing comes."""
        table = self._table
        for row in [*self._watched]:
            leg = self._user.leg_of(row)
            self._take(leg, *leg.receiver.handle_timer(tick), tick)
            if not leg.receiver.needs_timer:
                self._watched.discard(row)
        silent = np.flatnonzero(table.fill_at[: table.high] <= tick)
        for row in silent.tolist():
            leg = self._user.leg_of(row)
            if not leg.receiver.may_fill(tick):
                continue
            leg.receiver.fill()
            table.fill_at[row] = max(int(table.fill_at[row]), tick - FRAME_TICKS) + FRAME_TICKS
            self._deliver_items(leg, [None], tick)
        self._deliver_gathered(tick)

    def forget(self, row: int) -> None:
        """The leg is gone."""
        self._watched.discard(row)
        for gathered in self._gathered.values():
            gathered.pop(row, None)
        self.vad.reset(row)
        self.digits.forget(row)

    def _take(self, leg: Leg, items: list[UplinkItem], digits: Iterable[Digit], tick: int) -> None:
        if items:
            if self._table.fill_at[leg.row] != NEVER or leg.receiver.config.receive:
                coded = leg.receiver.coded
                is_pause = coded is not None and coded.is_pausing
                long_packet = FRAME_TICKS * (min(len(items), MAX_PACKET_FRAMES) - 1)
                self._table.fill_at[leg.row] = tick + long_packet + (PAUSE_TICKS if is_pause else FILL_AFTER_TICKS)
            self._deliver_items(leg, items, tick)
        for digit in digits:
            self._user.digit_received(leg, digit)

    def _deliver_items(self, leg: Leg, items: list[UplinkItem], tick: int) -> None:
        table, receiver = self._table, leg.receiver
        rows = np.array([leg.row])
        if receiver.coded is not None:
            self._deliver_coded(leg, receiver.coded, items, tick)
            return
        codec = table.codec[rows]
        for item in items:
            if item is None and receiver.noise is not None:
                self._deliver_line(rows, receiver.noise.next_frame(), tick)
                continue
            if item is None:
                run = receiver.concealed()
                leg.counters.concealed_frames += 1
                self._deliver_line(rows, conceal(g711.decode(table.history[rows], codec)[0], run)[None], tick)
                continue
            codes = np.frombuffer(item, np.uint8)[None, :]
            line = g711.decode(codes, codec)
            if run := receiver.recovered():
                recover(line[0], g711.decode(table.history[rows], codec)[0], run)
            self._deliver_line(rows, line, tick)
            table.history[rows, :FRAME_SAMPLES] = table.history[rows, FRAME_SAMPLES:]
            table.history[rows, FRAME_SAMPLES:] = codes

    def _deliver_coded(self, leg: Leg, coded: CodedStream, items: list[UplinkItem], tick: int) -> None:
        for item in items:
            if item is None:
                leg.receiver.concealed()
                leg.counters.concealed_frames += 1
            else:
                leg.receiver.recovered()
            for line in coded.decode(item):
                self._gather(leg.row, line, tick)

    def _gather(self, row: int, line: NDArray[np.float32], tick: int) -> None:
        """A line that was made by itself waits for those of other legs in this pass: together they are columns."""
        gathered = self._gathered[line.shape[1]]
        if row in gathered:
            self._deliver_gathered(tick)
        gathered[row] = line

    def _deliver_gathered(self, tick: int) -> None:
        for gathered in self._gathered.values():
            if gathered:
                rows, line = np.fromiter(gathered, np.intp, len(gathered)), np.concatenate([*gathered.values()])
                gathered.clear()
                self._deliver_line(rows, line, tick)

    def _deliver(self, rows: NDArray[np.intp], codes: NDArray[np.uint8], tick: int) -> None:
        self._deliver_line(rows, g711.decode(codes, self._table.codec[rows]), tick)

    def _deliver_line(self, rows: NDArray[np.intp], line: NDArray[np.float32], tick: int) -> None:
        """20 ms of each of ``rows``, shape (n, 160), or (n, 320) of wide lines."""
        table = self._table
        if self.digits.active:
            line = self.digits.hear(rows, line, tick)
        if self._tap.active:
            self._tap.hear(rows, line, tick)
        began, ended = self.vad.update(rows, line)
        if is_due(tick):
            self._meter.count(rows, line, self.vad.power[rows])
        if len(began) or len(ended):
            for row in began.tolist():
                began_at = tick - (int(self.vad.onset[row]) - 1) * FRAME_TICKS
                self._user.speech_changed(self._user.leg_of(row), True, began_at)
            for row in ended.tolist():
                self._user.speech_changed(self._user.leg_of(row), False, tick - HANGOVER_FRAMES * FRAME_TICKS)
        bank_of = table.bank[rows]
        first = int(bank_of[0])
        if first >= 0 and (bank_of == first).all():
            self._resample(self._banks[first], rows, line)
            return
        for number in np.unique(bank_of[bank_of >= 0]).tolist():
            member = bank_of == number
            self._resample(self._banks[number], rows[member], line[member])
        peer = table.peer[rows]
        if (peer >= 0).any():
            self._bridge(rows, peer, line, tick)

    def _resample(self, bank: PlayoutBank, rows: NDArray[np.intp], line: NDArray[np.float32]) -> None:
        samples = bank.to_engine(rows, line)
        np.rint(samples, out=samples)
        np.clip(samples, -32768, 32767, out=samples)
        self._table.frames_up[rows] += 1
        self._user.to_engine(bank, rows, samples.astype(np.int16))

    def _bridge(self, rows: NDArray[np.intp], peer: NDArray[np.int32], line: NDArray[np.float32], tick: int) -> None:
        """Audio for the other leg goes into its queue; a full queue drops it."""
        table = self._table
        joined = np.flatnonzero(peer >= 0)
        target = peer[joined].astype(np.intp)
        joined = joined[table.write[target] - table.read[target] < RING_FRAMES]
        bank_of = table.play_bank[peer[joined]]
        for number in np.unique(bank_of).tolist():
            bank, member = self._banks[number], joined[bank_of == number]
            samples = np.clip(np.rint(bank.to_engine(rows[member], line[member])), -32768, 32767).astype(np.int16)
            bank.write_frames(peer[member].astype(np.intp), samples, tick)
