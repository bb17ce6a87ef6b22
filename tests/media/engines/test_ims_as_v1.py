from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.control import MAX_LINE_BYTES, encode_line
from media.engines.base import Audio, Clear, EngineEvent, Forward, Hangup, MarkRequest, Ready
from media.engines.ims_as_v1 import MAX_TEXT_CHARS, ImsAsV1


def build() -> ImsAsV1:
    return ImsAsV1({"call_id": "c", "from": "sip:a@b", "rate": 1, "resume": True}, 16000)


def receive(message: object) -> list[EngineEvent]:
    return build().receive_text_untrusted(json.dumps(message))


def test_start_has_the_contracts_fields() -> None:
    start = json.loads(build().build_start())
    assert start["event"] == "start"
    assert start["version"] == 1
    assert (start["rate"], start["encoding"], start["frame_ms"]) == (16000, "pcm_s16le", 20)
    assert (start["call_id"], start["resume"]) == ("c", True)
    assert json.loads(ImsAsV1({}, 8000).build_start())["resume"] is False


@pytest.mark.parametrize(
    ("message", "event"),
    [
        ({"event": "ready"}, Ready()),
        ({"event": "clear"}, Clear()),
        ({"event": "mark", "name": "m"}, MarkRequest("m")),
        ({"event": "hangup", "reason": "done"}, Hangup("done")),
        ({"event": "hangup"}, Hangup("hangup")),
    ],
)
def test_handled_here(message: dict[str, str], event: EngineEvent) -> None:
    assert receive(message) == [event]


@pytest.mark.parametrize(
    "message",
    [
        {"event": "transfer", "target": "served-user", "data": {"a": [1]}},
        {"event": "dtmf", "digits": "12#"},
        {"event": "tool_call", "id": "1", "name": "f", "arguments": {}},
        {"event": "transcript", "role": "caller", "text": "hello", "final": False},
    ],
)
def test_forwarded(message: dict[str, object]) -> None:
    assert receive(message) == [Forward(message)]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        '"x"',
        '{"event":1}',
        '{"event":"mark"}',
        '{"event":"dtmf","digits":""}',
        '{"event":"transfer"}',
        '{"event":"tool_call","id":1,"name":"f"}',
        "[" * 10000,
        "x" * (MAX_TEXT_CHARS + 1),
        '{"event":"mark","name":"\\uD800"}',
        '{"event":"transfer","target":"x","data":' + "[" * 50 + "]" * 50 + "}",
    ],
)
def test_malformed_is_counted(text: str) -> None:
    protocol = build()
    assert protocol.receive_text_untrusted(text) == []
    assert protocol.counters.malformed == 1


def test_escaped_pairs_are_characters() -> None:
    assert build().receive_text_untrusted('{"event":"mark","name":"\\ud83d\\ude00"}') == [MarkRequest("\U0001f600")]


def test_unknown_is_counted_apart() -> None:
    protocol = build()
    assert protocol.receive_text_untrusted('{"event":"dance"}') == []
    assert (protocol.counters.unknown_events, protocol.counters.malformed) == (1, 0)


def test_odd_pcm_is_cut_and_counted() -> None:
    protocol = build()
    assert protocol.receive_binary_untrusted(b"abc") == [Audio(b"ab")]
    assert protocol.receive_binary_untrusted(b"a") == []
    assert protocol.receive_binary_untrusted(b"") == []
    assert protocol.counters.odd_pcm == 2


@given(st.text(max_size=MAX_TEXT_CHARS // 8))
def test_whatever_is_forwarded_fits_the_control_channel(text: str) -> None:
    message = json.dumps({"event": "transcript", "role": "agent", "text": text}, ensure_ascii=False)
    for event in build().receive_text_untrusted(message):
        assert isinstance(event, Forward)
        assert len(encode_line({"ev": "engine_event", "leg": "x" * 100, "event": event.event})) <= MAX_LINE_BYTES


def test_the_longest_text_fits_the_control_channel() -> None:
    for character in ("\x01", "\U0001f600", '"'):
        text = json.dumps({"event": "tool_call", "id": "1", "name": "f", "arguments": character * 2700})
        for event in build().receive_text_untrusted(text):
            assert isinstance(event, Forward)
            encode_line({"ev": "engine_event", "leg": "l", "event": event.event})


def test_messages_to_the_engine() -> None:
    protocol = build()
    sent = [
        protocol.build_speech(True),
        protocol.build_speech(False),
        protocol.build_dtmf("5", 100),
        protocol.build_mark("m", False),
        protocol.build_cleared(1234.5678),
        protocol.build_stop("bye"),
        protocol.build_event({"event": "hold"}),
    ]
    assert [json.loads(text) for text in sent] == [
        {"event": "speech", "state": "start"},
        {"event": "speech", "state": "end"},
        {"event": "dtmf", "digit": "5", "duration_ms": 100},
        {"event": "mark", "name": "m", "played": False},
        {"event": "cleared", "played_ms": 1234.568},
        {"event": "stop", "reason": "bye"},
        {"event": "hold"},
    ]
