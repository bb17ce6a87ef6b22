"""The kinds of single values that a configuration is made of, and how fields say what is allowed."""

from __future__ import annotations

from typing import Any, NamedTuple

import attrs

__all__ = ["HostPort", "PeerAddress", "PortRange", "Secret", "bounded", "bounds_of", "one_of"]


class HostPort(NamedTuple):
    """An address on the network; written ``host:port``, IPv6 in []."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class PeerAddress(NamedTuple):
    """Where a Diameter peer listens; written ``tcp:host:port``."""

    transport: str
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.transport}:{HostPort(self.host, self.port)}"


class PortRange(NamedTuple):
    """UDP ports, both ends included; written ``first-last``."""

    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"


@attrs.frozen
class Secret:
    """A secret; it comes from a file or the environment, never from the configuration itself."""

    kind: str
    """``file`` or ``env``."""
    name: str
    """Path of the file or name of the variable."""
    value: str = attrs.field(repr=False)
    """The secret itself; never printed."""


def bounded(default: Any, low: float, high: float) -> Any:
    return attrs.field(default=default, metadata={"bounds": (low, high)})


def one_of(default: Any, choices: tuple[Any, ...]) -> Any:
    return attrs.field(default=default, metadata={"choices": choices})


def bounds_of(attribute: attrs.Attribute[Any]) -> tuple[float, float] | None:
    """Least and greatest value allowed for a number, None: any."""
    bounds: tuple[float, float] | None = attribute.metadata.get("bounds")
    return bounds
