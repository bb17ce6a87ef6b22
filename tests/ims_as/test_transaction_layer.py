"""Matching, merged requests, CANCEL, bounds."""

from __future__ import annotations

import pytest

from ims_as.sip.flow import Flow
from ims_as.sip.message import Request, Response, build_response
from ims_as.sip.parser import parse_message_untrusted
from ims_as.sip.transaction import (
    ClientEvent,
    ResponseReceived,
    ServerTransaction,
    TransactionTimeout,
    TransportFailure,
)
from ims_as.sip.transaction_layer import server_key
from tests.support.link import LinkEndpoint, LinkNetwork
from tests.support.sip_messages import build_request, request_bytes

FLOW = Flow("UDP", ("10.0.0.2", 5060), ("10.0.0.1", 5060))


class NotingUser:
    """A transaction user that only notes."""

    def __init__(self) -> None:
        self.requests: list[tuple[Request, ServerTransaction]] = []
        self.acks: list[Request] = []
        self.cancels: list[ServerTransaction] = []
        self.strays: list[Response] = []

    def on_request(self, request: Request, transaction: ServerTransaction) -> None:
        self.requests.append((request, transaction))

    def on_ack(self, request: Request, flow: Flow) -> None:
        self.acks.append(request)

    def on_cancel(self, transaction: ServerTransaction, cancel: Request) -> None:
        self.cancels.append(transaction)

    def on_stray_response(self, response: Response, flow: Flow) -> None:
        self.strays.append(response)


class Fixture:
    """One endpoint at 10.0.0.2; the peer at 10.0.0.1 is the test."""

    def __init__(self, **options: object) -> None:
        self.network = LinkNetwork()
        self.endpoint: LinkEndpoint = self.network.add("10.0.0.2", **options)
        self.user = NotingUser()
        self.endpoint.user = self.user

    def receive(self, data: bytes) -> None:
        self.endpoint.receive_datagram_untrusted(data, FLOW)
        assert not self.endpoint.counters.guard_errors

    @property
    def sent(self) -> list[Request | Response]:
        return [parse_message_untrusted(data) for *_, data in self.network.sent]

    @property
    def statuses(self) -> list[int]:
        return [message.status for message in self.sent if isinstance(message, Response)]

    def respond(self, status: int, index: int = -1) -> bool:
        request, transaction = self.user.requests[index]
        return self.endpoint.send_response(transaction, build_response(request, status))


# ---------------------------------------------------------------- server side


def test_retransmission_does_not_reach_the_user_again() -> None:
    fixture = Fixture()
    fixture.receive(request_bytes())
    fixture.respond(180)
    fixture.receive(request_bytes())
    assert len(fixture.user.requests) == 1
    assert fixture.statuses == [180, 180]
    assert fixture.endpoint.counters.retransmissions_in == {"INVITE": 1}


def test_other_sent_by_is_another_transaction() -> None:
    """§17.2.3: branch, sent-by and method; proxies on two machines may choose the same branch."""
    fixture = Fixture()
    fixture.receive(request_bytes("OPTIONS"))
    other = "SIP/2.0/UDP 10.0.0.1:5070;branch=z9hG4bK-1"
    fixture.receive(request_bytes("OPTIONS", via=other, call_id="call-2"))
    assert len(fixture.user.requests) == 2


def test_host_of_sent_by_compares_without_case() -> None:
    upper = build_request(via="SIP/2.0/UDP PROXY.example.com;branch=z9hG4bKa")
    lower = build_request(via="SIP/2.0/UDP proxy.example.com;branch=z9hG4bKa")
    assert server_key(upper, "INVITE") == server_key(lower, "INVITE")


@pytest.mark.parametrize("branch", ["1", "z9hG4bK"])
def test_client_of_rfc_2543_is_matched_by_the_request(branch: str) -> None:
    fixture = Fixture()
    fixture.receive(request_bytes(branch=branch))
    fixture.receive(request_bytes(branch=branch))
    fixture.receive(request_bytes(branch=branch, cseq="2 INVITE"))
    assert len(fixture.user.requests) == 2
    fixture.respond(486, 0)
    fixture.receive(request_bytes("ACK", branch=branch, to_tag="whatever"))
    fixture.network.run(10)
    assert fixture.statuses.count(486) == 1
    assert fixture.user.acks == []


def test_to_tag_is_added_and_stays_the_same() -> None:
    fixture = Fixture()
    fixture.receive(request_bytes())
    fixture.respond(180)
    fixture.respond(486)
    tags = {message.to_tag for message in fixture.sent}
    assert tags == {fixture.user.requests[0][1].to_tag}


