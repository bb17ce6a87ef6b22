"""Placement of legs by load."""

import pytest

from ims_as.media_placement import COSTS, CostModel, WorkerLoad


def test_a_burst_between_two_reports_is_estimated():
    load = WorkerLoad(CostModel())
    load.report(0.3, 0.3, 1.0)
    for i in range(20):
        load.note(f"l{i}", "AMR-WB", now=100.0)
    assert load.estimate(now=100.0) == pytest.approx(0.3 + 20 * COSTS["AMR-WB"])
    assert load.estimate(now=110.0) == pytest.approx(0.3, abs=0.001), "by then the reports show it"
    for i in range(20):
        load.forget(f"l{i}", now=100.0)
    assert load.estimate(now=100.0) == pytest.approx(0.3)
    assert not load.legs


def test_many_short_calls_do_not_add_up():
    load = WorkerLoad(CostModel())
    load.report(0.2, 0.2, 1.0)
    for i in range(1000):
        now = i * 0.01
        load.note(f"l{i}", "PCMU", now=now)
        if i >= 10:
            load.forget(f"l{i - 10}", now=now)
    assert load.estimate(now=10.0) == pytest.approx(0.2, abs=0.02)


def test_room_depends_on_the_codec():
    load = WorkerLoad(CostModel())
    load.report(0.845, 0.845, 1.0)
    assert load.has_room("PCMU", 0.85, now=0.0)
    assert not load.has_room("AMR-WB", 0.85, now=0.0)
    assert not load.has_room("a codec that nobody knows", 0.85, now=0.0)
    assert load.has_room("AMR-WB", 1.0, now=0.0)


def test_a_codec_changed_in_the_call_counts_as_the_new_one():
    load = WorkerLoad(CostModel())
    load.note("l1", "PCMU", now=0.0)
    load.note("l1", "AMR-WB", now=0.0)
    assert dict(load.legs) == {"AMR-WB": 1}
    assert load.estimate(now=0.0) == pytest.approx(COSTS["AMR-WB"])


@pytest.mark.parametrize("true_factor", [0.5, 1.0, 2.5])
def test_costs_are_learned_from_reports(true_factor):
    costs = CostModel()
    loads = [WorkerLoad(costs), WorkerLoad(costs)]
    for i in range(100):
        loads[0].note(f"l{i}", "PCMU", now=0.0)
    for i in range(30):
        loads[1].note(f"l{i}", "AMR-WB", now=0.0)
    for load in loads:
        load.report(0.0, 0.0, 0.0)  # the legs have just come: nothing is learned from it
    for _ in range(40):
        loads[0].report(0.13, 100 * COSTS["PCMU"], 0.0)
        loads[1].report(0.3, 30 * COSTS["AMR-WB"] * true_factor, 0.0)
    assert costs.cost("PCMU") == pytest.approx(COSTS["PCMU"], rel=0.02)
    assert costs.cost("AMR-WB") == pytest.approx(COSTS["AMR-WB"] * true_factor, rel=0.02)


def test_few_legs_teach_nothing():
    costs = CostModel()
    load = WorkerLoad(costs)
    load.note("l1", "PCMU", now=0.0)
    for _ in range(50):
        load.report(0.4, 0.4, 0.0)
    assert costs.cost("PCMU") == COSTS["PCMU"]
