"""Matching of messages to transactions: RFC 3261 §17.1.3, §17.2.3, §9.2 (CANCEL), §8.2.2.2 (merged requests).

The layer is the `Driver` of all machines. It does no I/O: `Output.transmit` sends, a clock is given. The number of
transactions is bounded; above it a new request is answered 503 without any state.

Merged requests: §8.2.2.2 compares From tag, Call-ID and CSeq. An application server legitimately sees one request more
than once (originating and terminating criteria, several criteria that name it, its own request on the way back), each
time with another Request-URI or another Route, since the original dialog identifier differs. So Request-URI and Route
are compared too; what then is equal really is a copy that came over two paths, or a loop. A request that was refused is
no longer ongoing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from ims_as.sip.counters import METHODS, SipCounters
from ims_as.sip.errors import SipParseError
from ims_as.sip.flow import Flow
from ims_as.sip.message import Request, Response, build_cancel, build_response
from ims_as.sip.next_hop import response_flow
from ims_as.sip.stateless import ABSORBED, NO_TRANSACTION, TOO_MANY, Refusal, StatelessResponder
from ims_as.sip.timers import TimerConfig, TimerHandle, TimerHeap
from ims_as.sip.transaction import (
    ClientEvent,
    ClientTransaction,
    Event,
    InviteClientTransaction,
    InviteServerTransaction,
    NonInviteClientTransaction,
    NonInviteServerTransaction,
    ServerTransaction,
    State,
    Transaction,
)

__all__ = ["BRANCH_COOKIE", "MAX_TRANSACTIONS", "Output", "TransactionLayer", "TransactionUser"]

BRANCH_COOKIE = "z9hG4bK"
"""RFC 3261 §8.1.1.7."""

MAX_TRANSACTIONS = 200_000
"""Both kinds together. A call leaves about four, for 32 s each: enough for 1,500 calls/s, and about 1 GB at worst."""


class TransactionUser(Protocol):
    """The layer above: user agent, proxy, or what chooses between them."""

    def on_request(self, request: Request, transaction: ServerTransaction) -> None:
        """A new server transaction; never ACK or CANCEL."""

    def on_ack(self, request: Request, flow: Flow) -> None:
        """The ACK of a 2xx; it has no transaction."""

    def on_cancel(self, transaction: ServerTransaction, cancel: Request) -> None:
        """A CANCEL for an INVITE without final response. It has been answered 200; the user answers the INVITE 487."""

    def on_stray_response(self, response: Response, flow: Flow) -> None:
        """A response that matches no client transaction."""


class Output(Protocol):
    """What the layer needs from below."""

    def transmit(self, transaction: Transaction, message: bytes) -> str | None:
        """Send on the transaction's flow without waiting.

        Returns:
            None, or why it can never be sent.
        """

    def transmit_stateless(self, flow: Flow, message: bytes) -> None:
        """Send an answer that no transaction stands behind; its loss is nobody's concern."""

    def new_token(self) -> str:
        """Random text for tags: at least 32 bits of randomness (§19.3)."""


