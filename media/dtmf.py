"""Telephone events, RFC 4733: receiver and sender of one leg's digits.

All packets of one event carry the same RTP timestamp, which is what identifies it; marker, end packets and their three
copies may be lost, and packets overtake each other.  A digit is reported exactly once, when its end is known: an end
packet, the first packet of another event, or silence for `EVENT_TIMEOUT_MS`.  A long one goes on in segments, each with
the timestamp that follows (§2.5.1.3); senders that let the duration begin at zero again instead are understood.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

import attrs

__all__ = [
    "DIGITS",
    "EVENT_TIMEOUT_MS",
    "Digit",
    "DigitSource",
    "DtmfParseError",
    "DtmfReceiver",
    "DtmfSender",
    "SendStep",
    "ToneSlot",
]

DIGITS: Final = "0123456789*#ABCD"
"""RFC 4733 §3.2: event codes 0 to 15."""
EVENT_TIMEOUT_MS: Final = 100
"""RFC 4733 §2.5.2.2 asks for updates every 50 ms; two lost in a row still do not end the event."""
_SEGMENT: Final = 0xFFFF
_WRAP: Final = 0x8000
"""A duration that is so much smaller than the last one has wrapped; one that is so much larger is from before that."""
_RECENT: Final = 8
"""Ended events remembered, so that their retransmitted end packets are not new digits."""


class DtmfParseError(Exception):
    """Not a telephone event of a digit."""


class DigitSource(Enum):
    """How a digit was learnt."""

    RTP = "rtp"
    """Telephone events."""
    INBAND = "inband"
    """Its tones were heard."""


@attrs.frozen(slots=True)
class Digit:
    """A completed digit."""

    digit: str
    duration_ms: int
    source: DigitSource = DigitSource.RTP


@attrs.frozen(slots=True)
class EventPayload:
    """RFC 4733 §2.3."""

    event: int
    end: bool
    volume: int
    duration: int


def parse_event_untrusted(payload: bytes) -> EventPayload:
    """Reads the first event of a payload.

    Raises:
        DtmfParseError: too short, or an event that is not a DTMF digit.
    """
    if len(payload) < 4:
        raise DtmfParseError("short")
    if payload[0] >= len(DIGITS):
        raise DtmfParseError("event")
    return EventPayload(payload[0], bool(payload[1] & 0x80), payload[1] & 0x3F, int.from_bytes(payload[2:4], "big"))


@attrs.define
class DtmfReceiver:
    """Digits of one leg.

    Attributes:
        units_per_ms: of the clock of durations.
        timestamps_per_unit: of the RTP clock, where that is another.
    """

    units_per_ms: int = 8
    timestamps_per_unit: int = 1
    _timestamp: int | None = None
    _event: int = 0
    _base: int = 0
    """Duration of the segments before this one, for events longer than 8 s (RFC 4733 §2.5.1.3)."""
    _duration: int = 0
    _seen_ms: float = 0.0
    _ended: list[tuple[int, int]] = attrs.Factory(list)
    """Timestamps and events."""
    _is_reported: bool = False
    """The event under way is the rest of one whose end seemed to be known."""

    def receive_untrusted(self, timestamp: int, payload: bytes, *, now_ms: float) -> list[Digit]:
        """Takes one event packet; returns the digits that are complete now.

        Raises:
            DtmfParseError: as `parse_event_untrusted`.
        """
        event = parse_event_untrusted(payload)
        digits: list[Digit] = []
        if any(timestamp == ended for ended, _ in self._ended):
            return digits
        if timestamp != self._timestamp:
            former = (timestamp - _SEGMENT * self.timestamps_per_unit) & 0xFFFFFFFF
            if former == self._timestamp and event.event == self._event:
                self._remember(former)
                self._base += _SEGMENT
            else:
                digits += self._finish()
                self._base = 0
                # of an event that was given up while its packets were lost
                self._is_reported = (former, event.event) in self._ended
            self._timestamp, self._event, self._duration = timestamp, event.event, 0
        self._seen_ms = now_ms
        if event.duration < self._duration - _WRAP:
            self._base += _SEGMENT + 1
            self._duration = event.duration
        elif self._base == 0 or event.duration <= self._duration + _WRAP:
            self._duration = max(self._duration, event.duration)
        if event.end:
            digits += self._finish()
        return digits

    def next_deadline(self) -> float | None:
        """In ms of the clock of ``now_ms``; None without an event."""
        return None if self._timestamp is None else self._seen_ms + EVENT_TIMEOUT_MS

    def handle_timer(self, *, now_ms: float) -> list[Digit]:
        """Ends an event whose end packets were lost."""
        deadline = self.next_deadline()
        return self._finish() if deadline is not None and now_ms >= deadline else []

    def _finish(self) -> list[Digit]:
        if self._timestamp is None:
            return []
        self._remember(self._timestamp)
        self._timestamp = None
        if self._is_reported:
            self._is_reported = False
            return []
        return [Digit(DIGITS[self._event], (self._base + self._duration) // self.units_per_ms)]

    def _remember(self, timestamp: int) -> None:
        self._ended.append((timestamp, self._event))
        del self._ended[:-_RECENT]


@attrs.frozen(slots=True)
class SendStep:
    """What goes out in one 20 ms slot instead of audio: ``payload`` empty means a pause."""

    payload: bytes
    marker: bool
    offset: int
    """Timestamp of the event relative to this slot's, in units of the RTP clock, zero or negative."""


