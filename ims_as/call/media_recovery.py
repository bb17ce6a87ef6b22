"""F6: the media worker of a call is lost, and the call goes on with another one.

A port is reserved on another worker at once, in a task beside the call, so that its inbox is not held up; what follows
is done in the call's own turn.  On the same machine it is the same port as before, which the dead worker has left: the
party notices nothing, and the core has no storm of re-INVITEs to bear.  Where that cannot be (it is taken, or the
worker is another machine's) the party is told the new address by one re-INVITE, by UPDATE where it takes no re-INVITE,
or by whatever description goes to it anyway: an answer to an offer of its own, the 200.  The engine is connected again
with its session id while the party hears filler.

Offers of the party that come while there is no port wait for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from ims_as.call.call_quality import start_watching
from ims_as.call.target_policy import queue_of
from ims_as.errors import Result, Termination
from ims_as.media_client import MediaError, MediaLeg
from ims_as.sip.errors import LocalProtocolError
from ims_as.sip.invite_session import (
    InviteSession,
    ReinviteAnswered,
    ReinviteReceived,
    ReinviteRejected,
    SessionEvent,
    UpdateAnswered,
    UpdateReceived,
    UpdateRejected,
)
from media.control import StreamConfig

if TYPE_CHECKING:
    from ims_as.call.agent_call import AgentCall

__all__ = ["MEDIA_LOST", "MediaRecovery"]

MEDIA_LOST: Final = "media-worker-lost"
"""Reason of a termination."""
WATCH_AFTER_S: Final = 1.0
REFUSED: Final = "media-move-refused"
RESERVE_DEADLINE_S: Final = 5.0
"""Without any worker for so long a person is the better answer."""
RESERVE_RETRY_S: Final = 0.1
TELL_RETRY_S: Final = 0.05
TELL_ATTEMPTS: Final = 200
"""Ten seconds: longer than any exchange that the party means to complete."""
FILLER: Final = "builtin:filler"
POISON_MOVES: Final = 3
POISON_S: Final = 60.0
"""A call that has lost so many workers within so long may be what kills them: it is not put on another one."""


class MediaRecovery:
    """Of one call."""

    def __init__(self, call: AgentCall) -> None:
        self._call = call
        self._deferred: list[SessionEvent] = []
        self._lost_at = 0.0
        self._losses: list[float] = []
        self.is_pending = False
        """The leg is lost and there is no other yet."""
        self.is_offering = False
        """An offer that tells of the new address waits for its answer."""
        self.is_attaching = False
        """The engine is being connected again."""

    # ---------------------------------------------------------------- a new leg

    def begin(self) -> None:
        """The worker of our leg is gone."""
        call = self._call
        lost, call.leg = call.leg, None
        if lost is None or lost.stream is None or call.record.termination is not None:
            return
        now = call.context.now()
        self._losses = [*(at for at in self._losses if now - at < POISON_S), now]
        if len(self._losses) >= POISON_MOVES:
            call.trace("decision", "ims-as", "ims-as", f"{len(self._losses)} media workers lost: not moved again")
            self._give_up()
            return
        self.is_pending = True
        self._lost_at = call.context.now()
        call.trace("media", "media", "ims-as", "the media worker is lost")
        call.start_soon(self._reserve, lost.stream, lost)

    async def _reserve(self, stream: StreamConfig, lost: MediaLeg) -> None:
        call, media = self._call, self._call.context.media
        port = lost.port if media.keeps_ports else None
        with trio.move_on_after(RESERVE_DEADLINE_S):
            while True:
                await media.wait_worker()
                try:
                    leg = media.new_leg(call.on_media, stream.codec, is_moving=True)
                    await leg.open(stream, None, port=port)
                except MediaError as error:
                    call.trace("media", "ims-as", "media", f"no other port: {error.code}", error.detail)
                    await trio.sleep(RESERVE_RETRY_S)
                    continue
                if not call.post("media", {"ev": "leg_moved", "moved_to": leg}):
                    leg.discard()
                return
        call.post("media", {"ev": "leg_moved", "moved_to": None})

    def finish(self, leg: MediaLeg | None) -> None:
        """In the call's turn: there is a port again, or there will be none."""
        call = self._call
        self.is_pending = False
        deferred, self._deferred = self._deferred, []
        if call.record.termination is not None or call.join is not None:
            if leg is not None:
                leg.discard()
        elif leg is None:
            self._give_up()
        elif not leg.link.alive:  # that worker has gone as well
            call.leg = leg
            self.begin()
        else:
            self._move(leg)
        for event in deferred:
            call.post("caller", event)

    def _move(self, leg: MediaLeg) -> None:
        call = self._call
        call.leg = leg
        call.record.media_moves += 1
        moved_s = call.context.now() - self._lost_at
        call.context.metrics.media_moves.labels("moved").inc()
        call.context.metrics.media_move_seconds.observe(moved_s)
        call.trace("media", "ims-as", "media", f"port {leg.port} of {leg.link.name} after {moved_s * 1000:.0f} ms")
        stream = call.description.stream
        if stream is not None and (wanted := call.offers.media_of(stream)) != leg.stream:
            leg.modify_soon(wanted)  # agreed while there was no port
        call.describe_again()
        self.tell_party()
        if call.is_bridged:
            return  # there is no engine any more
        agent = call.agent
        if call.is_early or call.is_ringing:
            if agent is not None and agent.answer.clip is not None and call.offers.has_early_media:
                leg.play(agent.answer.clip, loop=True)
        else:
            leg.play(FILLER if agent is None else agent.filler.clip or FILLER, loop=True)
            # its packets come to the new port once it has heard of it
            call.post_later(WATCH_AFTER_S, "retry", lambda: start_watching(call))
        self._attach()
        call.recording.moved()

    def _attach(self) -> None:
        """The engine again: it was lost with the worker."""
        self.is_attaching = True
        self._call.media_events.engine_lost_with_worker()

    def attached(self) -> None:
        """The engine is there."""
        call = self._call
        if self.is_attaching and call.leg is not None and not (call.is_early or call.is_ringing):
            call.leg.stop_play()
        self.is_attaching = False

    def _give_up(self) -> None:
        """No worker at all: the caller's media can still go to a person directly."""
        call = self._call
        call.context.metrics.media_moves.labels("failed").inc()
        call.trace("decision", "ims-as", "ims-as", "no media worker for the call")
        if call.is_early or call.is_ringing:
            call.hang_up(Termination(Result.FAILED, "ims-as", MEDIA_LOST, None))
            return
        if call.is_bridged:
            call.hang_up(Termination(Result.FAILED, "ims-as", MEDIA_LOST, None))
            return
        call.engine_lost = True
        call.hand_over("queue" if queue_of(call) else "served-user", "media worker lost", None, by_agent=False)

    def takes(self, event: SessionEvent) -> bool:
        """Whether it is the outcome of our offer of the new address."""
        outcomes = ReinviteAnswered | ReinviteRejected | UpdateAnswered | UpdateRejected
        return self.is_offering and isinstance(event, outcomes)

    def defers(self, event: SessionEvent) -> bool:
        """Whether an offer of the party waits until there is a port; if so it comes again."""
        leg = self._call.leg
        is_lost = self.is_pending or (leg is not None and not leg.link.alive)  # the latter is about to be told
        if is_lost and isinstance(event, ReinviteReceived | UpdateReceived):
            self._deferred.append(event)
            return True
        return False

    # ---------------------------------------------------------------- the party is told

    def tell_party(self, attempts: int = TELL_ATTEMPTS) -> None:
        """Tells the party of the port if what it knows is another one and no transfer does so anyway."""
        call = self._call
        leg, session, description = call.leg, call.session, call.description
        if leg is None or session is None or session.is_terminated or call.join is not None or call.is_ringing:
            return
        if description.told in (None, (leg.host, leg.port)) or self.is_offering:
            return
        description.bind(leg.host, leg.port)
        if call.handover is not None and call.handover.owns_offers:
            return  # its media goes elsewhere; when it comes back we are offered anew
        if session.is_early and (not session.can_update or description.preconditions is not None):
            return  # after the 200
        if self._offer(session, by_update=session.is_early):
            return
        if attempts > 1:
            call.post_later(TELL_RETRY_S, "retry", lambda: self.tell_party(attempts - 1))
        elif session.is_answered:
            self._refused()

    def _offer(self, session: InviteSession, *, by_update: bool) -> bool:
        """False: not now."""
        description = self._call.description
        try:
            offer = description.offer_again()
        except LocalProtocolError:
            return False
        try:
            if by_update:
                session.update(offer)
            else:
                session.reinvite(offer)
        except LocalProtocolError:
            description.withdraw_offer()
            return False
        self.is_offering = True
        return True

    def _refused(self) -> None:
        """It sends to a port that is gone, and cannot be told."""
        call = self._call
        call.context.metrics.media_moves.labels("refused").inc()
        call.hang_up(Termination(Result.FAILED, call.party, REFUSED, None))

    async def receive(self, event: SessionEvent) -> None:
        """The answer to our offer of the new address."""
        call, session = self._call, self._call.session
        self.is_offering = False
        match event:
            case ReinviteAnswered(body=body) | UpdateAnswered(body=body):
                call.trace("decision", "ims-as", "ims-as", f"the {call.party} knows the new address")
                await call.offers.receive_answer(body)
                self.tell_party()  # another worker may have been lost meanwhile
                return
            case ReinviteRejected(status=status) | UpdateRejected(status=status):
                call.description.abandon_offer()
                call.trace("decision", "ims-as", "ims-as", f"the {call.party} refuses the new address: {status}")
        if session is None or session.is_terminated or session.is_early:
            return
        if isinstance(event, ReinviteRejected) and session.can_update and self._offer(session, by_update=True):
            return
        self._refused()
