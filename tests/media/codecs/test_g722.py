"""G.722: its clock, packets of any length, what is heard of a loss."""

from __future__ import annotations

import numpy as np
import pytest

from media.codecs.base import MAX_FRAMES, PayloadError
from media.codecs.repetition import Repetition
from tests.media.codecs.speech import codec_of, frames, likeness, speech


def test_the_clock_is_half_of_the_rate() -> None:
    codec = codec_of("g722", 8000)
    assert (codec.sample_rate_hz, codec.frame_samples, codec.frame_timestamps) == (16000, 320, 160)
    frame = codec.new_encoder({}).encode(np.zeros(320, np.int16))
    assert frame is not None
    assert len(frame) == 160


def test_what_is_above_telephone_speech_gets_through() -> None:
    codec = codec_of("g722", 8000)
    encoder, decoder = codec.new_encoder({}), codec.new_decoder({})
    tone = (8000 * np.sin(2 * np.pi * 6000 * np.arange(16000) / 16000)).astype(np.int16)
    heard = np.concatenate([decoder.decode(encoder.encode(samples)) for samples in frames(tone, 320)])[1600:]
    spectrum = np.abs(np.fft.rfft(heard * np.hanning(len(heard))))
    assert abs(np.argmax(spectrum) * 16000 / len(heard) - 6000) < 5


@pytest.mark.parametrize("n_octets", [1, 80, 161, 240, 480])
def test_packets_of_any_length_are_one_stream(n_octets: int) -> None:
    codec = codec_of("g722", 8000)
    encoder, decoder, receiving = codec.new_encoder({}), codec.new_decoder({}), codec.receive_format({})
    said = speech(16000, 1.0)
    stream = b"".join(encoder.encode(samples) or b"" for samples in frames(said, 320))
    heard = []
    for at in range(0, len(stream), n_octets):
        unpacked = receiving.unpack_untrusted(stream[at : at + n_octets])
        assert unpacked.frame_timestamps == len(stream[at : at + n_octets])
        heard += [decoder.decode(frame) for frame in unpacked.frames]
    assert likeness(said, np.concatenate(heard)) > 0.97


def test_a_packet_is_bounded_and_never_empty() -> None:
    receiving = codec_of("g722", 8000).receive_format({})
    assert receiving.unpack_untrusted(bytes(9000)).frame_timestamps == MAX_FRAMES * 160
    with pytest.raises(PayloadError):
        receiving.unpack_untrusted(b"")


def test_repetition_goes_on_with_the_pitch_and_fades_into_what_comes() -> None:
    repetition = Repetition(16000)
    tone = (8000 * np.sin(2 * np.pi * 100 * np.arange(320 * 10) / 16000)).astype(np.int16)
    for samples in frames(tone, 320)[:5]:
        assert (repetition.receive(samples) == samples).all()
    made_up = repetition.conceal().astype(float)
    expected = tone[1600:1920].astype(float)
    assert np.corrcoef(made_up, expected)[0, 1] > 0.99
    assert abs(made_up[0] - tone[1599]) < 500  # no click
    after = repetition.receive(np.full(320, 4000, np.int16))
    assert abs(after[0] - made_up[-1]) < 1000
    assert (after[80:] == 4000).all()


def test_repetition_of_short_pieces() -> None:
    repetition = Repetition(16000)
    for at in range(0, 1280, 16):
        repetition.receive(np.arange(at, at + 16, dtype=np.int16))
    repetition.conceal()
    assert repetition.receive(np.zeros(0, np.int16)).size == 0