def test_ack_of_failure_is_absorbed_and_ack_of_2xx_goes_up() -> None:
    fixture = Fixture()
    fixture.receive(request_bytes())
    fixture.respond(503)
    fixture.receive(request_bytes("ACK"))
    fixture.receive(request_bytes(branch="z9hG4bK-2", call_id="call-2"))
    fixture.respond(200)
    fixture.receive(request_bytes("ACK", branch="z9hG4bK-3", call_id="call-2"))
    assert [ack.call_id for ack in fixture.user.acks] == ["call-2"]
    # a peer that gives the ACK of a 2xx the branch of its INVITE
    fixture.receive(request_bytes("ACK", branch="z9hG4bK-2", call_id="call-2"))
    assert len(fixture.user.acks) == 2


def test_merged_request_is_refused_482() -> None:
    fixture = Fixture()
    fixture.receive(request_bytes(branch="z9hG4bK-1"))
    fixture.receive(request_bytes(branch="z9hG4bK-2"))
    assert len(fixture.user.requests) == 1
    assert fixture.statuses == [482]
    assert fixture.endpoint.counters.drops["merged request"] == 1


@pytest.mark.parametrize(
    "other",
    [
        {"uri": "sip:carol@10.0.0.2"},
        {"headers": (("Route", "<sip:term@10.0.0.2;lr>, <sip:odi_2@10.0.0.20;lr>"),)},
        {"cseq": "2 INVITE"},
        {"from_tag": "other"},
        {"to_tag": "in-a-dialog"},
    ],
)
def test_a_second_visit_is_not_a_merge(other: dict[str, object]) -> None:
    """An AS that several criteria name sees one INVITE more than once, by another Route."""
    fixture = Fixture()
    fixture.receive(request_bytes(branch="z9hG4bK-1"))
    fixture.receive(request_bytes(branch="z9hG4bK-2", **other))  # type: ignore[arg-type]
    assert len(fixture.user.requests) == 2
    assert fixture.statuses == []


def test_a_refused_request_may_come_again() -> None:
    fixture = Fixture()
    fixture.receive(request_bytes(branch="z9hG4bK-1"))
    fixture.respond(503)
    fixture.receive(request_bytes(branch="z9hG4bK-2"))
    assert len(fixture.user.requests) == 2


def test_cancel_is_answered_and_told_once() -> None:
    fixture = Fixture()
    fixture.receive(request_bytes())
    fixture.receive(request_bytes("CANCEL"))
    fixture.receive(request_bytes("CANCEL"))
    assert fixture.user.cancels == [fixture.user.requests[0][1]]
    assert fixture.statuses == [200, 200]
    assert fixture.sent[0].to_tag == fixture.user.requests[0][1].to_tag
    fixture.respond(487)
    fixture.network.run(100)
    assert fixture.endpoint.stats.is_idle


def test_cancel_without_its_invite_is_481() -> None:
    fixture = Fixture()
    fixture.receive(request_bytes("CANCEL", branch="z9hG4bK-9"))
    assert fixture.statuses == [481]


def test_cancel_after_the_final_response_changes_nothing() -> None:
    fixture = Fixture()
    fixture.receive(request_bytes())
    fixture.respond(200)
    fixture.receive(request_bytes("CANCEL"))
    assert fixture.statuses == [200, 200]
    assert fixture.user.cancels == []


def test_number_of_transactions_is_bounded() -> None:
    fixture = Fixture(max_transactions=10)
    for number in range(50):
        fixture.receive(request_bytes("OPTIONS", branch=f"z9hG4bK-{number}", call_id=f"call-{number}"))
    assert len(fixture.user.requests) == 10
    assert fixture.statuses == [503] * 40
    assert fixture.endpoint.stats.server_transactions == 10
    assert fixture.endpoint.counters.refusals["too many transactions"] == 40
    fixture.network.run(100)
    assert fixture.endpoint.stats.is_idle


def test_unanswered_requests_do_not_stay() -> None:
    fixture = Fixture()
    fixture.receive(request_bytes("OPTIONS"))
    fixture.network.run(33)
    assert fixture.endpoint.stats.is_idle
    assert not fixture.respond(200)


# ---------------------------------------------------------------- client side


def send(fixture: Fixture, method: str = "INVITE", uri: str = "sip:bob@10.0.0.1") -> list[ClientEvent]:
    events: list[ClientEvent] = []
    request = build_request(method, uri=uri)
    request.headers.remove("Via")
    fixture.endpoint.send_request(request, on_event=events.append)
    return events


def answer(fixture: Fixture, status: int, index: int = 0, **changes: str) -> None:
    request = fixture.sent[index]
    assert isinstance(request, Request)
    response = build_response(request, status, to_tag="to-1")
    for name, value in changes.items():
        response.headers.set(name, value)
    fixture.receive(response.to_bytes())


