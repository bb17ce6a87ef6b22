"""The trail of one call: SIP messages, media and engine events, Sh requests and our decisions, on one time axis.

Each call has a bounded ring of events, the store keeps the calls that are up and a bounded number of ended ones.
``render_ladder`` draws a trail for people.  Sans-IO: times come from the clock that the store is given.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, Self

import attrs

from ims_as.sip.key_mask import mask_keys

__all__ = [
    "KINDS",
    "MAX_ENDED_TRACES",
    "MAX_EVENTS",
    "MAX_TEXT_CHARS",
    "CallTrace",
    "TraceEvent",
    "TraceStore",
    "render_ladder",
]

KINDS = ("sip", "media", "engine", "sh", "decision")
MAX_EVENTS = 400
"""A call with two transfers and ten re-INVITEs has about 150."""
MAX_TEXT_CHARS = 8192
"""A whole SIP message with SDP is 1–4 KB."""
MAX_LABEL_CHARS = 200
MAX_ACTOR_CHARS = 24
MAX_ENDED_TRACES = 500
"""About 25 MB when all are full."""
MAX_ACTIVE_TRACES = 100_000
"""Above any admission limit; a guard against a caller of ours that never ends its traces."""


@attrs.frozen
class TraceEvent:
    """One thing that happened."""

    at: float
    """Wall clock, seconds."""
    kind: str
    """One of ``KINDS``."""
    source: str
    """Who acted: ``caller``, ``s-cscf``, ``ims-as``, ``media``, ``engine``, ``hss``, …"""
    target: str
    """On whom; the same as ``source`` for what stays inside."""
    label: str
    """One line for people."""
    text: str = ""
    """The whole of it: the SIP message, the engine's event."""

    def as_dict(self) -> dict[str, Any]:
        return attrs.asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """Reads what as_dict wrote.  Raises ValueError."""
        try:
            at, kind, source, target, label = (fields[name] for name in ("at", "kind", "source", "target", "label"))
            return cls(float(at), str(kind), str(source), str(target), str(label), str(fields.get("text", "")))
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a trace event: {error}") from error


class _Message(NamedTuple):
    """A SIP message as it passed the wire: made into an event when somebody looks, which for most calls nobody does."""

    at: float
    direction: str
    peer: str
    wire: bytes

    def as_event(self) -> TraceEvent:
        text = mask_keys(self.wire[:MAX_TEXT_CHARS].decode("utf-8", "backslashreplace").replace("\r\n", "\n"))
        peer = self.peer[:MAX_ACTOR_CHARS]
        source, target = (peer, "ims-as") if self.direction == "in" else ("ims-as", peer)
        return TraceEvent(self.at, "sip", source, target, _message_label(text)[:MAX_LABEL_CHARS], _cut_text(text))


