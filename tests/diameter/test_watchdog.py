"""RFC 3539 Appendix A, row by row, and the machine on a manual clock."""

from __future__ import annotations

import pytest

from diameter.watchdog import WATCHDOG_TABLE, Watchdog, WatchdogAction, WatchdogEvent, WatchdogState

S, E, A = WatchdogState, WatchdogEvent, WatchdogAction
TW_S = 30.0


def build(state: WatchdogState, *, pending: bool = False, n_dwa: int = 0) -> Watchdog:
    watchdog = Watchdog(tw_s=TW_S, jitter=lambda: 0.0)
    watchdog.state = state
    watchdog._is_pending = pending
    watchdog._n_dwa = n_dwa
    watchdog._deadline = 0.0
    return watchdog


# state, pending, NumDWA, event -> state, pending, NumDWA, actions, timer set
ROWS = [
    (S.OKAY, True, 0, E.RECEIVE_DWA, S.OKAY, False, 0, (), True),
    (S.OKAY, True, 0, E.RECEIVE_NON_DWA, S.OKAY, True, 0, (), True),
    (S.SUSPECT, True, 0, E.RECEIVE_DWA, S.OKAY, False, 0, (A.FAILBACK,), True),
    (S.SUSPECT, True, 0, E.RECEIVE_NON_DWA, S.OKAY, True, 0, (A.FAILBACK,), True),
    (S.REOPEN, True, 2, E.RECEIVE_DWA, S.OKAY, False, 3, (A.FAILBACK,), False),
    (S.REOPEN, True, 1, E.RECEIVE_DWA, S.REOPEN, False, 2, (), False),
    (S.REOPEN, True, -1, E.RECEIVE_DWA, S.REOPEN, False, 0, (), False),
    (S.REOPEN, True, 0, E.RECEIVE_NON_DWA, S.REOPEN, True, 0, (A.THROWAWAY,), False),
    (S.INITIAL, True, 0, E.RECEIVE_DWA, S.INITIAL, False, 0, (A.THROWAWAY,), False),
    (S.INITIAL, False, 0, E.RECEIVE_NON_DWA, S.INITIAL, False, 0, (A.THROWAWAY,), False),
    (S.DOWN, True, 0, E.RECEIVE_DWA, S.DOWN, False, 0, (A.THROWAWAY,), False),
    (S.DOWN, False, 0, E.RECEIVE_NON_DWA, S.DOWN, False, 0, (A.THROWAWAY,), False),
    (S.OKAY, False, 0, E.TIMER, S.OKAY, True, 0, (A.SEND_WATCHDOG,), True),
    (S.OKAY, True, 0, E.TIMER, S.SUSPECT, True, 0, (A.FAILOVER,), True),
    (S.SUSPECT, True, 0, E.TIMER, S.DOWN, True, 0, (A.CLOSE_CONNECTION,), True),
    (S.INITIAL, False, 0, E.TIMER, S.INITIAL, False, 0, (A.ATTEMPT_OPEN,), True),
    (S.DOWN, False, 0, E.TIMER, S.DOWN, False, 0, (A.ATTEMPT_OPEN,), True),
    (S.REOPEN, False, 1, E.TIMER, S.REOPEN, True, 1, (A.SEND_WATCHDOG,), True),
    (S.REOPEN, True, 0, E.TIMER, S.REOPEN, True, -1, (), True),
    (S.REOPEN, True, -1, E.TIMER, S.DOWN, True, -1, (A.CLOSE_CONNECTION,), True),
    (S.INITIAL, True, 0, E.CONNECTION_UP, S.OKAY, False, 0, (), True),
    (S.DOWN, False, 3, E.CONNECTION_UP, S.REOPEN, True, 0, (A.SEND_WATCHDOG,), True),
    (S.OKAY, False, 0, E.CONNECTION_DOWN, S.DOWN, False, 0, (A.CLOSE_CONNECTION, A.FAILOVER), True),
    (S.SUSPECT, True, 0, E.CONNECTION_DOWN, S.DOWN, True, 0, (A.CLOSE_CONNECTION,), True),
    (S.REOPEN, True, 0, E.CONNECTION_DOWN, S.DOWN, True, 0, (A.CLOSE_CONNECTION,), True),
]


@pytest.mark.parametrize(
    ("state", "pending", "n_dwa", "event", "after", "pending_after", "n_dwa_after", "actions", "is_timer_set"), ROWS
)
def test_row(
    state: WatchdogState,
    pending: bool,
    n_dwa: int,
    event: WatchdogEvent,
    after: WatchdogState,
    pending_after: bool,
    n_dwa_after: int,
    actions: tuple[WatchdogAction, ...],
    is_timer_set: bool,
) -> None:
    watchdog = build(state, pending=pending, n_dwa=n_dwa)
    assert watchdog.handle(event, now=100.0) == actions
    assert (watchdog.state, watchdog.is_pending, watchdog._n_dwa) == (after, pending_after, n_dwa_after)
    assert watchdog._deadline == (130.0 if is_timer_set else 0.0)


