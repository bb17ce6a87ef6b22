"""The engines of an agent, tried in order: for the answer, and again when one is lost in the call (F5)."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ims_as.config import EngineConfig
from ims_as.isc.privacy import visible_caller
from ims_as.media_client import MediaError, MediaLeg
from media.control import EngineTarget, StreamConfig

if TYPE_CHECKING:
    from ims_as.call.agent_call import AgentCall

__all__ = ["EngineChain"]

ANSWER_MARGIN_S = 0.03
"""Kept of the answer budget for the answer itself."""
RECONNECT_MS = 1000
"""The caller is on filler: longer than this a human is the better answer."""


class EngineChain:
    """Opens the media leg with the first engine that works, and finds another when it is lost."""

    def __init__(self, call: AgentCall, engines: Sequence[EngineConfig]) -> None:
        self._call = call
        self._engines = tuple(engines)
        self._current = 0
        self._session_id = secrets.token_hex(8)

    async def open(self, stream: StreamConfig, *, deadline: float) -> None:
        """Port and engine.  ``deadline``: monotonic seconds.  Raises MediaError of the last engine tried."""
        call = self._call
        context = call.context
        last = MediaError("engine_open_circuit", "no engine may be tried")
        for index, engine in enumerate(self._engines):
            now = context.now()
            if not context.engines.may_try(engine.url, now=now):
                continue
            # a hanging engine must leave time for those behind it
            behind = len(self._engines) - index - 1
            share_s = (deadline - ANSWER_MARGIN_S - now) / (behind + 1)
            if behind:
                share_s = min(share_s, engine.connect_timeout_ms / 1000)
            if share_s <= 0:
                raise MediaError("engine_timeout", "the answer budget is used up")
            try:
                leg, reply = await self._open_leg(stream, engine, now + share_s)
            except MediaError as error:
                self._note(engine, error)
                last = error
                if not error.code.startswith("engine"):
                    break  # our own media plane can't: another engine would not help
                continue
            self._note(engine, None, reply)
            self._current = index
            call.leg = leg
            return
        raise last

    async def _open_leg(
        self, stream: StreamConfig, engine: EngineConfig, deadline: float
    ) -> tuple[MediaLeg, dict[str, Any]]:
        """A worker that is lost meanwhile is replaced by another, and nobody notices.  Raises MediaError."""
        context = self._call.context
        while True:
            left_s = deadline - context.now()
            leg = context.media.new_leg(self._call.on_media, stream.codec)
            try:
                return leg, await leg.open(stream, self._target(engine, max(1, int(left_s * 1000)), resume=False))
            except MediaError as error:
                if not error.is_lost or context.now() >= deadline:
                    raise

    async def reattach(self) -> bool:
        """The lost engine once more, then those behind it; True when one took the call.

        Raises:
            MediaError: the media worker is lost (`MediaError.is_lost`).
        """
        call = self._call
        for index in range(self._current, len(self._engines)):
            engine = self._engines[index]
            if call.leg is None:
                return False
            if not call.context.engines.may_try(engine.url, now=call.context.now()):
                continue
            try:
                reply = await call.leg.attach(self._target(engine, RECONNECT_MS, resume=index == self._current))
            except MediaError as error:
                if error.is_lost:
                    raise
                self._note(engine, error)
                continue
            self._note(engine, None, reply)
            self._current = index
            return True
        return False

    def _note(self, engine: EngineConfig, error: MediaError | None, reply: dict[str, Any] | None = None) -> None:
        call = self._call
        context = call.context
        now = context.now()
        if error is None:
            context.engines.note_success(engine.url, now=now)
            engine_ms = float((reply or {}).get("engine_ms") or 0.0)
            call.record.engine_url, call.record.engine_ms = engine.url, engine_ms
            context.metrics.engine_connect_seconds.observe(engine_ms / 1000)
            call.trace("engine", "media", "engine", f"connected in {engine_ms:.1f} ms", engine.url)
            return
        if error.code.startswith("engine"):
            context.engines.note_failure(engine.url, error.code, now=now)
            context.metrics.engine_failures.labels(error.code).inc()
            context.log.event("ENGINE_FAILED", call_id=call.record.id, url=engine.url, cause=error.code)
        call.trace("engine", "media", "engine", error.code, f"{engine.url} {error.detail}")

    def _target(self, engine: EngineConfig, timeout_ms: int, *, resume: bool) -> EngineTarget:
        call = self._call
        agent = call.agent
        assert agent is not None
        start: dict[str, Any] = {
            "event": "start",
            "version": 1,
            "call_id": call.record.id,
            "session_id": self._session_id,
            "resume": resume,
            "from": visible_caller(call.request).uri,
            "to": call.record.to_uri,
            "served_user": call.served.uri,
            "session_case": call.record.session_case,
            "direction": call.record.direction,
            "agent": call.agent_name,
            "rate": engine.rate,
            "encoding": "pcm_s16le",
            "frame_ms": 20,
            "headers": call.context.headers.engine_headers(call.request, extra=agent.engine_headers),
            "traceparent": f"00-{call.record.id}-{self._session_id}-01",
        }
        if call.application_data is not None:
            start["data"] = dict(call.application_data)
        settings = call.profile.settings
        if greeting := settings.greeting or agent.greeting:
            start["greeting"] = greeting
        if settings.language:
            start["language"] = settings.language
        if consent := settings.consent.as_dict():
            start["consent"] = consent
        if settings.limits.call_seconds is not None:
            start["max_seconds"] = settings.limits.call_seconds
        return EngineTarget(
            type=engine.type,
            url=engine.url,
            rate=engine.rate,
            connect_timeout_ms=timeout_ms,
            ready=str(getattr(engine.ready, "value", engine.ready)),
            start=start,
            filler_after_ms=agent.filler.after_ms,
            filler_clip=agent.filler.clip,
            background=agent.background.clip,
            background_db=agent.background.level_db,
            barge_in=agent.barge_in.value,
            digits=False,  # they come from us, who know those that came by INFO too
            inband_dtmf=call.context.config.media.inband_dtmf.value,
            mute_digits=agent.digits.mute,
        )
