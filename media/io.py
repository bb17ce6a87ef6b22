"""Sockets of a worker: timer, polls, ports.  Nothing here waits except `UrgentPoll.wait`.

There are two polls.  The process sleeps on the *urgent* one: the control channel, connections in their handshake, and
a timer of one sub-tick.  RTP sockets and established engine connections are in polls that are only asked, once per
sub-tick and without waiting: waking up for each packet costs more than the packet (see
``docs/decisions/0002-media-plane.md``).
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from queue import SimpleQueue
from typing import Final

from media.marking import mark
from media.table import TICK_MS

__all__ = [
    "Lingerer",
    "NoPortError",
    "PortPool",
    "Resolver",
    "TickTimer",
    "UrgentPoll",
    "disconnect_udp",
    "open_tcp",
    "raise_descriptor_limit",
]

_CLOCK_MONOTONIC: Final = 1
_LIBC: Final = ctypes.CDLL(None, use_errno=True)
RTP_RECEIVE_BUFFER: Final = 128 * 1024
"""Some 100 small packets as the kernel counts them: two seconds of a stream, so that a stall loses nothing."""
ENGINE_SEND_BUFFER: Final = 64 * 1024
"""About a second of audio: an engine that does not read must not build up stale audio in the kernel."""
PORT_REST_S: Final = 10.0
"""A closed port is not bound again for so long unless told otherwise: late packets of its last call must not reach a
new one."""


class NoPortError(Exception):
    """No port could be bound."""


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _TimerSpec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("first", _Timespec))


class TickTimer:
    """A periodic timerfd; Python has no call for it before 3.13."""

    def __init__(self, interval_ms: int = TICK_MS) -> None:
        flags = os.O_NONBLOCK | os.O_CLOEXEC
        self._fd = _LIBC.timerfd_create(_CLOCK_MONOTONIC, flags)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        interval = _Timespec(0, interval_ms * 1_000_000)
        spec = _TimerSpec(interval, interval)
        if _LIBC.timerfd_settime(self._fd, 0, ctypes.byref(spec), None) < 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def fileno(self) -> int:
        return int(self._fd)

    def acknowledge(self) -> None:
        """Reads the expirations, so that the descriptor is not ready any more."""
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return

    def close(self) -> None:
        os.close(self._fd)


class UrgentPoll:
    """The poll on which the process sleeps: a callback per descriptor."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[int], None]] = {}

    def add(self, fd: int, mask: int, callback: Callable[[int], None]) -> None:
        self._epoll.register(fd, mask)
        self._callbacks[fd] = callback

    def modify(self, fd: int, mask: int) -> None:
        self._epoll.modify(fd, mask)

    def remove(self, fd: int) -> None:
        if self._callbacks.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def wait(self) -> None:
        """Sleeps until something is ready and calls back."""
        for fd, mask in self._epoll.poll(1.0, 64):
            if (callback := self._callbacks.get(fd)) is not None:
                callback(mask)

    def __len__(self) -> int:
        return len(self._callbacks)

    def close(self) -> None:
        self._epoll.close()


