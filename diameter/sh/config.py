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
        other_server_names: asked for where that name brings no criteria.
        service_indication: key of our repository item.
        budget_s: what a call waits at most.
        cache_s: how long a profile with a subscription is fresh.
        subscribe: send SNR.
        poll_s: how long a profile without one is.
        negative_cache_s: how long an unknown user is not asked for again.
        background_s: deadline of SNR, PUR and patient pulls.
        max_users: profiles in the cache.
        strict: Sh-Data that deviates from the schema is an error, and no profile; False takes what can be read.
        ask_aliases: ask for the alias group as well (data reference 10), so that one profile serves all of it.
    """

    destination_realm: str
    server_name: str
    service_indication: bytes = field(converter=_octets)
    other_server_names: tuple[str, ...] = ()
    budget_s: float = 0.3
    cache_s: float = 3600.0
    subscribe: bool = True
    poll_s: float = 300.0
    negative_cache_s: float = 60.0
    background_s: float = 4.0
    max_users: int = 100_000
    strict: bool = False
    ask_aliases: bool = False


@define
class ShStats:
    """Counts since the start.

    Attributes:
        hits: profiles from the cache; users known to be unknown.
        pulls: UDRs for profiles, the parts of one counted once.
        shared: calls that waited for the pull of another one.
        stale: old profiles given because the HSS did not answer.
        unknown, timeouts, failures: how pulls ended otherwise.
        one_by_one: pulls with one request for each Data-Reference.
        subscriptions, subscriptions_failed: SNRs for profiles.
        pushes: notifications taken.
        foreign: documents about another user than the one asked for; not used.
        updates: repository items written.
        jobs_dropped: background work that found no room.
        answered: requests that the HSS answered, whatever it said.
        unanswered: requests that timed out although a peer was open, or that an agent could not deliver.
        not_permitted: answers 5102, 5103, 5104.
        pushes_refused: notifications answered with an error.
        pushes_doubtful: notifications after which the HSS was asked what it has.
        renewals: subscriptions made again before their end.
        out_of_sync: updates that somebody else was faster than.
    """

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
    foreign: int = 0
    updates: int = 0
    jobs_dropped: int = 0
    answered: int = 0
    unanswered: int = 0
    not_permitted: int = 0
    pushes_refused: int = 0
    pushes_doubtful: int = 0
    renewals: int = 0
    out_of_sync: int = 0
