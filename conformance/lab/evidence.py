"""From what the lab saw to what the report shows: events, bands, tracks, flows.

Nothing here waits or decides whether a call was good; that is the scenarios' part.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soxr

from conformance.lab import pcmu
from conformance.lab.capture import FlowCount
from conformance.lab.report.model import Band, BandKind, Caption, Event, EventKind, Lifeline, RtpFlow
from conformance.lab.rtp_leg import RtpLeg
from conformance.lab.speech import RATE_HZ, Endpointer, Utterance
from diameter.avp import Avps
from diameter.dictionary.sh import SH
from diameter.errors import DiameterError
from diameter.message import Message
from ims_as.transport.endpoint import WireEvent

__all__ = [
    "bands_of",
    "engine_events",
    "header_of",
    "message_label",
    "read_json_lines",
    "rtp_flows",
    "scscf_events",
    "sh_event",
    "short_label",
    "sip_events",
    "spoken_captions",
    "status_of",
    "to_16k",
    "trace_events",
]

MAX_TEXT_CHARS = 6000
Pcm = npt.NDArray[np.int16]
Address = tuple[str, int]


def to_16k(pcm: Pcm) -> Pcm:
    """8 kHz to the recogniser's rate."""
    return np.asarray(soxr.resample(pcm, pcmu.RATE_HZ, RATE_HZ, quality="HQ"), np.int16)


# -------------------------------------------------------------------- SIP


def status_of(message: str) -> int | None:
    """Status code of a response, None for a request."""
    parts = message.split(" ", 2)
    return int(parts[1]) if parts[0] == "SIP/2.0" and len(parts) > 1 and parts[1].isdigit() else None


def header_of(message: str, name: str) -> str:
    """First value of a header, spelled in full; empty when it is not there."""
    head = message.partition("\n\n")[0]
    for line in head.split("\n")[1:]:
        key, _, value = line.partition(":")
        if key.strip().lower() == name.lower():
            return value.strip()
    return ""


def message_label(message: str) -> str:
    """``INVITE +SDP``, ``200 OK (INVITE) +SDP``, ``re-INVITE +SDP`` …"""
    first = message.split("\n", 1)[0]
    body = " +SDP" if "\nm=audio" in message else ""
    if status_of(message) is not None:
        method = header_of(message, "CSeq").rpartition(" ")[2]
        return f"{first.removeprefix('SIP/2.0 ')} ({method}){body}"
    method = first.split(" ", 1)[0]
    is_again = method == "INVITE" and ";tag=" in header_of(message, "To")
    return f"{'re-' if is_again else ''}{method}{body}"


_USER = re.compile(r"sips?:([^@\s;:<>]+)@[^\s;:,>]+")
_HOST = re.compile(r"sips?:([A-Za-z][A-Za-z0-9-]*)\.[A-Za-z][^\s;:,>]+")


def short_label(text: str) -> str:
    """URIs cut to what tells them apart: ``sip:alice@ims.example`` becomes ``alice``."""
    return _HOST.sub(r"\1", _USER.sub(r"\1", text))


def _text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace").replace("\r\n", "\n")[:MAX_TEXT_CHARS]


def sip_events(wire: Iterable[WireEvent], hosts: Mapping[str, str], since: float) -> list[Event]:
    """What passed the S-CSCF, which is one end of every SIP message.  ``hosts``: address → short name."""
    events = []
    for message in wire:
        if message.at < since:
            continue
        text = _text(message.data)
        other = _HOSTS.get(hosts.get(message.flow.remote[0], ""), Lifeline.UE)
        source, target = (Lifeline.SCSCF, other) if message.direction == "out" else (other, Lifeline.SCSCF)
        is_failure = (status_of(text) or 0) >= 400
        events.append(Event(message.at, EventKind.SIP, source, target, message_label(text), text, is_failure))
    return events


def scscf_events(decisions: Iterable[tuple[float, str]], since: float) -> list[Event]:
    """The S-CSCF's decisions as notes."""
    return [
        Event(at, EventKind.DECISION, Lifeline.SCSCF, Lifeline.SCSCF, short_label(text), text)
        for at, text in decisions
        if at >= since
    ]


# -------------------------------------------------------------------- Diameter


def sh_event(at: float, direction: str, message: Message) -> Event | None:
    """A message at the HSS as an arrow between it and ims-as; None for what keeps the connection up."""
    command = SH.find_command(message)
    if command is None or message.application_id == 0:
        return None
    result = message.result()
    label = command.name if result is None else f"{command.name} {result}"
    ends = (Lifeline.IMS_AS, Lifeline.HSS)
    source, target = ends if direction == "in" else ends[::-1]
    is_failure = result is not None and not result.is_success
    text = "\n".join([label, *_avp_lines(message.avps, 0)])[:MAX_TEXT_CHARS]
    return Event(at, EventKind.SH, source, target, label, text, is_failure)


def _avp_lines(avps: Avps, depth: int) -> Iterable[str]:
    for avp in avps:
        definition = SH.avps_by_key.get(avp.key)
        name = definition.name if definition is not None else f"AVP {avp.vendor}/{avp.code}"
        try:
            value = avp.data if definition is None else definition.value(avp)
        except DiameterError:
            value = avp.data
        if isinstance(value, Avps):
            yield "  " * depth + name
            yield from _avp_lines(value, depth + 1)
        else:
            shown = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
            yield "  " * depth + f"{name}: {shown}"


