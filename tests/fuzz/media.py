"""The readers of the media plane: RTP, telephone events, each payload format with its decoder, the control channel."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np

from media.codecs.amr_payload import AMR, AMR_WB, AmrFormat, AmrKind
from media.codecs.base import MAX_FRAMES, PayloadError, Redundancy
from media.codecs.registry import find_codec
from media.control import ControlError, LineReader, StreamConfig, encode_line, from_wire, to_wire
from media.dtmf import DIGITS, DtmfParseError, DtmfReceiver, parse_event_untrusted
from media.rtcp import (
    CNAME,
    Bye,
    ReceiverReport,
    ReportBlock,
    SdesChunk,
    SenderReport,
    SourceDescription,
    build_rtcp,
    parse_rtcp_untrusted,
)
from media.rtcp_session import RtcpSession, SenderFigures, StreamFigures
from media.rtcp_xr import Dlrr, DlrrEntry, ExtendedReport, ReferenceTime, RtcpParseError, VoipMetrics
from media.rtp import MAX_PACKET_BYTES, RtpParseError, build_rtp, parse_rtp_untrusted
from tests.fuzz.target import Target

__all__ = ["MEDIA_TARGETS"]

_DURATIONS = (0, 160, 800, 1600)


def read_rtp(data: bytes) -> None:
    """What is read of a packet stands in it."""
    packet = parse_rtp_untrusted(data)
    assert packet.payload in data
    assert 0 <= packet.payload_type < 128
    assert 0 <= packet.sequence < 1 << 16
    assert 0 <= packet.timestamp < 1 << 32


def read_rtcp(data: bytes) -> None:
    """What is read means the same when it is written, and a session makes something of it."""
    packets = parse_rtcp_untrusted(data)
    assert len(packets) <= len(data) // 4
    assert parse_rtcp_untrusted(build_rtcp(packets) or _RTCPS[0]) == (packets or parse_rtcp_untrusted(_RTCPS[0]))
    session = RtcpSession(ssrc=1, cname="c", random=lambda: 0.5, now=0.0, unix_s=1.7e9)
    session.receive_untrusted(data, now=1.0, sent=500)
    report = session.handle_timer(9.0, 5, lambda: StreamFigures(SenderFigures(5, 800, 800), None))
    assert report is not None
    parse_rtcp_untrusted(report)


def read_event(data: bytes) -> None:
    """Four octets each; a digit is reported once, however often its end comes."""
    receiver = DtmfReceiver()
    parse_event_untrusted(data[:4])
    digits = []
    for number, at in enumerate(range(0, len(data), 4)):
        try:
            digits += receiver.receive_untrusted(number // 3, data[at : at + 4], now_ms=20.0 * number)
        except DtmfParseError:
            continue
    digits += receiver.handle_timer(now_ms=1e9)
    assert len(digits) <= len(data) // 12 + 1
    assert all(each.digit in DIGITS and each.duration_ms >= 0 for each in digits)


def payload_reader(name: str, clock_hz: int, parameters: dict[str, str]) -> Callable[[bytes], None]:
    """Reads a payload and hears what is in it, by a decoder that never forgets."""
    codec = find_codec(name, clock_hz)
    assert codec is not None, f"{name}: its library is not installed"
    receiving, decoder = codec.receive_format(parameters), codec.new_decoder(parameters)

    def read(data: bytes) -> None:
        unpacked = receiving.unpack_untrusted(data)
        lasts = unpacked.frame_timestamps or codec.frame_timestamps
        assert 0 < len(unpacked.frames) <= 2 * MAX_FRAMES
        assert 0 < len(unpacked.frames) * lasts <= MAX_FRAMES * codec.frame_timestamps
        for frame in unpacked.frames:
            samples = decoder.decode(frame)
            assert samples.dtype == np.int16
            expected = codec.frame_timestamps if frame is None else lasts
            assert len(samples) * codec.clock_rate_hz == expected * codec.sample_rate_hz
        if unpacked.repeats:
            again = decoder.decode(Redundancy(unpacked.frames[0] or b""))
            assert len(again) == unpacked.repeats * codec.frame_samples

    return read


def _speech(name: str, clock_hz: int, parameters: dict[str, str]) -> tuple[bytes, ...]:
    """Payloads of tones: one frame each."""
    codec = find_codec(name, clock_hz)
    assert codec is not None
    encoder, sending = codec.new_encoder(parameters), codec.send_format(parameters)
    found = []
    for number in range(12):
        tone = np.sin(np.arange(codec.frame_samples) * (number + 1) / 20) * 8000
        frame = encoder.encode(tone.astype(np.int16))
        if frame is not None:
            found.append(sending.pack([frame]))
    return tuple(found)


def _amr_seeds(kind: AmrKind, *, aligned: bool) -> tuple[bytes, ...]:
    """Every frame type, several at a time."""
    writing = AmrFormat(kind, octet_aligned=aligned)
    frames = [bytes([number << 3 | 4]) + bytes(kind.frame_octets(number)) for number in range(len(kind.bits))]
    return (*(writing.pack([frame]) for frame in frames), writing.pack(frames[:3]), writing.pack(frames))


def read_control(data: bytes) -> None:
    """The lines mean the same however they are cut, and a stream configuration in them is refused or kept."""
    whole = _lines_of((data,))
    cut = len(data) // 2
    pieces = _lines_of((data[:cut], data[cut:]))
    assert pieces == whole
    for line in whole:
        if isinstance(line, dict):
            encode_line(line)
            if "stream" in line:
                config = from_wire(StreamConfig, line["stream"])
                assert from_wire(StreamConfig, to_wire(config)) == config


def _lines_of(pieces: tuple[bytes, ...]) -> list[object]:
    reader, found = LineReader(), list[object]()
    for piece in pieces:
        try:
            found += reader.receive_bytes(piece)
        except ControlError:
            return []
    return found


_RTP = build_rtp(payload_type=96, marker=True, sequence=7, timestamp=160, ssrc=9, payload=bytes(range(20)))
_EXTENDED = bytes([0x93]) + _RTP[1:12] + bytes(12) + b"\xbe\xde\0\1abcd" + _RTP[12:]
_PADDED = bytes([0xA0]) + _RTP[1:] + b"\0\0\0\4"
_RTPS = (_RTP, _EXTENDED, _PADDED, _RTP + bytes(MAX_PACKET_BYTES - len(_RTP)))
_BLOCKS = tuple(ReportBlock(ssrc, 12, 5, 1000, 80, 7, 65536) for ssrc in (1, 2))
_XR_BLOCKS = (ReferenceTime(7 << 32), Dlrr((DlrrEntry(1, 7, 65536), DlrrEntry(2, 7, 1))), VoipMetrics(ssrc=1))
_NAMED = SourceDescription((SdesChunk(9, ((CNAME, b"name"), (2, b"A"))), SdesChunk(1, ((CNAME, b"c"),))))
_RTCPS = (
    build_rtcp([ReceiverReport(9)]),
    build_rtcp([SenderReport(9, 7 << 32, 160, 5, 800, _BLOCKS), _NAMED, Bye((9,), "over")]),
    build_rtcp([ReceiverReport(1, _BLOCKS), _NAMED, ExtendedReport(9, _XR_BLOCKS)]),
    b"\x81\xcc\0\3\0\0\0\7name\1\2\3\4" + b"\xa0\xc9\0\2\0\0\0\7\0\0\0\4",
)
_EVENTS = tuple(
    b"".join(bytes([event, end | 10]) + duration.to_bytes(2, "big") for duration in _DURATIONS for end in (0, 0x80))
    for event in (0, 11, 15)
)
_COMMANDS = tuple(
    json.dumps(message).encode() + b"\n"
    for message in (
        {"cmd": "open", "id": 1, "leg": "a", "stream": to_wire(StreamConfig(codec="PCMU", payload_type=0))},
        {"cmd": "modify", "id": 2, "leg": "a", "stream": {"codec": "AMR-WB", "payload_type": 98, "clock_rate": 16000}},
        {"cmd": "dtmf", "id": 3, "leg": "a", "digits": "12#"},
        {"re": 3, "ok": False, "error": "bad_command", "detail": "é"},
    )
)
_TOKENS = (b"\xff\xff\xff\xff", b"\0\0", b"\x80", b"\x7f", b"\xf0", b"\x3f", b"\xfc", b"\x03")
_OPUS = _speech("opus", 48000, {"useinbandfec": "1"})
_PACKED_OPUS = tuple(bytes([one[0] | 3, count]) + one[1:] for one in _OPUS[:3] for count in (1, 2, 3, 0x81, 0x42))
_G729 = _speech("G729", 8000, {})


def _payload_target(name: str, codec: str, clock_hz: int, seeds: tuple[bytes, ...], **parameters: str) -> Target:
    given = {key.replace("_", "-"): value for key, value in parameters.items()}
    return Target(name, payload_reader(codec, clock_hz, given), (PayloadError,), seeds, _TOKENS)


MEDIA_TARGETS = (
    Target("rtp", read_rtp, (RtpParseError,), _RTPS, _TOKENS),
    Target("rtcp", read_rtcp, (RtcpParseError,), _RTCPS, (*_TOKENS, *(bytes([n]) for n in range(200, 208)))),
    Target("dtmf-event", read_event, (DtmfParseError,), _EVENTS, _TOKENS),
    Target("media-control", read_control, (ControlError,), _COMMANDS, (b'"', b"{", b"}", b"[", b"null", b"\\ud800")),
    _payload_target("amr", "AMR", 8000, _amr_seeds(AMR, aligned=False)),
    _payload_target("amr-aligned", "AMR", 8000, _amr_seeds(AMR, aligned=True), octet_align="1"),
    _payload_target("amr-wb", "AMR-WB", 16000, _amr_seeds(AMR_WB, aligned=False)),
    _payload_target("amr-wb-aligned", "AMR-WB", 16000, _amr_seeds(AMR_WB, aligned=True), octet_align="1"),
    _payload_target("opus", "opus", 48000, (*_OPUS, *_PACKED_OPUS, b"\x08", _OPUS[0][:2])),
    _payload_target("g722", "G722", 8000, _speech("G722", 8000, {})),
    _payload_target("g729", "G729", 8000, (*_G729, *(one[:12] for one in _G729), b"ab", b"".join(_G729[:3]))),
    _payload_target("l16", "L16", 16000, (*_speech("L16", 16000, {}), bytes(1280))),
)