class TransactionLayer:
    """All transactions of an endpoint."""

    def __init__(
        self,
        output: Output,
        *,
        clock: Callable[[], float],
        timers: TimerConfig,
        counters: SipCounters,
        max_transactions: int = MAX_TRANSACTIONS,
    ) -> None:
        self.user: TransactionUser | None = None
        self.timers = timers
        self.heap = TimerHeap()
        self.counters = counters
        self.now = clock
        self.on_deadline: Callable[[float], None] | None = None
        """Told of every newly scheduled time, so that a sleeping timer task can be woken earlier."""
        self.stateless = StatelessResponder(output.new_token().encode())
        """Asked before a server transaction is made."""
        self._output = output
        self._max_transactions = max_transactions
        self._clients: dict[tuple[str, str], ClientTransaction] = {}
        self._servers: dict[object, ServerTransaction] = {}
        self._merges: dict[object, ServerTransaction] = {}

    # ---------------------------------------------------------------- Driver

    def call_at(self, when: float, callback: Callable[[], object]) -> TimerHandle:
        handle = self.heap.schedule(when, callback)
        if self.on_deadline is not None:
            self.on_deadline(when)
        return handle

    def call_about(self, when: float, callback: Callable[[], object]) -> TimerHandle:
        handle = self.heap.schedule_about(when, callback)
        if self.on_deadline is not None:
            self.on_deadline(handle.when)
        return handle

    def transmit(self, transaction: Transaction, message: bytes, *, is_retransmission: bool) -> None:
        if is_retransmission:
            method = transaction.request.method
            self.counters.retransmissions_out[method if method in METHODS else "other"] += 1
        reason = self._output.transmit(transaction, message)
        if reason is not None and isinstance(transaction, ClientTransaction):
            # later: the machine is in the middle of a step, its user perhaps in the middle of send_request
            self.call_at(self.now(), lambda: transaction.receive_transport_error(reason))

    def deliver_ack(self, transaction: InviteServerTransaction, ack: Request) -> None:
        assert self.user is not None
        self.user.on_ack(ack, transaction.flow)

    def forget(self, transaction: Transaction) -> None:
        if isinstance(transaction, ClientTransaction):
            del self._clients[transaction.key]  # type: ignore[arg-type]
        else:
            assert isinstance(transaction, ServerTransaction)
            del self._servers[transaction.key]
            merge_key = transaction.merge_key
            if merge_key is not None and self._merges.get(merge_key) is transaction:
                del self._merges[merge_key]

    # ---------------------------------------------------------------- client side

    @property
    def n_clients(self) -> int:
        return len(self._clients)

    @property
    def n_servers(self) -> int:
        return len(self._servers)

    def create_client(
        self, request: Request, branch: str, on_event: Callable[[ClientEvent], None]
    ) -> ClientTransaction:
        """A transaction in state INITIAL; `start_client` sends the request."""
        kind = InviteClientTransaction if request.method == "INVITE" else NonInviteClientTransaction
        key = (branch, request.method)
        transaction = self._clients[key] = kind(request, self, key, on_event)
        return transaction

    def start_client(self, transaction: ClientTransaction, flow: Flow, message: bytes) -> None:
        """The next hop is known: send."""
        if transaction.state is not State.INITIAL:
            return
        if transaction.is_cancelled:
            transaction.receive_transport_error("cancelled before it was sent")
            return
        transaction.flow = flow
        transaction.message = message
        transaction.fire(Event.START)

    def cancel(self, transaction: ClientTransaction, headers: Iterable[tuple[str, str]] = ()) -> None:
        """CANCEL an INVITE: now, or as soon as a provisional response allows it (§9.1); too late does nothing."""
        if transaction.request.method != "INVITE" or transaction.is_cancelled:
            return
        if transaction.state in (State.INITIAL, State.CALLING, State.PROCEEDING):
            transaction.is_cancelled = True
            transaction.cancel_headers = tuple(headers)
            if transaction.state is State.PROCEEDING:
                self._send_cancel(transaction)

    def _send_cancel(self, invite: ClientTransaction) -> None:
        assert invite.flow is not None
        cancel = build_cancel(invite.request)
        for name, value in invite.cancel_headers:
            cancel.headers.add(name, value)
        branch = invite.key[0]  # type: ignore[index]
        transaction = self.create_client(cancel, branch, _ignore)
        self.counters.requests_out["CANCEL"] += 1
        self.start_client(transaction, invite.flow, cancel.to_bytes())
        invite.fire(Event.CANCEL)

    def expects(self, response: Response) -> bool:
        """Whether it answers a request of ours."""
        return (response.via.branch or "", response.cseq.method) in self._clients

    def receive_response(self, response: Response, flow: Flow) -> None:
        """A parsed response from the wire."""
        via = response.via
        method = response.cseq.method
        transaction = self._clients.get((via.branch or "", method))
        if transaction is None:
            self.counters.drops["stray response"] += 1
            assert self.user is not None
            self.user.on_stray_response(response, flow)
            return
        was_calling = transaction.state is State.CALLING
        transaction.receive_response(response)
        if was_calling and transaction.is_cancelled and transaction.state is State.PROCEEDING:
            self._send_cancel(transaction)

    def receive_unreachable(self, branch: str, method: str, remote: tuple[str, int]) -> None:
        """A datagram with that request did not reach that address: it has failed, unless somebody has answered it."""
        transaction = self._clients.get((branch, method))
        if transaction is None or transaction.state not in (State.CALLING, State.TRYING):
            return
        flow = transaction.flow
        if flow is not None and flow.connection is None and flow.remote == remote:
            self.counters.drops["not sent: unreachable"] += 1
            transaction.receive_transport_error("unreachable")

    def receive_connection_lost(self, connection: int, reason: str) -> None:
        """A stream broke: what waits for a response on it has failed (§17.1.4)."""
        for transaction in list(self._clients.values()):
            if transaction.flow is not None and transaction.flow.connection == connection:
                transaction.receive_transport_error(reason)

    # ---------------------------------------------------------------- server side

    def find_early_refusal(self, request: Request, flow: Flow) -> Refusal | None:
        """What an INVITE is refused with that has not been looked into yet; for an ACK: that of the refused INVITE.

        None: it has to be, and `receive_request` is to be told that the gate was asked. Never raises for what is in it.
        """
        try:
            if request.method == "ACK":
                return ABSORBED if self.stateless.absorbs_ack(request) else None
            if server_key(request, "INVITE") in self._servers:
                return None
            return self.stateless.find_refusal(request, flow, self.now())
        except SipParseError:
            return None  # reading it will tell what is wrong with it

    def receive_request(self, request: Request, flow: Flow, *, is_admitted: bool = False) -> None:
        """A parsed request from the wire; admitted: the gate was asked."""
        method = request.method
        key = server_key(request, "INVITE" if method == "ACK" else method)
        transaction = self._servers.get(key)
        if transaction is not None:
            if method == "ACK":
                if isinstance(transaction, InviteServerTransaction):
                    transaction.receive_ack(request)
                return
            self.counters.retransmissions_in[method if method in METHODS else "other"] += 1
            transaction.receive_request()
            return
        assert self.user is not None
        if method == "ACK":
            if not self.stateless.absorbs_ack(request):
                self.user.on_ack(request, flow)
            return
        if not (is_admitted or method == "CANCEL"):
            refusal = self.stateless.find_refusal(request, flow, self.now())
            if refusal is not None:
                self.refuse_statelessly(request, flow, refusal)
                return
        if len(self._servers) + len(self._clients) >= self._max_transactions:
            self.refuse_statelessly(request, flow, TOO_MANY)
            return
        if method == "CANCEL":
            self._receive_cancel(request, key, flow)
            return
        transaction = self._create_server(request, key, flow)
        if request.to_tag is None:
            merge_key = (
                request.call_id,
                request.from_tag,
                request.cseq.number,
                method,
                request.uri,
                *request.headers.get_all("route"),
            )
            earlier = self._merges.get(merge_key)
            if earlier is not None and earlier.status < 300:
                self.counters.drops["merged request"] += 1
                self.send_response(transaction, build_response(request, 482))
                return
            transaction.merge_key = merge_key
            self._merges[merge_key] = transaction
        is_taken = False
        try:
            self.user.on_request(request, transaction)
            is_taken = True
        finally:
            # an INVITE that met a bug must not look as if it were being worked on: the S-CSCF goes on after a 500
            if not is_taken and not transaction.is_answered:
                self.send_response(transaction, build_response(request, 500))
            if transaction.state is State.INITIAL:
                transaction.fire(Event.START)

    def _create_server(self, request: Request, key: object, flow: Flow) -> ServerTransaction:
        """A transaction in state INITIAL: to be answered at once, or to be started."""
        back = response_flow(flow, request.via)
        tag = self._output.new_token()
        transaction: ServerTransaction
        if request.method == "INVITE":
            transaction = InviteServerTransaction(request, self, key, back, tag, self._build_trying)
        else:
            transaction = NonInviteServerTransaction(request, self, key, back, tag)
        self._servers[key] = transaction
        return transaction

    def _receive_cancel(self, cancel: Request, key: object, flow: Flow) -> None:
        invite = self._servers.get(server_key(cancel, "INVITE"))
        if invite is None:
            self.refuse_statelessly(cancel, flow, NO_TRANSACTION)
            return
        transaction = self._create_server(cancel, key, flow)
        transaction.to_tag = invite.to_tag  # §9.2: the To tag of the responses to the INVITE
        self.send_response(transaction, build_response(cancel, 200))
        if not invite.is_answered and not invite.is_cancelled:
            invite.is_cancelled = True
            assert self.user is not None
            self.user.on_cancel(invite, cancel)

    def send_response(self, transaction: ServerTransaction, response: Response) -> bool:
        """Send a response of the user; a To tag is added where it is missing (§8.2.6.2).

        Returns:
            False when the transaction has had its final response or has ended: nothing is sent.
        """
        status = response.status
        if transaction.is_answered and not (transaction.status < 300 and 200 <= status < 300):
            return False
        # most have one: that is seen without parsing
        if status > 100 and ";tag=" not in (response.headers.get("to") or "") and response.to_tag is None:
            response.headers.set("To", str(response.to.with_tag(transaction.to_tag)))
        is_sent = transaction.send_response(status, response.to_bytes())
        if is_sent:
            self.counters.responses_out[status] += 1
        return is_sent

    def _build_trying(self, request: Request) -> bytes:
        self.counters.responses_out[100] += 1
        return build_response(request, 100).to_bytes()

    def refuse(self, transaction: ServerTransaction, refusal: Refusal) -> None:
        """Answer a request that was just handed to the user, and forget it: a copy would get the same answer again."""
        if transaction.state is not State.INITIAL:
            self.send_response(transaction, build_response(transaction.request, refusal.status))
            return
        transaction.state = State.TERMINATED
        self.forget(transaction)
        self.refuse_statelessly(transaction.request, transaction.flow, refusal)

    def refuse_statelessly(self, request: Request, flow: Flow, refusal: Refusal) -> None:
        """Answer without keeping anything (§8.2.7); counted under the refusal's reason."""
        self.counters.refusals[refusal.reason] += 1
        if refusal.status:
            self.counters.responses_out[refusal.status] += 1
            back = response_flow(flow, request.via)
            self._output.transmit_stateless(back, self.stateless.build(request, refusal))


def server_key(request: Request, method: str) -> object:
    """The identity of a server transaction (§17.2.3); the same for an INVITE, its CANCEL and its failure's ACK."""
    via = request.via
    branch = via.branch
    if branch is not None and branch.startswith(BRANCH_COOKIE) and len(branch) > len(BRANCH_COOKIE):
        return branch, via.host.lower(), via.port or 0, method
    # a client of RFC 2543: the To tag is left out, since the ACK has one that the INVITE had not
    top = (via.host.lower(), via.port or 0, branch)
    return request.uri, request.from_tag, request.call_id, request.cseq.number, top, method


def _ignore(event: ClientEvent) -> None:
    """What becomes of a CANCEL does not matter: the INVITE's own final response does."""
