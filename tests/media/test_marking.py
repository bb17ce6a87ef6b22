"""DSCP as the other side's kernel reports it, and as the sockets of a pool have it."""

from __future__ import annotations

import socket

import pytest

from media.io import PortPool
from media.marking import mark

HOST, PEER = "127.0.78.30", "127.0.78.31"
EF = 46
IP_RECVTOS = 13
"""Of Linux; Python has no name for it before 3.14."""


def class_of(sender: socket.socket, family: int, host: str) -> int:
    """The traffic class of a datagram on its way."""
    is_ipv6 = family == socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as receiver:
        receiver.bind((host, 0))
        receiver.settimeout(2)
        if is_ipv6:
            receiver.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, 1)
        else:
            receiver.setsockopt(socket.IPPROTO_IP, IP_RECVTOS, 1)
        sender.sendto(b"x", receiver.getsockname())
        _, ancillary, _, _ = receiver.recvmsg(10, 100)
    wanted = (socket.IPPROTO_IPV6, socket.IPV6_TCLASS) if is_ipv6 else (socket.IPPROTO_IP, socket.IP_TOS)
    (data,) = [data for level, kind, data in ancillary if (level, kind) == wanted]
    return data[0]


@pytest.mark.parametrize(
    ("family", "ours", "peer"), [(socket.AF_INET, HOST, PEER), (socket.AF_INET6, "::1", "::1")], ids=["IPv4", "IPv6"]
)
@pytest.mark.parametrize("dscp", [0, EF, 63])
def test_all_sockets_of_a_leg_are_marked(family: int, ours: str, peer: str, dscp: int) -> None:
    for sock in PortPool(ours, 44600, 44699, dscp=dscp).bind(None, 0.0):
        with sock:
            assert class_of(sock, family, peer) == dscp << 2


def test_what_was_connected_stays_marked() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((HOST, 0))
        mark(sock, EF)
        sock.connect((PEER, 9))
        assert sock.getsockopt(socket.IPPROTO_IP, socket.IP_TOS) == EF << 2
