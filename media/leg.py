"""One leg: what is not columns.  Everything here runs per event, never per packet of an undisturbed stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import attrs
import numpy as np
from numpy.typing import NDArray

from media import g711
from media.clips import Clip
from media.codecs.base import PayloadError
from media.coded import MAX_CONCEALED, CodedStream, open_coded
from media.control import ControlError, StreamConfig
from media.conversation import Conversation
from media.dtmf import Digit, DtmfParseError, DtmfReceiver, DtmfSender
from media.filler import FillerPolicy
from media.losses import LossPattern
from media.mixing import FADE_FRAMES
from media.noise import COMFORT_NOISE, ComfortNoise
from media.order import GapBuffer, Released, RestartWatch, Verdict
from media.packetiser import Packetiser, packetiser_for
from media.patience import Patience
from media.playout import PlayoutQueue
from media.reception import Reception
from media.resample import LINE_RATE_HZ, WIDE_LINE_RATE_HZ
from media.rtcp import is_rtcp
from media.rtcp_session import RtcpSession
from media.rtp import HeaderColumns, RtpPacket, RtpParseError, parse_rtp_untrusted
from media.table import FRAME_SAMPLES, FRAME_TICKS, NEVER, TICK_MS, LegTable
from media.unwrap import timestamp_distance

__all__ = ["Leg", "LegCounters", "Receiver", "UplinkItem"]

MAX_TTFB: Final = 256
NOISE_WAIT_TICKS: Final = 3
"""Comfort noise is heard so long after its packet: what jitter may take."""
MAX_JITTER_MS: Final = 500
"""A longer change is a pause or a new source."""

UplinkItem = bytes | None
"""Codes of one frame (of a coded leg: a `CodedItem`); None: a frame to be concealed."""


@attrs.define
class LegCounters:
    """What happened on a leg besides the columns."""

    lost: int = 0
    late: int = 0
    duplicate: int = 0
    reordered: int = 0
    invalid: int = 0
    stranger: int = 0
    srtp_invalid: int = 0
    resync: int = 0
    concealed_frames: int = 0
    filled_frames: int = 0
    send_errors: int = 0
    dtmf_in: int = 0
    engine_dropped_frames: int = 0


@attrs.define
class Receiver:
    """Packets that are not plain: gaps, other lengths, telephone events, new sources."""

    table: LegTable
    row: int
    config: StreamConfig
    counters: LegCounters
    dtmf: DtmfReceiver = attrs.Factory(DtmfReceiver)
    coded: CodedStream | None = None
    """The codec where it is not G.711."""
    packetiser: Packetiser | None = None
    """For what we send, where the peer wants other than 20 ms."""
    conceal_run: int = 0
    filled: int = 0
    losses: LossPattern = attrs.Factory(LossPattern)
    noise: ComfortNoise | None = None
    """The party pauses, and this is what its room sounds like (G.711)."""
    reception: Reception | None = None
    """Of the present source, for RTCP; None: nothing has come."""
    on_rtcp: Callable[[memoryview], bool] | None = None
    """Takes RTCP that shares the port; None: it does not."""
    on_collision: Callable[[], None] | None = None
    """The party's stream has our SSRC."""
    _packed: tuple[CodedStream | None, str, int] | None = None
    """What `packetiser` was made for."""
    _gap: GapBuffer[RtpPacket | None] | None = None
    _carry: bytearray = attrs.Factory(bytearray)
    _restart: RestartWatch = attrs.Factory(RestartWatch)
    _missing: int = 0
    """Packets given up since the last one with audio."""
    _patience: Patience = attrs.Factory(Patience)
    _fill_postponed: int = -1

    def configure(self, config: StreamConfig) -> None:
        """Takes a new stream configuration; the sequence goes on.

        Raises:
            ControlError: a codec or payload type that we do not have.
        """
        if not 0 <= config.payload_type < 128:
            raise ControlError(f"payload type {config.payload_type}")
        if not 0 <= config.expected_payload_type < 128:
            raise ControlError(f"payload type {config.expected_payload_type}")
        table, row = self.table, self.row
        self._change_codec(config)
        self._change_packets(config)
        self.config = config
        table.first[row] = HeaderColumns.first_of(config.expected_payload_type)
        table.payload_type[row] = config.payload_type
        table.rtp_timeout[row] = config.timeout_ms // TICK_MS if config.timeout_ms and config.receive else NEVER
        if not config.receive:
            table.fill_at[row] = NEVER
        self._settle()

    def _change_codec(self, config: StreamConfig) -> None:
        table, row, former = self.table, self.row, self.coded
        if config.codec in g711.CODECS and config.clock_rate == LINE_RATE_HZ:
            self.coded = None
            table.codec[row] = g711.CODECS[config.codec]
            table.frame_timestamps[row] = FRAME_SAMPLES
        elif former is None or not former.is_same(config):
            self.coded = coded = open_coded(config)
            self.noise = None
            table.frame_timestamps[row] = coded.codec.frame_timestamps
        if former is not None and former is not self.coded:
            former.close()
        table.coded[row] = self.coded is not None
        table.wide[row] = self.coded is not None and self.coded.codec.sample_rate_hz == WIDE_LINE_RATE_HZ
        self.dtmf.units_per_ms = (config.dtmf_clock_rate or config.clock_rate) // 1000
        self.dtmf.timestamps_per_unit = config.clock_rate // (config.dtmf_clock_rate or config.clock_rate)

    def _change_packets(self, config: StreamConfig) -> None:
        """Length of what we send."""
        wanted = self.coded, config.codec, config.ptime_ms
        if wanted != self._packed:
            self.packetiser, self._packed = packetiser_for(config, self.coded), wanted
        self.table.by_leg[self.row] = self.coded is not None or self.packetiser is not None

    def close(self) -> None:
        """The leg is gone: gives the codec's memory back."""
        if self.coded is not None:
            self.coded.close()

    def receive_untrusted(self, datagram: memoryview, tick: int) -> tuple[list[UplinkItem], list[Digit]]:
        """Takes one packet that the columnar path refused; what is released goes to the engine in order."""
        if not self.config.receive:
            self._take_rtcp(datagram)
            return [], []
        try:
            packet = parse_rtp_untrusted(datagram)
        except RtpParseError:
            self.counters.invalid += not self._take_rtcp(datagram)
            return [], []
        is_event = packet.payload_type == self.config.expected_dtmf_payload_type
        is_comfort_noise = packet.payload_type == COMFORT_NOISE
        if packet.payload_type != self.config.expected_payload_type and not is_event and not is_comfort_noise:
            self.counters.invalid += not self._take_rtcp(datagram)
            return [], []
        table, row = self.table, self.row
        table.packets_in[row] += 1
        table.octets_in[row] += len(packet.payload)
        if packet.ssrc != int(table.ssrc_in[row]) or table.last_rtp[row] < 0:
            self._new_source(packet, tick)
        table.last_rtp[row] = tick
        if not is_event and not is_comfort_noise:
            self._measure(packet.timestamp, tick)
        digits: list[Digit] = []
        if is_event:
            try:
                table.event_seen[row] = tick
                digits = self.dtmf.receive_untrusted(packet.timestamp, packet.payload, now_ms=tick * TICK_MS)
            except DtmfParseError:
                self.counters.invalid += 1
        items = self._in_order(packet, None if is_event or is_comfort_noise else packet, tick)
        if is_comfort_noise and self.coded is None:
            if self.noise is None:
                table.fill_at[row] = min(int(table.fill_at[row]), tick + NOISE_WAIT_TICKS)
            self.noise = ComfortNoise(packet.payload)
        self._settle()
        return items, digits

    def _take_rtcp(self, datagram: memoryview) -> bool:
        if self.on_rtcp is None or not is_rtcp(datagram):
            return False
        self.on_rtcp(datagram)
        return True

    def handle_timer(self, tick: int) -> tuple[list[UplinkItem], list[Digit]]:
        """Gives up gaps and ends digits whose time is over."""
        items: list[UplinkItem] = []
        if self._gap is not None:
            items = self._release_all(self._gap.handle_timer(tick=tick, wait_ticks=self._wait(tick)))
            self.table.next_sequence[self.row] = self._gap.expected
        digits = self.dtmf.handle_timer(now_ms=tick * TICK_MS)
        self._settle()
        return items, digits

    @property
    def highest_sequence(self) -> int:
        """Of the newest packet that has come."""
        if self._gap is not None:
            return self._gap.highest
        return (int(self.table.next_sequence[self.row]) - 1) & 0xFFFF

    @property
    def needs_timer(self) -> bool:
        return self._gap is not None or self.dtmf.next_deadline() is not None

    def may_fill(self, tick: int) -> bool:
        """Whether a frame is to be made up because none was released for so long; if not, it is asked again later.

        While a gap is waited for, packets do come. Where they come unevenly, a pause shows itself later.
        """
        fill_at = self.table.fill_at
        if self._gap is not None and (deadline := self._gap.next_deadline()) is not None:
            fill_at[self.row] = max(deadline, tick) + 1
            return False
        if self.coded is not None and self.coded.is_pausing and self.coded.surplus:
            self.coded.surplus -= 1
            fill_at[self.row] += FRAME_TICKS
            return False
        if self.filled or int(fill_at[self.row]) == self._fill_postponed:
            return True
        patience = self._patience.beyond_usual_ticks(float(self.table.jitter[self.row]), tick)
        self._fill_postponed = int(fill_at[self.row]) + patience
        fill_at[self.row] = self._fill_postponed
        return self._fill_postponed <= tick

    def fill(self) -> None:
        """Notes that the engine got a frame that nobody sent."""
        self.filled += 1
        self.counters.filled_frames += 1
        self.table.plain[self.row] = False

    def concealed(self) -> int:
        """Notes a concealed frame; how many there were before it in this run."""
        self.conceal_run += 1
        self.table.plain[self.row] = False
        return self.conceal_run - 1

    def recovered(self) -> int:
        """Notes a good frame; how many concealed ones it follows."""
        run, self.conceal_run = self.conceal_run, 0
        self.noise = None
        self._settle()
        return run

    def _new_source(self, packet: RtpPacket, tick: int) -> None:
        table, row = self.table, self.row
        table.ssrc_in[row] = packet.ssrc
        table.next_sequence[row] = packet.sequence
        # so that transit begins at 0 however long the worker has run: float32 is exact to some hours of ms
        table.transit_base[row] = (packet.timestamp - tick * TICK_MS * self.config.clock_rate // 1000) & 0xFFFFFFFF
        table.jitter[row] = 0
        table.transit[row] = np.nan
        self.reception = Reception.starting(packet.sequence, int(table.packets_in[row]))
        if packet.ssrc == int(table.ssrc[row]) and self.on_collision is not None:
            self.on_collision()
        self._gap = None
        self._patience.restart()
        self._missing = 0
        self.noise = None
        self._carry.clear()
        if self.coded is not None:
            self.coded.restart()

    def _measure(self, timestamp: int, tick: int) -> None:
        """RFC 3550 A.8, as the columns do it for G.711; our own lateness is not the network's jitter."""
        table, row, clock_rate = self.table, self.row, self.config.clock_rate
        if table.lost_ticks:
            return
        now = int(table.transit_base[row]) + tick * TICK_MS * clock_rate // 1000
        transit = -timestamp_distance(now & 0xFFFFFFFF, timestamp) * 1000 / clock_rate
        change = abs(transit - float(table.transit[row]))
        if change < MAX_JITTER_MS:
            table.jitter[row] += (change - float(table.jitter[row])) / 16
        table.transit[row] = transit

    def _in_order(self, packet: RtpPacket, item: RtpPacket | None, tick: int) -> list[UplinkItem]:
        table, row = self.table, self.row
        expected = int(table.next_sequence[row])
        if self._gap is None:
            if packet.sequence == expected:
                table.next_sequence[row] = (expected + 1) & 0xFFFF
                return self._release(0, item)
            self._gap = GapBuffer(expected)
        verdict, released = self._gap.receive(packet.sequence, item, tick=tick, wait_ticks=self._wait(tick))
        if verdict is Verdict.LATE and self._restart.is_restart(packet.sequence, expected, tick) and self._gap.is_empty:
            self._gap = GapBuffer(packet.sequence)
            self.reception = Reception.starting(packet.sequence, int(table.packets_in[row]))
            self.counters.resync += 1
            verdict, released = self._gap.receive(packet.sequence, item, tick=tick, wait_ticks=0)
            expected = -1
        match verdict:
            case Verdict.LATE if self._patience.came_after_all(packet.sequence, tick):
                self.counters.late += 1
                if self.reception is not None:
                    self.reception.late += 1
            case Verdict.LATE:
                self.counters.duplicate += 1
            case Verdict.DUPLICATE:
                self.counters.duplicate += 1
            case Verdict.RESYNC:
                self.counters.resync += 1
                self.reception = Reception.starting(packet.sequence, int(table.packets_in[row]))
            case Verdict.ACCEPTED if packet.sequence == expected:
                self.counters.reordered += 1
        items = self._release_all(released)
        table.next_sequence[row] = self._gap.expected
        return items

    def _release_all(self, released: list[Released[RtpPacket | None]]) -> list[UplinkItem]:
        items: list[UplinkItem] = []
        for one in released:
            if one.missing:
                if self.reception is not None:
                    first = (one.sequence - one.missing) & 0xFFFF
                    self.reception.lost(first, one.missing, int(self.table.packets_in[self.row]))
                self._patience.given_up(one.sequence - one.missing, one.missing, one.opened)
            items += self._release(one.missing, one.item)
        return items

    def _release(self, missing: int, packet: RtpPacket | None) -> list[UplinkItem]:
        if missing:
            self.losses.note(missing, int(self.table.packets_in[self.row]))
        if self.coded is not None:
            return self._release_coded(self.coded, missing, packet)
        items: list[UplinkItem] = []
        if missing:
            self.counters.lost += missing
            items += [None] * max(0, min(missing, MAX_CONCEALED) - self.filled)
            self._carry.clear()
        self.filled = 0
        if packet is not None:
            self._carry += packet.payload
            while len(self._carry) >= FRAME_SAMPLES:
                items.append(bytes(self._carry[:FRAME_SAMPLES]))
                del self._carry[:FRAME_SAMPLES]
        return items

    def _release_coded(self, coded: CodedStream, missing: int, packet: RtpPacket | None) -> list[UplinkItem]:
        self.counters.lost += missing
        self._missing += missing
        if packet is None:
            return []
        missing, self._missing = self._missing, 0
        filled, self.filled = self.filled, 0
        try:
            return coded.receive_untrusted(packet, missing, filled)
        except PayloadError:
            self.counters.invalid += 1
            return []

    def _settle(self) -> None:
        """Back to the columnar path when nothing is special any more."""
        if self._gap is not None and self._gap.is_empty:
            self._gap = None
        self.table.plain[self.row] = (
            self.coded is None
            and self.config.receive
            and self._gap is None
            and not self._carry
            and not self.conceal_run
            and not self.filled
            and self.noise is None
        )

    def _wait(self, tick: int) -> int:
        return self._patience.wait_ticks(float(self.table.jitter[self.row]), tick)


@attrs.define(eq=False)
class Leg:
    """One row's objects."""

    name: str
    row: int
    receiver: Receiver
    counters: LegCounters
    filler: FillerPolicy = attrs.Factory(FillerPolicy)
    dtmf: DtmfSender = attrs.Factory(DtmfSender)
    playout: PlayoutQueue | None = None
    clip: Clip | None = None
    clip_name: str = ""
    clip_position: int = 0
    clip_loop: bool = False
    clip_frames: int = 0
    """Of a clip that fades in: how many frames it has been heard."""
    filler_clip: str | None = None
    background: str | None = None
    background_db: float = 0.0
    inband_dtmf: str = "never"
    """Whether digits are listened for in the audio: see `media.inband`."""
    mutes_digits: bool = False
    """Digits are removed from what is heard of the party."""
    speech_ended: int | None = None
    """Tick at which the caller stopped speaking, or the engine was connected: TTFB counts from here."""
    ttfb_ms: list[float] = attrs.Factory(list)
    rtcp: RtcpSession | None = None
    talk: Conversation = attrs.Factory(Conversation)

    def note_ttfb(self, ttfb_ms: float) -> None:
        """Remembers one answer's delay; the last `MAX_TTFB` count."""
        self.ttfb_ms.append(ttfb_ms)
        del self.ttfb_ms[:-MAX_TTFB]

    @property
    def line_rate_hz(self) -> int:
        """Of what the party hears and says, and of clips for it."""
        coded = self.receiver.coded
        return LINE_RATE_HZ if coded is None else coded.codec.sample_rate_hz

    def next_clip_frame(self) -> tuple[Clip | NDArray[np.float32], bool]:
        """The next 20 ms of the clip; True with the last one of a clip that does not loop."""
        clip = self.clip
        if clip is None:
            raise ControlError("no clip")
        start = self.clip_position
        size = self.line_rate_hz // 50
        self.clip_position = start + size
        ended = False
        if self.clip_position >= len(clip):
            self.clip_position = 0
            ended = not self.clip_loop
        frame = clip[start : start + size]
        if self.clip_frames >= FADE_FRAMES:
            return frame, ended
        self.clip_frames += 1
        rise = np.linspace(self.clip_frames - 1, self.clip_frames, size, dtype=np.float32) / np.float32(FADE_FRAMES)
        return frame * rise, ended

    def octets_out(self, table: LegTable) -> int:
        """Of payload."""
        counting = self.receiver.coded or self.receiver.packetiser
        return int(table.packets_out[self.row]) * FRAME_SAMPLES if counting is None else counting.octets_out

    def stats(self, table: LegTable) -> dict[str, Any]:
        """Counters for the signalling side."""
        row, counters = self.row, self.counters
        ttfb = sorted(self.ttfb_ms)
        return {
            "packets_in": int(table.packets_in[row]),
            "octets_in": int(table.octets_in[row]),
            "packets_out": int(table.packets_out[row]),
            "octets_out": self.octets_out(table),
            "lost": counters.lost,
            "late": counters.late,
            "duplicate": counters.duplicate,
            "reordered": counters.reordered,
            "invalid": counters.invalid,
            "stranger": counters.stranger,
            "srtp_invalid": counters.srtp_invalid,
            "resync": counters.resync,
            "jitter_ms": round(float(table.jitter[row]), 2),
            "concealed_ms": counters.concealed_frames * FRAME_TICKS * TICK_MS,
            "filled_ms": counters.filled_frames * FRAME_TICKS * TICK_MS,
            "engine_frames": int(table.frames_up[row]),
            "engine_dropped_frames": counters.engine_dropped_frames,
            "underruns": int(table.underruns[row]),
            "stale_ms": int(table.stale[row]) * FRAME_TICKS * TICK_MS,
            "trimmed_ms": int(table.trimmed[row]) * FRAME_TICKS * TICK_MS,
            "skipped_ms": int(table.skipped[row]) * FRAME_TICKS * TICK_MS,
            "send_errors": counters.send_errors,
            "dtmf_in": counters.dtmf_in,
            "ttfb_ms": round(ttfb[len(ttfb) // 2], 1) if ttfb else None,
            "ttfb_max_ms": round(ttfb[-1], 1) if ttfb else None,
            **(self.rtcp.stats() if self.rtcp is not None else {}),
        }
