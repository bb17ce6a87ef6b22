"""The store of one node alone: values by key, with a time to live, bounded in number and size.

``Store`` is what other stores offer too, so its methods are async; this one never waits.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Protocol

import attrs
import trio

from ims_as.errors import ImsAsError

__all__ = ["MAX_ENTRIES", "MAX_VALUE_BYTES", "MemoryStore", "Store", "StoreError", "StoreFullError"]

MAX_ENTRIES = 500_000
"""Registrations and profiles of a large region on one node."""
MAX_VALUE_BYTES = 64 * 1024
"""Sh-Data of a user with many criteria is 10–20 KB."""
MAX_KEY_CHARS = 512


class StoreError(ImsAsError):
    """The store cannot do it; the caller goes on without."""


class StoreFullError(StoreError):
    """No room: nothing was stored."""


class Store(Protocol):
    """State shared by the nodes: dialogs, registrations, profiles."""

    async def get(self, key: str) -> bytes | None:
        """The value, None when there is none or its time is over."""
        ...

    async def put(self, key: str, value: bytes, *, ttl_s: float) -> None:
        """Stores or replaces a value for ``ttl_s`` seconds.  Raises StoreError."""
        ...

    async def add(self, key: str, value: bytes, *, ttl_s: float) -> bool:
        """Stores a value where there is none; False: there is one, and it stays.  Raises StoreError."""
        ...

    async def delete(self, key: str) -> bool:
        """Removes a value; False when there was none."""
        ...

    async def keys(self, prefix: str) -> list[str]:
        """Keys that begin with ``prefix``, sorted."""
        ...


@attrs.define
class MemoryStore:
    """A Store in this process.

    Args:
        clock: seconds, monotonic.
        max_entries: after that ``put`` of a new key raises StoreFullError.
    """

    clock: Callable[[], float] = trio.current_time
    max_entries: int = MAX_ENTRIES
    _values: dict[str, tuple[float, bytes]] = attrs.Factory(dict)
    _expiry: list[tuple[float, str]] = attrs.Factory(list)
    """Heap; an entry whose time is not that of its key any more is stale."""

    def __len__(self) -> int:
        self._expire()
        return len(self._values)

    async def get(self, key: str) -> bytes | None:
        found = self._values.get(key)
        return found[1] if found is not None and found[0] > self.clock() else None

    async def put(self, key: str, value: bytes, *, ttl_s: float) -> None:
        if len(value) > MAX_VALUE_BYTES or len(key) > MAX_KEY_CHARS:
            raise StoreError(f"too long: {len(key)} characters of key, {len(value)} bytes of value")
        self._expire()
        if key not in self._values and len(self._values) >= self.max_entries:
            raise StoreFullError(f"{self.max_entries} entries")
        until = self.clock() + ttl_s
        self._values[key] = (until, bytes(value))
        heapq.heappush(self._expiry, (until, key))
        if len(self._expiry) > 2 * len(self._values) + 16:  # a key that is often renewed leaves stale entries
            self._expiry = [(until, key) for key, (until, _) in self._values.items()]
            heapq.heapify(self._expiry)

    async def add(self, key: str, value: bytes, *, ttl_s: float) -> bool:
        if await self.get(key) is not None:
            return False
        await self.put(key, value, ttl_s=ttl_s)
        return True

    async def delete(self, key: str) -> bool:
        self._expire()
        return self._values.pop(key, None) is not None

    async def keys(self, prefix: str) -> list[str]:
        self._expire()
        return sorted(key for key in self._values if key.startswith(prefix))

    def _expire(self) -> None:
        now = self.clock()
        while self._expiry and self._expiry[0][0] <= now:
            until, key = heapq.heappop(self._expiry)
            if (found := self._values.get(key)) is not None and found[0] == until:
                del self._values[key]
