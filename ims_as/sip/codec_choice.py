"""Which codec of an audio line is taken, and with which parameters: one selection for all descriptions.

A payload type of the peer's fits a codec of ours when the encoding is the same and its parameters can be done: AMR's
two payload forms are two codecs (RFC 4867 §8.3.1), a line with CRC, robust sorting or interleaving is none of ours. Of
those that fit the first is taken in the peer's order, but where we may choose a wideband one comes before all others.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

import attrs

from ims_as.sip.errors import NoCommonCodecError
from ims_as.sip.sdp import STATIC_PAYLOADS, Line, MediaDescription, RtpMap

__all__ = [
    "G711_CODECS",
    "TELEPHONE_EVENT",
    "CodecChoice",
    "CodecOffer",
    "codec_lines",
    "comfort_noise_lines",
    "dtmf_lines",
    "has_comfort_noise",
    "pick_codec",
    "pick_dtmf",
    "read_parameters_untrusted",
]

MAX_PARAMETERS: Final = 32
# RFC 4733 §3.2: digits, *, #, A to D
_DTMF_EVENTS: Final = "0-15"
TELEPHONE_EVENT: Final = "telephone-event"
_NARROWBAND_HZ: Final = 8000
_COMFORT_NOISE: Final = 13
"""Static (RFC 3551 §6); under no other number does the media plane know it."""
_G711: Final = frozenset({"PCMA", "PCMU"})
_WIDEBAND: Final = frozenset({"amr-wb", "g722", "opus"})
_AMR: Final = frozenset({"amr", "amr-wb"})
# read by a receiver as other bits than ours
_AMR_NOT_SPOKEN: Final = ("crc", "robust-sorting", "interleaving")
_MODE_SET: Final = re.compile(r"[0-8](\s*,\s*[0-8])*")
_OCTET_ALIGN: Final = "octet-align"


@attrs.frozen(slots=True)
class CodecOffer:
    """One codec of ours. `payload_type` is the number in our own offers; in answers the offer's number is used."""

    name: str
    clock_rate: int
    payload_type: int
    fmtp: str | None = None
    channels: int = 1
    is_offered: bool = True
    """Else it is taken where a peer offers it, and our own offers stay short without it."""

    @property
    def rtpmap(self) -> RtpMap:
        """Its meaning in SDP terms."""
        return RtpMap(self.name, self.clock_rate, self.channels)

    @property
    def is_wideband(self) -> bool:
        """More than telephone speech; G.722 has an RTP clock of 8000 all the same."""
        return self.name.lower() in _WIDEBAND or (self.name.upper() == "L16" and self.clock_rate >= 16000)


G711_CODECS: Final = (CodecOffer("PCMA", 8000, 8), CodecOffer("PCMU", 8000, 0))
"""The codecs that need no library, in our order."""


@attrs.frozen(slots=True)
class CodecChoice:
    """What was taken.

    Attributes:
        payload_type: the peer's number for it.
        codec: ours.
        fmtp: what we say of it in an answer, None for nothing.
        theirs, ours: parameters of what we send and of what we receive.
    """

    payload_type: int
    codec: CodecOffer
    fmtp: str | None
    theirs: Mapping[str, str]
    ours: Mapping[str, str]


def read_parameters_untrusted(fmtp: str | None) -> dict[str, str]:
    """``name=value; name``, names in lower case; what has no form is left out."""
    found: dict[str, str] = {}
    for part in (fmtp or "").split(";")[:MAX_PARAMETERS]:
        name, _, value = part.partition("=")
        if name.strip():
            found.setdefault(name.strip().lower(), value.strip())
    return found


def pick_codec(
    media: MediaDescription, codecs: tuple[CodecOffer, ...], *, prefers_wideband: bool = False
) -> CodecChoice:
    """The codec of a line.

    Raises:
        NoCommonCodecError: none of its payload types fits one of ours.
    """
    first: CodecChoice | None = None
    for choice in _fitting(media, codecs):
        if choice.codec.is_wideband or not prefers_wideband:
            return choice
        first = first or choice
    if first is None:
        raise NoCommonCodecError("no audio codec in common")
    return first


