"""When the media plane is an alarm: a worker was lost, or none has room."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ims_as.oss.alarms import AlarmList

__all__ = ["MediaWatch"]

CALM_S: Final = 60.0
"""An alarm is cleared when its cause was not seen for so long: a worker that dies again and again is one alarm."""
FULL: Final = "media-full"
LOST: Final = "media-worker-lost"
NODE: Final = "media"


class MediaWatch:
    """Looked at once a second; ``now`` is monotonic, ``wall`` the time of day, both in seconds."""

    def __init__(self, alarms: AlarmList, *, calm_s: float = CALM_S) -> None:
        self._alarms = alarms
        self._calm_s = calm_s
        self._seen: dict[tuple[str, str], float] = {}
        self._refused = 0

    def worker_lost(self, worker: str, detail: str, *, now: float, wall: float) -> None:
        """A worker has gone without having been told to."""
        self._raise(LOST, worker, detail, now, wall)

    def observe(self, is_up: Mapping[str, bool], refused: int, *, now: float, wall: float) -> None:
        """How things are.

        Args:
            is_up: by worker; one that is not there is down.
            refused: legs that no worker had room for, since the start.
        """
        if refused > self._refused:
            self._raise(FULL, NODE, f"{refused - self._refused} calls were refused", now, wall)
        self._refused = refused
        for (name, object_), seen in list(self._seen.items()):
            if name == LOST and not is_up.get(object_, False):
                self._seen[name, object_] = now
            elif now - seen >= self._calm_s:
                del self._seen[name, object_]
                self._alarms.clear(name, object_, now=wall)

    def _raise(self, name: str, object_: str, detail: str, now: float, wall: float) -> None:
        self._seen[name, object_] = now
        self._alarms.raise_alarm(name, object_, detail, now=wall)