def test_response_is_matched_by_branch_and_method() -> None:
    fixture = Fixture()
    events = send(fixture, "OPTIONS")
    answer(fixture, 200, CSeq="1 INVITE")
    answer(fixture, 200, Via="SIP/2.0/UDP 10.0.0.2:5060;branch=z9hG4bK-other")
    assert events == []
    assert len(fixture.user.strays) == 2
    answer(fixture, 200)
    assert len(events) == 1


def test_events_come_after_send_request_returned() -> None:
    fixture = Fixture()
    fixture.endpoint.failing = "unreachable"
    events = send(fixture)
    assert events == []
    fixture.network.run(0)
    assert isinstance(events[0], TransportFailure)
    assert events[0].reason == "unreachable"
    assert fixture.endpoint.stats.is_idle


@pytest.mark.parametrize("uri", ["tel:+15550100", "urn:service:sos", "sip:bob@10.0.0.1;transport=sctp"])
def test_unreachable_uri_is_a_transport_failure(uri: str) -> None:
    fixture = Fixture()
    events = send(fixture, uri=uri)
    assert events == []
    fixture.network.run(0)
    assert [type(event) for event in events] == [TransportFailure]
    assert fixture.endpoint.stats.is_idle


def test_name_is_looked_up_first() -> None:
    fixture = Fixture()
    fixture.endpoint.names["core.example"] = ("10.0.0.1", 5080)
    events = send(fixture, uri="sip:bob@core.example")
    assert fixture.network.sent == []
    fixture.network.run(0.1)
    assert fixture.network.sent[0][2] == ("10.0.0.1", 5080)
    answer(fixture, 486)
    assert [type(event) for event in events] == [ResponseReceived]


def test_unknown_name_is_a_transport_failure() -> None:
    fixture = Fixture()
    events = send(fixture, uri="sip:bob@nowhere.example")
    fixture.network.run(0.1)
    assert [type(event) for event in events] == [TransportFailure]
    assert fixture.endpoint.stats.is_idle


def test_cancel_waits_for_a_provisional_response() -> None:
    fixture = Fixture()
    events: list[ClientEvent] = []
    request = build_request(uri="sip:bob@10.0.0.1")
    request.headers.remove("Via")
    transaction = fixture.endpoint.send_request(request, on_event=events.append)
    fixture.endpoint.cancel(transaction, headers=[("Reason", "SIP;cause=200")])
    fixture.network.run(0.4)
    assert [message.method for message in fixture.sent if isinstance(message, Request)] == ["INVITE"]
    answer(fixture, 180)
    cancel = fixture.sent[1]
    assert isinstance(cancel, Request)
    assert cancel.method == "CANCEL"
    assert cancel.via.branch == fixture.sent[0].via.branch
    assert cancel.headers.get("Reason") == "SIP;cause=200"
    answer(fixture, 180)
    fixture.endpoint.cancel(transaction)
    assert len(fixture.sent) == 2
    answer(fixture, 200, 1)
    answer(fixture, 487)
    fixture.network.run(100)
    assert fixture.endpoint.stats.is_idle


def test_cancel_before_the_name_is_known_sends_nothing() -> None:
    fixture = Fixture()
    fixture.endpoint.names["core.example"] = ("10.0.0.1", 5060)
    events: list[ClientEvent] = []
    request = build_request(uri="sip:bob@core.example")
    transaction = fixture.endpoint.send_request(request, on_event=events.append)
    fixture.endpoint.cancel(transaction)
    fixture.network.run(1)
    assert fixture.network.sent == []
    assert [type(event) for event in events] == [TransportFailure]
    assert fixture.endpoint.stats.is_idle


def test_cancel_that_nobody_answers() -> None:
    fixture = Fixture()
    events: list[ClientEvent] = []
    request = build_request(uri="sip:bob@10.0.0.1")
    request.headers.remove("Via")
    transaction = fixture.endpoint.send_request(request, on_event=events.append)
    answer(fixture, 183)
    fixture.endpoint.cancel(transaction)
    fixture.network.run(32.1)
    assert [type(event) for event in events] == [ResponseReceived, TransactionTimeout]
    fixture.network.run(5)
    assert fixture.endpoint.stats.is_idle


def test_a_request_that_is_answered_at_once_starts_one_timer() -> None:
    fixture = Fixture()

    class Answering(NotingUser):
        def on_request(self, request: Request, transaction: ServerTransaction) -> None:
            fixture.endpoint.send_response(transaction, build_response(request, 200))

    fixture.endpoint.user = Answering()
    fixture.receive(request_bytes("OPTIONS"))
    assert fixture.endpoint.stats.timers == 1
    fixture.network.run(32.1)
    assert fixture.statuses == [200]
    assert fixture.endpoint.stats.is_idle
