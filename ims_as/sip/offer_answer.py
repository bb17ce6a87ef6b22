"""Offer/answer for one audio stream, RFC 3264 (and RFC 6337 for what SIP does with it).

An offer is answered line by line: the first audio line that we can use gets our address and one codec, every other
line port 0, in the offer's order. `codec_choice` says which codec; one only, so that the media plane never has to
follow a change in mid-stream. telephone-event is added when its clock is the codec's.

Hold is understood in both forms: direction attributes, and the old `c=0.0.0.0` (§8.4), which says that its sender
does not want to receive.

An `o=` version goes up by one when the description differs from the last one sent, and only then (§5, §8).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum, auto
from typing import Final

import attrs

from ims_as.sip.audio_stream import AudioStream, LocalMedia, Negotiated, SdpSession
from ims_as.sip.codec_choice import (
    G711_CODECS,
    TELEPHONE_EVENT,
    CodecOffer,
    codec_lines,
    comfort_noise_lines,
    dtmf_lines,
    has_comfort_noise,
    pick_codec,
    pick_dtmf,
    read_parameters_untrusted,
)
from ims_as.sip.crypto_attribute import (
    CryptoLine,
    SrtpMode,
    SrtpSupport,
    StreamCrypto,
    answered_crypto,
    is_secure,
    new_lines,
    read_crypto_untrusted,
    select_crypto,
)
from ims_as.sip.errors import LocalProtocolError, NoCommonCodecError, SdpError
from ims_as.sip.precondition import Preconditions
from ims_as.sip.rtcp_attributes import answer_lines, offer_lines, read_rtcp_untrusted
from ims_as.sip.sdp import Direction, Line, MediaDescription, RtpMap, SessionDescription, format_connection

__all__ = [
    "DTMF_PAYLOAD_TYPE",
    "G711_CODECS",
    "AudioStream",
    "CodecOffer",
    "LocalMedia",
    "Negotiated",
    "OfferAnswer",
    "OfferAnswerState",
    "SdpSession",
    "apply_answer",
    "build_offer",
    "negotiate_answer",
]

# no rule says which dynamic number telephone-event has; 101 is what nearly everybody uses
DTMF_PAYLOAD_TYPE: Final = 101
# not DTLS, whose keys are agreed on the media path
_PLAIN: Final = frozenset({"RTP/AVP", "RTP/AVPF"})
# packet times that are sent; others are a wish that RFC 8866 §6.4 lets us meet as far as we can
_PTIMES_MS: Final = range(10, 61, 10)
# our own dynamic numbers, when the usual one has another meaning in a session
_DYNAMIC: Final = (*range(DTMF_PAYLOAD_TYPE, 128), *range(96, DTMF_PAYLOAD_TYPE))
_NO_PAYLOADS: Final[Mapping[int, RtpMap]] = {}


def _is_hold_address(host: str) -> bool:
    return host in ("0.0.0.0", "::")  # as `connection_of` writes them


def _peer_direction(description: SessionDescription, media: MediaDescription, host: str) -> Direction:
    """The peer's direction; c=0.0.0.0 takes receiving away from it (RFC 3264 §8.4)."""
    direction = description.direction_of(media)
    if _is_hold_address(host):
        direction = Direction.of(sends=direction.sends, receives=False)
    return direction


def _is_audio(media: MediaDescription, mode: SrtpMode = SrtpMode.ACCEPT) -> bool:
    if media.media.lower() != "audio" or media.port == 0:
        return False
    return mode.takes_secure if is_secure(media.proto) else mode.takes_plain and media.proto.upper() in _PLAIN


def _usable_host(description: SessionDescription, media: MediaDescription, our_address: str) -> str:
    host = description.connection_of(media)
    if not _is_hold_address(host) and (":" in host) != (":" in our_address):
        raise SdpError("peer's address is of the other IP version")
    return host


