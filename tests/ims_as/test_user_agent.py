from __future__ import annotations

import pytest

from ims_as.sip.errors import LocalProtocolError
from ims_as.sip.flow import Flow
from ims_as.sip.message import Request, Response
from ims_as.sip.parser import parse_message_untrusted
from ims_as.sip.transaction import ServerTransaction
from tests.support.link import LinkNetwork
from tests.support.sip_agents import RecordingAgent
from tests.support.sip_messages import request_bytes

FLOW = Flow("UDP", ("10.0.0.2", 5060), ("10.0.0.1", 5060))


class Fixture:
    def __init__(self) -> None:
        self.network = LinkNetwork()
        self.core = self.network.add("10.0.0.2")
        self.bob = RecordingAgent(self.core)

    def receive(self, data: bytes) -> list[int]:
        """The statuses that it is answered with."""
        n_before = len(self.network.sent)
        self.core.receive_datagram_untrusted(data, FLOW)
        assert not self.core.counters.guard_errors
        messages = [parse_message_untrusted(data) for *_, data in self.network.sent[n_before:]]
        return [message.status for message in messages if isinstance(message, Response)]


@pytest.mark.parametrize("method", ["INVITE", "BYE", "INFO", "OPTIONS", "UPDATE"])
def test_to_tag_without_a_dialog_is_481(method: str) -> None:
    assert Fixture().receive(request_bytes(method, to_tag="unknown")) == [481]


def test_bye_without_a_to_tag_is_481() -> None:
    assert Fixture().receive(request_bytes("BYE")) == [481]


def test_passthrough_may_take_it() -> None:
    fixture = Fixture()
    taken: list[str] = []

    def passthrough(request: Request, transaction: ServerTransaction) -> bool:
        taken.append(request.method)
        return request.method == "INFO"

    fixture.bob.agent.passthrough = passthrough
    assert fixture.receive(request_bytes("INFO", to_tag="unknown")) == []
    assert fixture.receive(request_bytes("BYE", to_tag="unknown")) == [481]
    assert taken == ["INFO", "BYE"]


def test_stray_ack() -> None:
    fixture = Fixture()
    fixture.receive(request_bytes("ACK", to_tag="unknown"))
    assert fixture.core.counters.drops["ACK for no session"] == 1
    acks: list[Request] = []
    fixture.bob.agent.on_unhandled_ack = lambda request, flow: acks.append(request)
    fixture.receive(request_bytes("ACK", to_tag="unknown", branch="z9hG4bK-2"))
    assert len(acks) == 1


def test_cancel_of_a_transaction_that_nobody_has_taken() -> None:
    fixture = Fixture()
    fixture.bob._decide = None
    fixture.core.user = agent = fixture.bob.agent
    agent._on_invite = lambda request, transaction: None
    fixture.receive(request_bytes())
    assert fixture.receive(request_bytes("CANCEL")) == [200, 487]
    cancelled: list[ServerTransaction] = []
    agent.on_unowned_cancel = lambda transaction, cancel: cancelled.append(transaction)
    fixture.receive(request_bytes(branch="z9hG4bK-2", call_id="2"))
    assert fixture.receive(request_bytes("CANCEL", branch="z9hG4bK-2", call_id="2")) == [200]
    assert len(cancelled) == 1


def test_contact_and_common_headers() -> None:
    fixture = Fixture()
    session = fixture.bob.agent.invite(
        uri="sip:x@10.0.0.1",
        from_='"Bob" <sip:bob@home>;tag=old;x=1',
        to="<sip:x@home>",
        route=["<sip:10.0.0.1;lr>"],
        headers=[("P-Asserted-Identity", "<sip:bob@home>")],
        body=b"v=0",
        on_event=lambda session, event: None,
        call_id="chosen",
        contact_params=';+g.3gpp.icsi-ref="mmtel"',
    )
    invite = parse_message_untrusted(fixture.network.sent[0][3])
    assert invite.headers.get("Contact") == '<sip:10.0.0.2:5060>;+g.3gpp.icsi-ref="mmtel"'
    assert invite.from_.display_name == "Bob"
    assert invite.from_tag == session.key[1]
    assert invite.from_.param("x") == "1"
    assert invite.call_id == "chosen"
    assert invite.content_type == "application/sdp"
    assert invite.headers.get("Allow")
    assert invite.headers.get("User-Agent") == "test"


def test_from_must_be_an_address() -> None:
    fixture = Fixture()
    with pytest.raises(LocalProtocolError):
        fixture.bob.agent.invite(uri="sip:x", from_="<", to="<sip:x>", on_event=lambda session, event: None)
    assert fixture.core.stats.is_idle


def test_sessions_are_counted() -> None:
    fixture = Fixture()
    fixture.receive(request_bytes())
    assert fixture.core.stats.dialogs == 1
    assert fixture.bob.agent.sessions == fixture.bob.sessions
    fixture.bob.sessions[0].reject(486)
    assert fixture.core.stats.dialogs == 0
