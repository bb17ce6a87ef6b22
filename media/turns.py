"""Who speaks when: the engine is told of the caller's speech, and silenced by it where the agent is set so."""

from __future__ import annotations

import time
from typing import Final

import attrs

from media.call import Call, Emit
from media.clip_player import ClipPlayer
from media.engine_calls import Engines
from media.leg import Leg
from media.plane import MediaPlane
from media.table import TICK_MS, Source

__all__ = ["Turns"]

HEARD_TICKS: Final = 60
"""An agent that was audible 300 ms ago is still speaking: pauses between words are shorter."""
AHEAD_MS: Final = 200.0
"""An engine with so much queued is speaking, even if it has just begun."""


@attrs.define
class Turns:
    """Of all legs."""

    plane: MediaPlane
    clips: ClipPlayer
    engines: Engines
    emit: Emit

    def speech_changed(self, call: Call, is_start: bool, tick: int) -> None:
        """The caller began to speak at that tick, or stopped."""
        leg, session = call.leg, call.session
        if session is None:
            return
        session.send_text(session.protocol.build_speech(is_start))
        if is_start:
            is_over_agent = self._agent_speaks(leg)
            leg.talk.speech_started(tick, is_over_agent=is_over_agent)
            leg.filler.speech_started()
            self.await_answer(leg, None)
            if is_over_agent and session.target.barge_in == "local":
                self.engines.barge_in(call)
        else:
            leg.talk.speech_ended(tick)
            leg.filler.speech_ended(tick)
            # an agent that never stopped has nothing to answer
            self.await_answer(leg, None if self._agent_speaks(leg) else tick)
            if call.mute is not None:
                call.mute.speech_ended(self.plane.tick)
        self.clips.watch(leg)

    def await_answer(self, leg: Leg, since: int | None) -> None:
        """The engine's next audible frame answers what ended then; None: it answers nothing."""
        leg.speech_ended = since
        self.plane.downlink.await_speech(leg.row, since is not None)

    def engine_spoke(self, leg: Leg, tick: int) -> None:
        leg.talk.agent_spoke()
        if leg.speech_ended is not None:
            ttfb_ms = float((tick - leg.speech_ended) * TICK_MS)
            leg.speech_ended = None
            leg.note_ttfb(ttfb_ms)
            self.emit("first_audio", leg, at=time.time(), ttfb_ms=ttfb_ms)

    def engine_cut(self, leg: Leg, tick: int) -> None:
        silenced = leg.talk.agent_silent(tick)
        if silenced is not None:
            fields = attrs.asdict(silenced)
            self.emit("silenced", leg, at=time.time(), **fields)

    def _agent_speaks(self, leg: Leg) -> bool:
        table, row = self.plane.table, leg.row
        if table.source[row] != Source.ENGINE:
            return False
        if self.plane.tick - int(table.spoke[row]) <= HEARD_TICKS:
            return True
        return leg.playout is not None and leg.playout.queued_ms >= AHEAD_MS
