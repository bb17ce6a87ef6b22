"""What happens on legs: opens and releases them, joins them with engines, and turns what the plane and the engines
notice into events for the signalling side and messages for the engine.
"""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Callable
from typing import Any, Final

import attrs

from media.clips import FILLER, ClipError, ClipLibrary
from media.control import ControlError, EngineTarget, StreamConfig
from media.dtmf import Digit
from media.engines.base import Audio, Clear, EngineEvent, Forward, Hangup, MarkRequest
from media.engines.session import EngineFailure, EngineSession, UnknownEngineError
from media.filler import Playing
from media.io import Lingerer, NoPortError, PortPool, Resolver, UrgentPoll
from media.leg import Leg, LegCounters, Receiver
from media.party import Party
from media.plane import MediaPlane
from media.playout import ENGINE_RATES_HZ, PlayoutQueue
from media.table import NEVER, TICK_MS, TableFullError
from media.uplink import FILL_AFTER_TICKS

__all__ = ["CommandError", "Director"]

TIMER_TICKS: Final = 10
"""How often slow deadlines (RTP time-out, stuck engines) are looked at: 50 ms."""


class CommandError(Exception):
    """A command that cannot be carried out; ``code`` is the error of the reply."""

    def __init__(self, code: str, detail: str, **more: object) -> None:
        super().__init__(detail)
        self.code = code
        self.more = more


Done = Callable[[dict[str, Any] | CommandError], None]


@attrs.define(eq=False)
class Call:
    """All that belongs to one leg.

    Attributes:
        pending: answers the open or attach command that waits for the engine.
    """

    leg: Leg
    party: Party
    session: EngineSession | None = None
    pending: Callable[[EngineFailure | None], None] | None = None
    hangup_reason: str = ""
    engine_stats: dict[str, Any] = attrs.Factory(dict)


