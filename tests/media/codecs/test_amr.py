"""AMR and AMR-WB with their libraries: speech through coder and decoder, DTX, loss, mode requests."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.codecs.amr_modes import ModeControl, read_mode_set
from media.codecs.amr_payload import AMR, AMR_WB, frame_type
from media.codecs.base import CodecError
from tests.media.codecs.speech import codec_of, frames, likeness, speech

CODECS = [("AMR", 8000), ("AMR-WB", 16000)]


@pytest.mark.parametrize(("name", "rate_hz"), CODECS)
@pytest.mark.parametrize("parameters", [{}, {"octet-align": "1", "mode-set": "0,1,2"}])
def test_speech_is_still_speech(name: str, rate_hz: int, parameters: dict[str, str]) -> None:
    codec = codec_of(name, rate_hz)
    encoder, decoder = codec.new_encoder(parameters), codec.new_decoder(parameters)
    sending, receiving = codec.send_format(parameters), codec.receive_format(parameters)
    said = speech(rate_hz)
    heard = []
    for samples in frames(said, codec.frame_samples):
        coded = encoder.encode(samples)
        if coded is None:
            heard.append(decoder.decode(None))
        else:
            heard += [decoder.decode(each) for each in receiving.unpack_untrusted(sending.pack([coded])).frames]
    assert likeness(said, np.concatenate(heard)) > (0.8 if parameters else 0.9)


@pytest.mark.parametrize(("name", "rate_hz"), CODECS)
def test_silence_is_sent_as_sid_and_sounds_like_silence(name: str, rate_hz: int) -> None:
    codec = codec_of(name, rate_hz)
    encoder, decoder = codec.new_encoder({}), codec.new_decoder({})
    sid_type = AMR.sid_type if name == "AMR" else AMR_WB.sid_type
    sent = [encoder.encode(np.zeros(codec.frame_samples, np.int16)) for _ in range(60)]
    kinds = [None if frame is None else frame_type(frame) for frame in sent]
    assert kinds[-16:].count(sid_type) == 2  # every eighth frame, TS 26.093
    assert kinds[-16:].count(None) == 14
    assert max(int(np.abs(decoder.decode(frame)).max()) for frame in sent) < 50


@pytest.mark.parametrize(("name", "rate_hz"), CODECS)
def test_a_long_gap_fades_out(name: str, rate_hz: int) -> None:
    codec = codec_of(name, rate_hz)
    encoder, decoder = codec.new_encoder({}), codec.new_decoder({})
    for samples in frames(speech(rate_hz), codec.frame_samples)[:60]:
        loud = decoder.decode(encoder.encode(samples))
    quiet = [decoder.decode(None) for _ in range(40)][-1]
    assert np.abs(quiet.astype(int)).mean() < 0.2 * np.abs(loud.astype(int)).mean() + 20


@pytest.mark.parametrize(("name", "rate_hz"), CODECS)
def test_a_damaged_frame_counts_as_lost(name: str, rate_hz: int) -> None:
    codec = codec_of(name, rate_hz)
    encoder = codec.new_encoder({})
    sent = [encoder.encode(samples) for samples in frames(speech(rate_hz), codec.frame_samples)[:30]]
    outcomes = []
    for last in (None, bytes([(sent[20] or b"")[0] & ~4]) + (sent[20] or b"")[1:]):
        decoder = codec.new_decoder({})
        for frame in sent[:20]:
            decoder.decode(frame)
        outcomes.append(decoder.decode(last))
    assert (outcomes[0] == outcomes[1]).all()


@pytest.mark.parametrize(("name", "rate_hz"), CODECS)
def test_the_peer_chooses_the_mode(name: str, rate_hz: int) -> None:
    codec = codec_of(name, rate_hz)
    encoder = codec.new_encoder({"mode-set": "0,2,5"})
    speaking = frames(speech(rate_hz, 11.0), codec.frame_samples)
    loudest = max(
        range(len(speaking) - 20), key=lambda at: sum(int(np.abs(s.astype(int)).sum()) for s in speaking[at : at + 20])
    )
    seen = []
    for position, samples in enumerate(speaking[loudest : loudest + 20]):
        if position == 10:
            encoder.request_mode(0)
        frame = encoder.encode(samples)
        seen.append(None if frame is None else frame_type(frame))
    assert set(seen[:10]) == {5 if name == "AMR" else 2}
    assert set(seen[10:]) == {0}


def test_what_is_not_spoken_is_refused() -> None:
    codec = codec_of("AMR-WB", 16000)
    for parameters in ({"crc": "1"}, {"robust-sorting": "1"}, {"interleaving": "30"}, {"mode-set": "9"}):
        with pytest.raises(CodecError):
            codec.receive_format(parameters)


@pytest.mark.parametrize(("name", "rate_hz"), CODECS)
def test_closing_is_final_and_harmless_twice(name: str, rate_hz: int) -> None:
    codec = codec_of(name, rate_hz)
    for _ in range(50):
        decoder, encoder = codec.new_decoder({}), codec.new_encoder({})
        decoder.decode(None)
        for each in (decoder, encoder):
            each.close()
            each.close()


@given(
    st.sets(st.integers(0, 7), min_size=1),
    st.booleans(),
    st.sampled_from([1, 2]),
    st.lists(st.integers(0, 7) | st.none(), max_size=60),
)
def test_modes_stay_within_what_was_agreed(
    modes: set[int], neighbours: bool, period: int, wishes: list[int | None]
) -> None:
    parameters = {
        "mode-set": ",".join(map(str, sorted(modes))),
        "mode-change-neighbor": str(int(neighbours)),
        "mode-change-period": str(period),
    }
    control = ModeControl(parameters, AMR, first=7)
    allowed = sorted(modes)
    sent = []
    for wish in [*wishes, *[None] * 20]:
        if wish is not None:
            control.request(wish)
        sent.append(control.next_mode())
    assert set(sent) <= modes
    for number, (before, after) in enumerate(pairwise(sent), 2):
        if before != after:
            assert number % period == 0
            assert not neighbours or abs(allowed.index(before) - allowed.index(after)) == 1
    last = next((wish for wish in reversed(wishes) if wish is not None), 7)
    assert sent[-1] == max((mode for mode in allowed if mode <= last), default=allowed[0])


def test_mode_sets() -> None:
    assert read_mode_set({}, AMR_WB) == tuple(range(9))
    assert read_mode_set({"mode-set": " 2, 0 ,7"}, AMR) == (0, 2, 7)
    for text in ("8", "a", "0,,1", "00"):
        with pytest.raises(CodecError):
            read_mode_set({"mode-set": text}, AMR)
