"""The base dictionary against IANA's lists as pycrate carries them."""

from __future__ import annotations

import pytest
from pycrate_diameter.iana_diameter_dicts import AVPCodes_dict, Cmd_dict

from diameter.dictionary.base import BASE


@pytest.mark.parametrize("code", [code for vendor, code in BASE.avps_by_key if vendor == 0])
def test_names_are_those_of_iana(code: int) -> None:
    # the registry's list says Firmware-Version where RFC 6733 §5.3.4 says Firmware-Revision
    assert AVPCodes_dict[code].replace("Firmware-Version", "Firmware-Revision") == BASE.avps_by_key[0, code].name


@pytest.mark.parametrize(("pair", "code"), [("CER / CEA", 257), ("DWR / DWA", 280), ("DPR / DPA", 282)])
def test_commands_are_those_of_iana(pair: str, code: int) -> None:
    assert Cmd_dict[code] == pair
    request, answer = (BASE.command(name) for name in pair.split(" / "))
    assert (request.code, answer.code, request.flags, answer.flags) == (code, code, 0x80, 0)


@pytest.mark.parametrize("name", ["Product-Name", "Firmware-Revision", "Error-Message", "Load", "DRMP"])
def test_m_bit_is_clear(name: str) -> None:
    assert BASE[name].mandatory_bit.value == "mustnot"
