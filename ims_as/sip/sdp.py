"""Session descriptions, RFC 8866 (and 4566), read and written without losing lines that we do not know.

The model is the text in order: the session's lines, then the media descriptions with theirs. Everything else
(direction, codecs, addresses) is a view on these lines. Values are immutable; a changed description is a new one.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from enum import StrEnum
from functools import lru_cache
from typing import Final

import attrs

from ims_as.sip.errors import LocalProtocolError, SdpError
from ims_as.sip.grammar import TOKEN
from ims_as.sip.key_mask import mask_line
from ims_as.sip.text_cache import TextCache

__all__ = [
    "MAX_MEDIA",
    "MAX_SDP_BYTES",
    "MAX_SDP_LINES",
    "STATIC_PAYLOADS",
    "Direction",
    "Line",
    "MediaDescription",
    "Origin",
    "RtpMap",
    "SessionDescription",
    "format_connection",
    "parse_sdp_untrusted",
]

# WebRTC offers reach some 10 KB; nothing that SIP carries in a datagram is larger than this
MAX_SDP_BYTES: Final = 65536
# the longest offers seen in practice (ICE candidates, video codecs) have some 300 lines
MAX_SDP_LINES: Final = 2000
# conference offers hold a few tens of media lines; each must be answered, so the number is bounded
MAX_MEDIA: Final = 64
# descriptions read a moment ago; 2 MB at worst
MAX_REMEMBERED: Final = 32

Line = tuple[str, str]
"""One line: type letter and value."""

_LINE_RE: Final = re.compile(r"([A-Za-z])=(.*)")
_MEDIA_RE: Final = re.compile(rf"({TOKEN}) +([0-9]{{1,5}})(?:/([0-9]{{1,5}}))? +([^ /]+(?:/[^ /]+)*) +(\S.*)")
_RTPMAP_RE: Final = re.compile(r"([0-9]{1,3}) +([^ /]+)/([0-9]{1,6})(?:/([0-9]{1,3}))? *")
_CONNECTION_RE: Final = re.compile(r"IN +IP([46]) +([^\s/]+)((?:/[0-9]{1,5})*) *", re.IGNORECASE)


class Direction(StrEnum):
    """Direction of a stream as seen by the one whose description it is in, RFC 8866 §6.7."""

    SENDRECV = "sendrecv"
    SENDONLY = "sendonly"
    RECVONLY = "recvonly"
    INACTIVE = "inactive"

    @property
    def sends(self) -> bool:
        """Whether the owner of the description sends."""
        return self in (Direction.SENDRECV, Direction.SENDONLY)

    @property
    def receives(self) -> bool:
        """Whether the owner of the description receives."""
        return self in (Direction.SENDRECV, Direction.RECVONLY)

    @property
    def reversed(self) -> Direction:
        """The same as seen from the other side."""
        return Direction.of(sends=self.receives, receives=self.sends)

    @classmethod
    def of(cls, *, sends: bool, receives: bool) -> Direction:
        """From its two halves."""
        if sends:
            return cls.SENDRECV if receives else cls.SENDONLY
        return cls.RECVONLY if receives else cls.INACTIVE

    def restricted_to(self, other: Direction) -> Direction:
        """What both allow."""
        return Direction.of(sends=self.sends and other.sends, receives=self.receives and other.receives)


def _shown(lines: tuple[Line, ...]) -> str:
    """For ``repr``, which ends up in logs: without keys."""
    return repr(tuple(map(mask_line, lines)))


_DIRECTIONS: Final = {direction.value: direction for direction in Direction}


@attrs.frozen(slots=True)
class RtpMap:
    """What a payload type number means: encoding name, clock in Hz, channels."""

    name: str
    clock_rate: int
    channels: int = 1

    def is_same(self, other: RtpMap) -> bool:
        """Equal encoding; names compare without case (RFC 8866 §6.6)."""
        return (self.name.lower(), self.clock_rate, self.channels) == (
            other.name.lower(),
            other.clock_rate,
            other.channels,
        )


# RFC 3551 §6, the static audio types that still occur
STATIC_PAYLOADS: Final = {
    0: RtpMap("PCMU", 8000),
    3: RtpMap("GSM", 8000),
    4: RtpMap("G723", 8000),
    8: RtpMap("PCMA", 8000),
    9: RtpMap("G722", 8000),
    13: RtpMap("CN", 8000),
    18: RtpMap("G729", 8000),
}


@attrs.frozen(slots=True)
class Origin:
    """The o= line: who made the description, and which version of it this is."""

    username: str
    session_id: str
    version: str
    address_type: str
    address: str

    def __str__(self) -> str:
        return f"{self.username} {self.session_id} {self.version} IN {self.address_type} {self.address}"


def _values(lines: Iterable[Line], letter: str) -> tuple[str, ...]:
    return tuple(value for kind, value in lines if kind == letter)


def _attributes(lines: Iterable[Line]) -> tuple[tuple[str, str | None], ...]:
    pairs = (value.partition(":") for kind, value in lines if kind == "a")
    return tuple((name, value if colon else None) for name, colon, value in pairs)


def _direction(lines: Iterable[Line]) -> Direction | None:
    """The last direction attribute of a section; None when it has none."""
    found = None
    for kind, value in lines:
        if kind == "a" and value in _DIRECTIONS:
            found = _DIRECTIONS[value]
    return found


@attrs.frozen(slots=True)
class MediaDescription:
    """One m= line and the lines below it.

    Attributes:
        media: "audio", "video" …
        port: 0 when the line is rejected or switched off.
        proto: transport as written ("RTP/AVP").
        formats: the formats as text; for RTP payload type numbers.
        lines: the lines after m= in order (i, c, b, k, a, unknown ones).
        port_count: number of ports after "/", None when absent.
    """

    media: str
    port: int
    proto: str
    formats: tuple[str, ...]
    lines: tuple[Line, ...] = attrs.field(default=(), repr=_shown)
    port_count: int | None = None

    @property
    def attributes(self) -> tuple[tuple[str, str | None], ...]:
        """The a= lines as (name, value), the value None for a flag."""
        return _attributes(self.lines)

    def attribute_values(self, name: str) -> list[str]:
        """Values of all a= lines of that name, "" for flags."""
        return [value or "" for key, value in self.attributes if key == name]

    def attribute(self, name: str) -> str | None:
        """Value of the first a= line of that name, "" for a flag, None when absent."""
        return next(iter(self.attribute_values(name)), None)

    @property
    def connection(self) -> str | None:
        """The c= line of this media line itself; see `SessionDescription.connection_of`."""
        return next(iter(_values(self.lines, "c")), None)

    @property
    def bandwidth(self) -> tuple[str, ...]:
        """The b= lines."""
        return _values(self.lines, "b")

    @property
    def direction(self) -> Direction | None:
        """The direction written here, None when there is none; see `SessionDescription.direction_of`."""
        return _direction(self.lines)

    @property
    def rtpmaps(self) -> dict[int, RtpMap]:
        """The meaning of payload types by a=rtpmap; malformed ones are left out, the first of a number counts."""
        found: dict[int, RtpMap] = {}
        for text in self.attribute_values("rtpmap"):
            match = _RTPMAP_RE.fullmatch(text)
            if match is not None and int(match[1]) < 128 and int(match[1]) not in found:
                found[int(match[1])] = RtpMap(match[2], int(match[3]), int(match[4] or 1))
        return found

    def payloads(self) -> list[tuple[int, RtpMap]]:
        """Payload types in order of preference with their meaning, by a=rtpmap, else by the static table."""
        rtpmaps = self.rtpmaps
        found: list[tuple[int, RtpMap]] = []
        for text in self.formats:
            if not (text.isascii() and text.isdigit()) or len(text) > 3 or int(text) > 127:
                continue
            number = int(text)
            meaning = rtpmaps.get(number) or STATIC_PAYLOADS.get(number)
            if meaning is not None:
                found.append((number, meaning))
        return found

    def fmtp(self, payload_type: int) -> str | None:
        """Format parameters of a payload type, None when absent."""
        prefix = f"{payload_type} "
        return next((v[len(prefix) :].strip() for v in self.attribute_values("fmtp") if v.startswith(prefix)), None)

    def milliseconds(self, name: str) -> int | None:
        """A small whole number from an attribute (ptime, maxptime); None when absent or not sensible."""
        text = self.attribute(name)
        if not text or not text.isascii() or not text.isdigit() or len(text) > 4:
            return None
        return int(text) or None

    def rejected(self) -> MediaDescription:
        """This line with port 0 and nothing else, as an answer that refuses it (RFC 3264 §6)."""
        return MediaDescription(self.media, 0, self.proto, self.formats)

    def to_lines(self) -> list[Line]:
        """The m= line and those below it."""
        ports = f"{self.port}" if self.port_count is None else f"{self.port}/{self.port_count}"
        return [("m", f"{self.media} {ports} {self.proto} {' '.join(self.formats)}"), *self.lines]


@attrs.frozen(slots=True)
class SessionDescription:
    """A whole description: session lines in order (v, o, s, c, t, a …), then media descriptions."""

    lines: tuple[Line, ...] = attrs.field(repr=_shown)
    media: tuple[MediaDescription, ...] = ()

    @property
    def origin(self) -> Origin:
        """The o= line; raises SdpError when it is malformed (never on a parsed description)."""
        text = next(iter(_values(self.lines, "o")), "")
        fields = text.split()
        if len(fields) != 6 or fields[3].upper() != "IN":
            raise SdpError("malformed o= line")
        return Origin(fields[0], fields[1], fields[2], fields[4], fields[5])

    @property
    def attributes(self) -> tuple[tuple[str, str | None], ...]:
        """The session's a= lines as (name, value)."""
        return _attributes(self.lines)

    @property
    def connection(self) -> str | None:
        """The session's c= line."""
        return next(iter(_values(self.lines, "c")), None)

    @property
    def bandwidth(self) -> tuple[str, ...]:
        """The session's b= lines."""
        return _values(self.lines, "b")

    @property
    def timing(self) -> tuple[str, ...]:
        """The t= lines."""
        return _values(self.lines, "t")

    def direction_of(self, media: MediaDescription) -> Direction:
        """Direction of a media line: its own, else the session's, else sendrecv (RFC 8866 §6.7)."""
        return media.direction or _direction(self.lines) or Direction.SENDRECV

    def connection_of(self, media: MediaDescription) -> str:
        """The address that a media line is to be sent to, an IP address as text without brackets or TTL.

        Raises:
            SdpError: there is no c= line, it is malformed, or it does not name one unicast IP address.
        """
        text = media.connection or self.connection
        if text is None:
            raise SdpError("no c= line")
        return _HOSTS[text]

    def to_bytes(self) -> bytes:
        """The description for the wire.

        Raises:
            LocalProtocolError: CR, LF or NUL inside a value.
        """
        lines = list(self.lines)
        for media in self.media:
            lines += media.to_lines()
        text = "".join(f"{kind}={value}\r\n" for kind, value in lines)
        if text.count("\n") != len(lines) or text.count("\r") != len(lines) or "\0" in text:
            raise LocalProtocolError("line end or NUL inside a session description")
        return text.encode("utf-8", "surrogateescape")


