"""One engine connection of a leg, over a non-blocking socket.

Life: RESOLVING → CONNECTING → HANDSHAKE → (WAIT_READY) → OPEN → CLOSED.  Until it is open the connection is in the
urgent poll, so that a handshake does not wait for sub-ticks; then it moves to the plane's poll.  The session never
blocks and never keeps audio that is not fresh:

* audio goes straight to the socket; what the socket does not take is queued, at most `MAX_AUDIO_QUEUED` frames, of
  which the oldest whole ones are dropped for newer ones (and counted);
* text is queued without being dropped, at most `MAX_TEXT_QUEUED` octets; more, or `STUCK_S` seconds without progress,
  and the engine is lost (``timeout``).
"""

from __future__ import annotations

import errno
import functools
import select
import socket
import ssl
from collections import deque
from enum import Enum
from typing import Any, Final, Protocol

import attrs

from media.control import EngineTarget
from media.engines.base import EngineEvent, EngineProtocol, Ready
from media.engines.ims_as_v1 import ImsAsV1
from media.engines.ws import (
    Accepted,
    Binary,
    Closed,
    Rejected,
    Text,
    WebSocketClient,
    WebSocketUrlError,
    WsEvent,
    parse_engine_url,
)
from media.io import Lingerer, Resolver, UrgentPoll, open_tcp

__all__ = [
    "WOULD_BLOCK",
    "EngineFailure",
    "EngineSession",
    "SessionState",
    "SessionUser",
    "UnknownEngineError",
    "build_protocol",
]

MAX_AUDIO_QUEUED: Final = 50
"""A second of audio."""
MAX_TEXT_QUEUED: Final = 256 * 1024
STUCK_S: Final = 5.0
READ_BYTES: Final = 65536
READS_PER_TICK: Final = 4
"""A quarter of a megabyte per sub-tick and engine: what comes faster waits in the kernel, and TCP slows it down."""


WOULD_BLOCK: Final = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
"""What the socket of a session raises when it has nothing or takes nothing now."""


class UnknownEngineError(Exception):
    """No such engine type, or one that is configured wrongly."""


class SessionState(Enum):
    """Where the connection is."""

    RESOLVING = "resolving"
    CONNECTING = "connecting"
    TLS = "tls"
    HANDSHAKE = "handshake"
    WAIT_READY = "wait_ready"
    OPEN = "open"
    CLOSED = "closed"


@attrs.frozen(slots=True)
class EngineFailure:
    """Why a connection did not come about or was lost.

    Attributes:
        code: of the control channel: ``engine_refused``, ``engine_timeout``, ``engine_rejected`` before it was open;
            ``closed``, ``error``, ``timeout`` after.
    """

    code: str
    detail: str


class SessionUser(Protocol):
    """The leg's side."""

    def engine_open(self, session: EngineSession) -> None: ...

    def engine_event(self, session: EngineSession, event: EngineEvent) -> None: ...

    def engine_failed(self, session: EngineSession, failure: EngineFailure, was_open: bool) -> None: ...

    def engine_clean(self, session: EngineSession, is_clean: bool) -> None:
        """The stream is (not) at a frame boundary."""
        ...

    def engine_blocked(self, session: EngineSession, is_blocked: bool) -> None:
        """Audio must go through `EngineSession.queue_audio` (or may go to the socket again)."""
        ...


@functools.cache
def _tls_context(ca_file: str | None) -> ssl.SSLContext:
    """Reading the system's store takes 20 ms, in which no packet would go: once per process and file.

    Raises:
        UnknownEngineError: the file cannot be used.
    """
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, TypeError, ValueError) as error:
        raise UnknownEngineError(f"ca_file {ca_file}: {error}") from error


def build_protocol(target: EngineTarget) -> EngineProtocol:
    """Raises UnknownEngineError."""
    if target.type != "websocket":
        raise UnknownEngineError(f"engine type {target.type!r}")
    return ImsAsV1(target.start, target.rate)


