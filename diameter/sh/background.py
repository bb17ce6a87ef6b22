"""Off the call path: subscriptions of profiles, their renewal, and second tries (trio).

Where SNR is not answered it is left alone for a while and profiles are polled instead; where the HSS refuses some data
to be notified, less is asked for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import Enum

import trio

from diameter.dictionary.sh import DataReference
from diameter.sh.cache import ProfileCache
from diameter.sh.config import ShConfig, ShStats
from diameter.sh.data_reference import ShKeys
from diameter.sh.errors import (
    ShDataAbsentError,
    ShError,
    ShNoPeerError,
    ShRefusedError,
    ShTimeoutError,
    ShUserUnknownError,
)
from diameter.sh.exchange import ShExchange
from diameter.sh.messages import UserIdentity
from diameter.sh.puller import HSS_MEMORY_S, keys_for
from diameter.sh.subscriptions import RenewalQueue, ShSubscription, SubscriptionTable, renewal_time
from diameter.sh.userdata import ShData

__all__ = ["SUBSCRIBED", "Job", "ShBackground"]

# all-or-nothing in one SNR; where the first set is refused, less is worth having too
SUBSCRIBED = (
    (
        DataReference.REPOSITORY_DATA,
        DataReference.INITIAL_FILTER_CRITERIA,
        DataReference.IMS_USER_STATE,
        DataReference.S_CSCF_NAME,
    ),
    (DataReference.REPOSITORY_DATA, DataReference.IMS_USER_STATE),
    (DataReference.REPOSITORY_DATA,),
)

# jobs that wait; more are dropped, they only make profiles fresher
_MAX_JOBS = 10_000
_N_WORKERS = 4
_NO_PEER_RETRY_S = 5.0


class Job(Enum):
    """Work that can wait."""

    SUBSCRIBE = "subscribe"
    REFRESH = "refresh"


class ShBackground:
    """Subscribes, renews and refreshes.

    Args:
        refresh: pulls the profile of a key, patiently.
        apply: takes what an SNA told of a key.
        wall: Unix seconds, for Expiry-Time.
    """

    def __init__(
        self,
        exchange: ShExchange,
        cache: ProfileCache,
        config: ShConfig,
        stats: ShStats,
        *,
        refresh: Callable[[str], Awaitable[object]],
        apply: Callable[[str, ShData], None],
        wall: Callable[[], float],
    ) -> None:
        self._exchange = exchange
        self._cache = cache
        self._config = config
        self._stats = stats
        self._refresh = refresh
        self._apply = apply
        self._wall = wall
        self._keys = ShKeys(service_indications=[config.service_indication], server_name=config.server_name)
        self._no_subscribing_until = float("-inf")
        self._first_set = 0
        self._first_set_until = float("-inf")
        self._queued: set[tuple[Job, str]] = set()
        self._jobs, self._work = trio.open_memory_channel[tuple[Job, str]](_MAX_JOBS)
        self.table = SubscriptionTable()
        self._renewals = RenewalQueue()
        self._rescheduled = trio.Event()

    def enqueue(self, job: Job, key: str) -> None:
        """Soon, once; dropped when too much waits."""
        if (job, key) in self._queued:
            return
        try:
            self._jobs.send_nowait((job, key))
        except trio.WouldBlock:
            self._stats.jobs_dropped += 1
        else:
            self._queued.add((job, key))

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Works until cancelled."""
        async with trio.open_nursery() as nursery:
            for _ in range(_N_WORKERS):
                nursery.start_soon(self._run_jobs)
            nursery.start_soon(self._run_renewals)
            task_status.started()

    async def _run_jobs(self) -> None:
        while True:
            job, key = await self._work.receive()
            self._queued.discard((job, key))
            try:
                if job is Job.SUBSCRIBE:
                    await self._subscribe_profile(key)
                else:
                    await self._refresh(key)
            except ShError as error:
                if isinstance(error, ShTimeoutError):
                    self._stats.timeouts += 1
                elif not isinstance(error, ShUserUnknownError):
                    self._stats.failures += 1

    # profiles

    async def _subscribe_profile(self, key: str) -> None:
        now = trio.current_time()
        profile = self._cache.find(key)
        if profile is None or now < self._no_subscribing_until:
            return
        identity = UserIdentity(public_identity=profile.impu)
        first = self._first_set if now < self._first_set_until else 0
        for number, references in enumerate(SUBSCRIBED[first:], first):
            keys = keys_for(self._keys.with_wildcard(profile.wildcard), references)
            deadline = trio.current_time() + self._config.background_s
            try:
                answer = await self._exchange.subscribe(identity, references, keys, deadline)
            except ShTimeoutError:
                self._no_subscribing_until = trio.current_time() + HSS_MEMORY_S
                break
            except ShDataAbsentError:
                break  # no item yet, so no notification of the first one: poll
            except ShRefusedError:
                continue
            except ShError:
                break
            if number != first:
                self._first_set, self._first_set_until = number, trio.current_time() + HSS_MEMORY_S
            self._stats.subscriptions += 1
            until = self._monotonic(answer.until)
            self._cache.store_subscription(key, until=until)
            self._schedule(key, until)
            if answer.data is not None:
                self._apply(key, answer.data)
            return
        self._stats.subscriptions_failed += 1

    # subscriptions of the caller

    async def subscribe(self, subscription: ShSubscription) -> None:
        """SNR; it is renewed from then on. Raises ShError, LocalDiameterError."""
        await self._send(subscription)
        if subscription not in self.table:
            self.table.add(subscription)

    async def unsubscribe(self, subscription: ShSubscription) -> None:
        """Ends it, here whatever the HSS says. Raises ShError."""
        self.forget(subscription)
        deadline = trio.current_time() + self._config.background_s
        await self._exchange.subscribe(
            subscription.identity, subscription.references, subscription.keys, deadline, is_end=True
        )

    def forget(self, subscription: ShSubscription) -> None:
        """It has ended."""
        self.table.remove(subscription)
        self._renewals.schedule(subscription, None)

    def remake_all(self) -> None:
        """The HSS has lost its state: all of the caller's again."""
        now = trio.current_time()
        for subscription in self.table:
            self._renewals.schedule(subscription, now)
        self._rescheduled.set()

    async def _send(self, subscription: ShSubscription) -> None:
        config = self._config
        lifetime_s = subscription.lifetime_s
        answer = await self._exchange.subscribe(
            subscription.identity,
            subscription.references,
            subscription.keys,
            trio.current_time() + config.background_s,
            expiry_time=None if lifetime_s is None else int(self._wall() + lifetime_s),
            is_one_time=subscription.is_one_time,
        )
        subscription.until = self._monotonic(answer.until)
        if answer.data is not None:
            subscription.data = answer.data
        self._schedule(subscription, subscription.until)

    # renewal

    async def _run_renewals(self) -> None:
        while True:
            self._rescheduled = trio.Event()
            with trio.move_on_at(self._renewals.next_at()):
                await self._rescheduled.wait()
            for what in self._renewals.pop_due(trio.current_time()):
                if isinstance(what, str):
                    if self._cache.is_used(what):
                        self._stats.renewals += 1
                        self.enqueue(Job.SUBSCRIBE, what)
                else:
                    await self._renew(what)

    async def _renew(self, subscription: ShSubscription) -> None:
        self._stats.renewals += 1
        try:
            await self._send(subscription)
        except ShNoPeerError:
            self._renewals.schedule(subscription, trio.current_time() + _NO_PEER_RETRY_S)
        except ShError:
            # there is time for more tries until it ends; after that as often as profiles are polled
            now = trio.current_time()
            self._renewals.schedule(
                subscription, renewal_time(subscription.until, now=now) or now + self._config.poll_s
            )

    def _schedule(self, what: str | ShSubscription, until: float) -> None:
        self._renewals.schedule(what, renewal_time(until, now=trio.current_time()))
        self._rescheduled.set()

    def _monotonic(self, unix_s: int | None) -> float:
        return float("inf") if unix_s is None else trio.current_time() + unix_s - self._wall()
