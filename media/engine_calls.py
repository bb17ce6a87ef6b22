"""The engines of the legs: connected, replaced, lost, and what they ask for."""

from __future__ import annotations

import time
from collections.abc import Callable

from media.call import Call, Emit
from media.clip_player import ClipPlayer
from media.control import EngineTarget
from media.engines.base import Audio, Clear, EngineEvent, Forward, Hangup, MarkRequest
from media.engines.session import EngineFailure, EngineSession, UnknownEngineError
from media.io import Lingerer, Resolver, UrgentPoll
from media.leg import Leg
from media.mute import Mute
from media.plane import MediaPlane
from media.playout import ENGINE_RATES_HZ, PlayoutQueue
from media.table import NEVER, TICK_MS

__all__ = ["Engines"]


class Engines:
    """Owner and user of all engine sessions."""

    def __init__(self, plane: MediaPlane, urgent: UrgentPoll, clips: ClipPlayer, emit: Emit) -> None:
        self._plane = plane
        self._table = plane.table
        self._urgent = urgent
        self._clips = clips
        self._emit = emit
        self._resolver = Resolver(urgent)
        self._lingerer = Lingerer(urgent)
        self._connecting: set[EngineSession] = set()

    def handle_connecting(self, now: float) -> None:
        """Deadlines of connections that are being made."""
        for session in list(self._connecting):
            session.handle_timer(now)

    def handle_lingering(self, now: float) -> None:
        self._lingerer.handle_timer(now)

    def attach(self, call: Call, target: EngineTarget, answered: Callable[[EngineFailure | None], None]) -> None:
        """Connects an engine; ``answered`` learns how that went, now or later."""
        leg = call.leg
        try:
            if target.rate not in ENGINE_RATES_HZ:
                raise UnknownEngineError(f"rate {target.rate}")
            session = EngineSession(
                target, self, self._urgent, self._plane.engine_poll, self._lingerer, time.monotonic()
            )
        except UnknownEngineError as error:
            answered(EngineFailure("engine_rejected", str(error)))
            return
        call.hangup_reason = ""
        leg.filler.after_ticks = target.filler_after_ms // TICK_MS
        leg.filler_clip = target.filler_clip
        self._clips.set_background(leg, target.background, target.background_db)
        leg.inband_dtmf, leg.mutes_digits = target.inband_dtmf, target.mute_digits
        self._plane.uplink.digits.configure(leg)
        self._table.peer[leg.row] = -1
        self.use_queue(leg, target.rate)
        self._table.bank[leg.row] = -1
        session.owner = call
        call.session, call.pending = session, answered
        self._connecting.add(session)
        session.start(self._resolver)

    def drop(self, call: Call, reason: str) -> None:
        """Says good-bye to the leg's engine, if it has one."""
        if (session := call.session) is None:
            return
        pending, call.pending = call.pending, None
        session.close(reason)
        self._forget(call)
        if call.leg.playout is not None:
            call.leg.playout.clear()
        if pending is not None:
            pending(EngineFailure("engine_refused", reason))

    def use_queue(self, leg: Leg, rate_hz: int) -> None:
        """A new, empty playout queue."""
        number, table, row = self._plane.bank_of(rate_hz), self._table, leg.row
        if leg.playout is not None:
            leg.playout.clear()
        for column in (table.read, table.write, table.queued, table.played, table.window, table.low_water, table.owed):
            column[row] = 0
        table.arrived[row] = -NEVER
        table.mark_at[row] = NEVER
        table.play_bank[row] = number
        self._plane.banks[number].reset(row)
        leg.playout = PlayoutQueue(table, row, self._plane.banks[number])

    def mark_reached(self, call: Call) -> None:
        leg = call.leg
        if leg.playout is None:
            return
        for mark in leg.playout.reached_marks():
            if mark.name is None:
                self._emit("drained", leg, reason=call.hangup_reason)
            elif call.session is not None:
                call.session.send_text(call.session.protocol.build_mark(mark.name, True))

    # ---- what sessions say
    def engine_open(self, session: EngineSession) -> None:
        call = _of(session)
        session.opened_at = time.monotonic()
        self._connecting.discard(session)
        row = call.leg.row
        if session.sock is None:
            return
        self._plane.add_engine(row, session, session.sock)
        call.leg.speech_ended = self._plane.tick
        self._plane.downlink.await_speech(row, True)
        if (pending := call.pending) is not None:
            call.pending = None
            pending(None)

    def engine_event(self, session: EngineSession, event: EngineEvent) -> None:
        call = _of(session)
        queue = call.leg.playout
        match event:
            case Audio(pcm) if queue is not None:
                if call.mute is None or not self._is_muted(call, session, pcm):
                    queue.write(pcm, self._plane.tick)
            case Clear():
                self._clear(call, session)
            case MarkRequest(name) if queue is not None:
                if not queue.add_mark(name):
                    session.send_text(session.protocol.build_mark(name, False))
                self.mark_reached(call)
            case Hangup(reason) if queue is not None:
                call.hangup_reason = reason
                self._emit("engine_event", call.leg, event={"event": "hangup", "reason": reason})
                queue.add_mark(None)
                self.mark_reached(call)
            case Forward(forwarded):
                self._emit("engine_event", call.leg, event=forwarded)
            case _:
                return

    def engine_failed(self, session: EngineSession, failure: EngineFailure, was_open: bool) -> None:
        call = _of(session)
        self._forget(call)
        if was_open and call.hangup_reason:
            return  # it said good-bye, which is still being played; ``drained`` follows
        if was_open:
            if call.leg.playout is not None:
                call.leg.playout.clear()
            self._clips.switch(call.leg, call.leg.filler.engine_lost())
            self._clips.watch(call.leg)
            self._emit("engine_lost", call.leg, cause=failure.code, detail=failure.detail)
        elif (pending := call.pending) is not None:
            call.pending = None
            pending(failure)

    def engine_clean(self, session: EngineSession, is_clean: bool) -> None:
        call = _of(session)
        if call.session is session and self._table.bank[call.leg.row] >= 0:
            self._plane.set_engine_clean(call.leg.row, is_clean and call.mute is None)

    def engine_blocked(self, session: EngineSession, is_blocked: bool) -> None:
        self._plane.set_engine_blocked(_of(session).leg.row, is_blocked)

    def barge_in(self, call: Call) -> None:
        """The caller speaks over the agent, which is to be silent at once; a good-bye is still said."""
        session = call.session
        if session is None or call.hangup_reason:
            return
        self._clear(call, session, "local")
        call.mute = Mute(self._plane.tick)
        self._plane.set_engine_clean(call.leg.row, False)

    # ---- inside
    def _is_muted(self, call: Call, session: EngineSession, pcm: bytes) -> bool:
        if call.mute is not None and call.mute.drops(pcm, self._plane.tick):
            return True
        call.mute = None
        self._plane.set_engine_clean(call.leg.row, session.is_clean)
        return False

    def _clear(self, call: Call, session: EngineSession, by: str = "engine") -> None:
        queue = call.leg.playout
        if by == "engine":
            call.mute = None  # what comes from now on is new
        if queue is None:
            return
        call.leg.talk.cleared(self._plane.tick, by)
        played_ms, unreached = queue.clear()
        for mark in unreached:
            if mark.name is not None:
                session.send_text(session.protocol.build_mark(mark.name, False))
            else:
                self._emit("drained", call.leg, reason=call.hangup_reason)
        if by == "local":
            session.send_text(session.protocol.build_barge_in(played_ms))
        else:
            session.send_text(session.protocol.build_cleared(played_ms))
        self._emit("barge_in", call.leg, played_ms=round(played_ms, 3), by=by)

    def _forget(self, call: Call) -> None:
        session = call.session
        if session is None:
            return
        call.engine_stats = session.stats()
        self._connecting.discard(session)
        self._plane.remove_engine(call.leg.row)
        call.session = call.mute = None
        call.leg.speech_ended = None
        self._plane.downlink.await_speech(call.leg.row, False)


def _of(session: EngineSession) -> Call:
    call = session.owner
    if not isinstance(call, Call):
        raise LookupError("session without a call")
    return call
