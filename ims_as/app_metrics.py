"""Brings what the parts count for themselves into the metrics, just before each scrape."""

from __future__ import annotations

import attrs

from diameter.node import DiameterNode
from diameter.sh.client import ShClient
from ims_as.defence.gate import AdmissionGate
from ims_as.errors import Result
from ims_as.isc.reg_event import RegEvents
from ims_as.isc.registration import RegistrationTable
from ims_as.media_pool import MediaPool
from ims_as.oss.metrics import Metrics, sip_method_label
from ims_as.transport.endpoint import Endpoint

__all__ = ["MetricsBridge"]


@attrs.define
class MetricsBridge:
    metrics: Metrics
    endpoint: Endpoint
    node: DiameterNode | None
    sh: ShClient | None
    media: MediaPool
    registrations: RegistrationTable
    gate: AdmissionGate
    reg_events: RegEvents | None = None

    def refresh(self) -> None:
        """Quick, and raises nothing."""
        self._refresh_sip()
        self._refresh_media()
        self.metrics.registrations.set(len(self.registrations))
        if self.reg_events is not None:
            self.metrics.reg_subscriptions.set(len(self.reg_events))
            for outcome, count in self.reg_events.counts.items():
                self.metrics.follow(self.metrics.reg_events, count, outcome)
        self._refresh_gate()
        if self.node is not None:
            self._refresh_diameter(self.node)
        if self.sh is not None:
            self._refresh_sh(self.sh)

    def _refresh_diameter(self, node: DiameterNode) -> None:
        metrics, states = self.metrics, node.peer_states()
        for peer in states:
            metrics.set_peer_state(str(peer["peer"]), str(peer["state"]), is_open=bool(peer["is_open"]))
        metrics.keep_peers({str(peer["peer"]) for peer in states})
        metrics.follow_all(metrics.diameter_events, node.counters)
        metrics.diameter_pending.set(node.n_pending)
        metrics.set_reductions(node.overload_reductions())

    def _refresh_sh(self, sh: ShClient) -> None:
        metrics, stats = self.metrics, sh.stats
        outcomes = (("hit", stats.hits), ("stale", stats.stale), ("miss", stats.pulls), ("shared", stats.shared))
        for outcome, count in outcomes:
            metrics.follow(metrics.sh_cache, count, outcome)
        for command, result, count in (
            ("UDR", "sent", stats.pulls),
            ("UDR", "user-unknown", stats.unknown),
            ("UDR", "timeout", stats.timeouts),
            ("UDR", "failed", stats.failures),
            ("SNR", "ok", stats.subscriptions),
            ("SNR", "failed", stats.subscriptions_failed),
            ("SNR", "renewed", stats.renewals),
            ("PNR", "ok", stats.pushes),
            ("PNR", "refused", stats.pushes_refused),
            ("PNR", "doubtful", stats.pushes_doubtful),
            ("PUR", "ok", stats.updates),
            ("PUR", "out-of-sync", stats.out_of_sync),
            ("any", "answered", stats.answered),
            ("any", "unanswered", stats.unanswered),
            ("any", "not-permitted", stats.not_permitted),
            ("any", "foreign", stats.foreign),
        ):
            metrics.follow(metrics.sh_requests, count, command, result)

    def _refresh_gate(self) -> None:
        metrics = self.metrics
        for reason, count in self.endpoint.counters.refusals.items():
            metrics.follow(metrics.sip_refused, count, reason)
        load = self.gate.admission.load
        metrics.work_wait_seconds.set(load.wait_s)
        metrics.admission_limit.set(load.limit or 0.0)
        for reason, count in self.gate.refused.items():
            metrics.follow(metrics.admission_rejected, count, reason)
            metrics.follow(metrics.calls, count, Result.REJECTED.value, f"overload-{reason}")

    def _refresh_sip(self) -> None:
        metrics, counters, stats = self.metrics, self.endpoint.counters, self.endpoint.stats
        metrics.sip_transactions.set(stats.client_transactions + stats.server_transactions)
        metrics.sip_dialogs.set(stats.dialogs)
        metrics.sip_connections.set(stats.connections)
        for direction, requests, responses in (
            ("in", counters.requests_in, counters.responses_in),
            ("out", counters.requests_out, counters.responses_out),
        ):
            for method, count in requests.items():
                metrics.follow(metrics.sip_messages, count, sip_method_label(method), "", direction)
            for status, count in responses.items():
                metrics.follow(metrics.sip_messages, count, "", status, direction)
        for reason, count in [*counters.parse_errors.items(), *counters.drops.items()]:
            metrics.follow(metrics.sip_rejected, count, reason)
        for transport, count in counters.failovers.items():
            metrics.follow(metrics.sip_failovers, count, transport)
        metrics.follow(metrics.sip_retransmissions, counters.retransmissions_out.total())
        for error, count in counters.guard_errors.items():
            metrics.follow(metrics.guard_errors, count, f"sip {error}")

    def _refresh_media(self) -> None:
        metrics = self.metrics
        for name, link in list(self.media.links.items()):
            metrics.media_worker_up.labels(name).set(int(link.alive))
            metrics.media_worker_load.labels(name).set(link.load.reported)
            metrics.media_worker_legs.labels(name).set(link.legs)
            metrics.media_worker_late_seconds.labels(name).set(float(link.last_load.get("max_late_ms", 0.0)) / 1000)
            metrics.follow(metrics.media_no_port, float(link.last_load.get("no_port", 0)), name)
        metrics.follow(metrics.media_worker_restarts, self.media.restarts)
