"""Floods: what comes in masses leaves nothing behind and costs no other call."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator

import pytest

from ims_as.sip.invite_session import Ended, InviteSession, SessionEvent
from ims_as.sip.message import Request, Response, build_response
from ims_as.sip.parser import parse_message_untrusted
from ims_as.sip.transaction import ServerTransaction
from ims_as.sip.user_agent import UserAgent
from tests.ims_as.test_transaction_layer import FLOW
from tests.support.link import LinkEndpoint, LinkNetwork
from tests.support.sip_messages import request_bytes

SDP = b"v=0\r\no=- 1 1 IN IP4 10.0.0.2\r\ns=-\r\nc=IN IP4 10.0.0.2\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"
BIG = 10_000


class Callee:
    """A user agent at 10.0.0.2 that answers every call; its peer at 10.0.0.1 is the test."""

    def __init__(self, **options: object) -> None:
        self.network = LinkNetwork()
        self.endpoint: LinkEndpoint = self.network.add("10.0.0.2", **options)
        self.agent = UserAgent(
            self.endpoint, on_invite=self.answer, on_request=self.refuse, user_agent="", allow="INVITE, ACK, BYE"
        )
        self.endpoint.user = self.agent
        self.ended: list[str] = []
        self.sessions: list[InviteSession] = []

    def answer(self, request: Request, transaction: ServerTransaction) -> None:
        session = self.agent.accept(request, transaction, on_event=self.on_event)
        session.answer(SDP)
        self.sessions.append(session)

    def refuse(self, request: Request, transaction: ServerTransaction) -> None:
        self.endpoint.send_response(transaction, build_response(request, 405))

    def on_event(self, session: InviteSession, event: SessionEvent) -> None:
        if isinstance(event, Ended):
            self.ended.append(event.reason)

    def receive(self, data: bytes) -> None:
        self.endpoint.receive_datagram_untrusted(data, FLOW)

    def last(self) -> Response:
        message = parse_message_untrusted(self.network.sent[-1][3])
        assert isinstance(message, Response)
        return message


@pytest.fixture
def tamed_collector() -> Iterator[None]:
    """As the server tames it (`app.serve`): the test runner's own objects are not walked again and again."""
    thresholds = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()


@pytest.mark.usefixtures("tamed_collector")
def test_ten_thousand_dialogs_opened_and_abandoned() -> None:
    """No ACK ever comes: each 2xx is sent again for 32 s (§13.3.1.4), then the call is ended; nothing stays."""
    callee = Callee()
    network, clock = callee.network, callee.network.clock
    for number in range(BIG):
        callee.receive(request_bytes(branch=f"z9hG4bK-{number}", call_id=f"call-{number}"))
        network.sent.clear()
        network._under_way.clear()
    assert callee.endpoint.stats.dialogs == BIG
    callee.sessions.clear()
    while not callee.endpoint.stats.is_idle:
        clock.advance(1.0)
        callee.endpoint.handle_timers(clock())
        network.sent.clear()
        network._under_way.clear()
        assert clock() < 1000 + 70
    assert len(callee.ended) == BIG
    assert not callee.endpoint.counters.guard_errors


def test_an_abandoned_dialog_holds_little() -> None:
    callee = Callee()
    count = 300
    messages = [request_bytes(branch=f"z9hG4bK-{number}", call_id=f"call-{number}") for number in range(count)]
    callee.receive(request_bytes())
    tracemalloc.start()
    for message in messages:
        callee.receive(message)
        callee.network.sent.clear()
        callee.network._under_way.clear()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held / count < 25_000


def test_spoofed_in_dialog_requests_leave_no_state_and_no_call() -> None:
    callee = Callee()
    callee.receive(request_bytes())
    tag = callee.last().to_tag
    callee.receive(request_bytes("ACK", branch="z9hG4bK-ack", to_tag=tag))
    before = callee.endpoint.stats
    for number in range(2000):
        method = ("BYE", "INVITE", "INFO", "UPDATE", "PRACK")[number % 5]
        wrong = {"to_tag": f"wrong{number}"} if number % 2 else {"to_tag": tag, "call_id": f"other-{number}"}
        callee.receive(request_bytes(method, branch=f"z9hG4bK-s{number}", cseq=f"9 {method}", **wrong))  # type: ignore[arg-type]
        assert callee.last().status == 481
    assert callee.endpoint.stats == before
    assert callee.endpoint.counters.refusals == {"no such dialog": 2000}
    # the right local tag with a wrong remote tag: 481 too, and the call goes on
    callee.receive(request_bytes("BYE", branch="z9hG4bK-b", to_tag=tag, from_tag="someone-else", cseq="2 BYE"))
    assert callee.last().status == 481
    assert not callee.ended
    callee.receive(request_bytes("BYE", branch="z9hG4bK-c", to_tag=tag, cseq="3 BYE"))
    assert callee.last().status == 200
    assert callee.ended == [""] or len(callee.ended) == 1


