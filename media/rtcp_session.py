"""RTCP of one leg, RFC 3550 §6 and §8: when to report and what, and what the peer's reports say.

A leg has one peer.  The times are those of §6.3 for two members: five seconds (half of that at first) or what the
bandwidth allows, whichever is longer, spread at random and compensated for reconsideration.  The bandwidth is that of
``b=RS`` and ``b=RR`` (RFC 3556); who has none of it is silent.

``now`` is in seconds of a monotonic clock; the wall clock is read once, at the beginning, so that a step of it does
not make a wrong round trip.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

import attrs

from media.reception import LossSummary
from media.rtcp import (
    CNAME,
    NTP_UNIX_S,
    Bye,
    ReceiverReport,
    ReportBlock,
    RtcpPacket,
    RtcpParseError,
    SdesChunk,
    SenderReport,
    SourceDescription,
    build_rtcp,
    ntp_of,
    parse_rtcp_untrusted,
)
from media.rtcp_xr import UNAVAILABLE, Dlrr, DlrrEntry, ExtendedReport, ReferenceTime, VoipMetrics, XrBlock
from media.unwrap import timestamp_distance

__all__ = ["Bandwidth", "Received", "RtcpCounters", "RtcpSession", "SenderFigures", "SourceFigures", "StreamFigures"]

MIN_INTERVAL_S: Final = 5.0
COMPENSATION: Final = 1.21828
"""e - 3/2: reconsideration would make intervals longer than wanted by this."""
DEFAULT_BPS: Final = 4000
"""5% of G.711 with its headers; a quarter of it is for senders (§6.2)."""
LOWER_LAYERS_BYTES: Final = 28
MEMBER_INTERVALS: Final = 5
MAX_SSRC_CHANGES: Final = 3
"""Who collides more often reflects our own packets, or plays with us."""
MAX_ROUND_TRIP: Final = 60 << 16
CLOCK_SLACK: Final = 1 << 10
"""A round trip of less than nothing by so much is one of nothing: 16 ms for clocks that count coarsely."""
DEAF_PACKETS: Final = 100
"""Two seconds of ours: a peer that has heard nothing of them does not hear us."""
REMEMBERED: Final = 8


@attrs.frozen(slots=True)
class Bandwidth:
    """Bits per second for those who send (RS) and those who only receive (RR); None: as §6.2 has it."""

    rs: int | None = None
    rr: int | None = None

    @property
    def senders(self) -> float:
        return DEFAULT_BPS / 4 if self.rs is None else self.rs

    @property
    def receivers(self) -> float:
        return DEFAULT_BPS * 3 / 4 if self.rr is None else self.rr

    @property
    def is_none(self) -> bool:
        return self.senders + self.receivers <= 0


@attrs.frozen(slots=True)
class SenderFigures:
    """What we sent with the present SSRC, and the stream's clock now."""

    packets: int
    octets: int
    rtp_timestamp: int


@attrs.frozen(slots=True)
class SourceFigures:
    """What came of the peer's stream; ``jitter`` in units of its clock."""

    ssrc: int
    jitter: int
    loss: LossSummary


@attrs.frozen(slots=True)
class StreamFigures:
    """For one report; ``metrics`` are computed only where somebody wants them."""

    sender: SenderFigures
    source: SourceFigures | None
    metrics: Callable[[], VoipMetrics] | None = None


@attrs.define
class RtcpCounters:
    """Datagrams, not packets within them."""

    received: int = 0
    sent: int = 0
    invalid: int = 0
    stranger: int = 0


@attrs.frozen(slots=True)
class Received:
    """What follows from a datagram for the leg."""

    is_valid: bool = True
    is_collision: bool = False
    """The peer uses our SSRC: `RtcpSession.change_ssrc`."""
    is_bye: bool = False


@attrs.define
class RemoteView:
    """What the peer reports of our stream, as of its last report.

    Attributes:
        fraction_lost: between its last two reports, 0 to 1.
        loss_share: since the stream began, 0 to 1.
        jitter: in units of the RTP clock.
        hears_nothing: none of what we have lately sent has come to it.
    """

    fraction_lost: float | None = None
    cumulative_lost: int = 0
    loss_share: float | None = None
    jitter: int | None = None
    highest_sequence: int | None = None
    hears_nothing: bool = False
    metrics: VoipMetrics | None = None


