"""Datagram and stream parser: real messages, limits, lies about length, mutations."""

import contextlib
import re
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ims_as.sip.errors import SipParseError
from ims_as.sip.message import Request, Response, build_response
from ims_as.sip.parser import (
    MAX_BODY_BYTES,
    MAX_HEADER_SECTION_BYTES,
    MAX_HEADERS,
    StreamParser,
    parse_message_untrusted,
)

VECTORS = sorted((Path(__file__).parents[1] / "vectors" / "isc").glob("*.sip"))
INVITE = VECTORS[0].read_bytes()

MINIMAL = {
    "Via": "SIP/2.0/UDP h;branch=z9hG4bK1",
    "From": "<sip:a@h>;tag=1",
    "To": "<sip:b@h>",
    "Call-ID": "c",
    "CSeq": "1 OPTIONS",
}


def build(
    start: str = "OPTIONS sip:b@h SIP/2.0", body: bytes = b"", extra: tuple[str, ...] = (), **changes: str | None
) -> bytes:
    lines = [start]
    for name, value in {**MINIMAL, **{key.replace("_", "-"): value for key, value in changes.items()}}.items():
        if value is not None:
            lines.append(f"{name}: {value}")
    return "\r\n".join([*lines, *extra, "", ""]).encode("utf-8", "surrogateescape") + body


def failure(data: bytes) -> SipParseError:
    with pytest.raises(SipParseError) as caught:
        parse_message_untrusted(data)
    return caught.value


def test_there_are_vectors():
    assert len(VECTORS) == 24


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.name[:2])
def test_real_messages_survive(path):
    data = path.read_bytes()
    message = parse_message_untrusted(data)
    assert message.to_bytes() == data
    message.headers.add("X", "1")
    # once lines are changed, white space around values is not kept
    expected = re.sub(rb"(?m)^Content-Length: +", b"Content-Length: ", data, count=1)
    assert message.to_bytes() == expected.replace(b"\r\n\r\n", b"\r\nX: 1\r\n\r\n", 1)
    assert (message.via.transport, bool(message.call_id), bool(message.from_tag)) == ("UDP", True, True)


def test_isc_invite():
    request = parse_message_untrusted(INVITE)
    assert isinstance(request, Request)
    assert request.method == "INVITE"
    assert request.max_forwards == 68
    assert [route[:24] for route in request.routes] == ["<sip:127.0.0.30:5060;lr>", "<sip:iscmark@127.0.0.20:"]
    assert request.routes[1].encode() in INVITE
    assert len(request.vias) == 3
    assert len(request.body) == 249


def test_malformed_header_of_no_concern():
    data = next(path for path in VECTORS if path.name.startswith("09")).read_bytes()
    message = parse_message_untrusted(data)
    assert message.headers.get_list("P-Associated-URI")[1] == (
        "<sip:+15550000002@ims.mnc001.mcc001.3gppnetwork.org, tel:+15550000002>"
    )


def test_response():
    response = parse_message_untrusted(build("SIP/2.0 180  Ring  ing"))
    assert isinstance(response, Response)
    assert (response.status, response.reason) == (180, " Ring  ing")
    assert parse_message_untrusted(build("sip/2.0 200")).start_line() == "SIP/2.0 200 "


def test_order_spelling_and_unknown_headers_survive():
    data = (
        b"OPTIONS sip:b@h SIP/2.0\r\nv: SIP/2.0/UDP h;branch=z9hG4bK1\r\nX-a: 1\r\nfRoM: <sip:a@h>;tag=1\r\n"
        b"t: <sip:b@h>\r\ni: c\r\nX-a:\r\nCSEQ: 1 OPTIONS\r\nx-A: Andr\xe9, ;;,\r\nl: 2\r\n\r\nhi"
    )
    assert parse_message_untrusted(data).to_bytes() == data


def test_folded_lines():
    request = parse_message_untrusted(build(From="<sip:a@h>\r\n ;\r\n\t tag=1", X="a \r\n  b\r\n c"))
    assert request.from_tag == "1"
    assert request.headers.get("X") == "a  b c"


def test_empty_lines_before_the_start_are_ignored():
    assert parse_message_untrusted(b"\r\n\r\n" + build()).call_id == "c"


