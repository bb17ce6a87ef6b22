"""Click-to-talk: two people are called and connected to each other (TS 23.218 §9.1.1.4, initiating B2BUA).

Third-party call control by flow III of RFC 3725: the first is called without an offer and, having answered, waits at a
black hole; the second is called without an offer, and its offer goes to the first in a re-INVITE, whose answer is the
second's.  From then on we carry offers and other requests between them; their media is their own.  A second party that
offers early (a reliable 18x) is coupled then, so that the first one hears its ring tone.

A leg that fails or ends takes the other one with it, with the reason.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

from ims_as.call.agent_call import API_HANGUP
from ims_as.call.black_hole import black_hole_answer
from ims_as.call.context import CallContext, new_call_id
from ims_as.call.dialog_relay import DialogRelay
from ims_as.call.order import ConnectOrder
from ims_as.call.originate import NoWayError, Way, call_by, find_way, note_session_id
from ims_as.call.outbound import outcome_of
from ims_as.call.record import CallRecord, CallState
from ims_as.call.session_pair import PairSide, SessionPair
from ims_as.errors import Result, Termination
from ims_as.isc.session_id import SessionEnd
from ims_as.sip.coupled_dialog import reason_header
from ims_as.sip.errors import LocalProtocolError, SdpError
from ims_as.sip.invite_session import (
    Answered,
    Ended,
    InviteSession,
    Provisional,
    ReinviteReceived,
    Rejected,
    RequestReceived,
    SessionEvent,
    UpdateReceived,
)
from ims_as.sip.message import build_response
from ims_as.sip.offer_answer import SdpSession
from ims_as.sip.timers import TimerHandle

__all__ = ["ConnectCall"]

RETRY_S: Final = 0.2
MAX_TRIES: Final = 50
"""Until the first party is free for a re-INVITE: it may be making one itself."""


class ConnectCall:
    """One such call.  The task only finds the ways and waits; everything else follows from the sessions' events."""

    def __init__(self, context: CallContext, order: ConnectOrder, record: CallRecord) -> None:
        self.record = record
        self._context = context
        self._order = order
        self._sides: dict[str, PairSide] = {}
        self._pair: SessionPair | None = None
        self._relays: list[DialogRelay] = []
        self._ways: dict[str, Way] = {}
        self._timers: dict[str, TimerHandle] = {}
        self._early_tag: str | None = None
        """The second party's early dialog whose offer the first one has."""
        self._is_over = trio.Event()

    # ---------------------------------------------------------------- life

    async def run(self) -> None:
        """Runs the call to its end.  An unforeseen error ends this call alone, and is counted."""
        try:
            if await self._find_ways():
                self._call("first", self._order.first, self._on_first)
                await self._is_over.wait()
        except Exception as error:  # the guard around one call
            self._fail(error)
        finally:
            self._close()

    def shut_down(self, reason: str) -> None:
        """Ends the call from our side."""
        by = "api" if reason == API_HANGUP else "ims-as"
        result = Result.CONNECTED if self.record.answered_at is not None else Result.CANCELLED
        self._end(Termination(result, by, "hangup", None), reason_header(200, "hangup"))

    def _fail(self, error: Exception) -> None:
        context = self._context
        context.metrics.guard_errors.labels("call").inc()
        context.log.event("CALL_FAILED", call_id=self.record.id, error=repr(error))
        self._end(Termination(Result.FAILED, "ims-as", "internal-error", 500), reason_header(500, "internal error"))

    async def _find_ways(self) -> bool:
        """Both before anybody's phone rings."""
        order, record, context = self._order, self.record, self._context
        record.icid = new_call_id()
        own = context.config.identity if order.is_served_user else order.identity
        try:
            for name, to, identity, is_user in (
                ("first", order.first, own, False),
                ("second", order.second, order.identity, order.is_served_user),
            ):
                self._ways[name] = await find_way(
                    context,
                    to=to,
                    identity=identity,
                    is_served_user=is_user,
                    icid=record.icid,
                    session_id=SessionEnd(record.id),
                )
        except NoWayError as error:
            record.trace.add("decision", "ims-as", "ims-as", f"no way into the core: {error}")
            self._end(Termination(Result.UNANSWERED, "ims-as", "no-core-route", None), None)
        return not self._is_over.is_set()

    def _end(self, termination: Termination, reason: tuple[str, str] | None) -> None:
        """The first word counts; both legs end."""
        if self.record.termination is None:
            self.record.termination = termination
        self._is_over.set()
        for side in self._sides.values():
            side.session.bye(headers=[] if reason is None else [reason])

    def _close(self) -> None:
        for relay in self._relays:
            relay.detach()
        for name in list(self._timers):
            self._stop_ringing(name)
        self._end(Termination(Result.FAILED, "ims-as", "no-reason", None), None)
        record = self.record
        record.ended_at, record.state = self._context.wall(), CallState.ENDED
        assert record.termination is not None
        answered = record.answered_at is not None
        outcome = "connected" if answered else record.termination.reason
        self._context.metrics.outbound_calls.labels(outcome).inc()

    # ---------------------------------------------------------------- calling

    def _call(self, name: str, to: str, on_event: Callable[[InviteSession, SessionEvent], None]) -> None:
        context, record = self._context, self.record
        call_id = record.sip_call_id if name == "first" else context.endpoint.new_call_id()
        if name == "second":
            record.outgoing_call_id = call_id
            context.directory.add_leg(record, call_id)
        record.trace.add("decision", "ims-as", "ims-as", f"calls {to}")
        record.legs[name] = "calling"
        if record.state is CallState.SETTING_UP:
            record.state = CallState.CALLING
        sdp = SdpSession("-", int(record.received_at * 1000), 1, context.config.media.address)

        def guarded(session: InviteSession, event: SessionEvent) -> None:
            if self._is_over.is_set():
                return  # the sessions end by themselves
            try:
                on_event(session, event)
            except Exception as error:  # the guard around one call
                self._fail(error)

        try:
            session = call_by(
                context, self._ways[name], to, body=b"", headers=self._order.headers, on_event=guarded, call_id=call_id
            )
        except LocalProtocolError as error:
            record.trace.add("decision", "ims-as", "ims-as", f"not sent: {error}")
            self._end(Termination(Result.UNANSWERED, "ims-as", "bad-request", None), reason_header(500, "not sent"))
            return
        self._sides[name] = PairSide(name, session, sdp)
        when = context.now() + self._order.ring_timeout_s
        self._timers[name] = context.endpoint.call_at(when, lambda: self._ring_timeout(name))

    def _ring_timeout(self, name: str) -> None:
        self.record.legs[name] = "no-answer"
        self._end(Termination(Result.UNANSWERED, name, "no-answer", 408), reason_header(408, "no answer"))

    def _stop_ringing(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()

    def _note_answer(self, name: str, event: Answered) -> None:
        self._stop_ringing(name)
        self.record.legs[name] = "answered"
        note_session_id(self._ways[name], self._sides[name].session, event.response)

    def _note_ringing(self, name: str, event: Provisional) -> None:
        if event.response.status == 180:
            self.record.legs[name] = "ringing"
            if self.record.ringing_at is None:
                self.record.ringing_at = self._context.wall()
                self.record.state = CallState.RINGING

    def _hole(self, side: PairSide, offer: bytes) -> bytes:
        """An answer that lets nothing flow; an offer that cannot be read gets none that could be read either."""
        try:
            answer = black_hole_answer(offer, side.sdp)
        except SdpError as error:
            self.record.trace.add("decision", "ims-as", "ims-as", f"unusable offer of the {side.name}: {error}")
            return b""
        side.lines = max(side.lines, answer.count(b"\r\nm="))
        return answer

    # ---------------------------------------------------------------- the first party

    def _on_first(self, session: InviteSession, event: SessionEvent) -> None:
        side = self._sides.get("first")
        if side is None:
            return
        match event:
            case Provisional(needs_prack=True, body=body, to_tag=tag):
                session.prack(self._hole(side, body), to_tag=tag)
                self._note_ringing("first", event)
            case Provisional():
                self._note_ringing("first", event)
            case Answered(needs_ack=needs_ack, body=body):
                self._note_answer("first", event)
                if needs_ack:
                    session.ack(self._hole(side, body))
                if not self._is_over.is_set():
                    self._call("second", self._order.second, self._on_second)
            case Rejected(status=status):
                self._rejected("first", status)
            case Ended(by=by, request=request):
                self._left("first", by, None if request is None else request.headers.get("Reason"))
            case ReinviteReceived(body=body) if self._pair is None:
                session.accept_reinvite(self._hole(side, body) if body else session.local_body)
            case UpdateReceived(body=body) if self._pair is None:
                session.accept_update(self._hole(side, body))
            case _ if self._pair is not None:
                self._pair.receive(side, event)

    # ---------------------------------------------------------------- the second party

    def _on_second(self, session: InviteSession, event: SessionEvent) -> None:
        side = self._sides.get("second")
        if side is None:
            return
        match event:
            case Provisional(needs_prack=True, body=body, to_tag=tag):
                self._note_ringing("second", event)
                self._couple_early(side, body, tag)
            case Provisional():
                self._note_ringing("second", event)
            case Answered(needs_ack=needs_ack, body=body, response=response):
                self._note_answer("second", event)
                self.record.answered_at = self._context.wall()
                if needs_ack:
                    self._couple(side, body, session.ack)
                elif response.to_tag != self._early_tag:
                    self._couple_anew(side)  # another phone than the one that rang first
                else:
                    self._joined()
            case Rejected(status=status):
                self._rejected("second", status)
            case Ended(by=by, request=request):
                self._left("second", by, None if request is None else request.headers.get("Reason"))
            case _ if self._pair is not None:
                if self._pair.receive(side, event):
                    return

    def _make_pair(self, side: PairSide) -> SessionPair:
        if self._pair is None:
            self._pair = SessionPair(self._sides["first"], side)
        return self._pair

    def _couple_early(self, side: PairSide, offer: bytes, tag: str | None) -> None:
        session = side.session
        pair = self._make_pair(side)
        if self._early_tag is not None or pair.is_busy:
            session.prack(self._hole(side, offer), to_tag=tag)
            return
        self._early_tag = tag

        def refused(status: int) -> None:
            self._early_tag = None
            session.prack(self._hole(side, offer), to_tag=tag)

        pair.offer(side, offer, accept=lambda answer: session.prack(answer, to_tag=tag), reject=refused)

    def _couple(self, side: PairSide, offer: bytes, accept: Callable[[bytes], object], tries: int = MAX_TRIES) -> None:
        """The second party's offer to the first one; ``accept`` takes the answer to the second."""
        if self._is_over.is_set():
            return

        def joined(answer: bytes) -> None:
            accept(answer)
            self._joined()

        def refused(status: int) -> None:
            if status == 491 and tries > 1:  # the first party is at it itself
                when = self._context.now() + RETRY_S
                self._timers["retry"] = self._context.endpoint.call_at(
                    when, lambda: self._couple(side, offer, accept, tries - 1)
                )
                return
            accept(self._hole(side, offer))
            self._end(Termination(Result.FAILED, "first", "media-refused", status), reason_header(status, "no media"))

        self._make_pair(side).offer(side, offer, accept=joined, reject=refused)

    def _couple_anew(self, side: PairSide) -> None:
        """The dialog that was answered has another description than the first party knows: its offer is asked for."""
        pair = self._make_pair(side)
        first = self._sides["first"]

        def give(offer: bytes) -> bool:
            # out of the exchange that asked for it, into one that carries it
            pair.abandon()
            self._couple(side, offer, side.session.ack)
            return True

        pair.ask(
            first,
            accept=give,
            reject=lambda status: self._end(
                Termination(Result.FAILED, "second", "media-refused", status), reason_header(status, "no media")
            ),
        )

    def _joined(self) -> None:
        record = self.record
        if record.state is CallState.JOINED or self._is_over.is_set():
            return
        record.state = CallState.JOINED
        record.trace.add("decision", "ims-as", "ims-as", "the two talk directly")
        first, second = self._sides["first"].session, self._sides["second"].session
        on_refer = None if self._context.config.sip.pass_refer else self._refuse_refer
        self._relays = [DialogRelay(first, second, on_refer), DialogRelay(second, first, on_refer)]

    def _refuse_refer(self, event: RequestReceived) -> None:
        self._context.endpoint.send_response(event.transaction, build_response(event.request, 403))

    # ---------------------------------------------------------------- ends

    def _rejected(self, name: str, status: int) -> None:
        outcome = outcome_of(status)
        self.record.legs[name] = outcome
        self._end(Termination(Result.UNANSWERED, name, outcome, status), reason_header(status, outcome))

    def _left(self, name: str, by: str, reason: str | None) -> None:
        self.record.legs[name] = "gone"
        headers = reason_header(200, "the other party has hung up") if reason is None else ("Reason", reason)
        if by != "remote":
            self._end(Termination(Result.FAILED, "network", f"dialog-{by}", None), reason_header(408, "dialog lost"))
        elif self.record.answered_at is not None:
            self._end(Termination(Result.CONNECTED, name, "bye", None), headers)
        else:
            self._end(Termination(Result.CANCELLED, name, "bye", None), headers)
