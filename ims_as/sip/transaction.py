"""The four transaction machines of RFC 3261 §17: what walks the tables of `transaction_tables`.

The machines do no I/O and read no clock: a `Driver` (the transaction layer) sends bytes, keeps the timer heap and
forgets the machine when it enters Terminated. Nothing waits inside a machine, so a callback may use any transaction,
its own included.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, NamedTuple, Protocol

import attrs

from ims_as.sip.flow import Flow
from ims_as.sip.message import Request, Response, build_ack
from ims_as.sip.timers import TimerConfig, TimerHandle
from ims_as.sip.transaction_tables import (
    INVITE_CLIENT,
    INVITE_SERVER,
    NON_INVITE_CLIENT,
    NON_INVITE_SERVER,
    Do,
    Event,
    State,
    Step,
    Table,
)

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


class Driver(Protocol):
    """What a machine needs from the transaction layer."""

    timers: TimerConfig

    def now(self) -> float: ...
    def call_at(self, when: float, callback: Callable[[], object]) -> TimerHandle: ...

    def call_about(self, when: float, callback: Callable[[], object]) -> TimerHandle:
        """As `call_at`, and a quarter of a second later is as good."""

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

    __slots__ = ("_driver", "_interval", "_lifetime", "_retransmit", "flow", "key", "message", "request", "state")

    flow: Flow | None
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
            self.message = b""  # its user may hold the transaction as long as the call
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
        self._retransmit = driver.call_at(driver.now() + delay, partial(self.fire, event))

    def _start_lifetime(self, event: Event, delay: float) -> None:
        self._stop_lifetime()
        driver = self._driver
        self._lifetime = driver.call_at(driver.now() + delay, partial(self.fire, event))

    def _start_absorbing(self, event: Event, delay: float) -> None:
        """The lifetime of a state that only absorbs retransmissions: nobody waits for its end."""
        self._stop_lifetime()
        driver = self._driver
        call = driver.call_about if delay else driver.call_at
        self._lifetime = call(driver.now() + delay, partial(self.fire, event))


class ClientTransaction(Transaction):
    """A request that we sent. The layer sets `flow` when the next hop is known."""

    __slots__ = ("cancel_headers", "failure_reason", "is_cancelled", "on_event", "response", "successor")

    def __init__(self, request: Request, driver: Driver, key: object, on_event: Callable[[ClientEvent], None]) -> None:
        super().__init__(request, driver, key)
        self.on_event = on_event
        self.flow = None
        self.response: Response | None = None
        """The latest response."""
        self.failure_reason = ""
        self.is_cancelled = False
        """A CANCEL was asked for; it is sent after the first provisional response (§9.1)."""
        self.cancel_headers: tuple[tuple[str, str], ...] = ()
        self.successor: ClientTransaction | None = None
        """What took its place when it failed (`failover`)."""

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
        self._start_absorbing(Event.TIMER_D, 0.0 if self.is_reliable else self._driver.timers.timer_d)

    def _start_timer_m(self) -> None:
        self._start_absorbing(Event.TIMER_M, self._driver.timers.transaction_timeout)


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
        self._start_absorbing(Event.TIMER_K, 0.0 if self.is_reliable else self._driver.timers.t4)


class ServerTransaction(Transaction):
    """A request that we received. Responses go back on its `flow` (RFC 3261 §18.2.2).

    After the final response `request` is reduced to the request line and Via; whoever needs more keeps the original.
    """

    __slots__ = ("is_cancelled", "merge_key", "on_timeout", "owner", "status", "to_tag")
    flow: Flow

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
        self._start_absorbing(Event.TIMER_I, 0.0 if self.is_reliable else self._driver.timers.t4)

    def _start_timer_l(self) -> None:
        self._start_absorbing(Event.TIMER_L, self._driver.timers.transaction_timeout)


class NonInviteServerTransaction(ServerTransaction):
    """RFC 3261 §17.2.2."""

    __slots__ = ()
    table = NON_INVITE_SERVER

    def send_response(self, status: int, message: bytes) -> bool:
        return self._respond(Event.SEND_FINAL if status >= 200 else Event.SEND_1XX, status, message)

    def _start_timer_unanswered(self) -> None:
        self._start_lifetime(Event.TIMER_UNANSWERED, self._driver.timers.transaction_timeout)

    def _start_timer_j(self) -> None:
        self._start_absorbing(Event.TIMER_J, 0.0 if self.is_reliable else self._driver.timers.transaction_timeout)


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
