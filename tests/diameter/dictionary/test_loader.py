"""The dictionary language: what it accepts, what it refuses, what it checks on receipt."""

from __future__ import annotations

import pytest

from diameter.avp import FLAG_MANDATORY, Avp, Avps
from diameter.dictionary import loader
from diameter.dictionary.base import BASE
from diameter.dictionary.loader import Dictionary, load_dictionary
from diameter.errors import LocalDiameterError, RemoteDiameterError
from diameter.message import Message

ROWS = """
1 Colour UTF8String must
2 Size Unsigned32 mustnot
3 Box Grouped may
"""
NOTATION = """
<Box> ::= < AVP Header: 3 99 > { Size } * [ AVP ]
<PAR> ::= < Diameter Header: 400, REQ, PXY, 7 > < Session-Id > { Colour } 1*2 [ Size ] * [ Box ] * [ AVP ]
<PAA> ::= < Diameter Header: 400, PXY, 7 > [ Colour ] * [ AVP ]
"""


def load(rows: str = ROWS, notation: str = NOTATION) -> Dictionary:
    return load_dictionary("toy", application_id=7, vendor=99, rows=rows, notation=notation, includes=(BASE,))


def build(toy: Dictionary, *avps: Avp) -> Message:
    return toy.command("PAR").message([BASE["Session-Id"].avp("s"), *avps])


def test_rows_carry_vendor_and_flags() -> None:
    toy = load()
    assert toy["Colour"].avp("red") == Avp(1, b"red", 99, FLAG_MANDATORY)
    assert toy["Size"].avp(1, mandatory=True).flags == 0
    assert toy["Box"].avp([]).flags == 0
    assert toy["Box"].avp([], mandatory=True).flags == FLAG_MANDATORY
    assert toy["Session-Id"] is BASE["Session-Id"]


def test_rules_of_a_command() -> None:
    rules = load().command("PAR").rules
    assert [(rule.definition.name, rule.minimum, rule.maximum) for rule in rules] == [
        ("Session-Id", 1, 1),
        ("Colour", 1, 1),
        ("Size", 1, 2),
        ("Box", 0, None),
    ]


@pytest.mark.parametrize(
    ("rows", "notation"),
    [
        (ROWS + "1 Shade UTF8String must", NOTATION),  # code twice
        (ROWS + "9 Colour UTF8String must", NOTATION),  # name twice
        (ROWS + "9 Shade Text must", NOTATION),  # unknown format
        (ROWS + "9 Shade UTF8String perhaps", NOTATION),
        (ROWS + "9 Shade", NOTATION),
        (ROWS + "9 Bag Grouped must", NOTATION),  # group without members
        (ROWS, NOTATION.replace("{ Size }", "{ Weight }")),  # unknown name
        (ROWS, NOTATION.replace("{ Size }", "{ Size ]")),
        (ROWS, NOTATION.replace("3 99", "4 99")),  # group and row disagree
        (ROWS, NOTATION.replace("<PAA>", "<PAX>").replace("400, PXY, 7", "401, PXY, 7")),  # one direction only
        (ROWS, NOTATION.replace("PXY, 7", "PXY, 8")),  # another application
        (ROWS, "words " + NOTATION),
        (ROWS, NOTATION.replace("400, REQ, PXY, 7", "400, REQ, FOO, 7")),
    ],
)
def test_contradictions_are_found_at_import(rows: str, notation: str) -> None:
    with pytest.raises(LocalDiameterError):
        load(rows, notation)


def test_sound_request_passes() -> None:
    toy = load()
    toy.check_untrusted(build(toy, toy["Colour"].avp("red"), toy["Size"].avp(1)), toy.command("PAR"))


@pytest.mark.parametrize(
    ("avps", "result_code", "failed_code"),
    [
        (["Size"], 5005, 1),
        (["Colour"], 5005, 2),
        (["Colour", "Colour", "Size"], 5009, 1),
        (["Colour", "Size", "Size", "Size"], 5009, 2),
    ],
)
def test_counts(avps: list[str], result_code: int, failed_code: int) -> None:
    toy = load()
    values = {"Colour": "red", "Size": 1}
    with pytest.raises(RemoteDiameterError) as caught:
        toy.check_untrusted(build(toy, *(toy[name].avp(values[name]) for name in avps)), toy.command("PAR"))
    assert caught.value.result_code == result_code
    assert caught.value.failed_avp is not None
    assert caught.value.failed_avp.code == failed_code


