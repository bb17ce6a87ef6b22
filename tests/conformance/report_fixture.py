"""A made-up but lifelike report: two calls with everything that a page can show."""

from __future__ import annotations

import numpy as np

from conformance.lab.report.model import (
    Band,
    BandKind,
    CallReport,
    Caption,
    Event,
    EventKind,
    Fact,
    Lifeline,
    Marker,
    Report,
    RtpFlow,
    Timing,
    Track,
    TranscriptLine,
)

T0 = 1_760_000_000.0
UE, CSCF, AS, MEDIA, ENGINE, HSS, PHONE = Lifeline
SIP, RTP, ENG, SH, DECISION = EventKind.SIP, EventKind.MEDIA, EventKind.ENGINE, EventKind.SH, EventKind.DECISION

INVITE = (
    "INVITE sip:alice@ims.example SIP/2.0\nVia: SIP/2.0/UDP 127.0.0.41:5060;branch=z9hG4bKa\nMax-Forwards: 70\n"
    "From: <sip:caller@ims.example>;tag=1\nTo: <sip:alice@ims.example>\nCall-ID: 1@127.0.0.41\nCSeq: 1 INVITE"
)


def speech(rate: int, *stretches: tuple[float, float], total: float, seed: int = 1) -> np.ndarray:
    """Noise bursts with a syllable-like envelope at the given (start, end) seconds."""
    rng = np.random.default_rng(seed)
    n = int(total * rate)
    t = np.arange(n) / rate
    envelope = np.full(n, 0.002)
    for start, end in stretches:
        inside = (t >= start) & (t < end)
        envelope[inside] = 0.15 + 0.85 * np.abs(np.sin(2 * np.pi * 2.1 * (t[inside] - start))) ** 1.5
    return (envelope * rng.normal(0, 4500, n)).clip(-32767, 32767).astype(np.int16)


def _e(
    at: float, kind: EventKind, source: Lifeline, target: Lifeline, label: str, text: str = "", bad: bool = False
) -> Event:
    return Event(T0 + at, kind, source, target, label, text or label, bad)


def _setup(at: float = 0.0) -> list[Event]:
    return [
        _e(at, SIP, UE, CSCF, "INVITE sip:alice@ims.mnc001.mcc001.3gppnetwork.org", INVITE),
        _e(at + 0.0006, SIP, CSCF, UE, "100 Trying"),
        _e(at + 0.0011, DECISION, CSCF, CSCF, "iFC priority 0 matches: Method INVITE, terminating registered"),
        _e(at + 0.0016, SIP, CSCF, AS, "INVITE, ODI in Route", INVITE),
        _e(at + 0.0024, SH, AS, HSS, "UDR RepositoryData"),
        _e(at + 0.0031, RTP, AS, MEDIA, "open PCMU, port 20000"),
        _e(at + 0.0048, SH, HSS, AS, "UDA 2001"),
        _e(at + 0.0052, ENG, MEDIA, ENGINE, "WebSocket ims-as.v1, start"),
    ]


