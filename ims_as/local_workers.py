"""Media workers that are children of this process: started, watched, replaced.

A worker that ends, or that says nothing for `SILENCE_S`, is lost.  A *standby* is one more process that has loaded
everything and waits: it takes the place of a lost worker in the same instant, since a fresh process needs a second to
load.  It is started a while after the others, so that it does not slow down the start.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING, Final

import attrs
import trio

from ims_as.media_client import MediaError, WorkerLink
from media.io import PORT_REST_S

if TYPE_CHECKING:
    from ims_as.media_pool import MediaPool

__all__ = ["LocalWorkers"]

RESTART_FIRST_S: Final = 0.1
RESTART_MAX_S: Final = 5.0
IDLE_POLL_S: Final = 0.1
STABLE_S: Final = 10.0
"""A worker that lived shorter than this is started again with a growing pause."""
STANDBY_AFTER_S: Final = 10.0
STANDBY_AGAIN_S: Final = 1.0
START_DEADLINE_S: Final = 20.0
WATCH_S: Final = 0.25
PROCESS_END_S: Final = 0.1
MAX_RESTING: Final = 8000
"""What fits into a line of the control channel."""
SILENCE_S: Final = 2.0
"""A worker answers a ping within one turn of its loop, 5 ms."""


@attrs.define(eq=False)
class _Worker:
    """One process."""

    link: WorkerLink
    process: trio.Process
    slot: str | None = None
    """None: standby."""
    was_silent: bool = False

    @property
    def how_it_ended(self) -> str:
        """For people."""
        if self.was_silent:
            return f"said nothing for {SILENCE_S:.0f} s and was killed"
        code = self.process.poll()
        if code is None:
            return "closed its control channel"
        return f"killed by signal {-code}" if code < 0 else f"ended with status {code}"


class LocalWorkers:
    """Keeps ``workers`` slots filled.  See the module."""

    def __init__(
        self,
        *,
        workers: int,
        address: str,
        ports: tuple[int, int],
        standby: bool = True,
        port_rest_s: float = PORT_REST_S,
        dscp: int = 0,
    ) -> None:
        first, last = ports
        share = (last - first + 1) // workers
        self._ranges = {f"w{i}": (first + i * share, first + (i + 1) * share - 1) for i in range(workers)}
        self._address = address
        self._options = ["--port-rest", str(port_rest_s), "--dscp", str(dscp)]
        self._standby: _Worker | None = None
        self._wants_standby = standby
        self.standby_after_s = STANDBY_AFTER_S
        self._standby_gone = trio.Event()
        self._resting: dict[str, list[int]] = {}
        """Ports of a slot's worker when it was lost."""
        self._workers: dict[str, _Worker] = {}
        self._vacant = {slot: trio.Event() for slot in self._ranges}
        self._pool: MediaPool
        self._nursery: trio.Nursery

    @property
    def has_standby(self) -> bool:
        """Whether a loss would be made good at once."""
        return self._standby is not None

    def workers(self) -> dict[str, _Worker]:
        """By slot; one that was lost stays until another one takes its place."""
        return dict(self._workers)

    async def run(self, pool: MediaPool, *, task_status: trio.TaskStatus[None]) -> None:
        """As `WorkerSource.run`."""
        self._pool = pool
        async with trio.open_nursery() as self._nursery:
            for slot in self._ranges:
                await self._nursery.start(self._keep_slot, slot)
            if self._wants_standby:
                self._nursery.start_soon(self._keep_standby)
            task_status.started()

    # ---- slots

    async def _keep_slot(self, slot: str, *, task_status: trio.TaskStatus[None]) -> None:
        self._take_slot(slot, await self._start(slot))
        task_status.started()
        delay_s, began = 0.0, trio.current_time()
        while True:
            await self._vacant[slot].wait()
            self._vacant[slot] = trio.Event()
            lived_s = trio.current_time() - began
            delay_s = RESTART_FIRST_S if lived_s > STABLE_S else min(max(RESTART_FIRST_S, delay_s * 2), RESTART_MAX_S)
            while slot not in self._pool.links:
                await trio.sleep(delay_s)
                try:
                    worker = await self._start(slot)
                except MediaError:
                    delay_s = min(delay_s * 2, RESTART_MAX_S)
                    continue
                self._take_slot(slot, worker)
            began = trio.current_time()

    async def _start(self, slot: str) -> _Worker:
        """Raises MediaError: it did not come up."""
        started: object = await self._nursery.start(self._run_worker)
        if not isinstance(started, _Worker):
            raise MediaError("no_worker", f"worker {slot} did not start")
        return started

    def _take_slot(self, slot: str, worker: _Worker) -> None:
        worker.slot = slot
        self._workers[slot] = worker
        first, last = self._ranges[slot]
        worker.link.post("ports", first=first, last=last, resting=self._resting.pop(slot, []))
        self._pool.put(slot, worker.link)

    async def _keep_standby(self) -> None:
        await trio.sleep(self.standby_after_s)
        while True:
            with contextlib.suppress(MediaError):
                self._standby = await self._start("standby")
                self._standby_gone = trio.Event()
                await self._standby_gone.wait()
            await trio.sleep(STANDBY_AGAIN_S)

    async def drain(self, slot: str) -> None:
        """Another worker takes the slot, and the one that was there ends with its last call."""
        standby = self._standby
        if standby is not None and standby.link.alive:
            self._standby = None
            self._standby_gone.set()
            new = standby
        else:
            new = await self._start(slot)
        old = self._workers[slot]
        if self._pool.links.get(slot) is old.link:
            old.slot = None
            self._pool.retire(slot)
            self._nursery.start_soon(self._end_when_idle, old)
        self._take_slot(slot, new)

    async def _end_when_idle(self, worker: _Worker) -> None:
        while worker.link.alive and worker.link.legs:  # noqa: ASYNC110
            await trio.sleep(IDLE_POLL_S)
        worker.link.post("shutdown")

    # ---- one process

    async def _run_worker(self, *, task_status: trio.TaskStatus[_Worker | None]) -> None:
        """One life of one worker process; started with it, or with None when it never answered."""
        ours, theirs = socket.socketpair()
        argv = [sys.executable, "-m", "media.worker", "--control-fd", str(theirs.fileno()), "--address", self._address]
        argv += self._options
        try:
            process = await trio.lowlevel.open_process(argv, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        ours.setblocking(False)
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
        worker = _Worker(WorkerLink("", stream), process)
        worker.link.on_lost = partial(self._lost, worker)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_until_lost, worker.link, nursery.cancel_scope)
                try:
                    await worker.link.command("ping", deadline_s=START_DEADLINE_S)
                except MediaError:
                    task_status.started(None)
                else:
                    task_status.started(worker)
                    nursery.start_soon(_watch, worker)
                    await process.wait()
                nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                await stream.aclose()
                await _end_process(process)

    async def _lost(self, worker: _Worker) -> None:
        """The link is down; its legs have not been told yet, so that they find the standby."""
        if worker is self._standby:
            self._standby = None
            self._standby_gone.set()
        slot = worker.slot
        if worker.link.was_cancelled and worker.process.poll() is None:
            return  # it is us who end
        if slot is not None:
            self._pool.lost(slot, worker.link)
        # its ports are free when it is gone, and are kept for its calls; a link may also break alone
        with trio.move_on_after(PROCESS_END_S):
            await worker.process.wait()
        if slot is None:
            return  # a standby, or a drained one whose place is taken
        self._resting[slot] = list(worker.link.ports.values())[:MAX_RESTING]
        standby = self._standby
        if standby is not None and standby.link.alive:
            self._standby = None
            self._standby_gone.set()
            self._take_slot(slot, standby)
        else:
            self._vacant[slot].set()
        self._pool.tell_lost(slot, worker.how_it_ended)


async def _until_lost(link: WorkerLink, scope: trio.CancelScope) -> None:
    await link.run()
    scope.cancel()


async def _watch(worker: _Worker) -> None:
    """Kills a worker that says nothing.  Time counts by our own turns: when the machine stands still, so do we."""
    link = worker.link
    silent_s, heard = 0.0, link.received
    while True:
        began = trio.current_time()
        await trio.sleep(WATCH_S)
        # input that came meanwhile is read before the silence is judged
        await trio.lowlevel.checkpoint()
        if link.received != heard:
            silent_s, heard = 0.0, link.received
            continue
        silent_s += min(trio.current_time() - began, 1.5 * WATCH_S)
        link.post("ping")
        if silent_s >= SILENCE_S:
            worker.was_silent = True
            with contextlib.suppress(ProcessLookupError):
                worker.process.kill()
            return


async def _end_process(process: trio.Process) -> None:
    """The worker ends when its control channel closes; it has a second for that."""
    with trio.move_on_after(1.0):
        await process.wait()
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
