"""Typed header values: Via, name-addr headers, CSeq, P-Served-User, Reason and a few more (RFC 3261 §20).

A parsed value remembers its text, so `str()` gives back what the peer wrote; a value made here or changed with a
`with_…` method is written from its parts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

import attrs

from ims_as.sip.errors import SipParseError
from ims_as.sip.grammar import (
    HOST,
    PARAMS,
    QUOTED_STRING,
    TOKEN,
    Params,
    find_param,
    format_host,
    format_params,
    parse_params,
    printable,
    quote,
    read_param,
    split_list,
    unquote,
)
from ims_as.sip.text_cache import TextCache
from ims_as.sip.uri import Uri, check_uri, parse_uri

__all__ = [
    "CSEQS",
    "MAX_CSEQ",
    "MAX_SECONDS",
    "SOUND_ADDRESSES",
    "CSeq",
    "NameAddr",
    "PServedUser",
    "RAck",
    "Reason",
    "SessionExpires",
    "Via",
    "parse_cseq",
    "parse_name_addr",
    "parse_name_addrs",
    "parse_seconds",
    "parse_via",
]

# RFC 3261 §8.1.1.5: the sequence number MUST be expressible as 32 bit and less than 2**31
MAX_CSEQ: Final = 2**31 - 1
# delta-seconds, RFC 3261 §20.19: 0 to 2**32-1
MAX_SECONDS: Final = 2**32 - 1

# via-parm = sent-protocol LWS sent-by *( SEMI via-params ); SLASH and COLON may have white space around them
_VIA_HEAD: Final = (
    rf"[Ss][Ii][Pp][ \t]*/[ \t]*2\.0[ \t]*/[ \t]*({TOKEN})[ \t]+({HOST})(?:[ \t]*:[ \t]*([0-9]{{1,5}}))?[ \t]*+"
)
_VIA_RE: Final = re.compile(rf"{_VIA_HEAD}({PARAMS})")
# name-addr = [ display-name ] LAQUOT addr-spec RAQUOT, display-name = *(token LWS) / quoted-string;
# wider: letters beyond ASCII without quotes
_NAME_ADDR_HEAD: Final = (
    rf"(?:({QUOTED_STRING})[ \t]*|((?:[A-Za-z0-9\-.!%*_+`'~ \t\x80-\U0010ffff]+)?))<([^<>\s]+)>[ \t]*+"
)
_NAME_ADDR_RE: Final = re.compile(rf"{_NAME_ADDR_HEAD}({PARAMS})")
# addr-spec without brackets: "," ";" "?" would be the header's, RFC 3261 §20.10
_ADDR_SPEC_HEAD: Final = r"([^<>\s\",;?]+)[ \t]*+"
_ADDR_SPEC_RE: Final = re.compile(rf"{_ADDR_SPEC_HEAD}({PARAMS})")
# what comes before malformed parameters
_VIA_BEFORE_PARAMS_RE: Final = re.compile(f"{_VIA_HEAD};")
_ADDRESS_BEFORE_PARAMS_RE: Final = re.compile(f"(?:{_NAME_ADDR_HEAD}|{_ADDR_SPEC_HEAD});")
_CSEQ_RE: Final = re.compile(rf"([0-9]{{1,10}})[ \t]+({TOKEN})")
_RACK_RE: Final = re.compile(rf"([0-9]{{1,10}})[ \t]+([0-9]{{1,10}})[ \t]+({TOKEN})")
_SECONDS_RE: Final = re.compile(r"([0-9]{1,10})[ \t]*(?:\([^()]*\)[ \t]*)?(;.*)?")


class Via:
    """One Via value, RFC 3261 §20.42; not to be changed. `host` of IPv6 is without brackets, `transport` as spelt.

    Parameters that came as checked text are taken apart only when they are asked for: one Via is made per message.
    """

    __slots__ = ("_branch", "_params", "_params_text", "host", "port", "text", "transport")

    def __init__(
        self,
        transport: str,
        host: str,
        port: int | None = None,
        params: Params | None = (),
        text: str = "",
        params_text: str = "",
    ) -> None:
        """`text` is what `str` gives; with `params` None they are in `params_text`, which `PARAMS` has matched."""
        self.transport: Final = transport
        self.host: Final = host
        self.port: Final = port
        self.text: Final = text
        self._branch: str | None = None
        self._params = params
        self._params_text: Final = params_text

    @property
    def params(self) -> Params:
        """Parameters in order and as spelt."""
        params = self._params
        if params is None:
            params = self._params = parse_params(self._params_text)
        return params

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Via) and self._values() == other._values()

    def __hash__(self) -> int:
        return hash(self._values())

    def _values(self) -> tuple[object, ...]:
        return self.transport, self.host, self.port, self.params

    def __repr__(self) -> str:
        return f"Via({self.transport!r}, {self.host!r}, {self.port!r}, {self.params!r})"

    def __str__(self) -> str:
        if self.text:
            return self.text
        port = "" if self.port is None else f":{self.port}"
        return f"SIP/2.0/{self.transport} {format_host(self.host)}{port}{format_params(self.params)}"

    def param(self, name: str) -> str | None:
        """Value of a parameter, "" for a flag, None when absent."""
        if self._params is None:
            return read_param(self._params_text, name.lower())
        return find_param(self._params, name)

    @property
    def branch(self) -> str | None:
        """The branch parameter, None when absent or empty."""
        branch = self._branch
        if branch is None:
            branch = self._branch = self.param("branch") or ""
        return branch or None

    @property
    def received(self) -> str | None:
        """The received address, IPv6 without brackets."""
        value = self.param("received")
        return value.strip("[]") if value else None

    @property
    def has_rport(self) -> bool:
        """Whether rport is there, with or without a value (RFC 3581)."""
        if self._params is None and "rport" not in self._params_text.lower():
            return False
        return self.param("rport") is not None

    @property
    def rport(self) -> int | None:
        """The value of rport, None when it has none or not a port number."""
        value = self.param("rport")
        if value and value.isascii() and value.isdigit() and len(value) <= 5 and 0 < int(value) <= 65535:
            return int(value)
        return None

    def with_source(self, host: str, port: int) -> Via:
        """A copy with `received`, and with the port in `rport` where that is there (RFC 3581 §4)."""
        text, params = self.text, self._params_text
        if text and ";rport" in params and "received" not in params.lower() and '"' not in params:
            # as nearly all write it: rport once and without value
            marked = f"{params};received={host}".replace(";rport;", f";rport={port};")
            if marked.count("rport") == marked.count(";rport=") == 1 and ";rport=" not in params:
                return Via(self.transport, self.host, self.port, None, text.removesuffix(params) + marked, marked)
        via = self.with_param("received", host)
        return via.with_param("rport", str(port)) if self.has_rport else via

    def with_param(self, name: str, value: str | None = None) -> Via:
        """A copy with that parameter set in its place, or added last."""
        return Via(self.transport, self.host, self.port, _replace_param(self.params, name, value))


class NameAddr:
    """A name-addr or addr-spec with header parameters: From, To, Contact, Route …; a value, not to be changed.

    `uri_text` is the peer's text; `.uri` parses it when asked. As in `Via`, what came as checked text is
    read when it is asked for.
    """

    __slots__ = ("_display_name", "_params", "_params_text", "_tag", "text", "uri_text")

    def __init__(
        self,
        display_name: str | None,
        uri_text: str,
        params: Params | None = (),
        text: str = "",
        params_text: str = "",
    ) -> None:
        """`text` is what `str` gives; None means what it says: in `text`, and in `params_text` (matched by PARAMS)."""
        self.uri_text: Final = uri_text
        self.text: Final = text
        self._display_name = display_name
        self._tag: str | None = None
        self._params = params
        self._params_text: Final = params_text

    @property
    def display_name(self) -> str:
        """The name for people, unquoted and printable; "" when absent."""
        name = self._display_name
        if name is None:
            match = _NAME_ADDR_RE.fullmatch(self.text)
            quoted, plain = match.groups()[:2] if match is not None else ("", "")
            name = self._display_name = printable(unquote(quoted) if quoted else (plain or "").strip(" \t"))
        return name

    @property
    def params(self) -> Params:
        """Header parameters in order and as spelt."""
        params = self._params
        if params is None:
            params = self._params = parse_params(self._params_text)
        return params

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NameAddr) and self._values() == other._values()

    def __hash__(self) -> int:
        return hash(self._values())

    def _values(self) -> tuple[object, ...]:
        return self.display_name, self.uri_text, self.params

    def __repr__(self) -> str:
        return f"NameAddr({self.display_name!r}, {self.uri_text!r}, {self.params!r})"

    def __str__(self) -> str:
        if self.text:
            return self.text
        display = f"{quote(self.display_name)} " if self.display_name else ""
        return f"{display}<{self.uri_text}>{format_params(self.params)}"

    @property
    def uri(self) -> Uri:
        """The URI.

        Raises:
            SipParseError: it is malformed (never for From and To of a parsed message).
        """
        return parse_uri(self.uri_text)

    @property
    def tag(self) -> str | None:
        """The tag parameter, None when absent or empty."""
        tag = self._tag
        if tag is None:
            tag = self._tag = self._find("tag") or ""
        return tag or None

    def param(self, name: str) -> str | None:
        """Value of a header parameter, quotes taken off, "" for a flag, None when absent."""
        value = self._find(name)
        return unquote(value) if value else value

    def has_param(self, name: str) -> bool:
        """Whether that header parameter is there."""
        return self._find(name) is not None

    def _find(self, name: str) -> str | None:
        if self._params is None:
            return read_param(self._params_text, name.lower())
        return find_param(self._params, name)

    def with_param(self, name: str, value: str | None = None) -> NameAddr:
        """A copy with that header parameter set in its place, or added last; the rest keeps its spelling."""
        params = _replace_param(self.params, name, value)
        text = ""
        if self.text and self._find(name) is None:
            addition = format_params(((name, value),))
            # an addr-spec without brackets may take header parameters only after brackets make the end clear
            text = f"{self.text}{addition}" if "<" in self.text else f"<{self.uri_text}>{format_params(params)}"
        return NameAddr(self.display_name, self.uri_text, params, text)

    def with_tag(self, tag: str) -> NameAddr:
        """A copy with that tag, a token."""
        if self._params is None and "<" in self.text and not self.has_param("tag"):
            end = f";tag={tag}"
            return NameAddr(self._display_name, self.uri_text, None, self.text + end, self._params_text + end)
        return self.with_param("tag", tag)

    def without_param(self, name: str) -> NameAddr:
        """A copy without that header parameter."""
        kept = tuple(entry for entry in self.params if entry[0].lower() != name.lower())
        return self if kept == self.params else NameAddr(self.display_name, self.uri_text, kept)


@attrs.frozen(slots=True)
class CSeq:
    """CSeq, RFC 3261 §20.16."""

    number: int
    method: str

    def __str__(self) -> str:
        return f"{self.number} {self.method}"


@attrs.frozen(slots=True)
class RAck:
    """RAck, RFC 3262 §7.2."""

    response_number: int
    cseq_number: int
    method: str

    def __str__(self) -> str:
        return f"{self.response_number} {self.cseq_number} {self.method}"

    @classmethod
    def parse(cls, text: str) -> RAck:
        """Read the value; raises SipParseError."""
        match = _RACK_RE.fullmatch(text)
        if match is None:
            raise SipParseError("malformed RAck")
        return cls(int(match[1]), int(match[2]), match[3])


@attrs.frozen(slots=True)
class SessionExpires:
    """Session-Expires, RFC 4028 §4: seconds, and who refreshes ("uac", "uas" or None)."""

    interval_s: int
    refresher: str | None = None
    params: Params = ()

    def __str__(self) -> str:
        return f"{self.interval_s}{format_params(self.params)}"

    @classmethod
    def parse(cls, text: str) -> SessionExpires:
        """Read the value; raises SipParseError."""
        return _SESSION_EXPIRES[text]


@attrs.frozen(slots=True)
class PServedUser:
    """P-Served-User, RFC 5502 and RFC 8498: who is served, in which session case, registered or not."""

    address: NameAddr

    @property
    def uri_text(self) -> str:
        """The served user's URI as written."""
        return self.address.uri_text

    @property
    def sescase(self) -> str | None:
        """Session case: "orig", "term" or None, in small letters."""
        value = self.address.param("sescase")
        return value.lower() if value else None

    @property
    def regstate(self) -> str | None:
        """Registration state: "reg", "unreg" or None, in small letters."""
        value = self.address.param("regstate")
        return value.lower() if value else None

    @property
    def orig_cdiv(self) -> bool:
        """Originating after call diversion (RFC 8498)."""
        return self.address.has_param("orig-cdiv")

    def __str__(self) -> str:
        return str(self.address)

    @classmethod
    def parse(cls, text: str) -> PServedUser:
        """Read the value; raises SipParseError."""
        return cls(parse_name_addr(text))


