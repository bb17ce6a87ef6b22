"""Ports of a range among other programs' sockets: drawn by binding, rested, and refused when there are none."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from media import io as io_module
from media.io import NoPortError, PortPool

HOST = "127.0.78.32"


def draw(pool: PortPool, now: float = 0.0) -> list[socket.socket]:
    """RTP and RTCP."""
    return list(pool.bind(None, now))


def port_of(sockets: list[socket.socket]) -> int:
    return int(sockets[0].getsockname()[1])


@contextlib.contextmanager
def foreign(ports: range) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for port in ports:
            stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)).bind((HOST, port))
        yield


class Attempts:
    """Counts the sockets that the pool makes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        plain = socket.socket

        def counted(*arguments: int) -> socket.socket:
            self.count += 1
            return plain(*arguments)

        monkeypatch.setattr(io_module.socket, "socket", counted)


def test_ports_of_others_cost_one_look_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """300 pairs, of which others have the first 200; as many legs as are left, twice."""
    pool = PortPool(HOST, 45000, 45599, rest_s=0)
    with foreign(range(45000, 45400)), contextlib.ExitStack() as stack:
        attempts = Attempts(monkeypatch)
        first = [draw(pool) for _ in range(100)]
        for sockets in first:
            for sock in sockets:
                stack.enter_context(sock)
        assert sorted(map(port_of, first)) == list(range(45400, 45600, 2))
        assert attempts.count <= 200 + 2 * 100, "of a foreign pair the first socket says enough"
        attempts.count = 0
        for sockets in first:
            port = port_of(sockets)
            for sock in sockets:
                sock.close()
            pool.release(port, 1.0)
        again = [draw(pool, 1.0) for _ in range(100)]
        for sockets in again:
            for sock in sockets:
                stack.enter_context(sock)
        assert sorted(map(port_of, again)) == list(range(45400, 45600, 2))
        assert attempts.count <= 200 + 2 * 100


def test_what_others_give_back_is_used() -> None:
    pool = PortPool(HOST, 45000, 45003)
    with foreign(range(45000, 45004)), pytest.raises(NoPortError):
        draw(pool)
    for sockets in [draw(pool), draw(pool)]:
        for sock in sockets:
            sock.close()


def test_refusals_are_counted() -> None:
    pool = PortPool(HOST, 45000, 45001)
    sockets = draw(pool)
    for _ in range(3):
        with pytest.raises(NoPortError):
            draw(pool)
    assert pool.refused == 3
    for sock in sockets:
        sock.close()


@pytest.mark.parametrize("rest_s", [0, 0.5, 60])
def test_a_port_rests_as_long_as_it_should(rest_s: float) -> None:
    pool = PortPool(HOST, 45000, 45001, rest_s=rest_s)
    for sock in draw(pool):
        sock.close()
    pool.release(45000, 100.0)
    if rest_s:
        with pytest.raises(NoPortError):
            draw(pool, 100.0 + rest_s - 0.01)
    for sock in draw(pool, 100.0 + rest_s):
        sock.close()


def test_the_longest_rested_comes_first() -> None:
    pool = PortPool(HOST, 45000, 45007, rest_s=1)
    seen = []
    for number in range(8):
        sockets = draw(pool, 10.0 * number)
        seen.append(port_of(sockets))
        for sock in sockets:
            sock.close()
        pool.release(seen[-1], 10.0 * number)
    assert seen == [45000, 45002, 45004, 45006] * 2
