"""SDES: keys of SRTP in session descriptions, RFC 4568; suites of RFC 3711 (AES-CM) and RFC 7714 (GCM).

A line of the peer's is used only when all of it is understood: a known suite, one key of the right length, no MKI, no
session parameter that changes what goes over the wire.  Every other line is passed over, as RFC 4568 §7.1.2 says; in
particular those that would leave packets unencrypted or unauthenticated.  The key in a description is that of what its
sender sends.

Keys are kept as the base64 text of key and salt together, and appear in no ``repr``.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from typing import Final

import attrs

from ims_as.sip.errors import SdpError
from ims_as.sip.sdp import Line, MediaDescription

__all__ = [
    "NO_SRTP",
    "SUITES",
    "CryptoLine",
    "SrtpMode",
    "SrtpSupport",
    "StreamCrypto",
    "answered_crypto",
    "is_secure",
    "new_lines",
    "read_crypto_untrusted",
    "select_crypto",
]

SUITES: Final = {"AES_CM_128_HMAC_SHA1_80": 30, "AES_CM_128_HMAC_SHA1_32": 30, "AEAD_AES_128_GCM": 28}
"""Octets of master key and salt together."""
OFFERED_SUITES: Final = ("AES_CM_128_HMAC_SHA1_80", "AEAD_AES_128_GCM")
"""In our own offers: what everybody must have (RFC 4568 §6.2), then the stronger; a third would only make an INVITE
longer."""
MAX_LINES: Final = 32
"""So many a=crypto lines are looked at; browsers offered four."""
MAX_LIFETIME: Final = 1 << 48
"""Packets, RFC 3711 §9.2."""

_LINE_RE: Final = re.compile(r"(0|[1-9][0-9]{0,8}) +([A-Za-z0-9_]{1,64}) +(\S{1,512})((?: +\S{1,128})*) *")
_KEY_RE: Final = re.compile(r"(?i:inline):([A-Za-z0-9+/]{38,40})(={0,2})(?:\|(?:(2\^)?([0-9]{1,15})))?")
# a hint of how large the peer's window is; all others change keys, packets or streams
_HARMLESS: Final = re.compile(r"WSH=[0-9]{2,6}|-(?!UNENCRYPTED|UNAUTHENTICATED)[\x21-\x7e]+")


class SrtpMode(Enum):
    """Which audio lines are used, and what our own offers have."""

    NEVER = "never"
    ACCEPT = "accept"
    OFFER = "offer"
    REQUIRE = "require"

    @property
    def takes_plain(self) -> bool:
        """RTP/AVP is usable."""
        return self is not SrtpMode.REQUIRE

    @property
    def takes_secure(self) -> bool:
        """RTP/SAVP is usable."""
        return self is not SrtpMode.NEVER

    @property
    def is_opportunistic(self) -> bool:
        """Keys in RTP/AVP lines are offered and taken (RFC 8643)."""
        return self is SrtpMode.OFFER


def _no_random(_: int) -> bytes:
    raise SdpError("no keys here")


@attrs.frozen(slots=True)
class SrtpSupport:
    """What our side does about SRTP.  ``draw``: random octets, for keys."""

    mode: SrtpMode = SrtpMode.NEVER
    draw: Callable[[int], bytes] = _no_random

    def new_key(self, suite: str) -> str:
        """A fresh key and salt."""
        return b64encode(self.draw(SUITES[suite])).decode()


NO_SRTP: Final = SrtpSupport()


@attrs.frozen(slots=True)
class CryptoLine:
    """One usable a=crypto line."""

    tag: str
    suite: str
    key: str = attrs.field(repr=False)

    def to_line(self) -> Line:
        """As it stands in a description."""
        return "a", f"crypto:{self.tag} {self.suite} inline:{self.key}"


@attrs.frozen(slots=True)
class StreamCrypto:
    """What both sides encrypt with."""

    tag: str
    suite: str
    send_key: str = attrs.field(repr=False)
    receive_key: str = attrs.field(repr=False)

    @property
    def our_line(self) -> CryptoLine:
        """Our half, as our descriptions say it."""
        return CryptoLine(self.tag, self.suite, self.send_key)


def is_secure(proto: str) -> bool:
    """Whether a transport is SRTP by name: RTP/SAVP or RTP/SAVPF."""
    return proto.upper() in ("RTP/SAVP", "RTP/SAVPF")


def read_crypto_untrusted(media: MediaDescription) -> list[CryptoLine]:
    """The usable a=crypto lines, in the peer's order of preference; of those with one tag the first."""
    found: dict[str, CryptoLine] = {}
    for value in media.attribute_values("crypto")[:MAX_LINES]:
        line = _read_line_untrusted(value)
        if line is not None:
            found.setdefault(line.tag, line)
    return list(found.values())


