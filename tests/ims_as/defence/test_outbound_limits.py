"""How much agents may call."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ims_as.defence.outbound_limits import MAX_CALLERS, OutboundLimits


def start(limits: OutboundLimits, call: str, agent: str = "a", caller: str = "sip:x@h", now: float = 0.0) -> str | None:
    return limits.start(call, agent=agent, caller=caller, now=now)


def test_no_limits() -> None:
    limits = OutboundLimits()
    assert [start(limits, f"{n}") for n in range(100)] == [None] * 100
    assert limits.up == 100


def test_at_once() -> None:
    limits = OutboundLimits(per_agent_at_once=2)
    assert start(limits, "1") is None
    assert start(limits, "2") is None
    assert start(limits, "1") is None  # tries again in the same call
    assert start(limits, "3") == "policy.limits.per_agent_at_once"
    assert start(limits, "3", agent="b") is None
    limits.end("1")
    limits.end("1")
    limits.end("never began")
    assert start(limits, "4") is None
    assert limits.up == 3


def test_per_hour() -> None:
    limits = OutboundLimits(per_agent_per_hour=60, per_caller_per_hour=2)
    assert start(limits, "1") is None
    assert start(limits, "2") is None
    assert start(limits, "3") == "policy.limits.per_caller_per_hour"
    assert start(limits, "3", now=1799.0) == "policy.limits.per_caller_per_hour"
    assert start(limits, "3", now=1801.0) is None
    for number in range(100):
        refusal = start(limits, f"n{number}", caller=f"sip:{number}@h", now=1801.0)
    assert refusal == "policy.limits.per_agent_per_hour"


def test_a_refused_call_uses_nothing_up() -> None:
    limits = OutboundLimits(per_agent_per_hour=2, per_caller_per_hour=1)
    assert start(limits, "1") is None
    for _ in range(5):
        assert start(limits, "2") == "policy.limits.per_caller_per_hour"
    assert start(limits, "2", caller="sip:y@h") is None


def test_the_table_of_callers_is_bounded() -> None:
    limits = OutboundLimits(per_caller_per_hour=1)
    for number in range(MAX_CALLERS + 500):
        assert start(limits, f"{number}", caller=f"sip:{number}@h") is None
        limits.end(f"{number}")
    assert len(limits._callers) == MAX_CALLERS
    assert start(limits, "again", caller=f"sip:{MAX_CALLERS}@h") == "policy.limits.per_caller_per_hour"


def test_other_limits_keep_what_was_used() -> None:
    limits = OutboundLimits(per_agent_per_hour=10)
    for number in range(10):
        assert start(limits, f"{number}") is None
    limits.change(0, 12, 0)
    assert [start(limits, f"x{n}") for n in range(3)] == [None, None, "policy.limits.per_agent_per_hour"]


@given(st.lists(st.tuples(st.floats(0, 600), st.integers(0, 2)), max_size=150))
def test_never_more_than_the_hours_share(calls: list[tuple[float, int]]) -> None:
    limits = OutboundLimits(per_agent_per_hour=6)
    now, made = 0.0, 0
    for index, (gap, agent) in enumerate(calls):
        now += gap
        made += start(limits, f"{index}", agent=f"{agent}", now=now) is None
    assert made <= 3 * (6 + now * 6 / 3600 + 1e-6)
