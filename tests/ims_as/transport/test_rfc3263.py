"""NAPTR and SRV weighed."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from ims_as.transport.rfc3263 import MAX_RECORDS, Naptr, Srv, choose_services, order_services

RECORDS = [
    Naptr(50, 20, "s", "SIP+D2U", "_sip._udp.x."),
    Naptr(50, 10, "S", "sip+d2t", "_sip._tcp.x."),
    Naptr(10, 99, "s", "SIPS+D2T", "_sips._tcp.x."),
    Naptr(1, 1, "u", "SIP+D2U", "x."),
    Naptr(1, 1, "s", "E2U+sip", "y."),
    Naptr(60, 1, "s", "SIP+D2U", "_sip._udp.x."),
]


def test_services_by_order_then_preference():
    assert choose_services(RECORDS, ("UDP", "TCP")) == [("TCP", "_sip._tcp.x"), ("UDP", "_sip._udp.x")]
    assert choose_services(RECORDS, ("TLS",)) == [("TLS", "_sips._tcp.x")]
    assert choose_services(RECORDS, ()) == []


def test_srv_by_priority():
    records = [Srv(2, 100, 5062, "c."), Srv(1, 0, 5061, "b."), Srv(1, 0, 5060, "a.")]
    found = order_services(records, lambda: 0.0)
    assert {host for host, _ in found[:2]} == {"a", "b"}
    assert found[2] == ("c", 5062)


def test_srv_by_weight():
    records = [Srv(1, 75, 5060, "heavy."), Srv(1, 25, 5060, "light."), Srv(1, 0, 5060, "spare.")]
    first = Counter(order_services(records, lambda n=n: n / 1000)[0][0] for n in range(1000))
    assert 730 < first["heavy"] < 770
    assert 220 < first["light"] < 270
    assert 0 < first["spare"] < 30  # RFC 2782: a very small chance


def test_srv_that_says_no():
    assert order_services([Srv(0, 0, 5060, ".")], lambda: 0.5) == []
    assert order_services([Srv(0, 0, 0, "a.")], lambda: 0.5) == []


@given(
    st.lists(
        st.builds(Srv, st.integers(0, 3), st.integers(0, 65535), st.integers(1, 65535), st.sampled_from("abcdef")),
        max_size=40,
    ),
    st.lists(st.floats(0, 1, exclude_max=True), min_size=40, max_size=40),
)
def test_every_record_is_tried_once_and_none_before_a_better_one(records: list[Srv], dice: list[float]):
    numbers = iter(dice)
    found = order_services(records, lambda: next(numbers))
    kept = records[:MAX_RECORDS]
    assert Counter(found) == Counter((record.target, record.port) for record in kept)
    priorities = {(record.target, record.port): record.priority for record in reversed(kept)}
    if len(priorities) == len(kept):
        order = [priorities[place] for place in found]
        assert order == sorted(order)
