"""What becomes of a call by who calls whom: rules on the caller's and the called number (geography, blocked ranges).

The first rule that matches says what happens: the agent takes the call, it is passed on by its Route as if we were not
there, or it is rejected. Without a rule the agent takes it.
"""

from __future__ import annotations

from enum import Enum

import attrs

from ims_as.defence.destination_policy import Matcher
from ims_as.defence.phone_number import NO_PLAN, DialPlan, read_target_untrusted

__all__ = ["IncomingAction", "IncomingPolicy", "IncomingRule", "IncomingVerdict"]


class IncomingAction(Enum):
    """What is done with a call."""

    AGENT = "agent"
    PASS_ON = "pass-on"
    REJECT = "reject"


@attrs.frozen
class IncomingRule:
    """One entry of ``policy.incoming``; a matcher that is None matches everybody."""

    name: str
    action: IncomingAction
    caller: Matcher | None = None
    called: Matcher | None = None
    status: int = 603
    """Of a rejection."""


@attrs.frozen
class IncomingVerdict:
    action: IncomingAction
    rule: str
    status: int = 603


_AGENT = IncomingVerdict(IncomingAction.AGENT, "no rule")


@attrs.frozen
class IncomingPolicy:
    """Pure."""

    plan: DialPlan = NO_PLAN
    rules: tuple[IncomingRule, ...] = ()

    def decide(self, caller: str, called: str) -> IncomingVerdict:
        """What becomes of a call; both are URIs as the network gave them."""
        if not self.rules:
            return _AGENT
        parties = read_target_untrusted(caller, self.plan), read_target_untrusted(called, self.plan)
        for rule in self.rules:
            wanted = rule.caller, rule.called
            if all(matcher is None or matcher.matches(party) for matcher, party in zip(wanted, parties, strict=True)):
                return IncomingVerdict(rule.action, rule.name, rule.status)
        return _AGENT
