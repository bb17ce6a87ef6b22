"""Profiles as the HSS has told them: freshness, pushes, bounds. Sans-IO; `now` is any monotonic clock in seconds.

A profile that the HSS keeps up to date by PNR stays fresh for `cache_s`; without a subscription it is asked again
after `poll_s`. Identities that the HSS does not know are kept apart, so that a flood of made-up numbers cannot push
real users out. Subscriptions count only within one epoch: when the HSS has lost its state, all are void at once.
"""

from __future__ import annotations

from collections import OrderedDict

from attrs import define, evolve, frozen

from diameter.sh.userdata import ShData

__all__ = ["ProfileCache", "ShProfile", "build_profile", "merge_profile", "next_sequence_number"]


@frozen
class ShProfile:
    """What Sh says of one user.

    Attributes:
        impu: the identity that was asked for.
        service_data: our repository item (the element inside ServiceData), None when there is none.
        sequence: its sequence number, None when there is no item.
        ifcs: the `IFCs` element as XML, None when the HSS gives none.
        scscf_name: URI of the assigned S-CSCF, None or '' when nobody serves the user.
        user_state: IMSUserState 0..3, None when not given.
        aliases: the other public identities that came along.
        fetched_at: monotonic seconds of the pull.
    """

    impu: str
    service_data: bytes | None = None
    sequence: int | None = None
    ifcs: bytes | None = None
    scscf_name: str | None = None
    user_state: int | None = None
    aliases: tuple[str, ...] = ()
    fetched_at: float = 0.0


def build_profile(impu: str, data: ShData, *, service_indication: bytes, now: float) -> ShProfile:
    """The profile in a pulled document."""
    return merge_profile(ShProfile(impu, fetched_at=now), data, service_indication=service_indication)


def merge_profile(profile: ShProfile, data: ShData, *, service_indication: bytes) -> ShProfile:
    """The profile after a notification: what the document does not mention stays as it is, its age included.

    A repository item without ServiceData is a deleted one (TS 29.328 §6.1.4): the next one starts at 0 again.
    """
    item = data.find_repository(service_indication)
    if item is not None:
        has_data = item.service_data is not None
        profile = evolve(profile, service_data=item.service_data, sequence=item.sequence_number if has_data else None)
    aliases = tuple(identity for identity in data.identities if identity != profile.impu)
    return evolve(
        profile,
        ifcs=data.ifcs if data.ifcs is not None else profile.ifcs,
        scscf_name=data.scscf_name if data.scscf_name is not None else profile.scscf_name,
        user_state=data.user_state if data.user_state is not None else profile.user_state,
        aliases=aliases or profile.aliases,
    )


def next_sequence_number(sequence: int | None) -> int:
    """TS 29.328 §6.1.2: 0 creates, then one more each time; after 65535 comes 1."""
    if sequence is None:
        return 0
    return 1 if sequence >= 65535 else sequence + 1


@define
class _Entry:
    profile: ShProfile
    subscribed_until: float = float("-inf")
    epoch: int = 0


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
        self._unknown: OrderedDict[str, float] = OrderedDict()
        self._epoch = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def n_unknown(self) -> int:
        """Identities remembered as unknown."""
        return len(self._unknown)

    def find(self, impu: str) -> ShProfile | None:
        """The profile, fresh or not."""
        entry = self._entries.get(impu)
        if entry is None:
            return None
        self._entries.move_to_end(impu)
        return entry.profile

    def find_fresh(self, impu: str, *, now: float) -> ShProfile | None:
        """The profile if it need not be asked for."""
        entry = self._entries.get(impu)
        if entry is None:
            return None
        lifetime_s = self._cache_s if self._is_subscribed(entry, now) else self._poll_s
        if now - entry.profile.fetched_at >= lifetime_s:
            return None
        self._entries.move_to_end(impu)
        return entry.profile

    def is_unknown(self, impu: str, *, now: float) -> bool:
        """True while the HSS's word that it does not know the identity still counts."""
        until = self._unknown.get(impu)
        return until is not None and now < until

    def is_subscribed(self, impu: str, *, now: float) -> bool:
        """True when the HSS tells us of changes."""
        entry = self._entries.get(impu)
        return entry is not None and self._is_subscribed(entry, now)

    def store(self, profile: ShProfile) -> None:
        """A profile as pulled; a subscription stays."""
        self._unknown.pop(profile.impu, None)
        entry = self._entries.get(profile.impu)
        if entry is None:
            self._entries[profile.impu] = _Entry(profile)
            if len(self._entries) > self._max_users:
                self._entries.popitem(last=False)
        else:
            entry.profile = profile
            self._entries.move_to_end(profile.impu)

    def store_unknown(self, impu: str, *, now: float) -> None:
        """The HSS does not know the identity; a profile of it is void."""
        self._entries.pop(impu, None)
        self._unknown[impu] = now + self._negative_s
        self._unknown.move_to_end(impu)
        if len(self._unknown) > max(1, self._max_users // 10):
            self._unknown.popitem(last=False)

    def store_subscription(self, impu: str, *, until: float) -> None:
        """The HSS will notify us until then (inf: without limit)."""
        entry = self._entries.get(impu)
        if entry is not None:
            entry.subscribed_until, entry.epoch = until, self._epoch

    def forget(self, impu: str) -> None:
        """The identity is gone."""
        self._entries.pop(impu, None)

    def void_subscriptions(self) -> None:
        """The HSS has lost its state."""
        self._epoch += 1

    def _is_subscribed(self, entry: _Entry, now: float) -> bool:
        return entry.epoch == self._epoch and entry.subscribed_until > now