class TestContentLength:
    def test_rest_is_discarded(self):
        assert parse_message_untrusted(build(Content_Length="2", body=b"hello")).body == b"he"

    def test_absent_means_to_the_end(self):
        assert parse_message_untrusted(build(body=b"hello")).body == b"hello"

    def test_too_long_is_a_lie(self):
        error = failure(build(Content_Length="6", body=b"hello"))
        assert (error.status_hint, error.reason) == (400, "body shorter than Content-Length")
        assert error.partial is not None
        assert build_response(error.partial, 400, to_tag="x").cseq.number == 1

    @pytest.mark.parametrize("value", ["-1", "1e3", "", "+1", "9" * 11, "9" * 5000, "²", "1 2"])
    def test_malformed(self, value):
        error = failure(build(Content_Length=value))
        assert error.reason == "malformed Content-Length"
        assert error.partial is not None

    def test_twice(self):
        assert failure(build(Content_Length="0", extra=("l: 5",), body=b"12345")).status_hint == 400
        assert failure(build(Content_Length="0", extra=("l: 0",))).reason == "content-length more than once"

    def test_body_limit(self):
        assert failure(build(body=b"x" * (MAX_BODY_BYTES + 1))).status_hint == 513


class TestRefused:
    @pytest.mark.parametrize("name", ["From", "To", "Call-ID", "CSeq", "Max-Forwards"])
    def test_twice(self, name):
        value = MINIMAL.get(name, "70")
        error = failure(build(extra=(f"{name}: {value}", f"{name}: {value}")))
        assert error.reason == f"{name.lower()} more than once"
        assert error.partial is not None
        assert len(error.partial.headers) == 5

    @pytest.mark.parametrize("name", list(MINIMAL))
    def test_missing(self, name):
        error = failure(build(**{name.replace("-", "_"): None}))
        assert error.reason == f"{name.lower()} is missing"
        assert (error.status_hint, error.partial) == (400, None)

    @pytest.mark.parametrize(
        ("changes", "is_answerable"),
        [
            ({"CSeq": "1 INVITE"}, True),
            ({"CSeq": "x"}, True),
            ({"CSeq": "2147483648 OPTIONS"}, True),
            ({"From": '"a <sip:a@h>'}, True),
            ({"To": "<sip:a@h:x>"}, True),
            ({"From": "<sip:a b@h>"}, True),
            ({"Call_ID": "a b"}, True),
            ({"Call_ID": ""}, False),
            ({"Via": "nonsense"}, False),
            ({"Via": ""}, False),
            ({"Max_Forwards": "many"}, True),
            ({"Max_Forwards": "256"}, True),
        ],
    )
    def test_malformed(self, changes, is_answerable):
        error = failure(build(**changes))
        assert error.status_hint == 400
        assert (error.partial is not None) == is_answerable

    @pytest.mark.parametrize(
        ("start", "status"),
        [
            ("OPTIONS sip:b@h SIP/3.0", 505),
            ("OPTIONS sip:b@h SIP/7.0", 505),
            ("OPTIONS sip:b@h SIP/2", 400),
            ("OPTIONS sip:b@h HTTP/1.1", 400),
            ("OPTIONS sip:b@h", 400),
            ("OPTIONS", 400),
            ("", 400),
            (" OPTIONS sip:b@h SIP/2.0", 400),
            ("OPTIONS  sip:b@h SIP/2.0", 400),
            ("OPTIONS sip:b@h SIP/2.0 ", 400),
            ("OPT@IONS sip:b@h SIP/2.0", 400),
            ("O" * 65 + " sip:b@h SIP/2.0", 400),
            ("OPTIONS <sip:b@h> SIP/2.0", 400),
            ("OPTIONS sip:" + "b" * 9000 + "@h SIP/2.0", 414),
            ("SIP/3.0 200 OK", 505),
            ("SIP/2.0 99 Low", 400),
            ("SIP/2.0 700 High", 400),
            ("SIP/2.0 2000 Long", 400),
            ("SIP/2.0", 400),
        ],
    )
    def test_start_line(self, start, status):
        assert failure(build(start)).status_hint == status

    def test_ack_and_responses_are_never_answered(self):
        assert failure(build("ACK sip:b@h SIP/2.0")).partial is None
        assert failure(build("SIP/2.0 200 OK", CSeq="x")).partial is None

    @pytest.mark.parametrize("start", ["INVITE sip:b@h SIP/2.0", "SIP/2.0 200 OK"])
    def test_contact_where_a_dialog_needs_it(self, start):
        assert failure(build(start, CSeq="1 INVITE", Contact="<sip:a b@h>")).reason == "malformed address"
        assert failure(build(start, CSeq="1 INVITE", Contact="<sip:b@h:x>")).reason == "malformed SIP URI"
        parse_message_untrusted(build(start, CSeq="1 INVITE", Contact="<sip:b@h>"))
        parse_message_untrusted(build(start, CSeq="1 INVITE"))

    def test_contact_where_nobody_needs_it(self):
        parse_message_untrusted(build("SIP/2.0 302 Moved", CSeq="1 INVITE", Contact="<sip:a b@h>"))
        parse_message_untrusted(build(Contact="<sip:a b@h>"))

    @pytest.mark.parametrize(
        "line", ["no colon", ": no name", "bad name: x", "a\x00: x", "X: \0", "X: a\nY: b", "X: a\rb", "ü: 1", "v"]
    )
    def test_lines(self, line):
        error = failure(build(extra=(line,)))
        assert (error.status_hint, error.fatal) == (400, True)
        assert error.partial is not None
        assert build_response(error.partial, 400, to_tag="x").to_bytes()

    def test_broken_lines_that_leave_nothing_to_answer(self):
        for data in (
            build("ACK sip:b@h SIP/2.0", extra=("x",)),
            build("SIP/2.0 200 OK", extra=("x",)),
            build("GET / HTTP/1.1", extra=("x",)),
            build("O\0 sip:h SIP/2.0"),
            build(Via="SIP/2.0/UDP h\0"),
            build(Call_ID="a\0"),
        ):
            assert failure(data).partial is None

    def test_white_space_before_the_colon_is_allowed(self):
        assert parse_message_untrusted(build(extra=("X \t: 1", "k : timer"))).headers.get("Supported") == "timer"

    def test_sizes(self):
        padding = "x" * MAX_HEADER_SECTION_BYTES
        error = failure(build(X=padding))
        assert error.status_hint == 513
        assert error.partial is not None
        assert failure(b"INVITE " + padding.encode()).reason == "header section too large"
        assert failure(build(extra=("X: 1",) * MAX_HEADERS)).reason == "too many headers"
        assert len(parse_message_untrusted(build(extra=("X: 1",) * (MAX_HEADERS - 5))).headers) == MAX_HEADERS

    def test_no_end_of_header_section(self):
        error = failure(build()[:-2])
        assert error.reason == "no end of header section"
        assert error.partial is not None

    @pytest.mark.parametrize("data", [b"", b"\r\n", b"\r\n\r\n", b"\0", b"\xff" * 100, b"OPTIONS sip:h SIP/2.0\r\n"])
    def test_no_message_at_all(self, data):
        failure(data)


