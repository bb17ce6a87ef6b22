"""Header lines: order, spelling, lookup, change."""

import string

from hypothesis import given, settings
from hypothesis import strategies as st

from ims_as.sip.headers import COMPACT_NAMES, Headers, header_key, index_again, known_header_key


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
    headers.remove("via")
    assert len(headers) == 4
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


CHANGES = ("add", "prepend", "set", "set_all", "remove", "pop_value", "compact", "get_all")


@settings(deadline=None)
@given(
    st.lists(st.tuples(names, values.map(str.strip)), min_size=1),
    st.lists(st.tuples(st.sampled_from(CHANGES), names, values), max_size=6),
)
def test_lines_from_the_wire_change_as_a_list_does(items, changes):
    """Headers that are only text and index agree with headers made of lines, whatever is done to both."""
    index = {}
    for name, value in items:
        key = header_key(name)
        if key in index:
            index_again(index, key, value)
        else:
            index[key] = value
    parsed = Headers.from_parsed("\r\n".join(f"{name}:  {value} " for name, value in items), index)
    plain = Headers(items)
    for what, name, value in changes:
        for headers in (parsed, plain):
            match what:
                case "add" | "prepend" | "set":
                    getattr(headers, what)(name, value)
                case "set_all":
                    headers.set_all(name, [value, value])
                case "compact":
                    headers.compact()
                case _:
                    getattr(headers, what)(name)
        for name, _ in [*items, *((name, value) for _, name, value in changes)]:
            assert parsed.get(name) == plain.get(name)
            assert (
                parsed.get_all(name)
                == plain.get_all(name)
                == [v for n, v in plain if header_key(n) == header_key(name)]
            )
            assert parsed.get_list(name) == plain.get_list(name)
            assert (name in parsed) == (name in plain)
        assert parsed.keys() == plain.keys()
        assert parsed == plain
        assert parsed.copy() == plain


def test_a_change_drops_what_was_read_from_the_line():
    for change in (
        lambda headers: headers.prepend("From", "x"),
        lambda headers: headers.set("f", "x"),
        lambda headers: headers.remove("From"),
        lambda headers: headers.pop_value("from"),
    ):
        headers = Headers.from_parsed("From: a\r\nTo: b", {"from": "a", "to": "b"})
        headers.typed.update({"from": 1, "to": 2})
        change(headers)
        assert headers.typed == {"to": 2}


def test_compact_keeps_the_lines():
    headers = Headers.from_parsed("From: a\r\nX:b", {"from": "a", "x": "b"})
    headers.typed["from"] = 1
    assert headers.items() == [("From", "a"), ("X", "b")]
    headers.compact()
    assert headers.typed == {}
    assert (headers.get("x"), headers.get_all("from"), len(headers)) == ("b", ["a"], 2)
    headers.add("Y", "c")
    headers.compact()
    assert headers.items() == [("From", "a"), ("X", "b"), ("Y", "c")]
    assert Headers.from_parsed("", {}).items() == []


def test_replace_value():
    lines = "Route: a\r\nVia: x\r\nVia: a, b\r\nv: c"
    for has_lines in (False, True):
        headers = Headers.from_parsed(lines, {"route": "a", "via": ["x", "a, b", "c"]})
        headers.typed.update({"via": 1, "route": 2})
        if has_lines:
            headers.items()
        headers.replace_value("Via", "y")
        assert headers.items() == [("Route", "a"), ("Via", "y"), ("Via", "a, b"), ("v", "c")]
        assert (headers.get("Via"), headers.get_all("via"), headers.typed) == ("y", ["y", "a, b", "c"], {"route": 2})


def test_replace_value_leaves_the_rest_of_the_line():
    for line, expected in (("a , b,c", "z , b,c"), ("a", "z"), (",a", "z"), ("", "z")):
        for text in (
            f"Via: {line}\r\nX: {line}",
            f"X: {line}\r\nVia: {line}",
            f"X: Via: {line}\r\nVia: {line}",
            f"v:{line}",
        ):
            pairs = [part.split(":", 1) for part in text.split("\r\n")]
            index = {header_key(name): value.strip() for name, value in pairs}
            headers = Headers.from_parsed(text, index)
            headers.replace_value("Via", "z")
            assert headers.get("via") == expected
            headers.compact()
            assert headers.get("via") == expected
            assert headers.get("X") == index.get("session-expires")
    headers = Headers.from_parsed("X: a", {"x": "a"})
    headers.replace_value("Via", "z")
    assert headers.items() == [("X", "a")]
