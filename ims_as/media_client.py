"""The signalling side of the media control channel: a link per worker and one handle per leg.

A command is a line written at once and an answer awaited with a deadline; events go to the listener of their leg by a
plain call, so that nothing here can queue without bound.  When a worker is lost, each of its legs is told
``worker_lost``.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Awaitable, Callable, Mapping
from math import inf
from typing import Any

import attrs
import trio

from ims_as.errors import ImsAsError
from ims_as.media_placement import CostModel, WorkerLoad
from media.control import ControlError, EngineTarget, LineReader, StreamConfig, encode_line, to_wire

__all__ = ["Event", "MediaError", "MediaLeg", "WorkerLink"]

COMMAND_DEADLINE_S = 2.0
"""Longest wait for the reply to a command that does no network work of its own."""
OUTPUT_LIMIT_BYTES = 4 << 20
"""A worker that does not read for so long is hung; its link is closed."""

Event = dict[str, Any]
_BESIDES = itertools.count(1)


class MediaError(ImsAsError):
    """A command failed.  ``code``: as in ``media.control``, or ``worker_lost``, ``deadline``, ``no_worker``."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code = code
        self.detail = detail

    @property
    def is_lost(self) -> bool:
        """The worker has gone, and its legs are told so: they move to another one."""
        return self.code == "worker_lost"


@attrs.define(eq=False)
class _Pending:
    event: trio.Event
    reply: Event | None = None


