"""What belongs to one leg, and how a command about it fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from media.engines.session import EngineFailure, EngineSession
from media.leg import Leg
from media.mute import Mute
from media.party import Party

__all__ = ["Call", "CommandError", "Emit"]


class CommandError(Exception):
    """A command that cannot be carried out; ``code`` is the error of the reply."""

    def __init__(self, code: str, detail: str, **more: object) -> None:
        super().__init__(detail)
        self.code = code
        self.more = more


Emit = Callable[..., None]
"""Sends an event to the signalling side: its name, the leg, and the event's fields by name."""


@attrs.define(eq=False)
class Call:
    """All that belongs to one leg.

    Attributes:
        pending: answers the open or attach command that waits for the engine.
        mute: the caller has silenced the engine, and what it goes on saying is dropped.
    """

    leg: Leg
    party: Party
    session: EngineSession | None = None
    pending: Callable[[EngineFailure | None], None] | None = None
    hangup_reason: str = ""
    engine_stats: dict[str, Any] = attrs.Factory(dict)
    mute: Mute | None = None

    @property
    def engine_ms(self) -> float:
        """What the engine took to be ready."""
        session = self.session
        return round((session.opened_at - session.started_at) * 1000, 2) if session is not None else 0.0

    def stats(self, leg_stats: dict[str, Any]) -> dict[str, Any]:
        """The leg's statistics with those of its engine, or of the last one that it had."""
        engine = self.session.stats() if self.session is not None else self.engine_stats
        return {**leg_stats, **engine}
