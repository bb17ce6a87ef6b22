"""Whether a media worker's memory and descriptors stay where they are.

    python -m bench.media_soak row 1000000 [--at-once 50]     short calls, as fast as the worker takes them
    python -m bench.media_soak hold 300 --minutes 60          calls that stay, bridged to an echo engine in real time

A short call has a port, an engine with a WebSocket handshake, two packets of audio, and is released.  Prints a JSON
line for each twentieth of the run with the worker's memory (proportional set size) and descriptors, and at the end by
how much they grew after the first of them.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import multiprocessing
import re
import select
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.media_direct import CALLER_HOST, CALLER_PORT, ENGINE_PORT, LoadGenerator
from bench.media_worker import Worker
from media.control import EngineTarget, StreamConfig, encode_line, to_wire
from media.rtp import build_rtp

PARTY_HOST, ENGINE_HOST = "127.0.0.65", "127.0.0.66"
PARTS = 20
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def serve_engines(listener: socket.socket) -> None:
    """Accepts every WebSocket, listens to nothing, and closes when it is told good-bye."""
    poll = select.epoll()
    poll.register(listener, select.EPOLLIN)
    listener.setblocking(False)
    open_sockets: dict[int, socket.socket] = {}
    while True:
        for fd, _ in poll.poll():
            if fd == listener.fileno():
                try:
                    sock, _ = listener.accept()
                except BlockingIOError:
                    continue
                open_sockets[sock.fileno()] = sock
                poll.register(sock, select.EPOLLIN)
                continue
            sock = open_sockets[fd]
            try:
                data = sock.recv(65536)
            except ConnectionError:
                data = b""
            key = re.search(rb"(?i)sec-websocket-key: *(\S+)", data)
            if key is not None:
                token = base64.b64encode(hashlib.sha1(key[1] + GUID, usedforsecurity=False).digest())
                sock.sendall(
                    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    b"Sec-WebSocket-Protocol: ims-as.v1\r\nSec-WebSocket-Accept: " + token + b"\r\n\r\n"
                )
            elif not data or 0x88 in (data[-8:-7] + data[-6:-5]):  # a close frame is the last thing in it
                poll.unregister(fd)
                del open_sockets[fd]
                sock.close()


class Row:
    """Short calls: each is opened, sends, and is released, many at once."""

    def __init__(self, worker: Worker, engine_url: str) -> None:
        self._worker = worker
        self._party = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._party.bind((PARTY_HOST, 0))
        host, port = self._party.getsockname()
        self._stream = to_wire(StreamConfig("PCMU", 0, host, port, dtmf_payload_type=101))
        self._engine = to_wire(EngineTarget("websocket", engine_url))
        self._packets = [
            build_rtp(payload_type=0, marker=not k, sequence=k, timestamp=160 * k, ssrc=1, payload=b"\xff" * 160)
            for k in range(2)
        ]
        self.failed = 0

    def run(self, first: int, count: int, at_once: int) -> None:
        send, control = self._worker.socket.sendall, self._worker.control
        waiting: dict[int, str] = {}
        begun = ended = 0
        while ended < count:
            while begun < count and len(waiting) < at_once:
                number = 2 * (first + begun) + 1_000_000
                leg = f"c{number}"
                open_command = {"cmd": "open", "id": number, "leg": leg, "stream": self._stream, "engine": self._engine}
                send(encode_line(open_command))
                waiting[number] = leg
                begun += 1
            for number, reply in control.take_replies():
                leg = waiting.pop(number)
                if number % 2:
                    ended += 1
                elif not reply["ok"]:
                    self.failed += 1
                    ended += 1
                else:
                    for packet in self._packets:
                        self._party.sendto(packet, (reply["host"], reply["port"]))
                    waiting[number + 1] = leg
                    send(encode_line({"cmd": "release", "id": number + 1, "leg": leg}))


def run_row(options: argparse.Namespace) -> list[dict[str, Any]]:
    listener = socket.create_server((ENGINE_HOST, 0), backlog=4096)
    engine = multiprocessing.get_context("fork").Process(target=serve_engines, args=(listener,), daemon=True)
    engine.start()
    worker = Worker("10000-59999")
    results = []
    try:
        row = Row(worker, "ws://{}:{}/".format(*listener.getsockname()))
        part = max(1, options.calls // PARTS)
        for first in range(0, part * PARTS, part):
            started = time.monotonic()
            row.run(first, part, options.at_once)
            rate = part / (time.monotonic() - started)
            time.sleep(0.5)  # good-byes linger
            results.append({"calls": first + part, "failed": row.failed, "per_s": round(rate), **worker.state()})
            print(json.dumps(results[-1]), flush=True)
        results[-1]["legs"] = worker.control.command("ping")["legs"]
        return results
    finally:
        worker.close()
        engine.terminate()


def run_hold(options: argparse.Namespace) -> list[dict[str, Any]]:
    results = []
    with tempfile.TemporaryDirectory() as directory:
        targets = Path(directory) / "targets"
        targets.touch()
        limit = int(options.minutes * 60 + options.calls / 20 + 120)
        generator = LoadGenerator(options.calls, Path(directory), "-f", str(targets), limit=limit, rate=16000)
        worker = Worker("30000-39999")
        try:
            with targets.open("a") as followed:
                for i in range(options.calls):
                    port = CALLER_PORT + 2 * i
                    stream = StreamConfig("PCMU", 0, CALLER_HOST, port, dtmf_payload_type=101)
                    target = EngineTarget("websocket", f"ws://{CALLER_HOST}:{ENGINE_PORT}/", start={"call_id": f"c{i}"})
                    reply = worker.control.command("open", leg=f"c{i}", stream=to_wire(stream), engine=to_wire(target))
                    if not reply["ok"]:
                        raise SystemExit(f"open: {reply}")
                    followed.write(f"{port} {reply['host']} {reply['port']}\n")
                    followed.flush()
                    time.sleep(0.01)
            time.sleep(5)
            for part in range(PARTS):
                line = generator.window(options.minutes * 60 / PARTS)
                worker.control.read_waiting()
                minutes = round((part + 1) * options.minutes / PARTS, 1)
                result = {"minutes": minutes, "late20_pct": line["late20_pct"], "down_ms": line["down_ms"]}
                results.append({**result, **worker.state()})
                print(json.dumps(results[-1]), flush=True)
            return results
        finally:
            worker.close()
            generator.stop()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["row", "hold"])
    parser.add_argument("calls", type=int)
    parser.add_argument("--at-once", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=60)
    options = parser.parse_args()
    results = run_row(options) if options.what == "row" else run_hold(options)
    growth = {key: results[-1][key] - results[0][key] for key in ("pss_kib", "descriptors")}
    print(json.dumps({"what": options.what, "calls": options.calls, "growth": growth, "last": results[-1]}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
