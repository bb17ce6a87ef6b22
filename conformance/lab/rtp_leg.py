"""Real RTP for the lab's phones: a UDP socket that sends a stream paced at 20 ms and records what arrives.

The sender keeps to an absolute schedule, so a late wake-up is made up for and the clock never drifts.  What arrives is
kept packet by packet with source address and time: the proof of who spoke to whom, and the recording.
"""

from __future__ import annotations

import secrets
import struct
import time
from collections import deque
from collections.abc import Callable

import attrs
import numpy as np
import numpy.typing as npt
import trio

from conformance.lab import pcmu
from conformance.lab.speech import Endpointer, SpeechStarted, Utterance, level_db

__all__ = ["FRAME_S", "HeardSpeech", "ReceivedPacket", "RtpLeg", "SentPacket", "assemble"]

Pcm = npt.NDArray[np.int16]
Address = tuple[str, int]

FRAME_S = 0.02
FRAME_SAMPLES = 160
MAX_PACKETS = 15 * 60 * 50
"""A quarter of an hour; later packets are counted only."""
MAX_DATAGRAM = 2048
JUMP_SAMPLES = 1600
"""A timestamp further than 200 ms from where its arrival puts it begins a new talk spurt on the recording."""
SOUND_DB = 40.0
"""A packet above this is more than line noise."""
_HEADER = struct.Struct("!BBHII")


@attrs.frozen
class ReceivedPacket:
    """``at``: wall clock."""

    at: float
    source: Address
    payload_type: int
    sequence: int
    timestamp: int
    ssrc: int
    payload: bytes


@attrs.frozen
class SentPacket:
    at: float
    destination: Address


@attrs.frozen
class HeardSpeech:
    """One utterance as it was heard; wall clock."""

    start: float
    end: float


def assemble(packets: list[ReceivedPacket], began_at: float, ended_at: float) -> Pcm:
    """The recording at 8 kHz: each packet where its timestamp puts it, silence where nothing came."""
    recording = np.zeros(max(0, round((ended_at - began_at) * pcmu.RATE_HZ)) + FRAME_SAMPLES, np.int16)
    anchors: dict[int, tuple[int, int]] = {}
    for packet in packets:
        if packet.payload_type != pcmu.PAYLOAD_TYPE:
            continue
        arrived = round((packet.at - began_at) * pcmu.RATE_HZ)
        zero, position = anchors.get(packet.ssrc, (packet.timestamp, arrived))
        offset = (packet.timestamp - zero + 0x80000000) % 0x100000000 - 0x80000000
        place = position + offset
        if abs(place - arrived) > JUMP_SAMPLES:
            zero, position, place = packet.timestamp, arrived, arrived
        anchors[packet.ssrc] = (zero, position)
        pcm = pcmu.decode(packet.payload)[: max(0, len(recording) - place)]
        if place >= 0:
            recording[place : place + len(pcm)] = pcm
    return recording


