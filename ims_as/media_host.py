"""``ims-as media``: a host of media workers for signalling nodes on other machines.

It listens for control channels over mutual TLS 1.3.  Each connection gets a worker process of its own, on which it
alone has legs: nodes cannot step on each other's, and a worker that dies ends one connection.  There are at most
``media.workers`` of them; each has its share of ``media.ports``.  This process only passes bytes on, with the
backpressure of the sockets, and ends a worker when its connection ends or is silent.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
from typing import Final

import trio

from ims_as.config import MediaConfig
from ims_as.media_hello import HelloReader
from ims_as.oss.oplog import OperatorLog
from ims_as.transport.tls import TlsContexts, TlsIdentityError, tls_failure
from media.control import ControlError, encode_line

__all__ = ["MediaHost", "run_media_host"]

HELLO_DEADLINE_S: Final = 5.0
SILENCE_S: Final = 10.0
"""A node sends a ping four times a second."""
CHUNK_BYTES: Final = 65536
END_S: Final = 2.0
DEADLINE_NEVER: Final = float("inf")
MAX_WAITING: Final = 32
"""Connections that have not said hello."""


class MediaHost:
    """Serves until cancelled.

    Args:
        tls: None: plain TCP, for the loopback interface.

    Attributes:
        port: where it listens, once it does.
    """

    def __init__(self, media: MediaConfig, log: OperatorLog, tls: TlsContexts | None) -> None:
        count = media.ports.last - media.ports.first + 1
        share = count // media.workers // 2 * 2
        first = media.ports.first
        self._shares = [(first + i * share, first + (i + 1) * share - 1) for i in range(media.workers)]
        self._free = list(range(media.workers))
        self._arguments = ["--address", media.address, "--dscp", str(media.dscp)]
        self._arguments += ["--port-rest", str(media.port_rest_s)]
        self._listen = media.control.listen
        self._log = log
        self._tls = tls
        self._waiting = 0
        self.port = 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        assert self._listen is not None
        listeners = await trio.open_tcp_listeners(self._listen.port, host=self._listen.host)
        self.port = listeners[0].socket.getsockname()[1]
        self._log.event("MEDIA_HOST_STARTED", listen=str(self._listen), workers=len(self._shares))
        task_status.started()
        await trio.serve_listeners(self._serve, listeners)

    async def _serve(self, tcp: trio.SocketStream) -> None:
        """One connection; whatever it does costs itself alone."""
        peer = str(tcp.socket.getpeername()[0])
        if self._waiting >= MAX_WAITING:
            await trio.aclose_forcefully(tcp)
            return
        tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream: trio.abc.Stream = tcp
        if self._tls is not None:
            stream = trio.SSLStream(tcp, self._tls.server, server_side=True, https_compatible=True)
        hello = HelloReader()
        self._waiting += 1
        try:
            with trio.fail_after(HELLO_DEADLINE_S):
                if isinstance(stream, trio.SSLStream) and self._tls is not None:
                    await stream.do_handshake()
                    self._tls.check_peer(stream.getpeercert(), None)
                number = await _read_hello(stream, hello)
        except (ControlError, TlsIdentityError, trio.TooSlowError, trio.BrokenResourceError) as error:
            reason = tls_failure(error) if isinstance(error, trio.BrokenResourceError) else str(error)
            self._log.event("MEDIA_PEER_REFUSED", peer=peer, reason=reason or "no hello in time")
            await trio.aclose_forcefully(stream)
            return
        finally:
            self._waiting -= 1
        if not self._free:
            refusal = {"re": number, "ok": False, "error": "full", "detail": "all workers of this host are taken"}
            with contextlib.suppress(trio.BrokenResourceError):
                await stream.send_all(encode_line(refusal))
            await trio.aclose_forcefully(stream)
            return
        index = self._free.pop(0)
        try:
            await self._run_worker(index, peer, stream, number, hello.rest)
        finally:
            self._free.append(index)
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(stream)

    async def _run_worker(self, index: int, peer: str, stream: trio.abc.Stream, number: int, rest: bytes) -> None:
        first, last = self._shares[index]
        ours, theirs = socket.socketpair()
        argv = [sys.executable, "-m", "media.worker", "--control-fd", str(theirs.fileno()), *self._arguments]
        argv += ["--ports", f"{first}-{last}", "--name", f"w{index}"]
        try:
            process = await trio.lowlevel.open_process(argv, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        ours.setblocking(False)
        worker = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
        self._log.event("MEDIA_PEER_CONNECTED", peer=peer, worker=f"w{index}", pid=process.pid)
        try:
            async with trio.open_nursery() as nursery:
                await stream.send_all(encode_line({"re": number, "ok": True}))
                await worker.send_all(rest)
                nursery.start_soon(_pass_on, stream, worker, nursery.cancel_scope, SILENCE_S)
                nursery.start_soon(_pass_on, worker, stream, nursery.cancel_scope, DEADLINE_NEVER)
        except* trio.BrokenResourceError:
            pass  # it has gone while it was being let in
        finally:
            with trio.CancelScope(shield=True):
                await worker.aclose()
                await _end_process(process)
                self._log.event("MEDIA_PEER_GONE", peer=peer, worker=f"w{index}", status=process.returncode)


async def _read_hello(stream: trio.abc.Stream, hello: HelloReader) -> int:
    """Raises ControlError, trio.BrokenResourceError."""
    while True:
        chunk = await stream.receive_some(CHUNK_BYTES)
        if not chunk:
            raise ControlError("closed before the hello")
        number = hello.receive_bytes(bytes(chunk))
        if number is not None:
            return number


async def _pass_on(source: trio.abc.Stream, target: trio.abc.Stream, scope: trio.CancelScope, silence_s: float) -> None:
    """Bytes of one side to the other, until either is gone, or the first is silent for too long."""
    with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        while True:
            chunk = b""
            with trio.move_on_after(silence_s):
                chunk = bytes(await source.receive_some(CHUNK_BYTES))
            if not chunk:
                break
            await target.send_all(chunk)
    scope.cancel()


async def _end_process(process: trio.Process) -> None:
    with trio.move_on_after(END_S):
        await process.wait()
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def run_media_host(media: MediaConfig, log: OperatorLog, tls: TlsContexts | None) -> None:
    """Until SIGTERM or SIGINT."""
    async with trio.open_nursery() as nursery:
        await nursery.start(MediaHost(media, log, tls).run)
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for _ in signals:
                break
        nursery.cancel_scope.cancel()
