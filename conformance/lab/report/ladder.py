"""The ladder of a call as SVG: all messages and events on one time axis that runs downwards.

The axis is true to scale (``PX_PER_S``) with two exceptions, both visible.  Events closer together than a line of text
are set on lines of their own, each with its time; a pause that would need more than ``MAX_PAUSE_PX`` is cut short and
marked with a break and its length.  ``TimeAxis`` holds that mapping; it is monotone, so nothing changes its order.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from html import escape

import attrs

from conformance.lab.report.model import Band, CallReport, Event, EventKind, Lifeline
from conformance.lab.report.svg import clip_label, element

__all__ = ["TimeAxis", "format_time", "render_ladder"]

WIDTH = 1000
AXIS_X = 78
TOP = 62
ROW_PX = 19.0
EDGE_PX = 5.0
"""The end of a band needs no line of text."""
PX_PER_S = 46.0
MAX_PAUSE_PX = 64.0
FONT_PX = 11.0
NOTE_PX = 330.0
LABEL_PX = 210.0
FIRST_X = 132.0
LAST_X = 942.0


def format_time(seconds: float) -> str:
    """Time since the call's beginning: milliseconds below a second, else seconds."""
    if abs(seconds) < 1.0:
        return f"{1000 * seconds:.1f} ms"
    return f"{seconds:.3f} s"


@attrs.frozen
class Pause:
    """A stretch of the axis that was cut short."""

    y: float
    seconds: float


class TimeAxis:
    """Maps time to y.  Built from the moments that must be shown, in order."""

    def __init__(self, began_at: float, top: float = TOP) -> None:
        self._times = [began_at]
        self._ys = [top]
        self.pauses: list[Pause] = []

    @property
    def bottom(self) -> float:
        return self._ys[-1]

    def place(self, at: float, room_px: float) -> float:
        """Next moment, not before the last one, on a line ``room_px`` high.  Returns its y."""
        at = max(at, self._times[-1])
        stretch = (at - self._times[-1]) * PX_PER_S
        if stretch > MAX_PAUSE_PX:
            self.pauses.append(Pause(self._ys[-1] + MAX_PAUSE_PX / 2, at - self._times[-1]))
            stretch = MAX_PAUSE_PX
        y = self._ys[-1] + max(stretch, room_px)
        self._times.append(at)
        self._ys.append(y)
        return y

    def y_of(self, at: float) -> float:
        """Position of any moment, between its neighbours; where several share a moment, the last."""
        index = bisect.bisect_right(self._times, at) - 1
        if index < 0:
            return self._ys[0]
        if index + 1 >= len(self._times):
            return self._ys[-1]
        t0, t1, y0, y1 = self._times[index], self._times[index + 1], self._ys[index], self._ys[index + 1]
        return y0 + (y1 - y0) * (at - t0) / (t1 - t0)


@attrs.frozen(eq=False)
class _Placed:
    at: float
    y: float
    item: Event | Band


def _columns(call: CallReport) -> dict[Lifeline, float]:
    """The lifelines that take part, spread over the width."""
    items: list[Event | Band] = [*call.events, *call.bands]
    used = {line for item in items for line in (item.source, item.target)}
    lines = [line for line in Lifeline if line in used] or [Lifeline.UE, Lifeline.SCSCF]
    step = (LAST_X - FIRST_X) / max(1, len(lines) - 1)
    return {line: FIRST_X + index * step for index, line in enumerate(lines)}


def _place(call: CallReport) -> tuple[TimeAxis, list[_Placed]]:
    axis = TimeAxis(call.began_at)
    moments: list[tuple[float, int, Event | Band | None]] = [(event.at, 1, event) for event in call.events]
    moments += [(band.start, 0, band) for band in call.bands]
    moments += [(band.end, 2, None) for band in call.bands]
    placed = []
    for at, _, item in sorted(moments, key=lambda moment: moment[:2]):
        if item is None:
            axis.place(at, EDGE_PX)
        else:
            placed.append(_Placed(at, axis.place(at, ROW_PX), item))
    return axis, placed


def render_ladder(call: CallReport) -> str:
    """An ``<svg>`` that uses the page's style sheet."""
    columns = _columns(call)
    axis, placed = _place(call)
    height = axis.bottom + 34
    body = [_bands(axis, placed, columns), _frame(axis, columns, height), _pauses(axis, columns)]
    body += [_row(entry, call.began_at, columns) for entry in placed]
    label = escape(f"Ladder of call {call.name}", quote=True)
    return (
        f'<svg class="ladder" viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{label}" '
        f'xmlns="http://www.w3.org/2000/svg">{"".join(body)}</svg>'
    )


def _frame(axis: TimeAxis, columns: dict[Lifeline, float], height: float) -> str:
    parts = []
    for line, x in columns.items():
        parts.append(element("line", cls="life", x1=x, x2=x, y1=36.0, y2=height - 16))
        parts.append(element("text", escape(line.value), cls="head", x=x, y=24.0, text_anchor="middle"))
    parts.append(element("line", cls="axis", x1=float(AXIS_X), x2=float(AXIS_X), y1=36.0, y2=height - 16))
    return "".join(parts)


