from __future__ import annotations

from collections.abc import Callable, Sequence

from ims_as.sip.core import Targets
from ims_as.sip.counters import SipCounters
from ims_as.sip.flow import Destination, Flow
from ims_as.sip.late_responses import MAX_PER_CONNECTION, MAX_WAIT_S, LateResponses
from ims_as.sip.timers import TimerConfig
from ims_as.sip.transaction import NonInviteServerTransaction
from tests.support.sip_messages import build_request

LOST = Flow("TCP", ("10.0.0.2", 5060), ("10.0.0.1", 40000), 1)


class NoDriver:
    timers = TimerConfig()


class Bench:
    """Connections are numbered from 2 on; `sent` tells what went where."""

    def __init__(self) -> None:
        self.sent: list[tuple[tuple[str, int], bytes]] = []
        self.now = 0.0
        self.counters = SipCounters()
        self.names: dict[str, Targets] = {}
        self.refused: set[str] = set()
        self._last = 1
        self.late = LateResponses(
            self.flow_to, self.look_up, self.put, lambda host: host != "10.6.6.6", lambda: self.now, self.counters
        )

    def flow_to(self, destination: Destination) -> Flow:
        if destination.host in self.refused:
            raise OSError("no way")
        self._last += 1
        return Flow("TCP", LOST.local, (destination.host, destination.port or 5060), self._last)

    def look_up(self, destination: Destination, callback: Callable[[Sequence[Destination] | str], None]) -> None:
        callback(self.names.get(destination.host, "no such host"))

    def put(self, flow: Flow, data: bytes) -> None:
        self.sent.append((flow.remote, data))

    def transaction(self, via: str = "peer.example:5070") -> NonInviteServerTransaction:
        request = build_request("OPTIONS", via=f"SIP/2.0/TCP {via};branch=z9hG4bK1")
        return NonInviteServerTransaction(request, NoDriver(), "key", LOST, "tag")  # type: ignore[arg-type]


def places(*hosts: str) -> Targets:
    return [Destination("TCP", host, 5080) for host in hosts]


def test_source_then_the_places_of_the_via_in_order() -> None:
    bench = Bench()
    bench.names["peer.example"] = places("10.0.0.7", "10.6.6.6", "10.0.0.8")
    assert bench.late.send(bench.transaction(), b"200") is None
    for connection in (2, 3, 4):
        bench.late.receive_connection_lost(connection)
    assert bench.sent == [
        (("10.0.0.1", 5070), b"200"),
        (("10.0.0.7", 5080), b"200"),
        (("10.0.0.8", 5080), b"200"),
    ]
    assert bench.counters.drops == {"response without a way": 1}
    assert not bench.late.is_busy


def test_the_latest_response_is_what_goes_on() -> None:
    bench = Bench()
    bench.names["peer.example"] = places("10.0.0.7")
    transaction = bench.transaction()
    bench.late.send(transaction, b"183")
    bench.late.note_response(transaction, b"200")
    bench.late.note_response(bench.transaction(), b"of another")
    bench.late.receive_connection_lost(2)
    assert bench.sent[1:] == [(("10.0.0.7", 5080), b"200")]


def test_what_could_be_opened_is_done() -> None:
    bench = Bench()
    bench.late.send(bench.transaction(), b"200")
    bench.late.receive_connection_open(2)
    bench.late.receive_connection_lost(2)
    assert len(bench.sent) == 1
    assert not bench.late.is_busy


def test_a_connection_that_breaks_much_later_had_been_open() -> None:
    bench = Bench()
    bench.names["peer.example"] = places("10.0.0.7")
    bench.late.send(bench.transaction(), b"200")
    bench.now = MAX_WAIT_S + 1
    bench.late.receive_connection_lost(2)
    assert len(bench.sent) == 1


def test_numeric_via_and_no_way_at_all() -> None:
    bench = Bench()
    bench.late.send(bench.transaction("[2001:db8::1]:5070"), b"200")
    bench.late.receive_connection_lost(2)
    assert bench.sent[1:] == [(("2001:db8::1", 5070), b"200")]
    bench.refused = {"10.0.0.1"}
    assert bench.late.send(bench.transaction(), b"200") == "no way"


def test_number_that_waits_for_a_connection_is_bounded() -> None:
    bench = Bench()
    bench.flow_to = lambda destination: LOST  # type: ignore[method-assign]
    bench.late._flow_to = bench.flow_to
    for _ in range(MAX_PER_CONNECTION + 10):
        bench.late.send(bench.transaction(), b"200")
    bench.late.receive_connection_lost(1)
    assert bench.counters.drops == {"response without a way": MAX_PER_CONNECTION}