def format_connection(address: str) -> str:
    """The value of a c= line for an address without brackets, and the end of an o= line."""
    return f"IN IP6 {address}" if ":" in address else f"IN IP4 {address}"


def _read_connection(text: str) -> str:
    """The address in the value of a c= line; raises SdpError."""
    match = _CONNECTION_RE.fullmatch(text)
    if match is None:
        raise SdpError("malformed c= line")
    if match[2].lower().endswith(".invalid"):
        return "::" if match[1] == "6" else "0.0.0.0"  # RFC 6157 §4: the IPv6 way to say 0.0.0.0
    try:
        address = ipaddress.ip_address(match[2])
    except ValueError:
        raise SdpError("c= line without an IP address") from None
    if address.version != int(match[1]):
        raise SdpError("c= line with the wrong address type")
    if "%" in match[2]:
        raise SdpError("c= line with a zone of the peer's machine")
    if address.is_multicast or match[3]:
        raise SdpError("c= line with a multicast address")
    return str(address)


_HOSTS: Final = TextCache(_read_connection)


def _parse_media(value: str) -> tuple[str, int, str, tuple[str, ...], int | None]:
    """Media, port, proto, formats, number of ports."""
    match = _MEDIA_RE.fullmatch(value)
    if match is None or int(match[2]) > 65535:
        raise SdpError("malformed m= line")
    count = int(match[3]) if match[3] else None
    return match[1], int(match[2]), match[4], tuple(match[5].split()), count


