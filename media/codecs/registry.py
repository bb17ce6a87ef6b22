"""The codecs that this machine has, by encoding name and RTP clock.

A codec whose library is missing is not there; `missing` tells why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

from media.codecs.amr import amr, amr_wb
from media.codecs.base import Codec, CodecError
from media.codecs.g722 import g722
from media.codecs.g729 import g729
from media.codecs.l16 import L16_RATES_HZ, l16
from media.codecs.opus import opus

__all__ = ["available", "find_codec", "missing"]

_MAKERS: tuple[tuple[str, Callable[[], Codec]], ...] = (
    ("AMR-WB/16000", amr_wb),
    ("AMR/8000", amr),
    ("opus/48000/2", opus),
    ("G722/8000", g722),
    ("G729/8000", g729),
    *((f"L16/{rate}", lambda rate=rate: l16(rate)) for rate in L16_RATES_HZ),
)
"""Name as in rtpmap, and what makes the codec or raises CodecError."""


@cache
def _load() -> tuple[dict[tuple[str, int], Codec], dict[str, str]]:
    found: dict[tuple[str, int], Codec] = {}
    lacking: dict[str, str] = {}
    for name, make in _MAKERS:
        try:
            codec = make()
        except CodecError as error:
            lacking[name] = str(error)
        else:
            found[codec.name, codec.clock_rate_hz] = codec
    return found, lacking


def available() -> Iterator[Codec]:
    """All codecs, besides G.711."""
    yield from _load()[0].values()


def find_codec(name: str, clock_rate_hz: int) -> Codec | None:
    """The codec of an rtpmap; the name in any case."""
    return _load()[0].get((name.upper(), clock_rate_hz))


def missing() -> dict[str, str]:
    """Name as in rtpmap → why this machine does not have it."""
    return dict(_load()[1])
