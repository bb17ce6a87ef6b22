from __future__ import annotations

import socket

import pytest
import trio

from ims_as.sip.counters import SipCounters
from ims_as.sip.flow import Flow
from ims_as.transport.udp import DATAGRAMS_PER_WAKE_UP, UdpListener


def test_a_burst_is_drained_and_others_get_their_turn() -> None:
    async def test() -> None:
        counters = SipCounters()
        listener = UdpListener("127.0.77.5", 0, counters)
        received: list[tuple[bytes, Flow]] = []
        n_bursts = 3 * DATAGRAMS_PER_WAKE_UP
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            peer.bind(("127.0.77.6", 0))
            for number in range(n_bursts):
                peer.sendto(b"%d" % number, listener.local)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(listener.serve, lambda data, flow: received.append((data, flow)))
                with trio.fail_after(5):
                    while not received:
                        await trio.lowlevel.checkpoint()
                    assert len(received) <= DATAGRAMS_PER_WAKE_UP
                    while len(received) < n_bursts:
                        await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
            assert [data for data, _ in received] == [b"%d" % number for number in range(n_bursts)]
            assert received[0][1] == Flow("UDP", listener.local, peer.getsockname())
            assert listener.send(b"back", received[0][1].remote) is None
            assert peer.recv(100) == b"back"
        listener.close()

    trio.run(test)


def test_what_can_never_be_sent_is_told() -> None:
    listener = UdpListener("127.0.77.5", 0, SipCounters())
    assert listener.send(b"x" * 70_000, ("127.0.77.6", 5060))
    listener.close()


def test_address_that_cannot_be_bound() -> None:
    with pytest.raises(OSError):
        UdpListener("203.0.113.1", 5060, SipCounters())