def test_a_missing_number_is_named_by_zeros_of_its_length() -> None:
    toy = load()
    with pytest.raises(RemoteDiameterError) as caught:
        toy.check_untrusted(build(toy, toy["Colour"].avp("red")), toy.command("PAR"))
    assert caught.value.failed_avp == Avp(2, bytes(4), 99)
    assert toy["Colour"].example() == Avp(1, b"", 99, FLAG_MANDATORY)


@pytest.mark.parametrize("where", ["message", "group"])
def test_unknown_avp_is_refused_with_m_and_ignored_without(where: str) -> None:
    toy = load()
    known = [toy["Colour"].avp("red"), toy["Size"].avp(1)]
    for flags, is_refused in ((FLAG_MANDATORY, True), (0, False)):
        strange = Avp(4711, b"x", 99, flags)
        avps = [strange] if where == "message" else [toy["Box"].avp([toy["Size"].avp(1), strange])]
        message = build(toy, *known, *avps)
        if is_refused:
            with pytest.raises(RemoteDiameterError) as caught:
                toy.check_untrusted(message, toy.command("PAR"))
            assert (caught.value.result_code, caught.value.failed_avp) == (5001, strange)
        else:
            toy.check_untrusted(message, toy.command("PAR"))


def test_same_code_of_another_vendor_is_another_avp() -> None:
    toy = load()
    message = build(toy, Avp(1, b"red"), toy["Size"].avp(1))
    with pytest.raises(RemoteDiameterError) as caught:
        toy.check_untrusted(message, toy.command("PAR"))
    assert caught.value.result_code == 5005


def test_m_bit_of_known_avps_does_not_matter() -> None:
    toy = load()
    message = build(toy, Avp(1, b"red", 99, 0), Avp(2, bytes(4), 99, FLAG_MANDATORY))
    toy.check_untrusted(message, toy.command("PAR"))


def test_asking_for_the_wrong_type_is_our_mistake() -> None:
    toy = load()
    with pytest.raises(LocalDiameterError):
        toy["Colour"].number(Avps())
    with pytest.raises(LocalDiameterError):
        toy["Size"].group(Avps())
    with pytest.raises(LocalDiameterError):
        toy["Weight"]
    with pytest.raises(LocalDiameterError):
        toy.command("XYZ")


def test_bad_value_names_its_avp() -> None:
    toy = load()
    avp = Avp(2, b"abc", 99)
    with pytest.raises(RemoteDiameterError) as caught:
        toy["Size"].value(avp)
    assert caught.value.failed_avp == avp


def test_group_that_was_sound_before_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "_MAX_SOUND", 4)
    toy = load()
    needed = [toy["Colour"].avp("red"), toy["Size"].avp(1)]
    for number in range(20):
        for _ in range(2):
            toy.check_untrusted(build(toy, *needed, toy["Box"].avp([toy["Size"].avp(number)])), toy.command("PAR"))
            with pytest.raises(RemoteDiameterError) as caught:
                toy.check_untrusted(build(toy, *needed, toy["Box"].avp([])), toy.command("PAR"))
            assert caught.value.result_code == 5005
        assert len(toy._sound) <= 4
    toy.check_untrusted(build(toy, *needed, toy["Box"].avp([toy["Size"].avp(1)])), toy.command("PAR"))
    long = toy["Box"].avp([toy["Size"].avp(1), toy["Colour"].avp("x" * 500)])
    before = len(toy._sound)
    toy.check_untrusted(build(toy, *needed, long), toy.command("PAR"))
    assert len(toy._sound) == before


def test_minimum_of_two_is_held_also_where_each_is_there_once() -> None:
    toy = load(notation=NOTATION.replace("1*2 [ Size ]", "2*3 [ Size ]"))
    colour, size = toy["Colour"].avp("red"), toy["Size"].avp(1)
    toy.check_untrusted(build(toy, colour, size, size), toy.command("PAR"))
    with pytest.raises(RemoteDiameterError) as caught:
        toy.check_untrusted(build(toy, colour, size), toy.command("PAR"))
    assert caught.value.result_code == 5005
