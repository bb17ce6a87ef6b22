"""An INVITE with Replaces takes over a dialog of one of our calls (RFC 3891): the end of an attended transfer.

Whoever talked to the agent is replaced by the new caller, and the agent goes on with it.  After a join either party may
be replaced: the new one's description goes to the other as an offer, and the answer back.  The replaced dialog is hung
up once the new one is answered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ims_as.call.agent_call import AgentCall, caller_identity
from ims_as.call.media_description import CallDescription
from ims_as.isc.features import MMTEL_CONTACT_PARAM
from ims_as.media_client import MediaError
from ims_as.sip.body import sdp_of
from ims_as.sip.errors import SdpError
from ims_as.sip.invite_session import InviteSession, SessionEvent
from ims_as.sip.message import Request, build_response
from ims_as.sip.transaction import ServerTransaction

if TYPE_CHECKING:
    from ims_as.call.context import CallContext

__all__ = ["Takeover", "take_over"]


def take_over(context: CallContext, request: Request, transaction: ServerTransaction) -> bool:
    """For the dispatcher: an INVITE with Replaces.

    Returns:
        False when it is not for a dialog of ours, but a call like others: the dialog may be one of the party called.
    """
    found = context.user_agent.find_replaced(request)
    if found is None or found == 481:
        return False
    call = None
    if isinstance(found, InviteSession):
        call = next((each for each in context.calls if isinstance(each, AgentCall) and each.can_replace(found)), None)
    if call is None or not isinstance(found, InviteSession):
        # ours, but over, answered already, or a leg that is still being called
        status = found if isinstance(found, int) else 603
        headers = context.headers.response_headers(request)
        context.endpoint.send_response(transaction, build_response(request, status, headers=headers))
        return True
    Takeover(call, found).begin(request, transaction)
    return True


class Takeover:
    """One INVITE with Replaces; the rest is done in the call's own turn."""

    def __init__(self, call: AgentCall, replaced: InviteSession) -> None:
        self._call = call
        self._replaced = replaced
        self._session: InviteSession | None = None

    def begin(self, request: Request, transaction: ServerTransaction) -> None:
        """The INVITE has come."""
        call, context = self._call, self._call.context
        context.directory.add_leg(call.record, request.call_id)
        in_responses, in_requests = context.headers.call_headers(request)
        self._session = context.user_agent.accept(
            request,
            transaction,
            on_event=self._on_event,
            contact_params=MMTEL_CONTACT_PARAM,
            response_headers=in_responses,
            request_headers=in_requests,
        )
        context.headers.follow_session(self._session, request)
        call.trace("decision", "ims-as", "ims-as", f"{caller_identity(request)} takes over")
        if not call.post("callee", (self, None)):
            self._session.reject(603)

    def close(self) -> None:
        """The call is over before it was this one's turn."""
        if self._session is not None and self._session.is_early:
            self._session.reject(603)

    def _on_event(self, session: InviteSession, event: SessionEvent) -> None:
        if self._call.session is session:
            self._call.on_caller(session, event)
        else:
            self._call.post("callee", (self, event))

    async def receive_callee(self, event: SessionEvent | None) -> None:
        """In the call's turn: the take-over itself (None), then events of the new dialog while it is the far one."""
        call, session = self._call, self._session
        assert session is not None
        join = call.join
        if event is not None:
            if join is not None and join.far.session is session:
                await join.receive(join.far, event)
        elif self._replaced.is_terminated or call.record.termination is not None:
            session.reject(481)
        elif join is not None:
            join.replace(self._replaced, session)
        else:
            await self._replace_caller(session)

    async def _replace_caller(self, session: InviteSession) -> None:
        """The agent goes on with the new caller."""
        call, context = self._call, self._call.context
        leg, request = call.leg, session.request
        if (
            leg is None
            or self._replaced is not call.session
            or (call.handover is not None and call.handover.is_pending)
        ):
            session.reject(491)
            return
        description = CallDescription(
            context.config.media.address, int(context.wall() * 1000), context.codecs, context.srtp
        )
        description.bind(leg.host, leg.port)
        offer = sdp_of(request)
        try:
            body = description.answer_untrusted(offer) if offer else description.offer()
            if description.stream is not None:
                await leg.modify(call.offers.media_of(description.stream))
        except SdpError:
            session.reject(488)
            return
        except MediaError:
            session.reject(503)
            return
        if session.answer(body) and session.is_answered:
            call.change_party(session, description, caller_identity(request), "replaces", invite=request)
        elif call.description.stream is not None:  # it has given up meanwhile
            leg.modify_soon(call.offers.media_of(call.description.stream))
