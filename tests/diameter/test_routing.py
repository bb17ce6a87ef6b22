"""Choice of the peer and of the time to try again."""

from __future__ import annotations

import pytest
from attrs import evolve

from diameter.dictionary.base import RELAY_APPLICATION_ID
from diameter.routing import ReconnectTimer, Route, choose_route
from diameter.watchdog import WatchdogState

SH = 16777217


def route(name: str, state: WatchdogState = WatchdogState.OKAY, *applications: int) -> Route:
    return Route(name, f"{name}.example.net", frozenset(applications or (SH,)), state)


def choose(*routes: Route, **wanted: object) -> str | None:
    found = choose_route(routes, application_id=SH, **wanted)  # type: ignore[arg-type]
    return None if found is None else str(found.connection)


def test_order_of_the_configuration_counts() -> None:
    assert choose(route("a"), route("b")) == "a"
    assert choose() is None


def test_named_host_goes_first_when_it_is_there() -> None:
    assert choose(route("a"), route("b"), destination_host="B.example.net") == "b"
    assert choose(route("a"), route("b"), destination_host="c.example.net") == "a"


@pytest.mark.parametrize(
    ("first", "second", "chosen"),
    [
        (WatchdogState.OKAY, WatchdogState.OKAY, "a"),
        (WatchdogState.REOPEN, WatchdogState.OKAY, "b"),
        (WatchdogState.SUSPECT, WatchdogState.OKAY, "b"),
        (WatchdogState.SUSPECT, WatchdogState.REOPEN, "b"),
        (WatchdogState.REOPEN, WatchdogState.SUSPECT, "a"),
        (WatchdogState.SUSPECT, WatchdogState.SUSPECT, None),
        (WatchdogState.DOWN, WatchdogState.INITIAL, None),
    ],
)
def test_watchdog_states(first: WatchdogState, second: WatchdogState, chosen: str | None) -> None:
    assert choose(route("a", first), route("b", second)) == chosen


def test_silent_peers_come_last() -> None:
    silent = evolve(route("a"), is_silent=True)
    assert choose(silent, route("b")) == "b"
    assert choose(silent, route("b", WatchdogState.REOPEN), destination_host="a.example.net") == "b"
    assert choose(silent, evolve(route("b"), is_silent=True)) == "a"
    assert choose(silent) == "a"


def test_only_peers_of_the_application_or_relays() -> None:
    assert choose(route("a", WatchdogState.OKAY, 4), route("b", WatchdogState.OKAY, RELAY_APPLICATION_ID)) == "b"
    assert route("a", WatchdogState.OKAY, 4).serves(0)


def test_connections_that_had_it_are_left_out() -> None:
    assert choose(route("a"), route("b"), excluded={"a"}) == "b"
    assert choose(route("a"), excluded={"a"}) is None


def test_retries_start_soon_and_become_rare() -> None:
    timer = ReconnectTimer(first_s=0.2, max_s=30.0)
    delays = [timer.next_delay_s() for _ in range(10)]
    assert delays == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0])
    timer.reset()
    assert timer.next_delay_s() == 0.2
    timer.hold_off()
    assert timer.next_delay_s() == 30.0
