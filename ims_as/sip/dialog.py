"""Dialogs: identity, route set, sequence numbers, remote target (RFC 3261 §12)."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Final, NamedTuple

from ims_as.sip.errors import SipParseError
from ims_as.sip.header_types import parse_name_addr
from ims_as.sip.message import DEFAULT_MAX_FORWARDS, Message, Request, Response
from ims_as.sip.uri import SipUri

__all__ = ["Dialog", "DialogId", "DialogState"]

FIRST_CSEQ: Final = 1


class DialogId(NamedTuple):
    """RFC 3261 §12: the same on both sides, with the tags exchanged."""

    call_id: str
    local_tag: str
    remote_tag: str


class DialogState(Enum):
    EARLY = "early"
    CONFIRMED = "confirmed"
    TERMINATED = "terminated"


class Dialog:
    """One peer-to-peer relation. Values of the peer are kept as text; nothing here raises on them."""

    __slots__ = (
        "headers",
        "id",
        "is_caller",
        "local",
        "local_cseq",
        "refers_received",
        "remote",
        "remote_cseq",
        "remote_target",
        "route_set",
        "state",
    )

    def __init__(
        self,
        dialog_id: DialogId,
        *,
        local: str,
        remote: str,
        remote_target: str,
        route_set: list[str],
        local_cseq: int,
        remote_cseq: int | None,
        is_caller: bool,
        state: DialogState,
    ) -> None:
        self.id = dialog_id
        self.local = local
        """From of our requests, with our tag."""
        self.remote = remote
        """To of our requests, with the peer's tag."""
        self.remote_target = remote_target
        """Request-URI of our requests."""
        self.route_set = route_set
        """Route values, next hop first, byte for byte as recorded."""
        self.local_cseq = local_cseq
        """Number of the latest request that we sent."""
        self.remote_cseq = remote_cseq
        """Number of the latest request of the peer, None before its first."""
        self.is_caller = is_caller
        """We sent the INVITE that made the dialog."""
        self.state = state
        self.headers: tuple[tuple[str, str], ...] = ()
        """Part of every request of ours in it (P-Charging-Vector, Session-ID)."""
        self.refers_received = 0
        """REFERs accepted in it: all but the first have to name themselves in NOTIFYs (RFC 3515 §2.4.6)."""

    @classmethod
    def from_uas(cls, request: Request, local_tag: str) -> Dialog:
        """The callee's side, §12.1.1: made when a response above 100 is sent."""
        to = request.to
        local = to if to.tag else to.with_tag(local_tag)
        return cls(
            DialogId(request.call_id, local.tag or local_tag, request.from_tag or ""),
            local=str(local),
            remote=str(request.from_),
            remote_target=_target_of(request) or request.from_.uri_text,
            route_set=request.record_routes,
            local_cseq=FIRST_CSEQ - 1,
            remote_cseq=request.cseq.number,
            is_caller=False,
            state=DialogState.EARLY,
        )

    @classmethod
    def from_uac(cls, request: Request, response: Response) -> Dialog:
        """The caller's side, §12.1.2: made by a 101–299 with a To tag; see `confirm`."""
        return cls(
            DialogId(request.call_id, request.from_tag or "", response.to_tag or ""),
            local=str(request.from_),
            remote=str(response.to),
            remote_target=_target_of(response) or request.uri,
            route_set=response.record_routes[::-1],
            local_cseq=request.cseq.number,
            remote_cseq=None,
            is_caller=True,
            state=DialogState.CONFIRMED if response.status >= 200 else DialogState.EARLY,
        )

    def confirm(self, response: Response) -> None:
        """A 2xx to the INVITE: the caller's early dialog becomes a confirmed one with its own route set (§13.2.2.4).

        The sequence numbers stay: requests inside the early dialog have used some.
        """
        self.state = DialogState.CONFIRMED
        self.route_set = response.record_routes[::-1]
        self.update_target(response)

    def build_request(
        self,
        method: str,
        *,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        content_type: str | None = None,
        cseq: int | None = None,
    ) -> Request:
        """A request inside the dialog (§12.2.1.1); takes the next CSeq unless one is given (ACK)."""
        if cseq is None:
            self.local_cseq += 1
            cseq = self.local_cseq
        uri = self.remote_target
        routes = self.route_set
        if routes and not _is_loose(routes[0]):
            # strict router: its URI becomes the Request-URI, the target the last Route
            uri = _without_headers(routes[0])
            routes = [*routes[1:], f"<{self.remote_target}>"]
        items = [("Route", value) for value in routes]
        items += [
            ("Max-Forwards", str(DEFAULT_MAX_FORWARDS)),
            ("From", self.local),
            ("To", self.remote),
            ("Call-ID", self.id.call_id),
            ("CSeq", f"{cseq} {method}"),
        ]
        # of the headers that we may have to say here, only Session-ID is for ACK (RFC 7315 §5.7, RFC 7989 §6)
        items += self.headers if method != "ACK" else (each for each in self.headers if each[0] == "Session-ID")
        items += headers
        if body and content_type is not None:
            items.append(("Content-Type", content_type))
        return Request(method, uri, items, body)

    def accept_cseq(self, request: Request) -> bool:
        """Check and remember the CSeq of a request of the peer; False when it is out of order (§12.2.2: 500)."""
        number = request.cseq.number
        if self.remote_cseq is not None and number < self.remote_cseq:
            return False
        self.remote_cseq = number
        return True

    def update_target(self, message: Message) -> None:
        """Target refresh by the Contact of a re-INVITE, or of its 2xx."""
        target = _target_of(message)
        if target is not None:
            self.remote_target = target


def _target_of(message: Message) -> str | None:
    try:
        contact = message.contact
    except SipParseError:
        return None
    return None if contact is None else contact.uri_text


def _is_loose(route: str) -> bool:
    try:
        uri = parse_name_addr(route).uri
    except SipParseError:
        return True  # keep what was recorded; the endpoint reports that it cannot be reached
    return not isinstance(uri, SipUri) or uri.has_param("lr")


def _without_headers(route: str) -> str:
    """The URI of a Route value as a Request-URI: `method` and headers are not allowed there (§19.1.1)."""
    uri = parse_name_addr(route).uri
    assert isinstance(uri, SipUri)
    plain = uri.without_params("method")
    return str(SipUri(plain.scheme, plain.user, plain.host, plain.port, plain.params, "", plain.password))
