"""Patterns that are plain text: the same answers as the regular expression gives."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ifc.ere import Ere, translate_ere
from ifc.ere_plain import plain_lines_search, plain_search
from ifc.ere_syntax import parse_ere

_GAPS = st.sampled_from(["", ".", "..", ".{2}", ".{1,3}", ".+"])
_BRANCHES = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(["", "^"]),
        _GAPS,
        st.text("ab", min_size=1, max_size=3),
        _GAPS,
        st.sampled_from(["", "$"]),
    ),
)
PATTERNS = st.lists(_BRANCHES, min_size=1, max_size=4).map("|".join) | st.sampled_from(["[ab]", "[a-c]", "a[ab]"])
TEXTS = st.text("abc\n", max_size=9)


@pytest.mark.parametrize(
    ("pattern", "is_plain", "among_several"),
    [
        ("mmtel", True, True),
        ("^audio", True, True),
        ("15$", True, True),
        ("alice|1555", True, True),
        ("^a$|b", True, True),
        ("[ai]", True, True),
        ("urn..", True, False),
        ("^..x", True, False),
        (".+x", True, False),
        ("^.+x", False, False),
        ("[a-z]", False, False),
        ("[^a]", False, False),
        ("ab*", False, False),
        ("(a|b)c", False, False),
        ("a|b|c|d|e", False, False),
        ("", False, False),
        ("..", False, False),
    ],
)
def test_what_is_plain(pattern: str, is_plain: bool, among_several: bool) -> None:
    node = parse_ere(pattern)
    assert (plain_search(node) is not None) is is_plain
    assert (plain_lines_search(node) is not None) is among_several


@given(PATTERNS, TEXTS)
def test_one_text(pattern: str, text: str) -> None:
    expected = re.search(translate_ere(pattern), text, re.DOTALL) is not None
    search = plain_search(parse_ere(pattern))
    assert search is None or bool(search(text)) is expected
    compiled = Ere(pattern)
    assert compiled.search is None or bool(compiled.search(text)) is expected


@given(PATTERNS, st.lists(st.text("abc", max_size=5), min_size=2, max_size=4))
def test_several_texts(pattern: str, texts: list[str]) -> None:
    expected = any(re.search(translate_ere(pattern), text, re.DOTALL) for text in texts)
    joined = "\n".join(["", *texts])
    search = plain_lines_search(parse_ere(pattern))
    assert search is None or bool(search(joined)) is expected
    assert bool(Ere(pattern).lines_search()(joined)) is expected


def test_names_that_ignore_case_are_left_to_the_regular_expression() -> None:
    search = Ere("ontact", ignore_case=True).search
    assert search is not None
    assert search("CONTACT")
