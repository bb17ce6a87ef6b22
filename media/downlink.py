"""From the playout queues to the parties: each sub-tick builds the packets of the legs that are due, as columns.

When a leg is due
-----------------
A leg sends every fourth sub-tick (20 ms), silence included, since gateways take a silent stream for a broken one.
Which of the four it uses follows its engine's audio, so that a frame does not wait for its turn:

* audio for a leg that is not speaking makes it due at once, up to 15 ms before its turn;
* a speaking leg whose queue is empty when due waits up to 15 ms for late audio before it sends silence instead;
* when over a second each frame had waited at least k sub-ticks, the turn moves k earlier.

``nominal`` is where the timestamps put a packet, ``due`` when it goes; they never differ by more than `MAX_EARLY`
early, and a stream that is a whole frame late leaves one timestamp out.  In silence they drift together again.

Backlog
-------
Silence that had to be sent because the engine's audio was late (a stall on either side) is delay if the audio then
goes on where it was.  It is remembered (``inserted``); when the queue has since not run below some depth for a second
and the engine does not send ahead of time, that depth is surplus: silent frames are left out first, and after
`PATIENCE` seconds loud ones too, so that delay does not stay.

After a stall of ours longer than `CATCH_UP_TICKS` the missed turns are left out rather than sent in a burst.  The audio
of a real-time engine that should have gone in them, or in place of silence sent right after a stall, is ``owed``: as
much is dropped as soon as it is there, silent or not, so that the delay is gone with the stall and nobody works through
what nobody waits for.  An engine that is ahead of real time loses nothing: its party hears a pause.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from media import g711
from media.leg import Leg
from media.leg_sender import LegSender
from media.levels import AUDIBLE_POWER, LevelMeter, is_due, power_of
from media.mixing import Mixer
from media.playout import MAX_POSTPONED, RING_FRAMES, PlayoutBank, ahead_ticks
from media.record.tap import Tap
from media.rtp import PacketBlock
from media.table import FRAME_SAMPLES, FRAME_TICKS, NEVER, TAIL_SAMPLES, LegTable, Source

__all__ = ["Downlink", "DownlinkUser"]

MAX_EARLY: Final = 3
CATCH_UP_TICKS: Final = 12
MAX_BEHIND_FRAMES: Final = CATCH_UP_TICKS // FRAME_TICKS
WINDOW_FRAMES: Final = 50
PATIENCE: Final = 2
PAUSE_FRAMES: Final = 50
"""Silence of a second is a pause of the engine, not its lateness."""
AHEAD_TICKS: Final = 12
"""An engine that is more than 60 ms ahead of real time does it on purpose; less is jitter."""
OWED_TICKS: Final = 100
"""What comes later than half a second after a stall is not the stall's doing."""
UNKNOWN: Final = 1 << 20
SILENT_PEAK: Final = 200
"""-44 dBov: leaving out such a frame is not heard."""

REFILL_FRAMES: Final = RING_FRAMES // 2
"""The ring is filled up from what waits behind it when it is half empty, not for each frame."""
_ONE: Final = np.ones(1, np.int64)
_TAILS: Final = FRAME_SAMPLES // TAIL_SAMPLES
"""Tails in a frame."""
_RAMPS: Final = {n: np.linspace(0, 1, n, dtype=np.float32) for n in (TAIL_SAMPLES, 2 * TAIL_SAMPLES)}


class DownlinkUser(Protocol):
    """Who is told, and who sends."""

    def leg_of(self, row: int) -> Leg: ...

    def send_packets(self, rows: NDArray[np.intp], views: list[memoryview]) -> None: ...

    def send_event(self, leg: Leg, packet: bytes) -> None: ...

    def engine_heard(self, leg: Leg, tick: int) -> None:
        """The leg's party hears its engine from now on."""
        ...

    def engine_spoke(self, leg: Leg, tick: int) -> None:
        """The first audible frame after `Downlink.await_speech`."""
        ...

    def engine_cut(self, leg: Leg, tick: int) -> None:
        """Nothing of what was dropped by `PlayoutQueue.clear` is heard from this packet on."""
        ...

    def mark_reached(self, leg: Leg) -> None: ...

    def clip_ended(self, leg: Leg) -> None: ...


