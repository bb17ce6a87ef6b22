"""A bad network between two RTP parties: loss, jitter with reordering, duplicates, the same in every run.

`Impairment` is sans-IO: it says of the n-th packet of one direction after what delays its copies arrive. The pattern of
losses depends on the seed and the loss alone, never on jitter, so that what a codec makes of it can be worked out
without a network. `Relay` puts it between two sockets.
"""

from __future__ import annotations

import heapq
import itertools
import random
import selectors
import socket
import threading
import time

import attrs

__all__ = ["Impairment", "Network", "Relay"]

MAX_DATAGRAM = 2048


@attrs.frozen
class Network:
    """How bad it is."""

    loss: float = 0.0
    """Share of packets, 0 to 1."""
    burst: float = 1.0
    """How many packets are lost in a row on average (Gilbert); 1: each by itself, as the dice fall."""
    jitter_ms: float = 0.0
    """Each packet is late by 0 to so many ms, evenly distributed; packets overtake each other."""
    duplicates: float = 0.0
    """Share of packets that come twice."""


class Impairment:
    """One direction of one stream."""

    def __init__(self, network: Network, seed: int) -> None:
        self.network = network
        self._losses, self._delays = random.Random(f"loss {seed}"), random.Random(f"delay {seed}")
        self._lost: list[bool] = []
        self._fates: list[tuple[float, ...]] = []

    def is_lost(self, number: int) -> bool:
        """Of the packet sent as ``number``, from 0."""
        while len(self._lost) <= number:
            self._lost.append(self._draw(bool(self._lost) and self._lost[-1]))
        return self._lost[number]

    def delays_s(self, number: int) -> tuple[float, ...]:
        """Of each copy of the packet; none when it is lost."""
        while len(self._fates) <= number:
            jitter_s = self.network.jitter_ms / 1000
            copies = 1 + (self._delays.random() < self.network.duplicates)
            self._fates.append(tuple(self._delays.uniform(0, jitter_s) for _ in range(copies)))
        return () if self.is_lost(number) else self._fates[number]

    def _draw(self, was_lost: bool) -> bool:
        loss, dice = self.network.loss, self._losses.random()
        if self.network.burst <= 1:
            return dice < loss
        leave = 1 / self.network.burst
        return dice >= leave if was_lost else dice < loss * leave / (1 - loss)


@attrs.define(eq=False)
class _Way:
    """One direction through the relay."""

    impairment: Impairment
    entrance: socket.socket
    exit: socket.socket
    count: int = 0


class Relay:
    """Any number of links in one thread; each link has an address for either party.

    Use as a context manager.
    """

    def __init__(self, host: str) -> None:
        self._host = host
        self._selector = selectors.DefaultSelector()
        self._targets: dict[socket.socket, tuple[str, int]] = {}
        self._due: list[tuple[float, int, socket.socket, bytes]] = []
        self._numbers = itertools.count()
        self._is_over = False
        self._thread = threading.Thread(target=self._run)

    def add_link(self, up: Impairment, down: Impairment) -> tuple[tuple[str, int], tuple[str, int]]:
        """A link; to be added before the relay runs.

        Args:
            up: from the phone to the server.
            down: the other way.

        Returns:
            where the phone sends to, and where the server sends to.
        """
        phone_side, server_side = (self._socket() for _ in range(2))
        for way in (_Way(up, phone_side, server_side), _Way(down, server_side, phone_side)):
            self._selector.register(way.entrance, selectors.EVENT_READ, way)
        return phone_side.getsockname(), server_side.getsockname()

    def set_server(self, server_side: tuple[str, int], server: tuple[str, int]) -> None:
        """Where the server of that link listens. The phone is known by its first packet."""
        for key in [*self._selector.get_map().values()]:
            if key.data.exit.getsockname() == server_side:
                self._targets[key.data.exit] = server

    def _socket(self) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((self._host, 0))
        sock.setblocking(False)
        return sock

    def __enter__(self) -> Relay:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        self._thread.join()
        for key in [*self._selector.get_map().values()]:
            key.data.entrance.close()
        self._selector.close()

    def _run(self) -> None:
        while not self._is_over:
            wait = min(0.05, max(0.0, self._due[0][0] - time.monotonic())) if self._due else 0.05
            for key, _ in self._selector.select(wait):
                self._receive(key.data)
            now = time.monotonic()
            while self._due and self._due[0][0] <= now:
                _, _, outward, datagram = heapq.heappop(self._due)
                if outward in self._targets:
                    _send(outward, datagram, self._targets[outward])

    def _receive(self, way: _Way) -> None:
        now = time.monotonic()
        while True:
            try:
                datagram, source = way.entrance.recvfrom(MAX_DATAGRAM)
            except BlockingIOError:
                return
            except OSError:
                continue  # an ICMP error of an earlier send
            self._targets.setdefault(way.entrance, source)
            for delay_s in way.impairment.delays_s(way.count):
                heapq.heappush(self._due, (now + delay_s, next(self._numbers), way.exit, datagram))
            way.count += 1


def _send(sock: socket.socket, datagram: bytes, target: tuple[str, int]) -> None:
    try:
        sock.sendto(datagram, target)
    except OSError:
        return  # a full buffer, or nobody listens any more: a network loses packets
