"""A proxy that stays in the dialogs that it has passed on, and in no others."""

from __future__ import annotations

from ims_as.sip.flow import Flow
from ims_as.sip.invite_session import Ended, InviteSession, ReinviteAnswered, ReinviteReceived, SessionState
from ims_as.sip.message import Request
from ims_as.sip.parser import parse_message_untrusted
from ims_as.sip.proxy import StatefulProxy
from ims_as.sip.record_route import RecordRouter
from ims_as.sip.transaction import ServerTransaction
from ims_as.sip.user_agent import UserAgent
from tests.support.link import LinkEndpoint, LinkNetwork
from tests.support.sip_agents import ALLOW, OFFER, RecordingAgent

OWN, ODI = "<sip:term@10.0.0.9;lr>", "<sip:iscmark@10.0.0.2:5060;lr;s=2;h=0>"


class Path:
    """10.0.0.1 → proxy 10.0.0.9, which record-routes → 10.0.0.2."""

    def __init__(self) -> None:
        self.network = LinkNetwork()
        self.alice = RecordingAgent(self.network.add("10.0.0.1"))
        self.bob = RecordingAgent(self.network.add("10.0.0.2"), lambda agent, session: session.answer(OFFER) and None)
        self.core = self.network.add("10.0.0.9")
        self.proxy = StatefulProxy(self.core)
        self.router = RecordRouter(self.core, self.proxy, b"key")
        self.proxy.record_route = self.router.values
        agent = UserAgent(self.core, on_invite=self._forward, on_request=self._forward, user_agent="", allow=ALLOW)
        agent.passthrough = self.router.forward_in_dialog
        agent.on_unhandled_ack = self.router.forward_ack
        self.core.user = agent

    def _forward(self, request: Request, transaction: ServerTransaction) -> None:
        self.proxy.forward(request, transaction)

    def call(self) -> InviteSession:
        session = self.alice.call("sip:bob@home.example", route=[OWN, ODI])
        self.network.run(1)
        assert session.state is SessionState.CONFIRMED
        return session

    def requests(self, host: str, method: str) -> list[Request]:
        messages = [parse_message_untrusted(data) for _, _, target, data in self.network.sent if target[0] == host]
        return [each for each in messages if isinstance(each, Request) and each.method == method]

    def finish(self) -> None:
        self.network.run(300)
        self.alice.assert_one_end()
        self.bob.assert_one_end()
        self.network.assert_clean()


def test_requests_inside_the_dialog_come_by_us_both_ways() -> None:
    path = Path()
    session = path.call()
    (invite,) = path.requests("10.0.0.2", "INVITE")
    (value,) = invite.record_routes
    assert value.startswith("<sip:10.0.0.9:5060;lr;dialog=")
    assert len(path.requests("10.0.0.2", "ACK")) == 1
    path.bob.handlers[ReinviteReceived] = lambda session, event: session.accept_reinvite(OFFER) and None
    path.alice.handlers[ReinviteReceived] = lambda session, event: session.accept_reinvite(OFFER) and None
    session.reinvite(OFFER)
    path.network.run(1)
    assert isinstance(path.alice.last(session), ReinviteAnswered)
    path.bob.sessions[0].reinvite(OFFER)
    path.network.run(1)
    assert len(path.requests("10.0.0.9", "INVITE")) == 3
    assert len(path.requests("10.0.0.9", "ACK")) == 3
    # what was inside the dialog already is not recorded again, and our entry has gone
    assert all(not request.record_routes for request in path.requests("10.0.0.2", "INVITE")[1:])
    assert all(not request.routes for request in path.requests("10.0.0.2", "INVITE")[1:])
    path.bob.sessions[0].bye()
    path.network.run(1)
    assert isinstance(path.alice.last(session), Ended)
    assert len(path.requests("10.0.0.9", "BYE")) == 1
    path.finish()


