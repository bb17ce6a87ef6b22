"""Filler under speech and a background bed: no click, nothing beyond full scale, nothing of the engine's moved."""

from __future__ import annotations

import numpy as np
import pytest

from media import g711
from media.clip_player import ClipPlayer
from media.leg import Leg
from media.mixing import Layer, Mixer, soft_limit
from media.table import FRAME_TICKS, LegTable
from tests.media.plane_support import Stage
from tests.media.support import sine

FRAME = 160


class Played(Stage):
    """A stage whose clips are played as in a worker."""

    def __init__(self, n_legs: int = 1, **config: object) -> None:
        super().__init__(n_legs, **{"codec": "PCMU", **config})
        self.player = ClipPlayer(self.table, self.downlink.mixer, lambda *_, **__: None)
        for row in range(n_legs):
            self.downlink.start(row, 0)

    def engine_heard(self, leg: Leg, tick: int) -> None:
        super().engine_heard(leg, tick)
        self.player.engine_heard(leg)

    def clip_ended(self, leg: Leg) -> None:
        self.player.ended(leg)

    def filler(self) -> None:
        self.player.switch(self.leg, self.leg.filler.engine_lost())

    def speak(self, n_frames: int, hz: float = 300, amplitude: float = 8000, *, ahead: int = 1) -> None:
        for i in range(n_frames):
            self.say(sine(hz, 320, 16000, amplitude, start=320 * i))
            if i >= ahead - 1:
                self.advance(FRAME_TICKS)

    def heard(self, row: int = 0) -> np.ndarray:
        codes = b"".join(bytes(packet.payload) for _, r, packet in self.sent if r == row)
        return g711.decode(np.frombuffer(codes, np.uint8)[None, :], np.zeros(1, np.uint8))[0]


def power_at(samples: np.ndarray, hz: float) -> float:
    """Amplitude of a tone."""
    wave = np.exp(-2j * np.pi * hz * np.arange(len(samples)) / 8000)
    return float(2 * np.abs(np.dot(samples * np.hanning(len(samples)), wave)) / (len(samples) / 2))


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Played:
    played = Played()
    clip = sine(1000, 8000, amplitude=2000).astype(np.int16)
    monkeypatch.setattr(played.player._clips, "get", lambda _name, _rate=8000: clip)
    return played


def steepest(samples: np.ndarray) -> float:
    return float(np.abs(np.diff(samples)).max())


