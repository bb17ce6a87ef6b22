"""The worker process as a whole: control channel, real UDP, a real WebSocket engine."""

from __future__ import annotations

import json
import os
import socket
import time
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from websockets.sync.server import ServerConnection

from media.control import to_wire
from tests.media.support import CALLER, Caller, EngineServer, WorkerProcess, from_ulaw, peak_hz, sine, ulaw


@pytest.fixture(scope="module")
def worker() -> Iterator[WorkerProcess]:
    process = WorkerProcess()
    yield process
    assert process.close() == 0


@pytest.fixture
def caller() -> Iterator[Caller]:
    party = Caller()
    yield party
    party.close()


def open_call(worker: WorkerProcess, caller: Caller, leg: str, url: str | None, **engine: object) -> None:
    reply = worker.open(leg, caller.stream(), url, **engine)
    assert reply["ok"], reply
    caller.target = (reply["host"], reply["port"])


def test_audio_goes_both_ways(worker: WorkerProcess, caller: Caller) -> None:
    engine = EngineServer()
    try:
        open_call(worker, caller, "echo", engine.url, start={"call_id": "c1", "from": "sip:a@b"})
        start = engine.wait_text("start")
        assert start["call_id"] == "c1"
        assert start["rate"] == 16000
        assert start["encoding"] == "pcm_s16le"
        heard = bytearray()
        for i in range(50):  # speech only once the echo is heard: it would begin a turn of the caller's
            caller.send(ulaw(sine(1000, 160, start=160 * i) * (i >= 10)))
            heard += caller.receive().payload
        engine.wait_audio(50)
        uplink = np.frombuffer(b"".join(engine.audio[15:45]), "<i2")
        assert {len(frame) for frame in engine.audio} == {640}
        assert peak_hz(uplink, 16000) == pytest.approx(1000, abs=10)
        assert np.abs(uplink).max() == pytest.approx(8000, rel=0.1)
        loud = from_ulaw(bytes(heard[30 * 160 :]))
        assert peak_hz(loud, 8000) == pytest.approx(1000, abs=20)
        assert worker.wait_event("first_rtp", "echo")["source"] == f"{CALLER}:{caller.port}"
        assert worker.wait_event("first_audio", "echo")["ttfb_ms"] >= 0
        stats = worker.command("release", leg="echo", reason="done")["stats"]
        assert stats["packets_in"] == 50
        assert stats["lost"] == stats["late"] == stats["concealed_ms"] == 0
        assert engine.wait_text("stop")["reason"] == "done"
    finally:
        engine.close()


def test_a_gap_is_concealed_and_nothing_else_is_lost(worker: WorkerProcess, caller: Caller) -> None:
    engine = EngineServer(EngineServer.listen)
    try:
        open_call(worker, caller, "gap", engine.url)
        for i in range(30):
            if i in (10, 11):  # lost
                caller.sequence = (caller.sequence + 1) & 0xFFFF
                caller.timestamp = (caller.timestamp + 160) & 0xFFFFFFFF
                continue
            caller.send(ulaw(sine(400, 160, start=160 * i)))
            caller.receive()
        engine.wait_audio(30)
        stats = worker.command("stats", leg="gap")["stats"]
        assert stats["lost"] == 2
        assert stats["concealed_ms"] >= 40
        uplink = np.frombuffer(b"".join(engine.audio[2:28]), "<i2").astype(float)
        frames = uplink[: 26 * 320].reshape(-1, 320)
        assert np.sqrt((frames**2).mean(axis=1)).min() > 1000, "a hole where the loss was"
    finally:
        worker.command("release", leg="gap", reason="done")
        engine.close()


