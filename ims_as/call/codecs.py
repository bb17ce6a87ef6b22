"""The codecs of our own leg: what the media plane has, in the order of our own offers."""

from __future__ import annotations

from functools import cache
from typing import Final

import attrs

from ims_as.sip.codec_choice import G711_CODECS, CodecOffer
from media.codecs.registry import find_codec, missing

__all__ = ["CODEC_NAMES", "missing_codecs", "own_codecs"]

_OCTET_ALIGNED: Final = "octet-align=1;mode-change-capability=2"
_EFFICIENT: Final = "mode-change-capability=2"
_TABLE: Final = (
    CodecOffer("AMR-WB", 16000, 104, _EFFICIENT),
    CodecOffer("AMR-WB", 16000, 105, _OCTET_ALIGNED, is_offered=False),
    CodecOffer("opus", 48000, 106, "useinbandfec=1", 2),
    CodecOffer("G722", 8000, 9),
    *G711_CODECS,
    CodecOffer("AMR", 8000, 102, _EFFICIENT),
    CodecOffer("AMR", 8000, 103, _OCTET_ALIGNED, is_offered=False),
    CodecOffer("G729", 8000, 18),
    CodecOffer("L16", 16000, 107),
)
CODEC_NAMES: Final = tuple(dict.fromkeys(codec.name for codec in _TABLE))
"""What `media.codecs` may name."""
_G711: Final = frozenset(codec.name for codec in G711_CODECS)
_ONLY_IF_NAMED: Final = frozenset({"L16"})
"""Takes four times the bandwidth that a radio bearer has."""
_OFFERED: Final = frozenset({"AMR-WB", "PCMA", "PCMU"})
"""In offers of ours, where none are named: with more an INVITE would not fit into a datagram (RFC 3261 §18.1.1)."""


@cache
def own_codecs(names: tuple[str, ...]) -> tuple[CodecOffer, ...]:
    """The codecs with these names in this order; without names all, of which a few are offered by ourselves.

    Those whose library is missing are left out.
    """
    wanted = [name.lower() for name in names or CODEC_NAMES if names or name not in _ONLY_IF_NAMED]
    found = [
        codec
        for name in wanted
        for codec in _TABLE
        if codec.name.lower() == name and (codec.name in _G711 or find_codec(codec.name, codec.clock_rate) is not None)
    ]
    if not names:
        found = [attrs.evolve(codec, is_offered=codec.is_offered and codec.name in _OFFERED) for codec in found]
    return tuple(dict.fromkeys(found))


def missing_codecs(names: tuple[str, ...]) -> dict[str, str]:
    """Codecs that are wanted and that this machine lacks, with the reason."""
    wanted = {name.lower() for name in names or CODEC_NAMES}
    return {name: why for name, why in missing().items() if name.partition("/")[0].lower() in wanted}
