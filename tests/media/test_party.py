"""Whom a leg's socket listens to, over real sockets."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.control import ControlError, StreamConfig
from media.io import PortPool
from media.leg import Leg, LegCounters, Receiver
from media.party import FORMER_TICKS, STEADY_PACKETS, Party
from media.plane import MediaPlane
from media.rtcp_path import RtcpPath
from media.rtp import MAX_PACKET_BYTES, build_rtp
from media.table import NEVER

HOST = "127.0.77.25"
CALLER, OTHER = "127.0.77.26", "127.0.77.27"
VIEW = memoryview(bytearray(MAX_PACKET_BYTES))


def rtp(payload_type: int = 0, sequence: int = 1) -> bytes:
    return build_rtp(
        payload_type=payload_type, marker=False, sequence=sequence, timestamp=160, ssrc=1, payload=b"\xff" * 160
    )


class Rig:
    """One party of one leg; sockets of a caller and of strangers."""

    def __init__(self, **config: Any) -> None:
        self.plane = MediaPlane(2)
        self.row = self.plane.table.allocate()
        self.sockets: list[socket.socket] = []
        self.caller, self.stranger, self.third = (self.bind(h) for h in (CALLER, OTHER, OTHER))
        self.config = StreamConfig(**{"codec": "PCMU", "payload_type": 0, "dtmf_payload_type": 101, **config})
        self.counters = LegCounters()
        self.leg = Leg("a", self.row, Receiver(self.plane.table, self.row, self.config, self.counters), self.counters)
        self.ours, rtcp = PortPool(HOST, 44400, 44499).bind(None, 0.0)
        self.sockets += [self.ours, rtcp]
        self.latched: list[str] = []
        self.party = Party(
            self.plane, self.leg, self.ours, lambda _leg, source: self.latched.append(source), RtcpPath(rtcp)
        )
        self.receive = self.party.receive_untrusted
        self.plane.add_leg(self.leg, self.ours, self.party.receive_untrusted)
        self.party.configure(self.config)

    def bind(self, host: str) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((host, 0))
        sock.setblocking(False)
        self.sockets.append(sock)
        return sock

    def send(self, sender: socket.socket, datagram: bytes) -> int | None:
        """What the plane's receive function makes of one datagram; None: the kernel did not let it through."""
        sender.sendto(datagram, (self.party.host, self.party.port))
        if not select.select([self.ours], [], [], 0)[0]:
            return None
        return self.plane._rtp_receive[self.ours.fileno()](VIEW)

    def target(self) -> socket.socket | None:
        """Which of the sockets our packets go to."""
        self.plane._rtp_send[self.row](memoryview(b"x"))
        ready = select.select(self.sockets, [], [], 0)[0]
        assert len(ready) <= 1
        for sock in ready:
            sock.recv(10)
        return ready[0] if ready else None

    def close(self) -> None:
        self.plane.close()
        for sock in self.sockets:
            sock.close()


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    yield made
    made.close()


def signalled(sock: socket.socket) -> dict[str, Any]:
    host, port = sock.getsockname()
    return {"remote_host": host, "remote_port": port}


def test_the_first_valid_packet_decides(rig: Rig) -> None:
    for garbage in (b"", b"\x80", os.urandom(5), b"\x00" * 172, rtp(payload_type=96)):
        assert rig.send(rig.stranger, garbage) == 0
    assert not rig.latched
    assert rig.send(rig.caller, rtp()) == len(rtp())
    assert rig.latched == [f"{CALLER}:{rig.caller.getsockname()[1]}"]
    assert rig.send(rig.stranger, rtp()) == 0
    assert (rig.counters.invalid, rig.counters.stranger) == (5, 1)


@pytest.mark.parametrize("payload_type", [101, 13])
def test_digits_and_comfort_noise_latch_too(rig: Rig, payload_type: int) -> None:
    assert rig.send(rig.caller, rtp(payload_type))
    assert len(rig.latched) == 1


def test_packets_go_where_they_come_from() -> None:
    rig = Rig()
    try:
        rig.party.configure(StreamConfig("PCMU", 0, **signalled(rig.stranger)))
        assert rig.target() is rig.stranger
        rig.send(rig.caller, rtp())
        assert rig.target() is rig.caller, "the real source is the party"
        for _ in range(STEADY_PACKETS):
            rig.send(rig.caller, rtp())
        assert rig.target() is rig.caller, "the connected socket sends elsewhere"
    finally:
        rig.close()


