"""Hearing and speaking of the lab's voice agent: end-pointing, PocketSphinx, espeak-ng.

Audio is signed 16-bit mono at ``RATE_HZ`` throughout.  ``Endpointer`` is sans-IO and cuts a live stream into
utterances; each is trimmed to its speech, since PocketSphinx takes breath and room noise for short words ("eight",
"two").  ``CardRecogniser`` and ``Synthesiser`` wrap native code that keeps state: both serialise their callers with a
lock, so that any worker thread may use them.
"""

from __future__ import annotations

import collections
import ctypes
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import attrs
import espeakng_loader
import numpy as np
import numpy.typing as npt
import pocketsphinx
import soxr

__all__ = [
    "FRAME_SAMPLES",
    "GRAMMAR_ANSWER",
    "GRAMMAR_CARDS",
    "RATE_HZ",
    "CardRecogniser",
    "Endpointer",
    "Recogniser",
    "SpeechError",
    "SpeechStarted",
    "Synthesiser",
    "Utterance",
    "hear_all",
    "level_db",
]

Pcm = npt.NDArray[np.int16]

RATE_HZ = 16000
FRAME_MS = 20
FRAME_SAMPLES = RATE_HZ * FRAME_MS // 1000

GRAMMAR_CARDS = Path(__file__).with_name("cards.gram")
"""What a caller may say."""
GRAMMAR_ANSWER = Path(__file__).with_name("answer.gram")
"""What the agent says: to check that a caller could understand it."""

QUIET_DB = 20.0
"""Least noise floor assumed, so that digital silence does not make a whisper of hiss count as speech."""
MIN_SPEECH_DB = 50.0
"""No frame below this is speech, however quiet the line is (−40 dBFS)."""
ABOVE_FLOOR_DB = 18.0
ONSET_FRAMES = 3
"""Frames above the threshold within ``ONSET_WINDOW`` that start an utterance: a click has one."""
ONSET_WINDOW = 5
PAD_FRAMES = 5
"""Kept before the first and after the last frame of speech: soft consonants lie below the threshold."""
MIN_VOICED_FRAMES = 6
"""An utterance with less speech is a knock, not a word."""
MAX_UTTERANCE_FRAMES = 15_000 // FRAME_MS
"""Bounds memory and decoding time when somebody never pauses."""


class SpeechError(Exception):
    """espeak-ng or PocketSphinx could not be started or failed."""


@attrs.frozen
class SpeechStarted:
    """The caller began to speak; ``at_ms`` is stream time of the first voiced frame."""

    at_ms: int


@attrs.frozen(eq=False)
class Utterance:
    """One stretch of speech, trimmed.  ``pcm``: int16, shape (n_samples,)."""

    pcm: Pcm
    start_ms: int
    end_ms: int
    """End of the last voiced frame; the decision fell ``Endpointer.hangover_ms`` later."""


def level_db(frame: Pcm) -> float:
    """Level over one least significant bit, DC removed: 0 is digital silence, 90 is full scale."""
    samples = frame.astype(np.float64)
    return float(10.0 * np.log10(np.var(samples) + 1.0))


