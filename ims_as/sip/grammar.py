"""RFC 3261 §25 rules as named patterns, each under its ABNF.

Where the pattern is wider than the rule, the comment says what real peers send. All patterns take linear time: no two
neighbouring repetitions can match the same character, and where a search could begin again and again at each quote
of an unclosed string, the pattern takes the rest of the text instead.
"""

from __future__ import annotations

import re
from typing import Final

from ims_as.sip.errors import SipParseError

__all__ = [
    "HOST",
    "IPV6_REFERENCE",
    "PARAM",
    "PARAMS",
    "QUOTED_STRING",
    "TOKEN",
    "TOKEN_RE",
    "Params",
    "find_param",
    "format_host",
    "format_params",
    "parse_params",
    "printable",
    "quote",
    "read_param",
    "split_list",
    "unquote",
]

Params = tuple[tuple[str, str | None], ...]
"""Parameters in order and as spelt; the value is None for a flag."""

# token = 1*(alphanum / "-" / "." / "!" / "%" / "*" / "_" / "+" / "`" / "'" / "~")
TOKEN: Final = r"[A-Za-z0-9\-.!%*_+`'~]+"
TOKEN_RE: Final = re.compile(TOKEN)

# quoted-string = SWS DQUOTE *(qdtext / quoted-pair) DQUOTE
QUOTED_STRING: Final = r'"[^"\\]*+(?:\\.[^"\\]*+)*+"'

# IPv6reference = "[" IPv6address "]"; the address itself is left to the socket layer
IPV6_REFERENCE: Final = r"\[[0-9A-Fa-f:.]{2,45}\]"

# host = hostname / IPv4address / IPv6reference; "_" is not in the rule, but in real host names
HOST: Final = rf"(?:[A-Za-z0-9_][A-Za-z0-9_.\-]*|{IPV6_REFERENCE})"

# generic-param = token [ EQUAL gen-value ], gen-value = token / host / quoted-string; wider: IPv6 addresses without
# brackets (received=) and "/" or ":" inside values are common
PARAM: Final = rf'[ \t]*;[ \t]*({TOKEN})(?:[ \t]*=[ \t]*({QUOTED_STRING}|[^\s;,"<>]*))?[ \t]*'
_PARAM_RE: Final = re.compile(PARAM)
# *( SEMI generic-param ): the same as one pattern, to check them all without reading them
PARAMS: Final = rf'(?:[ \t]*+;[ \t]*+{TOKEN}+(?:[ \t]*+=[ \t]*+(?:{QUOTED_STRING}|[^\s;,"<>]*+))?+[ \t]*+)*+'

# what hides commas in a list, to its end or to the end of the text, and the comma itself
_LIST_RE: Final = re.compile(r'"(?:[^"\\]++|\\.?)*+"?|<[^>]*+>?|,', re.DOTALL)
_QUOTED_PAIR_RE: Final = re.compile(r"\\(.)")
_NOT_TEXT_RE: Final = re.compile("[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")


def parse_params(text: str) -> Params:
    """Read `*( SEMI generic-param )`.

    Raises:
        SipParseError: anything else than parameters is in the text, empty parameters (";;") included.
    """
    params: list[tuple[str, str | None]] = []
    position, end = 0, len(text)
    match_param = _PARAM_RE.match
    while position < end:
        match = match_param(text, position)
        if match is None:
            raise SipParseError("malformed parameters")
        params.append((match[1], match[2]))
        position = match.end()
    return tuple(params)


def format_params(params: Params) -> str:
    """Write parameters as `;name=value;flag`."""
    return "".join(f";{name}" if value is None else f";{name}={value}" for name, value in params)


def find_param(params: Params, name: str) -> str | None:
    """Value of the first parameter of that name (case-insensitive), "" for a flag, None when absent."""
    wanted = name.lower()
    for key, value in params:
        if key == wanted or key.lower() == wanted:
            return value or ""
    return None


def format_host(host: str) -> str:
    """A host for the wire: an IPv6 address gets its brackets."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def quote(text: str) -> str:
    """Write a quoted-string."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def unquote(text: str) -> str:
    """The content of a quoted-string; other text is returned as it is."""
    if len(text) >= 2 and text[0] == '"' and text[-1] == '"':
        text = text[1:-1]
        return _QUOTED_PAIR_RE.sub(r"\1", text) if "\\" in text else text
    return text


def read_param(params: str, name: str) -> str | None:
    """As `find_param`, from the text of parameters that PARAMS has matched; `name` in small letters.

    What nearly all write (no white space, nothing quoted) is read without taking the parameters apart.
    """
    if not params:
        return None
    if '"' not in params and " " not in params and "\t" not in params:
        prefix = ";" + name
        start = len(prefix)
        if not params.startswith(prefix):
            # lower() keeps places in ASCII only
            start = params.lower().find(prefix) + start if params.isascii() else -1
            if start < len(prefix):
                return None if start >= 0 else find_param(parse_params(params), name)
        follower = params[start : start + 1]
        if follower == "=":
            end = params.find(";", start)
            return params[start + 1 :] if end < 0 else params[start + 1 : end]
        if not follower or follower == ";":
            return ""
        # a longer name that begins like this one: the parameter may still come
    return find_param(parse_params(params), name)


def split_list(text: str) -> list[str]:
    """Split at commas outside of quotes and angle brackets; white space around the elements is taken off.

    Never fails: an unclosed quote or bracket goes to the end of the text. Empty elements are left out.
    """
    if "," not in text:
        return [text] if text else []
    parts: list[str] = []
    start = 0
    for match in _LIST_RE.finditer(text):
        if match[0] == ",":
            parts.append(text[start : match.start()].strip(" \t"))
            start = match.end()
    parts.append(text[start:].strip(" \t"))
    return [part for part in parts if part]


def printable(text: str) -> str:
    """Text for people and JSON: control characters and bytes that were not UTF-8 become U+FFFD."""
    return text if text.isascii() and text.isprintable() else _NOT_TEXT_RE.sub("\ufffd", text)