# -------------------------------------------------------------------- ims-as and engine

_ACTORS = {
    "ims-as": Lifeline.IMS_AS,
    "media": Lifeline.MEDIA,
    "engine": Lifeline.ENGINE,
    "hss": Lifeline.HSS,
    "caller": Lifeline.UE,
    "s-cscf": Lifeline.SCSCF,
}
_HOSTS = {
    "ims_as": Lifeline.IMS_AS,
    "scscf": Lifeline.SCSCF,
    "hss": Lifeline.HSS,
    "caller": Lifeline.UE,
    "phone": Lifeline.PHONE,
}
_BAD_WORDS = ("lost", "unable", "refused", "timeout", "failed", "nobody")


def trace_events(trace: Iterable[Mapping[str, Any]], hosts: Mapping[str, str]) -> list[Event]:
    """The trail that ims-as keeps of a call, without its SIP.  ``hosts``: address → short name."""

    def line(actor: str) -> Lifeline:
        host = actor.rpartition(":")[0] or actor
        return _HOSTS.get(hosts.get(host, ""), _ACTORS.get(actor, Lifeline.IMS_AS))

    events = []
    for entry in trace:
        kind = EventKind(entry["kind"])
        if kind is EventKind.SIP:
            continue  # seen at the S-CSCF
        label = str(entry["label"])
        text = f"{label}\n{entry.get('text') or ''}".strip()[:MAX_TEXT_CHARS]
        is_failure = any(word in label for word in _BAD_WORDS)
        source, target = line(str(entry["source"])), line(str(entry["target"]))
        if kind is EventKind.SH:  # the messages themselves are seen at the HSS; this is what came of them
            kind, target = EventKind.DECISION, source
        events.append(Event(float(entry["at"]), kind, source, target, short_label(label), text, is_failure))
    return events


def read_json_lines(path: Path, since: float = 0.0) -> list[dict[str, Any]]:
    """Entries of a log from ``since`` on; a line cut by a kill is left out."""
    entries = []
    try:
        lines = path.read_text("utf-8", "replace").splitlines()
    except OSError:
        return []
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and float(entry.get("at", 0.0)) >= since:
            entries.append(entry)
    return entries


def engine_events(entries: Iterable[Mapping[str, Any]]) -> list[Event]:
    """What the voice agent's own log adds to the trail."""
    engine, media = Lifeline.ENGINE, Lifeline.MEDIA
    events = []
    for entry in entries:
        text = json.dumps({k: v for k, v in entry.items() if k != "at"}, indent=1)
        match entry["event"]:
            case "start":
                source, target, label = media, engine, "WebSocket open, start"
            case "heard":
                source, target = engine, engine
                label = f"heard “{entry['text']}”"
            case "speaking":
                source, target = engine, media
                label = f"{entry['audio_ms'] / 1000:.1f} s of speech"
            case "barge_in":
                source, target, label = engine, media, "clear"
            case "mark":
                source, target = media, engine
                label = f"{entry['name']} played"
            case "stop":
                source, target, label = media, engine, f"stop: {entry.get('reason')}"
            case "got_transfer":
                source, target, label = media, engine, f"transfer {entry.get('state')}"
            case _:
                continue
        events.append(Event(float(entry["at"]), EventKind.ENGINE, source, target, label, text))
    return events


# -------------------------------------------------------------------- audio


def spoken_captions(pcm: Pcm, rate_hz: int, began_at: float, text: str) -> list[Caption]:
    """Where in a recording that was played the speech is; ``text`` under its whole length."""
    endpointer = Endpointer()
    wide = pcm if rate_hz == RATE_HZ else to_16k(pcm)
    spoken = [event for event in endpointer.receive_pcm(wide) if isinstance(event, Utterance)]
    if (last := endpointer.flush()) is not None:
        spoken.append(last)
    if not spoken:
        return []
    return [Caption(began_at + spoken[0].start_ms / 1000, began_at + spoken[-1].end_ms / 1000, text)]


def bands_of(captions: Sequence[Caption], kind: BandKind, source: Lifeline, target: Lifeline) -> list[Band]:
    return [Band(c.start, c.end, kind, source, target, f"“{c.text}”") for c in captions]


def rtp_flows(
    captured: Mapping[tuple[Address, Address], FlowCount], legs: Iterable[RtpLeg], names: Mapping[str, str]
) -> list[RtpFlow]:
    """Streams on the wire; from the phones' own records where nothing could be captured."""
    seen = dict(captured)
    if not seen:
        for leg in legs:
            for source, (count, first, last) in leg.sources().items():
                seen[source, leg.local] = FlowCount(count, first, last)
    flows = []
    for (source, destination), flow in sorted(seen.items(), key=lambda item: item[1].first_at):
        meaning = f"{names.get(source[0], source[0])} → {names.get(destination[0], destination[0])}"
        flows.append(
            RtpFlow(
                f"{source[0]}:{source[1]}",
                f"{destination[0]}:{destination[1]}",
                flow.n_packets,
                flow.first_at,
                flow.last_at,
                meaning.replace("ims_as", "ims-as"),
            )
        )
    return flows