class EngineSession:
    """See the module's text."""

    def __init__(
        self,
        target: EngineTarget,
        user: SessionUser,
        urgent: UrgentPoll,
        media: select.epoll,
        lingerer: Lingerer,
        now: float,
    ) -> None:
        """Raises UnknownEngineError: type, URL or file of authorities."""
        self.target = target
        self.owner: object = None
        """For the user, to find what the session belongs to."""
        self.protocol = build_protocol(target)
        try:
            self._url = parse_engine_url(target.url)
        except WebSocketUrlError as error:
            raise UnknownEngineError(str(error)) from error
        self._tls = _tls_context(target.ca_file) if self._url.secure else None
        self._ws = WebSocketClient(target.url, self.protocol.subprotocols)
        self._user = user
        self._urgent = urgent
        self._media = media
        self._lingerer = lingerer
        self._queue: deque[tuple[bytes, bool]] = deque()
        self._queued_text = 0
        self._audio_queued = 0
        self._is_partial = False
        self.dropped_frames = 0
        self.started_at = now
        self.opened_at = 0.0
        self._deadline: float | None = now + target.connect_timeout_ms / 1000
        self._want_write = False
        self.state = SessionState.RESOLVING
        self.sock: socket.socket | None = None

    # ---- opening
    def start(self, resolver: Resolver) -> None:
        """Begins to connect; the user may be called before this returns."""
        resolver.resolve(self._url.host, self._url.port, self._connect)

    def _connect(self, address: tuple[str, int] | None) -> None:
        if self.state is not SessionState.RESOLVING:
            return
        if address is None:
            self._fail("engine_refused", f"cannot resolve {self._url.host}")
            return
        try:
            self.sock, code = open_tcp(address)
        except OSError as error:
            self._fail("engine_refused", str(error))
            return
        self.state = SessionState.CONNECTING
        self._urgent.add(self.sock.fileno(), select.EPOLLOUT | select.EPOLLIN, self._urgent_ready)
        if code not in (0, errno.EINPROGRESS):
            self._fail("engine_refused", errno.errorcode.get(code, str(code)))

    def _urgent_ready(self, mask: int) -> None:
        if self.state is SessionState.CONNECTING and mask & (select.EPOLLOUT | select.EPOLLERR | select.EPOLLHUP):
            self._connected()
        if self.state is SessionState.TLS:
            self._handshake_tls()
        if self.state in (SessionState.HANDSHAKE, SessionState.WAIT_READY):
            if mask & select.EPOLLOUT:
                self._flush()
            if mask & (select.EPOLLIN | select.EPOLLERR | select.EPOLLHUP):
                self.receive_ready()

    def _connected(self) -> None:
        sock = self._socket()
        if code := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._fail("engine_refused", errno.errorcode.get(code, str(code)))
            return
        if self._tls is not None:
            self._urgent.remove(sock.fileno())
            self.sock = self._tls.wrap_socket(sock, server_hostname=self._url.host, do_handshake_on_connect=False)
            self._urgent.add(self.sock.fileno(), select.EPOLLIN | select.EPOLLOUT, self._urgent_ready)
            self.state = SessionState.TLS
        else:
            self._request()

    def _handshake_tls(self) -> None:
        sock = self._socket()
        if not isinstance(sock, ssl.SSLSocket):
            return
        try:
            sock.do_handshake()
        except ssl.SSLWantReadError:
            self._urgent.modify(sock.fileno(), select.EPOLLIN)
        except ssl.SSLWantWriteError:
            self._urgent.modify(sock.fileno(), select.EPOLLOUT)
        except OSError as error:
            self._fail("engine_refused", f"TLS: {error}")
        else:
            self._request()

    def _request(self) -> None:
        self.state = SessionState.HANDSHAKE
        self._urgent.modify(self._socket().fileno(), select.EPOLLIN)
        self._write(self._ws.build_request())

    def _accepted(self) -> None:
        self._write(self._ws.build_text(self.protocol.build_start()))
        if self.target.ready == "event":
            self.state = SessionState.WAIT_READY
        else:
            self._open()

    def _open(self) -> None:
        sock = self._socket()
        self.state = SessionState.OPEN
        self._deadline = None
        self._urgent.remove(sock.fileno())
        self._media.register(sock.fileno(), select.EPOLLIN)
        self._want_write = False
        self._user.engine_open(self)
        if self._queue:
            self._block()

    # ---- receiving
    @property
    def is_columnar(self) -> bool:
        """Whether the plane may read the socket into its block (not with TLS, which has a buffer of its own)."""
        return not isinstance(self.sock, ssl.SSLSocket)

    @property
    def is_clean(self) -> bool:
        return self._ws.is_clean and self.state is SessionState.OPEN

    def receive_ready(self) -> None:
        """Reads what is there and handles it."""
        for _ in range(READS_PER_TICK):
            if self.state is SessionState.CLOSED:
                return
            try:
                received = self._socket().recv(READ_BYTES)
            except WOULD_BLOCK:
                return
            except OSError as error:
                self._fail(self._code("error"), error.strerror or str(error))
                return
            self.receive_untrusted(received)
            if len(received) < READ_BYTES and self.is_columnar:
                return

    def receive_untrusted(self, received: bytes | memoryview) -> None:
        """Handles octets that were read from the socket; none: the end of the stream."""
        if len(received):
            events, reply = self._ws.receive_bytes_untrusted(received)
            if reply:
                self._write(reply)
        else:
            events = self._ws.receive_eof()
        for event in events:
            if self.state is SessionState.CLOSED:
                return
            self._handle(event)
        if self.state is SessionState.OPEN:
            self._user.engine_clean(self, self._ws.is_clean)

    def _handle(self, event: WsEvent) -> None:
        match event:
            case Binary(payload):
                self._tell(self.protocol.receive_binary_untrusted(payload))
            case Text(text):
                self._tell(self.protocol.receive_text_untrusted(text))
            case Accepted():
                self._accepted()
            case Rejected(detail):
                self._fail("engine_rejected", detail)
            case Closed(is_error, detail):
                self._fail(self._code("error" if is_error else "closed"), detail)

    def _tell(self, events: list[EngineEvent]) -> None:
        for event in events:
            if isinstance(event, Ready):
                if self.state is SessionState.WAIT_READY:
                    self._open()
            elif self.state in (SessionState.OPEN, SessionState.WAIT_READY):
                self._user.engine_event(self, event)

    def _code(self, after: str) -> str:
        return after if self.state is SessionState.OPEN else "engine_rejected"

    # ---- sending
    def send_text(self, text: str) -> None:
        """Sends or queues a text frame; nothing before the connection is open."""
        if self.state in (SessionState.OPEN, SessionState.WAIT_READY):
            self._write(self._ws.build_text(text))

    def queue_audio(self, frame: memoryview) -> int:
        """Queues a frame behind what the socket did not take; returns its size, as ``send`` would."""
        if self._audio_queued >= MAX_AUDIO_QUEUED:
            self._drop_oldest()
        self._queue.append((bytes(frame), True))
        self._audio_queued += 1
        return len(frame)

    def queue_rest(self, frame: memoryview, sent: int) -> None:
        """The socket took only ``sent`` octets of a frame (0: nothing)."""
        self._queue.append((bytes(frame[sent:]), True))
        self._audio_queued += 1
        # what TLS was given once it has encrypted: it must be offered again, not something newer
        self._is_partial = sent > 0 or not self.is_columnar
        self._block()

    def _drop_oldest(self) -> None:
        first = 1 if self._is_partial else 0
        for i in range(first, len(self._queue)):
            if self._queue[i][1]:
                del self._queue[i]
                self._audio_queued -= 1
                self.dropped_frames += 1
                return

    def _write(self, octets: bytes) -> None:
        if not octets or self.sock is None or self.state is SessionState.CLOSED:
            return
        self._queue.append((octets, False))
        self._queued_text += len(octets)
        self._flush()
        if self._queued_text > MAX_TEXT_QUEUED:
            self._fail(self._code("timeout"), "engine does not read")

    def _flush(self) -> None:
        sock = self._socket()
        while self._queue:
            octets, is_audio = self._queue[0]
            try:
                sent = sock.send(octets)
            except WOULD_BLOCK:
                self._is_partial |= not self.is_columnar
                self._block()
                return
            except OSError as error:
                self._fail(self._code("error"), error.strerror or str(error))
                return
            self._progress()
            if not is_audio:
                self._queued_text -= sent
            if sent < len(octets):
                self._queue[0] = (octets[sent:], is_audio)
                self._is_partial = True
                self._block()
                return
            self._is_partial = False
            self._queue.popleft()
            self._audio_queued -= is_audio
        self._unblock()

    def _progress(self) -> None:
        if self.state is SessionState.OPEN:
            self._deadline = None

    def _block(self) -> None:
        if self._want_write:
            return
        self._want_write = True
        self._poll_mask(select.EPOLLIN | select.EPOLLOUT)
        if self.state is SessionState.OPEN:
            self._user.engine_blocked(self, True)

    def _unblock(self) -> None:
        if not self._want_write:
            return
        self._want_write = False
        self._poll_mask(select.EPOLLIN)
        if self.state is SessionState.OPEN:
            self._user.engine_blocked(self, False)

    def _poll_mask(self, mask: int) -> None:
        fd = self._socket().fileno()
        if self.state is SessionState.OPEN:
            self._media.modify(fd, mask)
        else:
            self._urgent.modify(fd, mask)

    def write_ready(self) -> None:
        """The socket takes more."""
        self._flush()

    # ---- time and end
    def handle_timer(self, now: float) -> None:
        """Connect time-out, and engines that do not read."""
        if self.state is SessionState.OPEN and self._want_write and self._deadline is None:
            self._deadline = now + STUCK_S
        if self._deadline is not None and now >= self._deadline:
            was_open = self.state is SessionState.OPEN
            self._fail("timeout" if was_open else "engine_timeout", f"{self.state.value}")

    def close(self, reason: str) -> None:
        """Says ``stop`` and closes; a peer that does not take it at once is not waited for."""
        if self.state is SessionState.CLOSED:
            return
        sock, lingers = self.sock, False
        if sock is not None and self.state in (SessionState.OPEN, SessionState.WAIT_READY) and not self._is_partial:
            farewell = self._ws.build_text(self.protocol.build_stop(reason)) + self._ws.build_close()
            try:
                sock.send(farewell)
                sock.shutdown(socket.SHUT_WR)
            except OSError:
                lingers = False
            else:
                lingers = True
        self._shut(lingers)

    def abandon(self, detail: str) -> None:
        """Gives the connection up as lost."""
        self._fail(self._code("error"), detail)

    def _fail(self, code: str, detail: str) -> None:
        if self.state is SessionState.CLOSED:
            return
        was_open = self.state is SessionState.OPEN
        self._shut()
        self._user.engine_failed(self, EngineFailure(code, detail[:256]), was_open)

    def _shut(self, lingers: bool = False) -> None:
        was_open = self.state is SessionState.OPEN
        self.state = SessionState.CLOSED
        self._deadline = None
        self._queue.clear()
        if self.sock is not None:
            if was_open:
                self._media.unregister(self.sock.fileno())
            else:
                self._urgent.remove(self.sock.fileno())
            if lingers:
                self._lingerer.add(self.sock)
            else:
                self.sock.close()

    def _socket(self) -> socket.socket:
        if self.sock is None:
            raise OSError("not connected")
        return self.sock

    def stats(self) -> dict[str, Any]:
        counters = self.protocol.counters
        return {
            "engine_dropped_frames": self.dropped_frames,
            "engine_unknown_events": counters.unknown_events,
            "engine_malformed": counters.malformed,
            "engine_odd_pcm": counters.odd_pcm,
        }
