"""The machines one by one, on a driver that only notes what they do."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ims_as.sip import transaction as module
from ims_as.sip.flow import Flow
from ims_as.sip.message import Request
from ims_as.sip.timers import TimerConfig, TimerHandle, TimerHeap
from ims_as.sip.transaction import (
    ClientEvent,
    ClientTransaction,
    Do,
    Event,
    InviteClientTransaction,
    InviteServerTransaction,
    NonInviteClientTransaction,
    NonInviteServerTransaction,
    ResponseReceived,
    ServerTransaction,
    State,
    Transaction,
    TransactionTimeout,
    TransportFailure,
)
from tests.support.manual_clock import ManualClock
from tests.support.sip_messages import build_request, response_to

UDP = Flow("UDP", ("10.0.0.2", 5060), ("10.0.0.1", 5060))
TCP = Flow("TCP", ("10.0.0.2", 5060), ("10.0.0.1", 40000), 7)


class NotingDriver:
    """Driver of one machine."""

    def __init__(self) -> None:
        self.timers = TimerConfig()
        self.heap = TimerHeap()
        self.clock = ManualClock(0.0)
        self.sent: list[tuple[float, bytes]] = []
        self.acks: list[Request] = []
        self.n_forgotten = 0

    def now(self) -> float:
        return self.clock()

    def call_at(self, when: float, callback: Callable[[], object]) -> TimerHandle:
        return self.heap.schedule(when, callback)

    call_about = call_at

    def transmit(self, transaction: Transaction, message: bytes, *, is_retransmission: bool) -> None:
        self.sent.append((self.clock(), message.split(b" ")[0] + b" " + message.split(b" ")[1]))

    def deliver_ack(self, transaction: InviteServerTransaction, ack: Request) -> None:
        self.acks.append(ack)

    def forget(self, transaction: Transaction) -> None:
        self.n_forgotten += 1

    def run(self, seconds: float) -> None:
        end = self.clock() + seconds
        while (when := self.heap.next_deadline()) is not None and when <= end:
            self.clock.time = max(when, self.clock())
            self.heap.run_due(self.clock())
        self.clock.time = end

    @property
    def send_times(self) -> list[float]:
        return [when for when, _ in self.sent]


class Client:
    """A started client transaction and what it told."""

    def __init__(self, method: str, flow: Flow = UDP) -> None:
        self.driver = NotingDriver()
        self.events: list[ClientEvent] = []
        self.request = build_request(method)
        kind = InviteClientTransaction if method == "INVITE" else NonInviteClientTransaction
        self.machine: ClientTransaction = kind(self.request, self.driver, "key", self.events.append)
        self.machine.flow = flow
        self.machine.message = self.request.to_bytes()
        self.machine.fire(Event.START)

    def receive(self, status: int) -> None:
        self.machine.receive_response(response_to(self.request, status))

    @property
    def told(self) -> list[object]:
        return [event.response.status if isinstance(event, ResponseReceived) else type(event) for event in self.events]


class Server:
    """A server transaction; started: the user has not answered at once."""

    def __init__(self, method: str, flow: Flow = UDP, *, is_started: bool = True) -> None:
        self.driver = NotingDriver()
        self.request = build_request(method)
        self.machine: ServerTransaction
        if method == "INVITE":
            self.machine = InviteServerTransaction(
                self.request, self.driver, "key", flow, "tag", lambda request: response_to(request, 100).to_bytes()
            )
        else:
            self.machine = NonInviteServerTransaction(self.request, self.driver, "key", flow, "tag")
        if is_started:
            self.machine.fire(Event.START)

    def send(self, status: int) -> bool:
        return self.machine.send_response(status, response_to(self.request, status).to_bytes())

    def receive_ack(self) -> None:
        assert isinstance(self.machine, InviteServerTransaction)
        self.machine.receive_ack(build_request("ACK"))

    @property
    def sent(self) -> list[bytes]:
        return [what.split(b" ")[1] for _, what in self.driver.sent]


# ---------------------------------------------------------------- tables


@pytest.mark.parametrize(
    ("kind", "table"),
    [
        (InviteClientTransaction, module.INVITE_CLIENT),
        (NonInviteClientTransaction, module.NON_INVITE_CLIENT),
        (InviteServerTransaction, module.INVITE_SERVER),
        (NonInviteServerTransaction, module.NON_INVITE_SERVER),
    ],
)
def test_tables_are_whole(kind: type[Transaction], table: module.Table) -> None:
    """Each state but Terminated can be reached and left; each action exists on its machine."""
    reached = {State.INITIAL} | {step.state for step in table.values()}
    left = {state for state, _ in table}
    assert reached - left == {State.TERMINATED}
    assert left <= reached
    for step in table.values():
        assert all(callable(getattr(kind, do.value)) for do in step.actions)


def test_every_started_timer_has_a_row() -> None:
    """A timer whose expiry no state knows would leave the transaction open for ever."""
    for table in (module.INVITE_CLIENT, module.NON_INVITE_CLIENT, module.INVITE_SERVER, module.NON_INVITE_SERVER):
        for step in table.values():
            for do in step.actions:
                if do.name.startswith("START_TIMER_"):
                    assert (step.state, Event[do.name.removeprefix("START_")]) in table, do


def test_every_action_is_used() -> None:
    tables = (module.INVITE_CLIENT, module.NON_INVITE_CLIENT, module.INVITE_SERVER, module.NON_INVITE_SERVER)
    used = {do for table in tables for step in table.values() for do in step.actions}
    assert used == set(Do)


# ---------------------------------------------------------------- INVITE client


def test_invite_is_retransmitted_with_doubling_interval_until_timer_b() -> None:
    client = Client("INVITE")
    client.driver.run(31.9)
    assert client.driver.send_times == [0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5]
    assert client.told == []
    client.driver.run(0.1)
    assert client.told == [TransactionTimeout]
    assert client.driver.n_forgotten == 1
    assert len(client.driver.heap) == 0


def test_invite_on_a_stream_is_sent_once() -> None:
    client = Client("INVITE", TCP)
    client.driver.run(32.0)
    assert client.driver.send_times == [0]
    assert client.told == [TransactionTimeout]


def test_provisional_stops_retransmission_and_timer_b() -> None:
    client = Client("INVITE")
    client.receive(180)
    client.driver.run(1000.0)
    assert client.driver.send_times == [0]
    assert client.told == [180]
    assert client.machine.state is State.PROCEEDING


def test_failure_is_acked_each_time_and_told_once() -> None:
    client = Client("INVITE")
    client.receive(180)
    client.receive(486)
    client.receive(486)
    assert [what for _, what in client.driver.sent[1:]] == [b"ACK sip:bob@10.0.0.2"] * 2
    assert client.told == [180, 486]
    client.driver.run(32.4)
    assert client.driver.n_forgotten == 0
    client.driver.run(0.2)
    assert client.driver.n_forgotten == 1


def test_timer_d_is_zero_on_a_stream() -> None:
    client = Client("INVITE", TCP)
    client.receive(486)
    client.driver.run(0.0)
    assert client.machine.is_terminated


def test_every_2xx_goes_up_until_timer_m() -> None:
    client = Client("INVITE")
    client.receive(200)
    client.receive(200)
    assert client.told == [200, 200]
    client.driver.run(32.0)
    assert client.machine.is_terminated
    client.receive(200)
    assert client.told == [200, 200]


def test_2xx_after_a_failure_is_absorbed() -> None:
    client = Client("INVITE")
    client.receive(486)
    client.receive(200)
    assert client.told == [486]


def test_cancelled_invite_without_final_response_ends() -> None:
    client = Client("INVITE")
    client.receive(180)
    client.machine.fire(Event.CANCEL)
    client.driver.run(32.0)
    assert client.told == [180, TransactionTimeout]
    assert client.driver.n_forgotten == 1


@pytest.mark.parametrize("method", ["INVITE", "OPTIONS"])
def test_transport_error_is_told_before_a_final_response_only(method: str) -> None:
    client = Client(method)
    client.machine.receive_transport_error("no route")
    assert client.told == [TransportFailure]
    client = Client(method)
    client.receive(486)
    client.machine.receive_transport_error("no route")
    assert client.told == [486]
    assert client.machine.is_terminated


# ---------------------------------------------------------------- non-INVITE client


def test_request_is_retransmitted_up_to_t2_until_timer_f() -> None:
    client = Client("OPTIONS")
    client.driver.run(32.0)
    assert client.driver.send_times == [0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
    assert client.told == [TransactionTimeout]


def test_provisional_slows_retransmission_to_t2_but_keeps_timer_f() -> None:
    client = Client("OPTIONS")
    client.driver.run(0.1)
    client.receive(100)
    client.driver.run(31.9)
    assert client.driver.send_times[:4] == [0, 0.5, 4.5, 8.5]
    assert client.told == [100, TransactionTimeout]


def test_final_response_is_told_once_and_absorbed_for_t4() -> None:
    client = Client("OPTIONS")
    client.receive(200)
    client.receive(200)
    assert client.told == [200]
    client.driver.run(4.9)
    assert not client.machine.is_terminated
    client.driver.run(0.1)
    assert client.machine.is_terminated
    assert client.driver.send_times == [0]


# ---------------------------------------------------------------- INVITE server


def test_100_only_after_200_ms_of_silence() -> None:
    server = Server("INVITE")
    server.driver.run(0.19)
    assert server.sent == []
    server.driver.run(0.02)
    assert server.sent == [b"100"]


def test_no_100_when_the_user_was_quicker() -> None:
    server = Server("INVITE")
    server.driver.run(0.1)
    server.send(180)
    server.driver.run(10.0)
    assert server.sent == [b"180"]


def test_retransmitted_invite_gets_the_latest_provisional() -> None:
    server = Server("INVITE")
    server.machine.receive_request()
    assert server.sent == []
    server.send(180)
    server.machine.receive_request()
    assert server.sent == [b"180", b"180"]


def test_failure_is_retransmitted_until_the_ack() -> None:
    server = Server("INVITE")
    server.send(486)
    server.driver.run(8.0)
    assert server.driver.send_times == [0, 0.5, 1.5, 3.5, 7.5]
    server.receive_ack()
    assert server.machine.state is State.CONFIRMED
    server.machine.receive_request()
    server.driver.run(5.0)
    assert server.machine.is_terminated
    assert len(server.sent) == 5
    assert len(server.driver.heap) == 0


def test_failure_without_ack_ends_with_timer_h() -> None:
    server = Server("INVITE")
    ends: list[bool] = []
    server.machine.on_timeout = lambda: ends.append(True)
    server.send(486)
    server.driver.run(32.0)
    assert server.machine.is_terminated
    assert ends == [True]
    assert server.driver.send_times == [0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]


def test_failure_on_a_stream_is_sent_once() -> None:
    server = Server("INVITE", TCP)
    server.send(486)
    server.driver.run(10.0)
    assert server.sent == [b"486"]
    server.receive_ack()
    server.driver.run(0.0)
    assert server.machine.is_terminated


def test_accepted_absorbs_invites_and_sends_the_users_2xx() -> None:
    server = Server("INVITE")
    assert server.send(200)
    server.machine.receive_request()
    assert server.sent == [b"200"]
    assert server.send(200)
    server.receive_ack()
    assert len(server.driver.acks) == 1
    server.driver.run(32.0)
    assert server.machine.is_terminated
    assert not server.send(200)


def test_second_final_response_is_refused() -> None:
    server = Server("INVITE")
    server.send(486)
    assert not server.send(200)
    assert not server.send(180)
    assert server.machine.status == 486


def test_invite_that_is_never_answered_is_forgotten() -> None:
    server = Server("INVITE")
    server.send(180)
    server.driver.run(599.0)
    assert not server.machine.is_terminated
    server.driver.run(1.0)
    assert server.machine.is_terminated
    assert len(server.driver.heap) == 0


# ---------------------------------------------------------------- non-INVITE server


def test_request_is_answered_again_until_timer_j() -> None:
    server = Server("OPTIONS")
    server.machine.receive_request()
    assert server.sent == []
    server.send(200)
    server.machine.receive_request()
    assert server.sent == [b"200", b"200"]
    assert not server.send(500)
    server.driver.run(32.0)
    assert server.machine.is_terminated


def test_request_that_is_never_answered_ends() -> None:
    server = Server("OPTIONS")
    server.send(100)
    server.machine.receive_request()
    assert server.sent == [b"100", b"100"]
    server.driver.run(32.0)
    assert server.machine.is_terminated
    assert not server.send(200)


# ---------------------------------------------------------------- against a plain model


class InviteClientModel(RuleBasedStateMachine):
    """The INVITE client against what the RFC says in words: final responses told, ACKs sent, when it is over."""

    @initialize(is_stream=st.booleans())
    def start(self, is_stream: bool) -> None:
        self.client = Client("INVITE", TCP if is_stream else UDP)
        self.is_stream = is_stream
        self.time = 0.0
        self.provisional = False
        self.final: int | None = None
        self.over_at: float | None = 32.0
        self.cancelled = False
        self.told: list[object] = []
        self.n_acks = 0

    @property
    def is_over(self) -> bool:
        return self.over_at is not None and self.time >= self.over_at

    @rule(status=st.sampled_from([100, 180, 183, 200, 302, 404, 486, 503, 603]))
    def receive(self, status: int) -> None:
        self.client.receive(status)
        if self.is_over:
            return
        if status < 200:
            if self.final is None:
                self.told.append(status)
                if not self.provisional:
                    self.over_at = None
                self.provisional = True
        elif status < 300:
            if self.final is None:
                self.final = status
                self.over_at = self.time + 32.0
            if self.final < 300:
                self.told.append(status)
        elif self.final is None:
            self.final = status
            self.told.append(status)
            self.n_acks += 1
            self.over_at = self.time + (0.0 if self.is_stream else 32.5)
            if self.is_stream:
                self.client.driver.run(0.0)
        elif self.final >= 300:
            self.n_acks += 1

    @rule()
    def cancel(self) -> None:
        self.client.machine.fire(Event.CANCEL)
        if self.provisional and self.final is None and not self.is_over:
            self.over_at = self.time + 32.0

    @rule(seconds=st.sampled_from([0.25, 0.5, 2.0, 8.0, 31.75, 32.0, 40.0]))
    def wait(self, seconds: float) -> None:
        was_over = self.is_over
        self.client.driver.run(seconds)
        self.time += seconds
        if self.is_over and not was_over and self.final is None:
            self.told.append(TransactionTimeout)

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "client"):
            return
        assert self.client.told == self.told
        assert self.client.machine.is_terminated == self.is_over
        assert self.client.driver.n_forgotten == int(self.is_over)
        acks = [what for _, what in self.client.driver.sent if what.startswith(b"ACK")]
        assert len(acks) == self.n_acks
        if self.is_over:
            assert len(self.client.driver.heap) == 0

    def teardown(self) -> None:
        if hasattr(self, "client") and self.provisional and self.final is None:
            return  # rings until somebody cancels
        if hasattr(self, "client"):
            self.client.driver.run(1000.0)
            assert self.client.machine.is_terminated


class InviteServerModel(RuleBasedStateMachine):
    """The INVITE server: what is on the wire, and that it always ends once it is answered."""

    @initialize(is_stream=st.booleans())
    def start(self, is_stream: bool) -> None:
        self.server = Server("INVITE", TCP if is_stream else UDP)
        self.is_stream = is_stream
        self.latest = 0
        self.acked = False
        self.over_at = 600.0
        self.time = 0.0

    @property
    def is_over(self) -> bool:
        return self.time >= self.over_at

    @rule(status=st.sampled_from([100, 180, 200, 302, 486, 503]))
    def send(self, status: int) -> None:
        before = len(self.server.sent)
        expected = not self.is_over and (self.latest < 200 or (200 <= self.latest < 300 and 200 <= status < 300))
        assert self.server.send(status) == expected
        assert len(self.server.sent) == before + expected
        if not expected:
            return
        if status >= 200 and self.latest < 200:
            self.over_at = self.time + 32.0
        self.latest = status

    @rule()
    def retransmit(self) -> None:
        before = len(self.server.sent)
        self.server.machine.receive_request()
        is_answered = not self.is_over and self.latest and not 200 <= self.latest < 300 and not self.acked
        assert len(self.server.sent) == before + bool(is_answered)

    @rule()
    def ack(self) -> None:
        self.server.receive_ack()
        if self.latest >= 300 and not self.acked and not self.is_over:
            self.acked = True
            self.over_at = self.time + (0.0 if self.is_stream else 5.0)
            if self.is_stream:
                self.server.driver.run(0.0)

    @rule(seconds=st.sampled_from([0.125, 0.25, 1.0, 4.0, 5.0, 32.0]))
    def wait(self, seconds: float) -> None:
        before = len(self.server.sent)
        self.server.driver.run(seconds)
        is_quiet = self.acked or 200 <= self.latest < 300 or self.is_over or (self.is_stream and self.latest >= 300)
        self.time += seconds
        if is_quiet:
            assert len(self.server.sent) == before
        if not self.latest and self.time >= 0.2:
            self.latest = 100

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "server"):
            return
        assert self.server.machine.is_terminated == self.is_over
        if self.server.sent:
            assert self.server.sent[-1] == str(self.latest).encode()

    def teardown(self) -> None:
        if hasattr(self, "server") and self.latest >= 200:
            self.server.driver.run(100.0)
            assert self.server.machine.is_terminated
            assert len(self.server.driver.heap) == 0


TestInviteClientModel = InviteClientModel.TestCase
TestInviteServerModel = InviteServerModel.TestCase
TestInviteClientModel.settings = TestInviteServerModel.settings = settings(
    max_examples=60, stateful_step_count=25, deadline=None
)


# ---------------------------------------------------------------- answered while it is handed up


@pytest.mark.parametrize(
    ("method", "status", "state", "ends_after_s"),
    [
        ("INVITE", 200, State.ACCEPTED, 32.0),
        ("INVITE", 486, State.COMPLETED, 32.0),
        ("BYE", 200, State.COMPLETED, 32.0),
        ("INVITE", 183, State.PROCEEDING, 600.0),
        ("BYE", 100, State.PROCEEDING, 32.0),
    ],
)
def test_an_answer_before_the_start_needs_no_guards(
    method: str, status: int, state: State, ends_after_s: float
) -> None:
    server = Server(method, is_started=False)
    assert len(server.driver.heap) == 0
    assert server.send(status)
    assert (server.machine.state, server.sent) == (state, [str(status).encode()])
    server.driver.run(ends_after_s - 0.1)
    assert b"100" not in server.sent[1:]
    assert server.driver.n_forgotten == 0
    server.driver.run(0.1)
    assert server.driver.n_forgotten == 1
    assert len(server.driver.heap) == 0
