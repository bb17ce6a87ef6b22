"""What happens on legs: opens and releases them, carries out commands, and turns what the plane notices into events for
the signalling side and messages for the engine.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
import time
from collections.abc import Callable
from typing import Any, Final

from media.call import Call, CommandError
from media.clip_player import ClipPlayer
from media.control import ControlError, EngineTarget, StreamConfig
from media.dtmf import Digit
from media.engine_calls import Engines
from media.engines.session import EngineFailure
from media.figures import figures_of
from media.io import NoPortError, PortPool, UrgentPoll
from media.leg import Leg, LegCounters, Receiver
from media.one_way import OneWayWatch
from media.party import Party
from media.plane import MediaPlane
from media.recording import Recorder
from media.rtcp_figures import peer_view
from media.rtcp_path import RtcpPath
from media.rtcp_plane import RtcpPlane, bandwidth_of
from media.table import NEVER, TICK_MS, TableFullError
from media.turns import Turns
from media.uplink import FILL_AFTER_TICKS

__all__ = ["Director"]

TIMER_TICKS: Final = 10
"""How often slow deadlines (RTP time-out, stuck engines) are looked at: 50 ms."""

Done = Callable[[dict[str, Any] | CommandError], None]


class Director:
    """Commands of the control channel, and the observer of the plane."""

    def __init__(
        self, plane: MediaPlane, ports: PortPool, urgent: UrgentPoll, emit: Callable[[dict[str, Any]], None]
    ) -> None:
        self._plane = plane
        self._table = plane.table
        self._ports = ports
        self._emit = emit
        self._calls: dict[str, Call] = {}
        self._clips = ClipPlayer(plane.table, plane.downlink.mixer, self._event)
        self._engines = Engines(plane, urgent, self._clips, self._event)
        self._turns = Turns(plane, self._clips, self._engines, self._event)
        self._one_way = OneWayWatch(plane.table, plane.leg_of, self._event)
        self._recorder = Recorder(plane.tap, urgent, self._event)
        self._rtcp = RtcpPlane(plane, self._one_way.peer_hears)
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
                done({**place, "engine_ms": call.engine_ms})
                return
            if not keep and self._calls.get(name) is call:
                self.release(name, failure.code)
            if self._calls.get(name) is not call:
                place.clear()
            done(CommandError(failure.code, failure.detail, **place))

        self._engines.attach(call, target, answered)

    def attach(self, name: str, target: EngineTarget, done: Done) -> None:
        """Connects an engine to an open leg.

        Raises:
            CommandError: no such leg, or an attempt is under way.
        """
        call = self._call(name)
        if call.pending is not None:
            raise CommandError("bad_command", "an engine is being connected")
        self._engines.drop(call, "replaced")

        def answered(failure: EngineFailure | None) -> None:
            if failure is None:
                done({"engine_ms": call.engine_ms})
            else:
                done(CommandError(failure.code, failure.detail))

        self._engines.attach(call, target, answered)

    def modify(self, name: str, config: StreamConfig) -> None:
        call = self._call(name)
        rate_hz = call.leg.line_rate_hz
        bandwidth_of(config)
        call.party.configure(config)
        self._rtcp.configure(call.leg)
        if call.leg.line_rate_hz != rate_hz:
            self._clips.line_changed(call.leg)
            self._plane.uplink.digits.line_changed(call.leg.row)
        self._plane.uplink.digits.configure(call.leg)
        self._one_way.configured(call.leg, config, self._plane.tick)
        # silence is counted anew: nobody sent while the stream was held
        self._table.opened[call.leg.row] = self._plane.tick
        if config.receive and self._table.fill_at[call.leg.row] == NEVER and self._table.last_rtp[call.leg.row] >= 0:
            self._table.fill_at[call.leg.row] = self._plane.tick + FILL_AFTER_TICKS

    def talking(self, name: str) -> None:
        """The call is answered: from now on audio is expected both ways."""
        leg = self._call(name).leg
        if self._one_way.talking(leg, self._plane.tick):
            leg.talk.since = self._plane.tick

    def engine_message(self, name: str, event: dict[str, Any]) -> None:
        session = self._call(name).session
        if session is None:
            raise CommandError("bad_command", "no engine")
        session.send_text(session.protocol.build_event(event))

    def detach(self, name: str, reason: str) -> None:
        self._engines.drop(self._call(name), reason)

    def play(self, name: str, clip: str, loop: bool, whole: bool = False) -> None:
        self._clips.play(self._call(name).leg, clip, loop, whole=whole)

    def stop_play(self, name: str) -> None:
        self._clips.stop(self._call(name).leg)

    def record(self, name: str, action: str, order: dict[str, Any]) -> None:
        """``start``, ``pause``, ``resume`` or ``stop``: `Recorder`."""
        self._recorder.command(self._call(name).leg, self._plane.tick, action, order)

    def send_dtmf(self, name: str, digits: str) -> None:
        leg = self._call(name).leg
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
            self._engines.drop(call, "bridged")
            self._clips.stop(call.leg)
            self._plane.uplink.digits.release(call.leg)
            self._clips.set_background(call.leg, None, 0.0)
            row = call.leg.row
            self._table.bank[row] = -1
            self._table.peer[row] = peer.leg.row
        for call in calls:  # queues of the line's rate; the bank is for playing only
            self._engines.use_queue(call.leg, call.leg.line_rate_hz)

    def stats(self, name: str) -> dict[str, Any]:
        call = self._call(name)
        return self._stats_of(call)

    def release(self, name: str, reason: str) -> dict[str, Any]:
        """Ends the leg; its last statistics.  A command that waits for its engine is answered when the leg is gone."""
        call = self._call(name)
        del self._calls[name]
        pending, call.pending = call.pending, None
        self._engines.drop(call, reason)
        stats = self._stats_of(call)
        row = call.leg.row
        peers = self._table.peer[: self._table.high]
        peers[peers == row] = -1
        self._clips.forget(call.leg)
        self._one_way.forget(call.leg)
        self._recorder.forget(call.leg, self._plane.tick)
        self._rtcp.close(call.leg)
        self._plane.remove_leg(call.leg, call.party.sock)
        call.leg.receiver.close()
        call.party.close()
        self._ports.release(call.party.port, time.monotonic())
        if pending is not None:
            pending(EngineFailure("engine_refused", reason))
        return stats

    def give_up(self, name: str) -> bool:
        """Releases a leg that is not to be trusted; False when there is no such leg."""
        call = self._calls.get(name)
        if call is None:
            return False
        try:
            self.release(name, "failed")
        except Exception:  # its objects are in no good state: what others could stumble over goes
            self._calls.pop(name, None)
            with contextlib.suppress(Exception):
                self._engines.drop(call, "failed")
            with contextlib.suppress(Exception):
                self._plane.remove_leg(call.leg, call.party.sock)
            with contextlib.suppress(Exception):
                call.party.close()
                self._ports.release(call.party.port, time.monotonic())
        return True

    def release_all(self, reason: str) -> None:
        for name in list(self._calls):
            self.release(name, reason)

    def close(self) -> None:
        """After the last release."""
        self._recorder.close()

    @property
    def legs(self) -> int:
        return len(self._calls)

    # ---- time
    def handle_timers(self, tick: int, now: float) -> None:
        """Deadlines that are not in columns."""
        self._clips.handle_timers(tick)
        self._engines.handle_connecting(now)
        if tick % TIMER_TICKS:
            return
        self._rtcp.handle_timers()
        self._engines.handle_lingering(now)
        self._recorder.handle_timer()
        table, high = self._table, self._table.high
        for call in list(self._calls.values()):
            if call.session is not None:
                call.session.handle_timer(now)
        self._one_way.handle_timers(tick)
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
        self._event("dtmf", leg, digit=digit.digit, duration_ms=digit.duration_ms, source=digit.source.value)

    def speech_changed(self, leg: Leg, is_start: bool, tick: int) -> None:
        self._turns.speech_changed(self._calls[leg.name], is_start, tick)

    def engine_heard(self, leg: Leg, tick: int) -> None:
        self._clips.engine_heard(leg)

    def engine_spoke(self, leg: Leg, tick: int) -> None:
        self._turns.engine_spoke(leg, tick)

    def engine_cut(self, leg: Leg, tick: int) -> None:
        self._turns.engine_cut(leg, tick)

    def mark_reached(self, leg: Leg) -> None:
        self._engines.mark_reached(self._calls[leg.name])

    def clip_ended(self, leg: Leg) -> None:
        self._clips.ended(leg)

    def first_packet(self, leg: Leg, source: str) -> None:
        self._one_way.first_packet(leg, self._plane.tick)
        self._event("first_rtp", leg, at=time.time(), source=source)

    # ---- inside
    def _bind(self, name: str, config: StreamConfig) -> Call:
        try:
            sock, rtcp_sock = self._ports.bind(config.host, time.monotonic())
        except NoPortError as error:
            raise CommandError("no_port", str(error)) from error
        except OSError as error:
            raise CommandError("bad_command", str(error)) from error
        try:
            row = self._table.allocate()
        except TableFullError as error:
            self._discard(sock, rtcp_sock)
            raise CommandError("full", str(error)) from error
        counters = LegCounters()
        leg = Leg(name, row, Receiver(self._table, row, config, counters), counters)
        party = Party(self._plane, leg, sock, self.first_packet, RtcpPath(rtcp_sock))
        table = self._table
        table.opened[row] = self._plane.tick
        table.ssrc[row] = secrets.randbits(32)
        table.sequence[row] = secrets.randbits(15)
        table.timestamp[row] = secrets.randbits(32)
        leg.talk.since = self._plane.tick
        call = Call(leg, party)
        self._plane.add_leg(leg, sock, party.receive_untrusted)
        try:
            bandwidth_of(config)
            party.configure(config)
        except (ControlError, TypeError, ValueError) as error:  # values of a wrong kind show only in use
            self._plane.remove_leg(leg, sock)
            self._discard(sock, rtcp_sock)
            raise CommandError("bad_command", str(error)) from error
        self._rtcp.open(leg, party)
        self._calls[name] = call
        return call

    def _stats_of(self, call: Call) -> dict[str, Any]:
        figures = figures_of(call.leg, self._table, self._plane.tick, peer_view(call.leg))
        return call.stats({**call.leg.stats(self._table), **figures})

    def _discard(self, sock: socket.socket, rtcp_sock: socket.socket) -> None:
        port = int(sock.getsockname()[1])
        sock.close()
        rtcp_sock.close()
        self._ports.release(port, time.monotonic())

    def _call(self, name: str) -> Call:
        call = self._calls.get(name)
        if call is None:
            raise CommandError("bad_command", f"no leg {name}")
        return call

    def _event(self, name: str, leg: Leg, **fields: object) -> None:
        self._emit({"ev": name, "leg": leg.name, **fields})
