"""The four transaction machines of RFC 3261 §17, with the INVITE corrections of RFC 6026.

Theory of operation
===================
A machine is a table: in a state, an event leads to a next state and a few actions. A pair that is not in the table is
absorbed (a retransmitted response in Completed, a timer that lost a race). Each machine has two timer slots only:

* *retransmit*: A, E, G and the 100 guard, the timers that send something again and go on;
* *lifetime*: B, D, F, H, I, J, K, L, M, which end the state or the transaction. Starting one replaces the other.

The machines do no I/O and read no clock: a `Driver` (the transaction layer) sends bytes, keeps the timer heap and
forgets the machine when it enters Terminated. Nothing waits inside a machine, so a callback may use any transaction,
its own included.

INVITE client (§17.1.1, RFC 6026 §7.2): Calling → Proceeding → Completed or Accepted → Terminated. Every 2xx is passed
up in Accepted, retransmissions and forks too: the ACK is the user's duty. A cancelled INVITE whose final response never
comes is ended 64*T1 after the CANCEL (§9.1).

INVITE server (§17.2.1, RFC 6026 §7.1): Proceeding → Completed → Confirmed → Terminated, or Accepted for a 2xx, in which
INVITE retransmissions are absorbed and the user retransmits the 2xx until it sees the ACK. Only if the user has sent
nothing for `TimerConfig.trying_after` a 100 goes out: an S-CSCF stops its own guard on any provisional. An INVITE that
is never answered is forgotten after `TimerConfig.invite_limit`.

Non-INVITE client (§17.1.2) and server (§17.2.2): Trying → Proceeding → Completed → Terminated. A server transaction
that the user never answers ends after 64*T1 without a response: the client has given up by then (RFC 4320 §4.2 forbids
a 408).

On reliable transports timers A, E, G do not run and D, I, J, K are zero (Table 4).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, ClassVar, NamedTuple, Protocol

import attrs

from ims_as.sip.flow import Flow
from ims_as.sip.message import Request, Response, build_ack
from ims_as.sip.timers import TimerConfig, TimerHandle

__all__ = [
    "ClientEvent",
    "ClientTransaction",
    "Do",
    "Driver",
    "Event",
    "InviteClientTransaction",
    "InviteServerTransaction",
    "NonInviteClientTransaction",
    "NonInviteServerTransaction",
    "ResponseReceived",
    "ServerTransaction",
    "State",
    "Step",
    "TransactionTimeout",
    "TransportFailure",
]


class State(Enum):
    """States as printed in RFC 3261 figures 5–8 and RFC 6026 §7; INITIAL is the time before the first input."""

    INITIAL = "initial"
    CALLING = "calling"
    TRYING = "trying"
    PROCEEDING = "proceeding"
    COMPLETED = "completed"
    CONFIRMED = "confirmed"
    ACCEPTED = "accepted"
    TERMINATED = "terminated"

    __hash__ = object.__hash__


class Event(Enum):
    """Inputs of the machines."""

    START = "start"
    """The request was sent (client) or received (server) for the first time."""
    RECEIVE_REQUEST = "receive request"
    """A retransmission."""
    RECEIVE_ACK = "receive ACK"
    RECEIVE_1XX = "receive 1xx"
    RECEIVE_2XX = "receive 2xx"
    RECEIVE_FAILURE = "receive 300-699"
    RECEIVE_FINAL = "receive final"
    SEND_1XX = "send 1xx"
    SEND_2XX = "send 2xx"
    SEND_FAILURE = "send 300-699"
    SEND_FINAL = "send final"
    CANCEL = "CANCEL sent"
    TRANSPORT_ERROR = "transport error"
    TIMER_A = "timer A"
    TIMER_B = "timer B"
    TIMER_D = "timer D"
    TIMER_E = "timer E"
    TIMER_F = "timer F"
    TIMER_G = "timer G"
    TIMER_H = "timer H"
    TIMER_I = "timer I"
    TIMER_J = "timer J"
    TIMER_K = "timer K"
    TIMER_L = "timer L"
    TIMER_M = "timer M"
    TIMER_TRYING = "100 guard"
    TIMER_UNANSWERED = "unanswered guard"

    __hash__ = object.__hash__


class Do(Enum):
    """Actions; each value names the method that does it."""

    SEND = "_send"
    """The request (client) or the latest response (server)."""
    SEND_AGAIN = "_send_again"
    """The same, counted as a retransmission."""
    SEND_ACK = "_send_ack"
    SEND_TRYING = "_send_trying"
    PASS_UP = "_pass_up"
    """Tell the user of the response or the ACK."""
    INFORM_TIMEOUT = "_inform_timeout"
    INFORM_TRANSPORT_FAILURE = "_inform_transport_failure"
    STOP_RETRANSMITTING = "_stop_retransmitting"
    START_TIMER_A = "_start_timer_a"
    START_TIMER_B = "_start_timer_b"
    START_TIMER_D = "_start_timer_d"
    START_TIMER_E = "_start_timer_e"
    START_TIMER_F = "_start_timer_f"
    START_TIMER_G = "_start_timer_g"
    START_TIMER_H = "_start_timer_h"
    START_TIMER_I = "_start_timer_i"
    START_TIMER_J = "_start_timer_j"
    START_TIMER_K = "_start_timer_k"
    START_TIMER_L = "_start_timer_l"
    START_TIMER_M = "_start_timer_m"
    START_TIMER_TRYING = "_start_timer_trying"
    START_TIMER_UNANSWERED = "_start_timer_unanswered"
    STOP_LIFETIME = "_stop_lifetime"


class Step(NamedTuple):
    """One cell of a table."""

    state: State
    actions: tuple[Do, ...] = ()


Table = Mapping[tuple[State, Event], Step]

INVITE_CLIENT: Table = {
    # §17.1.1.2: send, start A on unreliable transports and B on all
    (State.INITIAL, Event.START): Step(State.CALLING, (Do.SEND, Do.START_TIMER_A, Do.START_TIMER_B)),
    # the hop could not even be found
    (State.INITIAL, Event.TRANSPORT_ERROR): Step(State.TERMINATED, (Do.INFORM_TRANSPORT_FAILURE,)),
    (State.CALLING, Event.TIMER_A): Step(State.CALLING, (Do.SEND_AGAIN, Do.START_TIMER_A)),
    (State.CALLING, Event.TIMER_B): Step(State.TERMINATED, (Do.INFORM_TIMEOUT,)),
    (State.CALLING, Event.TRANSPORT_ERROR): Step(State.TERMINATED, (Do.INFORM_TRANSPORT_FAILURE,)),
    (State.CALLING, Event.RECEIVE_1XX): Step(
        State.PROCEEDING, (Do.STOP_RETRANSMITTING, Do.STOP_LIFETIME, Do.PASS_UP)
    ),
    (State.CALLING, Event.RECEIVE_2XX): Step(State.ACCEPTED, (Do.STOP_RETRANSMITTING, Do.START_TIMER_M, Do.PASS_UP)),
    (State.CALLING, Event.RECEIVE_FAILURE): Step(
        State.COMPLETED, (Do.STOP_RETRANSMITTING, Do.SEND_ACK, Do.START_TIMER_D, Do.PASS_UP)
    ),
    (State.PROCEEDING, Event.RECEIVE_1XX): Step(State.PROCEEDING, (Do.PASS_UP,)),
    (State.PROCEEDING, Event.RECEIVE_2XX): Step(State.ACCEPTED, (Do.START_TIMER_M, Do.PASS_UP)),
    (State.PROCEEDING, Event.RECEIVE_FAILURE): Step(
        State.COMPLETED, (Do.SEND_ACK, Do.START_TIMER_D, Do.PASS_UP)
    ),
    # §9.1: no final response 64*T1 after the CANCEL means cancelled
    (State.PROCEEDING, Event.CANCEL): Step(State.PROCEEDING, (Do.START_TIMER_B,)),
    (State.PROCEEDING, Event.TIMER_B): Step(State.TERMINATED, (Do.INFORM_TIMEOUT,)),
    # the connection broke: the callee may still answer on a new one, but nobody could tell it from a stranger
    (State.PROCEEDING, Event.TRANSPORT_ERROR): Step(State.TERMINATED, (Do.INFORM_TRANSPORT_FAILURE,)),
    (State.COMPLETED, Event.RECEIVE_FAILURE): Step(State.COMPLETED, (Do.SEND_ACK,)),
    (State.COMPLETED, Event.TIMER_D): Step(State.TERMINATED),
    # the user has had its final response already
    (State.COMPLETED, Event.TRANSPORT_ERROR): Step(State.TERMINATED),
    # RFC 6026 §7.2: every 2xx goes up, until timer M
    (State.ACCEPTED, Event.RECEIVE_2XX): Step(State.ACCEPTED, (Do.PASS_UP,)),
    (State.ACCEPTED, Event.TIMER_M): Step(State.TERMINATED),
}

NON_INVITE_CLIENT: Table = {
    # §17.1.2.2
    (State.INITIAL, Event.START): Step(State.TRYING, (Do.SEND, Do.START_TIMER_E, Do.START_TIMER_F)),
    (State.INITIAL, Event.TRANSPORT_ERROR): Step(State.TERMINATED, (Do.INFORM_TRANSPORT_FAILURE,)),
    (State.TRYING, Event.TIMER_E): Step(State.TRYING, (Do.SEND_AGAIN, Do.START_TIMER_E)),
    (State.TRYING, Event.TIMER_F): Step(State.TERMINATED, (Do.INFORM_TIMEOUT,)),
    (State.TRYING, Event.TRANSPORT_ERROR): Step(State.TERMINATED, (Do.INFORM_TRANSPORT_FAILURE,)),
    (State.TRYING, Event.RECEIVE_1XX): Step(State.PROCEEDING, (Do.PASS_UP,)),
    (State.TRYING, Event.RECEIVE_FINAL): Step(
        State.COMPLETED, (Do.STOP_RETRANSMITTING, Do.START_TIMER_K, Do.PASS_UP)
    ),
    (State.PROCEEDING, Event.TIMER_E): Step(State.PROCEEDING, (Do.SEND_AGAIN, Do.START_TIMER_E)),
    (State.PROCEEDING, Event.TIMER_F): Step(State.TERMINATED, (Do.INFORM_TIMEOUT,)),
    (State.PROCEEDING, Event.TRANSPORT_ERROR): Step(State.TERMINATED, (Do.INFORM_TRANSPORT_FAILURE,)),
    (State.PROCEEDING, Event.RECEIVE_1XX): Step(State.PROCEEDING, (Do.PASS_UP,)),
    (State.PROCEEDING, Event.RECEIVE_FINAL): Step(
        State.COMPLETED, (Do.STOP_RETRANSMITTING, Do.START_TIMER_K, Do.PASS_UP)
    ),
    (State.COMPLETED, Event.TIMER_K): Step(State.TERMINATED),
    (State.COMPLETED, Event.TRANSPORT_ERROR): Step(State.TERMINATED),
}

INVITE_SERVER: Table = {
    # §17.2.1; the 100 waits for the user
    (State.INITIAL, Event.START): Step(State.PROCEEDING, (Do.START_TIMER_TRYING, Do.START_TIMER_UNANSWERED)),
    (State.PROCEEDING, Event.TIMER_UNANSWERED): Step(State.TERMINATED, (Do.INFORM_TIMEOUT,)),
    (State.PROCEEDING, Event.TIMER_TRYING): Step(State.PROCEEDING, (Do.SEND_TRYING,)),
    (State.PROCEEDING, Event.RECEIVE_REQUEST): Step(State.PROCEEDING, (Do.SEND_AGAIN,)),
    (State.PROCEEDING, Event.SEND_1XX): Step(State.PROCEEDING, (Do.STOP_RETRANSMITTING, Do.SEND)),
    # RFC 6026 §7.1: 2xx from the user: send it, start timer L
    (State.PROCEEDING, Event.SEND_2XX): Step(
        State.ACCEPTED, (Do.STOP_RETRANSMITTING, Do.SEND, Do.START_TIMER_L)
    ),
    (State.PROCEEDING, Event.SEND_FAILURE): Step(
        State.COMPLETED, (Do.STOP_RETRANSMITTING, Do.SEND, Do.START_TIMER_G, Do.START_TIMER_H)
    ),
    (State.COMPLETED, Event.RECEIVE_REQUEST): Step(State.COMPLETED, (Do.SEND_AGAIN,)),
    (State.COMPLETED, Event.TIMER_G): Step(State.COMPLETED, (Do.SEND_AGAIN, Do.START_TIMER_G)),
    (State.COMPLETED, Event.TIMER_H): Step(State.TERMINATED, (Do.INFORM_TIMEOUT,)),
    (State.COMPLETED, Event.RECEIVE_ACK): Step(State.CONFIRMED, (Do.STOP_RETRANSMITTING, Do.START_TIMER_I)),
    (State.CONFIRMED, Event.TIMER_I): Step(State.TERMINATED),
    # RFC 6026 §7.1: INVITE retransmissions are absorbed in Accepted, a stray ACK is passed to the user
    (State.ACCEPTED, Event.SEND_2XX): Step(State.ACCEPTED, (Do.SEND_AGAIN,)),
    (State.ACCEPTED, Event.RECEIVE_ACK): Step(State.ACCEPTED, (Do.PASS_UP,)),
    (State.ACCEPTED, Event.TIMER_L): Step(State.TERMINATED),
}

NON_INVITE_SERVER: Table = {
    # §17.2.2, and a guard for a request that is never answered
    (State.INITIAL, Event.START): Step(State.TRYING, (Do.START_TIMER_UNANSWERED,)),
    (State.TRYING, Event.TIMER_UNANSWERED): Step(State.TERMINATED, (Do.INFORM_TIMEOUT,)),
    (State.TRYING, Event.SEND_1XX): Step(State.PROCEEDING, (Do.SEND,)),
    (State.TRYING, Event.SEND_FINAL): Step(State.COMPLETED, (Do.SEND, Do.START_TIMER_J)),
    (State.PROCEEDING, Event.TIMER_UNANSWERED): Step(State.TERMINATED, (Do.INFORM_TIMEOUT,)),
    (State.PROCEEDING, Event.RECEIVE_REQUEST): Step(State.PROCEEDING, (Do.SEND_AGAIN,)),
    (State.PROCEEDING, Event.SEND_1XX): Step(State.PROCEEDING, (Do.SEND,)),
    (State.PROCEEDING, Event.SEND_FINAL): Step(State.COMPLETED, (Do.SEND, Do.START_TIMER_J)),
    (State.COMPLETED, Event.RECEIVE_REQUEST): Step(State.COMPLETED, (Do.SEND_AGAIN,)),
    (State.COMPLETED, Event.TIMER_J): Step(State.TERMINATED),
}


class Driver(Protocol):
    """What a machine needs from the transaction layer."""

    timers: TimerConfig

    def now(self) -> float: ...
    def call_at(self, when: float, callback: Callable[[], object]) -> TimerHandle: ...

    def transmit(self, transaction: Transaction, message: bytes, *, is_retransmission: bool) -> None:
        """Send on the transaction's flow. Never calls back before it returns."""

    def deliver_ack(self, transaction: InviteServerTransaction, ack: Request) -> None:
        """An ACK that matches in Accepted: a peer that gave the ACK of a 2xx the INVITE's branch."""

    def forget(self, transaction: Transaction) -> None:
        """The machine has entered Terminated."""


