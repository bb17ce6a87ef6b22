"""RFC 3263 §4.3: the next place after a failure, a silence or a 503, seen by the user as one transaction."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ims_as.sip.failover import AVOID_S, MAX_FAILED, FailedTargets
from ims_as.sip.flow import Destination
from ims_as.sip.invite_session import Answered, InviteSession, Rejected
from ims_as.sip.message import build_response
from ims_as.sip.transaction import ClientEvent, TransactionTimeout
from tests.support.link import LinkEndpoint, LinkNetwork
from tests.support.sip_agents import OFFER, RecordingAgent
from tests.support.sip_messages import build_request

PLACES = [("10.0.0.2", 5060), ("10.0.0.3", 5060), ("10.0.0.4", 5060)]
FIRST, SECOND, THIRD = (place[0] for place in PLACES)


class Net:
    """A caller, and three callees behind one name; each does as its entry in `behaviour` says."""

    def __init__(self, **behaviour: Callable[[RecordingAgent, InviteSession], None] | None) -> None:
        self.network = LinkNetwork()
        self.caller = RecordingAgent(self.network.add("10.0.0.1"))
        self.core: LinkEndpoint = self.network.endpoints["10.0.0.1", 5060]
        self.core.names["pool.example"] = PLACES
        self.callees: dict[str, RecordingAgent] = {}
        for (host, _), name in zip(PLACES, ("first", "second", "third"), strict=True):
            if behaviour.get(name) is not None:
                self.callees[host] = RecordingAgent(self.network.add(host), behaviour[name])

    def call(self) -> InviteSession:
        return self.caller.call("sip:bob@pool.example")

    def asked(self) -> list[str]:
        """Who got the INVITE, each once, in order."""
        return list(dict.fromkeys(target[0] for _, _, target, data in self.network.sent if data.startswith(b"INVITE")))

    def assert_nothing_is_left(self) -> None:
        self.network.run(100)
        for endpoint in self.network.endpoints.values():
            assert endpoint.stats.is_idle, (endpoint.address, endpoint.stats)


def answer(agent: RecordingAgent, session: InviteSession) -> None:
    session.answer(OFFER)


def refuse(status: int) -> Callable[[RecordingAgent, InviteSession], None]:
    return lambda agent, session: session.reject(status) and None


def test_a_503_goes_to_the_next_place():
    net = Net(first=refuse(503), second=answer, third=answer)
    session = net.call()
    net.network.run(1)
    assert net.asked() == [FIRST, SECOND]
    assert isinstance(net.caller.last(session), Answered)
    assert net.core.counters.failovers == {"UDP": 1}
    session.bye()
    net.assert_nothing_is_left()


def test_each_attempt_has_a_branch_of_its_own():
    net = Net(first=refuse(503), second=refuse(503), third=refuse(486))
    net.call()
    net.network.run(1)
    branches = {data.split(b"branch=")[1].split(b";")[0] for _, _, _, data in net.network.sent if data[:6] == b"INVITE"}
    assert len(branches) == 3
    vias = [data.count(b"Via:") for _, _, _, data in net.network.sent if data.startswith(b"INVITE")]
    assert vias == [1, 1, 1]


@pytest.mark.parametrize("status", [486, 500, 404, 603])
def test_any_other_refusal_is_the_answer(status: int):
    net = Net(first=refuse(status), second=answer)
    session = net.call()
    net.network.run(1)
    assert net.asked() == [FIRST]
    last = net.caller.last(session)
    assert isinstance(last, Rejected)
    assert last.status == status


def test_the_last_503_is_told():
    net = Net(first=refuse(503), second=refuse(503), third=refuse(503))
    session = net.call()
    net.network.run(1)
    assert net.asked() == [FIRST, SECOND, THIRD]
    last = net.caller.last(session)
    assert isinstance(last, Rejected)
    assert last.status == 503
    net.assert_nothing_is_left()


def test_silence_goes_to_the_next_place():
    net = Net(second=answer)
    session = net.call()
    net.network.run(40)
    assert net.asked() == [FIRST, SECOND]
    assert isinstance(net.caller.last(session), Answered)
    session.bye()
    net.assert_nothing_is_left()


def test_who_has_rung_is_not_left():
    def ring_and_refuse(agent: RecordingAgent, session: InviteSession) -> None:
        session.provisional(180)
        session.reject(503)

    net = Net(first=ring_and_refuse, second=answer)
    session = net.call()
    net.network.run(1)
    assert net.asked() == [FIRST]
    assert isinstance(net.caller.last(session), Rejected)


def test_a_call_that_was_given_up_is_not_tried_elsewhere():
    net = Net(first=lambda agent, session: session.provisional(180) and None, second=answer)
    session = net.call()
    net.network.run(0.5)
    session.cancel()
    net.network.run(1)
    assert net.asked() == [FIRST]
    last = net.caller.last(session)
    assert isinstance(last, Rejected)
    assert last.status == 487
    net.assert_nothing_is_left()


def test_a_cancel_finds_the_attempt_that_is_under_way():
    net = Net(first=refuse(503), second=lambda agent, session: session.provisional(180) and None)
    session = net.call()
    net.network.run(1)
    session.cancel()
    net.network.run(1)
    assert net.callees[SECOND].names() == ["Cancelled"]
    assert isinstance(net.caller.last(session), Rejected)
    net.assert_nothing_is_left()


def test_who_failed_is_tried_last_for_a_while():
    net = Net(first=refuse(503), second=answer)
    net.call()
    net.network.run(1)
    net.network.sent.clear()
    net.call()
    net.network.run(1)
    assert net.asked() == [SECOND]
    net.network.run(AVOID_S)
    net.network.sent.clear()
    net.call()
    net.network.run(1)
    assert net.asked() == [FIRST, SECOND]


def test_retry_after_is_how_long_it_is_avoided():
    net = Net(
        first=lambda agent, session: session.reject(503, headers=[("Retry-After", "100 (busy);duration=5")]) and None
    )
    net.call()
    net.network.run(1)
    place = Destination("UDP", FIRST, 5060)
    assert net.core.failed_targets.has(place, net.core.now() + 98)
    assert not net.core.failed_targets.has(place, net.core.now() + 100)


@pytest.mark.parametrize(("text", "seconds"), [("nonsense", AVOID_S), ("99999999999", AVOID_S), ("4000000000", 3600)])
def test_retry_after_that_makes_no_sense(text: str, seconds: float):
    net = Net(first=lambda agent, session: session.reject(503, headers=[("Retry-After", text)]) and None)
    net.call()
    net.network.run(1)
    place = Destination("UDP", FIRST, 5060)
    assert net.core.failed_targets.has(place, net.core.now() + seconds - 2)
    assert not net.core.failed_targets.has(place, net.core.now() + seconds)


def test_who_says_trying_is_not_silent():
    """RFC 3263 §4.3: only a time-out without any response is a failure."""
    net = Net(second=answer)
    trying = RecordingAgent(net.network.add(FIRST))
    trying.agent.on_request = lambda request, transaction: net.network.endpoints[FIRST, 5060].send_response(
        transaction, build_response(request, 100)
    )
    events: list[ClientEvent] = []
    request = build_request("OPTIONS", uri="sip:pool.example")
    request.headers.pop_value("Via")
    net.core.send_request(request, on_event=events.append)
    net.network.run(40)
    assert {target[0] for _, _, target, data in net.network.sent if data.startswith(b"OPTIONS")} == {FIRST}
    assert isinstance(events[-1], TransactionTimeout)


def test_requests_inside_a_dialog_stay_where_they_are():
    net = Net(first=answer, second=answer)
    session = net.call()
    net.network.run(1)
    assert session.dialog is not None
    session.dialog.remote_target = "sip:bob@pool.example"
    callee = net.callees[FIRST]
    callee.agent.on_request = lambda request, transaction: callee.endpoint.send_response(
        transaction, build_response(request, 503)
    )
    session.bye()
    net.network.run(1)
    byes = {target[0] for _, _, target, data in net.network.sent if data.startswith(b"BYE")}
    assert byes == {FIRST}


def test_failed_targets_are_bounded():
    failed = FailedTargets()
    for number in range(MAX_FAILED + 10):
        failed.add(Destination("UDP", "10.0.0.1", number + 1), now=0.0)
    assert not failed.has(Destination("UDP", "10.0.0.1", 1), now=1.0)
    assert failed.has(Destination("UDP", "10.0.0.1", MAX_FAILED + 10), now=1.0)
    assert not failed.has(Destination("UDP", "10.0.0.1", MAX_FAILED + 10), now=AVOID_S)
