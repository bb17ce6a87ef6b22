"""Digits in the audio of a leg: heard where they are wanted, removed where they are not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from media.dtmf import DIGITS
from media.rtp import build_rtp
from media.table import FRAME_TICKS
from tests.media.plane_support import Stage
from tests.media.support import sine, ulaw
from tests.media.test_tones import tone

VOICE = sine(440, 160 * 400) * 0.4


class Phone:
    """Sends G.711 and telephone events to row 0 of a stage."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.sequence, self.timestamp, self.spoken = stage, 0, 0, 0

    def _send(self, payload_type: int, timestamp: int, payload: bytes) -> None:
        packet = build_rtp(
            payload_type=payload_type,
            marker=False,
            sequence=self.sequence,
            timestamp=timestamp,
            ssrc=5,
            payload=payload,
        )
        self.sequence += 1
        self.stage.receive(packet)

    def say(self, samples: NDArray[Any]) -> None:
        """Whole frames, in real time."""
        for at in range(0, len(samples) - 159, 160):
            self.stage.advance(FRAME_TICKS)
            self._send(0, self.timestamp, ulaw(samples[at : at + 160].astype(np.float32)))
            self.timestamp += 160

    def talk(self, n_frames: int) -> None:
        self.say(VOICE[160 * self.spoken : 160 * (self.spoken + n_frames)])
        self.spoken += n_frames

    def event(self, key: str, duration: int, *, end: bool = False, begun: int) -> None:
        payload = bytes([DIGITS.index(key), 0x80 if end else 0]) + duration.to_bytes(2, "big")
        self._send(101, begun, payload)


def build(inband: str, *, mute: bool = False, **config: Any) -> tuple[Stage, Phone]:
    stage = Stage(rate_hz=8000, **config)
    stage.leg.inband_dtmf, stage.leg.mutes_digits = inband, mute
    stage.uplink.digits.configure(stage.leg)
    return stage, Phone(stage)


def digits(stage: Stage) -> str:
    return "".join(note[2] for note in stage.notes if note[0] == "digit")


@pytest.mark.parametrize(
    ("inband", "event_type", "heard"),
    [("auto", None, "159D"), ("auto", 101, ""), ("always", 101, "159D"), ("never", None, "")],
)
def test_tones_are_digits_where_they_are_wanted(inband: str, event_type: int | None, heard: str) -> None:
    stage, phone = build(inband, dtmf_payload_type=event_type)
    phone.talk(20)
    for key in "159D":
        phone.say(tone(key, 100))
        phone.talk(4)
    assert digits(stage) == heard
    assert stage.uplink.digits.active == (heard != "")


def test_a_leg_that_listens_costs_the_others_nothing_and_they_are_not_heard() -> None:
    stage = Stage(2, rate_hz=8000, dtmf_payload_type=None)
    stage.legs[1].inband_dtmf = "auto"
    stage.uplink.digits.configure(stage.legs[1])
    line = tone("5", 100).astype(np.float32).reshape(5, 1, 160)
    silence = np.zeros((1, 160), np.float32)
    for frame in [*line, silence, silence, silence]:
        both = np.concatenate([frame, frame])
        assert stage.uplink.digits.hear(np.array([0, 1]), both, 0) is both
    assert stage.notes == [("digit", 1, "5")]
    stage.uplink.forget(1)
    assert not stage.uplink.digits.active


@pytest.mark.parametrize("phase", range(0, 160, 20))
def test_a_muted_digit_is_heard_for_25_ms_at_most(phase: int) -> None:
    """Whatever part of a frame it begins in; what is said around it is kept."""
    stage, phone = build("auto", mute=True, dtmf_payload_type=None)
    phone.talk(10)
    sent = np.concatenate([np.zeros(160 + phase), tone("8", 160), np.zeros(480 - phase)])
    first = len(stage.audio_up())
    phone.say(sent)
    phone.talk(10)
    assert digits(stage) == "8"
    audio = stage.audio_up().astype(float)
    before, around = audio[:first], audio[first : first + len(sent)]
    assert np.count_nonzero(np.abs(around) > 100) <= 25 * 8
    assert np.abs(before).max() > 3000
    assert np.abs(audio[first + len(sent) + 160 :]).max() > 3000


def test_what_is_muted_is_no_speech() -> None:
    stage, phone = build("auto", mute=True, dtmf_payload_type=None)
    phone.say(np.zeros(1600))
    phone.say(tone("4", 400))
    phone.say(np.zeros(1600))
    assert digits(stage) == "4"
    assert [note for note in stage.notes if note[0] == "speech"] == []


def test_without_mute_the_engine_hears_the_tone() -> None:
    stage, phone = build("auto", dtmf_payload_type=None)
    phone.say(tone("4", 400))
    assert np.count_nonzero(np.abs(stage.audio_up()) > 100) > 2500


def test_the_copy_of_an_event_in_the_audio_is_muted_too() -> None:
    """A gateway that sends events and leaks the tones into its audio; reported once, as event."""
    stage, phone = build("auto", mute=True)
    phone.talk(10)
    start = len(stage.audio_up())
    leaked, begun = tone("3", 200), phone.timestamp
    for frame in range(10):
        if frame >= 2:  # it knows the tone after 40 ms
            phone.event("3", 160 * (frame - 1), begun=begun)
        phone.say(leaked[160 * frame :][:160])
    for _ in range(3):
        phone.event("3", 160 * 9, end=True, begun=begun)
    phone.talk(20)
    assert digits(stage) == "3"
    audio = stage.audio_up().astype(float)
    assert np.count_nonzero(np.abs(audio[start : start + 1600]) > 100) <= 25 * 8
    assert np.abs(audio[start + 1600 + 160 * 8 :]).max() > 3000


def test_audio_beside_an_event_is_muted_though_it_is_no_clean_tone() -> None:
    stage, phone = build("never", mute=True)
    phone.talk(10)
    begun = phone.timestamp
    phone.event("3", 160, begun=begun)
    start = len(stage.audio_up())
    phone.talk(3)
    assert not stage.audio_up()[start:].any()


def test_a_modified_stream_ends_and_begins_it() -> None:
    stage, _ = build("auto")
    assert not stage.uplink.digits.active
    leg = stage.leg
    leg.receiver.configure(leg.receiver.config.__class__("PCMU", 0))
    stage.uplink.digits.configure(leg)
    assert stage.uplink.digits.active
    stage.uplink.digits.configure(leg)
    stage.uplink.forget(0)
    assert not stage.uplink.digits.active
