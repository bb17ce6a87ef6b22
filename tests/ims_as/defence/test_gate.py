"""The gate: what it refuses, what it lets in at any load, what it tells."""

from __future__ import annotations

import pytest

from ims_as.call.admission import Admission
from ims_as.call.passthrough import exempt_reason
from ims_as.defence.gate import AdmissionGate
from ims_as.defence.overload import LoadMonitor
from ims_as.defence.rate_limit import PeerLimiter, PeerRates
from ims_as.sip.flow import Flow
from tests.support.manual_clock import ManualClock
from tests.support.sip_messages import build_request

FLOW = Flow("UDP", ("10.0.0.2", 5060), ("10.0.0.1", 5060))


class Fixture:
    def __init__(self, **limits: object) -> None:
        self.clock = ManualClock()
        self.admission = Admission(**{"max_calls": 1, "calls_per_second": 100.0, **limits})  # type: ignore[arg-type]
        self.peers = PeerLimiter()
        self.told: list[tuple[str, int]] = []
        self.gate = AdmissionGate(
            self.admission,
            self.peers,
            clock=self.clock,
            is_exempt=lambda request: exempt_reason(request) is not None,
            on_refusals=lambda reason, count: self.told.append((reason, count)),
            retry_after_s=7,
        )

    def ask(self, method: str = "INVITE", **options: object) -> str | None:
        refusal = self.gate(build_request(method, **options), FLOW)
        return None if refusal is None else refusal.reason


def test_a_full_node_refuses_with_retry_after_and_cause() -> None:
    fixture = Fixture()
    assert fixture.ask() is None
    fixture.admission.hold(now=fixture.clock())
    refusal = fixture.gate(build_request(), FLOW)
    assert refusal is not None
    assert (refusal.status, refusal.reason) == (503, "calls")
    assert refusal.headers == (("Retry-After", "7"), ("Reason", 'Q.850;cause=41;text="calls: overload"'))
    assert fixture.gate(build_request(), FLOW) is refusal
    assert fixture.gate.refused == {"calls": 2}
    assert fixture.told == [("calls", 1)]


@pytest.mark.parametrize(
    ("uri", "headers"),
    [
        ("urn:service:sos.fire", ()),
        ("sip:bob@10.0.0.2", (("Priority", "psap-callback"),)),
        ("sip:bob@10.0.0.2", (("Resource-Priority", "ets.0"),)),
    ],
)
def test_emergency_and_priority_come_in_at_any_load(uri: str, headers: tuple[tuple[str, str], ...]) -> None:
    fixture = Fixture(draining=True)
    assert fixture.ask() == "draining"
    assert fixture.ask(uri=uri, headers=headers) is None
    assert fixture.gate.refused == {"draining": 1}


def test_other_methods_are_not_calls() -> None:
    fixture = Fixture(draining=True)
    assert [fixture.ask(method) for method in ("OPTIONS", "REGISTER", "MESSAGE")] == [None] * 3


def overload(fixture: Fixture) -> None:
    load = fixture.admission.load
    while not load.is_overloaded:
        fixture.clock.advance(0.05)
        load.observe(1.0, now=fixture.clock())


def test_calls_are_refused_for_load_and_options_only_when_configured() -> None:
    fixture = Fixture(load=LoadMonitor(0.05), max_calls=100)
    assert fixture.ask() is None
    overload(fixture)
    assert fixture.ask() == "latency"
    assert fixture.ask("OPTIONS") is None
    fixture.gate.options_in_overload = False
    assert fixture.ask("OPTIONS") == "latency"
    assert fixture.ask("REGISTER") is None
    assert fixture.gate.refused == {"latency": 1}
    fixture.clock.advance(1.1)
    assert fixture.ask() is None  # some always get in


def test_a_peer_that_sends_too_much_is_refused_alone() -> None:
    fixture = Fixture(max_calls=1000, calls_per_second=1000)
    fixture.peers.change(PeerRates(requests=4, calls=2))
    assert [fixture.ask() for _ in range(3)] == [None, None, "peer-calls"]
    assert [fixture.ask("OPTIONS") for _ in range(3)] == [None, None, "peer-requests"]
    assert fixture.ask(uri="urn:service:sos") is None
    other = Flow("UDP", ("10.0.0.2", 5060), ("10.0.0.7", 5060))
    assert fixture.gate(build_request(), other) is None
    assert fixture.told[0] == ("peer-calls of 10.0.0.1", 1)
    assert fixture.gate.refused == {"peer-calls": 1}
    fixture.clock.advance(1.0)
    assert fixture.ask() is None


def test_peers_that_throttle_themselves_are_not_sent_away() -> None:
    """RFC 7339 §5.10.2: Retry-After would make the load swing between nothing and too much."""
    fixture = Fixture(load=LoadMonitor(0.05), max_calls=100)
    overload(fixture)
    able = build_request(via='SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bK-1;oc;oc-algo="loss"')
    refusal = fixture.gate(able, FLOW)
    assert refusal is not None
    assert [name for name, _ in refusal.headers] == ["Reason"]
    refusal = fixture.gate(build_request(), FLOW)
    assert refusal is not None
    assert [name for name, _ in refusal.headers] == ["Retry-After", "Reason"]
    fixture.gate.retry_after_s = 0
    refusal = fixture.gate(build_request(), FLOW)
    assert refusal is not None
    assert [name for name, _ in refusal.headers] == ["Reason"]
    for _ in range(10):
        fixture.gate(able, FLOW)
        fixture.clock.advance(0.05)
        fixture.admission.load.observe(1.0, now=fixture.clock())
    assert fixture.admission.load.loss > 0.2
