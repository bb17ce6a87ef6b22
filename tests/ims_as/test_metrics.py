from __future__ import annotations

import re

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from ims_as.errors import Result, Termination
from ims_as.oss.metrics import MAX_LABEL_SETS, MetricKind, Metrics, sip_method_label


def sample(metrics: Metrics, name: str, **labels: str | int) -> float | None:
    return metrics.registry.get_sample_value(name, {key: str(value) for key, value in labels.items()})


def test_both_text_formats_can_be_read_by_their_parsers() -> None:
    metrics = Metrics()
    metrics.count_call(Termination(Result.ANSWERED, "caller", "bye"))
    metrics.setup_seconds.observe(0.007)
    text, content_type = metrics.render()
    assert content_type.startswith("text/plain")
    names = {family.name for family in text_string_to_metric_families(text.decode())}
    assert {"ims_as_calls", "ims_as_call_setup_seconds", "ims_as_build_info", "process_cpu_seconds"} <= names
    text, content_type = metrics.render("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert {family.name for family in parse_openmetrics(text.decode())} == names
    assert not [name for name in names if name.endswith("_created")]


def test_table_is_complete_and_follows_the_naming_rules() -> None:
    specs = Metrics().specs
    assert len({spec.name for spec in specs}) == len(specs)
    for spec in specs:
        assert re.fullmatch(r"ims_as_[a-z][a-z0-9_]*", spec.name)
        assert not spec.help[0].islower()
        assert spec.help.endswith(".")
        assert not spec.name.endswith("_total")
        if spec.kind is MetricKind.HISTOGRAM:
            assert spec.name.endswith(("_seconds", "_mos"))
            assert list(spec.buckets) == sorted(set(spec.buckets))


def test_two_servers_in_one_process_do_not_share_metrics() -> None:
    one, other = Metrics(), Metrics()
    one.failovers.inc()
    assert sample(one, "ims_as_failovers_total") == 1
    assert sample(other, "ims_as_failovers_total") == 0


def test_label_values_are_bounded() -> None:
    metrics = Metrics()
    for number in range(MAX_LABEL_SETS + 50):
        metrics.engine_failures.labels(f"cause-{number}").inc()
    assert sample(metrics, "ims_as_engine_failures_total", cause="cause-0") == 1
    assert sample(metrics, "ims_as_engine_failures_total", cause="other") == 50
    metrics.engine_failures.labels("cause-0").inc()
    assert sample(metrics, "ims_as_engine_failures_total", cause="cause-0") == 2


def test_wrong_number_of_labels_is_refused() -> None:
    with pytest.raises(ValueError, match="2 label values where 1"):
        Metrics().transfers.labels("a", "b")


def test_sip_messages_of_unknown_method_are_counted_as_other() -> None:
    metrics = Metrics()
    metrics.count_sip("in", "INVITE")
    metrics.count_sip("out", "INVITE", 200)
    metrics.count_sip("in", "X" * 500)
    assert sample(metrics, "ims_as_sip_messages_total", method="INVITE", status="", direction="in") == 1
    assert sample(metrics, "ims_as_sip_messages_total", method="INVITE", status="200", direction="out") == 1
    assert sample(metrics, "ims_as_sip_messages_total", method="other", status="", direction="in") == 1
    assert sip_method_label("BYE") == "BYE"


def test_running_totals_kept_elsewhere_are_followed() -> None:
    metrics = Metrics()
    totals = {"malformed": 0}
    metrics.before_scrape(lambda: metrics.follow_all(metrics.sip_rejected, totals))
    metrics.before_scrape(lambda: metrics.follow(metrics.sip_retransmissions, 7))
    for total, expected in ((3, 3), (3, 3), (5, 5), (2, 7)):
        totals["malformed"] = total
        metrics.render()
        assert sample(metrics, "ims_as_sip_rejected_total", reason="malformed") == expected
    assert sample(metrics, "ims_as_sip_retransmissions_total") == 7


def test_peer_state_is_one_of_several() -> None:
    metrics = Metrics()
    metrics.set_peer_state("hss", "WAIT_I_CEA", is_open=False)
    metrics.set_peer_state("hss", "I_OPEN", is_open=True)
    assert sample(metrics, "ims_as_diameter_peer_state", peer="hss", state="WAIT_I_CEA") == 0
    assert sample(metrics, "ims_as_diameter_peer_state", peer="hss", state="I_OPEN") == 1
    assert sample(metrics, "ims_as_diameter_peer_up", peer="hss") == 1


def test_peers_that_are_no_more_are_closed() -> None:
    metrics = Metrics()
    metrics.set_peer_state("hss", "I-Open", is_open=True)
    metrics.set_peer_state("hss2", "R-Open", is_open=True)
    metrics.keep_peers({"hss"})
    assert sample(metrics, "ims_as_diameter_peer_up", peer="hss") == 1
    assert sample(metrics, "ims_as_diameter_peer_up", peer="hss2") == 0
    assert sample(metrics, "ims_as_diameter_peer_state", peer="hss2", state="R-Open") == 0


def test_reductions_end() -> None:
    metrics = Metrics()
    metrics.set_reductions({"hss": 30, "realm": 10})
    metrics.set_reductions({"hss": 40})
    assert sample(metrics, "ims_as_diameter_overload_reduction_percent", node="hss") == 40
    assert sample(metrics, "ims_as_diameter_overload_reduction_percent", node="realm") == 0