@attrs.frozen(slots=True)
class Reason:
    """One Reason value, RFC 3326: protocol ("SIP", "Q.850"), cause and text."""

    protocol: str
    cause: int | None = None
    text: str = ""

    def __str__(self) -> str:
        cause = "" if self.cause is None else f";cause={self.cause}"
        text = f";text={quote(self.text)}" if self.text else ""
        return f"{self.protocol}{cause}{text}"

    @classmethod
    def parse(cls, text: str) -> Reason:
        """Read one value; raises SipParseError."""
        head, semicolon, rest = text.partition(";")
        params = parse_params(semicolon + rest)
        if not re.fullmatch(TOKEN, head.strip(" \t")):
            raise SipParseError("malformed Reason")
        cause = find_param(params, "cause")
        number = int(cause) if cause and cause.isascii() and cause.isdigit() and len(cause) <= 4 else None
        return cls(head.strip(" \t"), number, printable(unquote(find_param(params, "text") or "")))


def _replace_param(params: Params, name: str, value: str | None) -> Params:
    entry = (name, value)
    if find_param(params, name) is None:
        return (*params, entry)
    return tuple(entry if key.lower() == name.lower() else (key, old) for key, old in params)


def parse_via(text: str) -> Via:
    """Read one Via value.

    Raises:
        SipParseError: it is malformed.
    """
    match = _VIA_RE.fullmatch(text)
    if match is None:
        raise SipParseError("malformed parameters" if _VIA_BEFORE_PARAMS_RE.match(text) else "malformed Via")
    transport, host, port_text, params_text = match.groups()
    port = None
    if port_text is not None:
        port = int(port_text)
        if not 0 < port <= 65535:
            raise SipParseError("malformed Via")
    if host[0] == "[":
        host = host[1:-1]
    return Via(transport, host, port, None, text, params_text)


