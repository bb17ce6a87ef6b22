"""Subscriptions that the caller has asked for, and when each one is to be made again. Sans-IO."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import count

from attrs import define

from diameter.dictionary.sh import DataReference
from diameter.errors import LocalDiameterError
from diameter.sh.data_reference import ShKeys
from diameter.sh.messages import UserIdentity
from diameter.sh.userdata import ShData

__all__ = ["RenewalQueue", "ShSubscription", "SubscriptionTable", "renewal_time"]

MAX_SUBSCRIPTIONS = 100_000

# made again when this much of the time is over, so that one lost try does no harm
_RENEW_AT = 0.8
_MIN_LIFETIME_S = 2.0


@define(eq=False)
class ShSubscription:
    """One SNR that holds.

    Attributes:
        until: monotonic seconds; inf: without limit.
        data: what came with the answer, and then the latest notification.
        is_one_time: ends with the first notification.
        lifetime_s: asked for at each renewal, None: without limit.
    """

    identity: UserIdentity
    references: tuple[DataReference, ...]
    keys: ShKeys
    until: float = float("inf")
    data: ShData | None = None
    is_one_time: bool = False
    lifetime_s: float | None = None

    def select(self, data: ShData) -> ShData:
        """What of a document is ours."""
        return data.select(
            self.references, service_indications=self.keys.service_indications, dsai_tags=self.keys.dsai_tags
        )


class SubscriptionTable:
    """The subscriptions of one client, by identity."""

    def __init__(self) -> None:
        self._by_identity: dict[UserIdentity, list[ShSubscription]] = {}
        self._n = 0

    def __len__(self) -> int:
        return self._n

    def __iter__(self) -> Iterator[ShSubscription]:
        return (each for group in self._by_identity.values() for each in group)

    def __contains__(self, subscription: ShSubscription) -> bool:
        return subscription in self._by_identity.get(subscription.identity, ())

    def add(self, subscription: ShSubscription) -> None:
        """Raises LocalDiameterError when there are too many."""
        if self._n >= MAX_SUBSCRIPTIONS:
            raise LocalDiameterError("too many subscriptions")
        self._by_identity.setdefault(subscription.identity, []).append(subscription)
        self._n += 1

    def remove(self, subscription: ShSubscription) -> None:
        """Nothing happens when it is not there."""
        group = self._by_identity.get(subscription.identity, [])
        if subscription in group:
            group.remove(subscription)
            self._n -= 1
            if not group:
                del self._by_identity[subscription.identity]

    def find(self, identity: UserIdentity) -> tuple[ShSubscription, ...]:
        """All of an identity."""
        return tuple(self._by_identity.get(identity, ()))


def renewal_time(until: float, *, now: float) -> float | None:
    """When to make a subscription again that ends at `until`; None: never, or it is too short to be worth it."""
    lifetime_s = until - now
    if lifetime_s < _MIN_LIFETIME_S or until == float("inf"):
        return None
    return now + _RENEW_AT * lifetime_s


class RenewalQueue:
    """What is due when; each thing is in it once, with its latest time."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, str | ShSubscription]] = []
        self._due: dict[str | ShSubscription, float] = {}
        self._numbers = count()

    def __len__(self) -> int:
        return len(self._due)

    def schedule(self, what: str | ShSubscription, at: float | None) -> None:
        """At that time, and no other; None: not at all."""
        if at is None:
            self._due.pop(what, None)
            return
        self._due[what] = at
        heapq.heappush(self._heap, (at, next(self._numbers), what))
        if len(self._heap) > 2 * len(self._due) + 64:
            # times that hold no more
            self._heap = [each for each in self._heap if self._due.get(each[2]) == each[0]]
            heapq.heapify(self._heap)

    def next_at(self) -> float:
        """Time of the first one, inf when there is none."""
        while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else float("inf")

    def pop_due(self, now: float) -> list[str | ShSubscription]:
        """Takes out what is due."""
        found: list[str | ShSubscription] = []
        while self.next_at() <= now:
            _, _, what = heapq.heappop(self._heap)
            del self._due[what]
            found.append(what)
        return found
