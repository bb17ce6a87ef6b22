from __future__ import annotations

import socket

import pytest
import trio
import trio.testing

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


@pytest.mark.parametrize("host", ["127.0.77.5", "::1"])
def test_unreachable_ports_are_told_and_cost_nobody_else(host: str) -> None:
    async def test() -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = UdpListener(host, 0, SipCounters())
        told: list[tuple[bytes, tuple[str, int]]] = []
        received: list[bytes] = []
        with socket.socket(family, socket.SOCK_DGRAM) as peer, socket.socket(family, socket.SOCK_DGRAM) as closed:
            peer.bind((host, 0))
            closed.bind((host, 0))
            dead = closed.getsockname()[:2]
            closed.close()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(
                    listener.serve,
                    lambda data, flow: received.append(data),
                    lambda data, remote: told.append((data, remote)),
                )
                await trio.testing.wait_all_tasks_blocked()
                for number in range(100):
                    assert listener.send(b"lost %d" % number, dead) is None
                    assert listener.send(b"%d" % number, peer.getsockname()[:2]) is None
                    assert peer.recv(100) == b"%d" % number
                    if number % 10 == 0:
                        peer.sendto(b"in", listener.local)
                        await trio.lowlevel.checkpoint()
                with trio.fail_after(5):
                    while not told or len(received) < 10:
                        await trio.sleep(0.001)
                assert {remote for _, remote in told} == {dead}
                assert told[0][0].startswith(b"lost ")
                # and then it is quiet: an error that is not taken out of the queue would wake us for ever
                with trio.fail_after(5):
                    await trio.testing.wait_all_tasks_blocked(0.05)
                nursery.cancel_scope.cancel()
        listener.close()

    trio.run(test)
