"""Watchdog of one peer connection, RFC 3539 §3.4.1 and Appendix A, sans-IO.

The machine asks whether a peer that is connected still answers. It knows nothing of CER or DPR (that is
`diameter.peer`); it is told when the connection comes up or goes down and what arrives, and answers with actions.

```
INITIAL --up--> OKAY --Tw without DWA--> SUSPECT --Tw--> DOWN --up--> REOPEN --3 DWA--> OKAY
```

The table below is the one of the RFC, row by row. Two things stay with the owner: ATTEMPT_OPEN (our reconnect timer
Tc is finer, so INITIAL and DOWN need no timer of this machine) and THROWAWAY, which on an open connection we treat as
"counts for nothing here" and still deliver: with one HSS only, throwing away answers for three Tw helps nobody.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from attrs import field, frozen

__all__ = ["WATCHDOG_TABLE", "Watchdog", "WatchdogAction", "WatchdogEvent", "WatchdogState", "WatchdogStep"]

DWAS_TO_REOPEN = 3


class WatchdogState(Enum):
    INITIAL = "INITIAL"
    OKAY = "OKAY"
    SUSPECT = "SUSPECT"
    DOWN = "DOWN"
    REOPEN = "REOPEN"


class WatchdogEvent(Enum):
    RECEIVE_DWA = "Receive DWA"
    RECEIVE_NON_DWA = "Receive non-DWA"
    TIMER = "Timer expires"
    CONNECTION_UP = "Connection up"
    CONNECTION_DOWN = "Connection down"


class WatchdogAction(Enum):
    SEND_WATCHDOG = "SendWatchdog()"
    FAILOVER = "Failover()"
    FAILBACK = "Failback()"
    CLOSE_CONNECTION = "CloseConnection()"
    ATTEMPT_OPEN = "AttemptOpen()"
    THROWAWAY = "Throwaway()"


class _Do(Enum):
    """What a row does to the machine itself."""

    SET_WATCHDOG = "SetWatchdog()"
    PENDING = "Pending = TRUE"
    NOT_PENDING = "Pending = FALSE"
    COUNT_DWA = "NumDWA++"
    NO_DWA = "NumDWA = 0"
    MISSED_DWA = "NumDWA = -1"


class _If(Enum):
    """Condition of a row."""

    ALWAYS = ""
    PENDING = "Pending"
    NOT_PENDING = "!Pending"
    LAST_DWA = "NumDWA == 2"
    EARLY_DWA = "NumDWA < 2"
    FIRST_MISS = "Pending & NumDWA >= 0"
    SECOND_MISS = "Pending & NumDWA == -1"


@frozen
class WatchdogStep:
    """One row of the table."""

    condition: _If
    actions: tuple[WatchdogAction | _Do, ...]
    state: WatchdogState


_S, _E, _A = WatchdogState, WatchdogEvent, WatchdogAction


def _row(state: WatchdogState, *actions: WatchdogAction | _Do, when: _If = _If.ALWAYS) -> WatchdogStep:
    return WatchdogStep(when, actions, state)


WATCHDOG_TABLE: dict[tuple[WatchdogState, WatchdogEvent], tuple[WatchdogStep, ...]] = {
    (_S.OKAY, _E.RECEIVE_DWA): (_row(_S.OKAY, _Do.NOT_PENDING, _Do.SET_WATCHDOG),),
    (_S.OKAY, _E.RECEIVE_NON_DWA): (_row(_S.OKAY, _Do.SET_WATCHDOG),),
    (_S.SUSPECT, _E.RECEIVE_DWA): (_row(_S.OKAY, _Do.NOT_PENDING, _A.FAILBACK, _Do.SET_WATCHDOG),),
    (_S.SUSPECT, _E.RECEIVE_NON_DWA): (_row(_S.OKAY, _A.FAILBACK, _Do.SET_WATCHDOG),),
    (_S.REOPEN, _E.RECEIVE_DWA): (
        _row(_S.OKAY, _Do.NOT_PENDING, _Do.COUNT_DWA, _A.FAILBACK, when=_If.LAST_DWA),
        _row(_S.REOPEN, _Do.NOT_PENDING, _Do.COUNT_DWA, when=_If.EARLY_DWA),
    ),
    (_S.REOPEN, _E.RECEIVE_NON_DWA): (_row(_S.REOPEN, _A.THROWAWAY),),
    (_S.INITIAL, _E.RECEIVE_DWA): (_row(_S.INITIAL, _Do.NOT_PENDING, _A.THROWAWAY),),
    (_S.INITIAL, _E.RECEIVE_NON_DWA): (_row(_S.INITIAL, _A.THROWAWAY),),
    (_S.DOWN, _E.RECEIVE_DWA): (_row(_S.DOWN, _Do.NOT_PENDING, _A.THROWAWAY),),
    (_S.DOWN, _E.RECEIVE_NON_DWA): (_row(_S.DOWN, _A.THROWAWAY),),
    (_S.OKAY, _E.TIMER): (
        _row(_S.OKAY, _A.SEND_WATCHDOG, _Do.SET_WATCHDOG, _Do.PENDING, when=_If.NOT_PENDING),
        _row(_S.SUSPECT, _A.FAILOVER, _Do.SET_WATCHDOG, when=_If.PENDING),
    ),
    (_S.SUSPECT, _E.TIMER): (_row(_S.DOWN, _A.CLOSE_CONNECTION, _Do.SET_WATCHDOG),),
    (_S.INITIAL, _E.TIMER): (_row(_S.INITIAL, _A.ATTEMPT_OPEN, _Do.SET_WATCHDOG),),
    (_S.DOWN, _E.TIMER): (_row(_S.DOWN, _A.ATTEMPT_OPEN, _Do.SET_WATCHDOG),),
    (_S.REOPEN, _E.TIMER): (
        _row(_S.REOPEN, _A.SEND_WATCHDOG, _Do.SET_WATCHDOG, _Do.PENDING, when=_If.NOT_PENDING),
        _row(_S.REOPEN, _Do.MISSED_DWA, _Do.SET_WATCHDOG, when=_If.FIRST_MISS),
        _row(_S.DOWN, _A.CLOSE_CONNECTION, _Do.SET_WATCHDOG, when=_If.SECOND_MISS),
    ),
    (_S.INITIAL, _E.CONNECTION_UP): (_row(_S.OKAY, _Do.NOT_PENDING, _Do.SET_WATCHDOG),),
    (_S.DOWN, _E.CONNECTION_UP): (_row(_S.REOPEN, _Do.NO_DWA, _A.SEND_WATCHDOG, _Do.SET_WATCHDOG, _Do.PENDING),),
    (_S.OKAY, _E.CONNECTION_DOWN): (_row(_S.DOWN, _A.CLOSE_CONNECTION, _A.FAILOVER, _Do.SET_WATCHDOG),),
    (_S.SUSPECT, _E.CONNECTION_DOWN): (_row(_S.DOWN, _A.CLOSE_CONNECTION, _Do.SET_WATCHDOG),),
    (_S.REOPEN, _E.CONNECTION_DOWN): (_row(_S.DOWN, _A.CLOSE_CONNECTION, _Do.SET_WATCHDOG),),
}


@frozen
class _Tw:
    seconds: float = field()
    jitter: Callable[[], float]


class Watchdog:
    """The machine. `now` is any monotonic clock in seconds.

    Args:
        tw_s: Tw, the interval without traffic before a DWR; RFC 3539 §3.4.1 forbids less than 6 s in service.
        jitter: returns a number in [-1, 1]; scaled to ±2 s, for a Tw below 6 s to a third of Tw (RFC 3539 §3.4.1).
    """

    def __init__(self, *, tw_s: float, jitter: Callable[[], float]) -> None:
        self._tw = _Tw(tw_s, jitter)
        self._is_pending = False
        self._n_dwa = 0
        self._deadline: float | None = None
        self.state = WatchdogState.INITIAL

    @property
    def is_pending(self) -> bool:
        """True while a DWR of ours waits for its DWA."""
        return self._is_pending

    def next_deadline(self) -> float | None:
        """When `handle_timer` is due; None while nothing is connected."""
        return None if self.state in (WatchdogState.INITIAL, WatchdogState.DOWN) else self._deadline

    def connection_up(self, *, now: float) -> tuple[WatchdogAction, ...]:
        """The capabilities exchange has succeeded."""
        return self.handle(WatchdogEvent.CONNECTION_UP, now=now)

    def connection_down(self, *, now: float) -> tuple[WatchdogAction, ...]:
        """The connection is gone, for whatever reason."""
        return self.handle(WatchdogEvent.CONNECTION_DOWN, now=now)

    def receive(self, *, is_dwa: bool, now: float) -> tuple[WatchdogAction, ...]:
        """Any message has arrived."""
        if self.state is WatchdogState.OKAY and not is_dwa:
            self._set_watchdog(now)  # the row of nearly every message
            return ()
        return self.handle(WatchdogEvent.RECEIVE_DWA if is_dwa else WatchdogEvent.RECEIVE_NON_DWA, now=now)

    def handle_timer(self, *, now: float) -> tuple[WatchdogAction, ...]:
        """Call when `next_deadline` has passed; earlier calls do nothing."""
        if self._deadline is None or now < self._deadline:
            return ()
        return self.handle(WatchdogEvent.TIMER, now=now)

    def handle(self, event: WatchdogEvent, *, now: float) -> tuple[WatchdogAction, ...]:
        """Walks one row. An event that the table does not know in this state changes nothing."""
        for step in WATCHDOG_TABLE.get((self.state, event), ()):
            if self._holds(step.condition):
                return self._walk(step, now)
        return ()

    def _holds(self, condition: _If) -> bool:
        match condition:
            case _If.ALWAYS:
                return True
            case _If.PENDING:
                return self._is_pending
            case _If.NOT_PENDING:
                return not self._is_pending
            case _If.LAST_DWA:
                return self._n_dwa == DWAS_TO_REOPEN - 1
            case _If.EARLY_DWA:
                return self._n_dwa < DWAS_TO_REOPEN - 1
            case _If.FIRST_MISS:
                return self._is_pending and self._n_dwa >= 0
            case _If.SECOND_MISS:
                return self._is_pending and self._n_dwa == -1

    def _set_watchdog(self, now: float) -> None:
        tw_s = self._tw.seconds
        self._deadline = now + tw_s + self._tw.jitter() * min(2.0, tw_s / 3)

    def _walk(self, step: WatchdogStep, now: float) -> tuple[WatchdogAction, ...]:
        outward: list[WatchdogAction] = []
        for action in step.actions:
            match action:
                case _Do.SET_WATCHDOG:
                    self._set_watchdog(now)
                case _Do.PENDING:
                    self._is_pending = True
                case _Do.NOT_PENDING:
                    self._is_pending = False
                case _Do.COUNT_DWA:
                    self._n_dwa += 1
                case _Do.NO_DWA:
                    self._n_dwa = 0
                case _Do.MISSED_DWA:
                    self._n_dwa = -1
                case WatchdogAction():
                    outward.append(action)
        self.state = step.state
        return tuple(outward)
