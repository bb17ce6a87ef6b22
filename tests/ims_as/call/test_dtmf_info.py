"""Digits in INFO bodies."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ims_as.call.dtmf_info import (
    InfoDigit,
    InfoRefusal,
    build_relay_body,
    read_info_untrusted,
)
from ims_as.sip.message import Request
from media.dtmf import DIGITS

RELAY, PLAIN = "application/dtmf-relay", "application/dtmf"


def info(body: bytes, content_type: str | None = RELAY, *headers: tuple[str, str]) -> Request:
    items = [*headers] if content_type is None else [("Content-Type", content_type), *headers]
    return Request("INFO", "sip:as@127.0.0.1", items, body)


@pytest.mark.parametrize(
    ("body", "content_type", "expected"),
    [
        (b"Signal=5\r\nDuration=250\r\n", RELAY, InfoDigit("5", 250)),
        (b"Signal= 5\nDuration= 250", "Application/DTMF-Relay;version=1", InfoDigit("5", 250)),
        (b"signal=11\r\nduration=100", RELAY, InfoDigit("#", 100)),
        (b"Signal=star\r\n", RELAY, InfoDigit("*")),
        (b"Signal=d\r\nDuration=99999999\r\n", RELAY, InfoDigit("D", 8000)),
        (b"Signal=1\r\nSignal=2\r\nDuration=x", RELAY, InfoDigit("1")),
        (b"7", PLAIN, InfoDigit("7")),
        (b"12\r\n", PLAIN, InfoDigit("A")),
        (b"Signal=*\r\nDuration=80", PLAIN, InfoDigit("*", 80)),
    ],
)
def test_bodies_that_are_out_there(body: bytes, content_type: str, expected: InfoDigit):
    assert read_info_untrusted(info(body, content_type)) == expected


@pytest.mark.parametrize(
    "body", [b"Signal=\r\n", b"Signal=55", b"Duration=100", b"garbage", b"\xff\xfe", b"Signal=5" + b" " * 600, b"="]
)
def test_a_bad_body_is_400(body: bytes):
    assert read_info_untrusted(info(body)) == InfoRefusal(400)


def test_other_bodies_are_415_with_what_we_take():
    refusal = read_info_untrusted(info(b"<x/>", "application/media_control+xml"))
    assert isinstance(refusal, InfoRefusal)
    assert refusal.status == 415
    assert dict(refusal.headers)["Accept"] == "application/dtmf-relay, application/dtmf"
    assert isinstance(read_info_untrusted(info(b"5", None)), InfoRefusal)


def test_info_packages():
    refusal = read_info_untrusted(info(b"5", PLAIN, ("Info-Package", "chess")))
    assert refusal == InfoRefusal(469, (("Recv-Info", "infoDtmf"),))
    assert read_info_untrusted(info(b"5", PLAIN, ("Info-Package", "infodtmf;x=1"))) == InfoDigit("5")
    assert read_info_untrusted(info(b"", None)) is None


@given(st.binary(max_size=600), st.sampled_from([RELAY, PLAIN]))
def test_whatever_comes_it_is_a_digit_or_a_refusal(body: bytes, content_type: str):
    found = read_info_untrusted(info(body, content_type))
    if isinstance(found, InfoDigit):
        assert found.digit in DIGITS
        assert 0 <= found.duration_ms <= 8000
    else:
        assert found == (InfoRefusal(400) if body else None)


@given(st.sampled_from(DIGITS), st.integers(0, 8000))
def test_what_we_write_we_read(digit: str, duration_ms: int):
    assert read_info_untrusted(info(build_relay_body(digit, duration_ms))) == InfoDigit(digit, duration_ms)
