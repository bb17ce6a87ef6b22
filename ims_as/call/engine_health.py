"""What is believed of each engine: up, down, or broken open after several time-outs in a row.

An engine that refuses is found out in a millisecond by each call, so it is tried each time.  One that accepts and hangs
costs each caller the answer budget; after ``OPEN_AFTER`` such calls in a row the circuit is open: calls fail at once,
but for one trial every ``TRIAL_EVERY_S``.
"""

from __future__ import annotations

from enum import Enum

import attrs

__all__ = ["EngineHealth", "EngineState"]

OPEN_AFTER = 3
TRIAL_EVERY_S = 2.0


class EngineState(Enum):
    UNKNOWN = "unknown"
    UP = "up"
    DOWN = "down"
    OPEN = "open"


@attrs.define
class _Engine:
    state: EngineState = EngineState.UNKNOWN
    timeouts: int = 0
    next_trial_at: float = 0.0
    changed_at: float = 0.0
    cause: str = ""


@attrs.define
class EngineHealth:
    """Keyed by URL.  ``now``: monotonic seconds."""

    _engines: dict[str, _Engine] = attrs.Factory(dict)

    def may_try(self, url: str, *, now: float) -> bool:
        engine = self._engines.get(url)
        if engine is None or engine.state is not EngineState.OPEN:
            return True
        if now < engine.next_trial_at:
            return False
        engine.next_trial_at = now + TRIAL_EVERY_S
        return True

    def note_success(self, url: str, *, now: float) -> None:
        self._set(url, EngineState.UP, "", now)
        self._engines[url].timeouts = 0

    def note_failure(self, url: str, cause: str, *, now: float) -> None:
        """cause: ``engine_refused``, ``engine_timeout``, ``engine_rejected`` or the like."""
        engine = self._engines.setdefault(url, _Engine())
        engine.timeouts = engine.timeouts + 1 if cause == "engine_timeout" else 0
        if engine.timeouts >= OPEN_AFTER:
            if engine.state is not EngineState.OPEN:
                engine.next_trial_at = now + TRIAL_EVERY_S
            self._set(url, EngineState.OPEN, cause, now)
        else:
            self._set(url, EngineState.DOWN, cause, now)

    def state(self, url: str) -> EngineState:
        engine = self._engines.get(url)
        return EngineState.UNKNOWN if engine is None else engine.state

    def is_usable(self, url: str) -> bool:
        return self.state(url) in (EngineState.UP, EngineState.UNKNOWN)

    def snapshot(self) -> dict[str, dict[str, str]]:
        return {url: {"state": each.state.value, "cause": each.cause} for url, each in self._engines.items()}

    def _set(self, url: str, state: EngineState, cause: str, now: float) -> None:
        engine = self._engines.setdefault(url, _Engine())
        if engine.state is not state:
            engine.state, engine.changed_at = state, now
        engine.cause = cause
