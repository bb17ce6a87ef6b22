"""Opus: what is in a packet, error correction, DTX, the peer's settings, stereo."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from media.codecs.base import PayloadError, Redundancy
from media.codecs.native import load_library
from tests.media.codecs.speech import codec_of, frames, likeness, speech


class Peer:
    """libopus with settings that ours never has."""

    def __init__(self, *, channels: int = 1, application: int = 2048, **settings: int) -> None:
        self._ffi, self._library = load_library(
            """
            void *opus_encoder_create(int32_t rate, int channels, int application, int *error);
            void opus_encoder_destroy(void *state);
            int32_t opus_encode(void *state, const int16_t *s, int n, unsigned char *octets, int32_t n_octets);
            int opus_encoder_ctl(void *state, int request, ...);
            """,
            "libopus.so.0",
        )
        self._channels = channels
        state = self._library.opus_encoder_create(48000, channels, application, self._ffi.NULL)
        self._state = self._ffi.gc(state, self._library.opus_encoder_destroy)
        numbers = {"bit_rate": 4002, "fec": 4012, "loss": 4014, "dtx": 4016, "duration": 4040}
        for name, value in settings.items():
            assert self._library.opus_encoder_ctl(self._state, numbers[name], self._ffi.cast("int", value)) == 0

    def encode(self, samples: NDArray[np.int16]) -> bytes:
        """Samples at 48 kHz, interleaved."""
        out = self._ffi.new("unsigned char[4000]")
        speech = self._ffi.from_buffer("int16_t[]", np.ascontiguousarray(samples))
        n_octets = self._library.opus_encode(self._state, speech, len(samples) // self._channels, out, 4000)
        assert n_octets > 0
        octets: bytes = self._ffi.buffer(out, n_octets)[:]
        return octets


@pytest.mark.parametrize("ms", [2.5, 5, 10, 20, 40, 60])
@pytest.mark.parametrize("application", [2048, 2051])  # speech, and music coding at low delay
def test_frames_of_every_length(ms: float, application: int) -> None:
    codec = codec_of("opus", 48000)
    peer, decoder, receiving = (
        Peer(application=application, bit_rate=48000),
        codec.new_decoder({}),
        codec.receive_format({}),
    )
    said, size = speech(48000, 3.0), int(48 * ms)
    heard = []
    for samples in frames(said[: len(said) // size * size], size):
        unpacked = receiving.unpack_untrusted(peer.encode(samples))
        assert unpacked.frame_timestamps == size
        heard += [decoder.decode(frame) for frame in unpacked.frames]
        assert len(heard[-1]) == size // 3
    assert likeness(speech(16000, 3.0), np.concatenate(heard)) > 0.9


def test_stereo_is_heard_as_mono() -> None:
    codec = codec_of("opus", 48000)
    peer, decoder, receiving = Peer(channels=2, bit_rate=64000), codec.new_decoder({}), codec.receive_format({})
    said = np.repeat(speech(48000, 2.0), 2)
    heard = [
        decoder.decode(frame)
        for samples in frames(said, 1920)
        for frame in receiving.unpack_untrusted(peer.encode(samples)).frames
    ]
    assert likeness(speech(16000, 2.0), np.concatenate(heard)) > 0.9


def lost_every_fourth(*, with_redundancy: bool) -> float:
    """Likeness of what is heard in the lost frames."""
    codec = codec_of("opus", 48000)
    encoder, receiving = codec.new_encoder({"useinbandfec": "1"}), codec.receive_format({})
    decoder, whole = codec.new_decoder({}), codec.new_decoder({})
    sent = [encoder.encode(samples) or b"" for samples in frames(speech(16000), 320)]
    made_up, right = [], []
    for number, frame in enumerate(sent):
        expected = whole.decode(frame)
        if number % 4 == 3 and number + 1 < len(sent):
            assert receiving.unpack_untrusted(sent[number + 1]).repeats == 1
            made_up.append(decoder.decode(Redundancy(sent[number + 1]) if with_redundancy else None))
            right.append(expected)
        else:
            decoder.decode(frame)
    return float(np.corrcoef(np.concatenate(made_up), np.concatenate(right))[0, 1])


def test_error_correction_brings_back_what_was_lost() -> None:
    assert lost_every_fourth(with_redundancy=True) > 0.85 > 0.8 > lost_every_fourth(with_redundancy=False)


def test_a_pause_of_the_peer_is_a_pause() -> None:
    codec = codec_of("opus", 48000)
    peer, decoder, receiving = Peer(dtx=1), codec.new_decoder({}), codec.receive_format({})
    unpacked = [receiving.unpack_untrusted(peer.encode(np.zeros(960, np.int16))) for _ in range(60)]
    pauses = [each for each in unpacked if each.is_pause]
    assert len(pauses) > 30
    assert {each.repeats for each in pauses} == {0}
    assert max(int(np.abs(decoder.decode(frame)).max()) for each in unpacked for frame in each.frames) < 50


def sent_with(parameters: dict[str, str], samples: NDArray[np.int16]) -> list[Any]:
    encoder = codec_of("opus", 48000).new_encoder(parameters)
    return [encoder.encode(each) for each in frames(samples, 320)]


def test_we_pause_only_where_the_peer_says_so() -> None:
    silence = np.zeros(320 * 80, np.int16)
    assert None not in sent_with({}, silence)
    assert sent_with({"usedtx": "1"}, silence).count(None) > 40


def test_the_peers_settings_are_obeyed() -> None:
    said = speech(16000)
    usual = sum(map(len, sent_with({}, said)))
    assert sum(map(len, sent_with({"maxaveragebitrate": "10000"}, said))) < 0.6 * usual
    assert sum(map(len, sent_with({"maxaveragebitrate": "510000"}, said))) == usual
    assert len({len(frame) for frame in sent_with({"cbr": "1"}, said)}) == 1
    narrow = {frame[0] >> 5 for frame in sent_with({"maxplaybackrate": "8000"}, said)[10:]}
    assert narrow == {0}  # RFC 6716 table 2: configurations 0 to 3 are narrowband
    assert {frame[0] >> 3 for frame in sent_with({}, said)[10:]} <= {9, 13, 8, 10, 11}


@pytest.mark.parametrize("value", ["", "x", "-1", "99999999999", "٤", "0"])
def test_settings_that_say_nothing_are_passed_over(value: str) -> None:
    names = ("maxaveragebitrate", "maxplaybackrate", "usedtx", "cbr", "useinbandfec")
    assert sent_with(dict.fromkeys(names, value), np.zeros(320, np.int16))[0]


@pytest.mark.parametrize("payload", [b"", b"\x03", b"\x03\x00", b"\x03\x3f", b"\x1b\x03", b"\xfb\x31"])
def test_packets_of_more_than_120_ms_or_none_are_refused(payload: bytes) -> None:
    with pytest.raises(PayloadError):
        codec_of("opus", 48000).receive_format({}).unpack_untrusted(payload)


def test_a_malformed_packet_lasts_as_long_as_it_says() -> None:
    """Two frames of equal length in an odd number of octets (RFC 6716 §3.2.3)."""
    codec = codec_of("opus", 48000)
    (frame,) = codec.receive_format({}).unpack_untrusted(bytes([9 << 3 | 1]) + bytes(5)).frames
    assert len(codec.new_decoder({}).decode(frame)) == 640
