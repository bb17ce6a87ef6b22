"""Offer/answer with the caller while it talks to the agent, applied to our media leg for real.

An offer that we cannot use is refused and nothing changes; an exchange that comes to nothing on the way (the media
plane refuses, the caller cancels its re-INVITE) is taken back on both planes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ims_as.call.media_description import stream_config
from ims_as.errors import Result, Termination
from ims_as.media_client import MediaError
from ims_as.sip.errors import LocalProtocolError, SdpError
from ims_as.sip.message import Request
from ims_as.sip.offer_answer import AudioStream

if TYPE_CHECKING:
    from ims_as.call.agent_call import AgentCall

__all__ = ["CallerOffers"]

Accept = Callable[[bytes], bool]
Reject = Callable[[int, list[tuple[str, str]]], object]


class CallerOffers:
    """Re-INVITEs of the caller, and its answers to offers of ours."""

    def __init__(self, call: AgentCall) -> None:
        self._call = call
        self.on_hold = False
        """The caller does not want to hear us."""

    async def receive_reinvite(self, request: Request) -> None:
        """Answers a re-INVITE; one without an offer gets ours."""
        session = self._call.session
        assert session is not None
        if not request.body:
            self._send_offer(session.accept_reinvite, lambda status, _: session.reject_reinvite(status))
            return
        await self.receive_offer(
            request.body,
            session.accept_reinvite,
            lambda status, headers: session.reject_reinvite(status, headers=headers),
        )

    async def receive_offer(self, offer: bytes, accept: Accept, reject: Reject) -> None:
        """Answers an offer, however it came.  ``accept`` returns False when nobody waits for the answer any more."""
        description, leg, before = self._call.description, self._call.leg, self._call.description.stream
        if leg is None:
            reject(500, [])
            return
        try:
            answer = description.answer_untrusted(offer)
        except SdpError as error:
            # the call goes on with what was agreed before (RFC 3261 §14.2)
            reject(488, [("Warning", f'304 ims-as "{str(error)[:80]}"')])
            return
        except LocalProtocolError:
            reject(491, [])
            return
        stream = description.stream
        assert stream is not None
        try:
            await leg.modify(stream_config(stream))
        except MediaError:
            description.withdraw_answer()
            reject(500, [])
            return
        if accept(answer):
            self.note_direction(stream)
            return
        description.withdraw_answer()
        if before is not None:
            leg.modify_soon(stream_config(before))

    def _send_offer(self, accept: Accept, reject: Reject) -> None:
        description = self._call.description
        try:
            offer = description.offer()
        except LocalProtocolError:
            reject(491, [])
            return
        if not accept(offer):
            description.withdraw_offer()

    async def receive_answer(self, answer: bytes) -> None:
        """What the caller says to our offer: in the ACK, as a rule."""
        call = self._call
        description, before = call.description, call.description.stream
        if not description.is_offering or call.leg is None:
            return
        if not answer and before is not None:
            description.withdraw_offer()  # it owes us an answer; what was agreed before still works
            return
        try:
            stream = description.take_answer_untrusted(answer)
            await call.leg.modify(stream_config(stream))
        except SdpError as error:
            call.trace("decision", "ims-as", "ims-as", "the caller's answer cannot be used", str(error))
            call.hang_up(Termination(Result.FAILED, "caller", "answer-unusable", 488))
        except MediaError as error:
            call.hang_up(Termination(Result.FAILED, "ims-as", error.code, None))
        else:
            self.note_direction(stream)

    def note_direction(self, stream: AudioStream) -> None:
        """Tells the engine when the caller has put us on hold, and when it is back."""
        leg = self._call.leg
        held = not stream.direction.sends
        if held == self.on_hold or leg is None:
            return
        self.on_hold = held
        leg.tell_engine({"event": "hold" if held else "resume"})
