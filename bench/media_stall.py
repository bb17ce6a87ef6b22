"""What a stall of the machine leaves behind: delay of both directions before and after the worker was stopped.

    python -m bench.media_stall [--stall 0.2] [--rounds 5] [--engine live ahead]

One worker, one leg; every frame of caller and engine carries its number as a pair of tones, so that what arrives tells
when it was sent.  In each round the worker is stopped (SIGSTOP) for a while.  ``up``: caller to engine.  ``down``:
engine to caller; an engine that is ``live`` sends in real time, one that is ``ahead`` has sent everything at once, so
that only the lateness of the packets against their RTP timestamps can be told.  Milliseconds: ``before`` and ``after``
are medians over the second before the stall and from one second after its end, ``worst`` the longest delay between;
medians of all rounds.  ``stays_ms`` is the most that a round added.  Root gives itself real-time priority and the
worker a better one than others, as in `bench.media_direct`.  Prints one JSON line per engine.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import socket
import statistics
import struct
import subprocess
import sys
import threading
import time
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray
from websockets.server import ServerProtocol

from bench.media_direct import Control, pinned
from media import g711
from media.control import EngineTarget, StreamConfig, to_wire
from media.rtp import build_rtp, parse_rtp_untrusted

WORKER_HOST, PARTY_HOST, ENGINE_HOST = "127.0.0.64", "127.0.0.65", "127.0.0.66"
RATE_HZ = 16000
FRAME_S = 0.02
LOW_HZ = np.arange(8) * 150.0 + 300
HIGH_HZ = np.arange(8) * 200.0 + 1700
NUMBERS = len(LOW_HZ) * len(HIGH_HZ)
"""1.28 s: a longer delay is not told from a shorter one."""
AMPLITUDE = 6000.0
CLEAR_RATIO = 4.0
"""A tone is that much stronger than the next one of its group, or the frame has no number."""
ULAW = np.zeros(1, np.uint8)


def tones(number: int, rate_hz: int) -> NDArray[np.float32]:
    """20 ms that say ``number``."""
    t = np.arange(int(rate_hz * FRAME_S)) / rate_hz
    low, high = LOW_HZ[number % NUMBERS // len(HIGH_HZ)], HIGH_HZ[number % len(HIGH_HZ)]
    wave = np.sin(2 * np.pi * low * t) + np.sin(2 * np.pi * high * t)
    samples: NDArray[np.float32] = (AMPLITUDE * wave).astype(np.float32)
    return samples


def number_of(samples: NDArray[Any], rate_hz: int) -> int | None:
    """What a frame says, modulo `NUMBERS`; None: nothing clear."""
    window = np.hanning(len(samples))
    t = np.arange(len(samples)) / rate_hz
    found = []
    for group in (LOW_HZ, HIGH_HZ):
        power = np.abs(np.exp(-2j * np.pi * group[:, None] * t) @ (samples * window))
        order = np.argsort(power)
        if power[order[-1]] < CLEAR_RATIO * power[order[-2]] or power[order[-1]] < 1000:
            return None
        found.append(int(order[-1]))
    return found[0] * len(HIGH_HZ) + found[1]


@attrs.define
class Track:
    """Frames of one direction: when each was sent, and what came when."""

    sent_at: list[float] = attrs.Factory(list)
    delays: list[tuple[float, float]] = attrs.Factory(list)
    """(arrival, delay in ms)."""

    def arrived(self, number: int | None, now: float) -> None:
        if number is None or not self.sent_at:
            return
        newest = len(self.sent_at) - 1
        n = newest - (newest - number) % NUMBERS
        if n >= 0:
            self.delays.append((now, (now - self.sent_at[n]) * 1000))


class Scene:
    """The worker, its party and its engine, in one loop."""

    def __init__(self, *, is_ahead: bool) -> None:
        self.up, self.down = Track(), Track()
        self._is_ahead = is_ahead
        ours, theirs = socket.socketpair()
        ours.settimeout(20)
        command = [sys.executable, "-m", "media.worker", "--control-fd", str(theirs.fileno())]
        command += ["--address", WORKER_HOST, "--ports", "30000-39999"]
        self.worker = subprocess.Popen(pinned("0", command, False), pass_fds=[theirs.fileno()])
        theirs.close()
        self._ours = ours
        self._control = Control(ours)
        self._party = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._party.bind((PARTY_HOST, 0))
        self._listener = socket.create_server((ENGINE_HOST, 0))
        acceptor = threading.Thread(target=self._accept)
        acceptor.start()
        host, port = self._party.getsockname()
        url = "ws://{}:{}/".format(*self._listener.getsockname())
        reply = self._control.command(
            "open",
            leg="stall",
            stream=to_wire(StreamConfig("PCMU", 0, host, port)),
            engine=to_wire(EngineTarget("websocket", url, rate=RATE_HZ)),
        )
        acceptor.join()
        if not reply["ok"]:
            raise SystemExit(f"open: {reply}")
        self._target = reply["host"], reply["port"]
        self._buffer = bytearray()
        self._first: tuple[float, int] | None = None
        self._n = 0
        self._due = time.monotonic()

    def _accept(self) -> None:
        self._engine, _ = self._listener.accept()
        self._engine.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        core = ServerProtocol(subprotocols=["ims-as.v1"])  # type: ignore[list-item]
        while not (events := core.events_received()):
            core.receive_data(self._engine.recv(4096))
        core.send_response(core.accept(events[0]))  # type: ignore[arg-type]
        self._engine.sendall(b"".join(core.data_to_send()))

    def say_ahead(self, seconds: float) -> None:
        """The engine sends all of it at once."""
        for start in range(0, int(seconds / FRAME_S), 50):
            pcm = np.concatenate([tones(n, RATE_HZ) for n in range(start, start + 50)]).astype("<i2").tobytes()
            self._engine.sendall(b"\x82\x7f" + struct.pack(">Q", len(pcm)) + pcm)

    def run(self, seconds: float) -> None:
        """Sends and receives for so long."""
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end:
            if now >= self._due:
                self._send(now)
                self._due += FRAME_S
            ready, _, _ = select.select([self._party, self._engine], [], [], max(0.0, self._due - time.monotonic()))
            now = time.monotonic()
            if self._party in ready:
                self._hear_party(self._party.recv(2048), now)
            if self._engine in ready:
                self._hear_engine(self._engine.recv(1 << 16), now)
        self._control.read_waiting()

    def _send(self, now: float) -> None:
        n = self._n
        self._n += 1
        payload = g711.encode(tones(n, 8000)[None, :], ULAW).tobytes()
        packet = build_rtp(
            payload_type=0, marker=False, sequence=n & 0xFFFF, timestamp=160 * n, ssrc=1, payload=payload
        )
        self._party.sendto(packet, self._target)
        self.up.sent_at.append(now)
        if not self._is_ahead:
            pcm = tones(n, RATE_HZ).astype("<i2").tobytes()
            self._engine.sendall(b"\x82\x7e" + struct.pack(">H", len(pcm)) + pcm)
            self.down.sent_at.append(now)

    def _hear_party(self, datagram: bytes, now: float) -> None:
        packet = parse_rtp_untrusted(datagram)
        if self._is_ahead:
            if self._first is None:
                self._first = now, packet.timestamp
            at, first = self._first
            sent = ((packet.timestamp - first) & 0xFFFFFFFF) / 8000
            self.down.delays.append((now, (now - at - sent) * 1000))
            return
        samples = g711.decode(np.frombuffer(packet.payload, np.uint8)[None, :], ULAW)[0]
        self.down.arrived(number_of(samples, 8000), now)

    def _hear_engine(self, chunk: bytes, now: float) -> None:
        self._buffer += chunk
        while len(self._buffer) >= 8:
            size, start = self._buffer[1] & 0x7F, 2
            if size == 126:
                size, start = int.from_bytes(self._buffer[2:4], "big"), 4
            if len(self._buffer) < start + 4 + size:
                return
            opcode, key = self._buffer[0] & 15, self._buffer[start : start + 4]
            body = bytes(self._buffer[start + 4 : start + 4 + size])
            del self._buffer[: start + 4 + size]
            if opcode == 2:
                plain = np.frombuffer(body, np.uint8) ^ np.resize(np.frombuffer(bytes(key), np.uint8), size)
                self.up.arrived(number_of(plain.view("<i2"), RATE_HZ), now)

    def stall(self, seconds: float) -> float:
        """Stops the worker, the others go on; when it was let go."""
        os.kill(self.worker.pid, signal.SIGSTOP)
        try:
            self.run(seconds)
        finally:
            os.kill(self.worker.pid, signal.SIGCONT)
        return time.monotonic()

    def close(self) -> None:
        self._ours.close()
        try:
            self.worker.wait(5)
        finally:
            self.worker.kill()
            self.worker.wait()
        for sock in (self._party, self._engine, self._listener):
            sock.close()


def median_between(delays: list[tuple[float, float]], start: float, end: float) -> float:
    """Not a number where nothing came."""
    chosen = [delay for at, delay in delays if start <= at < end]
    return statistics.median(chosen) if chosen else float("nan")


def measure(engine: str, stall_s: float, rounds: int) -> dict[str, Any]:
    """Rounds of a stall on one worker; see the module."""
    found: dict[str, list[dict[str, float]]] = {"up": [], "down": []}
    scene = Scene(is_ahead=engine == "ahead")
    try:
        if engine == "ahead":
            scene.say_ahead(60)
        scene.run(1.0)
        for _ in range(rounds):
            scene.run(1.2)
            began = time.monotonic()
            ended = scene.stall(stall_s)
            scene.run(2.0)
            for name, track in (("up", scene.up), ("down", scene.down)):
                between = [delay for at, delay in track.delays if began <= at < ended + 1]
                found[name].append(
                    {
                        "before": median_between(track.delays, began - 1, began),
                        "after": median_between(track.delays, ended + 1, ended + 2),
                        "worst": max(between, default=float("nan")),
                    }
                )
    finally:
        scene.close()
    if engine == "ahead":  # against the earliest packet
        base = min(delay for _, delay in scene.down.delays)
        found["down"] = [{key: value - base for key, value in row.items()} for row in found["down"]]
    result: dict[str, Any] = {"what": "stall", "engine": engine, "stall_ms": round(stall_s * 1000), "rounds": rounds}
    for name, rows in found.items():
        result[f"{name}_ms"] = {key: round(statistics.median(row[key] for row in rows), 1) for key in rows[0]}
        result[f"{name}_stays_ms"] = round(max(row["after"] - row["before"] for row in rows), 1)
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stall", type=float, default=0.2, help="seconds")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--engine", nargs="+", choices=["live", "ahead"], default=["live", "ahead"])
    options = parser.parse_args()
    if os.geteuid() == 0:
        os.sched_setaffinity(0, {1})
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(10))
    for engine in options.engine:
        print(json.dumps(measure(engine, options.stall, options.rounds)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
