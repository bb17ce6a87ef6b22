from __future__ import annotations

import io
import itertools
import re
import wave
from xml.etree import ElementTree

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.lab.report import render_page, write_report
from conformance.lab.report.ladder import TimeAxis, format_time, render_ladder
from conformance.lab.report.model import Caption, Event, EventKind, Fact, Lifeline
from conformance.lab.report.page import wav_bytes
from conformance.lab.report.svg import clip_label, element, text_width
from conformance.lab.report.waveform import envelope, render_waveforms
from tests.conformance.report_fixture import T0, answered, engine_dies, fake_report

SVG = "{http://www.w3.org/2000/svg}"


def test_page_is_self_contained_and_well_formed(tmp_path):
    page = write_report(fake_report(), tmp_path)
    html = page.read_text()
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', html)
    assert html.count("<audio") == 5
    assert html.count("data:audio/wav;base64,") == 5
    assert "1 of 2 calls did not go as they should" in html
    assert sorted(path.name for path in tmp_path.glob("*.wav")) == [
        "1-caller-heard.wav",
        "1-caller-sent.wav",
        "4-caller-heard.wav",
        "4-caller-sent.wav",
        "4-phone-heard.wav",
    ]
    for svg in re.findall(r"<svg.*?</svg>", html, re.DOTALL):
        ElementTree.fromstring(svg)


def test_text_from_the_network_cannot_break_the_page():
    evil = '</title><script>alert("x")</script>'
    call = answered()
    event = Event(T0, EventKind.SIP, Lifeline.UE, Lifeline.SCSCF, evil, evil)
    fact = Fact(evil, True)
    report = attrs.evolve(fake_report(), calls=(attrs.evolve(call, events=(event,), facts=(fact,), title=evil),))
    assert "<script" not in render_page(report)


def test_every_event_has_its_line_in_the_ladder():
    call = engine_dies()
    svg = ElementTree.fromstring(render_ladder(call))
    titles = [title.text for title in svg.iter(f"{SVG}title")]
    for event in call.events:
        assert event.text in titles
    for band in call.bands:
        assert any(title.startswith(band.label) for title in titles)


def test_labels_do_not_overlap():
    """Lines of text are at least a line apart, whatever the times are."""
    svg = ElementTree.fromstring(render_ladder(answered()))
    ys = sorted(float(text.get("y")) for text in svg.iter(f"{SVG}text") if text.get("class") == "time")
    assert len(ys) > 20
    assert min(b - a for a, b in itertools.pairwise(ys)) > 12


@given(st.lists(st.tuples(st.floats(0, 100), st.sampled_from([5.0, 19.0])), min_size=1, max_size=30))
def test_axis_never_changes_the_order(moments):
    axis = TimeAxis(0.0)
    ys = [axis.place(at, room) for at, room in sorted(moments)]
    assert ys == sorted(ys)
    at_times = [axis.y_of(at) for at in sorted(at for at, _ in moments)]
    assert at_times == sorted(at_times)
    assert axis.bottom == ys[-1] == axis.y_of(1000.0)


def test_axis_is_to_scale_and_cuts_long_pauses():
    axis = TimeAxis(0.0, top=0.0)
    assert axis.place(1.0, 10.0) == 46.0
    assert axis.y_of(0.5) == 23.0
    assert axis.y_of(-1.0) == 0.0
    axis.place(61.0, 10.0)
    assert [pause.seconds for pause in axis.pauses] == [60.0]
    assert axis.bottom == 46.0 + 64.0


def test_a_call_without_events_or_recordings():
    call = attrs.evolve(answered(), events=(), bands=(), tracks=())
    assert render_waveforms(call) == ""
    assert "<audio" not in render_page(attrs.evolve(fake_report(), calls=(call,)))
    ElementTree.fromstring(render_ladder(call))


@pytest.mark.parametrize(("seconds", "text"), [(0.0104, "10.4 ms"), (1.0, "1.000 s"), (-0.0002, "-0.2 ms")])
def test_times(seconds, text):
    assert format_time(seconds) == text


def test_envelope_holds_the_peaks():
    pcm = np.zeros(1000, np.int16)
    pcm[505], pcm[995] = 30000, -20000
    shape = envelope(pcm, 10)
    assert shape.shape == (10, 2)
    assert shape[5].tolist() == [0.0, 30000.0]
    assert shape[9].tolist() == [-20000.0, 0.0]
    assert envelope(np.zeros(0, np.int16), 4).tolist() == [[0.0, 0.0]] * 4
    assert envelope(np.ones(2, np.int16), 5).shape == (5, 2)


def test_captions_at_the_end_stay_inside():
    call = answered()
    late = Caption(T0 + 9.9, T0 + 10.0, "seven of clubs and some more")
    track = attrs.evolve(call.tracks[0], captions=(late,))
    svg = ElementTree.fromstring(render_waveforms(attrs.evolve(call, tracks=(track,))))
    text = next(t for t in svg.iter(f"{SVG}text") if t.get("class") == "caption")
    assert float(text.get("x")) + text_width(text.text, 11) <= 986.5


def test_wav_round_trip():
    track = answered().tracks[0]
    with wave.open(io.BytesIO(wav_bytes(track))) as wav:
        assert wav.getparams()[:4] == (1, 2, 8000, len(track.pcm))
        assert np.array_equal(np.frombuffer(wav.readframes(10**6), np.int16), track.pcm)


def test_svg_helpers():
    assert element("a", cls='x"y', stroke_width=1.0) == '<a class="x&quot;y" stroke-width="1"/>'
    assert clip_label("short", 100, 11) == "short"
    clipped = clip_label("a long label that needs room", 60, 11)
    assert clipped.endswith("…")
    assert text_width(clipped, 11) <= 60