def test_rtp_of_strangers_and_garbage_is_dropped_and_counted(worker: WorkerProcess, caller: Caller) -> None:
    engine = EngineServer(EngineServer.listen)
    stranger = Caller("127.0.77.9")
    try:
        open_call(worker, caller, "stranger", engine.url)
        stranger.target = caller.target
        for garbage in (b"", b"\x80", b"\x00" * 172, os.urandom(1400), b"\xff" * 20, b"\x1f" + bytes(171)):
            stranger.sock.sendto(garbage, stranger.target)
        caller.send()
        worker.wait_event("first_rtp", "stranger")
        for _ in range(3):
            stranger.send(ulaw(sine(1000, 160)))
            caller.send()
            caller.receive()
        for i in range(20):
            caller.sock.sendto(b"\x80\x00" + os.urandom(i), caller.target)
            stranger.send(ulaw(sine(1000, 160)))
            caller.send()
            caller.receive()
        engine.wait_audio(23)
        stats = worker.command("release", leg="stranger", reason="done")["stats"]
        assert stats["stranger"] >= 3
        assert stats["invalid"] >= 4
        loudest = max(int(np.abs(np.frombuffer(f, "<i2").astype(int)).max()) for f in engine.audio)
        assert loudest < 100, "the stranger was heard"
    finally:
        stranger.close()
        engine.close()


def test_symmetric_rtp_follows_the_real_source(worker: WorkerProcess, caller: Caller) -> None:
    signalled = Caller("127.0.77.8")
    reply = worker.open("nat", signalled.stream())
    caller.target = (reply["host"], reply["port"])
    try:
        assert signalled.receive().payload == b"\xff" * 160
        caller.send()
        assert caller.receive().payload_type == 0
    finally:
        worker.command("release", leg="nat", reason="done")
        signalled.close()


def test_dtmf_reaches_engine_and_signalling_once(worker: WorkerProcess, caller: Caller) -> None:
    engine = EngineServer(EngineServer.listen)
    try:
        open_call(worker, caller, "digits", engine.url)
        caller.send()
        for duration in (160, 320, 480):
            caller.send(bytes([5, 10]) + duration.to_bytes(2, "big"), payload_type=101, step=0)
        for _ in range(3):
            caller.send(bytes([5, 0x8A]) + (640).to_bytes(2, "big"), payload_type=101, step=0)
        told = worker.wait_event("dtmf", "digits")
        assert told == {"ev": "dtmf", "leg": "digits", "digit": "5", "duration_ms": 80, "source": "rtp"}
        assert engine.wait_text("dtmf") == {"event": "dtmf", "digit": "5", "duration_ms": 80}
        assert worker.command("dtmf", leg="digits", digits="9#")["ok"]
        events = [caller.receive_until(lambda p: p.payload_type == 101)]
        while len(events) < 14:
            packet = caller.receive()
            if packet.payload_type == 101:
                events.append(packet)
        assert [p.payload[0] for p in events] == [9] * 7 + [11] * 7
        assert len({p.timestamp for p in events}) == 2
        assert [bool(p.payload[1] & 0x80) for p in events[:7]] == [False] * 4 + [True] * 3
        assert worker.command("dtmf", leg="digits", digits="x")["error"] == "bad_command"
        assert worker.command("release", leg="digits", reason="done")["stats"]["dtmf_in"] == 1
    finally:
        engine.close()


def test_clear_silences_at_once_and_reports_the_position(worker: WorkerProcess, caller: Caller) -> None:
    def behaviour(server: EngineServer, connection: ServerConnection) -> None:
        tone = sine(500, 16000 * 5, 16000).astype("<i2").tobytes()
        connection.send(tone)
        connection.send(json.dumps({"event": "mark", "name": "end"}))
        for message in connection:
            server.note(message)
            if isinstance(message, bytes) and len(server.audio) == 10:
                connection.send(json.dumps({"event": "clear"}))

    engine = EngineServer(behaviour)
    try:
        open_call(worker, caller, "barge", engine.url)
        loud = 0
        for _ in range(10):
            caller.send()
            loud += int(np.abs(from_ulaw(caller.receive().payload)).max() > 1000)
        cleared_at = time.monotonic()
        caller.receive_until(lambda p: p.payload == b"\xff" * 160)
        assert time.monotonic() - cleared_at < 0.08
        cleared = engine.wait_text("cleared")
        assert cleared["played_ms"] % 20 == 0
        assert 100 <= cleared["played_ms"] <= 400
        assert engine.wait_text("mark") == {"event": "mark", "name": "end", "played": False}
        assert worker.wait_event("barge_in", "barge")["played_ms"] == cleared["played_ms"]
    finally:
        worker.command("release", leg="barge", reason="done")
        engine.close()


