"""Resource-Priority (RFC 4412): calls of emergency and government services, which nothing here may hold up."""

from __future__ import annotations

from typing import Final

from ims_as.isc.params import MAX_VALUES
from ims_as.sip.message import Message

__all__ = ["PRIORITY_NAMESPACES", "has_priority", "read_resource_priorities_untrusted"]

PRIORITY_NAMESPACES: Final = ("dsn", "drsn", "q735", "ets", "wps", "esnet", "rts", "mcpttp", "mcpttq")
"""RFC 4412 §10, RFC 7135 (esnet), RFC 8101 (mission critical push to talk); RFC 5478 adds ``-000000`` … to some."""


def read_resource_priorities_untrusted(message: Message) -> tuple[tuple[str, str], ...]:
    """(namespace, priority) of each value, in small letters; what is not of that form is left out."""
    found = []
    for value in message.headers.get_list("Resource-Priority")[:MAX_VALUES]:
        namespace, dot, priority = value.strip(" \t").lower().partition(".")
        if namespace and dot and priority:
            found.append((namespace, priority))
    return tuple(found)


def has_priority(message: Message) -> bool:
    """Whether a namespace that we know gives the request priority; unknown ones are ignored (§4.6.2)."""
    return any(
        namespace in PRIORITY_NAMESPACES or namespace.rpartition("-")[0] in PRIORITY_NAMESPACES
        for namespace, _ in read_resource_priorities_untrusted(message)
    )
