from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator

import pytest

from media.io import (
    PORT_REST_S,
    Lingerer,
    NoPortError,
    PortPool,
    Resolver,
    TickTimer,
    UrgentPoll,
    disconnect_udp,
    open_tcp,
)

HOST = "127.0.77.20"


@pytest.fixture
def urgent() -> Iterator[UrgentPoll]:
    poll = UrgentPoll()
    yield poll
    poll.close()


def test_ports_are_even_in_range_and_rest_after_use() -> None:
    pool = PortPool(HOST, 42001, 42008)
    pairs = [pool.bind(None, 0.0) for _ in range(3)]
    ports = [rtp.getsockname()[1] for rtp, _ in pairs]
    assert ports == [42002, 42004, 42006]
    assert [rtcp.getsockname()[1] for _, rtcp in pairs] == [42003, 42005, 42007]
    with pytest.raises(NoPortError):
        pool.bind(None, 0.0)
    for sock in pairs.pop():
        sock.close()
    pool.release(ports.pop(), 1.0)
    with pytest.raises(NoPortError):
        pool.bind(None, 1.0 + PORT_REST_S - 0.1)
    pairs.append(pool.bind(None, 1.0 + PORT_REST_S))
    assert pairs[-1][0].getsockname()[1] == 42006
    for pair in pairs:
        for sock in pair:
            sock.close()


@pytest.mark.parametrize("taken", [42010, 42011])
def test_a_pair_of_which_somebody_else_has_one_is_passed_over(taken: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind((HOST, taken))
        pool = PortPool(HOST, 42010, 42013)
        rtp, rtcp = pool.bind(None, 0.0)
        with rtp, rtcp:
            assert rtp.getsockname()[1] == 42012
            with pytest.raises(NoPortError):
                pool.bind(None, 0.0)
        with pytest.raises(NoPortError):
            pool.bind("192.0.2.1", 0.0)
        other.close()
        rtp, rtcp = pool.bind(None, 0.0)
        with rtp, rtcp:
            assert rtp.getsockname()[1] == 42010, "half a pair was kept"


def test_timer_ticks(urgent: UrgentPoll) -> None:
    timer, ticks = TickTimer(5), []

    def tick(_mask: int) -> None:
        timer.acknowledge()
        ticks.append(time.monotonic())

    urgent.add(timer.fileno(), select.EPOLLIN, tick)
    while len(ticks) < 11:
        urgent.wait()
    urgent.remove(timer.fileno())
    timer.close()
    assert 0.045 <= ticks[-1] - ticks[0] < 0.5


def test_connected_udp_can_be_opened_again() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as friend,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger,
    ):
        # the kernel lets go of a port that it chose itself, but not of one that was asked for, as the pool does
        for sock, port in ((ours, 42020), (friend, 0), (stranger, 0)):
            sock.bind((HOST, port))
            sock.settimeout(2)
        ours.connect(friend.getsockname())
        here = ours.getsockname()
        stranger.sendto(b"no", here)
        friend.sendto(b"yes", here)
        assert ours.recv(10) == b"yes"
        disconnect_udp(ours)
        assert ours.getsockname() == here
        stranger.sendto(b"now", here)
        assert ours.recv(10) == b"now"


def test_resolver_answers_addresses_at_once_and_names_later(urgent: UrgentPoll) -> None:
    resolver, answers = Resolver(urgent), []
    resolver.resolve("127.0.0.1", 5, answers.append)
    resolver.resolve("::1", 6, answers.append)
    assert answers == [("127.0.0.1", 5), ("::1", 6)]
    resolver.resolve("localhost", 7, answers.append)
    resolver.resolve("no such name at all", 8, answers.append)
    while len(answers) < 4:
        urgent.wait()
    assert None in answers
    assert any(a is not None and a[1] == 7 for a in answers)


def test_lingering_sockets_close_when_the_peer_does_or_in_time(urgent: UrgentPoll) -> None:
    lingerer = Lingerer(urgent)
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    lingerer.add(ours)
    theirs.send(b"unread audio")
    urgent.wait()
    assert ours.fileno() >= 0
    theirs.close()
    urgent.wait()
    assert ours.fileno() == -1
    stubborn, peer = socket.socketpair()
    stubborn.setblocking(False)
    lingerer.add(stubborn)
    lingerer.handle_timer(time.monotonic())
    assert stubborn.fileno() >= 0
    lingerer.handle_timer(time.monotonic() + 1)
    assert stubborn.fileno() == -1
    assert len(lingerer) == len(urgent) == 0
    peer.close()


def test_connecting_does_not_wait() -> None:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        listener.listen()
        sock, code = open_tcp(listener.getsockname())
        assert code in (0, 115)
        assert sock.getblocking() is False
        sock.close()