@pytest.mark.parametrize(
    "text",
    [
        " " * 60000,
        " \t" * 30000 + "x",
        '"\\' * 30000,
        '"' * 60000,
        ";" * 60000,
        ";a" * 30000,
        "<" * 60000,
        ";a=" + " " * 60000 + "b",
        "%41" * 20000,
        "SIP/2.0/UDP h" + " " * 50000 + "x",
        "SIP/2.0/UDP h;" + "a=" * 30000,
        "sip:" + "a" * 8000 + "%",
        "<sip:" + ";a=b" * 2000 + "\x7f>",
        "1" * 60000,
        "1 " * 30000,
        "a " * 30000,
    ],
)
@pytest.mark.parametrize("name", ["Via", "From", "CSeq", "Call_ID", "Contact", "Max_Forwards"])
def test_hostile_values_take_linear_time(name, text):
    data = build("INVITE sip:b@h SIP/2.0", **{"CSeq": "1 INVITE", name: text})
    started = time.process_time()
    with contextlib.suppress(SipParseError):
        parse_message_untrusted(data)
    # a quadratic pattern needs seconds here; the bound is loose on purpose
    assert time.process_time() - started < 0.5


def test_folds_without_end_take_linear_time():
    started = time.process_time()
    parse_message_untrusted(build(X="a" + ("\r\n" + " " * 250) * 200 + "b"))
    assert time.process_time() - started < 0.5


# --- streams


def feed(data: bytes, size: int) -> tuple[list[Request | Response], list[str], StreamParser]:
    parser, messages, errors = StreamParser(), [], []
    for start in range(0, len(data), size):
        parser.receive_bytes(data[start : start + size])
        while True:
            try:
                message = parser.next_message()
            except SipParseError as error:
                errors.append(error.reason)
                continue
            if message is None:
                break
            messages.append(message)
    return messages, errors, parser


FIRST = build(Content_Length="5", body=b"\r\n\r\nx")
BAD = build(Content_Length="3", CSeq="1 BYE", body=b"abc")


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100, 100000])
class TestStream:
    def test_messages_keep_alives_and_the_rest(self, size):
        data = b"\r\n\r\n" + FIRST + b"\r\n\r\n" + BAD + INVITE + b"\r\n" + b"OPT"
        messages, errors, parser = feed(data, size)
        assert [message.body[:5] for message in messages] == [b"\r\n\r\nx", b"v=0\r\n"]
        assert errors == ["CSeq method differs from request"]
        assert parser.pings == 2
        assert parser.buffered_bytes == 3

    def test_no_content_length_is_the_end(self, size):
        messages, errors, parser = feed(FIRST + build() + FIRST, size)
        assert len(messages) == 1
        assert errors == ["no Content-Length on a stream"]
        assert parser.buffered_bytes == 0

    def test_lost_boundary_is_the_end(self, size):
        for bad in (b"GET / HTTP/1.1\r\nHost\r\n\r\n", b"\0\r\n\r\n", build(Content_Length="-1")):
            messages, errors, _ = feed(bad + FIRST, size)
            assert (len(messages), len(errors)) == (0, 1)


