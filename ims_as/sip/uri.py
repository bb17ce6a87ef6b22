"""SIP, SIPS and tel URIs (RFC 3261 §19.1, RFC 3966); everything else is kept as opaque text.

A URI is a value: the parts keep their spelling and escapes, so that `str()` of a parsed URI gives the text back.
The one exception is the scheme, which is always in small letters. IPv6 hosts are held without their brackets.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote

import attrs

from ims_as.sip.errors import SipParseError
from ims_as.sip.grammar import HOST, Params, find_param, format_host, format_params
from ims_as.sip.text_cache import TextCache

__all__ = ["MAX_URI_CHARS", "OpaqueUri", "SipUri", "TelUri", "Uri", "check_uri", "parse_uri"]

# RFC 3261 names no limit; HTTP servers agree on about 8,000, and no SIP request that fits a datagram needs more
MAX_URI_CHARS: Final = 8192

# userinfo = ( user / telephone-subscriber ) [ ":" password ] "@"; wider: "#" and "[]{}|^\\" unescaped, which PBXs send
_USER_CHAR: Final = r"(?:[^\s<>\"@:%\x00-\x20\x7f-\U0010ffff]++|%[0-9A-Fa-f]{2})"
# uri-parameter = pname [ "=" pvalue ], paramchar = param-unreserved / unreserved / escaped
_PARAM_CHAR: Final = r"(?:[A-Za-z0-9\-_.!~*'()\[\]/:&+$,@|{}^`#]++|%[0-9A-Fa-f]{2})"
_PARAMS: Final = rf"(?:;{_PARAM_CHAR}++(?:=(?:{_PARAM_CHAR}|=)*+)?)*+"
# headers = "?" header *( "&" header )
_HEADERS: Final = r"(?:[A-Za-z0-9\-_.!~*'()\[\]/?:+$=&;,]++|%[0-9A-Fa-f]{2})++"
_SIP_RE: Final = re.compile(
    rf"([Ss][Ii][Pp][Ss]?):(?:({_USER_CHAR}++)(?::({_USER_CHAR}*+))?@)?({HOST})(?::([0-9]{{1,5}}))?({_PARAMS})(?:\?({_HEADERS}))?"
)
# telephone-subscriber, RFC 3966 §3: digits, hex digits, "*", "#", visual separators
_TEL_RE: Final = re.compile(rf"[Tt][Ee][Ll]:(\+?[0-9A-Fa-f*#\-.()]+)({_PARAMS})")
# absoluteURI = scheme ":" ( hier-part / opaque-part )
_ABSOLUTE_RE: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*):[^\s<>\"\x00-\x20\x7f-\U0010ffff]+")
_VISUAL_SEPARATORS: Final = str.maketrans("", "", "-.()")

# RFC 3261 §19.1.4: of these a URI that has one never equals a URI that has not
_PARAMS_THAT_MUST_MATCH: Final = frozenset({"user", "ttl", "method", "maddr", "transport"})


def _split_params(text: str) -> Params:
    if not text:
        return ()
    params: list[tuple[str, str | None]] = []
    for part in text[1:].split(";"):
        name, equals, value = part.partition("=")
        params.append((name, value if equals else None))
    return tuple(params)


@attrs.frozen(slots=True)
class SipUri:
    """A sip: or sips: URI. `user` and `password` are kept with their escapes; "" means absent.

    `headers` is the text after "?" without it.
    """

    scheme: str
    user: str
    host: str
    port: int | None = None
    params: Params = ()
    headers: str = ""
    password: str = ""

    def __str__(self) -> str:
        user = f"{self.user}:{self.password}@" if self.password else f"{self.user}@" if self.user else ""
        port = "" if self.port is None else f":{self.port}"
        headers = f"?{self.headers}" if self.headers else ""
        return f"{self.scheme}:{user}{format_host(self.host)}{port}{format_params(self.params)}{headers}"

    @property
    def aor(self) -> str:
        """Address of record: scheme, user and host in small letters, nothing else."""
        user = f"{self.user}@" if self.user else ""
        return f"{self.scheme}:{user}{format_host(self.host).lower()}"

    def param(self, name: str) -> str | None:
        """Value of a URI parameter, "" for a flag, None when absent."""
        return find_param(self.params, name)

    def has_param(self, name: str) -> bool:
        """Whether the URI has that parameter."""
        return find_param(self.params, name) is not None

    def with_params(self, **params: str | None) -> SipUri:
        """A copy with these parameters set; "" or None makes a flag. New ones come last."""
        kept = list(self.params)
        for name, value in params.items():
            entry = (name, value or None)
            for position, (key, _) in enumerate(kept):
                if key.lower() == name.lower():
                    kept[position] = entry
                    break
            else:
                kept.append(entry)
        return attrs.evolve(self, params=tuple(kept))

    def without_params(self, *names: str) -> SipUri:
        """A copy without these parameters."""
        unwanted = {name.lower() for name in names}
        return attrs.evolve(self, params=tuple(entry for entry in self.params if entry[0].lower() not in unwanted))

    def is_equivalent(self, other: Uri) -> bool:
        """URI comparison, RFC 3261 §19.1.4."""
        if not isinstance(other, SipUri):
            return False
        if (self.scheme, self.port, self.host.lower()) != (other.scheme, other.port, other.host.lower()):
            return False
        if unquote(self.user) != unquote(other.user) or unquote(self.password) != unquote(other.password):
            return False
        ours, theirs = _comparable(self.params), _comparable(other.params)
        for name in ours.keys() | theirs.keys():
            if name in ours and name in theirs:
                if ours[name] != theirs[name]:
                    return False
            elif name in _PARAMS_THAT_MUST_MATCH:
                return False
        return _comparable_headers(self.headers) == _comparable_headers(other.headers)


@attrs.frozen(slots=True)
class TelUri:
    """A tel: URI (RFC 3966); `number` with its visual separators and leading "+"."""

    number: str
    params: Params = ()

    def __str__(self) -> str:
        return f"tel:{self.number}{format_params(self.params)}"

    @property
    def scheme(self) -> str:
        """Always "tel"."""
        return "tel"

    @property
    def digits(self) -> str:
        """The number without visual separators, "+" kept."""
        return self.number.translate(_VISUAL_SEPARATORS)

    @property
    def aor(self) -> str:
        """The number without separators as a tel: URI; a local number keeps its phone-context."""
        context = self.param("phone-context")
        return f"tel:{self.digits}" if context is None else f"tel:{self.digits};phone-context={context.lower()}"

    def param(self, name: str) -> str | None:
        """Value of a parameter, "" for a flag, None when absent."""
        return find_param(self.params, name)

    def has_param(self, name: str) -> bool:
        """Whether the URI has that parameter."""
        return find_param(self.params, name) is not None

    def is_equivalent(self, other: Uri) -> bool:
        """Comparison of RFC 3966 §4: numbers without separators, all parameters in any order."""
        return (
            isinstance(other, TelUri)
            and self.digits.lower() == other.digits.lower()
            and _comparable(self.params) == _comparable(other.params)
        )


@attrs.frozen(slots=True)
class OpaqueUri:
    """Any other absolute URI (urn:service:sos, mailto: …), kept as it came."""

    text: str

    def __str__(self) -> str:
        return self.text

    @property
    def scheme(self) -> str:
        """The scheme in small letters."""
        return self.text.partition(":")[0].lower()

    @property
    def aor(self) -> str:
        """The whole text."""
        return self.text

    def param(self, name: str) -> str | None:
        """Always None: the parts of an opaque URI are not known."""
        return None

    def has_param(self, name: str) -> bool:
        """Always False."""
        return False

    def is_equivalent(self, other: Uri) -> bool:
        """Letter by letter (URNs differ in case of the scheme and namespace only, RFC 8141 §3.1)."""
        return isinstance(other, OpaqueUri) and self.text.lower() == other.text.lower()


Uri = SipUri | TelUri | OpaqueUri


def _comparable(params: Params) -> dict[str, str]:
    return {name.lower(): unquote(value or "").lower() for name, value in params}


def _comparable_headers(headers: str) -> list[tuple[str, str]]:
    pairs = (part.partition("=") for part in headers.split("&") if part)
    return sorted((unquote(name).lower(), unquote(value)) for name, _, value in pairs)


def check_uri(text: str) -> None:
    """Check the syntax as `parse_uri` does, without building anything.

    Raises:
        SipParseError: the text is not a URI.
    """
    _ = _SOUND[text]


def _check(text: str) -> bool:
    if len(text) > MAX_URI_CHARS:
        raise SipParseError("URI too long", 414)
    match = _SIP_RE.fullmatch(text)
    if match is None:
        _check_other(text)
    elif match[5] is not None and int(match[5]) > 65535:
        raise SipParseError("port out of range")
    return True


def _check_other(text: str) -> None:
    scheme = text[:5].lower()
    if scheme.startswith(("sip:", "sips:")):
        raise SipParseError("malformed SIP URI")
    if scheme.startswith("tel:"):
        if _TEL_RE.fullmatch(text) is None:
            raise SipParseError("malformed tel URI")
    elif _ABSOLUTE_RE.fullmatch(text) is None:
        raise SipParseError("malformed URI")


def parse_uri(text: str) -> Uri:
    """Read a URI.

    Raises:
        SipParseError: the text is not a URI, or a sip:, sips: or tel: URI with a syntax error.
    """
    return _URIS[text]


def _parse(text: str) -> Uri:
    if len(text) > MAX_URI_CHARS:
        raise SipParseError("URI too long", 414)
    match = _SIP_RE.fullmatch(text)
    if match is not None:
        scheme, user, password, host, port_text, params, headers = match.groups()
        port = None
        if port_text is not None:
            port = int(port_text)
            if port > 65535:
                raise SipParseError("port out of range")
        if host[0] == "[":
            host = host[1:-1]
        return SipUri(scheme.lower(), user or "", host, port, _split_params(params), headers or "", password or "")
    _check_other(text)
    match = _TEL_RE.fullmatch(text)
    if match is not None:
        return TelUri(match[1], _split_params(match[2]))
    return OpaqueUri(text)


_SOUND: Final = TextCache(_check)
_URIS: Final[TextCache[Uri]] = TextCache(_parse)
