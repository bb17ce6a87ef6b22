"""The table of legs: one numpy column per property, one row per leg.

A row is allocated when a leg opens and freed when it is released; code that works on many legs at once indexes the
columns with an array of row numbers.  Columns are allocated for the full capacity once, but memory that is never
touched costs nothing.  Times in columns are sub-tick numbers (`TICK_MS` each).
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["FRAME_SAMPLES", "FRAME_TICKS", "NEVER", "TICK_MS", "LegTable", "Source", "TableFullError"]

TICK_MS: Final = 5
FRAME_TICKS: Final = 4
"""A 20 ms frame."""
FRAME_SAMPLES: Final = 160
"""A frame at the line rate."""
NEVER: Final = np.iinfo(np.int64).max // 2
RECENT_TICKS: Final = 50
"""250 ms: what a stall piled up has gone to an echoing engine and come back by then."""
TAIL_SAMPLES: Final = 40
"""5 ms of the last frame sent, from which a change of source is cross-faded; twice as many of a wide line."""


class TableFullError(Exception):
    """No free row."""


class Source(IntEnum):
    """Where the frame last sent to the party came from."""

    SILENCE = 0
    ENGINE = 1
    CLIP = 2


class LegTable:
    """Columns; see the comments for units.

    Attributes:
        capacity: number of rows.
        high: all rows in use are below this.
        n_held: legs whose engine waits for a clip to be heard whole (column ``held``).
        lost_ticks: sub-ticks that the worker lost in a stall which ended at most `RECENT_TICKS` ago.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.high = 0
        self.n_held = 0
        self.lost_ticks = 0
        self._lost_until = 0
        self._free = list(range(capacity - 1, -1, -1))

        def column(dtype: str, width: int = 0) -> NDArray[Any]:
            return np.zeros((capacity, width) if width else capacity, dtype)

        # receiving
        self.first = column("u2")  # first two octets of a plain packet of the payload type, see rtp.HeaderColumns
        self.codec = column("u1")  # number in g711.CODECS, both directions; without meaning for a coded leg
        self.coded = column("?")  # another codec than G.711: handled leg by leg
        self.by_leg = column("?")  # sent leg by leg: coded, or packets of other than 20 ms
        self.wide = column("?")  # the line has 16 kHz
        self.ssrc_in = column("u4")
        self.next_sequence = column("u2")
        self.plain = column("?")  # in-order 20 ms packets may take the columnar path
        self.last_rtp = column("i8")  # tick of the last packet, -1: none yet
        self.opened = column("i8")  # tick
        self.rtp_timeout = column("i8")  # ticks without a packet that make a timeout; NEVER
        self.fill_at = column("i8")  # tick at which a frame is made up because none came; NEVER
        self.transit = column("f4")  # RFC 3550 A.8, ms
        self.transit_base = column("u4")  # what the first packet's timestamp would have been at tick 0
        self.jitter = column("f4")  # ms
        self.history = column("u1", 2 * FRAME_SAMPLES)  # codes of the last two frames, for concealment
        self.packets_in = column("i8")
        self.octets_in = column("i8")
        self.stale = column("i8")  # packets not passed on because a stall of ours had made them too old
        # to the engine
        self.bank = column("i1")  # bank (rate) of the engine that is connected, -1: none
        self.peer = column("i4")  # bridged: the row that hears this leg, -1: none
        self.clean = column("?")  # the engine's stream stands at a frame boundary
        self.frames_up = column("i8")
        # playout (positions in samples at the engine's rate)
        self.play_bank = column("i1")  # bank that holds the queue
        self.read = column("i8")  # frames taken from the ring
        self.write = column("i8")  # frames put into the ring
        self.bulk = column("?")  # more waits behind the ring
        self.queued = column("i8")  # samples accepted
        self.played = column("i8")  # samples sent
        self.mark_at = column("i8")  # played position at which something is to be reported; NEVER
        self.arrived = column("i8")  # tick of the last engine audio; -NEVER
        self.clock = column("i8")  # tick at which sample 0 was due, had the engine sent in real time all along
        self.inserted = column("i4")  # frames of silence sent since the queue ran dry: delay if audio goes on
        self.low_water = column("i4")  # fewest frames that stayed in the queue in this window
        self.newest_wait = column("i4")  # least ticks that the newest frame waited in this window
        self.window = column("i4")  # audio frames sent in this window
        self.to_trim = column("i4")  # frames that should go
        self.patience = column("i4")  # windows in a row with a surplus
        self.trim_loud = column("?")  # not only silent ones
        self.owed = column("i4")  # frames whose turn a stall of ours took: they go when they come
        self.jumped = column("?")  # the next frame does not follow the one sent last
        # sending
        self.due = column("i8")  # tick of the next packet; NEVER: we do not send
        self.nominal = column("i8")  # where that packet's timestamp puts it
        self.postponed = column("i4")  # ticks that the packet due waited for late audio
        self.source = column("u1")
        self.sequence = column("u2")
        self.timestamp = column("u4")
        self.ssrc = column("u4")
        self.payload_type = column("u1")
        self.frame_timestamps = column("u4")  # by how much the timestamp grows in 20 ms
        self.marker = column("?")
        self.tail = column("f4", 2 * TAIL_SAMPLES)
        self.clip = column("?")  # a clip plays
        self.filler = column("?")  # the clip is filler: it fades out under speech
        self.mixed = column("?")  # something is heard under what is sent: `media.mixing`
        self.held = column("?")  # the engine's audio waits until the clip has been heard
        self.event = column("?")  # a telephone event is being sent
        self.packets_out = column("i8")
        self.skipped = column("i8")  # frame periods in which a stall or drift kept us from sending
        self.underruns = column("i8")
        self.trimmed = column("i8")
        # figures
        self.expect_at = column("i8")  # tick at which it is looked whether the party is heard; NEVER
        self.levels_in = column("u4", 32)  # frames counted per 3 dB of power, see levels.LevelMeter
        self.levels_out = column("u4", 32)
        self.clipped_in = column("u4")  # of these, frames with samples cut off
        self.clipped_out = column("u4")
        self.awaits = column("?")  # the caller waits for an answer: its first audible frame is to be told
        self.cut = column("?")  # what the engine had queued was dropped: the end of what is heard is to be told
        self.event_seen = column("i8")  # tick of the last packet of a telephone event; -NEVER
        self.spoke = column("i8")  # tick at which the engine was last found to be heard by the party; -NEVER
        self._columns = [c for c in vars(self).values() if isinstance(c, np.ndarray)]
        for row in range(capacity):
            self._idle(row)

    def allocate(self) -> int:
        """A row with every column at its initial value.

        Raises:
            TableFullError: no row is free.
        """
        if not self._free:
            raise TableFullError(f"{self.capacity} legs")
        row = self._free.pop()
        self.high = max(self.high, row + 1)
        return row

    def free(self, row: int) -> None:
        for column in self._columns:
            column[row] = 0
        self._idle(row)
        self._free.append(row)
        if len(self._free) == self.capacity:
            self.high = 0
            self._free.sort(reverse=True)

    def note_lost(self, tick: int, lost_ticks: int) -> None:
        """A pass begins; ``lost_ticks`` were lost before it."""
        if lost_ticks:
            self.lost_ticks = lost_ticks if tick > self._lost_until else max(lost_ticks, self.lost_ticks)
            self._lost_until = tick + RECENT_TICKS
        elif tick > self._lost_until:
            self.lost_ticks = 0

    @property
    def in_use(self) -> int:
        return self.capacity - len(self._free)

    def _idle(self, row: int) -> None:
        self.bank[row] = self.peer[row] = -1
        self.last_rtp[row] = -1
        self.arrived[row] = self.spoke[row] = self.event_seen[row] = -NEVER
        for column in (self.due, self.mark_at, self.fill_at, self.rtp_timeout, self.expect_at):
            column[row] = NEVER