class RtcpSession:
    """One leg's RTCP.

    Attributes:
        round_trip_s: as of the last report that said enough; None: not known.
        remote: the peer's view of us.
        bye_reason: of the BYE that the peer has sent; None: it has sent none.
    """

    def __init__(
        self, *, ssrc: int, cname: str, random: Callable[[], float], now: float, unix_s: float, clock_rate: int = 8000
    ) -> None:
        """
        Args:
            cname: for nothing else but this leg (RFC 7022 §4.2).
            random: a number from 0 to 1.
            unix_s: the wall clock at ``now``.
        """
        self.ssrc = ssrc
        self.cname = cname.encode()
        self.counters = RtcpCounters()
        self.remote = RemoteView()
        self.round_trip_s: float | None = None
        self.bye_reason: str | None = None
        self.clock_rate = clock_rate
        self._random = random
        self._wall_offset = unix_s - now
        self._bandwidth = Bandwidth()
        self._sends_xr = False
        self._peer_sends_xr = False
        self._average_bytes = 128.0
        self._is_initial = True
        self._last_report = now
        self._next: float | None = None
        self._packets_at_reports: deque[int] = deque([0, 0], maxlen=2)
        self._received_at_report = -1
        self._former_ssrcs: deque[int] = deque(maxlen=MAX_SSRC_CHANGES)
        self._sent_clocks: deque[int] = deque(maxlen=REMEMBERED)
        """Middle 32 bits of the NTP times of our sender reports and reference times."""
        self._peer: int | None = None
        self._peer_at = now
        self._peer_is_sender = False
        self._peer_clock: tuple[int, int] | None = None
        self._last_sr: tuple[int, float] | None = None
        self._last_rr: tuple[int, float] | None = None
        self._heard_sent = 0
        """How many packets we had sent when the peer last told that more of them had come."""
        self._schedule(now, is_sender=False)

    # ---- configuration
    def configure(self, bandwidth: Bandwidth, *, clock_rate: int, sends_xr: bool, now: float) -> None:
        """Takes what was negotiated, at first or anew."""
        was_none = self._bandwidth.is_none
        self._bandwidth, self.clock_rate, self._sends_xr = bandwidth, clock_rate, sends_xr
        if bandwidth.is_none:
            self._next = None
        elif was_none or self._next is None:
            self._schedule(now, is_sender=False)

    # ---- sending
    def next_deadline(self) -> float | None:
        return self._next

    def postpone(self, now: float) -> None:
        """It is time, but there is nobody to send to yet."""
        if self._next is not None:
            self._next = now + MIN_INTERVAL_S / 2

    def handle_timer(self, now: float, sent: int, figures: Callable[[], StreamFigures]) -> bytes | None:
        """The report that is due, if one is; ``figures`` is asked only then.

        Args:
            sent: packets that we have sent with the present SSRC.
        """
        if self._next is None or now < self._next:
            return None
        is_sender = sent > self._packets_at_reports[0]
        interval = self._randomised(now, is_sender)
        if interval is None:
            self._next = now + MIN_INTERVAL_S
            return None
        if self._last_report + interval > now:
            self._next = self._last_report + interval
            return None
        report = self._build(now, figures(), is_sender)
        self._last_report = now
        self._is_initial = False
        self._packets_at_reports.append(sent)
        self._note_size(len(report))
        self.counters.sent += 1
        self._schedule(now, is_sender)
        return report

    def bye(self, now: float, figures: StreamFigures, reason: str = "") -> bytes | None:
        """The last words; None when nothing was ever sent (§6.3.7), or nothing may be."""
        if self._bandwidth.is_none or not (self.counters.sent or figures.sender.packets):
            return None
        is_sender = figures.sender.packets > self._packets_at_reports[0]
        self.counters.sent += 1
        self._next = None
        return self._build(now, figures, is_sender, Bye((self.ssrc,), reason))

    def change_ssrc(self, ssrc: int, now: float, figures: StreamFigures) -> bytes | None:
        """The peer has chosen our number (§8.2): BYE for it, to be sent, and another.  The reports go on."""
        report = self.bye(now, figures, "SSRC collision")
        self._former_ssrcs.append(self.ssrc)
        self.ssrc = ssrc
        self._packets_at_reports.extend((0, 0))
        self._sent_clocks.clear()
        self._heard_sent = 0
        if not self._bandwidth.is_none:
            self._schedule(now, is_sender=False)
        return report

    @property
    def may_change_ssrc(self) -> bool:
        return len(self._former_ssrcs) < MAX_SSRC_CHANGES

    def _build(self, now: float, figures: StreamFigures, is_sender: bool, bye: Bye | None = None) -> bytes:
        ntp = ntp_of(now + self._wall_offset)
        blocks = self._report_blocks(now, figures.source)
        packets: list[RtcpPacket] = []
        if is_sender:
            sender = figures.sender
            packets.append(
                SenderReport(self.ssrc, ntp, sender.rtp_timestamp & 0xFFFFFFFF, sender.packets, sender.octets, blocks)
            )
            self._sent_clocks.append(_middle(ntp))
        else:
            packets.append(ReceiverReport(self.ssrc, blocks))
        packets.append(SourceDescription((SdesChunk(self.ssrc, ((CNAME, self.cname),)),)))
        if extended := self._extended(now, ntp, figures, is_sender):
            packets.append(ExtendedReport(self.ssrc, extended))
        if bye is not None:
            packets.append(bye)
        return build_rtcp(packets)

    def _report_blocks(self, now: float, source: SourceFigures | None) -> tuple[ReportBlock, ...]:
        """Only of a source that was heard since the last report (§6.4.2)."""
        if source is None or source.loss.received == self._received_at_report:
            return ()
        self._received_at_report = source.loss.received
        last_sr, at = self._last_sr if self._last_sr is not None and self._peer == source.ssrc else (0, now)
        block = ReportBlock(
            ssrc=source.ssrc,
            fraction_lost=int(source.loss.fraction_lost * 256),
            cumulative_lost=source.loss.expected - source.loss.received,
            highest_sequence=source.loss.highest,
            jitter=source.jitter,
            last_sr=last_sr,
            delay=int((now - at) * 65536),
        )
        return (block,)

    def _extended(self, now: float, ntp: int, figures: StreamFigures, is_sender: bool) -> tuple[XrBlock, ...]:
        if not (self._sends_xr or self._peer_sends_xr):
            return ()
        blocks: list[XrBlock] = []
        if not is_sender:
            blocks.append(ReferenceTime(ntp))
            self._sent_clocks.append(_middle(ntp))
        if self._last_rr is not None and self._peer is not None:
            last_rr, at = self._last_rr
            blocks.append(Dlrr((DlrrEntry(self._peer, last_rr, int((now - at) * 65536)),)))
            self._last_rr = None
        if figures.metrics is not None:
            round_trip_ms = round((self.round_trip_s or 0.0) * 1000)
            blocks.append(attrs.evolve(figures.metrics(), round_trip_ms=round_trip_ms))
        return tuple(blocks)

    # ---- intervals
    def _schedule(self, now: float, is_sender: bool) -> None:
        interval = self._randomised(now, is_sender)
        self._next = now + (MIN_INTERVAL_S if interval is None else interval)

    def _randomised(self, now: float, is_sender: bool) -> float | None:
        interval = self._interval(now, is_sender)
        return None if interval is None else interval * (0.5 + self._random()) / COMPENSATION

    def _interval(self, now: float, is_sender: bool) -> float | None:
        """§6.3.1; None: we have no share of the bandwidth."""
        least = MIN_INTERVAL_S / 2 if self._is_initial else MIN_INTERVAL_S
        is_alone = self._peer is None or now - self._peer_at > MEMBER_INTERVALS * MIN_INTERVAL_S
        members = 1 if is_alone else 2
        senders = int(is_sender) + int(not is_alone and self._peer_is_sender)
        rs, rr = self._bandwidth.senders, self._bandwidth.receivers
        if rs + rr <= 0:
            return None
        if senders > members * rs / (rs + rr):
            n, share = members, rs + rr
        elif is_sender:
            n, share = senders, rs
        else:
            n, share = members - senders, rr
        if share <= 0:
            return None
        return max(least, n * self._average_bytes * 8 / share)

    def _note_size(self, size: int) -> None:
        self._average_bytes += (size + LOWER_LAYERS_BYTES - self._average_bytes) / 16

    # ---- receiving
    def receive_untrusted(self, datagram: bytes | memoryview, *, now: float, sent: int) -> Received:
        """Takes a datagram of the peer's.

        Args:
            sent: packets that we have sent with the present SSRC.
        """
        try:
            packets = parse_rtcp_untrusted(datagram)
        except RtcpParseError:
            self.counters.invalid += 1
            return Received(is_valid=False)
        self.counters.received += 1
        if self._is_our_own(packets):
            return Received()
        self._note_size(len(datagram))
        is_collision = is_bye = False
        for packet in packets:
            match packet:
                case SenderReport():
                    is_collision |= self._note_peer(packet.ssrc, now, sent, is_sender=True)
                    self._peer_clock = packet.ntp, packet.rtp_timestamp
                    self._last_sr = _middle(packet.ntp), now
                    self._take_reports(packet.reports, now, sent)
                case ReceiverReport():
                    is_collision |= self._note_peer(packet.ssrc, now, sent, is_sender=False)
                    self._take_reports(packet.reports, now, sent)
                case Bye():
                    if self._peer in packet.ssrcs or not packet.ssrcs:
                        self._peer, self._peer_is_sender = None, False
                        self.bye_reason, is_bye = packet.reason.encode(errors="replace").decode(), True
                case ExtendedReport():
                    is_collision |= packet.ssrc == self.ssrc
                    self._take_extended(packet, now)
                case SourceDescription():
                    is_collision |= any(chunk.ssrc == self.ssrc for chunk in packet.chunks)
        return Received(is_collision=is_collision and self.may_change_ssrc, is_bye=is_bye)

    def stats(self) -> dict[str, Any]:
        """For the statistics of the leg; None: the peer has not said."""
        remote, counters, trip_s = self.remote, self.counters, self.round_trip_s
        return {
            "rtcp_in": counters.received,
            "rtcp_out": counters.sent,
            "rtcp_invalid": counters.invalid,
            "rtcp_stranger": counters.stranger,
            "round_trip_ms": None if trip_s is None else round(trip_s * 1000, 1),
            "peer_loss_percent": None if remote.fraction_lost is None else round(remote.fraction_lost * 100, 1),
            "peer_lost": remote.cumulative_lost,
            "peer_jitter_ms": None if remote.jitter is None else round(remote.jitter * 1000 / self.clock_rate, 2),
            "peer_r_factor": _known(remote.metrics.r_factor) if remote.metrics is not None else None,
            "peer_hears_nothing": remote.hears_nothing,
            "peer_said_bye": self.bye_reason is not None,
        }

    def unix_time_of(self, rtp_timestamp: int) -> float | None:
        """The peer's wall clock, in seconds since 1970, at a timestamp of its stream; None before its first report."""
        if self._peer_clock is None:
            return None
        ntp, reference = self._peer_clock
        seconds = timestamp_distance(reference, rtp_timestamp) / self.clock_rate
        return ntp / (1 << 32) - NTP_UNIX_S + seconds

    def _is_our_own(self, packets: tuple[RtcpPacket, ...]) -> bool:
        """A reflected report of ours, which is no collision."""
        chunks = (chunk for packet in packets if isinstance(packet, SourceDescription) for chunk in packet.chunks)
        return any((CNAME, self.cname) in chunk.items for chunk in chunks)

    def _note_peer(self, ssrc: int, now: float, sent: int, *, is_sender: bool) -> bool:
        """Who speaks; whether with our number."""
        if ssrc == self.ssrc:
            return True
        if ssrc != self._peer:
            self._last_sr = self._last_rr = self._peer_clock = None
            self.bye_reason = None
            if self._peer is not None:  # another source, perhaps another party
                self.remote, self._heard_sent = RemoteView(), sent
        self._peer, self._peer_at, self._peer_is_sender = ssrc, now, is_sender
        return False

    def _take_reports(self, reports: tuple[ReportBlock, ...], now: float, sent: int) -> None:
        if any(report.ssrc in self._former_ssrcs for report in reports):
            return  # it has not heard of our change yet
        remote = self.remote
        ours = next((report for report in reports if report.ssrc == self.ssrc), None)
        if ours is not None and ours.highest_sequence != remote.highest_sequence:
            remote.highest_sequence, remote.hears_nothing = ours.highest_sequence, False
            self._heard_sent = sent
        elif sent - self._heard_sent >= DEAF_PACKETS:
            remote.hears_nothing = True
        if ours is None:
            return
        remote.fraction_lost = ours.fraction_lost / 256
        remote.cumulative_lost = ours.cumulative_lost
        remote.loss_share = min(1.0, max(0, ours.cumulative_lost) / sent) if sent else 0.0
        remote.jitter = ours.jitter
        self._note_round_trip(now, ours.last_sr, ours.delay)

    def _take_extended(self, packet: ExtendedReport, now: float) -> None:
        self._peer_sends_xr = True
        for block in packet.blocks:
            match block:
                case ReferenceTime():
                    self._last_rr = _middle(block.ntp), now
                case Dlrr():
                    for entry in block.entries:
                        if entry.ssrc == self.ssrc:
                            self._note_round_trip(now, entry.last_rr, entry.delay)
                case VoipMetrics() if block.ssrc == self.ssrc:
                    self.remote.metrics = block
                case _:
                    continue

    def _note_round_trip(self, now: float, clock: int, delay: int) -> None:
        """§6.4.1; only for a time that we have really sent."""
        if clock not in self._sent_clocks:
            return
        elapsed = timestamp_distance(delay, _middle(ntp_of(now + self._wall_offset)) - clock)
        if -CLOCK_SLACK <= elapsed <= MAX_ROUND_TRIP:
            self.round_trip_s = max(0, elapsed) / 65536


def _known(value: int) -> int | None:
    return None if value == UNAVAILABLE else value


def _middle(ntp: int) -> int:
    return ntp >> 16 & 0xFFFFFFFF
