"""The load probe: a loop that is late, and a socket that is not read. 127.0.83.0/24 is used here."""

from __future__ import annotations

import socket
import time

import trio
import trio.testing

from ims_as.sip.counters import SipCounters
from ims_as.transport.load_probe import watch_load
from ims_as.transport.udp import UdpListener


def test_the_age_of_what_is_not_read() -> None:
    listener = UdpListener("127.0.83.1", 0, SipCounters())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        assert listener.oldest_wait_s() == 0.0
        sent = time.monotonic()
        peer.sendto(b"first", listener.local)
        peer.sendto(b"second", listener.local)
        while (age := listener.oldest_wait_s()) < 0.02:
            assert time.monotonic() - sent < 5
        assert age <= time.monotonic() - sent + 0.01
        assert listener._socket.recv(10) == b"first"  # it was only looked at
    listener.close()


def test_a_late_loop_shows() -> None:
    samples: list[float] = []

    async def test() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch_load, lambda: 0.0, lambda wait, now: samples.append(wait))
            await trio.testing.wait_all_tasks_blocked()
            time.sleep(0.2)  # noqa: ASYNC251, somebody blocks the loop
            await trio.sleep(0.06)
            nursery.cancel_scope.cancel()

    trio.run(test)
    assert samples
    assert 0.1 < samples[0] < 1.0


def test_what_waits_outside_counts_too() -> None:
    samples: list[tuple[float, float]] = []

    async def test() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch_load, lambda: 0.7, lambda wait, now: samples.append((wait, now)))
            await trio.sleep(0.12)
            nursery.cancel_scope.cancel()

    trio.run(test, clock=trio.testing.MockClock(autojump_threshold=0))
    assert [wait for wait, _ in samples] == [0.7, 0.7]
    assert abs(samples[1][1] - samples[0][1] - 0.05) < 1e-9
