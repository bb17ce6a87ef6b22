"""Idempotency keys: an order that is sent twice calls nobody twice.

A client that got no response sends its order again under the same key, and gets the call that the first one made.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from typing import Any, Final

import attrs

__all__ = ["IdempotencyKeys", "KeyReusedError", "is_key_untrusted"]

KEPT_S: Final = 24 * 3600.0
MAX_KEYS: Final = 10_000
MAX_KEY_CHARS: Final = 200


class KeyReusedError(Exception):
    """The key came with another order before."""


def is_key_untrusted(text: str) -> bool:
    """Whether it may be a key: visible ASCII, of bounded length."""
    return 0 < len(text) <= MAX_KEY_CHARS and text.isascii() and text.isprintable() and " " not in text


@attrs.define
class IdempotencyKeys:
    """Keys of the last day, at most ``max_keys``; beyond that the oldest go.  ``now``: wall clock, seconds."""

    max_keys: int = MAX_KEYS
    _known: OrderedDict[str, tuple[float, bytes, str]] = attrs.Factory(OrderedDict)

    def find(self, key: str, order: Any, *, now: float) -> str | None:
        """Id of the call that this order made under this key.

        Raises:
            KeyReusedError: the key belongs to another order.
        """
        self._drop_old(now)
        known = self._known.get(key)
        if known is None:
            return None
        _, digest, call_id = known
        if digest != _digest(order):
            raise KeyReusedError
        return call_id

    def keep(self, key: str, order: Any, call_id: str, *, now: float) -> None:
        self._known[key] = (now, _digest(order), call_id)
        while len(self._known) > self.max_keys:
            self._known.popitem(last=False)

    def _drop_old(self, now: float) -> None:
        while self._known and next(iter(self._known.values()))[0] <= now - KEPT_S:
            self._known.popitem(last=False)


def _digest(order: Any) -> bytes:
    return hashlib.sha256(json.dumps(order, sort_keys=True).encode("utf-8", "surrogatepass")).digest()
