"""Sh-Data, the XML of the User-Data AVP: what it says, the tolerant reader, the strict writer."""

from __future__ import annotations

from diameter.sh.sh_data import (
    NO_DATA,
    Location,
    ReferenceLocation,
    RepositoryData,
    ShData,
    SmsRegistration,
    TadsInformation,
    join_sh_data,
)
from diameter.sh.sh_data_reader import (
    MAX_DEPTH,
    MAX_ELEMENTS,
    MAX_USER_DATA_BYTES,
    find_deviations_untrusted,
    parse_sh_data_untrusted,
)
from diameter.sh.sh_data_writer import write_repository_data, write_sh_data

__all__ = [
    "MAX_DEPTH",
    "MAX_ELEMENTS",
    "MAX_USER_DATA_BYTES",
    "NO_DATA",
    "Location",
    "ReferenceLocation",
    "RepositoryData",
    "ShData",
    "SmsRegistration",
    "TadsInformation",
    "find_deviations_untrusted",
    "join_sh_data",
    "parse_sh_data_untrusted",
    "write_repository_data",
    "write_sh_data",
]
