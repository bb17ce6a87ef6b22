"""Media workers on other machines: found by DNS, reached over mutual TLS.

Each connection to an ``ims-as media`` host is one worker, a process there that serves nobody else.  The name in
``media.discover`` is asked again every `RESOLVE_S`; workers of an address that is gone get no new calls and end with
their last one.  A connection that breaks, or on which nothing comes for `SILENCE_S`, is a lost worker (F6).
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from ims_as.media_client import MediaError, WorkerLink
from ims_as.media_hello import CONTROL_VERSION
from ims_as.transport.tls import tls_failure

if TYPE_CHECKING:
    from ims_as.media_pool import MediaPool

__all__ = ["RemoteWorkers", "resolve"]

RESOLVE_S: Final = 10.0
CONNECT_DEADLINE_S: Final = 5.0
HELLO_DEADLINE_S: Final = 10.0
"""The host starts a process first."""
RETRY_FIRST_S: Final = 0.2
RETRY_MAX_S: Final = 5.0
STABLE_S: Final = 10.0
"""A worker that was lost sooner is sought again with the growing pause, as one that cannot be reached."""
WATCH_S: Final = 0.25
SILENCE_S: Final = 2.0
IDLE_POLL_S: Final = 0.1

Resolve = Callable[[str, int], Awaitable[frozenset[str]]]


async def resolve(name: str, port: int) -> frozenset[str]:
    """Addresses of a name, A and AAAA; an address is its own.  Raises OSError."""
    with contextlib.suppress(ValueError):
        return frozenset({str(ipaddress.ip_address(name))})
    found = await trio.socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    return frozenset(str(each[4][0]) for each in found)


class RemoteWorkers:
    """Keeps ``connections`` workers at each address of a name.

    Args:
        tls: None: plain TCP, for the loopback interface.
    """

    def __init__(
        self,
        name: str,
        port: int,
        *,
        connections: int = 1,
        tls: ssl.SSLContext | None = None,
        resolver: Resolve | None = None,
    ) -> None:
        self._name = name
        self._port = port
        self._connections = connections
        self._tls = tls
        self._resolve = resolve if resolver is None else resolver
        self._keepers: dict[str, trio.CancelScope] = {}
        self._failures: dict[str, str] = {}
        """Why a slot has no worker."""
        self._silent: set[WorkerLink] = set()
        self._pool: MediaPool
        self._nursery: trio.Nursery

    async def run(self, pool: MediaPool, *, task_status: trio.TaskStatus[None]) -> None:
        """As `WorkerSource.run`; it does not wait for the first worker, which may come later."""
        self._pool = pool
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            while True:
                # a name server that is silent for once does not take the workers away
                with contextlib.suppress(OSError):
                    self._adopt(await self._resolve(self._name, self._port))
                await trio.sleep(RESOLVE_S)

    def _adopt(self, addresses: frozenset[str]) -> None:
        wanted = {f"{address}#{n}": address for address in addresses for n in range(self._connections)}
        for slot in [slot for slot in self._keepers if slot not in wanted]:
            self._keepers.pop(slot).cancel()
            self._retire(slot)
        for slot, address in wanted.items():
            if slot not in self._keepers:
                scope = self._keepers[slot] = trio.CancelScope()
                self._nursery.start_soon(self._keep, slot, address, scope)

    async def drain(self, slot: str) -> None:
        """As `WorkerSource.drain`: another connection takes the slot."""
        self._retire(slot)
        if slot in self._keepers:
            address = slot.rsplit("#", 1)[0]
            self._keepers[slot].cancel()
            scope = self._keepers[slot] = trio.CancelScope()
            self._nursery.start_soon(self._keep, slot, address, scope)

    def _retire(self, slot: str) -> None:
        link = self._pool.links.get(slot)
        if link is not None:
            self._pool.retire(slot)
            self._nursery.start_soon(self._end_when_idle, link)

    async def _end_when_idle(self, link: WorkerLink) -> None:
        while link.alive and link.legs:  # noqa: ASYNC110
            await trio.sleep(IDLE_POLL_S)
        link.post("shutdown")

    # ---- one slot

    async def _keep(self, slot: str, address: str, scope: trio.CancelScope) -> None:
        delay_s = RETRY_FIRST_S
        with scope:
            while True:
                try:
                    stream = await self._connect(address)
                except (OSError, trio.TooSlowError, trio.BrokenResourceError, MediaError) as error:
                    self._tell_failure(slot, f"no connection: {_explain(error)}")
                else:
                    lost = trio.Event()
                    self._nursery.start_soon(self._serve, slot, stream, lost)
                    began = trio.current_time()
                    await lost.wait()
                    if trio.current_time() - began > STABLE_S:
                        delay_s = RETRY_FIRST_S
                await trio.sleep(delay_s)
                delay_s = min(2 * delay_s, RETRY_MAX_S)

    def _tell_failure(self, slot: str, detail: str) -> None:
        """Once, however often it is tried."""
        if self._failures.get(slot) != detail:
            self._failures[slot] = detail
            self._pool.tell_lost(slot, detail)

    async def _connect(self, address: str) -> trio.abc.Stream:
        """Raises OSError, trio.TooSlowError, trio.BrokenResourceError."""
        with trio.fail_after(CONNECT_DEADLINE_S):
            tcp = await trio.open_tcp_stream(address, self._port)
            tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is None:
                return tcp
            stream = trio.SSLStream(tcp, self._tls, server_hostname=self._name, https_compatible=True)
            try:
                await stream.do_handshake()
            except BaseException:
                await trio.aclose_forcefully(stream)
                raise
            return stream

    async def _serve(self, slot: str, stream: trio.abc.Stream, lost: trio.Event) -> None:
        """One life of one worker."""
        link = WorkerLink(slot, stream)
        link.on_lost = partial(self._lost, slot, link)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_until_lost, link, nursery.cancel_scope)
                try:
                    await link.command("hello", deadline_s=HELLO_DEADLINE_S, version=CONTROL_VERSION)
                    await link.command("ping", deadline_s=HELLO_DEADLINE_S)
                except MediaError as error:
                    self._tell_failure(slot, f"no worker: {error}")
                    nursery.cancel_scope.cancel()
                else:
                    self._failures.pop(slot, None)
                    self._pool.put(slot, link)
                    await _watch(link)
                    self._silent.add(link)
                    nursery.cancel_scope.cancel()
        finally:
            self._silent.discard(link)
            lost.set()
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(stream)

    async def _lost(self, slot: str, link: WorkerLink) -> None:
        is_silent = link in self._silent
        if self._pool.links.get(slot) is not link or (link.was_cancelled and not is_silent):
            return  # drained, or it is us who end
        self._pool.lost(slot, link)
        self._pool.tell_lost(slot, f"nothing came for {SILENCE_S:.0f} s" if is_silent else "the connection broke")


async def _until_lost(link: WorkerLink, scope: trio.CancelScope) -> None:
    await link.run()
    scope.cancel()


async def _watch(link: WorkerLink) -> None:
    """Returns when nothing comes any more.  Time counts by our own turns: when this machine stands still, so do we."""
    silent_s, heard = 0.0, link.received
    while silent_s < SILENCE_S:
        began = trio.current_time()
        await trio.sleep(WATCH_S)
        await trio.lowlevel.checkpoint()
        link.post("ping")  # the host gives up a node that is silent
        if link.received != heard:
            silent_s, heard = 0.0, link.received
        else:
            silent_s += min(trio.current_time() - began, 1.5 * WATCH_S)


def _explain(error: BaseException) -> str:
    if isinstance(error, trio.TooSlowError):
        return "nobody answers"
    return tls_failure(error) if isinstance(error, trio.BrokenResourceError) else str(error)
