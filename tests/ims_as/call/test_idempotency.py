from __future__ import annotations

import pytest

from ims_as.call.idempotency import KEPT_S, IdempotencyKeys, KeyReusedError, is_key_untrusted


def test_the_same_order_finds_its_call() -> None:
    keys = IdempotencyKeys()
    assert keys.find("k", {"to": "a", "agent": "x"}, now=1.0) is None
    keys.keep("k", {"to": "a", "agent": "x"}, "call-1", now=1.0)
    assert keys.find("k", {"agent": "x", "to": "a"}, now=2.0) == "call-1"
    assert keys.find("other", {"to": "a", "agent": "x"}, now=2.0) is None
    with pytest.raises(KeyReusedError):
        keys.find("k", {"to": "b", "agent": "x"}, now=2.0)


def test_keys_are_kept_a_day_and_not_without_bound() -> None:
    keys = IdempotencyKeys(max_keys=2)
    for n in range(3):
        keys.keep(f"k{n}", {}, f"call-{n}", now=float(n))
    assert keys.find("k0", {}, now=3.0) is None
    assert keys.find("k1", {}, now=3.0) == "call-1"
    assert keys.find("k1", {}, now=1.0 + KEPT_S) is None
    assert keys.find("k2", {}, now=1.5 + KEPT_S) == "call-2"


@pytest.mark.parametrize(
    ("text", "fine"), [("a-1", True), ("", False), ("a b", False), ("ü", False), ("x" * 201, False)]
)
def test_what_may_be_a_key(text: str, fine: bool) -> None:
    assert is_key_untrusted(text) is fine
