"""WebSocket client side of an engine connection, sans-IO.

The handshake, text and control frames go through the sans-IO core of ``websockets``.  Audio does not: this module finds
the frame boundaries, takes whole unfragmented binary frames itself and hands every other frame to the core, complete.
So the core always stands at a frame boundary when the stream does, and `is_clean` tells the plane that it may read the
next 20 ms frame straight from its receive block.  Frames to the engine are built as columns by `FrameBlock`.

RFC 6455 §5.3 wants an unpredictable mask key per frame.  All keys of a batch are drawn with one read of random bytes
and applied with one XOR over the batch: 0.10 µs per frame of 640 octets in a batch of 75, of which 0.03 µs are the copy
that the zero key would need too; the core's own frames cost 1.9 µs.
"""

from __future__ import annotations

import logging
from typing import Final

import attrs
import numpy as np
from numpy.typing import NDArray
from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake, InvalidURI, NegotiationError
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from media.rtp import row_views

__all__ = [
    "MAX_MESSAGE_BYTES",
    "Accepted",
    "Binary",
    "Closed",
    "FrameBlock",
    "Rejected",
    "Text",
    "WebSocketClient",
    "WebSocketUrlError",
    "WsEvent",
    "parse_engine_url",
]

MAX_MESSAGE_BYTES: Final = 1 << 20
"""Half a minute of 16 kHz audio in one frame, as some speech synthesisers send it."""
_BINARY_FIN: Final = 0x82

_LOGGER: Final = logging.getLogger("media.engines.ws")
_LOGGER.setLevel(logging.CRITICAL)
"""The core reports what a peer does wrong; that is counted by the session, not logged per frame."""


class WebSocketUrlError(Exception):
    """Not a usable ws: or wss: URL."""


@attrs.frozen(slots=True)
class EngineUrl:
    """Where to connect."""

    host: str
    port: int
    secure: bool
    text: str


def parse_engine_url(url: str) -> EngineUrl:
    """Raises WebSocketUrlError."""
    try:
        parsed = parse_uri(url)
    except (InvalidURI, ValueError) as error:
        raise WebSocketUrlError(f"{url}: {error}") from error
    return EngineUrl(parsed.host, parsed.port, parsed.secure, url)


@attrs.frozen(slots=True)
class Accepted:
    """The handshake succeeded; audio and text may flow."""

    subprotocol: str | None


@attrs.frozen(slots=True)
class Rejected:
    """The server answered the handshake with something else."""

    detail: str


@attrs.frozen(slots=True)
class Text:
    text: str


@attrs.frozen(slots=True)
class Binary:
    payload: bytes


@attrs.frozen(slots=True)
class Closed:
    """A close frame, a broken frame, or the end of the stream; ``is_error`` unless it was a proper close."""

    is_error: bool
    detail: str


WsEvent = Accepted | Rejected | Text | Binary | Closed