@lru_cache(maxsize=MAX_REMEMBERED)
def parse_sdp_untrusted(data: bytes) -> SessionDescription:
    """Read a session description; one that was read a moment ago (a call looks at its offer twice) is known.

    Lines may end in CRLF or LF (RFC 8866 §5); lines of unknown type are kept; their order is not checked.

    Raises:
        SdpError: it does not begin with v=0, has no sound o= line, a malformed line or m= line, NUL, or is too large.
    """
    if len(data) > MAX_SDP_BYTES:
        raise SdpError("session description too large")
    text = data.decode("utf-8", "surrogateescape")
    if "\0" in text:
        raise SdpError("NUL in session description")
    raw_lines = text.split("\n")
    if len(raw_lines) > MAX_SDP_LINES:
        raise SdpError("too many lines")
    session: list[Line] = []
    media: list[tuple[str, int, str, tuple[str, ...], int | None]] = []
    below: list[Line] = session
    belows: list[list[Line]] = []
    for raw in raw_lines:
        line = raw[:-1] if raw.endswith("\r") else raw
        if not line:
            continue
        match = _LINE_RE.fullmatch(line)
        if match is None or "\r" in line:
            raise SdpError("malformed line")
        kind, value = match[1], match[2]
        if kind == "m":
            if len(media) == MAX_MEDIA:
                raise SdpError("too many m= lines")
            media.append(_parse_media(value))
            below = []
            belows.append(below)
        else:
            below.append((kind, value))
    if not session or session[0][0] != "v" or session[0][1].strip() != "0":
        raise SdpError("not SDP version 0")
    whole = tuple(
        MediaDescription(name, port, proto, formats, tuple(lines), count)
        for (name, port, proto, formats, count), lines in zip(media, belows, strict=True)
    )
    description = SessionDescription(tuple(session), whole)
    _ = description.origin
    return description