def test_stream_errors_say_what_to_do():
    parser = StreamParser()
    parser.receive_bytes(build(Content_Length=str(MAX_BODY_BYTES + 1)))
    with pytest.raises(SipParseError) as caught:
        parser.next_message()
    assert (caught.value.fatal, caught.value.status_hint) == (True, 513)
    assert caught.value.partial is not None
    parser.receive_bytes(FIRST)
    assert parser.next_message() is None
    parser = StreamParser()
    parser.receive_bytes(BAD)
    with pytest.raises(SipParseError) as caught:
        parser.next_message()
    assert not caught.value.fatal
    assert caught.value.partial is not None


def test_stream_response_without_length_has_nothing_to_answer():
    parser = StreamParser()
    parser.receive_bytes(build("SIP/2.0 200 OK"))
    with pytest.raises(SipParseError) as caught:
        parser.next_message()
    assert caught.value.partial is None


def test_header_section_without_end_is_bounded():
    parser = StreamParser()
    parser.receive_bytes((build()[:-2] + b"X: ").ljust(MAX_HEADER_SECTION_BYTES, b"a"))
    assert parser.next_message() is None
    parser.receive_bytes(b"a")
    with pytest.raises(SipParseError) as caught:
        parser.next_message()
    assert caught.value.fatal
    assert caught.value.partial is not None


def test_three_crlf_are_one_ping_and_a_pong():
    assert feed(b"\r\n\r\n\r\n", 1)[2].pings == 1
    assert feed(b"\r\n" + FIRST + b"\r\n" + FIRST, 5)[2].pings == 0


def test_slow_sender_costs_linear_time():
    data = build(X="a" * 60000, Content_Length="100000", body=b"b" * 100000)
    parser = StreamParser()
    started = time.process_time()
    for position in range(len(data)):
        parser.receive_bytes(data[position : position + 1])
        message = parser.next_message()
    assert message is not None
    assert len(message.body) == 100000
    assert time.process_time() - started < 2


# --- mutations


def read(message: Request | Response) -> None:
    """What cannot fail on a parsed message."""
    _ = message.via, message.call_id, message.cseq, message.max_forwards, message.routes, message.record_routes
    _ = message.from_.uri, message.to.uri, message.from_tag, message.to_tag, message.content_type
    if isinstance(message, Request):
        _ = message.request_uri
        build_response(message, 200, to_tag="x").to_bytes()
    again = parse_message_untrusted(message.to_bytes())
    assert again.headers.get_all("x") == message.headers.get_all("x")
    assert again.to_bytes() == message.to_bytes()


mutations = st.lists(
    st.tuples(
        st.sampled_from(["replace", "insert", "delete", "copy"]),
        st.integers(0, 1700),
        st.integers(1, 40),
        st.one_of(
            st.binary(max_size=6),
            st.sampled_from([b"\r\n", b"\r\n ", b'"', b"<", b">", b";", b",", b":", b"%", b"\0", b"\xff", b" ", b"@"]),
        ),
    ),
    min_size=1,
    max_size=6,
)


def mutate(data: bytes, changes: list[tuple[str, int, int, bytes]]) -> bytes:
    for kind, where, size, piece in changes:
        at = where % (len(data) + 1)
        match kind:
            case "replace":
                data = data[:at] + piece + data[at + len(piece) :]
            case "insert":
                data = data[:at] + piece + data[at:]
            case "delete":
                data = data[:at] + data[at + size :]
            case _:
                data = data[:at] + data[at : at + size] + data[at:]
    return data


@settings(deadline=None, max_examples=400)
@given(st.sampled_from(VECTORS), mutations)
def test_mutated_messages_raise_one_kind_of_error(path, changes):
    data = mutate(path.read_bytes(), changes)
    try:
        message = parse_message_untrusted(data)
    except SipParseError as error:
        if error.partial is not None:
            build_response(error.partial, error.status_hint, to_tag="x").to_bytes()
    else:
        read(message)


@settings(deadline=None, max_examples=100)
@given(st.sampled_from(VECTORS), mutations, st.integers(1, 400))
def test_mutated_streams_raise_one_kind_of_error(path, changes, size):
    data = mutate(path.read_bytes(), changes) + FIRST
    whole, errors, _ = feed(data, len(data))
    pieces, errors_in_pieces, _ = feed(data, size)
    assert [m.to_bytes() for m in whole] == [m.to_bytes() for m in pieces]
    assert errors == errors_in_pieces


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_noise(data):
    with contextlib.suppress(SipParseError):
        parse_message_untrusted(data)
