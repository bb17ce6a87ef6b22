"""What the configuration sets in parts that run: applied at the start, and again when it was read anew."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from ims_as.config import Config
from ims_as.config_model import NetworkLimits, PeerLimits
from ims_as.defence.policy_build import build_destination_policy, build_incoming_policy
from ims_as.defence.rate_limit import PeerRates
from ims_as.defence.source_check import comes_from_dialog
from ims_as.isc.peer_presets import PRESETS
from ims_as.isc.peer_rules import PeerRules
from ims_as.sip.errors import SipParseError
from ims_as.sip.invite_session import InviteSession

if TYPE_CHECKING:
    from ims_as.app import Application

__all__ = ["apply_settings"]


def _rates(limits: PeerLimits | NetworkLimits) -> PeerRates:
    return PeerRates(limits.messages_per_second, limits.requests_per_second, limits.calls_per_second, limits.burst_s)


def accepts_source(session: InviteSession, host: str) -> bool:
    """Whether a request inside the session may come from that address (``sip.strict_source``)."""
    if session.dialog is None:
        return True
    via = None
    if not session.is_caller:
        with contextlib.suppress(SipParseError):
            via = session.request.via
    return comes_from_dialog(session.dialog, via, host)


def apply_settings(application: Application, config: Config) -> None:
    """From now on; calls that are up keep what they began with. Raises nothing for a configuration that was checked."""
    context, gate, endpoint = application.context, application.gate, application.endpoint
    application.config = context.config = config
    limits, policy, sip = config.limits, config.policy, config.sip
    context.admission.change(limits.calls, limits.calls_per_second)
    context.admission.load.target_s = limits.latency_target_ms / 1000
    gate.retry_after_s = limits.retry_after_s
    gate.options_in_overload = limits.options_in_overload
    context.destinations = build_destination_policy(policy, config.identity)
    context.incoming = build_incoming_policy(policy)
    context.outbound_limits.change(
        policy.limits.per_agent_at_once, policy.limits.per_agent_per_hour, policy.limits.per_caller_per_hour
    )
    application.peers.change(_rates(limits.per_peer), [(each.network, _rates(each)) for each in limits.per_network])
    endpoint.admits_message = application.admits_message if application.peers.limits_messages else None
    context.user_agent.accepts_source = accepts_source if sip.strict_source else None
    application.overload_control.announces = sip.overload_control
    application.trust(sip.trusted_peers)
    endpoint.name_hosts(sip.hosts, sip.dns.name_servers())
    rules = PeerRules(sip.peers, presets=PRESETS, supported=context.user_agent.supported) if sip.peers else None
    endpoint.normaliser = rules
    context.proxy.record_route = application.record_router.values if sip.record_route else None
    application.log.change_level(config.log.level)
