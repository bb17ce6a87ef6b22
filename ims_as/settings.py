"""What the configuration sets in parts that run: applied at the start, and again when it was read anew."""

from __future__ import annotations

from ims_as.call.context import CallContext
from ims_as.config import Config
from ims_as.defence.gate import AdmissionGate
from ims_as.defence.policy_build import build_destination_policy, build_incoming_policy

__all__ = ["apply_settings"]


def apply_settings(context: CallContext, gate: AdmissionGate, config: Config) -> None:
    """From now on; calls that are up keep what they began with."""
    limits, policy = config.limits, config.policy
    context.config = config
    context.admission.change(limits.calls, limits.calls_per_second)
    context.admission.load.target_s = limits.latency_target_ms / 1000
    gate.retry_after_s = limits.retry_after_s
    gate.options_in_overload = limits.options_in_overload
    context.destinations = build_destination_policy(policy, config.identity)
    context.incoming = build_incoming_policy(policy)
    context.outbound_limits.change(
        policy.limits.per_agent_at_once, policy.limits.per_agent_per_hour, policy.limits.per_caller_per_hour
    )
