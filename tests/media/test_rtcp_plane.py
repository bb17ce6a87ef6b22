"""RTCP of legs in a worker's plane: over real sockets, with ticks and time moved by the test."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import Any

import attrs
import pytest

from media.call import CommandError
from media.control import StreamConfig
from media.director import Director
from media.io import PortPool, UrgentPoll
from media.leg import Leg
from media.party import STEADY_PACKETS
from media.plane import MediaPlane
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
    is_rtcp,
    parse_rtcp_untrusted,
)
from media.rtcp_xr import ExtendedReport, VoipMetrics
from media.rtp import RtpPacket, build_rtp, parse_rtp_untrusted

HOST, CALLER, STRANGER = "127.0.77.101", "127.0.77.102", "127.0.77.103"
THEIRS = 0xBBBB


class Peer:
    """A party with a socket for RTP and one for RTCP."""

    def __init__(self, host: str, port: int = 0) -> None:
        while True:
            self.rtp, self.rtcp = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
            self.rtp.bind((host, port))
            self.port: int = self.rtp.getsockname()[1]
            try:
                self.rtcp.bind((host, self.port + 1))
                break
            except OSError:
                self.close()
        self.host = host
        self.sequence = 65534
        for sock in (self.rtp, self.rtcp):
            sock.setblocking(False)
        self.heard: dict[socket.socket, list[bytes]] = {self.rtp: [], self.rtcp: []}

    def listen(self) -> None:
        """Takes what has come, before the kernel has no room for it."""
        for sock, heard in self.heard.items():
            while True:
                try:
                    heard.append(sock.recv(2048))
                except BlockingIOError:
                    break

    def drain(self, sock: socket.socket) -> list[bytes]:
        self.listen()
        heard, self.heard[sock] = self.heard[sock], []
        return heard

    def packets(self) -> list[RtpPacket]:
        return [parse_rtp_untrusted(octets) for octets in self.drain(self.rtp)]

    def compounds(self, sock: socket.socket | None = None) -> list[tuple[RtcpPacket, ...]]:
        return [parse_rtcp_untrusted(octets) for octets in self.drain(sock or self.rtcp) if is_rtcp(octets)]

    def close(self) -> None:
        self.rtp.close()
        self.rtcp.close()


@attrs.define
class Rig:
    """A director with one leg; every fourth tick the peer may speak."""

    plane: MediaPlane
    director: Director
    urgent: UrgentPoll
    peer: Peer
    stranger: Peer
    events: list[dict[str, Any]]
    place: tuple[str, int] = ("", 0)
    now: float = 0.0
    tick: int = 0

    @classmethod
    def build(cls) -> Rig:
        plane, urgent = MediaPlane(4), UrgentPoll()
        events: list[dict[str, Any]] = []
        director = Director(plane, PortPool(HOST, 44600, 44699), urgent, events.append)
        rig = cls(plane, director, urgent, Peer(CALLER), Peer(STRANGER), events)
        director._rtcp.clock = lambda: rig.now
        return rig

    def config(self, **fields: Any) -> StreamConfig:
        defaults = {"codec": "PCMU", "payload_type": 0, "remote_host": CALLER, "remote_port": self.peer.port}
        return StreamConfig(**{**defaults, **fields})

    def open(self, **fields: Any) -> None:
        replies: list[Any] = []
        self.director.open("a", self.config(**fields), None, False, replies.append)
        self.place = replies[0]["host"], replies[0]["port"]

    @property
    def leg(self) -> Leg:
        return self.director._calls["a"].leg

    @property
    def rtcp_place(self) -> tuple[str, int]:
        return self.place[0], self.place[1] + 1

    def run(self, seconds: float, *, speaks: bool = False, loses: frozenset[int] = frozenset()) -> None:
        """``loses``: which of the peer's packets do not come."""
        for n in range(round(seconds * 200)):
            self.tick += 1
            self.now += 0.005
            if speaks and n % 4 == 0:
                self.say(is_lost=n // 4 in loses)
            self.plane.run(self.tick, 0)
            self.director.handle_timers(self.tick, self.now)
            if n % 100 == 0:
                self.peer.listen()

    def say(self, *, is_lost: bool = False, ssrc: int = THEIRS) -> None:
        peer = self.peer
        packet = build_rtp(
            payload_type=0,
            marker=False,
            sequence=peer.sequence,
            timestamp=peer.sequence * 160,
            ssrc=ssrc,
            payload=b"\xff" * 160,
        )
        peer.sequence = (peer.sequence + 1) & 0xFFFF
        if not is_lost:
            peer.rtp.sendto(packet, self.place)

    def report(self, *packets: RtcpPacket, by: socket.socket | None = None, to: tuple[str, int] | None = None) -> None:
        (by or self.peer.rtcp).sendto(build_rtcp(packets), to or self.rtcp_place)
        self.run(0.05)

    def view(self, **fields: int) -> ReportBlock:
        values = dict.fromkeys(ReportBlock.__slots__[:7], 0)
        return ReportBlock(**{**values, "ssrc": int(self.plane.table.ssrc[self.leg.row]), **fields})

    def stats(self) -> dict[str, Any]:
        return self.director.stats("a")

    def close(self) -> None:
        self.director.release_all("over")
        self.plane.close()
        self.urgent.close()
        self.peer.close()
        self.stranger.close()


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig.build()
    yield made
    made.close()


def test_a_leg_reports_what_it_sends_and_hears(rig: Rig) -> None:
    rig.open()
    rig.run(10.0, speaks=True, loses=frozenset(range(100, 125)))
    first, *_ = found = rig.peer.compounds()
    assert 1 <= len(found) <= 6
    packets = rig.peer.packets()
    report, description = found[-1]
    assert isinstance(report, SenderReport)
    assert isinstance(description, SourceDescription)
    (chunk,) = description.chunks
    assert chunk.ssrc == report.ssrc == packets[0].ssrc
    ((kind, cname),) = chunk.items
    assert (kind, len(cname)) == (CNAME, 16)
    assert isinstance(first[1], SourceDescription)
    assert first[1].chunks == (chunk,)
    sent = [packet for packet in packets if (packet.timestamp - report.rtp_timestamp) % (1 << 32) >= 1 << 31]
    assert abs(len(sent) - report.packets) <= 1, "the stream's clock is another"
    assert report.octets == 160 * report.packets
    (block,) = report.reports
    assert block.ssrc == THEIRS
    assert sum(one[0].reports[0].fraction_lost > 0 for one in found if one[0].reports) == 1  # type: ignore[union-attr]
    rig.run(7.0, speaks=True)
    (block,) = rig.peer.compounds()[-1][0].reports  # type: ignore[union-attr]
    assert block.cumulative_lost == 25
    assert block.highest_sequence > 0x10000, "sequence numbers went round"


def test_what_the_peer_reports_is_in_the_statistics(rig: Rig) -> None:
    rig.open()
    rig.run(8.0, speaks=True)
    rig.report(ReceiverReport(THEIRS, (rig.view(fraction_lost=128, cumulative_lost=9, jitter=160),)))
    stats = rig.stats()
    assert (stats["peer_loss_percent"], stats["peer_lost"], stats["peer_jitter_ms"]) == (50.0, 9, 20.0)
    assert (stats["rtcp_in"], stats["rtcp_invalid"], stats["rtcp_stranger"]) == (1, 0, 0)
    assert stats["rtcp_out"] >= 1
    assert not stats["peer_hears_nothing"]
    assert stats["quality"]["send"]["jitter_ms"] == 20.0
    assert 2.0 < stats["quality"]["send"]["loss_percent"] < 2.5
    rig.director._one_way.talking(rig.leg, rig.tick)
    rig.run(3.0, speaks=True)
    rig.report(ReceiverReport(THEIRS, (rig.view(),)))
    assert rig.stats()["peer_hears_nothing"]
    rig.report(ReceiverReport(THEIRS, (rig.view(highest_sequence=1),)))
    told = [(event["direction"], event["over"]) for event in rig.events if event["ev"] == "one_way"]
    assert told == [("send", False), ("send", True)]


def test_a_round_trip(rig: Rig) -> None:
    rig.open()
    found: list[tuple[RtcpPacket, ...]] = []
    while not found:
        rig.run(0.005)
        found = rig.peer.compounds()
    report = found[0][0]
    assert isinstance(report, SenderReport)
    sent_at = rig.now
    rig.run(0.15)
    rig.report(ReceiverReport(THEIRS, (rig.view(last_sr=report.ntp >> 16 & 0xFFFFFFFF, delay=65536 // 20),)))
    assert rig.stats()["round_trip_ms"] == pytest.approx((rig.now - sent_at) * 1000 - 50, abs=6)


def test_reports_go_on_while_the_call_is_held(rig: Rig) -> None:
    rig.open()
    rig.run(8.0, speaks=True)
    rig.director.modify("a", rig.config(send=False, receive=False))
    rig.peer.drain(rig.peer.rtcp)
    rig.run(30.0)
    found = rig.peer.compounds()
    assert 4 <= len(found) <= 14
    assert found[-1][0] == ReceiverReport(int(rig.plane.table.ssrc[rig.leg.row]))
    rig.report(ReceiverReport(THEIRS))
    assert rig.stats()["rtcp_in"] == 1


def test_without_bandwidth_there_is_no_rtcp(rig: Rig) -> None:
    rig.open(rtcp_rs_bps=0, rtcp_rr_bps=0)
    rig.run(30.0, speaks=True)
    rig.director.release("a", "over")
    assert rig.peer.compounds() == []


def test_a_released_leg_says_good_bye(rig: Rig) -> None:
    rig.open()
    rig.run(1.0, speaks=True)
    ssrc = int(rig.plane.table.ssrc[rig.leg.row])
    rig.director.release("a", "any reason of ours")
    assert rig.peer.compounds()[-1][-1] == Bye((ssrc,))


def test_the_signalled_place_is_obeyed_and_a_new_one_too(rig: Rig) -> None:
    rig.open(rtcp_host=STRANGER, rtcp_port=rig.stranger.port)
    rig.run(8.0)
    assert rig.stranger.compounds(rig.stranger.rtp)
    assert rig.peer.compounds() == []
    rig.director.modify("a", rig.config())
    rig.run(8.0)
    assert rig.peer.compounds()
    rig.director.modify("a", rig.config(remote_host="0.0.0.0", send=False))
    rig.run(8.0)
    assert not rig.director._calls["a"].party.has_rtcp_target


def test_reports_go_where_those_of_the_party_come_from(rig: Rig) -> None:
    """Behind a translator: RTP and RTCP come from other ports than signalled."""
    rig.open(remote_port=9)
    rig.run(0.2, speaks=True)
    rig.report(ReceiverReport(THEIRS))
    rig.run(8.0)
    assert rig.peer.compounds()


def test_strangers_reports_are_nobodys(rig: Rig) -> None:
    rig.open()
    rig.run(0.2, speaks=True)
    for by in (rig.stranger.rtcp, rig.stranger.rtp):
        rig.report(ReceiverReport(THEIRS, (rig.view(fraction_lost=255),)), Bye((THEIRS,)), by=by)
    rig.report(ReceiverReport(THEIRS))
    rig.report(ReceiverReport(THEIRS), by=rig.peer.rtp)
    stats = rig.stats()
    assert (stats["rtcp_stranger"], stats["rtcp_in"], stats["peer_loss_percent"]) == (3, 1, None)
    assert (stats["stranger"], stats["invalid"]) == (0, 0)
    rig.run(8.0)
    assert rig.peer.compounds()
    assert not rig.stranger.compounds()


def test_garbage_does_not_make_anybody_the_party(rig: Rig) -> None:
    rig.open()
    rig.run(0.2, speaks=True)
    rig.peer.rtp.sendto(os.urandom(40)[:-1], rig.rtcp_place)
    rig.run(0.05)
    rig.report(ReceiverReport(THEIRS))
    assert (rig.stats()["rtcp_invalid"], rig.stats()["rtcp_in"]) == (1, 1)


@pytest.mark.parametrize("seconds", [0.02, 1.0])
def test_rtcp_on_the_port_of_rtp(rig: Rig, seconds: float) -> None:
    rig.open(rtcp_mux=True)
    rig.run(seconds, speaks=True)
    assert rig.director._calls["a"].party._is_connected == (seconds * 50 >= STEADY_PACKETS)
    before = rig.stats()
    rig.report(ReceiverReport(THEIRS, (rig.view(fraction_lost=64),)), by=rig.peer.rtp, to=rig.place)
    rig.run(1.0, speaks=True)
    stats = rig.stats()
    assert (stats["rtcp_in"], stats["peer_loss_percent"]) == (1, 25.0)
    assert [stats[name] for name in ("invalid", "stranger", "lost", "resync", "concealed_ms")] == [0] * 5
    assert stats["packets_in"] == before["packets_in"] + 50
    assert rig.plane.table.plain[rig.leg.row], "the leg has left the columnar path"
    rig.run(8.0, speaks=True)
    assert any(is_rtcp(octets) for octets in rig.peer.drain(rig.peer.rtp))
    assert rig.peer.drain(rig.peer.rtcp) == []


def test_shared_rtcp_makes_nobody_the_party_and_of_strangers_is_dropped(rig: Rig) -> None:
    rig.open(rtcp_mux=True)
    rig.report(ReceiverReport(THEIRS), by=rig.stranger.rtp, to=rig.place)
    rig.report(ReceiverReport(THEIRS), by=rig.peer.rtp, to=rig.place)
    assert rig.director._calls["a"].party._latched is None
    rig.run(0.04, speaks=True)
    rig.report(ReceiverReport(THEIRS), by=rig.stranger.rtp, to=rig.place)
    stats = rig.stats()
    assert (stats["rtcp_stranger"], stats["rtcp_in"], stats["stranger"], stats["invalid"]) == (2, 1, 0, 0)


def test_shared_rtcp_is_taken_while_the_call_is_held(rig: Rig) -> None:
    rig.open(rtcp_mux=True)
    rig.run(1.0, speaks=True)
    rig.director.modify("a", rig.config(rtcp_mux=True, send=False, receive=False))
    rig.report(ReceiverReport(THEIRS), by=rig.peer.rtp, to=rig.place)
    assert rig.stats()["rtcp_in"] == 1


def test_extended_reports_of_what_was_lost(rig: Rig) -> None:
    rig.open(rtcp_xr=True)
    rig.run(8.0, speaks=True, loses=frozenset({50, 51, 53, 200}))
    extended = rig.peer.compounds()[-1][2]
    assert isinstance(extended, ExtendedReport)
    metrics = next(block for block in extended.blocks if isinstance(block, VoipMetrics))
    assert metrics.ssrc == THEIRS
    assert metrics.loss_rate >= 1
    assert (metrics.burst_density, metrics.burst_ms) == (3 * 256 // 4, 80)
    assert metrics.discard_rate == 0
    assert 60 < metrics.r_factor < 94
    assert 10 < metrics.mos_cq <= metrics.mos_lq < 45
    assert (metrics.gmin, metrics.jb_abs_max_ms, metrics.noise_level) == (16, 80, 127)


@pytest.mark.parametrize("is_rtp", [True, False])
def test_a_peer_that_takes_our_number_makes_us_take_another(rig: Rig, is_rtp: bool) -> None:
    rig.open()
    rig.run(8.0, speaks=True)
    ours = int(rig.plane.table.ssrc[rig.leg.row])
    rig.peer.drain(rig.peer.rtp)
    rig.peer.drain(rig.peer.rtcp)
    if is_rtp:
        rig.say(ssrc=ours)
        rig.run(0.05)
    else:
        rig.report(ReceiverReport(ours), SourceDescription((SdesChunk(ours, ((CNAME, b"c"),)),)))
    assert rig.peer.compounds()[0][-1] == Bye((ours,), "SSRC collision")
    rig.run(8.0)
    after = rig.peer.packets()
    sequences = [packet.sequence for packet in after]
    assert sequences == [(sequences[0] + n) & 0xFFFF for n in range(len(after))], "the stream was broken"
    report = rig.peer.compounds()[-1][0]
    assert isinstance(report, SenderReport)
    assert report.ssrc == after[-1].ssrc != ours
    assert report.packets <= sum(packet.ssrc == report.ssrc for packet in after)


def test_another_source_of_the_peers_is_reported_from_its_beginning(rig: Rig) -> None:
    rig.open()
    rig.run(8.0, speaks=True, loses=frozenset(range(10, 60)))
    rig.peer.drain(rig.peer.rtcp)
    rig.peer.sequence = 1000
    for _ in range(1600):
        if rig.tick % 4 == 0:
            rig.say(ssrc=77)
        rig.run(0.005)
    (block,) = rig.peer.compounds()[-1][0].reports  # type: ignore[union-attr]
    assert (block.ssrc, block.cumulative_lost) == (77, 0)
    assert 1000 < block.highest_sequence < 1500


@pytest.mark.parametrize(
    "fields",
    [
        {"rtcp_rs_bps": "5"},
        {"rtcp_rr_bps": -1},
        {"rtcp_port": 70000},
        {"rtcp_host": "nowhere", "rtcp_port": 5},
        {"rtcp_host": 7, "rtcp_port": 5},
    ],
)
def test_what_cannot_be_used_is_refused(rig: Rig, fields: dict[str, Any]) -> None:
    with pytest.raises(CommandError):
        rig.open(**fields)
    assert len(rig.director._rtcp) == rig.plane.sockets == 0


def test_nothing_is_left_of_released_legs(rig: Rig) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    for _ in range(20):
        rig.open()
        rig.run(0.05, speaks=True)
        rig.director.release("a", "over")
    assert sorted(os.listdir("/proc/self/fd")) == before
    assert len(rig.director._rtcp) == 0
    rig.run(10.0)
    assert rig.director._rtcp._heap == []
    assert rig.director._rtcp._by_fd == {}
