"""A caller, a proxy and a callee on a fake network."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ims_as.sip.flow import Destination
from ims_as.sip.invite_session import InviteSession, Rejected, SessionState
from ims_as.sip.message import Request, Response, build_response
from ims_as.sip.parser import parse_message_untrusted
from ims_as.sip.proxy import ProxyBranch, StatefulProxy
from ims_as.sip.transaction import ServerTransaction
from ims_as.sip.user_agent import UserAgent
from tests.support.link import Fate, LinkNetwork, bad_link
from tests.support.sip_agents import ALLOW, OFFER, OnInvite, RecordingAgent
from tests.support.sip_messages import build_request

ODI = "<sip:iscmark@10.0.0.2:5060;lr;s=2;h=0;a=7369703a31>"
OWN = "<sip:term@10.0.0.9;lr>"

Forward = Callable[["Path", Request, ServerTransaction], None]


def pass_on(path: Path, request: Request, transaction: ServerTransaction) -> None:
    path.branches.append(path.proxy.forward(request, transaction))


def record_route(path: Path, request: Request, transaction: ServerTransaction) -> None:
    uri = "sip:10.0.0.9;lr"
    path.branches.append(path.proxy.forward(request, transaction, record_route=uri))


class Path:
    """10.0.0.1 → proxy 10.0.0.9 → 10.0.0.2 (and 10.0.0.3)."""

    def __init__(self, on_invite: OnInvite, forward: Forward = pass_on, fate: Fate | None = None) -> None:
        self.network = LinkNetwork() if fate is None else LinkNetwork(fate)
        self.alice = RecordingAgent(self.network.add("10.0.0.1"))
        self.bob = RecordingAgent(self.network.add("10.0.0.2"), on_invite)
        self.carol = RecordingAgent(self.network.add("10.0.0.3"), lambda agent, session: session.answer(OFFER) and None)
        core = self.network.add("10.0.0.9")
        self.proxy = StatefulProxy(core, hides_503=True)
        self.branches: list[ProxyBranch] = []
        agent = UserAgent(
            core,
            on_invite=lambda request, transaction: forward(self, request, transaction),
            on_request=lambda request, transaction: forward(self, request, transaction),
            user_agent="",
            allow=ALLOW,
        )
        agent.passthrough = lambda request, transaction: bool(self.proxy.forward(request, transaction))
        agent.on_unhandled_ack = lambda request, flow: self.proxy.forward_ack(request) and None
        core.user = agent
        self.core = core

    def call(self, **options: object) -> InviteSession:
        return self.alice.call("sip:bob@home.example", **{"route": [OWN, ODI], **options})

    def received(self, host: str, method: str) -> list[Request]:
        messages = [parse_message_untrusted(data) for _, _, target, data in self.network.sent if target[0] == host]
        return [message for message in messages if isinstance(message, Request) and message.method == method]

    def finish(self) -> None:
        self.network.run(300)
        self.alice.assert_one_end()
        self.bob.assert_one_end()
        self.network.assert_clean()


def answer(agent: RecordingAgent, session: InviteSession) -> None:
    session.provisional(180)
    session.answer(OFFER)


def ring(agent: RecordingAgent, session: InviteSession) -> None:
    session.provisional(180)


def test_call_through_the_proxy() -> None:
    path = Path(answer)
    session = path.call(headers=[("X-Unknown", "a  b")], max_forwards=9)
    path.network.run(1)
    (invite,) = path.received("10.0.0.2", "INVITE")
    assert invite.routes == [ODI]
    assert invite.max_forwards == 8
    assert invite.headers.get("X-Unknown") == "a  b"
    assert invite.uri == "sip:bob@home.example"
    assert [via.host for via in invite.vias] == ["10.0.0.9", "10.0.0.1"]
    assert path.alice.names() == ["Provisional", "Answered"]
    answered = path.alice.events[session][1].response  # type: ignore[union-attr]
    assert len(answered.vias) == 1
    # not record-routed: the rest goes directly
    session.bye()
    path.network.run(1)
    assert path.received("10.0.0.9", "BYE") == []
    path.finish()


def test_record_routed_dialog_stays() -> None:
    path = Path(answer, record_route)
    session = path.call()
    path.network.run(1)
    (invite,) = path.received("10.0.0.2", "INVITE")
    assert invite.record_routes == ["<sip:10.0.0.9;lr>"]
    assert session.state is SessionState.CONFIRMED
    assert len(path.received("10.0.0.9", "ACK")) == 1
    assert len(path.received("10.0.0.2", "ACK")) == 1
    path.bob.sessions[0].bye()
    path.network.run(1)
    assert len(path.received("10.0.0.9", "BYE")) == 1
    path.finish()


def test_own_record_route_comes_on_top() -> None:
    path = Path(lambda agent, session: session.reject(486) and None, record_route)
    others = [("Record-Route", "<sip:10.0.0.20;lr=on;ftag=1>, <sip:p2;lr>"), ("Record-Route", "<sip:10.0.0.1;lr>")]
    path.call(headers=others)
    path.network.run(1)
    (invite,) = path.received("10.0.0.2", "INVITE")
    assert invite.record_routes[0] == "<sip:10.0.0.9;lr>"
    assert invite.headers.get_all("Record-Route")[1:] == [value for _, value in others]
    path.finish()


def test_max_forwards_used_up() -> None:
    path = Path(answer)
    path.call(max_forwards=0)
    path.network.run(1)
    end = path.alice.last()
    assert isinstance(end, Rejected)
    assert end.status == 483
    assert path.branches[0].is_finished
    path.network.run(100)
    path.network.assert_clean()


def test_failure_goes_upstream_and_is_acked_on_each_hop() -> None:
    path = Path(lambda agent, session: session.reject(486) and None)
    path.call()
    path.network.run(1)
    end = path.alice.last()
    assert isinstance(end, Rejected)
    assert end.status == 486
    assert len(path.received("10.0.0.2", "ACK")) == 1
    assert len(path.received("10.0.0.9", "ACK")) == 1
    path.finish()


def test_cancel_goes_downstream_with_its_reason() -> None:
    path = Path(ring)
    session = path.call()
    path.network.run(1)
    session.cancel(headers=[("Reason", 'SIP;cause=200;text="elsewhere"')])
    path.network.run(1)
    (cancel,) = path.received("10.0.0.2", "CANCEL")
    assert cancel.headers.get("Reason") == 'SIP;cause=200;text="elsewhere"'
    assert cancel.routes == [ODI]
    assert path.bob.names() == ["Cancelled"]
    end = path.alice.last()
    assert isinstance(end, Rejected)
    assert end.status == 487
    path.finish()


def test_next_hop_that_is_not_there() -> None:
    path = Path(answer)
    path.call(route=[OWN, "<sip:10.0.0.77;lr>"])
    path.network.run(0.5)
    assert path.network.messages(path.core).count("100 INVITE") == 1
    path.network.run(33)
    end = path.alice.last()
    assert isinstance(end, Rejected)
    assert end.status == 408
    path.finish()


def test_next_hop_that_cannot_be_reached() -> None:
    path = Path(answer)
    path.call(route=[OWN, "<sip:10.0.0.77;transport=tcp;lr>"])
    path.network.run(1)
    end = path.alice.last()
    assert isinstance(end, Rejected)
    assert end.status == 500
    path.finish()


@pytest.mark.parametrize("route", ["<sip:10.0.0.2>", "<<nonsense", "<tel:+15550100>", "<sip:[::1>"])
def test_odd_routes_do_no_harm(route: str) -> None:
    """A strict router is sent to as a loose one; what is not a SIP URI is a failure of the transport."""
    path = Path(answer)
    session = path.call(route=[OWN, route])
    path.network.run(1)
    if "10.0.0.2" in route:
        assert session.state is SessionState.CONFIRMED
        session.bye()
    path.finish()


def test_non_invite() -> None:
    path = Path(answer)
    request = build_request("MESSAGE", headers=(("Route", f"{OWN}, {ODI}"),))
    request.headers.remove("Via")
    statuses: list[int] = []
    path.alice.endpoint.send_request(request, on_event=lambda event: statuses.append(event.response.status))  # type: ignore[union-attr]
    path.network.run(1)
    assert statuses == [200]
    path.finish()


def test_timer_c_cancels_a_call_that_rings_for_ever() -> None:
    path = Path(ring)
    path.call()
    path.network.run(180)
    assert path.received("10.0.0.2", "CANCEL") == []
    path.network.run(2)
    assert len(path.received("10.0.0.2", "CANCEL")) == 1
    end = path.alice.last()
    assert isinstance(end, Rejected)
    assert end.status == 487
    path.finish()


def test_provisional_responses_restart_timer_c() -> None:
    path = Path(ring)
    path.call()
    path.network.run(100)
    path.bob.sessions[0].provisional(183)
    path.network.run(100)
    assert path.received("10.0.0.2", "CANCEL") == []
    path.bob.sessions[0].reject(480)
    path.finish()


def test_consumed_failure_may_be_tried_elsewhere() -> None:
    """What on_response keeps does not go upstream; the same transaction is forwarded to a second place."""
    seen: list[int | None] = []

    def forward(path: Path, request: Request, transaction: ServerTransaction) -> None:
        def on_response(branch: ProxyBranch, response: Response | None) -> bool:
            seen.append(None if response is None else response.status)
            if response is None or response.status < 500:
                return False
            carol = Destination("UDP", "10.0.0.3")
            path.proxy.forward(request, transaction, destination=carol, uri="sip:carol@x.example")
            return True

        path.proxy.forward(request, transaction, on_response=on_response)

    path = Path(lambda agent, session: session.reject(503) and None, forward)
    session = path.call()
    path.network.run(1)
    assert seen == [503]
    assert path.alice.names() == ["Answered"]
    assert path.received("10.0.0.3", "INVITE")[0].uri == "sip:carol@x.example"
    session.bye()
    path.network.run(1)
    path.finish()


def test_edit_sees_the_copy_only() -> None:
    originals: list[Request] = []

    def forward(path: Path, request: Request, transaction: ServerTransaction) -> None:
        originals.append(request)
        path.proxy.forward(request, transaction, edit=lambda copy: copy.headers.add("X-Added", "1"), pop_route=True)

    path = Path(answer, forward)
    session = path.call()
    path.network.run(1)
    assert path.received("10.0.0.2", "INVITE")[0].headers.get("X-Added") == "1"
    assert "X-Added" not in originals[0].headers
    assert originals[0].routes == [OWN, ODI]
    session.bye()
    path.finish()


def test_on_cancel_knows_what_it_forwarded() -> None:
    path = Path(ring, lambda path, request, transaction: pass_on(path, request, transaction))
    path.call()
    path.network.run(1)
    transaction = path.branches[0].transaction
    assert path.proxy.on_cancel(transaction)
    path.network.run(1)
    assert path.bob.names() == ["Cancelled"]
    transaction.owner = None
    assert not path.proxy.on_cancel(transaction)
    path.finish()


def test_response_without_a_second_via_is_dropped() -> None:
    path = Path(ring)
    path.call()
    path.network.run(1)
    branch = path.branches[0]
    stripped = build_response(branch.request, 200, to_tag="x")
    stripped.headers.set("Via", str(branch.request.via))
    branch.forward_response(stripped)
    assert branch.transaction.status == 180
    branch.cancel()
    path.finish()


@pytest.mark.parametrize("seed", range(8))
def test_calls_through_a_bad_network(seed: int) -> None:
    path = Path(answer, record_route, bad_link(seed, loss=0.15))
    calls = [path.call() for _ in range(8)]
    path.network.run(40)
    for session in calls:
        session.bye()
    for session in path.bob.sessions:
        session.bye()
    path.finish()


def test_a_503_behind_us_is_not_ours() -> None:
    """§16.7 item 6: a 503 with Retry-After would make the S-CSCF avoid us for what somebody else cannot do."""
    refuse = lambda agent, session: session.reject(503, headers=[("Retry-After", "600"), ("X-Kept", "1")]) and None  # noqa: E731
    path = Path(refuse)
    path.call()
    path.network.run(1)
    end = path.alice.last()
    assert isinstance(end, Rejected)
    assert end.status == 500
    assert end.response is not None
    assert "Retry-After" not in end.response.headers
    assert end.response.headers.get("X-Kept") == "1"
    path.finish()


def test_proxy_require() -> None:
    path = Path(answer)
    path.call(headers=[("Proxy-Require", "privacy, foo"), ("Proxy-Require", "bar")])
    path.network.run(1)
    end = path.alice.last()
    assert isinstance(end, Rejected)
    assert end.status == 420
    assert end.response is not None
    assert end.response.headers.get("Unsupported") == "foo, bar"
    assert path.received("10.0.0.2", "INVITE") == []
    session = path.call(headers=[("Proxy-Require", "privacy")])
    path.network.run(1)
    assert session.state is SessionState.CONFIRMED
    session.bye()
    path.network.run(300)
    path.network.assert_clean()


class Forker:
    """What a forking proxy behind us sends back: responses of several callees to one INVITE."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.transactions: list[tuple[Request, ServerTransaction]] = []
        endpoint = path.network.endpoints["10.0.0.2", 5060]
        self.endpoint = endpoint
        self.requests: list[Request] = []
        endpoint.user = UserAgent(
            endpoint,
            on_invite=lambda request, transaction: self.transactions.append((request, transaction)),
            on_request=self._other,
            user_agent="",
            allow=ALLOW,
        )
        endpoint.user.passthrough = self._in_dialog
        endpoint.user.on_unhandled_ack = lambda request, flow: self.requests.append(request)

    def _other(self, request: Request, transaction: ServerTransaction) -> None:
        self.endpoint.send_response(transaction, build_response(request, 200))

    def _in_dialog(self, request: Request, transaction: ServerTransaction) -> bool:
        self.requests.append(request)
        self._other(request, transaction)
        return True

    def respond(self, status: int, tag: str) -> None:
        request, transaction = self.transactions[0]
        contact = [("Contact", f"<sip:{tag}@10.0.0.2>")]
        response = build_response(request, status, to_tag=tag, headers=contact, body=OFFER)
        self.endpoint.send_response(transaction, response)
        self.path.network.run(0.1)


