"""How good speech sounds: PESQ (ITU-T P.862), word errors of PocketSphinx, and the plain distance of two recordings."""

from __future__ import annotations

import csv
import math
import tempfile
from collections import Counter
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pocketsphinx
from numpy.typing import NDArray

from conformance.lab.speech import CardRecogniser
from media.clips import read_file

__all__ = ["RECORDINGS", "aligned", "pesq_of", "recording", "snr_db", "word_errors"]

Pcm = NDArray[np.int16]
ROOT = Path(__file__).parents[2]
FOLDERS = (ROOT / "conformance" / "lab" / "audio", ROOT / "tests" / "data" / "speech")
RATE_HZ = 16000
KNOWN_SHARE = 0.5


def _read_transcripts() -> dict[str, str]:
    found: dict[str, str] = {}
    for folder in FOLDERS:
        with (folder / "transcripts.tsv").open() as file:
            found |= dict(csv.reader(file, delimiter="\t"))
    return found


RECORDINGS = _read_transcripts()
"""File → the words in it."""


@cache
def recording(name: str) -> Pcm:
    """At 16 kHz."""
    path = next(folder / name for folder in FOLDERS if (folder / name).exists())
    return np.asarray(read_file(path, RATE_HZ), np.int16)


def delay_of(reference: Pcm, heard: Pcm) -> int:
    """Samples by which ``heard`` is later than ``reference``, by their correlation."""
    size = len(reference) + len(heard)
    spectrum = np.fft.rfft(reference.astype(float), size).conj() * np.fft.rfft(heard.astype(float), size)
    delay = int(np.argmax(np.fft.irfft(spectrum, size)))
    return delay if delay < len(heard) else delay - size


def aligned(reference: Pcm, heard: Pcm) -> Pcm:
    """``heard`` without its delay, as long as ``reference``; what is missing is silence."""
    delay = delay_of(reference, heard)
    made = np.zeros(len(reference), np.int16)
    start, end = max(0, delay), min(len(heard), delay + len(reference))
    made[start - delay : end - delay] = heard[start:end]
    return made


def snr_db(reference: Pcm, heard: Pcm) -> float:
    """Of two aligned recordings, at most 120 dB."""
    error = reference.astype(float) - heard.astype(float)
    ratio = np.sum(reference.astype(float) ** 2) / max(np.sum(error**2), 1e-12)
    return float(np.clip(10 * np.log10(max(ratio, 1e-12)), -20, 120))


def pesq_of(reference: Pcm, heard: Pcm, rate_hz: int) -> float:
    """MOS-LQO; wideband (P.862.2) at 16 kHz, narrowband (P.862.1) at 8 kHz."""
    from pesq import pesq  # of the extra "quality": needs a compiler, and only measurements need it

    return float(pesq(rate_hz, reference, heard, "wb" if rate_hz == RATE_HZ else "nb"))


@cache
def _sentences() -> Any:
    """What follows what in the sentences makes it quick; that any word may follow lets the codec make errors."""
    with tempfile.NamedTemporaryFile("w", suffix=".lm") as file:
        file.write(_bigrams([text.split() for name, text in RECORDINGS.items() if not _is_cards(name)]))
        file.flush()
        return pocketsphinx.Decoder(lm=file.name, loglevel="FATAL", cmn="batch")


def _bigrams(sentences: list[list[str]]) -> str:
    """A language model in ARPA's format: half of the probability is left to words that never followed."""
    sequences = [["<s>", *words, "</s>"] for words in sentences]
    after: dict[str, Counter[str]] = {}
    for sequence in sequences:
        for word, following in pairwise(sequence):
            after.setdefault(word, Counter())[following] += 1
    words = sorted({word for sequence in sequences for word in sequence})
    each = math.log10(1 / len(words))
    ones = [f"{each:.4f} {word} {math.log10(KNOWN_SHARE):.4f}" for word in words]
    twos = [
        f"{math.log10(KNOWN_SHARE * count / counts.total()):.4f} {word} {following}"
        for word, counts in after.items()
        for following, count in counts.items()
    ]
    parts = ["\\data\\", f"ngram 1={len(ones)}", f"ngram 2={len(twos)}", ""]
    return "\n".join([*parts, "\\1-grams:", *ones, "", "\\2-grams:", *twos, "", "\\end\\", ""])


def _is_cards(name: str) -> bool:
    return name.startswith("cards")


@cache
def _cards() -> CardRecogniser:
    return CardRecogniser()


def recognise(name: str, heard: Pcm) -> str:
    """The words of a recording at 16 kHz."""
    if _is_cards(name):
        return _cards().recognise(heard)
    decoder = _sentences()
    decoder.start_utt()
    decoder.process_raw(heard.tobytes(), False, True)
    decoder.end_utt()
    hypothesis = decoder.hyp()
    return "" if hypothesis is None else str(hypothesis.hypstr)


def word_errors(name: str, heard: Pcm) -> int:
    """Substituted, missing and added words."""
    wanted, got = RECORDINGS[name].split(), recognise(name, heard).split()
    row = list(range(len(got) + 1))
    for i, word in enumerate(wanted, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(got, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (word != other))
    return row[-1]
