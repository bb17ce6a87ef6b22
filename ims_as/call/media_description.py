"""The session descriptions of our own leg: every offer and answer between the caller and our media plane.

It knows no SIP and no media worker: it is given the other side's description, says what to send, and what the media
plane must do once it has been sent.  A description that was made but never went out is withdrawn, so that a failed
exchange changes nothing (RFC 3264 §8).
"""

from __future__ import annotations

import attrs

from ims_as.sip.offer_answer import AudioStream, LocalMedia, OfferAnswer, SdpSession, negotiate_answer
from ims_as.sip.sdp import parse_sdp_untrusted
from media.control import StreamConfig

__all__ = ["CallDescription", "stream_config"]

PLACEHOLDER_PORT = 9
"""The discard port, for choosing a codec before a port is bound; it is never sent."""


def stream_config(stream: AudioStream, *, send: bool | None = None) -> StreamConfig:
    """The agreed stream as the media plane wants it.  ``send``: other than its direction says (early media)."""
    return StreamConfig(
        codec=stream.codec,
        payload_type=stream.payload_type,
        remote_host=stream.remote_host,
        remote_port=stream.remote_port,
        send=stream.direction.sends if send is None else send,
        receive=stream.direction.receives,
        ptime_ms=stream.ptime_ms or 20,
        dtmf_payload_type=stream.dtmf_payload_type,
    )


class CallDescription:
    """Offer/answer of one call.  ``address``: of our RTP; ``session_id``: a number for the o= line (RFC 8866 §5.2)."""

    def __init__(self, address: str, session_id: int) -> None:
        session = SdpSession(username="-", session_id=session_id, version=1, address=address)
        self._exchange = OfferAnswer(LocalMedia(address=address, port=PLACEHOLDER_PORT), session)

    @property
    def stream(self) -> AudioStream | None:
        """What is agreed; None before the first exchange is complete."""
        return self._exchange.stream

    @property
    def version(self) -> int:
        """Version of the description that the caller has from us."""
        return self._exchange.session.version

    def preview_untrusted(self, offer: bytes) -> AudioStream:
        """What an offer would come to, before there is a port.

        Raises:
            SdpError: it cannot be read or used (NoCommonCodecError: none of its codecs is ours).
        """
        local = self._exchange.local
        session = SdpSession("-", 0, 0, local.address)
        return negotiate_answer(parse_sdp_untrusted(offer), local, session=session).stream

    def bind(self, address: str, port: int) -> None:
        """The port where our media plane listens."""
        self._exchange.local = attrs.evolve(self._exchange.local, address=address, port=port)

    def answer_untrusted(self, offer: bytes) -> bytes:
        """The answer to an offer; ``stream`` is as agreed then.

        Raises:
            SdpError: as ``preview_untrusted``; nothing has changed.
        """
        return self._exchange.receive_offer(parse_sdp_untrusted(offer)).answer.to_bytes()

    def withdraw_answer(self) -> None:
        """The answer made last was not sent: ``stream`` and version are as before."""
        self._exchange.withdraw_answer()
