"""The INVITE to somebody whom a caller is handed to: a new dialog towards the core, with our bypass token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from ims_as.call.bypass import BYPASS_HEADER
from ims_as.call.referral import referral_headers
from ims_as.call.session_data import handover_headers
from ims_as.call.target_policy import core_route
from ims_as.sip.invite_session import InviteSession, SessionEvent
from ims_as.sip.refer import ReferReceiver

if TYPE_CHECKING:
    from collections.abc import Callable

    from ims_as.call.agent_call import AgentCall

__all__ = ["Callee"]


@attrs.frozen
class Callee:
    """Who is called, and what is said of it.

    Attributes:
        diverted_to: for History-Info; None: it is the served user that the caller called.
        referral: of the party that wants the caller handed on.
    """

    uri: str
    route: str
    reason: str
    data: Any
    diverted_to: str | None = None
    referral: ReferReceiver | None = None

    @classmethod
    def of(
        cls, call: AgentCall, uri: str, reason: str, data: Any, diverted_to: str | None, referral: ReferReceiver | None
    ) -> Callee | None:
        """None: there is no way into the core."""
        route = core_route(call)
        return None if route is None else cls(uri, route, reason, data, diverted_to, referral)

    def invite(
        self, call: AgentCall, offer: bytes, on_event: Callable[[InviteSession, SessionEvent], None]
    ) -> InviteSession:
        """Calls it; the session."""
        context = call.context
        call_id = context.endpoint.new_call_id()
        call.record.outgoing_call_id = call_id
        context.directory.add_leg(call.record, call_id)  # first, so that the INVITE itself is in the trail
        session = context.user_agent.invite(
            uri=self.uri,
            from_=str(call.party_request.from_),
            to=f"<{self.uri}>",
            route=[self.route],
            headers=self._headers(call),
            body=offer,
            on_event=on_event,
            call_id=call_id,
        )
        call.trace("decision", "ims-as", "ims-as", f"calls {self.uri}: {self.reason}")
        return session

    def _headers(self, call: AgentCall) -> list[tuple[str, str]]:
        context = call.context
        token = context.bypass.issue(self.uri, context.endpoint.new_branch(), now=context.wall())
        reason = self.reason if not isinstance(self.data, dict) else str(self.data.get("reason", self.reason))
        return [
            *context.headers.copy_for_new_leg(call.party_request, self.diverted_to),
            (BYPASS_HEADER, token),
            *handover_headers(call.record.id, reason, api_base=context.api_base),
            *(referral_headers(self.referral) if self.referral is not None else ()),
        ]
