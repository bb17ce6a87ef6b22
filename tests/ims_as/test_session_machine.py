"""Two real sessions on a bad network, doing whatever they may at any time, against what must hold whatever happens.

The model is plain: the last description pair that somebody accepted is the one in force at both sides once all is
quiet; each side ends once; a referee on each wire sees no second offer; and in the end nothing is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ims_as.sip.errors import LocalProtocolError
from ims_as.sip.exchange import Offer
from ims_as.sip.invite_session import (
    Answered,
    Cancelled,
    Ended,
    InviteSession,
    Provisional,
    ReinviteAnswered,
    ReinviteReceived,
    Rejected,
    SessionEvent,
    SessionState,
    UpdateReceived,
)
from ims_as.sip.session_timer import SessionTimerConfig
from tests.support.link import DELAY_S, LinkNetwork, bad_link
from tests.support.offer_referee import OfferReferee
from tests.support.sip_agents import ALLOW, RecordingAgent
from tests.support.sip_call import on

CALLER, CALLEE = 0, 1
SIDES = st.sampled_from((CALLER, CALLEE))
LONGEST_WAIT_S = 8.0
"""The users answer within that time: one that never does is another test's."""
_QUIET_S = 100.0


def good_link(data: bytes, source: object, target: object) -> Sequence[float]:
    return (DELAY_S,)


