"""One UDP socket: written to without waiting, read by one task that drains it at each wake-up.

Plain non-blocking calls on the socket, since a trio socket call costs 14 µs and these 1 µs. ICMP errors are read from
the socket's error queue: who is told that nobody listens can go elsewhere at once (RFC 3261 §18.4).
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Callable
from typing import Final

import trio

from ims_as.sip.counters import SipCounters
from ims_as.sip.flow import Flow

__all__ = ["UdpListener"]

DATAGRAMS_PER_WAKE_UP: Final = 64
"""Then other tasks get their turn: 64 messages are about 10 ms of work."""
MAX_DATAGRAM_BYTES: Final = 65_535
RECEIVE_BUFFER_BYTES: Final = 4 << 20
"""Asked from the kernel: a second's worth of signalling at full load, for the stalls of a busy machine."""
_SO_TIMESTAMPNS: Final = 35
"""Linux: the kernel notes when each datagram came. The standard library has no name for it."""
_IP_RECVERR: Final = 11
_IPV6_RECVERR: Final = 25
"""Linux: ICMP errors are queued with the datagram that they are about."""
_EXTENDED_ERROR: Final = struct.Struct("=IBBBxII")
"""``struct sock_extended_err``: errno, origin, type, code, info, data."""
_UNREACHABLE: Final = frozenset({(2, 3), (2, 12), (3, 1), (3, 4)})
"""Origin (ICMP, ICMPv6) and type: destination unreachable, parameter problem."""
_TOO_BIG: Final = (2, 3, 4)
"""Among those, but about the size: the kernel has learnt from it."""
_TIMESPEC: Final = struct.Struct("@qq")
MAX_PLAUSIBLE_AGE_S: Final = 60.0
"""A greater age is a clock that was set."""


class UdpListener:
    """Owns the socket from `bind` to `close`."""

    def __init__(self, host: str, port: int, counters: SipCounters) -> None:
        """Binds at once.

        Raises:
            OSError: the address cannot be bound.
        """
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        try:
            self._socket.setblocking(False)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
            if family == socket.AF_INET6:
                self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            with contextlib.suppress(OSError):  # not on this system: `oldest_wait_s` then knows nothing
                self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            with contextlib.suppress(OSError):  # nor are there ICMP errors then
                if family == socket.AF_INET6:
                    self._socket.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
                else:
                    self._socket.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
            self._socket.bind((host, port))
        except OSError:
            self._socket.close()
            raise
        self.local: tuple[str, int] = self._socket.getsockname()[:2]
        self._counters = counters

    def send(self, data: bytes, remote: tuple[str, int]) -> str | None:
        """Send one datagram; None, or why it can never be sent. A full send buffer is a lost datagram, counted."""
        try:
            self._socket.sendto(data, remote)
        except BlockingIOError:
            self._counters.drops["send buffer full"] += 1
        except OSError:
            # perhaps an ICMP error of an earlier datagram; this one was not sent, and the error is gone now
            try:
                self._socket.sendto(data, remote)
            except (BlockingIOError, ConnectionRefusedError):
                self._counters.drops["datagram not taken"] += 1  # two errors at a time, or no room: it is lost
            except OSError as error:
                return error.strerror or "cannot send"
        return None

    def oldest_wait_s(self) -> float:
        """How long the datagram that is read next has been here, 0.0 when there is none; it stays where it is."""
        try:
            _, ancillary, _, _ = self._socket.recvmsg(1, socket.CMSG_SPACE(_TIMESPEC.size), socket.MSG_PEEK)
        except OSError:  # nothing there, or a pending ICMP error
            return 0.0
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS and len(data) == _TIMESPEC.size:
                seconds, nanoseconds = _TIMESPEC.unpack(data)
                age = time.time() - seconds - nanoseconds / 1e9
                return age if 0.0 < age < MAX_PLAUSIBLE_AGE_S else 0.0
        return 0.0

    async def serve(
        self,
        receive_untrusted: Callable[[bytes, Flow], None],
        unreachable_untrusted: Callable[[bytes, tuple[str, int]], None] | None = None,
    ) -> None:
        """Read until cancelled.

        Args:
            receive_untrusted: gets each datagram; must not raise.
            unreachable_untrusted: gets the beginning of a datagram of ours and the address that it did not reach; must
                not raise.
        """
        sock = self._socket
        local = self.local
        while True:
            await trio.lowlevel.wait_readable(sock)
            for number in range(DATAGRAMS_PER_WAKE_UP):
                try:
                    data, remote = sock.recvfrom(MAX_DATAGRAM_BYTES)
                except BlockingIOError:
                    if not number:  # woken up by nothing but errors
                        self._read_errors_untrusted(unreachable_untrusted)
                    break
                except OSError:
                    continue  # a pending ICMP error; reading it clears it
                receive_untrusted(data, Flow("UDP", local, remote[:2]))
            else:
                await trio.lowlevel.checkpoint()

    def _read_errors_untrusted(self, tell: Callable[[bytes, tuple[str, int]], None] | None) -> None:
        """Empty the error queue: as long as there is something in it, the socket wakes us up."""
        for _ in range(DATAGRAMS_PER_WAKE_UP):
            try:
                data, ancillary, _, remote = self._socket.recvmsg(2048, 512, socket.MSG_ERRQUEUE)
            except OSError:
                return
            for _, _, value in ancillary:
                if len(value) < _EXTENDED_ERROR.size:
                    continue
                _, origin, kind, code, _, _ = _EXTENDED_ERROR.unpack_from(value)
                if (origin, kind) in _UNREACHABLE and (origin, kind, code) != _TOO_BIG and tell is not None:
                    tell(data, remote[:2])

    def close(self) -> None:
        self._socket.close()
