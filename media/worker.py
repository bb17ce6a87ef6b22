"""The worker process: ``python -m media.worker --control-fd N --address A --ports F-L [--name w0]``.

One process, one core, one loop: it sleeps until the timer of the next sub-tick or something urgent (a command, an
engine that is being connected), and runs the plane once per sub-tick.  It ends when its control channel closes.
"""

from __future__ import annotations

import os

# numpy's BLAS must not start threads: the matrices are small and the worker has one core.  Before numpy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import gc
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import attrs

from media.call import CommandError
from media.control import ControlError, EngineTarget, LineReader, StreamConfig, encode_line, from_wire
from media.director import Director
from media.io import PORT_REST_S, PortPool, TickTimer, UrgentPoll, raise_descriptor_limit
from media.load import LoadMeter
from media.plane import MediaPlane
from media.quarantine import leg_behind
from media.table import TICK_MS

__all__ = ["Worker", "WorkerConfig", "main"]

MAX_LEGS: Final = 2048
MAX_UNSENT_BYTES: Final = 8 << 20
"""A signalling process that reads nothing for so long is dead, whatever its socket says."""
MAX_PORT: Final = 65535
MAX_FAULTS: Final = 50
"""So many unfinished passes in a row, a quarter of a second, end the worker: its calls are better off elsewhere."""
LOAD_TICKS: Final = 200
COLLECT_TICKS: Final = 400
FULL_COLLECT_TICKS: Final = 12_000
"""A minute.  The whole heap is walked in some 10 µs a leg, for what an older generation might hold for ever on a worker
that is never idle."""
TICK_S: Final = TICK_MS / 1000


@attrs.frozen(slots=True)
class WorkerConfig:
    """Command line."""

    address: str
    first_port: int
    last_port: int
    name: str = "w0"
    max_legs: int = MAX_LEGS
    port_rest_s: float = PORT_REST_S
    dscp: int = 0


