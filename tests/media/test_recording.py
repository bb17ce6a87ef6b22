"""Recording by a real worker: two channels in time, pauses, a full disk, writers and workers that die."""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import stat
import subprocess
import time
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from media.record.files import find_parts, recover
from media.record.opus_file import read_opus_untrusted
from tests.media.support import Caller, EngineServer, WorkerProcess, peak_hz, sine, ulaw

PATIENCE_S = 10.0


@pytest.fixture
def worker() -> Iterator[WorkerProcess]:
    process = WorkerProcess("41200-41299")
    yield process
    process.close()


@pytest.fixture
def engine() -> Iterator[EngineServer]:
    server = EngineServer()
    yield server
    server.close()


@pytest.fixture
def caller() -> Iterator[Caller]:
    party = Caller()
    yield party
    party.close()


class Talk:
    """A caller's call of a worker, one tone long."""

    def __init__(self, worker: WorkerProcess, caller: Caller, engine: EngineServer, leg: str = "a") -> None:
        self.worker, self.caller, self.leg = worker, caller, leg
        reply = worker.open(leg, caller.stream(), engine.url)
        assert reply["ok"], reply
        caller.target = (reply["host"], reply["port"])
        self.at = 0

    def go_on(self, n_frames: int, hz: float = 500) -> int:
        """Speaks; the answers come back in step.  Returns how many of them were loud."""
        while select.select([self.caller.sock], [], [], 0)[0]:  # what came while nobody listened
            self.caller.receive()
        loud = 0
        for _ in range(n_frames):
            self.caller.send(ulaw(sine(hz, 160, start=160 * self.at)))
            self.at += 1
            loud += len(set(self.caller.receive().payload)) > 8
        return loud

    def record(self, path: Path, **fields: object) -> dict[str, Any]:
        return self.worker.command("record", leg=self.leg, path=str(path), **fields)


def writer_of(worker: WorkerProcess) -> int:
    command = ["pgrep", "-P", str(worker.process.pid), "-f", "media.record.writer"]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def read_wav(path: Path) -> np.ndarray:
    with wave.open(str(path), "rb") as reader:
        return np.frombuffer(reader.readframes(reader.getnframes()), "<i2").reshape(-1, 2).astype(float)


def sidecar_of(path: Path) -> dict[str, Any]:
    return json.loads(Path(f"{path}.json").read_text())


