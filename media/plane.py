"""The plane: all legs of a worker, one pass per sub-tick.

A pass receives from every socket that is ready, runs the uplink over the packets as columns, takes what the engines
sent, and lets the downlink send for the legs that are due.  Per packet there is one call of the socket into a
prepared memoryview, and nothing else.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from media.downlink import Downlink
from media.dtmf import Digit
from media.engines.session import WOULD_BLOCK, EngineSession
from media.engines.ws import FrameBlock
from media.leg import Leg
from media.playout import ENGINE_RATES_HZ, RING_FRAMES, PlayoutBank
from media.record.tap import Tap
from media.table import FRAME_TICKS, LegTable
from media.uplink import BATCH_ROWS, ReceiveBlock, Uplink

__all__ = ["LegObserver", "MediaPlane"]

ENGINE_BLOCK_BYTES: Final = 4096 + 64
"""Room for six 20 ms frames at 16 kHz, two at 48 kHz: reading stops at a frame's end, so that catching up after a stall
stays columnar."""
LATE_ROUNDS: Final = 32
"""After a stall each party's socket is read so often in a pass, which is 640 ms of packets."""
LATE_ENGINE_ROUNDS: Final = 12
"""After a stall each engine's connection is read so often in a pass, which is at least half a second of audio."""

Receive = Callable[[memoryview], int]
ReceiveSome = Callable[[memoryview, int], int]
Send = Callable[[memoryview], int]


STRANGERS_PER_PASS: Final = 64
"""Datagrams of strangers that are read away for all legs in a pass besides one for each leg: 0.6 ms at most, and 12,800
in a second."""


class StrangerBudget:
    """What a pass spends on datagrams that nobody asked for."""

    def __init__(self) -> None:
        self._tick = -1
        self._left = 0

    def take(self, tick: int) -> bool:
        """Whether one more may be read in the pass of ``tick``."""
        if tick != self._tick:
            self._tick, self._left = tick, STRANGERS_PER_PASS
        self._left -= 1
        return self._left >= 0


class LegObserver(Protocol):
    """Decides what follows from what the plane notices."""

    def digit_received(self, leg: Leg, digit: Digit) -> None: ...

    def speech_changed(self, leg: Leg, is_start: bool, tick: int) -> None: ...

    def engine_heard(self, leg: Leg, tick: int) -> None: ...

    def engine_spoke(self, leg: Leg, tick: int) -> None: ...

    def engine_cut(self, leg: Leg, tick: int) -> None: ...

    def mark_reached(self, leg: Leg) -> None: ...

    def clip_ended(self, leg: Leg) -> None: ...


def _nowhere(_view: memoryview) -> int:
    return 0


