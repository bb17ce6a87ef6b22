"""What an audio stream is agreed from and what it is when agreed; `offer_answer` makes one of the other."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from ims_as.sip.codec_choice import G711_CODECS, CodecOffer
from ims_as.sip.crypto_attribute import NO_SRTP, SrtpSupport, StreamCrypto
from ims_as.sip.precondition import Preconditions
from ims_as.sip.rtcp_attributes import NOTHING_SAID, StreamRtcp
from ims_as.sip.sdp import Direction, Line, MediaDescription, SessionDescription, format_connection

__all__ = ["AudioStream", "LocalMedia", "Negotiated", "SdpSession"]


@attrs.frozen(slots=True)
class LocalMedia:
    """Our side of the stream: address (IPv6 without brackets), port, codecs in our order, what we are ready to do."""

    address: str
    port: int
    codecs: tuple[CodecOffer, ...] = G711_CODECS
    dtmf: bool = True
    ptime_ms: int = 20
    direction: Direction = Direction.SENDRECV
    prefers_wideband: bool = True
    """Of several codecs offered a wideband one is answered, whatever comes first."""
    srtp: SrtpSupport = NO_SRTP


@attrs.frozen(slots=True)
class AudioStream:
    """The agreed stream.

    Attributes:
        codec: encoding name as we write it ("PCMA").
        payload_type: number on what we send.
        clock_rate: Hz.
        remote_host, remote_port: where to send; "0.0.0.0" or "::" during an old-style hold, when we do not send.
        direction: as seen by us.
        dtmf_payload_type: telephone-event on what we send, None when not agreed.
        ptime_ms: packet time that the peer would like to receive.
        receive_payload_type, receive_dtmf_payload_type: numbers on what the peer sends; they differ from the others
            only when an answer chose its own (§6.1).
    """

    codec: str
    payload_type: int
    clock_rate: int
    remote_host: str
    remote_port: int
    direction: Direction
    dtmf_payload_type: int | None
    ptime_ms: int
    receive_payload_type: int
    receive_dtmf_payload_type: int | None
    send_parameters: Mapping[str, str] = attrs.field(factory=dict, hash=False)
    """fmtp parameters that the peer gave; names in lower case."""
    receive_parameters: Mapping[str, str] = attrs.field(factory=dict, hash=False)
    """The same, as we gave them."""
    dtmf_clock_rate: int | None = None
    """Of durations in telephone events, where it is not the codec's, which timestamps always have."""
    crypto: StreamCrypto | None = None
    """None: plain RTP."""
    rtcp: StreamRtcp = NOTHING_SAID


@attrs.frozen(slots=True)
class Negotiated:
    """The answer to send and the stream that it agrees on."""

    answer: SessionDescription
    stream: AudioStream
    preconditions: Preconditions | None = None
    """What must be reserved before the call may go on; None: the offer has no preconditions."""


@attrs.define(slots=True)
class SdpSession:
    """The o= line of all descriptions that we send in one dialog. Ids are decimal numbers (RFC 8866 §5.2)."""

    username: str
    session_id: int
    version: int
    address: str
    _last: tuple[tuple[Line, ...], tuple[MediaDescription, ...]] | None = attrs.field(default=None, init=False)

    def describe(self, lines: tuple[Line, ...], media: tuple[MediaDescription, ...]) -> SessionDescription:
        """Put v= and o= before the other session lines; the version goes up when anything has changed."""
        content = (lines, media)
        if self._last is not None and self._last != content:
            self.version += 1
        self._last = content
        origin = f"{self.username} {self.session_id} {self.version} {format_connection(self.address)}"
        return SessionDescription((("v", "0"), ("o", origin), *lines), media)

    def snapshot(self) -> tuple[object, ...]:
        """As it is now, for `restore` when a description turns out not to have been sent."""
        return self.version, self._last

    def restore(self, snapshot: tuple[object, ...]) -> None:
        """Back to what a snapshot holds."""
        self.version, self._last = snapshot  # type: ignore[assignment]