def parse_name_addr(text: str) -> NameAddr:
    """Read a name-addr or addr-spec with its header parameters; the URI itself is not looked into.

    Raises:
        SipParseError: it is malformed, or there is more than one.
    """
    match = _NAME_ADDR_RE.fullmatch(text)
    if match is not None:
        return NameAddr(None, match[3], None, text, match[4])
    match = _ADDR_SPEC_RE.fullmatch(text)
    if match is None:
        raise SipParseError("malformed parameters" if _ADDRESS_BEFORE_PARAMS_RE.match(text) else "malformed address")
    return NameAddr("", match[1], None, text, match[2])


def parse_name_addrs(values: Iterable[str]) -> list[NameAddr]:
    """Read header lines that each hold a list of addresses; raises SipParseError."""
    return [parse_name_addr(part) for value in values for part in split_list(value)]


def parse_cseq(text: str) -> CSeq:
    """Read a CSeq value.

    Raises:
        SipParseError: it is malformed or the number is not below 2**31.
    """
    return CSEQS[text]


def _parse_cseq(text: str) -> CSeq:
    match = _CSEQ_RE.fullmatch(text)
    if match is None:
        raise SipParseError("malformed CSeq")
    number = int(match[1])
    if number > MAX_CSEQ:
        raise SipParseError("CSeq out of range")
    return CSeq(number, match[2])


