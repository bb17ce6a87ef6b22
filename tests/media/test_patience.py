"""How long a leg waits for what is missing."""

from __future__ import annotations

from media.order import MAX_WAIT_TICKS
from media.patience import FORGET_TICKS, USUAL_WAIT_TICKS, Patience


def test_a_steady_network_is_waited_for_as_usual() -> None:
    patience = Patience()
    assert patience.wait_ticks(0.0, 100) == USUAL_WAIT_TICKS
    assert patience.beyond_usual_ticks(0.0, 100) == 0


def test_what_came_too_late_is_learned_at_once_and_forgotten_slowly() -> None:
    patience = Patience()
    patience.given_up(65535, 2, opened=100)
    assert patience.came_after_all(0, tick=111)
    assert patience.wait_ticks(0.0, 111) == 12
    assert patience.beyond_usual_ticks(0.0, 111) == 12 - USUAL_WAIT_TICKS
    assert patience.wait_ticks(0.0, 111 + 3 * FORGET_TICKS) == 9
    assert patience.wait_ticks(0.0, 111 + 100 * FORGET_TICKS) == USUAL_WAIT_TICKS
    assert patience.wait_ticks(20.0, 111) == MAX_WAIT_TICKS


def test_a_duplicate_teaches_nothing() -> None:
    patience = Patience()
    patience.given_up(10, 2, opened=100)
    assert not patience.came_after_all(9, tick=111)
    assert not patience.came_after_all(12, tick=111)
    assert patience.wait_ticks(0.0, 111) == USUAL_WAIT_TICKS


def test_what_is_hopelessly_late_is_not_waited_for_longer_than_bearable() -> None:
    patience = Patience()
    patience.given_up(10, 1, opened=100)
    assert patience.came_after_all(10, tick=5000)
    assert patience.wait_ticks(0.0, 5000) == MAX_WAIT_TICKS


def test_another_source_has_other_sequence_numbers_on_the_same_network() -> None:
    patience = Patience()
    patience.given_up(10, 1, opened=100)
    assert patience.came_after_all(10, tick=110)
    patience.given_up(20, 1, opened=200)
    patience.restart()
    assert not patience.came_after_all(20, tick=210)
    assert patience.wait_ticks(0.0, 210) == 11
