"""From a caller's first word to the agent's silence, measured at the wire with recorded speech.

    python -m bench.media_barge [--legs 1 50] [--rounds 100] [--wav DIR …]

One worker holds N legs whose agents speak (engines have sent long audio ahead, ``barge_in: local``) while telephones
send the noise of a room.  In each round one caller begins to speak: a phrase of a recording, shifted by a random part
of a frame and by up to 10 dB, from where ITU-T P.56 finds speech: 15.9 dB below the active level.  (What is softer is
left out: it would be noticed earlier.)  The time runs from the ``send`` of the packet with the beginning to the arrival
of the first packet that ends silent (it may begin with the 5 ms fade); "mouth" counts from the sound itself, which
waits for the rest of its packet on every telephone.  ``told_ms`` is what the worker says of the same.  Root gives
itself real-time priority and the worker a better one than others, as in `bench.media_direct`.  Prints one JSON line per
number of legs.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import random
import select
import socket
import subprocess
import sys
import threading
import time
import wave
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from bench.media_clear import ENGINE_HOST, WORKER_HOST, Leg
from bench.media_direct import Control, pinned
from media import g711
from media.resample import Downsampler
from media.rtp import build_rtp

ROOT = Path(__file__).parents[1]
RECORDINGS = [ROOT / "tests" / "data" / "speech", ROOT / "conformance" / "lab" / "audio"]
BLOCK = 40
"""5 ms at 8 kHz."""
P56_MARGIN = 10 ** (-15.9 / 20)
QUIET_BLOCKS = 30
"""After a pause of 150 ms."""
FADE = 20
"""2.5 ms, so that the cut is no click."""
PHRASE_S = 0.6
ROOM_RMS = 20.0
"""-64 dBov."""


def read_phrases(folders: list[Path]) -> list[NDArray[np.float32]]:
    """Phrases at 8 kHz, each from its first sound."""
    phrases = []
    for path in [path for folder in folders for path in sorted(folder.glob("*.wav"))]:
        with wave.open(str(path)) as file:
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32)
        down = Downsampler(2)
        samples = np.concatenate([np.zeros(down.history, np.float32), samples])
        narrow = down.process(samples[None, :])[0]
        blocks = narrow[: len(narrow) // BLOCK * BLOCK].reshape(-1, BLOCK)
        rms = np.sqrt((blocks**2).mean(axis=1))
        active = np.sqrt((rms[rms > np.percentile(rms, 90) / 10] ** 2).mean())
        loud = active * P56_MARGIN
        for i in np.flatnonzero(rms > loud).tolist():
            start, end = i * BLOCK, i * BLOCK + int(PHRASE_S * 8000)
            if end <= len(narrow) and (rms[max(0, i - QUIET_BLOCKS) : i] < loud).all():
                phrase = narrow[start:end].copy()
                phrase[:FADE] *= np.linspace(0, 1, FADE, dtype=np.float32)
                phrases.append(phrase)
    if not phrases:
        raise SystemExit(f"no phrases in {folders}")
    return phrases


@attrs.define
class Speech:
    """Frames of one interruption, and when its first word was sent."""

    frames: list[bytes]
    word_frame: int
    word_ms: float
    """Where in that frame the word begins."""
    sent_at: float = 0.0


def make_speech(phrase: NDArray[np.float32], source: random.Random) -> Speech:
    shift = source.randrange(160)
    gain = 10 ** (-source.uniform(0, 10) / 20)
    samples = np.concatenate([np.zeros(shift, np.float32), phrase * np.float32(gain)])
    frames = samples[: len(samples) // 160 * 160].reshape(-1, 160)
    noise = np.random.default_rng(source.randrange(1 << 30)).normal(0, ROOM_RMS, frames.shape)
    codes = g711.encode((frames + noise).astype(np.float32), np.zeros(len(frames), np.uint8))
    word_frame, rest = divmod(shift, 160)
    return Speech([row.tobytes() for row in codes], word_frame, rest / 8)


class World(threading.Thread):
    """All callers send, each at its own time; all engines listen."""

    def __init__(self, legs: list[Leg]) -> None:
        super().__init__()
        self._legs = legs
        self._speech: dict[int, tuple[Speech, int]] = {}
        noise = np.random.default_rng(1).normal(0, ROOM_RMS, (50, 160)).astype(np.float32)
        self._room = [row.tobytes() for row in g711.encode(noise, np.zeros(50, np.uint8))]
        self.is_over = False

    def speak(self, number: int, speech: Speech) -> None:
        self._speech[number] = speech, 0

    def run(self) -> None:
        poll = select.epoll()
        engines = {leg.engine.fileno(): leg.engine for leg in self._legs}
        for fd in engines:
            poll.register(fd, select.EPOLLIN)
        now = time.monotonic()
        due = [(now + 0.02 * random.random(), i, 0) for i in range(len(self._legs))]
        heapq.heapify(due)
        while not self.is_over:
            at, i, n = due[0]
            if (wait := at - time.monotonic()) > 0:
                time.sleep(wait)
            packet = build_rtp(
                payload_type=0, marker=False, sequence=n & 0xFFFF, timestamp=160 * n, ssrc=1, payload=self._next(i, n)
            )
            leg = self._legs[i]
            leg.party.sendto(packet, leg.target)
            heapq.heapreplace(due, (at + 0.02, i, n + 1))
            for fd, _ in poll.poll(0, len(engines)):
                engines[fd].recv(1 << 16)
        poll.close()

    def _next(self, i: int, n: int) -> bytes:
        """The caller's next payload."""
        if (speaking := self._speech.get(i)) is None:
            room: bytes = self._room[n % len(self._room)]
            return room
        speech, at = speaking
        if at == speech.word_frame:
            speech.sent_at = time.monotonic()
        if at + 1 < len(speech.frames):
            self._speech[i] = speech, at + 1
        else:
            del self._speech[i]
        payload: bytes = speech.frames[at]
        return payload