def test_both_parties_in_time_and_a_sidecar_that_says_so(
    worker: WorkerProcess, caller: Caller, engine: EngineServer, tmp_path: Path
) -> None:
    path = tmp_path / "deep" / "a.wav"
    talk = Talk(worker, caller, engine)
    assert talk.record(path, about={"call": {"call_id": "c1"}})["ok"]
    assert not talk.record(tmp_path / "b.wav")["ok"]  # never twice
    began = time.monotonic()
    talk.go_on(100)
    assert worker.command("record_stop", leg="a")["ok"]
    took_ms = (time.monotonic() - began) * 1000
    event = worker.wait_event("recorded", "a")
    assert (event["path"], event["lost_ms"], event["complete"]) == (str(path), 0, True)
    samples = read_wav(path)
    assert len(samples) / 8 == pytest.approx(event["duration_ms"], abs=1)
    assert event["duration_ms"] == pytest.approx(took_ms, abs=50)
    for channel in (0, 1):
        middle = samples[4000:12000, channel]
        assert peak_hz(middle, 8000) == pytest.approx(500, abs=2)
        assert np.abs(middle).max() == pytest.approx(8000, rel=0.1)
    # the engine echoes: the right channel follows the left as soon as this machine lets it
    onset = [int(np.flatnonzero(np.abs(samples[:, channel]) > 1000)[0]) for channel in (0, 1)]
    assert 0 <= onset[1] - onset[0] <= 150 * 8
    told = sidecar_of(path)
    assert told["call"] == {"call_id": "c1"}
    assert told["complete"] is True
    assert told["pauses"] == []
    assert told["lost_ms"] == {"overrun": 0, "disk": 0}
    assert told["rate_hz"] == 8000
    assert told["ended_at"] - told["started_at"] == pytest.approx(event["duration_ms"] / 1000, abs=0.01)
    assert told["bytes"] == path.stat().st_size
    digest = subprocess.run(["sha256sum", str(path)], capture_output=True, text=True, check=True).stdout
    assert digest.split()[0] == told["sha256"]
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(Path(f"{path}.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert sorted(p.name for p in path.parent.iterdir()) == ["a.wav", "a.wav.json"]


@pytest.mark.parametrize("pauses", ["silence", "cut"])
def test_a_pause(worker: WorkerProcess, caller: Caller, engine: EngineServer, tmp_path: Path, pauses: str) -> None:
    path = tmp_path / "a.wav"
    talk = Talk(worker, caller, engine)
    assert not worker.command("record_pause", leg="a")["ok"]  # nothing is recorded
    talk.record(path, pauses=pauses)
    talk.go_on(40, 500)
    worker.command("record_pause", leg="a")
    talk.go_on(50, 1500)  # a card's number
    worker.command("record_resume", leg="a")
    talk.go_on(40, 800)
    worker.command("release", leg="a", reason="done")
    worker.wait_event("recorded", "a")
    samples, told = read_wav(path), sidecar_of(path)
    assert told["pause_mode"] == pauses
    [pause] = told["pauses"]
    assert 900 < pause["to_ms"] - pause["from_ms"] < 2000
    start, end = pause["from_ms"] * 8, pause["to_ms"] * 8
    if pauses == "silence":
        assert not samples[start + 320 : end].any()
    else:
        end = start
    spectrum = np.abs(np.fft.rfft(samples[:, 0]))
    hz = np.fft.rfftfreq(len(samples), 1 / 8000)
    assert spectrum[np.abs(hz - 1500) < 50].max() < 0.1 * spectrum[np.abs(hz - 500) < 50].max()
    assert peak_hz(samples[end + 800 : end + 4800, 0], 8000) == pytest.approx(800, abs=5)
    took_ms = (told["ended_at"] - told["started_at"]) * 1000
    cut_ms = 0 if pauses == "silence" else pause["to_ms"] - pause["from_ms"]
    assert len(samples) / 8 == told["duration_ms"] == pytest.approx(took_ms - cut_ms, abs=10)


def test_ogg(worker: WorkerProcess, caller: Caller, engine: EngineServer, tmp_path: Path) -> None:
    path = tmp_path / "a.opus"
    talk = Talk(worker, caller, engine)
    assert talk.record(path, format="ogg")["ok"]
    talk.go_on(60, 600)
    worker.command("release", leg="a", reason="done")
    event = worker.wait_event("recorded", "a")
    samples = read_opus_untrusted(path.read_bytes(), 60).astype(float)
    assert len(samples) == 48 * event["duration_ms"]
    for channel in (0, 1):
        assert peak_hz(samples[24000:48000, channel], 48000) == pytest.approx(600, abs=3)


@pytest.mark.parametrize(
    "order",
    [
        {"path": "relative.wav"},
        {"path": "/x/../a.wav"},
        {"path": "/x/a.wav", "format": "ogg"},
        {"path": "/x/a.mp3", "format": "mp3"},
        {"path": "/x/a.wav", "pauses": "beep"},
        {"path": "/x/a.wav", "about": []},
        {"path": 5},
    ],
)
def test_orders_that_cannot_be_understood(
    worker: WorkerProcess, caller: Caller, engine: EngineServer, order: dict[str, Any]
) -> None:
    Talk(worker, caller, engine)
    reply = worker.command("record", leg="a", **order)
    assert reply["error"] == "bad_command", reply
    assert worker.command("ping")["ok"]


def test_a_place_where_nothing_can_be_written(
    worker: WorkerProcess, caller: Caller, engine: EngineServer, tmp_path: Path
) -> None:
    talk = Talk(worker, caller, engine)
    taken = tmp_path / "a.wav"
    taken.write_text("another's")
    for path in (taken, Path("/proc/nowhere/a.wav")):
        assert talk.record(path)["ok"]
        event = worker.wait_event("record_failed", "a")
        assert (event["cause"], event["is_over"]) == ("open", True)
    assert taken.read_text() == "another's"
    assert talk.go_on(60) > 50
    assert talk.record(tmp_path / "b.wav")["ok"]  # the leg can still be recorded


def test_a_full_disk_costs_the_recording_never_the_call(
    worker: WorkerProcess, caller: Caller, engine: EngineServer, tmp_path: Path
) -> None:
    path = tmp_path / "a.wav"
    talk = Talk(worker, caller, engine)
    talk.record(path)
    talk.go_on(20)
    resource.prlimit(writer_of(worker), resource.RLIMIT_FSIZE, (30000, resource.RLIM_INFINITY))
    assert talk.go_on(100) > 95
    event = worker.wait_event("record_failed", "a")
    assert (event["cause"], event["is_over"]) == ("disk", False)
    resource.prlimit(writer_of(worker), resource.RLIMIT_FSIZE, (1 << 30, resource.RLIM_INFINITY))
    talk.go_on(60, 900)  # there is room again: it goes on at its own time
    worker.command("release", leg="a", reason="done")
    event = worker.wait_event("recorded", "a")
    assert not event["complete"]
    samples, told = read_wav(path), sidecar_of(path)
    assert 500 < told["lost_ms"]["disk"] < 3000
    assert len(samples) > 8 * 3500
    assert peak_hz(samples[-4000:, 0], 8000) == pytest.approx(900, abs=5)


def test_a_writer_that_stands_still_is_made_up_for(
    worker: WorkerProcess, caller: Caller, engine: EngineServer, tmp_path: Path
) -> None:
    path = tmp_path / "a.wav"
    talk = Talk(worker, caller, engine)
    talk.record(path)
    talk.go_on(30)
    os.kill(writer_of(worker), signal.SIGSTOP)
    assert talk.go_on(100) > 95
    worker.command("release", leg="a", reason="done")
    os.kill(writer_of(worker), signal.SIGCONT)
    event = worker.wait_event("recorded", "a")
    assert event["complete"]
    samples = read_wav(path)
    assert len(samples) > 8 * 2500
    heard = np.abs(samples[2400:-1600, 0])
    holes = heard[: len(heard) // 80 * 80].reshape(-1, 80).max(axis=1) < 5000
    assert holes.mean() < 0.05  # the two seconds are there; this test's own pauses are silence


def test_a_writer_that_dies_ends_its_recordings_and_another_is_started(
    worker: WorkerProcess, caller: Caller, engine: EngineServer, tmp_path: Path
) -> None:
    path, second = tmp_path / "a.wav", tmp_path / "b.wav"
    talk = Talk(worker, caller, engine)
    talk.record(path)
    talk.go_on(90)
    os.kill(writer_of(worker), signal.SIGKILL)
    event = worker.wait_event("record_failed", "a")
    assert (event["cause"], event["is_over"]) == ("writer", True)
    assert talk.record(second)["ok"]
    talk.go_on(50)
    worker.command("release", leg="a", reason="done")
    assert worker.wait_event("recorded", "a")["complete"]
    # what was left over is completed by whoever looks next
    assert list(find_parts(tmp_path)) == [path]
    told = recover(path)
    assert told is not None
    assert told["complete"] is False
    assert 500 < told["duration_ms"] < 1800
    assert len(read_wav(path)) == told["duration_ms"] * 8
    assert peak_hz(read_wav(path)[-2000:, 0], 8000) == pytest.approx(500, abs=5)
    assert list(find_parts(tmp_path)) == []


def test_what_is_being_written_is_not_recovered(
    worker: WorkerProcess, caller: Caller, engine: EngineServer, tmp_path: Path
) -> None:
    path = tmp_path / "a.wav"
    talk = Talk(worker, caller, engine)
    talk.record(path)
    wait_until(lambda: list(find_parts(tmp_path)))
    talk.go_on(10)
    assert recover(path) is None
    worker.command("release", leg="a", reason="done")
    assert worker.wait_event("recorded", "a")["complete"]


def test_a_worker_that_is_killed_loses_nothing_that_was_heard(
    worker: WorkerProcess, caller: Caller, engine: EngineServer, tmp_path: Path
) -> None:
    path = tmp_path / "a.wav"
    talk = Talk(worker, caller, engine)
    talk.record(path)
    talk.go_on(75)
    worker.process.kill()
    wait_until(path.exists)
    told = sidecar_of(path)
    assert told["complete"] is False
    assert told["duration_ms"] > 1400


def test_a_worker_that_is_shut_down_completes_its_recordings(
    worker: WorkerProcess, caller: Caller, engine: EngineServer, tmp_path: Path
) -> None:
    path = tmp_path / "a.wav"
    talk = Talk(worker, caller, engine)
    talk.record(path)
    talk.go_on(25)
    worker.close()
    wait_until(path.exists)
    assert sidecar_of(path)["complete"] is True
