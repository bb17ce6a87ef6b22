"""The playout queue: what an engine said and the party has not heard yet.

A bank holds the queues of all legs with the same engine rate.  Each queue is a ring of a few 20 ms frames in one array,
from which a sub-tick gathers the frames of all legs that are due with one index expression; what an engine sends ahead
beyond the ring waits in a byte buffer of the leg and moves up when there is room.  Frames of exactly 20 ms that come in
step with real time, as from a speech-to-speech engine, never leave the arrays.

Positions count samples at the engine's rate since its connection: ``queued`` those accepted, ``played`` those sent to
the party (or trimmed); a mark is reported when ``played`` reaches the ``queued`` of the moment it came.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import attrs
import numpy as np
from numpy.typing import NDArray

from media.resample import LINE_RATE_HZ, WIDE_LINE_RATE_HZ, Downsampler, Resampler, Upsampler
from media.table import FRAME_SAMPLES, NEVER, TICK_MS, LegTable, Source

__all__ = [
    "ENGINE_RATES_HZ",
    "MAX_POSTPONED",
    "MAX_QUEUED_S",
    "RING_FRAMES",
    "Mark",
    "PlayoutBank",
    "PlayoutQueue",
    "ahead_ticks",
]

ENGINE_RATES_HZ: Final = (8000, 16000, 24000, 48000)
RING_FRAMES: Final = 24
"""Half a second, enough for what a stall piles up.  A queue that runs empty starts at the ring's beginning again, so
that a leg whose engine keeps step touches only the first frames of its memory."""
MAX_QUEUED_S: Final = 120
"""An engine may be so far ahead; what it sends beyond is dropped and counted (nobody listens for two minutes to an
answer that could not be cleared, and a leg's memory stays bounded)."""
MAX_MARKS: Final = 256
MAX_POSTPONED: Final = 3
"""Sub-ticks for which a packet that is due waits for late audio."""
TICKS_PER_S: Final = 1000 // TICK_MS
PAUSE_TICKS: Final = 200
"""An engine that sent nothing for a second starts anew; what comes sooner is part of what it is saying."""


@attrs.frozen(slots=True)
class Mark:
    """A position of interest; ``name`` None: the end of what was queued when the engine asked to hang up."""

    position: int
    name: str | None


class PlayoutBank:
    """Rings and filters of all legs with one engine rate.

    Attributes:
        frame: samples in 20 ms.
        ring: int16, shape (capacity, RING_FRAMES, frame).
    """

    def __init__(self, table: LegTable, rate_hz: int) -> None:
        factor = rate_hz // LINE_RATE_HZ
        self.rate_hz = rate_hz
        self.frame = FRAME_SAMPLES * factor
        self.frame_bytes = 2 * self.frame
        self.ring = np.zeros((table.capacity, RING_FRAMES, self.frame), np.int16)
        self._table = table
        self._up = Upsampler(factor) if factor > 1 else None
        self._down = Downsampler(factor) if factor > 1 else None
        self._up_history = np.zeros((table.capacity, self._up.history if self._up else 0), np.float32)
        self._down_history = np.zeros((table.capacity, self._down.history if self._down else 0), np.float32)
        # for wide lines; memory that no leg touches costs nothing
        is_same = rate_hz == WIDE_LINE_RATE_HZ
        self._from_wide = None if is_same else Resampler(WIDE_LINE_RATE_HZ, rate_hz)
        self._to_wide = None if is_same else Resampler(rate_hz, WIDE_LINE_RATE_HZ)
        self._from_wide_history = _memory_of(self._from_wide, table)
        self._to_wide_history = _memory_of(self._to_wide, table)

    def reset(self, row: int) -> None:
        for history in (self._up_history, self._down_history, self._from_wide_history, self._to_wide_history):
            history[row] = 0

    def forget_played(self, rows: NDArray[np.intp]) -> None:
        """Empties the memory of the filter towards the line, where what comes next does not follow what was."""
        self._down_history[rows] = 0
        self._to_wide_history[rows] = 0

    def to_engine(self, rows: NDArray[np.intp], line: NDArray[np.float32]) -> NDArray[np.float32]:
        """Frames of a line, shape (n, 160) or (n, 320), each leg at most once, at the engine's rate, (n, frame)."""
        if line.shape[1] != FRAME_SAMPLES:
            if self._from_wide is None:
                return line
            return self._filtered(self._from_wide, self._from_wide_history, rows, line)
        if self._up is None:
            return line
        return self._filtered(self._up, self._up_history, rows, line)

    def to_line(
        self, rows: NDArray[np.intp], frames: NDArray[np.int16], size: int = FRAME_SAMPLES
    ) -> NDArray[np.float32]:
        """Frames of engines, shape (n, frame), at a line's rate, shape (n, ``size``): 160 or 320."""
        if size != FRAME_SAMPLES:
            if self._to_wide is None:
                return frames.astype(np.float32)
            return self._filtered(self._to_wide, self._to_wide_history, rows, frames)
        if self._down is None:
            return frames.astype(np.float32)
        return self._filtered(self._down, self._down_history, rows, frames)

    @staticmethod
    def _filtered(
        resampler: Upsampler | Downsampler | Resampler,
        history: NDArray[np.float32],
        rows: NDArray[np.intp],
        frames: NDArray[np.float32] | NDArray[np.int16],
    ) -> NDArray[np.float32]:
        memory = resampler.history
        extended = np.empty((len(rows), memory + frames.shape[1]), np.float32)
        extended[:, :memory] = history[rows]
        extended[:, memory:] = frames
        history[rows] = extended[:, -memory:]
        return resampler.process(extended)

    def write_frames(self, rows: NDArray[np.intp], frames: NDArray[np.int16], tick: int) -> None:
        """One whole frame for each of ``rows`` (each once; ring not full, nothing behind the ring)."""
        table = self._table
        write = self._rewound(rows)
        self.ring[rows, write % RING_FRAMES] = frames
        table.write[rows] = write + 1
        table.queued[rows] += self.frame
        note_arrival(table, rows, self.frame, self.rate_hz, tick)

    def _rewound(self, rows: NDArray[np.intp]) -> NDArray[np.int64]:
        """Where ``rows`` write next; empty queues begin at 0 again."""
        table = self._table
        write: NDArray[np.int64] = table.write[rows]
        is_empty = write == table.read[rows]
        write[is_empty] = 0
        table.read[rows[is_empty]] = 0
        return write

    def read_frames(self, rows: NDArray[np.intp]) -> NDArray[np.int16]:
        """Takes the oldest frame of each of ``rows`` (none empty), shape (n, frame)."""
        table = self._table
        read = table.read[rows]
        table.read[rows] = read + 1
        table.played[rows] += self.frame
        taken: NDArray[np.int16] = self.ring[rows, read % RING_FRAMES]
        return taken


def _memory_of(resampler: Resampler | None, table: LegTable) -> NDArray[np.float32]:
    return np.zeros((table.capacity, 0 if resampler is None else resampler.history), np.float32)


def ahead_ticks(table: LegTable, rows: NDArray[np.intp], rate_hz: NDArray[np.intp], tick: int) -> NDArray[np.int64]:
    """How far the engines of ``rows`` are ahead of real time with what they sent since their last pause.

    However it was bunched on its way: what a real-time engine sent never is more than the time that passed.
    """
    ahead: NDArray[np.int64] = table.queued[rows] * TICKS_PER_S // rate_hz - (tick - table.clock[rows])
    return ahead


def note_arrival(
    table: LegTable, rows: NDArray[np.intp], n_samples: int | NDArray[np.intp], rate_hz: int, tick: int
) -> None:
    """``n_samples`` came: a leg that was not speaking sends at once instead of at its next turn (at most 15 ms early).

    After a pause the engine's clock is set by this audio; right after a stall of ours it came in the stall.
    """
    is_new = tick - table.arrived[rows] > PAUSE_TICKS
    if is_new.any():
        started = rows[is_new]
        before = table.queued[started] - (n_samples if isinstance(n_samples, int) else n_samples[is_new])
        table.clock[started] = tick - table.lost_ticks - before * TICKS_PER_S // rate_hz
    table.arrived[rows] = tick
    idle = (table.source[rows] != Source.ENGINE) & (table.due[rows] != NEVER)
    if table.n_held:
        idle &= ~table.held[rows]
    if idle.any():
        woken = rows[idle]
        table.due[woken] = np.minimum(table.due[woken], tick)


@attrs.define
class PlayoutQueue:
    """The part of one leg's queue that is not columns: what waits behind the ring, and the marks."""

    table: LegTable
    row: int
    bank: PlayoutBank
    overflow_samples: int = 0
    _waiting: bytearray = attrs.Factory(bytearray)
    _marks: deque[Mark] = attrs.Factory(deque)
    _cleared_at: int = 0

    @property
    def depth_frames(self) -> int:
        """Whole frames in ring."""
        return int(self.table.write[self.row] - self.table.read[self.row])

    @property
    def queued_ms(self) -> float:
        return float(self.table.queued[self.row] - self.table.played[self.row]) * 1000 / self.bank.rate_hz

    def write(self, pcm: bytes | memoryview, tick: int) -> None:
        """Appends int16 little-endian samples, an even number of bytes; over `MAX_QUEUED_S` they are dropped."""
        table, row = self.table, self.row
        room = MAX_QUEUED_S * self.bank.rate_hz * 2 - len(self._waiting)
        if len(pcm) > room:
            self.overflow_samples += (len(pcm) - room) // 2
            pcm = pcm[:room]
        if not len(pcm):
            return
        self._waiting += pcm
        table.queued[row] += len(pcm) // 2
        self.refill()
        note_arrival(table, np.array([row]), len(pcm) // 2, self.bank.rate_hz, tick)

    def refill(self) -> None:
        """Moves whole frames into the ring."""
        table, row, size = self.table, self.row, self.bank.frame_bytes
        n = min(RING_FRAMES - self.depth_frames, len(self._waiting) // size)
        if n:
            frames = np.frombuffer(bytes(self._waiting[: n * size]), "<i2").reshape(n, -1)
            if self.depth_frames == 0:
                table.read[row] = table.write[row] = 0
            write = int(table.write[row])
            self.bank.ring[row, np.arange(write, write + n) % RING_FRAMES] = frames
            table.write[row] = write + n
            del self._waiting[: n * size]
        table.bulk[row] = bool(self._waiting)

    def flush_partial(self) -> bool:
        """Completes less than a frame with silence, when the queue has run dry behind it; whether there was any."""
        if not self._waiting or self.depth_frames or len(self._waiting) >= self.bank.frame_bytes:
            return False
        missing = self.bank.frame_bytes - len(self._waiting)
        self._waiting += bytes(missing)
        self.table.played[self.row] -= missing // 2
        self.refill()
        return True

    def clear(self) -> tuple[float, list[Mark]]:
        """Empties the queue at once.

        Returns:
            how many ms of what came since the start or the last clear were played, and the marks not reached.
        """
        table, row = self.table, self.row
        played_ms = (int(table.played[row]) - self._cleared_at) * 1000 / self.bank.rate_hz
        self._waiting.clear()
        table.bulk[row] = False
        table.read[row] = table.write[row]
        table.queued[row] = table.played[row]
        table.to_trim[row] = table.inserted[row] = table.owed[row] = 0
        table.arrived[row] = -NEVER
        # what comes next does not follow what was heard last
        table.jumped[row] = table.cut[row] = table.source[row] == Source.ENGINE
        table.postponed[row] = MAX_POSTPONED  # nothing is late: silence goes when its turn comes
        self._cleared_at = int(table.played[row])
        unreached = list(self._marks)
        self._marks.clear()
        table.mark_at[row] = NEVER
        return played_ms, unreached

    def add_mark(self, name: str | None) -> bool:
        """Notes a mark at the end of what is queued; False: too many."""
        if len(self._marks) >= MAX_MARKS:
            return False
        self._marks.append(Mark(int(self.table.queued[self.row]), name))
        self.table.mark_at[self.row] = self._marks[0].position
        return True

    def reached_marks(self) -> list[Mark]:
        """Removes and returns the marks whose position has been played."""
        played = int(self.table.played[self.row])
        reached: list[Mark] = []
        while self._marks and self._marks[0].position <= played:
            reached.append(self._marks.popleft())
        self.table.mark_at[self.row] = self._marks[0].position if self._marks else NEVER
        return reached