class Downlink:
    """The sending half of the plane."""

    def __init__(
        self,
        table: LegTable,
        banks: list[PlayoutBank],
        user: DownlinkUser,
        batch_rows: int,
        tap: Tap | None = None,
    ) -> None:
        self._table = table
        self._tap = tap or Tap(table)
        self.mixer = Mixer(table)
        self._banks = banks
        self._user = user
        self._batch = batch_rows
        self._packets = PacketBlock(batch_rows, FRAME_SAMPLES)
        self.legs = LegSender(table, user)
        self._rates = np.array([bank.rate_hz for bank in banks])
        self._frames = np.array([bank.frame for bank in banks])
        self._owed_until = 0
        self._meter = LevelMeter(table.levels_out, table.clipped_out)
        self._n_awaited = 0

    def start(self, row: int, tick: int) -> None:
        """The leg may send from now on; its turn is spread over the four sub-ticks."""
        self._table.due[row] = self._table.nominal[row] = tick + 1 + row % FRAME_TICKS
        self._table.marker[row] = True

    def stop(self, row: int) -> None:
        self._table.due[row] = NEVER
        self.legs.forget(row)

    def await_speech(self, row: int, wanted: bool) -> None:
        """Whether the first audible frame of the leg's engine is to be told, once."""
        self._n_awaited += int(wanted) - int(self._table.awaits[row])
        self._table.awaits[row] = wanted

    def send_due(self, tick: int) -> int:
        """Sends for all legs that are due; returns how many packets."""
        table = self._table
        if self.legs.has_later:
            self.legs.send_later(tick)
        due = np.flatnonzero(table.due[: table.high] <= tick)
        total = len(due)
        for _ in range(MAX_BEHIND_FRAMES):
            for start in range(0, len(due), self._batch):
                self._send(due[start : start + self._batch], tick)
            if not table.lost_ticks:
                break
            # a little behind: what is there goes now; what is not there yet is waited for
            due = due[(table.due[due] <= tick) & (table.write[due] > table.read[due])]
            total += len(due)
        return total

    def _send(self, rows: NDArray[np.intp], tick: int) -> None:
        table = self._table
        if table.event[rows].any():
            self.legs.send_digits(rows[table.event[rows]].tolist(), tick)
            rows = rows[~table.event[rows]]
        is_wide = table.wide[rows]
        if is_wide.any():
            self._send_lines(rows[is_wide], 2 * FRAME_SAMPLES, tick)
            rows = rows[~is_wide]
        if len(rows):
            self._send_lines(rows, FRAME_SAMPLES, tick)

    def _send_lines(self, rows: NDArray[np.intp], size: int, tick: int) -> None:
        """For legs whose line has ``size`` samples in 20 ms."""
        table = self._table
        depth = table.write[rows] - table.read[rows]
        if table.bulk[rows].any():
            self._refill(rows[table.bulk[rows] & (depth <= REFILL_FRAMES)], tick)
            depth = table.write[rows] - table.read[rows]
        has_audio = depth > 0
        if table.n_held:
            has_audio &= ~table.held[rows]
        if not has_audio.all():
            late = ~has_audio & (table.source[rows] == Source.ENGINE) & (table.postponed[rows] < MAX_POSTPONED)
            if late.any():
                waiting = rows[late]
                table.due[waiting] += 1
                table.postponed[waiting] += 1
                rows, has_audio = rows[~late], has_audio[~late]
        if not len(rows):
            return
        if has_audio.all() and not table.clip[rows].any():
            self._send_audio(rows, rows, size, tick)
            return
        clip = table.clip[rows] & ~has_audio
        is_busy = has_audio | clip | (table.source[rows] != Source.SILENCE)
        if self.mixer.active:
            is_bed = table.mixed[rows] & ~is_busy
            self._note_silence(rows[is_bed], tick)
            is_busy |= is_bed
        silent, busy = rows[~is_busy], rows[is_busy]
        if len(silent):
            self._send_silence(silent, size, tick)
        if len(busy):
            self._send_audio(busy, rows[has_audio], size, tick, rows[clip])

    def leave_out_missed(self, tick: int) -> None:
        """After a long stall: the turns that were missed do not come back, their timestamps pass.

        To be called before what the engines sent in the stall is taken.
        """
        table = self._table
        rows = np.flatnonzero(tick - table.due[: table.high] >= CATCH_UP_TICKS)
        if not len(rows):
            return
        missed = (tick - table.due[rows]) // FRAME_TICKS
        self._skip(rows, missed)
        table.due[rows] += missed * FRAME_TICKS
        table.inserted[rows] += missed.astype(np.int32)
        self._restart_window(rows)
        is_owed = (table.source[rows] == Source.ENGINE) & ~self._is_ahead(rows, tick)
        table.owed[rows[is_owed]] += missed[is_owed].astype(np.int32)
        self._owed_until = tick + OWED_TICKS

    def drop_owed(self, tick: int) -> None:
        """Drops the audio whose turn a stall took, all but the newest frame, as far as it is there."""
        if not self._owed_until:
            return
        table = self._table
        if tick >= self._owed_until:
            table.owed[:] = 0
            self._owed_until = 0
            return
        depth = table.write[: table.high] - table.read[: table.high]
        rows = np.flatnonzero((table.owed[: table.high] > 0) & (depth > 1))
        if not len(rows):
            return
        rows = rows[~self._is_ahead(rows, tick)]
        n_frames = np.minimum(depth[rows] - 1, table.owed[rows])
        table.owed[rows] -= n_frames.astype(np.int32)
        self._drop(rows, n_frames)

    def _drop(self, rows: NDArray[np.intp], n_frames: NDArray[np.int64]) -> None:
        """The oldest frames count as played and are not heard."""
        table = self._table
        table.read[rows] += n_frames
        table.played[rows] += n_frames * self._frames[table.play_bank[rows]]
        table.trimmed[rows] += n_frames
        table.inserted[rows] = np.maximum(table.inserted[rows] - n_frames, 0)
        table.jumped[rows] = True

    def _is_ahead(self, rows: NDArray[np.intp], tick: int) -> NDArray[np.bool_]:
        table = self._table
        return ahead_ticks(table, rows, self._rates[table.play_bank[rows]], tick) > AHEAD_TICKS

    def _skip(self, rows: NDArray[np.intp], frames: NDArray[np.int64]) -> None:
        table = self._table
        table.nominal[rows] += frames * FRAME_TICKS
        table.timestamp[rows] += (frames * table.frame_timestamps[rows]).astype(np.uint32)
        table.marker[rows] |= frames > 0
        table.skipped[rows] += frames

    def _refill(self, rows: NDArray[np.intp], tick: int) -> None:
        for row in rows.tolist():
            queue = self._user.leg_of(row).playout
            if queue is None:
                continue
            queue.refill()
            # what is less than a frame waits for its rest as long as a late frame would be waited for
            if not queue.depth_frames and (
                self._table.postponed[row] >= MAX_POSTPONED or self._table.source[row] != Source.ENGINE
            ):
                queue.flush_partial()

    def _owe_one(self, rows: NDArray[np.intp], tick: int) -> None:
        """Silence goes in place of audio: when we were late, that is our doing."""
        if self._table.lost_ticks:
            self._table.owed[rows] += 1
            self._owed_until = tick + OWED_TICKS

    def _send_silence(self, rows: NDArray[np.intp], size: int, tick: int) -> None:
        table = self._table
        self._note_silence(rows, tick)
        by_leg = table.by_leg[rows]
        if by_leg.any():
            silence = np.zeros(size, np.float32)
            self._finish_each(rows[by_leg], [silence] * int(by_leg.sum()), tick)
            rows = rows[~by_leg]
        if len(rows):
            self._finish(rows, np.broadcast_to(g711.SILENCE[table.codec[rows]][:, None], (len(rows), FRAME_SAMPLES)))

    def _note_silence(self, rows: NDArray[np.intp], tick: int) -> None:
        """Neither engine nor clip has anything for ``rows``."""
        table = self._table
        # back to the nominal time, one sub-tick per frame, now that nobody hears it
        drift = table.nominal[rows] - table.due[rows]
        table.due[rows] += np.sign(drift)
        table.inserted[rows] += 1
        self._owe_one(rows, tick)

    def _send_audio(
        self,
        rows: NDArray[np.intp],
        engine_rows: NDArray[np.intp],
        size: int,
        tick: int,
        clip_rows: NDArray[np.intp] | None = None,
    ) -> None:
        """Sends frames that are not plain silence: engine, clip, or the fade after either."""
        table = self._table
        before = table.source[rows]
        if rows is engine_rows:
            table.source[rows] = Source.ENGINE
            line = self._engine_frames(rows, size, tick)
        else:
            table.source[rows] = Source.SILENCE
            table.source[engine_rows] = Source.ENGINE
            line = np.zeros((len(rows), size), np.float32)
            if len(engine_rows):
                line[np.searchsorted(rows, engine_rows)] = self._engine_frames(engine_rows, size, tick)
            if clip_rows is not None and len(clip_rows):
                table.source[clip_rows] = Source.CLIP
                for row, place in zip(clip_rows.tolist(), np.searchsorted(rows, clip_rows).tolist(), strict=True):
                    leg = self._user.leg_of(row)
                    line[place], ended = leg.next_clip_frame()
                    if ended:
                        self._user.clip_ended(leg)
        after = table.source[rows]
        changed = (before != after) | table.jumped[rows]
        if changed.any():
            self._change_source(rows, line, before, after, changed, tick)
        if self._n_awaited and table.awaits[rows].any():
            self._look_for_speech(rows, line, tick)
        if is_due(tick):
            self._measure(rows, line, tick)
        n_tail = size // _TAILS
        table.tail[rows, :n_tail] = line[:, -n_tail:]
        if self.mixer.active:
            self.mixer.mix(rows, line)
        if self._tap.active:
            self._tap.tell(rows, line)
        by_leg = table.by_leg[rows]
        if by_leg.any():
            self._finish_each(rows[by_leg], line[by_leg], tick)
            rows, line = rows[~by_leg], line[~by_leg]
        if len(rows):
            self._finish(rows, g711.encode(line, table.codec[rows]))

    def _look_for_speech(self, rows: NDArray[np.intp], line: NDArray[np.float32], tick: int) -> None:
        table = self._table
        asked = table.awaits[rows] & (table.source[rows] == Source.ENGINE)
        rows = rows[asked]
        behind_fade = line[asked, line.shape[1] // _TAILS :]
        for row in rows[power_of(behind_fade) > AUDIBLE_POWER].tolist():
            self.await_speech(row, False)
            self._user.engine_spoke(self._user.leg_of(row), tick)

    def _measure(self, rows: NDArray[np.intp], line: NDArray[np.float32], tick: int) -> None:
        power = power_of(line)
        self._meter.count(rows, line, power)
        self._table.spoke[rows[power > AUDIBLE_POWER]] = tick

    def _change_source(
        self,
        rows: NDArray[np.intp],
        line: NDArray[np.float32],
        before: NDArray[np.uint8],
        after: NDArray[np.uint8],
        changed: NDArray[np.bool_],
        tick: int,
    ) -> None:
        """No click: the new source fades in from a mirror image of what was sent last."""
        table = self._table
        n_tail = line.shape[1] // _TAILS
        if self.mixer.n_filler:  # it goes on under the speech, which begins from nothing
            table.tail[rows[(before == Source.CLIP) & (after == Source.ENGINE) & table.filler[rows]]] = 0
        tail = table.tail[rows[changed], :n_tail]
        ramp = _RAMPS[n_tail]
        line[changed, :n_tail] = line[changed, :n_tail] * ramp + tail[:, ::-1] * (1 - ramp)
        table.jumped[rows] = False
        for row in rows[table.cut[rows]].tolist():
            table.cut[row] = False
            self._user.engine_cut(self._user.leg_of(row), tick)
        changed &= before != after
        table.marker[rows[changed & (before == Source.SILENCE)]] = True
        silenced = rows[(after == Source.SILENCE) & (before == Source.ENGINE)]
        table.underruns[silenced] += 1
        table.inserted[silenced] = 1
        self._owe_one(silenced, tick)
        heard = rows[changed & (after == Source.ENGINE)]
        table.inserted[heard[table.inserted[heard] > PAUSE_FRAMES]] = 0
        self._restart_window(heard)
        for row in heard.tolist():
            self._user.engine_heard(self._user.leg_of(row), tick)

    def _engine_frames(self, rows: NDArray[np.intp], size: int, tick: int) -> NDArray[np.float32]:
        table = self._table
        if table.to_trim[rows].any():
            self._trim(rows[table.to_trim[rows] > 0])
        bank_of = table.play_bank[rows]
        bank = self._banks[int(bank_of[0])]
        if (bank_of == bank_of[0]).all():
            line = bank.to_line(rows, bank.read_frames(rows), size)
        else:
            line = np.zeros((len(rows), size), np.float32)
            for number in np.unique(bank_of).tolist():
                bank, member = self._banks[number], bank_of == number
                line[member] = bank.to_line(rows[member], bank.read_frames(rows[member]), size)
        if (table.played[rows] >= table.mark_at[rows]).any():
            for row in rows[table.played[rows] >= table.mark_at[rows]].tolist():
                self._user.mark_reached(self._user.leg_of(row))
        self._observe(rows, tick)
        return line

    def _observe(self, rows: NDArray[np.intp], tick: int) -> None:
        """Measures how long audio waits, and once a second moves the turn or decides to trim."""
        table = self._table
        depth = (table.write[rows] - table.read[rows]).astype(np.int32)
        window = table.window[rows] + 1
        low = np.minimum(table.low_water[rows], depth)
        wait = np.where(depth == 0, tick - table.arrived[rows], FRAME_TICKS).astype(np.int32)
        wait = np.minimum(table.newest_wait[rows], wait)
        done = window >= WINDOW_FRAMES
        if done.any():
            self._judge(rows[done], low[done], wait[done], tick)
            window[done] = 0
            low[done] = wait[done] = UNKNOWN
        table.window[rows] = window
        table.low_water[rows] = low
        table.newest_wait[rows] = wait

    def _restart_window(self, rows: NDArray[np.intp]) -> None:
        """What was measured before silence had to be put in says nothing about the delay after it."""
        table = self._table
        table.window[rows] = 0
        table.low_water[rows] = table.newest_wait[rows] = UNKNOWN

    def _judge(self, rows: NDArray[np.intp], low: NDArray[np.int32], wait: NDArray[np.int32], tick: int) -> None:
        table = self._table
        room = MAX_EARLY - (table.nominal[rows] - table.due[rows])
        earlier = np.where((wait < FRAME_TICKS) & (wait > 0), np.minimum(wait, room), 0)
        table.due[rows] -= np.maximum(earlier, 0)
        ahead = ahead_ticks(table, rows, self._rates[table.play_bank[rows]], tick)
        # forgiven by 5 ms a second, so that neither clocks that differ nor a late first frame make delay that stays
        table.clock[rows[ahead > 0]] -= 1
        surplus = np.where((low < UNKNOWN) & (ahead <= AHEAD_TICKS), low, 0)
        patience = np.where(surplus > 0, table.patience[rows] + 1, 0)
        is_loud = (patience > PATIENCE) & (table.inserted[rows] > 0)
        table.patience[rows] = patience
        table.trim_loud[rows] = is_loud
        table.to_trim[rows] = np.where(is_loud, np.minimum(surplus, table.inserted[rows]), surplus)
        table.inserted[rows[surplus == 0]] = 0

    def _trim(self, rows: NDArray[np.intp]) -> None:
        """Leaves out one frame of each of ``rows`` if it is silent, or must go anyway."""
        table = self._table
        for row in rows.tolist():
            bank = self._banks[int(table.play_bank[row])]
            if table.write[row] - table.read[row] < 2:
                table.to_trim[row] = 0
                continue
            frame = bank.ring[row, int(table.read[row]) % bank.ring.shape[1]]
            if table.trim_loud[row] or int(np.abs(frame.astype(np.int32)).max()) < SILENT_PEAK:
                table.to_trim[row] -= 1
                self._drop(np.array([row]), _ONE)

    def _finish(self, rows: NDArray[np.intp], payload: NDArray[np.uint8]) -> None:
        """Headers, counters, the next turn; hands the packets over."""
        table, packets, n = self._table, self._packets, len(rows)
        packets.payload[:n] = payload
        sequence, timestamp = table.sequence[rows], table.timestamp[rows]
        packets.write_headers(table.payload_type[rows], table.marker[rows], sequence, timestamp, table.ssrc[rows])
        table.sequence[rows] = sequence + np.uint16(1)
        table.marker[rows] = False
        table.packets_out[rows] += 1
        self._advance(rows)
        self._user.send_packets(rows, packets.views)

    def _finish_each(self, rows: NDArray[np.intp], lines: Iterable[NDArray[np.float32]], tick: int) -> None:
        """The same leg by leg: each has a coder of its own, or packets of another length."""
        self.legs.send_frames(rows, lines, tick)
        self._advance(rows)

    def _advance(self, rows: NDArray[np.intp]) -> None:
        """A frame's time has gone, sent or not."""
        table = self._table
        table.timestamp[rows] += table.frame_timestamps[rows]
        table.postponed[rows] = 0
        nominal = table.nominal[rows] + FRAME_TICKS
        due = table.due[rows] + FRAME_TICKS
        table.nominal[rows] = nominal
        table.due[rows] = due
        overdue = due - nominal >= FRAME_TICKS
        if overdue.any():
            self._skip(rows[overdue], np.ones(int(overdue.sum()), np.int64))
            table.inserted[rows[overdue]] += 1
