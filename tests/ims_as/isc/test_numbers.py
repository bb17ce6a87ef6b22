"""Telephone numbers in URIs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ims_as.isc.numbers import NumberFormat
from ims_as.sip.uri import check_uri

GERMAN = NumberFormat(international_prefix="00", national_prefix="0", country="49", user_phone=True)
PLAIN = NumberFormat()


@pytest.mark.parametrize(
    ("written", "german", "plain"),
    [
        ("0049301234", "+49301234", "+49301234"),
        ("030/12 34-5", "+493012345", "030123 45".replace(" ", "")),
        ("+49 (30) 1234", "+49301234", "+49301234"),
        ("00 1 555 0100", "+15550100", "+15550100"),
        ("1234", "1234", "1234"),
        ("112", "112", "112"),
        ("000", "000", "000"),
        ("0012", "0012", "0012"),
        ("0000301234", "0000301234", "0000301234"),
        ("00" + "1" * 16, "00" + "1" * 16, "00" + "1" * 16),
        ("alice", "alice", "alice"),
        ("", "", ""),
        ("12", "12", "12"),
    ],
)
def test_number(written: str, german: str, plain: str):
    assert GERMAN.number(written) == german
    assert PLAIN.number(written) == plain


@pytest.mark.parametrize(
    ("written", "after"),
    [
        ("sip:0049301234@h", "sip:+49301234@h;user=phone"),
        ("sip:030-1234@h;user=phone;x=1", "sip:+49301234@h;user=phone;x=1"),
        ("sip:%2B49301234;isub=7@h:5070?a=b", "sip:+49301234;isub=7@h:5070;user=phone?a=b"),
        ("sip:+49301234@h;user=ip", "sip:+49301234@h;user=phone"),
        ("sip:1234@h", "sip:1234@h"),
        ("sip:alice@h", "sip:alice@h"),
        ("sip:h", "sip:h"),
        ("tel:0049-30-1234", "tel:+49301234"),
        ("tel:030.1234;x=1", "tel:+49301234;x=1"),
        ("tel:1234;phone-context=+49", "tel:1234;phone-context=+49"),
        ("TEL:+49301234", "TEL:+49301234"),
        ("urn:service:sos", "urn:service:sos"),
        ("<broken", "<broken"),
    ],
)
def test_uri(written: str, after: str):
    assert GERMAN.uri(written) == after
    assert GERMAN.uri(after) == after, "twice changes nothing more"


@given(st.text("0123456789+-.()/ ;=ab%2B", max_size=30))
def test_what_was_a_uri_stays_one(user: str):
    for text in (f"sip:{user}@h", f"tel:{user}"):
        after = GERMAN.uri(text)
        assert GERMAN.uri(after) == after
        if after != text:
            check_uri(after)
