"""What is remembered by its text, and what is not."""

import pytest

from ims_as.sip.errors import SipParseError
from ims_as.sip.text_cache import MAX_ENTRIES, MAX_TEXT_CHARS, TextCache


def test_reads_once():
    asked: list[str] = []

    def read(text: str) -> int:
        asked.append(text)
        return len(text)

    cache = TextCache(read)
    assert [cache["a"], cache["a"], cache["bb"]] == [1, 1, 2]
    assert asked == ["a", "bb"]


def test_errors_are_not_remembered():
    def read(text: str) -> int:
        raise SipParseError(text)

    cache = TextCache(read)
    for _ in range(2):
        with pytest.raises(SipParseError):
            _ = cache["a"]
    assert not cache


def test_what_peers_send_does_not_fill_the_memory():
    cache = TextCache(len)
    assert cache["x" * (MAX_TEXT_CHARS + 1)] == MAX_TEXT_CHARS + 1
    assert not cache
    for number in range(3 * MAX_ENTRIES):
        assert cache[str(number)] == len(str(number))
        assert len(cache) <= MAX_ENTRIES
