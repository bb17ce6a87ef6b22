"""What holds for every codec with a library: speech stays speech, loss fades, nothing a peer sends breaks anything."""

from __future__ import annotations

import random

import numpy as np
import pytest

from media.codecs.base import PayloadError
from tests.media.codecs.speech import codec_of, frames, likeness, speech

CODECS = [("AMR", 8000), ("AMR-WB", 16000), ("G722", 8000), ("OPUS", 48000), ("G729", 8000)]
NEW = CODECS[2:]
MIN_LIKENESS = {"G722": 0.97, "OPUS": 0.85, "G729": 0.8}
RANDOM_PAYLOADS = 1500


@pytest.mark.parametrize(("name", "clock_hz"), NEW)
def test_speech_is_still_speech(name: str, clock_hz: int) -> None:
    codec = codec_of(name, clock_hz)
    encoder, decoder = codec.new_encoder({}), codec.new_decoder({})
    sending, receiving = codec.send_format({}), codec.receive_format({})
    said = speech(codec.sample_rate_hz)
    heard = []
    for samples in frames(said, codec.frame_samples):
        coded = encoder.encode(samples)
        assert coded is not None
        unpacked = receiving.unpack_untrusted(sending.pack([coded]))
        assert len(unpacked.frames) * (unpacked.frame_timestamps or 0) == codec.frame_timestamps
        heard += [decoder.decode(each) for each in unpacked.frames]
    received = np.concatenate(heard)
    assert len(received) == len(said)
    assert likeness(said, received) > MIN_LIKENESS[name]
    assert np.std(received) == pytest.approx(np.std(said), rel=0.15)


@pytest.mark.parametrize(("name", "clock_hz"), NEW)
def test_a_lost_frame_is_made_up_and_a_long_gap_fades_out(name: str, clock_hz: int) -> None:
    codec = codec_of(name, clock_hz)
    encoder, decoder = codec.new_encoder({}), codec.new_decoder({})
    receiving = codec.receive_format({})
    tone = 8000 * np.sin(2 * np.pi * 200 * np.arange(30 * codec.frame_samples) / codec.sample_rate_hz)
    for samples in frames(tone.astype(np.int16), codec.frame_samples):
        for each in receiving.unpack_untrusted(encoder.encode(samples) or b"").frames:
            loud = decoder.decode(each)
    gap = [decoder.decode(None) for _ in range(50)]
    assert {len(each) for each in gap} == {codec.frame_samples}
    first = np.abs(gap[0].astype(int)).mean() / np.abs(loud.astype(int)).mean()
    assert 0.3 < first < 1.2
    assert np.abs(gap[-1].astype(int)).mean() < 0.05 * np.abs(loud.astype(int)).mean()


@pytest.mark.parametrize(("name", "clock_hz"), CODECS)
def test_nothing_was_received_yet(name: str, clock_hz: int) -> None:
    codec = codec_of(name, clock_hz)
    decoder = codec.new_decoder({})
    assert all(np.abs(decoder.decode(None).astype(int)).max() < 100 for _ in range(10))


@pytest.mark.parametrize(("name", "clock_hz"), CODECS)
def test_random_payloads_are_read_or_refused(name: str, clock_hz: int) -> None:
    codec = codec_of(name, clock_hz)
    decoder, dice = codec.new_decoder({}), random.Random(7)
    receiving = codec.receive_format({})
    lengths = [0, 1, 2, 3, 10, 12, 20, 22, 32, 33, 61, 160]
    read = 0
    for number in range(RANDOM_PAYLOADS):
        payload = dice.randbytes(dice.choice(lengths) if number % 2 else dice.randrange(400))
        try:
            unpacked = receiving.unpack_untrusted(payload)
        except PayloadError:
            continue
        read += 1
        for frame in unpacked.frames:
            samples = decoder.decode(frame)
            lasts = unpacked.frame_timestamps if unpacked.frame_timestamps and frame else codec.frame_timestamps
            assert len(samples) * codec.clock_rate_hz == lasts * codec.sample_rate_hz
            assert samples.dtype == np.int16
    assert read > 5


@pytest.mark.parametrize(("name", "clock_hz"), CODECS)
def test_closing_is_final_and_harmless_twice(name: str, clock_hz: int) -> None:
    codec = codec_of(name, clock_hz)
    for _ in range(50):
        decoder, encoder = codec.new_decoder({}), codec.new_encoder({})
        decoder.decode(None)
        encoder.encode(np.zeros(codec.frame_samples, np.int16))
        for each in (decoder, encoder):
            each.close()
            each.close()


@pytest.mark.parametrize(("name", "clock_hz"), CODECS)
def test_streams_know_nothing_of_each_other_and_leave_the_samples_as_they_are(name: str, clock_hz: int) -> None:
    codec = codec_of(name, clock_hz)
    said = frames(speech(codec.sample_rate_hz), codec.frame_samples)[20:60]
    alone = [codec.new_encoder({})]
    together = [codec.new_encoder({}), codec.new_encoder({})]
    for number, samples in enumerate(said):
        expected = alone[0].encode(samples)
        assert together[0].encode(samples) == expected
        together[1].encode(said[-number])
