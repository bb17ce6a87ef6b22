"""TLS for Diameter (RFC 6733 §13.1): from the first byte, both sides show a certificate, its names are checked.

The peer's Origin-Host must be a dNSName of its certificate (§5.2 of RFC 6125 without wildcards; the common name counts
only where there is no subjectAltName). A connection of ours must also lead to whom it was made for. The handshake is
done before anybody gets the connection, so that sending stays one call that never waits.

Contexts come from outside (`ContextSource`); what they verify is up to whoever made them. Where they verify nothing,
nobody is vouched for and every peer is refused.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket
import ssl
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import trio

from diameter.errors import FramingError
from diameter.transport import Connection, accept_streams, connect_stream, open_listener, tune_tcp

__all__ = ["ContextSource", "TlsConnection", "TlsError", "certificate_hosts_untrusted", "connect_tls", "listen_tls"]

MAX_NAMES: Final = 256
"""Of one certificate that are looked at."""
MAX_HANDSHAKES: Final = 64
"""Incoming ones under way; more connections are closed at once. Each costs arithmetic before we know who it is."""
_READ_BYTES: Final = 64 * 1024
_TLS_BROKEN: Final = 5012
_HOST_RE: Final = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")


class ContextSource(Protocol):
    """Where contexts are taken from, anew for each connection: they may have been renewed."""

    client: ssl.SSLContext
    server: ssl.SSLContext


class TlsError(OSError):
    """No TLS with that peer; the text is a constant phrase of ours or of the TLS library."""


def normal_host(text: str) -> str:
    """A DiameterIdentity or address in the form in which they are compared; "" for what is neither, as a wildcard."""
    plain = text.removesuffix(".").lower()
    try:
        return str(ipaddress.ip_address(plain))
    except ValueError:
        return plain if len(plain) <= 253 and _HOST_RE.fullmatch(plain) else ""


def certificate_hosts_untrusted(certificate: Mapping[str, Any] | None) -> frozenset[str]:
    """The hosts that a certificate names, from what `getpeercert` makes of a verified one.

    Raises: nothing; a certificate without usable names has none.
    """
    certificate = certificate or {}
    names = [(str(kind), str(value)) for kind, value in certificate.get("subjectAltName", ())][:MAX_NAMES]
    found = {normal_host(value) for kind, value in names if kind in ("DNS", "IP Address")}
    if not names:
        parts = [part for group in certificate.get("subject", ()) for part in group][:MAX_NAMES]
        found = {normal_host(str(value)) for kind, value in parts if kind == "commonName"}
    return frozenset(found - {""})


def tls_failure(error: BaseException) -> str:
    """Why TLS failed, for the operator: phrases of the library, nothing that the peer wrote."""
    if isinstance(error, TlsError):
        return str(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS: {error.verify_message}"
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return "TLS: closed by peer"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {(error.reason or 'protocol error').replace('_', ' ').lower()}"
    return "TLS: closed by peer"


class TlsConnection(Connection):
    """A connection whose handshake is done.

    Attributes:
        hosts: whom its certificate names.
    """

    def __init__(self, sock: socket.socket, name: str, session: _Session, hosts: frozenset[str]) -> None:
        super().__init__(sock, name)
        self._session = session
        self.hosts = hosts

    def vouches_for(self, origin_host: str) -> bool:
        """Whether the certificate names this DiameterIdentity."""
        return normal_host(origin_host) in self.hosts

    def send(self, frame: bytes) -> bool:
        """As `Connection.send`; encrypted, still one write."""
        if self.is_closed:
            return False
        try:
            self._session.tls.write(frame)
        except ssl.SSLError:
            self.end_reason = "TLS: cannot write"
            self.close()
            return False
        return super().send(self._session.outgoing.read())

    def close(self) -> None:
        """As `Connection.close`; says so to the peer if its buffer has room."""
        if self.is_closed:
            return
        if not self._queue:
            # SSLWantRead: the peer's own close_notify is not waited for
            with contextlib.suppress(ssl.SSLError, ValueError):
                self._session.tls.unwrap()
            with contextlib.suppress(OSError):
                self._sock.send(self._session.outgoing.read())
        super().close()

    def _decode(self, chunk: bytes) -> bytes:
        """
        Raises:
            FramingError: not TLS, or altered on its way.
        """
        session = self._session
        session.incoming.write(chunk)
        parts: list[bytes] = []
        try:
            while octets := session.tls.read(_READ_BYTES):
                parts.append(octets)
            self._is_finished = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self._is_finished = True
        except ssl.SSLError as error:
            raise FramingError(tls_failure(error), _TLS_BROKEN) from error
        if session.outgoing.pending:
            # answers of TLS itself, such as to a key update
            super().send(session.outgoing.read())
        return parts[0] if len(parts) == 1 else b"".join(parts)


class _Session:
    """TLS without a socket: bytes go in and out through memory."""

    def __init__(self, context: ssl.SSLContext, *, is_server: bool, server_name: str | None) -> None:
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=is_server, server_hostname=server_name)

    async def shake_hands(self, sock: socket.socket) -> None:
        """
        Raises:
            OSError: refused by either side (`ssl.SSLError`), or the connection has ended.
        """
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError:
                # the peer shall learn why
                await self._flush(sock)
                raise
            else:
                await self._flush(sock)
                return
            await self._flush(sock)
            await trio.lowlevel.wait_readable(sock)
            try:
                chunk = sock.recv(_READ_BYTES)
            except (BlockingIOError, InterruptedError):
                continue
            if not chunk:
                raise TlsError("TLS: closed by peer")
            self.incoming.write(chunk)

    async def _flush(self, sock: socket.socket) -> None:
        rest = memoryview(self.outgoing.read())
        while rest:
            await trio.lowlevel.wait_writable(sock)
            try:
                rest = rest[sock.send(rest) :]
            except (BlockingIOError, InterruptedError):
                continue


async def secure_stream(
    sock: socket.socket, name: str, contexts: ContextSource, *, wanted: str | None
) -> TlsConnection:
    """The handshake on a connected socket, which is closed when it fails.

    Args:
        wanted: whom it was made for, None for an incoming connection.

    Raises:
        TlsError: no TLS, or somebody else. Cancelling closes the socket.
    """
    is_server = wanted is None
    try:
        session = _Session(
            contexts.server if is_server else contexts.client,
            is_server=is_server,
            server_name=None if wanted is None else normal_host(wanted),
        )
        await session.shake_hands(sock)
        hosts = certificate_hosts_untrusted(session.tls.getpeercert())
        if wanted is not None and normal_host(wanted) not in hosts:
            raise TlsError("TLS: certificate of somebody else")
        return TlsConnection(sock, name, session, hosts)
    except (OSError, ValueError) as error:
        sock.close()
        raise TlsError(tls_failure(error)) from error
    except BaseException:
        sock.close()
        raise


async def connect_tls(
    host: str, port: int, contexts: ContextSource, *, wanted: str, source_host: str | None = None
) -> TlsConnection:
    """Opens a connection and does the handshake.

    Args:
        wanted: whom the certificate must name.

    Raises:
        OSError: as `connect_stream`; TlsError when there is no TLS with whoever answers.
    """
    sock, name = await connect_stream(host, port, source_host=source_host)
    return await secure_stream(tune_tcp(sock), name, contexts, wanted=wanted)


async def listen_tls(
    host: str,
    port: int,
    contexts: ContextSource,
    on_connection: Callable[[Connection], None],
    *,
    handshake_s: float,
    on_failure: Callable[[str], None],
    task_status: trio.TaskStatus[tuple[str, int]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Accepts until cancelled; started with the bound (host, port). `on_connection` owns what it gets.

    Args:
        handshake_s: seconds that a handshake may take.
        on_failure: told why a connection did not come about, in a constant phrase.

    Raises:
        OSError: cannot bind.
    """
    n_under_way = 0

    async def shake_hands(sock: socket.socket, name: str) -> None:
        nonlocal n_under_way
        try:
            with trio.move_on_after(handshake_s) as patience:
                on_connection(await secure_stream(tune_tcp(sock), name, contexts, wanted=None))
            if patience.cancelled_caught:
                on_failure("TLS: handshake takes too long")
        except TlsError as error:
            on_failure(str(error))
        finally:
            n_under_way -= 1

    def take(sock: socket.socket, name: str) -> None:
        nonlocal n_under_way
        if n_under_way >= MAX_HANDSHAKES:
            on_failure("TLS: too many handshakes")
            sock.close()
            return
        n_under_way += 1
        nursery.start_soon(shake_hands, sock, name)

    with open_listener(host, port) as listener:
        async with trio.open_nursery() as nursery:
            task_status.started(listener.getsockname()[:2])
            await accept_streams(listener, take)
