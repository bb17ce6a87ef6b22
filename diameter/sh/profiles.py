"""Served users' profiles on the call path: the cache, and one pull for all who wait for it (trio).

Never slower than the budget: when the HSS is silent or refuses, the last known profile is used, however old.
"""

from __future__ import annotations

from collections.abc import Iterable

import trio
from attrs import define, field, frozen

from diameter.dictionary.sh import DataReference, IdentitySet
from diameter.sh.background import Job, ShBackground
from diameter.sh.cache import ProfileCache
from diameter.sh.config import ShConfig, ShStats
from diameter.sh.data_reference import ShKeys
from diameter.sh.errors import ShError, ShRefusedError, ShTimeoutError, ShUserUnknownError
from diameter.sh.exchange import PullAnswer
from diameter.sh.messages import UserIdentity
from diameter.sh.other_names import OtherNames
from diameter.sh.profile import ShProfile, build_profile, merge_push
from diameter.sh.puller import ShPuller
from diameter.sh.userdata import ShData

__all__ = ["PUSHED", "ShProfiles", "Target"]

PULLED = (
    DataReference.REPOSITORY_DATA,
    DataReference.INITIAL_FILTER_CRITERIA,
    DataReference.IMS_USER_STATE,
    DataReference.S_CSCF_NAME,
)
# what a notification may tell of a profile
PUSHED = (*PULLED, DataReference.IMS_PUBLIC_IDENTITY)


@frozen
class Target:
    """Whom to ask for: the identities that may lead to the user, and the wildcard that they fall under."""

    key: str
    identities: tuple[str, ...]
    wildcard: str | None


@define(eq=False)
class _Flight:
    """One pull under way and those who wait for it."""

    done: trio.Event = field(factory=trio.Event)
    profile: ShProfile | None = None
    error: ShError | None = None
    pushes: list[ShData] = field(factory=list)