def _pauses(axis: TimeAxis, columns: dict[Lifeline, float]) -> str:
    parts = []
    for pause in axis.pauses:
        y = pause.y
        zigzag = f"M{AXIS_X} {y - 9:.1f} l-5 3 l10 4 l-10 4 l10 4 l-5 3"
        parts.append(element("path", cls="break-gap", d=f"M{AXIS_X} {y - 9:.1f} V{y + 9:.1f}"))
        parts.append(element("path", cls="break", d=zigzag, fill="none"))
        parts.append(
            element("text", f"{pause.seconds:.2f} s", cls="pause", x=AXIS_X - 10.0, y=y + 3.5, text_anchor="end")
        )
        for x in columns.values():
            parts.append(element("line", cls="break-gap", x1=x, x2=x, y1=y - 3, y2=y + 3))
    return "".join(parts)


def _bands(axis: TimeAxis, placed: Sequence[_Placed], columns: dict[Lifeline, float]) -> str:
    parts = []
    for entry in placed:
        if isinstance(band := entry.item, Band):
            left, right = sorted((columns[band.source], columns[band.target]))
            top = entry.y - ROW_PX / 2 - 2
            bottom = max(axis.y_of(band.end), entry.y + ROW_PX / 2)
            shape = {"x": left, "y": top, "width": right - left, "height": bottom - top}
            title = f"{band.label}\n{band.end - band.start:.2f} s"
            parts.append(element("rect", cls=f"band {band.kind.value}", title=title, **shape))
    return "".join(parts)


def _row(entry: _Placed, began_at: float, columns: dict[Lifeline, float]) -> str:
    item, y = entry.item, entry.y
    time = element("text", format_time(entry.at - began_at), cls="time", x=AXIS_X - 10.0, y=y + 3.5, text_anchor="end")
    tick = element("line", cls="axis", x1=AXIS_X - 3.0, x2=AXIS_X + 3.0, y1=y, y2=y)
    if isinstance(item, Band):
        shown = _band_label(item, y, columns)
    elif item.source is item.target:
        shown = _note(item, y, columns)
    else:
        shown = _arrow(item, y, columns)
    return time + tick + shown


def _band_label(band: Band, y: float, columns: dict[Lifeline, float]) -> str:
    left, right = sorted((columns[band.source], columns[band.target]))
    is_rightwards = columns[band.source] < columns[band.target]
    text = f"{band.label} ▸" if is_rightwards else f"◂ {band.label}"
    shown = clip_label(text, right - left - 18, FONT_PX)
    label = element(
        "text",
        escape(shown),
        cls=f"label said {band.kind.value}",
        x=(left + right) / 2,
        y=y + 3.5,
        text_anchor="middle",
    )
    return element("g", label, title=f"{band.label}\n{band.end - band.start:.2f} s")


def _arrow(event: Event, y: float, columns: dict[Lifeline, float]) -> str:
    x1, x2 = columns[event.source], columns[event.target]
    sign = 1.0 if x2 > x1 else -1.0
    kind = f"{event.kind.value}{' failure' if event.is_failure else ''}"
    # every event has a line of its own, so a label may be longer than its arrow
    shown = clip_label(event.label, max(abs(x2 - x1) - 12, LABEL_PX), FONT_PX)
    parts = [
        element("line", cls=f"arrow {kind}", x1=x1, x2=x2 - sign * 6, y1=y + 5, y2=y + 5),
        element("path", cls=f"tip {kind}", d=f"M{x2:.1f} {y + 5:.1f} l{-sign * 8:.0f} -3.5 v7 z"),
        element("text", escape(shown), cls=f"label {kind}", x=(x1 + x2) / 2, y=y + 1.5, text_anchor="middle"),
        # a wide invisible line, so that the message shows wherever the pointer is on its row
        element("rect", cls="hover", x=min(x1, x2), y=y - 9, width=abs(x2 - x1), height=18.0),
    ]
    return element("g", "".join(parts), title=event.text or event.label)


def _note(event: Event, y: float, columns: dict[Lifeline, float]) -> str:
    x = columns[event.source]
    is_last = x > LAST_X - 150
    kind = f"{event.kind.value}{' failure' if event.is_failure else ''}"
    room = min(NOTE_PX, x - FIRST_X if is_last else WIDTH - x - 14)
    shown = clip_label(event.label, room, FONT_PX)
    turned = f"rotate(45 {x:.1f} {y:.1f})"
    mark = (
        element("rect", cls=f"tip {kind}", x=x - 3.5, y=y - 3.5, width=7.0, height=7.0, transform=turned)
        if event.kind is EventKind.DECISION
        else element("circle", cls=f"tip {kind}", cx=x, cy=y, r=3.2)
    )
    text = element(
        "text",
        escape(shown),
        cls=f"label note {kind}",
        x=x - 9 if is_last else x + 9,
        y=y + 3.5,
        text_anchor="end" if is_last else "start",
    )
    return element("g", mark + text, title=event.text or event.label)
