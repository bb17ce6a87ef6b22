"""Event and Subscription-State."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ims_as.sip.errors import SipParseError
from ims_as.sip.event_headers import EventType, SubscriptionState, resubscribe_delay


@pytest.mark.parametrize(
    ("text", "package", "event_id"),
    [
        ("reg", "reg", None),
        ("refer;id=7", "refer", "7"),
        ("presence.winfo ; id=a1;x=y", "presence.winfo", "a1"),
        ("reg;id", "reg", None),
    ],
)
def test_event(text: str, package: str, event_id: str | None):
    event = EventType.parse_untrusted(text)
    assert (event.package, event.id) == (package, event_id)
    assert EventType.parse_untrusted(str(event)) == event


@pytest.mark.parametrize("text", ["", ";id=1", "a b", "reg;;", "reg;id=" + "1" * 500])
def test_malformed_event(text: str):
    with pytest.raises(SipParseError):
        EventType.parse_untrusted(text)


def test_subscription_state():
    assert str(SubscriptionState("active", 60)) == "active;expires=60"
    assert str(SubscriptionState("terminated", None, "giveup", 5)) == "terminated;reason=giveup;retry-after=5"
    state = SubscriptionState.parse_untrusted("Terminated ; Reason=NoResource;retry-after=99;x")
    assert state == SubscriptionState("terminated", None, "noresource", 99)
    assert state.is_terminated
    assert SubscriptionState.parse_untrusted("active;expires=abc").expires_s is None
    assert SubscriptionState.parse_untrusted("active;expires=9999999999").expires_s == 2**32 - 1
    with pytest.raises(SipParseError):
        SubscriptionState.parse_untrusted("active;;")


@pytest.mark.parametrize(
    ("state", "delay"),
    [
        ("terminated;reason=rejected", None),
        ("terminated;reason=noresource;retry-after=1", None),
        ("terminated;reason=invariant", None),
        ("terminated;reason=deactivated", 0),
        ("terminated;reason=timeout", 0),
        ("terminated;reason=probation;retry-after=7", 7),
        ("terminated;reason=giveup", 60),
        ("terminated;reason=what", 60),
        ("terminated", 60),
    ],
)
def test_when_to_subscribe_again(state: str, delay: float | None):
    assert resubscribe_delay(SubscriptionState.parse_untrusted(state)) == delay


@given(st.text(max_size=200))
def test_readers_raise_one_error_type(text: str):
    for read in (EventType.parse_untrusted, SubscriptionState.parse_untrusted):
        with contextlib.suppress(SipParseError):
            read(text)
