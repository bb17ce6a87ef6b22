"""The connection of an engine under bad conditions: an engine that does not read, that hangs, that speaks TLS badly."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.server import ServerProtocol

from media.control import EngineTarget
from media.engines.base import EngineEvent
from media.engines.session import (
    MAX_AUDIO_QUEUED,
    STUCK_S,
    EngineFailure,
    EngineSession,
    SessionState,
    UnknownEngineError,
)
from media.io import Lingerer, Resolver, UrgentPoll

FRAME = memoryview(b"\x82\xfe" + bytes(646))


class User:
    """Collects what a session says."""

    def __init__(self) -> None:
        self.said: list[Any] = []

    def engine_open(self, session: EngineSession) -> None:
        self.said.append("open")

    def engine_event(self, session: EngineSession, event: EngineEvent) -> None:
        self.said.append(event)

    def engine_failed(self, session: EngineSession, failure: EngineFailure, was_open: bool) -> None:
        self.said.append((failure.code, was_open))

    def engine_clean(self, session: EngineSession, is_clean: bool) -> None:
        self.said.append(is_clean)

    def engine_blocked(self, session: EngineSession, is_blocked: bool) -> None:
        self.said.append("blocked" if is_blocked else "free")


class Bench:
    """A session against a raw server socket, all in one thread."""

    def __init__(self) -> None:
        self.urgent = UrgentPoll()
        self.media = select.epoll()
        self.lingerer = Lingerer(self.urgent)
        self.resolver = Resolver(self.urgent)
        self.user = User()
        self.listener = socket.socket()
        self.listener.bind(("127.0.77.21", 0))
        self.listener.listen()
        self.peer: socket.socket | None = None

    def session(self, **target: Any) -> EngineSession:
        host, port = self.listener.getsockname()
        fields: dict[str, Any] = {"type": "websocket", "url": f"ws://{host}:{port}/", **target}
        return EngineSession(
            EngineTarget(**fields), self.user, self.urgent, self.media, self.lingerer, time.monotonic()
        )

    def connect(self) -> EngineSession:
        session = self.session()
        session.start(self.resolver)
        self.peer, _ = self.listener.accept()
        self.peer.settimeout(2)
        while session.state is not SessionState.HANDSHAKE:
            self.urgent.wait()
        server = ServerProtocol()
        server.receive_data(self.peer.recv(65536))
        server.send_response(server.accept(server.events_received()[0]))  # type: ignore[arg-type]
        self.peer.sendall(b"".join(server.data_to_send()))
        while session.state is not SessionState.OPEN:
            self.urgent.wait()
        return session

    def close(self) -> None:
        for end in (self.listener, self.peer):
            if end is not None:
                end.close()
        self.lingerer.handle_timer(time.monotonic() + 10)
        self.media.close()
        self.urgent.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.close()


def fill(session: EngineSession) -> int:
    """Sends as the plane does until the socket takes no more, and ``MAX_AUDIO_QUEUED`` frames beyond."""
    assert session.sock is not None
    for n in range(10000):
        try:
            sent = session.sock.send(FRAME)
        except BlockingIOError:
            sent = 0
        if sent != len(FRAME):
            session.queue_rest(FRAME, sent)
            return n
    raise AssertionError("the socket never fills")


def test_an_engine_that_does_not_read_loses_old_audio_only(bench: Bench) -> None:
    session = bench.connect()
    taken = fill(session)
    assert bench.user.said[-1] == "blocked"
    for _ in range(MAX_AUDIO_QUEUED * 3):
        assert session.queue_audio(FRAME) == len(FRAME)
    assert session.dropped_frames >= MAX_AUDIO_QUEUED
    session.send_text('{"event":"hold"}')
    received = bytearray()
    assert bench.peer is not None
    bench.peer.settimeout(0.05)
    while not received.endswith(b"}") and bench.user.said[-1] != "free":
        try:
            received += bench.peer.recv(1 << 20)
        except TimeoutError:
            session.write_ready()
    bench.peer.settimeout(0.2)
    try:
        while chunk := bench.peer.recv(1 << 20):
            received += chunk
    except TimeoutError:
        session.write_ready()
    frames = received.count(b"\x82\xfe")
    assert frames >= taken
    assert session.state is SessionState.OPEN
    session.close("done")


def test_an_engine_that_stays_stuck_is_lost(bench: Bench) -> None:
    session = bench.connect()
    fill(session)
    now = time.monotonic()
    session.handle_timer(now)
    session.handle_timer(now + STUCK_S - 0.1)
    assert session.state is SessionState.OPEN
    session.handle_timer(now + STUCK_S)
    assert bench.user.said[-1] == ("timeout", True)
    assert session.state is SessionState.CLOSED


def test_text_without_end_is_not_kept(bench: Bench) -> None:
    session = bench.connect()
    fill(session)
    for _ in range(30):
        session.send_text("x" * 16000)
    assert bench.user.said[-1] == ("timeout", True)


def test_a_hanging_handshake_times_out(bench: Bench) -> None:
    session = bench.session(connect_timeout_ms=100)
    session.start(bench.resolver)
    session.handle_timer(session.started_at + 0.09)
    assert bench.user.said == []
    session.handle_timer(session.started_at + 0.1)
    assert bench.user.said == [("engine_timeout", False)]
    assert session.sock is not None
    assert session.sock.fileno() == -1


def test_a_dead_engine_is_noticed(bench: Bench) -> None:
    session = bench.connect()
    assert bench.peer is not None
    bench.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    bench.peer.close()
    assert bench.media.poll(2)
    session.receive_ready()
    assert bench.user.said[-1] == ("error", True)
    session.close("again")
    assert bench.user.said[-1] == ("error", True)


def test_the_last_word_arrives_though_audio_was_unread(bench: Bench) -> None:
    session = bench.connect()
    assert bench.peer is not None
    bench.peer.recv(65536)
    bench.peer.sendall(b"\x82\x7e\x02\x80" + bytes(640))
    session.close("goodbye")
    received = b""
    while chunk := bench.peer.recv(65536):
        received += chunk
    assert received[0] == 0x81
    assert b"\x88\x82" in received


@pytest.mark.parametrize("fields", [{"type": "pigeon"}, {"url": "ftp://x"}, {"url": "ws://"}])
def test_what_we_cannot_speak(bench: Bench, fields: dict[str, str]) -> None:
    with pytest.raises(UnknownEngineError):
        bench.session(**fields)


def test_tls_with_a_peer_that_does_not_speak_it(bench: Bench) -> None:
    host, port = bench.listener.getsockname()
    session = bench.session(url=f"wss://{host}:{port}/")
    session.start(bench.resolver)
    bench.peer, _ = bench.listener.accept()
    bench.peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    while session.state is not SessionState.CLOSED:
        bench.urgent.wait()
    assert bench.user.said == [("engine_refused", False)]
