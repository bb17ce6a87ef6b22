"""The list of alarms and the table behind it."""

import json
from pathlib import Path

import pytest

from ims_as.oss import alarms as module
from ims_as.oss.alarm_table import ALARMS, AlarmSeverity, as_markdown
from ims_as.oss.alarms import Alarm, AlarmChange, AlarmList

ROOT = Path(__file__).parents[3]


def make() -> tuple[AlarmList, list[tuple[str, str, str]]]:
    changes: list[tuple[str, str, str]] = []

    def note(change: AlarmChange, alarm: Alarm) -> None:
        changes.append((change.value, alarm.definition.name, alarm.object))

    return AlarmList("7-", on_change=note), changes


def test_the_document_is_the_table():
    path = ROOT / "docs" / "alarms.md"
    assert path.read_text() == as_markdown(), "python -m ims_as.oss.alarm_table > docs/alarms.md"


def test_every_alarm_says_all_that_an_operator_needs():
    for definition in ALARMS.values():
        texts = (definition.problem, definition.object, definition.raised, definition.cleared)
        assert all(texts)
        for sentence in (definition.cause, definition.effect, definition.action):
            assert sentence.endswith("."), sentence
        assert "|" not in "".join(texts)


def test_once_raised_however_often_it_is_noticed():
    alarms, changes = make()
    first = alarms.raise_alarm("hss-peer-down", "tcp:a:3868", "refused", now=10.0)
    again = alarms.raise_alarm("hss-peer-down", "tcp:a:3868", "silent", now=12.0)
    assert first is again is not None
    assert (first.id, first.count, first.raised_at, first.noticed_at, first.detail) == ("7-1", 2, 10.0, 12.0, "silent")
    alarms.raise_alarm("hss-peer-down", "tcp:b:3868", now=13.0)
    assert len(alarms.active()) == 2
    assert [change for change, *_ in changes] == ["raised", "raised"]


def test_clearing_is_told_once_and_remembered():
    alarms, changes = make()
    assert alarms.clear("hss-unreachable", "realm", now=1.0) is None
    alarms.raise_alarm("hss-unreachable", "realm", now=2.0)
    assert alarms.is_active("hss-unreachable", "realm")
    assert alarms.clear("hss-unreachable", "realm", now=3.0) is not None
    assert alarms.clear("hss-unreachable", "realm", now=4.0) is None
    assert not alarms.active()
    assert [each.cleared_at for each in alarms.cleared()] == [3.0]
    another = alarms.raise_alarm("hss-unreachable", "realm", now=5.0)
    assert another is not None
    assert another.id == "7-2"
    assert changes == [(what, "hss-unreachable", "realm") for what in ("raised", "cleared", "raised")]


def test_acknowledging_counts_once_and_also_afterwards():
    alarms, changes = make()
    alarm = alarms.raise_alarm("hss-unreachable", "realm", now=2.0)
    assert alarm is not None
    assert alarms.acknowledge("7-9", "noc", now=3.0) is None
    assert alarms.acknowledge("7-1", "noc", now=3.0) is alarm
    assert alarms.acknowledge("7-1", "other", now=4.0) is alarm
    assert (alarm.acknowledged_by, alarm.acknowledged_at) == ("noc", 3.0)
    alarms.raise_alarm("hss-peer-down", "peer", now=5.0)
    alarms.clear("hss-peer-down", "peer", now=6.0)
    late = alarms.acknowledge("7-2", now=7.0)
    assert late is not None
    assert late.acknowledged_at == 7.0
    assert [change for change, *_ in changes].count("acknowledged") == 2


def test_the_most_severe_come_first():
    alarms, _ = make()
    for number, (name, object_) in enumerate(
        [("hss-peer-down", "a"), ("hss-unreachable", "r"), ("hss-peer-down", "b")]
    ):
        alarms.raise_alarm(name, object_, now=float(number))
    assert [(each.definition.severity, each.object) for each in alarms.active()] == [
        (AlarmSeverity.MAJOR, "r"),
        (AlarmSeverity.MINOR, "b"),
        (AlarmSeverity.MINOR, "a"),
    ]
    assert json.loads(json.dumps(alarms.active()[0].as_dict()))["severity"] == "major"


def test_it_is_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "MAX_ACTIVE", 3)
    alarms, _ = make()
    for number in range(5):
        alarms.raise_alarm("hss-peer-down", str(number), "x" * 10_000, now=0.0)
    assert len(alarms.active()) == 3
    assert alarms.dropped == 2
    assert max(len(each.detail) for each in alarms.active()) == module.MAX_DETAIL_CHARS
    for _ in range(200):
        alarms.clear("hss-peer-down", "0", now=1.0)
        alarms.raise_alarm("hss-peer-down", "0", now=1.0)
    assert len(alarms.cleared()) == module.MAX_CLEARED


def test_an_alarm_that_is_not_in_the_table_is_a_mistake_of_ours():
    with pytest.raises(KeyError):
        make()[0].raise_alarm("nonsense", "x", now=0.0)
