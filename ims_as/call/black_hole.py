"""Descriptions that agree on a stream and let nothing flow in it, for a party that waits for another (RFC 3725)."""

from __future__ import annotations

import secrets

from ims_as.sip.crypto_attribute import CryptoLine, SrtpMode, SrtpSupport, is_secure, read_crypto_untrusted
from ims_as.sip.offer_answer import SdpSession
from ims_as.sip.sdp import MediaDescription, parse_sdp_untrusted

__all__ = ["black_hole_answer"]

DISCARD_PORT = 9
_KEPT = ("rtpmap:", "fmtp:", "ptime:", "maxptime:")


_KEYS = SrtpSupport(SrtpMode.ACCEPT, secrets.token_bytes)


def _answered(offered: CryptoLine) -> CryptoLine:
    """With a key that nobody will send with."""
    return CryptoLine(offered.tag, offered.suite, _KEYS.new_key(offered.suite))


def black_hole_answer(offer: bytes, session: SdpSession) -> bytes:
    """Takes the first audio line with all its formats, to an address that is none; refuses the others.

    Raises:
        SdpError: the offer cannot be read.
    """
    description = parse_sdp_untrusted(offer)
    media: list[MediaDescription] = []
    address = "0.0.0.0"
    is_taken = False
    for line in description.media:
        if is_taken or line.media.lower() != "audio" or line.port == 0:
            media.append(line.rejected())
            continue
        is_taken = True
        if ":" in description.connection_of(line):
            address = "::"
        lines = tuple(each for each in line.lines if each[0] == "a" and each[1].startswith(_KEPT))
        if is_secure(line.proto):  # an answer without a key would be none (RFC 4568 §7.1.2)
            lines += tuple(_answered(each).to_line() for each in read_crypto_untrusted(line)[:1])
        media.append(MediaDescription("audio", DISCARD_PORT, line.proto, line.formats, (*lines, ("a", "inactive"))))
    family = "IP6" if ":" in address else "IP4"
    timing = tuple(("t", value) for value in description.timing) or (("t", "0 0"),)
    return session.describe((("s", "-"), ("c", f"IN {family} {address}"), *timing), tuple(media)).to_bytes()
