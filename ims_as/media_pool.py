"""The media workers of this process: which there are, and which one gets a leg.

A *slot* (``w0``, ``w1``, …) is a place for a worker; what runs there may change.  Where the processes come from is the
business of `ims_as.local_workers`; the pool places legs by load and tells who waits when a worker has come.
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable
from typing import Any, Final, Protocol

import trio

from ims_as.local_workers import LocalWorkers
from ims_as.media_client import Event, MediaError, MediaLeg, WorkerLink
from ims_as.media_placement import CostModel, WorkerLoad
from media.io import PORT_REST_S

__all__ = ["MediaPool", "WorkerSource"]


NO_LIMIT: Final = 1.0
MOVING_LIMIT: Final = 0.97
"""For legs of calls that are up: beyond it nobody on that worker would hear well."""
OnLost = Callable[[str, str], None]


class WorkerSource(Protocol):
    """Starts or finds workers, and keeps ``pool.links`` true."""

    async def run(self, pool: MediaPool, *, task_status: trio.TaskStatus[None]) -> None:
        """Until cancelled; started when there are workers, raises MediaError when there can be none."""

    async def drain(self, slot: str) -> None:
        """The worker of a slot gets no new legs and ends with its last one.  Raises MediaError."""


class MediaPool:
    """The media workers of this process.

    Args:
        max_load: above it a worker gets no new legs, 0 to 1; 1: no limit.
        on_lost: told the slot's name and why when a worker is lost, after another one has taken its place if one could.

    Attributes:
        links: by slot; a slot whose worker is being started is missing.
        costs: what a leg costs, by codec.
        restarts: workers that were lost.
        refused: legs for which no worker had room.
    """

    def __init__(self, source: WorkerSource, *, max_load: float = NO_LIMIT, on_lost: OnLost = lambda *_: None) -> None:
        self._source = source
        self._on_lost = on_lost
        self._names = itertools.count(1)
        self._prefix = secrets.token_hex(3)
        self._changed = trio.Event()
        self.max_load = max_load
        self.costs = CostModel()
        self.links: dict[str, WorkerLink] = {}
        self.retiring: list[WorkerLink] = []
        """Drained, with the calls that they still have."""
        self.keeps_ports = isinstance(source, LocalWorkers)
        """A lost leg's port can be had again, by another worker."""
        self.on_recording: Callable[[Event], None] = lambda _: None
        """Told of ``recorded`` and ``record_failed`` of every worker."""
        self.restarts = 0
        self.refused = 0

    @classmethod
    def of_processes(
        cls,
        *,
        workers: int,
        address: str,
        ports: tuple[int, int],
        standby: bool = True,
        port_rest_s: float = PORT_REST_S,
        dscp: int = 0,
        max_load: float = NO_LIMIT,
        on_lost: OnLost = lambda *_: None,
    ) -> MediaPool:
        """Workers that are children of this process."""
        source = LocalWorkers(
            workers=workers, address=address, ports=ports, standby=standby, port_rest_s=port_rest_s, dscp=dscp
        )
        return cls(source, max_load=max_load, on_lost=on_lost)

    @property
    def is_ready(self) -> bool:
        return any(link.alive for link in self.links.values())

    @property
    def legs(self) -> int:
        return sum(link.legs for link in (*self.links.values(), *self.retiring))

    def workers(self) -> list[dict[str, Any]]:
        """For operators."""
        now = trio.current_time()
        rows = [(slot, link, False) for slot, link in self.links.items()]
        rows += [(link.name, link, True) for link in self.retiring]
        return [
            {
                "worker": slot,
                "is_up": link.alive,
                "is_draining": is_draining,
                "legs": link.legs,
                "codecs": dict(link.load.legs),
                "load": round(link.load.reported, 3),
                "estimate": round(link.load.estimate(now=now), 3),
                "max_late_ms": link.load.max_late_ms,
            }
            for slot, link, is_draining in rows
        ]

    async def drain(self, slot: str) -> bool:
        """No new legs for that worker, which ends with its last one; False when there is none.  Raises MediaError."""
        if slot not in self.links:
            return False
        await self._source.drain(slot)
        return True

    def new_leg(self, on_event: Callable[[Event], None], codec: str = "PCMU", *, is_moving: bool = False) -> MediaLeg:
        """A leg on the least loaded worker; nothing is reserved yet.

        Args:
            is_moving: of a call that is up: it may fill the room that is kept free of new ones.

        Raises:
            MediaError: ``no_worker``, or ``full``: all are above the limit.
        """
        alive = [link for link in self.links.values() if link.alive]
        if not alive:
            raise MediaError("no_worker")
        limit, now = max(self.max_load, MOVING_LIMIT) if is_moving else self.max_load, trio.current_time()
        roomy = [link for link in alive if link.load.has_room(codec, limit, now=now)]
        if not roomy:
            self.refused += 1
            raise MediaError("full", "every worker is above media.max_load")
        link = min(roomy, key=lambda each: (each.load.estimate(now=now), each.legs))
        return MediaLeg(f"{self._prefix}-{next(self._names)}", link, on_event)

    async def wait_worker(self) -> None:
        """Until there is a worker."""
        while not self.is_ready:
            await self._changed.wait()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Runs the workers until cancelled; started when the first of each has connected."""
        await self._source.run(self, task_status=task_status)

    # ---- for the source

    def put(self, slot: str, link: WorkerLink) -> None:
        """A worker has come."""
        link.name = slot
        link.on_recording = self.on_recording
        link.load = WorkerLoad(self.costs)
        self.links[slot] = link
        self._changed.set()
        self._changed = trio.Event()

    def lost(self, slot: str, link: WorkerLink) -> None:
        """The worker of a slot is gone."""
        if self.links.get(slot) is link:
            del self.links[slot]
        self.restarts += 1

    def retire(self, slot: str) -> None:
        """The worker of a slot goes on with the legs that it has, beside the next one."""
        link = self.links.pop(slot)
        link.post("drain")
        self.retiring = [each for each in self.retiring if each.alive]
        self.retiring.append(link)

    def tell_lost(self, slot: str, detail: str) -> None:
        """After `lost`, once it is known whether another worker takes the place at once."""
        self._on_lost(slot, detail)