class WorkerLink:
    """One media worker as seen over its control channel."""

    def __init__(self, name: str, stream: trio.abc.Stream) -> None:
        self.name = name
        self.alive = True
        self.load = WorkerLoad(CostModel())
        self.last_load: Event = {}
        self._stream = stream
        self._fd = stream.socket.fileno() if isinstance(stream, trio.SocketStream) else None
        """For writing at once; not through TLS."""
        self._is_sending = False
        self._ids = itertools.count(1)
        self._pending: dict[int, _Pending] = {}
        self._listeners: dict[str, Callable[[Event], None]] = {}
        self._output = bytearray()
        self._wake = trio.Event()
        self.unknown_messages = 0
        self.received = 0
        """Messages, of any kind: a sign of life."""
        self.on_lost: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint
        """Called before the legs are told."""
        self.was_cancelled = False
        """It was our own end."""
        self.ports: dict[str, int] = {}
        """Local ports, by leg."""
        self.on_recording: Callable[[Event], None] = lambda _: None

    @property
    def legs(self) -> int:
        return len(self._listeners)

    def listen(self, leg: str, listener: Callable[[Event], None]) -> None:
        self._listeners[leg] = listener

    def unlisten(self, leg: str) -> None:
        self._listeners.pop(leg, None)
        self.ports.pop(leg, None)
        self.load.forget(leg, now=trio.current_time())

    def post(self, cmd: str, leg: str | None = None, **fields: Any) -> int:
        """Sends a command without waiting for its reply."""
        number = next(self._ids)
        message = {"cmd": cmd, "id": number, **fields}
        if leg is not None:
            message["leg"] = leg
        if self.alive:
            self._write(encode_line(message))
        return number

    def _write(self, line: bytes) -> None:
        if not self._output and not self._is_sending and self._fd is not None:
            # nearly always the socket has room: no task switch
            try:
                sent = _send_now(self._fd, line)
            except OSError:
                self.alive = False
                self._wake.set()
                return
            line = line[sent:]
            if not line:
                return
        self._output += line
        if len(self._output) > OUTPUT_LIMIT_BYTES:
            self.alive = False
        self._wake.set()

    async def command(
        self, cmd: str, leg: str | None = None, *, deadline_s: float = COMMAND_DEADLINE_S, **fields: Any
    ) -> Event:
        """Sends a command and returns its reply.

        Safe to cancel: a late reply is dropped (the caller then releases the leg).
        Raises MediaError on a refusal, a lost worker or a passed deadline.
        """
        if not self.alive:
            raise MediaError("worker_lost", self.name)
        pending = _Pending(trio.Event())
        number = self.post(cmd, leg, **fields)
        self._pending[number] = pending
        try:
            with trio.move_on_after(deadline_s):
                await pending.event.wait()
        finally:
            del self._pending[number]
        if pending.reply is None:
            raise MediaError("deadline" if self.alive else "worker_lost", f"{cmd} at {self.name}")
        if not pending.reply.get("ok"):
            raise MediaError(str(pending.reply.get("error", "failed")), str(pending.reply.get("detail", "")))
        return pending.reply

    async def run(self) -> None:
        """Reads and writes until the worker goes away; then fails what is pending and tells every leg."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write_output, nursery.cancel_scope)
                await self._read()
                nursery.cancel_scope.cancel()
        finally:
            self.alive = False
            self.was_cancelled = trio.current_effective_deadline() == -inf
            for pending in list(self._pending.values()):
                pending.event.set()
            with trio.CancelScope(shield=True):
                await self.on_lost()
            for leg, listener in list(self._listeners.items()):
                listener({"ev": "worker_lost", "leg": leg})
            self._listeners.clear()

    async def _write_output(self, scope: trio.CancelScope) -> None:
        while self.alive:
            if not self._output:
                self._wake = trio.Event()
                await self._wake.wait()
                continue
            chunk = bytes(self._output)
            self._output.clear()
            self._is_sending = True
            try:
                await self._stream.send_all(chunk)
            except trio.BrokenResourceError:
                break
            finally:
                self._is_sending = False
        scope.cancel()

    async def _read(self) -> None:
        reader = LineReader()
        while True:
            try:
                chunk = await self._stream.receive_some(65536)
            except trio.BrokenResourceError:
                return
            if not chunk:
                return
            try:
                messages = reader.receive_bytes(bytes(chunk))
            except ControlError:
                return
            for message in messages:
                self._receive(message)

    def _receive(self, message: Event) -> None:
        self.received += 1
        number = message.get("re")
        if number is not None:
            pending = self._pending.get(number)
            if pending is not None:
                pending.reply = message
                pending.event.set()
            return
        if message.get("ev") == "load":
            self.last_load = message
            names = ("load", "latest", "waited", "max_late_ms")
            load, latest, waited, late_ms = (float(message.get(name, 0.0)) for name in names)
            self.load.report(load, latest - waited, late_ms)
            return
        if message.get("ev") in ("recorded", "record_failed"):  # maybe of a leg that is gone
            self.on_recording(message)
        listener = self._listeners.get(str(message.get("leg")))
        if listener is None and message.get("ev") in ("recorded", "record_failed"):
            return  # of a leg that is gone
        if listener is None:
            self.unknown_messages += 1
        else:
            listener(message)


def _send_now(fd: int, line: bytes) -> int:
    try:
        return os.write(fd, line)
    except BlockingIOError:
        return 0


@attrs.define(eq=False)
class MediaLeg:
    """One leg: an RTP stream and at most one engine connection.  ``on_event`` gets the worker's events."""

    name: str
    link: WorkerLink
    on_event: Callable[[Event], None]
    host: str = ""
    port: int = 0
    released: bool = False
    stream: StreamConfig | None = None
    """What the worker was told last."""

    async def open(
        self, stream: StreamConfig, engine: EngineTarget | None, *, keep: bool = False, port: int | None = None
    ) -> Event:
        """Binds the port and connects the engine; raises MediaError, after which nothing is left open (unless keep).

        Args:
            port: local port to have if it is free; another one else.
        """
        self.link.listen(self.name, self.on_event)
        self.link.load.note(self.name, stream.codec, now=trio.current_time())
        self.stream = stream
        wait_s = COMMAND_DEADLINE_S + (engine.connect_timeout_ms / 1000 if engine else 0)
        fields: dict[str, Any] = {"stream": to_wire(stream), "keep": keep}
        if port is not None:
            fields["port"] = port
        if engine is not None:
            fields["engine"] = to_wire(engine)
        try:
            reply = await self.link.command("open" if engine else "reserve", self.name, deadline_s=wait_s, **fields)
        except MediaError as error:
            if error.code in ("deadline", "worker_lost") or not keep:
                self.discard()
            raise
        except trio.Cancelled:
            self.discard()
            raise
        self.host, self.port = str(reply["host"]), int(reply["port"])
        self.link.ports[self.name] = self.port
        return reply

    def beside(self, on_event: Callable[[Event], None]) -> MediaLeg:
        """Another leg on the same worker, which may be bridged with this one; nothing is reserved yet."""
        return MediaLeg(f"{self.name}.{next(_BESIDES)}", self.link, on_event)

    async def bridge(self, other: MediaLeg) -> None:
        """The two parties hear each other from now on; engines are detached."""
        await self.link.command("bridge", self.name, other=other.name)

    async def attach(self, engine: EngineTarget) -> Event:
        wait_s = COMMAND_DEADLINE_S + engine.connect_timeout_ms / 1000
        return await self.link.command("attach", self.name, deadline_s=wait_s, engine=to_wire(engine))

    async def modify(self, stream: StreamConfig) -> None:
        before, self.stream = self.stream, stream
        try:
            await self.link.command("modify", self.name, stream=to_wire(stream))
            self.link.load.note(self.name, stream.codec, now=trio.current_time())
        except MediaError as error:
            if not error.is_lost:
                self.stream = before
            raise

    def modify_soon(self, stream: StreamConfig) -> None:
        """As modify, without waiting: for a change that the worker cannot refuse."""
        self.stream = stream
        self.link.load.note(self.name, stream.codec, now=trio.current_time())
        self.link.post("modify", self.name, stream=to_wire(stream))

    def talking(self) -> None:
        """The call is answered and acknowledged: audio that does not come from now on is a fault."""
        self.link.post("talking", self.name)

    def tell_engine(self, event: Mapping[str, Any]) -> None:
        self.link.post("engine", self.name, event=dict(event))

    def detach(self, reason: str) -> None:
        self.link.post("detach", self.name, reason=reason)

    def play(self, clip: str, *, loop: bool) -> None:
        self.link.post("play", self.name, clip=clip, loop=loop)

    async def play_whole(self, clip: str) -> None:
        """The party hears it to its end (event ``played``) before anything of the engine.  Raises MediaError."""
        await self.link.command("play", self.name, clip=clip, loop=False, whole=True)

    async def start_recording(self, fields: Mapping[str, Any]) -> None:
        """``record`` of `media.control`; what comes of it is told by events.  Raises MediaError."""
        await self.link.command("record", self.name, **fields)

    def record(self, cmd: str) -> None:
        """``record_pause``, ``record_resume`` or ``record_stop``."""
        self.link.post(cmd, self.name)

    def stop_play(self) -> None:
        self.link.post("stop_play", self.name)

    def send_dtmf(self, digits: str) -> None:
        self.link.post("dtmf", self.name, digits=digits)

    async def release(self, reason: str) -> Event:
        """Port, socket and row are gone when this returns.  Returns the leg's figures ({} when the worker is lost)."""
        if self.released:
            return {}
        self.released = True
        self.link.unlisten(self.name)
        try:
            reply = await self.link.command("release", self.name, reason=reason)
        except MediaError:
            return {}
        stats = reply.get("stats")
        return stats if isinstance(stats, dict) else {}

    def discard(self, reason: str = "abandoned") -> None:
        """As release, without waiting."""
        if not self.released:
            self.released = True
            self.link.unlisten(self.name)
            self.link.post("release", self.name, reason=reason)
