"""A byte stream cut into Diameter messages (RFC 6733 §3): length checks first, sans-IO.

The Message Length is believed only after it was held against the header size, the multiple of four and our own
limit; memory is used for bytes that have arrived, never for bytes that a header announces. After an error the
boundary is lost for good: the connection has to be closed.
"""

from __future__ import annotations

from diameter.errors import FramingError

__all__ = ["HEADER_BYTES", "MAX_MESSAGE_BYTES", "MessageFramer"]

HEADER_BYTES = 20

# HSSes refuse repository data of more than some ten kB (TS 29.328 TOO_MUCH_DATA); a whole Sh-Data with many iFCs
# stays below 100 kB. Four times that is generous and bounds what one connection can make us hold.
MAX_MESSAGE_BYTES = 400 * 1024

UNSUPPORTED_VERSION = 5011
INVALID_MESSAGE_LENGTH = 5015


class MessageFramer:
    """Collects what a connection delivers and hands out whole messages.

    Usual case, whole messages in one read: each is one slice of the chunk, nothing else is copied.
    """

    def __init__(self, max_message_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self._max_message_bytes = max_message_bytes
        self._buffer: bytes | bytearray = b""
        self._position = 0
        self._is_broken = False

    @property
    def buffered_bytes(self) -> int:
        """Bytes that wait for the rest of their message."""
        return len(self._buffer) - self._position

    def receive_bytes(self, chunk: bytes) -> None:
        """Takes what one read has brought."""
        if self._position == len(self._buffer):
            self._buffer, self._position = chunk, 0
            return
        if not isinstance(self._buffer, bytearray):
            self._buffer = bytearray(self._buffer[self._position :])
            self._position = 0
        elif self._position > self._max_message_bytes:
            del self._buffer[: self._position]
            self._position = 0
        self._buffer += chunk

    def next_message_untrusted(self) -> bytes | None:
        """The next whole message with its header, or None until more bytes come.

        Raises:
            FramingError: wrong version or length; every later call raises as well.
        """
        if self._is_broken:
            raise FramingError("stream already broken", INVALID_MESSAGE_LENGTH)
        start = self._position
        available = len(self._buffer) - start
        if available and self._buffer[start] != 1:
            self._is_broken = True
            raise FramingError("version is not 1", UNSUPPORTED_VERSION)
        if available < 4:
            return None
        length = int.from_bytes(self._buffer[start + 1 : start + 4])
        if length < HEADER_BYTES or length % 4 or length > self._max_message_bytes:
            self._is_broken = True
            raise FramingError("message length wrong", INVALID_MESSAGE_LENGTH)
        if available < length:
            return None
        self._position = start + length
        return bytes(self._buffer[start : self._position])
