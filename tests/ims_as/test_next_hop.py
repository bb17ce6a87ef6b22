from __future__ import annotations

import pytest

from ims_as.sip.errors import SipParseError
from ims_as.sip.flow import Destination, Flow
from ims_as.sip.header_types import parse_via
from ims_as.sip.next_hop import next_hop, response_flow, uri_destination
from tests.support.sip_messages import build_request

UDP = Flow("UDP", ("10.0.0.2", 5060), ("10.0.0.9", 33333))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sip:bob@10.0.0.1", Destination("UDP", "10.0.0.1")),
        ("sip:10.0.0.1:5070;transport=TCP;lr", Destination("TCP", "10.0.0.1", 5070)),
        ("sip:bob@[2001:db8::1]:5061", Destination("UDP", "2001:db8::1", 5061)),
        ("sip:10.0.0.1;transport=tls", Destination("TLS", "10.0.0.1")),
        ("sips:bob@10.0.0.1", Destination("TLS", "10.0.0.1")),
        ("sips:scscf.example:5070;transport=tcp", Destination("TLS", "scscf.example", 5070)),
        ("sip:[2001:db8::1];transport=tcp;lr", Destination("TCP", "2001:db8::1")),
        ("sips:[2001:db8::1]", Destination("TLS", "2001:db8::1")),
        ("sip:[2001:db8::1];maddr=[2001:db8::2]", Destination("UDP", "2001:db8::1")),
        ("sip:scscf.example;maddr=192.0.2.1", Destination("UDP", "scscf.example")),
    ],
)
def test_destination_of_a_uri(text: str, expected: Destination) -> None:
    assert uri_destination(text) == expected


@pytest.mark.parametrize(
    "text", ["tel:+1555", "sips:10.0.0.1;transport=udp", "sip:bob@10.0.0.1;transport=ws", "sip:", "x"]
)
def test_no_way_there(text: str) -> None:
    with pytest.raises(SipParseError):
        uri_destination(text)


def test_route_comes_before_the_request_uri() -> None:
    request = build_request(headers=(("Route", "<sip:odi;a=1@10.0.0.20:5054;lr>, <sip:10.0.0.3;lr>"),))
    assert next_hop(request) == Destination("UDP", "10.0.0.20", 5054)
    assert next_hop(build_request()) == Destination("UDP", "10.0.0.2")


@pytest.mark.parametrize(
    ("via", "remote"),
    [
        ("SIP/2.0/UDP 10.0.0.9:5070;branch=1", ("10.0.0.9", 5070)),
        ("SIP/2.0/UDP 10.0.0.9;branch=1", ("10.0.0.9", 5060)),
        ("SIP/2.0/UDP 10.0.0.9:5070;branch=1;rport", ("10.0.0.9", 33333)),
        # whatever the peer claims, the answer goes to where the packet came from
        ("SIP/2.0/UDP 203.0.113.5:25;branch=1", ("10.0.0.9", 25)),
        ("SIP/2.0/UDP 203.0.113.5;received=203.0.113.6;maddr=203.0.113.7;branch=1", ("10.0.0.9", 5060)),
    ],
)
def test_responses_go_to_the_source(via: str, remote: tuple[str, int]) -> None:
    assert response_flow(UDP, parse_via(via)).remote == remote


def test_responses_on_a_stream_stay_on_it() -> None:
    stream = Flow("TCP", ("10.0.0.2", 5060), ("10.0.0.9", 40000), 3)
    assert response_flow(stream, parse_via("SIP/2.0/TCP 10.0.0.9:5070;branch=1")) is stream


@pytest.mark.parametrize(
    ("text", "any_transport", "is_sips"),
    [
        ("sip:scscf.example", True, False),
        ("sip:scscf.example:5060", False, False),
        ("sip:scscf.example;transport=udp", False, False),
        ("sips:scscf.example", True, True),
        ("sips:scscf.example;transport=tcp", False, True),
        ("sip:scscf.example;transport=tls", False, False),
    ],
)
def test_what_is_left_to_the_dns(text: str, any_transport: bool, is_sips: bool) -> None:
    found = uri_destination(text)
    assert (found.any_transport, found.is_sips) == (any_transport, is_sips)
