"""Whether there can be a request that meets some criteria and misses others.

Method, session case and registration are tried out; the conditions that look into the request are unknowns, bound to
each other by what patterns tell (``Priority: psap-callback`` is also a Priority header).  A search over them, with
three-valued logic, either finds a way or shows that there is none.  It errs to "there can be": conditions that seem
independent are taken to be, and a search that grows beyond its budget is given up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from ifc.engine import applies_to_profile_part
from ifc.ere import Ere
from ifc.model import (
    Condition,
    InitialFilterCriteria,
    MethodCondition,
    RegistrationType,
    RequestUriCondition,
    ServicePointTrigger,
    SessionCase,
    SessionCaseCondition,
    SessionDescriptionCondition,
    SipHeaderCondition,
    TriggerPoint,
)

__all__ = ["Budget", "BudgetSpent", "Known", "RequestKind", "Wanted", "find_request", "may_match"]

Known: TypeAlias = Callable[[Condition], "bool | None"]
"""Whether a condition holds for a kind of request; None: it depends."""
Wanted: TypeAlias = "tuple[InitialFilterCriteria, bool]"
"""A criterion, and whether the request is to match it."""
Unknowns: TypeAlias = dict[Condition, bool]

OTHER_METHOD = "MESSAGE or another method"


class BudgetSpent(Exception):
    """The search was given up: there can be such a request."""


class Budget:
    """Triggers that all searches of one document may look at together."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def spend(self, steps: int) -> None:
        self.left -= steps
        if self.left < 0:
            raise BudgetSpent


class RequestKind(NamedTuple):
    method: str
    session_case: SessionCase
    registration_type: RegistrationType | None
    registered: bool

    def __str__(self) -> str:
        what = self.method if self.registration_type is None else f"{self.method} ({self.registration_type.name})"
        return f"{what}, {self.session_case.name}"


def may_match(trigger_point: TriggerPoint | None, known: Known) -> bool:
    """False only if the trigger point is false whatever the unknown conditions are."""
    if trigger_point is None:
        return True

    def may_hold(trigger: ServicePointTrigger) -> bool:
        value = known(trigger.condition)
        return value is None or value is not trigger.negated

    outer, inner = (all, any) if trigger_point.is_cnf else (any, all)
    return outer(inner(map(may_hold, members)) for _, members in trigger_point.groups)


def find_request(wanted: Sequence[Wanted], budget: Budget, known: Known | None = None) -> RequestKind | None:
    """A kind of request that meets and misses the criteria as wanted; None when there can be none.

    Args:
        known: what is settled about conditions that look into the request.

    Raises:
        BudgetSpent: given up.
    """
    criteria = [criterion for criterion, _ in wanted]
    for kind in _kinds(criteria):
        budget.spend(1)
        given = []
        for criterion, is_wanted in wanted:
            part = criterion.profile_part
            counts = part is None or applies_to_profile_part(part, kind.session_case, kind.registered)
            if criterion.trigger_point is None or not counts:
                if counts is not is_wanted:
                    break
            else:
                given.append((criterion.trigger_point, is_wanted))
        else:
            if _can_be(given, _Search(kind, known, budget, _conditions(given)), {}):
                return kind
    return None


def _kinds(criteria: Sequence[InitialFilterCriteria]) -> Iterator[RequestKind]:
    points = [each.trigger_point for each in criteria if each.trigger_point is not None]
    conditions = [trigger.condition for point in points for trigger in point.triggers]
    named = [each.method for each in conditions if isinstance(each, MethodCondition)]
    types = {each for point in points for trigger in point.triggers for each in trigger.registration_types}
    for method in dict.fromkeys(["INVITE", *named, "REGISTER", OTHER_METHOD]):
        for session_case in SessionCase:
            registered = session_case in (SessionCase.ORIGINATING_REGISTERED, SessionCase.TERMINATING_REGISTERED)
            states = (True, False) if session_case is SessionCase.ORIGINATING_CDIV else (registered,)
            for state in states:
                if method != "REGISTER":
                    yield RequestKind(method, session_case, None, state)
                elif session_case in (SessionCase.ORIGINATING_REGISTERED, SessionCase.ORIGINATING_UNREGISTERED):
                    for kind in RegistrationType if types else (RegistrationType.INITIAL_REGISTRATION,):
                        yield RequestKind(method, session_case, kind, state)


