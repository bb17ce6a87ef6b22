"""The Cx dictionary against pycrate's."""

from __future__ import annotations

import pytest
from pycrate_diameter.Diameter3GPP import TGPPAVPInfos_dict

from diameter.dictionary.cx import CX
from diameter.dictionary.sh import SH
from tests.diameter.dictionary.pycrate import are_formats_equal


@pytest.mark.parametrize("code", [code for vendor, code in CX.avps_by_key if vendor == 10415])
def test_pycrate_agrees_on_names_and_formats(code: int) -> None:
    ours = CX.avps_by_key[10415, code]
    name, data_format = TGPPAVPInfos_dict[code]
    assert name == ours.name
    assert are_formats_equal(ours.data_format, data_format)


@pytest.mark.parametrize(("name", "code"), [("UA", 300), ("SA", 301), ("LI", 302), ("MA", 303)])
def test_commands_have_both_directions(name: str, code: int) -> None:
    request, answer = CX.command(f"{name}R"), CX.command(f"{name}A")
    assert (request.code, answer.code, request.flags, answer.flags) == (code, code, 0xC0, 0x40)


def test_user_data_is_not_the_one_of_sh() -> None:
    assert CX["User-Data"].key == (10415, 606)
    assert SH["User-Data"].key == (10415, 702)
