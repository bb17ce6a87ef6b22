"""The section ``policy`` of the configuration: whom agents may call, and whose calls they take.

What it means is in `defence/destination_policy.py` and `defence/incoming_policy.py`; `defence/policy_build.py` makes
those of it.
"""

from __future__ import annotations

import attrs

from ims_as.config_values import bounded as _bounded
from ims_as.defence.destination_policy import DEFAULT_EMERGENCY
from ims_as.defence.incoming_policy import IncomingAction

__all__ = ["NO_POLICY", "DestinationRule", "IncomingCallRule", "NumberMatch", "PolicyConfig", "PolicyLimits"]


@attrs.frozen
class NumberMatch:
    """What a rule looks at: all that is given must be so, of each list one entry."""

    uri: str | None = None
    """Regular expression that the whole URI must match; tel: URIs are also looked at without separators."""
    prefixes: tuple[str, ...] = ()
    """Beginnings of numbers in international form, such as ``"+4930"`` (in quotes)."""
    ranges: tuple[str, ...] = ()
    """Ranges of numbers, such as ``"+4930000-+4930999"``; digits behind them are an extension."""
    countries: tuple[str, ...] = ()
    """Letters of ISO 3166-1, such as ``DE``."""
    groups: tuple[str, ...] = ()
    """Kinds of number: ``premium``, ``satellite``, ``global``, ``high-risk``."""
    domains: tuple[str, ...] = ()
    """Hosts of SIP URIs; ``.example.net`` is that one and all below it."""


@attrs.frozen
class DestinationRule:
    """One rule of whom agents may call: either ``allow`` or ``deny``."""

    allow: NumberMatch | None = None
    """Calls that match are allowed."""
    deny: NumberMatch | None = None
    """Calls that match are refused."""
    agents: tuple[str, ...] = ()
    """Agents that it is for; none: all."""


@attrs.frozen
class IncomingCallRule:
    """One rule of what becomes of a call by its parties."""

    action: IncomingAction
    """``agent``: the agent takes it; ``pass-on``: it goes on by its Route; ``reject``: with ``status``."""
    caller: NumberMatch | None = None
    """Who calls; none: anybody."""
    called: NumberMatch | None = None
    """Who is called (Request-URI); none: anybody."""
    status: int = _bounded(603, 400, 699)
    """Status of a rejection."""


@attrs.frozen
class PolicyLimits:
    """How much agents may call (transfers and calls of their own); 0: no limit."""

    per_agent_at_once: int = _bounded(0, 0, 1_000_000)
    """Calls of one agent that are up at a time."""
    per_agent_per_hour: int = _bounded(0, 0, 10_000_000)
    """Calls of one agent per hour."""
    per_caller_per_hour: int = _bounded(0, 0, 1_000_000)
    """Calls per hour on behalf of one caller."""


@attrs.frozen
class PolicyConfig:
    """Whom agents may call, and whose calls they take."""

    local_prefix: str | None = None
    """``+`` and calling code of the country that national numbers are of, such as ``"+49"``; none: they are refused."""
    international_prefix: str = "00"
    """What is dialled before a calling code."""
    national_prefix: str | None = "0"
    """What is dialled before a national number; ``null``: nothing."""
    home_domains: tuple[str, ...] = ()
    """Domains in which a number in a SIP URI is a telephone number; none: the one of ``identity``."""
    emergency_numbers: tuple[str, ...] = DEFAULT_EMERGENCY
    """Numbers that no agent ever dials, whatever the rules say."""
    deny_groups: tuple[str, ...] = ("premium", "satellite", "global", "high-risk")
    """Kinds of number that only a rule of ``destinations`` can allow, not the agent's own configuration."""
    destinations: tuple[DestinationRule, ...] = ()
    """From the top, the first that matches decides; then the agent's own ``allow``; then it is refused."""
    incoming: tuple[IncomingCallRule, ...] = ()
    """From the top, the first that matches decides; without one the agent takes the call."""
    limits: PolicyLimits = PolicyLimits()


NO_POLICY = PolicyConfig()
