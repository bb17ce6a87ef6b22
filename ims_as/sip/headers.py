"""Header fields of a message: ordered, case-insensitive, lossless (RFC 3261 §7.3).

A key is the header's name in small letters, compact forms written out. A message from the wire comes with its text and
an index from key to values; the list of lines is only made when somebody walks or changes it, which for most messages
nobody does. From then on the list is the truth, and a change keeps the index right for the key that it touches.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from ims_as.sip.grammar import split_list

__all__ = ["COMPACT_NAMES", "Headers", "Index", "header_key", "index_again", "known_header_key"]

# RFC 3261 §7.3.3 and the IANA registry "SIP Header Fields"
COMPACT_NAMES: Final = {
    "a": "accept-contact",
    "b": "referred-by",
    "c": "content-type",
    "d": "request-disposition",
    "e": "content-encoding",
    "f": "from",
    "i": "call-id",
    "j": "reject-contact",
    "k": "supported",
    "l": "content-length",
    "m": "contact",
    "n": "identity-info",
    "o": "event",
    "r": "refer-to",
    "s": "subject",
    "t": "to",
    "u": "allow-events",
    "v": "via",
    "x": "session-expires",
    "y": "identity",
}

_COMMON_NAMES: Final = (
    "Accept", "Accept-Contact", "Accept-Encoding", "Accept-Language", "Allow", "Allow-Events", "Call-ID", "Contact",
    "Content-Disposition", "Content-Encoding", "Content-ID", "Content-Length", "Content-Type", "CSeq", "Date",
    "Event", "Expires", "Feature-Caps", "From", "Geolocation", "History-Info", "MIME-Version", "Max-Forwards",
    "Min-SE", "P-Access-Network-Info", "P-Asserted-Identity", "P-Asserted-Service", "P-Associated-URI",
    "P-Called-Party-ID", "P-Charging-Function-Addresses", "P-Charging-Vector", "P-Early-Media",
    "P-Preferred-Identity", "P-Preferred-Service", "P-Served-User", "P-Visited-Network-ID", "Path", "Priority",
    "Privacy", "Proxy-Require", "RAck", "RSeq", "Reason", "Record-Route", "Recv-Info", "Refer-To", "Referred-By",
    "Relayed-Charge", "Replaces", "Request-Disposition", "Require", "Resource-Priority", "Retry-After", "Route",
    "Server", "Service-Route", "Session-Expires", "Session-ID", "Subject", "Subscription-State", "Supported",
    "Timestamp", "To", "Unsupported", "User-Agent", "User-to-User", "Via", "WWW-Authenticate", "Warning",
)  # fmt: skip

# spelling → key for the spellings that nearly every message uses; a fixed table, so no peer can make it grow
_KEYS: Final[dict[str, str]] = {
    spelling: sys.intern(key)  # compared by identity in nearly every look-up
    for spelling, key in (
        *((name, name.lower()) for name in _COMMON_NAMES),
        *((name.lower(), name.lower()) for name in _COMMON_NAMES),
        *COMPACT_NAMES.items(),
        *((letter.upper(), name) for letter, name in COMPACT_NAMES.items()),
    )
}
known_header_key: Final[Callable[[str], str | None]] = _KEYS.get
"""The key for a spelling in common use, None for any other name; such a name needs no further check."""

Index = dict[str, str | list[str]]
"""Key → value, or values when there are several lines of it."""


def header_key(name: str) -> str:
    """The key of a header's name: small letters, compact form written out."""
    return known_header_key(name) or name.lower()


def index_again(index: Index, key: str, value: str) -> None:
    """Enter a further line of a key that the index has."""
    found = index[key]
    if isinstance(found, str):
        index[key] = [found, value]
    else:
        found.append(value)


