"""AVP header, flags and padding, RFC 6733 §4.1."""

from __future__ import annotations

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from diameter.avp import FLAG_MANDATORY, FLAG_PROTECTED, MAX_AVPS, Avp, Avps, decode_avps_untrusted
from diameter.dictionary.sh import SH
from diameter.errors import RemoteDiameterError
from diameter.types import tbcd_from_digits

AVPS = st.builds(
    Avp,
    st.integers(0, 2**32 - 1),
    st.binary(max_size=40),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0, FLAG_MANDATORY, FLAG_PROTECTED, FLAG_MANDATORY | FLAG_PROTECTED]),
)


@pytest.mark.parametrize(
    ("name", "value", "wire"),
    [
        ("Data-Reference", 0, "000002bf c0000010 000028af 00000000"),
        ("Identity-Set", 2, "000002c4 80000010 000028af 00000002"),
        ("MSISDN", tbcd_from_digits("15550100"), "000002bd c0000010 000028af 51551000"),
    ],
)
def test_known_vectors(name: str, value: object, wire: str) -> None:
    avp = SH[name].avp(value)
    assert avp.encode() == bytes.fromhex(wire)
    assert decode_avps_untrusted(avp.encode()) == (avp,)
    assert SH[name].value(avp) == value


@given(st.lists(AVPS, max_size=8))
def test_round_trip(avps: list[Avp]) -> None:
    wire = Avps(avps).encode()
    assert len(wire) % 4 == 0
    assert decode_avps_untrusted(wire) == tuple(avps)


@given(st.lists(AVPS, min_size=1, max_size=4), st.data())
def test_groups_nest(avps: list[Avp], data: st.DataObject) -> None:
    depth = data.draw(st.integers(1, 5))
    group = Avps(avps)
    for _ in range(depth):
        group = Avps([Avp(700, group.encode(), 10415)])
    for _ in range(depth):
        group = decode_avps_untrusted(group[0].data)
    assert group == tuple(avps)


@given(st.binary(max_size=200))
def test_any_bytes_give_avps_or_the_one_error(data: bytes) -> None:
    caught: RemoteDiameterError | None = None
    try:
        decode_avps_untrusted(data)
    except RemoteDiameterError as error:
        caught = error
    assert caught is None or caught.result_code in (5014, 5006)


@pytest.mark.parametrize(
    "wire",
    [
        "00000108",  # header cut short
        "00000108 40000007",  # shorter than its own header
        "00000108 40000000",  # zero: must not loop for ever
        "000002bf c000000b 000028af",  # V bit, shorter than header with vendor
        "000002bf c000000c 0000",  # vendor cut short
        "00000108 4000000c 616263",  # longer than what is there
        "00000108 40ffffff 61626364",
    ],
)
def test_lengths_are_checked_before_use(wire: str) -> None:
    with pytest.raises(RemoteDiameterError) as caught:
        decode_avps_untrusted(bytes.fromhex(wire))
    assert caught.value.result_code == 5014


def test_missing_padding_at_the_very_end_is_forgiven() -> None:
    assert decode_avps_untrusted(bytes.fromhex("00000108 4000000b 616263"))[0].data == b"abc"


def test_number_of_avps_is_bounded() -> None:
    wire = Avp(1, b"").encode() * (MAX_AVPS + 1)
    assert len(decode_avps_untrusted(wire[:-8])) == MAX_AVPS
    with pytest.raises(RemoteDiameterError) as caught:
        decode_avps_untrusted(wire)
    assert caught.value.result_code == 5006


def test_key_is_vendor_and_code() -> None:
    avps = Avps([Avp(650, b"load"), Avp(650, b"priority", 10415), Avp(650, b"again", 10415)])
    assert avps.find((0, 650)) == Avp(650, b"load")
    assert [avp.data for avp in avps.find_all((10415, 650))] == [b"priority", b"again"]
    assert avps.find((13019, 650)) is None


def test_kept_encoding_is_the_same_and_not_inherited() -> None:
    avp = SH["Server-Name"].avp("sip:as.example.net")
    wire = avp.encode()
    kept = SH["Server-Name"].avp("sip:as.example.net").kept()
    assert kept == avp
    assert hash(kept) == hash(avp)
    assert repr(kept) == repr(avp)
    assert kept.encode() == Avps([kept]).encode() == wire
    assert evolve(kept, data=b"sip:other").encode() == SH["Server-Name"].avp("sip:other").encode()
