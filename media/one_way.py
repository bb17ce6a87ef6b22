"""One-way audio: a call is talking, audio is expected both ways, and one of them stays empty.

Looked at once, a second after the call began to talk (or the party's address changed), and again after ten: so a party
that pauses without sending (DTX) is no trouble once anything has come, and neither is hold, ringing or early media.
What was found is told once, and once more when it is over.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import attrs

from media.control import StreamConfig
from media.leg import Leg
from media.levels import levels_of
from media.table import NEVER, TICK_MS, LegTable

__all__ = ["FIRST_TICKS", "SILENCE_TICKS", "OneWayWatch"]

FIRST_TICKS: Final = 1000 // TICK_MS
"""Within the first second something must have come."""
SILENCE_TICKS: Final = 10_000 // TICK_MS
"""A party that has sent nothing but digital silence for so long is not heard: a microphone is never so quiet."""
MIN_PACKETS: Final = 100
"""Fewer in that time: it pauses (DTX)."""

RECEIVE: Final = "receive"
SEND: Final = "send"


@attrs.define
class _State:
    """Of a leg that talks."""

    since: int
    address: tuple[str | None, int]
    has_source: bool
    troubles: dict[str, str] = attrs.Factory(dict)
    """Reason by direction."""


class OneWayWatch:
    """Of all legs.  ``emit`` gets the event ``one_way``: ``direction``, ``reason``, ``over``, ``at``."""

    def __init__(self, table: LegTable, leg_of: Callable[[int], Leg], emit: Callable[..., None]) -> None:
        self._table = table
        self._leg_of = leg_of
        self._emit = emit
        self._states: dict[int, _State] = {}

    def talking(self, leg: Leg, tick: int) -> bool:
        """The call is answered and acknowledged; said again it changes nothing, and False comes back."""
        if leg.row in self._states:
            return False
        config = leg.receiver.config
        has_source = int(self._table.last_rtp[leg.row]) >= 0
        self._states[leg.row] = _State(tick, (config.remote_host, config.remote_port), has_source)
        self._table.expect_at[leg.row] = tick + FIRST_TICKS
        return True

    def configured(self, leg: Leg, config: StreamConfig, tick: int) -> None:
        """The stream was modified: from another place audio is expected anew."""
        state = self._states.get(leg.row)
        if state is None:
            return
        address = config.remote_host, config.remote_port
        if address != state.address:
            state.address, state.since, state.has_source = address, tick, False
        if not state.has_source or RECEIVE in state.troubles:
            self._table.expect_at[leg.row] = tick + FIRST_TICKS

    def first_packet(self, leg: Leg, tick: int) -> None:
        """A packet of the party, the first from where it is now."""
        state = self._states.get(leg.row)
        if state is None:
            return
        state.has_source = True
        self._settle(leg, state, RECEIVE)
        self._table.expect_at[leg.row] = max(tick, state.since + SILENCE_TICKS)

    def peer_hears(self, leg: Leg, hears: bool) -> None:
        """What the party's RTCP says of our stream."""
        state = self._states.get(leg.row)
        if state is None:
            return
        if hears:
            self._settle(leg, state, SEND)
        elif leg.receiver.config.send:
            self._raise(leg, state, SEND, "rtcp-nothing-received")

    def forget(self, leg: Leg) -> None:
        self._states.pop(leg.row, None)

    def handle_timers(self, tick: int) -> None:
        """Looks at the legs whose time has come."""
        table = self._table
        for row in (table.expect_at[: table.high] <= tick).nonzero()[0].tolist():
            table.expect_at[row] = NEVER
            state = self._states.get(row)
            if state is not None:
                self._look(self._leg_of(row), state, tick)

    def _look(self, leg: Leg, state: _State, tick: int) -> None:
        table, row = self._table, leg.row
        if not leg.receiver.config.receive:
            return
        if not state.has_source:
            self._raise(leg, state, RECEIVE, _why_nothing(leg))
            return
        if tick < state.since + SILENCE_TICKS:
            table.expect_at[row] = state.since + SILENCE_TICKS
            return
        levels = levels_of(table.levels_in[row], 0)
        if levels.silent and int(table.packets_in[row]) >= MIN_PACKETS:
            self._raise(leg, state, RECEIVE, "digital-silence")
            table.expect_at[row] = tick + FIRST_TICKS
        else:
            self._settle(leg, state, RECEIVE)

    def _raise(self, leg: Leg, state: _State, direction: str, reason: str) -> None:
        if direction not in state.troubles:
            state.troubles[direction] = reason
            self._emit("one_way", leg, direction=direction, reason=reason, over=False, at=time.time())

    def _settle(self, leg: Leg, state: _State, direction: str) -> None:
        reason = state.troubles.pop(direction, None)
        if reason is not None:
            self._emit("one_way", leg, direction=direction, reason=reason, over=True, at=time.time())


def _why_nothing(leg: Leg) -> str:
    counters = leg.counters
    if counters.invalid or counters.srtp_invalid:
        return "invalid-packets"
    return "strangers" if counters.stranger else "no-packets"
