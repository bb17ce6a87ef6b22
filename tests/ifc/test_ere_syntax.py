from __future__ import annotations

import pytest

from ifc.ere_syntax import (
    MAX_DEPTH,
    MAX_PATTERN_CHARS,
    Anchor,
    CharSet,
    Choice,
    Repeat,
    Sequence,
    count_positions,
    parse_ere,
)
from ifc.errors import EreError


def char(text: str) -> CharSet:
    return CharSet(((ord(text), ord(text)),))


def test_tree() -> None:
    assert parse_ere("^a+|b{2,}$") == Choice(
        (
            Sequence((Anchor(True), Repeat(char("a"), 1, None))),
            Sequence((Repeat(char("b"), 2, None), Anchor(False))),
        )
    )


@pytest.mark.parametrize(
    ("pattern", "inside", "outside"),
    [
        ("[abc]", "abc", "d-]"),
        ("[a-c]", "abc", "d-"),
        ("[]a]", "]a", "["),
        ("[^]a]", "b[", "]a"),
        ("[a-]", "a-", "b"),
        ("[-a]", "a-", "b"),
        ("[a\\d]", "a\\d", "0"),
        ("[[:digit:]x]", "09x", "a:["),
        ("[^[:space:]]", "a", " \t"),
        ("[[:alnum:]_]", "aZ5_", "-"),
        ("[[.-.]]", "-", "."),
        ("[[=a=]]", "a", "="),
        ("[[.a.]-c]", "abc", "-."),
        ("[*.+]", "*.+", "a"),
        ("\\$", "$", "a"),
        ("\\\\", "\\", "a"),
        ("\\@", "@", "\\"),
        (".", "aß\t", ""),
        ("]", "]", "["),
        ("}", "}", "{"),
    ],
)
def test_one_character(pattern: str, inside: str, outside: str) -> None:
    node = parse_ere(pattern)
    assert isinstance(node, CharSet)
    assert all(node.contains(each) for each in inside)
    assert not any(node.contains(each) for each in outside)


@pytest.mark.parametrize(
    ("pattern", "complaint"),
    [
        ("\\d+", "digits are"),
        ("\\w", "not in POSIX"),
        ("\\1", "not in POSIX"),
        ("a*?", "repeats a repetition"),
        ("a**", "repeats a repetition"),
        ("a{2}{3}", "repeats a repetition"),
        ("*a", "repeats nothing"),
        ("(?:a)", "repeats nothing"),
        ("(*a)", "repeats nothing"),
        ("a|*b", "repeats nothing"),
        ("^*", "repeats an anchor"),
        ("a{", "begins no interval"),
        ("a{,3}", "begins no interval"),
        ("a{3", "without }"),
        ("a{3,2}", "ends before"),
        ("a{256}", "more than 255"),
        ("a{99999999999999999999}", "more than 255"),
        ("a)", "unmatched )"),
        ("(a", "( without )"),
        ("[a", "[ without ]"),
        ("[", "[ without ]"),
        ("[]", "[ without ]"),
        ("[z-a]", "ends before"),
        ("[[:word:]]", "unknown character class"),
        ("[[:digit]", "unknown character class"),
        ("[[.space.]]", "more than one"),
        ("a\\", "at the end"),
        ("a\nb", "character 0xa"),
        ("a\x00", "character 0x0"),
        ("\ud800", "character 0xd800"),
        ("a" * (MAX_PATTERN_CHARS + 1), "characters, at most"),
        ("(" * (MAX_DEPTH + 1) + ")" * (MAX_DEPTH + 1), "parentheses"),
        ("((a{200}){200}){200}", "stands for more"),
        ("((()){255}){255}", "stands for more"),
    ],
)
def test_refused(pattern: str, complaint: str) -> None:
    with pytest.raises(EreError) as caught:
        parse_ere(pattern)
    assert complaint in str(caught.value)


def test_positions() -> None:
    assert count_positions(parse_ere("(ab){3,5}c*")) == 11
