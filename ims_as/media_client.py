"""The signalling side of the media control channel: worker processes, their links, and one handle per leg.

``MediaPool.run`` starts the local workers and keeps them running: a worker that ends is started again, and each of its
legs is told ``worker_lost``.  A command is a line written at once and an answer awaited with a deadline; events go to
the listener of their leg by a plain call, so that nothing here can queue without bound.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import trio

from ims_as.errors import ImsAsError
from media.control import ControlError, EngineTarget, LineReader, StreamConfig, encode_line, to_wire

__all__ = ["MediaError", "MediaLeg", "MediaPool", "WorkerLink"]

COMMAND_DEADLINE_S = 2.0
"""Longest wait for the reply to a command that does no network work of its own."""
OUTPUT_LIMIT_BYTES = 4 << 20
"""A worker that does not read for so long is hung; its link is closed."""
RESTART_FIRST_S = 0.1
RESTART_MAX_S = 5.0

Event = dict[str, Any]
_BESIDES = itertools.count(1)


class MediaError(ImsAsError):
    """A command failed.  ``code``: as in ``media.control``, or ``worker_lost``, ``deadline``, ``no_worker``."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code = code
        self.detail = detail


@attrs.define(eq=False)
class _Pending:
    event: trio.Event
    reply: Event | None = None


class WorkerLink:
    """One media worker as seen over its control channel."""

    def __init__(self, name: str, stream: trio.SocketStream) -> None:
        self.name = name
        self.alive = True
        self.load = 0.0
        self.last_load: Event = {}
        self._stream = stream
        self._ids = itertools.count(1)
        self._pending: dict[int, _Pending] = {}
        self._listeners: dict[str, Callable[[Event], None]] = {}
        self._output = bytearray()
        self._wake = trio.Event()
        self.unknown_messages = 0

    @property
    def legs(self) -> int:
        return len(self._listeners)

    def listen(self, leg: str, listener: Callable[[Event], None]) -> None:
        self._listeners[leg] = listener

    def unlisten(self, leg: str) -> None:
        self._listeners.pop(leg, None)

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
        if not self._output:
            # nearly always the socket has room: no task switch
            try:
                sent = _send_now(self._stream.socket.fileno(), line)
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
            for pending in list(self._pending.values()):
                pending.event.set()
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
            try:
                await self._stream.send_all(chunk)
            except trio.BrokenResourceError:
                break
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
        number = message.get("re")
        if number is not None:
            pending = self._pending.get(number)
            if pending is not None:
                pending.reply = message
                pending.event.set()
            return
        if message.get("ev") == "load":
            self.last_load = message
            self.load = float(message.get("load", 0.0))
            return
        listener = self._listeners.get(str(message.get("leg")))
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

    async def open(self, stream: StreamConfig, engine: EngineTarget | None, *, keep: bool = False) -> Event:
        """Binds the port and connects the engine; raises MediaError, after which nothing is left open (unless keep)."""
        self.link.listen(self.name, self.on_event)
        wait_s = COMMAND_DEADLINE_S + (engine.connect_timeout_ms / 1000 if engine else 0)
        fields: dict[str, Any] = {"stream": to_wire(stream), "keep": keep}
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
        await self.link.command("modify", self.name, stream=to_wire(stream))

    def modify_soon(self, stream: StreamConfig) -> None:
        """As modify, without waiting: for a change that the worker cannot refuse."""
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


class MediaPool:
    """The media workers of this process."""

    def __init__(
        self,
        *,
        workers: int,
        address: str,
        ports: tuple[int, int],
        on_lost: Callable[[str], None] = lambda _: None,
    ) -> None:
        first, last = ports
        share = (last - first + 1) // workers
        self._ranges = [(first + i * share, first + (i + 1) * share - 1) for i in range(workers)]
        self._address = address
        self._on_lost = on_lost
        self._names = itertools.count(1)
        self.links: dict[int, WorkerLink] = {}
        self.restarts = 0

    @property
    def is_ready(self) -> bool:
        return any(link.alive for link in self.links.values())

    @property
    def legs(self) -> int:
        return sum(link.legs for link in self.links.values())

    def new_leg(self, on_event: Callable[[Event], None]) -> MediaLeg:
        """A leg on the least loaded worker; nothing is reserved yet.  Raises MediaError("no_worker")."""
        alive = [link for link in self.links.values() if link.alive]
        if not alive:
            raise MediaError("no_worker")
        link = min(alive, key=lambda each: (each.legs, each.load))
        return MediaLeg(f"l{next(self._names)}", link, on_event)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Runs the workers until cancelled; started when the first of each has connected."""
        async with trio.open_nursery() as nursery:
            for index in range(len(self._ranges)):
                await nursery.start(self._keep_worker, index)
            task_status.started()

    async def _keep_worker(self, index: int, *, task_status: trio.TaskStatus[None]) -> None:
        delay_s = RESTART_FIRST_S
        while True:
            began = trio.current_time()
            started = await self._run_worker(index, task_status)
            if started:
                task_status = trio.TASK_STATUS_IGNORED
            elif task_status is not trio.TASK_STATUS_IGNORED:
                raise MediaError("no_worker", f"worker {index} did not start")
            self.restarts += 1
            self._on_lost(f"w{index}")
            delay_s = RESTART_FIRST_S if trio.current_time() - began > 10 else min(delay_s * 2, RESTART_MAX_S)
            await trio.sleep(delay_s)

    async def _run_worker(self, index: int, task_status: trio.TaskStatus[None]) -> bool:
        """One life of one worker process.  Returns whether it ever answered."""
        ours, theirs = socket.socketpair()
        first, last = self._ranges[index]
        argv = [sys.executable, "-m", "media.worker", "--control-fd", str(theirs.fileno()), "--address", self._address]
        argv += ["--ports", f"{first}-{last}", "--name", f"w{index}"]
        process = await trio.lowlevel.open_process(argv, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL)
        theirs.close()
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(_non_blocking(ours)))
        link = WorkerLink(f"w{index}", stream)
        answered = False
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(link.run)
                await link.command("ping", deadline_s=20.0)
                answered = True
                self.links[index] = link
                task_status.started()
                await process.wait()
                nursery.cancel_scope.cancel()
        except* MediaError:
            pass  # it never answered: ended below, and tried again
        finally:
            self.links.pop(index, None)
            with trio.CancelScope(shield=True):
                await stream.aclose()
                await _end_process(process)
        return answered


def _non_blocking(sock: socket.socket) -> socket.socket:
    sock.setblocking(False)
    return sock


async def _end_process(process: trio.Process) -> None:
    """The worker ends when its control channel closes; it has a second for that."""
    with trio.move_on_after(1.0):
        await process.wait()
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
