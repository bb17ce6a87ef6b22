"""The SIP messages of a capture: datagrams as they are, TCP streams put together and cut by Content-Length.

SIP is known by its first line, not by its port.  Where a stream has a hole, or was there before the capture began,
reading goes on at the next line that begins a message.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

import attrs

from ims_as.ifc_tool.packets import Datagram, Dissector, TcpSegment
from ims_as.ifc_tool.pcap import CaptureFile, Packet, PcapError

__all__ = ["Capture", "CapturedMessage", "read_capture_untrusted"]

MAX_MESSAGES = 200_000
MAX_HEAD_BYTES = 65_536
MAX_BODY_BYTES = 1_048_576
MAX_STREAMS = 20_000
MAX_WAITING_SEGMENTS = 256
"""Of one stream, behind a hole; then the hole is taken for lost."""

_LINE = rb"(?:[A-Z]{3,20} [^ \r\n]{1,8192} SIP/2\.0|SIP/2\.0 [1-6][0-9]{2}(?: [^\r\n]{0,1024})?)\r?\n"
_START_LINE = re.compile(_LINE)
_RESYNC = re.compile(rb"\n(?=" + _LINE + rb")")
_CONTENT_LENGTH = re.compile(rb"\n(?:content-length|l)[ \t]*:[ \t]*([0-9]{1,9})[ \t]*(?=\r|\n|\Z)", re.IGNORECASE)
_TLS = re.compile(rb"[\x14-\x17]\x03[\x00-\x04]")

_NOT_SIP_BYTES = 65_536
"""A stream with so much before the first start line is no SIP."""


@attrs.frozen
class CapturedMessage:
    number: int
    """Of the packet that completed it."""
    time_s: float
    transport: str
    """``udp``, ``tcp``, or ``exported`` for what Wireshark has written."""
    source: str
    destination: str
    data: bytes


@attrs.frozen
class Capture:
    messages: tuple[CapturedMessage, ...]
    n_packets: int
    skipped: dict[str, int]
    """What was left out, in words, and how often."""
    is_cut_short: bool


@attrs.define
class _Stream:
    """One direction of a TCP connection."""

    next: int | None = None
    waiting: dict[int, bytes] = attrs.field(factory=dict)
    buffer: bytearray = attrs.field(factory=bytearray)
    is_aligned: bool = True
    is_over: bool = False
    """No SIP, or nothing more to come."""
    no_start: int = 0
    """So many bytes of the buffer have no start line in them."""
    no_end: int = 0
    """So many have no end of a head in them."""
    n_lost: int = 0

    def take(self, segment: TcpSegment) -> None:
        """Puts the bytes where they belong."""
        sequence = segment.sequence
        if segment.is_start:
            # a new connection between the same ports
            self.__init__(next=(sequence + 1) & 0xFFFFFFFF)  # type: ignore[misc]
            sequence += 1
        if segment.payload and not self.is_over:
            if self.next is None:
                self.next = sequence
            self._put(sequence & 0xFFFFFFFF, segment.payload)

    def _put(self, sequence: int, payload: bytes) -> None:
        assert self.next is not None
        ahead = (sequence - self.next) & 0xFFFFFFFF
        if ahead >= 1 << 31:
            # sent again, maybe with something new at its end
            payload, ahead = payload[(1 << 32) - ahead :], 0
            if not payload:
                return
        if ahead:
            known = self.waiting.get(sequence, b"")
            if len(payload) > len(known):
                self.waiting[sequence] = payload
            if len(self.waiting) > MAX_WAITING_SEGMENTS:
                self.jump()
            return
        self._append(payload)
        while self.waiting:
            nearest = min(self.waiting, key=self._distance)
            gap = self._distance(nearest)
            if gap > 0:
                return
            payload = self.waiting.pop(nearest)[-gap:] if gap else self.waiting.pop(nearest)
            self._append(payload)

    def _distance(self, sequence: int) -> int:
        """Bytes from where we are; below 0: already there."""
        assert self.next is not None
        return ((sequence - self.next + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)

    def _append(self, payload: bytes) -> None:
        assert self.next is not None
        self.buffer += payload
        self.next = (self.next + len(payload)) & 0xFFFFFFFF

    def jump(self) -> bool:
        """Goes on behind the hole; False: there is nothing behind."""
        if not self.waiting:
            return False
        self.n_lost += 1
        self.next = min(self.waiting, key=self._distance)
        self._drop(len(self.buffer))
        self.is_aligned = False
        self._put(self.next, self.waiting.pop(self.next))
        return True

    def messages(self) -> Iterator[bytes]:
        while not self.is_over and self._align():
            end = self.buffer.find(b"\r\n\r\n", max(0, self.no_end - 3), MAX_HEAD_BYTES)
            if end < 0 and len(self.buffer) > MAX_HEAD_BYTES:
                self.no_end = MAX_HEAD_BYTES
                self._lose()
                continue
            if end < 0:
                self.no_end = len(self.buffer)
                return
            length = _CONTENT_LENGTH.search(self.buffer, 0, end)
            n_bytes = end + 4 + (0 if length is None else int(length[1]))
            if n_bytes > end + 4 + MAX_BODY_BYTES:
                self._lose()
                continue
            if len(self.buffer) < n_bytes:
                self.no_end = end
                return
            yield bytes(self.buffer[:n_bytes])
            self._drop(n_bytes)

    def _align(self) -> bool:
        """Whether the buffer begins with a start line, as far as one can see."""
        buffer = self.buffer
        if self.is_aligned:
            n_crlf = 0
            while n_crlf < len(buffer) and buffer[n_crlf] in b"\r\n":
                n_crlf += 1
            self._drop(n_crlf)
            if not buffer:
                return False
            if buffer.find(b"\n", 0, _NOT_SIP_BYTES) < 0 and len(buffer) < _NOT_SIP_BYTES:
                return False
            if _START_LINE.match(buffer):
                return True
            self.is_aligned = False
        found = _RESYNC.search(buffer, self.no_start)
        if found is not None:
            self._drop(found.end())
            self.is_aligned = True
            return True
        # a start line may have begun with the last line
        self.no_start = max(0, buffer.rfind(b"\n"))
        if len(buffer) > 2 * _NOT_SIP_BYTES:
            self.is_over = True
            buffer.clear()
        return False

    def _lose(self) -> None:
        """What the buffer begins with is no message."""
        self._drop(1)
        self.is_aligned = False
        self.n_lost += 1

    def _drop(self, n_bytes: int) -> None:
        del self.buffer[:n_bytes]
        self.no_start = max(0, self.no_start - n_bytes)
        self.no_end = max(0, self.no_end - n_bytes)


@attrs.define
class _Reader:
    messages: list[CapturedMessage] = attrs.field(factory=list)
    streams: dict[tuple[str, str], _Stream] = attrs.field(factory=dict)
    skipped: Counter[str] = attrs.field(factory=Counter)
    last: dict[tuple[str, str], Packet] = attrs.field(factory=dict)

    def datagram(self, packet: Packet, datagram: Datagram) -> None:
        data = datagram.payload.lstrip(b"\r\n")
        if not _START_LINE.match(data):
            if data:
                self.skipped["datagrams other than SIP"] += 1
            return
        if datagram.is_cut:
            self.skipped["SIP datagrams cut by the snapshot length"] += 1
            return
        self._keep(packet, datagram.transport, datagram.source, datagram.destination, data)

    def segment(self, packet: Packet, segment: TcpSegment) -> None:
        key = (segment.source, segment.destination)
        stream = self.streams.get(key)
        if stream is None:
            if len(self.streams) >= MAX_STREAMS:
                raise PcapError(f"more than {MAX_STREAMS} TCP streams: cut it with `tshark -r FILE -Y sip -w SMALLER`")
            stream = self.streams[key] = _Stream()
        elif segment.is_start:
            self.end(key, stream)
        self.last[key] = packet
        stream.take(segment)
        if packet.is_cut and segment.payload:
            self.skipped["TCP segments cut by the snapshot length"] += 1
        if stream.buffer and _TLS.match(stream.buffer):
            self.skipped["TLS streams (export the decrypted PDUs with Wireshark)"] += 1
            stream.buffer.clear()
            stream.waiting.clear()
            stream.is_over = True
        self._cut(key, stream)
        if segment.is_end:
            self.end(key, stream)

    def end(self, key: tuple[str, str], stream: _Stream) -> None:
        """Nothing more will come: what waits behind a hole is read without what is missing."""
        while not stream.is_over and stream.jump():
            self._cut(key, stream)
        stream.waiting.clear()

    def _cut(self, key: tuple[str, str], stream: _Stream) -> None:
        for data in stream.messages():
            self._keep(self.last[key], "tcp", *key, data)

    def _keep(self, packet: Packet, transport: str, source: str, destination: str, data: bytes) -> None:
        if len(self.messages) >= MAX_MESSAGES:
            raise PcapError(f"more than {MAX_MESSAGES} SIP messages: cut it with `editcap -r FILE SMALLER 1-100000`")
        self.messages.append(CapturedMessage(packet.number, packet.time_s, transport, source, destination, data))


def read_capture_untrusted(data: bytes) -> Capture:
    """All SIP messages of a capture file, in the order in which they were complete.

    Raises:
        PcapError: no capture file, or one that is damaged or too large.
    """
    capture_file = CaptureFile(data)
    dissector, reader = Dissector(), _Reader()
    n_packets = 0
    for packet in capture_file.packets_untrusted():
        n_packets = packet.number
        found = dissector.dissect_untrusted(packet)
        if isinstance(found, Datagram):
            reader.datagram(packet, found)
        elif found is not None:
            reader.segment(packet, found)
    for key, stream in reader.streams.items():
        reader.end(key, stream)
    skipped = dissector.skipped + reader.skipped
    if dissector.n_incomplete:
        skipped["IP datagrams with fragments missing"] += dissector.n_incomplete
    n_lost = sum(stream.n_lost for stream in reader.streams.values())
    if n_lost:
        skipped["holes in TCP streams"] += n_lost
    return Capture(tuple(reader.messages), n_packets, dict(skipped), capture_file.is_cut_short)
