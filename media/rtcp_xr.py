"""Extended reports, RFC 3611: receiver reference time (§4.4), DLRR (§4.5) and VoIP metrics (§4.7)."""

from __future__ import annotations

from typing import Final

import attrs

__all__ = [
    "UNAVAILABLE",
    "Dlrr",
    "DlrrEntry",
    "ExtendedReport",
    "ReferenceTime",
    "RtcpParseError",
    "VoipMetrics",
    "XrBlock",
    "build_xr_body",
    "parse_xr_body_untrusted",
]

UNAVAILABLE: Final = 127
"""Of levels, R factors and opinion scores: we do not know."""
_REFERENCE_TIME: Final = 4
_DLRR: Final = 5
_VOIP_METRICS: Final = 7


class RtcpParseError(Exception):
    """Not an RTCP packet that we can use."""


@attrs.frozen(slots=True)
class ReferenceTime:
    """The clock of who sends no sender reports; ``ntp`` as in those."""

    ntp: int


@attrs.frozen(slots=True)
class DlrrEntry:
    """Answer to a reference time: its middle 32 bits, and since when it has been here in 1/65536 s."""

    ssrc: int
    last_rr: int
    delay: int


@attrs.frozen(slots=True)
class Dlrr:
    entries: tuple[DlrrEntry, ...]


@attrs.frozen(slots=True, kw_only=True)
class VoipMetrics:
    """What a receiver of speech has measured, §4.7.

    Attributes:
        ssrc: of the stream that was heard.
        loss_rate, discard_rate: share of the packets since the beginning, in 1/256.
        burst_density, gap_density: share lost or discarded within bursts and outside them, in 1/256.
        burst_ms, gap_ms: mean duration.
        round_trip_ms: 0 where it was not measured.
        end_system_ms: delay within us, both ways.
        signal_level, noise_level: dBm0; UNAVAILABLE.
        rerl: residual echo return loss, dB; UNAVAILABLE.
        r_factor, external_r_factor: 0 to 100; UNAVAILABLE.
        mos_lq, mos_cq: opinion score times ten, 10 to 50; UNAVAILABLE.
        rx_config: concealment, jitter buffer and its rate of change (§4.7.7).
        jb_nominal_ms, jb_maximum_ms, jb_abs_max_ms: of the jitter buffer.
    """

    ssrc: int
    loss_rate: int = 0
    discard_rate: int = 0
    burst_density: int = 0
    gap_density: int = 0
    burst_ms: int = 0
    gap_ms: int = 0
    round_trip_ms: int = 0
    end_system_ms: int = 0
    signal_level: int = UNAVAILABLE
    noise_level: int = UNAVAILABLE
    rerl: int = UNAVAILABLE
    gmin: int = 16
    r_factor: int = UNAVAILABLE
    external_r_factor: int = UNAVAILABLE
    mos_lq: int = UNAVAILABLE
    mos_cq: int = UNAVAILABLE
    rx_config: int = 0
    jb_nominal_ms: int = 0
    jb_maximum_ms: int = 0
    jb_abs_max_ms: int = 0


_OCTET_RATES: Final = ("loss_rate", "discard_rate", "burst_density", "gap_density")
_DURATIONS: Final = ("burst_ms", "gap_ms", "round_trip_ms", "end_system_ms")
_QUALITIES: Final = ("rerl", "gmin", "r_factor", "external_r_factor", "mos_lq", "mos_cq", "rx_config")
_BUFFER: Final = ("jb_nominal_ms", "jb_maximum_ms", "jb_abs_max_ms")
_METRICS_BYTES: Final = 32

XrBlock = ReferenceTime | Dlrr | VoipMetrics


@attrs.frozen(slots=True)
class ExtendedReport:
    """§2; blocks of other types are left out when reading."""

    ssrc: int
    blocks: tuple[XrBlock, ...] = ()


def build_xr_body(report: ExtendedReport) -> bytes:
    """What follows the header of the packet."""
    return report.ssrc.to_bytes(4, "big") + b"".join(map(_build_block, report.blocks))


def _build_block(block: XrBlock) -> bytes:
    match block:
        case ReferenceTime():
            return _with_header(_REFERENCE_TIME, block.ntp.to_bytes(8, "big"))
        case Dlrr():
            words = (word for one in block.entries for word in (one.ssrc, one.last_rr, min(one.delay, 0xFFFFFFFF)))
            return _with_header(_DLRR, b"".join(word.to_bytes(4, "big") for word in words))
        case VoipMetrics():
            return _with_header(_VOIP_METRICS, _build_metrics(block))


def _with_header(block_type: int, body: bytes) -> bytes:
    return bytes([block_type, 0]) + (len(body) // 4).to_bytes(2, "big") + body


def _build_metrics(block: VoipMetrics) -> bytes:
    """Values beyond their field stay at its end."""

    def octets(names: tuple[str, ...]) -> bytes:
        return bytes(min(getattr(block, name), 255) for name in names)

    def words(names: tuple[str, ...]) -> bytes:
        return b"".join(min(getattr(block, name), 0xFFFF).to_bytes(2, "big") for name in names)

    levels = bytes(level & 0xFF for level in (block.signal_level, block.noise_level))
    start = block.ssrc.to_bytes(4, "big") + octets(_OCTET_RATES) + words(_DURATIONS)
    return start + levels + octets(_QUALITIES) + b"\0" + words(_BUFFER)


def parse_xr_body_untrusted(body: bytes) -> ExtendedReport:
    """Reads what follows the header.

    Raises:
        RtcpParseError: blocks that do not fit, or a known block of another length than its own.
    """
    if len(body) < 4:
        raise RtcpParseError("extended report")
    blocks: list[XrBlock] = []
    at = 4
    while at < len(body):
        if at + 4 > len(body):
            raise RtcpParseError("block")
        end = at + 4 + 4 * int.from_bytes(body[at + 2 : at + 4], "big")
        if end > len(body):
            raise RtcpParseError("block length")
        block = _parse_block(body[at], body[at + 4 : end])
        if block is not None:
            blocks.append(block)
        at = end
    return ExtendedReport(int.from_bytes(body[:4], "big"), tuple(blocks))


def _parse_block(block_type: int, body: bytes) -> XrBlock | None:
    match block_type:
        case 4:
            if len(body) != 8:
                raise RtcpParseError("reference time")
            return ReferenceTime(int.from_bytes(body, "big"))
        case 5:
            if len(body) % 12:
                raise RtcpParseError("DLRR")
            words = [int.from_bytes(body[at : at + 4], "big") for at in range(0, len(body), 4)]
            return Dlrr(tuple(DlrrEntry(*words[n : n + 3]) for n in range(0, len(words), 3)))
        case 7:
            if len(body) != _METRICS_BYTES:
                raise RtcpParseError("VoIP metrics")
            return _parse_metrics(body)
        case _:
            return None


def _parse_metrics(body: bytes) -> VoipMetrics:
    def signed(octet: int) -> int:
        return octet - 256 if octet > 127 else octet

    def words(names: tuple[str, ...], at: int) -> dict[str, int]:
        return {name: int.from_bytes(body[at + 2 * n : at + 2 * n + 2], "big") for n, name in enumerate(names)}

    return VoipMetrics(
        ssrc=int.from_bytes(body[:4], "big"),
        signal_level=signed(body[16]),
        noise_level=signed(body[17]),
        **dict(zip(_OCTET_RATES, body[4:8], strict=True)),
        **words(_DURATIONS, 8),
        **dict(zip(_QUALITIES, body[18:25], strict=True)),
        **words(_BUFFER, 26),
    )
