"""Serialisation."""

import pytest

from ims_as.sip.errors import LocalProtocolError
from ims_as.sip.writer import write_message


def test_content_length_is_put_right_in_its_place():
    data = write_message("S", [("a", "1"), ("CONTENT-LENGTH", "7"), ("b", "2"), ("l", "8")], b"abc")
    assert data == b"S\r\na: 1\r\nCONTENT-LENGTH: 3\r\nb: 2\r\n\r\nabc"


def test_content_length_is_added():
    assert write_message("S", [("a", "1")], b"") == b"S\r\na: 1\r\nContent-Length: 0\r\n\r\n"


def test_names_as_long_as_content_length_are_not_mistaken():
    assert b"P-Access-Netwo: x\r\n" in write_message("S", [("P-Access-Netwo", "x"), ("k", "y")], b"")


def test_foreign_bytes_go_out_as_they_came():
    value = b"Andr\xe9".decode("utf-8", "surrogateescape")
    assert b"a: Andr\xe9\r\n" in write_message("S", [("a", value)], b"")


@pytest.mark.parametrize("bad", ["\r", "\n", "\r\n", "\0"])
def test_line_ends_are_refused(bad):
    with pytest.raises(LocalProtocolError):
        write_message("S", [("a", f"x{bad}y")], b"")
    with pytest.raises(LocalProtocolError):
        write_message(f"S{bad}", [], b"")
