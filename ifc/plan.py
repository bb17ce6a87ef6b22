"""Criteria made ready for many requests.

Method, session case, registration type and registration state are few, so for each combination that occurs the criteria
are worked out in advance: those that it excludes are gone, the triggers that it decides are decided.  What is left asks
about the request itself; a condition that several triggers share is tested once for each request.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from operator import attrgetter
from typing import Any, Final, NamedTuple, TypeAlias

from ifc.explain import explain_witness
from ifc.model import (
    Condition,
    InitialFilterCriteria,
    MethodCondition,
    ProfilePart,
    RegistrationType,
    ServicePointTrigger,
    SessionCase,
    SessionCaseCondition,
    TriggerPoint,
)
from ifc.reading import NamesMatched, Reading, RequestTooDear, Test, compile_condition, evidence_text
from ifc.view import RequestView

__all__ = ["CriteriaPlan", "Match", "Witness", "applies_to_profile_part", "is_register_trigger"]

Witness: TypeAlias = tuple[int, ServicePointTrigger, str]
"""(group, trigger that held, what in the request made it hold: empty for a negation)."""
Asked: TypeAlias = tuple[int, bool]
"""(slot of the condition in the plan, whether it is negated)."""
Member: TypeAlias = tuple[int, ServicePointTrigger, "Asked | str"]
"""(group, trigger, what is to be asked, or the evidence where the kind of the request has decided)."""

MAX_KINDS: Final = 256
"""Kinds of requests for which the criteria are kept worked out; ordinary profiles see a dozen."""
_UNKNOWN: Final = object()
"""In place of what a condition found: it was not tested."""


class _Rule(NamedTuple):
    """What is left of a criterion for one kind of request."""

    criterion: InitialFilterCriteria
    match: Match | None
    """Nothing is left to ask: the outcome."""
    is_cnf: bool
    all_of: tuple[Asked, ...]
    """What has to hold where that is all: no group has a choice.  Empty: see `asked`."""
    asked: tuple[tuple[Asked, ...], ...]
    """CNF: groups of which one member must hold each.  DNF: groups in the order in which they are tried; those that
    are asked nothing hold."""
    members: tuple[tuple[Member, ...], ...]
    """Of every group that is not excluded, with those that need not be asked."""


class Match(NamedTuple):
    """A criterion that the request meets, and why."""

    criterion: InitialFilterCriteria
    rule: _Rule | None
    found: Sequence[Any]
    """What the conditions found, by slot."""

    @property
    def witnesses(self) -> tuple[Witness, ...]:
        """One trigger of each group (CNF) or all of the group that held (DNF); empty without a trigger point."""
        if self.rule is None:
            return ()
        groups = ([self._witness(member) for member in group] for group in self.rule.members)
        if self.rule.is_cnf:
            return tuple(next(each for each in group if each is not None) for group in groups)
        for group in groups:
            witnesses = tuple(each for each in group if each is not None)
            if len(witnesses) == len(group):
                return witnesses
        return ()

    def _witness(self, member: Member) -> Witness | None:
        """None when the trigger did not hold, or was not needed."""
        group, trigger, asked = member
        if isinstance(asked, str):
            return group, trigger, asked
        evidence = self.found[asked[0]]
        if evidence is _UNKNOWN or (evidence is None) is not asked[1]:
            return None
        return group, trigger, "" if evidence is None else evidence_text(evidence)

    @property
    def reasons(self) -> tuple[str, ...]:
        """As text, one line per witness, for traces and reports."""
        if self.criterion.trigger_point is None:
            return ("no trigger point: matches every initial request",)
        return tuple(explain_witness(*witness) for witness in self.witnesses)


_new_match: Final[Any] = tuple.__new__
"""Makes named tuples in a third of the time that their names take."""


def applies_to_profile_part(part: ProfilePart, session_case: SessionCase | None, registered: bool | None) -> bool:
    """Whether a criterion of this part of the profile counts for a user in this state."""
    if registered is None:
        if session_case is None or session_case is SessionCase.ORIGINATING_CDIV:
            return True
        registered = session_case in (SessionCase.ORIGINATING_REGISTERED, SessionCase.TERMINATING_REGISTERED)
    return registered is (part is ProfilePart.REGISTERED)


def is_register_trigger(condition: Condition) -> bool:
    """Whether RegistrationType means something beside this condition."""
    return isinstance(condition, MethodCondition) and condition.method == "REGISTER"


class _Kind(NamedTuple):
    """What is known of a request before it is looked into."""

    method: str | None
    """None: one that no condition names."""
    session_case: SessionCase | None
    registration_type: RegistrationType | None
    registered: bool | None

    def evidence(self, trigger: ServicePointTrigger) -> str | bool | None:
        """As a trigger's witness has it, None when the trigger does not hold; True: that depends on the request."""
        condition = trigger.condition
        holds = False
        text = ""
        if isinstance(condition, MethodCondition):
            types = trigger.registration_types
            holds = condition.method == self.method
            text = condition.method
            if types and is_register_trigger(condition) and self.registration_type not in types:
                holds = False
        elif isinstance(condition, SessionCaseCondition):
            holds = condition.session_case is self.session_case
            text = condition.session_case.name
        else:
            return True
        if trigger.negated:
            return None if holds else ""
        return text if holds else None


