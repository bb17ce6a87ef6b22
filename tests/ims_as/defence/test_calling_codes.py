"""The table of calling codes: the longest prefix wins, and what is of no country."""

from __future__ import annotations

import pytest

from ims_as.defence.calling_codes import COUNTRIES, GROUPS, country_of, groups_of, split_code


@pytest.mark.parametrize(
    ("number", "country"),
    [
        ("+12125550100", "US"),
        ("+14165550100", "CA"),
        ("+18765550100", "JM"),
        ("+17875550100", "PR"),
        ("+4930123456", "DE"),
        ("+441534123456", "JE"),
        ("+442071234567", "GB"),
        ("+74951234567", "RU"),
        ("+77271234567", "KZ"),
        ("+390612345678", "IT"),
        ("+390669812345", "VA"),
        ("+35818123456", "AX"),
        ("+59991234567", "CW"),
        ("+61891641234", "CC"),
        ("+37112345678", "LV"),
        ("+88216123456", None),
        ("+80012345678", None),
        ("+2101234567", None),
    ],
)
def test_country(number: str, country: str | None) -> None:
    info = country_of(number)
    assert (None if info is None else info.country) == country


@pytest.mark.parametrize(
    ("number", "groups"),
    [
        ("+8816123456", {"satellite"}),
        ("+870123456", {"satellite"}),
        ("+88216123456", {"satellite"}),
        ("+8821012345", {"global"}),
        ("+883510012345", {"global"}),
        ("+979112345678", {"premium"}),
        ("+4990012345", {"premium"}),
        ("+19005550100", {"premium"}),
        ("+449098790000", {"premium"}),
        ("+2521234567", {"high-risk"}),
        ("+18765550100", {"high-risk"}),
        ("+4930123456", set()),
        ("+80012345678", set()),
        ("+441189123456", set()),
    ],
)
def test_groups(number: str, groups: set[str]) -> None:
    assert groups_of(number) == groups
    assert groups <= GROUPS


def test_code_and_rest() -> None:
    assert split_code("+49112") == ("49", "112")
    assert split_code("+1911") == ("1", "911")
    assert split_code("+352112") == ("352", "112")
    assert split_code("+881612") == ("881", "612")
    assert split_code("+2101") is None


def test_letters_are_letters() -> None:
    assert all(len(letters) == 2 and letters.isupper() for letters in COUNTRIES)
    assert len(COUNTRIES) > 230