class WebSocketClient:
    """One connection.

    Attributes:
        is_clean: open, and the stream stands at a frame boundary outside any fragmented message.
    """

    def __init__(self, url: str, subprotocols: tuple[str, ...]) -> None:
        self._core = ClientProtocol(
            parse_uri(url),
            subprotocols=[Subprotocol(s) for s in subprotocols] or None,
            max_size=MAX_MESSAGE_BYTES,
            logger=_LOGGER,
        )
        self._buffer = bytearray()
        self._fragments: list[bytes] = []
        self._fragment_opcode: Opcode | None = None
        self._is_closed = False
        self.is_clean = False

    def build_request(self) -> bytes:
        """The HTTP request that opens the connection."""
        self._core.send_request(self._core.connect())
        return b"".join(self._core.data_to_send())

    def build_text(self, text: str) -> bytes:
        """A text frame; empty after the connection was closed."""
        if self._core.state is not State.OPEN:
            return b""
        self._core.send_text(text.encode(errors="replace"))
        return b"".join(self._core.data_to_send())

    def build_close(self) -> bytes:
        """A close frame (1000); empty when there is nothing to close."""
        if self._core.state is not State.OPEN:
            return b""
        self._core.send_close(1000)
        self.is_clean = False
        return b"".join(self._core.data_to_send())

    def receive_bytes_untrusted(self, received: bytes | memoryview) -> tuple[list[WsEvent], bytes]:
        """Takes what came from the socket.

        Returns:
            events in order, and octets to send back (pong, close).
        """
        events: list[WsEvent] = []
        if self._is_closed:
            return events, b""
        if self._core.state is State.CONNECTING:
            self._receive_handshake(bytes(received), events)
        else:
            self._buffer += received
        self._split_frames(events)
        reply = b"".join(self._core.data_to_send())
        self.is_clean = (
            not self._buffer
            and self._fragment_opcode is None
            and not self._is_closed
            and self._core.state is State.OPEN
        )
        return events, reply

    def receive_eof(self) -> list[WsEvent]:
        """The peer closed the stream."""
        if self._is_closed:
            return []
        self._is_closed, self.is_clean = True, False
        if self._core.state is State.CONNECTING:
            return [Rejected("connection closed in handshake")]
        return [Closed(True, "connection closed without close frame")]

    def _receive_handshake(self, received: bytes, events: list[WsEvent]) -> None:
        # the core must not see frames behind the response: it would parse them itself
        self._buffer += received
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0 and len(self._buffer) <= 16384:
            return
        cut = len(self._buffer) if end < 0 else end + 4
        response = bytes(self._buffer[:cut])
        del self._buffer[:cut]
        self._core.receive_data(response)
        for event in self._core.events_received():
            if isinstance(event, Response) and self._core.handshake_exc is None:
                events.append(Accepted(self._core.subprotocol))
        if self._core.state is not State.OPEN:
            error = self._core.handshake_exc
            known = isinstance(error, InvalidHandshake | NegotiationError)
            events.append(Rejected(str(error) if known else "malformed handshake response"))
            self._is_closed = True

    def _split_frames(self, events: list[WsEvent]) -> None:
        buffer, start = self._buffer, 0
        while not self._is_closed and self._core.state is State.OPEN and len(buffer) - start >= 2:
            first, length, body = buffer[start], buffer[start + 1], start + 2
            if length & 0x80:  # a masked frame: the core fails the connection
                self._to_core(bytes(buffer[start:]), events)
                break
            if length >= 126:
                width = 2 if length == 126 else 8
                if len(buffer) < body + width:
                    break
                length = int.from_bytes(buffer[body : body + width], "big")
                body += width
            if length > MAX_MESSAGE_BYTES:
                self._to_core(bytes(buffer[start:body]), events)
                break
            if len(buffer) < body + length:
                break
            if first == _BINARY_FIN and self._fragment_opcode is None:
                events.append(Binary(bytes(buffer[body : body + length])))
            else:
                self._to_core(bytes(buffer[start : body + length]), events)
            start = body + length
        if self._is_closed:
            buffer.clear()
        elif start:
            del buffer[:start]

    def _to_core(self, frame: bytes, events: list[WsEvent]) -> None:
        self._core.receive_data(frame)
        for received in self._core.events_received():
            if isinstance(received, Frame):
                self._take_frame(received, events)
        if self._core.state is not State.OPEN and not self._is_closed:
            error = self._core.parser_exc
            self._is_closed = True
            events.append(Closed(True, str(error) or "protocol error"))

    def _take_frame(self, frame: Frame, events: list[WsEvent]) -> None:
        match frame.opcode:
            case Opcode.CLOSE:
                close = self._core.close_rcvd
                self._is_closed = True
                events.append(Closed(close is None or close.code not in (1000, 1001, 1005), str(close)))
            case Opcode.TEXT | Opcode.BINARY | Opcode.CONT:
                if frame.opcode is not Opcode.CONT:
                    self._fragment_opcode = frame.opcode
                if frame.data:  # a peer may send empty fragments for ever
                    self._fragments.append(bytes(frame.data))
                if frame.fin:
                    payload = b"".join(self._fragments)
                    is_text = self._fragment_opcode is Opcode.TEXT
                    self._fragments.clear()
                    self._fragment_opcode = None
                    events.append(Text(payload.decode(errors="replace")) if is_text else Binary(payload))


class FrameBlock:
    """Masked binary frames of one size, written as columns.

    Attributes:
        views: one memoryview per row, made once, to be handed to ``send``.
        size: octets of a frame.
    """

    def __init__(self, n_rows: int, payload_bytes: int) -> None:
        # 4 octets of header for payloads of 126 to 65535 octets, 4 of mask key, then the payload: all on word limits
        self.size = 8 + payload_bytes
        words = np.zeros((n_rows, self.size // 4), np.uint32)
        block = words.view(np.uint8)
        block[:, 0] = _BINARY_FIN
        block[:, 1] = 0x80 | 126
        block[:, 2] = payload_bytes >> 8
        block[:, 3] = payload_bytes & 0xFF
        self._key = words[:, 1]
        self._payload = words[:, 2:]
        self.views = row_views(block)

    def write(self, samples: NDArray[np.int16], random_bytes: bytes) -> None:
        """Masks the first rows.

        Args:
            samples: shape (n, payload_bytes / 2), C-contiguous.
            random_bytes: 4 × n unpredictable octets.
        """
        n = len(samples)
        key = np.frombuffer(random_bytes, np.uint32, n)
        self._key[:n] = key
        np.bitwise_xor(samples.view(np.uint32), key[:, None], out=self._payload[:n])