class SessionMachine(RuleBasedStateMachine):
    @initialize(
        offers=st.booleans(),
        tags=st.lists(st.sampled_from([("100rel", "timer", "199"), ("100rel",), ()]), min_size=2, max_size=2),
        updates=st.lists(st.sampled_from([f"{ALLOW}, UPDATE", f"{ALLOW}, UPDATE", ALLOW]), min_size=2, max_size=2),
        timed=st.lists(st.booleans(), min_size=2, max_size=2),
        life=st.integers(0, 30),
        prelude=st.sampled_from(("", "183", "183 200", "200")),
    )
    def call(
        self,
        offers: bool,
        tags: list[tuple[str, ...]],
        updates: list[str],
        timed: list[bool],
        life: int,
        prelude: str,
    ) -> None:
        self.network = LinkNetwork()
        self.referees = (OfferReferee(), OfferReferee())
        self.agents = [
            RecordingAgent(
                self.network.add(host, on_wire=referee.see),
                lambda agent, session: None,
                supported=tags[side],
                allow=updates[side],
                session_timer=SessionTimerConfig(90) if timed[side] else None,
            )
            for side, (host, referee) in enumerate(zip(("10.0.0.1", "10.0.0.2"), self.referees, strict=True))
        ]
        self.count = 0
        self.life = life
        self.was_lossy = False
        self.accepted: tuple[bytes, bytes] | None = None
        """Descriptions of caller and callee in the latest exchange that was accepted after the first."""
        self.pending: list[tuple[float, int, str, bytes]] = []
        for side, agent in enumerate(self.agents):
            for kind in (UpdateReceived, ReinviteReceived, ReinviteAnswered, Answered, Provisional):
                on(agent, kind, lambda session, event, side=side: self.note(side, event))
        self.agents[CALLER].call(body=self.body(CALLER) if offers else b"")
        if "183" in prelude:
            self.run(0.01)
            self.ring(183, True, None)
            self.run(1.0)
        if "200" in prelude:
            self.run(0.01)
            self.answer()
            self.run(1.0)

    # ---------------------------------------------------------------- helpers

    def body(self, side: int) -> bytes:
        self.count += 1
        return f"{'caller' if side == CALLER else 'callee'} {self.count}".encode()

    def session(self, side: int) -> InviteSession | None:
        sessions = self.agents[side].sessions
        return sessions[-1] if sessions else None

    def note(self, side: int, event: Any) -> None:
        """What has to be answered, later."""
        if isinstance(event, UpdateReceived):
            kind = "update"
        elif isinstance(event, ReinviteReceived):
            kind = "reinvite"
        elif isinstance(event, Provisional):
            kind = "prack" if event.needs_prack else ""
        else:
            kind = "ack" if event.needs_ack else ""
        if kind:
            self.pending.append((self.network.clock(), side, kind, event.body))

    def accept(self, side: int, offer: bytes, answer: bytes) -> None:
        if offer:  # else the peer was asked for its own, and accepts later
            self.accepted = (answer, offer) if side == CALLER else (offer, answer)

    def respond_to(self, item: tuple[float, int, str, bytes], *, accepts: bool) -> None:
        self.pending.remove(item)
        _, side, kind, offer = item
        session = self.session(side)
        assert session is not None
        body = self.body(side)
        if kind == "update":
            done = session.accept_update(body) if accepts else session.reject_update(488)
        elif kind == "reinvite":
            done = session.accept_reinvite(body) if accepts else session.reject_reinvite(488)
        elif kind == "ack":
            done, accepts = session.ack(body), True
        else:
            accepts = True
            try:
                session.prack(body)
                done = True
            except LocalProtocolError:
                assert not session.is_early
                done = False
        if accepts and done:
            self.accept(side, offer, body)

    def run(self, seconds: float) -> None:
        """Time passes; nobody is left waiting for long."""
        while seconds > 0:
            due = [item for item in self.pending if self.network.clock() - item[0] > LONGEST_WAIT_S]
            for item in due:
                self.respond_to(item, accepts=True)
            step = min(seconds, 1.0)
            self.network.run(step)
            seconds -= step
        for side in (CALLER, CALLEE):
            session = self.session(side)
            self.referees[side].is_over = session is not None and session.is_terminated

    @property
    def callee(self) -> InviteSession | None:
        return self.session(CALLEE)

    # ---------------------------------------------------------------- what the users do

    @precondition(lambda self: self.callee is not None)
    @rule(
        status=st.sampled_from((180, 183, 183)), described=st.booleans(), reliable=st.sampled_from((None, True, False))
    )
    def ring(self, status: int, described: bool, reliable: bool | None) -> None:
        assert self.callee is not None
        self.callee.provisional(status, body=self.body(CALLEE) if described else b"", reliable=reliable)

    @precondition(lambda self: self.callee is not None)
    @rule()
    def answer(self) -> None:
        assert self.callee is not None
        self.callee.answer(self.body(CALLEE))

    @rule(side=SIDES, method=st.sampled_from(("update", "reinvite")), described=st.booleans())
    def offer(self, side: int, method: str, described: bool) -> None:
        session = self.session(side)
        if session is None:
            return
        can_offer = session.can_offer
        body = self.body(side) if described else b""
        try:
            getattr(session, method)(body)
        except LocalProtocolError:
            is_too_early = method == "reinvite" and session.state is not SessionState.CONFIRMED
            assert not can_offer or is_too_early or session.exchange._outgoing is not None

    @precondition(lambda self: self.pending)
    @rule(accepts=st.booleans(), number=st.integers(0, 3))
    def respond(self, accepts: bool, number: int) -> None:
        self.respond_to(self.pending[number % len(self.pending)], accepts=accepts)

    @precondition(lambda self: self.count > self.life)
    @rule(side=SIDES, how=st.sampled_from(("bye", "cancel", "reject")))
    def end(self, side: int, how: str) -> None:
        session = self.session(side)
        if session is None:
            return
        if how == "bye":
            session.bye()
        elif how == "cancel":
            session.cancel()
        else:
            session.reject(486)

    # ---------------------------------------------------------------- what the network does

    @rule(
        seed=st.integers(0, 1000),
        loss=st.sampled_from((0.0, 0.2, 0.5)),
        duplicate=st.sampled_from((0.0, 0.3)),
        jitter_s=st.sampled_from((0.0, 0.05, 1.0)),
    )
    def weather(self, seed: int, loss: float, duplicate: float, jitter_s: float) -> None:
        self.network.fate = bad_link(seed, loss=loss, duplicate=duplicate, jitter_s=jitter_s)
        self.was_lossy = self.was_lossy or loss > 0 or jitter_s > 0.5

    @rule(seconds=st.sampled_from((0.0005, 0.0015, 0.005, 0.3, 1.0, 3.0, 12.0)))
    def wait(self, seconds: float) -> None:
        self.run(seconds)

    @rule()
    def settle(self) -> None:
        """All under way comes to its end on a good network: then both sides must agree."""
        fate, self.network.fate = self.network.fate, good_link
        for _ in range(4):
            for item in list(self.pending):
                self.respond_to(item, accepts=True)
            self.run(_QUIET_S / 4)
        while self.pending:
            self.respond_to(self.pending[0], accepts=True)
            self.run(2.0)
        self.network.fate = fate
        self.check_agreement()

    def check_agreement(self) -> None:
        caller, callee = self.session(CALLER), self.callee
        assert caller is not None
        if callee is None:
            return
        if caller.is_terminated or callee.is_terminated:
            assert self.was_lossy or (caller.is_terminated and callee.is_terminated)
            return
        assert caller.is_early == callee.is_early
        if caller.is_early:
            if not (caller.exchange.is_settled and callee.exchange.is_settled):
                return
        else:
            assert caller.state is SessionState.CONFIRMED
            assert callee.state is SessionState.CONFIRMED
        for session in (caller, callee):
            assert session.exchange.offer is Offer.NONE
        assert caller.local_body == callee.remote_body
        assert caller.remote_body == callee.local_body
        if self.accepted is not None:
            assert self.accepted == (caller.local_body, caller.remote_body)

    # ---------------------------------------------------------------- what always holds

    @invariant()
    def offers_are_one_at_a_time(self) -> None:
        for referee in getattr(self, "referees", ()):
            assert referee.faults == []

    @invariant()
    def one_end(self) -> None:
        for agent in getattr(self, "agents", ()):
            assert not agent.endpoint.counters.guard_errors
            for session, events in agent.events.items():
                final = [n for n, event in enumerate(events) if is_final(event)]
                assert final == ([len(events) - 1] if session.is_terminated else [])

    def teardown(self) -> None:
        if not hasattr(self, "network"):
            return
        self.network.fate = good_link
        for agent in self.agents:
            for session in agent.sessions:
                session.bye()
        self.network.run(10)
        for agent in self.agents:
            for session in agent.sessions:
                session.bye()  # an answer may have crossed the CANCEL
        self.network.run(400)
        for agent in self.agents:
            agent.assert_one_end()
        self.offers_are_one_at_a_time()
        self.network.assert_clean()


def is_final(event: SessionEvent) -> bool:
    return isinstance(event, Rejected | Cancelled | Ended)


SessionMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestSessions = SessionMachine.TestCase