class _Compiled(NamedTuple):
    state: State
    actions: tuple[Callable[[Any], None], ...]


class Transaction:
    """What the four machines share: the table walk and the two timer slots."""

    __slots__ = ("_driver", "_interval", "_lifetime", "_retransmit", "key", "message", "request", "state")

    table: ClassVar[Table] = {}
    _steps: ClassVar[dict[State, dict[Event, _Compiled]]] = {}

    def __init_subclass__(cls) -> None:
        cls._steps = {state: {} for state in State}
        for (state, event), step in cls.table.items():
            actions = tuple(getattr(cls, do.value) for do in step.actions)
            cls._steps[state][event] = _Compiled(step.state, actions)

    def __init__(self, request: Request, driver: Driver, key: object) -> None:
        self.request = request
        self.state = State.INITIAL
        self.key = key
        """The layer's table key."""
        self.message = b""
        """What a retransmission sends: the request (client) or the latest response (server)."""
        self._driver = driver
        self._interval = 0.0
        self._retransmit: TimerHandle | None = None
        self._lifetime: TimerHandle | None = None

    @property
    def is_terminated(self) -> bool:
        return self.state is State.TERMINATED

    @property
    def is_reliable(self) -> bool:
        raise TypeError("a transaction is a client or a server")

    def fire(self, event: Event) -> bool:
        """One step of the table.

        Returns:
            Whether the table knows the event in this state; otherwise it is absorbed.
        """
        step = self._steps[self.state].get(event)
        if step is None:
            return False
        self.state = step.state
        if step.state is State.TERMINATED:
            # before the user hears of it, so that it sees the tables as they will stay
            self._stop_retransmitting()
            self._stop_lifetime()
            self._driver.forget(self)
        for action in step.actions:
            action(self)
        return True

    # actions shared by client and server

    def _send(self) -> None:
        self._driver.transmit(self, self.message, is_retransmission=False)

    def _send_again(self) -> None:
        if self.message:
            self._driver.transmit(self, self.message, is_retransmission=True)

    def _stop_retransmitting(self) -> None:
        if self._retransmit is not None:
            self._retransmit.cancel()
            self._retransmit = None

    def _stop_lifetime(self) -> None:
        if self._lifetime is not None:
            self._lifetime.cancel()
            self._lifetime = None

    def _start_retransmit(self, event: Event, delay: float) -> None:
        self._stop_retransmitting()
        driver = self._driver
        self._retransmit = driver.call_at(driver.now() + delay, lambda: self.fire(event))

    def _start_lifetime(self, event: Event, delay: float) -> None:
        self._stop_lifetime()
        driver = self._driver
        self._lifetime = driver.call_at(driver.now() + delay, lambda: self.fire(event))


