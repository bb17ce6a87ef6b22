"""Questions to name servers, by dnspython on trio."""

from __future__ import annotations

import time
from typing import Any, Final

import attrs
import dns.asyncresolver
import dns.exception
import dns.nameserver
import dns.resolver

__all__ = ["MAX_TTL_S", "DnsClient", "DnsSilentError", "NameServers", "Records"]

MAX_TTL_S: Final = 3600.0
"""However long an answer says it is good for."""
NEGATIVE_TTL_S: Final = 30.0
"""Of an answer that says no, and of none that can be used."""


class DnsSilentError(OSError):
    """No name server answers."""


@attrs.frozen
class NameServers:
    """Whom to ask. No servers: those of the system (``/etc/resolv.conf``).

    Attributes:
        servers: address and port.
        timeout_s: for one question, all servers together.
        cache: next hops, and answers, that are kept, each for its time to live; 0: none.
    """

    servers: tuple[tuple[str, int], ...] = ()
    timeout_s: float = 1.5
    cache: int = 2048


@attrs.frozen
class Records:
    """An answer.

    Attributes:
        items: none where there are none.
        ttl_s: how long it may be used.
    """

    items: tuple[Any, ...]
    ttl_s: float


class DnsClient:
    """Raises:
    OSError: there is no name server to ask.
    """

    def __init__(self, config: NameServers) -> None:
        try:
            self._resolver = dns.asyncresolver.Resolver(configure=not config.servers)
        except dns.exception.DNSException as error:
            raise OSError(f"no name server is known: {error}") from error
        if config.servers:
            self._resolver.nameservers = [dns.nameserver.Do53Nameserver(host, port) for host, port in config.servers]
        self._resolver.lifetime = config.timeout_s
        if config.cache:
            self._resolver.cache = dns.resolver.LRUCache(config.cache)

    async def ask(self, name: str, kind: str) -> Records:
        """The records of that type; none too where the answer is unusable. Safe to cancel.

        Raises:
            DnsSilentError: nobody answers.
            UnicodeError, DNSException: that cannot be a name.
        """
        try:
            answer = await self._resolver.resolve(name, kind, raise_on_no_answer=False, search=False)
        except dns.exception.Timeout as error:
            raise DnsSilentError(f"{name}: no answer from the DNS") from error
        except (dns.resolver.NXDOMAIN, dns.resolver.NoNameservers):
            return Records((), NEGATIVE_TTL_S)
        items = tuple(answer.rrset or ())
        return Records(items, min(max(answer.expiration - time.time(), 0.0), MAX_TTL_S if items else NEGATIVE_TTL_S))
