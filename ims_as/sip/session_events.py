"""What an `InviteSession` tells its user. Exactly one of Rejected, Cancelled and Ended comes, and it is the last.

`body` of an event is the session description in its message, out of several parts too, b"" when there is none.
"""

from __future__ import annotations

from typing import Literal

import attrs

from ims_as.sip.body import sdp_of
from ims_as.sip.message import Request, Response
from ims_as.sip.transaction import ServerTransaction

__all__ = [
    "Acked",
    "Answered",
    "Cancelled",
    "EarlyDialogEnded",
    "Ended",
    "Pracked",
    "Provisional",
    "ReinviteAnswered",
    "ReinviteReceived",
    "ReinviteRejected",
    "Rejected",
    "RequestReceived",
    "SessionEvent",
    "UpdateAnswered",
    "UpdateReceived",
    "UpdateRejected",
]


class _OfRequest:
    __slots__ = ()
    request: Request

    @property
    def body(self) -> bytes:
        return sdp_of(self.request)


class _OfResponse:
    __slots__ = ()
    response: Response

    @property
    def body(self) -> bytes:
        return sdp_of(self.response)


@attrs.frozen(slots=True)
class Provisional(_OfResponse):
    """Caller: a provisional response above 100."""

    response: Response
    needs_prack: bool = False
    """It is reliable and its body an offer: `InviteSession.prack` sends the answer. Other reliable ones are
    acknowledged inside."""

    @property
    def to_tag(self) -> str | None:
        """Which early dialog it belongs to."""
        return self.response.to_tag

    @property
    def is_reliable(self) -> bool:
        """RFC 3262: its session description is an offer or an answer, not a preview."""
        return "rseq" in self.response.headers


@attrs.frozen(slots=True)
class EarlyDialogEnded:
    """Caller: one of the early dialogs is over (199, RFC 6228); the others go on."""

    to_tag: str
    response: Response | None


@attrs.frozen(slots=True)
class Answered(_OfResponse):
    """Caller: the call was answered."""

    response: Response
    needs_ack: bool = False
    """The 2xx holds an offer: `InviteSession.ack` sends the answer. Otherwise the ACK is sent already."""


@attrs.frozen(slots=True)
class Rejected:
    """Caller, final: the call did not come about."""

    status: int
    """Of the response; 408 on timeout, 503 when it could not be sent, 487 when cancelled."""
    response: Response | None


@attrs.frozen(slots=True)
class Cancelled:
    """Callee, final: the caller gave up; 487 is sent."""

    request: Request
    """The CANCEL."""


@attrs.frozen(slots=True)
class Pracked:
    """Callee: a reliable provisional response was acknowledged."""

    request: Request
    """The PRACK."""
    body: bytes = b""
    """The answer to the offer that our response made; an offer in the PRACK comes as `UpdateReceived`."""


@attrs.frozen(slots=True)
class Acked(_OfRequest):
    """The ACK of our 200 to the INVITE or a re-INVITE; with the answer when the 200 held our offer."""

    request: Request


@attrs.frozen(slots=True)
class ReinviteReceived(_OfRequest):
    """To be answered with `accept_reinvite` or `reject_reinvite`."""

    request: Request
    """Its body may be empty: an offer is asked for, and the answer comes as `Acked.body`."""


@attrs.frozen(slots=True)
class ReinviteAnswered(_OfResponse):
    """Our re-INVITE was accepted.

    It comes without being asked for when a session refresh (RFC 4028) brought another description of the peer.
    """

    response: Response
    needs_ack: bool = False
    """The 2xx holds an offer: `InviteSession.ack` sends the answer. Otherwise the ACK is sent already."""


@attrs.frozen(slots=True)
class ReinviteRejected:
    """Our re-INVITE failed; the session goes on as it was (unless Ended follows: 408, 481)."""

    status: int
    response: Response | None


@attrs.frozen(slots=True)
class UpdateReceived(_OfRequest):
    """An offer in an UPDATE, or in a PRACK: to be answered at once with `accept_update` or `reject_update`."""

    request: Request


@attrs.frozen(slots=True)
class UpdateAnswered(_OfResponse):
    """Our UPDATE was accepted."""

    response: Response


@attrs.frozen(slots=True)
class UpdateRejected:
    """Our UPDATE failed; the session goes on as it was (unless its end follows: 408, 481)."""

    status: int
    response: Response | None


@attrs.frozen(slots=True)
class RequestReceived:
    """Another request inside the dialog; `InviteSession.respond` in the callback, else the default answer goes out."""

    request: Request
    transaction: ServerTransaction


@attrs.frozen(slots=True)
class Ended:
    """Final: a session that was, or a call that we as callee refused, is over."""

    by: Literal["remote", "local", "timeout", "failure"]
    request: Request | None
    """The peer's BYE, if that was it."""
    reason: str


SessionEvent = (
    Provisional
    | EarlyDialogEnded
    | Answered
    | Rejected
    | Cancelled
    | Pracked
    | Acked
    | ReinviteReceived
    | ReinviteAnswered
    | ReinviteRejected
    | UpdateReceived
    | UpdateAnswered
    | UpdateRejected
    | RequestReceived
    | Ended
)
