from __future__ import annotations

import attrs
import pytest

from media.quality import (
    EModel,
    Rating,
    absolute_delay,
    best_rating,
    effective_impairment,
    impairment_of,
    mos_of,
    r_of_mos,
    rating,
)


def test_all_defaults_give_the_rating_of_the_recommendation() -> None:
    model = EModel()
    assert round(model.r(), 1) == 93.2
    # to the sixth place as another implementation of the whole of G.107 has it
    assert model.r() == pytest.approx(93.206208, abs=1e-6)
    assert round(mos_of(model.r()), 2) == 4.41
    assert round(model.basic_ratio(), 1) == 94.8
    assert round(model.simultaneous(), 2) == 1.41


@pytest.mark.parametrize(
    ("r", "mos"),
    [(90, 4.34), (80, 4.02), (70, 3.60), (60, 3.10), (50, 2.58), (0, 1.0), (-5, 1.0), (100, 4.5), (129, 4.5), (3, 1.0)],
)
def test_mos_of_annex_b(r: float, mos: float) -> None:
    """The classes of Table B.1, the limits, and the dip below 1 that the formula has near 0."""
    assert mos_of(r) == pytest.approx(mos, abs=0.006)


@pytest.mark.parametrize("r", [7, 20, 50, 70, 93.2, 99.9])
def test_a_rating_comes_back_from_its_mos(r: float) -> None:
    assert r_of_mos(mos_of(r)) == pytest.approx(r, abs=0.01)


def test_rating_of_impossible_mos_is_the_limit() -> None:
    assert r_of_mos(0.5) == pytest.approx(6.5, abs=0.1)
    assert r_of_mos(5) == pytest.approx(100, abs=0.1)


@pytest.mark.parametrize(
    ("delay_ms", "r"), [(0, 93.2), (100, 90.7), (150, 89.5), (200, 85.8), (300, 72.7), (500, 54.8)]
)
def test_delay_with_the_default_echo(delay_ms: float, r: float) -> None:
    """The curve of G.131 Figure 1 / G.107 for TELR 65 dB: all of a call's echo path."""
    model = EModel(mean_delay_ms=delay_ms, round_trip_ms=2 * delay_ms, absolute_delay_ms=delay_ms)
    assert model.r() == pytest.approx(r, abs=0.06)


def test_delay_alone() -> None:
    assert absolute_delay(100) == 0
    assert absolute_delay(400) == pytest.approx(24.1, abs=0.05)
    assert absolute_delay(150.0) < absolute_delay(151.0)


def test_short_sidetone_and_loud_sidetone_are_used() -> None:
    base = EModel(mean_delay_ms=50, round_trip_ms=100, absolute_delay_ms=50)
    assert attrs.evolve(base, stmr=5.0).talker_echo() != base.talker_echo()
    assert attrs.evolve(base, stmr=25.0).talker_echo() > base.talker_echo()


@pytest.mark.parametrize(
    ("codec", "mode", "ie", "bpl"),
    [
        ("PCMA", None, 0, 25.1),
        ("pcmu", None, 0, 25.1),
        ("G711-NOPLC", None, 0, 4.3),
        ("G729", None, 11, 19.0),
        ("AMR", None, 5, 10.0),
        ("AMR", 7, 5, 10.0),
    ],
)
def test_planning_values(codec: str, mode: int | None, ie: float, bpl: float) -> None:
    found = impairment_of(codec, mode)
    assert (found.ie, found.bpl, found.is_planning_value, found.is_wideband) == (ie, bpl, True, False)


def test_estimates_say_so() -> None:
    for codec, mode in (("AMR", 0), ("AMR-WB", 2), ("OPUS", None), ("L16", None), ("EVS", None)):
        assert not impairment_of(codec, mode).is_planning_value


def test_a_mode_that_does_not_exist_is_the_usual_one() -> None:
    assert impairment_of("AMR-WB", 15) == impairment_of("AMR-WB") == impairment_of("AMR-WB", 2)


def test_half_of_the_quality_is_gone_at_bpl() -> None:
    assert effective_impairment(11, 19.0, 19.0, 1.0) == pytest.approx(11 + 84 / 2)


def test_loss_in_bursts_is_worse_and_none_is_none() -> None:
    random = rating("PCMA", 5, 1.0)
    bursts = rating("PCMA", 5, 3.0)
    assert bursts.mos_lq < random.mos_lq < best_rating("PCMA").mos_lq
    assert rating("PCMA", 0, 3.0) == best_rating("PCMA")


def test_without_concealment_loss_costs_more() -> None:
    assert rating("G711-NOPLC", 1).r < rating("PCMA", 1).r


def test_delay_is_in_the_conversation_only() -> None:
    near, far = rating("G729", 1), rating("G729", 1, 1.0, 400)
    assert near.mos_lq == far.mos_lq
    assert near.mos_cq == near.mos_lq
    assert far.mos_cq < near.mos_cq - 0.5


def test_best_of_the_codecs() -> None:
    assert best_rating("PCMA") == Rating(93.2, 4.41, 4.41, "nb")
    assert best_rating("G729").r == 82.2
    wide = best_rating("AMR-WB")
    assert (wide.r, wide.scale) == (116.0, "wb")
    assert wide.mos_lq == round(mos_of(116 / 1.29), 2)
    assert best_rating("L16").r == 129


def test_r_factor_of_xr_is_always_of_a_hundred() -> None:
    assert best_rating("L16").r_factor == 100
    assert best_rating("PCMU").r_factor == 93
    assert rating("AMR-WB", 100, 10, 2000).r_factor == 0


@pytest.mark.parametrize("loss", [-3.0, 0.0, 50.0, 100.0, 1e9])
@pytest.mark.parametrize("burst", [0.0, 1.0, 1e6])
@pytest.mark.parametrize("delay", [-10.0, 0.0, 1e5])
def test_whatever_was_measured_gives_a_rating(loss: float, burst: float, delay: float) -> None:
    for codec in ("PCMA", "AMR-WB"):
        found = rating(codec, loss, burst, delay)
        assert 1 <= found.mos_cq <= found.mos_lq <= 4.5
        assert 0 <= found.r <= 129
