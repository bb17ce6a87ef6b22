"""What a leg's columns say for a report."""

from __future__ import annotations

from typing import Final

from media.figures import CODEC_DELAY_MS, OWN_DELAY_MS, PeerView
from media.leg import Leg
from media.order import MAX_WAIT_TICKS, gap_wait_ticks
from media.quality import Rating, rating
from media.reception import LossSummary
from media.rtcp_session import SenderFigures, SourceFigures, StreamFigures
from media.rtcp_xr import VoipMetrics
from media.table import FRAME_TICKS, TICK_MS, LegTable

__all__ = ["peer_view", "sender_figures", "stream_figures"]

RX_CONFIG: Final = 0xB0
"""Enhanced concealment, adaptive jitter buffer (RFC 3611 §4.7.7); ours holds nothing back while nothing is missing."""
END_SYSTEM_MS: Final = round(2 * OWN_DELAY_MS + CODEC_DELAY_MS)
FRAME_MS: Final = FRAME_TICKS * TICK_MS


def peer_view(leg: Leg) -> PeerView:
    """What the party's reports say of the call."""
    session = leg.rtcp
    if session is None:
        return PeerView()
    remote, trip_s = session.remote, session.round_trip_s
    return PeerView(
        round_trip_ms=None if trip_s is None else trip_s * 1000,
        loss_percent=None if remote.loss_share is None else remote.loss_share * 100,
        jitter_ms=None if remote.jitter is None else remote.jitter * 1000 / session.clock_rate,
    )


def sender_figures(leg: Leg, table: LegTable, tick: int, base: SenderFigures | None = None) -> SenderFigures:
    """What was sent since ``base``, and the stream's clock at ``tick``."""
    row = leg.row
    ahead_ticks = int(table.nominal[row]) - tick if leg.receiver.config.send else 0
    timestamp = int(table.timestamp[row]) - ahead_ticks * int(table.frame_timestamps[row]) // FRAME_TICKS
    packets, octets = int(table.packets_out[row]), leg.octets_out(table)
    if base is not None:
        packets, octets = packets - base.packets, max(0, octets - base.octets)
    return SenderFigures(packets, octets, timestamp & 0xFFFFFFFF)


def stream_figures(leg: Leg, table: LegTable, tick: int, base: SenderFigures) -> StreamFigures:
    """For a report that is about to be sent: fractions of loss are counted anew from here."""
    sender, row, reception = sender_figures(leg, table, tick, base), leg.row, leg.receiver.reception
    if reception is None:
        return StreamFigures(sender, None)
    loss = reception.summarise(leg.receiver.highest_sequence, int(table.packets_in[row]))
    ssrc, jitter_ms = int(table.ssrc_in[row]), float(table.jitter[row])
    jitter = round(jitter_ms * leg.receiver.config.clock_rate / 1000)
    return StreamFigures(sender, SourceFigures(ssrc, jitter, loss), lambda: _metrics(leg, ssrc, jitter_ms, loss))


def _metrics(leg: Leg, ssrc: int, jitter_ms: float, loss: LossSummary) -> VoipMetrics:
    lost = max(0, loss.given_up - loss.late)
    expected = max(1, loss.expected)
    rated = _rating(leg, loss)
    bursts = loss.bursts
    return VoipMetrics(
        ssrc=ssrc,
        loss_rate=_in_256(lost / expected),
        discard_rate=_in_256(loss.late / expected),
        burst_density=_in_256(bursts.burst_density),
        gap_density=_in_256(bursts.gap_density),
        burst_ms=round(bursts.burst_packets * FRAME_MS),
        gap_ms=round(bursts.gap_packets * FRAME_MS),
        end_system_ms=END_SYSTEM_MS,
        r_factor=rated.r_factor,
        mos_lq=round(rated.mos_lq * 10),
        mos_cq=round(rated.mos_cq * 10),
        rx_config=RX_CONFIG,
        jb_maximum_ms=gap_wait_ticks(jitter_ms, TICK_MS) * TICK_MS,
        jb_abs_max_ms=MAX_WAIT_TICKS * TICK_MS,
    )


def _rating(leg: Leg, loss: LossSummary) -> Rating:
    """As the record of the call has it, with the round trip as far as it is known."""
    trip_s = leg.rtcp.round_trip_s if leg.rtcp is not None else None
    delay_ms = CODEC_DELAY_MS + OWN_DELAY_MS + (trip_s or 0.0) * 500
    share = leg.receiver.losses.whole(loss.received)
    return rating(leg.receiver.config.codec, share.percent, share.burst_ratio, delay_ms)


def _in_256(share: float) -> int:
    return min(255, int(share * 256))
