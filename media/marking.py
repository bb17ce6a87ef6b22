"""DSCP (RFC 2474): what routers tell telephone audio by; EF, 46, as a rule (RFC 3246, RFC 4594 §4.1)."""

from __future__ import annotations

import socket

__all__ = ["mark"]


def mark(sock: socket.socket, dscp: int) -> None:
    """Marks all that the socket sends from now on.

    Args:
        sock: of IPv4 or IPv6; one of IPv6 may speak IPv4 too.
        dscp: 0 to 63.

    Raises:
        OSError: as the socket does.
    """
    # the two low bits are the congestion notification's (RFC 3168)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, dscp << 2)
    else:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, dscp << 2)
