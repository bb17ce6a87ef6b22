"""Stateless refusals (RFC 3261 §8.2.7): the same tag for the same request, and nothing left behind."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ims_as.sip.core import EndpointCore, WireEvent
from ims_as.sip.errors import LocalProtocolError
from ims_as.sip.flow import Flow
from ims_as.sip.message import Request, Response
from ims_as.sip.parser import parse_message_untrusted
from ims_as.sip.stateless import Refusal, StatelessResponder
from ims_as.sip.transaction import ResponseReceived
from tests.ims_as.test_transaction_layer import FLOW, Fixture, NotingUser
from tests.support.link import link_pair
from tests.support.sip_messages import build_request, request_bytes

FULL = Refusal("full", headers=(("Retry-After", "2"), ("Reason", 'Q.850;cause=41;text="full"')))


def closed_fixture(refusal: Refusal = FULL) -> Fixture:
    fixture = Fixture()
    fixture.endpoint.gate = lambda request, flow: refusal
    return fixture


def answers(fixture: Fixture) -> list[Response]:
    return [message for message in fixture.sent if isinstance(message, Response)]


def test_a_refused_invite_leaves_nothing() -> None:
    fixture = closed_fixture()
    fixture.receive(request_bytes(via="SIP/2.0/UDP 10.0.0.9;branch=z9hG4bK-1;rport"))
    (response,) = answers(fixture)
    assert (response.status, response.reason) == (503, "Service Unavailable")
    assert response.headers.get("Retry-After") == "2"
    assert response.headers.get("Reason") == 'Q.850;cause=41;text="full"'
    assert response.headers.get("Via") == "SIP/2.0/UDP 10.0.0.9;branch=z9hG4bK-1;rport=5060;received=10.0.0.1"
    assert response.headers.get("Content-Length") == "0"
    assert response.cseq.method == "INVITE"
    assert response.to_tag
    assert fixture.endpoint.stats.is_idle
    assert fixture.user.requests == []
    assert fixture.endpoint.counters.refusals == {"full": 1}
    assert fixture.endpoint.counters.responses_out == {503: 1}


def test_the_ack_is_absorbed_and_a_foreign_ack_is_not() -> None:
    fixture = closed_fixture()
    fixture.receive(request_bytes())
    tag = answers(fixture)[0].to_tag
    assert tag is not None
    fixture.receive(request_bytes("ACK", to_tag=tag))
    assert fixture.user.acks == []
    fixture.receive(request_bytes("ACK", to_tag=tag, call_id="another"))
    fixture.receive(request_bytes("ACK", to_tag="x" + "0" * 16))
    fixture.receive(request_bytes("ACK", to_tag="abc"))
    assert len(fixture.user.acks) == 3


def test_a_retransmission_gets_the_same_answer_even_if_there_is_room_by_then() -> None:
    """Its sender has ended the transaction with the first answer: nobody would acknowledge the call."""
    fixture = closed_fixture()
    fixture.receive(request_bytes())
    fixture.endpoint.gate = lambda request, flow: None
    fixture.receive(request_bytes())
    first, second = answers(fixture)
    assert first.to_bytes() == second.to_bytes()
    assert fixture.user.requests == []
    fixture.receive(request_bytes(branch="z9hG4bK-2", call_id="call-2"))
    assert len(fixture.user.requests) == 1
    fixture.network.run(40)
    fixture.receive(request_bytes())  # by now it is a new request
    assert len(fixture.user.requests) == 2


def test_a_stream_has_no_retransmissions_to_remember() -> None:
    fixture = closed_fixture()
    flow = Flow("TCP", ("10.0.0.2", 5060), ("10.0.0.1", 5060), 1)
    message = build_request()
    fixture.endpoint.receive_message_untrusted(message, flow)
    fixture.endpoint.gate = None
    fixture.endpoint.receive_message_untrusted(build_request(), flow)
    assert len(fixture.user.requests) == 1


def test_a_refusal_without_status_is_silence() -> None:
    fixture = closed_fixture(Refusal("flood", 0))
    fixture.receive(request_bytes())
    assert fixture.sent == []
    assert fixture.endpoint.counters.refusals == {"flood": 1}


def test_in_dialog_requests_and_acks_are_not_asked_about() -> None:
    fixture = closed_fixture()
    fixture.receive(request_bytes("BYE", to_tag="to-1"))
    fixture.receive(request_bytes("ACK", to_tag="to-1"))
    assert [request.method for request, _ in fixture.user.requests] == ["BYE"]
    assert len(fixture.user.acks) == 1


def test_a_retransmission_of_what_was_let_in_is_not_asked_about() -> None:
    fixture = Fixture()
    fixture.receive(request_bytes())
    fixture.endpoint.gate = lambda request, flow: FULL
    fixture.receive(request_bytes())
    assert fixture.statuses == []
    assert len(fixture.user.requests) == 1


def test_cancel_of_a_refused_invite_finds_no_transaction() -> None:
    """§9.2: 481; without state, so that a flood of them leaves nothing."""
    fixture = closed_fixture()
    fixture.receive(request_bytes())
    for _ in range(2):
        fixture.receive(request_bytes("CANCEL"))
    first, second, third = answers(fixture)
    assert (second.status, second.to_tag) == (481, first.to_tag)
    assert third.to_bytes() == second.to_bytes()
    assert fixture.endpoint.stats.is_idle


def test_the_tag_of_a_400_is_the_same_each_time_too() -> None:
    fixture = Fixture()
    bad = request_bytes(uri="sip:bob@10.0.0.2:99999999")
    fixture.receive(bad)
    fixture.receive(bad)
    first, second = answers(fixture)
    assert first.status == 400
    assert first.to_tag == second.to_tag
    broken = request_bytes().replace(b"<sip:alice@10.0.0.1>;tag", b"<sip:alice@10.0.0.1;tag")
    fixture.receive(broken)
    fixture.receive(broken)
    third, fourth = (data for *_, data in fixture.network.sent[2:])
    assert third.startswith(b"SIP/2.0 400 ")
    assert third == fourth


def test_a_client_ends_its_transaction_by_it() -> None:
    network, near, far = link_pair()
    far.user = NotingUser()
    far.gate = lambda request, flow: FULL
    events: list[object] = []
    request = build_request(uri="sip:bob@10.0.0.2")
    request.headers.remove("Via")
    near.send_request(request, on_event=events.append)
    network.run(60)
    (event,) = events
    assert isinstance(event, ResponseReceived)
    assert event.response.status == 503
    assert network.messages(near) == ["INVITE", "ACK"]
    network.assert_clean()


def test_memory_is_bounded_and_a_flood_does_not_slow_it() -> None:
    fixture = closed_fixture()
    for number in range(3000):
        fixture.receive(request_bytes(branch=f"z9hG4bK-{number}", call_id=f"call-{number}"))
    assert fixture.endpoint.counters.refusals == {"full": 3000}
    assert fixture.endpoint.stats.is_idle


def test_no_peer_can_make_a_tag() -> None:
    request = build_request()
    one, other = StatelessResponder(b"secret 1"), StatelessResponder(b"secret 2")
    assert one.tag(request) != other.tag(request)
    ack = build_request("ACK", to_tag=one.tag(request))
    assert one.absorbs_ack(ack)
    assert not other.absorbs_ack(ack)


def test_a_header_with_a_line_end_is_our_own_fault() -> None:
    with pytest.raises(LocalProtocolError):
        Refusal("bad", headers=(("Reason", "x\r\nEvil: 1"),))


def parsed(data: bytes) -> Request | Response:
    return parse_message_untrusted(data)


TOS = ["sip:b@h", "<sip:b@h>", '"B, ob" <tel:+49;x=1>', "tel:+4930", "sip:b@h;user=phone", "<urn:x:y>;p"]
VIAS = ["SIP/2.0/UDP h1;branch=z9hG4bK-7", "SIP/2.0/TCP h2:5061;branch=b, SIP/2.0/UDP h3"]
NAMES = st.text(st.characters(codec="latin-1", exclude_categories=["Cc"], exclude_characters='\\"'), max_size=5)


@given(to=st.sampled_from(TOS), vias=st.lists(st.sampled_from(VIAS), min_size=1), display=NAMES)
def test_any_request_that_can_be_read_gets_an_answer_that_can_be_read(to: str, vias: list[str], display: str) -> None:
    lines = ["INVITE sip:x@h SIP/2.0", *(f"Via: {via}" for via in vias), f'f: "{display}" <sip:a@h>;tag=1', f"t: {to}"]
    data = "\r\n".join([*lines, "i: c1", "CSeq: 007 INVITE", "", ""]).encode("latin-1")
    request = parsed(data)
    assert isinstance(request, Request)
    responder = StatelessResponder(b"key")
    response = parsed(responder.build(request, FULL))
    assert isinstance(response, Response)
    assert response.status == 503
    assert [str(via) for via in response.vias] == [str(via) for via in request.vias]
    assert response.from_.uri_text == "sip:a@h"
    assert response.headers.get("From") == request.headers.get("From")
    assert response.to.uri_text == request.to.uri_text
    assert response.to_tag == responder.tag(request)


def test_the_endpoint_has_no_gate_at_first() -> None:
    endpoint: EndpointCore = Fixture().endpoint
    assert endpoint.gate is None
    assert FLOW.connection is None


class CountingGate:
    """Notes what it is asked; refuses while it is closed."""

    def __init__(self, *, is_closed: bool) -> None:
        self.is_closed = is_closed
        self.asked: list[str] = []

    def __call__(self, request: Request, flow: Flow) -> Refusal | None:
        self.asked.append(request.method)
        return FULL if self.is_closed else None


class Nothing:
    """A normaliser that changes nothing."""

    def incoming(self, request: Request, host: str) -> None: ...
    def outgoing(self, request: Request, host: str) -> None: ...


@pytest.mark.parametrize("is_normalised", [False, True])
def test_the_gate_is_asked_once(is_normalised: bool) -> None:
    """Before the INVITE is taken apart, where nothing has to be changed in it first."""
    for is_closed in (False, True):
        fixture = Fixture()
        gate = fixture.endpoint.gate = CountingGate(is_closed=is_closed)
        if is_normalised:
            fixture.endpoint.normaliser = Nothing()
        fixture.receive(request_bytes())
        assert gate.asked == ["INVITE"]
        assert len(fixture.user.requests) == (0 if is_closed else 1)
        assert [response.status for response in answers(fixture)] == ([503] if is_closed else [])
        fixture.receive(request_bytes("OPTIONS", branch="z9hG4bK-2"))
        assert gate.asked == ["INVITE", "OPTIONS"]
        assert fixture.endpoint.counters.requests_in == {"INVITE": 1, "OPTIONS": 1}


def test_a_retransmission_of_an_admitted_invite_is_not_refused() -> None:
    fixture = Fixture()
    gate = fixture.endpoint.gate = CountingGate(is_closed=False)
    fixture.receive(request_bytes())
    gate.is_closed = True
    fixture.receive(request_bytes())
    assert gate.asked == ["INVITE"]
    assert fixture.endpoint.counters.retransmissions_in == {"INVITE": 1}
    assert answers(fixture) == []


def test_an_invite_inside_a_dialog_is_not_asked_about() -> None:
    fixture = closed_fixture()
    fixture.receive(request_bytes(to_tag="abc"))
    assert len(fixture.user.requests) == 1


@pytest.mark.parametrize("via", ["nonsense", "SIP/2.0/UDP h;;"])
def test_what_cannot_be_refused_is_told_what_is_wrong_with_it(via: str) -> None:
    fixture = closed_fixture()
    fixture.receive(request_bytes(via=via))
    assert fixture.user.requests == []
    assert sum(fixture.endpoint.counters.parse_errors.values()) == 1
    fixture.endpoint.gate = lambda request, flow: None
    fixture.receive(request_bytes(cseq="1 BYE"))
    assert [response.status for response in answers(fixture)] == [400]


def test_the_trail_has_the_refusal_and_what_was_refused() -> None:
    fixture = closed_fixture()
    events: list[WireEvent] = []
    fixture.endpoint.on_wire = events.append
    fixture.receive(request_bytes())
    tag = answers(fixture)[0].to_tag
    fixture.receive(request_bytes("ACK", to_tag=tag))
    assert [(event.direction, event.data.split(b" ")[0]) for event in events] == [
        ("in", b"INVITE"),
        ("out", b"SIP/2.0"),
        ("in", b"ACK"),
    ]
    assert fixture.endpoint.counters.requests_in == {"INVITE": 1, "ACK": 1}
