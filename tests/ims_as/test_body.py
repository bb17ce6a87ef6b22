from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ims_as.sip.body import MAX_PARTS, BodyPart, foreign_type, read_parts_untrusted
from ims_as.sip.message import Request
from tests.ims_as.isc_messages import build_request


def read(content_type: str, body: bytes) -> tuple[BodyPart, ...]:
    return read_parts_untrusted(build_request(headers=[("Content-Type", content_type)], body=body))


def test_single() -> None:
    assert read("Application/SDP;x=y", b"v=0") == (BodyPart("application/sdp", b"v=0"),)
    assert read("application/sdp", b"") == ()
    assert read_parts_untrusted(build_request(body=b"x")) == ()


TWO = (
    b"preamble\r\n--b 1\r\nContent-Type: A/b;c=d\r\nX: y\r\n\r\none\r\n\r\n"
    b"--b 1  \r\nc: c/d\r\n\r\n--b\r\n--b 1--\r\nrest"
)


def test_multipart() -> None:
    assert read('multipart/mixed; boundary="b 1"', TWO) == (BodyPart("a/b", b"one\r\n"), BodyPart("c/d", b"--b"))


@pytest.mark.parametrize(
    ("body", "parts"),
    [
        (b"--b\r\n\r\nplain\r\n--b--", (BodyPart("text/plain", b"plain"),)),
        (b"--b\r\nX: y\r\n\r\nplain\r\n--b--", (BodyPart("text/plain", b"plain"),)),
        (b"--b\r\nContent-Type: a/b\r\n\r\nno end", (BodyPart("a/b", b"no end"),)),
        (b"--b\r\nContent-Type: a/b\r\n--b--", ()),
        (b"--b", ()),
        (b"--b--", ()),
        (b"", ()),
        (b"--b\r\nX: " + b"y" * 3000 + b"\r\n\r\nz\r\n--b--", ()),
    ],
)
def test_odd_parts(body: bytes, parts: tuple[BodyPart, ...]) -> None:
    assert read("multipart/mixed;boundary=b", body) == parts


@pytest.mark.parametrize("parameters", ["", ";boundary=", f";boundary={'b' * 71}"])
def test_no_boundary(parameters: str) -> None:
    assert read(f"multipart/mixed{parameters}", TWO) == ()


def test_number_of_parts_is_bounded() -> None:
    assert len(read("multipart/mixed;boundary=b", b"--b\r\n\r\nx\r\n" * 1000)) == MAX_PARTS


PIECES = st.sampled_from([b"--b", b"--", b"\r\n", b"Content-Type:", b"a/b", b":", b"\xff", b"\x00"])


@given(st.lists(PIECES, max_size=30))
def test_nothing_raises(pieces: list[bytes]) -> None:
    read("multipart/mixed;boundary=b", b"".join(pieces))


def test_a_body_that_must_be_understood_and_is_not():
    def of(content_type: str, body: bytes, *headers: tuple[str, str]) -> str | None:
        return foreign_type(Request("INVITE", "sip:x", [("Content-Type", content_type), *headers], body))

    assert of("application/unknown", b"x") == "application/unknown"
    assert of("application/unknown", b"x", ("Content-Disposition", "render; handling=required")) is not None
    assert of("application/unknown", b"x", ("Content-Disposition", "render;  handling = Optional")) is None
    assert of("application/sdp", b"v=0") is None
    assert of("application/unknown", b"") is None
    assert of("multipart/mixed;boundary=b", b"--b\r\nContent-Type: a/b\r\n\r\nx\r\n--b--") == "multipart/mixed"
    assert of("multipart/mixed;boundary=b", b"--b\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n--b--") is None
