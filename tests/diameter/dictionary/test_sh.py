"""The Sh dictionary against pycrate's, and the M-bit rules of TS 29.329 Table 6.3.1."""

from __future__ import annotations

import pytest
from pycrate_diameter.Diameter3GPP import TGPPAVPInfos_dict

from diameter.dictionary.sh import SH
from diameter.types import AvpFormat
from tests.diameter.dictionary.pycrate import are_formats_equal

MUST_NOT = [629, 630, 631, 634, 636, 650, *range(708, 711), *range(712, 723)]
MUST = [601, 602, *range(700, 708), 711, 3111]


@pytest.mark.parametrize("code", MUST_NOT)
def test_m_bit_is_clear(code: int) -> None:
    definition = SH.avps_by_key[10415, code]
    value = {AvpFormat.GROUPED: (), AvpFormat.OCTET_STRING: b"", AvpFormat.UTF8_STRING: ""}.get(
        definition.data_format, 0
    )
    assert definition.avp(value, mandatory=True).flags == 0


@pytest.mark.parametrize("code", MUST)
def test_m_bit_is_set(code: int) -> None:
    assert SH.avps_by_key[10415, code].mandatory_bit.value == "must"


def test_supported_features_is_an_offer_unless_required() -> None:
    assert SH["Supported-Features"].avp(()).flags == 0
    assert SH["Supported-Features"].avp((), mandatory=True).flags == 0x40


@pytest.mark.parametrize("code", [code for vendor, code in SH.avps_by_key if vendor == 10415])
def test_pycrate_agrees_on_names_and_formats(code: int) -> None:
    ours = SH.avps_by_key[10415, code]
    if code not in TGPPAVPInfos_dict:
        pytest.fail(f"{ours.name} unknown to pycrate")
    name, data_format = TGPPAVPInfos_dict[code]
    assert name == ours.name
    assert are_formats_equal(ours.data_format, data_format)


@pytest.mark.parametrize(("name", "code"), [("UD", 306), ("PU", 307), ("SN", 308), ("PN", 309)])
def test_commands_have_both_directions(name: str, code: int) -> None:
    request, answer = SH.command(f"{name}R"), SH.command(f"{name}A")
    assert (request.code, answer.code, request.flags, answer.flags) == (code, code, 0xC0, 0x40)
