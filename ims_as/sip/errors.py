"""Errors of the SIP and SDP layer: one type for what a peer did wrong, one for our own misuse."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ims_as.sip.message import Request

__all__ = ["LocalProtocolError", "NoCommonCodecError", "SdpError", "SipError", "SipParseError"]


class SipError(Exception):
    """Root of the errors of `ims_as.sip`."""


class SipParseError(SipError):
    """A peer's text is not SIP as RFC 3261 wants it.

    Attributes:
        reason: short constant phrase without any of the peer's text, fit for a counter's label.
        status_hint: status code for an answer, where one is possible (400, 505, 513 …).
        partial: what could be read of a broken request: a Request with Via, From, To, Call-ID and CSeq, enough
            for `build_response`. None where no answer is possible or none is allowed (responses, ACK).
        fatal: on a stream, True when the message boundary is lost and the connection must be closed.
    """

    def __init__(
        self, reason: str, status_hint: int = 400, partial: Request | None = None, *, fatal: bool = False
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status_hint = status_hint
        self.partial = partial
        self.fatal = fatal


class LocalProtocolError(SipError):
    """Our own code asked for something that the protocol does not allow (a bug on our side)."""


class SdpError(SipError):
    """A session description cannot be read or cannot be used (RFC 8866, RFC 3264)."""


class NoCommonCodecError(SdpError):
    """The offer is sound, but no audio codec of it is ours."""
