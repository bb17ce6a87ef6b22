"""What a report shows: plain values, no tie to how the lab measured them.

All times are wall-clock seconds; the page shows them relative to ``CallReport.began_at``.
"""

from __future__ import annotations

import enum

import attrs
import numpy as np
import numpy.typing as npt

__all__ = [
    "Band",
    "BandKind",
    "CallReport",
    "Caption",
    "Event",
    "EventKind",
    "Fact",
    "Lifeline",
    "Marker",
    "Report",
    "RtpFlow",
    "Timing",
    "Track",
    "TranscriptLine",
]


class Lifeline(enum.Enum):
    """Who takes part, in the order of the columns."""

    UE = "UE"
    SCSCF = "S-CSCF"
    IMS_AS = "ims-as"
    MEDIA = "media worker"
    ENGINE = "AI engine"
    HSS = "HSS"
    PHONE = "legacy phone"


class EventKind(enum.Enum):
    SIP = "sip"
    MEDIA = "media"
    ENGINE = "engine"
    SH = "sh"
    DECISION = "decision"


class BandKind(enum.Enum):
    """Whose voice a stretch of audio carries."""

    CALLER = "caller"
    AGENT = "agent"
    FILLER = "filler"
    DIRECT = "direct"


@attrs.frozen
class Event:
    """One arrow of the ladder; a note on a lifeline where source and target are the same."""

    at: float
    kind: EventKind
    source: Lifeline
    target: Lifeline
    label: str
    text: str = ""
    """The whole message, shown when the pointer rests on the label."""
    is_failure: bool = False


@attrs.frozen
class Band:
    """A stretch of audio between two lifelines."""

    start: float
    end: float
    kind: BandKind
    source: Lifeline
    target: Lifeline
    label: str


@attrs.frozen
class Caption:
    """Words under a waveform."""

    start: float
    end: float
    text: str


@attrs.frozen
class Marker:
    """A moment drawn through all waveforms of a call."""

    at: float
    label: str


@attrs.frozen(eq=False)
class Track:
    """One recording.  ``pcm``: int16, shape (n_samples,), mono at ``rate_hz``; its first sample was at ``began_at``."""

    title: str
    file_name: str
    pcm: npt.NDArray[np.int16]
    rate_hz: int
    began_at: float
    captions: tuple[Caption, ...] = ()
    note: str = ""

    @property
    def duration_s(self) -> float:
        return len(self.pcm) / self.rate_hz


@attrs.frozen
class TranscriptLine:
    at: float
    role: str
    """``user`` or ``agent``."""
    text: str
    expected: str | None = None
    """The words really spoken, where they are known."""


@attrs.frozen
class Timing:
    """One measured value.  ``limit`` is printed as it is ("≤ 50 ms"); ``ok`` None: no limit applies."""

    name: str
    value: str
    limit: str = ""
    ok: bool | None = None


@attrs.frozen
class RtpFlow:
    """RTP packets seen on the wire from one address to another."""

    source: str
    destination: str
    n_packets: int
    first_at: float
    last_at: float
    meaning: str = ""


@attrs.frozen
class Fact:
    """Something checked, in words."""

    text: str
    ok: bool


@attrs.frozen(eq=False)
class CallReport:
    number: str
    """``1``, ``3a`` …"""
    name: str
    title: str
    summary: str
    began_at: float
    ended_at: float
    facts: tuple[Fact, ...] = ()
    timings: tuple[Timing, ...] = ()
    events: tuple[Event, ...] = ()
    bands: tuple[Band, ...] = ()
    tracks: tuple[Track, ...] = ()
    markers: tuple[Marker, ...] = ()
    transcript: tuple[TranscriptLine, ...] = ()
    rtp_flows: tuple[RtpFlow, ...] = ()
    session_data: tuple[tuple[str, str], ...] = ()
    result: dict[str, object] = attrs.Factory(dict)
    """The call's entry in result.json."""

    @property
    def ok(self) -> bool:
        return bool(self.facts) and all(fact.ok for fact in self.facts)


@attrs.frozen(eq=False)
class Report:
    title: str
    began_at: float
    ended_at: float
    calls: tuple[CallReport, ...]
    environment: tuple[tuple[str, str], ...] = ()
    """Machine, versions, addresses."""

    @property
    def ok(self) -> bool:
        return bool(self.calls) and all(call.ok for call in self.calls)