def measure(n_legs: int, rounds: int, phrases: list[NDArray[np.float32]]) -> dict[str, Any]:
    """Rounds of interruptions on one worker; milliseconds."""
    source = random.Random(1)
    ours, theirs = socket.socketpair()
    ours.settimeout(20)
    command = [sys.executable, "-m", "media.worker", "--control-fd", str(theirs.fileno())]
    command += ["--address", WORKER_HOST, "--ports", "30000-39999"]
    worker = subprocess.Popen(pinned("0", command, False), pass_fds=[theirs.fileno()])
    theirs.close()
    if os.geteuid() == 0:  # after the worker, which would inherit it
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
    listener = socket.create_server((ENGINE_HOST, 0))
    legs: list[Leg] = []
    world = World(legs)
    from_word: list[float] = []
    from_mouth: list[float] = []
    try:
        control = Control(ours)
        for i in range(n_legs):
            legs.append(Leg(control, listener, f"b{i}", "local"))
        world.start()
        time.sleep(0.5)
        for i in range(rounds):
            number = source.randrange(n_legs)
            leg, speech = legs[number], make_speech(source.choice(phrases), source)
            for speaker in legs if i == 0 else [leg]:
                speaker.speak()
            leg.wait_loud()
            time.sleep(source.uniform(0.15, 0.25))
            leg.drain()
            world.speak(number, speech)
            leg.wait_silence()
            silent_at = time.monotonic()
            from_word.append((silent_at - speech.sent_at) * 1000)
            from_mouth.append(from_word[-1] + 20 - speech.word_ms)
            # the rest of the phrase, the end of speech, and the pause after which the engine is heard again
            time.sleep(PHRASE_S + 0.7)
            leg.clear()
            control.read_waiting()
        told = [e["speech_ms"] for e in control.events if e["ev"] == "silenced" and e["speech_ms"] is not None]
    finally:
        world.is_over = True
        if world.is_alive():
            world.join()
        if os.geteuid() == 0:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        ours.close()
        try:
            worker.wait(5)
        finally:
            worker.kill()
            worker.wait()
        for leg in legs:
            leg.close()
        listener.close()
    return {
        "what": "speech start to silence",
        "legs": n_legs,
        "rounds": rounds,
        "phrases": len(phrases),
        "ms": spread(from_word),
        "mouth_ms": spread(from_mouth),
        "told_ms": spread([float(each) for each in told]),
    }


def spread(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    if not ordered:
        return {}
    marks = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("max", 1.0))
    return {name: round(ordered[min(len(ordered) - 1, int(len(ordered) * q))], 1) for name, q in marks}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--legs", type=int, nargs="+", default=[1, 50])
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--wav", type=Path, nargs="+", default=RECORDINGS, help="folders of recordings, 16 kHz mono")
    options = parser.parse_args()
    phrases = read_phrases(options.wav)
    for n_legs in options.legs:
        print(json.dumps(measure(n_legs, options.rounds, phrases)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
