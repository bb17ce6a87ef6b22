"""The token is good once, for its target, for its life, and only as signed."""

from hypothesis import given
from hypothesis import strategies as st

from ims_as.call.bypass import TOKEN_LIFE_S, BypassTokens

BOB = "sip:bob@ims.example.net"


def test_good_once():
    tokens = BypassTokens(b"k" * 32)
    token = tokens.issue(BOB, "n1", now=1000.0)
    assert tokens.is_valid_untrusted(token, BOB, now=1001.0)
    assert not tokens.is_valid_untrusted(token, BOB, now=1001.0)


def test_another_node_with_the_same_key_accepts_it():
    token = BypassTokens(b"k" * 32).issue(BOB, "n1", now=1000.0)
    assert BypassTokens(b"k" * 32).is_valid_untrusted(token, BOB, now=1001.0)
    assert not BypassTokens(b"x" * 32).is_valid_untrusted(token, BOB, now=1001.0)


def test_expires():
    tokens = BypassTokens(b"k" * 32)
    token = tokens.issue(BOB, "n1", now=1000.0)
    assert not tokens.is_valid_untrusted(token, BOB, now=1000.0 + TOKEN_LIFE_S + 1)


def test_is_for_one_target():
    tokens = BypassTokens(b"k" * 32)
    token = tokens.issue(BOB, "n1", now=1000.0)
    assert not tokens.is_valid_untrusted(token, "sip:mallory@ims.example.net", now=1001.0)


@given(st.text(max_size=250))
def test_anything_else_is_refused(text: str):
    assert not BypassTokens(b"k" * 32).is_valid_untrusted(text, BOB, now=1000.0)


@given(st.integers(0, 60), st.characters(min_codepoint=33, max_codepoint=126))
def test_a_changed_character_is_refused(place: int, character: str):
    tokens = BypassTokens(b"k" * 32)
    token = tokens.issue(BOB, "n1", now=1000.0)
    place %= len(token)
    changed = token[:place] + character + token[place + 1 :]
    assert tokens.is_valid_untrusted(changed, BOB, now=1001.0) == (changed == token)


def test_a_token_for_two_passes_is_good_for_two():
    tokens = BypassTokens(b"secret")
    token = tokens.issue("sip:bob@x", "n1", now=100.0, passes=2)
    assert tokens.is_valid_untrusted(token, "sip:bob@x", now=101.0)
    assert not tokens.is_valid_untrusted(token, "sip:carol@x", now=101.0)
    assert tokens.is_valid_untrusted(token, "sip:bob@x", now=102.0)
    assert not tokens.is_valid_untrusted(token, "sip:bob@x", now=103.0)
    expiry, nonce, _, signature = token.split(".")
    for forged in (
        f"{expiry}.{nonce}.9.{signature}",
        f"{expiry}.{nonce}.{signature}",
        f"{expiry}.{nonce}.2.1.{signature}",
    ):
        assert not tokens.is_valid_untrusted(forged, "sip:bob@x", now=103.0)
