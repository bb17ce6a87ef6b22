"""The session descriptions of our own leg: every offer and answer between the caller and our media plane.

It knows no SIP and no media worker: it is given the other side's description, says what to send, and what the media
plane must do once it has been sent.  A description that was made but never went out is withdrawn, so that a failed
exchange changes nothing (RFC 3264 §8).
"""

from __future__ import annotations

import attrs

from ims_as.call.sdp_relay import relay_untrusted
from ims_as.sip.codec_choice import G711_CODECS, CodecOffer
from ims_as.sip.crypto_attribute import NO_SRTP, SrtpSupport
from ims_as.sip.errors import SdpError
from ims_as.sip.offer_answer import (
    AudioStream,
    LocalMedia,
    OfferAnswer,
    OfferAnswerState,
    SdpSession,
    negotiate_answer,
)
from ims_as.sip.precondition import Preconditions
from ims_as.sip.sdp import SessionDescription, parse_sdp_untrusted
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
        dtmf_clock_rate=stream.dtmf_clock_rate,
        receive_payload_type=stream.receive_payload_type,
        receive_dtmf_payload_type=stream.receive_dtmf_payload_type,
        clock_rate=stream.clock_rate,
        send_parameters=dict(stream.send_parameters),
        receive_parameters=dict(stream.receive_parameters),
        srtp_suite=stream.crypto.suite if stream.crypto is not None else None,
        srtp_send_key=stream.crypto.send_key if stream.crypto is not None else "",
        srtp_receive_key=stream.crypto.receive_key if stream.crypto is not None else "",
        rtcp_host=stream.rtcp.host,
        rtcp_port=stream.rtcp.port,
        rtcp_mux=stream.rtcp.is_muxed,
        rtcp_rs_bps=stream.rtcp.rs_bps,
        rtcp_rr_bps=stream.rtcp.rr_bps,
        rtcp_xr=bool(stream.rtcp.reports),
    )


class CallDescription:
    """Offer/answer of one call.

    Args:
        address: of our RTP.
        session_id: a number for the o= line (RFC 8866 §5.2).
        codecs: those that our media plane has.
        srtp: what we do about SRTP.
    """

    def __init__(
        self,
        address: str,
        session_id: int,
        codecs: tuple[CodecOffer, ...] = G711_CODECS,
        srtp: SrtpSupport = NO_SRTP,
    ) -> None:
        self._session = SdpSession(username="-", session_id=session_id, version=1, address=address)
        self._exchange = OfferAnswer(LocalMedia(address, PLACEHOLDER_PORT, codecs, srtp=srtp), self._session)
        self._read: tuple[bytes, SessionDescription] | None = None
        """An offer is looked at twice: before there is a port, and for the answer."""
        self.told: tuple[str, int] | None = None
        """Address and port in the description that the caller has from us, once it has one."""
        self._told_before: tuple[str, int] | None = None
        self._offered_at: tuple[str, int] | None = None

    @property
    def stream(self) -> AudioStream | None:
        """What is agreed; None before the first exchange is complete."""
        return self._exchange.stream

    @property
    def version(self) -> int:
        """Version of the description that the caller has from us."""
        return self._session.version

    @property
    def preconditions(self) -> Preconditions | None:
        """What the caller wants reserved, as of its latest description."""
        return self._exchange.preconditions

    @property
    def is_offering(self) -> bool:
        """An offer of ours waits for its answer."""
        return self._exchange.state is OfferAnswerState.LOCAL_OFFER

    def preview_untrusted(self, offer: bytes) -> StreamConfig:
        """What an offer would come to, before there is a port; nothing is sent yet.

        Raises:
            SdpError: it cannot be read or used (NoCommonCodecError: none of its codecs is ours).
        """
        local = self._exchange.local
        if not offer:  # ours comes first: the port can be bound, the rest comes with the answer
            codec = G711_CODECS[0]
            return StreamConfig(codec.name, codec.payload_type, send=False, receive=False)
        session = SdpSession("-", 0, 0, local.address)
        self._read = offer, parse_sdp_untrusted(offer)
        stream = negotiate_answer(self._read[1], local, session=session).stream
        return stream_config(stream, send=False)

    def bind(self, address: str, port: int) -> None:
        """The port where our media plane listens."""
        self._exchange.local = attrs.evolve(self._exchange.local, address=address, port=port)

    def answer_untrusted(self, offer: bytes) -> bytes:
        """The answer to an offer; ``stream`` is as agreed then.

        Raises:
            SdpError: as ``preview_untrusted``; nothing has changed.
            LocalProtocolError: an offer of ours is open.
        """
        read, self._read = self._read, None
        description = read[1] if read is not None and read[0] == offer else parse_sdp_untrusted(offer)
        answer = self._exchange.receive_offer(description).answer.to_bytes()
        self._told_before, self.told = self.told, self._place
        return answer

    def withdraw_answer(self) -> None:
        """The answer made last was not sent: ``stream`` and version are as before."""
        self._exchange.withdraw_answer()
        self.told = self._told_before

    def offer(self) -> bytes:
        """An offer of all that we can do, where the caller's INVITE has none (RFC 6337 §5.2.5: whatever holds now).

        Raises:
            LocalProtocolError: one is open already.
        """
        offer = self._exchange.send_offer().to_bytes()
        self._offered_at = self._place
        return offer

    def offer_again(self) -> bytes:
        """An offer of what the caller has from us, but for address and port (`bind`).

        Raises:
            LocalProtocolError: one is open already, or the caller has nothing yet.
        """
        offer = self._exchange.repeat_offer().to_bytes()
        self._offered_at = self._place
        return offer

    @property
    def _place(self) -> tuple[str, int]:
        local = self._exchange.local
        return local.address, local.port

    def withdraw_offer(self) -> None:
        """The offer was not sent, or nobody answered it: everything is as before."""
        self._exchange.withdraw_offer()

    def reread_untrusted(self, answer: bytes) -> AudioStream:
        """The caller's description has changed without an offer being open, in the answer to a session refresh.

        Raises:
            SdpError: it cannot be used; nothing has changed.
        """
        return self._exchange.reread(parse_sdp_untrusted(answer))

    def abandon_offer(self) -> None:
        """The offer was refused; its version has been used."""
        self._exchange.abandon_offer()

    def take_answer_untrusted(self, answer: bytes) -> AudioStream:
        """The answer to our offer.

        Raises:
            SdpError: it cannot be read or used; the offer is closed all the same.
            LocalProtocolError: no offer of ours is open.
        """
        try:
            description = parse_sdp_untrusted(answer)
        except SdpError:
            self._exchange.abandon_offer()
            raise
        stream = self._exchange.receive_answer(description)
        self.told = self._offered_at
        return stream

    def relay_untrusted(self, body: bytes) -> bytes:
        """Another party's description, to be sent into this dialog as ours.

        Raises:
            SdpError: it cannot be read.
        """
        relayed = relay_untrusted(body, self._session)
        self._exchange.adopt(relayed)
        return relayed.to_bytes()

    def forget_relayed(self) -> None:
        """The caller refused what was relayed last."""
        self._exchange.forget_adopted()