def test_marks_and_hangup_wait_for_what_was_said(worker: WorkerProcess, caller: Caller) -> None:
    def behaviour(server: EngineServer, connection: ServerConnection) -> None:
        connection.send(sine(500, 16000 // 5, 16000).astype("<i2").tobytes())
        connection.send(json.dumps({"event": "mark", "name": "said"}))
        connection.send(json.dumps({"event": "hangup", "reason": "bye"}))
        server.listen(connection)

    engine = EngineServer(behaviour)
    try:
        started = time.monotonic()
        open_call(worker, caller, "bye", engine.url)
        assert worker.wait_event("drained", "bye")["reason"] == "bye"
        # ten frames: the last leaves 180 ms after the first, or up to 15 ms and one sub-tick sooner (media.downlink)
        assert time.monotonic() - started >= 0.18 - 0.015 - 0.005
        assert engine.wait_text("mark") == {"event": "mark", "name": "said", "played": True}
    finally:
        worker.command("release", leg="bye", reason="done")
        engine.close()


def test_a_good_bye_is_played_though_the_engine_closed(worker: WorkerProcess, caller: Caller) -> None:
    def behaviour(_server: EngineServer, connection: ServerConnection) -> None:
        connection.send(sine(500, 16000 // 5, 16000).astype("<i2").tobytes())
        connection.send(json.dumps({"event": "hangup", "reason": "bye"}))

    engine = EngineServer(behaviour)
    try:
        open_call(worker, caller, "closes", engine.url)
        loud = sum(np.abs(from_ulaw(caller.receive().payload)).max() > 1000 for _ in range(16))
        assert loud in (10, 11)  # the last one is the fade
        assert worker.wait_event("drained", "closes")["reason"] == "bye"
        assert not [e for e in worker.events if e["ev"] == "engine_lost" and e["leg"] == "closes"]
    finally:
        worker.command("release", leg="closes", reason="done")
        engine.close()


def test_a_lost_engine_is_replaced_by_filler_until_the_next_speaks(worker: WorkerProcess, caller: Caller) -> None:
    def dies(_server: EngineServer, connection: ServerConnection) -> None:
        connection.recv()
        connection.recv()

    first, second = EngineServer(dies), EngineServer()
    try:
        open_call(worker, caller, "filler", first.url)
        caller.send()
        lost = worker.wait_event("engine_lost", "filler")
        assert lost["cause"] in ("closed", "error")
        assert worker.wait_event("filler", "filler", on=True)
        caller.receive_until(lambda p: np.abs(from_ulaw(p.payload)).max() > 300)
        target = {"type": "websocket", "url": second.url}
        assert worker.command("attach", leg="filler", engine=target)["ok"]
        caller.send(ulaw(sine(450, 160)))
        assert worker.wait_event("filler", "filler", on=False)
        assert worker.wait_event("first_audio", "filler")
    finally:
        worker.command("release", leg="filler", reason="done")
        first.close()
        second.close()


def test_engines_that_fail_to_come_up(worker: WorkerProcess, caller: Caller) -> None:
    closed = socket.socket()
    closed.bind(("127.0.77.3", 0))
    refused = f"ws://127.0.77.3:{closed.getsockname()[1]}/"
    silent = socket.socket()
    silent.bind(("127.0.77.3", 0))
    silent.listen()
    hanging = f"ws://127.0.77.3:{silent.getsockname()[1]}/"
    try:
        started = time.monotonic()
        assert worker.open("f1", caller.stream(), refused)["error"] == "engine_refused"
        assert time.monotonic() - started < 0.05
        assert worker.open("f2", caller.stream(), hanging, connect_timeout_ms=60)["error"] == "engine_timeout"
        assert worker.open("f3", caller.stream(), "http://x/")["error"] == "engine_rejected"
        assert worker.open("f4", caller.stream(codec="OPUS"))["error"] == "bad_command"
        assert worker.open("f4", caller.stream(remote_port="x"))["error"] == "bad_command"
        assert worker.open("f4", caller.stream(remote_host="nowhere"))["error"] == "bad_command"
        assert worker.open("f5", caller.stream(host="192.0.2.1"))["error"] == "no_port"
        kept = worker.command(
            "open",
            leg="f6",
            stream=to_wire(caller.stream()),
            engine={"type": "websocket", "url": refused},
            keep=True,
        )
        assert kept["error"] == "engine_refused"
        assert kept["port"]
        assert worker.command("release", leg="f6", reason="done")["ok"]
        assert worker.command("ping")["legs"] == 0
    finally:
        closed.close()
        silent.close()


def test_ready_by_event(worker: WorkerProcess, caller: Caller) -> None:
    def behaviour(server: EngineServer, connection: ServerConnection) -> None:
        server.note(connection.recv())
        connection.send(json.dumps({"event": "ready"}))
        server.listen(connection)

    eager, never = EngineServer(behaviour), EngineServer(EngineServer.listen)
    try:
        assert worker.open("r1", caller.stream(), eager.url, ready="event")["engine_ms"] > 0
        reply = worker.open("r2", caller.stream(), never.url, ready="event", connect_timeout_ms=80)
        assert reply["error"] == "engine_timeout"
    finally:
        worker.command("release", leg="r1", reason="done")
        eager.close()
        never.close()


def test_engine_garbage_is_survived_and_counted(worker: WorkerProcess, caller: Caller) -> None:
    def behaviour(server: EngineServer, connection: ServerConnection) -> None:
        for text in ("{", "[]", '{"event":"no such"}', '{"event":"mark"}', "[" * 10000, '{"event":"x' + "y" * 20000):
            connection.send(text)
        connection.send(b"odd")
        connection.send(json.dumps({"event": "transcript", "role": "agent", "text": "z" * 10000, "final": True}))
        server.echo(connection)

    engine = EngineServer(behaviour)
    try:
        open_call(worker, caller, "rubbish", engine.url)
        event = worker.wait_event("engine_event", "rubbish")["event"]
        assert event["event"] == "transcript"
        assert len(event["text"]) == 8192
        for i in range(5):
            caller.send(ulaw(sine(1000, 160, start=160 * i)))
        caller.receive_until(lambda p: np.abs(from_ulaw(p.payload)).max() > 4000)
        stats = worker.command("release", leg="rubbish", reason="done")["stats"]
        assert stats["engine_unknown_events"] == 1
        assert stats["engine_malformed"] == 5
        assert stats["engine_odd_pcm"] == 1
    finally:
        engine.close()


def test_bridge_joins_two_parties(worker: WorkerProcess, caller: Caller) -> None:
    other = Caller("127.0.77.5")
    try:
        open_call(worker, caller, "a", None)
        open_call(worker, other, "b", None)
        assert worker.command("bridge", leg="a", other="b")["ok"]
        heard = bytearray()
        for i in range(40):
            caller.send(ulaw(sine(700, 160, start=160 * i)))
            other.send()
            heard += other.receive().payload
            caller.receive()
        assert peak_hz(from_ulaw(bytes(heard[20 * 160 :])), 8000) == pytest.approx(700, abs=20)
    finally:
        worker.command("release", leg="a", reason="done")
        worker.command("release", leg="b", reason="done")
        other.close()


def count_until_silence(caller: Caller) -> int:
    """Packets that still come before the socket's time-out."""
    for n in range(50):
        try:
            caller.receive()
        except TimeoutError:
            return n
    raise AssertionError("the stream goes on")


def test_modify_moves_the_stream_and_holds_it(worker: WorkerProcess, caller: Caller) -> None:
    moved = Caller("127.0.77.6")
    try:
        open_call(worker, caller, "moves", None)
        moved.target = caller.target
        for _ in range(12):
            caller.send()
            caller.receive()
        assert worker.command("modify", leg="moves", stream=to_wire(moved.stream(codec="PCMA", payload_type=8)))["ok"]
        assert moved.receive().payload_type == 8
        moved.send(b"\xd5" * 160, payload_type=8)
        assert worker.wait_event("first_rtp", "moves", source=f"127.0.77.6:{moved.port}")
        held = moved.stream(codec="PCMA", payload_type=8, send=False)
        assert worker.command("modify", leg="moves", stream=to_wire(held))["ok"]
        moved.sock.settimeout(0.06)
        assert count_until_silence(moved) < 10
    finally:
        worker.command("release", leg="moves", reason="done")
        moved.close()


def test_silent_party_times_out(worker: WorkerProcess, caller: Caller) -> None:
    reply = worker.open("silent", caller.stream(timeout_ms=120))
    assert reply["ok"]
    assert worker.wait_event("rtp_timeout", "silent")["silent_ms"] >= 120
    assert worker.command("release", leg="silent", reason="done")["ok"]


def test_clip_plays_to_its_end(worker: WorkerProcess, caller: Caller, tmp_path: Path) -> None:
    path = f"{tmp_path}/prompt.wav"
    with wave.open(path, "wb") as writer:
        writer.setparams((1, 2, 16000, 0, "NONE", ""))
        writer.writeframes(sine(600, 3200, 16000).astype("<i2").tobytes())
    open_call(worker, caller, "clip", None)
    assert worker.command("play", leg="clip", clip=path, loop=False)["ok"]
    assert worker.wait_event("played", "clip")
    loud = caller.receive_until(lambda p: np.abs(from_ulaw(p.payload)).max() > 4000)
    assert loud.payload_type == 0
    assert worker.command("play", leg="clip", clip="/nowhere.wav", loop=False)["error"] == "bad_command"
    assert worker.command("play", leg="clip", clip="builtin:ringback", loop=True)["ok"]
    assert worker.command("stop_play", leg="clip")["ok"]
    assert worker.command("release", leg="clip", reason="done")["ok"]


def test_bad_commands_are_answered(worker: WorkerProcess) -> None:
    assert worker.command("dance")["error"] == "bad_command"
    assert worker.command("release", leg="nobody")["error"] == "bad_command"
    assert worker.command("open", leg="x", stream={"codec": "PCMU"})["error"] == "bad_command"
    assert worker.command("open", leg="x", stream={"codec": "PCMU", "payload_type": 0, "y": 1})["ok"] is False
    assert worker.command("open", leg=5, stream={})["error"] == "bad_command"
    assert worker.command("ping")["ok"]


def test_nothing_is_left_of_released_calls(worker: WorkerProcess) -> None:
    engine = EngineServer()
    descriptors = f"/proc/{worker.process.pid}/fd"
    try:
        caller = Caller()
        assert worker.open("warm", caller.stream(), engine.url)["ok"]
        worker.command("release", leg="warm", reason="done")
        time_limit = time.monotonic() + 3
        before = len(os.listdir(descriptors))
        ports = set()
        for i in range(30):
            reply = worker.open(f"l{i}", caller.stream(), engine.url)
            assert reply["ok"]
            ports.add(reply["port"])
            assert worker.command("release", leg=f"l{i}", reason="done")["ok"]
        assert len(ports) == 30, "a closed port was used again at once"
        while len(os.listdir(descriptors)) > before and time.monotonic() < time_limit:
            worker.wait_event("load")
        assert len(os.listdir(descriptors)) <= before
        ping = worker.command("ping")
        assert (ping["legs"], ping["sockets"], ping["guarded"]) == (0, 0, 0)
        caller.close()
    finally:
        engine.close()


def test_drain_and_shutdown() -> None:
    process = WorkerProcess("41300-41319")
    caller = Caller()
    try:
        assert process.open("one", caller.stream())["ok"]
        assert process.command("drain")["legs"] == 1
        assert process.open("two", caller.stream())["error"] == "full"
        assert process.command("shutdown")["ok"]
        assert process.process.wait(5) == 0
    finally:
        process.close()
        caller.close()
