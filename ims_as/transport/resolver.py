"""From a next hop to an address.

Three steps, the first that knows wins: IP literals and the static table (both at once, no waiting), then the system's
resolver. The selection of RFC 3263 (NAPTR, SRV, failover between addresses) belongs into `Resolver.look_up`, which
nobody else knows the inside of.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping
from typing import Final

import trio

from ims_as.sip.flow import DEFAULT_PORTS, Destination

__all__ = ["LOOK_UP_DEADLINE_S", "Resolver", "is_ip_address"]

LOOK_UP_DEADLINE_S: Final = 5.0
"""A name that takes longer is of no use to a call set-up (an S-CSCF waits 2 to 5 s for us)."""


def is_ip_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class Resolver:
    """Names to addresses.

    Args:
        hosts: static names (in any case) to address and port; the port serves where the URI has none.
    """

    def __init__(self, hosts: Mapping[str, tuple[str, int]]) -> None:
        self._hosts = {name.lower().rstrip("."): address for name, address in hosts.items()}

    def known(self, destination: Destination) -> tuple[str, int] | None:
        """Address and port if no waiting is needed, else None."""
        host, port = destination.host, destination.port
        static = self._hosts.get(host.lower().rstrip("."))
        if static is not None:
            return static[0], port or static[1]
        if is_ip_address(host):
            return host, port or DEFAULT_PORTS[destination.transport]
        return None

    async def look_up(self, destination: Destination) -> Destination:
        """Ask the system's resolver. Safe to cancel.

        Raises:
            OSError: the name has no address, or not within `LOOK_UP_DEADLINE_S`.
        """
        kind = socket.SOCK_DGRAM if destination.transport == "UDP" else socket.SOCK_STREAM
        port = destination.port or DEFAULT_PORTS[destination.transport]
        try:
            with trio.fail_after(LOOK_UP_DEADLINE_S):
                found = await trio.socket.getaddrinfo(destination.host, port, type=kind)
        except trio.TooSlowError as error:
            raise OSError(f"{destination.host}: no answer from the resolver") from error
        except UnicodeError as error:  # a label that IDNA cannot encode
            raise OSError(f"{destination.host}: not a host name") from error
        if not found:
            raise OSError(f"{destination.host}: no address")
        address = found[0][4]
        return Destination(destination.transport, str(address[0]), int(address[1]))
