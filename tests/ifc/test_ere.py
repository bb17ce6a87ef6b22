from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ifc.ere import MAX_RE_TEXT_CHARS, MAX_TEXT_CHARS, Ere, translate_ere
from ifc.errors import EreError
from tests.ifc.strategies import ERE_TEXTS


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("", ["", "x"], []),
        ("^$", [""], ["x"]),
        ("sos", ["service:sos", "sos.fire"], ["so"]),
        ("^sos$", ["sos"], ["sos.", "xsos", "SOS"]),
        ("^(urn:)?service:sos", ["service:sos", "urn:service:sos.fire"], ["tel:service:sos"]),
        ("^[[:digit:]]{3,5}$", ["123", "12345"], ["12", "123456", "12a"]),
        ("a(b|)c", ["abc", "ac"], ["abbc"]),
        ("^.*$", ["", "x y"], []),
        ("a.*b.*c", ["xaybzc", "abc"], ["acb"]),
        ("([a-z]+\\.)+example\\.com$", ["a.b.example.com"], ["example.com", "a.example.org"]),
        ("\\+1555", ["+15550100"], ["15550100"]),
        ("[^,;]+", ["a"], ["", ",;"]),
        ("x\\.y", ["x.y"], ["xzy"]),
    ],
)
def test_matches(pattern: str, matching: list[str], other: list[str]) -> None:
    compiled = Ere(pattern)
    assert [text for text in matching if not compiled.matches(text)] == []
    assert [text for text in other if compiled.matches(text)] == []


def test_ignore_case() -> None:
    assert Ere("^Priority$", ignore_case=True).matches("PRIORITY")
    assert Ere("^p-[a-z]+", ignore_case=True).matches("P-Served-User")
    assert not Ere("^p-[a-z]+").matches("P-Served-User")


def test_values() -> None:
    assert Ere("a.b") == Ere("a.b")
    assert Ere("a.b") != Ere("a.b", ignore_case=True)
    assert hash(Ere("a.b")) == hash(Ere("a.b"))
    assert str(Ere("a.b")) == "a.b"
    assert Ere("^P-X$", ignore_case=True).literal == "p-x"
    assert Ere("^a.b$").literal is None


def test_refused() -> None:
    with pytest.raises(EreError):
        Ere("a(")
    with pytest.raises(EreError):
        translate_ere("\\d")


def test_text_cap() -> None:
    assert Ere("a.c|b").matches("a" * (MAX_TEXT_CHARS - 1) + "b")
    assert not Ere("a.c|b").matches("a" * MAX_TEXT_CHARS + "b")


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+$",
        "(a|a)*b",
        "(a*)*b",
        "(a|aa)+$",
        ".*a.*a.*a.*a.*b",
        "a{0,60}a{0,60}a{0,60}b",
        "(a?){40}a{40}b",
        "((a{1,9}){1,9}){1,5}b",
        "^(a+)(a+)(a+)(a+)$b",
        "(.*)(.*)(.*)(.*)(.*)[^a]",
    ],
)
def test_no_pattern_holds_the_process(pattern: str) -> None:
    compiled = Ere(pattern)
    started = time.process_time()
    for size in (40, MAX_RE_TEXT_CHARS, MAX_TEXT_CHARS):
        compiled.matches("a" * size)
    # the slowest takes some 10 ms; backtracking would take minutes to ages
    assert time.process_time() - started < 2


@settings(max_examples=300, deadline=None)
@given(ERE_TEXTS, st.text("ab0.", min_size=1, max_size=8))
def test_every_way_gives_the_same(pattern: str, text: str) -> None:
    expected = re.search(translate_ere(pattern), text, re.DOTALL) is not None
    assert Ere(pattern).matches(text) is expected


@settings(max_examples=300, deadline=None)
@given(st.text("ab([{}])*+?|\\^$.:-,=1d", max_size=30))
def test_only_ere_errors(pattern: str) -> None:
    try:
        compiled = Ere(pattern)
    except EreError:
        return
    compiled.matches("ab" * 20)
