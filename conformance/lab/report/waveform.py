"""The recordings of a call as SVG: stacked waveforms on one time axis, with the words under them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

import numpy as np
import numpy.typing as npt

from conformance.lab.report.model import CallReport, Caption, Track
from conformance.lab.report.svg import clip_label, element, text_width

__all__ = ["envelope", "render_waveforms"]

WIDTH = 1000
LEFT = 118.0
RIGHT = 986.0
TOP = 30.0
WAVE_PX = 52.0
TRACK_PX = 88.0
FONT_PX = 11.0
COLUMNS = 868
MIN_PEAK = 2000.0
"""A recording of nothing but hiss is drawn as hiss, not blown up to fill its line."""
_XOf = Callable[[float], float]
_STEPS_S = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


def envelope(pcm: npt.NDArray[np.int16], n_columns: int) -> npt.NDArray[np.float64]:
    """Lowest and highest sample of each column: shape (n_columns, 2).  Fewer samples than columns are repeated."""
    if len(pcm) == 0 or n_columns == 0:
        return np.zeros((n_columns, 2))
    edges = np.linspace(0, len(pcm), n_columns + 1).astype(np.int64)
    starts = np.minimum(edges[:-1], len(pcm) - 1)
    samples = pcm.astype(np.float64)
    return np.stack([np.minimum.reduceat(samples, starts), np.maximum.reduceat(samples, starts)], axis=1)


def render_waveforms(call: CallReport) -> str:
    """An ``<svg>``; empty when the call has no recordings."""
    if not call.tracks:
        return ""
    began = min(call.began_at, *(track.began_at for track in call.tracks))
    ended = max(track.began_at + track.duration_s for track in call.tracks)
    scale = (RIGHT - LEFT) / max(ended - began, 0.1)
    height = TOP + TRACK_PX * len(call.tracks) + 6

    def x_of(at: float) -> float:
        return LEFT + (min(max(at, began), ended) - began) * scale

    body = [_ticks(call.began_at, began, ended, scale, height)]
    body += [_track(track, TOP + index * TRACK_PX, x_of) for index, track in enumerate(call.tracks)]
    body.append(_markers(call, x_of, height))
    label = escape(f"Waveforms of call {call.name}", quote=True)
    return (
        f'<svg class="waves" viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{label}" '
        f'xmlns="http://www.w3.org/2000/svg">{"".join(body)}</svg>'
    )


def _ticks(zero: float, began: float, ended: float, scale: float, height: float) -> str:
    step = next((s for s in _STEPS_S if s * scale >= 58), _STEPS_S[-1])
    parts = []
    n = int(np.ceil((began - zero) / step))
    while zero + n * step <= ended:
        x = LEFT + (zero + n * step - began) * scale
        parts.append(element("line", cls="grid", x1=x, x2=x, y1=TOP - 8, y2=height - 6))
        parts.append(element("text", f"{n * step:g} s", cls="time", x=x, y=TOP - 14, text_anchor="middle"))
        n += 1
    return "".join(parts)


def _track(track: Track, top: float, x_of: _XOf) -> str:
    x0, x1 = x_of(track.began_at), x_of(track.began_at + track.duration_s)
    middle = top + WAVE_PX / 2
    n_columns = max(1, int(x1 - x0))
    shape = envelope(track.pcm, n_columns)
    peak = max(MIN_PEAK, float(np.abs(shape).max(initial=0.0)))
    half = WAVE_PX / 2 - 1
    highs = [f"{x0 + i:.0f} {middle - shape[i, 1] / peak * half - 0.3:.1f}" for i in range(n_columns)]
    lows = [f"{x0 + i:.0f} {middle - shape[i, 0] / peak * half + 0.3:.1f}" for i in reversed(range(n_columns))]
    title_lines = _two_lines(track.title)
    parts = [
        element("text", escape(line), cls="head", x=0.0, y=middle - 3 + 14 * index - 7 * (len(title_lines) - 2))
        for index, line in enumerate(title_lines)
    ]
    parts.append(element("line", cls="grid", x1=LEFT, x2=RIGHT, y1=middle, y2=middle))
    parts.append(element("path", cls="wave", d="M" + "L".join([*highs, *lows]) + "Z"))
    parts.append(_captions(track.captions, top + WAVE_PX + 14, x_of))
    return "".join(parts)


def _two_lines(title: str) -> list[str]:
    first, _, rest = title.partition(" ")
    return [first, rest] if rest else [first]


def _captions(captions: Sequence[Caption], y: float, x_of: _XOf) -> str:
    """Each starts under its speech; one that would run into the next takes the second line, or is cut."""
    parts = []
    free_from = [0.0, 0.0]
    ordered = sorted(captions, key=lambda caption: caption.start)
    for index, caption in enumerate(ordered):
        x, end = x_of(caption.start), x_of(caption.end)
        parts.append(element("line", cls="said", x1=x, x2=max(end, x + 2), y1=y - 11.5, y2=y - 11.5))
        line = 0 if x >= free_from[0] else 1
        width = text_width(caption.text, FONT_PX)
        x = max(x, free_from[line])
        if x + width > RIGHT:
            x = max(free_from[line], RIGHT - width)
        others = [x_of(later.start) for later in ordered[index + 2 :]]
        room = min([RIGHT, *others]) - x - 6 if line == 1 else RIGHT - x
        text = clip_label(caption.text, max(room, 40.0), FONT_PX)
        free_from[line] = x + text_width(text, FONT_PX) + 10
        label = element("text", escape(text), cls="caption", x=x, y=y + 13.0 * line)
        parts.append(element("g", label, title=caption.text))
    return "".join(parts)


def _markers(call: CallReport, x_of: _XOf, height: float) -> str:
    parts = []
    free_from = 0.0
    for marker in sorted(call.markers, key=lambda m: m.at):
        x = x_of(marker.at)
        parts.append(element("line", cls="marker", x1=x, x2=x, y1=TOP - 6, y2=height - 4))
        width = text_width(marker.label, FONT_PX)
        is_last = x + width + 4 > WIDTH
        y = height - 4 if x - is_last * width >= free_from else height - 16
        anchor = "end" if is_last else "start"
        x_text = x - 4 if is_last else x + 4
        parts.append(element("text", escape(marker.label), cls="marker", x=x_text, y=y, text_anchor=anchor))
        free_from = x + width + 12
    return "".join(parts)
