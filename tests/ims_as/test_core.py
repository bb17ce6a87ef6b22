"""The guard, trust, Via handling and the wire trace of the endpoint core."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ims_as.sip.core import EndpointCore, WireEvent
from ims_as.sip.flow import Destination, Flow
from ims_as.sip.message import Request, Response, build_response
from ims_as.sip.parser import parse_message_untrusted
from ims_as.sip.transaction import ClientEvent, ServerTransaction
from tests.support.link import LinkEndpoint, LinkNetwork
from tests.support.sip_agents import RecordingAgent
from tests.support.sip_messages import build_request, request_bytes

PEER = ("10.0.0.1", 5060)
FLOW = Flow("UDP", ("10.0.0.2", 5060), PEER)


def endpoint(**options: object) -> tuple[LinkNetwork, LinkEndpoint]:
    network = LinkNetwork()
    core = network.add("10.0.0.2", **options)
    RecordingAgent(core)
    return network, core


def sent(network: LinkNetwork) -> list[tuple[tuple[str, int], Request | Response]]:
    return [(target, parse_message_untrusted(data)) for _, _, target, data in network.sent]


def test_strangers_get_silence() -> None:
    events: list[WireEvent] = []
    network, core = endpoint(is_trusted=lambda host: host == "10.0.0.1", on_wire=events.append)
    stranger = Flow("UDP", ("10.0.0.2", 5060), ("203.0.113.9", 5060))
    core.receive_datagram_untrusted(request_bytes("OPTIONS"), stranger)
    core.receive_datagram_untrusted(b"garbage", stranger)
    assert network.sent == []
    assert core.counters.drops["untrusted"] == 2
    assert {event.verdict for event in events} == {"untrusted"}
    core.receive_datagram_untrusted(request_bytes("OPTIONS"), FLOW)
    assert [message.status for _, message in sent(network) if isinstance(message, Response)] == [200]
    assert [event.direction for event in events] == ["in", "in", "in", "out"]
    assert events[-1].data == network.sent[0][3]


def test_trust_is_asked_once_for_each_host() -> None:
    asked: list[str] = []
    _, core = endpoint(is_trusted=lambda host: bool(asked.append(host)) or True)
    for _ in range(5):
        core.receive_datagram_untrusted(request_bytes("OPTIONS"), FLOW)
    assert asked == ["10.0.0.1"]


def test_broken_request_is_answered_400_to_its_source() -> None:
    network, core = endpoint()
    source = Flow("UDP", ("10.0.0.2", 5060), ("10.0.0.1", 33333))
    data = request_bytes(via="SIP/2.0/UDP 203.0.113.5:53;branch=z9hG4bK1", cseq="1 BYE")
    core.receive_datagram_untrusted(data, source)
    ((target, response),) = sent(network)
    assert target == ("10.0.0.1", 33333)
    assert isinstance(response, Response)
    assert response.status == 400
    assert response.to_tag
    assert core.counters.parse_errors == {"CSeq method differs from request": 1}
    assert core.stats.is_idle


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\r\n\r\n",
        b"\0\0\0\0",
        b"\x16\x03\x01" * 100,
        request_bytes().replace(b"Via: ", b"Vai: "),
        request_bytes("ACK", cseq="1 INVITE"),
        request_bytes().replace(b"SIP/2.0/UDP", b"garbage"),
        b"SIP/2.0 999 Nothing\r\n\r\n",
    ],
)
def test_what_cannot_be_answered_gets_silence(data: bytes) -> None:
    network, core = endpoint()
    core.receive_datagram_untrusted(data, FLOW)
    assert network.sent == []
    assert core.stats.is_idle
    assert not core.counters.guard_errors


def test_unforeseen_error_costs_one_message_and_is_kept() -> None:
    network, core = endpoint()

    class Broken:
        def on_request(self, request: Request, transaction: ServerTransaction) -> None:
            raise ZeroDivisionError

    good = core.user
    core.user = Broken()  # type: ignore[assignment]
    for number in range(20):
        core.receive_datagram_untrusted(
            request_bytes("INVITE", branch=f"z9hG4bK-{number}", call_id=f"call-{number}"), FLOW
        )
    # the peer is told at once, so that the S-CSCF can go on without us
    assert [message.status for _, message in sent(network) if isinstance(message, Response)] == [500] * 20
    message = build_request("OPTIONS", branch="z9hG4bK-s", call_id="s")
    assert not core.receive_message_untrusted(message, FLOW)
    assert core.counters.guard_errors["ZeroDivisionError"] == 21
    assert len(core.guard_samples) == 8
    assert core.guard_samples[-1] == message.to_bytes()
    assert good is not None
    core.user = good
    core.receive_datagram_untrusted(request_bytes("OPTIONS", branch="z9hG4bK-x", call_id="x"), FLOW)
    assert network.sent[-1][3].startswith(b"SIP/2.0 200 ")
    network.run(100)
    assert core.stats.is_idle


def test_received_and_rport() -> None:
    network, core = endpoint()
    source = Flow("UDP", ("10.0.0.2", 5060), ("10.0.0.1", 33333))
    via = "SIP/2.0/UDP 192.168.1.5:5060;rport;branch=z9hG4bK1, SIP/2.0/UDP x;branch=z9hG4bK0"
    core.receive_datagram_untrusted(request_bytes("OPTIONS", via=via), source)
    ((target, response),) = sent(network)
    assert target == ("10.0.0.1", 33333)
    assert response.via.received == "10.0.0.1"
    assert response.via.rport == 33333
    assert [each.host for each in response.vias] == ["192.168.1.5", "x"]


def test_a_correct_via_is_left_alone() -> None:
    network, core = endpoint()
    core.receive_datagram_untrusted(request_bytes("OPTIONS"), FLOW)
    assert b"Via: SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bK-1\r\n" in network.sent[0][3]


def test_advertised_address() -> None:
    network, core = endpoint(advertise=("as.example", 5090))
    assert str(core.local_uri(Destination("UDP", "10.0.0.1"))) == "sip:as.example:5090"
    assert str(core.local_uri(Destination("TCP", "10.0.0.1"))) == "sip:as.example:5090;transport=tcp"
    request = build_request("OPTIONS", uri="sip:10.0.0.1")
    request.headers.remove("Via")
    core.send_request(request, on_event=lambda event: None)
    ((_, message),) = sent(network)
    assert (message.via.host, message.via.port, message.via.has_rport) == ("as.example", 5090, True)


def test_ack_without_a_way_is_counted() -> None:
    network, core = endpoint()
    core.send_ack(build_request("ACK", uri="tel:+1"))
    core.send_ack(build_request("ACK", uri="sip:nowhere.example"))
    network.run(1)
    assert network.sent == []
    assert core.counters.drops["ACK without a way"] == 2


def test_counters() -> None:
    _, core = endpoint()
    core.receive_datagram_untrusted(request_bytes("OPTIONS"), FLOW)
    core.receive_datagram_untrusted(request_bytes("FROBNICATE", branch="z9hG4bK-2", call_id="2"), FLOW)
    core.receive_datagram_untrusted(build_response(build_request(), 180, to_tag="1").to_bytes(), FLOW)
    snapshot = core.counters.snapshot()
    assert snapshot["requests_in"] == {"OPTIONS": 1, "other": 1}
    assert snapshot["responses_in"] == {"180": 1}
    assert snapshot["drops"] == {"stray response": 1}


def test_abstract() -> None:
    with pytest.raises(TypeError):
        EndpointCore(clock=float, wall_clock=float, token=str)  # type: ignore[abstract]


MUTATION = st.tuples(st.integers(0, 600), st.sampled_from([b"", b"\0", b"\r\n", b",", b";", b"<", b'"', b"\xff", b" "]))


@settings(max_examples=300, deadline=None)
@given(
    method=st.sampled_from(["INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "INFO"]),
    to_tag=st.sampled_from([None, "tag"]),
    mutations=st.lists(MUTATION, max_size=6),
)
def test_no_datagram_meets_a_bug(method: str, to_tag: str | None, mutations: list[tuple[int, bytes]]) -> None:
    network = LinkNetwork()
    core = network.add("10.0.0.2")
    agent = RecordingAgent(core, lambda agent, session: session.provisional(180) and session.answer(b"v=0") and None)
    data = bytearray(
        request_bytes(method, to_tag=to_tag, headers=(("Route", "<sip:a;lr>"), ("Record-Route", "<sip:b;lr>, <sip:c>")))
    )
    for position, text in mutations:
        data[position : position + 1] = text
    core.receive_datagram_untrusted(bytes(data), FLOW)
    core.receive_datagram_untrusted(bytes(data), FLOW)
    assert not core.counters.guard_errors, core.guard_samples[-1]
    network.run(400)
    assert not core.counters.guard_errors
    assert core.stats.is_idle
    agent.assert_one_end()


@settings(max_examples=150, deadline=None)
@given(data=st.binary(max_size=200))
def test_noise_is_dropped(data: bytes) -> None:
    network, core = endpoint()
    core.receive_datagram_untrusted(data, FLOW)
    assert network.sent == []
    assert not core.counters.guard_errors


def test_an_icmp_error_counts_only_for_whom_it_quotes() -> None:
    network, core = endpoint()
    events: list[ClientEvent] = []
    request = build_request("OPTIONS", uri="sip:10.0.0.7:5060")
    request.headers.pop_value("Via")
    core.send_request(request, on_event=events.append)
    quoted, place = network.sent[-1][3], ("10.0.0.7", 5060)
    branch = quoted.split(b"branch=")[1].split(b";")[0]
    for data, remote in (
        (quoted, ("10.0.0.8", 5060)),
        (quoted[:20], place),
        (b"", place),
        (quoted.replace(b"OPTIONS sip", b"INVITE sip"), place),
        (quoted.replace(branch, b"z9hG4bK-" + b"0" * 16), place),
        (b"SIP/2.0 200 OK\r\n" + quoted, place),
        (bytes(range(256)), place),
    ):
        core.receive_unreachable_untrusted(data, remote)
    assert not events
    core.receive_unreachable_untrusted(quoted[:300], place)
    assert [type(event).__name__ for event in events] == ["TransportFailure"]
    core.receive_unreachable_untrusted(quoted, place)
    assert len(events) == 1
    assert not core.counters.guard_errors


@pytest.mark.parametrize(
    ("via", "marked", "port"),
    [
        # RFC 3581 §4 with IPv6, RFC 5118 §4.5: received has no brackets
        ("[2001:db8::9]:5070;branch=z9hG4bK1;rport", ";rport=40000;received=2001:db8::1", 40000),
        ("[2001:db8::9]:5070;branch=z9hG4bK1", ";received=2001:db8::1", 5070),
        ("[2001:db8::9];branch=z9hG4bK1", ";received=2001:db8::1", 5060),
        ("[2001:db8::1]:5070;branch=z9hG4bK1", None, 5070),
        ("host.example:5070;branch=z9hG4bK1", ";received=2001:db8::1", 5070),
        # what a peer writes into it is of no effect
        ("[2001:db8::9]:5070;received=[2001:db8::6];branch=z9hG4bK1", ";received=2001:db8::1", 5070),
        ("[2001:db8::1]:5070;maddr=[2001:db8::6];branch=z9hG4bK1", None, 5070),
    ],
)
def test_source_marks_over_ipv6(via: str, marked: str | None, port: int) -> None:
    network, core = endpoint()
    flow = Flow("UDP", ("2001:db8::2", 5060), ("2001:db8::1", 40000))
    core.receive_datagram_untrusted(request_bytes("OPTIONS", via=f"SIP/2.0/UDP {via}"), flow)
    (target, response), *_ = sent(network)
    assert target == ("2001:db8::1", port)
    text = str(response.headers.get("via"))
    assert "2001:db8::6" not in text or "maddr" in text
    if marked is None:
        assert text == f"SIP/2.0/UDP {via}"
    else:
        assert all(f";{part}" in text for part in marked[1:].split(";"))
        assert text.count("received") == 1
