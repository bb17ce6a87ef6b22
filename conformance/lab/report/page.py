"""The report page: HTML with style sheet, ladders, waveforms and recordings all inside one file."""

from __future__ import annotations

import base64
import io
import time
import wave
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from conformance.lab.report.ladder import format_time, render_ladder
from conformance.lab.report.model import CallReport, Report, RtpFlow, Track
from conformance.lab.report.style import CSS
from conformance.lab.report.waveform import render_waveforms

__all__ = ["render_page", "wav_bytes", "write_report"]

_LEAD = (
    "An application server on ISC lets AI voice agents answer a carrier’s calls. Each call below ran over real SIP, "
    "Diameter, RTP and WebSocket connections on one machine; speech was recognised and synthesised locally. "
    "Everything shown was recorded while it happened."
)
_WORDS_NOTE = (
    "Words under what was sent are those really spoken; words under what was heard are what a recogniser made of the "
    "recording."
)

MAX_INLINE_BYTES = 600_000
"""Recordings above this (37 s at 8 kHz) are linked, not put into the page."""


def wav_bytes(track: Track) -> bytes:
    """The recording as a WAV file: 16-bit PCM, mono."""
    output = io.BytesIO()
    with wave.open(output, "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(track.rate_hz)
        wav.writeframes(track.pcm.astype("<i2").tobytes())
    return output.getvalue()


def write_report(report: Report, directory: Path) -> Path:
    """Writes ``index.html`` and the WAVs beside it.  Returns the page's path.  Raises OSError."""
    directory.mkdir(parents=True, exist_ok=True)
    for call in report.calls:
        for track in call.tracks:
            (directory / track.file_name).write_bytes(wav_bytes(track))
    page = directory / "index.html"
    page.write_text(render_page(report), encoding="utf-8")
    return page


def render_page(report: Report) -> str:
    n_good = sum(call.ok for call in report.calls)
    when = time.strftime("%d %B %Y, %H:%M UTC", time.gmtime(report.began_at))
    took_s = report.ended_at - report.began_at
    n_calls = len(report.calls)
    verdict = (
        f'<span class="ok">All {n_calls} calls went as they should.</span>'
        if report.ok
        else f'<span class="bad">{n_calls - n_good} of {n_calls} calls did not go as they should.</span>'
    )
    body = [
        f"<h1>{escape(report.title)}</h1>",
        f'<p class="lead">{_LEAD}</p>',
        f'<p class="verdict">{verdict} <span class="soft">{when}, {took_s:.0f} s in all.</span></p>',
        _overview(report.calls),
        *(_call(call) for call in report.calls),
        _footer(report),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(report.title)}</title><style>{CSS}</style></head>\n<body>{''.join(body)}</body></html>\n"
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], cls: str = "") -> str:
    """``rows`` hold markup; a heading that starts with ``#`` is a column of numbers."""
    numeric = [name.startswith("#") for name in head]
    mark = [' class="n"' if is_number else "" for is_number in numeric]
    top = "".join(f"<th{m}>{escape(name.lstrip('#'))}</th>" for name, m in zip(head, mark, strict=True))
    lines = "".join(
        "<tr>" + "".join(f"<td{m}>{cell}</td>" for cell, m in zip(row, mark, strict=True)) + "</tr>" for row in rows
    )
    return f'<table class="{cls}"><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table>'


def _sign(ok: bool) -> str:
    return '<b class="ok">✓</b>' if ok else '<b class="bad">✗</b>'


def _ms(value: object) -> str:
    return f"{value:.0f} ms" if isinstance(value, int | float) else "–"


def _overview(calls: Sequence[CallReport]) -> str:
    rows = []
    for call in calls:
        result = call.result
        rows.append(
            (
                f"{_sign(call.ok)}&ensp;<a href='#call-{call.number}'>{call.number}&ensp;{escape(call.title)}</a>",
                _ms(result.get("setup_ms")),
                _ms(result.get("ttfb_ms")),
                "yes" if result.get("legacy_answered") else "–",
                escape(str(result.get("ended_by") or "–")),
                escape(str(result.get("ports_left", "–"))),
            )
        )
    return _table(("Call", "#Setup", "#First answer", "Phone answered", "Ended by", "#Ports left"), rows)


def _call(call: CallReport) -> str:
    title = f"{call.number}&ensp;{escape(call.title)}"
    state = '<span class="ok">as it should be</span>' if call.ok else '<span class="bad">not as it should be</span>'
    parts = [
        f'<section id="call-{call.number}"><div class="head"><h2>{title}</h2>{state}</div>',
        f'<p class="lead">{escape(call.summary)}</p>',
        f'<div class="pair"><div>{_facts(call)}</div><div>{_timings(call)}</div></div>',
        _recordings(call),
        _transcript(call),
        _ladder(call),
        _flows(call.rtp_flows, call.began_at),
        _session_data(call),
        "</section>",
    ]
    return "".join(parts)