class Headers:
    """Header lines in order. Names compare without case and with compact forms written out.

    Values hold no leading or trailing white space and no line ends; that is checked when the message is written.

    Attributes:
        typed: for `Message`: what it has read from the first line of a header, by key; a change of that header drops
            it.
    """

    __slots__ = ("_index", "_items", "_text", "typed")

    def __init__(self, items: Iterable[tuple[str, str]] = ()) -> None:
        self._items: list[tuple[str, str]] | None = list(items)
        self._index: Index | None = None
        self._text = ""
        self.typed: dict[str, Any] = {}

    @classmethod
    def from_parsed(cls, text: str, index: Index) -> Headers:
        """Headers that a parser has checked and indexed; `text` is their lines, joined by CRLF, without folding."""
        headers = cls.__new__(cls)
        headers._items = None
        headers._index = index
        headers._text = text
        headers.typed = {}
        return headers

    def indexed(self) -> Index:
        """Key → its value, or the list of them when it has several lines. The live index: to be read only, not kept."""
        index = self._index
        if index is None:
            index = self._index = {}
            for name, value in self.lines():
                key = known_header_key(name) or name.lower()
                if key in index:
                    index_again(index, key, value)
                else:
                    index[key] = value
        return index

    def compact(self) -> None:
        """Let go of all that can be made again from the text: for messages that are kept for long."""
        if self._text:
            self._items = self._index = None
        elif self._items is not None:
            self._index = None
        self.typed = {}

    def lines(self) -> list[tuple[str, str]]:
        """The list itself: to be read only."""
        items = self._items
        if items is None:
            items = self._items = [_split_line(line) for line in self._text.split("\r\n")] if self._text else []
        return items

    def _change(self, key: str) -> list[tuple[str, str]]:
        """The list itself, to be changed at lines of that key; the caller sees to the index."""
        items = self.lines()
        self._text = ""
        self.typed.pop(key, None)
        return items

    @property
    def text(self) -> str:
        """The lines as they came, joined by CRLF; "" once one has been changed, or when they were made here."""
        return self._text

    def items(self) -> list[tuple[str, str]]:
        """All lines as (name as spelt, value), a new list."""
        return list(self.lines())

    def keys(self) -> list[str]:
        """The keys (small letters, compact forms written out) in order of their first line."""
        return list(dict.fromkeys(header_key(name) for name, _ in self.lines()))

    def get(self, name: str) -> str | None:
        """Value of the first line of that name."""
        key = known_header_key(name) or name.lower()
        index = self._index
        if index is None:
            # made here and about to be written: a look at the lines costs less than an index
            for other, value in self.lines():
                if (known_header_key(other) or other.lower()) == key:
                    return value
            return None
        found = index.get(key)
        if found is None or found.__class__ is str:
            return found
        return found[0]

    def get_all(self, name: str) -> list[str]:
        """Values of all lines of that name, one per line."""
        found = self.indexed().get(known_header_key(name) or name.lower())
        if found is None:
            return []
        return [found] if isinstance(found, str) else list(found)

    def get_list(self, name: str) -> list[str]:
        """Values of all lines of that name, split at commas outside of quotes and angle brackets."""
        found = self.indexed().get(known_header_key(name) or name.lower())
        if found is None:
            return []
        if isinstance(found, str):
            return split_list(found)
        return [part for value in found for part in split_list(value)]

    def add(self, name: str, value: str) -> None:
        """Append a line."""
        key = header_key(name)
        self._change(key).append((name, value))
        index = self._index
        if index is None:
            return
        if key in index:
            index_again(index, key, value)
        else:
            index[key] = value

    def prepend(self, name: str, value: str) -> None:
        """Put a line before the first one of that name, or before all lines when there is none."""
        key = header_key(name)
        items = self._change(key)
        position = 0
        for n, (other, _) in enumerate(items):
            if other == name or header_key(other) == key:
                position = n
                break
        items.insert(position, (name, value))
        index = self._index
        if index is not None:
            found = index.get(key)
            index[key] = value if found is None else [value, *([found] if isinstance(found, str) else found)]

    def set(self, name: str, value: str) -> None:
        """Leave exactly one line of that name, in the place and spelling of the first one there was."""
        self.set_all(name, (value,))

    def set_all(self, name: str, values: Iterable[str]) -> None:
        """Leave exactly these lines of that name, in the place and spelling of the first one there was."""
        key = header_key(name)
        position = None
        kept: list[tuple[str, str]] = []
        for other, value in self._change(key):
            if header_key(other) != key:
                kept.append((other, value))
            elif position is None:
                position, name = len(kept), other
        if position is None:
            position = len(kept)
        new = list(values)
        kept[position:position] = [(name, value) for value in new]
        self._items = kept
        if self._index is not None:
            if new:
                self._index[key] = new[0] if len(new) == 1 else new
            else:
                self._index.pop(key, None)

    def remove(self, name: str) -> None:
        """Take away all lines of that name; none is fine."""
        key = header_key(name)
        if self._index is not None and self._index.pop(key, None) is None:
            return
        self._items = [item for item in self._change(key) if header_key(item[0]) != key]

    def pop_value(self, name: str) -> str | None:
        """Take the first element off a comma-separated header (Via, Route …) and return it.

        The rest of the line stays byte for byte; a line that has no other element goes.
        """
        key = header_key(name)
        items = self._change(key)
        for position, (other, value) in enumerate(items):
            if header_key(other) != key:
                continue
            parts = split_list(value)
            self._index = None
            if len(parts) > 1:
                after = value.index(parts[0]) + len(parts[0])
                items[position] = (other, value[after:].lstrip(" \t,"))
                return parts[0]
            del items[position]
            if parts:
                return parts[0]
            return self.pop_value(name)
        return None

    def replace_value(self, name: str, value: str) -> None:
        """Put a value in the place of the first element of a comma-separated header; without the header nothing."""
        line = self.get(name)
        if line is None:
            return
        parts = split_list(line)
        new = line.replace(parts[0], value, 1) if len(parts) > 1 else value
        key = header_key(name)
        prefix = f"{name}: "
        at = self._text.find(line)
        start = at - len(prefix)
        if self._items is None and self._text.startswith(prefix, max(start, 0)) and _begins_line(self._text, start):
            # the value is not met any earlier, so this is the first line of that name
            self._text = f"{self._text[:at]}{new}{self._text[at + len(line) :]}"
            self.typed.pop(key, None)
        else:
            items = self._change(key)
            for position, (other, _) in enumerate(items):
                if header_key(other) == key:
                    items[position] = (other, new)
                    break
        index = self._index
        if index is not None:
            found = index[key]
            index[key] = new if isinstance(found, str) else [new, *found[1:]]

    def copy(self) -> Headers:
        """An independent copy."""
        return Headers(self.lines())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and header_key(name) in self.indexed()

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(list(self.lines()))

    def __len__(self) -> int:
        return len(self.lines())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Headers) and self.lines() == other.lines()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Headers({self.lines()!r})"


def _begins_line(text: str, at: int) -> bool:
    return at == 0 or (at > 1 and text[at - 2 : at] == "\r\n")


def _split_line(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.rstrip(" \t"), value.strip(" \t")
