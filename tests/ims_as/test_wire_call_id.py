"""The Call-ID of a message on the wire, for the trail of its call."""

import pytest

from ims_as.app import sip_call_id_of


@pytest.mark.parametrize(
    ("lines", "call_id"),
    [
        (b"Call-ID: a@h", "a@h"),
        (b"Call-ID:  a@h ", "a@h"),
        (b"call-id:a@h", "a@h"),
        (b"CALL-Id : a@h", "a@h"),
        (b"i: a@h", "a@h"),
        (b"I\t:a@h", "a@h"),
        (b"X-Call-ID: b\r\nCall-ID: a@h", "a@h"),
        (b"Call-ID: \xff", "�"),
        (b"X: Call-ID: a", None),
        (b"X: i", None),
    ],
)
def test_spellings(lines: bytes, call_id: str | None) -> None:
    assert sip_call_id_of(b"BYE sip:h SIP/2.0\r\nVia: x\r\n" + lines + b"\r\nTo: y\r\n\r\n") == call_id


def test_garbage() -> None:
    for data in (b"", b"\r\n", b"Call-ID: a", b"\r\nCall-ID"):
        assert sip_call_id_of(data) is None
