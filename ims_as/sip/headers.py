"""Header fields of a message: ordered, case-insensitive, lossless (RFC 3261 §7.3).

The list of lines is the truth; an index from key to values is built when first asked for and dropped at each change.
A key is the header's name in small letters, compact forms written out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from ims_as.sip.grammar import split_list

__all__ = ["COMPACT_NAMES", "Headers", "header_key", "known_header_key"]

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
    "Accept", "Allow", "Call-ID", "Contact", "Content-Disposition", "Content-Length", "Content-Type", "CSeq",
    "Date", "Event", "Expires", "From", "History-Info", "Max-Forwards", "Min-SE", "P-Access-Network-Info",
    "P-Asserted-Identity", "P-Associated-URI", "P-Called-Party-ID", "P-Charging-Function-Addresses",
    "P-Charging-Vector", "P-Early-Media", "P-Preferred-Identity", "P-Served-User", "P-Visited-Network-ID", "Path",
    "Priority", "Privacy", "RAck", "RSeq", "Reason", "Record-Route", "Refer-To", "Referred-By",
    "Request-Disposition", "Require", "Retry-After", "Route", "Server", "Service-Route", "Session-Expires",
    "Session-ID", "Subject", "Subscription-State", "Supported", "Timestamp", "To", "Unsupported", "User-Agent",
    "User-to-User", "Via", "WWW-Authenticate", "Warning",
)  # fmt: skip

# spelling → key for the spellings that nearly every message uses; a fixed table, so no peer can make it grow
_KEYS: Final[dict[str, str]] = {
    **{name: name.lower() for name in _COMMON_NAMES},
    **{name.lower(): name.lower() for name in _COMMON_NAMES},
    **COMPACT_NAMES,
    **{name.upper(): full for name, full in COMPACT_NAMES.items()},
}
known_header_key: Final[Callable[[str], str | None]] = _KEYS.get
"""The key for a spelling in common use, None for any other name; such a name needs no further check."""


def header_key(name: str) -> str:
    """The key of a header's name: small letters, compact form written out."""
    return known_header_key(name) or name.lower()


class Headers:
    """Header lines in order. Names compare without case and with compact forms written out.

    Values hold no leading or trailing white space and no line ends; that is checked when the message is written.
    """

    __slots__ = ("_index", "_items")

    def __init__(self, items: Iterable[tuple[str, str]] = ()) -> None:
        self._items: list[tuple[str, str]] = list(items)
        self._index: dict[str, list[str]] | None = None

    @classmethod
    def from_parsed(cls, items: list[tuple[str, str]], index: dict[str, list[str]]) -> Headers:
        """Take over lists that a parser has filled; the caller must not keep them."""
        headers = cls.__new__(cls)
        headers._items = items
        headers._index = index
        return headers

    def indexed(self) -> dict[str, list[str]]:
        """Key → values of its lines. The live index: to be read only, and not kept."""
        index = self._index
        if index is None:
            index = {}
            for name, value in self._items:
                key = known_header_key(name) or name.lower()
                if key in index:
                    index[key].append(value)
                else:
                    index[key] = [value]
            self._index = index
        return index

    def items(self) -> list[tuple[str, str]]:
        """All lines as (name as spelt, value), a new list."""
        return list(self._items)

    def keys(self) -> list[str]:
        """The keys (small letters, compact forms written out) in order of their first line."""
        return list(self.indexed())

    def get(self, name: str) -> str | None:
        """Value of the first line of that name."""
        values = self.indexed().get(known_header_key(name) or name.lower())
        return values[0] if values else None

    def get_all(self, name: str) -> list[str]:
        """Values of all lines of that name, one per line."""
        return list(self.indexed().get(known_header_key(name) or name.lower(), ()))

    def get_list(self, name: str) -> list[str]:
        """Values of all lines of that name, split at commas outside of quotes and angle brackets."""
        values = self.indexed().get(known_header_key(name) or name.lower())
        if not values:
            return []
        if len(values) == 1:
            return split_list(values[0])
        return [part for value in values for part in split_list(value)]

    def add(self, name: str, value: str) -> None:
        """Append a line."""
        self._items.append((name, value))
        self._index = None

    def prepend(self, name: str, value: str) -> None:
        """Put a line before the first one of that name, or before all lines when there is none."""
        key = header_key(name)
        position = next((n for n, (other, _) in enumerate(self._items) if header_key(other) == key), 0)
        self._items.insert(position, (name, value))
        self._index = None

    def set(self, name: str, value: str) -> None:
        """Leave exactly one line of that name, in the place and spelling of the first one there was."""
        self.set_all(name, (value,))

    def set_all(self, name: str, values: Iterable[str]) -> None:
        """Leave exactly these lines of that name, in the place and spelling of the first one there was."""
        key = header_key(name)
        position = None
        kept: list[tuple[str, str]] = []
        for other, value in self._items:
            if header_key(other) != key:
                kept.append((other, value))
            elif position is None:
                position, name = len(kept), other
        if position is None:
            position = len(kept)
        kept[position:position] = [(name, value) for value in values]
        self._items = kept
        self._index = None

    def remove(self, name: str) -> None:
        """Take away all lines of that name; none is fine."""
        key = header_key(name)
        self._items = [item for item in self._items if header_key(item[0]) != key]
        self._index = None

    def remove_first(self, name: str) -> str | None:
        """Take away the first line of that name and return its value; see `pop_value` for lists."""
        key = header_key(name)
        for position, (other, value) in enumerate(self._items):
            if header_key(other) == key:
                del self._items[position]
                self._index = None
                return value
        return None

    def pop_value(self, name: str) -> str | None:
        """Take the first element off a comma-separated header (Via, Route …) and return it.

        The rest of the line stays byte for byte; a line that has no other element goes.
        """
        key = header_key(name)
        for position, (other, value) in enumerate(self._items):
            if header_key(other) != key:
                continue
            parts = split_list(value)
            self._index = None
            if len(parts) > 1:
                after = value.index(parts[0]) + len(parts[0])
                self._items[position] = (other, value[after:].lstrip(" \t,"))
                return parts[0]
            del self._items[position]
            if parts:
                return parts[0]
            return self.pop_value(name)
        return None

    def copy(self) -> Headers:
        """An independent copy."""
        return Headers(self._items)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and header_key(name) in self.indexed()

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(list(self._items))

    def __len__(self) -> int:
        return len(self._items)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Headers) and self._items == other._items

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Headers({self._items!r})"
