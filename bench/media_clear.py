"""From an engine's ``clear`` to silence at the party, measured at the wire.

    python -m bench.media_clear [--legs 1 100] [--rounds 100]

One worker holds N legs whose engines have sent long speech ahead and whose callers speak all the time.  In each round
one engine says ``clear`` at a random moment; the time runs from that ``send`` to the arrival of the first packet at the
party that ends silent (it may begin with the 5 ms fade).  Prints one JSON line per number of legs.
"""

from __future__ import annotations

import argparse
import json
import random
import select
import socket
import struct
import subprocess
import sys
import threading
import time

import numpy as np
from websockets.server import ServerProtocol

from bench.media_direct import Control
from media import g711
from media.control import EngineTarget, StreamConfig, to_wire
from media.rtp import build_rtp, parse_rtp_untrusted

WORKER_HOST, PARTY_HOST, ENGINE_HOST = "127.0.0.61", "127.0.0.62", "127.0.0.63"
SPEECH_S = 20
RATE_HZ = 16000
SILENT = int(g711.SILENCE[0])


class Leg:
    """A party's socket and the engine's end of the connection."""

    def __init__(self, control: Control, listener: socket.socket, name: str, barge_in: str = "engine") -> None:
        self.party = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.party.bind((PARTY_HOST, 0))
        self.party.settimeout(1)
        host, port = self.party.getsockname()
        acceptor = threading.Thread(target=self._accept, args=(listener,))
        acceptor.start()
        url = "ws://{}:{}/".format(*listener.getsockname())
        reply = control.command(
            "open",
            leg=name,
            stream=to_wire(StreamConfig("PCMU", 0, host, port, dtmf_payload_type=101)),
            engine=to_wire(EngineTarget("websocket", url, rate=RATE_HZ, barge_in=barge_in)),
        )
        acceptor.join()
        if not reply["ok"]:
            raise SystemExit(f"open: {reply}")
        self.target = (reply["host"], reply["port"])

    def _accept(self, listener: socket.socket) -> None:
        self.engine, _ = listener.accept()
        self.engine.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        core = ServerProtocol(subprotocols=["ims-as.v1"])  # type: ignore[list-item]
        while not (events := core.events_received()):
            core.receive_data(self.engine.recv(4096))
        core.send_response(core.accept(events[0]))  # type: ignore[arg-type]
        self.engine.sendall(b"".join(core.data_to_send()))

    def speak(self) -> None:
        """Sends long speech ahead."""
        tone = (8000 * np.sin(np.arange(SPEECH_S * RATE_HZ) * 0.2)).astype("<i2").tobytes()
        self.engine.sendall(b"\x82\x7f" + struct.pack(">Q", len(tone)) + tone)

    def clear(self) -> None:
        text = b'{"event":"clear"}'
        self.engine.sendall(bytes([0x81, len(text)]) + text)

    def wait_loud(self) -> None:
        self.drain()
        while not _is_loud(self.party.recv(2048)):
            continue

    def wait_silence(self) -> None:
        while _is_loud(self.party.recv(2048)):
            continue

    def drain(self) -> None:
        while select.select([self.party], [], [], 0)[0]:
            self.party.recv(2048)

    def close(self) -> None:
        self.party.close()
        self.engine.close()


def _is_loud(packet: bytes) -> bool:
    payload = parse_rtp_untrusted(packet).payload
    return payload[-80:] != bytes([SILENT]) * 80


class World(threading.Thread):
    """All callers speak, all engines listen."""

    def __init__(self, legs: list[Leg]) -> None:
        super().__init__()
        self._legs = legs
        self.is_over = False

    def run(self) -> None:
        poll = select.epoll()
        engines = {leg.engine.fileno(): leg.engine for leg in self._legs}
        for fd in engines:
            poll.register(fd, select.EPOLLIN)
        n, due = 0, time.monotonic()
        while not self.is_over:
            packet = build_rtp(
                payload_type=0, marker=False, sequence=n & 0xFFFF, timestamp=160 * n, ssrc=1, payload=b"\x90" * 160
            )
            for leg in self._legs:
                leg.party.sendto(packet, leg.target)
            n, due = n + 1, due + 0.02
            for fd, _ in poll.poll(0, len(engines)):
                engines[fd].recv(1 << 16)
            time.sleep(max(0.0, due - time.monotonic()))
        poll.close()


def measure(n_legs: int, rounds: int) -> dict[str, object]:
    """Rounds of ``clear`` on one worker; milliseconds."""
    ours, theirs = socket.socketpair()
    ours.settimeout(20)
    command = [sys.executable, "-m", "media.worker", "--control-fd", str(theirs.fileno())]
    command += ["--address", WORKER_HOST, "--ports", "30000-39999"]
    worker = subprocess.Popen(command, pass_fds=[theirs.fileno()])
    theirs.close()
    listener = socket.create_server((ENGINE_HOST, 0))
    legs: list[Leg] = []
    world = World(legs)
    took = []
    try:
        control = Control(ours)
        for i in range(n_legs):
            legs.append(Leg(control, listener, f"c{i}"))
        world.start()
        for i in range(rounds):
            leg = random.choice(legs)
            for speaker in legs if i == 0 else [leg]:
                speaker.speak()
            leg.wait_loud()
            time.sleep(random.uniform(0.02, 0.06))
            leg.drain()
            started = time.monotonic()
            leg.clear()
            leg.wait_silence()
            took.append((time.monotonic() - started) * 1000)
            control.read_waiting()
    finally:
        world.is_over = True
        if world.is_alive():
            world.join()
        ours.close()
        try:
            worker.wait(5)
        finally:
            worker.kill()
            worker.wait()
        for leg in legs:
            leg.close()
        listener.close()
    took.sort()
    return {
        "what": "clear to silence",
        "legs": n_legs,
        "rounds": rounds,
        "ms": {p: round(took[min(len(took) - 1, int(len(took) * q))], 2) for p, q in (("p50", 0.5), ("p99", 0.99))},
        "max_ms": round(took[-1], 2),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--legs", type=int, nargs="+", default=[1, 100])
    parser.add_argument("--rounds", type=int, default=100)
    options = parser.parse_args()
    for n_legs in options.legs:
        print(json.dumps(measure(n_legs, options.rounds)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
