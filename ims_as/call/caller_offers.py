"""Offer/answer with the caller while it talks to the agent, applied to our media leg for real.

An offer that we cannot use is refused and nothing changes; an exchange that comes to nothing on the way (the media
plane refuses, the caller cancels its re-INVITE) is taken back on both planes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import attrs

from ims_as.call.call_quality import start_watching
from ims_as.call.give_back import unable
from ims_as.call.media_description import stream_config
from ims_as.errors import Result, Termination
from ims_as.media_client import MediaError
from ims_as.sip.errors import LocalProtocolError, SdpError
from ims_as.sip.invite_session import (
    Acked,
    Pracked,
    ReinviteAnswered,
    ReinviteReceived,
    ReinviteRejected,
    SessionEvent,
    UpdateReceived,
)
from ims_as.sip.offer_answer import AudioStream
from media.control import StreamConfig

if TYPE_CHECKING:
    from ims_as.call.agent_call import AgentCall

__all__ = ["CallerOffers"]

RETRY_S: Final = 0.2
RECLAIM_ATTEMPTS: Final = 50
"""Ten seconds: longer than any exchange that the caller means to complete."""

Accept = Callable[[bytes], bool]
Reject = Callable[[int, list[tuple[str, str]]], object]


class CallerOffers:
    """Re-INVITEs of the caller, and its answers to offers of ours."""

    def __init__(self, call: AgentCall) -> None:
        self._call = call
        self.on_hold = False
        """The caller does not want to hear us."""
        self.has_early_media = False
        """It hears us although it is not answered yet."""

    async def receive(self, event: SessionEvent) -> None:
        """An event of the caller's dialog that is about offers; others are none of ours."""
        match event:
            case ReinviteReceived():
                await self._receive_reinvite(event.body)
            case UpdateReceived(request=request):
                await self._receive_update(event.body, request.from_tag or "")
            case Pracked(body=body) if body:
                await self.receive_answer(body)
            case Acked():
                if self._call.record.answered_at is not None:
                    start_watching(self._call)
                await self.receive_answer(event.body)
            case ReinviteAnswered():
                await self._receive_refresh(event.body)
            case ReinviteRejected(status=status) if self._call.description.is_offering:
                self._call.description.abandon_offer()
                self._call.hang_up(Termination(Result.FAILED, "caller", "return-refused", status))

    def reclaim(self, attempts: int = RECLAIM_ATTEMPTS) -> None:
        """Offers ourselves again to a caller whose media has gone elsewhere; an exchange under way is waited for."""
        call = self._call
        assert call.session is not None
        try:
            call.session.reinvite(call.description.offer())
        except LocalProtocolError as error:
            call.description.withdraw_offer()
            if attempts > 1 and not call.session.is_terminated:
                call.post_later(RETRY_S, "retry", lambda: self.reclaim(attempts - 1))
                return
            call.trace("decision", "ims-as", "ims-as", "the caller cannot be taken back", str(error))
            call.hang_up(Termination(Result.FAILED, "ims-as", "return-failed", None))

    async def _receive_reinvite(self, offer: bytes) -> None:
        session = self._call.session
        assert session is not None
        if not offer:  # ours is asked for
            self._send_offer(session.accept_reinvite, lambda status, _: session.reject_reinvite(status))
            return
        await self.receive_offer(
            offer,
            session.accept_reinvite,
            lambda status, headers: session.reject_reinvite(status, headers=headers),
        )

    async def _receive_update(self, offer: bytes, tag: str) -> None:
        session = self._call.session
        assert session is not None
        await self.receive_offer(
            offer,
            lambda body: session.accept_update(body, headers=self._extensions(), to_tag=tag),
            lambda status, headers: session.reject_update(status, headers=headers, to_tag=tag),
        )

    def _extensions(self) -> list[tuple[str, str]]:
        """RFC 3312 §11: a description with mandatory preconditions says so in Require."""
        preconditions = self._call.description.preconditions
        return [] if preconditions is None or not preconditions.is_mandatory else [("Require", "precondition")]

    async def _receive_refresh(self, answer: bytes) -> None:
        """The answer to an offer of ours, or another description that came with the answer to a session refresh."""
        call = self._call
        if call.description.is_offering:
            await self.receive_answer(answer)
            return
        try:
            stream = call.description.reread_untrusted(answer)
            if call.leg is not None:
                await call.leg.modify(self.media_of(stream))
                self.note_direction(stream)
        except (SdpError, MediaError) as error:
            call.trace("decision", "ims-as", "ims-as", "the caller's new description cannot be used", str(error))

    def media_of(self, stream: AudioStream) -> StreamConfig:
        """What the media plane is told: before the answer nothing goes to the caller, unless as early media."""
        if self._call.record.answered_at is not None:
            return stream_config(stream)
        config = stream_config(stream, send=None if self.has_early_media else False)
        return attrs.evolve(config, timeout_ms=0)

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
            await leg.modify(self.media_of(stream))
        except MediaError as error:
            if not error.is_lost:
                description.withdraw_answer()
                reject(500, [])
                return
            # what is agreed is done on another worker, and its port is told in an offer of ours
        if accept(answer):
            self.note_direction(stream)
            return
        description.withdraw_answer()
        if before is not None:
            leg.modify_soon(self.media_of(before))

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
        if not description.is_offering or (call.leg is None and not call.recovery.is_pending):
            return
        if not answer and before is not None:
            description.withdraw_offer()  # it owes us an answer; what was agreed before still works
            return
        try:
            stream = description.take_answer_untrusted(answer)
            if call.leg is not None:
                await call.leg.modify(self.media_of(stream))
        except SdpError as error:
            call.trace("decision", "ims-as", "ims-as", "the caller's answer cannot be used", str(error))
            if call.is_early:
                unable(call, "codec", str(error), 500)
                return
            call.hang_up(Termination(Result.FAILED, "caller", "answer-unusable", 488))
        except MediaError as error:
            if not error.is_lost:  # a lost leg is replaced, with what is agreed now
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
