"""The Route of a request on ISC: our own entry on top, below it the S-CSCF's with the original dialog identifier.

The ODI has no syntax of its own (a user part with one vendor, parameters with another), so what is below our entry is
opaque and kept byte for byte.  It is valid until our final response to the request that brought it, and no longer.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from ims_as.sip.message import Request

__all__ = ["IscRoute", "addressed_uri", "split_route"]


@attrs.frozen
class IscRoute:
    own: str | None
    """Our Route value, as written with its angle brackets; None when the top entry is not ours."""
    rest: tuple[str, ...]
    """The values below it, byte for byte: to be put into a request that goes back to the S-CSCF."""

    @property
    def next_hop(self) -> str | None:
        """The entry with the ODI; None when we are the last (a public service identity, or a direct request)."""
        return self.rest[0] if self.rest else None


def split_route(request: Request, is_own_uri: Callable[[str], bool]) -> IscRoute:
    """Tell our own Route entry from the rest.  Only the top one is ours to take off (RFC 3261 §16.4).

    Args:
        is_own_uri: says of a Route value whether it means this server.
    """
    routes = tuple(request.routes)
    if routes and is_own_uri(routes[0]):
        return IscRoute(routes[0], routes[1:])
    return IscRoute(None, routes)


def addressed_uri(request: Request, is_own_uri: Callable[[str], bool]) -> str | None:
    """The URI by which we were addressed: our Route entry, else the Request-URI when that is ours (a service)."""
    own = split_route(request, is_own_uri).own
    if own is not None:
        return own
    return request.uri if is_own_uri(request.uri) else None
