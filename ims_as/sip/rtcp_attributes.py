"""What a session description says of RTCP: its port (RFC 3605), whether it shares that of RTP (RFC 5761), its bandwidth
(RFC 3556) and extended reports (RFC 3611 §5).

An attribute that cannot be read is as if it were not there: then RTCP is on the port above RTP.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import Final

import attrs

from ims_as.sip.sdp import Line, MediaDescription, SessionDescription

__all__ = ["NOTHING_SAID", "StreamRtcp", "answer_lines", "offer_lines", "read_rtcp_untrusted"]

_RTCP_RE: Final = re.compile(r"([0-9]{1,5})(?: +IN +IP([46]) +(\S{1,64}))? *", re.IGNORECASE)
_BANDWIDTH_RE: Final = re.compile(r"(RS|RR):([0-9]{1,9}) *")
_REPORTS: Final = ("rcvr-rtt", "voip-metrics")
"""Extended reports that we send; rcvr-rtt has a parameter (who may ask)."""
MAX_REPORTS: Final = 16


@attrs.frozen(slots=True)
class StreamRtcp:
    """What the peer wants, as far as we go along with it.

    Attributes:
        host: where it wants RTCP, None: where it wants RTP.
        port: 0: above RTP.
        is_muxed: with RTP on one port, in both directions.
        rs_bps, rr_bps: bandwidth of who sends and who only receives; None: not said; both 0: no RTCP at all, and then
            nothing else is said.
        reports: extended reports that it wants of us, as it wrote them.
    """

    host: str | None = None
    port: int = 0
    is_muxed: bool = False
    rs_bps: int | None = None
    rr_bps: int | None = None
    reports: tuple[str, ...] = ()


NOTHING_SAID: Final = StreamRtcp()


def read_rtcp_untrusted(
    description: SessionDescription, media: MediaDescription, *, may_mux: bool, our_address: str
) -> StreamRtcp:
    """Reads the peer's description.

    Args:
        may_mux: whether sharing the port is ours to agree to: always in an offer, in an answer when we offered it.
        our_address: an RTCP address of the other IP version is passed over.
    """
    rates = {**_read_bandwidth(description.bandwidth), **_read_bandwidth(media.bandwidth)}
    rs_bps, rr_bps = rates.get("RS"), rates.get("RR")
    if rs_bps == 0 and rr_bps == 0:
        return StreamRtcp(rs_bps=0, rr_bps=0)
    is_muxed = may_mux and media.attribute("rtcp-mux") is not None
    host, port = (None, 0) if is_muxed else _read_place(media.attribute("rtcp"), our_address)
    wanted = (media.attribute("rtcp-xr") or "").split()[:MAX_REPORTS]
    reports = tuple(text for text in wanted if text.partition("=")[0] in _REPORTS and len(text) <= 64)
    return StreamRtcp(host, port, is_muxed, rs_bps, rr_bps, reports)


def _read_place(text: str | None, our_address: str) -> tuple[str | None, int]:
    match = _RTCP_RE.fullmatch(text or "")
    if match is None or not 0 < int(match[1]) < 65536:
        return None, 0
    if match[3] is None:
        return None, int(match[1])
    try:
        address = ipaddress.ip_address(match[3])
    except ValueError:
        return None, 0
    if address.version != int(match[2]) or address.is_multicast or "%" in match[3]:
        return None, 0
    if (address.version == 6) != (":" in our_address):
        return None, 0
    return str(address), int(match[1])


def _read_bandwidth(lines: Iterable[str]) -> dict[str, int]:
    matches = (_BANDWIDTH_RE.fullmatch(line) for line in lines)
    return {match[1]: int(match[2]) for match in matches if match is not None}


def answer_lines(agreed: StreamRtcp) -> tuple[list[Line], list[Line]]:
    """What an answer says: bandwidth, which goes before attributes (RFC 8866 §5), and attributes."""
    rates = (("RS", agreed.rs_bps), ("RR", agreed.rr_bps))
    bandwidth: list[Line] = [("b", f"{kind}:{bps}") for kind, bps in rates if bps is not None]
    attributes: list[Line] = [("a", "rtcp-mux")] if agreed.is_muxed else []
    if agreed.reports:
        attributes.append(("a", f"rtcp-xr:{' '.join(agreed.reports)}"))
    return bandwidth, attributes


def offer_lines(port: int) -> list[Line]:
    """Of our offers: on one port, or else on the one above, which is said for who would not guess it."""
    return [("a", f"rtcp:{port + 1}"), ("a", "rtcp-mux")]
