"""Helpers of the media tests: signals, a fake caller, an engine in a thread, a worker process."""

from __future__ import annotations

import json
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import Server, ServerConnection, serve

from media import g711
from media.control import EngineTarget, LineReader, StreamConfig, encode_line, to_wire
from media.rtp import RtpPacket, build_rtp, parse_rtp_untrusted

HOST = "127.0.77.1"
"""Own loopback addresses, so that runs side by side do not collide."""
CALLER = "127.0.77.2"
PATIENCE_S = 5.0

ULAW = np.zeros(1, np.uint8)


def sine(
    frequency_hz: float, n: int, rate_hz: int = 8000, amplitude: float = 8000, start: int = 0
) -> NDArray[np.float32]:
    t = (np.arange(n) + start) / rate_hz
    wave: NDArray[np.float32] = (amplitude * np.sin(2 * np.pi * frequency_hz * t)).astype(np.float32)
    return wave


def ulaw(samples: NDArray[np.float32]) -> bytes:
    return g711.encode(samples[None, :].copy(), ULAW).tobytes()


def from_ulaw(codes: bytes) -> NDArray[np.float32]:
    samples: NDArray[np.float32] = g711.decode(np.frombuffer(codes, np.uint8)[None, :], ULAW)[0]
    return samples


def peak_hz(samples: NDArray[Any], rate_hz: int) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * rate_hz / len(samples))


class EngineServer:
    """An ims-as.v1 engine in a thread; ``behaviour`` runs for each connection.

    Attributes:
        texts: every text frame received, decoded, in order.
        audio: every binary frame received.
    """

    def __init__(
        self, behaviour: Callable[[EngineServer, ServerConnection], None] | None = None, **options: Any
    ) -> None:
        self.texts: list[dict[str, Any]] = []
        self.audio: list[bytes] = []
        self._changed = threading.Condition()
        self._behaviour = behaviour or EngineServer.echo
        options.setdefault("subprotocols", ["ims-as.v1"])
        self._scheme = "wss" if "ssl" in options else "ws"
        self.server: Server = serve(
            self._serve, "127.0.77.3", 0, compression=None, ping_interval=None, close_timeout=0.2, **options
        )
        self._thread = threading.Thread(target=self.server.serve_forever)
        self._thread.start()

    @property
    def url(self) -> str:
        host, port = self.server.socket.getsockname()[:2]
        return f"{self._scheme}://{host}:{port}/"

    def _serve(self, connection: ServerConnection) -> None:
        try:
            self._behaviour(self, connection)
        except (ConnectionClosed, OSError) as error:
            del error

    def note(self, message: str | bytes) -> None:
        with self._changed:
            if isinstance(message, str):
                self.texts.append(json.loads(message))
            else:
                self.audio.append(message)
            self._changed.notify_all()

    def echo(self, connection: ServerConnection) -> None:
        for message in connection:
            if isinstance(message, bytes):
                connection.send(message)
            self.note(message)

    def listen(self, connection: ServerConnection) -> None:
        for message in connection:
            self.note(message)

    def wait_text(self, event: str) -> dict[str, Any]:
        def found() -> dict[str, Any] | None:
            return next((t for t in self.texts if t["event"] == event), None)

        with self._changed:
            assert self._changed.wait_for(lambda: found() is not None, PATIENCE_S), (event, self.texts)
        result = found()
        assert result is not None
        return result

    def wait_audio(self, n_frames: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.audio) >= n_frames, PATIENCE_S), len(self.audio)

    def close(self) -> None:
        self.server.shutdown()
        self._thread.join(PATIENCE_S)


class Caller:
    """A party with a UDP socket: sends and receives single packets."""

    def __init__(self, host: str = CALLER) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind((host, 0))
        self.sock.settimeout(PATIENCE_S)
        self.host, self.port = self.sock.getsockname()
        self.sequence, self.timestamp, self.ssrc = 65530, 4294967000, 7
        self.target: tuple[str, int] = ("", 0)

    def send(self, payload: bytes = b"\xff" * 160, payload_type: int = 0, step: int = 160) -> None:
        packet = build_rtp(
            payload_type=payload_type,
            marker=False,
            sequence=self.sequence,
            timestamp=self.timestamp,
            ssrc=self.ssrc,
            payload=payload,
        )
        self.sock.sendto(packet, self.target)
        self.sequence = (self.sequence + 1) & 0xFFFF
        self.timestamp = (self.timestamp + step) & 0xFFFFFFFF

    def receive(self) -> RtpPacket:
        return parse_rtp_untrusted(self.sock.recv(2048))

    def receive_until(self, wanted: Callable[[RtpPacket], bool], limit: int = 250) -> RtpPacket:
        for _ in range(limit):
            packet = self.receive()
            if wanted(packet):
                return packet
        raise AssertionError("no such packet")

    def stream(self, **fields: Any) -> StreamConfig:
        defaults: dict[str, Any] = {
            "codec": "PCMU",
            "payload_type": 0,
            "remote_host": self.host,
            "remote_port": self.port,
            "dtmf_payload_type": 101,
        }
        return StreamConfig(**{**defaults, **fields})

    def close(self) -> None:
        self.sock.close()


class WorkerProcess:
    """A real worker with its control channel."""

    def __init__(self, ports: str = "41000-41199") -> None:
        self.sock, theirs = socket.socketpair()
        self.sock.settimeout(PATIENCE_S)
        command = [sys.executable, "-m", "media.worker", "--control-fd", str(theirs.fileno())]
        command += ["--address", HOST, "--ports", ports]
        self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        theirs.close()
        self._reader = LineReader()
        self._number = 0
        self.events: list[dict[str, Any]] = []
        self._replies: dict[int, dict[str, Any]] = {}

    def post(self, cmd: str, **fields: object) -> int:
        self._number += 1
        self.sock.sendall(encode_line({"cmd": cmd, "id": self._number, **fields}))
        return self._number

    def wait_reply(self, number: int) -> dict[str, Any]:
        while number not in self._replies:
            self._read()
        return self._replies.pop(number)

    def command(self, cmd: str, **fields: object) -> dict[str, Any]:
        return self.wait_reply(self.post(cmd, **fields))

    def open(self, leg: str, stream: StreamConfig, url: str | None = None, **engine: Any) -> dict[str, Any]:
        target = None if url is None else to_wire(EngineTarget(type="websocket", url=url, **engine))
        return self.command("open", leg=leg, stream=to_wire(stream), engine=target)

    def wait_event(self, name: str, leg: str | None = None, **fields: object) -> dict[str, Any]:
        """The first such event that was not taken before."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            for event in self.events:
                wanted = {"ev": name, **({"leg": leg} if leg else {}), **fields}
                if all(event.get(k) == v for k, v in wanted.items()):
                    self.events.remove(event)
                    return event
            if select.select([self.sock], [], [], 0.5)[0]:
                self._read()
        raise AssertionError(f"no event {name}: {self.events}")

    def _read(self) -> None:
        chunk = self.sock.recv(65536)
        if not chunk:
            raise EOFError("worker closed the channel")
        for message in self._reader.receive_bytes(chunk):
            if "re" in message:
                self._replies[message["re"]] = message
            else:
                self.events.append(message)

    def close(self) -> int:
        self.sock.close()
        try:
            return self.process.wait(PATIENCE_S)
        finally:
            if self.process.returncode is None:
                self.process.kill()
                self.process.wait()
