"""What an engine protocol is to the media plane: pure translation, no I/O.

A protocol turns what the plane has to say into messages, and what the engine sends into `EngineEvent` values; the
session owns the connection, the plane owns the audio.
"""

from __future__ import annotations

from typing import Any, Protocol

import attrs

__all__ = [
    "Audio",
    "Clear",
    "EngineCounters",
    "EngineEvent",
    "EngineProtocol",
    "Forward",
    "Hangup",
    "MarkRequest",
    "Ready",
]


@attrs.frozen(slots=True)
class Ready:
    """The engine can take the call."""


@attrs.frozen(slots=True)
class Audio:
    """int16 little-endian samples at the engine's rate, an even number of bytes."""

    pcm: bytes


@attrs.frozen(slots=True)
class Clear:
    """Everything queued is to be forgotten."""


@attrs.frozen(slots=True)
class MarkRequest:
    """The engine wants to know when what it sent so far was played."""

    name: str


@attrs.frozen(slots=True)
class Hangup:
    """The call is to end when what is queued has been played."""

    reason: str


@attrs.frozen(slots=True)
class Forward:
    """For the signalling side: transfer, transcript, tool_call, dtmf."""

    event: dict[str, Any]


EngineEvent = Ready | Audio | Clear | MarkRequest | Hangup | Forward


@attrs.define
class EngineCounters:
    """What an engine did wrong, all of it survived."""

    unknown_events: int = 0
    malformed: int = 0
    odd_pcm: int = 0
    truncated: int = 0


class EngineProtocol(Protocol):
    """One connection's translation."""

    subprotocols: tuple[str, ...]
    counters: EngineCounters

    def build_start(self) -> str:
        """The first message after the handshake."""
        ...

    def build_event(self, event: dict[str, Any]) -> str:
        """Any event of the signalling side: hold, resume, transfer, tool_result."""
        ...

    def build_speech(self, started: bool) -> str: ...

    def build_dtmf(self, digit: str, duration_ms: int) -> str: ...

    def build_mark(self, name: str, played: bool) -> str: ...

    def build_cleared(self, played_ms: float) -> str: ...

    def build_barge_in(self, played_ms: float) -> str:
        """The caller spoke over the engine, whose audio was dropped without being asked."""
        ...

    def build_stop(self, reason: str) -> str: ...

    def receive_text_untrusted(self, text: str) -> list[EngineEvent]: ...

    def receive_binary_untrusted(self, payload: bytes) -> list[EngineEvent]: ...
