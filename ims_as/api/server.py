"""Serves the HTTP API with Hypercorn's HTTP/1.1 machine on trio.

Hypercorn's own accept loop is not used: there an unforeseen error on one connection ends the whole server, and a client
that stops reading can hold up its end for ever, as its writes are shielded from cancellation.  Here each connection has
a guard, deadlines for reading and writing, and a place in a bounded table; when that is full the oldest makes room, so
that idle clients cannot lock out the health checks.  HTTP/2 and WebSocket upgrades are not taken.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import Any, cast

import attrs
import h11
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config as HypercornConfig
from hypercorn.events import Closed, Event, RawData
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from starlette.applications import Starlette

from ims_as.oss.metrics import Metrics
from ims_as.oss.oplog import OperatorLog, StdlibBridge

__all__ = ["MAX_CONNECTIONS", "serve_api"]

MAX_CONNECTIONS = 64
"""Prometheus, the orchestrator's probes and a few operators need ten."""
MAX_HEAD_BYTES = 16 * 1024
READ_DEADLINE_S = 15.0
"""For the next bytes of a request, and for the next request on an open connection (Prometheus asks every 10–60 s;
it opens a new connection where the old one is gone)."""
SEND_DEADLINE_S = 10.0
CONNECTION_DEADLINE_S = 300.0
"""However slowly a client feeds us, it is over then."""
BACKLOG = 128
ACCEPT_RETRY_S = 0.1
"""Pause after accept failed for want of descriptors or memory."""
LINGER_S = 0.5
LINGER_BYTES = 1024 * 1024
_READ_BYTES = 65536


class _Http11(H11Protocol):
    """HTTP/1.1 and nothing else."""

    async def _check_protocol(self, event: h11.Request) -> None:
        """Takes no upgrade to HTTP/2."""

    async def _create_stream(self, request: h11.Request) -> None:
        # without its Upgrade header a WebSocket request is a plain GET
        headers = [(name, value) for name, value in request.headers if name != b"upgrade"]
        plain = h11.Request(
            method=request.method, target=request.target, headers=headers, http_version=request.http_version
        )
        await super()._create_stream(plain)


@attrs.define(eq=False)
class _Server:
    app: ASGIWrapper
    config: HypercornConfig
    metrics: Metrics
    log: OperatorLog | None
    context: WorkerContext = attrs.Factory(lambda: WorkerContext(None))
    connections: OrderedDict[int, trio.CancelScope] = attrs.Factory(OrderedDict)
    count: int = 0

    async def accept_from(self, listener: trio.SocketListener, nursery: trio.Nursery) -> None:
        """Accepts until cancelled."""
        while True:
            try:
                stream = await listener.accept()
            except OSError:  # out of descriptors or memory: those come back
                self.metrics.guard_errors.labels("api-accept").inc()
                await trio.sleep(ACCEPT_RETRY_S)
                continue
            if len(self.connections) >= MAX_CONNECTIONS:
                _, oldest = self.connections.popitem(last=False)
                oldest.cancel()
            self.count += 1
            scope = trio.CancelScope(deadline=trio.current_time() + CONNECTION_DEADLINE_S)
            self.connections[self.count] = scope
            nursery.start_soon(self._guarded, self.count, scope, stream)

    async def _guarded(self, number: int, scope: trio.CancelScope, stream: trio.SocketStream) -> None:
        try:
            with scope:
                await self._converse(stream)
        # the guard around untrusted input: whatever it makes of h11 or Hypercorn costs this connection only
        except* Exception as group:
            self.metrics.guard_errors.labels("api-connection").inc()
            if self.log is not None:
                self.log.event("API_ERROR", error=repr(group.exceptions))
        finally:
            self.connections.pop(number, None)
            await trio.aclose_forcefully(stream)

    async def _converse(self, stream: trio.SocketStream) -> None:
        """Runs one connection until either side has had enough, then drops all tasks of it."""
        try:
            client, server = _address(stream.socket.getpeername()), _address(stream.socket.getsockname())
        except OSError:  # gone before we looked
            return
        finished, sending = trio.Event(), trio.Lock()

        async def send(event: Event) -> None:
            if isinstance(event, Closed):
                finished.set()
            elif isinstance(event, RawData) and not finished.is_set():
                try:
                    with trio.fail_after(SEND_DEADLINE_S):
                        async with sending:
                            await stream.send_all(event.data)
                except (trio.TooSlowError, trio.BrokenResourceError):
                    finished.set()

        with trio.CancelScope() as whole:
            async with TaskGroup() as tasks:
                protocol = _Http11(
                    self.app, self.config, self.context, tasks, ConnectionState({}), False, client, server, send
                )
                tasks.spawn(_read, stream, protocol, finished)
                await finished.wait()
                whole.cancel()
        await _linger(stream)


async def _read(stream: trio.SocketStream, protocol: H11Protocol, finished: trio.Event) -> None:
    try:
        while not finished.is_set():
            with trio.fail_after(READ_DEADLINE_S):
                chunk = await stream.receive_some(_READ_BYTES)
            await protocol.handle(RawData(bytes(chunk)))
            if not chunk:
                if protocol.stream is not None:  # half closed: the response is still wanted
                    return
                break
    except (trio.TooSlowError, trio.BrokenResourceError):
        pass
    finished.set()


async def _linger(stream: trio.SocketStream) -> None:
    """Ends our side and reads on for a moment: a close with unread bytes would reset the response away."""
    left = LINGER_BYTES
    try:
        with trio.move_on_after(LINGER_S):
            await stream.send_eof()
            while left > 0 and (chunk := await stream.receive_some(_READ_BYTES)):
                left -= len(chunk)
    except trio.BrokenResourceError:
        pass


def _address(name: Any) -> tuple[str, int]:
    return str(name[0]), int(name[1])


async def serve_api(
    app: Starlette,
    listen: tuple[str, int],
    task_status: trio.TaskStatus[tuple[str, int]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serves an application made by ``build_api`` until cancelled; all sockets are closed then.

    Args:
        app: from ``build_api``.
        listen: host and port; port 0: the kernel chooses.
        task_status: gets the bound address.

    Raises:
        OSError: when the address cannot be bound.
    """
    log: OperatorLog | None = app.state.log
    config = HypercornConfig()
    config.accesslog = None
    config.errorlog = logging.Logger("hypercorn.error", logging.WARNING)
    config.errorlog.addHandler(StdlibBridge(log) if log is not None else logging.NullHandler())
    config.include_server_header = False
    config.h11_max_incomplete_size = MAX_HEAD_BYTES
    server = _Server(ASGIWrapper(cast(Any, app)), config, app.state.metrics, log)
    host, port = listen
    listeners = await trio.open_tcp_listeners(port, host=host, backlog=BACKLOG)
    try:
        async with trio.open_nursery() as nursery:
            for listener in listeners:
                nursery.start_soon(server.accept_from, listener, nursery)
            task_status.started(_address(listeners[0].socket.getsockname()))
    finally:
        for listener in listeners:
            listener.socket.close()
