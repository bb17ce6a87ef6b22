"""Engines behind TLS: a real wss server with a certificate made for the test."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.sync.server import ServerConnection

from media.engines.session import MAX_AUDIO_QUEUED, WOULD_BLOCK, SessionState
from media.engines.ws import FrameBlock
from tests.media.engines.test_session import Bench
from tests.media.support import Caller, EngineServer, WorkerProcess, from_ulaw, peak_hz, sine, ulaw

ENGINE_HOST = "127.0.77.3"


def make_certificate(directory: Path, name: str, address: str) -> Path:
    """A self-signed certificate and its key in one PEM file, which is its own authority."""
    openssl = shutil.which("openssl")
    assert openssl is not None, "these tests need the openssl program"
    key, certificate = directory / f"{name}.key", directory / f"{name}.crt"
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", f"/CN={name}"]
    command += ["-addext", f"subjectAltName=IP:{address}"]
    subprocess.run(command, check=True, capture_output=True)
    both = directory / f"{name}.pem"
    both.write_bytes(key.read_bytes() + certificate.read_bytes())
    return both


def server_context(pem: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("tls")
    make_certificate(made, "engine", ENGINE_HOST)
    make_certificate(made, "elsewhere", "127.0.77.99")
    return made


@pytest.fixture(scope="module")
def worker() -> Iterator[WorkerProcess]:
    process = WorkerProcess("41400-41499")
    yield process
    assert process.close() == 0


@pytest.fixture
def caller() -> Iterator[Caller]:
    party = Caller()
    yield party
    party.close()


def test_audio_and_events_go_both_ways_over_tls(worker: WorkerProcess, caller: Caller, directory: Path) -> None:
    pem = directory / "engine.pem"
    engine = EngineServer(ssl=server_context(pem))
    assert engine.url.startswith("wss:")
    try:
        reply = worker.open("tls", caller.stream(), engine.url, ca_file=str(pem), start={"call_id": "c"})
        assert reply["ok"], reply
        caller.target = (reply["host"], reply["port"])
        assert engine.wait_text("start")["call_id"] == "c"
        heard = bytearray()
        for i in range(40):
            caller.send(ulaw(sine(1000, 160, start=160 * i)))
            heard += caller.receive().payload
        engine.wait_audio(40)
        assert {len(frame) for frame in engine.audio} == {640}
        assert peak_hz(np.frombuffer(b"".join(engine.audio[5:35]), "<i2"), 16000) == pytest.approx(1000, abs=10)
        assert peak_hz(from_ulaw(bytes(heard[20 * 160 :])), 8000) == pytest.approx(1000, abs=20)
        stats = worker.command("release", leg="tls", reason="done")["stats"]
        assert stats["engine_dropped_frames"] == 0
        assert engine.wait_text("stop")["reason"] == "done"
    finally:
        engine.close()


def test_long_speech_over_tls_is_complete(worker: WorkerProcess, caller: Caller, directory: Path) -> None:
    """More than one TLS record and more than one read at a time."""

    def behaviour(server: EngineServer, connection: ServerConnection) -> None:
        connection.send(bytes(2 * 16000 * 20))
        connection.send(json.dumps({"event": "mark", "name": "end"}))
        connection.send(json.dumps({"event": "clear"}))
        server.listen(connection)

    pem = directory / "engine.pem"
    engine = EngineServer(behaviour, ssl=server_context(pem))
    try:
        assert worker.open("long", caller.stream(), engine.url, ca_file=str(pem))["ok"]
        assert engine.wait_text("mark") == {"event": "mark", "name": "end", "played": False}
        assert engine.wait_text("cleared")
        worker.command("release", leg="long", reason="done")
    finally:
        engine.close()


class DeafServer(threading.Thread):
    """Accepts one engine connection and reads nothing until told to, then everything to the end."""

    def __init__(self, pem: Path) -> None:
        super().__init__()
        self.listener = socket.create_server((ENGINE_HOST, 0))
        self._context = server_context(pem)
        self.may_read = threading.Event()
        self.core = ServerProtocol(max_size=None)
        self.frames: list[Frame] = []

    def run(self) -> None:
        accepted, _ = self.listener.accept()
        with self._context.wrap_socket(accepted, server_side=True) as sock:
            while not (events := self.core.events_received()):
                self.core.receive_data(sock.recv(65536))
            self.core.send_response(self.core.accept(cast(Request, events[0])))
            sock.sendall(b"".join(self.core.data_to_send()))
            assert self.may_read.wait(5)
            while received := sock.recv(65536):
                self.core.receive_data(received)
                self.frames += cast(list[Frame], self.core.events_received())


def test_a_tls_connection_that_was_full_stays_whole(directory: Path) -> None:
    """What OpenSSL could not send must be offered again unchanged, though older audio was dropped meanwhile."""
    pem = directory / "engine.pem"
    server = DeafServer(pem)
    server.start()
    bench = Bench()
    try:
        host, port = server.listener.getsockname()
        session = bench.session(url=f"wss://{host}:{port}/", ca_file=str(pem))
        session.start(bench.resolver)
        while session.state is not SessionState.OPEN:
            bench.urgent.wait()
        block = FrameBlock(1, 640)
        sent = 0
        while "blocked" not in bench.user.said:
            block.write(np.full((1, 320), sent, np.int16), b"mask")
            try:
                n = cast(socket.socket, session.sock).send(block.views[0])
            except WOULD_BLOCK:
                n = 0
            if n != block.size:
                session.queue_rest(block.views[0], n)
            sent += 1
        session.send_text('{"event":"short"}')  # never dropped; would be offered in place of a frame that was
        for _ in range(2 * MAX_AUDIO_QUEUED):
            block.write(np.full((1, 320), sent, np.int16), b"mask")
            session.queue_audio(block.views[0])
            sent += 1
        dropped = session.dropped_frames
        assert dropped == MAX_AUDIO_QUEUED + 1
        server.may_read.set()
        while "free" not in bench.user.said:
            assert bench.media.poll(5)
            session.write_ready()
        session.close("done")
        server.join(5)
    finally:
        server.may_read.set()
        bench.close()
        server.join(5)
        server.listener.close()
    numbers = [int.from_bytes(bytes(f.data[:2]), "little") for f in server.frames if f.opcode is Opcode.BINARY]
    first = sent - 2 * MAX_AUDIO_QUEUED
    assert numbers == [*range(first), *range(first + dropped, sent)]
    texts = [json.loads(bytes(f.data))["event"] for f in server.frames if f.opcode is Opcode.TEXT]
    assert texts == ["start", "short", "stop"]
    assert server.frames[-1].opcode is Opcode.CLOSE


def test_a_certificate_nobody_vouches_for_is_refused(worker: WorkerProcess, caller: Caller, directory: Path) -> None:
    engine = EngineServer(ssl=server_context(directory / "engine.pem"))
    try:
        reply = worker.open("unknown", caller.stream(), engine.url)
        assert reply["error"] == "engine_refused"
        assert "CERTIFICATE_VERIFY_FAILED" in reply["detail"]
    finally:
        engine.close()


def test_a_certificate_for_another_host_is_refused(worker: WorkerProcess, caller: Caller, directory: Path) -> None:
    pem = directory / "elsewhere.pem"
    engine = EngineServer(ssl=server_context(pem))
    try:
        reply = worker.open("other", caller.stream(), engine.url, ca_file=str(pem))
        assert reply["error"] == "engine_refused"
        assert "CERTIFICATE_VERIFY_FAILED" in reply["detail"]
    finally:
        engine.close()


@pytest.mark.parametrize("ca_file", ["/nowhere.pem", 5])
def test_a_file_of_authorities_that_cannot_be_read(worker: WorkerProcess, caller: Caller, ca_file: object) -> None:
    reply = worker.open("nofile", caller.stream(), "wss://127.0.77.3:1/", ca_file=ca_file)
    assert reply["error"] == "engine_rejected"
    assert "ca_file" in reply["detail"]


def test_an_engine_without_tls_is_refused(worker: WorkerProcess, caller: Caller) -> None:
    engine = EngineServer()
    try:
        reply = worker.open("plain", caller.stream(), engine.url.replace("ws:", "wss:"))
        assert reply["error"] == "engine_refused"
        assert worker.command("ping")["legs"] == 0
    finally:
        engine.close()
