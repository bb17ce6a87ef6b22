"""Limits on calls held and on calls per second."""

from hypothesis import given
from hypothesis import strategies as st

from ims_as.call.admission import Admission


def admit(admission: Admission, *, now: float) -> str | None:
    """As a call comes in: asked first, then held."""
    reason = admission.refusal(now=now)
    if reason is None:
        admission.hold(now=now)
    return reason


def test_calls_held():
    admission = Admission(max_calls=2, calls_per_second=1000)
    assert admit(admission, now=0.0) is None
    assert admit(admission, now=0.0) is None
    assert admit(admission, now=0.0) == "calls"
    admission.release()
    assert admit(admission, now=0.0) is None


def test_rate_refills():
    admission = Admission(max_calls=1000, calls_per_second=10)
    assert [admit(admission, now=0.0) for _ in range(11)] == [None] * 10 + ["rate"]
    assert admit(admission, now=0.05) == "rate"
    assert admit(admission, now=0.11) is None


def test_draining():
    admission = Admission(max_calls=2, calls_per_second=10, draining=True)
    assert admit(admission, now=0.0) == "draining"
    assert admission.held == 0


@given(st.lists(st.floats(0, 0.2), max_size=200))
def test_never_more_than_burst_and_rate(gaps: list[float]):
    admission = Admission(max_calls=10**6, calls_per_second=20)
    now = 0.0
    admitted = 0
    for gap in gaps:
        now += gap
        admitted += admit(admission, now=now) is None
    assert admitted <= 20 + now * 20 + 1e-6
    assert admission.held == admitted


def test_asking_uses_nothing_up():
    admission = Admission(max_calls=1, calls_per_second=1)
    assert [admission.refusal(now=0.0) for _ in range(5)] == [None] * 5
    admission.hold(now=0.0)
    assert admission.refusal(now=0.0) == "calls"
    admission.release()
    assert admission.refusal(now=0.5) == "rate"
    assert admission.refusal(now=1.0) is None


def test_other_limits_leave_the_calls_that_are_held():
    admission = Admission(max_calls=5, calls_per_second=100)
    for _ in range(3):
        assert admit(admission, now=0.0) is None
    admission.change(2, 50)
    assert admission.held == 3
    assert admit(admission, now=1.0) == "calls"
    admission.release()
    admission.release()
    assert admit(admission, now=1.0) is None