def _conditions(given: Sequence[tuple[TriggerPoint, bool]]) -> list[Condition]:
    """The unknowns: what only the request itself can tell."""
    triggers = (trigger.condition for point, _ in given for trigger in point.triggers)
    return [each for each in dict.fromkeys(triggers) if not isinstance(each, MethodCondition | SessionCaseCondition)]


class _Search(NamedTuple):
    kind: RequestKind
    known: Known | None
    budget: Budget
    conditions: list[Condition]

    def value(self, trigger: ServicePointTrigger, unknowns: Unknowns) -> bool | None:
        condition = trigger.condition
        value: bool | None
        if isinstance(condition, MethodCondition):
            value = condition.method == self.kind.method
            if trigger.registration_types and condition.method == "REGISTER":
                value = value and self.kind.registration_type in trigger.registration_types
        elif isinstance(condition, SessionCaseCondition):
            value = condition.session_case is self.kind.session_case
        else:
            value = unknowns.get(condition)
            if value is None:
                value = self._settled(condition)
        return value if value is None else value is not trigger.negated

    def _settled(self, condition: Condition) -> bool | None:
        if isinstance(condition, SessionDescriptionCondition) and self.kind.method == "REGISTER":
            return False
        return None if self.known is None else self.known(condition)


def _can_be(given: Sequence[tuple[TriggerPoint, bool]], search: _Search, unknowns: Unknowns) -> bool:
    search.budget.spend(sum(len(point.triggers) for point, _ in given))
    undecided = []
    for point, wanted in given:
        value = _truth(point, search, unknowns)
        if value is None:
            undecided.append((point, wanted))
        elif value is not wanted:
            return False
    if not undecided:
        return True
    condition = next(
        trigger.condition
        for point, _ in undecided
        for trigger in point.triggers
        if search.value(trigger, unknowns) is None
    )
    return any(
        extended is not None and _can_be(undecided, search, extended)
        for extended in (_assume(condition, value, unknowns, search) for value in (True, False))
    )


def _truth(point: TriggerPoint, search: _Search, unknowns: Unknowns) -> bool | None:
    groups = []
    for _, members in point.groups:
        values = [search.value(member, unknowns) for member in members]
        groups.append(_any(values) if point.is_cnf else _all(values))
    return _all(groups) if point.is_cnf else _any(groups)


def _any(values: list[bool | None]) -> bool | None:
    return True if True in values else None if None in values else False


def _all(values: list[bool | None]) -> bool | None:
    return False if False in values else None if None in values else True


def _assume(condition: Condition, value: bool, unknowns: Unknowns, search: _Search) -> Unknowns | None:
    """The unknowns with one more settled, and what follows; None when that contradicts them."""
    extended = {**unknowns, condition: value}
    for other in search.conditions:
        if other == condition:
            continue
        implied: bool | None = None
        if value and implies(condition, other):
            implied = True
        elif (value and excludes(condition, other)) or (not value and implies(other, condition)):
            implied = False
        if implied is None:
            continue
        if extended.setdefault(other, implied) is not implied:
            return None
    return extended


# ---------------------------------------------------------------- what one condition tells of another


@lru_cache(maxsize=4096)
def implies(one: Condition, other: Condition) -> bool:
    """Whether each request that meets one certainly meets the other."""
    match one, other:
        case RequestUriCondition(left), RequestUriCondition(right):
            return _covers(right, left)
        case SipHeaderCondition(name, content), SipHeaderCondition(wider, asked):
            literal = name.literal
            names = name == wider or wider.is_any or (literal is not None and wider.matches(literal))
            return names and _covers_optional(asked, content)
        case SessionDescriptionCondition(line, content), SessionDescriptionCondition(wider, asked):
            literal = line.literal
            lines = line == wider or wider.is_any or (literal is not None and wider.matches(literal))
            return lines and _covers_optional(asked, content)
    return False


@lru_cache(maxsize=4096)
def excludes(one: Condition, other: Condition) -> bool:
    """Whether no request meets both: only the Request-URI has one value."""
    match one, other:
        case RequestUriCondition(left), RequestUriCondition(right):
            if left.literal is not None:
                return not right.matches(left.literal)
            return right.literal is not None and not left.matches(right.literal)
    return False


def _covers(wider: Ere, pattern: Ere) -> bool:
    if wider.is_any or wider == pattern:
        return True
    return pattern.literal is not None and wider.matches(pattern.literal)


def _covers_optional(wider: Ere | None, pattern: Ere | None) -> bool:
    if wider is None or wider.is_any:
        return True
    return pattern is not None and _covers(wider, pattern)
