from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from conformance.lab import evidence
from conformance.lab.capture import FlowCount
from conformance.lab.report.model import BandKind, Caption, EventKind, Lifeline
from conformance.lab.rtp_leg import ReceivedPacket, RtpLeg
from diameter.dictionary.base import BASE
from diameter.dictionary.sh import SH
from ims_as.sip.flow import Flow
from ims_as.transport.endpoint import WireEvent

HOSTS = {"127.0.0.41": "caller", "127.0.0.30": "ims_as", "127.0.0.42": "phone", "127.0.0.20": "scscf"}
CORE = ("127.0.0.20", 5060)
INVITE = "INVITE sip:a@b SIP/2.0\r\nTo: <sip:a@b>\r\nCSeq: 1 INVITE\r\n\r\nv=0\r\nm=audio 4 RTP/AVP 0\r\n"
REINVITE = INVITE.replace("<sip:a@b>", "<sip:a@b>;tag=1")
OK = "SIP/2.0 200 OK\r\nTo: <sip:a@b>;tag=1\r\nCSeq: 1 INVITE\r\n\r\n"
BUSY = "SIP/2.0 486 Busy Here\r\nTo: <sip:a@b>;tag=1\r\nCSeq: 1 INVITE\r\n\r\n"


@pytest.mark.parametrize(
    ("message", "label"),
    [
        (INVITE, "INVITE +SDP"),
        (REINVITE, "re-INVITE +SDP"),
        (OK, "200 OK (INVITE)"),
        ("BYE sip:a SIP/2.0\r\nTo: x;tag=1\r\nCSeq: 2 BYE\r\n\r\n", "BYE"),
        ("nonsense", "nonsense"),
        ("SIP/2.0", " ()"),
    ],
)
def test_message_labels(message, label):
    assert evidence.message_label(message.replace("\r\n", "\n")) in (label, "SIP/2.0")


def test_sip_has_the_scscf_at_one_end():
    def event(at: float, direction: str, remote: str, text: str) -> WireEvent:
        return WireEvent(at, direction, Flow("UDP", CORE, (remote, 5060)), text.encode(), "ok")

    wire = [
        event(0.5, "in", "127.0.0.41", INVITE),
        event(1.0, "in", "127.0.0.41", INVITE),
        event(1.1, "out", "127.0.0.30", INVITE),
        event(1.2, "in", "127.0.0.42", BUSY),
    ]
    events = evidence.sip_events(wire, HOSTS, since=1.0)
    ends = [(e.source, e.target, e.is_failure) for e in events]
    assert ends == [
        (Lifeline.UE, Lifeline.SCSCF, False),
        (Lifeline.SCSCF, Lifeline.IMS_AS, False),
        (Lifeline.PHONE, Lifeline.SCSCF, True),
    ]
    assert "\r" not in events[0].text


def test_trace_without_sip_and_with_short_names():
    trace = [
        {"at": 1.0, "kind": "sip", "source": "127.0.0.20:5060", "target": "ims-as", "label": "INVITE", "text": INVITE},
        {"at": 1.1, "kind": "sh", "source": "ims-as", "target": "hss", "label": "profile (cache)"},
        {"at": 1.2, "kind": "media", "source": "media", "target": "caller", "label": "filler starts"},
        {
            "at": 1.3,
            "kind": "engine",
            "source": "engine",
            "target": "media",
            "label": "engine lost: error",
            "text": "x",
        },
        {"at": 1.4, "kind": "decision", "source": "ims-as", "target": "ims-as", "label": "calls sip:al@ims.example"},
    ]
    events = evidence.trace_events(trace, HOSTS)
    assert [(e.kind, e.source, e.target, e.label, e.is_failure) for e in events] == [
        (EventKind.DECISION, Lifeline.IMS_AS, Lifeline.IMS_AS, "profile (cache)", False),
        (EventKind.MEDIA, Lifeline.MEDIA, Lifeline.UE, "filler starts", False),
        (EventKind.ENGINE, Lifeline.ENGINE, Lifeline.MEDIA, "engine lost: error", True),
        (EventKind.DECISION, Lifeline.IMS_AS, Lifeline.IMS_AS, "calls al", False),
    ]
    assert events[2].text == "engine lost: error\nx"
    assert events[3].text == "calls sip:al@ims.example"


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("sip:alice@ims.mnc001.org: criterion", "alice: criterion"),
        ("to <sip:ai-as.ims.mnc001.org;lr>, then", "to <ai-as;lr>, then"),
        ("the contact sip:127.0.0.42:5060", "the contact sip:127.0.0.42:5060"),
    ],
)
def test_short_labels(text, short):
    assert evidence.short_label(text) == short