class PortPool:
    """Even ports of a range with the odd ones above, drawn by binding: the kernel knows best what is free."""

    def __init__(self, address: str, first: int, last: int, *, rest_s: float = PORT_REST_S, dscp: int = 0) -> None:
        self.address = address
        self.refused = 0
        """Legs that got no port."""
        self._rest_s = rest_s
        self._dscp = dscp
        self._free: deque[int] = deque()
        self._resting: deque[tuple[float, int]] = deque()
        self.use(first, last)

    def use(self, first: int, last: int) -> None:
        """From now on the ports are drawn from this range; an empty one (``last < first``) is for later."""
        self._range = range(first + first % 2, last, 2)
        self._free = deque(self._range)

    def rest(self, ports: Collection[int], now: float) -> None:
        """Those were just in use by a worker that is gone: its parties may still send there."""
        self._free = deque(port for port in self._free if port not in ports)
        self._resting.extend((now + self._rest_s, port) for port in ports if port in self._range)

    def put_first(self, port: int) -> None:
        """The port that is drawn next if it is free, though it rests or is not of the range: its party knows it."""
        if port in self._free:
            self._free.remove(port)
        self._free.appendleft(port)

    def bind(self, host: str | None, now: float) -> tuple[socket.socket, socket.socket]:
        """Bound non-blocking UDP sockets of RTP and, on the port above, RTCP (RFC 3550 §11).

        Raises:
            NoPortError: all ports are in use or rest.
            OSError: as the sockets do.
        """
        while self._resting and self._resting[0][0] <= now:
            self._free.append(self._resting.popleft()[1])
        address = host or self.address
        for _ in range(len(self._free)):
            port = self._free.popleft()
            try:
                pair = self._bind_pair(address, port)
            except BaseException:
                self._give_back(port)
                raise
            if pair is not None:
                return pair
            self._give_back(port)
        self.refused += 1
        raise NoPortError(f"{address}: no free port")

    def _give_back(self, port: int) -> None:
        if port in self._range:
            self._free.append(port)

    def _bind_pair(self, address: str, port: int) -> tuple[socket.socket, socket.socket] | None:
        """None: somebody else has one of them.  Raises NoPortError: no port of this address will do."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        bound: list[socket.socket] = []
        try:
            for number in (port, port + 1):
                sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
                bound.append(sock)
                sock.bind((address, number))
                mark(sock, self._dscp)
        except OSError as error:
            for sock in bound:
                sock.close()
            if error.errno == errno.EADDRNOTAVAIL:
                raise NoPortError(f"{address}: {error.strerror}") from error
            if error.errno == errno.EADDRINUSE:
                return None
            raise
        rtp, rtcp = bound
        rtp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RTP_RECEIVE_BUFFER)
        return rtp, rtcp

    def release(self, port: int, now: float) -> None:
        """The sockets of a pair were closed; it rests before it is used again."""
        if port in self._range:
            self._resting.append((now + self._rest_s, port))


def disconnect_udp(sock: socket.socket) -> None:
    """Undoes ``connect`` (by connecting to AF_UNSPEC, which Python's sockets cannot say).

    The socket must have been bound to a port by number, or the kernel takes the port away too.
    """
    unspecified = (ctypes.c_char * 16)()
    if _LIBC.connect(sock.fileno(), unspecified, 16) < 0:
        raise OSError(ctypes.get_errno(), "connect")


def open_tcp(address: tuple[str, int]) -> tuple[socket.socket, int]:
    """A non-blocking TCP socket whose connection was begun, and the error number (0, EINPROGRESS or a failure)."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, ENGINE_SEND_BUFFER)
    return sock, sock.connect_ex(address)


class Lingerer:
    """Closes TCP sockets politely: what the peer still sends is read and thrown away until it closes, or until
    `LINGER_S` are over.  Closing with unread data would reset the connection, and the peer would lose our last words.
    """

    LINGER_S: Final = 0.15
    MAX_LINGERING: Final = 512

    def __init__(self, urgent: UrgentPoll) -> None:
        self._urgent = urgent
        self._sockets: deque[tuple[float, socket.socket]] = deque()

    def __len__(self) -> int:
        return len(self._sockets)

    def add(self, sock: socket.socket) -> None:
        """Takes over a non-blocking socket whose sending side is shut."""
        if len(self._sockets) >= self.MAX_LINGERING:
            self._close(self._sockets.popleft()[1])
        self._sockets.append((time.monotonic() + self.LINGER_S, sock))
        self._urgent.add(sock.fileno(), select.EPOLLIN, lambda _mask: self._discard(sock))

    def _discard(self, sock: socket.socket) -> None:
        try:
            if sock.recv(65536):
                return
        except BlockingIOError:
            return
        except OSError as error:
            del error
        self._close(sock)

    def _close(self, sock: socket.socket) -> None:
        if sock.fileno() >= 0:
            self._urgent.remove(sock.fileno())
            sock.close()

    def handle_timer(self, now: float) -> None:
        """Closes what has lingered long enough."""
        while self._sockets and (self._sockets[0][0] <= now or self._sockets[0][1].fileno() < 0):
            self._close(self._sockets.popleft()[1])


class Resolver:
    """Names of engines to addresses, in threads, since the C library's resolver waits.

    At most `MAX_THREADS` look-ups run at once; others wait their turn in the queue of their own deadline.
    """

    MAX_PENDING: Final = 256

    def __init__(self, urgent: UrgentPoll) -> None:
        self._urgent = urgent
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._results: SimpleQueue[tuple[int, tuple[str, int] | None]] = SimpleQueue()
        self._callbacks: dict[int, Callable[[tuple[str, int] | None], None]] = {}
        self._next = 0
        urgent.add(self._event, select.EPOLLIN, self._ready)

    def resolve(self, host: str, port: int, callback: Callable[[tuple[str, int] | None], None]) -> None:
        """Calls back with an address or None; at once when ``host`` is one already, or when too many wait."""
        for family in (socket.AF_INET, socket.AF_INET6):
            try:
                socket.inet_pton(family, host)
            except OSError:
                continue
            callback((host, port))
            return
        if len(self._callbacks) >= self.MAX_PENDING:
            callback(None)
            return
        self._next += 1
        self._callbacks[self._next] = callback
        threading.Thread(target=self._look_up, args=(self._next, host, port), daemon=True).start()

    def _look_up(self, number: int, host: str, port: int) -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            address = (str(found[0][4][0]), port)
        except (OSError, UnicodeError):
            self._results.put((number, None))
        else:
            self._results.put((number, address))
        os.eventfd_write(self._event, 1)

    def _ready(self, _mask: int) -> None:
        os.eventfd_read(self._event)
        while not self._results.empty():
            number, address = self._results.get_nowait()
            if (callback := self._callbacks.pop(number, None)) is not None:
                callback(address)


def raise_descriptor_limit() -> None:
    """As many descriptors as the system lets us have: three per leg."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
