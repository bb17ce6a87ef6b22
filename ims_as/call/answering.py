"""From an engine that is ready to the 200: at once, or by way of ringing, early media or the caller's resources.

Configured by the agent's ``answer``, and by what the INVITE asks for.  A caller whose mandatory preconditions are not
met (RFC 3312: its radio bearer is not there yet) is neither alerted nor answered before its UPDATE has said that they
are.  It gets our answer reliably in a 183; what the agent says meanwhile is kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ims_as.call.caller_requests import recv_info
from ims_as.call.duration import limit_duration
from ims_as.call.give_back import unable
from ims_as.call.media_description import stream_config
from ims_as.call.record import CallState
from ims_as.config import AnswerMode
from ims_as.isc.early_media import early_media_response
from ims_as.isc.features import MMTEL_CONTACT_PARAM
from ims_as.sip.body import sdp_of
from ims_as.sip.invite_session import InviteSession
from ims_as.sip.option_tags import RELIABLE, has_tag

if TYPE_CHECKING:
    from ims_as.call.agent_call import AgentCall
    from ims_as.config import AnswerConfig

__all__ = ["Answering"]

PRECONDITION: Final = "precondition"


class Answering:
    """The answer of one call; port and engine are there."""

    def __init__(self, call: AgentCall, config: AnswerConfig) -> None:
        self._call = call
        self._config = config
        self._headers = recv_info(call.request)
        request = call.request
        self._body = b""
        self._is_described = False
        """The caller has our description in a provisional response."""
        self._is_reliable = has_tag(request, "supported", RELIABLE) or has_tag(request, "require", RELIABLE)

    async def run(self) -> bool:
        """True when the caller was answered."""
        call = self._call
        session = self._accept()
        offer = sdp_of(call.request)
        self._describe(offer)
        if call.description.stream is not None:
            call.offers.note_direction(call.description.stream)
        if self._must_wait_for_resources(has_offer=bool(offer)):
            if not await self._wait_for_resources(session):
                return False
        elif self._config.mode is AnswerMode.EARLY_MEDIA and (offer or self._is_reliable):
            session.provisional(183, headers=[*self._headers, *self._authorization()], body=self._body)
            self._note_described()
        if not await self._alert(session):
            return False
        return await self._send_ok(session)

    def _describe(self, offer: bytes) -> None:
        """Our description, to be sent with the 200 at the latest; until it is, it follows the port."""
        call, description = self._call, self._call.description

        def again() -> None:
            assert call.leg is not None
            if offer:
                description.withdraw_answer()
            else:
                description.withdraw_offer()
            description.bind(call.leg.host, call.leg.port)
            self._body = description.answer_untrusted(offer) if offer else description.offer()

        self._body = description.answer_untrusted(offer) if offer else description.offer()
        call.describe_again = again

    def _note_described(self) -> None:
        self._is_described = True
        self._call.describe_again = lambda: None

    def _accept(self) -> InviteSession:
        call, context = self._call, self._call.context
        assert call.leg is not None
        call.description.bind(call.leg.host, call.leg.port)
        in_responses, in_requests = context.headers.call_headers(call.request)
        call.session = context.user_agent.accept(
            call.request,
            call.take_transaction(),
            on_event=call.on_caller,
            contact_params=MMTEL_CONTACT_PARAM,
            response_headers=in_responses,
            request_headers=in_requests,
        )
        context.headers.follow_session(call.session, call.request)
        return call.session

    # ---------------------------------------------------------------- preconditions

    def _must_wait_for_resources(self, *, has_offer: bool) -> bool:
        if not has_offer:  # the caller says in its answer what it needs
            return has_tag(self._call.request, "require", PRECONDITION) and self._is_reliable
        preconditions = self._call.description.preconditions
        return preconditions is not None and not preconditions.is_met

    async def _wait_for_resources(self, session: InviteSession) -> bool:
        """183 with our side of the table, then the caller's UPDATE (RFC 3312 §7)."""
        call = self._call
        preconditions = call.description.preconditions
        if not self._is_reliable or (preconditions is not None and preconditions.unknown):
            unable(call, PRECONDITION, "cannot be met", 580)
            return False
        call.trace("decision", "ims-as", "ims-as", "waits for the caller's resources")
        headers = [("Require", PRECONDITION), *self._headers, *self._authorization()]
        session.provisional(183, headers=headers, body=self._body, reliable=True)
        self._note_described()
        deadline = call.context.now() + self._config.resources_ms / 1000
        if await call.serve(self._has_resources, deadline=deadline):
            return True
        if call.record.termination is None:
            unable(call, PRECONDITION, "the caller's resources did not come", 580)
        return False

    def _has_resources(self) -> bool:
        description = self._call.description
        if description.stream is None or description.is_offering:
            return False
        return description.preconditions is None or description.preconditions.is_met

    # ---------------------------------------------------------------- ringing and early media

    async def _alert(self, session: InviteSession) -> bool:
        """What comes before the 200 by choice; False when the call is over."""
        call, config = self._call, self._config
        if config.mode is AnswerMode.DIRECT:
            return call.record.termination is None
        call.record.state = CallState.RINGING
        deadline = call.context.now() + config.after_ms / 1000
        if config.mode is AnswerMode.EARLY_MEDIA and self._is_described:
            if not await call.serve(lambda: call.description.stream is not None, deadline=deadline):
                return call.record.termination is None  # our offer is not answered yet: nothing can be played
            self._play()
        else:
            session.provisional(180, headers=self._headers)
        await call.serve(lambda: False, deadline=deadline)
        return call.record.termination is None

    def _authorization(self) -> list[tuple[str, str]]:
        """P-Early-Media for a caller's side that knows it (RFC 5009): we send, it need not."""
        if self._config.mode is not AnswerMode.EARLY_MEDIA:
            return []
        header = early_media_response(self._call.request, "sendonly")
        return [] if header is None else [("P-Early-Media", str(header))]

    def _play(self) -> None:
        call = self._call
        stream = call.description.stream
        if call.leg is None or stream is None:
            return
        call.offers.has_early_media = True
        call.leg.modify_soon(call.offers.media_of(stream))
        if self._config.clip is not None:
            call.leg.play(self._config.clip, loop=True)

    # ---------------------------------------------------------------- 200

    async def _send_ok(self, session: InviteSession) -> bool:
        call, context = self._call, self._call.context
        session.answer(self._body, headers=self._headers)
        self._note_described()
        # a reliable provisional response that is not acknowledged holds it back
        if not session.is_answered and not await call.serve(lambda: session.is_answered, deadline=None):
            return False
        stream = call.description.stream
        if call.leg is not None and stream is not None:
            call.leg.modify_soon(stream_config(stream))
        call.record.answered_at = context.wall()
        call.record.state = CallState.TALKING
        limit_duration(call)
        call.recovery.tell_party()
        call.recording.answered()
        setup_ms = call.record.setup_ms
        if setup_ms is not None:
            context.metrics.setup_seconds.observe(setup_ms / 1000)
        return True
