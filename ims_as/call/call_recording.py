"""Whether a call is recorded, and from when: the agent's configuration, the served user's profile, the caller's consent
and what the engine wishes.

The media worker records a leg, so that a recording ends where our media do: with the call, or when the caller has been
handed to somebody else.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from ims_as.config import RecordingConfig, RecordingMode
from ims_as.media_client import MediaError, MediaLeg
from ims_as.recordings import recording_path

if TYPE_CHECKING:
    from ims_as.call.agent_call import AgentCall

__all__ = ["CallRecording", "RecordingState"]

MAX_PROMPT_S: Final = 120.0
MAX_RECORDINGS: Final = 100
"""Of one call: an engine that starts and stops without end fills no disk."""


class RecordingState(Enum):
    """How far it is."""

    IDLE = "idle"
    PROMPTING = "prompting"
    """The caller hears what it has to hear first."""
    ASKING = "asking"
    """The prompt is over; the key is awaited."""
    RECORDING = "recording"
    PAUSED = "paused"


class CallRecording:
    """Of one call with an agent."""

    def __init__(self, call: AgentCall) -> None:
        self._call = call
        self.state = RecordingState.IDLE
        self._refused = False
        """The caller said no: nobody asks again."""
        self._consent: dict[str, Any] = {}
        self._has_moved = False
        """While it pauses, the call has got another media worker: there is nothing to resume."""

    @property
    def _config(self) -> RecordingConfig:
        agent = self._call.agent
        return RecordingConfig() if agent is None else agent.recording

    # ---- what happens
    def answered(self) -> None:
        """The call is up."""
        if self._config.mode in (RecordingMode.ALWAYS, RecordingMode.CONSENT):
            self._begin()

    def receive_wish(self, wish: str) -> None:
        """``record_start``, ``record_pause``, ``record_resume`` or ``record_stop`` of the engine."""
        leg, state = self._call.leg, self.state
        is_running = state in (RecordingState.RECORDING, RecordingState.PAUSED)
        match wish:
            case "record_start" if state is RecordingState.IDLE:
                self._begin()
            case "record_pause" if leg is not None and state is RecordingState.RECORDING:
                leg.record("record_pause")
                self._enter(RecordingState.PAUSED, "paused")
            case "record_resume" if self._has_moved and state is RecordingState.PAUSED:
                self._start()
            case "record_resume" if leg is not None and state is RecordingState.PAUSED:
                leg.record("record_resume")
                self._enter(RecordingState.RECORDING, "resumed")
            case "record_stop" if leg is not None and is_running:
                leg.record("record_stop")
                self._enter(RecordingState.IDLE, "stopped")
            case "record_stop" if leg is not None and state is not RecordingState.IDLE:
                self._stop_asking(leg)
                self._enter(RecordingState.IDLE, "stopped")

    def moved(self) -> None:
        """The media worker was lost, and with it the recording; the call goes on with another one."""
        match self.state:
            case RecordingState.RECORDING:
                self._start()
            case RecordingState.PAUSED:
                self._has_moved = True
            case RecordingState.PROMPTING:
                self._enter(RecordingState.IDLE, "failed", "worker")

    def receive_media(self, event: dict[str, Any]) -> None:
        """``played``, ``recorded`` or ``record_failed`` of the worker."""
        match event.get("ev"):
            case "played" if self.state is RecordingState.PROMPTING:
                self._prompted()
            case "record_failed" if event.get("is_over"):
                if self.state in (RecordingState.RECORDING, RecordingState.PAUSED):
                    self._enter(RecordingState.IDLE, "failed", str(event.get("cause", "")))
            case "record_failed":
                text = f"the recording loses: {event.get('cause')}"
                self._call.trace("media", "media", "ims-as", text, str(event.get("detail", "")))

    def takes_digit(self, digit: str) -> bool:
        """Whether a key is the answer to our question, and not the engine's."""
        config = self._config
        is_asked = self.state in (RecordingState.PROMPTING, RecordingState.ASKING)
        if not is_asked or config.mode is not RecordingMode.CONSENT:
            return False
        if self._call.leg is not None:
            self._stop_asking(self._call.leg)
        if digit == config.consent_digit:
            self._consent |= {"caller": True, "digit": digit, "at": self._call.context.wall()}
            self._start()
        else:
            self._refuse("the caller refused")
        return True

    # ---- inside
    def _begin(self) -> None:
        if (reason := self._forbidden()) is not None:
            self._enter(RecordingState.IDLE, "refused", reason)
            return
        prompt = self._config.prompt
        if prompt is None or self._consent.get("prompt"):
            self._start()
            return
        self._enter(RecordingState.PROMPTING, "asking")
        self._call.start_soon(self._play, prompt)

    def _forbidden(self) -> str | None:
        """Why nothing may be recorded."""
        call, config = self._call, self._config
        told = call.profile.settings.consent.recording
        if config.mode is RecordingMode.NEVER:
            return "the agent's calls are not recorded"
        if told is False or (told is None and config.needs_profile):
            return "no consent in the profile"
        if self._refused:
            return "the caller refused"
        if len(call.record.recordings) >= MAX_RECORDINGS:
            return "too many"
        if call.leg is None or call.record.answered_at is None:
            return "nobody to record"
        return None

    async def _play(self, prompt: str) -> None:
        leg = self._call.leg
        if leg is None:
            return
        try:
            await leg.play_whole(prompt)
            self._call.post_later(MAX_PROMPT_S, "retry", self._give_up)
        except MediaError as error:
            self._log("prompt", error.detail)
            if self.state is RecordingState.PROMPTING:
                self._enter(RecordingState.IDLE, "failed", "prompt")

    def _prompted(self) -> None:
        self._consent["prompt"] = self._config.prompt
        if self._config.mode is not RecordingMode.CONSENT:
            self._start()
            return
        self.state = RecordingState.ASKING
        self._call.post_later(self._config.consent_s, "retry", self._give_up)

    def _give_up(self) -> None:
        if self.state is RecordingState.ASKING:
            self._refuse("no answer")
        elif self.state is RecordingState.PROMPTING:  # something else was played instead
            self._enter(RecordingState.IDLE, "failed", "prompt")

    def _refuse(self, reason: str) -> None:
        self._refused = True
        self._consent["caller"] = False
        self._enter(RecordingState.IDLE, "refused", reason)

    def _stop_asking(self, leg: MediaLeg) -> None:
        if self.state is RecordingState.PROMPTING:
            leg.stop_play()
            self._consent["prompt"] = self._config.prompt

    def _start(self) -> None:
        call, config = self._call, self._config
        leg, record = call.leg, call.record
        if leg is None:
            self._enter(RecordingState.IDLE, "failed", "nobody to record")
            return
        at = call.context.wall()
        path = recording_path(config.directory, call.served.uri, record.id, at, config.format.value)
        about = {
            "call": {
                "call_id": record.id,
                "sip_call_id": record.sip_call_id,
                "icid": record.icid,
                "from": record.from_uri,
                "to": record.to_uri,
                "direction": record.direction,
                "agent": call.agent_name,
                "received_at": record.received_at,
                "answered_at": record.answered_at,
            },
            "subscriber": call.served.uri,
            "consent": {
                "mode": config.mode.value,
                "profile": call.profile.settings.consent.recording,
                **self._consent,
            },
            "retention_days": config.retention_days,
        }
        fields = {"path": str(path), "format": config.format.value, "pauses": config.pauses.value, "about": about}
        call.start_soon(self._order, leg, fields)
        record.recordings.append(f"{path.parent.name}/{path.name}")
        self._has_moved = False
        self._enter(RecordingState.RECORDING, "started")

    async def _order(self, leg: MediaLeg, fields: dict[str, Any]) -> None:
        try:
            await leg.start_recording(fields)
        except MediaError as error:
            self._log(error.code, error.detail)
            if self.state is RecordingState.RECORDING:
                self._enter(RecordingState.IDLE, "failed", error.code)

    def _log(self, cause: str, detail: str) -> None:
        call = self._call
        call.context.metrics.recordings.labels("failed").inc()
        call.context.log.event("RECORDING_FAILED", call_id=call.record.id, cause=cause, detail=detail)

    def _enter(self, state: RecordingState, told: str, reason: str = "") -> None:
        """Tells the engine and the trail."""
        self.state = state
        call = self._call
        call.trace("decision", "ims-as", "media", f"recording: {told}", reason)
        if call.leg is not None and not call.engine_lost:
            event = {"event": "recording", "state": told}
            call.leg.tell_engine({**event, "reason": reason} if reason else event)