def _facts(call: CallReport) -> str:
    lines = "".join(f"<li>{_sign(fact.ok)}{escape(fact.text)}</li>" for fact in call.facts)
    return f'<h3>Checked</h3><ul class="facts">{lines}</ul>' if lines else ""


def _timings(call: CallReport) -> str:
    if not call.timings:
        return ""
    rows = []
    for timing in call.timings:
        cls = "" if timing.ok is None else "ok" if timing.ok else "bad"
        limit = f'<span class="soft">{escape(timing.limit)}</span>'
        rows.append((escape(timing.name), f'<span class="{cls}">{escape(timing.value)}</span>', limit))
    return "<h3>Timings</h3>" + _table(("Measured", "#Value", "#Limit"), rows)


def _recordings(call: CallReport) -> str:
    if not call.tracks:
        return ""
    players = "".join(_player(track) for track in call.tracks)
    figure = f"<figure>{render_waveforms(call)}<figcaption>{_WORDS_NOTE}</figcaption></figure>"
    return f'<h3>Recordings</h3>{figure}<div class="audio">{players}</div>'


def _player(track: Track) -> str:
    content = wav_bytes(track)
    name = escape(track.file_name, quote=True)
    inline = len(content) <= MAX_INLINE_BYTES
    source = f"data:audio/wav;base64,{base64.b64encode(content).decode()}" if inline else name
    note = f' <span class="soft">{escape(track.note)}</span>' if track.note else ""
    return (
        f'<div><a href="{name}">{escape(track.title)}</a> <span class="soft">{track.duration_s:.1f} s</span>{note}'
        f'<audio controls preload="none" src="{source}"></audio></div>'
    )


def _transcript(call: CallReport) -> str:
    if not call.transcript:
        return ""
    rows = []
    for line in call.transcript:
        who = {"user": "caller", "agent": "agent"}.get(line.role, line.role)
        text = escape(line.text)
        if line.expected is not None:
            is_right = line.text == line.expected
            words = len(line.expected.split())
            note = f"word for word, {words} of {words}" if is_right else f"spoken: {line.expected}"
            text += f' <span class="{"ok" if is_right else "bad"}">— {escape(note)}</span>'
        role = "user" if line.role == "user" else "agent"
        rows.append((format_time(line.at - call.began_at), f'<span class="{role}">{escape(who)}</span>', text))
    return "<h3>Transcript</h3>" + _table(("Time", "Who", "Words"), rows, "talk")


_KEY = (
    ("sip", "SIP"),
    ("media", "media control"),
    ("engine", "engine protocol"),
    ("sh", "Diameter"),
)
_BAND_KEY = (("caller", "caller’s voice"), ("agent", "agent’s voice"), ("filler", "filler"), ("direct", "direct media"))


def _ladder(call: CallReport) -> str:
    if not call.events:
        return ""
    kinds = {event.kind.value for event in call.events}
    bands = {band.kind.value for band in call.bands}
    key = "".join(f'<span><i style="color:var(--{k})"></i>{t}</span>' for k, t in _KEY if k in kinds)
    key += "".join(
        f'<span><i class="box" style="background:var(--{k})"></i>{t}</span>' for k, t in _BAND_KEY if k in bands
    )
    caption = (
        "Time runs downwards from the caller’s INVITE; long pauses are cut at the marked breaks. SIP and Diameter were "
        "recorded at the S-CSCF and the HSS, media and engine events by those who report them. "
        "Rest the pointer on a line to read the whole message."
    )
    return (
        f'<h3>Ladder</h3><div class="key">{key}</div><figure class="long">{render_ladder(call)}'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _flows(flows: Sequence[RtpFlow], began_at: float) -> str:
    if not flows:
        return ""
    rows = [
        (
            f'<span class="mono">{escape(flow.source)}</span>',
            f'<span class="mono">{escape(flow.destination)}</span>',
            str(flow.n_packets),
            format_time(flow.first_at - began_at),
            format_time(flow.last_at - began_at),
            escape(flow.meaning),
        )
        for flow in flows
    ]
    return "<h3>RTP on the wire</h3>" + _table(("From", "To", "#Packets", "#First", "#Last", "Stream"), rows)


def _session_data(call: CallReport) -> str:
    if not call.session_data:
        return ""
    rows = [(escape(name), f"<code>{escape(value)}</code>") for name, value in call.session_data]
    return "<h3>Session data handed to the human</h3>" + _table(("Header", "Value"), rows)


def _footer(report: Report) -> str:
    entries = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in report.environment)
    return f"<footer><dl>{entries}</dl></footer>"
