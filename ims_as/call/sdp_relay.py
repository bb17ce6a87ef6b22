"""Session descriptions that cross from one leg's dialog to the other's.

Each dialog needs an ``o=`` line of its own whose version rises exactly when the description changes (RFC 3264 §8); the
rest of the description goes over as it came.  Preconditions are of one hop (RFC 3312): what they say of one party's
access is not true of the other's, and both have their resources by then.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import attrs

from ims_as.sip.crypto_attribute import SrtpMode, SrtpSupport, StreamCrypto, is_secure, read_crypto_untrusted
from ims_as.sip.errors import SdpError
from ims_as.sip.offer_answer import CodecOffer, LocalMedia, SdpSession, negotiate_answer
from ims_as.sip.sdp import Line, MediaDescription, SessionDescription, parse_sdp_untrusted

__all__ = ["answer_for_untrusted", "media_target", "relay_untrusted"]

_PRECONDITIONS: Final = ("curr:", "des:", "conf:")


def relay_untrusted(body: bytes, session: SdpSession) -> SessionDescription:
    """The same description under the o= line of ``session``.  Raises SdpError when it cannot be read."""
    description = parse_sdp_untrusted(body)
    lines = tuple(line for line in _kept(description.lines) if line[0] not in "vo")
    media = tuple(attrs.evolve(each, lines=tuple(_kept(each.lines))) for each in description.media)
    return session.describe(lines, media)


def _kept(lines: Iterable[Line]) -> Iterable[Line]:
    return (line for line in lines if not (line[0] == "a" and line[1].startswith(_PRECONDITIONS)))


def answer_for_untrusted(offer: bytes, party: bytes, session: SdpSession) -> SessionDescription:
    """The answer that a party would give to an offer, made from the last description of it.

    For an offer that cannot wait for the party itself: in an early dialog it must be answered at once, and changes
    little but what is reserved (RFC 3312).

    Raises:
        SdpError: one of the two cannot be read, or they have no codec in common.
    """
    description = parse_sdp_untrusted(party)
    audio = next((each for each in description.media if each.media == "audio" and each.port), None)
    if audio is None:
        raise SdpError("no audio line")
    codecs = tuple(
        CodecOffer(meaning.name, meaning.clock_rate, number, audio.fmtp(number), meaning.channels)
        for number, meaning in audio.payloads()
        if meaning.name.lower() != "telephone-event"
    )
    local = LocalMedia(
        description.connection_of(audio),
        audio.port,
        codecs,
        ptime_ms=audio.milliseconds("ptime") or 20,
        direction=description.direction_of(audio),
        srtp=SrtpSupport(SrtpMode.REQUIRE if is_secure(audio.proto) else SrtpMode.NEVER),
    )
    described = parse_sdp_untrusted(offer)
    return negotiate_answer(described, local, session=session, former=_party_keys(described, audio)).answer


def _party_keys(offer: SessionDescription, audio: MediaDescription) -> StreamCrypto | None:
    """The party's key for an offered line; None: it has none, and nobody else can make one for it."""
    own = {(line.tag, line.suite): line.key for line in read_crypto_untrusted(audio)}
    for media in offer.media:
        for line in read_crypto_untrusted(media) if is_secure(media.proto) else ():
            if key := own.get((line.tag, line.suite)):
                return StreamCrypto(line.tag, line.suite, key, line.key)
    return None


def media_target(description: SessionDescription) -> list[tuple[object, ...]]:
    """What the far side must know to send to this description: address, port, formats and keys of each line."""
    result: list[tuple[object, ...]] = []
    for media in description.media:
        address = description.connection_of(media) if media.port else ""
        keys = tuple(media.attribute_values("crypto"))
        result.append((media.media, address, media.port, media.proto, media.formats, keys))
    return result
