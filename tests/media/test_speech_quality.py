"""What an engine hears through a bad network is what the codec alone makes of the same losses.

Without sockets and real time, so that it is the same in every run; `bench.speech_quality` measures the whole by PESQ
and word errors.
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.impairment import Impairment, Network
from tests.support.speech_codecs import SPOKEN, Spoken, at_rate, decode_alone, encode_all
from tests.support.speech_score import RATE_HZ, aligned, recording, snr_db
from tests.support.virtual_call import hear, say

CLEAN = Network()
NETWORKS = [
    CLEAN,
    Network(loss=0.05),
    Network(loss=0.05, burst=2.5),
    Network(jitter_ms=40, duplicates=0.05),
    Network(jitter_ms=80),
    Network(loss=0.05, jitter_ms=80),
]
LEAD = np.zeros(RATE_HZ // 2, np.int16)
"""In which the wait for the network is learned."""
NARROW_DB, G711_LOSS_DB = 25.0, 10.0
"""What our resampling to 16 kHz leaves; and of two concealments of the same losses that are not the same."""
WIDE_DB = 18.0
"""60 and more, but that comfort noise may begin elsewhere; a frame too much in speech leaves less than 3."""
PAUSES_DB = 15.0
PHONE_DB = 20.0
"""The fade at the engine's first frame, and a coder that begins with it."""


def said(rate_hz: int) -> NDArray[np.int16]:
    pcm = np.concatenate([LEAD, recording("librivox-0880.wav"), LEAD[: RATE_HZ // 5]])
    return at_rate(pcm, RATE_HZ, rate_hz)


def heard_like(spoken: Spoken, network: Network, seed: int = 3) -> float:
    """Signal to noise of what the engine hears against the codec alone, dB."""
    packets = encode_all(spoken, said(spoken.rate_hz))
    impairment = Impairment(network, seed)
    alone = at_rate(decode_alone(spoken, packets, impairment.is_lost), spoken.rate_hz, RATE_HZ)
    heard, _ = hear(spoken, packets, impairment)
    return likeness_db(alone, heard)


def likeness_db(alone: NDArray[np.int16], heard: NDArray[np.int16]) -> float:
    """Our filters between 8 and 16 kHz are late by a fraction of a sample: a quarter or more of one is taken off."""
    return max(snr_db(alone, aligned(alone, earlier(heard, quarters / 4))) for quarters in range(4))


def earlier(pcm: NDArray[np.int16], samples: float) -> NDArray[np.int16]:
    turn = np.exp(2j * np.pi * samples * np.fft.rfftfreq(len(pcm)))
    return np.rint(np.fft.irfft(np.fft.rfft(pcm.astype(float)) * turn, len(pcm))).clip(-32768, 32767).astype(np.int16)


@pytest.mark.parametrize("network", NETWORKS, ids=str)
@pytest.mark.parametrize("label", ["PCMA", "G722", "AMR-WB 12.65", "Opus"])
def test_the_engine_hears_what_the_codec_alone_makes_of_it(label: str, network: Network) -> None:
    spoken = SPOKEN[label]
    least = WIDE_DB
    if spoken.is_g711:
        least = G711_LOSS_DB if network.loss else NARROW_DB
    assert heard_like(spoken, network) > least


@pytest.mark.parametrize("label", ["AMR 12.2", "G729"])
def test_narrowband_codecs_too(label: str) -> None:
    assert heard_like(SPOKEN[label], Network(loss=0.03, jitter_ms=60)) > NARROW_DB


@pytest.mark.parametrize("label", ["AMR 12.2", "AMR-WB 12.65"])
@pytest.mark.parametrize("jitter_ms", [0, 40, 80])
def test_pauses_last_as_long_as_the_phone_makes_them(label: str, jitter_ms: float) -> None:
    """They are comfort noise made up in real time, while packets come unevenly (DTX)."""
    spoken = SPOKEN[label]
    pauses = [np.zeros(RATE_HZ * 3 // 4, np.int16)] * 4
    word = recording("cards-001.wav")
    pcm = np.concatenate([LEAD, *(part for pause in pauses for part in (word, pause)), word])
    packets = encode_all(spoken, at_rate(pcm, RATE_HZ, spoken.rate_hz))
    alone = at_rate(decode_alone(spoken, packets, lambda _: False), spoken.rate_hz, RATE_HZ)
    heard, _ = hear(spoken, packets, Impairment(Network(jitter_ms=jitter_ms), 5))
    assert likeness_db(alone, heard) > PAUSES_DB


@pytest.mark.parametrize("label", ["PCMU", "G722"])
def test_the_phone_hears_what_the_codec_alone_makes_of_the_engine(label: str) -> None:
    spoken = SPOKEN[label]
    pcm = recording("librivox-0880.wav")
    alone = decode_alone(spoken, encode_all(spoken, at_rate(pcm, RATE_HZ, spoken.rate_hz)), lambda _: False)
    assert likeness_db(alone, say(spoken, pcm)) > PHONE_DB
