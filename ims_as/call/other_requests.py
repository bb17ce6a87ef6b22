"""Requests outside of dialogs that are not INVITE.

A request that came over ISC about somebody (a Route with the original dialog identifier is left after ours) goes on by
that Route untouched, whatever it asks: it is for the user, not for us. What is addressed to us is answered:

=================== ================================================================================================
REGISTER            200, always: the S-CSCF's third-party registration (TS 24.229 §5.7.1.1). Never passed on.
OPTIONS             200 with what we can, 503 where no call could be served now; 420 for an unknown Require.
SUBSCRIBE, PUBLISH  489 with Allow-Events: we tell of no package outside of a call (RFC 6665 §4.2.1.1, RFC 3903 §6).
NOTIFY, INFO, PRACK 481: they belong to a dialog or a subscription, and there is none (RFC 6665 §4.1.3, RFC 3261
UPDATE              §12.2.2).
MESSAGE             405: an agent hears and speaks, it has no text. 405 and not 415, since no type would do; not 202,
                    since nobody would ever read it (RFC 3428 §7).
REFER               403: only the two parties of a call may refer one of us (RFC 3515 §5).
any other           501 (RFC 3261 §8.2.1).
=================== ================================================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from ims_as.call.failure import reason_header
from ims_as.isc.routing import split_route
from ims_as.sip.message import Request, build_response
from ims_as.sip.transaction import ServerTransaction

if TYPE_CHECKING:
    from ims_as.call.context import CallContext

__all__ = ["OtherRequests"]

ALLOW_EVENTS: Final = "refer"
ACCEPT: Final = "application/sdp, multipart/mixed, application/dtmf-relay, application/dtmf, message/sipfrag"
_REFUSALS: Final = {
    "SUBSCRIBE": 489,
    "PUBLISH": 489,
    "NOTIFY": 481,
    "INFO": 481,
    "PRACK": 481,
    "UPDATE": 481,
    "MESSAGE": 405,
    "REFER": 403,
}

Header = tuple[str, str]


class OtherRequests:
    """Answers them or passes them on.

    Args:
        readiness: whether a call could be served now, and if not, why.
    """

    def __init__(self, context: CallContext, readiness: Callable[[], tuple[bool, list[str]]]) -> None:
        self._context = context
        self._readiness = readiness

    def receive(self, request: Request, transaction: ServerTransaction) -> None:
        """For the dispatcher."""
        context = self._context
        method = request.method
        if method == "REGISTER":
            self._receive_register(request, transaction)
        elif split_route(request, context.is_own_uri).rest:
            context.proxy.forward(request, transaction)
        elif method == "OPTIONS":
            self._answer_options(request, transaction)
        else:
            status = _REFUSALS.get(method, 501)
            headers = self._capabilities() if status in (405, 501) else []
            if status == 489:
                headers.append(("Allow-Events", ALLOW_EVENTS))
            self._respond(request, transaction, status, headers)

    def _receive_register(self, request: Request, transaction: ServerTransaction) -> None:
        context = self._context
        response = context.registrations.receive_register(request, now=context.wall())
        for name, value in context.headers.response_headers(request):
            response.headers.add(name, value)
        context.endpoint.send_response(transaction, response)
        if context.reg_events is not None:
            context.reg_events.note_register(request)

    def _answer_options(self, request: Request, transaction: ServerTransaction) -> None:
        wanted = self._context.user_agent.unsupported(request)
        if wanted:
            self._respond(request, transaction, 420, [("Unsupported", ", ".join(wanted))])
            return
        is_ready, reasons = self._readiness()
        headers = [*self._capabilities(), ("Accept", ACCEPT), ("Allow-Events", ALLOW_EVENTS)]
        if not is_ready:
            headers.append(reason_header("not-ready", ", ".join(reasons)))
        self._respond(request, transaction, 200 if is_ready else 503, headers)

    def _capabilities(self) -> list[Header]:
        """Allow, and whatever else the user agent says of itself."""
        return list(self._context.user_agent.common_headers)

    def _respond(self, request: Request, transaction: ServerTransaction, status: int, headers: list[Header]) -> None:
        context = self._context
        items = [*headers, *context.headers.response_headers(request)]
        context.endpoint.send_response(transaction, build_response(request, status, headers=items))
