from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ifc.ere import translate_ere
from ifc.ere_linear import MAX_CACHED, LinearMatcher
from ifc.ere_syntax import parse_ere
from tests.ifc.strategies import ERE_TEXTS


@settings(max_examples=400, deadline=None)
@given(ERE_TEXTS, st.text("ab0.", max_size=8))
def test_agrees_with_re(pattern: str, text: str) -> None:
    for each in (pattern, f"^({pattern})$"):
        expected = re.search(translate_ere(each), text, re.DOTALL) is not None
        assert LinearMatcher(parse_ere(each)).search(text) is expected, each


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("^a*$", ["", "a", "aaaa"], ["ab", "b"]),
        ("^(ab)+$", ["ab", "ababab"], ["", "aba", "ba"]),
        ("^(a|bc)*d$", ["d", "abcad"], ["abd", "acd"]),
        ("^a{2,3}$", ["aa", "aaa"], ["a", "aaaa"]),
        ("^(ab?){2,}$", ["aa", "abab", "aaba"], ["ab", "abb"]),
        ("^a{0}b$", ["b"], ["ab"]),
        ("a$|^b", ["xa", "bx"], ["ax", "xb"]),
        ("(^|,)x($|,)", ["x", "a,x", "x,b", "a,x,b"], ["ax", "xb", "a,xb"]),
        ("^^a$$", ["a"], ["aa"]),
        ("a^b", [], ["ab", "a^b"]),
        ("$^", [""], ["a"]),
        ("^$^$", [""], ["a"]),
        ("", ["", "a"], []),
    ],
)
def test_matches(pattern: str, matching: list[str], other: list[str]) -> None:
    matcher = LinearMatcher(parse_ere(pattern))
    assert [text for text in matching if not matcher.search(text)] == []
    assert [text for text in other if matcher.search(text)] == []


def test_ignore_case() -> None:
    matcher = LinearMatcher(parse_ere("^[^a]b$"), ignore_case=True)
    assert matcher.search("XB")
    assert not matcher.search("AB")


def test_caches_stay_bounded() -> None:
    matcher = LinearMatcher(parse_ere("x(a|b)*a(a|b){40}c"))
    text = "x" + "".join("ab"[(n * n // 7) % 2] for n in range(8000))
    assert not matcher.search(text)
    assert not matcher.search("".join(map(chr, range(0x4E00, 0x6E00))))
    assert len(matcher._unions) <= MAX_CACHED
    assert len(matcher._char_masks) <= MAX_CACHED
