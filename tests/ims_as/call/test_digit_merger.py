"""Each key press once: all the ways in which reports of presses can interleave."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ims_as.call.digit_merger import MAX_WAITING, DigitMerger, DigitSource, source_of

SOURCES: tuple[DigitSource, ...] = ("rtp", "inband", "info")
DELAY_S = {"rtp": (0.0, 0.15), "inband": (0.03, 0.3), "info": (0.0, 0.9)}
"""From the end of a press to its report."""

presses = st.lists(st.tuples(st.sampled_from("123#"), st.integers(40, 400), st.integers(40, 1500)), max_size=12)
"""Digit, its length, the pause behind it, ms."""


def reports(
    data: st.DataObject, pressed: list[tuple[str, int, int]], source: DigitSource
) -> list[tuple[float, DigitSource, str, int]]:
    """What a source says of all presses, in their order."""
    found: list[tuple[float, DigitSource, str, int]] = []
    at = last = 0.0
    for digit, length_ms, pause_ms in pressed:
        at += length_ms / 1000
        said = max(last, at + data.draw(st.floats(*DELAY_S[source])))
        last = said
        found.append((said, source, digit, length_ms))
        at += pause_ms / 1000
    return found


@given(presses, st.sets(st.sampled_from(SOURCES), min_size=1), st.data())
def test_each_press_once_in_order_however_reports_interleave(
    pressed: list[tuple[str, int, int]], sources: set[DigitSource], data: st.DataObject
) -> None:
    said = sorted(report for source in sorted(sources) for report in reports(data, pressed, source))
    merger = DigitMerger()
    heard = [digit for now, source, digit, length in said if merger.is_new(source, digit, length, now=now)]
    assert heard == [digit for digit, _, _ in pressed]


@given(st.lists(st.sampled_from("12#"), max_size=8), st.data())
def test_reports_that_are_lost_cost_no_digit_and_double_none(pressed: list[str], data: st.DataObject) -> None:
    """With pauses longer than the slack each press is told by what is left of its reports."""
    merger, heard, now = DigitMerger(), [], 0.0
    for digit in pressed:
        now += 3.0
        kept = data.draw(st.lists(st.sampled_from(SOURCES), unique=True, min_size=1))
        for i, source in enumerate(kept):
            if merger.is_new(source, digit, 100, now=now + 0.1 * i):
                heard.append(digit)
    assert heard == pressed


def test_one_way_only() -> None:
    merger = DigitMerger()
    for source, digit in zip(SOURCES, "123", strict=True):
        assert all(merger.is_new(source, digit, 100, now=now) for now in (0.0, 0.2, 0.4))


@pytest.mark.parametrize("order", [("info", "rtp"), ("rtp", "info"), ("inband", "rtp"), ("info", "inband")])
def test_both_ways_in_either_order(order: tuple[DigitSource, DigitSource]) -> None:
    merger = DigitMerger()
    for press in range(3):
        assert merger.is_new(order[0], "5", 100, now=press * 0.3)
        assert not merger.is_new(order[1], "5", 100, now=press * 0.3 + 0.05)


def test_a_gateway_that_leaks_the_tones_of_its_events() -> None:
    merger = DigitMerger()
    for press in range(3):
        at = press * 0.14
        assert merger.is_new("rtp", "7", 80, now=at)
        assert not merger.is_new("inband", "7", 78, now=at + 0.06)


def test_info_at_the_press_and_rtp_at_the_release_of_a_long_one() -> None:
    merger = DigitMerger()
    assert merger.is_new("info", "5", 160, now=0.0)
    assert not merger.is_new("rtp", "5", 4000, now=4.0)
    assert not merger.is_new("inband", "5", 3990, now=4.05)


def test_another_digit_or_another_time_is_new() -> None:
    merger = DigitMerger()
    assert merger.is_new("rtp", "5", 100, now=0.0)
    assert merger.is_new("info", "6", 100, now=0.1)
    assert merger.is_new("info", "5", 100, now=3.0)
    assert merger.is_new("inband", "5", 100, now=5.0)


def test_memory_is_bounded() -> None:
    merger = DigitMerger()
    for _ in range(1000):
        merger.is_new("rtp", "5", 100, now=0.0)
    assert len(merger._presses) <= MAX_WAITING + 1


def test_what_a_worker_calls_its_source() -> None:
    assert [source_of(name) for name in ("rtp", "inband", None, "smoke")] == ["rtp", "inband", "rtp", "rtp"]
