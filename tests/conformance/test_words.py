import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.lab.words import count_right_words, word_accuracy

WORDS = st.lists(st.sampled_from("abcd"), max_size=8).map(" ".join)


@pytest.mark.parametrize(
    ("expected", "heard", "right"),
    [
        ("ten of clubs", "ten of clubs", 3),
        ("ten of clubs", "two of clubs", 2),
        ("ten of clubs", "eight ten of clubs", 2),
        ("ten of clubs", "of clubs", 2),
        ("ten of clubs", "", 0),
        ("five", "one two three", 0),
    ],
)
def test_counts(expected, heard, right):
    assert count_right_words(expected, heard) == right


@given(WORDS, WORDS)
def test_all_are_right_only_when_equal(expected, heard):
    assert (word_accuracy(expected, heard) == 1.0) == (expected == heard)
    assert 0.0 <= word_accuracy(expected, heard) <= 1.0
