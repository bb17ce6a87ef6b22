"""The endpoint without its sockets: what `transport.endpoint.Endpoint` does apart from I/O, and what tests join by a
fake link.

Into it go datagrams and stream messages with the flow they came on; out of it come bytes for a flow. It is the one
place where untrusted bytes meet our code: `receive_datagram_untrusted` and `receive_message_untrusted` never raise. A
parse error is answered 400 without state where the message allows it; an error that nobody foresaw drops that message,
is counted by type, and the last few such messages are kept in `guard_samples` to be made into tests.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Final

import attrs

from ims_as.sip.counters import METHODS, SipCounters
from ims_as.sip.errors import LocalProtocolError, SipParseError
from ims_as.sip.flow import Flow
from ims_as.sip.message import Request, Response, build_response
from ims_as.sip.parser import Outline, outline_message_untrusted, read_outline_untrusted
from ims_as.sip.sender import CONNECTION_GONE, RequestNormaliser, Sender, Targets, WireEvent
from ims_as.sip.stateless import Gate, Refusal
from ims_as.sip.timers import TimerConfig
from ims_as.sip.transaction import ServerTransaction
from ims_as.sip.transaction_layer import MAX_TRANSACTIONS, TransactionUser

__all__ = ["CONNECTION_GONE", "EndpointCore", "EndpointStats", "RequestNormaliser", "Targets", "WireEvent"]

MAX_GUARD_SAMPLES: Final = 8
"""Messages kept that met a bug: enough to see more than one, and bounded by the size of a message."""
_BRANCH_RE: Final = re.compile(rb"branch=(z9hG4bK-[0-9a-f]{16,64})[;\r,]")
"""Of our making."""
_MAX_KNOWN_HOSTS: Final = 4096
"""Answers of `is_trusted` kept; above that the table starts anew, so that a scan of spoofed sources cannot fill it."""


@attrs.frozen(slots=True)
class EndpointStats:
    """What is open now; all zero when nothing has leaked."""

    client_transactions: int
    server_transactions: int
    timers: int
    dialogs: int
    connections: int

    @property
    def is_idle(self) -> bool:
        """Nothing but perhaps idle connections is left."""
        return not (self.client_transactions or self.server_transactions or self.timers or self.dialogs)


class EndpointCore(Sender):
    """Transactions, tokens, Via, next hop, trust and the guard. Subclasses bring the network.

    Args:
        clock: monotonic seconds, the clock of all timers.
        wall_clock: seconds since the epoch, for `WireEvent` only.
        token: random lower-case hexadecimal text, at least 64 bits of randomness.
        is_trusted: whether a source IP address may speak to us; others get no answer.
        advertise: host and port for Via and Contact instead of the listener's.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        token: Callable[[], str],
        is_trusted: Callable[[str], bool] | None = None,
        advertise: tuple[str, int] | None = None,
        timers: TimerConfig | None = None,
        on_wire: Callable[[WireEvent], None] | None = None,
        counters: SipCounters | None = None,
        server_name: str = "ims-as",
        max_transactions: int = MAX_TRANSACTIONS,
    ) -> None:
        super().__init__(
            clock=clock,
            wall_clock=wall_clock,
            token=token,
            advertise=advertise,
            timers=timers,
            on_wire=on_wire,
            counters=counters,
            server_name=server_name,
            max_transactions=max_transactions,
        )
        self.guard_samples: deque[bytes] = deque(maxlen=MAX_GUARD_SAMPLES)
        self.dialog_gauges: list[Callable[[], int]] = []
        """Users of the endpoint that hold dialogs add their count here, for `stats`."""
        self.admits_message: Callable[[str], bool] | None = None
        """Asked for each message of a trusted address; what it refuses is dropped unread. None: all are read."""
        self._is_trusted = is_trusted
        self._known_hosts: dict[str, bool] = {}

    @property
    @abstractmethod
    def n_connections(self) -> int:
        """Open stream connections."""

    # ---------------------------------------------------------------- state

    @property
    def user(self) -> TransactionUser | None:
        """Who gets requests; to be set before messages arrive."""
        return self._layer.user

    @user.setter
    def user(self, user: TransactionUser) -> None:
        self._layer.user = user

    @property
    def gate(self) -> Gate | None:
        """Asked for each new request outside of dialogs, before a transaction is made; None: all are let in."""
        return self._layer.stateless.gate

    @gate.setter
    def gate(self, gate: Gate | None) -> None:
        self._layer.stateless.gate = gate

    @property
    def timers(self) -> TimerConfig:
        return self._layer.timers

    @property
    def stats(self) -> EndpointStats:
        layer = self._layer
        dialogs = sum(gauge() for gauge in self.dialog_gauges)
        return EndpointStats(layer.n_clients, layer.n_servers, len(layer.heap), dialogs, self.n_connections)

    def refuse(self, transaction: ServerTransaction, refusal: Refusal) -> None:
        """Answer a request that was just handed to the user without keeping anything of it."""
        self._layer.refuse(transaction, refusal)

    def next_deadline(self) -> float | None:
        return self._layer.heap.next_deadline()

    def handle_timers(self, now: float) -> int:
        """Fire what is due; returns how many timers that were."""
        return self._layer.heap.run_due(now)

    # ---------------------------------------------------------------- receiving

    def is_trusted(self, host: str) -> bool:
        """The allow-list's answer for a source address, remembered."""
        if self._is_trusted is None:
            return True
        answer = self._known_hosts.get(host)
        if answer is None:
            if len(self._known_hosts) >= _MAX_KNOWN_HOSTS:
                self._known_hosts.clear()
            answer = self._known_hosts[host] = self._is_trusted(host)
        return answer

    def forget_trust(self) -> None:
        """The allow-list has changed: ask it anew."""
        self._known_hosts.clear()

    def receive_datagram_untrusted(self, data: bytes, flow: Flow) -> None:
        """One datagram. Never raises: see the module's docstring."""
        try:
            if not self.is_trusted(flow.remote[0]):
                self._drop_stranger(data, flow)
                return
            if self.admits_message is not None and not self.admits_message(flow.remote[0]):
                self.counters.refusals["flood"] += 1
                return
            if len(data) <= 4 and not data.strip(b"\r\n\0"):
                return  # keep-alive of a NAT binding
            try:
                outline = outline_message_untrusted(data)
                may_refuse = (
                    self.normaliser is None
                    and outline.start_line.startswith(("INVITE ", "ACK "))
                    and not self._layer.stateless.is_open
                )
                if may_refuse and self._is_refused(outline, flow):
                    return
                message = read_outline_untrusted(outline)
            except SipParseError as error:
                self.receive_error_untrusted(error, data, flow)
                return
            self._receive(message, data, flow, is_admitted=may_refuse)
        except Exception as error:  # the one guard around untrusted input
            self._note_guard_error(error, data)

    def receive_message_untrusted(self, message: Request | Response, flow: Flow) -> bool:
        """One message from a stream. Never raises.

        Returns:
            False when the message met an unforeseen error: its connection is to be closed.
        """
        data = b""
        if self.admits_message is not None and not self.admits_message(flow.remote[0]):
            self.counters.refusals["flood"] += 1
            return True
        try:
            # a stream's bytes are only wanted by the trace
            data = message.to_bytes() if self.on_wire is not None else b""
            self._receive(message, data, flow)
        except Exception as error:  # the one guard around untrusted input
            self._note_guard_error(error, data or _bytes_of(message))
            return False
        return True

    def receive_error_untrusted(self, error: SipParseError, data: bytes, flow: Flow) -> None:
        """Bytes that are not a message: count, and answer the packet's source where `partial` allows it."""
        self.counters.parse_errors[error.reason] += 1
        if self.on_wire is not None:
            self.on_wire(WireEvent(self._wall_clock(), "in", flow, data, f"rejected:{error.reason}"))
        if error.partial is None:
            return
        to_tag = self._layer.stateless.tag(error.partial)
        response = build_response(error.partial, error.status_hint, error.reason, to_tag=to_tag)
        self.counters.responses_out[error.status_hint] += 1
        self._put(flow, response.to_bytes())

    def receive_unreachable_untrusted(self, data: bytes, remote: tuple[str, int]) -> None:
        """An ICMP error says that a datagram of ours did not reach that address (§18.4). Never raises.

        Args:
            data: the beginning of the datagram, as far as the error quotes it. Anybody can send such errors; only who
                has seen our request knows its branch.
        """
        try:
            branch = _BRANCH_RE.search(data)
            if branch is not None and not data.startswith(b"SIP/"):
                method = data.partition(b" ")[0].decode("ascii", "replace")
                self._layer.receive_unreachable(branch[1].decode(), method, remote)
        except Exception as error:  # the one guard around untrusted input
            self._note_guard_error(error, data)

    def receive_connection_open(self, connection: int) -> None:
        """A stream connection of ours could be opened."""
        self._late.receive_connection_open(connection)

    def receive_connection_lost(self, connection: int, reason: str) -> None:
        """A stream connection broke or could not be opened."""
        try:
            self._layer.receive_connection_lost(connection, reason)
            self._late.receive_connection_lost(connection)
        except Exception as error:  # a bug in what waits on a connection must not cost the others
            self._note_guard_error(error, b"")

    def _is_refused(self, outline: Outline, flow: Flow) -> bool:
        """Refuse an INVITE whose lines are sound before it is looked into, or absorb the ACK of a refusal.

        In overload nearly all messages are of these two kinds; taking them apart would cost more than answering them.
        """
        method, _, rest = outline.start_line.partition(" ")
        request = Request(method, rest.partition(" ")[0], outline.headers)
        refusal = self._layer.find_early_refusal(request, flow)
        if refusal is None:
            return False
        self._note_request(request, outline.data, flow)
        if method == "INVITE":
            self._mark_source(request, flow)
            self._layer.refuse_statelessly(request, flow, refusal)
        return True

    def _note_request(self, request: Request, data: bytes, flow: Flow) -> None:
        if self.on_wire is not None:
            self.on_wire(WireEvent(self._wall_clock(), "in", flow, data, "ok"))
        method = request.method
        self.counters.requests_in[method if method in METHODS else "other"] += 1

    def _receive(self, message: Request | Response, data: bytes, flow: Flow, *, is_admitted: bool = False) -> None:
        if isinstance(message, Request):
            self._note_request(message, data, flow)
            self._mark_source(message, flow)
            if self.normaliser is not None:
                self.normaliser.incoming(message, flow.remote[0])
            self._layer.receive_request(message, flow, is_admitted=is_admitted)
            return
        if self.on_wire is not None:
            self.on_wire(WireEvent(self._wall_clock(), "in", flow, data, "ok"))
        self.counters.responses_in[message.status] += 1
        control = self.overload_control
        if control is not None and ";oc=" in (message.headers.get("via") or "") and self._layer.expects(message):
            control.receive(flow.remote, message.via, now=self.now())
        self._layer.receive_response(message, flow)

    def _mark_source(self, request: Request, flow: Flow) -> None:
        """received and rport in the top Via (§18.2.1, RFC 3581 §4)."""
        via = request.via
        host, port = flow.remote
        marked = via.with_source(host, port) if via.has_rport or via.host != host else via
        if self.overload_control is not None:
            marked = self.overload_control.answer(marked)
        if marked is not via:
            request.headers.replace_value("Via", str(marked))
            request.headers.typed["via"] = marked

    def _drop_stranger(self, data: bytes, flow: Flow) -> None:
        self.counters.drops["untrusted"] += 1
        if self.on_wire is not None:
            self.on_wire(WireEvent(self._wall_clock(), "in", flow, data, "untrusted"))

    def _note_guard_error(self, error: Exception, data: bytes) -> None:
        self.counters.guard_errors[type(error).__name__] += 1
        if data:
            self.guard_samples.append(data)


def _bytes_of(message: Request | Response) -> bytes:
    try:
        return message.to_bytes()
    except (LocalProtocolError, UnicodeError):
        return b""