class CriteriaPlan:
    """A list of criteria for `evaluate`.  Holds caches of bounded size; not for use by several threads."""

    __slots__ = ("_conditions", "_letters", "_methods", "_names", "_rules", "_slots", "criteria")

    def __init__(self, criteria: Iterable[InitialFilterCriteria]) -> None:
        self.criteria = tuple(sorted(criteria, key=attrgetter("priority")))
        """In priority order; those of equal priority in the order given."""
        self._methods = {"REGISTER"}
        self._conditions: list[Test] = []
        self._slots: dict[Condition, int] = {}
        self._rules: dict[tuple[Any, ...], tuple[_Rule, ...]] = {}
        self._names: dict[tuple[str, ...], NamesMatched] = {}
        self._letters: dict[tuple[str, ...], NamesMatched] = {}
        for criterion in self.criteria:
            for trigger in () if criterion.trigger_point is None else criterion.trigger_point.triggers:
                if isinstance(trigger.condition, MethodCondition):
                    self._methods.add(trigger.condition.method)

    def evaluate(self, view: RequestView, *, registered: bool | None = None) -> tuple[Match, ...]:
        """The criteria that match, in priority order.  See `ifc.engine.evaluate`."""
        method = view.method
        # plain tuples are found faster than _Kind, and are equal to it
        kind = (method if method in self._methods else None, view.session_case, view.registration_type, registered)
        rules = self._rules.get(kind)
        if rules is None:
            if len(self._rules) >= MAX_KINDS:
                self._rules.clear()
            rules = self._rules[kind] = tuple(self._rules_for(_Kind(*kind)))
        matches: list[Match] = []
        with suppress(RequestTooDear):  # what is not decided does not match: the request goes on to ordinary routing
            self._match(rules, Reading(view, self._names, self._letters), matches)
        return tuple(matches)

    def _match(self, rules: tuple[_Rule, ...], reading: Reading, matches: list[Match]) -> None:
        conditions = self._conditions
        found: list[Any] = [_UNKNOWN] * len(conditions)
        for rule in rules:
            criterion, match, is_cnf, all_of, asked, _ = rule
            if match is not None:
                matches.append(match)
                continue
            if all_of:
                for slot, negated in all_of:
                    evidence = found[slot]
                    if evidence is _UNKNOWN:
                        evidence = found[slot] = conditions[slot](reading)
                        if reading.left < 0:
                            raise RequestTooDear
                    if (evidence is None) is not negated:
                        break
                else:
                    matches.append(_new_match(Match, (criterion, rule, found)))
                continue
            for group in asked:
                for slot, negated in group:
                    evidence = found[slot]
                    if evidence is _UNKNOWN:
                        evidence = found[slot] = conditions[slot](reading)
                        if reading.left < 0:
                            raise RequestTooDear
                    if ((evidence is None) is negated) is is_cnf:
                        break  # CNF: the group holds; DNF: it does not
                else:
                    if is_cnf:
                        break
                    matches.append(_new_match(Match, (criterion, rule, found)))
                    break
            else:
                if is_cnf:
                    matches.append(_new_match(Match, (criterion, rule, found)))

    # ---------------------------------------------------------------- working out what is left

    def _rules_for(self, kind: _Kind) -> Iterator[_Rule]:
        for criterion in self.criteria:
            part, point = criterion.profile_part, criterion.trigger_point
            if part is not None and not applies_to_profile_part(part, kind.session_case, kind.registered):
                continue
            if point is None:
                yield _Rule(criterion, Match(criterion, None, ()), True, (), (), ())
                continue
            groups = (self._cnf_groups if point.is_cnf else self._dnf_groups)(point, kind)
            if groups is None:
                continue
            asked = [tuple(asked for _, _, asked in group if not isinstance(asked, str)) for group in groups]
            if point.is_cnf:
                asked = [group for group in asked if group]
            all_of: tuple[Asked, ...] = ()
            if point.is_cnf and all(len(group) == 1 for group in asked):
                all_of = tuple(group[0] for group in asked)
            elif not point.is_cnf and len(asked) == 1:
                all_of = asked[0]
            rule = _Rule(criterion, None, point.is_cnf, all_of, tuple(asked), tuple(groups))
            is_settled = not asked if point.is_cnf else not asked[0]
            yield rule._replace(match=Match(criterion, rule, ())) if is_settled else rule

    def _cnf_groups(self, point: TriggerPoint, kind: _Kind) -> list[tuple[Member, ...]] | None:
        """What each group still asks, or the one member that holds anyway; None when a group cannot hold."""
        groups: list[tuple[Member, ...]] = []
        for number, members in point.groups:
            left: list[Member] = []
            for trigger in members:
                evidence = kind.evidence(trigger)
                if evidence is True:
                    left.append((number, trigger, self._ask(trigger)))
                elif isinstance(evidence, str):
                    left = [(number, trigger, evidence)]
                    break
            if not left:
                return None
            groups.append(tuple(left))
        return groups

    def _dnf_groups(self, point: TriggerPoint, kind: _Kind) -> list[tuple[Member, ...]] | None:
        """Members of each group that can hold; None when there is no such group."""
        groups: list[tuple[Member, ...]] = []
        for number, members in point.groups:
            left: list[Member] = []
            for trigger in members:
                evidence = kind.evidence(trigger)
                if evidence is None:
                    break
                left.append((number, trigger, evidence if isinstance(evidence, str) else self._ask(trigger)))
            else:
                groups.append(tuple(left))
        return groups or None

    def _ask(self, trigger: ServicePointTrigger) -> Asked:
        slot = self._slots.get(trigger.condition)
        if slot is None:
            slot = self._slots[trigger.condition] = len(self._conditions)
            self._conditions.append(compile_condition(trigger.condition))
        return slot, trigger.negated
