"""What the media plane measured of a call, on its way into the call's record and the metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ims_as.call.agent_call import AgentCall

__all__ = ["note_media", "note_one_way", "note_silenced", "start_watching"]

MAX_ONE_WAY = 20
"""Notes per call; a party that comes and goes is no news after so many."""


def start_watching(call: AgentCall) -> None:
    """The call is answered and acknowledged: from now on audio is expected both ways."""
    if call.leg is None:
        return
    call.leg.talking()
    if not call.is_watched:
        call.is_watched = True
        call.context.quality.call_talks(call.context.now())


def note_one_way(call: AgentCall, event: dict[str, Any]) -> None:
    """One direction is empty, or is not any more."""
    direction, reason, at = str(event.get("direction")), str(event.get("reason")), event.get("at")
    record, is_over = call.record, bool(event.get("over"))
    if is_over:
        call.trace("media", "media", "ims-as", f"audio both ways again ({direction}: {reason})", at=at)
    else:
        call.trace("media", "media", "ims-as", f"one-way audio: {direction}, {reason}", at=at)
        call.context.metrics.one_way_audio.labels(direction, reason).inc()
        if reason != "digital-silence":  # that may be a person who listens, with a telephone that takes all noise away
            party = record.from_uri if record.direction == "inbound" else record.to_uri
            call.context.quality.one_way(party, call.context.now())
    if len(record.one_way) < MAX_ONE_WAY:
        record.one_way.append({"direction": direction, "reason": reason, "over": is_over, "at": at})


def note_silenced(call: AgentCall, event: dict[str, Any]) -> None:
    """The agent has fallen silent, as the caller or its engine wanted."""
    by, clear_ms, speech_ms = str(event.get("by")), event.get("clear_ms"), event.get("speech_ms")
    text = f"agent silent {clear_ms} ms after clear ({by})"
    if isinstance(speech_ms, int | float):
        text += f", {speech_ms} ms after the caller spoke"
        call.context.metrics.barge_in_seconds.labels(by).observe(speech_ms / 1000)
    call.trace("media", "media", "caller", text, at=event.get("at"))


def note_media(call: AgentCall, stats: dict[str, Any]) -> None:
    """The last figures of the call's leg, as it is released."""
    if not stats:  # the worker is lost, and what it knew
        return
    call.record.media = stats
    if text := _quality_text(stats):
        call.trace("media", "media", "ims-as", text)
    metrics = call.context.metrics
    metrics.rtp_packets_lost.inc(_number(stats, "lost"))
    metrics.rtp_packets_late.inc(_number(stats, "late"))
    metrics.rtp_concealed_seconds.inc(_number(stats, "concealed_ms") / 1000)
    for direction, quality in (stats.get("quality") or {}).items():
        if quality:
            metrics.call_mos.labels(direction, quality["scale"]).observe(quality["mos_cq"])


def _quality_text(stats: dict[str, Any]) -> str:
    """For the trail; nothing where no audio came."""
    parts = [
        f"{'heard' if direction == 'receive' else 'sent'}: MOS {each['mos_cq']} ({each['scale']}),"
        f" loss {each['loss_percent']} %"
        for direction, each in (stats.get("quality") or {}).items()
        if each
    ]
    return "; ".join(parts)


def _number(stats: dict[str, Any], name: str) -> float:
    return max(0.0, float(stats.get(name) or 0))