def _peer_ptime_ms(media: MediaDescription, ours_ms: int) -> int:
    """A multiple of 10 ms, not longer than the peer's ``ptime`` and ``maxptime``; a codec may make it shorter still."""
    wanted = media.milliseconds("ptime") or ours_ms
    longest = media.milliseconds("maxptime") or _PTIMES_MS.stop
    shortest = _PTIMES_MS.start
    return max(min(wanted, longest, _PTIMES_MS.stop - 1) // shortest * shortest, shortest)


def negotiate_answer(
    offer: SessionDescription, local: LocalMedia, *, session: SdpSession, former: StreamCrypto | None = None
) -> Negotiated:
    """Answer an offer, RFC 3264 §6.  ``former``: keys in force, which stay unless the peer changes its own.

    Raises:
        NoCommonCodecError: there are usable audio lines, but none with a codec of ours.
        SdpError: there is no usable audio line at all, or the chosen one has no usable address or key.
    """
    failure: SdpError = SdpError("no usable audio line")
    for position, media in enumerate(offer.media):
        if not _is_audio(media, local.srtp.mode):
            continue
        try:
            answer_media, stream, preconditions = _answer_audio(offer, media, local, former)
        except SdpError as error:
            failure = error if not isinstance(failure, NoCommonCodecError) else failure
            continue
        entries = tuple(answer_media if n == position else other.rejected() for n, other in enumerate(offer.media))
        # §6: t= is that of the offer; s= of an answer is free
        timing = tuple(("t", value) for value in offer.timing) or (("t", "0 0"),)
        lines = (("s", "-"), ("c", format_connection(local.address)), *timing)
        return Negotiated(session.describe(lines, entries), stream, preconditions)
    raise failure


def _answer_audio(
    offer: SessionDescription, media: MediaDescription, local: LocalMedia, former: StreamCrypto | None
) -> tuple[MediaDescription, AudioStream, Preconditions | None]:
    choice = pick_codec(media, local.codecs, prefers_wideband=local.prefers_wideband)
    payload_type, codec = choice.payload_type, choice.codec
    host = _usable_host(offer, media, local.address)
    dtmf = pick_dtmf(media, codec.clock_rate) if local.dtmf else None
    direction = _peer_direction(offer, media, host).reversed.restricted_to(local.direction)
    crypto = select_crypto(media, local.srtp, former)
    rtcp = read_rtcp_untrusted(offer, media, may_mux=True, our_address=local.address)
    bandwidth, rtcp_lines = answer_lines(rtcp)
    formats = [str(payload_type)]
    lines = bandwidth + codec_lines(payload_type, codec, choice.fmtp)
    if has_comfort_noise(media, codec):
        number, rtpmap = comfort_noise_lines()
        formats.append(number)
        lines += rtpmap
    if dtmf is not None:
        formats.append(str(dtmf[0]))
        lines += dtmf_lines(*dtmf)
    lines += rtcp_lines
    if crypto is not None:
        lines.append(crypto.our_line.to_line())
    lines += [("a", f"ptime:{local.ptime_ms}"), ("a", direction.value)]
    preconditions = Preconditions.from_offer_untrusted(media)
    if preconditions is not None:
        lines += preconditions.to_lines()
    stream = AudioStream(
        codec=codec.name,
        payload_type=payload_type,
        clock_rate=codec.clock_rate,
        remote_host=host,
        remote_port=media.port,
        direction=direction,
        dtmf_payload_type=dtmf[0] if dtmf is not None else None,
        dtmf_clock_rate=dtmf[1] if dtmf is not None and dtmf[1] != codec.clock_rate else None,
        ptime_ms=_peer_ptime_ms(media, local.ptime_ms),
        receive_payload_type=payload_type,
        receive_dtmf_payload_type=dtmf[0] if dtmf is not None else None,
        send_parameters=choice.theirs,
        receive_parameters=choice.ours,
        crypto=crypto,
        rtcp=rtcp,
    )
    return MediaDescription("audio", local.port, media.proto, tuple(formats), tuple(lines)), stream, preconditions


def build_offer(
    local: LocalMedia,
    session: SdpSession,
    *,
    lines: Sequence[MediaDescription] = (),
    position: int = 0,
    payloads: Mapping[int, RtpMap] = _NO_PAYLOADS,
    proto: str = "RTP/AVP",
    crypto: Sequence[CryptoLine] = (),
) -> SessionDescription:
    """An offer with one audio line, RFC 3264 §5.

    In mid-session the m= lines of the last description stay where they are, and a payload type keeps its meaning (§8):

    Args:
        lines: m= lines of the description in force; all but the one at `position` are offered with port 0.
        payloads: payload types of that line that have had a meaning, whoever gave it.
        proto, crypto: transport of that line, and keys of ours for it.

    Raises:
        LocalProtocolError: there are no codecs, or two of them have the same payload type.
    """
    offered = [codec for codec in local.codecs if codec.is_offered]
    numbers = _own_numbers(offered, payloads)
    text: list[Line] = []
    for number, codec in zip(numbers, offered, strict=True):
        text += codec_lines(number, codec, codec.fmtp)
    if local.dtmf:
        for clock_rate in dict.fromkeys(codec.clock_rate for codec in offered):
            wanted = RtpMap(TELEPHONE_EVENT, clock_rate)
            number = _number_of(wanted, DTMF_PAYLOAD_TYPE, payloads, numbers)
            numbers.append(number)
            text += dtmf_lines(number, clock_rate)
    if not offered or len(set(numbers)) != len(numbers) or max(numbers) > 127:
        raise LocalProtocolError("codecs cannot be offered")
    text += offer_lines(local.port)
    text += [line.to_line() for line in crypto]
    text += [("a", f"ptime:{local.ptime_ms}"), ("a", local.direction.value)]
    audio = MediaDescription("audio", local.port, proto, tuple(map(str, numbers)), tuple(text))
    media = tuple(audio if n == position else line.rejected() for n, line in enumerate(lines)) or (audio,)
    return session.describe((("s", "-"), ("c", format_connection(local.address)), ("t", "0 0")), media)


def _own_numbers(codecs: Sequence[CodecOffer], payloads: Mapping[int, RtpMap]) -> list[int]:
    if not payloads:
        return [codec.payload_type for codec in codecs]
    numbers: list[int] = []
    for codec in codecs:
        numbers.append(_number_of(codec.rtpmap, codec.payload_type, payloads, numbers))
    return numbers


def _number_of(meaning: RtpMap, own: int, payloads: Mapping[int, RtpMap], taken: Sequence[int]) -> int:
    """The number that a format has in this session; else our own, else the next that means nothing yet."""
    for number, known in payloads.items():
        if known.is_same(meaning) and number not in taken:
            return number
    free = (number for number in (own, *_DYNAMIC) if number not in payloads and number not in taken)
    return next(free, 128)


def apply_answer(offer: SessionDescription, answer: SessionDescription) -> AudioStream:
    """Read the answer to an offer of ours, RFC 3264 §7.

    Raises:
        NoCommonCodecError: the answer accepts the line, but with none of the codecs offered.
        SdpError: the answer has another number of m= lines, or refuses or breaks the audio line.
    """
    if len(offer.media) != len(answer.media):
        raise SdpError("answer with another number of m= lines")
    for ours, theirs in zip(offer.media, answer.media, strict=True):
        if _is_audio(ours):
            return _agreed_stream(offer, ours, answer, theirs)
    raise LocalProtocolError("offer without an audio line")


def _agreed_stream(
    offer: SessionDescription, ours: MediaDescription, answer: SessionDescription, theirs: MediaDescription
) -> AudioStream:
    if theirs.media.lower() != "audio" or theirs.proto.upper() != ours.proto.upper():
        raise SdpError("answer changes the audio line")
    if theirs.port == 0:
        raise SdpError("audio line refused")
    host = _usable_host(answer, theirs, offer.connection_of(ours))
    offered = [
        CodecOffer(meaning.name, meaning.clock_rate, number, ours.fmtp(number), meaning.channels)
        for number, meaning in ours.payloads()
        if meaning.name != TELEPHONE_EVENT
    ]
    choice = pick_codec(theirs, tuple(offered))
    payload_type, codec = choice.payload_type, choice.codec
    dtmf = pick_dtmf(theirs, codec.clock_rate)
    our_dtmf = pick_dtmf(ours, dtmf[1]) if dtmf is not None else None
    if dtmf is None or our_dtmf is None or dtmf[1] != our_dtmf[1]:
        dtmf = our_dtmf = None
    direction = _peer_direction(answer, theirs, host).reversed.restricted_to(offer.direction_of(ours))
    return AudioStream(
        codec=codec.name,
        payload_type=payload_type,
        clock_rate=codec.clock_rate,
        remote_host=host,
        remote_port=theirs.port,
        direction=direction,
        dtmf_payload_type=dtmf[0] if dtmf is not None else None,
        dtmf_clock_rate=dtmf[1] if dtmf is not None and dtmf[1] != codec.clock_rate else None,
        ptime_ms=_peer_ptime_ms(theirs, ours.milliseconds("ptime") or _PTIMES_MS.start * 2),
        receive_payload_type=codec.payload_type,
        receive_dtmf_payload_type=our_dtmf[0] if our_dtmf is not None else None,
        send_parameters=choice.theirs,
        receive_parameters=read_parameters_untrusted(codec.fmtp),
        crypto=answered_crypto(read_crypto_untrusted(ours), theirs),
        rtcp=read_rtcp_untrusted(
            answer,
            theirs,
            may_mux=ours.attribute("rtcp-mux") is not None,
            our_address=offer.connection_of(ours),
        ),
    )


def _at_port(media: MediaDescription, port: int, address: str) -> MediaDescription:
    """The line with another port; the port of RTCP keeps its distance (RFC 3605)."""
    lines: list[Line] = []
    for kind, value in media.lines:
        name, _, rest = value.partition(":")
        if kind == "c":
            lines.append((kind, format_connection(address)))
        elif kind == "a" and name == "rtcp" and (number := rest.split(" ")[0]).isdigit():
            where = f" {format_connection(address)}" if " " in rest else ""
            lines.append((kind, f"rtcp:{int(number) - media.port + port}{where}"))
        else:
            lines.append((kind, value))
    return attrs.evolve(media, port=port, lines=tuple(lines))


class OfferAnswerState(Enum):
    """Where an exchange stands (RFC 6337 §2.2)."""

    STABLE = auto()
    LOCAL_OFFER = auto()


@attrs.frozen(slots=True)
class _Agreement:
    """What holds between two exchanges, so that a failed one can come back to it."""

    local: LocalMedia
    session: tuple[object, ...]
    stream: AudioStream | None
    lines: tuple[MediaDescription, ...]
    """m= lines of our last description."""
    position: int
    """Of the audio line in use."""
    payloads: Mapping[int, RtpMap]
    preconditions: Preconditions | None
    proto: str
    is_adopted: bool


class OfferAnswer:
    """Offer/answer of one dialog: at most one offer of ours is open, and the last agreement stays until the next.

    A failed exchange changes nothing (§8: the session goes on as it was).
    """

    def __init__(self, local: LocalMedia, session: SdpSession) -> None:
        self.local = local
        self.session = session
        self.state = OfferAnswerState.STABLE
        self.stream: AudioStream | None = None
        self.preconditions: Preconditions | None = None
        """Of the latest exchange."""
        self._lines: tuple[MediaDescription, ...] = ()
        self._position = 0
        self._payloads: dict[int, RtpMap] = {}
        self._proto = ""
        """Transport of what was agreed with us; "": nothing yet."""
        self._is_adopted = False
        """The lines in force are another's, and so are their keys."""
        self._offer: SessionDescription | None = None
        self._before: _Agreement | None = None

    def receive_offer(self, offer: SessionDescription, *, local: LocalMedia | None = None) -> Negotiated:
        """Answer the peer's offer; `local` replaces our side from now on if it can be agreed.

        Raises:
            LocalProtocolError: an offer of ours is open (the SIP side should have answered 491).
            SdpError: as `negotiate_answer`.
        """
        if self.state is OfferAnswerState.LOCAL_OFFER:
            raise LocalProtocolError("an offer of ours is open")
        self._before = None
        before = self._snapshot()
        former = None if self._is_adopted else self._crypto
        negotiated = negotiate_answer(offer, local or self.local, session=self.session, former=former)
        self._before = before
        self.local = local or self.local
        self.stream, self.preconditions = negotiated.stream, negotiated.preconditions
        self._lines = negotiated.answer.media
        self._position = next(n for n, line in enumerate(self._lines) if line.port)
        self._proto, self._is_adopted = self._lines[self._position].proto, False
        self._learn(offer.media[self._position])
        return negotiated

    def withdraw_answer(self) -> None:
        """The answer made last was never sent: back to what was agreed before."""
        self._restore()

    def send_offer(self, *, local: LocalMedia | None = None) -> SessionDescription:
        """Make an offer of all that we can do, and wait for its answer.

        Raises:
            LocalProtocolError: one is open already.
        """
        if self.state is OfferAnswerState.LOCAL_OFFER:
            raise LocalProtocolError("an offer of ours is open")
        before = self._snapshot()
        media = local or self.local
        offer = build_offer(
            media,
            self.session,
            lines=self._lines,
            position=self._position,
            payloads=self._payloads,
            proto=self._proto or self._first_proto(media.srtp.mode),
            crypto=self._own_keys(media.srtp),
        )
        self._before = before
        self.local = local or self.local
        self._offer = offer
        self._learn(offer.media[self._position])
        self.state = OfferAnswerState.LOCAL_OFFER
        return offer

    def repeat_offer(self) -> SessionDescription:
        """Offer what we described last once more, at the address and port of `local`; all else stays as it is.

        Raises:
            LocalProtocolError: one is open already, or nothing was described.
        """
        if self.state is OfferAnswerState.LOCAL_OFFER or not self._lines:
            raise LocalProtocolError("no offer can be repeated")
        before = self._snapshot()
        audio = _at_port(self._lines[self._position], self.local.port, self.local.address)
        media = tuple(audio if n == self._position else line for n, line in enumerate(self._lines))
        offer = self.session.describe((("s", "-"), *self._session_lines, ("t", "0 0")), media)
        self._before, self._offer, self.state = before, offer, OfferAnswerState.LOCAL_OFFER
        return offer

    def receive_answer(self, answer: SessionDescription) -> AudioStream:
        """Take the answer; the exchange is closed, whatever the answer was.

        Raises:
            LocalProtocolError: no offer of ours is open.
            SdpError: as `apply_answer`.
        """
        offer = self.abandon_offer()
        if offer is None:
            raise LocalProtocolError("no offer of ours is open")
        stream = apply_answer(offer, answer)
        self.preconditions = Preconditions.from_offer_untrusted(answer.media[self._position])
        self.stream = stream
        self._lines = offer.media
        self._proto, self._is_adopted = self._lines[self._position].proto, False
        self._learn(answer.media[self._position])
        return stream

    def reread(self, answer: SessionDescription) -> AudioStream:
        """Another answer to what we described last: that of a session refresh, which repeats our description.

        Raises:
            SdpError: as `apply_answer`.
        """
        self.stream = apply_answer(SessionDescription(self._session_lines, self._lines), answer)
        return self.stream

    def abandon_offer(self) -> SessionDescription | None:
        """The request that carried our offer was refused: back to what was agreed before."""
        offer, self._offer = self._offer, None
        self.state = OfferAnswerState.STABLE
        return offer

    def withdraw_offer(self) -> None:
        """Our offer was never sent: back to what was agreed before, the version of our description included."""
        if self.abandon_offer() is not None:
            self._restore()

    def adopt(self, description: SessionDescription) -> None:
        """Another's description is offered or answered in this dialog as ours: its lines hold from now on."""
        self._before = self._snapshot()
        self._is_adopted = True
        if description.media:
            self._lines = description.media
            self._position = next((n for n, line in enumerate(self._lines) if _is_audio(line)), 0)
            self._learn(description.media[self._position])

    def forget_adopted(self) -> None:
        """The peer refused it: the lines are those from before, but the version has been used."""
        before, self._before = self._before, None
        if before is not None:
            self._lines, self._position, self._is_adopted = before.lines, before.position, before.is_adopted

    def _first_proto(self, mode: SrtpMode) -> str:
        """Nothing was agreed with us yet; the lines may be another's all the same."""
        if self._lines and _is_audio(line := attrs.evolve(self._lines[self._position], port=1), mode):
            return line.proto
        return "RTP/SAVP" if mode is SrtpMode.REQUIRE else "RTP/AVP"

    def _own_keys(self, support: SrtpSupport) -> tuple[CryptoLine, ...]:
        """For an offer: those in force, so that nothing is re-keyed; new ones where there are none of ours."""
        if self._crypto is not None:
            return new_lines(support) if self._is_adopted else (self._crypto.our_line,)
        is_first = self.stream is None and support.mode in (SrtpMode.OFFER, SrtpMode.REQUIRE)
        return new_lines(support) if is_first or is_secure(self._proto or self._first_proto(support.mode)) else ()

    @property
    def _crypto(self) -> StreamCrypto | None:
        return None if self.stream is None else self.stream.crypto

    @property
    def _session_lines(self) -> tuple[Line, ...]:
        return (("c", format_connection(self.local.address)),)

    def _learn(self, line: MediaDescription) -> None:
        for number, meaning in line.payloads():
            self._payloads.setdefault(number, meaning)

    def _snapshot(self) -> _Agreement:
        return _Agreement(
            self.local,
            self.session.snapshot(),
            self.stream,
            self._lines,
            self._position,
            dict(self._payloads),
            self.preconditions,
            self._proto,
            self._is_adopted,
        )

    def _restore(self) -> None:
        before, self._before = self._before, None
        if before is not None:
            self.local, self.stream, self.preconditions = before.local, before.stream, before.preconditions
            self.session.restore(before.session)
            self._proto, self._is_adopted = before.proto, before.is_adopted
            self._lines, self._position, self._payloads = before.lines, before.position, dict(before.payloads)
