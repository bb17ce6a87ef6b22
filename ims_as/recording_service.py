"""What the server does about recordings besides making them: it tells of those that are done or lost, completes what a
crash left over, and deletes each day what was kept long enough.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import trio

from ims_as.config import Config, RecordingMode
from ims_as.oss.alarms import AlarmList
from ims_as.oss.metrics import Metrics
from ims_as.oss.oplog import OperatorLog
from ims_as.recordings import DAY_S, purge, recover_all

__all__ = ["RecordingService", "recording_directories"]

ALARM: Final = "recording-lost"


def recording_directories(config: Config) -> list[Path]:
    """Those of all agents, recording or not any more: what is there is kept as long as it was promised."""
    agents = config.agents.values()
    used = [each.recording.directory for each in agents if each.recording.mode is not RecordingMode.NEVER]
    return list(dict.fromkeys([*used, *(each.recording.directory for each in agents)]))


class RecordingService:
    """Of one server; ``directories`` is asked anew each day, since the configuration may change."""

    def __init__(
        self,
        directories: Callable[[], Iterable[Path]],
        metrics: Metrics,
        log: OperatorLog,
        alarms: AlarmList,
    ) -> None:
        self._directories = directories
        self._metrics = metrics
        self._log = log
        self._alarms = alarms

    def receive(self, event: dict[str, Any]) -> None:
        """``recorded`` or ``record_failed`` of a worker."""
        path = Path(str(event.get("path", "")))
        place, name = str(path.parent.parent), f"{path.parent.name}/{path.name}"
        wall = time.time()
        if event.get("ev") == "record_failed":
            cause, detail = str(event.get("cause", "")), str(event.get("detail", ""))
            self._alarms.raise_alarm(ALARM, place, f"{cause}: {detail}", now=wall)
            is_over = bool(event.get("is_over"))
            if is_over:
                self._metrics.recordings.labels("failed").inc()
            self._log.event("RECORDING_FAILED", recording=name, cause=cause, detail=detail, is_over=is_over)
            return
        lost_ms, is_whole = float(event.get("lost_ms") or 0), bool(event.get("complete"))
        self._metrics.recordings.labels("complete" if is_whole else "incomplete").inc()
        self._metrics.recording_lost_seconds.inc(lost_ms / 1000)
        if is_whole:
            self._alarms.clear(ALARM, place, now=wall)
        entry = "RECORDING_DONE" if is_whole else "RECORDING_INCOMPLETE"
        self._log.event(entry, recording=name, duration_ms=event.get("duration_ms"), lost_ms=lost_ms)

    async def run(self) -> None:
        """Completes what was left over, and purges at once and then each day, until cancelled."""
        directories = list(self._directories())
        for path in await trio.to_thread.run_sync(recover_all, directories):
            self._metrics.recordings.labels("incomplete").inc()
            self._log.event("RECORDING_INCOMPLETE", recording=f"{path.parent.name}/{path.name}", cause="left over")
        while True:
            directories = list(self._directories())
            for path in await trio.to_thread.run_sync(purge, directories, time.time()):
                self._log.event("RECORDING_DELETED", recording=f"{path.parent.name}/{path.name}", reason="retention")
            await trio.sleep(DAY_S)
