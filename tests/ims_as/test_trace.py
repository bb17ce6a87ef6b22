from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ims_as.oss.trace import (
    KINDS,
    MAX_EVENTS,
    MAX_TEXT_CHARS,
    CallTrace,
    TraceEvent,
    TraceStore,
    render_ladder,
)


class Clock:
    now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


INVITE = b"INVITE sip:a@b SIP/2.0\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\n\r\nv=0\r\n"


def test_events_come_in_order_of_time() -> None:
    trace = TraceStore(Clock()).start("c")
    trace.add("sip", "s-cscf", "ims-as", "second", at=2.0)
    trace.add("media", "media", "caller", "first", at=1.0)
    trace.add("decision", "ims-as", "ims-as", "now")
    assert [event.label for event in trace.events()] == ["first", "second", "now"]


def test_full_trace_keeps_the_beginning_and_the_end() -> None:
    trace = CallTrace("c", "", Clock())
    for number in range(MAX_EVENTS + 100):
        trace.add("sip", "a", "b", str(number), at=float(number))
    labels = [int(event.label) for event in trace.events()]
    assert len(labels) == MAX_EVENTS
    assert labels[: MAX_EVENTS // 4] == list(range(MAX_EVENTS // 4))
    assert labels[-1] == MAX_EVENTS + 99
    assert trace.dropped == 100


def test_message_is_kept_as_text_and_named_by_its_first_line() -> None:
    trace = CallTrace("c", "", Clock())
    trace.add_message("in", "s-cscf", INVITE)
    trace.add_message("out", "s-cscf", b"SIP/2.0 200 OK\r\nCSeq: 1 INVITE\r\n\r\n\xff")
    trace.add_message("in", "x", b"")
    trace.add_message("in", "x", b"SIP/2.0 200 OK\r\nCSeq:\r\nCSeq: 5\r\n\r\n", at=2e9)
    trace.add_message("in", "p" * 100, b"x" * 100_000, at=3e9)
    invite, event, empty, ok, long = trace.events()
    assert (invite.source, invite.target, invite.label) == ("s-cscf", "ims-as", "INVITE (SDP)")
    assert (event.source, event.target, event.label) == ("ims-as", "s-cscf", "200 OK · INVITE")
    assert "\\xff" in event.text
    assert empty.label == ""
    assert (ok.label, ok.at) == ("200 OK", 2e9)
    assert len(long.source) < 50
    assert len(long.label) == 200
    assert len(long.text) < MAX_TEXT_CHARS + 50


def test_long_texts_are_cut() -> None:
    trace = CallTrace("c", "", Clock())
    event = trace.add("engine", "e" * 100, "f", "l" * 1000, text="x" * 100_000)
    assert len(event.source) < 50
    assert len(event.label) == 200
    assert len(event.text) < MAX_TEXT_CHARS + 50


def test_store_keeps_active_and_a_bounded_number_of_ended() -> None:
    store = TraceStore(Clock(), max_ended=2)
    traces = [store.start(f"id{number}", f"call-{number}@x") for number in range(4)]
    for number in range(3):
        store.end(f"id{number}")
    store.end("nobody")
    assert store.get("id0") is None
    assert store.get("id2") is traces[2]
    assert store.get("call-1@x") is traces[1]
    assert store.get("call-3@x") is traces[3]
    assert store.get("") is None
    assert len(store) == 3


def test_event_survives_json_form() -> None:
    event = TraceEvent(1.5, "sip", "a", "b", "l", "t")
    assert TraceEvent.from_dict(event.as_dict()) == event
    for broken in ({}, {**event.as_dict(), "at": "soon"}, {**event.as_dict(), "at": None}):
        with pytest.raises(ValueError):
            TraceEvent.from_dict(broken)


def test_ladder_shows_columns_arrows_and_times() -> None:
    trail = [
        TraceEvent(10.0, "sip", "s-cscf", "ims-as", "INVITE (SDP)"),
        TraceEvent(10.0002, "decision", "ims-as", "ims-as", "served user by P-Served-User"),
        TraceEvent(10.0035, "engine", "media", "engine", "connect"),
        TraceEvent(10.0068, "sip", "ims-as", "s-cscf", "200 OK · INVITE"),
        TraceEvent(22.5, "sip", "s-cscf", "ims-as", "BYE"),
    ]
    assert render_ladder(trail, 80) == "\n".join(
        [
            " 00:00:10Z       s-cscf           ims-as           media            engine",
            "    0.0 ms         │─ INVITE (SDP) ▶│                │                │",
            "    0.2 ms         │                ● served user by P-Served-User    │",
            "    3.5 ms         │                │                │┄┄┄ connect ┄┄┄▶│",
            "    6.8 ms         │ 200 OK · INVITE│                │                │",
            "                   │◀───────────────│                │                │",
            "  12.500 s         │───── BYE ─────▶│                │                │",
            "",
        ]
    )


def test_nothing_is_drawn_of_nothing() -> None:
    assert render_ladder([]) == ""


names = st.sampled_from(["caller", "s-cscf", "ims-as", "media", "engine", "hss", "192.0.2.1"])
texts = st.text(max_size=60)


@given(
    st.lists(st.builds(TraceEvent, st.floats(0, 1e9), st.sampled_from(KINDS), names, names, texts), max_size=12),
    st.integers(0, 200),
)
def test_any_trail_can_be_drawn_within_the_width(trail: list[TraceEvent], width: int) -> None:
    drawn = render_ladder(trail, width)
    for line in drawn.splitlines():
        assert len(line) <= max(width, 40)
        assert line.isprintable()
    assert drawn.count("\n") >= len(trail)
