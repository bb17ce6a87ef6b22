"""Profiles as the HSS has told them: freshness, pushes, bounds. Sans-IO; `now` is any monotonic clock in seconds.

A profile that the HSS keeps up to date by PNR stays fresh for `cache_s`; without a subscription it is asked again
after `poll_s`. One that is in doubt (a notification that does not fit) is not fresh at all, but better than none.
Identities that the HSS does not know are kept apart, so that a flood of made-up numbers cannot push real users out.
Subscriptions count only within one epoch: when the HSS has lost its state, all are void at once.

The key of a profile is the identity that was asked for, or the wildcarded one that it falls under; its alias group
leads to it as well.
"""

from __future__ import annotations

from collections import OrderedDict

from attrs import define

from diameter.sh.profile import ShProfile, build_profile, merge_profile, merge_push
from diameter.sh.repository import next_sequence_number

__all__ = ["ProfileCache", "ShProfile", "build_profile", "merge_profile", "merge_push", "next_sequence_number"]

# no notification is later than this
SETTLING_S = 60.0


@define
class _Entry:
    profile: ShProfile
    subscribed_until: float = float("-inf")
    epoch: int = 0
    is_doubtful: bool = False
    unsettled_until: float = float("-inf")
    is_used: bool = False
    names: tuple[str, ...] = ()


class ProfileCache:
    """The profiles of one client, the least recently used one goes first.

    Args:
        cache_s: how long a subscribed profile is fresh.
        poll_s: how long any other is.
        negative_s: how long an unknown identity is remembered.
        max_users: profiles kept; unknown identities get a tenth of it.
    """

    def __init__(self, *, cache_s: float, poll_s: float, negative_s: float, max_users: int) -> None:
        self._cache_s = cache_s
        self._poll_s = min(poll_s, cache_s)
        self._negative_s = negative_s
        self._max_users = max_users
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._key_of: dict[str, str] = {}
        self._unknown: OrderedDict[str, float] = OrderedDict()
        self._epoch = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def n_unknown(self) -> int:
        """Identities remembered as unknown."""
        return len(self._unknown)

    @property
    def n_names(self) -> int:
        """Further identities that lead to a profile."""
        return len(self._key_of)

    def key_of(self, identity: str) -> str:
        """The key that an identity leads to: itself, or that of the profile which it shares."""
        return identity if identity in self._entries else self._key_of.get(identity, identity)

    def find(self, impu: str) -> ShProfile | None:
        """The profile, fresh or not."""
        entry = self._find(impu)
        return None if entry is None else entry.profile

    def find_fresh(self, impu: str, *, now: float) -> ShProfile | None:
        """The profile if it need not be asked for."""
        entry = self._entries.get(impu)
        if entry is None:
            if impu not in self._key_of:
                return None
            impu = self._key_of[impu]
            entry = self._entries[impu]
        is_subscribed = self._is_subscribed(entry, now)
        if not is_subscribed and entry.subscribed_until > now:
            return None  # the HSS has lost our subscription, and we may have missed something
        lifetime_s = self._cache_s if is_subscribed else self._poll_s
        if entry.is_doubtful or now - entry.profile.fetched_at >= lifetime_s:
            return None
        entry.is_used = True
        self._entries.move_to_end(impu)
        return entry.profile

    def is_unknown(self, impu: str, *, now: float) -> bool:
        """True while the HSS's word that it does not know the identity still counts."""
        until = self._unknown.get(impu)
        return until is not None and now < until

    def is_subscribed(self, impu: str, *, now: float) -> bool:
        """True when the HSS tells us of changes."""
        entry = self._find(impu)
        return entry is not None and self._is_subscribed(entry, now)

    def store(self, profile: ShProfile, *, key: str | None = None, is_pulled: bool = True) -> None:
        """A profile under its key (default: its identity); a subscription stays.

        Args:
            is_pulled: the HSS was asked, so doubts are settled.
        """
        key = profile.impu if key is None else key
        self._unknown.pop(key, None)
        entry = self._entries.get(key)
        if entry is None:
            # an alias of another one until now: it has a profile of its own
            self._key_of.pop(key, None)
            entry = self._entries[key] = _Entry(profile)
            if len(self._entries) > self._max_users:
                self._drop(next(iter(self._entries)))
        else:
            entry.profile = profile
            if is_pulled:
                entry.is_doubtful = False
                if entry.epoch != self._epoch:
                    entry.subscribed_until = float("-inf")
            self._entries.move_to_end(key)
        self._name(key, entry)

    def store_unknown(self, impu: str, *, now: float) -> None:
        """The HSS does not know the identity; a profile of it is void."""
        self._drop(impu)
        self._unknown[impu] = now + self._negative_s
        self._unknown.move_to_end(impu)
        if len(self._unknown) > max(1, self._max_users // 10):
            self._unknown.popitem(last=False)

    def store_subscription(self, impu: str, *, until: float) -> None:
        """The HSS will notify us until then (inf: without limit)."""
        entry = self._find(impu)
        if entry is not None:
            entry.subscribed_until, entry.epoch, entry.is_used = until, self._epoch, False

    def end_subscription(self, impu: str) -> None:
        """The HSS will not notify us any more."""
        entry = self._find(impu)
        if entry is not None:
            entry.subscribed_until = float("-inf")

    def is_used(self, impu: str) -> bool:
        """True when somebody has wanted the profile since it was subscribed."""
        entry = self._entries.get(impu)
        return entry is not None and entry.is_used

    def doubt(self, impu: str) -> None:
        """The profile may not be what the HSS has."""
        entry = self._find(impu)
        if entry is not None:
            entry.is_doubtful = True

    def unsettle(self, impu: str, *, now: float) -> None:
        """Notifications about the user's item cannot be told apart by their numbers for a while."""
        entry = self._find(impu)
        if entry is not None:
            entry.unsettled_until = now + SETTLING_S

    def is_unsettled(self, impu: str, *, now: float) -> bool:
        """True for that while: whatever is notified, the HSS should be asked."""
        entry = self._entries.get(impu)
        return entry is not None and now < entry.unsettled_until

    def forget(self, impu: str) -> None:
        """The identity is gone."""
        self._drop(impu)

    def void_subscriptions(self) -> None:
        """The HSS has lost its state."""
        self._epoch += 1

    def _find(self, impu: str) -> _Entry | None:
        key = self.key_of(impu)
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
        return entry

    def _name(self, key: str, entry: _Entry) -> None:
        """The alias group, and the identity where the key is a wildcard, lead to the entry."""
        profile = entry.profile
        names = profile.alias_group if key == profile.impu else (profile.impu, *profile.alias_group)
        if names or entry.names:
            self._unname(key, entry)
            entry.names = names = tuple(n for n in names if n not in self._entries and n not in self._key_of)
            self._key_of.update(dict.fromkeys(names, key))

    def _unname(self, key: str, entry: _Entry) -> None:
        for each in entry.names:
            if self._key_of.get(each) == key:
                del self._key_of[each]
        entry.names = ()

    def _drop(self, key: str) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._unname(key, entry)

    def _is_subscribed(self, entry: _Entry, now: float) -> bool:
        return entry.epoch == self._epoch and entry.subscribed_until > now
