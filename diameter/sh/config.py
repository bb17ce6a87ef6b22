"""Settings and counts of the Sh client."""

from __future__ import annotations

from attrs import define, field, frozen

__all__ = ["ShConfig", "ShStats"]


def _octets(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


@frozen(kw_only=True)
class ShConfig:
    """How to use Sh.

    Attributes:
        destination_realm: realm of the HSS.
        server_name: our AS name as in the iFCs (data reference 13).
        service_indication: key of our repository item.
        budget_s: what a call waits at most.
        cache_s: how long a profile with a subscription is fresh.
        subscribe: send SNR.
        poll_s: how long a profile without one is.
        negative_cache_s: how long an unknown user is not asked for again.
        background_s: deadline of SNR, PUR and patient pulls.
        max_users: profiles in the cache.
    """

    destination_realm: str
    server_name: str
    service_indication: bytes = field(converter=_octets)
    budget_s: float = 0.3
    cache_s: float = 3600.0
    subscribe: bool = True
    poll_s: float = 300.0
    negative_cache_s: float = 60.0
    background_s: float = 4.0
    max_users: int = 100_000


@define
class ShStats:
    """Counts since the start."""

    hits: int = 0
    pulls: int = 0
    shared: int = 0
    stale: int = 0
    unknown: int = 0
    timeouts: int = 0
    failures: int = 0
    one_by_one: int = 0
    subscriptions: int = 0
    subscriptions_failed: int = 0
    pushes: int = 0
    updates: int = 0
    jobs_dropped: int = 0
    answered: int = 0
    """Requests that the HSS answered, whatever it said."""
    unanswered: int = 0
    """Requests that timed out although a peer was open, or that an agent could not deliver."""
