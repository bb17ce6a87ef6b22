"""What is known of a stream received, against a count of every packet."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.reception import GMIN, Bursts, Reception


def counted(fates: list[bool]) -> tuple[list[int], int]:
    """By the definition: the bursts of a stream (length each), and how many packets were lost in them."""
    losses = [n for n, came in enumerate(fates) if not came]
    runs: list[list[int]] = []
    for n in losses:
        if runs and n - runs[-1][-1] - 1 < GMIN:
            runs[-1].append(n)
        else:
            runs.append([n])
    bursts = [run for run in runs if len(run) > 1]
    return [run[-1] - run[0] + 1 for run in bursts], sum(map(len, bursts))


def received(fates: list[bool], first: int) -> tuple[Reception, int, int]:
    """Feeds a stream whose first and last packets came; the highest sequence number and the counter of packets."""
    reception, packets, at = Reception.starting(first, 1), 0, first
    for came, group in itertools.groupby(fates):
        n = len(list(group))
        if came:
            packets += n
        else:
            reception.lost(at & 0xFFFF, n, packets)
        at += n
    return reception, (at - 1) & 0xFFFF, packets


@given(st.lists(st.sampled_from([True, True, True, False]), max_size=300), st.integers(0, 0xFFFF), st.integers(0, 40))
def test_losses_and_bursts_are_those_of_the_definition(middle: list[bool], first: int, calm: int) -> None:
    fates = [True, *middle, *[True] * calm, True]
    reception, highest, packets = received(fates, first)
    summary = reception.summarise(highest, packets)
    lost = fates.count(False)
    assert (summary.expected, summary.received, summary.given_up) == (len(fates), packets, lost)
    assert summary.highest == first + len(fates) - 1
    assert summary.fraction_lost == lost / len(fates)
    lengths, in_bursts = counted(fates)
    outside = len(fates) - sum(lengths)
    assert summary.bursts == Bursts(
        burst_density=in_bursts / sum(lengths) if lengths else 0.0,
        gap_density=(lost - in_bursts) / outside,
        burst_packets=sum(lengths) / len(lengths) if lengths else 0.0,
        gap_packets=outside / (len(lengths) + 1),
    )


@pytest.mark.parametrize(("good", "is_burst"), [(GMIN - 1, True), (GMIN, False)])
def test_so_many_good_packets_end_a_burst(good: int, is_burst: bool) -> None:
    fates = [*[True] * 40, False, *[True] * good, False, *[True] * 40]
    reception, highest, packets = received(fates, 65530)
    bursts = reception.summarise(highest, packets).bursts
    assert bursts.burst_packets == (good + 2 if is_burst else 0)
    assert (bursts.gap_density == 0) == is_burst


def test_a_fraction_is_that_since_the_last_summary() -> None:
    reception = Reception.starting(10, 1)
    assert reception.summarise(19, 10).fraction_lost == 0
    reception.lost(20, 5, 10)
    assert reception.summarise(29, 15).fraction_lost == 0.5
    assert reception.summarise(39, 25).fraction_lost == 0
    summary = reception.summarise(39, 25)
    assert (summary.fraction_lost, summary.expected, summary.received) == (0, 30, 25)


def test_duplicates_are_no_negative_loss() -> None:
    reception = Reception.starting(10, 1)
    summary = reception.summarise(12, 6)
    assert (summary.fraction_lost, summary.expected - summary.received) == (0, -3)


@pytest.mark.parametrize("minutes", [1, 30, 300])
def test_numbers_go_round_between_summaries(minutes: int) -> None:
    n = minutes * 3000
    reception = Reception.starting(65000, 1)
    assert reception.summarise((65000 + n - 1) & 0xFFFF, n).highest == 65000 + n - 1
    reception.lost((65000 + n) & 0xFFFF, 1, n)
    reception.lost((65000 + 2 * n) & 0xFFFF, 1, 2 * n - 1)
    assert reception.summarise((65000 + 2 * n) & 0xFFFF, 2 * n - 1).bursts.burst_packets == 0


def test_what_begins_with_number_zero() -> None:
    reception = Reception.starting(0, 8)
    summary = reception.summarise(0, 8)
    assert (summary.highest, summary.expected, summary.received) == (0, 1, 1)