class ClientTransaction(Transaction):
    """A request that we sent. The layer sets `flow` when the next hop is known."""

    __slots__ = ("cancel_headers", "failure_reason", "flow", "is_cancelled", "on_event", "response")

    def __init__(
        self, request: Request, driver: Driver, key: object, on_event: Callable[[ClientEvent], None]
    ) -> None:
        super().__init__(request, driver, key)
        self.on_event = on_event
        self.flow: Flow | None = None
        self.response: Response | None = None
        """The latest response."""
        self.failure_reason = ""
        self.is_cancelled = False
        """A CANCEL was asked for; it is sent after the first provisional response (§9.1)."""
        self.cancel_headers: tuple[tuple[str, str], ...] = ()

    @property
    def is_reliable(self) -> bool:
        return self.flow is not None and self.flow.connection is not None

    def receive_response(self, response: Response) -> None:
        raise TypeError("abstract machine")

    def receive_transport_error(self, reason: str) -> None:
        self.failure_reason = reason
        self.fire(Event.TRANSPORT_ERROR)

    def _pass_up(self) -> None:
        assert self.response is not None
        self.on_event(ResponseReceived(self, self.response))

    def _inform_timeout(self) -> None:
        self.on_event(TransactionTimeout(self))

    def _inform_transport_failure(self) -> None:
        self.on_event(TransportFailure(self, self.failure_reason))