class Director:
    """Commands of the control channel, and the observer of the plane."""

    def __init__(
        self, plane: MediaPlane, ports: PortPool, urgent: UrgentPoll, emit: Callable[[dict[str, Any]], None]
    ) -> None:
        self._plane = plane
        self._table = plane.table
        self._ports = ports
        self._urgent = urgent
        self._emit = emit
        self._resolver = Resolver(urgent)
        self._lingerer = Lingerer(urgent)
        self._clips = ClipLibrary()
        self._clips.get(FILLER)
        self._calls: dict[str, Call] = {}
        self._connecting: set[EngineSession] = set()
        self._filler_watch: set[Leg] = set()
        plane.observer = self

    # ---- commands
    def open(self, name: str, config: StreamConfig, target: EngineTarget | None, keep: bool, done: Done) -> None:
        """Binds a port and connects the engine; ``done`` gets the reply, now or later.

        Raises:
            CommandError: the leg exists, no port, table full, bad configuration.
        """
        if name in self._calls:
            raise CommandError("bad_command", f"leg {name} exists")
        call = self._bind(name, config)
        place = {"host": call.party.host, "port": call.party.port}
        if target is None:
            done(place)
            return

        def answered(failure: EngineFailure | None) -> None:
            if failure is None:
                done({**place, "engine_ms": self._engine_ms(call)})
                return
            if not keep and self._calls.get(name) is call:
                self.release(name, failure.code)
            if self._calls.get(name) is not call:
                place.clear()
            done(CommandError(failure.code, failure.detail, **place))

        self._attach(call, target, answered)

    def attach(self, name: str, target: EngineTarget, done: Done) -> None:
        """Connects an engine to an open leg.

        Raises:
            CommandError: no such leg, or an attempt is under way.
        """
        call = self._call(name)
        if call.pending is not None:
            raise CommandError("bad_command", "an engine is being connected")
        self._drop_engine(call, "replaced")

        def answered(failure: EngineFailure | None) -> None:
            if failure is None:
                done({"engine_ms": self._engine_ms(call)})
            else:
                done(CommandError(failure.code, failure.detail))

        self._attach(call, target, answered)

    def modify(self, name: str, config: StreamConfig) -> None:
        call = self._call(name)
        rate_hz = call.leg.line_rate_hz
        call.party.configure(config)
        if call.leg.line_rate_hz != rate_hz and call.leg.clip is not None:
            call.leg.clip, call.leg.clip_position = self._clips.get(call.leg.clip_name, call.leg.line_rate_hz), 0
        # silence is counted anew: nobody sent while the stream was held
        self._table.opened[call.leg.row] = self._plane.tick
        if config.receive and self._table.fill_at[call.leg.row] == NEVER and self._table.last_rtp[call.leg.row] >= 0:
            self._table.fill_at[call.leg.row] = self._plane.tick + FILL_AFTER_TICKS

    def engine_message(self, name: str, event: dict[str, Any]) -> None:
        session = self._call(name).session
        if session is None:
            raise CommandError("bad_command", "no engine")
        session.send_text(session.protocol.build_event(event))

    def detach(self, name: str, reason: str) -> None:
        self._drop_engine(self._call(name), reason)

    def play(self, name: str, clip: str, loop: bool) -> None:
        leg = self._call(name).leg
        try:
            samples = self._clips.get(clip, leg.line_rate_hz)
        except ClipError as error:
            raise CommandError("bad_command", str(error)) from error
        self._switched(leg, leg.filler.play_started())
        leg.clip, leg.clip_name, leg.clip_position, leg.clip_loop = samples, clip, 0, loop
        self._table.clip[leg.row] = True

    def stop_play(self, name: str) -> None:
        self._stop_clip(self._call(name).leg)

    def send_dtmf(self, name: str, digits: str) -> None:
        leg = self._call(name).leg
        if leg.receiver.config.dtmf_payload_type is None:
            raise CommandError("bad_command", "telephone-event was not negotiated")
        try:
            leg.dtmf.send(digits)
        except ValueError as error:
            raise CommandError("bad_command", str(error)) from error
        self._table.event[leg.row] = leg.dtmf.is_active

    def bridge(self, name: str, other: str) -> None:
        """Joins two legs: each hears the other.  Their engines are detached."""
        if name == other:
            raise CommandError("bad_command", "a leg cannot be bridged with itself")
        calls = self._call(name), self._call(other)
        for call, peer in (calls, calls[::-1]):
            self._drop_engine(call, "bridged")
            self._stop_clip(call.leg)
            row = call.leg.row
            self._table.bank[row] = -1
            self._table.peer[row] = peer.leg.row
        for call in calls:  # queues of the line's rate; the bank is for playing only
            self._use_queue(call.leg, call.leg.line_rate_hz)

    def stats(self, name: str) -> dict[str, Any]:
        return self._stats_of(self._call(name))

    def release(self, name: str, reason: str) -> dict[str, Any]:
        """Ends the leg; its last statistics.  A command that waits for its engine is answered when the leg is gone."""
        call = self._call(name)
        del self._calls[name]
        pending, call.pending = call.pending, None
        self._drop_engine(call, reason)
        stats = self._stats_of(call)
        row = call.leg.row
        peers = self._table.peer[: self._table.high]
        peers[peers == row] = -1
        self._filler_watch.discard(call.leg)
        self._plane.remove_leg(call.leg, call.party.sock)
        call.leg.receiver.close()
        call.party.close()
        self._ports.release(call.party.port, time.monotonic())
        if pending is not None:
            pending(EngineFailure("engine_refused", reason))
        return stats

    def release_all(self, reason: str) -> None:
        for name in list(self._calls):
            self.release(name, reason)

    @property
    def legs(self) -> int:
        return len(self._calls)

    # ---- time
    def handle_timers(self, tick: int, now: float) -> None:
        """Deadlines that are not in columns."""
        for leg in [leg for leg in self._filler_watch if _is_due(leg, tick)]:
            self._switched(leg, leg.filler.handle_timer(tick))
            self._watch_filler(leg)
        for session in list(self._connecting):
            session.handle_timer(now)
        if tick % TIMER_TICKS:
            return
        self._lingerer.handle_timer(now)
        table, high = self._table, self._table.high
        for call in list(self._calls.values()):
            if call.session is not None:
                call.session.handle_timer(now)
        silent = tick - table.last_rtp[:high].clip(table.opened[:high])
        for row in (silent >= table.rtp_timeout[:high]).nonzero()[0].tolist():
            table.rtp_timeout[row] = NEVER
            self._event("rtp_timeout", self._plane.leg_of(row), silent_ms=int(silent[row]) * TICK_MS)

    # ---- observer of the plane
    def digit_received(self, leg: Leg, digit: Digit) -> None:
        leg.counters.dtmf_in += 1
        session = self._calls[leg.name].session
        if session is not None and session.target.digits:
            session.send_text(session.protocol.build_dtmf(digit.digit, digit.duration_ms))
        self._event("dtmf", leg, digit=digit.digit, duration_ms=digit.duration_ms)

    def speech_changed(self, leg: Leg, is_start: bool, tick: int) -> None:
        session = self._calls[leg.name].session
        if session is None:
            return
        session.send_text(session.protocol.build_speech(is_start))
        if is_start:
            leg.filler.speech_started()
            leg.speech_ended = None
        else:
            leg.speech_ended = tick
            leg.filler.speech_ended(tick)
        self._watch_filler(leg)

    def engine_heard(self, leg: Leg, tick: int) -> None:
        self._switched(leg, leg.filler.engine_audio())
        self._table.clip[leg.row] = False
        leg.clip = None
        self._watch_filler(leg)
        if leg.speech_ended is not None:
            ttfb_ms = float((tick - leg.speech_ended) * TICK_MS)
            leg.speech_ended = None
            leg.note_ttfb(ttfb_ms)
            self._event("first_audio", leg, at=time.time(), ttfb_ms=ttfb_ms)

    def mark_reached(self, leg: Leg) -> None:
        call = self._calls[leg.name]
        if leg.playout is None:
            return
        for mark in leg.playout.reached_marks():
            if mark.name is None:
                self._event("drained", leg, reason=call.hangup_reason)
            elif call.session is not None:
                call.session.send_text(call.session.protocol.build_mark(mark.name, True))

    def clip_ended(self, leg: Leg) -> None:
        was_play = leg.filler.playing is Playing.CLIP
        self._stop_clip(leg)
        if was_play:
            self._event("played", leg)

    def first_packet(self, leg: Leg, source: str) -> None:
        self._event("first_rtp", leg, at=time.time(), source=source)

    # ---- engines
    def engine_open(self, session: EngineSession) -> None:
        call = self._of(session)
        session.opened_at = time.monotonic()
        self._connecting.discard(session)
        row = call.leg.row
        if session.sock is None:
            return
        self._plane.add_engine(row, session, session.sock)
        call.leg.speech_ended = self._plane.tick
        if (pending := call.pending) is not None:
            call.pending = None
            pending(None)

    def engine_event(self, session: EngineSession, event: EngineEvent) -> None:
        call = self._of(session)
        queue = call.leg.playout
        match event:
            case Audio(pcm) if queue is not None:
                queue.write(pcm, self._plane.tick)
            case Clear():
                self._clear(call, session)
            case MarkRequest(name) if queue is not None:
                if not queue.add_mark(name):
                    session.send_text(session.protocol.build_mark(name, False))
                self.mark_reached(call.leg)
            case Hangup(reason) if queue is not None:
                call.hangup_reason = reason
                self._event("engine_event", call.leg, event={"event": "hangup", "reason": reason})
                queue.add_mark(None)
                self.mark_reached(call.leg)
            case Forward(forwarded):
                self._event("engine_event", call.leg, event=forwarded)
            case _:
                return

    def engine_failed(self, session: EngineSession, failure: EngineFailure, was_open: bool) -> None:
        call = self._of(session)
        self._forget_engine(call)
        if was_open and call.hangup_reason:
            return  # it said good-bye, which is still being played; ``drained`` follows
        if was_open:
            if call.leg.playout is not None:
                call.leg.playout.clear()
            self._switched(call.leg, call.leg.filler.engine_lost())
            self._watch_filler(call.leg)
            self._event("engine_lost", call.leg, cause=failure.code, detail=failure.detail)
        elif (pending := call.pending) is not None:
            call.pending = None
            pending(failure)

    def engine_clean(self, session: EngineSession, is_clean: bool) -> None:
        call = self._of(session)
        if call.session is session and self._table.bank[call.leg.row] >= 0:
            self._plane.set_engine_clean(call.leg.row, is_clean)

    def engine_blocked(self, session: EngineSession, is_blocked: bool) -> None:
        self._plane.set_engine_blocked(self._of(session).leg.row, is_blocked)

    # ---- inside
    def _bind(self, name: str, config: StreamConfig) -> Call:
        try:
            sock = self._ports.bind(config.host, time.monotonic())
        except NoPortError as error:
            raise CommandError("no_port", str(error)) from error
        except OSError as error:
            raise CommandError("bad_command", str(error)) from error
        try:
            row = self._table.allocate()
        except TableFullError as error:
            self._discard(sock)
            raise CommandError("full", str(error)) from error
        counters = LegCounters()
        leg = Leg(name, row, Receiver(self._table, row, config, counters), counters)
        party = Party(self._plane, leg, sock, self.first_packet)
        table = self._table
        table.opened[row] = self._plane.tick
        table.ssrc[row] = secrets.randbits(32)
        table.sequence[row] = secrets.randbits(15)
        table.timestamp[row] = secrets.randbits(32)
        call = Call(leg, party)
        self._plane.add_leg(leg, sock, party.receive_untrusted)
        try:
            party.configure(config)
        except (ControlError, TypeError, ValueError) as error:  # values of a wrong kind show only in use
            self._plane.remove_leg(leg, sock)
            self._discard(sock)
            raise CommandError("bad_command", str(error)) from error
        self._calls[name] = call
        return call

    def _discard(self, sock: socket.socket) -> None:
        port = int(sock.getsockname()[1])
        sock.close()
        self._ports.release(port, time.monotonic())

    def _attach(self, call: Call, target: EngineTarget, answered: Callable[[EngineFailure | None], None]) -> None:
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
        self._table.peer[leg.row] = -1
        self._use_queue(leg, target.rate)
        self._table.bank[leg.row] = -1
        session.owner = call
        call.session, call.pending = session, answered
        self._connecting.add(session)
        session.start(self._resolver)

    def _use_queue(self, leg: Leg, rate_hz: int) -> None:
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

    def _clear(self, call: Call, session: EngineSession) -> None:
        queue = call.leg.playout
        if queue is None:
            return
        played_ms, unreached = queue.clear()
        for mark in unreached:
            if mark.name is not None:
                session.send_text(session.protocol.build_mark(mark.name, False))
            else:
                self._event("drained", call.leg, reason=call.hangup_reason)
        session.send_text(session.protocol.build_cleared(played_ms))
        self._event("barge_in", call.leg, played_ms=round(played_ms, 3))

    def _drop_engine(self, call: Call, reason: str) -> None:
        if (session := call.session) is None:
            return
        pending, call.pending = call.pending, None
        session.close(reason)
        self._forget_engine(call)
        if call.leg.playout is not None:
            call.leg.playout.clear()
        if pending is not None:
            pending(EngineFailure("engine_refused", reason))

    def _forget_engine(self, call: Call) -> None:
        session = call.session
        if session is None:
            return
        call.engine_stats = session.stats()
        self._connecting.discard(session)
        self._plane.remove_engine(call.leg.row)
        call.session = None
        call.leg.speech_ended = None

    def _switched(self, leg: Leg, filler_on: bool | None) -> None:
        if filler_on is None:
            return
        if filler_on:
            leg.clip_name = leg.filler_clip or FILLER
            try:
                leg.clip = self._clips.get(leg.clip_name, leg.line_rate_hz)
            except ClipError:
                leg.clip_name = FILLER
                leg.clip = self._clips.get(FILLER, leg.line_rate_hz)
            leg.clip_position, leg.clip_loop = 0, True
        else:
            leg.clip = None
        self._table.clip[leg.row] = filler_on
        self._event("filler", leg, at=time.time(), on=filler_on)

    def _stop_clip(self, leg: Leg) -> None:
        self._switched(leg, leg.filler.stopped())
        leg.clip = None
        self._table.clip[leg.row] = False

    def _watch_filler(self, leg: Leg) -> None:
        if leg.filler.next_deadline() is None:
            self._filler_watch.discard(leg)
        else:
            self._filler_watch.add(leg)

    def _stats_of(self, call: Call) -> dict[str, Any]:
        engine = call.session.stats() if call.session is not None else call.engine_stats
        return {**call.leg.stats(self._table), **engine}

    def _engine_ms(self, call: Call) -> float:
        session = call.session
        return round((session.opened_at - session.started_at) * 1000, 2) if session is not None else 0.0

    def _call(self, name: str) -> Call:
        call = self._calls.get(name)
        if call is None:
            raise CommandError("bad_command", f"no leg {name}")
        return call

    @staticmethod
    def _of(session: EngineSession) -> Call:
        call = session.owner
        if not isinstance(call, Call):
            raise LookupError("session without a call")
        return call

    def _event(self, name: str, leg: Leg, **fields: object) -> None:
        self._emit({"ev": name, "leg": leg.name, **fields})


def _is_due(leg: Leg, tick: int) -> bool:
    deadline = leg.filler.next_deadline()
    return deadline is not None and tick >= deadline