@attrs.define(eq=False)
class CallTrace:
    """The trail of one call; the oldest events after the first few give way when it is full."""

    call_id: str
    """Our id of the call."""
    sip_call_id: str
    """Call-ID of the caller's leg."""
    _clock: Callable[[], float]
    _head: list[TraceEvent | _Message] = attrs.Factory(list)
    _ring: deque[TraceEvent | _Message] = attrs.Factory(lambda: deque(maxlen=MAX_EVENTS - MAX_EVENTS // 4))
    dropped: int = 0
    """Events that gave way."""

    def add(
        self, kind: str, source: str, target: str, label: str, *, text: str = "", at: float | None = None
    ) -> TraceEvent:
        """Notes an event; ``at`` in seconds of the wall clock, None: now.  Label and text are cut, never refused."""
        event = TraceEvent(
            self._clock() if at is None else at,
            kind,
            source[:MAX_ACTOR_CHARS],
            target[:MAX_ACTOR_CHARS],
            label[:MAX_LABEL_CHARS],
            _cut_text(text),
        )
        self._keep(event)
        return event

    def add_message(self, direction: str, peer: str, wire: bytes, *, at: float | None = None) -> None:
        """Notes a SIP message as it was on the wire; ``direction`` is ``in`` or ``out``, ``peer`` the other actor."""
        self._keep(_Message(self._clock() if at is None else at, direction, peer, wire))

    def _keep(self, event: TraceEvent | _Message) -> None:
        # the beginning explains a call better than any later part: a quarter of the room is the beginning's
        if len(self._head) < MAX_EVENTS // 4:
            self._head.append(event)
        else:
            self.dropped += len(self._ring) == self._ring.maxlen
            self._ring.append(event)

    def events(self) -> list[TraceEvent]:
        """In order of time; events of equal time in the order of arrival."""
        kept = sorted([*self._head, *self._ring], key=lambda event: event.at)
        return [event.as_event() if isinstance(event, _Message) else event for event in kept]

    def as_dicts(self) -> list[dict[str, Any]]:
        return [event.as_dict() for event in self.events()]


def _cut_text(text: str) -> str:
    return text if len(text) <= MAX_TEXT_CHARS else text[:MAX_TEXT_CHARS] + f"\n… ({len(text)} characters)"


def _message_label(text: str) -> str:
    """``INVITE sip:…`` → ``INVITE (SDP)``; ``SIP/2.0 200 OK`` → ``200 OK (INVITE)``."""
    head, _, body = text.partition("\n\n")
    lines = head.split("\n")
    first = lines[0].split(" ", 2)
    sdp = " (SDP)" if body.startswith("v=0") else ""
    if first[0] != "SIP/2.0":
        return f"{first[0]}{sdp}"
    method = next((line.split()[-1] for line in lines[1:] if line.lower().startswith("cseq:") and line.split()[2:]), "")
    return " ".join(first[1:]) + (f" · {method}" if method else "") + sdp


@attrs.define(eq=False)
class TraceStore:
    """The trails of the calls that are up, and of the last that ended."""

    clock: Callable[[], float]
    """Wall clock, seconds."""
    max_ended: int = MAX_ENDED_TRACES
    _active: OrderedDict[str, CallTrace] = attrs.Factory(OrderedDict)
    _ended: OrderedDict[str, CallTrace] = attrs.Factory(OrderedDict)

    def start(self, call_id: str, sip_call_id: str = "") -> CallTrace:
        """A new trail; one of the same id is replaced."""
        trace = CallTrace(call_id, sip_call_id, self.clock)
        self._active[call_id] = trace
        if len(self._active) > MAX_ACTIVE_TRACES:
            self._active.popitem(last=False)
        return trace

    def end(self, call_id: str) -> None:
        """Moves a trail to the ended ones; the oldest of these goes.  Unknown ids are ignored."""
        if (trace := self._active.pop(call_id, None)) is None:
            return
        self._ended[call_id] = trace
        self._ended.move_to_end(call_id)
        while len(self._ended) > self.max_ended:
            self._ended.popitem(last=False)

    def get(self, call_id: str) -> CallTrace | None:
        """By our id, else by the Call-ID of the caller's leg, latest first."""
        if (trace := self._active.get(call_id) or self._ended.get(call_id)) is not None:
            return trace
        for traces in (self._active, self._ended):
            for trace in reversed(traces.values()):
                if trace.sip_call_id and trace.sip_call_id == call_id:
                    return trace
        return None

    def __len__(self) -> int:
        return len(self._active) + len(self._ended)


# --- drawing ----------------------------------------------------------------------------------------------------------

_ORDER = ("caller", "ue", "phone", "p-cscf", "i-cscf", "s-cscf", "core", "ims-as", "media", "engine", "hss")
_TIME_WIDTH = 10
_MIN_COLUMN = 12
_LINES = {"sip": "─", "media": "═", "engine": "┄", "sh": "╌", "decision": "─"}


def _actors(events: Sequence[TraceEvent]) -> list[str]:
    names = list(dict.fromkeys(name for event in events for name in (event.source, event.target)))
    known = {name: place for place, name in enumerate(_ORDER)}
    # actors that nobody foresaw stand between the core and us: they are SIP peers named by their address
    return sorted(names, key=lambda name: known.get(name.lower(), known["core"]))


def _clean(text: str) -> str:
    return "".join(char if char.isprintable() else "·" for char in text)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(width - 1, 0)] + "…"


def _elapsed(seconds: float) -> str:
    ms = seconds * 1000
    return f"{ms:.1f} ms" if ms < 1000 else f"{ms / 1000:.3f} s" if ms < 100_000 else f"{ms / 1000:.1f} s"


def render_ladder(events: Iterable[TraceEvent], width: int = 100) -> str:
    """Draws the trail as a ladder: one column per actor, time since the first event on the left.

    Args:
        events: in any order; none gives an empty string.
        width: characters per line, at least 40; a crowded ladder on a narrow terminal is cut, not wrapped.
    """
    trail = sorted(events, key=lambda event: event.at)
    if not trail:
        return ""
    width = max(width, 40)
    actors = _actors(trail)
    column = max((width - _TIME_WIDTH - 2) // len(actors), _MIN_COLUMN)
    centre = {name: index * column + column // 2 for index, name in enumerate(actors)}
    total = column * len(actors)
    heads = "".join(_cut(_clean(name), column - 1).center(column) for name in actors)
    start = trail[0].at
    day_time = datetime.fromtimestamp(start, UTC).strftime("%H:%M:%SZ")
    lines = [f"{day_time.rjust(_TIME_WIDTH)} {heads}".rstrip()[:width]]
    for event in trail:
        stamp = _elapsed(event.at - start).rjust(_TIME_WIDTH)
        for index, row in enumerate(_rows(event, centre, total)):
            lines.append(f"{stamp if index == 0 else ' ' * _TIME_WIDTH} {row}".rstrip()[:width])
    return "\n".join(lines) + "\n"


def _lifelines(centre: Mapping[str, int], total: int) -> list[str]:
    row = [" "] * total
    for place in centre.values():
        row[place] = "│"
    return row


def _rows(event: TraceEvent, centre: Mapping[str, int], total: int) -> list[str]:
    """The lines of one event: label inside the arrow where it fits, else above it."""
    left, right = sorted((centre[event.source], centre[event.target]))
    row = _lifelines(centre, total)
    label = _clean(event.label)
    if left == right:
        mark = "●" if event.kind == "decision" else "○"
        # a note may run over the columns to the right of its actor, and starts further left when it is long
        begin = max(0, min(left, total - len(label) - 2))
        note = _cut(f"{mark} {label}", total - begin)
        row[begin : begin + len(note)] = note
        return ["".join(row)]
    stroke = _LINES.get(event.kind, "─")
    inner = right - left - 1
    rows = []
    text = f" {label} "
    if len(text) > inner - 2:
        above = _lifelines(centre, total)
        begin = left + 2 if left + 2 + len(label) <= total else max(0, total - len(label))
        note = _cut(label, total - begin)
        above[begin : begin + len(note)] = note
        rows.append("".join(above))
        text = ""
    arrow = list(text.center(inner, stroke) if text else stroke * inner)
    if centre[event.source] < centre[event.target]:
        arrow[-1] = "▶"
    else:
        arrow[0] = "◀"
    row[left + 1 : right] = arrow
    rows.append("".join(row))
    return rows
