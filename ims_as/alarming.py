"""The server's alarms: who watches what, and where a change is told (operator log and metrics)."""

from __future__ import annotations

import time
from typing import Final

import trio

from diameter.node import DiameterNode
from diameter.sh.client import ShClient
from ims_as.media_pool import MediaPool
from ims_as.oss.alarms import Alarm, AlarmChange, AlarmList
from ims_as.oss.hss_watch import HssWatch
from ims_as.oss.media_watch import MediaWatch
from ims_as.oss.metrics import Metrics
from ims_as.oss.oplog import OperatorLog
from ims_as.oss.quality_watch import QualityWatch

__all__ = ["Alarming"]

TICK_S: Final = 1.0
_ENTRIES: Final = {
    AlarmChange.RAISED: "ALARM_RAISED",
    AlarmChange.CLEARED: "ALARM_CLEARED",
    AlarmChange.ACKNOWLEDGED: "ALARM_ACKNOWLEDGED",
}


class Alarming:
    """The alarm list of one server and what hangs on it."""

    def __init__(self, metrics: Metrics, log: OperatorLog) -> None:
        self._metrics = metrics
        self._log = log
        self.alarms = AlarmList(f"{int(time.time()):x}-", on_change=self._tell)
        self._media = MediaWatch(self.alarms)

    def _tell(self, change: AlarmChange, alarm: Alarm) -> None:
        definition, name = alarm.definition, alarm.definition.name
        fields = {"alarm": name, "object": alarm.object, "alarm_id": alarm.id}
        match change:
            case AlarmChange.RAISED:
                self._metrics.alarms_raised.labels(name).inc()
                self._metrics.alarm_active.labels(name, alarm.object).set(1)
                fields |= {
                    "severity": definition.severity.name.lower(),
                    "detail": alarm.detail,
                    "effect": definition.effect,
                    "what_to_do": definition.action,
                }
            case AlarmChange.CLEARED:
                self._metrics.alarm_active.labels(name, alarm.object).set(0)
            case AlarmChange.ACKNOWLEDGED:
                fields["by"] = alarm.acknowledged_by
        self._log.event(_ENTRIES[change], **fields)

    async def watch_quality(self, watch: QualityWatch) -> None:
        """Looks at how many calls have audio one way only, until cancelled."""
        while True:
            watch.observe(now=trio.current_time(), wall=time.time())
            await trio.sleep(TICK_S)

    def media_worker_lost(self, worker: str, detail: str) -> None:
        """For the media pool."""
        self._log.event("MEDIA_WORKER_LOST", worker=worker, detail=detail)
        self._media.worker_lost(worker, detail, now=trio.current_time(), wall=time.time())

    async def watch_media(self, pool: MediaPool) -> None:
        """Looks at the media workers until cancelled."""
        refused = 0
        while True:
            if pool.refused > refused:
                self._log.event("MEDIA_FULL", calls=pool.refused - refused)
            refused = pool.refused
            is_up = {name: link.alive for name, link in pool.links.items()}
            self._media.observe(is_up, pool.refused, now=trio.current_time(), wall=time.time())
            await trio.sleep(TICK_S)

    async def watch_hss(self, node: DiameterNode, sh: ShClient, realm: str, hold_s: float) -> None:
        """Looks at the Diameter peers and at what becomes of Sh requests, until cancelled."""
        watch = HssWatch(self.alarms, realm=realm, hold_s=hold_s)
        tick_s = min(TICK_S, max(0.05, hold_s / 4))
        open_before: dict[str, bool] = {}
        while True:
            rows = node.peer_states()
            peers = {str(row["peer"]): bool(row["is_open"]) for row in rows}
            failures = {str(row["peer"]): str(row["failure"]) for row in rows}
            for peer, is_open in peers.items():
                if open_before.get(peer, False) == is_open:
                    continue
                if is_open:
                    self._log.event("DIAMETER_PEER_UP", peer=peer)
                else:
                    self._log.event("DIAMETER_PEER_DOWN", peer=peer, reason=failures[peer])
            open_before = peers
            watch.observe(
                peers,
                answered=sh.stats.answered,
                unanswered=sh.stats.unanswered,
                now=trio.current_time(),
                wall=time.time(),
                failures=failures,
                not_permitted=sh.stats.not_permitted,
            )
            await trio.sleep(tick_s)
