"""G.729 with Annex B in what is received: frames of 10 ms, SID frames, pauses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from media.codecs.base import MAX_FRAMES, PayloadError
from media.codecs.native import load_library
from tests.media.codecs.speech import codec_of, frames, speech


class AnnexB:
    """A phone that sends SID frames."""

    def __init__(self) -> None:
        self._ffi, self._library = load_library(
            """
            void *initBcg729EncoderChannel(uint8_t has_vad);
            void closeBcg729EncoderChannel(void *state);
            void bcg729Encoder(void *state, const int16_t samples[], uint8_t octets[], uint8_t *n_octets);
            """,
            "libbcg729.so.0",
        )
        self._state: Any = self._library.initBcg729EncoderChannel(1)

    def encode(self, samples: Any) -> Iterator[bytes]:
        out, n_octets = self._ffi.new("uint8_t[10]"), self._ffi.new("uint8_t *")
        for each in frames(samples, 80):
            self._library.bcg729Encoder(self._state, each.tolist(), out, n_octets)
            yield self._ffi.buffer(out, n_octets[0])[:]

    def close(self) -> None:
        self._library.closeBcg729EncoderChannel(self._state)


def test_silence_of_annex_b_is_comfort_noise_at_its_level() -> None:
    codec = codec_of("G729", 8000)
    phone, decoder = AnnexB(), codec.new_decoder({})
    noise = np.random.default_rng(1).normal(0, 300, 8000 * 4).astype(np.int16)
    said = np.concatenate([speech(8000, 2.0), noise])
    levels, n_sid, n_left_out = [], 0, 0
    for number, frame in enumerate(phone.encode(said)):
        n_sid += len(frame) == 2
        n_left_out += not frame
        heard = decoder.decode(frame or None)
        if number >= 400:
            levels.append(float(np.sqrt(np.mean(heard.astype(float) ** 2))))
    phone.close()
    assert n_sid > 3
    assert n_left_out > 100
    assert 60 < np.median(levels) < 600
    assert max(levels) < 1500


def test_a_sid_frame_is_the_last_of_a_packet_and_begins_a_pause() -> None:
    receiving = codec_of("G729", 8000).receive_format({})
    unpacked = receiving.unpack_untrusted(bytes(range(22)))
    assert [len(frame or b"") for frame in unpacked.frames] == [10, 10, 2]
    assert unpacked.is_pause
    assert unpacked.frame_timestamps == 80
    assert receiving.unpack_untrusted(b"ab").is_pause
    assert not receiving.unpack_untrusted(bytes(30)).is_pause


@pytest.mark.parametrize("n_octets", [0, 1, 3, 9, 11, 13, 19, 24])
def test_other_lengths_are_refused(n_octets: int) -> None:
    with pytest.raises(PayloadError):
        codec_of("G729", 8000).receive_format({}).unpack_untrusted(bytes(n_octets))


def test_a_packet_is_bounded() -> None:
    unpacked = codec_of("G729", 8000).receive_format({}).unpack_untrusted(bytes(1402))
    assert len(unpacked.frames) == 2 * MAX_FRAMES


@pytest.mark.parametrize("parameters", [{}, {"annexb": "no"}, {"annexb": "yes"}])
def test_we_never_send_sid_frames(parameters: dict[str, str]) -> None:
    encoder = codec_of("G729", 8000).new_encoder(parameters)
    assert {len(encoder.encode(np.zeros(160, np.int16)) or b"") for _ in range(100)} == {20}
