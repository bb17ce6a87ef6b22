"""The figures of one leg for its record: quality of both directions, levels, and how the conversation went."""

from __future__ import annotations

from typing import Any, Final

import attrs

from media.leg import Leg
from media.levels import SAMPLED, Levels, levels_of
from media.losses import LossShare
from media.quality import Rating, rating
from media.table import FRAME_TICKS, TICK_MS, LegTable

__all__ = ["OWN_DELAY_MS", "PEER_BUFFER_MS", "PeerView", "figures_of"]

FRAME_MS: Final = FRAME_TICKS * TICK_MS
OWN_DELAY_MS: Final = 5.0
"""What the worker adds in each direction (docs/decisions/0002-media-plane.md)."""
CODEC_DELAY_MS: Final = 25.0
"""A frame and what a coder looks ahead."""
PEER_BUFFER_MS: Final = 40.0
"""What a telephone holds back against jitter: nobody tells us, so this is assumed."""

AMR_MODES: Final = {"AMR": 8, "AMR-WB": 9}
"""How many modes with speech there are."""


@attrs.frozen(slots=True)
class PeerView:
    """What the party's RTCP says; None: nothing.

    Attributes:
        round_trip_ms: of the network.
        loss_percent: of our packets, since the call began.
        jitter_ms: of our packets.
    """

    round_trip_ms: float | None = None
    loss_percent: float | None = None
    jitter_ms: float | None = None


NO_VIEW: Final = PeerView()


def figures_of(leg: Leg, table: LegTable, tick: int, view: PeerView = NO_VIEW) -> dict[str, Any]:
    """As they are now: ``quality``, ``levels`` and ``talk`` of a leg's statistics."""
    row = leg.row
    heard = levels_of(table.levels_in[row], int(table.clipped_in[row]))
    said = levels_of(table.levels_out[row], int(table.clipped_out[row]))
    return {
        "quality": {"receive": _received(leg, table, view), "send": _sent(leg, view)},
        "levels": {"receive": _levels(heard), "send": _levels(said)},
        "talk": leg.talk.figures(tick, agent_s=_speech_s(said)),
    }


def _received(leg: Leg, table: LegTable, view: PeerView) -> dict[str, Any] | None:
    row, receiver = leg.row, leg.receiver
    received = int(table.packets_in[row])
    if not received:
        return None
    codec = receiver.config.codec
    stale = int(table.stale[row])
    whole, worst = receiver.losses.whole(received), receiver.losses.worst(received)
    if stale:  # thrown away by us; to the engine they are as lost as the others
        share = 100 * stale / (received + receiver.losses.lost)
        whole = attrs.evolve(whole, percent=min(100.0, whole.percent + share))
    delay_ms = CODEC_DELAY_MS + OWN_DELAY_MS + (view.round_trip_ms or 0.0) / 2
    late = leg.counters.late
    mode = None if receiver.coded is None else mode_of(codec, receiver.coded.heard)
    worst_rating = rating(codec, worst.percent, worst.burst_ratio, delay_ms, mode)
    return {
        **_rated(codec, whole, delay_ms, view, mode),
        "late_percent": round(100 * late / (received + receiver.losses.lost), 2),
        "jitter_ms": round(float(table.jitter[row]), 2),
        "worst_10s": {
            "loss_percent": round(worst.percent, 2),
            "burst_ratio": round(worst.burst_ratio, 2),
            "mos_lq": worst_rating.mos_lq,
        },
    }


def _sent(leg: Leg, view: PeerView) -> dict[str, Any] | None:
    if view.loss_percent is None:
        return None
    delay_ms = CODEC_DELAY_MS + OWN_DELAY_MS + PEER_BUFFER_MS + (view.round_trip_ms or 0.0) / 2
    # how the losses were bunched is not in a report: as if each were by itself
    share = LossShare(min(max(view.loss_percent, 0.0), 100.0))
    codec, coded = leg.receiver.config.codec, leg.receiver.coded
    figures = _rated(codec, share, delay_ms, view, None if coded is None else mode_of(codec, coded.said))
    return {**figures, "jitter_ms": None if view.jitter_ms is None else round(view.jitter_ms, 2)}


def mode_of(codec: str, frame: bytes | None) -> int | None:
    """The mode of an AMR or AMR-WB frame with speech, from its table of contents; None: there is none."""
    if not frame or codec.upper() not in AMR_MODES:
        return None
    frame_type = frame[0] >> 3 & 15
    return frame_type if frame_type < AMR_MODES[codec.upper()] else None


def _rated(codec: str, loss: LossShare, delay_ms: float, view: PeerView, mode: int | None) -> dict[str, Any]:
    rated: Rating = rating(codec, loss.percent, loss.burst_ratio, delay_ms, mode)
    return {
        "codec": codec,
        "mode": mode,
        "r": rated.r,
        "mos_lq": rated.mos_lq,
        "mos_cq": rated.mos_cq,
        "scale": rated.scale,
        "loss_percent": round(loss.percent, 2),
        "burst_ratio": round(loss.burst_ratio, 2),
        "delay_ms": round(delay_ms, 1),
        "round_trip_ms": None if view.round_trip_ms is None else round(view.round_trip_ms, 1),
    }


def _levels(levels: Levels) -> dict[str, Any]:
    return {
        "speech_dbov": levels.speech_dbov,
        "noise_dbov": levels.noise_dbov,
        "speech_s": round(_speech_s(levels), 1),
        "clipped": levels.clipped,
    }


def _speech_s(levels: Levels) -> float:
    return levels.activity * levels.frames * SAMPLED * FRAME_MS / 1000
