from __future__ import annotations

import os
import socket
import struct

import pytest
import trio

from conformance.lab.capture import OpenSockets, RtpCapture, SocketWatch, read_sockets
from conformance.lab.rtp_leg import RtpLeg

PREFIX = "127.0.88"


def packet(source: str, destination: str, *, ports=(31000, 20000), protocol=17, rtp=b"\x80\x00" + bytes(10)) -> bytes:
    header = struct.pack("!BBHHHBBH", 0x45, 0, 0, 0, 0, 64, protocol, 0)
    header += socket.inet_aton(source) + socket.inet_aton(destination)
    return header + struct.pack("!HHHH", *ports, 8 + len(rtp), 0) + rtp


def test_counts_by_addresses():
    capture = RtpCapture(PREFIX)
    for at in (1.0, 2.0, 4.0):
        capture.receive_packet_untrusted(packet(f"{PREFIX}.41", f"{PREFIX}.30"), at)
    capture.receive_packet_untrusted(packet(f"{PREFIX}.30", f"{PREFIX}.41", ports=(20000, 31000)), 3.0)
    there = (f"{PREFIX}.41", 31000), (f"{PREFIX}.30", 20000)
    assert set(capture.flows) == {there, there[::-1]}
    flow = capture.flows[there]
    assert (flow.n_packets, flow.first_at, flow.last_at) == (3, 1.0, 4.0)
    capture.clear()
    assert not capture.flows


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x45" * 39,
        packet("127.0.9.1", f"{PREFIX}.30"),
        packet(f"{PREFIX}.41", f"{PREFIX}.30", protocol=6),
        packet(f"{PREFIX}.41", f"{PREFIX}.30", ports=(5060, 5060)),
        packet(f"{PREFIX}.41", f"{PREFIX}.30", rtp=b"INVITE sip:x"),
        packet(f"{PREFIX}.41", f"{PREFIX}.30", rtp=b"\x80\xc8" + bytes(10)),
        b"\x6f" + packet(f"{PREFIX}.41", f"{PREFIX}.30")[1:],
        b"\x4f" + packet(f"{PREFIX}.41", f"{PREFIX}.30")[1:],
    ],
    ids=["empty", "short", "elsewhere", "tcp", "sip port", "sip", "rtcp", "ipv6", "long header"],
)
def test_what_is_not_our_rtp_is_ignored(data):
    capture = RtpCapture(PREFIX)
    capture.receive_packet_untrusted(data, 1.0)
    assert not capture.flows


async def _capture() -> RtpCapture:
    capture = RtpCapture(PREFIX)
    one, two = RtpLeg(f"{PREFIX}.54"), RtpLeg(f"{PREFIX}.55")
    await one.bind()
    one.remote = await two.bind()
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            possible = await nursery.start(capture.run)
            assert possible == (os.geteuid() == 0)
            nursery.start_soon(one.run)
            nursery.start_soon(two.run)
            await two.wait_until(lambda: len(two.received) >= 5)
            nursery.cancel_scope.cancel()
    if possible:
        assert capture.flows[one.local, two.local].n_packets >= 4
    return capture


def test_sees_real_packets_where_it_may():
    assert not trio.run(_capture).is_running


UDP = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
  10: 1E00007F:4E20 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 555 2 0 0
  11: 1E00007F:13C4 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 556 2 0 0
  12: 2900007F:4E22 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 557 2 0 0
"""
TCP = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 2800007F:2328 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 0100007F:A000 2800007F:2328 01 00000000:00000000 00:00000000 00000000     0        0 2 1 0 20 4 30 10 -1
   2: 0100007F:A001 2800007F:2328 06 00000000:00000000 00:00000000 00000000     0        0 0 1 0 20 4 30 10 -1
   3: 2800007F:2328 0100007F:A000 01 00000000:00000000 00:00000000 00000000     0        0 3 1 0 20 4 30 10 -1
"""


def test_reads_the_kernel_tables():
    found = read_sockets(UDP, TCP, host="127.0.0.30", rtp_ports=range(20000, 20010), engine=("127.0.0.40", 9000))
    assert found == OpenSockets(frozenset({20000}), frozenset({0xA000}))
    assert read_sockets("", "", host="h", rtp_ports=range(1), engine=("h", 1)) == OpenSockets(frozenset(), frozenset())


def sockets(ports: set[int], connections: set[int]) -> OpenSockets:
    return OpenSockets(frozenset(ports), frozenset(connections))


@pytest.mark.parametrize(
    ("changes", "gone_at"),
    [
        ([(1.0, sockets(set(), set()))], 5.0),
        ([(1.0, sockets({1}, set()))], None),
        ([(1.0, sockets({1}, {2})), (6.0, sockets(set(), {2})), (7.0, sockets(set(), set()))], 7.0),
        ([(1.0, sockets({1}, set())), (4.0, sockets(set(), set()))], 5.0),
        ([(1.0, sockets(set(), set())), (8.0, sockets({9}, set()))], 5.0),
        ([], None),
    ],
)
def test_when_all_was_gone(changes, gone_at):
    watch = SocketWatch("127.0.0.30", range(1), ("127.0.0.40", 9000))
    watch.changes = changes
    assert watch.gone_at(5.0) == gone_at


def test_watch_sees_a_port_come_and_go():
    host = f"{PREFIX}.56"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind((host, 0))
        port = udp.getsockname()[1]
        watch = SocketWatch(host, range(1024, 65536), ("127.0.88.57", 1))
        assert watch.look().rtp_ports == {port}
    assert not watch.look().rtp_ports
    assert len(watch.changes) == 2
