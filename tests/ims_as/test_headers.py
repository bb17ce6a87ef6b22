"""Header lines: order, spelling, lookup, change."""

import string

from hypothesis import given, settings
from hypothesis import strategies as st

from ims_as.sip.headers import COMPACT_NAMES, Headers, header_key, known_header_key


def sample():
    return Headers(
        [
            ("v", "SIP/2.0/UDP a;branch=1, SIP/2.0/UDP b;branch=2"),
            ("X-One", "1"),
            ("VIA", "SIP/2.0/UDP c"),
            ("to", "<sip:a>"),
        ]
    )


def test_lookup_ignores_case_and_compact_forms():
    headers = sample()
    assert headers.get("Via") == "SIP/2.0/UDP a;branch=1, SIP/2.0/UDP b;branch=2"
    assert headers.get_all("via") == ["SIP/2.0/UDP a;branch=1, SIP/2.0/UDP b;branch=2", "SIP/2.0/UDP c"]
    assert headers.get_list("V") == ["SIP/2.0/UDP a;branch=1", "SIP/2.0/UDP b;branch=2", "SIP/2.0/UDP c"]
    assert headers.get("x-one") == "1"
    assert headers.get("absent") is None
    assert headers.get_all("absent") == headers.get_list("absent") == []
    assert "T" in headers
    assert "From" not in headers
    assert 1 not in headers
    assert headers.keys() == ["via", "x-one", "to"]


def test_every_compact_form():
    for letter, full in COMPACT_NAMES.items():
        assert header_key(letter) == header_key(letter.upper()) == header_key(full.title()) == full
    assert known_header_key("X-Own") is None


def test_set_keeps_place_and_spelling_of_the_first():
    headers = sample()
    headers.set("Via", "new")
    assert headers.items() == [("v", "new"), ("X-One", "1"), ("to", "<sip:a>")]
    headers.set("Max-Forwards", "70")
    assert headers.items()[-1] == ("Max-Forwards", "70")
    headers.set_all("x-one", ["2", "3"])
    assert headers.get_all("X-ONE") == ["2", "3"]
    headers.set_all("x-one", [])
    assert "x-one" not in headers


def test_add_prepend_remove():
    headers = Headers([("Max-Forwards", "70"), ("Route", "<sip:a>")])
    headers.prepend("Route", "<sip:b>")
    headers.prepend("Via", "v1")
    headers.prepend("Via", "v0")
    headers.add("Route", "<sip:c>")
    assert headers.items() == [
        ("Via", "v0"),
        ("Via", "v1"),
        ("Max-Forwards", "70"),
        ("Route", "<sip:b>"),
        ("Route", "<sip:a>"),
        ("Route", "<sip:c>"),
    ]
    assert headers.remove_first("route") == "<sip:b>"
    headers.remove("via")
    assert len(headers) == 3
    assert headers.remove_first("via") is None
    assert list(headers) == headers.items()


def test_pop_value_leaves_the_rest_byte_for_byte():
    rest = "<sip:iscmark@127.0.0.20:5060;lr;s=2>  ,<sip:z;lr>"
    headers = Headers([("Route", f"<sip:127.0.0.30:5060;lr> , {rest}"), ("route", "<sip:y>")])
    assert headers.pop_value("Route") == "<sip:127.0.0.30:5060;lr>"
    assert headers.get_all("Route") == [rest, "<sip:y>"]
    assert headers.pop_value("Route") == "<sip:iscmark@127.0.0.20:5060;lr;s=2>"
    assert headers.pop_value("Route") == "<sip:z;lr>"
    assert headers.pop_value("Route") == "<sip:y>"
    assert headers.pop_value("Route") is None
    assert len(headers) == 0


def test_pop_value_passes_empty_lines():
    headers = Headers([("Route", ""), ("Route", ",,"), ("Route", "<sip:a>")])
    assert headers.pop_value("route") == "<sip:a>"
    assert headers.pop_value("route") is None


def test_copy_is_independent():
    headers = sample()
    other = headers.copy()
    assert other == headers
    other.add("A", "b")
    assert other != headers
    assert "A" not in headers
    assert repr(Headers([("A", "b")])) == "Headers([('A', 'b')])"


names = st.text(string.ascii_letters + "-", min_size=1, max_size=5)
values = st.text(string.printable.replace("\r", "").replace("\n", ""), max_size=20)


@settings(deadline=None)
@given(st.lists(st.tuples(names, values)), names, values)
def test_agrees_with_a_plain_list(items, name, value):
    headers = Headers(items)
    assert headers.items() == items
    same = [v for n, v in items if header_key(n) == header_key(name)]
    assert headers.get_all(name) == same
    headers.set(name, value)
    assert headers.get_all(name) == [value]
    others = [(n, v) for n, v in items if header_key(n) != header_key(name)]
    headers.remove(name)
    assert headers.items() == others