def test_a_bye_without_tag_is_481_each_time() -> None:
    callee = Callee()
    for _ in range(3):
        callee.receive(request_bytes("BYE"))
    first, second, third = (data for *_, data in callee.network.sent)
    assert first == second == third
    assert callee.last().status == 481
    assert callee.endpoint.stats.is_idle


def test_only_the_dialogs_own_hop_may_speak_in_it_where_that_is_asked() -> None:
    callee = Callee()
    callee.agent.accepts_source = lambda session, host: host == "10.0.0.1"
    callee.receive(request_bytes())
    tag = callee.last().to_tag
    elsewhere = FLOW._replace(remote=("10.0.0.66", 5060))
    ack = request_bytes("ACK", branch="z9hG4bK-a", to_tag=tag)
    callee.endpoint.receive_datagram_untrusted(ack, elsewhere)
    assert callee.endpoint.counters.drops["ACK from elsewhere"] == 1
    bye = request_bytes("BYE", branch="z9hG4bK-b", to_tag=tag, cseq="2 BYE")
    callee.endpoint.receive_datagram_untrusted(bye, elsewhere)
    assert callee.last().status == 481
    assert callee.endpoint.counters.refusals == {"in-dialog request from elsewhere": 1}
    callee.receive(ack)
    callee.receive(bye)
    assert callee.last().status == 200


def test_a_flood_of_messages_is_dropped_unread() -> None:
    callee = Callee()
    left = [5]

    def admits(host: str) -> bool:
        assert host == "10.0.0.1"
        left[0] -= 1
        return left[0] >= 0

    callee.endpoint.admits_message = admits
    for number in range(100):
        callee.receive(request_bytes("OPTIONS", branch=f"z9hG4bK-{number}", call_id=f"c{number}"))
    assert callee.endpoint.counters.requests_in.total() == 5
    assert callee.endpoint.counters.refusals == {"flood": 95}


@pytest.mark.parametrize("method", ["INVITE", "OPTIONS", "MESSAGE"])
def test_a_flood_of_transactions_stops_at_the_bound(method: str) -> None:
    callee = Callee(max_transactions=100)
    for number in range(3000):
        callee.receive(request_bytes(method, branch=f"z9hG4bK-{number}", call_id=f"c{number}"))
    assert callee.endpoint.stats.server_transactions == 100
    assert callee.endpoint.counters.refusals["too many transactions"] == 2900
    assert not callee.endpoint.counters.guard_errors


# ---------------------------------------------------------------- header bombs

KILO = 1024
BOMBS = {
    "many headers": [("X", "1")] * 5000,
    "one long header": [("X", "a" * 60 * KILO)],
    "many vias in one line": [("Via", ", ".join(["SIP/2.0/UDP h;branch=z9hG4bKx"] * 1800))],
    "many routes in one line": [("Route", ", ".join(["<sip:a@h;lr>"] * 4000))],
    "commas": [("Route", "," * 60 * KILO)],
    "semicolons in via": [("Via", "SIP/2.0/UDP h;branch=z9hG4bKx" + ";a" * 29 * KILO)],
    "quotes": [("P-Asserted-Identity", '"' + '\\"' * 29 * KILO + '" <sip:a@h>')],
    "open quotes": [("Route", '"' * 60 * KILO)],
    "brackets": [("Contact", "<" * 60 * KILO)],
    "folds": [("X", "\r\n ".join(["a"] * 10_000))],
    "white space": [("X", " " * 60 * KILO)],
    "percent": [("Contact", "<sip:" + "%41" * 19 * KILO + "@h>")],
    "params in uri": [("Contact", "<sip:a@h" + ";a=b" * 14 * KILO + ">")],
    "p-charging-vector": [("P-Charging-Vector", ";".join(["icid-value=x"] * 4000))],
    "call-id": [("X", "1")] * 250 + [("Call-ID", "x" * 50 * KILO)],
}


@pytest.mark.parametrize("name", sorted(BOMBS))
def test_a_header_bomb_is_answered_or_dropped_and_the_next_call_is_served(name: str) -> None:
    callee = Callee()
    lines = request_bytes().split(b"\r\n")
    at = 2 if BOMBS[name][0][0] == "Via" else len(lines) - 3
    extra = [f"{header}: {value}".encode() for header, value in BOMBS[name]]
    bomb = b"\r\n".join([*lines[:at], *extra, *lines[at:]])
    assert len(bomb) > 10_000
    for number in range(3):
        callee.receive(bomb.replace(b"z9hG4bK-1", b"z9hG4bK-%d" % number).replace(b"call-1", b"bomb-%d" % number))
    assert not callee.endpoint.counters.guard_errors
    callee.receive(request_bytes(branch="z9hG4bK-good", call_id="good"))
    assert callee.last().status == 200
    assert callee.last().call_id == "good"
