from __future__ import annotations

import numpy as np

from media.vad import HANGOVER_FRAMES, ONSET_FRAMES, STRONG_ONSET_FRAMES, VadColumns
from tests.media.support import sine

ROWS = np.array([3])
LOUD = sine(300, 160, amplitude=6000)[None, :]
QUIET = np.random.default_rng(5).normal(scale=15, size=(1, 160)).astype(np.float32)


def feed(vad: VadColumns, frame: np.ndarray, n: int) -> list[tuple[int, str]]:
    changes = []
    for i in range(n):
        began, ended = vad.update(ROWS, frame)
        changes += [(i, "begin") for _ in began] + [(i, "end") for _ in ended]
    return changes


def test_speech_begins_and_ends_once() -> None:
    vad = VadColumns(8)
    assert feed(vad, QUIET, 100) == []
    assert feed(vad, LOUD, 40) == [(STRONG_ONSET_FRAMES - 1, "begin")]
    assert vad.is_speech[3]
    assert vad.onset[3] == STRONG_ONSET_FRAMES
    assert feed(vad, QUIET, 100) == [(HANGOVER_FRAMES - 1, "end")]


def test_a_click_is_not_speech_and_a_short_pause_no_end() -> None:
    vad = VadColumns(8)
    feed(vad, QUIET, 50)
    assert feed(vad, LOUD, STRONG_ONSET_FRAMES - 1) == []
    assert feed(vad, QUIET, 20) == []
    feed(vad, LOUD, 20)
    assert feed(vad, QUIET, HANGOVER_FRAMES - 1) == []
    assert feed(vad, LOUD, 5) == []


def test_steady_noise_becomes_the_floor() -> None:
    vad = VadColumns(8)
    noise = np.random.default_rng(2).normal(scale=300, size=(1, 160)).astype(np.float32)
    changes = feed(vad, noise, 500)
    assert not vad.is_speech[3], changes
    assert feed(vad, LOUD, 10) == [(STRONG_ONSET_FRAMES - 1, "begin")]


def test_other_rows_are_untouched_and_reset_forgets() -> None:
    vad = VadColumns(8)
    feed(vad, LOUD, 10)
    assert not vad.is_speech[[0, 1, 2, 4, 5, 6, 7]].any()
    vad.reset(3)
    assert not vad.is_speech[3]
    assert feed(vad, LOUD, 5) == [(STRONG_ONSET_FRAMES - 1, "begin")]


def test_a_murmur_needs_a_frame_more() -> None:
    vad = VadColumns(8)
    murmur = sine(300, 160, amplitude=200)[None, :]
    feed(vad, QUIET, 50)
    assert feed(vad, murmur, ONSET_FRAMES - 1) == []
    assert feed(vad, QUIET, 1) == []
    assert feed(vad, murmur, 10) == [(ONSET_FRAMES - 1, "begin")]
    assert vad.onset[3] == ONSET_FRAMES


def test_a_weak_beginning_counts() -> None:
    vad = VadColumns(8)
    feed(vad, QUIET, 50)
    feed(vad, sine(300, 160, amplitude=200)[None, :], 1)
    assert feed(vad, LOUD, 3) == [(0, "begin")]
    assert vad.onset[3] == STRONG_ONSET_FRAMES
