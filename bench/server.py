"""The server under test as its own process tree, pinned to core 0, with CPU and memory read from /proc."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.media_direct import TICKS_PER_S, pinned

__all__ = ["AS_HOST", "AS_PORT", "Server", "running_server", "session_cpu_s", "session_fds", "session_pss_kib"]

AS_HOST, AS_PORT = "127.0.0.60", 5070
API_PORT = 8080
READY_S = 30.0


def _stats(pid: str) -> list[str] | None:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def session_pids(sid: int) -> list[int]:
    """Processes of the session that are alive."""
    return [
        int(pid)
        for pid in os.listdir("/proc")
        if pid.isdigit() and (fields := _stats(pid)) and int(fields[3]) == sid and fields[0] != "Z"
    ]


def session_cpu_s(sid: int) -> float:
    """User and system seconds of all processes of the session."""
    ticks = [_stats(str(pid)) for pid in session_pids(sid)]
    return sum(int(fields[11]) + int(fields[12]) for fields in ticks if fields) / TICKS_PER_S


def session_pss_kib(sid: int) -> int:
    total = 0
    for pid in session_pids(sid):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total


def session_fds(sid: int) -> int:
    return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in session_pids(sid))


class Server:
    """A running ``ims-as run``."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.sid = process.pid

    def metrics(self) -> dict[str, float]:
        """Samples of /metrics without labels, by name."""
        with urllib.request.urlopen(f"http://{AS_HOST}:{API_PORT}/metrics", timeout=5) as response:
            lines = response.read().decode().splitlines()
        samples = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, value in samples}

    def api(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://{AS_HOST}:{API_PORT}{path}", timeout=5) as response:
            return json.load(response)


@contextmanager
def running_server(work: Path, engine_url: str, *overrides: str) -> Iterator[Server]:
    """Starts the server and waits until it is ready; ends all of its processes."""
    agents = json.dumps({"default": {"engines": [{"type": "websocket", "url": engine_url}]}})
    settings = [
        f'sip.listen=["udp:{AS_HOST}:{AS_PORT}"]',
        f"media.address={AS_HOST}",
        "media.ports=20000-39999",
        "media.max_load=1",  # what it can do is what is measured
        "limits.calls=5000",
        "limits.calls_per_second=5000",
        f"api.listen={AS_HOST}:{API_PORT}",
        f"agents={agents}",
        "log.level=warning",
        *overrides,
    ]
    (work / "as.yaml").write_text("identity: sip:ai-as.bench.example\n")
    command = [str(Path(sys.executable).with_name("ims-as")), "run", "-c", str(work / "as.yaml")]
    command += [f"--set={each}" for each in settings]
    with open(work / "server.log", "wb") as log:
        process = subprocess.Popen(
            pinned("0", command, False), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    server = Server(process)
    try:
        _wait_ready(server, work)
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(8)
        except subprocess.TimeoutExpired:
            for pid in session_pids(server.sid):
                os.kill(pid, signal.SIGKILL)
            process.wait(5)


def _wait_ready(server: Server, work: Path) -> None:
    end = time.monotonic() + READY_S
    while time.monotonic() < end:
        if server.process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"http://{AS_HOST}:{API_PORT}/health/ready", timeout=1):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise SystemExit("the server did not become ready:\n" + (work / "server.log").read_text()[-2000:])