class Endpointer:
    """Energy-based voice activity detection with a noise floor that follows the line."""

    def __init__(self, hangover_ms: int = 560) -> None:
        self.hangover_ms = hangover_ms
        self._hangover_frames = hangover_ms // FRAME_MS
        self._rest = np.zeros(0, np.int16)
        self._floor_db = 40.0
        self._n_frames = 0
        self._recent: collections.deque[tuple[Pcm, bool]] = collections.deque(maxlen=PAD_FRAMES + ONSET_WINDOW)
        self._utterance: list[Pcm] = []
        self._first_voiced = 0
        self._last_voiced = 0
        self._n_voiced = 0

    @property
    def is_speaking(self) -> bool:
        return bool(self._utterance)

    def receive_pcm(self, pcm: Pcm) -> list[SpeechStarted | Utterance]:
        """Takes any number of samples; returns what began or ended with them."""
        samples = np.concatenate([self._rest, pcm]) if len(self._rest) else pcm
        n_whole = len(samples) // FRAME_SAMPLES * FRAME_SAMPLES
        self._rest = samples[n_whole:].copy()
        events: list[SpeechStarted | Utterance] = []
        for offset in range(0, n_whole, FRAME_SAMPLES):
            events.extend(self._receive_frame(samples[offset : offset + FRAME_SAMPLES].copy()))
        return events

    def flush(self) -> Utterance | None:
        """The utterance that was still going on, if any: the stream has ended."""
        return self._end() if self._utterance else None

    def _receive_frame(self, frame: Pcm) -> Iterable[SpeechStarted | Utterance]:
        level = level_db(frame)
        is_voiced = level > max(self._floor_db + ABOVE_FLOOR_DB, MIN_SPEECH_DB)
        self._follow_floor(level, is_voiced)
        number = self._n_frames
        self._n_frames += 1
        if self._utterance:
            self._utterance.append(frame)
            if is_voiced:
                self._last_voiced = number
                self._n_voiced += 1
            is_over = number - self._last_voiced >= self._hangover_frames
            if is_over or len(self._utterance) >= MAX_UTTERANCE_FRAMES:
                ended = self._end()
                return [ended] if ended is not None else []
            return []
        self._recent.append((frame, is_voiced))
        window = [voiced for _, voiced in self._recent][-ONSET_WINDOW:]
        if sum(window) < ONSET_FRAMES:
            return []
        self._n_voiced = sum(window)
        self._first_voiced = number - (len(window) - 1 - window.index(True))
        self._last_voiced = number
        keep = number - self._first_voiced + 1 + PAD_FRAMES
        self._utterance = [kept for kept, _ in self._recent][-keep:]
        self._recent.clear()
        return [SpeechStarted(self._first_voiced * FRAME_MS)]

    def _follow_floor(self, level: float, is_voiced: bool) -> None:
        """Falls at once, rises slowly, and slower still in speech (where it is the pauses that carry the floor)."""
        if level < self._floor_db:
            self._floor_db += 0.5 * (level - self._floor_db)
        else:
            self._floor_db += (0.002 if is_voiced else 0.02) * (level - self._floor_db)
        self._floor_db = max(self._floor_db, QUIET_DB)

    def _end(self) -> Utterance | None:
        frames, self._utterance = self._utterance, []
        self._recent.clear()
        n_after = self._n_frames - 1 - self._last_voiced
        keep = len(frames) - max(0, n_after - PAD_FRAMES)
        if self._n_voiced < MIN_VOICED_FRAMES:
            return None
        return Utterance(
            np.concatenate(frames[:keep]), self._first_voiced * FRAME_MS, (self._last_voiced + 1) * FRAME_MS
        )


class Recogniser(Protocol):
    """Turns one utterance into words."""

    def recognise(self, pcm: Pcm) -> str: ...


class CardRecogniser:
    """PocketSphinx with a JSGF grammar.  Creating one takes 0.1 to 1 s: do it at start, in a thread."""

    def __init__(self, grammar: Path = GRAMMAR_CARDS) -> None:
        # A low lw keeps the grammar's own probabilities from favouring extra short words; the fillers take up breath.
        # Human speech does best at 1, synthetic at 3.  Batch normalisation makes utterances independent of each other.
        weight = 3.0 if grammar == GRAMMAR_ANSWER else 1.0
        try:
            self._decoder: Any = pocketsphinx.Decoder(
                jsgf=str(grammar), loglevel="FATAL", cmn="batch", lw=weight, wip=0.01, fillprob=0.01, silprob=0.05
            )
        except RuntimeError as error:
            raise SpeechError(f"PocketSphinx with {grammar.name}: {error}") from error
        self._lock = threading.Lock()

    def recognise(self, pcm: Pcm) -> str:
        """The words of one utterance, lower case; empty when nothing fits the grammar.  Takes 2 to 10 % of its time."""
        with self._lock:
            self._decoder.start_utt()
            self._decoder.process_raw(pcm.tobytes(), False, True)
            self._decoder.end_utt()
            hypothesis = self._decoder.hyp()
        return str(hypothesis.hypstr) if hypothesis is not None else ""