def answered() -> CallReport:
    events = [
        *_setup(),
        _e(0.0091, RTP, MEDIA, AS, "engine ready, 4.1 ms"),
        _e(0.0098, SIP, AS, CSCF, "200 OK (INVITE)"),
        _e(0.0104, SIP, CSCF, UE, "200 OK (INVITE)"),
        _e(0.0111, SIP, UE, CSCF, "ACK"),
        _e(0.0117, SIP, CSCF, AS, "ACK"),
        _e(0.0312, RTP, MEDIA, MEDIA, "first RTP from 127.0.0.41:31000"),
        _e(4.610, ENG, ENGINE, MEDIA, "transcript (user)"),
        _e(4.655, ENG, ENGINE, MEDIA, "audio, mark answer-1"),
        _e(4.671, RTP, MEDIA, AS, "first audio, TTFB 838 ms"),
        _e(9.330, ENG, MEDIA, ENGINE, "mark answer-1 played"),
        _e(9.911, SIP, UE, CSCF, "BYE"),
        _e(9.9114, SIP, CSCF, AS, "BYE"),
        _e(9.912, SIP, AS, CSCF, "200 OK (BYE)"),
        _e(9.9123, RTP, AS, MEDIA, "release"),
        _e(9.9124, SIP, CSCF, UE, "200 OK (BYE)"),
        _e(9.913, ENG, MEDIA, ENGINE, "stop"),
        _e(9.915, DECISION, AS, AS, "ended: answered, by caller"),
    ]
    heard = "you said eight of spades four of clubs seven of hearts"
    cards = "eight of spades four of clubs seven of hearts"
    return CallReport(
        number="1",
        name="answered",
        title="Answered by the agent",
        summary="The caller’s recorded human speech is heard, understood and answered by the local voice agent.",
        began_at=T0,
        ended_at=T0 + 10.1,
        facts=(
            Fact("Answered by the agent, not by the phone", True),
            Fact("9 of 9 words of cards-005 recognised", True),
            Fact("The spoken answer, recognised again from the caller’s recording, says the same", True),
            Fact("No port and no engine connection left 200 ms after the last ACK", True),
        ),
        timings=(
            Timing("INVITE to 200 at the caller", "10.4 ms"),
            Timing("INVITE to 200 inside ims-as", "8.2 ms"),
            Timing("End of speech to first answer audio", "838 ms"),
            Timing("Port and socket released after BYE", "21 ms", "≤ 200 ms", True),
        ),
        events=tuple(events),
        bands=(
            Band(T0 + 0.033, T0 + 3.83, BandKind.CALLER, UE, ENGINE, f"“{cards}”"),
            Band(T0 + 4.671, T0 + 9.33, BandKind.AGENT, ENGINE, UE, f"“{heard}”"),
        ),
        tracks=(
            Track(
                "Caller sent",
                "1-caller-sent.wav",
                speech(8000, (0.3, 3.8), total=10),
                8000,
                T0 + 0.02,
                (Caption(T0 + 0.33, T0 + 3.83, cards),),
            ),
            Track(
                "Caller heard",
                "1-caller-heard.wav",
                speech(8000, (4.65, 9.3), total=10, seed=3),
                8000,
                T0 + 0.02,
                (Caption(T0 + 4.67, T0 + 9.33, heard),),
            ),
        ),
        markers=(Marker(T0 + 0.0104, "answered"), Marker(T0 + 9.911, "BYE")),
        transcript=(TranscriptLine(T0 + 4.61, "user", cards, cards), TranscriptLine(T0 + 4.66, "agent", heard)),
        rtp_flows=(
            RtpFlow("127.0.0.41:31000", "127.0.0.30:20000", 494, T0 + 0.031, T0 + 9.9, "caller → ims-as"),
            RtpFlow("127.0.0.30:20000", "127.0.0.41:31000", 493, T0 + 0.052, T0 + 9.9, "ims-as → caller"),
        ),
        result={
            "name": "answered",
            "ok": True,
            "setup_ms": 10.4,
            "ttfb_ms": 838.0,
            "ended_by": "caller",
            "legacy_answered": False,
            "ports_left": 0,
        },
    )


