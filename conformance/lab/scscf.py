"""The S-CSCF of the embedded lab: initial filter criteria, ISC with its original dialog identifier, default handling.

It behaves like Sprout where S-CSCFs differ: the guard ("liveness") timer is 2 s with SESSION_CONTINUED and 4 s with
SESSION_TERMINATED, any response stops it (100 too), and when it fires the branch is cancelled and what it still sends
is dropped.  Default handling applies to silence, 408, 5xx and transport failures, unless a provisional above 100 came,
the request came back on the ODI, or the caller has cancelled (TS 24.229 §5.4.3.2, §5.4.3.3; TS 23.218 §5.2.2).
"Continue" means the request as it was before that AS, at the next criterion; after the last one the registered contact.

It is one S-CSCF for all users: after the originating criteria of the caller come the terminating ones of the callee.
A request is originating when its Route to us has ``orig``, or when it comes from the address of the caller's contact.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import attrs
import trio

from conformance.lab.scscf_chain import (
    AsInvocation,
    ProfileCache,
    ServiceChain,
    ServiceLeg,
    public_identity,
    served_user_header,
)
from conformance.lab.scscf_register import LabRegistrar, route_value
from conformance.lab.scscf_view import view_of
from ifc.engine import Match, evaluate
from ifc.model import RegistrationType, SessionCase
from ims_as.sip.errors import SipParseError
from ims_as.sip.flow import Flow
from ims_as.sip.header_types import parse_name_addr
from ims_as.sip.message import Request, Response, build_response
from ims_as.sip.proxy import ProxyBranch, StatefulProxy
from ims_as.sip.timers import TimerConfig
from ims_as.sip.transaction import ServerTransaction
from ims_as.sip.uri import SipUri, parse_uri
from ims_as.transport.address import ListenAddress
from ims_as.transport.endpoint import Endpoint, WireEvent
from ims_as.transport.resolver import is_ip_address

__all__ = ["LabScscf"]

ODI_PREFIX = "odi_"
MAX_DECISIONS = 20_000
"""The oldest half goes then: a soak run must not fill memory with its own report."""


class LabScscf:
    """S-CSCF on UDP and TCP of one address; implements `TransactionUser`.

    Args:
        profiles: iFC XML (IFCs, ServiceProfile, IMSSubscription …) of a public identity, None for an unknown user.
        contacts: registered users, public identity → contact URI; the others are unregistered.
        hosts: static host names → address and port.
        continued_s: guard timer towards an AS whose criterion says SESSION_CONTINUED or nothing.
        terminated_s: the same with SESSION_TERMINATED.
        port: 0 lets the kernel choose, then on UDP only.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.20",
        port: int = 5060,
        profiles: Callable[[str], bytes | None],
        contacts: Mapping[str, str] | None = None,
        hosts: Mapping[str, tuple[str, int]] | None = None,
        continued_s: float = 2.0,
        terminated_s: float = 4.0,
        timers: TimerConfig | None = None,
        on_wire: Callable[[WireEvent], None] | None = None,
    ) -> None:
        listen = [ListenAddress("udp", host, port)]
        if port:
            listen.append(ListenAddress("tcp", host, port))
        self.endpoint = Endpoint(listen=listen, hosts=hosts, timers=timers, on_wire=on_wire, server_name="lab-scscf")
        self.endpoint.user = self
        self.decisions: list[tuple[float, str]] = []
        """(wall clock, what was decided and why), for the report."""
        self.contacts = {public_identity(impu): uri for impu, uri in (contacts or {}).items()}
        self._hosts = {name.lower(): address for name, address in (hosts or {}).items()}
        self._continued_s = continued_s
        self._terminated_s = terminated_s
        self._proxy = StatefulProxy(self.endpoint)
        self._profiles = ProfileCache(profiles, self._decide)
        self._registrar = LabRegistrar(
            self.endpoint, self._profiles, uri=lambda: self.uri, contacts=self.contacts, decide=self._decide
        )
        self._invocations: dict[str, AsInvocation] = {}

    async def run(self, task_status: trio.TaskStatus[LabScscf] = trio.TASK_STATUS_IGNORED) -> None:
        """Bind and serve until cancelled; `task_status` gets the S-CSCF.  Raises OSError when it cannot bind."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.endpoint.run)
            task_status.started(self)

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens; valid once it runs."""
        bound = self.endpoint.addresses[0]
        return bound.host, bound.port

    @property
    def uri(self) -> str:
        host, port = self.address
        return str(SipUri("sip", "", host, port))

    @property
    def open_invocations(self) -> int:
        """Requests to application servers without final response; 0 when nothing has leaked."""
        return len(self._invocations)

    def register(
        self,
        impu: str,
        *,
        contact: str | None = None,
        expires_s: int = 3600,
        kind: RegistrationType = RegistrationType.INITIAL_REGISTRATION,
    ) -> int:
        """Register a user without a REGISTER of its own, and tell the application servers.

        Args:
            contact: new contact URI; None keeps the one there is.
            expires_s: 0 de-registers.

        Returns:
            How many third-party REGISTERs were sent.
        """
        if expires_s == 0:
            self.contacts.pop(public_identity(impu), None)
            kind = RegistrationType.DE_REGISTRATION
        elif contact is not None:
            self.contacts[public_identity(impu)] = contact
        return self._registrar.register(impu, expires_s=expires_s, kind=kind)

    def _decide(self, text: str) -> None:
        if len(self.decisions) >= MAX_DECISIONS:
            del self.decisions[: MAX_DECISIONS // 2]
        self.decisions.append((time.time(), text))

    # ---------------------------------------------------------------- TransactionUser

    def on_request(self, request: Request, transaction: ServerTransaction) -> None:
        """A new server transaction."""
        clean = request.copy()
        own = self._take_off_own_routes(clean)
        if request.to_tag is not None:
            self._forward_in_dialog(clean, transaction)
        elif request.method == "REGISTER":
            self._respond(transaction, self._registrar.receive_register(request))
        elif request.method == "OPTIONS" and self._is_for_us(clean):
            self._respond(transaction, build_response(request, 200))
        elif (invocation := self._find_invocation(own)) is not None:
            self._resume(clean, transaction, invocation)
        else:
            self._start(clean, transaction, own)

    def on_ack(self, request: Request, flow: Flow) -> None:
        """The ACK of a 2xx, along its Route."""
        clean = request.copy()
        self._take_off_own_routes(clean)
        if not self._is_for_us(clean):
            self._proxy.forward_ack(clean, pop_route=False)

    def on_cancel(self, transaction: ServerTransaction, cancel: Request) -> None:
        """The CANCEL goes where the request went."""
        if not self._proxy.on_cancel(transaction, cancel):
            self._respond(transaction, build_response(transaction.request, 487))

    def on_stray_response(self, response: Response, flow: Flow) -> None:
        """A response whose transaction is over is dropped."""

    def _respond(self, transaction: ServerTransaction, response: Response) -> None:
        self.endpoint.send_response(transaction, response)

    # ---------------------------------------------------------------- Route

    def _own_uri(self, text: str) -> SipUri | None:
        """The URI of a Route value or Request-URI, if it is ours."""
        try:
            uri = parse_name_addr(text).uri
        except SipParseError:
            return None
        if not isinstance(uri, SipUri):
            return None
        host, default_port = self._hosts.get(uri.host.lower(), (uri.host, 5060))
        return uri if (host, uri.port or default_port) == self.address else None

    def _take_off_own_routes(self, request: Request) -> list[SipUri]:
        """Our entries on top of the Route: two when an AS between us and ourselves has not stayed in the dialog."""
        own = []
        while (routes := request.routes) and (uri := self._own_uri(routes[0])) is not None:
            own.append(uri)
            request.headers.pop_value("Route")
        return own

    def _is_for_us(self, request: Request) -> bool:
        return not request.routes and self._own_uri(request.uri) is not None

    def _forward_in_dialog(self, request: Request, transaction: ServerTransaction) -> None:
        if self._is_for_us(request):
            self._respond(transaction, build_response(request, 481))
        else:
            self._proxy.forward(request, transaction, pop_route=False)

    # ---------------------------------------------------------------- initial requests

    def _find_invocation(self, own: list[SipUri]) -> AsInvocation | None:
        token = next((uri.user for uri in own if uri.user.startswith(ODI_PREFIX)), None)
        if token is None:
            return None
        invocation = self._invocations.get(token)
        if invocation is None:
            self._decide(f"{token} is unknown or over: a new request")
        return invocation

    def _start(self, request: Request, transaction: ServerTransaction, own: list[SipUri]) -> None:
        caller = _caller(request)
        has_orig = any(uri.has_param("orig") for uri in own)
        if has_orig or self._is_from_contact(caller, transaction.flow):
            chain = self._chain(caller, is_originating=True)
        else:
            chain = self._chain(request.uri)
        self._decide(
            f"{request.method} {caller} → {request.uri}: {chain.session_case.name}, "
            f"{len(chain.criteria)} criteria of {chain.served_user}"
        )
        self._advance(ServiceLeg(request, transaction, chain))

    def _is_from_contact(self, caller: str, flow: Flow) -> bool:
        contact = self.contacts.get(caller)
        if contact is None:
            return False
        try:
            uri = parse_uri(contact)
        except SipParseError:
            return False
        return isinstance(uri, SipUri) and (uri.host, uri.port or 5060) == flow.remote

    def _chain(self, uri: str, *, is_originating: bool = False) -> ServiceChain:
        identity = public_identity(uri)
        registered = identity in self.contacts
        if is_originating:
            case = SessionCase.ORIGINATING_REGISTERED if registered else SessionCase.ORIGINATING_UNREGISTERED
        else:
            case = SessionCase.TERMINATING_REGISTERED if registered else SessionCase.TERMINATING_UNREGISTERED
        return ServiceChain(identity, case, registered, self._profiles.criteria_of(identity) or ())

    def _resume(self, request: Request, transaction: ServerTransaction, invocation: AsInvocation) -> None:
        """The AS sent the request back on the ODI: on with the next criterion, on the request as it is now."""
        invocation.is_returned = True
        self._stop_guard(invocation)
        chain = invocation.leg.chain
        self._decide(f"{invocation.server_name} sent {request.method} back on {invocation.token}")
        position = invocation.next_position
        if not chain.session_case.is_originating and public_identity(request.uri) != chain.served_user:
            if request.routes:
                self._decide(f"retargeted to {request.uri}, and more Route entries: routed")
                self._proxy.forward(request, transaction, pop_route=False, record_route=f"{self.uri};lr")
                return
            self._decide(f"retargeted to {request.uri}: ORIGINATING_CDIV criteria of {chain.served_user}")
            chain = attrs.evolve(chain, session_case=SessionCase.ORIGINATING_CDIV)
            position = 0
        self._advance(ServiceLeg(request, transaction, chain, position))

    def _advance(self, leg: ServiceLeg) -> None:
        """Test the criteria from the leg's position on; at the end of the originating ones begin the terminating."""
        chain = leg.chain
        view = view_of(leg.request, chain.session_case)
        for position in range(leg.position, len(chain.criteria)):
            matches = evaluate((chain.criteria[position],), view, registered=chain.registered)
            if matches:
                self._invoke(leg, matches[0], position + 1)
                return
        if chain.session_case.is_originating:
            self._advance(ServiceLeg(leg.request, leg.transaction, self._chain(leg.request.uri)))
        else:
            self._deliver(leg)

    def _deliver(self, leg: ServiceLeg) -> None:
        """No criterion is left: the registered contact, or the Request-URI itself where it is an address."""
        request, identity = leg.request, leg.chain.served_user
        contact = self.contacts.get(identity)
        if contact is None and self._is_address(request.uri):
            contact = request.uri
        if contact is None:
            is_known = self._profiles.criteria_of(identity) is not None
            status = 480 if is_known else 404
            self._decide(f"{identity}: {'not registered' if is_known else 'unknown'}: {status}")
            self._respond(leg.transaction, build_response(request, status))
            return
        self._decide(f"{identity}: {request.method} to the contact {contact}")

        def edit(copy: Request) -> None:
            copy.headers.remove("P-Served-User")
            copy.headers.set("P-Called-Party-ID", f"<{request.uri}>")

        self._proxy.forward(
            request, leg.transaction, uri=contact, pop_route=False, record_route=f"{self.uri};lr", edit=edit
        )

    def _is_address(self, uri: str) -> bool:
        try:
            parsed = parse_uri(uri)
        except SipParseError:
            return False
        if not isinstance(parsed, SipUri) or self._own_uri(uri) is not None:
            return False
        return is_ip_address(parsed.host) or parsed.host.lower() in self._hosts

    # ---------------------------------------------------------------- application servers

    def _invoke(self, leg: ServiceLeg, match: Match, next_position: int) -> None:
        endpoint, chain = self.endpoint, leg.chain
        token = f"{ODI_PREFIX}{endpoint.new_tag()}"
        invocation = AsInvocation(token, leg, match.criterion, next_position)
        self._invocations[token] = invocation
        guard_s = self._terminated_s if invocation.is_terminating else self._continued_s
        invocation.guard = endpoint.call_at(endpoint.now() + guard_s, lambda: self._fire_guard(invocation))
        self._decide(
            f"{chain.served_user}: criterion of priority {match.criterion.priority} matches "
            f"({'; '.join(match.reasons)}): {leg.request.method} to {invocation.server_name} with {token}, "
            f"{'SESSION_TERMINATED' if invocation.is_terminating else 'SESSION_CONTINUED'}, guard {guard_s:g} s"
        )
        host, port = self.address
        odi = SipUri("sip", token, host, port, (("lr", None),))
        if chain.session_case.is_originating:
            odi = odi.with_params(orig="")

        def edit(copy: Request) -> None:
            headers = copy.headers
            headers.set_all("Route", [f"{route_value(invocation.server_name)}, <{odi}>", *copy.routes])
            headers.set("P-Served-User", served_user_header(chain))
            if "P-Charging-Vector" not in headers:
                icid = endpoint.new_token()
                headers.add("P-Charging-Vector", f'icid-value="{icid}";orig-ioi="{host}"')

        invocation.branch = self._proxy.forward(
            leg.request,
            leg.transaction,
            pop_route=False,
            record_route=f"{self.uri};lr",
            edit=edit,
            on_response=lambda branch, response: self._receive_from_as(invocation, branch, response),
        )
        if invocation.branch.is_finished:
            self._end(invocation)  # Max-Forwards was used up

    def _receive_from_as(self, invocation: AsInvocation, branch: ProxyBranch, response: Response | None) -> bool:
        """Responses of an AS; True keeps one from the caller."""
        if invocation.is_abandoned:
            return True  # the call goes on without this AS: its late answer reaches nobody
        if invocation.is_over:
            return False  # its 200 again, until the caller's ACK
        if response is None:
            return self._fail(invocation, "no answer, or no way there")
        self._stop_guard(invocation)
        status = response.status
        if status < 200:
            if status > 100:
                invocation.has_provisional = True
            self._decide(f"{invocation.server_name}: {status}, the guard is off")
            return False
        if status == 487 and branch.is_cancelled and not invocation.leg.transaction.is_cancelled:
            return self._fail(invocation, "timer C")  # our own CANCEL: as if 408 had come, RFC 3261 §16.8
        if status == 408 or 500 <= status < 600:
            return self._fail(invocation, f"{status} {response.reason}")
        self._decide(f"{invocation.server_name}: {status} {response.reason}, final")
        self._end(invocation)
        return False

    def _fail(self, invocation: AsInvocation, what: str) -> bool:
        """The AS could not serve the request; True when default handling takes it further."""
        self._end(invocation)
        if (reason := invocation.no_fallback_reason) is not None:
            self._decide(f"{invocation.server_name}: {what} {reason}: no default handling")
            return False
        if invocation.is_terminating:
            self._decide(f"{invocation.server_name}: {what}: SESSION_TERMINATED")
            return False
        self._continue(invocation, what)
        return True

    def _continue(self, invocation: AsInvocation, what: str) -> None:
        invocation.is_abandoned = True
        self._decide(f"{invocation.server_name}: {what}: SESSION_CONTINUED with the request as it was before")
        self._advance(attrs.evolve(invocation.leg, position=invocation.next_position))

    def _fire_guard(self, invocation: AsInvocation) -> None:
        """The AS has said nothing at all in time."""
        invocation.guard = None
        invocation.is_abandoned = True
        self._end(invocation)
        leg = invocation.leg
        if invocation.branch is not None:
            invocation.branch.cancel()
        if leg.transaction.is_cancelled:
            self._decide(f"{invocation.server_name}: silent, and the caller has cancelled: 487")
            self._respond(leg.transaction, build_response(leg.request, 487))
        elif invocation.is_terminating:
            self._decide(f"{invocation.server_name}: silent until the guard fired: SESSION_TERMINATED, 408")
            self._respond(leg.transaction, build_response(leg.request, 408))
        else:
            self._continue(invocation, "silent until the guard fired")

    def _stop_guard(self, invocation: AsInvocation) -> None:
        if invocation.guard is not None:
            invocation.guard.cancel()
            invocation.guard = None

    def _end(self, invocation: AsInvocation) -> None:
        """The transaction towards the AS is over, and the ODI with it."""
        self._stop_guard(invocation)
        invocation.is_over = True
        self._invocations.pop(invocation.token, None)


def _caller(request: Request) -> str:
    """Identity of the caller: P-Asserted-Identity, else From."""
    for value in request.headers.get_list("P-Asserted-Identity"):
        try:
            return public_identity(parse_name_addr(value).uri_text)
        except SipParseError:
            continue
    return public_identity(request.from_.uri_text)
