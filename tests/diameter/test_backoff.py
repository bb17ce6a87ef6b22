"""Pauses after DIAMETER_TOO_BUSY."""

from __future__ import annotations

import pytest

from diameter.backoff import BusyBackoff


def test_pauses_double_and_are_bounded() -> None:
    backoff = BusyBackoff(first_s=0.1, max_s=1.0)
    now, pauses = 0.0, []
    for _ in range(6):
        backoff.note_busy("HSS", now=now)
        length = next(step for step in range(1, 200) if not backoff.is_busy("hss", now=now + step / 100)) / 100
        pauses.append(length)
        now += length
    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0, 1.0])


def test_answers_under_way_do_not_count() -> None:
    backoff = BusyBackoff(first_s=0.1)
    for _ in range(50):
        backoff.note_busy("hss", now=0.05)
    backoff.note_served("hss", now=0.1)
    assert backoff.is_busy("hss", now=0.149)
    assert not backoff.is_busy("hss", now=0.151)


def test_good_answer_ends_it() -> None:
    backoff = BusyBackoff(first_s=0.1)
    backoff.note_busy("hss", now=0.0)
    backoff.note_served("HSS", now=0.2)
    assert len(backoff.pauses) == 0
    backoff.note_served("nobody", now=0.2)
    backoff.note_busy("hss", now=1.0)
    assert not backoff.is_busy("hss", now=1.1)


def test_hosts_are_bounded() -> None:
    backoff = BusyBackoff(max_hosts=2)
    for host in "abc":
        backoff.note_busy(host, now=0.0)
    assert [backoff.is_busy(host, now=0.01) for host in "abc"] == [False, True, True]
