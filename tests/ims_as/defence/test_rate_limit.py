"""What one peer may send, and the bucket behind it."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ims_as.defence.rate_limit import MAX_PEERS, PeerLimiter, PeerRates
from ims_as.defence.token_bucket import TokenBucket


def test_a_bucket_is_full_at_first_and_fills_again() -> None:
    bucket = TokenBucket(10.0, 5.0, now=0.0)
    assert [bucket.take(1.0, now=0.0) for _ in range(6)] == [True] * 5 + [False]
    assert bucket.has(1.0, now=0.1)
    assert not bucket.has(2.0, now=0.1)
    assert bucket.take(1.0, now=0.1)
    assert not bucket.is_full(now=0.5)
    assert bucket.is_full(now=0.6)
    assert not bucket.take(6.0, now=100.0)
    assert bucket.take(5.0, now=100.0)


def test_a_clock_that_goes_back_gives_nothing() -> None:
    bucket = TokenBucket(10.0, 1.0, now=10.0)
    assert bucket.take(1.0, now=10.0)
    assert not bucket.take(1.0, now=5.0)
    assert bucket.take(1.0, now=10.2)


@given(
    rate=st.floats(0.1, 1000),
    burst=st.floats(1, 100),
    gaps=st.lists(st.floats(0, 2), max_size=200),
)
def test_never_more_than_burst_and_rate(rate: float, burst: float, gaps: list[float]) -> None:
    bucket = TokenBucket(rate, burst, now=0.0)
    now, taken = 0.0, 0
    for gap in gaps:
        now += gap
        taken += bucket.take(1.0, now=now)
    assert taken <= burst + rate * now + 1e-6


def refusals(limiter: PeerLimiter, host: str, count: int, *, is_call: bool, now: float = 0.0) -> list[str | None]:
    return [limiter.refusal(host, is_call=is_call, now=now) for _ in range(count)]


def test_each_peer_has_its_own() -> None:
    limiter = PeerLimiter(PeerRates(requests=4, calls=2))
    assert refusals(limiter, "10.0.0.1", 3, is_call=True) == [None, None, "peer-calls"]
    assert refusals(limiter, "10.0.0.1", 3, is_call=False) == [None, None, "peer-requests"]
    assert refusals(limiter, "10.0.0.2", 1, is_call=True) == [None]
    assert refusals(limiter, "10.0.0.1", 2, is_call=True, now=0.5) == [None, "peer-calls"]


def test_a_refused_call_uses_nothing_up() -> None:
    limiter = PeerLimiter(PeerRates(requests=1, calls=100))
    assert refusals(limiter, "h", 3, is_call=True) == [None, "peer-requests", "peer-requests"]
    assert limiter._peers["h"].calls is not None
    assert limiter._peers["h"].calls.has(99.0, now=0.0)


def test_networks_have_theirs() -> None:
    limiter = PeerLimiter(
        PeerRates(calls=1),
        [(ip_network("10.1.0.0/16"), PeerRates(calls=3)), (ip_network("10.0.0.0/8"), PeerRates())],
    )
    assert refusals(limiter, "10.1.2.3", 4, is_call=True)[-1] == "peer-calls"
    assert refusals(limiter, "10.1.2.3", 4, is_call=True, now=1.0)[2] is None
    assert refusals(limiter, "10.2.0.1", 50, is_call=True) == [None] * 50
    assert refusals(limiter, "192.0.2.1", 2, is_call=True) == [None, "peer-calls"]
    assert refusals(limiter, "2001:db8::1", 2, is_call=True) == [None, "peer-calls"]


def test_messages() -> None:
    limiter = PeerLimiter(PeerRates(messages=10, burst_s=2))
    assert sum(limiter.admits_message("h", now=0.0) for _ in range(100)) == 20
    assert limiter.admits_message("h", now=0.1)
    assert limiter.refusal("h", is_call=True, now=0.1) is None


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        (PeerRates(), (False, False)),
        (PeerRates(messages=1), (True, False)),
        (PeerRates(calls=1), (False, True)),
        (PeerRates(requests=1), (False, True)),
    ],
)
def test_it_says_what_needs_to_be_asked(rates: PeerRates, expected: tuple[bool, bool]) -> None:
    limiter = PeerLimiter(PeerRates(), [(ip_network("10.0.0.0/8"), rates)])
    assert (limiter.limits_messages, limiter.limits_requests) == expected


def test_the_table_is_bounded_and_forgets_the_quiet() -> None:
    limiter = PeerLimiter(PeerRates(calls=1))
    limiter.refusal("busy", is_call=True, now=0.0)
    for number in range(MAX_PEERS + 100):
        limiter.refusal(f"h{number}", is_call=True, now=0.0)
        if number % 100 == 0:
            assert limiter.refusal("busy", is_call=True, now=0.0) == "peer-calls"
    assert len(limiter) == MAX_PEERS


def test_other_rates() -> None:
    limiter = PeerLimiter(PeerRates(calls=1))
    assert refusals(limiter, "h", 2, is_call=True) == [None, "peer-calls"]
    limiter.change(PeerRates())
    assert refusals(limiter, "h", 2, is_call=True) == [None, None]
