"""Offers that the caller makes in mid-call, applied to our media leg for real or refused with the call kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ims_as.call.media_description import stream_config
from ims_as.media_client import MediaError
from ims_as.sip.errors import NoCommonCodecError, SdpError
from ims_as.sip.message import Request

if TYPE_CHECKING:
    from ims_as.call.agent_call import AgentCall

__all__ = ["CallerOffers"]


class CallerOffers:
    """The caller's re-INVITEs while it talks to the agent."""

    def __init__(self, call: AgentCall) -> None:
        self._call = call
        self.on_hold = False
        """The caller does not want to hear us."""

    async def receive_reinvite(self, request: Request) -> None:
        call = self._call
        session, leg = call.session, call.leg
        assert session is not None
        if leg is None:
            session.reject_reinvite(500)
            return
        if not request.body:  # an offer is asked for: ours, unchanged
            session.accept_reinvite(session.local_body)
            return
        try:
            answer = call.description.answer_untrusted(request.body)
        except (SdpError, NoCommonCodecError) as error:
            # the call goes on with what was agreed before (RFC 3261 §14.2)
            session.reject_reinvite(488, headers=[("Warning", f'304 ims-as "{str(error)[:80]}"')])
            return
        stream = call.description.stream
        assert stream is not None
        try:
            await leg.modify(stream_config(stream))
        except MediaError:
            call.description.withdraw_answer()
            session.reject_reinvite(500)
            return
        session.accept_reinvite(answer)
        held = not stream.direction.sends
        if held != self.on_hold:
            self.on_hold = held
            leg.tell_engine({"event": "hold" if held else "resume"})