class ShProfiles:
    """The profiles of one client.

    Attributes:
        cache: what is known.
    """

    def __init__(self, puller: ShPuller, config: ShConfig, stats: ShStats) -> None:
        self._puller = puller
        self._config = config
        self._stats = stats
        self.cache = ProfileCache(
            cache_s=config.cache_s,
            poll_s=config.poll_s,
            negative_s=config.negative_cache_s,
            max_users=config.max_users,
        )
        identity_sets: tuple[int, ...] = (IdentitySet.ALIAS_IDENTITIES,) if config.ask_aliases else ()
        self._keys = ShKeys(
            service_indications=[config.service_indication],
            server_name=config.server_name,
            identity_sets=identity_sets,
        )
        self._references = PUSHED if config.ask_aliases else PULLED
        self._other_names = OtherNames(puller, config.other_server_names)
        self._flights: dict[str, _Flight] = {}
        self._late: dict[str, Target] = {}
        self._background: ShBackground | None = None

    def connect(self, background: ShBackground) -> None:
        """Where work that can wait goes."""
        self._background = background

    async def fetch(self, impu: str, *, wildcard: str | None = None, others: Iterable[str] = ()) -> ShProfile:
        """The profile: fresh, else pulled, else the last known one. Returns or raises within the budget.

        Safe to cancel: others who wait for the same user go on.

        Args:
            wildcard: the wildcarded PSI or IMPU that `impu` falls under (P-Profile-Key): all that do share one profile.
            others: further identities of the same user, asked for where the HSS does not know `impu`; sip: first.

        Raises:
            ShUserUnknownError: the HSS does not know the user (or said so lately).
            ShError: no profile at all: ShTimeoutError, ShNoPeerError, ShRefusedError, ShAnswerError.
        """
        now = trio.current_time()
        profile = self.cache.find_fresh(wildcard or impu, now=now)
        if profile is not None:
            self._stats.hits += 1
            return profile
        target = self.target(impu, wildcard, others)
        if self.cache.is_unknown(target.key, now=now):
            self._stats.hits += 1
            raise ShUserUnknownError("the HSS does not know the user")
        deadline = now + self._config.budget_s
        try:
            profile = await self._fetch_shared(target, deadline)
        except ShUserUnknownError:
            self._stats.unknown += 1
            raise
        except ShError as error:
            self._count_failure(error)
            if isinstance(error, ShTimeoutError):
                self._try_later(target)
            stale = self.cache.find(target.key)
            if stale is None:
                raise
            self._stats.stale += 1
            return stale
        return profile

    def target(self, impu: str, wildcard: str | None, others: Iterable[str] = ()) -> Target:
        """Asked for by the identity that the HSS knew last time; sip: before tel:, which some HSSes do not know."""
        key = self.cache.key_of(wildcard or impu)
        profile = self.cache.find(key)
        if profile is not None:
            return Target(key, (profile.impu,), profile.wildcard)
        if not others:
            return Target(key, (impu,), wildcard)
        identities = sorted(dict.fromkeys((impu, *others)), key=lambda each: not each.startswith("sip"))
        return Target(key, tuple(identities), wildcard)

    async def _fetch_shared(self, target: Target, deadline: float) -> ShProfile:
        while True:
            flight = self._flights.get(target.key)
            if flight is None:
                return await self._fly(target, deadline)
            self._stats.shared += 1
            with trio.move_on_at(deadline):
                await flight.done.wait()
            if flight.profile is not None:
                return flight.profile
            if flight.error is not None:
                raise _renewed(flight.error)
            if not flight.done.is_set():
                raise ShTimeoutError("the HSS did not answer within the budget")
            # whoever led the flight was cancelled: somebody else has to

    async def _fly(self, target: Target, deadline: float) -> ShProfile:
        key, service_indication = target.key, self._config.service_indication
        flight = self._flights[key] = _Flight()
        try:
            impu, answer = await self._pull_profile(target, deadline)
            now = trio.current_time()
            wildcard = target.wildcard or answer.wildcard
            profile = build_profile(
                impu, answer.data, service_indication=service_indication, now=now, wildcard=wildcard
            )
            is_doubtful = False
            for push in flight.pushes:
                # the answer may be older than what came meanwhile
                profile, verdict = merge_push(profile, push, service_indication=service_indication)
                is_doubtful |= verdict.is_doubtful or impu in push.deleted_identities
            self.cache.store(profile, key=key)
            flight.profile = profile
        except ShError as error:
            flight.error = error
            if isinstance(error, ShUserUnknownError):
                self.cache.store_unknown(key, now=trio.current_time())
            raise
        finally:
            del self._flights[key]
            flight.done.set()
        if is_doubtful:
            self.doubt(key)
        if self._config.subscribe and not self.cache.is_subscribed(key, now=now):
            self._enqueue(Job.SUBSCRIBE, key)
        return profile

    async def _pull_profile(self, target: Target, deadline: float) -> tuple[str, PullAnswer]:
        """The identity that the HSS knows, and what it says."""
        keys = self._keys.with_wildcard(target.wildcard)
        self._stats.pulls += 1
        for number, impu in enumerate(target.identities, 1):
            try:
                answer = await self._puller.pull(UserIdentity(impu), self._references, keys, deadline)
            except ShUserUnknownError:
                if number == len(target.identities):
                    raise
            else:
                return impu, await self._other_names.complete(answer, impu, keys, deadline)
        raise LookupError("a target has an identity")

    def _try_later(self, target: Target) -> None:
        if len(self._late) < self._config.max_users:
            self._late[target.key] = target
            self._enqueue(Job.REFRESH, target.key)

    async def refresh(self, key: str) -> None:
        target = self._late.pop(key, None) or self.target(key, None)
        await self._fetch_shared(target, trio.current_time() + self._config.background_s)

    def is_held(self, key: str) -> bool:
        return key in self._flights or self.cache.find(key) is not None

    def hear(self, key: str, data: ShData, *, is_push: bool = False) -> None:
        """Changes the profile by what the HSS has told, asked or not."""
        flight = self._flights.get(key)
        if flight is not None:
            # the answer under way may be older than this
            flight.pushes.append(data)
        profile = self.cache.find(key)
        if profile is None:
            return
        if profile.impu in data.deleted_identities:
            self.cache.forget(key)
            return
        service_indication = self._config.service_indication
        now = trio.current_time()
        merged, verdict = merge_push(profile, data, service_indication=service_indication)
        has_item = data.find_repository(service_indication) is not None
        is_doubtful = verdict.is_doubtful
        if is_push:
            is_doubtful |= has_item and self.cache.is_unsettled(key, now=now)
        elif verdict.applies:
            is_doubtful = False  # we have just asked
        self.cache.store(merged, key=key, is_pulled=False)
        if verdict.is_unsettling:
            self.cache.unsettle(key, now=now)
        if is_push and has_item and merged.sequence is None:
            self.cache.end_subscription(key)  # a deleted item takes it along (TS 29.328 §6.1.4)
        if is_doubtful:
            self.doubt(key)

    def doubt(self, key: str) -> None:
        """Not to be used without asking; asked soon, call or not."""
        self._stats.pushes_doubtful += 1
        self.cache.doubt(key)
        self._enqueue(Job.REFRESH, key)

    def _enqueue(self, job: Job, key: str) -> None:
        if self._background is not None:
            self._background.enqueue(job, key)

    def _count_failure(self, error: ShError) -> None:
        if isinstance(error, ShTimeoutError):
            self._stats.timeouts += 1
        else:
            self._stats.failures += 1


def _renewed(error: ShError) -> ShError:
    """The same error for another task, so that tracebacks do not pile up in one object."""
    return error.renewed() if isinstance(error, ShRefusedError) else type(error)(*error.args)
