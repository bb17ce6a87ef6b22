"""Connections over any transport: which function opens a peer's, which one listens, and with whose certificates."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

import trio

from diameter.errors import LocalDiameterError
from diameter.sctp import connect_sctp, listen_sctp, sctp_problem
from diameter.tls import ContextSource, TlsError, connect_tls, listen_tls
from diameter.transport import Connection, connect_tcp, listen_tcp

__all__ = ["DEFAULT_PORTS", "Connector", "Listen"]

DEFAULT_PORTS = {"tcp": 3868, "sctp": 3868, "tls": 5658}
"""RFC 6733 §11.4."""


class Listen(NamedTuple):
    """An address to accept on; `host` is an IP address."""

    host: str
    port: int
    transport: str = "tcp"


class Target(Protocol):
    """What the connector wants to know of a peer; see `PeerConfig`."""

    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def transport(self) -> str: ...
    @property
    def origin_host(self) -> str | None: ...


class Connector:
    """Opens and accepts connections.

    Args:
        transports: those that will be asked for.
        tls: contexts for `tls`.
        source_host: local address of outgoing connections, None lets the system choose.
        handshake_s: seconds for an incoming TLS handshake.
        count: told of events by name.

    Raises:
        LocalDiameterError: an unknown transport, TLS without contexts, SCTP on a machine that has none.
    """

    def __init__(
        self,
        transports: Iterable[str],
        *,
        tls: ContextSource | None,
        source_host: str | None,
        handshake_s: float,
        count: Callable[[str], None],
    ) -> None:
        for transport in set(transports):
            if transport not in DEFAULT_PORTS:
                raise LocalDiameterError(f"transport {transport} is not supported")
            if transport == "tls" and tls is None:
                raise LocalDiameterError("transport tls needs certificates")
            if transport == "sctp" and (problem := sctp_problem()):
                raise LocalDiameterError(problem)
        self._tls = tls
        self._source_host = source_host
        self._handshake_s = handshake_s
        self._count = count

    async def connect(self, peer: Target) -> Connection:
        """A connection to the peer.

        Over TLS the certificate must name `origin_host`, or where it is not known the host as configured.

        Raises:
            OSError: it cannot be had. Safe to cancel.
        """
        if peer.transport == "sctp":
            return await connect_sctp(peer.host, peer.port, source_host=self._source_host)
        if peer.transport == "tls":
            if self._tls is None:
                # a peer that we learned of, by a redirect; it must not be had in clear text instead
                raise TlsError("TLS: no certificates are configured")
            wanted = peer.origin_host or peer.host
            return await connect_tls(peer.host, peer.port, self._tls, wanted=wanted, source_host=self._source_host)
        return await connect_tcp(peer.host, peer.port, source_host=self._source_host)

    async def listen(
        self,
        address: Listen,
        on_connection: Callable[[Connection], None],
        *,
        task_status: trio.TaskStatus[tuple[str, int]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Accepts until cancelled; started with the bound (host, port).

        Raises:
            OSError: cannot bind.
        """
        host, port, transport = address
        if transport == "sctp":
            await listen_sctp(host, port, on_connection, task_status=task_status)
        elif transport == "tls" and self._tls is not None:
            await listen_tls(
                host,
                port,
                self._tls,
                on_connection,
                handshake_s=self._handshake_s,
                on_failure=self._count,
                task_status=task_status,
            )
        else:
            await listen_tcp(host, port, on_connection, task_status=task_status)
