"""The sending half of the endpoint: next hop, Via, transport by size, tries at other places, and the way back.

What a subclass brings: sockets (`_transmit_bytes`, `_flow_to`), names (`_look_up`) and its own addresses (`_listener`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Literal, NamedTuple, Protocol

from ims_as.sip.counters import METHODS, SipCounters
from ims_as.sip.errors import LocalProtocolError, SipParseError
from ims_as.sip.failover import FailedTargets, Failover
from ims_as.sip.flow import Destination, Flow
from ims_as.sip.grammar import format_host
from ims_as.sip.header_types import Via
from ims_as.sip.late_responses import LateResponses
from ims_as.sip.message import Request, Response
from ims_as.sip.next_hop import next_hop
from ims_as.sip.timers import TimerConfig, TimerHandle
from ims_as.sip.transaction import ClientEvent, ClientTransaction, ServerTransaction, Transaction
from ims_as.sip.transaction_layer import BRANCH_COOKIE, MAX_TRANSACTIONS, TransactionLayer
from ims_as.sip.uri import SipUri

__all__ = ["CONNECTION_GONE", "MAX_DATAGRAM_BYTES", "RequestNormaliser", "Sender", "Targets", "WireEvent"]

MAX_DATAGRAM_BYTES: Final = 1300
"""RFC 3261 §18.1.1, where the MTU of the path is not known."""

CONNECTION_GONE: Final = "connection gone"
"""What `_transmit_bytes` says when the flow's connection no longer exists."""

Targets = Sequence[Destination]


class WireEvent(NamedTuple):
    """One message as it passed the wire (a plain tuple: one is made for each)."""

    at: float
    """Wall clock, seconds since the epoch."""
    direction: Literal["in", "out"]
    flow: Flow
    data: bytes
    verdict: str
    """``ok``, ``rejected:<why>`` or ``untrusted``."""


class RequestNormaliser(Protocol):
    """What `EndpointCore.normaliser` is."""

    def incoming(self, request: Request, host: str) -> None: ...
    def outgoing(self, request: Request, host: str) -> None: ...


class OverloadFeedback(Protocol):
    """What `EndpointCore.overload_control` is (RFC 7339)."""

    @property
    def via_params(self) -> str:
        """For the Via of our requests."""

    def answer(self, via: Via) -> Via:
        """The top Via of a request as its responses are to carry it."""

    def receive(self, hop: tuple[str, int], via: Via, *, now: float) -> None:
        """Our Via in a response of a next hop."""

    def keeps_back(self, request: Request, hop: tuple[str, int], *, now: float) -> bool:
        """Whether the next hop has asked for less than this request."""