class MediaPlane:
    """Sockets, table and passes.

    Attributes:
        tick: number of the pass under way or done last.
        engine_poll: where established engine connections register.
        rtcp_poll: where sockets of RTCP register; the plane only owns it.
    """

    def __init__(self, capacity: int) -> None:
        self.table = LegTable(capacity)
        self.banks = [PlayoutBank(self.table, rate) for rate in ENGINE_RATES_HZ]
        self.tap = Tap(self.table)
        self.uplink = Uplink(self.table, self.banks, self, self.tap)
        self.downlink = Downlink(self.table, self.banks, self, BATCH_ROWS, self.tap)
        self.engine_poll = select.epoll()
        self.rtcp_poll = select.epoll()
        self.observer: LegObserver
        self.tick = 0
        self.stray_errors = 0
        self.strangers = StrangerBudget()
        self.guarded = 0
        """Engine connections given up because of an error of ours."""
        self._rtp_poll = select.epoll()
        self._legs: list[Leg | None] = [None] * capacity
        self._sessions: dict[int, EngineSession] = {}
        self._rtp_row: dict[int, int] = {}
        self._rtp_receive: dict[int, Receive] = {}
        self._rtp_send: list[Send] = [_nowhere] * capacity
        self._engine_row: dict[int, int] = {}
        self._engine_fd: dict[int, int] = {}
        self._engine_receive: dict[int, tuple[int, ReceiveSome, int]] = {}
        """Row, reader and most octets, of the connections that are read into the block."""
        self._engine_send: list[Send] = [_nowhere] * capacity
        self._engine_block = ReceiveBlock(BATCH_ROWS, ENGINE_BLOCK_BYTES)
        self._frame_header = np.array([_header_of(bank.frame_bytes) for bank in self.banks], np.uint32)
        self._frame_size = np.array([4 + bank.frame_bytes for bank in self.banks])
        self._blocks = [FrameBlock(BATCH_ROWS, bank.frame_bytes) for bank in self.banks]

    # ---- legs and engines come and go
    def add_leg(self, leg: Leg, sock: socket.socket, receive: Receive) -> None:
        self._legs[leg.row] = leg
        fd = sock.fileno()
        self._rtp_row[fd] = leg.row
        self._rtp_receive[fd] = receive
        self._rtp_poll.register(fd, select.EPOLLIN)

    def set_receive(self, sock: socket.socket, receive: Receive) -> None:
        self._rtp_receive[sock.fileno()] = receive

    def set_send(self, row: int, send: Send | None) -> None:
        self._rtp_send[row] = send or _nowhere

    def remove_leg(self, leg: Leg, sock: socket.socket) -> None:
        """Forgets the leg; the caller closes the socket."""
        fd, row = sock.fileno(), leg.row
        self._rtp_poll.unregister(fd)
        del self._rtp_row[fd], self._rtp_receive[fd]
        self._legs[row] = None
        self._rtp_send[row] = self._engine_send[row] = _nowhere
        self.uplink.forget(row)
        self.downlink.legs.forget(row)
        self.downlink.await_speech(row, False)
        self.table.free(row)

    def bank_of(self, rate_hz: int) -> int:
        """Raises ValueError: no such rate."""
        return ENGINE_RATES_HZ.index(rate_hz)

    def add_engine(self, row: int, session: EngineSession, sock: socket.socket) -> None:
        """From now on the leg's audio goes to this engine."""
        table, bank = self.table, self.bank_of(session.target.rate)
        fd = sock.fileno()
        self._engine_row[fd] = row
        self._engine_fd[row] = fd
        size = 4 + self.banks[bank].frame_bytes
        if session.is_columnar:
            self._engine_receive[fd] = row, sock.recv_into, ENGINE_BLOCK_BYTES // size * size
        self._sessions[row] = session
        self._engine_send[row] = sock.send
        self.banks[bank].reset(row)
        table.bank[row] = bank
        table.clean[row] = session.is_clean and session.is_columnar

    def set_engine_blocked(self, row: int, is_blocked: bool) -> None:
        session = self._sessions[row]
        if session.sock is not None:
            self._engine_send[row] = session.queue_audio if is_blocked else session.sock.send

    def set_engine_clean(self, row: int, is_clean: bool) -> None:
        self.table.clean[row] = is_clean and self._sessions[row].is_columnar

    def remove_engine(self, row: int) -> None:
        """The leg has no engine any more; its session closed the socket."""
        if self._sessions.pop(row, None) is None:
            return
        fd = self._engine_fd.pop(row)
        del self._engine_row[fd]
        self._engine_receive.pop(fd, None)
        self._engine_send[row] = _nowhere
        self.table.bank[row] = -1
        self.table.clean[row] = False

    @property
    def sockets(self) -> int:
        return len(self._rtp_row) + len(self._engine_row)

    # ---- the pass
    def run(self, tick: int, late_ticks: int) -> None:
        """One pass; ``late_ticks`` sub-ticks were lost before it, so that sockets may hold more than one packet."""
        self.tick = tick
        self.table.note_lost(tick, late_ticks)
        if late_ticks >= FRAME_TICKS:
            self.uplink.begin_catch_up(late_ticks)
        is_late = late_ticks > 0 or self.uplink.is_catching_up
        polls = LATE_ROUNDS * (1 + len(self._rtp_row) // BATCH_ROWS) if is_late else 1
        # what comes while we read is the next pass's: to chase it in ever smaller batches costs more than it brings,
        # and a busy worker would never get out of being late
        usual = min(len(self._rtp_row) // FRAME_TICKS, BATCH_ROWS - 1)
        while polls:
            polls -= 1
            if self._receive_rtp(tick) <= usual:
                self.uplink.end_catch_up()
                break
        self.uplink.handle_timers(tick)
        self.downlink.leave_out_missed(tick)
        rounds = LATE_ENGINE_ROUNDS * (1 + len(self._engine_row) // BATCH_ROWS) if late_ticks else 1
        while rounds and self._receive_engines(tick):
            self.downlink.drop_owed(tick)
            rounds -= 1
        self.downlink.drop_owed(tick)
        self.downlink.send_due(tick)

    def _receive_rtp(self, tick: int) -> int:
        """Reads one packet from each party that sent some; how many parties that were."""
        ready = self._rtp_poll.poll(0, BATCH_ROWS)
        if not ready:
            return 0
        views, row_of, receive = self.uplink.block.views, self._rtp_row, self._rtp_receive
        rows: list[int] = []
        lengths: list[int] = []
        place = 0
        for fd, _ in ready:
            try:
                n = receive[fd](views[place])
            except OSError:  # an ICMP error on its way back, or nothing there after all
                self.stray_errors += 1
                continue
            if n:
                rows.append(row_of[fd])
                lengths.append(n)
                place += 1
        if rows:
            self.uplink.receive_untrusted(np.array(rows), np.array(lengths), tick)
        return len(ready)

    def _receive_engines(self, tick: int) -> bool:
        """Reads once from each engine that sent something; whether there may be more."""
        ready = self.engine_poll.poll(0, BATCH_ROWS)
        if not ready:
            return False
        more = len(ready) == BATCH_ROWS
        views, receive = self._engine_block.views, self._engine_receive
        rows: list[int] = []
        lengths: list[int] = []
        place = 0
        for fd, mask in ready:
            if mask != select.EPOLLIN and not self._handle_event(fd, mask):
                continue
            reader = receive.get(fd)
            if reader is None:
                if (other := self._engine_row.get(fd)) is not None:
                    self._sessions[other].receive_ready()
                continue
            row, receive_some, most = reader
            try:
                n = receive_some(views[place], most)
            except BlockingIOError:
                continue
            except OSError:
                self._sessions[row].receive_ready()
                continue
            more |= n == most
            rows.append(row)
            lengths.append(n)
            place += 1
        if rows:
            self._take_engine_frames(np.array(rows), np.array(lengths), tick)
        return more

    def _handle_event(self, fd: int, mask: int) -> bool:
        """Writes if the connection can be written; whether it is to be read too."""
        row = self._engine_row.get(fd)
        if row is None:
            return False
        if mask & select.EPOLLOUT:
            self._sessions[row].write_ready()
        return mask & ~select.EPOLLOUT != 0 and row in self._sessions

    def _take_engine_frames(self, rows: NDArray[np.intp], lengths: NDArray[np.intp], tick: int) -> None:
        """Whole 20 ms frames go to the rings as columns; everything else to the sessions."""
        table = self.table
        bank_of = table.bank[rows]
        size = self._frame_size[bank_of]
        count = lengths // size
        plain = (
            (count * size == lengths)
            & (count > 0)
            & table.clean[rows]
            & ~table.bulk[rows]
            & (table.write[rows] - table.read[rows] + count <= RING_FRAMES)
        )
        first = int(bank_of[0])
        numbers = [first] if (bank_of == first).all() else np.unique(bank_of).tolist()
        for number in numbers:
            member = plain if len(numbers) == 1 else plain & (bank_of == number)
            plain[self._write_frames(number, rows, member, count, tick)] = False
        if plain.all():
            return
        for i in np.flatnonzero(~plain).tolist():
            session = self._sessions.get(int(rows[i]))
            if session is None:
                continue
            length = int(lengths[i])
            try:
                session.receive_untrusted(self._engine_block.views[i][:length])
                if length > ENGINE_BLOCK_BYTES // 2:  # much more than real time: by the session, in larger pieces
                    session.receive_ready()
            except Exception as error:  # the guard: one engine's unforeseen message must not end the other calls
                self.guarded += 1
                session.abandon(f"{type(error).__name__}: {error}")

    def _write_frames(
        self,
        number: int,
        rows: NDArray[np.intp],
        member: NDArray[np.bool_],
        count: NDArray[np.intp],
        tick: int,
    ) -> NDArray[np.intp]:
        """Queues the frames of ``member``, ``count`` of each; returns the places of those that hold something else."""
        bank, n = self.banks[number], len(rows)
        size, header = 4 + bank.frame_bytes, self._frame_header[number]
        octets = self._engine_block.octets[:n]
        most = int(count[member].max(initial=0))
        wanted, member = member, member.copy()
        for j in range(most):
            found = octets[:, j * size : j * size + 4].view("<u4")[:, 0]
            member &= (found == header) | (count <= j)
        for j in range(most):
            frames = octets[:, j * size + 4 : (j + 1) * size].view("<i2")
            chosen = member if j == 0 else member & (count > j)
            if chosen.all():
                bank.write_frames(rows, frames, tick)
            elif chosen.any():
                bank.write_frames(rows[chosen], frames[chosen], tick)
        # a stream whose frames were not what they seemed is read by its session
        return np.flatnonzero(wanted & ~member)

    # ---- called by uplink and downlink
    def leg_of(self, row: int) -> Leg:
        leg = self._legs[row]
        if leg is None:
            raise LookupError(f"row {row} has no leg")
        return leg

    def to_engine(self, bank: PlayoutBank, rows: NDArray[np.intp], samples: NDArray[np.int16]) -> None:
        block, send = self._blocks[self.banks.index(bank)], self._engine_send
        size = block.size
        block.write(samples, os.urandom(4 * len(rows)))
        for row, view in zip(rows.tolist(), block.views, strict=False):
            try:
                sent = send[row](view)
            except WOULD_BLOCK:
                sent = 0
            except OSError:
                continue  # the poll tells the session
            if sent != size and (session := self._sessions.get(row)) is not None:
                session.queue_rest(view, sent)

    def send_packets(self, rows: NDArray[np.intp], views: list[memoryview]) -> None:
        send = self._rtp_send
        for row, view in zip(rows.tolist(), views, strict=False):
            try:
                send[row](view)
            except OSError:
                self.leg_of(row).counters.send_errors += 1

    def send_event(self, leg: Leg, packet: bytes) -> None:
        try:
            self._rtp_send[leg.row](memoryview(packet))
        except OSError:
            leg.counters.send_errors += 1

    def digit_received(self, leg: Leg, digit: Digit) -> None:
        self.observer.digit_received(leg, digit)

    def speech_changed(self, leg: Leg, is_start: bool, tick: int) -> None:
        self.observer.speech_changed(leg, is_start, tick)

    def engine_heard(self, leg: Leg, tick: int) -> None:
        self.observer.engine_heard(leg, tick)

    def engine_spoke(self, leg: Leg, tick: int) -> None:
        self.observer.engine_spoke(leg, tick)

    def engine_cut(self, leg: Leg, tick: int) -> None:
        self.observer.engine_cut(leg, tick)

    def mark_reached(self, leg: Leg) -> None:
        self.observer.mark_reached(leg)

    def clip_ended(self, leg: Leg) -> None:
        self.observer.clip_ended(leg)

    def close(self) -> None:
        self._rtp_poll.close()
        self.rtcp_poll.close()
        self.engine_poll.close()


def _header_of(payload_bytes: int) -> int:
    """The four octets before a server's 20 ms frame, as they read in little-endian order."""
    return int.from_bytes(bytes([0x82, 126]) + payload_bytes.to_bytes(2, "big"), "little")
