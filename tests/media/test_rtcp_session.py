"""When a leg reports, and what follows from the peer's reports.  Time is a number."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.reception import Bursts, LossSummary
from media.rtcp import (
    CNAME,
    Bye,
    ReceiverReport,
    ReportBlock,
    RtcpPacket,
    SdesChunk,
    SenderReport,
    SourceDescription,
    build_rtcp,
    parse_rtcp_untrusted,
)
from media.rtcp_session import (
    COMPENSATION,
    DEAF_PACKETS,
    MAX_SSRC_CHANGES,
    Bandwidth,
    Received,
    RtcpSession,
    SenderFigures,
    SourceFigures,
    StreamFigures,
)
from media.rtcp_xr import Dlrr, DlrrEntry, ExtendedReport, ReferenceTime, VoipMetrics

OURS, THEIRS = 0xAAAA, 0xBBBB
WALL_S = 1.7e9
NO_BURSTS = Bursts(0, 0, 0, 0)


def session(random: float = 0.5, now: float = 0.0) -> RtcpSession:
    return RtcpSession(ssrc=OURS, cname="cname", random=lambda: random, now=now, unix_s=WALL_S + now)


def figures(sent: int = 0, received: int = 0, **fields: Any) -> StreamFigures:
    loss = LossSummary(received, received, received, 0.0, 0, 0, NO_BURSTS)
    source = SourceFigures(THEIRS, 8, loss) if received else None
    return StreamFigures(SenderFigures(sent, sent * 160, sent * 160), source, **fields)


def report(made: RtcpSession, now: float, current: StreamFigures) -> tuple[RtcpPacket, ...]:
    """The next report, sent when it is due, ``now`` at the earliest."""
    while True:
        deadline = made.next_deadline()
        assert deadline is not None
        now = max(now, deadline)
        octets = made.handle_timer(now, current.sender.packets, lambda: current)
        if octets is not None:
            return parse_rtcp_untrusted(octets)


def receive(made: RtcpSession, *packets: RtcpPacket, now: float = 0.0, sent: int = 0) -> Received:
    return made.receive_untrusted(build_rtcp(packets), now=now, sent=sent)


def block(**fields: int) -> ReportBlock:
    return ReportBlock(**{**dict.fromkeys(ReportBlock.__slots__[:7], 0), "ssrc": OURS, **fields})


# ---- intervals
@pytest.mark.parametrize(("random", "factor"), [(0.0, 0.5), (0.5, 1.0), (1.0, 1.5)])
def test_intervals_are_spread_around_five_seconds(random: float, factor: float) -> None:
    made = session(random)
    first = made.next_deadline()
    assert first == pytest.approx(2.5 * factor / COMPENSATION)
    assert first is not None
    report(made, first, figures(1))
    second = made.next_deadline()
    assert second == pytest.approx(first + 5 * factor / COMPENSATION)


def test_reconsideration_puts_a_report_off() -> None:
    draws = iter([0.0, 1.0, 0.5, 0.5])
    made = RtcpSession(ssrc=OURS, cname="c", random=lambda: next(draws), now=0.0, unix_s=WALL_S)
    first = made.next_deadline()
    assert first is not None
    assert made.handle_timer(first, 0, figures) is None
    assert made.next_deadline() == pytest.approx(3 * first)
    assert made.handle_timer(3 * first, 0, figures) is not None


def test_the_mean_interval_is_five_seconds() -> None:
    made = RtcpSession(ssrc=OURS, cname="c", random=Random(1).random, now=0.0, unix_s=WALL_S)
    for _ in range(2000):
        report(made, 0.0, figures(1, 1))
    end = made.next_deadline()
    assert end is not None
    assert 4.7 < end / 2000 < 5.3


@pytest.mark.parametrize(
    ("rs", "rr", "is_sender", "seconds"),
    [
        (None, None, True, 5.0),
        (0, 2000, False, 5.0),
        (0, 100, False, 10.24),
        (0, 100, True, 10.24),
        (50, 50, True, 10.24),
        (100, 0, True, 10.24),
    ],
)
def test_bandwidth_stretches_the_interval(rs: int | None, rr: int | None, is_sender: bool, seconds: float) -> None:
    made = session()
    made._is_initial = False
    made.configure(Bandwidth(rs, rr), clock_rate=8000, sends_xr=False, now=0.0)
    assert made._interval(0.0, is_sender) == pytest.approx(seconds)


def test_without_bandwidth_there_is_silence() -> None:
    made = session()
    made.configure(Bandwidth(0, 0), clock_rate=8000, sends_xr=False, now=0.0)
    assert made.next_deadline() is None
    assert made.handle_timer(100.0, 0, figures) is None
    assert made.bye(100.0, figures(100)) is None
    made.configure(Bandwidth(), clock_rate=8000, sends_xr=False, now=100.0)
    assert report(made, 100.0, figures(1))


def test_receivers_without_bandwidth_speak_when_they_send() -> None:
    made = session()
    made.configure(Bandwidth(4000, 0), clock_rate=8000, sends_xr=False, now=0.0)
    for now in range(100):
        assert made.handle_timer(float(now), 0, figures) is None
    packets = report(made, 100.0, figures(1))
    assert isinstance(packets[0], SenderReport)


# ---- contents
def test_a_sender_reports_as_one_and_later_as_receiver() -> None:
    made = session()
    packets = report(made, 0.0, figures(10, 5))
    assert packets == (
        SenderReport(OURS, packets[0].ntp, 1600, 10, 1600, packets[0].reports),  # type: ignore[union-attr]
        SourceDescription((SdesChunk(OURS, ((CNAME, b"cname"),)),)),
    )
    assert isinstance(packets[0], SenderReport)
    assert packets[0].reports == (ReportBlock(THEIRS, 0, 0, 5, 8, 0, 0),)
    assert isinstance(report(made, 0.0, figures(10, 5))[0], SenderReport), "we sent in the last two intervals"
    held = report(made, 0.0, figures(10, 5))[0]
    assert held == ReceiverReport(OURS), "nothing sent, nothing heard"


def test_the_time_of_the_peers_report_is_told_back() -> None:
    made = session()
    receive(made, SenderReport(THEIRS, 0x1111222233334444, 0, 1, 1), now=0.5)
    first = report(made, 2.5, figures(0, 5))[0]
    assert isinstance(first, ReceiverReport)
    assert first.reports[0].last_sr == 0x22223333
    assert first.reports[0].delay == int(2.0 * 65536)


def test_loss_is_told() -> None:
    made = session()
    loss = LossSummary(0x1000A, 100, 90, 0.1, 10, 0, NO_BURSTS)
    first = report(made, 0.0, StreamFigures(SenderFigures(0, 0, 0), SourceFigures(THEIRS, 12, loss)))[0]
    assert isinstance(first, ReceiverReport)
    assert first.reports == (ReportBlock(THEIRS, 25, 10, 0x1000A, 12, 0, 0),)


def test_extended_reports_only_for_who_wants_them() -> None:
    metrics = VoipMetrics(ssrc=THEIRS, loss_rate=3)
    made = session()
    assert len(report(made, 0.0, figures(0, 5, metrics=lambda: metrics))) == 2
    made.configure(Bandwidth(), clock_rate=8000, sends_xr=True, now=10.0)
    extended = report(made, 10.0, figures(0, 6, metrics=lambda: metrics))[2]
    assert isinstance(extended, ExtendedReport)
    assert [type(one) for one in extended.blocks] == [ReferenceTime, VoipMetrics]
    extended = report(made, 10.0, figures(9, 7, metrics=lambda: metrics))[2]
    assert isinstance(extended, ExtendedReport)
    assert extended.blocks == (metrics,)


def test_a_reference_time_is_answered_once() -> None:
    made = session()
    receive(made, ReceiverReport(THEIRS), ExtendedReport(THEIRS, (ReferenceTime(0x1111222233334444),)), now=1.0)
    extended = report(made, 3.0, figures(9))[2]
    assert isinstance(extended, ExtendedReport)
    assert extended.blocks == (Dlrr((DlrrEntry(THEIRS, 0x22223333, 2 * 65536),)),)
    assert len(report(made, 3.0, figures(18))) == 2, "there is nothing else to say in an extended report"


# ---- what the peer says
def test_round_trip_from_sender_reports() -> None:
    made = session()
    sent = report(made, 3.0, figures(1))[0]
    assert isinstance(sent, SenderReport)
    clock = sent.ntp >> 16 & 0xFFFFFFFF
    receive(made, ReceiverReport(THEIRS, (block(last_sr=clock, delay=65536),)), now=4.25, sent=1)
    assert made.round_trip_s == pytest.approx(0.25, abs=0.001)
    receive(made, ReceiverReport(THEIRS, (block(last_sr=clock, delay=65536),)), now=3.995, sent=1)
    assert made.round_trip_s == 0.0, "clocks are coarse"
    for wrong in (
        block(last_sr=clock, delay=100 * 65536),
        block(last_sr=clock + 1),
        block(),
        block(ssrc=5, last_sr=clock),
    ):
        receive(made, ReceiverReport(THEIRS, (wrong,)), now=5.0, sent=1)
        assert made.round_trip_s == 0.0


def test_round_trip_from_reference_times() -> None:
    made = session()
    made.configure(Bandwidth(), clock_rate=8000, sends_xr=True, now=0.0)
    extended = report(made, 3.0, figures())[2]
    assert isinstance(extended, ExtendedReport)
    (reference,) = extended.blocks
    assert isinstance(reference, ReferenceTime)
    answer = Dlrr((DlrrEntry(5, 1, 1), DlrrEntry(OURS, reference.ntp >> 16 & 0xFFFFFFFF, 65536)))
    receive(made, ReceiverReport(THEIRS), ExtendedReport(THEIRS, (answer,)), now=4.1)
    assert made.round_trip_s == pytest.approx(0.1, abs=0.001)


@given(st.floats(0.0, 50.0), st.floats(0.0, 30.0))
def test_round_trips_of_two_sessions(trip_s: float, delay_s: float) -> None:
    ours, theirs = session(), RtcpSession(ssrc=THEIRS, cname="x", random=lambda: 0.0, now=50.0, unix_s=WALL_S / 2)
    sent = build_rtcp(report(ours, 0.0, figures(5)))
    base = ours._last_report
    theirs.receive_untrusted(sent, now=60.0, sent=0)
    loss = LossSummary(5, 5, 5, 0.0, 0, 0, NO_BURSTS)
    current = StreamFigures(SenderFigures(0, 0, 0), SourceFigures(OURS, 0, loss))
    answer = build_rtcp(report(theirs, 60.0 + delay_s, current))
    delay_s = theirs._last_report - 60.0
    ours.receive_untrusted(answer, now=base + delay_s + trip_s, sent=5)
    assert ours.round_trip_s == pytest.approx(trip_s, abs=0.001)


def test_the_view_of_the_peer() -> None:
    made = session()
    receive(made, ReceiverReport(THEIRS, (block(fraction_lost=64, cumulative_lost=7, jitter=80, highest_sequence=9),)))
    remote = made.remote
    assert (remote.fraction_lost, remote.cumulative_lost, remote.jitter) == (0.25, 7, 80)
    assert not remote.hears_nothing
    metrics = VoipMetrics(ssrc=OURS, r_factor=80)
    receive(made, ReceiverReport(THEIRS), ExtendedReport(THEIRS, (metrics, VoipMetrics(ssrc=1))))
    assert remote.metrics == metrics
    receive(made, ReceiverReport(THEIRS + 1))
    assert made.remote.fraction_lost is None, "another source, another view"


@pytest.mark.parametrize("reports", [(), (block(highest_sequence=9),), (block(ssrc=1),)])
def test_a_peer_that_hears_nothing(reports: tuple[ReportBlock, ...]) -> None:
    made = session()
    receive(made, ReceiverReport(THEIRS, (block(highest_sequence=9),)), sent=50)
    for sent in (60, 90, 50 + DEAF_PACKETS - 1):
        receive(made, ReceiverReport(THEIRS, reports), sent=sent)
        assert not made.remote.hears_nothing
    receive(made, SenderReport(THEIRS, 1, 1, 1, 1, reports), sent=50 + DEAF_PACKETS)
    assert made.remote.hears_nothing
    receive(made, ReceiverReport(THEIRS, (block(highest_sequence=10),)), sent=500)
    assert not made.remote.hears_nothing


def test_the_peers_clock() -> None:
    made = session()
    assert made.unix_time_of(5) is None
    receive(made, SenderReport(THEIRS, (2208988800 + 1000) << 32, 0xFFFFFFFF, 0, 0))
    assert made.unix_time_of(7999) == pytest.approx(1001.0)
    receive(made, ReceiverReport(THEIRS + 1))
    assert made.unix_time_of(5) is None, "another source has another clock"


def test_bye_of_the_peer() -> None:
    made = session()
    receive(made, ReceiverReport(THEIRS))
    assert not receive(made, Bye((5,), "who?")).is_bye
    assert receive(made, ReceiverReport(THEIRS), Bye((THEIRS,), "tired")).is_bye
    assert made.bye_reason == "tired"
    receive(made, ReceiverReport(THEIRS))
    assert made.bye_reason is None


def test_our_own_bye() -> None:
    made = session()
    assert made.bye(1.0, figures()) is None, "nobody knows us"
    octets = made.bye(1.0, figures(7, 3), "gone")
    assert octets is not None
    packets = parse_rtcp_untrusted(octets)
    assert isinstance(packets[0], SenderReport)
    assert packets[-1] == Bye((OURS,), "gone")
    assert made.next_deadline() is None


@pytest.mark.parametrize(
    "packets",
    [
        (SenderReport(OURS, 1, 1, 1, 1),),
        (ReceiverReport(OURS),),
        (ReceiverReport(THEIRS), SourceDescription((SdesChunk(OURS, ((CNAME, b"other"),)),))),
        (ReceiverReport(THEIRS), ExtendedReport(OURS)),
    ],
)
def test_a_peer_with_our_number(packets: tuple[RtcpPacket, ...]) -> None:
    made = session()
    assert receive(made, *packets).is_collision
    octets = made.change_ssrc(OURS + 1, 1.0, figures(5))
    assert octets is not None
    assert parse_rtcp_untrusted(octets)[-1] == Bye((OURS,), "SSRC collision")
    assert report(made, 1.0, figures(1))[0].ssrc == OURS + 1  # type: ignore[union-attr]
    assert not receive(made, *packets).is_collision


def test_reports_on_our_former_number_say_nothing() -> None:
    made = session()
    made.change_ssrc(OURS + 1, 0.0, figures())
    receive(made, ReceiverReport(THEIRS, (block(fraction_lost=9),)), sent=1000)
    assert made.remote.fraction_lost is None
    assert not made.remote.hears_nothing


def test_our_own_reports_reflected_are_no_collision() -> None:
    made = session()
    octets = build_rtcp(report(made, 0.0, figures(5)))
    assert not made.receive_untrusted(octets, now=1.0, sent=5).is_collision
    assert made.remote.fraction_lost is None


def test_who_always_has_our_number_is_let_be() -> None:
    made = session()
    for n in range(MAX_SSRC_CHANGES):
        assert receive(made, ReceiverReport(OURS + n)).is_collision
        made.change_ssrc(OURS + n + 1, 0.0, figures())
    assert not receive(made, ReceiverReport(made.ssrc)).is_collision


def test_garbage_is_counted_and_nothing_else() -> None:
    made = session()
    assert made.receive_untrusted(b"garbage!", now=1.0, sent=0) == Received(is_valid=False)
    assert (made.counters.invalid, made.counters.received) == (1, 0)


def test_nobody_to_send_to_yet() -> None:
    made = session()
    made.postpone(10.0)
    assert made.next_deadline() == 12.5
