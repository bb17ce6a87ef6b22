"""Where a leg's RTCP goes and whose is taken, when it has a port of its own (RFC 3550 §11, RFC 3605).

Reports go to the signalled place, and once a valid one has come from elsewhere at the party's address, to where that
came from.  Whose address is neither the signalled one nor the one that the party's RTP comes from, is a stranger.
"""

from __future__ import annotations

import socket
import struct
import time
from typing import Final

import attrs

from media.control import ControlError, StreamConfig

__all__ = ["Address", "RtcpPath", "address_of", "is_nowhere", "rtcp_address_of"]

Address = tuple[str, int]
_SO_TIMESTAMPNS: Final = 35
"""Linux; Python has no name for it.  Control messages have the same number."""
_TIMESPEC: Final = struct.Struct("@ll")
MAX_AGE_S: Final = 1.0
"""Older than a worker's stall: then the wall clock was set."""


def is_nowhere(address: Address) -> bool:
    """An old-style hold (RFC 3264 §8.4)."""
    return address[0] in ("0.0.0.0", "::")


def address_of(host: str | None, port: int) -> Address | None:
    """A checked address; None: there is none.

    Raises:
        ControlError: it cannot be used.
    """
    if host is None or port == 0:
        return None
    if not 0 < port < 65536:
        raise ControlError(f"remote port {port}")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        # written as the kernel writes the source of a packet
        return socket.inet_ntop(family, socket.inet_pton(family, host)), port
    except OSError as error:
        raise ControlError(f"remote host {host!r} is not an address") from error


def rtcp_address_of(config: StreamConfig) -> Address | None:
    """Where the peer wants its reports; None: nowhere.

    Raises:
        ControlError: it cannot be used.
    """
    host, port = config.rtcp_host or config.remote_host, config.rtcp_port
    if not port and config.remote_port:
        port = config.remote_port if config.rtcp_mux else config.remote_port + 1
        port = 0 if port == 65536 else port
    address = address_of(host, port)
    return None if address is None or is_nowhere(address) else address


@attrs.define
class RtcpPath:
    """The socket beside that of RTP, and whom it is for."""

    sock: socket.socket
    signalled: Address | None = None
    latched: Address | None = None

    def __attrs_post_init__(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)

    def configure(self, signalled: Address | None) -> None:
        if signalled != self.signalled:
            self.signalled, self.latched = signalled, None

    @property
    def target(self) -> Address | None:
        return self.latched or self.signalled

    def is_theirs(self, source: Address, rtp_source: Address | None) -> bool:
        """Whether a datagram may be the party's; ``rtp_source``: where its RTP comes from."""
        if source in (self.latched, self.signalled):
            return True
        if rtp_source is None or source[0] != rtp_source[0]:
            return False
        return self.latched is None or self.latched[0] != rtp_source[0]

    def receive_untrusted(self, buffer: memoryview) -> tuple[int, Address, float]:
        """One datagram: its length, its source, and since when it has been lying here, in seconds.

        Raises:
            OSError: as the socket does.
        """
        n, ancillary, _, source = self.sock.recvmsg_into([buffer], 64)
        age_s = 0.0
        for _, kind, data in ancillary:
            if kind == _SO_TIMESTAMPNS and len(data) == _TIMESPEC.size:
                seconds, nanoseconds = _TIMESPEC.unpack(data)
                age_s = time.time() - seconds - nanoseconds * 1e-9
        return n, (source[0], source[1]), age_s if 0 <= age_s <= MAX_AGE_S else 0.0

    def send(self, packet: bytes) -> None:
        """Raises OSError: as the socket does."""
        if (target := self.target) is not None:
            self.sock.sendto(packet, target)
