from __future__ import annotations

import numpy as np

from media.conversation import FADE_MS, MAX_KEPT, Conversation, Silenced
from media.mute import PATIENCE_TICKS, PAUSE_TICKS, Mute
from tests.media.support import sine

SPEECH = sine(400, 320, 16000).astype("<i2").tobytes()
SILENCE = np.zeros(320, "<i2").tobytes()


def test_shares_add_up() -> None:
    talk = Conversation(since=1000)
    talk.speech_started(1200, is_over_agent=False)
    talk.speech_ended(1400)
    talk.speech_started(1600, is_over_agent=False)
    figures = talk.figures(1800, agent_s=1.0)
    assert (figures["turns"], figures["overlaps"], figures["barge_ins"]) == (1, 0, 0)
    assert figures["caller_s"] == 2.0, "the speech that goes on counts"
    assert (figures["caller_share"], figures["agent_share"], figures["silence_share"]) == (0.5, 0.25, 0.25)
    assert figures["barge_in_ms"] is None


def test_a_call_that_has_just_begun_has_no_shares() -> None:
    assert Conversation(since=7).figures(7, agent_s=0)["caller_share"] == 0


def test_a_barge_in_is_timed_from_speech_and_from_clear() -> None:
    talk = Conversation()
    talk.speech_started(100, is_over_agent=True)
    talk.cleared(105, "local")
    assert talk.agent_silent(108) == Silenced("local", 15 + FADE_MS, 40 + FADE_MS)
    assert talk.agent_silent(120) is None
    figures = talk.figures(200, agent_s=0)
    assert (figures["overlaps"], figures["barge_ins"], figures["barge_in_ms"]) == (1, 1, 45)


def test_a_clear_without_speech_is_no_barge_in() -> None:
    talk = Conversation()
    talk.cleared(105, "engine")
    assert talk.agent_silent(108) == Silenced("engine", 20, None)
    talk.speech_started(200, is_over_agent=False)
    talk.cleared(205, "engine")
    assert talk.agent_silent(208) == Silenced("engine", 20, None)
    assert talk.barge_ins == 0


def test_a_clear_long_after_the_speech_has_nothing_to_do_with_it() -> None:
    talk = Conversation()
    talk.speech_started(100, is_over_agent=True)
    talk.speech_ended(300)
    talk.cleared(900, "engine")
    assert talk.agent_silent(902) == Silenced("engine", 15, None)


def test_what_the_agent_says_next_is_not_what_was_interrupted() -> None:
    talk = Conversation()
    talk.speech_started(100, is_over_agent=True)
    talk.speech_ended(200)
    talk.agent_spoke()
    talk.cleared(220, "engine")
    assert talk.agent_silent(222) == Silenced("engine", 15, None)


def test_memory_is_bounded() -> None:
    talk = Conversation()
    for tick in range(0, 100_000, 100):
        talk.speech_started(tick, is_over_agent=True)
        talk.cleared(tick + 5, "local")
        talk.agent_silent(tick + 8)
    assert len(talk.speech_ms) == MAX_KEPT
    assert talk.barge_ins == 1000


def test_what_was_silenced_stays_silent_until_a_pause() -> None:
    mute = Mute(heard_at=0)
    assert all(mute.drops(SPEECH, tick) for tick in range(4, 400, 4))
    assert mute.dropped == 99 * 320
    assert all(mute.drops(SILENCE, tick) for tick in range(400, 396 + PAUSE_TICKS, 4))
    assert not mute.drops(SPEECH, 396 + PAUSE_TICKS), "silence is a pause as well"


def test_an_engine_that_never_pauses_is_heard_again_after_the_speech() -> None:
    mute = Mute(heard_at=0)
    mute.speech_ended(100)
    assert all(mute.drops(SPEECH, tick) for tick in range(4, 100 + PATIENCE_TICKS, 4))
    assert not mute.drops(SPEECH, 100 + PATIENCE_TICKS)


def test_nothing_at_all_is_no_sound() -> None:
    assert Mute(heard_at=0).drops(b"", 1)
