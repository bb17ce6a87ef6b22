"""What the criteria may ask of a request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import attrs

from ifc.model import RegistrationType, SessionCase

__all__ = ["PlainRequestView", "RequestView", "SessionCase", "request_uri_target"]


class RequestView(Protocol):
    """An initial request as service point triggers see it (TS 29.228 Annexes B and F)."""

    @property
    def method(self) -> str: ...

    @property
    def request_uri(self) -> str:
        """As received, with scheme and parameters."""

    def header_values(self, name_lower: str) -> Sequence[str]:
        """Values of the header with this full name in lower case, one per element of a comma-separated list, white
        space normalised; empty when the header is absent, ``("",)`` when it is there without value."""

    @property
    def values_read(self) -> Mapping[str, Sequence[str]]:
        """Some of what `header_values` answers, such as what it was asked before; may grow."""

    def header_names(self) -> tuple[str, ...]:
        """Full names of the headers that are there, each once; `header_values` finds them in lower case."""

    def headers(self) -> Iterable[tuple[str, Sequence[str]]]:
        """(full name, values as above), each name once."""

    def sdp_lines(self) -> Sequence[tuple[str, str]]:
        """(type letter, value) of each line of the session description; empty without one."""

    @property
    def session_case(self) -> SessionCase | None: ...

    @property
    def registration_type(self) -> RegistrationType | None:
        """None for anything but REGISTER."""


@attrs.frozen
class PlainRequestView:
    """A request given by its parts, for tools and tests; they must not change while the view is in use."""

    method: str
    request_uri: str
    session_case: SessionCase | None = None
    header_map: Mapping[str, Sequence[str]] = attrs.field(factory=dict)
    """Name as spelled → values."""
    sdp: Sequence[tuple[str, str]] = ()
    registration_type: RegistrationType | None = None
    _names: tuple[str, ...] = attrs.field(init=False, eq=False, repr=False)
    _values: dict[str, Sequence[str]] = attrs.field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        values: dict[str, Sequence[str]] = {}
        names: list[str] = []
        for name, each in self.header_map.items():
            key = name.lower()
            if key in values:
                values[key] = (*values[key], *each)
            else:
                values[key] = each
                names.append(name)
        object.__setattr__(self, "_names", tuple(names))
        object.__setattr__(self, "_values", values)

    def header_values(self, name_lower: str) -> Sequence[str]:
        return self._values.get(name_lower, ())

    @property
    def values_read(self) -> Mapping[str, Sequence[str]]:
        return self._values

    def header_names(self) -> tuple[str, ...]:
        return self._names

    def headers(self) -> Iterable[tuple[str, Sequence[str]]]:
        return ((name, self._values[name.lower()]) for name in self._names)

    def sdp_lines(self) -> Sequence[tuple[str, str]]:
        return self.sdp


def request_uri_target(uri: str) -> str:
    """The part of a Request-URI that a RequestURI pattern is tested on.

    hostport of a SIP URI, telephone-subscriber (parameters included, RFC 3966) of a tel URI.  For other schemes the
    specification says nothing; like Sprout we take the text after the scheme, so that ``service:sos`` can be found.
    """
    scheme, colon, rest = uri.partition(":")
    if not colon:
        return uri
    if scheme.lower() not in ("sip", "sips"):
        return rest
    # a user part may hold ; and ? but no unescaped @ (RFC 3261 §25.1)
    hostport = rest.rpartition("@")[2]
    return hostport.partition("?")[0].partition(";")[0]
