"""The list of alarms: raised and cleared once each, acknowledged by people, bounded.

Pure; times are wall clock seconds and come from outside.  Whoever notices a trouble calls `raise_alarm` as often as it
likes: as long as the alarm of that name and object is active there is one of it.  What follows from a change (log,
metric; later SNMP and VES) hangs on ``on_change``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import Any, Final

import attrs

from ims_as.oss.alarm_table import ALARMS, AlarmDefinition

__all__ = ["MAX_ACTIVE", "MAX_CLEARED", "Alarm", "AlarmChange", "AlarmList"]

MAX_ACTIVE: Final = 1000
"""Objects come from the configuration, so there are far fewer."""
MAX_CLEARED: Final = 100
MAX_DETAIL_CHARS: Final = 500
MAX_NAME_CHARS: Final = 100


class AlarmChange(Enum):
    """What has become of an alarm."""

    RAISED = "raised"
    CLEARED = "cleared"
    ACKNOWLEDGED = "acknowledged"


@attrs.define(eq=False)
class Alarm:
    """One alarm of one object."""

    id: str
    definition: AlarmDefinition
    object: str
    detail: str
    raised_at: float
    """When it was noticed first."""
    noticed_at: float
    """When it was noticed last."""
    count: int = 1
    """How often it was noticed."""
    cleared_at: float | None = None
    acknowledged_at: float | None = None
    acknowledged_by: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        definition = self.definition
        return {
            "id": self.id,
            "alarm": definition.name,
            "object": self.object,
            "severity": definition.severity.name.lower(),
            "event_type": definition.event_type.name,
            "probable_cause": definition.probable_cause,
            "problem": definition.problem,
            "detail": self.detail,
            "cause": definition.cause,
            "effect": definition.effect,
            "action": definition.action,
            "raised_at": self.raised_at,
            "noticed_at": self.noticed_at,
            "count": self.count,
            "cleared_at": self.cleared_at,
            "acknowledged_at": self.acknowledged_at,
            "acknowledged_by": self.acknowledged_by,
        }


class AlarmList:
    """The alarms of one server.

    Args:
        prefix: of ids, so that those of another start are not taken for ours.
        on_change: told of each alarm that was raised, cleared or acknowledged.

    Attributes:
        dropped: alarms that had no room.
    """

    def __init__(self, prefix: str = "", *, on_change: Callable[[AlarmChange, Alarm], None] = lambda *_: None) -> None:
        self._prefix = prefix
        self._on_change = on_change
        self._active: dict[tuple[str, str], Alarm] = {}
        self._cleared: deque[Alarm] = deque(maxlen=MAX_CLEARED)
        self._number = 0
        self.dropped = 0

    def raise_alarm(self, name: str, object_: str, detail: str = "", *, now: float) -> Alarm | None:
        """The alarm of that name for that object, raised by this or before; None: no room.

        Raises:
            KeyError: the table has no such alarm.
        """
        definition = ALARMS[name]
        alarm = self._active.get((name, object_))
        if alarm is not None:
            alarm.count += 1
            alarm.noticed_at = now
            alarm.detail = detail[:MAX_DETAIL_CHARS]
            return alarm
        if len(self._active) >= MAX_ACTIVE:
            self.dropped += 1
            return None
        self._number += 1
        alarm_id = f"{self._prefix}{self._number}"
        alarm = Alarm(alarm_id, definition, object_, detail[:MAX_DETAIL_CHARS], raised_at=now, noticed_at=now)
        self._active[name, object_] = alarm
        self._on_change(AlarmChange.RAISED, alarm)
        return alarm

    def clear(self, name: str, object_: str, *, now: float) -> Alarm | None:
        """What it tells of is over; None when it was not raised."""
        alarm = self._active.pop((name, object_), None)
        if alarm is not None:
            alarm.cleared_at = now
            self._cleared.append(alarm)
            self._on_change(AlarmChange.CLEARED, alarm)
        return alarm

    def acknowledge(self, alarm_id: str, by: str = "", *, now: float) -> Alarm | None:
        """Somebody looks after it; the first one counts.  Also for one that was cleared lately; None: no such alarm."""
        alarm = next((each for each in (*self._active.values(), *self._cleared) if each.id == alarm_id), None)
        if alarm is not None and alarm.acknowledged_at is None:
            alarm.acknowledged_at, alarm.acknowledged_by = now, by[:MAX_NAME_CHARS]
            self._on_change(AlarmChange.ACKNOWLEDGED, alarm)
        return alarm

    def is_active(self, name: str, object_: str) -> bool:
        """Whether it is raised."""
        return (name, object_) in self._active

    def active(self) -> list[Alarm]:
        """The most severe first, of these the newest."""
        return sorted(self._active.values(), key=lambda each: (each.definition.severity.value, -each.raised_at))

    def cleared(self) -> list[Alarm]:
        """The last that were cleared, the newest first."""
        return list(reversed(self._cleared))
