"""SCTP (RFC 6733 §2.1.1), one-to-one style, where the kernel has it: each Diameter message is one SCTP message.

All go on stream 0, in order, as they would over TCP. The payload protocol identifier is 46 (Diameter in clear text).
What a peer sends on other streams or with other identifiers is taken as well.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable
from typing import Final

import trio

from diameter.transport import Connection, accept_streams, connect_stream, open_listener

__all__ = ["PPID_DIAMETER", "connect_sctp", "listen_sctp", "sctp_problem"]

PPID_DIAMETER: Final = 46
# a message has to go into the kernel's buffer as a whole
_SEND_BUFFER_BYTES: Final = 1024 * 1024

# <linux/sctp.h>; the socket module has no names for them
_SCTP_NODELAY: Final = 3
_SCTP_DEFAULT_SEND_PARAM: Final = 10
# struct sctp_sndrcvinfo: stream, ssn, flags, ppid (network order), context, timetolive, tsn, cumtsn, association
_SEND_PARAM: Final = struct.Struct("@HHH2x4sIIIIi")


def sctp_problem() -> str | None:
    """Why SCTP cannot be used on this machine, in one line; None when it can."""
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP).close()
    except OSError as error:
        return f"SCTP: the kernel of this machine has none ({error.strerror}); load its module sctp, or use tcp or tls"
    return None


async def connect_sctp(host: str, port: int, *, source_host: str | None = None) -> Connection:
    """Opens an association.

    Raises:
        OSError: no SCTP on this machine, or as `connect_stream`.
    """
    sock, name = await connect_stream(host, port, source_host=source_host, protocol=socket.IPPROTO_SCTP)
    return Connection(_tune(sock), name)


async def listen_sctp(
    host: str,
    port: int,
    on_connection: Callable[[Connection], None],
    *,
    task_status: trio.TaskStatus[tuple[str, int]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Accepts until cancelled; started with the bound (host, port). `on_connection` owns what it gets.

    Raises:
        OSError: no SCTP on this machine, or cannot bind.
    """
    with open_listener(host, port, protocol=socket.IPPROTO_SCTP) as listener:
        task_status.started(listener.getsockname()[:2])
        await accept_streams(listener, lambda sock, name: on_connection(Connection(_tune(sock), name)))


def build_send_param(ppid: int) -> bytes:
    """`struct sctp_sndrcvinfo` that makes each plain `send` carry this identifier, on stream 0."""
    return _SEND_PARAM.pack(0, 0, 0, ppid.to_bytes(4), 0, 0, 0, 0, 0)


def _tune(sock: socket.socket) -> socket.socket:
    # the association is as good without; it may also have ended already, which the first read tells
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        sock.setsockopt(socket.IPPROTO_SCTP, _SCTP_NODELAY, 1)
        sock.setsockopt(socket.IPPROTO_SCTP, _SCTP_DEFAULT_SEND_PARAM, build_send_param(PPID_DIAMETER))
    return sock
