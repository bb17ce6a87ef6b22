from __future__ import annotations

import io
import json
import struct
import wave
from pathlib import Path

import numpy as np
import pytest

from conformance.lab.recogniser_process import MAX_BYTES, RecogniserProcess, serve
from conformance.lab.speech import GRAMMAR_CARDS, SpeechError, hear_all

AUDIO = Path(__file__).parents[2] / "conformance" / "lab" / "audio"


def read_wav(name: str) -> np.ndarray:
    with wave.open(str(AUDIO / name)) as wav:
        return np.frombuffer(wav.readframes(wav.getnframes()), np.int16)


def answers(data: bytes) -> list[dict[str, str]]:
    sink = io.BytesIO()
    serve(GRAMMAR_CARDS, io.BytesIO(data), sink)
    return [json.loads(line) for line in sink.getvalue().splitlines()]


def test_hears_in_another_process():
    recogniser = RecogniserProcess()
    try:
        assert hear_all(recogniser, read_wav("cards-001.wav")) == "ten of clubs"
        assert hear_all(recogniser, read_wav("cards-004.wav")) == "five five"
    finally:
        recogniser.close()
    with pytest.raises(SpeechError, match="has ended"):
        recogniser.recognise(np.zeros(1000, np.int16))
    recogniser.close()


def test_bad_grammar_is_told(tmp_path):
    grammar = tmp_path / "no.gram"
    grammar.write_text("nonsense")
    with pytest.raises(SpeechError, match=r"no\.gram"):
        RecogniserProcess(grammar)


def test_framing():
    pcm = read_wav("cards-004.wav").tobytes()
    whole = struct.pack("<I", len(pcm)) + pcm
    assert answers(b"") == [{"words": ""}]
    assert answers(whole + whole[:-1]) == [{"words": ""}, {"words": "five five"}]
    assert answers(struct.pack("<I", 100) + b"short") == [{"words": ""}]
    assert "error" in answers(struct.pack("<I", MAX_BYTES + 1))[1]
