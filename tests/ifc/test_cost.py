"""No pattern that an operator can write and no request that a caller can send holds the process."""

from __future__ import annotations

import time

import pytest

from ifc.engine import CriteriaPlan, evaluate, find_evidence
from ifc.ere import MAX_TEXT_CHARS, Ere
from ifc.model import (
    ApplicationServer,
    InitialFilterCriteria,
    MethodCondition,
    ServicePointTrigger,
    SessionDescriptionCondition,
    SipHeaderCondition,
    TriggerPoint,
)
from ifc.reading import MAX_STEPS, Reading, compile_condition
from ifc.view import PlainRequestView

CATASTROPHIC = (
    "(a+)+$",
    "(a|a)*b",
    "(a*)*b",
    "(a|aa)+$",
    "(a|a?)+b",
    "([a-z]+)*[0-9]$",
    "(([a-z])+.)+[A-Z]([a-z])+$",
    ".*a.*a.*a.*a.*b",
    "a{0,60}a{0,60}a{0,60}b",
    "(a?){40}a{40}b",
    "((a{1,9}){1,9}){1,5}b",
    "^(a+)(a+)(a+)(a+)$b",
    "(.*)(.*)(.*)(.*)(.*)[^a]",
    "a*b",
    "a+a+b",
    "^a*a*a*b",
    "(^|a)*(a|$)*b",
    "[ab]*[^b]*[ab]*c",
    "(a|b|c|d)*(a|b|c|d)(a|b|c|d){100}x",
    "x(a|b)*a(a|b){40}c",
    "(a{1,2}){1,120}b",
    "(((((a*)*)*)*)*)*b",
)
SERVER = ApplicationServer("sip:as.example.net")
FLOOD = PlainRequestView(
    "INVITE",
    "sip:" + "a" * 60_000,
    header_map={
        "X": ["a" * MAX_TEXT_CHARS] * 8,
        "Y": ["a" * 360] * 180,
        **{"a" * 60 + str(n): ["a"] for n in range(500)},
    },
    sdp=[("a" * 20 + str(n), "a" * 100) for n in range(500)],
)
"""More than a message of 64 KiB can hold, four times over."""


@pytest.mark.parametrize("pattern", CATASTROPHIC)
def test_no_pattern_holds_the_process(pattern: str) -> None:
    compiled = Ere(pattern)
    started = time.process_time()
    for size in (40, 100, 200, 362, 1000, MAX_TEXT_CHARS):
        compiled.matches("a" * size)
        compiled.matches("ab" * (size // 2))
    # the slowest takes some 10 ms; backtracking would take minutes to ages
    assert time.process_time() - started < 2


def dear_profile(patterns: tuple[str, ...]) -> list[InitialFilterCriteria]:
    criteria = []
    for number, pattern in enumerate(patterns):
        conditions = (
            SipHeaderCondition("^X$", pattern),
            SipHeaderCondition(pattern),
            SessionDescriptionCondition(pattern, pattern),
            SipHeaderCondition("^Y$", pattern),
        )
        triggers = tuple(ServicePointTrigger(condition, (0,)) for condition in conditions)
        criteria.append(InitialFilterCriteria(number, TriggerPoint(True, triggers), SERVER))
    return criteria


def test_no_profile_and_request_hold_the_process() -> None:
    criteria = [*dear_profile(CATASTROPHIC), InitialFilterCriteria(99, None, SERVER)]
    started = time.process_time()
    matches = evaluate(criteria, FLOOD)
    assert time.process_time() - started < 5
    # cut short: what is not decided does not match, not even what asks for nothing
    assert 99 not in [match.criterion.priority for match in matches]
    assert len(matches) < len(CATASTROPHIC)


@pytest.mark.parametrize("pattern", CATASTROPHIC)
def test_each_search_is_charged(pattern: str) -> None:
    """A second of CPU is more than the steps charged: ten million steps take less."""
    for condition in (SipHeaderCondition("^X$", pattern), SipHeaderCondition("^Y$", pattern)):
        reading = Reading(FLOOD)
        reading.left = 100 * MAX_STEPS
        started = time.process_time()
        compile_condition(condition)(reading)
        taken = time.process_time() - started
        steps = 100 * MAX_STEPS - reading.left
        assert steps > 0
        assert taken < 0.2 + steps / 10e6


def test_ordinary_profiles_are_far_from_the_limit() -> None:
    patterns = ("^sip:.*@example\\.net$", "alice", "[0-9]+@", "^a*$", "(a|b)+", "x.*y")
    plan = CriteriaPlan(dear_profile(patterns))
    values = ["<sip:alice@example.net;user=phone>;tag=0123456789" * 2] * 8
    view = PlainRequestView("INVITE", "sip:bob@example.net", header_map={"X": values, "Y": values})
    assert plan.evaluate(view)
    reading = Reading(view)
    assert len(plan._conditions) == 4 * len(patterns)
    for test in plan._conditions:
        test(reading)
    assert MAX_STEPS - reading.left < MAX_STEPS / 10


def test_a_trigger_that_is_too_dear_does_not_hold() -> None:
    condition = SipHeaderCondition("^X$", "(a|b|c|d)*(a|b|c|d)(a|b|c|d){100}x")
    view = PlainRequestView("INVITE", "sip:b", header_map={"X": ["a" * MAX_TEXT_CHARS] * 100})
    assert find_evidence(ServicePointTrigger(condition), view) is None
    # and neither does its negation: the outcome is not known
    assert find_evidence(ServicePointTrigger(condition, negated=True), view) is None


def test_caches_stay_bounded() -> None:
    plan = CriteriaPlan(dear_profile(("a", "b[c]")))
    for number in range(1000):
        names = {f"{number}-{each}": ["x"] for each in range(3)}
        plan.evaluate(PlainRequestView(f"M{number}", "sip:b", header_map=names, sdp=[(str(number), "")]))
    assert len(plan._names) <= 256
    assert len(plan._letters) <= 256
    assert len(plan._rules) == 1
    methods = tuple(ServicePointTrigger(MethodCondition(f"M{number}")) for number in range(1000))
    plan = CriteriaPlan([InitialFilterCriteria(0, TriggerPoint(True, methods), SERVER)])
    for number in range(1000):
        assert plan.evaluate(PlainRequestView(f"M{number}", "sip:b"))
    assert len(plan._rules) <= 256
