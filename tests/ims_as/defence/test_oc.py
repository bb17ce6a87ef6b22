"""Overload control between neighbours (RFC 7339): what we tell, and what we obey."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ims_as.call.passthrough import exempt_reason
from ims_as.defence.oc import LINGER_S, MAX_HOPS, MAX_VALIDITY_S, OverloadControl, can_throttle
from ims_as.sip.header_types import Via, parse_via
from ims_as.sip.message import Response
from ims_as.sip.parser import parse_message_untrusted
from ims_as.sip.stateless import Refusal
from ims_as.sip.transaction import ResponseReceived, TransportFailure
from tests.ims_as.test_transaction_layer import Fixture, NotingUser
from tests.support.link import LinkEndpoint, link_pair
from tests.support.sip_messages import build_request, request_bytes

HOP = ("10.0.0.2", 5060)
REFUSED = Refusal("full", headers=(("Reason", "Q.850;cause=41"),))
ABLE = 'SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bK-1;oc;oc-algo="loss,A"'


def control(**options: object) -> OverloadControl:
    return OverloadControl(is_exempt=lambda request: exempt_reason(request) is not None, **options)  # type: ignore[arg-type]


def feedback(text: str) -> Via:
    return parse_via(f"SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bK-1;{text}")


# ---------------------------------------------------------------- as a server


def test_nothing_is_told_without_overload() -> None:
    via = parse_via(ABLE)
    assert control().answer(via) is via


def test_peers_that_can_throttle_are_told_how_much() -> None:
    server = control()
    server.set_loss(0.2, now=10.0, wall=1282321615.7816)
    text = str(server.answer(parse_via(ABLE)))
    assert text == (
        'SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bK-1;oc=20;oc-algo="loss";oc-validity=1000;oc-seq=1282321615.782'
    )
    old = parse_via("SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bK-1")
    assert server.answer(old) is old
    other = parse_via('SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK-1;oc;oc-algo="rate"')
    assert server.answer(other) is other


def test_the_end_is_told_for_a_while_and_the_sequence_rises() -> None:
    server = control()
    server.set_loss(0.5, now=10.0, wall=100.0)
    first = server.answer(parse_via(ABLE))
    server.set_loss(0.0, now=10.05, wall=99.0)  # somebody has set the clock
    second = server.answer(parse_via(ABLE))
    assert (second.param("oc"), second.param("oc-validity")) == ("0", "0")
    assert float(second.param("oc-seq") or 0) > float(first.param("oc-seq") or 0)
    server.set_loss(0.0, now=10.0 + LINGER_S, wall=105.0)
    via = parse_via(ABLE)
    assert server.answer(via) is via


def test_every_response_carries_it() -> None:
    fixture = Fixture()
    server = fixture.endpoint.overload_control = control()
    server.set_loss(0.3, now=0.0, wall=1.0)
    fixture.receive(request_bytes(via=f"{ABLE};rport"))
    fixture.network.run(0.5)
    fixture.respond(200)
    trying, ok = (message for message in fixture.sent if isinstance(message, Response))
    assert (trying.status, ok.status) == (100, 200)
    for response in (trying, ok):
        assert response.via.param("oc") == "30"
        assert response.via.param("rport") == "5060"
    fixture.endpoint.gate = lambda request, flow: REFUSED
    fixture.receive(request_bytes(via=ABLE.replace("K-1", "K-2"), call_id="c2"))
    assert isinstance(fixture.sent[-1], Response)
    assert (fixture.sent[-1].status, fixture.sent[-1].via.param("oc")) == (503, "30")


# ---------------------------------------------------------------- as a client


def kept_back(client: OverloadControl, count: int, now: float, method: str = "INVITE", **options: object) -> int:
    request = build_request(method, **options)
    return sum(client.keeps_back(request, HOP, now=now) for _ in range(count))


def test_a_next_hop_gets_what_it_asks_for() -> None:
    client = control()
    assert kept_back(client, 10, 0.0) == 0
    client.receive(HOP, feedback('oc=20;oc-algo="loss";oc-validity=1000;oc-seq=5.1'), now=0.0)
    assert kept_back(client, 100, 0.5) == 20
    assert client.kept_back == 20
    assert not client.keeps_back(build_request(), ("10.0.0.3", 5060), now=0.5)
    assert kept_back(client, 100, 1.0) == 0  # no longer valid


def test_the_order_of_feedback_is_that_of_its_sequence() -> None:
    client = control()
    client.receive(HOP, feedback("oc=50;oc-seq=5.2"), now=0.0)
    client.receive(HOP, feedback("oc=10;oc-seq=5.19"), now=0.0)  # 5.20000 > 5.19000
    assert kept_back(client, 100, 0.1) == 50
    client.receive(HOP, feedback("oc=10;oc-seq=5.21"), now=0.1)
    assert kept_back(client, 100, 0.2) == 10
    client.receive(HOP, feedback("oc=0;oc-validity=0;oc-seq=6.0"), now=0.2)
    assert kept_back(client, 100, 0.2) == 0


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("BYE", {"to_tag": "t"}),
        ("INVITE", {"to_tag": "t"}),
        ("ACK", {}),
        ("CANCEL", {}),
        ("INVITE", {"uri": "urn:service:sos"}),
        ("INVITE", {"headers": (("Resource-Priority", "ets.0"),)}),
    ],
)
def test_what_is_never_kept_back(method: str, options: dict[str, object]) -> None:
    client = control()
    client.receive(HOP, feedback("oc=100;oc-seq=1.0"), now=0.0)
    assert kept_back(client, 10, 0.1, method, **options) == 0
    assert kept_back(client, 10, 0.1, "OPTIONS") == 10


@pytest.mark.parametrize(
    "text",
    [
        "oc",
        "oc=",
        "oc=101;oc-seq=1.0",
        "oc=-1;oc-seq=1.0",
        "oc=٣;oc-seq=1.0".encode().decode("latin-1"),
        "oc=50",
        "oc=50;oc-seq=1",
        "oc=50;oc-seq=1.123456",
        "oc=50;oc-seq=x.y",
        "oc=50;oc-seq=1.0;oc-validity=1000000000000",
        "oc=50;oc-seq=1.0;oc-validity=soon",
        'oc=50;oc-seq=1.0;oc-algo="rate"',
        "oc=50;oc-validity=0;oc-seq=1.0",
    ],
)
def test_nonsense_is_no_feedback(text: str) -> None:
    client = control()
    params = tuple((name, value or None) for name, _, value in (part.partition("=") for part in text.split(";")))
    client.receive(HOP, Via("UDP", "h", None, params), now=0.0)
    assert kept_back(client, 100, 0.1) == 0


def test_what_hops_say_is_bounded() -> None:
    client = control()
    client.receive(HOP, feedback("oc=100;oc-validity=999999999;oc-seq=1.0"), now=0.0)
    assert kept_back(client, 1, MAX_VALIDITY_S - 1) == 1
    assert kept_back(client, 1, MAX_VALIDITY_S) == 0
    for number in range(MAX_HOPS + 50):
        client.receive(("10.0.0.9", number), feedback("oc=10;oc-seq=1.0"), now=0.0)
    assert len(client._hops) == MAX_HOPS


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(1, 50)), min_size=1, max_size=30))
def test_the_share_is_kept_exactly(steps: list[tuple[int, int]]) -> None:
    client = control()
    wanted, kept = 0.0, 0
    for seq, (percent, count) in enumerate(steps):
        client.receive(HOP, feedback(f"oc={percent};oc-validity=60000;oc-seq={seq}.0"), now=0.0)
        known = HOP in client._hops
        kept += kept_back(client, count, 1.0)
        wanted += count * percent / 100 if known else 0.0
    assert abs(kept - wanted) < 1.0 + 1e-6


def test_our_requests_say_that_we_can() -> None:
    _, near, far = link_pair()
    near.overload_control = control()
    send(near)
    assert can_throttle(sent_by(near).headers.get("via") or "")
    assert (sent_by(near).via.param("oc"), sent_by(near).via.param("oc-algo")) == ("", '"loss"')
    far.overload_control = control(announces=False)
    send(far, "sip:bob@10.0.0.1")
    assert sent_by(far).via.param("oc") is None


def send(endpoint: LinkEndpoint, uri: str = "sip:bob@10.0.0.2", method: str = "OPTIONS") -> list[object]:
    events: list[object] = []
    request = build_request(method, uri=uri)
    request.headers.remove("Via")
    endpoint.send_request(request, on_event=events.append)
    return events


def sent_by(endpoint: LinkEndpoint) -> Response:
    data = [data for _, source, _, data in endpoint.network.sent if source == endpoint.address][-1]
    return parse_message_untrusted(data)  # type: ignore[return-value]


def test_two_of_us_understand_each_other() -> None:
    """The server tells in its answers, the client keeps back, and what it keeps back fails as a 503 would."""
    network, near, far = link_pair()
    near.overload_control, server = control(), control()
    far.overload_control, far.user = server, NotingUser()
    far.gate = lambda request, flow: REFUSED
    server.set_loss(0.5, now=0.0, wall=1000.0)
    first = send(near)
    network.run(1)
    assert isinstance(first[0], ResponseReceived)
    outcomes = [send(near) for _ in range(10)]
    network.run(0.9)
    failures = [events[0] for events in outcomes if isinstance(events[0], TransportFailure)]
    assert len(failures) == 5
    assert near.counters.drops["kept back for the next hop"] == 5
    assert failures[0].reason == "overload of the next hop"
    server.set_loss(0.0, now=0.1, wall=1001.0)
    send(near), send(near)
    network.run(1)
    outcomes = [send(near) for _ in range(10)]
    network.run(40)
    assert all(isinstance(events[0], ResponseReceived) for events in outcomes)
    network.assert_clean()


def test_feedback_in_a_stray_response_is_not_taken() -> None:
    fixture = Fixture()
    client = fixture.endpoint.overload_control = control()
    response = (
        "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 10.0.0.2:5060;branch=z9hG4bK-made-up;oc=100;oc-seq=1.0\r\n"
        "From: <sip:a@h>;tag=1\r\nTo: <sip:b@h>;tag=2\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\n\r\n"
    )
    fixture.receive(response.encode())
    assert not client.keeps_back(build_request(), ("10.0.0.1", 5060), now=0.0)
