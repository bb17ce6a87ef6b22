"""Every metric of the server, declared once; exposed in the Prometheus or OpenMetrics text format.

Times are in seconds.  Label values come from fixed vocabularies, but some of these are fed by what peers send, so each
family has room for a bounded number of label sets; what comes after them is counted as ``other``.

Parts that count for themselves (SIP stack, Diameter, media workers) are asked just before a scrape: they register a
callback with ``before_scrape`` that sets gauges and calls ``follow`` for running totals.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from importlib.metadata import version
from typing import Generic, TypeVar

import attrs
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.exposition import choose_encoder
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector

from ims_as.errors import Termination

__all__ = ["MAX_LABEL_SETS", "SIP_METHODS", "Family", "MetricKind", "MetricSpec", "Metrics", "sip_method_label"]

MAX_LABEL_SETS = 500
"""SIP methods × statuses × directions that really occur are about 200."""
OTHER = "other"

SIP_METHODS = frozenset(
    {
        *("INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "REGISTER", "PRACK", "UPDATE"),
        *("INFO", "SUBSCRIBE", "NOTIFY", "REFER", "MESSAGE", "PUBLISH"),
    }
)

SETUP_BUCKETS_S = (0.002, 0.004, 0.006, 0.008, 0.01, 0.015, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 4.0)
"""Fine where our own work lies (8 and 25 ms are targets), then the answer budget and the guards of known cores."""
TTFB_BUCKETS_S = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0)
"""A pause above 0.8 s is heard as slow."""
BARGE_IN_BUCKETS_S = (0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0)
RING_BUCKETS_S = (0.5, 1.0, 2.0, 4.0, 6.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 120.0, 300.0)
"""People take 5 to 20 s, and most callers give up after a minute."""
CONNECT_BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.2, 2.0)
SH_BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
MOS_BUCKETS = (1.5, 2.0, 2.6, 3.1, 3.6, 3.8, 4.0, 4.1, 4.2, 4.3, 4.4, 4.5)
DURATION_BUCKETS_S = (1, 5, 10, 20, 30, 60, 120, 180, 300, 600, 1200, 1800, 3600, 7200)

T = TypeVar("T", Counter, Gauge, Histogram)


class MetricKind(Enum):
    """Prometheus metric types in use."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@attrs.frozen
class MetricSpec:
    """One line of the table: what documentation and dashboards are made from."""

    name: str
    """As exposed; counters get ``_total`` behind it."""
    kind: MetricKind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    """Upper bounds in seconds."""


@attrs.define
class Family(Generic[T]):
    """A metric with labels, bounded in the number of label sets."""

    metric: T
    size: int
    """Number of labels."""
    _known: set[tuple[str, ...]] = attrs.Factory(set)

    def labels(self, *values: str | int) -> T:
        """The child for these label values, in the order of the table."""
        key = tuple(str(value) for value in values)
        if len(key) != self.size:
            raise ValueError(f"{len(key)} label values where {self.size} are declared")
        if key not in self._known:
            if len(self._known) >= MAX_LABEL_SETS:
                key = (OTHER,) * self.size
            else:
                self._known.add(key)
        return self.metric.labels(*key)


def sip_method_label(method: str) -> str:
    """The method where we know it, else ``other``."""
    return method if method in SIP_METHODS else OTHER


