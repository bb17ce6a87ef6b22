"""What the media worker and the agent's engine tell of a call, and what follows from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ims_as.call.call_quality import note_one_way, note_silenced
from ims_as.call.give_back import refuse
from ims_as.call.record import CallState
from ims_as.call.target_policy import queue_of
from ims_as.errors import Result, Termination
from ims_as.media_client import MediaError

if TYPE_CHECKING:
    from ims_as.call.agent_call import AgentCall

__all__ = ["MediaEvents"]


class MediaEvents:
    """Events of the worker for our leg (``media.control``), those of the engine among them."""

    def __init__(self, call: AgentCall) -> None:
        self._call = call
        self._is_hanging_up = False
        self._state_before = CallState.TALKING

    async def receive(self, event: dict[str, Any]) -> None:
        call = self._call
        name = event.get("ev")
        at = event.get("at")
        match name:
            case "engine_event":
                self._receive_engine_event(event.get("event") or {})
            case "engine_lost":
                self._receive_engine_lost(str(event.get("cause", "")), str(event.get("detail", "")))
            case "drained":
                call.trace("decision", "ims-as", "ims-as", f"the agent hangs up: {event.get('reason')}")
                call.hang_up(Termination(Result.ANSWERED, "agent", "hangup", None))
            case "first_audio":
                ttfb_ms = float(event.get("ttfb_ms") or 0.0)
                call.record.ttfb_ms.append(ttfb_ms)
                call.context.metrics.ttfb_seconds.observe(ttfb_ms / 1000)
                call.trace("media", "engine", "media", f"first audio, TTFB {ttfb_ms:.0f} ms", at=at)
            case "first_rtp":
                call.trace("media", "caller", "media", f"first RTP from {event.get('source')}", at=at)
            case "filler":
                call.trace("media", "media", "caller", "filler starts" if event.get("on") else "filler ends", at=at)
            case "barge_in":
                call.trace("media", "caller", "media", f"barge-in after {event.get('played_ms')} ms", at=at)
            case "silenced":
                note_silenced(call, event)
            case "dtmf":
                call.trace("media", "caller", "media", f"DTMF {event.get('digit')} ({event.get('source')})", at=at)
                call.digits.receive_rtp(event)
            case "one_way" if not call.is_joined:
                note_one_way(call, event)
            case "played" | "recorded" | "record_failed":
                call.recording.receive_media(event)
            case "rtp_timeout" if not call.offers.on_hold and call.join is None:
                call.context.metrics.rtp_timeouts.inc()
                call.context.log.event("RTP_TIMEOUT", call_id=call.record.id)
                call.hang_up(Termination(Result.FAILED, "ims-as", "rtp-timeout", None))
            case "leg_failed":
                call.context.metrics.guard_errors.labels("media leg").inc()
                call.context.log.event("CALL_FAILED", call_id=call.record.id, error=str(event.get("detail")))
                if call.leg is not None and event.get("leg") == call.leg.name:
                    call.leg.link.unlisten(call.leg.name)
                    call.leg.released = True
                self._receive_worker_lost(event)
            case "worker_lost":
                self._receive_worker_lost(event)
            case "leg_moved":
                call.recovery.finish(event["moved_to"])
                if call.handover is not None:
                    await call.handover.caller_moved()

    def _receive_engine_event(self, event: dict[str, Any]) -> None:
        call = self._call
        name = str(event.get("event", ""))
        if name == "transcript":
            if event.get("final", True):
                role, text = str(event.get("role", "")), str(event.get("text", ""))
                call.record.add_transcript(role, text, call.context.wall())
                call.trace("engine", "engine", "ims-as", f"{role}: {text}")
            return
        call.trace("engine", "engine", "ims-as", name, str(event))
        match name:
            case "transfer":
                call.hand_over(str(event.get("target", "served-user")), "agent", event.get("data"))
            case "hangup":
                self._is_hanging_up = True
                if call.is_early:  # it does not want the call
                    refuse(call, 603, "declined", [], by="agent")
                elif call.is_ringing:  # nobody hears what is queued: there is nothing to wait for
                    call.hang_up(Termination(Result.UNANSWERED, "agent", "hangup", None))
            case "dtmf":
                call.digits.send(str(event.get("digits", ""))[:32])
            case "record_start" | "record_pause" | "record_resume" | "record_stop":
                call.recording.receive_wish(name)
            case "tool_call" if call.leg is not None:
                # tools are the operator's; with none configured the engine is told so and need not wait
                error = {"event": "tool_result", "id": event.get("id"), "error": "no such tool"}
                call.leg.tell_engine(error)

    def _receive_worker_lost(self, event: dict[str, Any]) -> None:
        call = self._call
        if call.leg is None or event.get("leg") != call.leg.name:
            return  # a leg that was given up before
        if self._is_hanging_up:
            call.leg = None
            call.hang_up(Termination(Result.ANSWERED, "agent", "hangup", None))
            return
        call.recovery.begin()

    def engine_lost_with_worker(self) -> None:
        """The call has another port; the engine is connected to it."""
        call = self._call
        if not call.engine_lost:
            self._state_before = call.record.state
        call.engine_lost = True
        if not call.is_early and not call.is_ringing:
            call.record.state = CallState.FILLING
        call.start_soon(self._fail_over, "media worker lost")

    def _receive_engine_lost(self, cause: str, detail: str) -> None:
        call = self._call
        call.trace("engine", "engine", "media", f"engine lost: {cause}", detail)
        if self._is_hanging_up or call.engine_lost or call.is_joined:
            return
        call.engine_lost = True
        self._state_before, call.record.state = call.record.state, CallState.FILLING
        call.record.failovers += 1
        call.context.metrics.failovers.inc()
        call.context.log.event("ENGINE_LOST", call_id=call.record.id, url=call.record.engine_url, cause=cause)
        if call.handover is None or not call.handover.is_pending:
            call.start_soon(self._fail_over, cause)

    async def _fail_over(self, cause: str) -> None:
        """F5: the engine again, the next engines, then a human.  The caller hears filler meanwhile."""
        call = self._call
        leg = call.leg
        assert call.engines is not None
        try:
            found = await call.engines.reattach()
        except MediaError:
            return  # the worker has gone, and whoever finds another one begins anew
        if leg is None or call.leg is not leg or not leg.link.alive:
            return
        call.recovery.attached()
        if found:
            call.engine_lost = False
            call.record.state = self._state_before if call.is_ringing or call.is_early else CallState.TALKING
            return
        call.hand_over("queue" if queue_of(call) else "served-user", f"engine lost ({cause})", None, by_agent=False)
