"""Calls in a codec with state through a media worker, against what the codec alone costs.

    python -m bench.media_coded AMR-WB 60 [--windows 3] [--window 5]

Each call's phone says the same speech over and over in 20 ms packets, encoded once; its engine echoes what it hears, so
that the worker encodes speech too.  The ceiling is the bare library, 50 frames a second each way, on the worker's core
before and after (`bench.codecs`), when the other core is idle: where two cores share their units the share looks worse
than it is.  It is ceiling ÷ the worker's CPU time, sockets, resampling and engine included.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import socket
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from bench import codecs
from bench.media_direct import CALLER_HOST, ENGINE_PORT, LoadGenerator
from bench.media_worker import Worker
from media.clips import read_file
from media.codecs.base import Codec
from media.codecs.registry import find_codec
from media.coded import CodedStream
from media.control import EngineTarget, StreamConfig, to_wire
from media.rtp import build_rtp

PARTY_HOST = "127.0.0.67"
PAYLOAD_TYPE = 98
SUB_TICKS = 4


def payloads_of(codec: Codec) -> list[bytes]:
    """The speech as the phone would send it."""
    said = read_file(codecs.SPEECH, codec.sample_rate_hz)[: codecs.SECONDS * codec.sample_rate_hz].astype(np.float32)
    source = CodedStream(codec, {}, {})
    size = codec.frame_samples
    coded = (source.encode(said[at : at + size]) for at in range(0, len(said) - size + 1, size))
    return [payload for payload in coded if payload is not None]


def speak(sock: socket.socket, targets: list[tuple[str, int]], payloads: list[bytes], timestamps: int) -> None:
    """Sends for ever: a quarter of the calls each 5 ms."""
    due = time.monotonic()
    number = 0
    while True:
        for quarter in range(SUB_TICKS):
            for i in range(quarter, len(targets), SUB_TICKS):
                packet = build_rtp(
                    payload_type=PAYLOAD_TYPE,
                    marker=not number,
                    sequence=number,
                    timestamp=number * timestamps,
                    ssrc=i + 1,
                    payload=payloads[number % len(payloads)],
                )
                sock.sendto(packet, targets[i])
            due += 0.005
            time.sleep(max(0.0, due - time.monotonic()))
        number += 1


def ceiling_ms(name: str, clock_hz: int) -> float:
    """CPU of the bare library for a call's second, on the worker's core."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {0})
    try:
        _, encode, _, decode = codecs.measure(name, clock_hz, rounds=4)
    finally:
        os.sched_setaffinity(0, cores)
    return (encode + decode) * 50 / 1000


def run(name: str, calls: int, windows: int, window_s: float) -> dict[str, object]:
    clock_hz = dict(codecs.CODECS)[name]
    codec = find_codec(name, clock_hz)
    if codec is None:
        raise SystemExit(f"{name}: its library is not installed")
    ceilings = [ceiling_ms(name, clock_hz)]
    party = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    party.bind((PARTY_HOST, 0))
    host, port = party.getsockname()
    with tempfile.TemporaryDirectory() as directory:
        limit = int(calls / 20 + windows * (window_s + 1) + 60)
        generator = LoadGenerator(1, Path(directory), limit=limit, rate=16000)
        worker = Worker("30000-39999")
        speaker = None
        try:
            targets = []
            stream = to_wire(StreamConfig(name, PAYLOAD_TYPE, host, port, clock_rate=clock_hz, dtmf_payload_type=101))
            engine = to_wire(EngineTarget("websocket", f"ws://{CALLER_HOST}:{ENGINE_PORT}/"))
            for i in range(calls):
                reply = worker.control.command("open", leg=f"c{i}", stream=stream, engine=engine)
                if not reply["ok"]:
                    raise SystemExit(f"open: {reply}")
                targets.append((reply["host"], reply["port"]))
            arguments = (party, targets, payloads_of(codec), codec.frame_timestamps)
            speaker = multiprocessing.get_context("fork").Process(target=speak, args=arguments, daemon=True)
            speaker.start()
            time.sleep(3)
            costs = []
            for _ in range(windows):
                before, began = worker.cpu_s, time.monotonic()
                time.sleep(window_s)
                costs.append((worker.cpu_s - before) / (time.monotonic() - began) / calls * 1000)
            worker.control.read_waiting()
            stats = worker.control.command("stats", leg="c0")["stats"]
            late = max((e["max_late_ms"] for e in worker.control.events if e["ev"] == "load"), default=0)
        finally:
            if speaker is not None:
                speaker.terminate()
            worker.close()
            generator.stop()
    ceilings.append(ceiling_ms(name, clock_hz))
    cost = statistics.median(costs)
    return {
        "codec": name,
        "calls": calls,
        "cpu_ms_per_call_s": round(cost, 3),
        "ceiling_ms": [round(each, 3) for each in ceilings],
        "share_of_ceiling": round(statistics.mean(ceilings) / cost, 3),
        "max_late_ms": late,
        **{key: stats[key] for key in ("packets_in", "packets_out", "engine_frames", "lost", "underruns")},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("codec", choices=[name for name, _ in codecs.CODECS])
    parser.add_argument("calls", type=int)
    parser.add_argument("--windows", type=int, default=3)
    parser.add_argument("--window", type=float, default=5)
    options = parser.parse_args()
    print(json.dumps(run(options.codec, options.calls, options.windows, options.window)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
