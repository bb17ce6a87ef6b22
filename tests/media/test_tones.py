"""Digits by their tones: the limits of Q.24, speech that is none, codecs that keep them."""

from __future__ import annotations

import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soxr
from numpy.typing import NDArray

from media import g711
from media.dtmf import Digit, DigitSource
from media.tones import HIGH_HZ, KEYS, LOW_HZ, ToneDetector, amplitude_of
from tests.media.codecs.speech import codec_of

AUDIO = Path(__file__).parents[2] / "conformance" / "lab" / "audio"
ALAW = g711.CODECS["PCMA"]
Samples = NDArray[np.float64]


def tone(
    key: str,
    ms: float,
    *,
    rate_hz: int = 8000,
    low_dbm0: float = -9,
    high_dbm0: float = -9,
    off: tuple[float, float] = (0, 0),
) -> Samples:
    """``off``: deviations of the low and the high frequency, as shares."""
    number = KEYS.index(key)
    t = 2 * np.pi * np.arange(round(ms * rate_hz / 1000)) / rate_hz
    low = amplitude_of(low_dbm0) * np.sin(t * LOW_HZ[number // 4] * (1 + off[0]) + number)
    high = amplitude_of(high_dbm0) * np.sin(t * HIGH_HZ[number % 4] * (1 + off[1]))
    return np.asarray(low + high)


def silence(ms: float, rate_hz: int = 8000) -> Samples:
    return np.zeros(round(ms * rate_hz / 1000))


def hear(signals: list[Samples], rate_hz: int = 8000) -> tuple[list[list[Digit]], int]:
    """Digits of each signal, heard all together; and how many frames were suspect."""
    size = rate_hz // 50
    length = (max(map(len, signals)) // size + 6) * size
    lines = np.zeros((len(signals), length), np.float32)
    for row, signal in enumerate(signals):
        lines[row, : len(signal)] = signal
    detector, rows = ToneDetector(len(signals)), np.arange(len(signals))
    heard: list[list[Digit]] = [[] for _ in signals]
    n_suspect = 0
    for at in range(0, length, size):
        found = detector.take(rows, lines[:, at : at + size])
        n_suspect += int(found.suspect.sum())
        for row, digit in found.digits:
            heard[row].append(digit)
    return heard, n_suspect


def keys_of(heard: list[Digit]) -> str:
    return "".join(digit.digit for digit in heard)


def through_alaw(signal: Samples) -> Samples:
    codec = np.array([ALAW], np.uint8)
    return g711.decode(g711.encode(signal[None, :].astype(np.float32), codec), codec)[0].astype(float)


def each_key(rate_hz: int = 8000, ms: float = 40, **how: Any) -> list[str]:
    """What is heard of each key, wherever in a frame it begins."""
    begins = range(20, 40, 3)
    signals = [
        np.concatenate([silence(begin, rate_hz), tone(key, ms, rate_hz=rate_hz, **how), silence(50, rate_hz)])
        for key in KEYS
        for begin in begins
    ]
    if rate_hz == 8000:
        signals = [through_alaw(signal) for signal in signals]
    return [keys_of(heard) for heard in hear(signals, rate_hz)[0]]


EACH_KEY = [key for key in KEYS for _ in range(20, 40, 3)]


@pytest.mark.parametrize("rate_hz", [8000, 16000])
@pytest.mark.parametrize("level_dbm0", [0, -10, -20, -30, -37])
def test_every_digit_of_40_ms_at_every_level(rate_hz: int, level_dbm0: float) -> None:
    """The level is that of each tone."""
    assert each_key(rate_hz, low_dbm0=level_dbm0 - 1, high_dbm0=level_dbm0) == EACH_KEY


def test_what_is_too_soft_is_none() -> None:
    assert set(each_key(low_dbm0=-43, high_dbm0=-43)) == {""}


@pytest.mark.parametrize("rate_hz", [8000, 16000])
@pytest.mark.parametrize("share", [0.0, 0.015, -0.015])
@pytest.mark.parametrize("other", [0.0, 0.015, -0.015])
@pytest.mark.parametrize("twist_db", [-8, 0, 4])
def test_deviation_and_twist_that_must_be_taken(rate_hz: int, share: float, other: float, twist_db: float) -> None:
    heard = each_key(rate_hz, 45, low_dbm0=-15, high_dbm0=-15 + twist_db, off=(share, other))
    assert heard == EACH_KEY


@pytest.mark.parametrize("share", [0.035, -0.035, 0.05, -0.05])
@pytest.mark.parametrize("is_high", [False, True])
@pytest.mark.parametrize("twist_db", [-8, 0, 4])
def test_other_frequencies_are_refused(share: float, is_high: bool, twist_db: float) -> None:
    off = (0, share) if is_high else (share, 0)
    assert set(each_key(ms=60, low_dbm0=-12, high_dbm0=-12 + twist_db, off=off)) == {""}


@pytest.mark.parametrize("twist_db", [-14, 9])
def test_a_greater_twist_is_refused(twist_db: float) -> None:
    assert set(each_key(ms=60, low_dbm0=-12, high_dbm0=-12 + twist_db)) == {""}


@pytest.mark.parametrize("ms", [10, 15, 20, 23])
def test_what_is_too_short_is_none(ms: float) -> None:
    assert set(each_key(ms=ms)) == {""}


@pytest.mark.parametrize("rate_hz", [8000, 16000])
def test_40_ms_and_a_pause_of_40_ms_is_the_fastest(rate_hz: int) -> None:
    dialled = KEYS + KEYS[::-1] + "5555"
    parts = [part for key in dialled for part in (tone(key, 40, rate_hz=rate_hz), silence(40, rate_hz))]
    (heard,), _ = hear([np.concatenate(parts)], rate_hz)
    assert keys_of(heard) == dialled
    assert all(30 <= digit.duration_ms <= 45 for digit in heard)
    assert {digit.source for digit in heard} == {DigitSource.INBAND}


def test_an_interruption_of_10_ms_does_not_make_two() -> None:
    signals = [np.concatenate([tone(key, 60), silence(10), tone(key, 60)]) for key in KEYS]
    heard, _ = hear(signals)
    assert [keys_of(each) for each in heard] == list(KEYS)
    assert all(120 <= each[0].duration_ms <= 140 for each in heard)


def test_a_long_digit_is_one_and_the_next_needs_no_pause() -> None:
    (heard,), _ = hear([np.concatenate([tone("7", 2000), tone("8", 80)])])
    assert keys_of(heard) == "78"
    assert heard[0].duration_ms == pytest.approx(2000, abs=20)


@pytest.mark.parametrize("snr_db", [20, 15, 12])
def test_noise(snr_db: float) -> None:
    random = np.random.default_rng(24)
    rms = amplitude_of(-9) * 10 ** (-snr_db / 20)
    signals = [
        np.concatenate([silence(30), tone(key, 50), silence(50)]) + random.standard_normal(1040) * rms
        for key in KEYS * 4
    ]
    assert [keys_of(each) for each in hear(signals)[0]] == list(KEYS * 4)


def sines(frequencies: tuple[float, ...], level_dbm0: float, seconds: float = 3.0) -> Samples:
    t = 2 * np.pi * np.arange(round(8000 * seconds)) / 8000
    return np.asarray(sum((amplitude_of(level_dbm0) * np.sin(t * hz) for hz in frequencies), np.zeros(len(t))))


@pytest.mark.parametrize(
    "frequencies",
    [(350, 440), (425,), (480, 620), (440, 480), (400, 450), (697,), (1209,), (697, 770), (1209, 1336), (1100,),
     (2100,), (941, 1336, 1477), (697, 1209, 2418), (700, 900), (1300, 1500), (950, 1400, 1800)],
)  # fmt: skip
@pytest.mark.parametrize("level_dbm0", [-3, -13, -25])
def test_other_tones_of_networks_are_no_digits(frequencies: tuple[float, ...], level_dbm0: float) -> None:
    """Dial, ringing and busy tones of several countries, one tone alone, MF R1, fax, special information tones."""
    assert hear([sines(frequencies, level_dbm0)])[0] == [[]]


def test_a_digit_in_front_of_a_dial_tone() -> None:
    signals = [np.concatenate([silence(100), tone(key, 60), silence(60)]) for key in KEYS]
    dial = sines((350, 440), -17, 0.22)
    assert [keys_of(each) for each in hear([signal + dial for signal in signals])[0]] == list(KEYS)


def recordings(rate_hz: int) -> list[Samples]:
    found = []
    for path in sorted(AUDIO.glob("*.wav")):
        with wave.open(str(path)) as file:
            rate, samples = file.getframerate(), np.frombuffer(file.readframes(file.getnframes()), np.int16)
        found.append(soxr.resample(samples.astype(float), rate, rate_hz))
    return found


@pytest.mark.parametrize("rate_hz", [8000, 16000])
def test_speech_is_no_digit(rate_hz: int) -> None:
    """Talk-off: all recordings at several pitches and levels, alone and in babble; 20 and 10 minutes."""
    voices = recordings(rate_hz)
    assert len(voices) >= 6
    longest = max(map(len, voices))
    babble = sum(np.resize(np.roll(voice, 3001 * i), longest) for i, voice in enumerate(voices)) / len(voices) ** 0.5
    signals = []
    for speed in (0.8, 0.85, 0.93, 1.0, 1.07, 1.15, 1.25, 1.4)[:: rate_hz // 8000]:
        for voice in [*voices, babble]:
            pitched = soxr.resample(voice, rate_hz, rate_hz / speed)
            for loudness, share in ((1, 0), (3, 0), (0.2, 0), (1, 0.3), (1, 1)):
                mixed = loudness * pitched + share * np.resize(babble, len(pitched))
                signals.append(np.clip(mixed, -32000, 32000))
    seconds = sum(map(len, signals)) / rate_hz
    assert seconds > 8 * 60
    heard, n_suspect = hear(signals, rate_hz)
    assert [each for each in heard if each] == []
    # frames that would be muted in vain
    assert n_suspect / (seconds * 50) < 0.002


def test_music_of_two_notes_is_no_digit_for_long() -> None:
    """A just scale passes by the frequencies of digits, but with harmonics."""
    t = 2 * np.pi * np.arange(8000 * 4) / 8000
    notes = [
        sum((3000 / k**0.7 * np.sin(t * hz * k) for k in range(1, 6)), np.zeros(len(t))) for hz in (697, 770, 852, 941)
    ]
    signals = [low + high for low in notes for high in (np.sin(t * hz) * 3000 for hz in HIGH_HZ)]
    assert hear(signals)[0] == [[] for _ in signals]


CODECS = {
    "AMR": ("AMR", 8000, {}),
    "AMR-WB": ("AMR-WB", 16000, {}),
    "AMR-WB 23.85": ("AMR-WB", 16000, {"mode-set": "8"}),
    "G722": ("G722", 8000, {}),
    "G729": ("G729", 8000, {}),
    "opus": ("OPUS", 48000, {}),
    "L16": ("L16", 16000, {}),
}


def through(name: str, signal: Samples) -> Samples:
    encoding, clock_hz, parameters = CODECS[name]
    codec = codec_of(encoding, clock_hz)
    encoder, decoder = codec.new_encoder(parameters), codec.new_decoder(parameters)
    size, form, made = codec.frame_samples, codec.send_format(parameters), []
    for at in range(0, len(signal) - size + 1, size):
        frame = encoder.encode(np.clip(signal[at : at + size], -32768, 32767).astype(np.int16))
        frames = (None,) if frame is None else form.unpack_untrusted(form.pack([frame])).frames
        made += [decoder.decode(each) for each in frames]
    encoder.close()
    decoder.close()
    return np.concatenate(made).astype(float)


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("level_dbm0", [-9, -24])
@pytest.mark.parametrize("ms", [70, 100])
def test_tones_survive_codecs(name: str, level_dbm0: float, ms: float) -> None:
    encoding, clock_hz, _ = CODECS[name]
    rate_hz = codec_of(encoding, clock_hz).sample_rate_hz
    dialled = KEYS * 3
    parts = [silence(200, rate_hz)]
    for key in dialled:
        # some more than a frame, so that no two digits begin at the same place of one
        parts += [
            tone(key, ms, rate_hz=rate_hz, low_dbm0=level_dbm0 - 2, high_dbm0=level_dbm0),
            silence(ms + 3, rate_hz),
        ]
    (heard,), _ = hear([through(name, np.concatenate(parts))], rate_hz)
    if name == "G729":  # a coder for speech alone, at 8 kbit/s: some are missed
        assert 43 <= len(keys_of(heard)) <= 48
        return
    assert keys_of(heard) == dialled


def test_legs_do_not_hear_each_other() -> None:
    signals = [np.concatenate([silence(7 * i), tone(KEYS[i % 16], 50 + i % 5), silence(40)]) for i in range(200)]
    assert [keys_of(each) for each in hear(signals)[0]] == [KEYS[i % 16] for i in range(200)]


def test_a_leg_that_is_gone_leaves_nothing_behind() -> None:
    detector, row = ToneDetector(2), np.array([1])
    line = tone("5", 40).astype(np.float32).reshape(2, 1, 160)
    for frame in line:
        assert detector.take(row, frame).digits == []
    detector.reset(1)
    for _ in range(5):
        assert detector.take(row, np.zeros((1, 160), np.float32)).digits == []