CSEQS: Final = TextCache(_parse_cseq)
"""`parse_cseq` as a table, for the parser."""


def _parse_session_expires(text: str) -> SessionExpires:
    match = _SECONDS_RE.fullmatch(text)
    if match is None or int(match[1]) > MAX_SECONDS:
        raise SipParseError("malformed Session-Expires")
    params = parse_params(match[2] or "")
    refresher = find_param(params, "refresher")
    return SessionExpires(int(match[1]), refresher.lower() if refresher else None, params)


_SESSION_EXPIRES: Final = TextCache(_parse_session_expires)


def _parse_sound_address(text: str) -> NameAddr:
    """As `parse_name_addr`, and the URI is checked; raises SipParseError."""
    address = parse_name_addr(text)
    check_uri(address.uri_text)
    return address


SOUND_ADDRESSES: Final = TextCache(_parse_sound_address)
"""Addresses whose URI is sound too, by their text; a look-up raises SipParseError."""


def parse_seconds(text: str) -> int:
    """Read delta-seconds (Expires, Min-Expires, Retry-After), comment and parameters left out.

    Raises:
        SipParseError: it is malformed or above 2**32-1.
    """
    match = _SECONDS_RE.fullmatch(text)
    if match is None or int(match[1]) > MAX_SECONDS:
        raise SipParseError("malformed number of seconds")
    return int(match[1])
