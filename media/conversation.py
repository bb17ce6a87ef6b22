"""How a conversation went: turns, who spoke how long, and how fast the agent fell silent when it was interrupted.

Pure, one per leg, told per event.  The caller's speech begins with the arrival of its first loud packet; the agent is
silent 5 ms (the fade) after the packet in which its audio ends was due.
"""

from __future__ import annotations

from typing import Any, Final

import attrs

from media.table import TICK_MS

__all__ = ["FADE_MS", "Conversation", "Silenced"]

FADE_MS: Final = 5
MAX_KEPT: Final = 64
"""Of barge-ins; the last ones count."""
LATE_TICKS: Final = 600
"""A ``clear`` that comes three seconds after the caller began to speak has nothing to do with that."""


@attrs.frozen(slots=True)
class Silenced:
    """The agent has fallen silent because somebody wanted it to.

    Attributes:
        by: ``local``: the worker itself, when the caller began to speak; ``engine``: by ``clear``.
        clear_ms: from ``clear`` to silence.
        speech_ms: from the caller's first word to silence; None: the caller did not speak.
    """

    by: str
    clear_ms: int
    speech_ms: int | None


@attrs.define
class Conversation:
    """Times are ticks.

    Attributes:
        since: when the call began to talk.
        turns: of the caller: how often it stopped speaking.
        overlaps: how often it began to speak while the agent was heard.
        barge_ins: how often the agent was silenced by that.
    """

    since: int = 0
    turns: int = 0
    overlaps: int = 0
    barge_ins: int = 0
    speech_ms: list[int] = attrs.Factory(list)
    """From speech to silence, of the last `MAX_KEPT` barge-ins."""
    _spoken_ticks: int = 0
    _began: int | None = None
    """The caller speaks."""
    _over: int | None = None
    """When it began to speak over the agent."""
    _cleared: tuple[int, str] | None = None

    def speech_started(self, began: int, *, is_over_agent: bool) -> None:
        self._began = began
        self._over = began if is_over_agent else None
        self.overlaps += is_over_agent

    def speech_ended(self, ended: int) -> None:
        if self._began is not None:
            self._spoken_ticks += max(0, ended - self._began)
            self.turns += 1
            self._began = None

    def cleared(self, tick: int, by: str) -> None:
        """What the agent had still to say is dropped."""
        self._cleared = tick, by

    def agent_spoke(self) -> None:
        """The agent says something new: who interrupted it before did so before."""
        if self._cleared is None and self._began is None:
            self._over = None

    def agent_silent(self, tick: int) -> Silenced | None:
        """The packet of this tick has none of the agent's audio, or none of what was dropped."""
        cleared, self._cleared = self._cleared, None
        if cleared is None:
            return None
        at, by = cleared
        began, self._over = self._over, None
        clear_ms = (tick - at) * TICK_MS + FADE_MS
        if began is None or at - began > LATE_TICKS:
            return Silenced(by, clear_ms, None)
        speech_ms = (tick - began) * TICK_MS + FADE_MS
        self.barge_ins += 1
        self.speech_ms.append(speech_ms)
        del self.speech_ms[:-MAX_KEPT]
        return Silenced(by, clear_ms, speech_ms)

    def figures(self, tick: int, *, agent_s: float) -> dict[str, Any]:
        """``talk`` of a leg's statistics; ``agent_s``: how long the agent was heard."""
        spoken = self._spoken_ticks + (max(0, tick - self._began) if self._began is not None else 0)
        caller_s, whole_s = spoken * TICK_MS / 1000, max(0, tick - self.since) * TICK_MS / 1000
        latencies = sorted(self.speech_ms)
        return {
            "turns": self.turns,
            "overlaps": self.overlaps,
            "barge_ins": self.barge_ins,
            "barge_in_ms": latencies[len(latencies) // 2] if latencies else None,
            "barge_in_max_ms": latencies[-1] if latencies else None,
            "caller_s": round(caller_s, 2),
            "agent_s": round(agent_s, 2),
            "caller_share": _share(caller_s, whole_s),
            "agent_share": _share(agent_s, whole_s),
            "silence_share": _share(max(0.0, whole_s - caller_s - agent_s), whole_s),
        }


def _share(part_s: float, whole_s: float) -> float:
    return round(min(1.0, part_s / whole_s), 3) if whole_s > 0 else 0.0
