from __future__ import annotations

from media.filler import FillerPolicy, Playing


def test_slow_engine() -> None:
    policy = FillerPolicy(after_ticks=140)
    policy.speech_ended(1000)
    assert policy.next_deadline() == 1140
    assert policy.handle_timer(1139) is None
    assert policy.handle_timer(1140) is True
    assert policy.engine_audio() is False
    assert policy.engine_audio() is None


def test_an_answer_or_new_speech_in_time_prevents_it() -> None:
    policy = FillerPolicy(after_ticks=140)
    policy.speech_ended(0)
    assert policy.engine_audio() is None
    assert policy.handle_timer(500) is None
    policy.speech_ended(0)
    policy.speech_started()
    assert policy.next_deadline() is None


def test_lost_engine_at_once() -> None:
    policy = FillerPolicy()
    assert policy.engine_lost() is True
    assert policy.engine_lost() is None
    assert policy.stopped() is False


def test_a_clip_has_precedence() -> None:
    policy = FillerPolicy(after_ticks=1)
    assert policy.engine_lost() is True
    assert policy.play_started() is False
    assert policy.engine_lost() is None
    assert policy.playing is Playing.CLIP
    assert policy.stopped() is None
    assert policy.playing is Playing.NOTHING


def test_zero_means_never() -> None:
    policy = FillerPolicy(after_ticks=0)
    policy.speech_ended(5)
    assert policy.next_deadline() is None
