"""What every engine protocol must keep, shown on the ones there are."""

from __future__ import annotations

import inspect
import json
from typing import get_args

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.engines import base
from media.engines.base import Audio, EngineCounters, EngineEvent, EngineProtocol, Ready
from media.engines.ims_as_v1 import ImsAsV1

PROTOCOLS = (ImsAsV1,)


def build(cls: type[ImsAsV1]) -> EngineProtocol:
    return cls({"call_id": "c"}, 16000)


def test_events_are_values() -> None:
    for event in get_args(EngineEvent):
        assert attrs.has(event)
        assert "__slots__" in vars(event), f"{event.__name__} has no slots"
    assert Audio(b"ab") == Audio(b"ab")
    assert hash(Ready()) == hash(Ready())
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        Audio(b"ab").pcm = b""  # type: ignore[misc]


def test_counters_start_at_nothing_and_are_not_shared() -> None:
    first, second = build(ImsAsV1), build(ImsAsV1)
    first.counters.malformed += 1
    assert attrs.astuple(second.counters) == (0, 0, 0, 0)
    assert attrs.astuple(EngineCounters()) == (0, 0, 0, 0)


@pytest.mark.parametrize("cls", PROTOCOLS)
def test_every_method_is_there_with_its_parameters(cls: type[ImsAsV1]) -> None:
    wanted = {n: f for n, f in vars(EngineProtocol).items() if inspect.isfunction(f) and not n.startswith("_")}
    assert len(wanted) >= 9
    for name, function in wanted.items():
        assert inspect.signature(getattr(cls, name)).parameters.keys() == inspect.signature(function).parameters.keys()


@pytest.mark.parametrize("cls", PROTOCOLS)
def test_messages_are_single_objects(cls: type[ImsAsV1]) -> None:
    protocol = build(cls)
    messages = [
        protocol.build_start(),
        protocol.build_event({"event": "hold"}),
        protocol.build_speech(True),
        protocol.build_dtmf("#", 80),
        protocol.build_mark("m", False),
        protocol.build_cleared(12.5),
        protocol.build_stop("bye"),
    ]
    assert all(isinstance(json.loads(message), dict) for message in messages)


@given(st.binary(max_size=700), st.sampled_from(PROTOCOLS))
def test_audio_is_whole_samples(payload: bytes, cls: type[ImsAsV1]) -> None:
    protocol = build(cls)
    for event in protocol.receive_binary_untrusted(payload):
        if isinstance(event, Audio):
            assert len(event.pcm) % 2 == 0
            assert event.pcm


@given(st.text(max_size=300), st.sampled_from(PROTOCOLS))
def test_no_text_is_fatal(text: str, cls: type[ImsAsV1]) -> None:
    events = build(cls).receive_text_untrusted(text)
    assert all(isinstance(event, get_args(EngineEvent)) for event in events)


def test_all_events_are_exported() -> None:
    assert {event.__name__ for event in get_args(EngineEvent)} <= set(base.__all__)