class Sender(ABC):
    """See the module and `EndpointCore`, which is made of it."""

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        token: Callable[[], str],
        advertise: tuple[str, int] | None = None,
        timers: TimerConfig | None = None,
        on_wire: Callable[[WireEvent], None] | None = None,
        counters: SipCounters | None = None,
        server_name: str = "ims-as",
        max_transactions: int = MAX_TRANSACTIONS,
    ) -> None:
        self.counters = SipCounters() if counters is None else counters
        self.on_wire = on_wire
        self.server_name = server_name
        self.normaliser: RequestNormaliser | None = None
        """Changes requests from and to certain peers in place."""
        self.overload_control: OverloadFeedback | None = None
        """Tells neighbours how much to send, and obeys what they tell."""
        self._wall_clock = wall_clock
        self._token = token
        self._advertise = advertise
        self._layer = TransactionLayer(
            self,
            clock=clock,
            timers=TimerConfig() if timers is None else timers,
            counters=self.counters,
            max_transactions=max_transactions,
        )
        self.now = clock
        self._late = LateResponses(self._flow_to, self._look_up, self._put, self.is_trusted, clock, self.counters)
        self.failed_targets = FailedTargets()
        """Places that did not answer lately; tried last."""

    # ---------------------------------------------------------------- the network, by the subclass

    @abstractmethod
    def _transmit_bytes(self, flow: Flow, data: bytes) -> str | None:
        """Send without waiting; None, or why it can never be sent (`CONNECTION_GONE` …). Loss is not an error."""

    @abstractmethod
    def _flow_to(self, destination: Destination) -> Flow | None:
        """A flow to a destination whose address is known at once; None when the name must be looked up.

        Raises:
            OSError: there is no way there (no listener of that transport and address family, too many connections).
        """

    @abstractmethod
    def _look_up(self, destination: Destination, callback: Callable[[Targets | str], None]) -> None:
        """Resolve; the callback gets destinations with an address in the order to try, or, later, why there is none."""

    @abstractmethod
    def _listener(self, transport: str, host: str) -> tuple[str, int]:
        """Our address for Via and Contact towards that transport and local or remote host."""

    @abstractmethod
    def is_trusted(self, host: str) -> bool:
        """Whether an address may speak to us."""

    # ---------------------------------------------------------------- tokens and timers

    def new_tag(self) -> str:
        return self._token()

    def new_token(self) -> str:
        return self._token()

    def new_call_id(self) -> str:
        return f"{self._token()}@{self.server_name}"

    def new_branch(self) -> str:
        return f"{BRANCH_COOKIE}-{self._token()}"

    def call_at(self, when: float, callback: Callable[[], object]) -> TimerHandle:
        """Call back at `when` (the clock of `now`); the handle can be cancelled."""
        return self._layer.call_at(when, callback)

    # ---------------------------------------------------------------- sending

    def send_request(
        self,
        request: Request,
        *,
        destination: Destination | None = None,
        on_event: Callable[[ClientEvent], None],
    ) -> ClientTransaction:
        """Send a request in a new client transaction. A Via with a fresh branch is put on top of its headers.

        Without `destination` it goes where RFC 3261 §8.1.2 says. Never raises for what a peer wrote into Route or
        Request-URI: that, a failed look-up and a broken connection come as `TransportFailure`, after this returned.

        Raises:
            LocalProtocolError: a header holds CR, LF or NUL.
        """
        branch = self.new_branch()
        transaction = self._layer.create_client(request, branch, on_event)
        method = request.method
        self.counters.requests_out[method if method in METHODS else "other"] += 1

        def start(flow: Flow | str, others: Targets) -> None:
            if isinstance(flow, str):
                transaction.receive_transport_error(flow)
                return
            control = self.overload_control
            if control is not None and control.keeps_back(request, flow.remote, now=self.now()):
                self.counters.drops["kept back for the next hop"] += 1
                self.call_at(self.now(), lambda: transaction.receive_transport_error("overload of the next hop"))
                return
            flow, message, others = self._write(request, flow, branch, others)
            if others:
                target = Destination(flow.transport, *flow.remote)
                transaction.on_event = Failover(self, _without_via(request), transaction, target, others)
            self._layer.start_client(transaction, flow, message)

        try:
            self._route(request, destination, start)
        except LocalProtocolError:
            self._layer.forget(transaction)
            raise
        return transaction

    def send_again(
        self, request: Request, target: Destination, on_event: Callable[[ClientEvent], None]
    ) -> ClientTransaction | None:
        """For `Failover`: the request at another place, whose address is known; None when there is no way there."""
        try:
            flow = self._flow_to(target)
        except OSError:
            return None
        if flow is None:
            return None
        branch = self.new_branch()
        again = request.copy()
        if self.normaliser is not None:
            self.normaliser.outgoing(again, flow.remote[0])
        transaction = self._layer.create_client(again, branch, on_event)
        self._add_via(again, flow, branch)
        self._layer.start_client(transaction, flow, again.to_bytes())
        return transaction

    def _write(self, request: Request, flow: Flow, branch: str, others: Targets) -> tuple[Flow, bytes, Targets]:
        """The bytes with our Via; what is too large for a datagram goes by TCP where it can (§18.1.1).

        Raises:
            LocalProtocolError: a header holds CR, LF or NUL.
        """
        if self.normaliser is not None:
            self.normaliser.outgoing(request, flow.remote[0])
        self._add_via(request, flow, branch)
        message = request.to_bytes()
        if len(message) <= MAX_DATAGRAM_BYTES or flow.transport != "UDP":
            return flow, message, others
        reliable = Destination("TCP", *flow.remote)
        if self.failed_targets.has(reliable, self.now()):
            return flow, message, others
        try:
            stream = self._flow_to(reliable)
        except OSError:
            return flow, message, others
        if stream is None:
            return flow, message, others
        request.headers.pop_value("Via")
        self._add_via(request, stream, branch)
        # back to UDP when nobody listens there
        return stream, request.to_bytes(), (Destination("UDP", *flow.remote), *others)

    def send_ack(self, request: Request, *, destination: Destination | None = None) -> None:
        """Send the ACK of a 2xx: a Via with a fresh branch, no transaction. Nobody hears of a failure (§13.2.2.4)."""

        def start(flow: Flow | str, others: Targets) -> None:
            if isinstance(flow, str):
                self.counters.drops["ACK without a way"] += 1
                return
            flow, message, _ = self._write(request, flow, self.new_branch(), others)
            self._put(flow, message)

        self.counters.requests_out["ACK"] += 1
        self._route(request, destination, start)

    def _route(
        self, request: Request, destination: Destination | None, start: Callable[[Flow | str, Targets], None]
    ) -> None:
        """Call `start` with the flow to the next hop and what else could be tried, at once or after a look-up.

        What went wrong comes in place of the flow, and never at once.
        """
        try:
            target = next_hop(request) if destination is None else destination
            flow = self._flow_to(target)
        except (SipParseError, OSError) as error:
            reason = str(error)
            self.call_at(self.now(), lambda: start(reason, ()))
            return
        if flow is not None:
            start(flow, ())
            return

        def resolved(answer: Targets | str) -> None:
            if isinstance(answer, str):
                start(answer, ())
                return
            why = "no way to any of its addresses"
            targets = self.failed_targets.sorted(answer, self.now())
            for number, each in enumerate(targets):
                try:
                    flow = self._flow_to(each)
                except OSError as error:
                    why = str(error)
                    continue
                if flow is not None:
                    try:
                        start(flow, targets[number + 1 :])
                    except LocalProtocolError as error:  # nobody waits to catch it any more
                        why = str(error)
                        break
                    return
            self.call_at(self.now(), lambda: start(why, ()))

        self._look_up(target, resolved)

    def send_response(self, transaction: ServerTransaction, response: Response) -> bool:
        """Send a response of the user; False when the transaction has been answered finally or has ended."""
        return self._layer.send_response(transaction, response)

    def cancel(self, client_transaction: ClientTransaction, *, headers: Iterable[tuple[str, str]] = ()) -> None:
        """CANCEL an INVITE, after its first provisional response (§9.1). Its end comes as its final response."""
        while client_transaction.successor is not None:
            client_transaction = client_transaction.successor
        self._layer.cancel(client_transaction, headers)

    def local_uri(self, destination_or_flow: Destination | Flow, *, request: Request | None = None) -> SipUri:
        """URI at which we are reached from there, for Contact and Record-Route.

        Args:
            request: what came from there; by sips: it is answered with a sips: URI (§12.1.1).
        """
        host, port = self._sent_by(destination_or_flow)
        transport = self._spoken(destination_or_flow.transport)
        if transport == "TLS" and _is_sips(destination_or_flow, request):
            return SipUri("sips", "", host, port)
        params = () if transport == "UDP" else (("transport", transport.lower()),)
        return SipUri("sip", "", host, port, params)

    def _sent_by(self, there: Destination | Flow) -> tuple[str, int]:
        transport = there.transport
        if self._advertise is not None and transport != "TLS":
            return self._advertise
        own = self._listener(transport, there.local[0] if isinstance(there, Flow) else there.host)
        return own if self._advertise is None else (self._advertise[0], own[1])  # TLS has a port of its own

    def _spoken(self, transport: str) -> str:
        """That transport if we speak it at all, else the one that we are reached by."""
        return transport

    def _add_via(self, request: Request, flow: Flow, branch: str) -> None:
        host, port = self._sent_by(flow)
        # rport: our port may be mapped on the way (RFC 3581)
        via = f"SIP/2.0/{flow.transport} {format_host(host)}:{port};branch={branch};rport"
        if flow.transport == "TLS":
            via += ";alias"  # what is for us may come on this connection (RFC 5923)
        if self.overload_control is not None:
            via += self.overload_control.via_params
        request.headers.prepend("Via", via)

    def transmit(self, transaction: Transaction, message: bytes) -> str | None:
        """For the transaction layer."""
        flow = transaction.flow
        assert flow is not None
        reason = self._put(flow, message)
        if reason == CONNECTION_GONE and isinstance(transaction, ServerTransaction):
            reason = self._late.send(transaction, message)
        elif flow.connection is not None and self._late.is_busy and isinstance(transaction, ServerTransaction):
            self._late.note_response(transaction, message)
        if reason is not None:
            self.counters.drops[f"not sent: {reason}"] += 1
        return reason

    def transmit_stateless(self, flow: Flow, message: bytes) -> None:
        """For the transaction layer."""
        reason = self._put(flow, message)
        if reason is not None:
            self.counters.drops[f"not sent: {reason}"] += 1

    def _put(self, flow: Flow, data: bytes) -> str | None:
        reason = self._transmit_bytes(flow, data)
        if self.on_wire is not None and reason is None:
            self.on_wire(WireEvent(self._wall_clock(), "out", flow, data, "ok"))
        return reason


def _is_sips(there: Destination | Flow, request: Request | None) -> bool:
    """Whether RFC 3261 §8.1.1.8 and §12.1.1 ask for a sips: Contact."""
    if request is None:
        return isinstance(there, Destination) and there.is_sips
    decisive = request.record_routes[:1] or request.headers.get_list("contact")[:1]
    return request.uri[:5].lower() == "sips:" or any(
        "<sips:" in text or text.startswith("sips:") for text in map(str.lower, decisive)
    )


def _without_via(request: Request) -> Request:
    """A copy without the Via that we put on top."""
    copy = request.copy()
    copy.headers.pop_value("Via")
    return copy