def _fitting(media: MediaDescription, codecs: tuple[CodecOffer, ...]) -> Iterator[CodecChoice]:
    for number, meaning in media.payloads():
        for codec in codecs:
            if meaning.is_same(codec.rtpmap):
                theirs = read_parameters_untrusted(media.fmtp(number))
                ours = read_parameters_untrusted(codec.fmtp)
                if _fits(codec, theirs, ours):
                    fmtp = _answered(codec, theirs)
                    yield CodecChoice(number, codec, fmtp, theirs, read_parameters_untrusted(fmtp))
                    break


def _fits(codec: CodecOffer, theirs: Mapping[str, str], ours: Mapping[str, str]) -> bool:
    if codec.name.lower() not in _AMR:
        return True
    if (theirs.get(_OCTET_ALIGN, "0") == "1") != (ours.get(_OCTET_ALIGN, "0") == "1"):
        return False
    modes = theirs.get("mode-set", "")
    if modes and (not _MODE_SET.fullmatch(modes) or (codec.name.lower() == "amr" and "8" in modes)):
        return False
    return all(theirs.get(name, "0") == "0" for name in _AMR_NOT_SPOKEN)


def _answered(codec: CodecOffer, theirs: Mapping[str, str]) -> str | None:
    match codec.name.lower():
        case "amr" | "amr-wb":
            # §8.3.1: octet-align and mode-set must be the offer's; we never send redundancy
            said = [f"{name}={theirs[name]}" for name in (_OCTET_ALIGN, "mode-set") if theirs.get(name)]
            return "; ".join([*said, "mode-change-capability=2", "max-red=0"])
        case "g729":
            # RFC 4856 §2.1.9: yes unless somebody says no
            return "annexb=no" if theirs.get("annexb", "").lower() == "no" else codec.fmtp
        case _:
            return codec.fmtp


def pick_dtmf(media: MediaDescription, clock_rate: int) -> tuple[int, int] | None:
    """Number and clock of telephone-event: with the codec's clock, or else with 8000 Hz.

    RFC 4733 §2.1 asks for one clock per stream, so that beside Opus or AMR-WB telephone-event/8000 alone is against it.
    Phones offer it all the same, and all do the same then: timestamps stay the codec's, durations count in 8000 Hz.
    """
    payloads = list(media.payloads())
    for clock in dict.fromkeys((clock_rate, _NARROWBAND_HZ)):
        wanted = RtpMap(TELEPHONE_EVENT, clock)
        for number, meaning in payloads:
            if meaning.is_same(wanted):
                return number, clock
    return None


def has_comfort_noise(media: MediaDescription, codec: CodecOffer) -> bool:
    """Whether the peer would send comfort noise (RFC 3389) in its pauses: beside a codec that has none of its own."""
    return codec.name in _G711 and any(
        number == _COMFORT_NOISE and meaning.is_same(STATIC_PAYLOADS[_COMFORT_NOISE])
        for number, meaning in media.payloads()
    )


def codec_lines(payload_type: int, codec: CodecOffer, fmtp: str | None) -> list[Line]:
    """rtpmap, and fmtp where there is something to say."""
    channels = "" if codec.channels == 1 else f"/{codec.channels}"
    lines = [("a", f"rtpmap:{payload_type} {codec.name}/{codec.clock_rate}{channels}")]
    if fmtp is not None:
        lines.append(("a", f"fmtp:{payload_type} {fmtp}"))
    return lines


def comfort_noise_lines() -> tuple[str, list[Line]]:
    """The format, and its rtpmap."""
    return str(_COMFORT_NOISE), [("a", f"rtpmap:{_COMFORT_NOISE} CN/8000")]


def dtmf_lines(payload_type: int, clock_rate: int) -> list[Line]:
    """rtpmap and fmtp of telephone-event."""
    return [
        ("a", f"rtpmap:{payload_type} {TELEPHONE_EVENT}/{clock_rate}"),
        ("a", f"fmtp:{payload_type} {_DTMF_EVENTS}"),
    ]