class InviteClientTransaction(ClientTransaction):
    """RFC 3261 §17.1.1 with RFC 6026 §7.2."""

    __slots__ = ()
    table = INVITE_CLIENT

    def receive_response(self, response: Response) -> None:
        status = response.status
        if self.state is State.COMPLETED and status < 300:
            return  # a 2xx after a failure: forking proxies must not, and the user has had its final response
        self.response = response
        if status >= 300:
            self.fire(Event.RECEIVE_FAILURE)
        elif status >= 200:
            self.fire(Event.RECEIVE_2XX)
        else:
            self.fire(Event.RECEIVE_1XX)

    def _send_ack(self) -> None:
        assert self.response is not None
        ack = build_ack(self.request, self.response)
        self._driver.transmit(self, ack.to_bytes(), is_retransmission=False)

    def _start_timer_a(self) -> None:
        if not self.is_reliable:
            self._interval = self._interval * 2 or self._driver.timers.t1
            self._start_retransmit(Event.TIMER_A, self._interval)

    def _start_timer_b(self) -> None:
        self._start_lifetime(Event.TIMER_B, self._driver.timers.transaction_timeout)

    def _start_timer_d(self) -> None:
        self._start_lifetime(Event.TIMER_D, 0.0 if self.is_reliable else self._driver.timers.timer_d)

    def _start_timer_m(self) -> None:
        self._start_lifetime(Event.TIMER_M, self._driver.timers.transaction_timeout)