def test_forked_responses_go_upstream_each_with_its_own_tag() -> None:
    path = Path(answer)
    forker = Forker(path)
    session = path.call()
    path.network.run(0.1)
    for status, tag in ((183, "a"), (180, "b"), (200, "b"), (200, "a")):
        forker.respond(status, tag)
    seen = [
        (message.status, message.to_tag)
        for _, source, target, data in path.network.sent
        if source[0] == "10.0.0.9" and target[0] == "10.0.0.1"
        and isinstance(message := parse_message_untrusted(data), Response) and message.cseq.method == "INVITE"
    ]  # fmt: skip
    assert [each for each in seen if each[0] > 100] == [(183, "a"), (180, "b"), (200, "b"), (200, "a")]
    # the caller keeps the first that answered, and hangs the other up
    assert session.dialog is not None
    assert session.dialog.id.remote_tag == "b"
    assert [(each.method, each.to_tag) for each in forker.requests] == [("ACK", "b"), ("ACK", "a"), ("BYE", "a")]
    # a provisional response that comes late changes nothing, a repeated 2xx goes through
    forker.respond(183, "a")
    forker.respond(200, "b")
    assert [each.method for each in forker.requests].count("ACK") == 3
    session.bye()
    path.network.run(300)
    path.network.assert_clean()


