"""Errors of the Diameter library: what a peer did wrong, what our caller did wrong, and what could not be reached."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diameter.avp import Avp
    from diameter.message import Message

__all__ = [
    "DiameterError",
    "FramingError",
    "LocalDiameterError",
    "NoPeerError",
    "PeerBusyError",
    "PendingFullError",
    "RemoteDiameterError",
    "RequestTimeoutError",
    "ThrottledError",
]


class DiameterError(Exception):
    """Root of the errors of `diameter`."""


class RemoteDiameterError(DiameterError):
    """What a peer sent is not Diameter as RFC 6733 wants it. The only error of the `*_untrusted` functions.

    Attributes:
        reason: short constant phrase without any of the peer's bytes, fit for a counter's label.
        result_code: the Result-Code (RFC 6733 §7.1) that an answer to it would carry.
        failed_avp: the AVP at fault, for Failed-AVP (279), where one can be named.
        request: the request as far as it could be read (header, maybe AVPs), so that an error answer can be
            built. None where the bytes were no request, or nothing could be read.
    """

    def __init__(
        self,
        reason: str,
        result_code: int = 5012,
        *,
        failed_avp: Avp | None = None,
        request: Message | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.result_code = result_code
        self.failed_avp = failed_avp
        self.request = request


class FramingError(RemoteDiameterError):
    """The message boundary is lost: the connection must be closed (RFC 6733 §3, Message Length)."""


class LocalDiameterError(DiameterError):
    """Our own code misused the library: a wrong value type, an unknown name, a state that forbids the call."""


class NoPeerError(DiameterError):
    """No open peer serves the request's application."""


class PendingFullError(NoPeerError):
    """The table of unanswered requests is full: the peers do not keep up."""


class PeerBusyError(NoPeerError):
    """The peers that serve the application have answered TOO_BUSY a moment ago (RFC 6733 §7.1.3)."""


class ThrottledError(NoPeerError):
    """The request is one of those that an overload report wants dropped (RFC 7683)."""


class RequestTimeoutError(DiameterError):
    """No answer came before the request's deadline."""
