"""The process that writes recordings: ``python -m media.record.writer --control-fd N --ring-fd M``.

It takes frames from the ring and orders from the control channel, each of which says how many frames come before it,
and is the only one that waits for a disk.  What it cannot write is lost and counted; what the worker could not put into
the ring likewise.  When the worker is gone, however that came, it completes what it has and ends.

Orders: ``start`` (``n``, ``head``, ``tick``, ``now``: monotonic seconds of that tick, ``at``: wall clock, ``path``,
``format``, ``rate_hz``, ``pauses``: ``silence`` or ``cut``, ``about``: object for the sidecar), ``pause``, ``resume``,
``stop`` (``n``, ``head``, ``tick``; with ``stop``: ``lost``, frames that found no room).  Told in return: ``recorded``
(``n``, ``path``, ``duration_ms``, ``lost_ms``, ``complete``), ``failed`` (``n``, ``cause``, ``detail``, ``is_over``).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import signal
import socket
import sys
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final

import attrs
import numpy as np
from numpy.typing import NDArray

from media.codecs.base import CodecError
from media.control import ControlError, LineReader, encode_line
from media.record.files import RecordingFileError, complete, create, open_sink, write_sidecar
from media.record.opus_file import OpusFile
from media.record.ring import SLOTS, FrameRing
from media.record.timeline import Timeline
from media.record.wav import WavFile
from media.table import TICK_MS

__all__ = ["Writer", "main"]

POLL_MS: Final = 100
NICENESS: Final = 5
FRAME_MS: Final = 20
TOLD_S: Final = 60.0
"""A disk that stays full is told of so often."""
_NO_LIMIT: Final = 1 << 62

Message = dict[str, Any]


@attrs.define(eq=False)
class Recording:
    """One file under way."""

    number: int
    path: Path
    fd: int
    sink: WavFile | OpusFile
    sidecar: Message
    start_tick: int
    epoch: float
    """Monotonic seconds of tick 0."""
    is_cut: bool
    timeline: Timeline = attrs.field(init=False)
    pauses: list[list[int]] = attrs.Factory(list)
    paused_at: int | None = None
    cut_ticks: int = 0
    failures: deque[OSError | CodecError] = attrs.Factory(deque)
    told_at: float = 0.0

    def __attrs_post_init__(self) -> None:
        self.timeline = Timeline(self.sidecar["rate_hz"], self.start_tick, self.write)

    def write(self, samples: NDArray[np.int16]) -> None:
        try:
            self.sink.write(samples)
        except (OSError, CodecError) as error:
            self.failures.append(error)

    def ms(self, tick: int) -> int:
        """From the beginning, pauses included."""
        return max(0, tick - self.start_tick) * TICK_MS

    def advance(self, now: float) -> None:
        if self.paused_at is None or not self.is_cut:
            self.timeline.advance(int((now - self.epoch) * 1000 / TICK_MS))

    def pause(self, tick: int) -> None:
        if self.paused_at is None:
            self.paused_at = tick
            self.pauses.append([self.ms(tick), -1])

    def resume(self, tick: int) -> None:
        if self.paused_at is None:
            return
        self.pauses[-1][1] = self.ms(tick)
        if self.is_cut:
            self.timeline.skip(self.paused_at, tick)
        self.paused_at = None


class Writer:
    """All recordings of one worker."""

    def __init__(self, control: socket.socket, ring: FrameRing) -> None:
        self._control = control
        control.setblocking(False)
        self._ring = ring
        self._reader = LineReader()
        self._orders: deque[Message] = deque()
        self._recordings: dict[int, Recording] = {}
        self._finisher = ThreadPoolExecutor(1)
        self._told: SimpleQueue[Message] = SimpleQueue()
        self._unsent = bytearray()
        self._is_open = True

    def run(self) -> None:
        """Until the worker closes the control channel."""
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        while self._is_open:
            if poll.poll(POLL_MS):
                self._receive()
            self.work(time.monotonic())
            self._send()
        # what came last is in the ring: nobody writes there any more
        self._handle_orders(self._ring.head)
        tick_now = time.monotonic()
        for recording in list(self._recordings.values()):
            self._finish(recording, int((tick_now - recording.epoch) * 1000 / TICK_MS), lost=0, is_whole=False)
        self._finisher.shutdown()

    def work(self, now: float) -> None:
        """One round."""
        self._handle_orders(_NO_LIMIT)
        for recording in self._recordings.values():
            recording.advance(now)
            self._tell_failures(recording, now)

    def _handle_orders(self, limit: int) -> None:
        while self._orders:
            order = self._orders[0]
            self._take_frames(min(int(order["head"]), limit))
            self._orders.popleft()
            self._carry_out(order)
        self._take_frames(limit)

    def _take_frames(self, limit: int) -> None:
        while len(taken := self._ring.take(limit)):
            numbers, directions = taken["recording"].tolist(), taken["direction"].tolist()
            lengths, ticks, samples = taken["n_samples"].tolist(), taken["tick"].tolist(), taken["samples"]
            find = self._recordings.get
            for i, number in enumerate(numbers):
                if (recording := find(number)) is not None:
                    recording.timeline.lay(directions[i], ticks[i], samples[i, : lengths[i]])

    # ---- orders
    def _carry_out(self, order: Message) -> None:
        number, tick = int(order["n"]), int(order["tick"])
        if order["cmd"] == "start":
            self._start(number, tick, order)
            return
        recording = self._recordings.get(number)
        if recording is None:
            return
        match order["cmd"]:
            case "pause":
                recording.pause(tick)
            case "resume":
                recording.resume(tick)
            case "stop":
                self._finish(recording, tick, lost=int(order["lost"]), is_whole=True)

    def _start(self, number: int, tick: int, order: Message) -> None:
        path, rate_hz = Path(order["path"]), int(order["rate_hz"])
        sidecar: Message = {
            "version": 1,
            "file": path.name,
            "format": order["format"],
            "rate_hz": rate_hz,
            "channels": ["party", "heard by the party"],
            "started_at": order["at"],
            "pause_mode": order["pauses"],
            **order["about"],
        }
        try:
            fd = create(path)
        except RecordingFileError as error:
            self._tell({"ev": "failed", "n": number, "cause": "open", "detail": str(error), "is_over": True})
            return
        try:
            sink = open_sink(fd, order["format"], rate_hz)
            write_sidecar(path, sidecar, is_part=True)
        except (OSError, CodecError) as error:
            os.close(fd)
            for name in (f"{path}.part", f"{path}.json.part"):
                Path(name).unlink(missing_ok=True)
            self._tell({"ev": "failed", "n": number, "cause": "open", "detail": str(error), "is_over": True})
            return
        epoch = float(order["now"]) - tick * TICK_MS / 1000
        is_cut = order["pauses"] == "cut"
        self._recordings[number] = Recording(number, path, fd, sink, sidecar, tick, epoch, is_cut)

    def _finish(self, recording: Recording, tick: int, *, lost: int, is_whole: bool) -> None:
        del self._recordings[recording.number]
        if recording.paused_at is not None:
            recording.resume(tick)
        n = recording.timeline.finish(tick)
        try:
            recording.sink.close()
        except (OSError, CodecError) as error:
            recording.failures.append(error)
        self._tell_failures(recording, time.monotonic())
        rate_hz, sink = recording.sidecar["rate_hz"], recording.sink
        lost_ms = {"overrun": lost * FRAME_MS, "disk": sink.lost * 1000 // rate_hz}
        duration_ms = n * 1000 // rate_hz
        sidecar = {
            **recording.sidecar,
            "ended_at": round(recording.sidecar["started_at"] + recording.ms(tick) / 1000, 3),
            "duration_ms": duration_ms,
            "pauses": [{"from_ms": start, "to_ms": end} for start, end in recording.pauses],
            "lost_ms": lost_ms,
            "complete": is_whole and not any(lost_ms.values()),
        }
        told = {
            "ev": "recorded",
            "n": recording.number,
            "path": str(recording.path),
            "duration_ms": duration_ms,
            "lost_ms": sum(lost_ms.values()),
            "complete": sidecar["complete"],
        }
        self._finisher.submit(self._complete, recording, sidecar, told)

    def _complete(self, recording: Recording, sidecar: Message, told: Message) -> None:
        """In the thread: the checksum of an hour takes a while."""
        try:
            complete(recording.fd, recording.path, sidecar)
        except OSError as error:
            told = {"ev": "failed", "n": recording.number, "cause": "disk", "detail": str(error), "is_over": True}
        self._told.put(told)

    # ---- telling
    def _tell_failures(self, recording: Recording, now: float) -> None:
        if not recording.failures:
            return
        detail = str(recording.failures[0])
        recording.failures.clear()
        if not recording.told_at or now - recording.told_at > TOLD_S:
            recording.told_at = now
            self._tell({"ev": "failed", "n": recording.number, "cause": "disk", "detail": detail, "is_over": False})

    def _tell(self, message: Message) -> None:
        self._told.put(message)

    def _send(self) -> None:
        with contextlib.suppress(Empty):
            while True:
                self._unsent += encode_line(self._told.get_nowait())
        try:
            while self._unsent:
                del self._unsent[: self._control.send(self._unsent)]
        except BlockingIOError:
            return
        except OSError:
            self._unsent.clear()

    def _receive(self) -> None:
        try:
            chunk = self._control.recv(65536)
            self._orders += self._reader.receive_bytes(chunk)
        except BlockingIOError:
            return
        except (OSError, ControlError):
            chunk = b""
        if not chunk:
            self._is_open = False


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m media.record.writer")
    parser.add_argument("--control-fd", type=int, required=True)
    parser.add_argument("--ring-fd", type=int, required=True)
    options = parser.parse_args(arguments)
    # it ends with its worker, when all is written
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    os.nice(NICENESS)
    os.umask(0o077)
    Writer(socket.socket(fileno=options.control_fd), FrameRing(options.ring_fd, SLOTS)).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
