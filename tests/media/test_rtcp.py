"""RTCP packets as octets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.rtcp import (
    CNAME,
    MAX_RTCP_BYTES,
    Bye,
    ReceiverReport,
    ReportBlock,
    RtcpPacket,
    SdesChunk,
    SenderReport,
    SourceDescription,
    build_rtcp,
    is_rtcp,
    ntp_of,
    parse_rtcp_untrusted,
)
from media.rtcp_xr import Dlrr, DlrrEntry, ExtendedReport, ReferenceTime, RtcpParseError, VoipMetrics

U8, U16, U32, U64 = (st.integers(0, (1 << bits) - 1) for bits in (8, 16, 32, 64))
BLOCKS = st.builds(ReportBlock, U32, U8, st.integers(-(1 << 23), (1 << 23) - 1), U32, U32, U32, U32)
REPORTS = st.lists(BLOCKS, max_size=31).map(tuple)
ITEMS = st.lists(st.tuples(st.integers(1, 255), st.binary(max_size=255)), max_size=4).map(tuple)
CHUNKS = st.builds(SdesChunk, U32, ITEMS)
LEVELS = st.integers(-128, 127)
METRICS = st.builds(
    VoipMetrics,
    ssrc=U32,
    **dict.fromkeys(("loss_rate", "discard_rate", "burst_density", "gap_density", "rerl", "gmin"), U8),
    **dict.fromkeys(("r_factor", "external_r_factor", "mos_lq", "mos_cq", "rx_config"), U8),
    **dict.fromkeys(("burst_ms", "gap_ms", "round_trip_ms", "end_system_ms"), U16),
    **dict.fromkeys(("jb_nominal_ms", "jb_maximum_ms", "jb_abs_max_ms"), U16),
    signal_level=LEVELS,
    noise_level=LEVELS,
)
XR_BLOCKS = st.one_of(
    st.builds(ReferenceTime, U64),
    st.builds(Dlrr, st.lists(st.builds(DlrrEntry, U32, U32, U32), max_size=5).map(tuple)),
    METRICS,
)
PACKETS = st.one_of(
    st.builds(SenderReport, U32, U64, U32, U32, U32, REPORTS),
    st.builds(ReceiverReport, U32, REPORTS),
    st.builds(SourceDescription, st.lists(CHUNKS, max_size=3).map(tuple)),
    st.builds(Bye, st.lists(U32, max_size=31).map(tuple), st.text(max_size=60)),
    st.builds(ExtendedReport, U32, st.lists(XR_BLOCKS, max_size=4).map(tuple)),
)
RR = build_rtcp([ReceiverReport(7)])


@given(st.lists(PACKETS, min_size=1, max_size=4))
def test_what_is_built_is_read(packets: list[RtcpPacket]) -> None:
    octets = build_rtcp(packets)
    assert len(octets) % 4 == 0
    assert is_rtcp(octets)
    if len(octets) > MAX_RTCP_BYTES:
        with pytest.raises(RtcpParseError):
            parse_rtcp_untrusted(octets)
    else:
        assert parse_rtcp_untrusted(octets) == tuple(packets)


@given(st.lists(PACKETS, min_size=1, max_size=2), st.integers(0, 200), st.binary(max_size=8))
def test_damage_gives_packets_or_the_one_error(packets: list[RtcpPacket], at: int, octets: bytes) -> None:
    damaged = bytearray(build_rtcp(packets))
    damaged[at : at + len(octets)] = octets
    try:
        parse_rtcp_untrusted(damaged)
    except RtcpParseError:
        return


@given(st.binary(max_size=200))
def test_any_octets_give_packets_or_the_one_error(octets: bytes) -> None:
    try:
        parse_rtcp_untrusted(octets)
    except RtcpParseError:
        return


def test_the_octets_of_a_sender_report() -> None:
    report = ReportBlock(0x11223344, 0x40, -2, 0x0001FFFE, 33, 0xAABBCCDD, 0x10000)
    octets = build_rtcp([SenderReport(0x01020304, 0xE000000080000000, 160, 5, 800, (report,))])
    assert octets.hex(" ", 4) == (
        "81c8000c 01020304 e0000000 80000000 000000a0 00000005 00000320"
        " 11223344 40fffffe 0001fffe 00000021 aabbccdd 00010000"
    )


def test_the_octets_of_voip_metrics() -> None:
    metrics = VoipMetrics(ssrc=1, loss_rate=2, discard_rate=3, burst_density=4, gap_density=5, burst_ms=6, gap_ms=7)
    octets = build_rtcp([ExtendedReport(9, (metrics,))])
    assert octets.hex(" ", 4) == (
        "80cf000a 00000009 07000008 00000001 02030405 00060007 00000000 7f7f7f10 7f7f7f7f 00000000 00000000"
    )


def test_what_does_not_fit_its_field_stays_at_the_end() -> None:
    block = ReportBlock(1, 300, 1 << 30, 1 << 33 | 5, 1 << 40, 0, 1 << 40)
    (packet,) = parse_rtcp_untrusted(build_rtcp([ReceiverReport(7, (block,))]))
    assert packet == ReceiverReport(7, (ReportBlock(1, 255, (1 << 23) - 1, 5, 0xFFFFFFFF, 0, 0xFFFFFFFF),))


def test_unknown_packets_and_blocks_and_extensions_are_passed_over() -> None:
    app = b"\x81\xcc\0\3\0\0\0\7name\1\2\3\4"
    feedback = b"\x81\xcd\0\2\0\0\0\7\0\0\0\x08"
    extended = b"\x80\xcf\0\3\0\0\0\7\x63\0\0\1abcd"
    profile = b"\x80\xc9\0\2\0\0\0\7more"
    packets = parse_rtcp_untrusted(profile + app + feedback + extended + RR)
    assert packets == (ReceiverReport(7), ExtendedReport(7), ReceiverReport(7))


def test_reduced_size_and_padding_at_the_end_are_taken() -> None:
    assert parse_rtcp_untrusted(build_rtcp([Bye((7,))])) == (Bye((7,)),)
    padded = b"\xa0\xc9\0\2\0\0\0\7\0\0\0\4"
    assert parse_rtcp_untrusted(RR + padded) == (ReceiverReport(7), ReceiverReport(7))


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"\x80\xc9",
        RR[:-1],
        RR + b"\0\0\0\0",
        b"\x40" + RR[1:],
        b"\x80\x48" + RR[2:],
        b"\x80\xc8" + RR[2:],
        b"\x81" + RR[1:],
        b"\xa0\xc9\0\2\0\0\0\7\0\0\0\4" + RR,
        b"\xa0\xc9\0\2\0\0\0\7\0\0\0\0",
        b"\xa0\xc9\0\2\0\0\0\7\0\0\0\3",
        b"\xa0\xc9\0\1\0\0\0\x08",
        b"\xa0\xc9\0\0",
        b"\x80\xc9\0\xff\0\0\0\7",
        b"\x81\xca\0\1\0\0\0\7",
        b"\x81\xca\0\2\0\0\0\7\1\2ab",
        b"\x81\xca\0\2\0\0\0\7\1\xffab",
        b"\x81\xca\0\2\0\0\0\7\1\1a\1",
        b"\x82\xcb\0\1\0\0\0\7",
        b"\x81\xcb\0\2\0\0\0\7\x09bye",
        b"\x80\xcf\0\0",
        b"\x80\xcf\0\2\0\0\0\7\4\0\0\1",
        b"\x80\xcf\0\3\0\0\0\7\4\0\0\1abcd",
        b"\x80\xcf\0\3\0\0\0\7\5\0\0\1abcd",
        b"\x80\xcf\0\3\0\0\0\7\7\0\0\1abcd",
        RR * (MAX_RTCP_BYTES // 8 + 1),
    ],
)
def test_what_is_no_rtcp_is_refused(octets: bytes) -> None:
    with pytest.raises(RtcpParseError):
        parse_rtcp_untrusted(octets)


def test_a_reason_that_is_no_text_is_kept() -> None:
    octets = b"\x81\xcb\0\3\0\0\0\7\5a\xff\xfe\xc3b\0\0"
    assert build_rtcp(parse_rtcp_untrusted(octets)) == octets


def test_what_cannot_be_written_is_refused() -> None:
    with pytest.raises(ValueError, match="too long"):
        build_rtcp([Bye((1,), "x" * 256)])
    with pytest.raises(ValueError, match="32"):
        build_rtcp([Bye(tuple(range(32)))])
    with pytest.raises(ValueError, match="too long"):
        build_rtcp([SourceDescription((SdesChunk(1, ((CNAME, b"x" * 256),)),))])


def test_rtcp_on_a_shared_port_is_told_by_the_second_octet() -> None:
    assert is_rtcp(RR)
    assert not any(is_rtcp(datagram) for datagram in (b"", b"\x80", b"\x80\x00", b"\x80\x80", b"\x80\xe0", b"\x80\xbf"))


def test_ntp_time() -> None:
    assert ntp_of(0.5) == 2208988800 << 32 | 1 << 31
