"""The first command on a control channel between machines: ``hello`` with the version of the protocol.

The host answers it itself, once a worker is ready, and passes everything after it to that worker and back.
"""

from __future__ import annotations

from typing import Any, Final

from media.control import ControlError, LineReader

__all__ = ["CONTROL_VERSION", "HelloReader"]

CONTROL_VERSION: Final = 1
"""Goes up when an old worker and a new server (or the other way round) would not understand each other."""
MAX_HELLO_BYTES: Final = 1024


class HelloReader:
    """Reads the hello of whoever has connected."""

    def __init__(self) -> None:
        self._reader = LineReader()
        self._n_read = 0
        self.rest = b""
        """What came behind it."""

    def receive_bytes(self, chunk: bytes) -> int | None:
        """The number of the command; None: more is needed.

        Raises:
            ControlError: it is no hello, too long, or of another version.
        """
        self._n_read += len(chunk)
        end = chunk.find(b"\n") + 1
        messages = self._reader.receive_bytes(chunk[:end] if end else chunk)
        if not messages:
            if self._n_read > MAX_HELLO_BYTES:
                raise ControlError("the hello is too long")
            return None
        self.rest = chunk[end:]
        return _read_hello(messages[0])


def _read_hello(message: dict[str, Any]) -> int:
    number = message.get("id")
    if message.get("cmd") != "hello" or not isinstance(number, int):
        raise ControlError("no hello")
    if message.get("version") != CONTROL_VERSION:
        raise ControlError(f"version {message.get('version')!r}, here it is {CONTROL_VERSION}")
    return number