class NonInviteClientTransaction(ClientTransaction):
    """RFC 3261 §17.1.2."""

    __slots__ = ()
    table = NON_INVITE_CLIENT

    def receive_response(self, response: Response) -> None:
        self.response = response
        self.fire(Event.RECEIVE_FINAL if response.status >= 200 else Event.RECEIVE_1XX)

    def _start_timer_e(self) -> None:
        if self.is_reliable:
            return
        timers = self._driver.timers
        if self.state is State.PROCEEDING:
            self._interval = timers.t2
        else:
            self._interval = min(self._interval * 2 or timers.t1, timers.t2)
        self._start_retransmit(Event.TIMER_E, self._interval)

    def _start_timer_f(self) -> None:
        self._start_lifetime(Event.TIMER_F, self._driver.timers.transaction_timeout)

    def _start_timer_k(self) -> None:
        self._start_lifetime(Event.TIMER_K, 0.0 if self.is_reliable else self._driver.timers.t4)


class ServerTransaction(Transaction):
    """A request that we received. Responses go back on its `flow` (RFC 3261 §18.2.2).

    After the final response `request` is reduced to the request line and Via; whoever needs more keeps the original.
    """

    __slots__ = ("flow", "is_cancelled", "merge_key", "on_timeout", "owner", "status", "to_tag")

    def __init__(self, request: Request, driver: Driver, key: object, flow: Flow, to_tag: str) -> None:
        super().__init__(request, driver, key)
        self.flow = flow
        self.to_tag = to_tag
        """Put into every response above 100 that has none."""
        self.status = 0
        """Latest status sent, 0 before the first."""
        self.merge_key: object = None
        self.owner: object = None
        """Free for the transaction user: who handles a CANCEL of it. None again after the final response."""
        self.is_cancelled = False
        """A CANCEL came for it."""
        self.on_timeout: Callable[[], None] | None = None
        """Called when timer H (no ACK) or the unanswered guard ends the transaction."""

    @property
    def is_reliable(self) -> bool:
        return self.flow.connection is not None

    @property
    def is_answered(self) -> bool:
        """A final response was sent."""
        return self.status >= 200

    def receive_request(self) -> None:
        """A retransmission of the request."""
        self.fire(Event.RECEIVE_REQUEST)

    def send_response(self, status: int, message: bytes) -> bool:
        """Hand over a response of the user.

        Args:
            status: its status code.
            message: the response as it goes to the wire.

        Returns:
            False when a final response was sent before: this one is dropped (a retransmitted 2xx is not).
        """
        raise TypeError("abstract machine")

    def _respond(self, event: Event, status: int, message: bytes) -> bool:
        if event not in self._steps[self.state]:
            return False
        self.status = status
        self.message = message
        is_taken = self.fire(event)
        if status >= 200:
            # what is left lives for 32 s: keep what a retransmission and a lost connection need (the top Via), and let
            # go of the rest, which is most of the process's memory and of the garbage collector's work
            request = self.request
            self.request = Request(request.method, request.uri, [("Via", request.headers.get("via") or "")])
            self.owner = None
        return is_taken

    def _inform_timeout(self) -> None:
        if self.on_timeout is not None:
            self.on_timeout()


