"""L16, and what the registry says of it."""

import numpy as np
import pytest

from media.codecs.base import MAX_FRAMES, PayloadError
from media.codecs.registry import available, find_codec, missing


@pytest.mark.parametrize("rate_hz", [8000, 16000])
def test_round_trip(rate_hz: int) -> None:
    codec = find_codec("l16", rate_hz)
    assert codec is not None
    assert codec.frame_samples == codec.frame_timestamps == rate_hz // 50
    samples = np.arange(-100, codec.frame_samples - 100, dtype=np.int16)
    frame = codec.new_encoder({}).encode(samples)
    assert frame is not None
    payload = codec.send_format({}).pack([frame, frame])
    assert payload[:2] == b"\xff\x9c"
    unpacked = codec.receive_format({}).unpack_untrusted(payload)
    assert b"".join(each or b"" for each in unpacked.frames) == frame + frame
    assert unpacked.frame_timestamps == rate_hz // 100
    assert (codec.new_decoder({}).decode(frame) == samples).all()


def test_a_missing_frame_is_the_last_one_fading() -> None:
    codec = find_codec("L16", 8000)
    assert codec is not None
    decoder = codec.new_decoder({})
    assert not decoder.decode(None).any()
    decoder.decode(np.full(160, 1000, ">i2").tobytes())
    assert set(decoder.decode(None).tolist()) == {500}
    assert not decoder.decode(None).any()


@pytest.mark.parametrize("n_octets", [0, 1, 159, 161, 321])
def test_odd_lengths_are_refused(n_octets: int) -> None:
    codec = find_codec("L16", 8000)
    assert codec is not None
    with pytest.raises(PayloadError):
        codec.receive_format({}).unpack_untrusted(bytes(n_octets))


def test_a_packet_is_bounded() -> None:
    codec = find_codec("L16", 8000)
    assert codec is not None
    assert len(codec.receive_format({}).unpack_untrusted(bytes(320 * 100)).frames) == 2 * MAX_FRAMES


def test_registry() -> None:
    assert {codec.name for codec in available()} >= {"L16"}
    assert find_codec("EVS", 16000) is None
    assert "L16/8000" not in missing()
