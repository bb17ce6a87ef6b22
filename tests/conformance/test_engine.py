"""The voice agent over a real WebSocket on loopback."""

from __future__ import annotations

import io
import json
import wave
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import trio
from websockets.exceptions import ConnectionClosedOK
from websockets.trio.client import ClientConnection, connect

from conformance.lab.engine import SUBPROTOCOL, EventLog, VoiceAgent, serve_agent, serve_hanging
from conformance.lab.speech import FRAME_SAMPLES, CardRecogniser, Synthesiser

HOST = "127.0.88.40"
AUDIO = Path(__file__).parents[2] / "conformance" / "lab" / "audio"


@cache
def models() -> tuple[CardRecogniser, Synthesiser]:
    return CardRecogniser(), Synthesiser()


def caller_audio(name: str) -> bytes:
    with wave.open(str(AUDIO / name)) as wav:
        return bytes(8000) + wav.readframes(wav.getnframes()) + bytes(2 * 16000)


async def drain(websocket: ClientConnection) -> None:
    try:
        while True:
            await websocket.recv()
    except ConnectionClosedOK:
        return


async def converse(
    name: str, *, until: str, greeting: str | None = None, extra: tuple[str | bytes, ...] = ()
) -> tuple[list[dict[str, Any]], int, list[dict[str, Any]]]:
    """Plays a recording to the agent until it sends the event ``until``; then ``stop``.

    Returns its events, how many bytes of audio it sent, and its log.
    """
    output = io.StringIO()
    agent = VoiceAgent(*models(), EventLog(output, clock=lambda: 1.0), greeting)
    events: list[dict[str, Any]] = []
    n_audio = 0
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            host, port = await nursery.start(serve_agent, agent, HOST, 0)
            async with connect(f"ws://{host}:{port}/", subprotocols=[SUBPROTOCOL], compression=None) as websocket:
                assert websocket.subprotocol == SUBPROTOCOL
                await websocket.send(json.dumps({"event": "start", "call_id": "c1", "rate": 16000}))
                for message in extra:
                    await websocket.send(message)
                audio = caller_audio(name)
                for offset in range(0, len(audio), 2 * FRAME_SAMPLES):
                    await websocket.send(audio[offset : offset + 2 * FRAME_SAMPLES])
                while True:
                    message = await websocket.recv()
                    if isinstance(message, bytes):
                        n_audio += len(message)
                        continue
                    events.append(json.loads(message))
                    if events[-1]["event"] == until:
                        await websocket.send(json.dumps({"event": "stop", "reason": "test"}))
                        break
                await drain(websocket)  # the agent closes after stop
            nursery.cancel_scope.cancel()
    return events, n_audio, [json.loads(line) for line in output.getvalue().splitlines()]


def test_repeats_what_it_heard_with_a_mark_at_the_end():
    events, n_audio, log = trio.run(lambda: converse("cards-005.wav", until="mark"))
    assert events[0] == {
        "event": "transcript",
        "role": "user",
        "text": "eight of spades four of clubs seven of hearts",
        "final": True,
    }
    assert events[1] == {"event": "mark", "name": "answer-1"}
    assert n_audio > 2 * 16000 * 2
    names = [entry["event"] for entry in log]
    assert names == ["connected", "start", "speech_start", "speech_end", "heard", "speaking", "stop", "closed"]
    assert all(entry["at"] == 1.0 for entry in log)


def test_transfers_on_the_queen_of_clubs():
    events, n_audio, _ = trio.run(lambda: converse("cards-002.wav", until="transfer"))
    assert [e["event"] for e in events] == ["transcript", "mark", "transcript", "transfer"]
    assert events[2]["text"] == "transferring you"
    assert events[3]["target"] == "served-user"
    assert events[3]["data"]["reason"] == "the caller said: four queen of clubs"
    assert n_audio > 0


def test_greets_when_it_shall():
    events, n_audio, _ = trio.run(lambda: converse("cards-001.wav", until="mark", greeting="hello"))
    assert events == [{"event": "mark", "name": "answer-1"}]
    assert n_audio > 0


def test_survives_bad_messages_and_counts_them():
    bad = (b"odd", "not json", "[]", '"text"', json.dumps({"event": "unheard-of"}), "[" * 50_000)
    events, _, log = trio.run(lambda: converse("cards-001.wav", until="transcript", extra=bad))
    assert events[0]["text"] == "ten of clubs"
    assert log[-1] == {"at": 1.0, "event": "closed", "call_id": "c1", "reason": "stop", "bad_messages": 5}


async def _hang() -> None:
    async with trio.open_nursery() as nursery:
        host, port = await nursery.start(serve_hanging, HOST, 0)
        stream = await trio.open_tcp_stream(host, port)
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n")
        with trio.move_on_after(0.1) as waiting:
            await stream.receive_some(100)
        assert waiting.cancelled_caught
        await stream.aclose()
        nursery.cancel_scope.cancel()


def test_the_hanging_engine_accepts_and_never_answers():
    trio.run(_hang)


def test_log_without_file_is_silent():
    EventLog(None).write("nothing")


@pytest.mark.parametrize("listen", ["tcp://127.0.0.1:1", "ws://127.0.0.1", "ws:"])
def test_listen_address_is_checked(listen):
    from click.testing import CliRunner

    from conformance.lab.engine import main

    result = CliRunner().invoke(main, ["--listen", listen])
    assert result.exit_code == 2
    assert "ws://host:port" in result.output