@pytest.mark.parametrize("when", [0.0, 0.0005, 0.0015, 0.0025, 0.1])
def test_cancel_at_each_moment(when: float) -> None:
    """Before the INVITE has left us, before the 100, after the 180: it ends with 487 and nothing is left."""
    path = Path(ring)
    session = path.call()
    path.network.run(when)
    session.cancel()
    path.network.run(3)
    end = path.alice.last()
    assert isinstance(end, Rejected)
    assert end.status == 487
    path.finish()


def test_cancel_while_the_next_hop_is_looked_up() -> None:
    path = Path(ring)
    path.core.names["scscf.example"] = ("10.0.0.2", 5060)
    session = path.call(route=[OWN, "<sip:scscf.example;lr>"])
    path.network.run(0.01)
    path.branches[0].cancel()
    session.cancel()
    path.network.run(3)
    end = path.alice.last()
    assert isinstance(end, Rejected)
    assert end.status == 487
    assert path.received("10.0.0.2", "INVITE") == []
    path.finish()


def test_cancel_that_crosses_the_answer() -> None:
    """The 200 is on its way when the CANCEL comes: the call is up, and the caller hangs up."""
    path = Path(answer)
    session = path.call()
    path.network.run(0.0035)
    session.cancel()
    path.network.run(3)
    assert path.bob.names()[-1] == "Ended"
    path.finish()


def test_a_loop_is_found() -> None:
    """§16.3 item 4: what comes back unchanged while it is still under way is refused, not sent round and round."""
    path = Path(ring)
    path.alice.call("sip:bob@10.0.0.9", route=[OWN])
    path.network.run(5)
    assert len(path.received("10.0.0.9", "INVITE")) == 3
    end = path.alice.last()
    assert isinstance(end, Rejected)
    assert end.status == 482
    path.network.run(300)
    path.network.assert_clean()


def test_unknown_method_and_a_large_body_pass() -> None:
    path = Path(answer)
    body = b"x" * 40_000
    request = build_request("WOBBLE", headers=(("Route", f"{OWN}, {ODI}"), ("Content-Type", "x/y")), body=body)
    request.headers.remove("Via")
    statuses: list[int] = []
    path.alice.endpoint.send_request(request, on_event=lambda event: statuses.append(event.response.status))  # type: ignore[union-attr]
    path.network.run(1)
    assert statuses == [200]
    (passed,) = path.received("10.0.0.2", "WOBBLE")
    assert passed.body == body
    path.finish()