def hear_all(recogniser: Recogniser, pcm: Pcm) -> str:
    """The words of a whole recording, its utterances joined by blanks.  ``pcm``: int16 at 16 kHz."""
    endpointer = Endpointer()
    found = [event for event in endpointer.receive_pcm(pcm) if isinstance(event, Utterance)]
    if (last := endpointer.flush()) is not None:
        found.append(last)
    return " ".join(words for utterance in found if (words := recogniser.recognise(utterance.pcm)))


_AUDIO_OUTPUT_SYNCHRONOUS = 2
_PARAMETER_RATE = 1
_PARAMETER_WORD_GAP = 7
_CHARS_UTF8 = 1
_PHONEMES = 0x100
_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)

_STRETCH = 1 / 0.95
"""Made slower by this, which lowers formants: more of the sibilants lies below the telephone's 3.4 kHz."""
_PRE_EMPHASIS = 0.7
_PEAK = 14000.0
_CLEARER = {"seven": "[[ss'Ev@n]]"}
"""Words that need more than their usual sound on a telephone: a longer s."""

_library_lock = threading.Lock()
"""espeak-ng keeps one global state per process."""


class Synthesiser:
    """espeak-ng from the wheel `espeakng-loader`, made clear for the telephone; 1 s of speech takes a few milliseconds.

    Voice, speed, stretch and pre-emphasis were chosen by what PocketSphinx understands after µ-law at 8 kHz.
    """

    def __init__(self, voice: str = "en-us+f2", words_per_minute: int = 130, word_gap_10ms: int = 0) -> None:
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        self._chunks: list[Pcm] = []
        self._callback = _Callback(self._collect)
        self._voice = voice
        self._words_per_minute = words_per_minute
        self._word_gap_10ms = word_gap_10ms
        with _library_lock:
            rate = self._library.espeak_Initialize(
                _AUDIO_OUTPUT_SYNCHRONOUS, 0, espeakng_loader.get_data_path().encode(), 0
            )
            if rate <= 0:
                raise SpeechError("espeak-ng could not be started with its data")
            self._rate_hz = int(rate)

    def _collect(self, samples: Any, n_samples: int, _events: object) -> int:
        if samples and n_samples > 0:
            self._chunks.append(np.ctypeslib.as_array(samples, shape=(n_samples,)).copy())
        return 0

    def speak(self, text: str) -> Pcm:
        """Speech for ``text``: int16, shape (n_samples,), at ``RATE_HZ``.  Raises SpeechError."""
        encoded = " ".join(_clearer(word) for word in text.split()).encode()
        with _library_lock:
            self._library.espeak_SetSynthCallback(self._callback)
            if self._library.espeak_SetVoiceByName(self._voice.encode()) != 0:
                raise SpeechError(f"espeak-ng has no voice {self._voice!r}")
            self._library.espeak_SetParameter(_PARAMETER_RATE, self._words_per_minute, 0)
            self._library.espeak_SetParameter(_PARAMETER_WORD_GAP, self._word_gap_10ms, 0)
            self._chunks = []
            status = self._library.espeak_Synth(encoded, len(encoded) + 1, 0, 0, 0, _CHARS_UTF8 | _PHONEMES, None, None)
            self._library.espeak_Synchronize()
            chunks, self._chunks = self._chunks, []
        if status != 0 or not chunks:
            raise SpeechError(f"espeak-ng said nothing for {text!r} (status {status})")
        made = np.concatenate(chunks).astype(np.float64)
        made = soxr.resample(made, self._rate_hz, RATE_HZ * _STRETCH, quality="HQ")
        made[1:] -= _PRE_EMPHASIS * made[:-1]
        return np.asarray(made * (_PEAK / max(1.0, float(np.abs(made).max()))), dtype=np.int16)


def _clearer(word: str) -> str:
    bare = word.rstrip(",.")
    return _CLEARER.get(bare, bare) + word[len(bare) :]
