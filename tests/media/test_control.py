from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.control import (
    MAX_LINE_BYTES,
    ControlError,
    EngineTarget,
    LineReader,
    StreamConfig,
    encode_line,
    from_wire,
    to_wire,
)

MESSAGE = st.dictionaries(st.text(max_size=5), st.one_of(st.integers(), st.text(max_size=20), st.none()), max_size=4)


@given(st.lists(MESSAGE, max_size=6), st.integers(1, 50))
def test_any_cut_of_the_stream_gives_the_same_messages(messages: list[dict[str, object]], chunk: int) -> None:
    stream = b"".join(encode_line(m) for m in messages)
    reader, received = LineReader(), []
    for start in range(0, len(stream), chunk):
        received += reader.receive_bytes(stream[start : start + chunk])
    assert received == messages


@pytest.mark.parametrize("line", [b"x\n", b"[]\n", b"\xff\n", b"[" * 60000 + b"\n"])
def test_what_is_no_message(line: bytes) -> None:
    with pytest.raises(ControlError):
        LineReader().receive_bytes(line)


def test_an_endless_line_is_refused() -> None:
    reader = LineReader()
    reader.receive_bytes(b"x" * MAX_LINE_BYTES)
    with pytest.raises(ControlError):
        reader.receive_bytes(b"x")


@pytest.mark.parametrize("text", ["x" * MAX_LINE_BYTES, "\ud800"])
def test_what_cannot_be_sent(text: str) -> None:
    with pytest.raises(ControlError):
        encode_line({"text": text})


def test_values_go_over_the_wire() -> None:
    stream = StreamConfig("PCMA", 8, "127.0.0.1", 4000)
    target = EngineTarget("websocket", "ws://h/", start={"call_id": "x"})
    assert from_wire(StreamConfig, to_wire(stream)) == stream
    assert from_wire(EngineTarget, to_wire(target)) == target
    for wrong in (None, [], {"codec": "PCMU"}, {"codec": "PCMU", "payload_type": 0, "colour": 1}):
        with pytest.raises(ControlError):
            from_wire(StreamConfig, wrong)
