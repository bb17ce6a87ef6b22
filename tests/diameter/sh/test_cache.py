"""Freshness, bounds, pushes."""

from __future__ import annotations

import pytest

from diameter.sh.cache import ProfileCache, ShProfile, build_profile, merge_profile, next_sequence_number
from diameter.sh.userdata import RepositoryData, ShData

BOB = "sip:bob@example.net"


def build_cache(max_users: int = 10) -> ProfileCache:
    return ProfileCache(cache_s=3600.0, poll_s=300.0, negative_s=60.0, max_users=max_users)


@pytest.mark.parametrize(("stored", "following"), [(None, 0), (0, 1), (7, 8), (65534, 65535), (65535, 1)])
def test_sequence_numbers(stored: int | None, following: int) -> None:
    assert next_sequence_number(stored) == following


def test_subscribed_profiles_live_longer() -> None:
    cache = build_cache()
    cache.store(ShProfile(BOB, fetched_at=100.0))
    assert cache.find_fresh(BOB, now=399.0) is not None
    assert cache.find_fresh(BOB, now=400.0) is None
    cache.store_subscription(BOB, until=float("inf"))
    assert cache.find_fresh(BOB, now=3699.0) is not None
    assert cache.find_fresh(BOB, now=3700.0) is None
    assert cache.find(BOB) is not None


def test_subscription_that_has_ended_counts_no_more() -> None:
    cache = build_cache()
    cache.store(ShProfile(BOB, fetched_at=0.0))
    cache.store_subscription(BOB, until=1000.0)
    assert cache.is_subscribed(BOB, now=999.0)
    assert cache.find_fresh(BOB, now=999.0) is not None
    assert not cache.is_subscribed(BOB, now=1000.0)
    assert cache.find_fresh(BOB, now=1000.0) is None


def test_restarted_hss_voids_all_subscriptions_at_once() -> None:
    cache = build_cache()
    cache.store(ShProfile(BOB))
    cache.store_subscription(BOB, until=float("inf"))
    cache.void_subscriptions()
    assert not cache.is_subscribed(BOB, now=1.0)
    cache.store_subscription(BOB, until=float("inf"))
    assert cache.is_subscribed(BOB, now=1.0)


def test_subscription_survives_a_new_pull() -> None:
    cache = build_cache()
    cache.store(ShProfile(BOB))
    cache.store_subscription(BOB, until=float("inf"))
    cache.store(ShProfile(BOB, fetched_at=50.0))
    assert cache.is_subscribed(BOB, now=60.0)


def test_least_recently_used_goes_first() -> None:
    cache = build_cache(max_users=2)
    for impu in ("a", "b"):
        cache.store(ShProfile(impu))
    assert cache.find("a") is not None
    cache.store(ShProfile("c"))
    assert cache.find("b") is None
    assert cache.find("a") is not None
    assert len(cache) == 2


def test_unknown_users_are_remembered_apart_and_bounded() -> None:
    cache = build_cache(max_users=20)
    cache.store(ShProfile(BOB))
    for i in range(50):
        cache.store_unknown(f"sip:{i}@example.net", now=0.0)
    assert cache.n_unknown == 2
    assert cache.find(BOB) is not None
    assert cache.is_unknown("sip:49@example.net", now=59.0)
    assert not cache.is_unknown("sip:49@example.net", now=60.0)
    cache.store(ShProfile("sip:49@example.net"))
    assert not cache.is_unknown("sip:49@example.net", now=1.0)


def test_user_who_became_unknown_has_no_profile() -> None:
    cache = build_cache()
    cache.store(ShProfile(BOB))
    cache.store_unknown(BOB, now=0.0)
    assert cache.find(BOB) is None


def test_profile_from_a_document() -> None:
    data = ShData(
        public_identities=(BOB, "tel:+1555"),
        repository=(RepositoryData(b"other", 9, b"<o/>"), RepositoryData(b"ai", 3, b"<a/>")),
        scscf_name="sip:s",
        ifcs=b"<IFCs/>",
        user_state=1,
    )
    assert build_profile(BOB, data, service_indication=b"ai", now=5.0) == ShProfile(
        BOB, b"<a/>", 3, b"<IFCs/>", "sip:s", 1, ("tel:+1555",), 5.0
    )


def test_notification_changes_what_it_mentions() -> None:
    before = ShProfile(BOB, b"<a/>", 3, b"<IFCs/>", "sip:s", 1, ("tel:+1555",), 5.0)
    after = merge_profile(before, ShData(user_state=0, scscf_name=""), service_indication=b"ai")
    assert (after.user_state, after.scscf_name) == (0, "")
    assert (after.service_data, after.sequence, after.ifcs, after.aliases) == (b"<a/>", 3, b"<IFCs/>", ("tel:+1555",))
    assert after.fetched_at == 5.0


def test_deleted_item_starts_at_zero_again() -> None:
    before = ShProfile(BOB, b"<a/>", 3)
    deleted = ShData(repository=(RepositoryData(b"ai", 4, None),))
    after = merge_profile(before, deleted, service_indication=b"ai")
    assert (after.service_data, after.sequence) == (None, None)
    assert next_sequence_number(after.sequence) == 0
