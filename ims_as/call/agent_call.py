"""One call joined to an AI agent: from the INVITE to the recorded termination.

``CallSetup`` answers it or not.  Then one inbox takes what happens to the call (the caller's dialog, the media worker,
the callee of a handover) in order, so nothing here runs at the same time as anything else of the same call, except
waiting for an engine.  ``close`` releases the port and the engine whatever happened, and runs once.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import trio

from ims_as.call.call_quality import note_media
from ims_as.call.call_recording import CallRecording
from ims_as.call.call_setup import CallSetup
from ims_as.call.caller_offers import CallerOffers
from ims_as.call.caller_requests import CallerDigits, CallerRequests
from ims_as.call.context import CallContext
from ims_as.call.engine_chain import EngineChain
from ims_as.call.give_back import unable
from ims_as.call.join import Join
from ims_as.call.media_description import CallDescription
from ims_as.call.media_events import MediaEvents
from ims_as.call.media_recovery import MEDIA_LOST, MediaRecovery
from ims_as.call.profile import UserProfile
from ims_as.call.record import CallRecord, CallState
from ims_as.call.refer_out import start_handover
from ims_as.call.referral import AgentMove
from ims_as.call.transfer import Handover
from ims_as.call.transfer_attempt import TransferAttempt
from ims_as.config import AgentConfig
from ims_as.errors import Result, Termination
from ims_as.isc.identity import read_asserted_identities_untrusted
from ims_as.isc.routing import IscRoute
from ims_as.isc.served_user import ServedUser
from ims_as.media_client import MediaLeg
from ims_as.sip.errors import SipParseError
from ims_as.sip.invite_session import (
    Cancelled,
    Ended,
    InviteSession,
    Rejected,
    RequestReceived,
    SessionEvent,
)
from ims_as.sip.message import Request, build_response
from ims_as.sip.refer import ReferReceiver
from ims_as.sip.transaction import ServerTransaction

__all__ = ["API_HANGUP", "AgentCall"]

API_HANGUP = "api"
"""For ``shut_down``: somebody asked for it over the API."""

INBOX_SIZE = 512
"""Far above what a call produces between two turns of its task; beyond it the newest event is dropped and counted."""
CLOSE_DEADLINE_S = 3.0
FORMER_PARTY_S = 5.0
"""A party that has referred the agent to another hangs up itself when it is told that this worked (RFC 5589 §5)."""


class AgentCall:
    """A terminating-UA call (TS 23.218 §9.1.1.1) that may become a B2BUA when the caller is handed over."""

    party = "caller"
    """Who is at the other end of ``session``."""

    def __init__(
        self,
        context: CallContext,
        request: Request,
        transaction: ServerTransaction | None,
        record: CallRecord,
        served: ServedUser,
        route: IscRoute,
    ) -> None:
        self.context = context
        self.request = request
        self.record = record
        self.served = served
        self.route = route
        self.received = context.now()
        self.profile = UserProfile()
        self.agent_name = ""
        self.agent: AgentConfig | None = None
        self.session: InviteSession | None = None
        self.leg: MediaLeg | None = None
        self.engines: EngineChain | None = None
        self.engine_lost = False
        self.handover: TransferAttempt | None = None
        self.application_data: Mapping[str, Any] | None = None
        """For the engine, from whoever ordered the call."""
        self.join: Join | None = None
        """Set once the caller talks to somebody else directly."""
        self.description = CallDescription(
            context.config.media.address, int(record.received_at * 1000), context.codecs, context.srtp
        )
        self.offers = CallerOffers(self)
        self.digits = CallerDigits(self)
        self.recording = CallRecording(self)
        self.is_watched = False
        """Audio is expected both ways."""
        self.dropped_events = 0
        self._former: list[InviteSession] = []
        self._party_request: Request | None = None
        self._requests = CallerRequests(self)
        self.media_events = MediaEvents(self)
        self.recovery = MediaRecovery(self)
        self.describe_again: Callable[[], None] = _nothing
        """Set while a description of ours has been made but not sent: makes it anew when the port has changed."""
        self._transaction = transaction
        self._scope = trio.CancelScope()
        self._nursery: trio.Nursery | None = None
        self._inbox_in, self._inbox = trio.open_memory_channel[tuple[str, Any]](INBOX_SIZE)

    # ---------------------------------------------------------------- life

    async def run(self) -> None:
        """Runs the call to its end.  An unforeseen error ends this call alone, and is counted."""
        try:
            with self._scope:
                async with trio.open_nursery() as self._nursery:
                    # a CANCEL may have come before this task
                    if self.record.termination is None and await self._set_up():
                        await self._converse()
                    self._nursery.cancel_scope.cancel()
        except Exception as error:  # the guard around one call
            self.context.metrics.guard_errors.labels("call").inc()
            self.context.log.event("CALL_FAILED", call_id=self.record.id, error=repr(error))
            self.end(Termination(Result.FAILED, "ims-as", "internal-error", 500))
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_DEADLINE_S):
                await self.close()
            self._let_go()

    def _let_go(self) -> None:
        """Cuts the circles among the parts of the call, which is over: so it is freed now, not by the collector."""
        self._nursery = None
        self.engines = self.handover = self.join = None
        del self.offers, self.digits, self.recording, self._requests
        del self.media_events, self.recovery, self.describe_again

    async def _set_up(self) -> bool:
        """False when the call is over already."""
        return await CallSetup(self).run()

    @property
    def is_ringing(self) -> bool:
        """A call of ours that is not answered yet."""
        return self.record.direction == "outbound" and self.record.answered_at is None

    @property
    def is_early(self) -> bool:
        """A call to us for which a session was made, but no 200 sent."""
        return self.session is not None and not self.session.is_caller and self.session.is_early

    @property
    def party_request(self) -> Request:
        """What is known of whom the agent talks to, as an INVITE of that party: for the leg of a handover."""
        return self.request if self._party_request is None else self._party_request

    def end(self, termination: Termination) -> None:
        """Records who ended the call and why; the first word counts."""
        if self.record.termination is None:
            self.record.termination = termination

    def receive_cancel(self, transaction: ServerTransaction, cancel: Request) -> None:
        """CANCEL while the INVITE is neither answered nor handed on (RFC 3261 §9.2)."""
        self.trace("decision", "ims-as", "ims-as", "cancelled by the caller")
        if self._transaction is None:
            return
        self._transaction = None
        self._refuse(transaction, 487)
        self.end(Termination(Result.CANCELLED, "caller", "cancel", 487))
        self._scope.cancel()

    def shut_down(self, reason: str) -> None:
        """Ends the call from our side (drain deadline, process end)."""
        if self._transaction is None:
            self.post("local", reason)
            return
        unable(self, reason, "", 503)  # nobody takes from the inbox yet, and it must not be answered first
        self._scope.cancel()

    def take_transaction(self) -> ServerTransaction:
        """The INVITE's transaction; from now on the taker answers it."""
        transaction = self._transaction
        assert transaction is not None
        self._transaction = None
        return transaction

    def start_soon(self, task: Callable[..., Awaitable[object]], *arguments: object) -> None:
        """A task that ends with the call at the latest."""
        if self._nursery is not None:
            self._nursery.start_soon(task, *arguments)

    def post(self, source: str, event: Any) -> bool:
        """Puts an event into the call's inbox; False when the call is over, or the inbox full."""
        try:
            self._inbox_in.send_nowait((source, event))
        except trio.WouldBlock:
            self.dropped_events += 1
            self.context.metrics.guard_errors.labels("inbox").inc()
            if _is_last(source, event):  # nothing else would end the call
                self.end(Termination(Result.FAILED, "network", "flooded", None))
                self._scope.cancel()
            return False
        except trio.ClosedResourceError:
            return False
        return True

    def post_later(self, delay_s: float, source: str, event: Any) -> None:
        """The same after a while, if the call is still there."""
        self.start_soon(self._post_after, delay_s, source, event)

    async def _post_after(self, delay_s: float, source: str, event: Any) -> None:
        await trio.sleep(delay_s)
        self.post(source, event)

    def on_caller(self, session: InviteSession, event: SessionEvent) -> None:
        """Events of the caller's dialog."""
        if self.session is not None and session is not self.session:
            return  # a party that the agent does not talk to any more
        if isinstance(event, RequestReceived):
            self._requests.receive(event)  # it wants its answer at once
        else:
            self.post("caller", event)

    def on_media(self, event: dict[str, Any]) -> None:
        """The worker's events for our leg."""
        self.post("media", event)

    def trace(self, kind: str, source: str, target: str, label: str, text: str = "", at: float | None = None) -> None:
        self.record.trace.add(kind, source, target, label, text=text, at=at)

    # ---------------------------------------------------------------- conversation

    async def _converse(self) -> None:
        await self.serve(lambda: False, deadline=None)

    async def serve(self, until: Callable[[], bool], *, deadline: float | None) -> bool:
        """Takes what happens to the call, in order, until a condition holds.

        Args:
            deadline: monotonic seconds; None: as long as the call lasts.

        Returns:
            Whether the condition holds; False when the call is over or the time is.
        """
        limit = math.inf if deadline is None else deadline
        while self.record.termination is None:
            if until():
                return True
            with trio.move_on_at(limit) as scope:
                source, event = await self._inbox.receive()
            if scope.cancelled_caught:
                return until()
            await self._take(source, event)
        return False

    async def _take(self, source: str, event: Any) -> None:
        match source:
            case "caller":
                await self._receive_caller(event)
            case "media":
                await self.media_events.receive(event)
            case "info":
                self.digits.receive_info(event)
            case "callee":
                handover, inner = event
                await handover.receive_callee(inner)
            case "refer":
                self._start_referral(event)
            case "retry":
                event()
            case "local":
                self.hang_up(self._local_termination(str(event)))

    def _local_termination(self, reason: str) -> Termination:
        """What it means that we end the call ourselves."""
        if reason == API_HANGUP:
            return Termination(Result.TRANSFERRED if self.is_joined else Result.ANSWERED, "api", "hangup", None)
        return Termination(Result.FAILED, "ims-as", reason, None)

    async def _receive_caller(self, event: SessionEvent) -> None:
        match event:
            case Ended(by=by, reason=reason):
                self.trace("decision", "ims-as", "ims-as", f"{self.party}'s dialog ended: {by}", reason)
                if self.record.answered_at is None and not self.is_ringing:
                    result = Result.CANCELLED if by == "remote" else Result.REJECTED
                    self.end(Termination(result, self.party if by == "remote" else "ims-as", _label(reason), None))
                elif by == "remote":
                    is_transferred = self.is_joined or (self.handover is not None and self.handover.is_accepted)
                    result = Result.TRANSFERRED if is_transferred else Result.ANSWERED
                    self.end(Termination(result, self.party, "bye", None))
                else:
                    what = _label(reason) if by == "timeout" else f"dialog-{by}"
                    self.end(Termination(Result.FAILED, "network", what, None))
            case Cancelled():
                self.end(Termination(Result.CANCELLED, "caller", "cancel", 487))
            case Rejected(status=status):
                self.end(Termination(Result.FAILED, "ims-as", "answer-not-sent", status))
            case _ if self.recovery.takes(event):
                await self.recovery.receive(event)
            case _ if self.recovery.defers(event):
                return
            case _ if self.handover is not None and self.handover.owns_offers:
                await self.handover.receive_caller(event)
            case _ if self.join is not None:
                await self.join.receive(self.join.near, event)
            case _:
                await self.offers.receive(event)

    # ---------------------------------------------------------------- handover

    @property
    def is_joined(self) -> bool:
        """Whether the caller talks to somebody else, directly or through our media worker."""
        return self.join is not None or self.is_bridged

    @property
    def is_bridged(self) -> bool:
        """Whether the caller and somebody else talk through our media worker."""
        return self.handover is not None and self.handover.is_bridged

    def can_replace(self, session: InviteSession) -> bool:
        """Whether a dialog is one of ours that another caller may take over: answered, and talking."""
        if self.join is not None and self.join.far.session is session:
            return True
        return session is self.session and self.record.answered_at is not None

    def replace_near(self, session: InviteSession, description: CallDescription) -> None:
        """After a join: the caller's place was taken."""
        self.session, self.description, self._party_request = session, description, session.request

    def set_join(self, join: Join) -> None:
        """From now on the caller and another party talk directly; who it was joined to before is let go."""
        before, self.join = self.join, join
        if before is not None:
            before.close()

    def hand_over(self, target: str, reason: str, handover_data: Any, *, by_agent: bool = True) -> None:
        """Starts calling a human for the caller; a second wish while one is under way is refused."""
        if self.handover is not None and (self.handover.is_pending or self.is_joined):
            return
        if self.is_early:
            if by_agent:
                self.handover_failed("not answered yet")
            else:
                self.shut_down("engine-lost")
            return
        start_handover(self, target, reason, handover_data, by_agent=by_agent)

    def _start_referral(self, receiver: ReferReceiver) -> None:
        if self.handover is not None and self.handover.is_pending:
            receiver.close()
            return
        if self.join is None:
            self.handover = AgentMove(self, receiver)
        else:
            self.handover = Handover(self, receiver.target.uri, "handed on", None, by_agent=False, referral=receiver)
        self.handover.start()

    def tell_transfer(self, state: str, cause: str | None = None) -> None:
        """Into the record, and to the engine while it is there."""
        if self.record.transfer is not None:
            self.record.transfer["state"] = state
            self.record.transfer[f"{state}_at"] = self.context.wall()
        if self.leg is not None and not self.engine_lost:
            event = {"event": "transfer", "state": state}
            self.leg.tell_engine(event if cause is None else {**event, "cause": cause})

    def change_party(
        self, session: InviteSession, description: CallDescription, uri: str, cause: str, *, invite: Request
    ) -> None:
        """The agent goes on with another party; the former one is expected to hang up, and made to after a while.

        Args:
            session, description: the dialog with the new party, and what was agreed with it.
            uri: who that is.
            cause: ``refer`` or ``replaces``.
            invite: its INVITE, or what it would have been.
        """
        former, self.session, self.description = self.session, session, description
        self._party_request = invite
        self.trace("decision", "ims-as", "ims-as", f"the agent goes on with {uri}: {cause}")
        if self.leg is not None:
            self.leg.tell_engine({"event": "party", "uri": uri, "cause": cause})
        if description.stream is not None:
            self.offers.note_direction(description.stream)
        self.recovery.tell_party()
        if former is not None:
            self._former.append(former)
            if cause == "replaces":
                former.bye()
            else:
                self.post_later(FORMER_PARTY_S, "retry", former.bye)

    def handover_failed(self, cause: str, *, has_moved: bool = False) -> None:
        """The caller is left with whom it has: the agent, or whom it was joined to before; else it is told and hung up.

        Args:
            has_moved: the caller has been given the callee's description, and must get the former one again.
        """
        if self.join is not None:
            self.join.take_back(has_moved=has_moved)
        elif self.leg is not None and (not self.engine_lost or self.recovery.is_attaching):
            if not self.engine_lost:
                self.leg.tell_engine({"event": "transfer", "state": "failed", "cause": cause})
            if has_moved:
                self.offers.reclaim()
        else:
            self.start_soon(self._announce_and_hang_up, cause)

    async def _announce_and_hang_up(self, cause: str) -> None:
        if self.leg is not None:
            self.leg.play("builtin:congestion", loop=False)
            await trio.sleep(2.0)
        self.trace("decision", "ims-as", "ims-as", f"nobody to hand the caller to: {cause}")
        self.post("local", "engine-lost" if self.leg is not None else MEDIA_LOST)

    # ---------------------------------------------------------------- end

    def hang_up(self, termination: Termination) -> None:
        """BYE to the caller; before the answer, what the failure table says."""
        if self.is_early:
            unable(self, termination.reason, "", 503)
            return
        self.end(termination)
        if self.session is not None:
            cause = termination.cause or 200
            self.session.bye(headers=[("Reason", f'SIP;cause={cause};text="{_quoted(termination.reason)}"')])

    async def release_media(self, reason: str) -> None:
        """The engine is told and gone, the port is closed.  Safe to call twice."""
        leg, self.leg = self.leg, None
        if leg is not None:
            stats = await leg.release(reason)
            note_media(self, stats)
            self.trace("media", "ims-as", "media", f"released: {reason}")

    def _refuse(self, transaction: ServerTransaction, status: int) -> None:
        headers = self.context.headers.response_headers(self.request)
        self.context.endpoint.send_response(transaction, build_response(self.request, status, headers=headers))

    async def close(self) -> None:
        """Releases everything; the call's last act."""
        self._inbox_in.close()
        self._close_what_came_too_late()
        if self._transaction is not None:  # not answered by anybody: the caller must not hang
            self._refuse(self.take_transaction(), 500)
        if self.session is not None and self.is_early:
            self.session.reject(500)  # not the 480 of `bye`: that would reach the caller
        elif self.session is not None and not self.session.is_terminated:
            self.session.bye()
        for former in self._former:
            former.bye()
        if self.handover is not None:
            self.handover.close()
        if self.join is not None:
            self.join.close()
        reason = self.record.termination.reason if self.record.termination else "ended"
        await self.release_media(reason)
        self.record.ended_at = self.context.wall()
        self.record.state = CallState.ENDED
        self.end(Termination(Result.FAILED, "ims-as", "no-reason", None))

    def _close_what_came_too_late(self) -> None:
        """What was let in for the call to do and is still in its inbox: a REFER, an INVITE with Replaces."""
        with contextlib.suppress(trio.WouldBlock, trio.EndOfChannel):
            while True:
                source, event = self._inbox.receive_nowait()
                if source == "refer":
                    event.close()
                elif source == "media" and event.get("moved_to") is not None:
                    event["moved_to"].discard()
                elif source == "callee":
                    event[0].close()


def _is_last(source: str, event: Any) -> bool:
    """Whether nothing comes after it: the end of a dialog, or our own wish to end the call."""
    inner = event[1] if source == "callee" else event
    return source == "local" or isinstance(inner, Ended | Cancelled | Rejected)


def _nothing() -> None:
    """What is to be described anew where nothing is."""


def _label(reason: str) -> str:
    """A session's own words as the phrase of a termination."""
    return reason.lower().replace(" ", "-")


def _quoted(text: str) -> str:
    return "".join(char if char.isprintable() and char not in '"\\' else " " for char in text)[:100]


def caller_identity(request: Request) -> str:
    """The asserted identity of the caller, else From; as URI text."""
    asserted = read_asserted_identities_untrusted(request)
    if asserted:
        return asserted[0].uri
    try:
        return request.from_.uri_text
    except SipParseError:
        return ""
