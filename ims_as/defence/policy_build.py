"""The section ``policy`` of the configuration as policies, and what is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final

from ims_as.config_policy import DestinationRule, NumberMatch, PolicyConfig
from ims_as.defence.calling_codes import COUNTRIES, GROUPS, groups_of
from ims_as.defence.destination_policy import DestinationPolicy, Matcher, Rule, compile_range
from ims_as.defence.incoming_policy import IncomingPolicy, IncomingRule
from ims_as.defence.phone_number import DialPlan

__all__ = ["build_destination_policy", "build_incoming_policy", "policy_problems", "policy_warnings"]

_PREFIX_RE: Final = re.compile(r"\+[0-9]{1,15}")
_DIGITS_RE: Final = re.compile(r"[0-9]{1,6}")
_DOMAIN_RE: Final = re.compile(r"\.?[A-Za-z0-9](?:[A-Za-z0-9.:-]*[A-Za-z0-9])?")

PatternProblem = Callable[[str], str | None]


def build_destination_policy(policy: PolicyConfig, identity: str) -> DestinationPolicy:
    """From a configuration that has been checked; ``identity``: our SIP URI."""
    rules = []
    for index, rule in enumerate(policy.destinations):
        match = rule.allow if rule.allow is not None else rule.deny
        assert match is not None
        name = f"policy.destinations[{index}]"
        rules.append(Rule(name, rule.allow is not None, _matcher(match), frozenset(rule.agents)))
    return DestinationPolicy(
        plan=_plan(policy),
        rules=tuple(rules),
        deny_groups=frozenset(policy.deny_groups),
        emergency=frozenset(policy.emergency_numbers),
        home_domains=tuple(each.lower() for each in policy.home_domains) or _domains_of(identity),
    )


def build_incoming_policy(policy: PolicyConfig) -> IncomingPolicy:
    """From a configuration that has been checked."""
    rules = tuple(
        IncomingRule(
            f"policy.incoming[{index}]",
            rule.action,
            None if rule.caller is None else _matcher(rule.caller),
            None if rule.called is None else _matcher(rule.called),
            rule.status,
        )
        for index, rule in enumerate(policy.incoming)
    )
    return IncomingPolicy(_plan(policy), rules)


def _plan(policy: PolicyConfig) -> DialPlan:
    return DialPlan(policy.local_prefix, policy.international_prefix, policy.national_prefix or "")


def _matcher(match: NumberMatch) -> Matcher:
    return Matcher(
        uri=None if match.uri is None else re.compile(match.uri),
        prefixes=match.prefixes,
        ranges=tuple(compile_range(text) for text in match.ranges),
        countries=frozenset(match.countries),
        groups=frozenset(match.groups),
        domains=frozenset(each.lower() for each in match.domains),
    )


def _domains_of(identity: str) -> tuple[str, ...]:
    """The host of our identity, and the domain that it is in."""
    host = identity.partition(":")[2].rpartition("@")[2].partition(";")[0].partition(":")[0].lower()
    _, dot, parent = host.partition(".")
    return (host, parent) if dot and "." in parent and not host.replace(".", "").isdigit() else (host,)


# --- what is wrong with it --------------------------------------------------------------------------------------------


def policy_problems(
    policy: PolicyConfig, agents: set[str], pattern_problem: PatternProblem
) -> Iterator[tuple[str, str]]:
    """Path and text of each thing that makes the section unusable.

    Args:
        agents: the names that there are.
        pattern_problem: what is wrong with a regular expression, None: nothing.
    """
    if policy.local_prefix is not None and not re.fullmatch(r"\+[1-9][0-9]{0,3}", policy.local_prefix):
        yield "policy.local_prefix", f'expected + and a calling code such as "+49", not {policy.local_prefix!r}'
    for field in ("international_prefix", "national_prefix"):
        text = getattr(policy, field)
        if text and not _DIGITS_RE.fullmatch(text):
            yield f"policy.{field}", f"expected digits, not {text!r}"
    for index, number in enumerate(policy.emergency_numbers):
        if not _DIGITS_RE.fullmatch(number):
            yield f"policy.emergency_numbers[{index}]", f"expected up to six digits, not {number!r}"
    yield from _word_problems("policy.deny_groups", policy.deny_groups, GROUPS)
    yield from _domain_problems("policy.home_domains", policy.home_domains)
    for index, rule in enumerate(policy.destinations):
        yield from _rule_problems(f"policy.destinations[{index}]", rule, agents, pattern_problem)
    for index, incoming in enumerate(policy.incoming):
        for field in ("caller", "called"):
            match = getattr(incoming, field)
            if match is not None:
                yield from _match_problems(f"policy.incoming[{index}].{field}", match, pattern_problem)


def _rule_problems(
    path: str, rule: DestinationRule, agents: set[str], pattern_problem: PatternProblem
) -> Iterator[tuple[str, str]]:
    if (rule.allow is None) == (rule.deny is None):
        yield path, "expected either allow or deny"
    for field in ("allow", "deny"):
        match = getattr(rule, field)
        if match is not None:
            yield from _match_problems(f"{path}.{field}", match, pattern_problem)
    for index, agent in enumerate(rule.agents):
        if agent not in agents:
            known = ", ".join(sorted(agents)) or "none"
            yield f"{path}.agents[{index}]", f"no agent is called {agent!r} (there are: {known})"


def _match_problems(path: str, match: NumberMatch, pattern_problem: PatternProblem) -> Iterator[tuple[str, str]]:
    if match == NumberMatch():
        yield path, "matches everything: say what it looks at"
    if match.uri is not None and (problem := pattern_problem(match.uri)):
        yield f"{path}.uri", problem
    for index, prefix in enumerate(match.prefixes):
        if not _PREFIX_RE.fullmatch(prefix):
            yield f"{path}.prefixes[{index}]", f'expected + and digits such as "+4930", not {prefix!r}'
    for index, text in enumerate(match.ranges):
        try:
            compile_range(text)
        except ValueError as error:
            yield f"{path}.ranges[{index}]", f"{error}, not {text!r}"
    yield from _word_problems(f"{path}.countries", match.countries, frozenset(COUNTRIES))
    yield from _word_problems(f"{path}.groups", match.groups, GROUPS)
    yield from _domain_problems(f"{path}.domains", match.domains)


def _word_problems(path: str, words: tuple[str, ...], known: frozenset[str]) -> Iterator[tuple[str, str]]:
    for index, word in enumerate(words):
        if word not in known:
            hint = f" (known: {', '.join(sorted(known))})" if len(known) < 10 else ""
            yield f"{path}[{index}]", f"{word!r} is not known{hint}"


def _domain_problems(path: str, domains: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for index, domain in enumerate(domains):
        if not _DOMAIN_RE.fullmatch(domain):
            yield f"{path}[{index}]", f"expected a domain, not {domain!r}"


def policy_warnings(policy: PolicyConfig) -> Iterator[tuple[str, str]]:
    """Path and text of each thing in a usable section that is worth a second look."""
    for index, rule in enumerate(policy.destinations):
        path = f"policy.destinations[{index}]"
        if (decider := _decides_before(policy.destinations[:index], rule)) is not None:
            yield path, f"is never reached: policy.destinations[{decider}] decides all of it"
        if rule.allow is None:
            continue
        if rule.allow.uri is not None and re.fullmatch(rule.allow.uri, "sip:x@any.example"):
            yield f"{path}.allow.uri", "lets agents call anybody"
        for prefix in rule.allow.prefixes:
            if risky := groups_of(prefix) & set(policy.deny_groups):
                yield f"{path}.allow.prefixes", f"{prefix} is {', '.join(sorted(risky))}: a usual target of fraud"


def _decides_before(earlier: tuple[DestinationRule, ...], rule: DestinationRule) -> int | None:
    """Index of a rule that leaves nothing to this one, as far as can be told from prefixes, countries and groups."""
    match = rule.allow or rule.deny
    assert match is not None
    for index, other in enumerate(earlier):
        before = other.allow or other.deny
        assert before is not None
        if other.agents and not (rule.agents and set(rule.agents) <= set(other.agents)):
            continue
        if before == match:
            return index
        lists = ("prefixes", "countries", "groups")
        for field in lists:
            ours, theirs = getattr(match, field), getattr(before, field)
            only = before == NumberMatch(**{field: theirs})
            if not (theirs and ours and only):
                continue
            if all(item.startswith(theirs) if field == "prefixes" else item in theirs for item in ours):
                return index
    return None