def test_decisions_of_the_scscf():
    events = evidence.scscf_events([(1.0, "old"), (2.0, "sip:al@b: 503")], since=1.5)
    assert [(e.label, e.text, e.source) for e in events] == [("al: 503", "sip:al@b: 503", Lifeline.SCSCF)]


def test_diameter_messages_are_named_and_spelled_out():
    request = SH.command("UDR").message(
        [
            BASE["Session-Id"].avp("s;1"),
            SH["User-Identity"].avp([SH["Public-Identity"].avp("sip:alice@ims.example")]),
            SH["Service-Indication"].avp(b"ai-voice-agent"),
        ]
    )
    event = evidence.sh_event(1.0, "in", request)
    assert event is not None
    assert (event.label, event.source, event.target) == ("UDR", Lifeline.IMS_AS, Lifeline.HSS)
    assert "User-Identity\n  Public-Identity: sip:alice@ims.example\nService-Indication: ai-voice-agent" in event.text
    refused = evidence.sh_event(1.1, "out", request.build_answer([BASE["Result-Code"].avp(5001)]))
    assert refused is not None
    assert (refused.label, refused.source, refused.is_failure) == ("UDA 5001", Lifeline.HSS, True)
    assert evidence.sh_event(1.0, "in", BASE.command("DWR").message([])) is None


def test_engine_log(tmp_path: Path):
    entries = [
        {"at": 1.0, "event": "start", "call_id": "c"},
        {"at": 2.0, "event": "speech_end"},
        {"at": 2.1, "event": "heard", "text": "five"},
        {"at": 2.2, "event": "speaking", "text": "you said five", "audio_ms": 1234},
        {"at": 2.3, "event": "mark", "name": "answer-1"},
        {"at": 2.4, "event": "barge_in"},
        {"at": 2.5, "event": "got_transfer", "state": "ringing"},
        {"at": 2.6, "event": "stop", "reason": "bye"},
    ]
    log = tmp_path / "engine.jsonl"
    log.write_text("".join(json.dumps(e) + "\n" for e in entries) + '{"at": 3.0, "ev\n[1]\n')
    assert evidence.read_json_lines(log) == entries
    assert evidence.read_json_lines(log, since=2.55) == entries[-1:]
    assert evidence.read_json_lines(tmp_path / "none") == []
    labels = [event.label for event in evidence.engine_events(entries)]
    assert labels == [
        "WebSocket open, start",
        "heard “five”",
        "1.2 s of speech",
        "answer-1 played",
        "clear",
        "transfer ringing",
        "stop: bye",
    ]


def test_captions_lie_under_the_speech():
    pcm = np.zeros(8000, np.int16)
    pcm[2400:4800] = (6000 * np.sin(np.arange(2400))).astype(np.int16)
    (caption,) = evidence.spoken_captions(pcm, 8000, 100.0, "five")
    assert caption.text == "five"
    assert caption.start == pytest.approx(100.3, abs=0.03)
    assert caption.end == pytest.approx(100.6, abs=0.03)
    assert evidence.spoken_captions(np.zeros(8000, np.int16), 8000, 0.0, "x") == []
    (band,) = evidence.bands_of([Caption(1.0, 2.0, "five")], BandKind.CALLER, Lifeline.UE, Lifeline.ENGINE)
    assert (band.start, band.end, band.label) == (1.0, 2.0, "“five”")


def test_flows_come_from_the_wire_or_else_from_the_phones():
    leg = RtpLeg("127.0.0.41")
    leg.local = ("127.0.0.41", 4000)
    leg.received = [ReceivedPacket(at, ("127.0.0.30", 20000), 0, 1, 1, 1, b"") for at in (1.0, 2.0)]
    (flow,) = evidence.rtp_flows({}, [leg], HOSTS)
    assert (flow.source, flow.destination, flow.n_packets) == ("127.0.0.30:20000", "127.0.0.41:4000", 2)
    assert (flow.first_at, flow.last_at, flow.meaning) == (1.0, 2.0, "ims-as → caller")
    captured = {(("127.0.0.9", 1), ("127.0.0.42", 2)): FlowCount(7, 1.0, 3.0)}
    (flow,) = evidence.rtp_flows(captured, [leg], HOSTS)
    assert (flow.n_packets, flow.meaning) == (7, "127.0.0.9 → phone")
