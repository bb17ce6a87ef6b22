"""The media plane alone: a worker bridges the load generator's callers to its echo engine, without any SIP.

    python -m bench.media_direct 300 [--windows 3] [--window 5] [--floor] [--rate 16000] [--hog 2] [--stall 0.2]

Starts ``loadgen`` and one worker, opens N legs over the control channel, and prints one JSON line per measuring window
and the medians.  With ``--floor`` the C bridge ``floor -c`` is measured first in the same way, and the ratio is shown:
the machine's speed changes, the ratio within one run hardly does.  With ``--hog K`` so many busy processes share the
bridge's core during the second window, and with ``--stall S`` the bridge is stopped for S seconds at its beginning; the
windows after it show whether delay stays.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.programs import build_programs
from media.control import EngineTarget, LineReader, StreamConfig, encode_line, to_wire

CALLER_HOST, CALLER_PORT = "127.0.0.50", 20000
ENGINE_PORT = 9000
BRIDGE_HOST = "127.0.0.60"
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    """User and system time of a process, all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def pss_kib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise LookupError("no Pss")


class Control:
    """The signalling side's end of a control channel, blocking."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._reader = LineReader()
        self._next = 0
        self.events: list[dict[str, Any]] = []
        self._replies: dict[int, dict[str, Any]] = {}

    def command(self, cmd: str, **fields: object) -> dict[str, Any]:
        self._next += 1
        self._sock.sendall(encode_line({"cmd": cmd, "id": self._next, **fields}))
        while self._next not in self._replies:
            self.read()
        return self._replies.pop(self._next)

    def take_replies(self) -> list[tuple[int, dict[str, Any]]]:
        """Waits for replies to commands that were sent without waiting; number and reply of each."""
        self.read()
        self.events.clear()
        taken, self._replies = list(self._replies.items()), {}
        return taken

    def read(self) -> None:
        for message in self._reader.receive_bytes(self._sock.recv(65536)):
            if "re" in message:
                self._replies[message["re"]] = message
            else:
                self.events.append(message)

    def read_waiting(self) -> None:
        while select.select([self._sock], [], [], 0)[0]:
            self.read()


def pinned(core: str, command: list[str], realtime: bool) -> list[str]:
    """The command on its core; root also gets the load generator real-time priority."""
    priority = []
    if os.geteuid() == 0:
        # BENCH_SUT_SCHED=rr keeps the other work of the machine off the core: for finding the highest number of calls
        # and BENCH_SUT_SCHED=other leaves the bridge no better than the hogs
        schedules = {"rr": ["chrt", "-r", "5"], "other": []}
        bridge = schedules.get(os.environ.get("BENCH_SUT_SCHED", ""), ["nice", "-n", "-15"])
        priority = ["chrt", "-f", "10"] if realtime else bridge
    return ["taskset", "-c", core, *priority, *command]


class LoadGenerator:
    """The C program; see ``loadgen.c``."""

    def __init__(self, calls: int, work: Path, *more: str, limit: int, rate: int) -> None:
        command = [str(build_programs() / "loadgen"), "-n", str(calls), "-a", CALLER_HOST, "-p", str(CALLER_PORT)]
        command += ["-e", f"{CALLER_HOST}:{ENGINE_PORT}", "-r", str(rate), "-T", str(limit), *more]
        with open(work / "loadgen.err", "wb") as errors:
            self.process = subprocess.Popen(
                pinned("1", command, True), stdout=subprocess.PIPE, stderr=errors, text=True
            )
        time.sleep(0.3)

    def window(self, seconds: float) -> dict[str, Any]:
        self.process.send_signal(signal.SIGUSR1)
        time.sleep(seconds)
        self.process.send_signal(signal.SIGUSR2)
        assert self.process.stdout is not None
        result: dict[str, Any] = json.loads(self.process.stdout.readline())
        return result

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(5)


@contextmanager
def hogs(count: int, seconds: float) -> Iterator[None]:
    """Busy processes on the bridge's core, at normal priority; they end by themselves too."""
    command = ["taskset", "-c", "0", "timeout", str(seconds + 1), sys.executable, "-c", "while True: pass"]
    busy = [subprocess.Popen(command) for _ in range(count)]
    try:
        yield
    finally:
        for process in busy:
            process.terminate()  # timeout passes it on
            process.wait(5)


def measure(
    generator: LoadGenerator, pid: int, calls: int, options: argparse.Namespace, name: str
) -> list[dict[str, Any]]:
    results = []
    for number in range(options.windows):
        n_hogs = options.hog if number == 1 else 0
        before, started = cpu_s(pid), time.monotonic()
        if number == 1 and options.stall:
            os.kill(pid, signal.SIGSTOP)
            time.sleep(options.stall)
            os.kill(pid, signal.SIGCONT)
            time.sleep(options.recovery)
        with hogs(n_hogs, options.window):
            line = generator.window(options.window)
        spent, took = cpu_s(pid) - before, time.monotonic() - started
        missing = max(0.0, 100 * (1 - line["rtp_rx_ratio"]))
        result = {
            "what": name,
            "calls": calls,
            "hogs": n_hogs,
            "cpu_ms_per_call_s": round(1000 * spent / took / calls, 4),
            "cpu_pct": round(100 * spent / took, 1),
            "bad_pct": round(line["late20_pct"] + missing, 3),
            "stalled": line["self"]["max_send_late_ms"] > 10,
            "up_ms": line["up_ms"],
            "down_ms": line["down_ms"],
            "rtt_ms": line["rtt_ms"],
            "loadgen": line,
        }
        results.append(result)
        print(json.dumps({k: v for k, v in result.items() if options.verbose or k != "loadgen"}), flush=True)
        time.sleep(0.3)
    return results