def test_a_cancelled_reinvite_is_cancelled_behind_us() -> None:
    path = Path()
    session = path.call()
    session.reinvite(OFFER)
    path.network.run(1)
    session.bye()
    path.network.run(1)
    assert len(path.requests("10.0.0.2", "CANCEL")) + len(path.requests("10.0.0.2", "BYE")) == 2
    path.finish()


def test_a_mark_of_another_dialog_is_no_way_through() -> None:
    """Somebody who learned our mark from one dialog cannot send by it into another."""
    path = Path()
    session = path.call()
    assert session.dialog is not None
    route = session.dialog.route_set[0]
    forged = Request(
        "BYE",
        "sip:victim@10.0.0.2",
        [
            ("Route", route),
            ("Max-Forwards", "70"),
            ("From", "<sip:a@b>;tag=1"),
            ("To", "<sip:c@d>;tag=2"),
            ("Call-ID", "another"),
            ("CSeq", "1 BYE"),
        ],
    )
    statuses: list[int] = []
    path.alice.endpoint.send_request(forged, on_event=lambda event: statuses.append(event.response.status))  # type: ignore[union-attr]
    path.network.run(1)
    assert statuses == [481]
    assert not path.requests("10.0.0.2", "BYE")
    forged_ack = forged.copy()
    forged_ack.method = "ACK"
    forged_ack.headers.set("CSeq", "1 ACK")
    forged_ack.headers.remove("Via")
    path.alice.endpoint.send_ack(forged_ack)
    path.network.run(1)
    assert len(path.requests("10.0.0.2", "ACK")) == 1
    assert path.core.counters.drops["ACK for no session"] == 1
    session.bye()
    path.finish()


def test_a_strict_router_before_us() -> None:
    """§16.4: our URI comes as the Request-URI, the target as the last Route."""
    path = Path()
    session = path.call()
    assert session.dialog is not None
    (own,), target = session.dialog.route_set, session.dialog.remote_target
    bye = session.dialog.build_request("BYE")
    bye.uri = own.strip("<>")
    bye.headers.set_all("Route", [f"<{target}>"])
    bye.headers.prepend("Via", "SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bK-strict")
    path.core.receive_datagram_untrusted(bye.to_bytes(), Flow("UDP", ("10.0.0.9", 5060), ("10.0.0.1", 5060)))
    path.network.run(1)
    (passed,) = path.requests("10.0.0.2", "BYE")
    assert passed.uri == target
    assert passed.routes == []
    assert path.bob.sessions[0].is_terminated
    session.abandon()
    path.network.run(300)
    path.network.assert_clean()


class TwoFaced(LinkEndpoint):
    """Another address of its own towards 10.0.0.2."""

    def _listener(self, transport: str, host: str) -> tuple[str, int]:
        return ("10.0.0.8", 5060) if host == "10.0.0.2" else self.address


def test_two_sides_get_two_values() -> None:
    """RFC 5658."""
    network = LinkNetwork()
    core = TwoFaced(network, ("10.0.0.9", 5060))
    router = RecordRouter(core, StatefulProxy(core), b"key")
    request = Request("INVITE", "sip:bob@home.example", [("Route", ODI), ("Call-ID", "x"), ("To", "<sip:bob@home>")])
    transaction = _Carrier(Flow("UDP", ("10.0.0.9", 5060), ("10.0.0.1", 5060)))
    far, near = router.values(request, transaction)  # type: ignore[arg-type]
    assert far.startswith("<sip:10.0.0.8:5060;lr;dialog=")
    assert near.startswith("<sip:10.0.0.9:5060;lr;dialog=")
    request.headers.set("Route", "<tel:+1>")
    assert len(router.values(request, transaction)) == 1  # type: ignore[arg-type]
    request.headers.set("To", "<sip:bob@home>;tag=x")
    assert router.values(request, transaction) == []  # type: ignore[arg-type]


class _Carrier:
    def __init__(self, flow: Flow) -> None:
        self.flow = flow
