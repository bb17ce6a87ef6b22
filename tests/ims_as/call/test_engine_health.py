"""A hanging engine opens the circuit, a refusing one does not."""

from ims_as.call.engine_health import OPEN_AFTER, TRIAL_EVERY_S, EngineHealth, EngineState

URL = "ws://127.0.0.1:1/"


def test_refusals_never_open_the_circuit():
    health = EngineHealth()
    for _ in range(10):
        health.note_failure(URL, "engine_refused", now=0.0)
    assert health.state(URL) is EngineState.DOWN
    assert health.may_try(URL, now=0.0)
    assert not health.is_usable(URL)


def test_time_outs_open_it_and_one_trial_is_let_through():
    health = EngineHealth()
    for _ in range(OPEN_AFTER):
        assert health.may_try(URL, now=10.0)
        health.note_failure(URL, "engine_timeout", now=10.0)
    assert health.state(URL) is EngineState.OPEN
    assert not health.may_try(URL, now=10.0 + TRIAL_EVERY_S - 0.1)
    assert health.may_try(URL, now=10.0 + TRIAL_EVERY_S)
    assert not health.may_try(URL, now=10.0 + TRIAL_EVERY_S)
    health.note_success(URL, now=13.0)
    assert health.may_try(URL, now=13.0)
    assert health.is_usable(URL)


def test_a_refusal_between_resets_the_count():
    health = EngineHealth()
    for cause in ("engine_timeout", "engine_timeout", "engine_refused", "engine_timeout", "engine_timeout"):
        health.note_failure(URL, cause, now=0.0)
    assert health.state(URL) is EngineState.DOWN


def test_an_unknown_engine_is_tried():
    assert EngineHealth().may_try(URL, now=0.0)
    assert EngineHealth().is_usable(URL)
