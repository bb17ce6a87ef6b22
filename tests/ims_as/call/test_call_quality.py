"""What the worker tells of one call's audio, and what becomes of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ims_as.call.call_quality import MAX_ONE_WAY, note_media, note_one_way, note_silenced, start_watching
from ims_as.call.record import CallRecord
from ims_as.oss.metrics import Metrics
from ims_as.oss.trace import CallTrace


class Call:
    """Of an AgentCall what these functions use."""

    def __init__(self, direction: str = "inbound") -> None:
        self.labels: list[str] = []
        self.parties: list[str] = []
        self.talks = 0
        self.told = 0
        self.is_watched = False
        self.leg: Any = SimpleNamespace(talking=self._told)
        self.record = CallRecord("id", "sip", "sip:a@x", "sip:b@x", 0.0, CallTrace("id", "sip", lambda: 0.0))
        self.record.direction = direction
        quality = SimpleNamespace(one_way=lambda party, now: self.parties.append(party), call_talks=self._talks)
        self.context = SimpleNamespace(metrics=Metrics(), quality=quality, now=lambda: 1.0)

    def _told(self) -> None:
        self.told += 1

    def _talks(self, now: float) -> None:
        self.talks += 1

    def trace(self, kind: str, source: str, target: str, label: str, text: str = "", at: float | None = None) -> None:
        self.labels.append(label)

    def sample(self, name: str, **labels: str) -> float | None:
        return self.context.metrics.registry.get_sample_value(f"ims_as_{name}", labels)


def one_way(call: Call, reason: str, *, direction: str = "receive", over: bool = False) -> None:
    note_one_way(call, {"direction": direction, "reason": reason, "over": over, "at": 5.0})  # type: ignore[arg-type]


@pytest.mark.parametrize(("direction", "party"), [("inbound", "sip:a@x"), ("outbound", "sip:b@x")])
def test_the_party_counts_for_the_alarm_once_it_is_not_heard(direction: str, party: str) -> None:
    call = Call(direction)
    one_way(call, "no-packets")
    one_way(call, "no-packets", over=True)
    assert call.parties == [party]
    assert call.sample("one_way_audio_total", direction="receive", reason="no-packets") == 1
    assert [each["over"] for each in call.record.one_way] == [False, True]


def test_a_silent_listener_is_counted_and_alarms_nobody() -> None:
    call = Call()
    one_way(call, "digital-silence")
    assert not call.parties
    assert call.sample("one_way_audio_total", direction="receive", reason="digital-silence") == 1


def test_notes_are_bounded() -> None:
    call = Call()
    for _ in range(100):
        one_way(call, "no-packets")
    assert len(call.record.one_way) == MAX_ONE_WAY


def test_a_call_talks_once_whatever_is_acknowledged() -> None:
    call = Call()
    start_watching(call)  # type: ignore[arg-type]
    start_watching(call)  # type: ignore[arg-type]
    assert (call.told, call.talks) == (2, 1), "the worker may be another one"
    call.leg = None
    start_watching(call)  # type: ignore[arg-type]
    assert call.told == 2


def test_silence_is_timed_where_somebody_spoke() -> None:
    call = Call()
    note_silenced(call, {"by": "local", "clear_ms": 15, "speech_ms": 45})  # type: ignore[arg-type]
    note_silenced(call, {"by": "engine", "clear_ms": 15, "speech_ms": None})  # type: ignore[arg-type]
    assert call.sample("barge_in_seconds_count", by="local") == 1
    assert call.sample("barge_in_seconds_count", by="engine") is None
    assert call.labels == [
        "agent silent 15 ms after clear (local), 45 ms after the caller spoke",
        "agent silent 15 ms after clear (engine)",
    ]


def test_a_lost_worker_leaves_what_was_known() -> None:
    call = Call()
    call.record.media = {"lost": 3}
    note_media(call, {})  # type: ignore[arg-type]
    assert call.record.media == {"lost": 3}


def test_both_directions_are_counted_and_told() -> None:
    call = Call()
    quality = {"mos_cq": 4.3, "scale": "nb", "loss_percent": 0.5}
    stats = {"lost": 7, "late": 2, "concealed_ms": 140, "quality": {"receive": quality, "send": None}}
    note_media(call, stats)  # type: ignore[arg-type]
    assert call.record.mos == {"receive": 4.3}
    assert call.labels == ["heard: MOS 4.3 (nb), loss 0.5 %"]
    assert call.sample("rtp_packets_lost_total") == 7
    assert call.sample("rtp_packets_late_total") == 2
    assert call.sample("rtp_concealed_seconds_total") == pytest.approx(0.14)
    assert call.sample("call_mos_count", direction="receive", scale="nb") == 1