def engine_dies() -> CallReport:
    events = [
        *_setup(),
        _e(0.0091, RTP, MEDIA, AS, "engine ready, 4.1 ms"),
        _e(0.0098, SIP, AS, CSCF, "200 OK (INVITE)"),
        _e(0.0104, SIP, CSCF, UE, "200 OK (INVITE)"),
        _e(0.0111, SIP, UE, CSCF, "ACK"),
        _e(0.0117, SIP, CSCF, AS, "ACK"),
        _e(2.4, DECISION, ENGINE, ENGINE, "process killed (SIGKILL)", bad=True),
        _e(2.4008, ENG, ENGINE, MEDIA, "connection lost", bad=True),
        _e(2.4012, RTP, MEDIA, AS, "engine_lost: closed", bad=True),
        _e(2.402, RTP, MEDIA, UE, "filler begins"),
        _e(2.403, ENG, MEDIA, ENGINE, "reconnect: refused", bad=True),
        _e(2.404, DECISION, AS, AS, "failover: no engine left, to the served user"),
        _e(2.4046, SIP, AS, CSCF, "INVITE sip:alice@…, bypass token", INVITE),
        _e(2.4054, SIP, CSCF, AS, "INVITE (iFC again)"),
        _e(2.4059, SIP, AS, CSCF, "INVITE passed on"),
        _e(2.4064, SIP, CSCF, PHONE, "INVITE sip:alice@127.0.0.42", INVITE),
        _e(2.4071, SIP, PHONE, CSCF, "180 Ringing"),
        _e(3.411, SIP, PHONE, CSCF, "200 OK (INVITE)"),
        _e(3.4118, SIP, CSCF, AS, "200 OK (INVITE)"),
        _e(3.4125, SIP, AS, CSCF, "re-INVITE with the phone’s SDP"),
        _e(3.4131, SIP, CSCF, UE, "re-INVITE with the phone’s SDP"),
        _e(3.4152, SIP, UE, CSCF, "200 OK (re-INVITE)"),
        _e(3.4158, SIP, CSCF, AS, "200 OK (re-INVITE)"),
        _e(3.4165, SIP, AS, CSCF, "ACK"),
        _e(3.418, RTP, AS, MEDIA, "release"),
        _e(7.9, SIP, PHONE, CSCF, "BYE"),
    ]
    return CallReport(
        number="4",
        name="engine-dies",
        title="Engine dies in the call",
        summary="The engine is killed while the caller speaks; filler, then the served user’s phone takes over.",
        began_at=T0,
        ended_at=T0 + 8.2,
        facts=(
            Fact("Filler heard within 300 ms", True),
            Fact("The INVITE to the phone carries User-to-User and Call-Info", True),
            Fact("Call-Info’s URL returns transcript and reason", False),
        ),
        timings=(
            Timing("Engine killed to filler", "22 ms", "≤ 300 ms", True),
            Timing("Engine killed to phone ringing", "7 ms"),
            Timing("Port and socket released after the last ACK", "412 ms", "≤ 200 ms", False),
        ),
        events=tuple(events),
        bands=(
            Band(T0 + 0.033, T0 + 1.2, BandKind.CALLER, UE, ENGINE, "“ten of clubs”"),
            Band(T0 + 1.5, T0 + 2.4, BandKind.AGENT, ENGINE, UE, "“you said ten …”"),
            Band(T0 + 2.41, T0 + 3.42, BandKind.FILLER, MEDIA, UE, "filler"),
            Band(T0 + 3.42, T0 + 7.9, BandKind.DIRECT, UE, PHONE, "caller and phone talk directly"),
        ),
        tracks=(
            Track(
                "Caller sent",
                "4-caller-sent.wav",
                speech(8000, (0.1, 1.2), (4.0, 5.1), (5.2, 5.9), total=7.9),
                8000,
                T0,
                (
                    Caption(T0 + 0.1, T0 + 1.2, "ten of clubs"),
                    Caption(T0 + 4, T0 + 5.1, "seven of clubs and a remark"),
                    Caption(T0 + 5.2, T0 + 5.9, "five five and five"),
                ),
            ),
            Track(
                "Caller heard",
                "4-caller-heard.wav",
                speech(8000, (1.5, 2.4), (3.6, 7.6), total=7.9, seed=2),
                8000,
                T0,
                (
                    Caption(T0 + 1.5, T0 + 2.4, "you said ten"),
                    Caption(T0 + 3.6, T0 + 7.6, "and so my fellow americans"),
                ),
            ),
            Track(
                "Phone heard",
                "4-phone-heard.wav",
                speech(8000, (0.6, 1.7), total=4.5, seed=2),
                8000,
                T0 + 3.41,
                (Caption(T0 + 4.0, T0 + 5.1, "seven of clubs"),),
            ),
        ),
        markers=(Marker(T0 + 2.4, "engine killed"), Marker(T0 + 3.4165, "joined to the phone")),
        transcript=(TranscriptLine(T0 + 1.3, "user", "two of clubs", "ten of clubs"),),
        rtp_flows=(RtpFlow("127.0.0.41:31000", "127.0.0.42:32000", 224, T0 + 3.43, T0 + 7.9, "caller → phone"),),
        session_data=(
            ("User-to-User", "7b2263616c6c223a22612d31227d;encoding=hex"),
            ("Call-Info", "<http://127.0.0.30:8080/calls/a-1>;purpose=info"),
        ),
        result={
            "name": "engine-dies",
            "ok": False,
            "setup_ms": 10.4,
            "ttfb_ms": None,
            "ended_by": "served-user",
            "legacy_answered": True,
            "ports_left": 1,
        },
    )


def fake_report() -> Report:
    return Report(
        title="ims-as: four calls through the lab",
        began_at=T0,
        ended_at=T0 + 62,
        calls=(answered(), engine_dies()),
        environment=(
            ("Machine", "2 cores, Linux 6.1"),
            ("Python", "3.11.9, trio 0.35"),
            ("Network", "loopback, prefix 127.0.0"),
        ),
    )
