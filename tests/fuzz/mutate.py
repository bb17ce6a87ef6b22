"""Mutations of text protocols: made for speed, so that a reader of 30 µs is still the most of an input's cost."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

__all__ = ["COMMON_TOKENS", "Mutator"]

MAX_MUTATIONS = 4
MAX_SIZE = 65_535
"""Of a datagram."""

COMMON_TOKENS: tuple[bytes, ...] = (
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b"\r\n ",
    b"\0",
    b" ",
    b"\t",
    b"  ",
    b'"',
    b'\\"',
    b"\\",
    b"<",
    b">",
    b"<<",
    b";",
    b";;",
    b",",
    b":",
    b"::",
    b"=",
    b"@",
    b"/",
    b"%",
    b"%00",
    b"%0d%0a",
    b"%zz",
    b"[",
    b"]",
    b"[::1]",
    b"*",
    b"\xff",
    b"\xc3\x28",
    b"\xef\xbb\xbf",
    b"0",
    b"-1",
    b"65536",
    b"4294967296",
    b"18446744073709551616",
    b"9" * 400,
    b"1e9",
    b"0x10",
    "١٢".encode(),
)


class Mutator:
    """An endless supply of inputs.

    Args:
        seeds: well-formed inputs, and odd ones that are worth being near to.
        tokens: what the format is made of; `COMMON_TOKENS` come besides.
        seed: of the dice.
    """

    def __init__(self, seeds: Sequence[bytes], tokens: Sequence[bytes] = (), *, seed: int = 0) -> None:
        self._seeds = tuple(seeds)
        self._tokens = (*COMMON_TOKENS, *tokens, *tokens)  # those of the format come up more often
        self._dice = random.Random(seed)
        self._ways: tuple[Callable[[bytes, int], bytes], ...] = (
            self._flip,
            self._flip,
            self._insert_token,
            self._insert_token,
            self._replace_by_token,
            self._delete,
            self._repeat,
            self._splice,
            self._truncate,
            self._move_line,
            self._repeat_line,
            self._drop_line,
            self._number,
        )

    def next(self) -> bytes:
        """One input."""
        random_ = self._dice.random
        seeds, ways = self._seeds, self._ways
        data = seeds[int(random_() * len(seeds))]
        for _ in range(1 + int(random_() * MAX_MUTATIONS)):
            size = len(data)
            if not size:
                break
            data = ways[int(random_() * len(ways))](data, size)
        return data if len(data) <= MAX_SIZE else data[:MAX_SIZE]

    def _at(self, size: int) -> int:
        return int(self._dice.random() * size)

    def _token(self) -> bytes:
        return self._tokens[int(self._dice.random() * len(self._tokens))]

    def _flip(self, data: bytes, size: int) -> bytes:
        at = self._at(size)
        return b"%b%c%b" % (data[:at], int(self._dice.random() * 256), data[at + 1 :])

    def _insert_token(self, data: bytes, size: int) -> bytes:
        at = self._at(size + 1)
        return data[:at] + self._token() + data[at:]

    def _replace_by_token(self, data: bytes, size: int) -> bytes:
        at = self._at(size)
        return data[:at] + self._token() + data[at + 1 + self._at(8) :]

    def _delete(self, data: bytes, size: int) -> bytes:
        at = self._at(size)
        return data[:at] + data[at + 1 + self._at(16) :]

    def _repeat(self, data: bytes, size: int) -> bytes:
        at = self._at(size)
        end = at + 1 + self._at(32)
        times = 2 if self._dice.random() < 0.9 else 200
        return data[:at] + data[at:end] * times + data[end:]

    def _splice(self, data: bytes, size: int) -> bytes:
        other = self._seeds[int(self._dice.random() * len(self._seeds))]
        return data[: self._at(size)] + other[self._at(len(other) + 1) :]

    def _truncate(self, data: bytes, size: int) -> bytes:
        return data[: self._at(size)] if self._dice.random() < 0.5 else data[self._at(size) :]

    def _line(self, data: bytes, size: int) -> tuple[int, int]:
        at = self._at(size)
        return data.rfind(b"\n", 0, at) + 1, data.find(b"\n", at) + 1 or size

    def _move_line(self, data: bytes, size: int) -> bytes:
        start, end = self._line(data, size)
        line, rest = data[start:end], data[:start] + data[end:]
        if not rest:
            return data
        to = rest.rfind(b"\n", 0, self._at(len(rest))) + 1
        return rest[:to] + line + rest[to:]

    def _repeat_line(self, data: bytes, size: int) -> bytes:
        start, end = self._line(data, size)
        return data[:end] + data[start:end] + data[end:]

    def _drop_line(self, data: bytes, size: int) -> bytes:
        start, end = self._line(data, size)
        return data[:start] + data[end:]

    def _number(self, data: bytes, size: int) -> bytes:
        """Another number in place of the next digits."""
        at = self._at(size)
        while at < size and not 48 <= data[at] <= 57:
            at += 1
        end = at
        while end < size and 48 <= data[end] <= 57:
            end += 1
        value = int(self._dice.random() * 2 ** int(self._dice.random() * 70))
        return data[:at] + b"%d" % value + data[end:]
