"""Parameters, lists, quoted strings."""

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ims_as.sip.errors import SipParseError
from ims_as.sip.grammar import (
    PARAMS,
    find_param,
    format_host,
    format_params,
    parse_params,
    printable,
    quote,
    read_param,
    split_list,
    unquote,
)


def test_params_keep_order_and_spelling():
    params = parse_params(' ; Tag = abc;lr ; q="a;b\\"c" ;e=')
    assert params == (("Tag", "abc"), ("lr", None), ("q", '"a;b\\"c"'), ("e", ""))
    assert format_params(params) == ';Tag=abc;lr;q="a;b\\"c";e='
    assert (find_param(params, "tag"), find_param(params, "LR"), find_param(params, "x")) == ("abc", "", None)


@pytest.mark.parametrize("text", ["x", ";", ";;a", ";a;", ';a="b', ";a=b c", ";a b", ";a=<b>", ";ä=1"])
def test_malformed_params(text):
    with pytest.raises(SipParseError):
        parse_params(text)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", []),
        ("a", ["a"]),
        ("a, b\t,c", ["a", "b", "c"]),
        (",a,,b,", ["a", "b"]),
        ('"a,b" <sip:x,y@h>, <sip:z>', ['"a,b" <sip:x,y@h>', "<sip:z>"]),
        ('"a\\",b", c', ['"a\\",b"', "c"]),
        ("<sip:a@h, tel:+1>, <sip:b@h>", ["<sip:a@h, tel:+1>", "<sip:b@h>"]),
        ('a, "b, c', ["a", '"b, c']),
        ("a, <b, c", ["a", "<b, c"]),
        ('a, "b\\', ["a", '"b\\']),
    ],
)
def test_split_list(text, parts):
    assert split_list(text) == parts


@pytest.mark.parametrize("text", ['"\\' * 30000, '"' * 60001, "<" * 60000, '<"' * 30000, " ," * 30000, '"a\\"' * 20001])
def test_split_list_takes_linear_time(text):
    started = time.process_time()
    split_list(text)
    # quadratic patterns need seconds for these; the bound is loose on purpose
    assert time.process_time() - started < 0.5


@settings(deadline=None)
@given(st.text())
def test_quote_round_trip(text):
    assert unquote(quote(text)) == text


def test_unquote_leaves_other_text():
    assert unquote("abc") == "abc"
    assert unquote('"') == '"'


def test_hosts():
    assert format_host("::1") == "[::1]"
    assert format_host("[::1]") == "[::1]"
    assert format_host("h") == "h"


def test_printable():
    assert printable("Zoë\t1") == "Zoë\t1"
    assert printable("a\x00b\x07\x7f\udce4") == "a\ufffdb\ufffd\ufffd\ufffd"
    assert printable("plain") == "plain"


pieces = st.sampled_from(
    [
        ";",
        "; ",
        ";\t",
        "=",
        " = ",
        "tag",
        "TAG",
        "Tag",
        "tags",
        "x",
        '"',
        '"a;tag=1"',
        "\\",
        "1",
        "é",
        "İ",
        " ",
        "[::1]",
    ]
)


@settings(deadline=None)
@given(st.lists(pieces, max_size=12).map("".join))
def test_parameters_are_checked_and_read_as_text_as_they_are_when_taken_apart(text):
    try:
        params = parse_params(text)
    except SipParseError:
        assert re.fullmatch(PARAMS, text) is None
        return
    assert re.fullmatch(PARAMS, text) is not None
    for name in ("tag", "x", "tags", "absent"):
        assert read_param(text, name) == find_param(params, name)
