"""The engine protocol ``ims-as.v1``: JSON text frames for events, binary frames of 16-bit PCM.

To the engine: ``start`` first, then ``speech``, ``dtmf``, ``mark``, ``cleared``, ``hold``, ``resume``, ``transfer``,
``recording``, ``tool_result``, ``stop``.  From the engine: ``ready``, ``clear``, ``mark``, ``transfer``, ``hangup``,
``dtmf``, ``record_start``, ``record_pause``, ``record_resume``, ``record_stop``, ``tool_call``, ``transcript``.  An
engine that sends rubbish is survived: unknown events and malformed JSON are ignored and counted, of PCM with an odd
number of bytes the last one is dropped.
"""

from __future__ import annotations

import json
from typing import Any, Final

import attrs

from media.engines.base import (
    Audio,
    Clear,
    EngineCounters,
    EngineEvent,
    Forward,
    Hangup,
    MarkRequest,
    Ready,
)

__all__ = ["MAX_TEXT_CHARS", "SUBPROTOCOL", "ImsAsV1"]

SUBPROTOCOL: Final = "ims-as.v1"
MAX_TEXT_CHARS: Final = 16384
"""Of a text frame; longer ones are counted as malformed.  With every character written as an escape of six octets in
JSON it still fits the control channel's line."""
MAX_NAME_CHARS: Final = 256
MAX_TRANSCRIPT_CHARS: Final = 8192
MAX_DIGITS: Final = 64
MAX_DEPTH: Final = 32


@attrs.define
class ImsAsV1:
    """One connection.

    Attributes:
        start: fields of the ``start`` event given by the signalling side (call_id, from, to …).
        rate_hz: of the PCM, both ways.
    """

    start: dict[str, Any]
    rate_hz: int
    subprotocols: tuple[str, ...] = (SUBPROTOCOL,)
    counters: EngineCounters = attrs.Factory(EngineCounters)

    def build_start(self) -> str:
        fixed = {
            "event": "start",
            "version": 1,
            "rate": self.rate_hz,
            "encoding": "pcm_s16le",
            "frame_ms": 20,
        }
        return _to_json({"event": "start", "version": 1, "resume": False, **self.start, **fixed})

    def build_event(self, event: dict[str, Any]) -> str:
        return _to_json(event)

    def build_speech(self, started: bool) -> str:
        return _to_json({"event": "speech", "state": "start" if started else "end"})

    def build_dtmf(self, digit: str, duration_ms: int) -> str:
        return _to_json({"event": "dtmf", "digit": digit, "duration_ms": duration_ms})

    def build_mark(self, name: str, played: bool) -> str:
        return _to_json({"event": "mark", "name": name, "played": played})

    def build_cleared(self, played_ms: float) -> str:
        return _to_json({"event": "cleared", "played_ms": round(played_ms, 3)})

    def build_barge_in(self, played_ms: float) -> str:
        return _to_json({"event": "cleared", "played_ms": round(played_ms, 3), "by": "speech"})

    def build_stop(self, reason: str) -> str:
        return _to_json({"event": "stop", "reason": reason})

    def receive_binary_untrusted(self, payload: bytes) -> list[EngineEvent]:
        if len(payload) % 2:
            self.counters.odd_pcm += 1
            payload = payload[:-1]
        return [Audio(payload)] if payload else []

    def receive_text_untrusted(self, text: str) -> list[EngineEvent]:
        if len(text) > MAX_TEXT_CHARS:
            self.counters.malformed += 1
            return []
        try:
            message = json.loads(text)
        except (ValueError, RecursionError):
            self.counters.malformed += 1
            return []
        if (
            not isinstance(message, dict)
            or not isinstance(message.get("event"), str)
            or _is_deep(message)
            or ("\\ud" in text.lower() and _has_lone_surrogate(message))
        ):
            self.counters.malformed += 1
            return []
        event = self._translate(message)
        return [event] if event is not None else []

    def _translate(self, message: dict[str, Any]) -> EngineEvent | None:
        match message:
            case {"event": "ready"}:
                return Ready()
            case {"event": "clear"}:
                return Clear()
            case {"event": "mark", "name": str(name)} if len(name) <= MAX_NAME_CHARS:
                return MarkRequest(name)
            case {"event": "hangup"}:
                return Hangup(str(message.get("reason") or "hangup")[:MAX_NAME_CHARS])
            case {"event": "dtmf", "digits": str(digits)} if 0 < len(digits) <= MAX_DIGITS:
                return Forward(message)
            case {"event": "transfer", "target": str(target)} if 0 < len(target) <= MAX_NAME_CHARS:
                return Forward(message)
            case {"event": "record_start" | "record_pause" | "record_resume" | "record_stop"}:
                return Forward({"event": message["event"]})
            case {"event": "tool_call", "id": str(), "name": str()}:
                return Forward(message)
            case {"event": "transcript", "text": str(text)}:
                if len(text) > MAX_TRANSCRIPT_CHARS:
                    self.counters.truncated += 1
                    message = {**message, "text": text[:MAX_TRANSCRIPT_CHARS]}
                return Forward(message)
            case {"event": "mark" | "dtmf" | "transfer" | "tool_call" | "transcript"}:
                self.counters.malformed += 1
                return None
            case _:
                self.counters.unknown_events += 1
                return None


def _to_json(message: dict[str, Any]) -> str:
    return json.dumps(message, separators=(",", ":"), ensure_ascii=False)


def _has_lone_surrogate(message: dict[str, Any]) -> bool:
    """JSON can escape half of a surrogate pair, which no UTF-8 can carry further."""
    try:
        _to_json(message).encode()
    except UnicodeEncodeError:
        return True
    return False


def _is_deep(value: object, depth: int = 0) -> bool:
    """Deeper nesting than any tool's arguments: writing it again could exhaust the stack."""
    if depth > MAX_DEPTH:
        return True
    if isinstance(value, dict):
        return any(_is_deep(v, depth + 1) for v in value.values())
    if isinstance(value, list):
        return any(_is_deep(v, depth + 1) for v in value)
    return False
