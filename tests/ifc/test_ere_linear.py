from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from ifc.ere import translate_ere
from ifc.ere_linear import MAX_CACHED, LinearMatcher
from ifc.ere_syntax import parse_ere
from tests.ifc.strategies import ERE_TEXTS


@settings(max_examples=400, deadline=None)
@given(ERE_TEXTS, st.text("ab0.", max_size=8))
def test_agrees_with_re(pattern: str, text: str) -> None:
    # on an empty text re sees both anchors in one place, in either order; a pattern that means that is nobody's
    if not text and "$" in pattern:
        return
    expected = re.search(translate_ere(pattern), text, re.DOTALL) is not None
    assert LinearMatcher(parse_ere(pattern)).search(text) is expected


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