class RtpLeg:
    """One party's audio stream.  ``run`` sends and receives until cancelled, then the socket is closed."""

    def __init__(self, host: str, *, noise_level: float = 3.0) -> None:
        self._host = host
        self._socket: trio.socket.SocketType | None = None
        self.remote: Address | None = None
        """Where packets go from the next one on; None: nowhere."""
        self.is_sending = True
        self.local: Address = (host, 0)
        self.received: list[ReceivedPacket] = []
        self.sent: list[SentPacket] = []
        self.speech: list[HeardSpeech] = []
        self.last_sound_at = 0.0
        """When the last packet came that is more than line noise."""
        self.n_not_rtp = 0
        self.n_not_kept = 0
        self.began_at = 0.0
        self.ended_at: float | None = None
        self._sent_pcm: list[Pcm] = []
        self._queue: deque[Pcm] = deque()
        self._queue_empty = trio.Event()
        self._changed = trio.Event()
        self._endpointer = Endpointer()
        rng = np.random.default_rng(1)
        self._noise = rng.normal(0.0, noise_level, (50, FRAME_SAMPLES)).astype(np.int16)

    async def bind(self) -> Address:
        """Raises OSError."""
        sock = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
        try:
            await sock.bind((self._host, 0))
        except OSError:
            sock.close()
            raise
        self._socket = sock
        self.local = (self._host, sock.getsockname()[1])
        return self.local

    async def run(self) -> None:
        """``bind`` comes first."""
        assert self._socket is not None
        self.began_at = time.time()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._send)
                nursery.start_soon(self._receive)
        finally:
            self.ended_at = time.time()
            self._socket.close()
            self._signal()

    # ---------------------------------------------------------------- sending

    def play(self, pcm: Pcm) -> trio.Event:
        """Queues 8 kHz audio after what is queued; the event is set once everything queued has been sent."""
        padded = np.concatenate([pcm, np.zeros(-len(pcm) % FRAME_SAMPLES, np.int16)])
        self._queue.extend(padded.reshape(-1, FRAME_SAMPLES))
        if self._queue_empty.is_set():
            self._queue_empty = trio.Event()
        return self._queue_empty

    async def _send(self) -> None:
        assert self._socket is not None
        sequence, timestamp = secrets.randbelow(1 << 16), secrets.randbelow(1 << 32)
        ssrc = secrets.randbelow(1 << 32)
        started = trio.current_time()
        number = 0
        while True:
            frame = self._queue.popleft() if self._queue else self._noise[number % len(self._noise)]
            if self.remote is not None and self.is_sending:
                header = _HEADER.pack(0x80, pcmu.PAYLOAD_TYPE, sequence, timestamp, ssrc)
                try:
                    await self._socket.sendto(header + pcmu.encode(frame), self.remote)
                except OSError:
                    self.n_not_kept += 1  # a closed port at the peer shows as an error here: UDP goes on
                if len(self.sent) < MAX_PACKETS:
                    self.sent.append(SentPacket(time.time(), self.remote))
            if len(self._sent_pcm) < MAX_PACKETS:
                self._sent_pcm.append(frame)
            if not self._queue:
                self._queue_empty.set()
            sequence = (sequence + 1) & 0xFFFF
            timestamp = (timestamp + FRAME_SAMPLES) & 0xFFFFFFFF
            number += 1
            await trio.sleep_until(started + number * FRAME_S)

    # ---------------------------------------------------------------- receiving

    async def _receive(self) -> None:
        assert self._socket is not None
        while True:
            try:
                datagram, source = await self._socket.recvfrom(MAX_DATAGRAM)
            except OSError:
                continue  # an ICMP error of an earlier send
            self._receive_untrusted(datagram, source[:2], time.time())

    def _receive_untrusted(self, datagram: bytes, source: Address, at: float) -> None:
        if len(datagram) < _HEADER.size or datagram[0] >> 6 != 2:
            self.n_not_rtp += 1
            return
        if len(self.received) >= MAX_PACKETS:
            self.n_not_kept += 1
            return
        first, second, sequence, timestamp, ssrc = _HEADER.unpack_from(datagram)
        payload = datagram[_HEADER.size + 4 * (first & 15) :]
        self.received.append(ReceivedPacket(at, source, second & 0x7F, sequence, timestamp, ssrc, payload))
        if second & 0x7F == pcmu.PAYLOAD_TYPE:
            pcm = pcmu.decode(payload)
            if level_db(pcm) > SOUND_DB:
                self.last_sound_at = at
            # to the end-pointer only levels matter: doubling the samples is resampling enough
            for event in self._endpointer.receive_pcm(np.repeat(pcm, 2)):
                self._note_speech(event, at)
        self._signal()

    def _note_speech(self, event: SpeechStarted | Utterance, at: float) -> None:
        if isinstance(event, Utterance):
            end = at - self._endpointer.hangover_ms / 1000
            self.speech.append(HeardSpeech(end - (event.end_ms - event.start_ms) / 1000, end))

    def _signal(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Returns once ``condition`` holds, looked at after each packet.  The caller sets the deadline."""
        while not condition():
            await self._changed.wait()

    async def wait_for_speech_end(self, after: float) -> HeardSpeech:
        """The first utterance heard whose end is later than ``after`` (wall clock)."""
        await self.wait_until(lambda: any(speech.end > after for speech in self.speech))
        return next(speech for speech in self.speech if speech.end > after)

    def first_sound(self, after: float, source: Address | None = None) -> float | None:
        """When the first packet arrived after ``after`` that is more than line noise."""
        for packet in self.received:
            is_wanted = packet.at > after and source in (None, packet.source)
            is_wanted &= packet.payload_type == pcmu.PAYLOAD_TYPE
            if is_wanted and level_db(pcmu.decode(packet.payload)) > SOUND_DB:
                return packet.at
        return None

    def sources(self) -> dict[Address, tuple[int, float, float]]:
        """By source: how many packets, time of the first and of the last."""
        seen: dict[Address, tuple[int, float, float]] = {}
        for packet in self.received:
            count, first, _ = seen.get(packet.source, (0, packet.at, packet.at))
            seen[packet.source] = (count + 1, first, packet.at)
        return seen

    # ---------------------------------------------------------------- recordings

    def heard_pcm(self) -> Pcm:
        """What arrived, at 8 kHz, from ``began_at`` on."""
        return assemble(self.received, self.began_at, self.ended_at or time.time())

    def sent_pcm(self) -> Pcm:
        """What was played, at 8 kHz, from ``began_at`` on."""
        return np.concatenate(self._sent_pcm) if self._sent_pcm else np.zeros(0, np.int16)
