"""Where a message came from and where one is to go.

A `Destination` is what routing yields (a transport and a host, perhaps a name); a `Flow` is what the transport makes of
it (addresses, and for a stream the connection). A response goes back on the flow of its request (RFC 3261 §18.2.2).
"""

from __future__ import annotations

from typing import NamedTuple

import attrs

__all__ = ["DEFAULT_PORTS", "Destination", "Flow"]

DEFAULT_PORTS = {"UDP": 5060, "TCP": 5060, "TLS": 5061}
"""RFC 3261 §19.1.2."""


class Flow(NamedTuple):
    """A path between two addresses (a plain tuple: one is made for each datagram)."""

    transport: str
    """``UDP``, ``TCP`` or ``TLS``."""
    local: tuple[str, int]
    remote: tuple[str, int]
    connection: int | None = None
    """Number of the connection; None for datagrams."""

    @property
    def is_reliable(self) -> bool:
        return self.transport != "UDP"


@attrs.frozen(slots=True)
class Destination:
    """Next hop of a request before name resolution."""

    transport: str
    """``UDP``, ``TCP`` or ``TLS``."""
    host: str
    """IP address without brackets, or a name."""
    port: int = 0
    """0: none was given; the static table's or the transport's default applies."""
    any_transport: bool = attrs.field(default=False, eq=False)
    """The URI left the transport open, so that DNS may choose it (RFC 3263 §4.1)."""
    domain: str = attrs.field(default="", eq=False)
    """The name that was asked for, where `host` is its address: whose certificate a TLS peer must have (RFC 5922 §7.3);
    "": the host itself."""
    is_sips: bool = attrs.field(default=False, eq=False)
    """Of a sips: URI: nothing but TLS will do, and our Contact is sips: too."""
