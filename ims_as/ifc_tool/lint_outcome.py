"""Rules about what a criterion takes and what becomes of it: alone, and beside the others of the profile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import attrs

from ifc.model import (
    ApplicationServer,
    Condition,
    InitialFilterCriteria,
    MethodCondition,
    RequestUriCondition,
    ServicePointTrigger,
    SessionCase,
    SessionCaseCondition,
    SessionDescriptionCondition,
    SipHeaderCondition,
    TriggerPoint,
)
from ims_as.ifc_tool.findings import Finding, found
from ims_as.ifc_tool.logic import Budget, BudgetSpent, Known, Wanted, find_request, may_match
from ims_as.ifc_tool.reading import Criteria

__all__ = ["criterion_findings", "profile_findings"]

MAX_STEPS = 200_000
"""Of all searches in one document: a second or two at worst, some milliseconds for ten ordinary criteria."""
MAX_SERVICE_INFO_CHARS = 255


def _register(condition: Condition) -> bool | None:
    match condition:
        case MethodCondition(method):
            return method == "REGISTER"
        case SessionCaseCondition(session_case):
            return None if session_case.is_originating else False
        case SessionDescriptionCondition():
            return False
    return None


def _invite(condition: Condition) -> bool | None:
    return condition.method == "INVITE" if isinstance(condition, MethodCondition) else None


def _unnamed_method(condition: Condition) -> bool | None:
    return False if isinstance(condition, MethodCondition) else None


def _invite_with_header(name: str, contents: Sequence[str]) -> Known:
    def known(condition: Condition) -> bool | None:
        if isinstance(condition, SipHeaderCondition) and condition.header.matches(name):
            content = condition.content
            if content is None or all(content.matches(each) for each in contents):
                return True
        return _invite(condition)

    return known


def _emergency(condition: Condition) -> bool | None:
    if isinstance(condition, RequestUriCondition):
        return condition.pattern.matches("service:sos")
    return _invite(condition)


def _only(condition: Condition, *others: Condition, negated: bool = False) -> InitialFilterCriteria:
    """A criterion that matches exactly the requests that meet one of the conditions (or do not meet the one)."""
    triggers = tuple(ServicePointTrigger(each, (0,), negated) for each in (condition, *others))
    return InitialFilterCriteria(0, TriggerPoint(True, triggers), ApplicationServer("sip:any"))


def _call_in(*cases: SessionCase) -> tuple[Wanted, ...]:
    """An INVITE in one of the cases."""
    return (_only(*map(SessionCaseCondition, cases)), True), (_only(MethodCondition("INVITE")), True)


_SAFETY: tuple[tuple[str, Known], ...] = (
    ("emergency calls (negated RequestURI ^(urn:)?service:sos)", _emergency),
    ("call-backs of emergency centres (negated header ^Priority$, content psap-callback)",
     _invite_with_header("Priority", ("psap-callback",))),
    ("priority calls (negated header ^Resource-Priority$, content .*)",
     _invite_with_header("Resource-Priority", ("ets.0", "wps.0", "esnet.0", "q735.0"))),
)  # fmt: skip


# ---------------------------------------------------------------- one criterion


def criterion_findings(criterion: InitialFilterCriteria, *, is_ours: bool, budget: Budget) -> Iterator[Finding]:
    """is_ours: its server is the one that we are, or nobody said which we are."""
    for rule, text in _criterion(criterion, is_ours=is_ours, budget=budget):
        yield found(rule, criterion.line, f"priority {criterion.priority}: {text}")


def _criterion(criterion: InitialFilterCriteria, *, is_ours: bool, budget: Budget) -> Iterator[tuple[str, str]]:
    point, server = criterion.trigger_point, criterion.application_server
    takes_register, takes_invite = may_match(point, _register), may_match(point, _invite)
    if server.is_terminating_on_failure:
        if takes_register:
            yield "register-terminated", "can match REGISTER, and DefaultHandling is 1 (SESSION_TERMINATED)"
        if takes_invite:
            yield "session-terminated", "DefaultHandling is 1 (SESSION_TERMINATED)"
    if server.default_handling is None:
        yield "default-handling-absent", "no DefaultHandling"
    if point is None:
        yield "no-trigger-point", "no TriggerPoint"
    elif is_ours and takes_invite and may_match(point, _unnamed_method):
        yield "any-method", "matches whatever the method is"
    if takes_invite and is_ours:
        missing = [name for name, known in _SAFETY if may_match(point, known)]
        if missing:
            yield "no-safety-exclusion", f"does not exclude {'; '.join(missing)}"
    yield from _register_details(criterion, takes_register=takes_register)
    if point is not None:
        yield from _logic(criterion, point, budget)


def _register_details(criterion: InitialFilterCriteria, *, takes_register: bool) -> Iterator[tuple[str, str]]:
    server = criterion.application_server
    included = server.include_register_request, server.include_register_response
    if server.service_info is not None and len(server.service_info) > MAX_SERVICE_INFO_CHARS:
        yield "service-info-too-long", f"ServiceInfo of {len(server.service_info)} characters"
    if not takes_register:
        if server.service_info:
            yield "service-info-unused", "ServiceInfo in a criterion that no REGISTER matches"
        if any(included):
            yield "include-register-unused", "IncludeRegister flags in a criterion that no REGISTER matches"
    elif all(included):
        yield "include-register-both", "both IncludeRegisterRequest and IncludeRegisterResponse"
    triggers = () if criterion.trigger_point is None else criterion.trigger_point.triggers
    names_register = any(each.condition == MethodCondition("REGISTER") and not each.negated for each in triggers)
    if names_register and takes_register and any(isinstance(each.condition, SessionCaseCondition) for each in triggers):
        yield "session-case-with-register", "Method REGISTER and a SessionCase in one trigger point"


def _logic(criterion: InitialFilterCriteria, point: TriggerPoint, budget: Budget) -> Iterator[tuple[str, str]]:
    try:
        if find_request([(criterion, True)], budget) is None:
            yield "never-matches", "its conditions contradict each other: no request meets them all"
            return
        for number, _ in point.groups:
            triggers = tuple(attrs.evolve(each, groups=(number,)) for each in point.triggers if number in each.groups)
            alone = attrs.evolve(criterion, trigger_point=TriggerPoint(point.is_cnf, triggers), profile_part=None)
            if point.is_cnf and len(triggers) > 1 and find_request([(alone, False)], budget) is None:
                yield "group-always-holds", f"group {number} holds for every request"
            if not point.is_cnf and find_request([(alone, True)], budget) is None:
                yield "group-never-holds", f"group {number} holds for no request"
    except BudgetSpent:
        return


# ---------------------------------------------------------------- the criteria of one profile


def profile_findings(
    criteria: Criteria, *, ours: frozenset[int], answering: frozenset[int], budget: Budget
) -> Iterator[Finding]:
    """Criteria beside each other.

    Args:
        criteria: in priority order.
        ours: places of those whose server is the one that we are, or may be.
        answering: places of those whose server is known to answer calls itself.
    """
    try:
        yield from _pairs(criteria, answering, budget)
        yield from _unregistered(criteria, budget)
        yield from _ambiguous(criteria, ours, budget)
    except BudgetSpent:
        yield found("not-all-compared", None, f"{len(criteria)} criteria: too many ways to compare them all")


def _pairs(criteria: Criteria, answering: frozenset[int], budget: Budget) -> Iterator[Finding]:
    live = [place for place, each in enumerate(criteria) if find_request([(each, True)], budget) is not None]
    unreachable: set[int] = set()
    for at, place in combinations(live, 2):
        if at in unreachable or place in unreachable:
            continue
        earlier, later = criteria[at], criteria[place]
        name = f"priority {later.priority}"
        if at in answering and _always(earlier, later, budget):
            unreachable.add(place)
            text = f"{name}: every call that it matches is taken by priority {earlier.priority} before"
            yield found("unreachable", later.line, text)
        elif _same_server(earlier, later):
            both = find_request([(earlier, True), (later, True)], budget)
            if both is not None:
                server = later.application_server.server_name
                text = f"{name}: {server} is triggered by priority {earlier.priority} too ({both})"
                yield found("repeated-server", later.line, text)


def _always(earlier: InitialFilterCriteria, later: InitialFilterCriteria, budget: Budget) -> bool:
    """Whether each request that the later one matches is an INVITE that the earlier one matches: calls are answered,
    other requests go on."""
    no_call: Wanted = (_only(MethodCondition("INVITE"), negated=True), True)
    if find_request([(later, True), no_call], budget) is not None:
        return False
    return find_request([(later, True), (earlier, False)], budget) is None


def _same_server(one: InitialFilterCriteria, other: InitialFilterCriteria) -> bool:
    return one.application_server.server_name.lower() == other.application_server.server_name.lower()


def _unregistered(criteria: Criteria, budget: Budget) -> Iterator[Finding]:
    """Criteria for calls to unregistered users behind which no other one takes them."""
    for place, criterion in enumerate(criteria):
        if criterion.application_server.is_terminating_on_failure:
            continue
        wanted: list[Wanted] = [(criterion, True), *_call_in(SessionCase.TERMINATING_UNREGISTERED)]
        if find_request(wanted, budget) is None:
            continue
        if find_request([*wanted, *((later, False) for later in criteria[place + 1 :])], budget) is not None:
            text = f"priority {criterion.priority}: takes calls to unregistered users, and no criterion after it does"
            yield found("unregistered-nowhere", criterion.line, text)


def _ambiguous(criteria: Criteria, ours: frozenset[int], budget: Budget) -> Iterator[Finding]:
    """Server names that get originating and terminating calls."""
    originating = _call_in(*(case for case in SessionCase if case.is_originating))
    terminating = _call_in(*(case for case in SessionCase if not case.is_originating))
    seen: dict[str, list[InitialFilterCriteria]] = {}
    told: set[str] = set()
    for place in sorted(ours):
        criterion = criteria[place]
        name = criterion.application_server.server_name
        users = seen.setdefault(name.lower(), [])
        users.append(criterion)
        if name.lower() in told:
            continue
        takes = [
            any(find_request([(each, True), *case], budget) is not None for each in users)
            for case in (originating, terminating)
        ]
        if all(takes):
            told.add(name.lower())
            text = f"priority {criterion.priority}: {name} gets originating and terminating calls"
            yield found("session-case-ambiguous", criterion.line, text)
