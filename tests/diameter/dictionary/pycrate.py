"""pycrate's dictionaries as a second opinion on ours."""

from __future__ import annotations

from diameter.types import AvpFormat

# pycrate's tables differ from the RFC in the signedness and names of a few formats; these say the same on the wire
_ALIKE = [
    {"Enumerated", "Unsigned32", "Integer32"},
    {"OctetString", "UTF8String", "DiameterIdentity", "DiameterURI", "IPFilterRule"},
]


def are_formats_equal(ours: AvpFormat, theirs: type) -> bool:
    """True when both formats put the same bytes on the wire."""
    names = {ours.value, theirs.__name__}
    return len(names) == 1 or any(names <= group for group in _ALIKE)
