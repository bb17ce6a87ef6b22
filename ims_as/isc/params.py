"""Header parameters read with patience: what cannot be read is left out, nothing raises.

The headers of this package are written by many stacks and are read for their meaning, not to be sent on (that is done
byte for byte), so one bad parameter must not hide the good ones.
"""

from __future__ import annotations

from typing import Final

from ims_as.sip.errors import SipParseError
from ims_as.sip.grammar import TOKEN_RE, Params, parse_params, quote, unquote
from ims_as.sip.header_types import NameAddr, parse_name_addr
from ims_as.sip.message import Message

__all__ = ["MAX_VALUES", "param_value", "read_addresses_untrusted", "read_params_untrusted", "written"]

MAX_VALUES: Final = 32
"""Elements that are looked at of one list header."""
MAX_TEXT_CHARS: Final = 4096


def read_params_untrusted(text: str) -> Params:
    """Read ``name=value;flag`` with or without a ";" in front; values as spelt, quotes included."""
    text = text[:MAX_TEXT_CHARS].strip(" \t;")
    if not text:
        return ()
    try:
        return parse_params(f";{text}")
    except SipParseError:
        pass
    params = []
    for part in text.split(";")[:MAX_VALUES]:
        name, equals, value = part.partition("=")
        name = name.strip(" \t")
        if TOKEN_RE.fullmatch(name):
            params.append((name, value.strip(" \t") if equals else None))
    return tuple(params)


def param_value(text: str | None) -> str:
    """A value without its quotes; "" for a flag."""
    return unquote(text) if text else ""


def written(value: str) -> str:
    """A value as it may stand in a header: a token as it is, anything else quoted."""
    return value if TOKEN_RE.fullmatch(value) else quote(value)


def read_addresses_untrusted(message: Message, name: str) -> list[NameAddr]:
    """The readable addresses of a list header, in order; "*" is none."""
    found = []
    for value in message.headers.get_list(name)[:MAX_VALUES]:
        if value == "*":
            continue
        try:
            found.append(parse_name_addr(value))
        except SipParseError:
            continue
    return found
