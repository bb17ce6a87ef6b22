"""Data formats, RFC 6733 §4.2 and §4.3."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diameter.errors import LocalDiameterError, RemoteDiameterError
from diameter.types import (
    AvpFormat,
    decode_value_untrusted,
    digits_from_tbcd_untrusted,
    encode_value,
    tbcd_from_digits,
)

VALUES = st.one_of(
    st.tuples(st.just(AvpFormat.OCTET_STRING), st.binary(max_size=64)),
    st.tuples(st.just(AvpFormat.INTEGER32), st.integers(-(2**31), 2**31 - 1)),
    st.tuples(st.just(AvpFormat.INTEGER64), st.integers(-(2**63), 2**63 - 1)),
    st.tuples(st.just(AvpFormat.UNSIGNED32), st.integers(0, 2**32 - 1)),
    st.tuples(st.just(AvpFormat.UNSIGNED64), st.integers(0, 2**64 - 1)),
    st.tuples(st.just(AvpFormat.FLOAT32), st.floats(width=32, allow_nan=False)),
    st.tuples(st.just(AvpFormat.FLOAT64), st.floats(allow_nan=False)),
    st.tuples(st.just(AvpFormat.ADDRESS), st.ip_addresses().map(str)),
    st.tuples(st.just(AvpFormat.ADDRESS), st.tuples(st.integers(3, 65535), st.binary(max_size=20))),
    st.tuples(st.just(AvpFormat.TIME), st.integers(-(2**31) + 2_085_978_496, 2**31 + 2_085_978_495)),
    st.tuples(st.just(AvpFormat.UTF8_STRING), st.text(max_size=40)),
    st.tuples(st.just(AvpFormat.DIAMETER_IDENTITY), st.text(st.characters(max_codepoint=127), max_size=40)),
    st.tuples(st.just(AvpFormat.ENUMERATED), st.integers(-(2**31), 2**31 - 1)),
)


@given(VALUES)
def test_values_survive_the_wire(case: tuple[AvpFormat, object]) -> None:
    data_format, value = case
    assert decode_value_untrusted(data_format, encode_value(data_format, value)) == value


@given(st.sampled_from([member for member in AvpFormat if member is not AvpFormat.GROUPED]), st.binary(max_size=20))
def test_any_bytes_give_a_value_or_the_one_error(data_format: AvpFormat, data: bytes) -> None:
    caught: RemoteDiameterError | None = None
    try:
        decode_value_untrusted(data_format, data)
    except RemoteDiameterError as error:
        caught = error
    assert caught is None or caught.result_code in (5004, 5014)


@pytest.mark.parametrize(
    ("data_format", "value"),
    [
        (AvpFormat.UNSIGNED32, -1),
        (AvpFormat.UNSIGNED32, 2**32),
        (AvpFormat.UNSIGNED32, "1"),
        (AvpFormat.INTEGER32, 2**31),
        (AvpFormat.OCTET_STRING, "text"),
        (AvpFormat.UTF8_STRING, b"bytes"),
        (AvpFormat.DIAMETER_IDENTITY, "hss.exämple.net"),
        (AvpFormat.ADDRESS, "300.1.1.1"),
    ],
)
def test_our_own_wrong_values_are_refused(data_format: AvpFormat, value: object) -> None:
    with pytest.raises(LocalDiameterError):
        encode_value(data_format, value)


def test_time_knows_the_era_after_2036() -> None:
    assert encode_value(AvpFormat.TIME, 0) == (2_208_988_800).to_bytes(4)
    assert decode_value_untrusted(AvpFormat.TIME, b"\0\0\0\0") == 2_085_978_496  # 7 February 2036
    assert decode_value_untrusted(AvpFormat.TIME, (2_208_988_800).to_bytes(4)) == 0


@pytest.mark.parametrize(("digits", "tbcd"), [("15550100", "51551000"), ("155", "51f5")])
def test_tbcd(digits: str, tbcd: str) -> None:
    assert tbcd_from_digits(digits).hex() == tbcd
    assert digits_from_tbcd_untrusted(bytes.fromhex(tbcd)) == digits


@pytest.mark.parametrize("tbcd", ["", "1f", "1a", "1ff1"])
def test_bad_tbcd(tbcd: str) -> None:
    with pytest.raises(RemoteDiameterError):
        digits_from_tbcd_untrusted(bytes.fromhex(tbcd))


@pytest.mark.parametrize("digits", ["", "+155", "1٣"])
def test_only_ascii_digits_become_tbcd(digits: str) -> None:
    with pytest.raises(LocalDiameterError):
        tbcd_from_digits(digits)
