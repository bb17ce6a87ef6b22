"""Listen addresses as they are written in the configuration: ``udp:127.0.0.30:5060``, ``tls:[2001:db8::1]:5061``."""

from __future__ import annotations

import ipaddress
from typing import Self

import attrs

__all__ = ["TRANSPORTS", "ListenAddress"]

TRANSPORTS = ("udp", "tcp", "tls")


@attrs.frozen(slots=True)
class ListenAddress:
    """One local address that the endpoint binds."""

    transport: str
    """``udp``, ``tcp`` or ``tls``."""
    host: str
    """IP address without brackets."""
    port: int
    """0: the kernel chooses."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError on anything that is not ``transport:ip-address:port``."""
        transport, colon, rest = text.partition(":")
        if not colon or transport not in TRANSPORTS:
            raise ValueError(f"{text!r}: expected udp:, tcp: or tls:, then address:port")
        if rest.startswith("["):
            host, bracket, port_text = rest[1:].partition("]:")
            if not bracket:
                raise ValueError(f"{text!r}: expected [IPv6 address]:port")
            ipaddress.IPv6Address(host)
        else:
            host, _, port_text = rest.rpartition(":")
            try:
                ipaddress.IPv4Address(host)
            except ValueError as error:
                raise ValueError(f"{text!r}: expected an IPv4 address, or an IPv6 address in []") from error
        if not (port_text.isascii() and port_text.isdigit() and len(port_text) <= 5 and int(port_text) <= 65535):
            raise ValueError(f"{text!r}: expected a port number from 0 to 65535")
        return cls(transport, host, int(port_text))

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.transport}:{host}:{self.port}"