class InviteServerTransaction(ServerTransaction):
    """RFC 3261 §17.2.1 with RFC 6026 §7.1."""

    __slots__ = ("_ack", "build_trying")
    table = INVITE_SERVER

    def __init__(
        self,
        request: Request,
        driver: Driver,
        key: object,
        flow: Flow,
        to_tag: str,
        build_trying: Callable[[Request], bytes],
    ) -> None:
        super().__init__(request, driver, key, flow, to_tag)
        self.build_trying = build_trying
        self._ack: Request | None = None

    def receive_ack(self, ack: Request) -> None:
        self._ack = ack
        self.fire(Event.RECEIVE_ACK)

    def send_response(self, status: int, message: bytes) -> bool:
        if status < 200:
            return self._respond(Event.SEND_1XX, status, message)
        return self._respond(Event.SEND_FAILURE if status >= 300 else Event.SEND_2XX, status, message)

    def _pass_up(self) -> None:
        assert self._ack is not None
        self._driver.deliver_ack(self, self._ack)

    def _send_trying(self) -> None:
        self.status = 100
        self.message = self.build_trying(self.request)
        self._send()

    def _start_timer_trying(self) -> None:
        self._start_retransmit(Event.TIMER_TRYING, self._driver.timers.trying_after)

    def _start_timer_unanswered(self) -> None:
        self._start_lifetime(Event.TIMER_UNANSWERED, self._driver.timers.invite_limit)

    def _start_timer_g(self) -> None:
        if not self.is_reliable:
            timers = self._driver.timers
            self._interval = min(self._interval * 2 or timers.t1, timers.t2)
            self._start_retransmit(Event.TIMER_G, self._interval)

    def _start_timer_h(self) -> None:
        self._start_lifetime(Event.TIMER_H, self._driver.timers.transaction_timeout)

    def _start_timer_i(self) -> None:
        self._start_lifetime(Event.TIMER_I, 0.0 if self.is_reliable else self._driver.timers.t4)

    def _start_timer_l(self) -> None:
        self._start_lifetime(Event.TIMER_L, self._driver.timers.transaction_timeout)


