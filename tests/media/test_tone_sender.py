"""Digits played to a party without telephone-event: levels, lengths, edges, every codec, every packet time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from media.dtmf import DIGITS, DtmfSender, ToneSlot
from media.rtp import build_rtp
from media.table import FRAME_TICKS
from media.tone_sender import HIGH_DBM0, LOW_DBM0, tone_frame
from media.tones import HIGH_HZ, KEYS, LOW_HZ, amplitude_of
from tests.media.plane_support import Stage
from tests.media.support import from_ulaw, sine
from tests.media.test_packetiser import CODECS

SLOTS = DtmfSender.TONE_SLOTS


def level_at(samples: NDArray[Any], hz: float, rate_hz: int) -> float:
    t = 2 * np.pi * np.arange(len(samples)) * hz / rate_hz
    return float(2 * np.abs(np.mean(samples * np.exp(-1j * t))))


@pytest.mark.parametrize("rate_hz", [8000, 16000])
@pytest.mark.parametrize("digit", DIGITS)
def test_levels_and_frequencies(digit: str, rate_hz: int) -> None:
    size, number = rate_hz // 50, KEYS.index(digit)
    # 80 ms, in which all frequencies have nearly whole periods
    tone = np.concatenate([tone_frame(ToneSlot(digit, slot), size) for slot in range(SLOTS)])[size // 2 : -size // 2]
    assert level_at(tone, LOW_HZ[number // 4], rate_hz) == pytest.approx(amplitude_of(LOW_DBM0), rel=0.05)
    assert level_at(tone, HIGH_HZ[number % 4], rate_hz) == pytest.approx(amplitude_of(HIGH_DBM0), rel=0.05)
    assert np.abs(tone).max() < 32767


def test_edges_are_soft() -> None:
    for digit in DIGITS:
        tone = np.concatenate([tone_frame(ToneSlot(digit, slot), 160) for slot in range(SLOTS)])
        assert np.abs(tone[:8]).max() < 1500
        assert np.abs(tone[-8:]).max() < 1500
        assert not tone_frame(None, 160).any()


def dialled(config: dict[str, Any], digits: str, ptime_ms: int = 20) -> tuple[Stage, Stage]:
    """A leg that dials by tones, and one that has heard it all."""
    config = {**config, "dtmf_payload_type": None}
    stage, hearer = Stage(**config, ptime_ms=ptime_ms), Stage(**config)
    hearer.leg.inband_dtmf = "auto"
    hearer.uplink.digits.configure(hearer.leg)
    stage.downlink.start(0, 0)
    stage.advance(10 * FRAME_TICKS)
    stage.leg.dtmf.send(digits)
    stage.table.event[0] = True
    stage.advance((10 * len(digits) + 20) * FRAME_TICKS)
    assert not stage.table.event[0]
    for tick, _, packet in stage.sent:
        hearer.advance(tick - hearer.tick)
        fields = {name: getattr(packet, name) for name in ("payload_type", "marker", "sequence", "timestamp", "ssrc")}
        hearer.receive(build_rtp(**fields, payload=packet.payload))
    hearer.advance(20 * FRAME_TICKS)
    return stage, hearer


@pytest.mark.parametrize("ptime_ms", [10, 20, 30, 60])
@pytest.mark.parametrize("name", CODECS)
def test_dialled_digits_are_heard_through_every_codec(name: str, ptime_ms: int) -> None:
    digits = "0123456789*#ABCD"
    _, hearer = dialled(CODECS[name][0], digits, ptime_ms)
    heard = "".join(note[2] for note in hearer.notes if note[0] == "digit")
    if name == "G729":  # a coder for speech alone
        assert len(heard) >= 14
        return
    assert heard == digits


def test_tone_and_pause_last_100_ms_each() -> None:
    stage, _ = dialled({}, "159")
    audio = np.concatenate([from_ulaw(packet.payload) for _, _, packet in stage.sent])
    loud = np.abs(audio).reshape(-1, 80).max(axis=1) > 1000
    changes = np.flatnonzero(np.diff(loud.astype(int)))
    assert np.diff(changes).tolist() == [10, 10, 10, 10, 10]
    timestamps = np.array([packet.timestamp for _, _, packet in stage.sent])
    assert set(np.diff(timestamps).tolist()) == {160}


def test_the_engine_is_interrupted_and_goes_on_without_a_click() -> None:
    stage = Stage(dtmf_payload_type=None)
    stage.downlink.start(0, 0)
    stage.advance(10)
    stage.say(sine(100, 16000, 16000))
    stage.advance(41)
    stage.leg.dtmf.send("5")
    stage.table.event[0] = True
    stage.advance(100)
    audio = np.concatenate([from_ulaw(packet.payload) for _, _, packet in stage.sent])
    # the digit's own steps: 2 pi (770 * 8000 + 1336 * 10000) / 8000
    assert np.abs(np.diff(audio)).max() < 17000
    quiet = audio[np.flatnonzero(np.abs(audio) > 12000)[-1] + 800 :]
    assert np.abs(np.diff(quiet)).max() < 1500
    assert stage.leg.playout is not None
    assert stage.table.played[0] < 16000


def test_events_are_preferred() -> None:
    stage = Stage()
    stage.downlink.start(0, 0)
    stage.leg.dtmf.send("5")
    stage.table.event[0] = True
    stage.advance(60)
    assert sum(packet.payload_type == 101 for _, _, packet in stage.sent) == 7
    assert all(packet.payload == b"\xff" * 160 for _, _, packet in stage.sent if packet.payload_type == 0)


@pytest.mark.parametrize("name", ["opus", "AMR-WB"])
def test_events_of_8000_hz_beside_a_wideband_codec(name: str) -> None:
    """Timestamps of the codec's clock, durations of 8000 Hz; both ends understand each other."""
    config = {**CODECS[name][0], "dtmf_payload_type": 101, "dtmf_clock_rate": 8000}
    stage, hearer = Stage(**config), Stage(**config)
    stage.downlink.start(0, 0)
    stage.advance(40)
    stage.leg.dtmf.send("5#")
    stage.table.event[0] = True
    stage.advance(40 * FRAME_TICKS)
    events = [packet for _, _, packet in stage.sent if packet.payload_type == 101]
    assert [int.from_bytes(packet.payload[2:], "big") for packet in events[:7]] == [160, 320, 480, 640, 800, 800, 800]
    step = (events[7].timestamp - events[0].timestamp) & 0xFFFFFFFF
    assert step == 10 * config["clock_rate"] // 50
    for tick, _, packet in stage.sent:
        hearer.advance(tick - hearer.tick)
        fields = {name: getattr(packet, name) for name in ("payload_type", "marker", "sequence", "timestamp", "ssrc")}
        hearer.receive(build_rtp(**fields, payload=packet.payload))
    assert [note[2] for note in hearer.notes if note[0] == "digit"] == ["5", "#"]
    assert hearer.leg.receiver.dtmf.units_per_ms == 8
