"""The WebSocket side without sockets, against the server side of ``websockets``."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.server import ServerProtocol

from media.engines.ws import (
    MAX_MESSAGE_BYTES,
    Accepted,
    Binary,
    Closed,
    FrameBlock,
    Rejected,
    Text,
    WebSocketClient,
    WebSocketUrlError,
    parse_engine_url,
)

URL = "ws://127.0.0.1:9000/agent?x=1"


def frame(opcode: Opcode, payload: bytes, fin: bool = True) -> bytes:
    return Frame(opcode, payload, fin).serialize(mask=False)


def connect() -> tuple[WebSocketClient, ServerProtocol]:
    client, server = WebSocketClient(URL, ("ims-as.v1",)), ServerProtocol(subprotocols=["ims-as.v1"])  # type: ignore[list-item]
    server.receive_data(client.build_request())
    request = server.events_received()[0]
    server.send_response(server.accept(request))  # type: ignore[arg-type]
    events, reply = client.receive_bytes_untrusted(b"".join(server.data_to_send()))
    assert events == [Accepted("ims-as.v1")]
    assert reply == b""
    assert client.is_clean
    return client, server


def test_url() -> None:
    url = parse_engine_url("wss://engine.example/a")
    assert (url.host, url.port, url.secure) == ("engine.example", 443, True)
    for bad in ("http://x", "", "ws://", "ws://h:99999/"):
        with pytest.raises(WebSocketUrlError):
            parse_engine_url(bad)


MESSAGE = st.one_of(
    st.tuples(st.just("binary"), st.sampled_from([0, 1, 125, 126, 640, 65535, 65536]).map(bytes)),
    st.tuples(st.just("binary"), st.binary(max_size=700)),
    st.tuples(st.just("text"), st.text(max_size=50).map(str.encode)),
    st.tuples(st.just("ping"), st.binary(max_size=20)),
    st.tuples(st.just("fragments"), st.binary(max_size=60)),
)


@settings(deadline=None, max_examples=60)
@given(st.lists(MESSAGE, max_size=8), st.sampled_from([1, 3, 7, 644, 1 << 20]))
def test_any_cut_of_the_stream_gives_the_same_messages(messages: list[tuple[str, bytes]], chunk: int) -> None:
    stream, expected = b"", []
    for kind, payload in messages:
        match kind:
            case "binary":
                stream += frame(Opcode.BINARY, payload)
                expected.append(Binary(payload))
            case "text":
                stream += frame(Opcode.TEXT, payload)
                expected.append(Text(payload.decode()))
            case "ping":
                stream += frame(Opcode.PING, payload)
            case "fragments":
                stream += frame(Opcode.BINARY, payload[:20], fin=False) + frame(Opcode.PING, b"")
                stream += frame(Opcode.CONT, payload[20:40], fin=False) + frame(Opcode.CONT, payload[40:])
                expected.append(Binary(payload))
    if len(stream) > 20000 and chunk < 100:
        chunk = 997
    client, _ = connect()
    events = []
    for start in range(0, len(stream), chunk):
        events += client.receive_bytes_untrusted(stream[start : start + chunk])[0]
    assert events == expected
    assert client.is_clean


def test_it_is_only_clean_between_messages() -> None:
    client, _ = connect()
    whole = frame(Opcode.BINARY, bytes(640))
    client.receive_bytes_untrusted(whole[:100])
    assert not client.is_clean
    client.receive_bytes_untrusted(whole[100:])
    assert client.is_clean
    client.receive_bytes_untrusted(frame(Opcode.BINARY, b"ab", fin=False))
    assert not client.is_clean
    assert client.receive_bytes_untrusted(frame(Opcode.CONT, b"", fin=True))[0] == [Binary(b"ab")]
    assert client.is_clean


def test_pings_are_answered_and_close_is_returned() -> None:
    client, server = connect()
    server.send_ping(b"hello")
    server.send_close(1000, "bye")
    events, reply = client.receive_bytes_untrusted(b"".join(server.data_to_send()))
    server.receive_data(reply)
    opcodes = [f.opcode for f in server.events_received()]  # type: ignore[union-attr]
    assert opcodes == [Opcode.PONG, Opcode.CLOSE]
    assert [type(e) for e in events] == [Closed]
    assert not events[0].is_error  # type: ignore[union-attr]
    assert client.receive_bytes_untrusted(b"more") == ([], b"")
    assert client.build_text("x") == b""


@pytest.mark.parametrize(
    "octets",
    [
        b"\x82\x85abcdefghi",
        b"\xf2\x01x",
        b"\x83\x01x",
        b"\x80\x01x",
        b"\x82\x7f" + (MAX_MESSAGE_BYTES + 1).to_bytes(8, "big"),
        b"\x82\x7f" + b"\xff" * 8,
        b"\x89\x7e\x00\x80" + bytes(128),
    ],
    ids=["masked", "reserved bits", "opcode", "lost fragment", "too long", "negative", "long ping"],
)
def test_broken_frames_end_the_connection(octets: bytes) -> None:
    client, _ = connect()
    events, reply = client.receive_bytes_untrusted(octets)
    assert [type(e) for e in events] == [Closed]
    assert events[0].is_error  # type: ignore[union-attr]
    assert reply[0] == 0x88


def test_text_that_is_not_utf_8_is_left_to_the_protocol() -> None:
    client, _ = connect()
    assert client.receive_bytes_untrusted(b"\x81\x02\xff\xfe")[0] == [Text("\ufffd\ufffd")]


@settings(deadline=None, max_examples=100)
@given(st.lists(st.binary(max_size=80), max_size=6), st.booleans())
def test_garbage_gives_events_only(chunks: list[bytes], open_first: bool) -> None:
    client = connect()[0] if open_first else WebSocketClient(URL, ())
    if not open_first:
        client.build_request()
    for chunk in chunks:
        client.receive_bytes_untrusted(chunk)
    client.receive_eof()
    assert client.receive_eof() == []


@pytest.mark.parametrize(
    "response",
    [b"HTTP/1.1 404 Not Found\r\n\r\n", b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\n\r\n", b"x" * 20000, b"\r\n\r\n"],
)
def test_a_server_that_does_not_upgrade(response: bytes) -> None:
    client = WebSocketClient(URL, ("ims-as.v1",))
    client.build_request()
    events, _ = client.receive_bytes_untrusted(response)
    assert [type(e) for e in events] == [Rejected]


def test_frames_behind_the_handshake_are_kept() -> None:
    client, server = WebSocketClient(URL, ()), ServerProtocol()
    server.receive_data(client.build_request())
    server.send_response(server.accept(server.events_received()[0]))  # type: ignore[arg-type]
    server.send_binary(b"ab")
    events, _ = client.receive_bytes_untrusted(b"".join(server.data_to_send()))
    assert events == [Accepted(None), Binary(b"ab")]


@pytest.mark.parametrize("n_samples", [160, 320, 480, 960])
def test_columns_of_masked_frames_are_what_a_server_reads(n_samples: int) -> None:
    samples = np.random.default_rng(1).integers(-32768, 32767, (5, n_samples)).astype(np.int16)
    block = FrameBlock(8, 2 * n_samples)
    _, server = connect()
    keys = os.urandom(20)
    block.write(samples, keys)
    server.receive_data(b"".join(bytes(v) for v in block.views[:5]))
    received = server.events_received()
    assert [bytes(f.data) for f in received] == [row.tobytes() for row in samples]  # type: ignore[union-attr]
    assert bytes(block.views[0][4:8]) == keys[:4]