def _read_line_untrusted(value: str) -> CryptoLine | None:
    match = _LINE_RE.fullmatch(value)
    if match is None or match[2] not in SUITES:
        return None
    if not all(_HARMLESS.fullmatch(parameter) for parameter in match[4].split()):
        return None
    # several keys, or one with an MKI after its lifetime, do not match
    key = _KEY_RE.fullmatch(match[3])
    if key is None:
        return None
    if key[4] is not None and not 0 < (_power(int(key[4])) if key[3] else int(key[4])) <= MAX_LIFETIME:
        return None
    text = _canonical(key[1], SUITES[match[2]])
    return None if text is None else CryptoLine(match[1], match[2], text)


def _power(exponent: int) -> int:
    return 1 << min(exponent, 64)


def _canonical(text: str, octets: int) -> str | None:
    """The key with the padding that belongs to it, which some leave out (§6.1); None when its length is wrong."""
    if len(text) != -(-octets * 8 // 6):
        return None
    if octets % 3 == 1 and text[-1] not in "AQgw":  # bits beyond the last octet
        return None
    return text + "=" * (-len(text) % 4)


def select_crypto(
    media: MediaDescription, support: SrtpSupport, former: StreamCrypto | None = None
) -> StreamCrypto | None:
    """What an offered line is answered with (§7.1.2): the first that is usable, and a key of ours.

    Where the peer's key is that of ``former``, ours stays too: nothing is re-keyed by a session refresh.  None: the
    line is plain RTP.

    Raises:
        SdpError: it is SRTP, and none of its keys can be used.
    """
    secure = is_secure(media.proto)
    if not secure and not support.mode.is_opportunistic:
        return None
    offered = read_crypto_untrusted(media)
    if not offered:
        if secure:
            raise SdpError("no usable a=crypto line")
        return None
    if former is not None:
        for line in offered:
            if (line.suite, line.key) == (former.suite, former.receive_key):
                return attrs.evolve(former, tag=line.tag)
    chosen = offered[0]
    return StreamCrypto(chosen.tag, chosen.suite, support.new_key(chosen.suite), chosen.key)


def new_lines(support: SrtpSupport) -> tuple[CryptoLine, ...]:
    """What an offer of ours has: each suite with a key of its own (§6.1)."""
    return tuple(
        CryptoLine(str(number), suite, support.new_key(suite)) for number, suite in enumerate(OFFERED_SUITES, 1)
    )


def answered_crypto(ours: Sequence[CryptoLine], theirs: MediaDescription) -> StreamCrypto | None:
    """What an answer took of our lines (§7.1.3): exactly one, by its tag and suite, with a key that is not ours (§6.1).

    None: the stream is plain RTP.

    Raises:
        SdpError: it must be SRTP and the answer has no such line, or several.
    """
    taken = list(_taken(ours, read_crypto_untrusted(theirs)))
    if len(taken) == 1 and len(theirs.attribute_values("crypto")) == 1:
        return taken[0]
    if not is_secure(theirs.proto) and not theirs.attribute_values("crypto"):
        return None
    raise SdpError("answer without the key of one offered a=crypto line")


def _taken(ours: Sequence[CryptoLine], theirs: Iterable[CryptoLine]) -> Iterable[StreamCrypto]:
    known = {line.tag: line for line in ours}
    for line in theirs:
        own = known.get(line.tag)
        if own is not None and own.suite == line.suite and own.key != line.key:
            yield StreamCrypto(line.tag, line.suite, own.key, line.key)
