"""Recording of legs, the worker's side: orders to the process that writes.

Nothing here waits for anything.  `media.record.tap` puts frames into a ring in shared memory as columns, `Recorder`
gives orders over a socket; `media.record.writer` does the rest in a process of its own, which is started with the first
recording.
"""

from __future__ import annotations

import select
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final, Protocol

import attrs

from media.call import CommandError
from media.control import ControlError, LineReader, encode_line
from media.io import UrgentPoll
from media.leg import Leg
from media.record.files import FORMATS
from media.record.ring import FrameRing
from media.record.tap import Tap

__all__ = ["Recorder"]

PAUSES: Final = ("silence", "cut")
MAX_UNSENT_BYTES: Final = 4 << 20
"""A writer that reads no orders for so long is stuck."""

Event = dict[str, Any]


class RecorderUser(Protocol):
    """Who is told."""

    def __call__(self, name: str, leg: Leg, **fields: object) -> None: ...


@attrs.define(eq=False)
class _Recording:
    number: int
    leg: Leg
    path: str
    is_paused: bool = False
    is_stopped: bool = False
    lost_told: bool = False


class Recorder:
    """Starts, pauses and ends recordings."""

    def __init__(self, tap: Tap, urgent: UrgentPoll, tell: RecorderUser) -> None:
        self._tap = tap
        self._urgent = urgent
        self._tell = tell
        self._by_row: dict[int, _Recording] = {}
        self._by_number: dict[int, _Recording] = {}
        self._next = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._reader = LineReader()
        self._unsent = bytearray()
        self._past: list[subprocess.Popen[bytes]] = []
        """Writers that were given up, to be asked for their exit status."""

    # ---- commands
    def command(self, leg: Leg, tick: int, action: str, order: dict[str, Any]) -> None:
        """``start``, ``pause``, ``resume`` or ``stop``.  Raises CommandError."""
        match action:
            case "start":
                self.start(leg, tick, order)
            case "pause":
                self.pause(leg, tick)
            case "resume":
                self.resume(leg, tick)
            case _:
                self.stop(leg, tick)

    def start(self, leg: Leg, tick: int, order: dict[str, Any]) -> None:
        """Begins to record a leg.

        Args:
            order: ``path`` (absolute, ending as the format does), ``format`` (``wav``, ``ogg``), ``pauses``
                (``silence``, ``cut``), ``about`` (object, for the sidecar).

        Raises:
            CommandError: it is recorded already, or the order cannot be understood.
        """
        path, form = Path(str(order["path"])), str(order.get("format", "wav"))
        pauses, about = str(order.get("pauses", "silence")), order.get("about", {})
        if leg.row in self._by_row:
            raise CommandError("bad_command", "it is being recorded")
        if form not in FORMATS or path.suffix != FORMATS[form] or not path.is_absolute() or ".." in path.parts:
            raise CommandError("bad_command", f"{path} as {form}")
        if pauses not in PAUSES or not isinstance(about, dict):
            raise CommandError("bad_command", "pauses or about")
        try:
            self._run_writer()
        except OSError as error:
            raise CommandError("no_writer", str(error)) from error
        self._next = self._next % 0xFFFFFFFF + 1
        recording = _Recording(self._next, leg, str(path))
        self._order(
            "start",
            recording,
            tick,
            now=time.monotonic(),
            at=round(time.time(), 3),
            path=str(path),
            format=form,
            rate_hz=leg.line_rate_hz,
            pauses=pauses,
            about=about,
        )
        self._by_row[leg.row] = self._by_number[recording.number] = recording
        self._tap.lost[leg.row] = 0
        self._switch(recording)

    def pause(self, leg: Leg, tick: int) -> None:
        """Raises CommandError: it is not being recorded."""
        recording = self._of(leg)
        if not recording.is_paused:
            recording.is_paused = True
            self._switch(recording)
            self._order("pause", recording, tick)

    def resume(self, leg: Leg, tick: int) -> None:
        """Raises CommandError: it is not being recorded."""
        recording = self._of(leg)
        if recording.is_paused:
            recording.is_paused = False
            self._order("resume", recording, tick)
            self._switch(recording)

    def stop(self, leg: Leg, tick: int) -> None:
        """Raises CommandError: it is not being recorded."""
        self._stop(self._of(leg), tick)

    def forget(self, leg: Leg, tick: int) -> None:
        """The leg is about to go."""
        if (recording := self._by_row.get(leg.row)) is not None:
            self._stop(recording, tick)

    def handle_timer(self) -> None:
        """Tells of what found no room, once per recording."""
        if self._past:
            self._past = [process for process in self._past if process.poll() is None]
        if not self._tap.active:
            return
        for recording in self._by_row.values():
            if not recording.lost_told and self._tap.lost[recording.leg.row]:
                recording.lost_told = True
                detail = "the writer is too slow"
                self._tell(
                    "record_failed", recording.leg, path=recording.path, cause="overrun", detail=detail, is_over=False
                )

    def is_recording(self, leg: Leg) -> bool:
        return leg.row in self._by_row

    def close(self) -> None:
        """The worker ends; the writer completes what it has by itself."""
        self._flush()
        self._close_control()

    # ---- inside
    def _of(self, leg: Leg) -> _Recording:
        recording = self._by_row.get(leg.row)
        if recording is None:
            raise CommandError("bad_command", "it is not being recorded")
        return recording

    def _switch(self, recording: _Recording) -> None:
        is_on = not recording.is_paused and not recording.is_stopped
        self._tap.recording[recording.leg.row] = recording.number if is_on else 0
        self._tap.active = len(self._by_row)

    def _stop(self, recording: _Recording, tick: int) -> None:
        recording.is_stopped = True
        row = recording.leg.row
        del self._by_row[row]
        self._switch(recording)
        self._order("stop", recording, tick, lost=int(self._tap.lost[row]))

    def _run_writer(self) -> None:
        """Starts the writer if there is none.  Raises OSError."""
        if self._control is not None:
            return
        if self._tap.ring is None:
            self._tap.ring = FrameRing()
        ours, theirs = socket.socketpair()
        fds = (theirs.fileno(), self._tap.ring.fd)
        command = [sys.executable, "-m", "media.record.writer"]
        command += ["--control-fd", str(fds[0]), "--ring-fd", str(fds[1])]
        try:
            self._process = subprocess.Popen(command, pass_fds=fds, stdin=subprocess.DEVNULL)
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        ours.setblocking(False)
        self._control = ours
        self._reader = LineReader()
        self._unsent.clear()
        self._urgent.add(ours.fileno(), select.EPOLLIN, self._ready)

    def _order(self, cmd: str, recording: _Recording, tick: int, **fields: Any) -> None:
        if self._control is None or self._tap.ring is None:
            return
        head = self._tap.ring.head
        try:
            line = encode_line({"cmd": cmd, "n": recording.number, "head": head, "tick": tick, **fields})
        except (ControlError, ValueError, TypeError) as error:
            raise CommandError("bad_command", str(error)) from error
        was_empty = not self._unsent
        self._unsent += line
        if was_empty:
            self._flush()
        if len(self._unsent) > MAX_UNSENT_BYTES:
            self._lose_writer("it reads no orders")

    def _flush(self) -> None:
        if self._control is None:
            return
        mask = select.EPOLLIN
        try:
            while self._unsent:
                del self._unsent[: self._control.send(self._unsent)]
        except BlockingIOError:
            mask |= select.EPOLLOUT
        except OSError:
            return  # the poll tells
        self._urgent.modify(self._control.fileno(), mask)

    def _ready(self, mask: int) -> None:
        if self._control is None:
            return
        if mask & select.EPOLLOUT:
            self._flush()
        if not mask & ~select.EPOLLOUT:
            return
        try:
            chunk = self._control.recv(65536)
            messages = self._reader.receive_bytes(chunk)
        except BlockingIOError:
            return
        except (OSError, ControlError):
            chunk, messages = b"", []
        for message in messages:
            self._receive(message)
        if not chunk:
            self._lose_writer("it ended")

    def _receive(self, message: Event) -> None:
        recording = self._by_number.get(int(message.pop("n")))
        if recording is None:
            return
        if message.pop("ev") == "recorded":
            del self._by_number[recording.number]
            self._tell("recorded", recording.leg, **message)
            return
        if message["is_over"]:
            self._end(recording)
        self._tell("record_failed", recording.leg, path=recording.path, **message)

    def _end(self, recording: _Recording) -> None:
        """Nothing more comes of it."""
        del self._by_number[recording.number]
        if self._by_row.get(recording.leg.row) is recording:
            recording.is_stopped = True
            del self._by_row[recording.leg.row]
            self._switch(recording)

    def _lose_writer(self, detail: str) -> None:
        """All recordings are over; the next one starts another writer."""
        if self._process is not None:
            self._process.kill()
        self._close_control()
        if self._tap.ring is not None:
            self._tap.ring.close()
            self._tap.ring = None
        for recording in list(self._by_number.values()):
            self._end(recording)
            self._tell("record_failed", recording.leg, path=recording.path, cause="writer", detail=detail, is_over=True)

    def _close_control(self) -> None:
        if self._control is None:
            return
        self._urgent.remove(self._control.fileno())
        self._control.close()
        self._control = None
        if self._process is not None:
            self._past.append(self._process)
            self._process = None
