"""Many calls of a media worker at once, in real time and over sockets: phone - bad network - worker - engine.

Both ends speak at once: the phone the packets of a job, the engine a recording at 16 kHz. What the engine hears is kept
as it comes, what the phone gets by the timestamps of its packets.
"""

from __future__ import annotations

import os
import selectors
import socket
import time
from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray
from websockets.exceptions import WebSocketException
from websockets.frames import Frame, Opcode
from websockets.server import ServerProtocol

from media.rtp import RtpParseError, build_rtp, parse_rtp_untrusted
from tests.media.support import WorkerProcess
from tests.support.impairment import Impairment, Network, Relay
from tests.support.speech_codecs import Packet, Spoken, decode_alone

__all__ = ["Job", "Outcome", "make_calls"]

Pcm = NDArray[np.int16]
ENGINE_HOST, PHONE_HOST, NETWORK_HOST = "127.0.77.4", "127.0.77.5", "127.0.77.6"
STEP_S = 0.005
FRAME_STEPS = 4
LINGER_S = 0.5
"""After the last frame: what is on its way still comes."""
RATE_HZ = 16000
ENGINE_SAMPLES = RATE_HZ // 50
_PCM_HEADER = b"\x82\x7e" + (2 * ENGINE_SAMPLES).to_bytes(2, "big")


@attrs.frozen(eq=False)
class Job:
    """One call."""

    spoken: Spoken
    packets: Sequence[Packet]
    """What the phone says."""
    up: Impairment
    """From the phone to the worker; the other way has the same jitter, and loses nothing."""
    engine_says: Pcm
    """At 16 kHz."""


@attrs.frozen(eq=False)
class Outcome:
    """What came of it."""

    engine_heard: Pcm
    """At 16 kHz."""
    phone_heard: Pcm
    """At the codec's rate."""
    stats: dict[str, Any]
    """Of the leg."""


