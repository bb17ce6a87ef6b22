"""Values that were read from text, remembered by that text: a call's messages repeat its addresses, URIs and CSeqs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

__all__ = ["TextCache"]

V = TypeVar("V")

MAX_ENTRIES: Final = 4096
"""Above that the table starts anew: some 1,000 calls that are being set up at the same time."""
MAX_TEXT_CHARS: Final = 256
"""Longer texts are read each time; so a table holds no more than about 3 MB, whatever peers send."""


class TextCache(dict[str, V]):
    """`cache[text]` is what `read(text)` gave when the text was first met; an error is raised and not remembered.

    For values that nobody changes.
    """

    __slots__ = ("_read",)

    def __init__(self, read: Callable[[str], V]) -> None:
        super().__init__()
        self._read = read

    def __missing__(self, text: str) -> V:
        value = self._read(text)
        if len(text) <= MAX_TEXT_CHARS:
            if len(self) >= MAX_ENTRIES:
                self.clear()
            self[text] = value
        return value