def test_a_steady_party_is_filtered_by_the_kernel(rig: Rig) -> None:
    for i in range(STEADY_PACKETS):
        assert rig.send(rig.caller, rtp(sequence=i))
    assert rig.ours.getpeername() == rig.caller.getsockname()
    assert rig.send(rig.stranger, rtp()) is None, "a stranger's packet woke us"
    assert rig.counters.stranger == 0, "who is filtered is not counted"
    assert rig.send(rig.caller, rtp()) == len(rtp())


def test_a_new_address_unlatches_even_a_connected_socket(rig: Rig) -> None:
    for i in range(STEADY_PACKETS):
        rig.send(rig.caller, rtp(sequence=i))
    rig.party.configure(StreamConfig("PCMU", 0, **signalled(rig.third)))
    with pytest.raises(OSError, match="not connected"):
        rig.ours.getpeername()
    assert rig.target() is rig.third
    assert rig.send(rig.third, rtp()) == len(rtp())
    assert len(rig.latched) == 2


def test_packets_of_the_former_party_on_their_way_do_not_latch(rig: Rig) -> None:
    rig.send(rig.caller, rtp())
    rig.party.configure(StreamConfig("PCMU", 0, **signalled(rig.third)))
    assert rig.send(rig.caller, rtp(sequence=2)) == 0
    assert rig.target() is rig.third
    # behind a translator the source may stay the same: after a while it counts again
    rig.plane.tick += FORMER_TICKS
    assert rig.send(rig.caller, rtp(sequence=3))
    assert rig.target() is rig.caller


def test_a_party_that_comes_back_is_heard_at_once(rig: Rig) -> None:
    rig.party.configure(StreamConfig("PCMU", 0, **signalled(rig.caller)))
    rig.send(rig.caller, rtp())
    rig.party.configure(StreamConfig("PCMU", 0, remote_host="0.0.0.0", remote_port=9, send=False))
    rig.party.configure(StreamConfig("PCMU", 0, **signalled(rig.caller)))
    assert rig.send(rig.caller, rtp(sequence=2))


def test_the_same_address_again_keeps_the_latch(rig: Rig) -> None:
    rig.send(rig.caller, rtp())
    rig.party.configure(rig.config)
    assert rig.send(rig.stranger, rtp()) == 0
    assert rig.target() is rig.caller


def test_a_party_that_may_not_be_sent_to_is_not(rig: Rig) -> None:
    rig.send(rig.caller, rtp())
    assert rig.plane.table.due[rig.row] != NEVER
    rig.party.configure(StreamConfig("PCMU", 0, send=False))
    assert rig.target() is None
    assert rig.plane.table.due[rig.row] == NEVER
    rig.party.configure(StreamConfig("PCMU", 0))
    assert rig.target() is rig.caller


def test_nobody_latches_while_we_may_not_receive() -> None:
    rig = Rig(receive=False)
    try:
        assert rig.send(rig.caller, rtp()) == 0
        assert not rig.latched
    finally:
        rig.close()


@pytest.mark.parametrize(
    "config",
    [
        {"remote_host": "nowhere", "remote_port": 4000},
        {"remote_host": "127.0.0.1", "remote_port": 70000},
        {"codec": "G723"},
        {"payload_type": 128},
    ],
)
def test_what_cannot_be_used_is_refused_and_changes_nothing(rig: Rig, config: dict[str, Any]) -> None:
    rig.send(rig.caller, rtp())
    with pytest.raises(ControlError):
        rig.party.configure(StreamConfig(**{"codec": "PCMU", "payload_type": 0, **config}))
    assert rig.target() is rig.caller


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(st.sampled_from(["caller", "stranger", "third"]), st.one_of(st.binary(max_size=60), st.just(rtp()))),
        max_size=40,
    )
)
def test_whatever_strangers_send_the_latched_source_stays(packets: list[tuple[str, bytes]]) -> None:
    rig = Rig()
    try:
        assert rig.send(rig.caller, rtp())
        taken = 1
        for who, datagram in packets:
            n = rig.send(getattr(rig, who), datagram)
            if who == "caller":
                assert n == len(datagram)
                taken += 1
            else:
                assert not n, "a stranger's packet was taken"
            assert rig.target() is rig.caller
        assert len(rig.latched) == 1
        strangers = sum(who != "caller" for who, _ in packets)
        assert rig.counters.stranger <= strangers
        if taken < STEADY_PACKETS:
            assert rig.counters.stranger == strangers
    finally:
        rig.close()