@attrs.define(eq=False)
class _Call:
    job: Job
    phone: socket.socket
    target: tuple[str, int]
    server: ServerProtocol
    engine: socket.socket
    next_packet: int = 0
    next_frame: int = 0
    pieces: list[bytes] = attrs.Factory(list)
    arrived: dict[int, bytes] = attrs.Factory(dict)

    def step(self, frame: int) -> None:
        """What is due in the 20 ms of that number."""
        packets, spoken = self.job.packets, self.job.spoken
        while self.next_packet < len(packets) and packets[self.next_packet].frame <= frame:
            number, packet = self.next_packet, packets[self.next_packet]
            self.next_packet += 1
            datagram = build_rtp(
                payload_type=spoken.payload_type,
                marker=number == 0,
                sequence=(65000 + number) & 0xFFFF,
                timestamp=(4294900000 + packet.frame * spoken.frame_timestamps) & 0xFFFFFFFF,
                ssrc=7,
                payload=packet.payload,
            )
            self.phone.sendto(datagram, self.target)
        pcm = self.job.engine_says[frame * ENGINE_SAMPLES :][:ENGINE_SAMPLES]
        if len(pcm) == ENGINE_SAMPLES:
            self.engine.sendall(_PCM_HEADER + pcm.astype("<i2").tobytes())

    def read_engine(self) -> None:
        self.server.receive_data(self.engine.recv(1 << 16))
        for event in self.server.events_received():
            if isinstance(event, Frame) and event.opcode is Opcode.BINARY:
                self.pieces.append(bytes(event.data))

    def read_phone(self) -> None:
        try:
            packet = parse_rtp_untrusted(self.phone.recv(2048))
        except RtpParseError:
            return
        if packet.payload_type == self.job.spoken.payload_type:
            self.arrived.setdefault(packet.timestamp, packet.payload)

    def outcome(self, stats: dict[str, Any]) -> Outcome:
        spoken = self.job.spoken
        newest = max(self.arrived)  # calls are short: timestamps wrap at most once
        times = sorted(((stamp - newest + (1 << 31)) & 0xFFFFFFFF, payload) for stamp, payload in self.arrived.items())
        first = times[0][0]
        packets = [Packet((stamp - first) // spoken.frame_timestamps, payload) for stamp, payload in times]
        heard = np.frombuffer(b"".join(self.pieces), "<i2").astype(np.int16)
        return Outcome(heard, decode_alone(spoken, packets, lambda _: False), stats)


def make_calls(jobs: Sequence[Job], *, is_undisturbed: bool = False) -> list[Outcome]:
    """All of them at once; takes as long as the longest.

    Args:
        is_undisturbed: other work of the machine is kept off this thread and the worker, for which it takes root.
    """
    worker = WorkerProcess(ports="41000-41999")
    if is_undisturbed:
        os.sched_setscheduler(worker.process.pid, os.SCHED_RR, os.sched_param(30))
    listener = socket.create_server((ENGINE_HOST, 0), backlog=len(jobs))
    listener.settimeout(5)
    calls: list[_Call] = []
    try:
        relay = Relay(NETWORK_HOST)
        links = [relay.add_link(job.up, Impairment(_only_jitter(job.up.network), 1)) for job in jobs]
        if is_undisturbed:  # the relay's thread inherits it
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(25))
        with relay:
            for number, (job, (phone_side, server_side)) in enumerate(zip(jobs, links, strict=True)):
                calls.append(_open(worker, listener, f"call{number}", job, phone_side, server_side, relay))
            _talk(calls)
        stats = [worker.command("stats", leg=f"call{number}")["stats"] for number in range(len(jobs))]
        return [call.outcome(each) for call, each in zip(calls, stats, strict=True)]
    finally:
        if is_undisturbed:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        worker.close()
        listener.close()
        for call in calls:
            call.phone.close()
            call.engine.close()


def _only_jitter(network: Network) -> Network:
    return Network(jitter_ms=network.jitter_ms)


def _open(
    worker: WorkerProcess,
    listener: socket.socket,
    name: str,
    job: Job,
    phone_side: tuple[str, int],
    server_side: tuple[str, int],
    relay: Relay,
) -> _Call:
    phone = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    phone.bind((PHONE_HOST, 0))
    url = "ws://{}:{}/".format(*listener.getsockname())
    stream = job.spoken.stream(remote_host=server_side[0], remote_port=server_side[1], dtmf_payload_type=101)
    number = worker.post(
        "open",
        leg=name,
        stream=attrs.asdict(stream),
        engine={"type": "websocket", "url": url, "rate": RATE_HZ, "filler_after_ms": 0},
    )
    engine, _ = listener.accept()
    engine.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    server = ServerProtocol(subprotocols=["ims-as.v1"])  # type: ignore[list-item]
    while not (events := server.events_received()):
        server.receive_data(engine.recv(4096))
    server.send_response(server.accept(events[0]))  # type: ignore[arg-type]
    engine.sendall(b"".join(server.data_to_send()))
    reply = worker.wait_reply(number)
    if not reply["ok"]:
        raise WebSocketException(f"open: {reply}")
    relay.set_server(server_side, (reply["host"], reply["port"]))
    return _Call(job, phone, phone_side, server, engine)


def _talk(calls: Sequence[_Call]) -> None:
    """Each call's turn is one of the four steps of 20 ms."""
    selector = selectors.DefaultSelector()
    for call in calls:
        selector.register(call.phone, selectors.EVENT_READ, call.read_phone)
        selector.register(call.engine, selectors.EVENT_READ, call.read_engine)
    frames = max(max(c.job.packets[-1].frame + 1, len(c.job.engine_says) // ENGINE_SAMPLES) for c in calls)
    began = time.monotonic()
    for step in range(frames * FRAME_STEPS + int(LINGER_S / STEP_S)):
        for call in calls[step % FRAME_STEPS :: FRAME_STEPS]:
            call.step(step // FRAME_STEPS)
        due = began + (step + 1) * STEP_S
        while True:
            for key, _ in selector.select(max(0.0, due - time.monotonic())):
                key.data()
            if time.monotonic() >= due:
                break
    selector.close()