def test_table_has_no_other_rows() -> None:
    printed = {(row[0], row[3]) for row in ROWS}
    assert printed == set(WATCHDOG_TABLE)
    assert len(ROWS) == sum(len(steps) for steps in WATCHDOG_TABLE.values()) + 1  # NumDWA < 2 is tried twice


EMPTY = [(state, event) for state in S for event in E if (state, event) not in {(row[0], row[3]) for row in ROWS}]


def test_cells_that_the_rfc_leaves_empty_are_these() -> None:
    assert set(EMPTY) == {
        (S.OKAY, E.CONNECTION_UP),
        (S.SUSPECT, E.CONNECTION_UP),
        (S.REOPEN, E.CONNECTION_UP),
        (S.DOWN, E.CONNECTION_DOWN),
        (S.INITIAL, E.CONNECTION_DOWN),
    }


@pytest.mark.parametrize(("state", "event"), EMPTY)
@pytest.mark.parametrize("pending", [False, True])
def test_events_out_of_place_change_nothing(state: WatchdogState, event: WatchdogEvent, pending: bool) -> None:
    watchdog = build(state, pending=pending, n_dwa=1)
    assert watchdog.handle(event, now=5.0) == ()
    assert (watchdog.state, watchdog.is_pending, watchdog._n_dwa, watchdog._deadline) == (state, pending, 1, 0.0)


@pytest.mark.parametrize("n_dwa", [-1, 0, 1, 2])
@pytest.mark.parametrize("pending", [False, True])
@pytest.mark.parametrize("event", list(E))
@pytest.mark.parametrize("state", list(S))
def test_exactly_one_row_holds(state: WatchdogState, event: WatchdogEvent, pending: bool, n_dwa: int) -> None:
    watchdog = build(state, pending=pending, n_dwa=n_dwa)
    steps = WATCHDOG_TABLE.get((state, event), ())
    assert sum(watchdog._holds(step.condition) for step in steps) == bool(steps)


def test_silent_peer_is_asked_suspected_and_dropped() -> None:
    watchdog = Watchdog(tw_s=TW_S, jitter=lambda: 0.0)
    watchdog.connection_up(now=0.0)
    assert watchdog.handle_timer(now=29.9) == ()
    assert watchdog.handle_timer(now=30.0) == (A.SEND_WATCHDOG,)
    assert watchdog.handle_timer(now=60.0) == (A.FAILOVER,)
    assert watchdog.state is S.SUSPECT
    assert watchdog.handle_timer(now=90.0) == (A.CLOSE_CONNECTION,)
    assert watchdog.next_deadline() is None


def test_traffic_keeps_the_peer_without_any_dwr() -> None:
    watchdog = Watchdog(tw_s=TW_S, jitter=lambda: 0.0)
    watchdog.connection_up(now=0.0)
    for now in range(0, 300, 20):
        assert watchdog.receive(is_dwa=False, now=float(now)) == ()
        assert watchdog.handle_timer(now=float(now)) == ()


def test_reopened_peer_needs_three_dwas() -> None:
    watchdog = build(S.DOWN)
    now = 0.0
    assert watchdog.connection_up(now=now) == (A.SEND_WATCHDOG,)
    for _ in range(2):
        watchdog.receive(is_dwa=True, now=now)
        assert watchdog.state is S.REOPEN
        now += TW_S
        assert watchdog.handle_timer(now=now) == (A.SEND_WATCHDOG,)
    assert watchdog.receive(is_dwa=True, now=now) == (A.FAILBACK,)
    assert watchdog.state is S.OKAY


@pytest.mark.parametrize(("tw_s", "spread_s"), [(30.0, 2.0), (6.0, 2.0), (0.3, 0.1)])
def test_jitter_is_two_seconds_or_a_third(tw_s: float, spread_s: float) -> None:
    for side in (-1.0, 1.0):
        watchdog = Watchdog(tw_s=tw_s, jitter=lambda side=side: side)
        watchdog.connection_up(now=0.0)
        assert watchdog.next_deadline() == pytest.approx(tw_s + side * spread_s)


def test_traffic_on_a_healthy_peer_is_the_row_of_the_table() -> None:
    short, walked = build(S.OKAY, pending=True), build(S.OKAY, pending=True)
    assert short.receive(is_dwa=False, now=5.0) == walked.handle(E.RECEIVE_NON_DWA, now=5.0)
    assert (short.state, short.is_pending, short.next_deadline()) == (S.OKAY, True, 5.0 + TW_S)
    assert (walked.state, walked.is_pending, walked.next_deadline()) == (S.OKAY, True, 5.0 + TW_S)
