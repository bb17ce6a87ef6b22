"""What an `InviteSession` tells its user. Exactly one of Rejected, Cancelled and Ended comes, and it is the last."""

from __future__ import annotations

from typing import Literal

import attrs

from ims_as.sip.message import Request, Response
from ims_as.sip.transaction import ServerTransaction

__all__ = [
    "Acked",
    "Answered",
    "Cancelled",
    "Ended",
    "Provisional",
    "ReinviteAnswered",
    "ReinviteReceived",
    "ReinviteRejected",
    "Rejected",
    "RequestReceived",
    "SessionEvent",
]


@attrs.frozen(slots=True)
class Provisional:
    """Caller: a provisional response above 100."""

    response: Response


@attrs.frozen(slots=True)
class Answered:
    """Caller: the call was answered and the ACK is sent."""

    response: Response


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
class Acked:
    """Callee: the ACK of our 200 to the INVITE or a re-INVITE."""

    request: Request


@attrs.frozen(slots=True)
class ReinviteReceived:
    """To be answered with `accept_reinvite` or `reject_reinvite`."""

    request: Request
    """Its body may be empty: an offer is asked for."""


@attrs.frozen(slots=True)
class ReinviteAnswered:
    """Our re-INVITE was accepted; the ACK is sent."""

    response: Response


@attrs.frozen(slots=True)
class ReinviteRejected:
    """Our re-INVITE failed; the session goes on as it was (unless Ended follows: 408, 481)."""

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
    | Answered
    | Rejected
    | Cancelled
    | Acked
    | ReinviteReceived
    | ReinviteAnswered
    | ReinviteRejected
    | RequestReceived
    | Ended
)