@attrs.frozen(slots=True)
class ToneSlot:
    """20 ms of a digit's tone: the ``number``-th of them."""

    digit: str
    number: int


class DtmfSender:
    """Turns digits into slots of 20 ms: 100 ms tone, then 100 ms in which of an event two further end packets go."""

    TONE_SLOTS: Final = 5
    END_SLOTS: Final = 2
    PAUSE_SLOTS: Final = 3
    MAX_QUEUED: Final = 64
    VOLUME: Final = 10
    """-10 dBm0."""

    def __init__(self) -> None:
        self._queue: list[str] = []
        self._slot = 0

    @property
    def is_active(self) -> bool:
        return bool(self._queue)

    def send(self, digits: str) -> None:
        """Queues digits.

        Raises:
            ValueError: a character that is not a digit, or too many waiting.
        """
        digits = digits.upper()
        if any(d not in DIGITS for d in digits):
            raise ValueError(f"not DTMF digits: {digits[:32]!r}")
        if len(self._queue) + len(digits) > self.MAX_QUEUED:
            raise ValueError("too many digits")
        self._queue += digits

    def next_slot(self, slot_timestamps: int = 160, slot_units: int | None = None) -> SendStep:
        """The next slot, as event; only while `is_active`.

        Args:
            slot_timestamps: units of the RTP clock in 20 ms.
            slot_units: units of the event's own clock in 20 ms; None: the same.
        """
        digit, slot = self._next()
        tone = self.TONE_SLOTS
        if slot >= tone + self.END_SLOTS:
            return SendStep(b"", False, 0)
        end = slot >= tone - 1
        duration = min(slot + 1, tone) * (slot_timestamps if slot_units is None else slot_units)
        event = DIGITS.index(digit)
        payload = bytes([event, (0x80 if end else 0) | self.VOLUME]) + duration.to_bytes(2, "big")
        return SendStep(payload, slot == 0, -slot_timestamps * slot)

    def next_tone(self) -> ToneSlot | None:
        """The next slot, as tone; None: of a pause.  Only while `is_active`."""
        digit, slot = self._next()
        return ToneSlot(digit, slot) if slot < self.TONE_SLOTS else None

    def _next(self) -> tuple[str, int]:
        """The digit and the number of the next slot."""
        digit, slot = self._queue[0], self._slot
        self._slot += 1
        if self._slot == self.TONE_SLOTS + self.END_SLOTS + self.PAUSE_SLOTS:
            self._slot = 0
            del self._queue[0]
        return digit, slot