def test_filler_fades_in_and_goes_on_under_the_speech_until_it_is_gone(stage: Played) -> None:
    stage.filler()
    stage.advance(100 * FRAME_TICKS // 2)
    before = len(stage.heard())
    stage.speak(40)
    samples = stage.heard()
    fade_in = [power_at(samples[at : at + 320], 1000) for at in range(160, 1760, 320)]
    assert fade_in == sorted(fade_in)
    assert fade_in[0] < 500
    assert power_at(samples[before - 1600 : before], 1000) == pytest.approx(2000, rel=0.05)
    fade_out = [power_at(samples[at : at + 320], 1000) for at in range(before, before + 1600, 320)]
    assert fade_out == sorted(fade_out, reverse=True)
    assert fade_out[0] > 1500
    assert power_at(samples[before + 2000 : before + 5200], 1000) < 60
    assert power_at(samples[before + 320 : before + 5200], 300) == pytest.approx(8000, rel=0.05)
    # steps of the two sources, of the 5 ms in which speech begins, and of µ-law's coarseness
    assert steepest(samples) < 8000 * 2 * np.pi * 300 / 8000 + 2000 * 2 * np.pi * 1000 / 8000 + 8000 / 40 + 600
    assert stage.downlink.mixer.active == 0
    assert stage.downlink.mixer.n_filler == 0


def test_filler_that_comes_back_at_once_makes_no_step(stage: Played) -> None:
    stage.filler()
    stage.advance(100)
    for _ in range(6):
        stage.speak(3)
        stage.advance(8)
        stage.filler()
        stage.advance(12)
    stage.advance(200)
    bound = 8000 * 2 * np.pi * 300 / 8000 + 3 * 2000 * 2 * np.pi * 1000 / 8000 + 2 * 8000 / 40 + 900
    assert steepest(stage.heard()) < bound
    assert stage.downlink.mixer.active == 0


def test_a_bed_is_heard_under_everything_at_its_level(stage: Played) -> None:
    stage.player.set_background(stage.leg, "bed", -20)
    stage.advance(200)
    silence = stage.heard()[-4000:]
    stage.speak(50)
    speech = stage.heard()[-4000:]
    for samples in (silence, speech):
        assert power_at(samples, 1000) == pytest.approx(200, rel=0.15)
    assert power_at(speech, 300) == pytest.approx(8000, rel=0.05)
    stage.player.set_background(stage.leg, None, 0)
    stage.advance(200)
    assert np.abs(stage.heard()[-4000:]).max() < 10
    assert stage.downlink.mixer.active == 0
    assert steepest(stage.heard()) < 8000 * 2 * np.pi * 300 / 8000 + 8000 / 40 + 700


def test_what_is_played_and_when_is_as_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    stages = [Played(), Played()]
    clip = sine(1000, 8000, amplitude=2000).astype(np.int16)
    monkeypatch.setattr(stages[1].player._clips, "get", lambda _name, _rate=8000: clip)
    stages[1].player.set_background(stages[1].leg, "bed", -20)
    for stage in stages:
        stage.advance(37)
        stage.speak(20)
        stage.advance(61)
        stage.speak(30, ahead=5)
        stage.advance(100)
    plain, mixed = stages
    assert [(tick, packet.sequence, packet.timestamp) for tick, _, packet in plain.sent] == [
        (tick, packet.sequence, packet.timestamp) for tick, _, packet in mixed.sent
    ]
    for column in ("played", "underruns", "inserted", "due", "nominal"):
        assert getattr(plain.table, column)[0] == getattr(mixed.table, column)[0], column


def test_nothing_goes_beyond_full_scale(stage: Played) -> None:
    stage.player.set_background(stage.leg, "bed", 0)
    stage.speak(50, amplitude=32000)
    samples = stage.heard()[8000 // 2 :]
    # pressed, not cut off: the peaks are round
    assert np.abs(samples).max() <= 32124
    limited = soft_limit(np.linspace(-40000, 40000, 8001).astype(np.float32))
    assert np.abs(limited).max() < 32767
    assert (np.diff(limited) > 0).mean() > 0.95
    quiet = np.linspace(-28000, 28000, 101).astype(np.float32)
    assert (soft_limit(quiet.copy()) == quiet).all()


def test_a_leg_without_layers_is_not_touched() -> None:
    table = LegTable(4)
    mixer = Mixer(table)
    mixer.set_bed(2, np.full(320, 100, np.int16), 1.0, 8000)
    line = np.zeros((3, FRAME), np.float32)
    for _ in range(20):
        line[:] = 0
        mixer.mix(np.array([0, 2, 3]), line)
    assert line[1].tolist() == [100] * FRAME
    assert not line[[0, 2]].any()
    mixer.forget(2)
    assert (mixer.active, table.mixed.any()) == (0, False)


def test_a_layer_ends_exactly() -> None:
    layer = Layer(np.full(480, 1000, np.int16), 160, 1.0, 1.0, 0.0)
    layer.fade_to(0.0, 8000)
    frames = [layer.next_frame(FRAME) for _ in range(10)]
    assert layer.is_over
    faded = np.concatenate(frames)
    assert np.abs(np.diff(faded)).max() < 1
    assert faded[-1] == pytest.approx(0, abs=1)


def test_a_prompt_is_heard_whole_and_the_engine_behind_it(stage: Played) -> None:
    stage.player.play(stage.leg, "prompt", False, whole=True)
    stage.advance(8)
    for i in range(20):
        stage.say(sine(300, 320, 16000, start=320 * i))
    stage.advance(51 * FRAME_TICKS)
    samples = stage.heard()
    assert power_at(samples[320:7680], 1000) == pytest.approx(2000, rel=0.05)
    assert power_at(samples[320:7680], 300) < 50
    stage.advance(20 * FRAME_TICKS)
    assert stage.table.played[0] == 20 * 320
    assert stage.table.n_held == 0
    assert len(stage.sent) == pytest.approx((8 + 71 * FRAME_TICKS) / FRAME_TICKS, abs=2)