class NonInviteServerTransaction(ServerTransaction):
    """RFC 3261 §17.2.2."""

    __slots__ = ()
    table = NON_INVITE_SERVER

    def send_response(self, status: int, message: bytes) -> bool:
        return self._respond(Event.SEND_FINAL if status >= 200 else Event.SEND_1XX, status, message)

    def _start_timer_unanswered(self) -> None:
        self._start_lifetime(Event.TIMER_UNANSWERED, self._driver.timers.transaction_timeout)

    def _start_timer_j(self) -> None:
        self._start_lifetime(
            Event.TIMER_J, 0.0 if self.is_reliable else self._driver.timers.transaction_timeout
        )


@attrs.frozen(slots=True)
class ResponseReceived:
    """A response; a final one ends the transaction for its user (further 2xx to an INVITE may follow, §13.2.2.4)."""

    transaction: ClientTransaction
    response: Response


@attrs.frozen(slots=True)
class TransactionTimeout:
    """Timer B or F: no final response. To be treated as a 408 (§8.1.3.1)."""

    transaction: ClientTransaction


@attrs.frozen(slots=True)
class TransportFailure:
    """The request could not be sent. To be treated as a 503 (§8.1.3.1)."""

    transaction: ClientTransaction
    reason: str


ClientEvent = ResponseReceived | TransactionTimeout | TransportFailure