class Metrics:
    """All metrics of one server, in a registry of their own."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry if registry is not None else CollectorRegistry()
        self.specs: list[MetricSpec] = []
        self._refreshers: list[Callable[[], None]] = []
        self._totals: dict[tuple[int, tuple[str, ...]], float] = {}
        self._peer_states: dict[str, set[str]] = {}
        self._reductions: set[str] = set()
        # a time series more per counter that says only when the process started; the switch is global in the library
        disable_created_metrics()  # type: ignore[no-untyped-call]
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self._gauges("build_info", "Version that runs; always 1.", "version").labels(version("ims-as")).set(1)

        # calls
        self.calls = self._counters("calls", "Calls that ended, by result and reason.", "result", "reason")
        self.calls_active = self._gauge("calls_active", "Calls that are up or being set up.")
        self.setup_seconds = self._histogram("call_setup_seconds", "INVITE received to 200 sent.", SETUP_BUCKETS_S)
        self.call_seconds = self._histogram("call_duration_seconds", "Answer to end of the call.", DURATION_BUCKETS_S)
        self.outbound_calls = self._counters("outbound_calls", "Calls that we placed, by outcome.", "outcome")
        self.ring_seconds = self._histogram(
            "outbound_ring_seconds", "INVITE of a call that we placed to its answer.", RING_BUCKETS_S
        )
        self.transfers = self._counters("transfers", "Transfers of a caller to a person, by outcome.", "outcome")
        self.failovers = self._counter("failovers", "Engines lost in a call and replaced, or tried to be.")
        self.passed_on = self._counters("passed_on", "INVITEs passed on along their Route, by reason.", "reason")
        self.admission_rejected = self._counters(
            "admission_rejected", "INVITEs refused before any work was done, by reason.", "reason"
        )
        self.work_wait_seconds = self._gauge("work_wait_seconds", "How long work waits before it is done, now.")
        self.admission_limit = self._gauge(
            "admission_calls_per_second_limit", "Calls per second that the load allows; 0: no limit for now."
        )

        # engines
        self.ttfb_seconds = self._histogram(
            "engine_ttfb_seconds", "End of the caller's speech to first audio sent to the caller.", TTFB_BUCKETS_S
        )
        self.barge_in_seconds = self._histograms(
            "barge_in_seconds", "Caller's first word over the agent to its silence.", BARGE_IN_BUCKETS_S, "by"
        )
        self.engine_connect_seconds = self._histogram(
            "engine_connect_seconds", "Opening an engine connection until it is ready.", CONNECT_BUCKETS_S
        )
        self.engine_failures = self._counters(
            "engine_failures", "Engine connections that failed or were lost, by cause.", "cause"
        )

        # SIP
        self.sip_messages = self._counters(
            "sip_messages", "SIP messages; status is empty for requests.", "method", "status", "direction"
        )
        self.sip_failovers = self._counters(
            "sip_failovers", "Requests that were tried at another place, by its transport.", "transport"
        )
        self.sip_rejected = self._counters("sip_rejected", "SIP input that was not processed, by reason.", "reason")
        self.sip_refused = self._counters(
            "sip_refused", "SIP requests answered or dropped before a transaction was made, by reason.", "reason"
        )
        self.sip_retransmissions = self._counter("sip_retransmissions", "SIP messages that we sent again.")
        self.sip_transactions = self._gauge("sip_transactions", "Open SIP transactions.")
        self.sip_dialogs = self._gauge("sip_dialogs", "Open SIP dialogs.")
        self.sip_connections = self._gauge("sip_connections", "Open SIP stream connections.")
        self.registrations = self._gauge("registrations", "Public identities that third-party REGISTERs told us of.")
        self.reg_subscriptions = self._gauge("reg_subscriptions", "Users whose registration state is subscribed to.")
        self.reg_events = self._counters("reg_events", "What came of these subscriptions, by outcome.", "outcome")

        # Diameter and Sh
        self.sh_requests = self._counters("sh_requests", "Sh requests, by command and result.", "command", "result")
        self.sh_seconds = self._histograms("sh_request_seconds", "Sh request to answer.", SH_BUCKETS_S, "command")
        self.sh_cache = self._counters(
            "sh_cache_lookups", "Profile look-ups: hit, stale, miss, or shared with another one.", "outcome"
        )
        self.profile_problems = self._counters(
            "profile_problems", "Values of users' profiles that could not be used, by element.", "element"
        )
        self.profile_limited = self._counters(
            "profile_limited", "Calls given back because of a limit in the user's profile, by limit.", "limit"
        )
        self.diameter_peer_up = self._gauges("diameter_peer_up", "1 when the Diameter peer is open.", "peer")
        self.diameter_peer_state = self._gauges(
            "diameter_peer_state", "1 for the state that the Diameter peer is in.", "peer", "state"
        )
        self.diameter_events = self._counters(
            "diameter_events", "What the Diameter node went through, by event (docs/diameter.md).", "event"
        )
        self.diameter_pending = self._gauge("diameter_pending_requests", "Diameter requests without answer.")
        self.diameter_reduction = self._gauges(
            "diameter_overload_reduction_percent", "How much less a host or realm wants (RFC 7683).", "node"
        )

        # media
        self.media_worker_up = self._gauges("media_worker_up", "1 when the media worker answers.", "worker")
        self.media_worker_load = self._gauges("media_worker_load_ratio", "Share of the tick budget used.", "worker")
        self.media_worker_legs = self._gauges("media_worker_legs", "Legs on the media worker.", "worker")
        self.media_worker_late_seconds = self._gauges(
            "media_worker_late_seconds", "Latest frame in the last second: how much too late it left.", "worker"
        )
        self.media_no_port = self._counters(
            "media_no_port", "Legs that got no port because all of `media.ports` are in use or rest.", "worker"
        )
        self.media_worker_restarts = self._counter("media_worker_restarts", "Media workers that were lost.")
        self.media_moves = self._counters(
            "media_moves", "Calls whose media worker was lost: moved, refused by the party, or failed.", "outcome"
        )
        self.media_move_seconds = self._histogram(
            "media_move_seconds", "Loss of a call's media worker to its port on another one.", CONNECT_BUCKETS_S
        )
        self.rtp_packets_lost = self._counter("rtp_packets_lost", "RTP packets that never came.")
        self.rtp_packets_late = self._counter("rtp_packets_late", "RTP packets that came too late to be played.")
        self.rtp_concealed_seconds = self._counter("rtp_concealed_seconds", "Audio that was made up over gaps.")
        self.one_way_audio = self._counters(
            "one_way_audio", "Calls with audio in one direction only, by the empty one and why.", "direction", "reason"
        )
        self.call_mos = self._histograms(
            "call_mos", "Conversational MOS of ended calls (E-model).", MOS_BUCKETS, "direction", "scale"
        )
        self.recordings = self._counters("recordings", "Recordings of calls, by outcome.", "outcome")
        self.recording_lost_seconds = self._counter("recording_lost_seconds", "Audio missing in recordings.")
        self.rtp_timeouts = self._counter("rtp_timeouts", "Calls whose RTP fell silent.")

        # charging and the server itself
        self.alarm_active = self._gauges(
            "alarm_active", "1 while the alarm is raised (docs/alarms.md).", "alarm", "object"
        )
        self.alarms_raised = self._counters("alarms_raised", "Alarms that were raised, by alarm.", "alarm")
        self.cdr_written = self._counter("cdr_written", "Charging records on disk.")
        self.cdr_dropped = self._counters("cdr_dropped", "Charging records lost, by reason.", "reason")
        self.cdr_queue = self._gauge("cdr_queue", "Charging records that wait to be written.")
        self.guard_errors = self._counters(
            "guard_errors", "Unforeseen errors that cost one message or one call, by place.", "where"
        )
        self.api_requests = self._counters("api_requests", "HTTP requests to the API, by status.", "status")
        self.config_reloads = self._counters("config_reloads", "Reloads of the configuration, by outcome.", "outcome")
        self.operator_events = self._counters("operator_events", "Entries of the operator log, by id.", "id")

    # --- use --------------------------------------------------------------------------------------------------------

    def count_call(self, termination: Termination) -> None:
        """Counts an ended call."""
        self.calls.labels(termination.result.value, termination.reason).inc()

    def count_sip(self, direction: str, method: str, status: int | None = None) -> None:
        """Counts one SIP message; ``direction`` is ``in`` or ``out``, ``status`` None for a request."""
        self.sip_messages.labels(sip_method_label(method), "" if status is None else status, direction).inc()

    def set_peer_state(self, peer: str, state: str, *, is_open: bool) -> None:
        """Notes the state of a Diameter peer; the state that it had before goes to 0."""
        for other in self._peer_states.setdefault(peer, set()):
            self.diameter_peer_state.labels(peer, other).set(0)
        self._peer_states[peer].add(state)
        self.diameter_peer_state.labels(peer, state).set(1)
        self.diameter_peer_up.labels(peer).set(int(is_open))

    def keep_peers(self, present: set[str]) -> None:
        """Notes peers that are no more: those that had connected to us, or were redirected to."""
        for peer in self._peer_states.keys() - present:
            self.set_peer_state(peer, "Closed", is_open=False)

    def set_reductions(self, reductions: Mapping[str, int]) -> None:
        """Overload reports in force; those that have ended go to 0."""
        for name in self._reductions - reductions.keys():
            self.diameter_reduction.labels(name).set(0)
        for name, percent in reductions.items():
            self.diameter_reduction.labels(name).set(percent)
        self._reductions = set(reductions)

    def before_scrape(self, refresh: Callable[[], None]) -> None:
        """Registers what is called before each exposition; it must be quick and must not raise."""
        self._refreshers.append(refresh)

    def follow(self, counter: Counter | Family[Counter], total: float, *labels: str | int) -> None:
        """Brings a counter up to a running total kept elsewhere; a total that shrank has started anew."""
        child = counter.labels(*labels) if isinstance(counter, Family) else counter
        key = (id(counter), tuple(str(value) for value in labels))
        seen = self._totals.get(key, 0.0)
        growth = total - seen if total >= seen else total
        if growth:
            child.inc(growth)
        if len(self._totals) < MAX_LABEL_SETS * len(self.specs) or key in self._totals:
            self._totals[key] = total

    def follow_all(self, counter: Family[Counter], totals: Mapping[str, float]) -> None:
        """Follows running totals that are kept by the value of a counter's only label."""
        for label, total in totals.items():
            self.follow(counter, total, label)

    def render(self, accept: str | None = None) -> tuple[bytes, str]:
        """The exposition and its content type, OpenMetrics where the Accept header asks for it."""
        for refresh in self._refreshers:
            refresh()
        encode, content_type = choose_encoder(accept or "")
        return encode(self.registry), content_type

    # --- declaration ------------------------------------------------------------------------------------------------

    def _declare(
        self, name: str, kind: MetricKind, text: str, labels: Sequence[str], buckets: Sequence[float] = ()
    ) -> MetricSpec:
        spec = MetricSpec(f"ims_as_{name}", kind, text, tuple(labels), tuple(buckets))
        self.specs.append(spec)
        return spec

    def _counter(self, name: str, text: str) -> Counter:
        spec = self._declare(name, MetricKind.COUNTER, text, ())
        return Counter(spec.name, text, registry=self.registry)

    def _counters(self, name: str, text: str, *labels: str) -> Family[Counter]:
        spec = self._declare(name, MetricKind.COUNTER, text, labels)
        return Family(Counter(spec.name, text, labels, registry=self.registry), len(labels))

    def _gauge(self, name: str, text: str) -> Gauge:
        spec = self._declare(name, MetricKind.GAUGE, text, ())
        return Gauge(spec.name, text, registry=self.registry)

    def _gauges(self, name: str, text: str, *labels: str) -> Family[Gauge]:
        spec = self._declare(name, MetricKind.GAUGE, text, labels)
        return Family(Gauge(spec.name, text, labels, registry=self.registry), len(labels))

    def _histogram(self, name: str, text: str, buckets: Sequence[float]) -> Histogram:
        spec = self._declare(name, MetricKind.HISTOGRAM, text, (), buckets)
        return Histogram(spec.name, text, buckets=buckets, registry=self.registry)

    def _histograms(self, name: str, text: str, buckets: Sequence[float], *labels: str) -> Family[Histogram]:
        spec = self._declare(name, MetricKind.HISTOGRAM, text, labels, buckets)
        return Family(Histogram(spec.name, text, labels, buckets=buckets, registry=self.registry), len(labels))
