from __future__ import annotations

import itertools
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ifc.ere import MAX_TEXT_CHARS, Ere, translate_ere
from ifc.ere_syntax import CharSet
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
    for size in (40, MAX_TEXT_CHARS):
        compiled.matches("a" * size)
    # the slowest takes some 10 ms; backtracking would take minutes to ages
    assert time.process_time() - started < 2


@settings(max_examples=300, deadline=None)
@given(ERE_TEXTS, st.text("ab0.", min_size=1, max_size=8))
def test_every_way_gives_the_same(pattern: str, text: str) -> None:
    expected = re.search(translate_ere(pattern), text, re.DOTALL) is not None
    assert Ere(pattern).matches(text) is expected


@settings(max_examples=400, deadline=None)
@given(ERE_TEXTS, st.lists(st.text("ab0.", max_size=6), min_size=1, max_size=4), st.booleans())
def test_one_of_several_texts(pattern: str, texts: list[str], ignore_case: bool) -> None:
    """Joined by line feeds or one by one, the same is found: no match goes over a line's end."""
    for each in (pattern, f"^({pattern})$", f"[[:space:]]|{pattern}$"):
        compiled = Ere(each, ignore_case=ignore_case)
        if any(not text and "$" in pattern for text in texts):
            continue  # both anchors in one place, see test_ere_linear
        expected = any(map(compiled.matches, texts))
        assert (compiled.lines().search("\n".join(["", *texts])) is not None) is expected, each


@pytest.mark.parametrize(
    ("pattern", "alphabet", "possible"),
    [
        ("abc", "abc", True),
        ("abc", "ab", False),
        ("^a*$", "b", True),
        ("a^b", "ab", False),
        ("a$b", "ab", False),
        ("^^a$$", "a", True),
        ("(^|,)a", "a", True),
        ("b|a^", "a", False),
        ("[^a]", "a", False),
        ("[^a]", "ab", True),
        ("(x|a$)b?$", "ab", True),
        ("a{2}@", "a", False),
        ("", "a", True),
    ],
)
def test_whether_any_text_can_match(pattern: str, alphabet: str, possible: bool) -> None:
    assert Ere(pattern).can_match(CharSet(tuple((ord(char), ord(char)) for char in alphabet))) is possible


@settings(max_examples=300, deadline=None)
@given(ERE_TEXTS)
def test_what_cannot_match_never_does(pattern: str) -> None:
    """Tried on all texts of one to four characters; the patterns are small enough for these to tell."""
    texts = ["".join(each) for size in range(1, 5) for each in itertools.product("ab", repeat=size)]
    compiled = Ere(pattern)
    if any(map(compiled.matches, texts)):
        assert compiled.can_match(CharSet(((ord("a"), ord("b")),)))


@settings(max_examples=300, deadline=None)
@given(st.text("ab([{}])*+?|\\^$.:-,=1d", max_size=30))
def test_only_ere_errors(pattern: str) -> None:
    try:
        compiled = Ere(pattern)
    except EreError:
        return
    compiled.matches("ab" * 20)
