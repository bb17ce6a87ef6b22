"""What is known of one call: one record feeds the HTTP API, the CDR, the metrics and the report."""

from __future__ import annotations

import statistics
from collections import OrderedDict
from enum import Enum
from typing import Any

import attrs

from ims_as.errors import Termination
from ims_as.oss.trace import CallTrace

__all__ = ["CallDirectory", "CallRecord", "CallState", "TranscriptLine"]

MAX_TRANSCRIPT_LINES = 500
MAX_ENDED_CALLS = 1000


class CallState(Enum):
    SETTING_UP = "setting-up"
    CALLING = "calling"
    """A call of ours: the INVITE is under way."""
    RINGING = "ringing"
    """A call of ours: the callee is being alerted."""
    TALKING = "talking"
    """The caller is joined to an agent's engine."""
    FILLING = "filling"
    """The engine is lost; the caller hears filler while another engine or a human is sought."""
    JOINED = "joined"
    """The caller and a human talk directly; we keep the signalling."""
    ENDED = "ended"


@attrs.frozen
class TranscriptLine:
    role: str
    text: str
    at: float


@attrs.define(eq=False)
class CallRecord:
    """Times are wall clock seconds."""

    id: str
    sip_call_id: str
    from_uri: str
    to_uri: str
    received_at: float
    trace: CallTrace
    state: CallState = CallState.SETTING_UP
    served_user: str = ""
    session_case: str = ""
    icid: str = ""
    orig_ioi: str = ""
    agent: str = ""
    engine_url: str = ""
    engine_ms: float | None = None
    profile_source: str = ""
    profile_problems: tuple[str, ...] = ()
    """What in the user's profile could not be used."""
    consent: dict[str, bool] = attrs.Factory(dict)
    """What the profile says of ``recording`` and ``announce``."""
    direction: str = "inbound"
    """``outbound``: we placed it."""
    ringing_at: float | None = None
    answered_at: float | None = None
    ended_at: float | None = None
    ttfb_ms: list[float] = attrs.Factory(list)
    transcript: list[TranscriptLine] = attrs.Factory(list)
    failovers: int = 0
    media_moves: int = 0
    """How often its media worker was lost and another one took over; `media` tells of the last one alone."""
    outgoing_call_id: str | None = None
    """SIP Call-ID of the leg to the human."""
    transfer: dict[str, Any] | None = None
    legs: dict[str, str] = attrs.Factory(dict)
    """``first`` and ``second`` of a call that connects two people: how far each is."""
    media: dict[str, Any] = attrs.Factory(dict)
    recordings: list[str] = attrs.Factory(list)
    """Names below the agent's folder for them."""
    """The last statistics of our leg, with its quality (docs/quality-figures.md)."""
    one_way: list[dict[str, Any]] = attrs.Factory(list)
    """When audio went one way only: ``direction``, ``reason``, ``over``, ``at``."""
    termination: Termination | None = None

    @property
    def setup_ms(self) -> float | None:
        """INVITE received to 200 sent; None for calls of ours, which wait for a person."""
        if self.answered_at is None or self.direction == "outbound":
            return None
        return round((self.answered_at - self.received_at) * 1000, 2)

    @property
    def mos(self) -> dict[str, float]:
        """Conversational MOS by direction, as far as it is known; see docs/quality-figures.md."""
        quality = self.media.get("quality") or {}
        return {direction: each["mos_cq"] for direction, each in quality.items() if each}

    def add_transcript(self, role: str, text: str, at: float) -> None:
        if len(self.transcript) < MAX_TRANSCRIPT_LINES:
            self.transcript.append(TranscriptLine(role, text, at))

    def summary(self) -> dict[str, Any]:
        termination = self.termination
        return {
            "id": self.id,
            "sip_call_id": self.sip_call_id,
            "state": self.state.value,
            "direction": self.direction,
            "from": self.from_uri,
            "to": self.to_uri,
            "served_user": self.served_user,
            "session_case": self.session_case,
            "agent": self.agent,
            "received_at": self.received_at,
            "ringing_at": self.ringing_at,
            "answered_at": self.answered_at,
            "ended_at": self.ended_at,
            "setup_ms": self.setup_ms,
            "ttfb_ms": self.ttfb_ms[0] if self.ttfb_ms else None,
            "mos": self.mos,
            "termination": None
            if termination is None
            else {
                "result": termination.result.value,
                "by": termination.by,
                "reason": termination.reason,
                "cause": termination.cause,
            },
        }

    def fields(self) -> dict[str, Any]:
        """All but what was said and the trail: what a charging record is made from."""
        return {
            **self.summary(),
            "outgoing_call_id": self.outgoing_call_id,
            "icid": self.icid,
            "orig_ioi": self.orig_ioi,
            "engine": self.engine_url,
            "engine_ms": self.engine_ms,
            "profile_source": self.profile_source,
            "profile_problems": list(self.profile_problems),
            "consent": self.consent,
            "ttfb_ms_all": self.ttfb_ms,
            "ttfb_p50_ms": statistics.median_low(self.ttfb_ms) if self.ttfb_ms else None,
            "ttfb_max_ms": max(self.ttfb_ms, default=None),
            "failovers": self.failovers,
            "media_moves": self.media_moves,
            "transfer": self.transfer,
            "legs": self.legs,
            "media": self.media,
            "recordings": self.recordings,
            "one_way": self.one_way,
        }

    def detail(self) -> dict[str, Any]:
        return {
            **self.fields(),
            "transcript": [attrs.asdict(line) for line in self.transcript],
            "trace": self.trace.as_dicts(),
        }


@attrs.define
class CallDirectory:
    """The calls that are up and the last ones that ended; by our id or by a SIP Call-ID of any of their legs."""

    active: dict[str, CallRecord] = attrs.Factory(dict)
    ended: OrderedDict[str, CallRecord] = attrs.Factory(OrderedDict)
    _by_call_id: dict[str, str] = attrs.Factory(dict)
    _legs: dict[str, list[str]] = attrs.Factory(dict)

    def add(self, record: CallRecord) -> None:
        self.active[record.id] = record
        self.add_leg(record, record.sip_call_id)

    def add_leg(self, record: CallRecord, sip_call_id: str) -> None:
        # a call of ours that the criteria bring back to be passed on keeps its Call-ID: the trail stays the first one's
        if self._by_call_id.get(sip_call_id) not in self.active:
            self._by_call_id[sip_call_id] = record.id
        self._legs.setdefault(record.id, []).append(sip_call_id)

    def end(self, record: CallRecord) -> None:
        self.active.pop(record.id, None)
        self.ended[record.id] = record
        while len(self.ended) > MAX_ENDED_CALLS:
            gone, _ = self.ended.popitem(last=False)
            for sip_call_id in self._legs.pop(gone, ()):
                if self._by_call_id.get(sip_call_id) == gone:
                    del self._by_call_id[sip_call_id]

    def find(self, any_id: str) -> CallRecord | None:
        own = any_id if any_id in self.active or any_id in self.ended else self._by_call_id.get(any_id, "")
        return self.active.get(own) or self.ended.get(own)

    def summaries(self) -> list[dict[str, Any]]:
        """Newest first."""
        records = [*self.ended.values(), *self.active.values()]
        return [record.summary() for record in sorted(records, key=lambda each: -each.received_at)]
