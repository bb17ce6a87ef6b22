"""Our dictionary held against those of pycrate and python-diameter: code, vendor, name and format of every AVP.

Every difference is in a table here, with its reason; one that is not, or one that is listed and gone, fails.
"""

from __future__ import annotations

from typing import Any

import pytest
from pycrate_diameter.Diameter3GPP import TGPPAVPInfos_dict
from pycrate_diameter.DiameterIETF import FMT_LUT_IETF
from pycrate_diameter.iana_diameter_dicts import AVPCodes_dict

from diameter.avp import AvpKey
from diameter.dictionary.loader import AvpDefinition
from tests.support.diameter_messages import DICTIONARIES
from tests.support.python_diameter import Codec

# every AVP of ours once; names that two applications give to one code differ (User-Data has two codes)
OURS: dict[AvpKey, AvpDefinition] = {}
for dictionary in DICTIONARIES:
    for key, definition in dictionary.avps_by_key.items():
        assert OURS.setdefault(key, definition) == definition, f"{definition.name}: two dictionaries disagree"

Entry = tuple[str, str]
"""Name and format; the format is '' where the other one has none."""

RENAMED = "renamed in TS 29.229; the code is the same"
PREFIXED = "prefixed there, for RFC 4740 has the same name with another code"
OWN = "the applications' own name, both say User-Data"
SIGN = "Unsigned32 in the specification; the same bytes below 2**31"
SPELLING = "so spelled in RFC 5090; TS 29.229 says Digest-QoP"
PYTHON_DIAMETER: dict[AvpKey, tuple[Entry, str]] = {
    (0, 110): (("Digest-Qop", "UTF8String"), SPELLING),
    (10415, 606): (("Cx-User-Data", "OctetString"), OWN),
    (10415, 607): (("3GPP-SIP-Number-Auth-Items", "Unsigned32"), PREFIXED),
    (10415, 608): (("3GPP-SIP-Authentication-Scheme", "UTF8String"), PREFIXED),
    (10415, 609): (("3GPP-SIP-Authenticate", "OctetString"), PREFIXED),
    (10415, 610): (("3GPP-SIP-Authorization", "OctetString"), PREFIXED),
    (10415, 612): (("3GPP-SIP-Auth-Data-Item", "Grouped"), PREFIXED),
    (10415, 613): (("3GPP-SIP-Item-Number", "Unsigned32"), PREFIXED),
    (10415, 634): (("Wildcarded-PSI", "UTF8String"), RENAMED),
    (10415, 702): (("Sh-User-Data", "OctetString"), OWN),
    (10415, 719): (("UDR-Flags", "Integer32"), SIGN),
    (0, 268): (("Result-Code", "Integer32"), SIGN),
    (0, 291): (("Authorization-Lifetime", "Integer32"), SIGN),
    (0, 299): (("Inband-Security-Id", "Integer32"), SIGN),
}
NO_FORMAT = "RFC 5090; pycrate knows the name only"
PYCRATE: dict[AvpKey, tuple[Entry, str]] = {
    (0, 104): (("Digest-Realm", ""), NO_FORMAT),
    (0, 110): (("Digest-Qop", ""), f"{SPELLING}; {NO_FORMAT}"),
    (0, 111): (("Digest-Algorithm", ""), NO_FORMAT),
    (0, 121): (("Digest-HA1", ""), NO_FORMAT),
    (0, 267): (("Firmware-Version", "Unsigned32"), "the registry's name; RFC 6733 §5.3.4 says Firmware-Revision"),
}
# names of formats that python-diameter does not tell apart, all of the same bytes
BASES = {"Enumerated": "Integer32", "DiameterIdentity": "OctetString", "DiameterURI": "UTF8String"}


@pytest.fixture(scope="module")
def python_diameter() -> dict[AvpKey, Entry]:
    with Codec() as codec:
        vendors: dict[str, dict[str, list[str]]] = codec.ask({"dictionary": True})
    return {
        (int(vendor), int(code)): (name, kind.removeprefix("Avp").replace("Utf8", "UTF8"))
        for vendor, entries in vendors.items()
        for code, (name, kind) in entries.items()
    }


def pycrate_entry(key: AvpKey) -> Entry | None:
    vendor, code = key
    if vendor == 10415:
        name, kind = TGPPAVPInfos_dict.get(code, (None, None))
    else:
        name, kind = AVPCodes_dict.get(code), FMT_LUT_IETF.get(code)
    return None if name is None else (name, _format_name(kind))


def _format_name(kind: Any) -> str:
    return "" if kind is None else str(kind.__name__)


@pytest.mark.parametrize("key", OURS, ids=lambda key: f"{key[0]}-{key[1]}")
def test_python_diameter_agrees(key: AvpKey, python_diameter: dict[AvpKey, Entry]) -> None:
    ours = OURS[key]
    theirs = python_diameter.get(key)
    if key in PYTHON_DIAMETER:
        assert theirs == PYTHON_DIAMETER[key][0]
        return
    assert theirs is not None, f"{ours.name} is unknown to python-diameter"
    name, data_format = theirs
    assert name == ours.name
    assert data_format in (ours.data_format.value, BASES.get(ours.data_format.value))


@pytest.mark.parametrize("key", OURS, ids=lambda key: f"{key[0]}-{key[1]}")
def test_pycrate_agrees(key: AvpKey) -> None:
    ours = OURS[key]
    theirs = pycrate_entry(key)
    if key in PYCRATE:
        assert theirs == PYCRATE[key][0]
        return
    assert theirs == (ours.name, ours.data_format.value)


def test_every_listed_difference_is_one(python_diameter: dict[AvpKey, Entry]) -> None:
    for table in (PYTHON_DIAMETER, PYCRATE):
        for key, (entry, reason) in table.items():
            assert entry != (OURS[key].name, OURS[key].data_format.value)
            assert reason
