from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import pytest
import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ims_as.store.memory import MAX_VALUE_BYTES, MemoryStore, Store, StoreError, StoreFullError


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def wait(step: Coroutine[Any, Any, Any]) -> Any:
    async def main() -> Any:
        return await step

    return trio.run(main)


def test_value_lives_for_its_time() -> None:
    clock = Clock()
    store: Store = MemoryStore(clock)
    wait(store.put("a", b"1", ttl_s=5))
    clock.now += 4.9
    assert wait(store.get("a")) == b"1"
    clock.now += 0.1
    assert wait(store.get("a")) is None
    assert wait(store.keys("")) == []
    assert wait(store.delete("a")) is False


def test_add_does_not_replace() -> None:
    clock = Clock()
    store = MemoryStore(clock)
    assert wait(store.add("a", b"1", ttl_s=5)) is True
    assert wait(store.add("a", b"2", ttl_s=5)) is False
    assert wait(store.get("a")) == b"1"
    clock.now += 6
    assert wait(store.add("a", b"2", ttl_s=5)) is True


def test_full_store_takes_no_new_key_until_one_is_gone() -> None:
    clock = Clock()
    store = MemoryStore(clock, max_entries=2)
    wait(store.put("a", b"", ttl_s=5))
    wait(store.put("b", b"", ttl_s=50))
    with pytest.raises(StoreFullError):
        wait(store.put("c", b"", ttl_s=5))
    wait(store.put("a", b"again", ttl_s=6))
    clock.now += 6
    wait(store.put("c", b"", ttl_s=5))
    assert wait(store.keys("")) == ["b", "c"]


def test_value_and_key_are_bounded() -> None:
    store = MemoryStore(Clock())
    for key, value in (("a", b"x" * (MAX_VALUE_BYTES + 1)), ("a" * 1000, b"")):
        with pytest.raises(StoreError):
            wait(store.put(key, value, ttl_s=1))
    assert len(store) == 0


def test_renewing_one_key_for_ever_does_not_grow() -> None:
    store = MemoryStore(Clock())

    async def main() -> None:
        for number in range(1000):
            await store.put("a", b"x", ttl_s=number + 1)

    trio.run(main)
    assert len(store._expiry) < 50


keys = st.sampled_from(["a", "ab", "b"])
lifetimes = st.integers(1, 10)


class AgainstPlainDict(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.store = MemoryStore(self.clock)
        self.model: dict[str, tuple[float, bytes]] = {}

    def alive(self) -> dict[str, bytes]:
        return {key: value for key, (until, value) in self.model.items() if until > self.clock.now}

    @rule(key=keys, value=st.binary(max_size=2), ttl_s=lifetimes)
    def put(self, key: str, value: bytes, ttl_s: int) -> None:
        wait(self.store.put(key, value, ttl_s=ttl_s))
        self.model[key] = (self.clock.now + ttl_s, value)

    @rule(key=keys, value=st.binary(max_size=2), ttl_s=lifetimes)
    def add(self, key: str, value: bytes, ttl_s: int) -> None:
        expected = key not in self.alive()
        assert wait(self.store.add(key, value, ttl_s=ttl_s)) is expected
        if expected:
            self.model[key] = (self.clock.now + ttl_s, value)

    @rule(key=keys)
    def delete(self, key: str) -> None:
        assert wait(self.store.delete(key)) is (key in self.alive())
        self.model.pop(key, None)

    @rule(seconds=st.integers(1, 6))
    def pass_time(self, seconds: int) -> None:
        self.clock.now += seconds

    @invariant()
    def agrees(self) -> None:
        alive = self.alive()
        assert wait(self.store.keys("")) == sorted(alive)
        assert wait(self.store.keys("ab")) == sorted(key for key in alive if key.startswith("ab"))
        for key, value in alive.items():
            assert wait(self.store.get(key)) == value


AgainstPlainDict.TestCase.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
TestAgainstPlainDict = AgainstPlainDict.TestCase