def run_floor(calls: int, options: argparse.Namespace, work: Path) -> list[dict[str, Any]]:
    limit = int(options.windows * (options.window + 1) + 20)
    generator = LoadGenerator(calls, work, "-g", f"{BRIDGE_HOST}:30000:2", limit=limit, rate=16000)
    command = [str(build_programs() / "floor"), "-n", str(calls), "-b", f"{BRIDGE_HOST}:30000"]
    command += ["-e", f"{CALLER_HOST}:{ENGINE_PORT}", "-c", "-T", str(limit)]
    floor = subprocess.Popen(pinned("0", command, False))
    try:
        time.sleep(options.settle)
        return measure(generator, floor.pid, calls, options, "floor -c")
    finally:
        floor.kill()
        floor.wait()
        generator.stop()


def run_worker(calls: int, options: argparse.Namespace, work: Path) -> list[dict[str, Any]]:
    targets = work / "targets"
    targets.touch()
    limit = int(options.windows * (options.window + 1) + calls / 8 + 40)
    generator = LoadGenerator(calls, work, "-f", str(targets), limit=limit, rate=options.rate)
    ours, theirs = socket.socketpair()
    ours.settimeout(20)
    command = [sys.executable, *options.python, "-m", "media.worker", "--control-fd", str(theirs.fileno())]
    command += ["--address", BRIDGE_HOST, "--ports", "30000-39999"]
    worker = subprocess.Popen(pinned("0", command, False), pass_fds=[theirs.fileno()])
    theirs.close()
    control = Control(ours)
    try:
        control.command("ping")
        idle = pss_kib(worker.pid)
        setup_ms = []
        with targets.open("a") as followed:
            for i in range(calls):
                port = CALLER_PORT + 2 * i
                stream = StreamConfig(options.codec, 0, CALLER_HOST, port, dtmf_payload_type=101)
                engine = EngineTarget(
                    "websocket", f"ws://{CALLER_HOST}:{ENGINE_PORT}/", rate=options.rate, start={"call_id": f"c{i}"}
                )
                started = time.monotonic()
                reply = control.command("open", leg=f"c{i}", stream=to_wire(stream), engine=to_wire(engine))
                setup_ms.append((time.monotonic() - started) * 1000)
                if not reply["ok"]:
                    raise SystemExit(f"open: {reply}")
                followed.write(f"{port} {reply['host']} {reply['port']}\n")
                followed.flush()
                time.sleep(0.005)
        setup_ms.sort()
        time.sleep(options.settle)
        results = measure(generator, worker.pid, calls, options, "worker")
        control.read_waiting()
        stats = control.command("stats", leg="c0")["stats"]
        load = control.command("ping")
        summary = {
            "open_ms_p50": round(setup_ms[len(setup_ms) // 2], 2),
            "open_ms_p99": round(setup_ms[int(len(setup_ms) * 0.99)], 2),
            "kib_per_call": round((pss_kib(worker.pid) - idle) / calls, 1),
            "load": load["load"],
            "max_late_ms": max((e["max_late_ms"] for e in control.events if e["ev"] == "load"), default=0),
            "stats": stats,
        }
        print(json.dumps(summary), flush=True)
        return results
    finally:
        ours.close()
        try:
            worker.wait(5)
        finally:
            worker.kill()
            generator.stop()


def medians(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Windows in which the generator itself stood still say nothing about lateness."""
    quiet = [r for r in results if not r["hogs"]] or results
    steady = [r for r in quiet if not r["stalled"]] or quiet

    def latency(key: str) -> dict[str, float]:
        known = [r[key] for r in steady if r[key]]
        return {p: round(statistics.median(k[p] for k in known), 2) for p in ("p50", "p99")} if known else {}

    return {
        "what": results[0]["what"],
        "calls": results[0]["calls"],
        "cpu_ms_per_call_s": statistics.median(r["cpu_ms_per_call_s"] for r in results),
        "cpu_pct": statistics.median(r["cpu_pct"] for r in results),
        "bad_pct": statistics.median(r["bad_pct"] for r in steady),
        "up_ms": latency("up_ms"),
        "down_ms": latency("down_ms"),
        "rtt_ms": latency("rtt_ms"),
        "stalled_windows": sum(r["stalled"] for r in results),
    }


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("calls", type=int)
    parser.add_argument("--windows", type=int, default=3)
    parser.add_argument("--window", type=float, default=5)
    parser.add_argument("--settle", type=float, default=3)
    parser.add_argument("--rate", type=int, default=16000, help="of the engine")
    parser.add_argument("--codec", default="PCMU")
    parser.add_argument("--floor", action="store_true", help="measure the C floor too")
    parser.add_argument("--hog", type=int, default=0, help="busy processes on the bridge's core in window 2")
    parser.add_argument("--stall", type=float, default=0, help="seconds for which the bridge is stopped")
    parser.add_argument("--recovery", type=float, default=1, help="seconds between the stall and window 2")
    parser.add_argument("--python", action="append", default=[], help="option for the worker's interpreter")
    parser.add_argument("-v", "--verbose", action="store_true")
    return parser


def main() -> int:
    options = build_parser().parse_args()
    summaries = []
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        if options.floor:
            summaries.append(medians(run_floor(options.calls, options, work)))
        summaries.append(medians(run_worker(options.calls, options, work)))
    if options.floor:
        summaries[-1]["floor_ratio"] = round(summaries[1]["cpu_ms_per_call_s"] / summaries[0]["cpu_ms_per_call_s"], 3)
    for summary in summaries:
        print(json.dumps(summary))
    return 0


if __name__ == "__main__":
    sys.exit(main())
