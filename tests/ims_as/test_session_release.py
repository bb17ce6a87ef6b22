"""A call that is over is freed at once, without the garbage collector: nothing of it refers to itself."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator

import pytest

from ims_as.sip.invite_session import InviteSession, SessionEvent
from ims_as.sip.message import Request
from ims_as.sip.transaction import ServerTransaction
from ims_as.sip.user_agent import UserAgent
from tests.support.link import LinkNetwork, link_pair
from tests.support.sip_agents import ALLOW, OFFER, RecordingAgent


@pytest.fixture(autouse=True)
def _no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Callee:
    """Holds its sessions by weak references alone; what it does with one is `act`."""

    def __init__(self, network: LinkNetwork, act: Callable[[InviteSession], object]) -> None:
        self.sessions: list[weakref.ref[InviteSession]] = []
        self.act = act
        endpoint = network.endpoints["10.0.0.2", 5060]
        self.agent = UserAgent(
            endpoint, on_invite=self._on_invite, on_request=lambda *_: None, user_agent="", allow=ALLOW
        )
        endpoint.user = self.agent

    def _on_invite(self, request: Request, transaction: ServerTransaction) -> None:
        session = self.agent.accept(request, transaction, on_event=_ignore)
        self.sessions.append(weakref.ref(session))
        self.act(session)


def _ignore(session: InviteSession, event: SessionEvent) -> None:
    del session, event


@pytest.mark.parametrize(
    ("act", "after"),
    [
        (lambda session: session.answer(OFFER), lambda caller, callee: caller.bye()),
        (lambda session: session.answer(OFFER), lambda caller, callee: callee().bye()),
        (lambda session: session.provisional(180, body=OFFER), lambda caller, callee: caller.cancel()),
        (lambda session: session.reject(486), None),
        (lambda session: session.answer(OFFER), lambda caller, callee: (callee().reinvite(OFFER), caller.bye())),
    ],
    ids=["bye by the caller", "bye by the callee", "cancelled", "rejected", "bye in a re-INVITE"],
)
def test_a_callee_that_is_over_is_freed(
    act: Callable[[InviteSession], object], after: Callable[[InviteSession, weakref.ref[InviteSession]], object] | None
) -> None:
    network, one, _ = link_pair()
    alice = RecordingAgent(one)
    callee = Callee(network, act)
    caller = alice.call(headers=[("Session-Expires", "1800"), ("Supported", "timer, 100rel")])
    network.run(1)
    if after is not None:
        assert callee.sessions[0]() is not None
        after(caller, callee.sessions[0])
    network.run(1)
    assert caller.is_terminated
    network.run(40)  # transactions hold what they were made for
    assert callee.sessions[0]() is None
    assert callee.agent.endpoint.stats.is_idle


def test_what_was_agreed_can_be_read_after_the_end() -> None:
    network, one, two = link_pair()
    alice, bob = RecordingAgent(one), RecordingAgent(two, lambda _, session: session.answer(OFFER + b"a=x\r\n"))
    caller = alice.call()
    network.run(1)
    (session,) = bob.sessions
    caller.bye()
    network.run(1)
    assert (session.remote_body, session.local_body) == (OFFER, OFFER + b"a=x\r\n")
    assert session.dialog is not None
    assert session.request.headers.get("Call-ID") == session.key[0]
    assert (session.can_update, session.can_offer, session.answer(b""), session.provisional(180)) == (False,) * 4
    assert (session.reject(486), session.ack(b""), session.accept_reinvite(b"")) == (False,) * 3
    assert (session.accept_update(b""), session.reject_update(488), session.reject_reinvite(488)) == (False,) * 3
