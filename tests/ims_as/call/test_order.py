"""Orders over the API: what is taken, what is refused and why."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ims_as.call.order import CallOrder, OrderError, parse_order_untrusted
from ims_as.config import AgentConfig, Config
from ims_as.config_model import OutboundConfig

OUTBOUND = OutboundConfig(
    allow=(r"sip:.*@home\.example", r"tel:\+49.*", r"tel:112.*", r"sip:112@home\.example"),
    identities=(r"sip:alice@home\.example",),
    ring_timeout_s=30,
)
CONFIG = attrs.evolve(
    Config(identity="sip:as.home.example"),
    agents={"default": AgentConfig(outbound=OUTBOUND), "mute": AgentConfig()},
)
BOB = "sip:bob@home.example"


def read(**fields: Any) -> CallOrder:
    return parse_order_untrusted({"to": BOB, **fields}, CONFIG)


def refused(content: object) -> tuple[int, str, str]:
    with pytest.raises(OrderError) as error:
        parse_order_untrusted(content, CONFIG)
    return error.value.status, error.value.code, error.value.field


def test_the_least_order() -> None:
    assert read() == CallOrder(BOB, "sip:as.home.example", False, "default", 30.0)


def test_a_full_order() -> None:
    order = read(
        on_behalf_of="sip:alice@HOME.example",
        ring_timeout_s=5,
        headers={"X-A": " 1 ", "Subject": "Grüße"},
        data={"a": [1]},
    )
    assert order.identity == "sip:alice@home.example"
    assert order.is_served_user
    assert order.ring_timeout_s == 5
    assert order.headers == (("X-A", "1"), ("Subject", "Grüße"))
    assert order.data == {"a": [1]}


@pytest.mark.parametrize("spelt", ["tel:+49-89 1".replace(" ", "."), "tel:+49(89)1", "tel:+49891"])
def test_numbers_are_written_in_one_way(spelt: str) -> None:
    assert read(to=spelt).to == "tel:+49891"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ([], (400, "not-an-object", "")),
        ({}, (400, "missing", "to")),
        ({"to": 7}, (400, "missing", "to")),
        ({"to": BOB, "cc": 1}, (400, "unknown-field", "cc")),
        ({"to": BOB, "agent": "nobody"}, (422, "unknown-agent", "agent")),
        ({"to": BOB, "agent": ["x"]}, (422, "unknown-agent", "agent")),
        ({"to": BOB, "from": BOB, "on_behalf_of": BOB}, (400, "two-identities", "from")),
        ({"to": "sip:bob@as.home.example"}, (422, "own-address", "to")),
        ({"to": "sip:as.home.example:5062;transport=tcp"}, (422, "own-address", "to")),
        ({"to": BOB, "ring_timeout_s": 0}, (422, "bad-ring-timeout", "ring_timeout_s")),
        ({"to": BOB, "ring_timeout_s": True}, (422, "bad-ring-timeout", "ring_timeout_s")),
        ({"to": BOB, "ring_timeout_s": float("nan")}, (422, "bad-ring-timeout", "ring_timeout_s")),
        ({"to": BOB, "ring_timeout_s": "5"}, (422, "bad-ring-timeout", "ring_timeout_s")),
        ({"to": BOB, "headers": []}, (422, "bad-headers", "headers")),
        ({"to": BOB, "headers": {f"X-{n}": "" for n in range(21)}}, (422, "bad-headers", "headers")),
        ({"to": BOB, "headers": {"X-A": "a\r\nRoute: <sip:evil>"}}, (422, "bad-headers", "headers.X-A")),
        ({"to": BOB, "headers": {"X-A\r\nVia": "x"}}, (422, "bad-headers", "headers.X-A\r\nVia")),
        ({"to": BOB, "headers": {"X-A": 1}}, (422, "bad-headers", "headers.X-A")),
        ({"to": BOB, "headers": {"X-A": "x" * 1001}}, (422, "bad-headers", "headers.X-A")),
        ({"to": BOB, "headers": {"Route": "<sip:evil;lr>"}}, (403, "header-not-allowed", "headers.Route")),
        ({"to": BOB, "headers": {"p-served-user": "x"}}, (403, "header-not-allowed", "headers.p-served-user")),
        ({"to": BOB, "headers": {"X-IMS-AS-Bypass": "x"}}, (403, "header-not-allowed", "headers.X-IMS-AS-Bypass")),
        ({"to": BOB, "data": []}, (422, "bad-data", "data")),
        ({"to": BOB, "data": {"x": "y" * 16_384}}, (422, "bad-data", "data")),
        ({"to": BOB, "agent": "mute"}, (403, "destination-not-allowed", "to")),
        ({"to": "tel:+33123"}, (403, "destination-not-allowed", "to")),
        ({"to": BOB, "from": "sip:mallory@home.example"}, (403, "identity-not-allowed", "from")),
        ({"to": BOB, "on_behalf_of": "sip:alice@home.example.evil"}, (403, "identity-not-allowed", "on_behalf_of")),
        ({"to": "tel:112;phone-context=+49"}, (403, "emergency", "to")),
        ({"to": "sip:112@home.example"}, (403, "emergency", "to")),
    ],
)  # fmt: skip
def test_what_is_refused(content: object, expected: tuple[int, str, str]) -> None:
    assert refused(content) == expected


@pytest.mark.parametrize(
    "uri",
    [
        "bob",
        "urn:service:sos",
        "mailto:bob@home.example",
        "sip:",
        "sip:bob@home.example?Route=x",
        "sip:bob:secret@home.example",
        "sip:bob@home.example;method=REGISTER",
        "sip:bob@home.example\r\nVia: x",
        "sip:bob@home.example>;lr,<sip:x",
        "sip:bób@home.example",
        "sip:bob@home.example:99999",
        "tel:891",
        "tel:+49abc" + "9" * 600,
        "sip:" + "b" * 600 + "@home.example",
    ],
)
def test_what_is_no_uri_to_call(uri: str) -> None:
    assert refused({"to": uri})[:2] == (422, "bad-uri")


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from([BOB, "tel:+49891"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(["to", "from", "on_behalf_of", "agent", "ring_timeout_s", "headers", "data", "connect"])


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(NAMES, VALUES, max_size=8) | VALUES)
def test_whatever_comes_is_an_order_or_refused(content: Any) -> None:
    try:
        order = parse_order_untrusted(content, CONFIG)
    except OrderError:
        return
    for name, value in order.headers:
        assert name.isprintable()
        assert value.isprintable()
    assert order.ring_timeout_s >= 1
