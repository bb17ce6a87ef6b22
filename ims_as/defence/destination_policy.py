"""Whom may an agent call? Rules on URIs, numbers, countries and kinds of number (no toll fraud by persuasion).

An agent does what a caller talks it into; so where calls of an agent may go is not the agent's decision. In this order,
and the first that says something decides:

1. what nobody may call: emergency numbers, services, URIs that smuggle headers or choose a route;
2. the rules of ``policy.destinations``, from the top, those of the agent and those of all agents;
3. the kinds of number in ``policy.deny_groups`` (premium rate, satellite, global services, call-back fraud), service
   codes, and numbers that have no international form;
4. what the agent's own configuration names (``transfer.allow``, ``outbound.allow``);
5. no.

A rule that allows by number looks at SIP URIs of ``policy.home_domains`` only: ``sip:+4930…@elsewhere`` is not a
telephone call. A rule that denies by number looks at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

import attrs

from ims_as.defence.calling_codes import country_of, groups_of, split_code
from ims_as.defence.phone_number import MAX_SHORT_DIGITS, NO_PLAN, DialPlan, Target, read_target_untrusted

__all__ = ["DEFAULT_EMERGENCY", "EMERGENCY", "DestinationPolicy", "Matcher", "Rule", "Verdict", "compile_range"]

DEFAULT_EMERGENCY: Final = (
    "000", "110", "111", "112", "113", "114", "115", "117", "118", "119", "122", "133", "144", "190", "191", "192",
    "193", "911", "933", "988", "995", "997", "998", "999",
)  # fmt: skip
"""The widely used ones; a network adds its own (100 to 108 are extensions of a PBX elsewhere)."""

EMERGENCY: Final = "emergency number"
"""`Verdict.rule` of a refusal for that reason."""


@attrs.frozen
class Verdict:
    """Whether a call may be made, and what says so."""

    allowed: bool
    rule: str
    """For the trace and for people."""
    number: str | None = None
    """The number in international form, None when there is none."""


@attrs.frozen
class Matcher:
    """What a rule looks at: all that is given must be so, of each list one entry."""

    uri: re.Pattern[str] | None = None
    """The whole URI, as named or in its canonical form."""
    prefixes: tuple[str, ...] = ()
    """``+`` and digits."""
    ranges: tuple[tuple[str, str], ...] = ()
    """First and last, both ``+`` and as many digits; further digits of a number are an extension."""
    countries: frozenset[str] = frozenset()
    """ISO letters."""
    groups: frozenset[str] = frozenset()
    domains: frozenset[str] = frozenset()
    """Of SIP URIs; ``.example.net``: that one and all below it."""

    @property
    def by_number(self) -> bool:
        """Whether it looks at the number."""
        return bool(self.prefixes or self.ranges or self.countries or self.groups)

    def matches(self, target: Target) -> bool:
        """Whether everything given is so."""
        if self.uri is not None and not (self.uri.fullmatch(target.uri) or self.uri.fullmatch(target.canonical)):
            return False
        if self.domains and not in_domains(target.domain, self.domains):
            return False
        if not self.by_number:
            return True
        number = target.number
        if number is None:
            return False
        if self.prefixes and not number.startswith(self.prefixes):
            return False
        if self.ranges and not any(_in_range(number, first, last) for first, last in self.ranges):
            return False
        if self.groups and not self.groups & groups_of(number):
            return False
        if self.countries:
            info = country_of(number)
            return info is not None and info.country in self.countries
        return True


def in_domains(domain: str | None, domains: Iterable[str]) -> bool:
    """Whether a host is one of these domains, or below one that begins with a dot."""
    if domain is None:
        return False
    return any(domain == each.lstrip(".") or (each[0] == "." and domain.endswith(each)) for each in domains)


def compile_range(text: str) -> tuple[str, str]:
    """``+4930000-+4930999`` → first and last.

    Raises:
        ValueError: the text is not a range of numbers of the same length, the lower one first.
    """
    first, dash, last = (part.strip() for part in text.partition("-"))
    if not dash or not all(part[:1] == "+" and part[1:].isdigit() for part in (first, last)):
        raise ValueError("expected a range such as +4930000-+4930999")
    if len(first) != len(last) or first > last:
        raise ValueError("expected two numbers of the same length, the lower one first")
    return first, last


def _in_range(number: str, first: str, last: str) -> bool:
    return first <= number[: len(first)] <= last and len(number) >= len(first)


def _kinds_of(number: str) -> frozenset[str]:
    """As `groups_of`, and as a gateway sees it that ignores zeros behind the calling code (+49 (0)900 …)."""
    parts = split_code(number)
    if parts is None or not parts[1].startswith("0"):
        return groups_of(number)
    return groups_of(number) | groups_of(f"+{parts[0]}{parts[1].lstrip('0')}")


@attrs.frozen
class Rule:
    """One entry of ``policy.destinations``."""

    name: str
    allows: bool
    matcher: Matcher
    agents: frozenset[str] = frozenset()
    """Empty: of all agents."""


@attrs.frozen
class DestinationPolicy:
    """Pure: the same question always gets the same answer."""

    plan: DialPlan = NO_PLAN
    rules: tuple[Rule, ...] = ()
    deny_groups: frozenset[str] = frozenset()
    emergency: frozenset[str] = frozenset(DEFAULT_EMERGENCY)
    home_domains: tuple[str, ...] = ()
    """As in `Matcher.domains`."""

    def read(self, uri: str) -> Target:
        """The URI as rules look at it."""
        return read_target_untrusted(uri, self.plan)

    def check(self, uri: str, *, agent: str = "", also: Iterable[str] = ()) -> Verdict:
        """Whether this agent may call that URI.

        Args:
            agent: its name, "" for none: then only rules for all agents apply.
            also: regular expressions of the agent's own configuration; a whole URI must match one.
        """
        target = self.read(uri)
        for found in self._decide(target, agent, also):
            return attrs.evolve(found, number=target.number)
        return Verdict(False, "no rule allows it", target.number)

    def _decide(self, target: Target, agent: str, also: Iterable[str]) -> Iterable[Verdict]:
        if self.is_emergency(target):
            yield Verdict(False, EMERGENCY)
        if target.problem is not None:
            yield Verdict(False, target.problem)
        for rule in self.rules:
            if (not rule.agents or agent in rule.agents) and self._applies(rule, target):
                yield Verdict(rule.allows, rule.name)
        if target.number is not None:
            for group in sorted(_kinds_of(target.number) & self.deny_groups):
                yield Verdict(False, f"policy.deny_groups: {group}")
        elif target.dialled is not None:
            if not target.dialled.isdigit():
                yield Verdict(False, "a service code")
            if len(target.dialled) > MAX_SHORT_DIGITS:
                yield Verdict(False, "a number without an international form (policy.local_prefix)")
        for pattern in also:
            if re.fullmatch(pattern, target.uri) or re.fullmatch(pattern, target.canonical):
                yield Verdict(True, f"the agent's own {pattern!r}")

    def _applies(self, rule: Rule, target: Target) -> bool:
        if not rule.matcher.matches(target):
            return False
        needs_home = rule.allows and rule.matcher.by_number and not rule.matcher.domains
        return not needs_home or target.domain is None or in_domains(target.domain, self.home_domains)

    def is_emergency(self, target: Target) -> bool:
        """Whether the number, in any form in which a gateway might understand it, is an emergency number."""
        dialled = target.dialled
        if dialled is None:
            return target.uri.lower().startswith("urn:service:sos")
        return any(form in self.emergency for form in self._forms(dialled, target.number))

    def _forms(self, dialled: str, number: str | None) -> Iterable[str]:
        last = re.split(r"[*#]", dialled.rstrip("*#"))[-1]  # behind a service code
        yield last
        plan = self.plan
        for prefix in (plan.national_prefix, plan.international_prefix):
            if prefix and last.startswith(prefix):
                yield last.removeprefix(prefix)
        for text in (last, number, f"+{last.removeprefix(plan.international_prefix)}"):
            if text is not None and text.startswith("+") and (parts := split_code(text)) is not None:
                yield parts[1]
