"""The lab's voice agent: a WebSocket server for the engine protocol ims-as.v1 that hears and speaks.

    python -m conformance.lab.engine --listen ws://127.0.0.40:9000 --log engine.jsonl

Each connection has two tasks.  The reader takes frames and text events as they come and cuts the caller's audio into
utterances; the talker has them recognised in another process and speaks in a worker thread, so frames keep flowing.
Between them is a queue of ``MAX_WAITING`` utterances; when it is full the newest is dropped and logged.

Once the models are loaded and the socket is bound, one line of JSON on standard output says so.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import attrs
import click
import numpy as np
import trio
import websockets.exceptions
from websockets.trio.server import Server, ServerConnection, serve
from websockets.typing import Subprotocol

from conformance.lab.conversation import Reply, reply_to
from conformance.lab.recogniser_process import RecogniserProcess
from conformance.lab.speech import (
    FRAME_SAMPLES,
    RATE_HZ,
    Endpointer,
    Recogniser,
    SpeechStarted,
    Synthesiser,
    Utterance,
)

__all__ = ["SUBPROTOCOL", "EventLog", "VoiceAgent", "main", "serve_agent", "serve_hanging"]

SUBPROTOCOL = "ims-as.v1"
MAX_WAITING = 8
MAX_MESSAGE_BYTES = 1 << 20
"""Half a minute of audio at 16 kHz in one frame, more than any bridge sends."""


class EventLog:
    """Events as JSON lines with wall time, for the report; each line is flushed, so a killed process leaves them."""

    def __init__(self, output: IO[str] | None, clock: Callable[[], float] = time.time) -> None:
        self._output = output
        self._clock = clock

    def write(self, event: str, **fields: Any) -> None:
        if self._output is not None:
            self._output.write(json.dumps({"at": round(self._clock(), 4), "event": event, **fields}) + "\n")
            self._output.flush()


@attrs.define(eq=False)
class _Call:
    websocket: ServerConnection
    call_id: str = ""
    rate: int = RATE_HZ
    n_answers: int = 0
    n_playing: int = 0
    """Answers whose mark has not come back."""
    n_bad_messages: int = 0


class VoiceAgent:
    """Serves any number of connections with one recogniser and one voice."""

    def __init__(
        self, recogniser: Recogniser, synthesiser: Synthesiser, log: EventLog, greeting: str | None = None
    ) -> None:
        self._recogniser = recogniser
        self._synthesiser = synthesiser
        self._log = log
        self._greeting = greeting
        self._limiter = trio.CapacityLimiter(2)

    async def handle(self, websocket: ServerConnection) -> None:
        """One call.  Ends on ``stop``, or when the connection is lost."""
        call = _Call(websocket)
        self._log.write("connected", subprotocol=websocket.subprotocol)
        send, receive = trio.open_memory_channel[Utterance](MAX_WAITING)
        reason = "closed by peer"
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._talk, call, receive)
                reason = await self._read(call, send)
                nursery.cancel_scope.cancel()
        except* websockets.exceptions.ConnectionClosed:
            reason = "connection lost"
        self._log.write("closed", call_id=call.call_id, reason=reason, bad_messages=call.n_bad_messages)

    async def _read(self, call: _Call, utterances: trio.MemorySendChannel[Utterance]) -> str:
        endpointer = Endpointer()
        while True:
            try:
                message = await call.websocket.recv()
            except websockets.exceptions.ConnectionClosedOK:
                return "closed by peer"
            if isinstance(message, bytes):
                if len(message) % 2:
                    call.n_bad_messages += 1
                    continue
                for event in endpointer.receive_pcm(np.frombuffer(message, np.int16)):
                    await self._on_speech(call, event, utterances)
                continue
            event_object = self._parse(call, message)
            if event_object.get("event") == "stop":
                self._log.write("stop", call_id=call.call_id, reason=event_object.get("reason"))
                return "stop"
            await self._on_event(call, event_object)

    async def _on_speech(
        self, call: _Call, event: SpeechStarted | Utterance, utterances: trio.MemorySendChannel[Utterance]
    ) -> None:
        if isinstance(event, SpeechStarted):
            self._log.write("speech_start", call_id=call.call_id, stream_ms=event.at_ms)
            if call.n_playing:  # barge-in: the caller speaks over us
                await call.websocket.send(json.dumps({"event": "clear"}))
                self._log.write("barge_in", call_id=call.call_id)
            return
        self._log.write("speech_end", call_id=call.call_id, stream_ms=event.end_ms)
        try:
            utterances.send_nowait(event)
        except trio.WouldBlock:
            self._log.write("dropped", call_id=call.call_id, stream_ms=event.end_ms)

    @staticmethod
    def _parse(call: _Call, message: str) -> dict[str, Any]:
        try:
            parsed = json.loads(message)
        except (ValueError, RecursionError):
            parsed = None
        if isinstance(parsed, dict):
            return parsed
        call.n_bad_messages += 1
        return {}

    async def _on_event(self, call: _Call, event: dict[str, Any]) -> None:
        name = event.get("event")
        if name == "start":
            call.call_id = str(event.get("call_id", ""))
            self._log.write("start", **{k: v for k, v in event.items() if k not in ("event", "headers")})
            if self._greeting and not event.get("resume"):
                await self._say(call, Reply(self._greeting, self._greeting))
        elif name == "mark":
            call.n_playing = max(0, call.n_playing - 1)
            self._log.write("mark", call_id=call.call_id, name=event.get("name"), played=event.get("played"))
        elif name in ("dtmf", "transfer", "cleared", "hold", "resume", "tool_result"):
            self._log.write(f"got_{name}", call_id=call.call_id, **{k: v for k, v in event.items() if k != "event"})

    async def _talk(self, call: _Call, utterances: trio.MemoryReceiveChannel[Utterance]) -> None:
        async for utterance in utterances:
            began = time.monotonic()
            words = await trio.to_thread.run_sync(
                self._recogniser.recognise, utterance.pcm, limiter=self._limiter, abandon_on_cancel=True
            )
            took_ms = round(1000 * (time.monotonic() - began), 1)
            self._log.write("heard", call_id=call.call_id, text=words, recognition_ms=took_ms)
            if not words:
                continue
            await self._send_transcript(call, "user", words)
            reply = reply_to(words)
            await self._say(call, reply)
            if reply.transfer is not None:
                await call.websocket.send(json.dumps(reply.transfer))
                self._log.write("transfer", call_id=call.call_id, **reply.transfer["data"])

    async def _say(self, call: _Call, reply: Reply) -> None:
        """Sends the speech faster than real time, then its mark and transcript; the bridge paces it."""
        pcm = await trio.to_thread.run_sync(
            self._synthesiser.speak, reply.spoken, limiter=self._limiter, abandon_on_cancel=True
        )
        call.n_answers += 1
        call.n_playing += 1
        self._log.write("speaking", call_id=call.call_id, text=reply.text, audio_ms=len(pcm) * 1000 // RATE_HZ)
        for offset in range(0, len(pcm), FRAME_SAMPLES):
            await call.websocket.send(pcm[offset : offset + FRAME_SAMPLES].tobytes())
        await call.websocket.send(json.dumps({"event": "mark", "name": f"answer-{call.n_answers}"}))
        await self._send_transcript(call, "agent", reply.text)

    @staticmethod
    async def _send_transcript(call: _Call, role: str, text: str) -> None:
        await call.websocket.send(json.dumps({"event": "transcript", "role": role, "text": text, "final": True}))


async def serve_agent(
    agent: VoiceAgent, host: str, port: int, *, task_status: trio.TaskStatus[tuple[str, int]] = trio.TASK_STATUS_IGNORED
) -> None:
    """Serves until cancelled; started with the bound address."""
    listeners = await trio.open_tcp_listeners(port, host=host)
    address = listeners[0].socket.getsockname()[:2]
    async with trio.open_nursery() as nursery:
        server: Server = await nursery.start(
            partial(
                serve,
                agent.handle,
                listeners=listeners,
                subprotocols=[Subprotocol(SUBPROTOCOL)],
                compression=None,
                ping_interval=None,
                max_size=MAX_MESSAGE_BYTES,
                close_timeout=1.0,
            )
        )
        task_status.started((str(address[0]), int(address[1])))
        async with server:
            await trio.sleep_forever()


async def serve_hanging(
    host: str, port: int, *, task_status: trio.TaskStatus[tuple[str, int]] = trio.TASK_STATUS_IGNORED
) -> None:
    """The fault ``hang``: accepts connections, reads, and never says a word."""
    listeners = await trio.open_tcp_listeners(port, host=host)
    address = listeners[0].socket.getsockname()[:2]
    task_status.started((str(address[0]), int(address[1])))

    async def swallow(stream: trio.SocketStream) -> None:
        try:
            async for _ in stream:
                continue
        except trio.BrokenResourceError:
            return

    await trio.serve_listeners(swallow, listeners)


async def _run(host: str, port: int, fault: str | None, greeting: str | None, log: EventLog) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals, contextlib.ExitStack() as closing:
        async with trio.open_nursery() as nursery:
            if fault == "hang":
                address = await nursery.start(serve_hanging, host, port)
            else:
                recogniser = await trio.to_thread.run_sync(RecogniserProcess)
                closing.callback(recogniser.close)
                address = await nursery.start(
                    serve_agent, VoiceAgent(recogniser, Synthesiser(), log, greeting), host, port
                )
            ready = {"ready": True, "url": f"ws://{address[0]}:{address[1]}/", "fault": fault}
            sys.stdout.write(json.dumps(ready) + "\n")
            sys.stdout.flush()
            log.write("ready", url=ready["url"], fault=fault)
            async for _ in signals:
                break
            nursery.cancel_scope.cancel()


@click.command()
@click.option("--listen", default="ws://127.0.0.40:9000", show_default=True, help="Where to serve; port 0: any.")
@click.option("--fault", type=click.Choice(["hang"]), help="hang: accept connections and never answer.")
@click.option("--greeting", help="What to say when a call starts.")
@click.option("--log", "log_file", type=click.Path(path_type=Path), help="Append events as JSON lines.")
def main(listen: str, fault: str | None, greeting: str | None, log_file: Path | None) -> None:
    """The lab's voice agent."""
    url = urlsplit(listen)
    if url.scheme != "ws" or url.hostname is None or url.port is None:
        raise click.BadParameter("must look like ws://host:port", param_hint="--listen")
    output = log_file.open("a", encoding="utf-8") if log_file is not None else None
    try:
        trio.run(_run, url.hostname, url.port, fault, greeting, EventLog(output))
    finally:
        if output is not None:
            output.close()


if __name__ == "__main__":
    main()
