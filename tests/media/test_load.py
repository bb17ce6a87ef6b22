"""The load that a worker reports."""

import pytest

from media.load import LoadMeter


def window(meter: LoadMeter, start: float, *, busy_s: float, late_s: float = 0.0) -> None:
    """A second of passes, one each 5 ms."""
    for i in range(200):
        due = start + i * 0.005
        meter.begin(due + late_s, due)
        meter.end(due + late_s + busy_s)


def test_load_is_the_share_of_time_at_work():
    meter = LoadMeter(10.0, 1.0)
    window(meter, 10.0, busy_s=0.002)
    meter.close_window(11.0, 1.35)
    assert meter.load == pytest.approx(0.4)
    assert meter.cpu == pytest.approx(0.35)
    assert meter.waited == 0


def test_time_that_the_machine_keeps_the_core_from_us_counts():
    meter = LoadMeter(10.0, 1.0)
    window(meter, 10.0, busy_s=0.001, late_s=0.0025)
    meter.close_window(11.0, 1.2)
    assert meter.waited == pytest.approx(0.4)
    assert meter.load == pytest.approx(0.6)


def test_a_pass_that_is_late_because_of_the_one_before_has_not_waited():
    meter = LoadMeter(0.0, 0.0)
    meter.begin(0.0, 0.0)
    meter.end(0.012)
    meter.begin(0.012, 0.005)
    meter.end(0.013)
    meter.close_window(0.1, 0.013)
    assert meter.waited == 0
    assert meter.latest == pytest.approx(0.13)


def test_cpu_time_is_the_least():
    meter = LoadMeter(0.0, 0.0)
    meter.close_window(1.0, 0.7)
    assert meter.load == pytest.approx(0.7)


def test_a_rise_is_believed_sooner_than_a_fall():
    meter = LoadMeter(0.0, 0.0)
    meter.close_window(1.0, 0.2)
    meter.close_window(2.0, 1.2)
    assert meter.load == pytest.approx(0.2 + 0.6 * 0.8)
    meter.close_window(3.0, 1.2)
    assert meter.load == pytest.approx(0.68 * 0.7)
    assert meter.latest == 0