class Worker:
    """The loop and the control channel."""

    def __init__(self, config: WorkerConfig, control: socket.socket) -> None:
        self._config = config
        self._control = control
        control.setblocking(False)
        self._urgent = UrgentPoll()
        self._plane = MediaPlane(config.max_legs)
        self._ports = PortPool(
            config.address, config.first_port, config.last_port, rest_s=config.port_rest_s, dscp=config.dscp
        )
        self._director = Director(self._plane, self._ports, self._urgent, self._send)
        self._reader = LineReader()
        self._unsent = bytearray()
        self._is_running = True
        self._is_draining = False
        # the timer right behind the epoch: a phase between the two would be taken for lateness
        self._epoch = time.monotonic()
        self._timer = TickTimer()
        self._meter = LoadMeter(self._epoch, time.thread_time())
        self._max_late_ms = 0.0
        self._faults = 0
        """Passes in a row that were not finished."""
        self._commands: dict[str, Callable[[int, dict[str, Any]], dict[str, Any] | None]] = {
            "open": self._open,
            "reserve": self._reserve,
            "attach": self._attach,
            "modify": self._modify,
            "talking": self._talking,
            "engine": self._engine,
            "detach": self._detach,
            "play": self._play,
            "stop_play": self._stop_play,
            "dtmf": self._dtmf,
            "release": self._release,
            "bridge": self._bridge,
            "stats": self._stats,
            "record": partial(self._record, "start"),
            "record_pause": partial(self._record, "pause"),
            "record_resume": partial(self._record, "resume"),
            "record_stop": partial(self._record, "stop"),
            "ping": self._ping,
            "ports": self._take_ports,
            "drain": self._drain,
            "shutdown": self._shutdown,
        }

    def run(self) -> None:
        """Serves until the control channel closes or ``shutdown`` was commanded."""
        self._urgent.add(self._control.fileno(), select.EPOLLIN, self._control_ready)
        self._urgent.add(self._timer.fileno(), select.EPOLLIN, self._tick)
        gc.collect()
        gc.freeze()
        gc.disable()
        try:
            while self._is_running:
                self._urgent.wait()
        finally:
            gc.enable()
            self._director.release_all("shutdown")
            self._director.close()
            self._flush_control()
            self._timer.close()
            self._plane.close()
            self._urgent.close()
            self._control.close()

    # ---- time
    def _tick(self, _mask: int) -> None:
        self._timer.acknowledge()
        started = time.monotonic()
        tick = int((started - self._epoch) / TICK_S)
        late = tick - self._plane.tick - 1
        if late < 0:
            return
        due = self._epoch + (self._plane.tick + 1) * TICK_S
        self._max_late_ms = max(self._max_late_ms, (started - due) * 1000)
        self._meter.begin(started, due)
        try:
            self._plane.run(tick, late)
            self._director.handle_timers(tick, started)
        except Exception as error:  # the guard: an error in the handling of one leg must not end the others
            self._fault(error)
        else:
            self._faults = 0
        self._meter.end(time.monotonic())
        if tick % LOAD_TICKS < 1 + late:
            self._report_load()
        if tick % COLLECT_TICKS < 1 + late:
            # cycles are rare, and the young generation is small
            is_full = tick % FULL_COLLECT_TICKS < 1 + late or not self._director.legs
            gc.collect(2 if is_full else 0)

    def _fault(self, error: Exception) -> None:
        """A pass was not finished: the leg that it was about is given up, or in the end the worker."""
        self._plane.guarded += 1
        self._faults += 1
        leg = leg_behind(error, self._plane.leg_of)
        if leg is not None and self._director.give_up(leg.name):
            detail = f"{type(error).__name__}: {error}"[:200]
            self._send({"ev": "leg_failed", "leg": leg.name, "detail": detail})
        elif self._faults >= MAX_FAULTS:
            self._is_running = False
            raise error

    def _report_load(self) -> None:
        self._meter.close_window(time.monotonic(), time.thread_time())
        self._send({"ev": "load", **self._load_fields()})
        self._max_late_ms = 0.0

    def _load_fields(self) -> dict[str, Any]:
        return {
            "load": round(self._meter.load, 4),
            "latest": round(self._meter.latest, 4),
            "cpu": round(self._meter.cpu, 4),
            "waited": round(self._meter.waited, 4),
            "legs": self._director.legs,
            "sockets": self._plane.sockets,
            "max_late_ms": round(self._max_late_ms, 2),
            "guarded": self._plane.guarded + self._plane.uplink.guarded,
            "no_port": self._ports.refused,
        }

    # ---- control channel
    def _control_ready(self, mask: int) -> None:
        if mask & select.EPOLLOUT:
            self._flush_control()
        if not mask & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
            return
        try:
            chunk = self._control.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        if not chunk:
            self._is_running = False
            return
        self._meter.begin(time.monotonic())
        try:
            messages = self._reader.receive_bytes(chunk)
        except ControlError:
            # the stream cannot be trusted any more; the signalling side starts another worker
            self._is_running = False
            return
        for message in messages:
            self._handle(message)
        self._meter.end(time.monotonic())

    def _handle(self, message: dict[str, Any]) -> None:
        number = message.get("id")
        if not isinstance(number, int):
            self._send({"ev": "error", "detail": "command without id"})
            return
        handler = self._commands.get(str(message.get("cmd")))
        try:
            if handler is None:
                raise CommandError("bad_command", f"unknown command {message.get('cmd')!r}")
            reply = handler(number, message)
        except CommandError as error:
            self._reply(number, error)
        except (ControlError, KeyError, TypeError, ValueError) as error:
            self._reply(number, CommandError("bad_command", f"{type(error).__name__}: {error}"))
        else:
            if reply is not None:
                self._reply(number, reply)

    def _reply(self, number: int, reply: dict[str, Any] | CommandError) -> None:
        if isinstance(reply, CommandError):
            self._send({"re": number, "ok": False, "error": reply.code, "detail": str(reply), **reply.more})
        else:
            self._send({"re": number, "ok": True, **reply})

    def _send(self, message: dict[str, Any]) -> None:
        try:
            line = encode_line(message)
        except (ControlError, ValueError):
            # only an engine's event can be that long or hold what JSON cannot (a lone surrogate)
            if "ev" not in message:
                raise
            return
        was_empty = not self._unsent
        self._unsent += line
        if was_empty:
            self._flush_control()
        if len(self._unsent) > MAX_UNSENT_BYTES:
            self._is_running = False

    def _flush_control(self) -> None:
        try:
            while self._unsent:
                sent = self._control.send(self._unsent)
                del self._unsent[:sent]
        except BlockingIOError:
            self._urgent.modify(self._control.fileno(), select.EPOLLIN | select.EPOLLOUT)
        except OSError:
            self._unsent.clear()
            self._is_running = False
        else:
            if self._is_running:
                self._urgent.modify(self._control.fileno(), select.EPOLLIN)

    # ---- commands
    def _open(self, number: int, message: dict[str, Any]) -> dict[str, Any] | None:
        self._refuse_if_draining()
        engine, port = message.get("engine"), message.get("port")
        if isinstance(port, int) and 0 < port <= MAX_PORT:
            self._ports.put_first(port)
        self._director.open(
            _text(message, "leg"),
            from_wire(StreamConfig, message.get("stream")),
            None if engine is None else from_wire(EngineTarget, engine),
            bool(message.get("keep")),
            lambda reply: self._reply(number, reply),
        )
        return None

    def _reserve(self, number: int, message: dict[str, Any]) -> dict[str, Any] | None:
        return self._open(number, {**message, "engine": None})

    def _attach(self, number: int, message: dict[str, Any]) -> dict[str, Any] | None:
        target = from_wire(EngineTarget, message.get("engine"))
        self._director.attach(_text(message, "leg"), target, lambda reply: self._reply(number, reply))
        return None

    def _modify(self, _number: int, message: dict[str, Any]) -> dict[str, Any]:
        self._director.modify(_text(message, "leg"), from_wire(StreamConfig, message.get("stream")))
        return {}

    def _talking(self, _number: int, message: dict[str, Any]) -> dict[str, Any]:
        self._director.talking(_text(message, "leg"))
        return {}

    def _engine(self, _number: int, message: dict[str, Any]) -> dict[str, Any]:
        event = message["event"]
        if not isinstance(event, dict):
            raise CommandError("bad_command", "event is not an object")
        self._director.engine_message(_text(message, "leg"), event)
        return {}

    def _detach(self, _number: int, message: dict[str, Any]) -> dict[str, Any]:
        self._director.detach(_text(message, "leg"), str(message.get("reason", "detached")))
        return {}

    def _play(self, _number: int, message: dict[str, Any]) -> dict[str, Any]:
        options = bool(message.get("loop")), bool(message.get("whole"))
        self._director.play(_text(message, "leg"), _text(message, "clip"), *options)
        return {}

    def _stop_play(self, _number: int, message: dict[str, Any]) -> dict[str, Any]:
        self._director.stop_play(_text(message, "leg"))
        return {}

    def _dtmf(self, _number: int, message: dict[str, Any]) -> dict[str, Any]:
        self._director.send_dtmf(_text(message, "leg"), _text(message, "digits"))
        return {}

    def _release(self, _number: int, message: dict[str, Any]) -> dict[str, Any]:
        return {"stats": self._director.release(_text(message, "leg"), str(message.get("reason", "released")))}

    def _bridge(self, _number: int, message: dict[str, Any]) -> dict[str, Any]:
        self._director.bridge(_text(message, "leg"), _text(message, "other"))
        return {}

    def _stats(self, _number: int, message: dict[str, Any]) -> dict[str, Any]:
        return {"stats": self._director.stats(_text(message, "leg"))}

    def _record(self, action: str, _number: int, message: dict[str, Any]) -> dict[str, Any]:
        self._director.record(_text(message, "leg"), action, message)
        return {}

    def _ping(self, _number: int, _message: dict[str, Any]) -> dict[str, Any]:
        return self._load_fields()

    def _take_ports(self, _number: int, message: dict[str, Any]) -> dict[str, Any]:
        first, last = message.get("first"), message.get("last")
        if not isinstance(first, int) or not isinstance(last, int) or not 0 < first <= last <= MAX_PORT:
            raise CommandError("bad_command", "first and last are ports")
        resting = message.get("resting", [])
        self._ports.use(first, last)
        self._ports.rest({port for port in resting if isinstance(port, int)}, time.monotonic())
        return {}

    def _drain(self, _number: int, _message: dict[str, Any]) -> dict[str, Any]:
        self._is_draining = True
        return {"legs": self._director.legs}

    def _shutdown(self, _number: int, _message: dict[str, Any]) -> dict[str, Any]:
        self._director.release_all("shutdown")
        self._is_running = False
        return {}

    def _refuse_if_draining(self) -> None:
        if self._is_draining:
            raise CommandError("full", "draining")


def _text(message: dict[str, Any], key: str) -> str:
    value = message.get(key)
    if not isinstance(value, str) or not value:
        raise CommandError("bad_command", f"{key} is missing or not text")
    return value


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m media.worker")
    parser.add_argument("--control-fd", type=int, required=True)
    parser.add_argument("--address", required=True)
    parser.add_argument("--ports", default="2-1", help="first-last; without it they are told by the command ports")
    parser.add_argument("--name", default="w0")
    parser.add_argument("--port-rest", type=float, default=PORT_REST_S, help="seconds")
    parser.add_argument("--dscp", type=int, default=46, help="of what goes to parties; 46 is EF")
    options = parser.parse_args(arguments)
    first, _, last = options.ports.partition("-")
    config = WorkerConfig(
        options.address, int(first), int(last), options.name, port_rest_s=options.port_rest, dscp=options.dscp
    )
    # the parent decides when a worker ends, by its control channel; a terminal's ^C is for the parent
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise_descriptor_limit()
    Worker(config, socket.socket(fileno=options.control_fd)).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
