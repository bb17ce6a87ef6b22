"""Whole calls: SIPp in front of ``ims-as run``, the load generator as callers' RTP and as echo engine.

    python -m bench.calls media 300     CPU per call-second and lateness with N calls up
    python -m bench.calls setup 50      INVITE → 200 at a rate, with a warm Sh cache
    python -m bench.calls rate 200      calls per second: CPU per answered call, engine connected each time
    python -m bench.calls row 1000      so many calls in a row: is all back where it was?

One JSON line each.  The server is pinned to core 0, SIPp and the generator to core 1.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.media_direct import CALLER_HOST, CALLER_PORT, ENGINE_PORT, LoadGenerator, pinned
from bench.server import AS_HOST, AS_PORT, Server, running_server, session_cpu_s, session_fds, session_pss_kib

UAC_HOST, UAC_PORT = "127.0.0.40", 5060
HSS_HOST, HSS_PORT = "127.0.0.10", 3868
ENGINE_URL = f"ws://{CALLER_HOST}:{ENGINE_PORT}/media"
HERE = Path(__file__).resolve().parent
RAMP_PER_S = 50


def sipp_command(scenario: str, work: Path, calls: int, rate: float, hold_ms: int, *more: str) -> list[str]:
    sipp = shutil.which("sipp")
    if sipp is None:
        raise SystemExit("SIPp is missing: install sip-tester")
    limit = int(calls / rate + hold_ms / 1000 + 40)
    command = [sipp, "-sf", str(HERE / "sipp" / scenario), "-s", "ai", "-i", UAC_HOST, "-p", str(UAC_PORT)]
    command += ["-mi", CALLER_HOST, "-m", str(calls), "-r", f"{rate:g}", "-d", str(hold_ms), "-nostdin"]
    command += ["-timeout", f"{limit}s", "-timeout_error", "-buff_size", "4194304", "-trace_stat"]
    command += ["-stf", str(work / "stat.csv"), "-fd", "1", "-trace_rtt", "-rtt_freq", "1"]
    return [*command, *more, f"{AS_HOST}:{AS_PORT}"]


def sipp_stat(work: Path) -> dict[str, str]:
    rows = [row.split(";") for row in (work / "stat.csv").read_text().splitlines() if row]
    return dict(zip(rows[0], rows[-1], strict=False))


@contextmanager
def running_hss(work: Path, user: str) -> Iterator[None]:
    """The lab HSS with one subscriber, as its own process."""
    command = [sys.executable, "-m", "bench.hss", HSS_HOST, str(HSS_PORT), user]
    process = subprocess.Popen(pinned("1", command, False), stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield
    finally:
        process.terminate()
        process.wait(5)


def media(calls: int, *, windows: int, window_s: float, work: Path) -> dict[str, Any]:
    """CPU and lateness with calls up; the medians of the windows."""
    span_s = windows * (window_s + 0.5) + 8
    targets = work / "targets"
    targets.touch()
    generator = LoadGenerator(calls, work, "-f", str(targets), limit=int(calls / RAMP_PER_S + span_s + 60), rate=16000)
    (work / "ports.csv").write_text("SEQUENTIAL\n" + "".join(f"{CALLER_PORT + 2 * i};\n" for i in range(calls)))
    try:
        with running_server(work, ENGINE_URL) as server:
            idle_kib = session_pss_kib(server.sid)
            hold_ms = int(1000 * (calls / RAMP_PER_S + span_s))
            command = sipp_command(
                "uac_media.xml",
                work,
                calls,
                RAMP_PER_S,
                hold_ms,
                *("-l", str(calls), "-inf", str(work / "ports.csv"), "-trace_logs", "-log_file", str(targets)),
            )
            sipp = subprocess.Popen(
                pinned("1", command, True), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=work
            )
            try:
                end = time.monotonic() + calls / RAMP_PER_S + 20
                while time.monotonic() < end and len(targets.read_text().splitlines()) < calls:
                    time.sleep(0.2)
                time.sleep(4)
                return _media_windows(server, generator, calls, windows, window_s, idle_kib)
            finally:
                sipp.terminate()
                sipp.wait(5)
    finally:
        generator.stop()


def _media_windows(
    server: Server, generator: LoadGenerator, calls: int, windows: int, window_s: float, idle_kib: int
) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    for _ in range(windows):
        before, started = session_cpu_s(server.sid), time.monotonic()
        line = generator.window(window_s)
        spent, took = session_cpu_s(server.sid) - before, time.monotonic() - started
        missing = max(0.0, 100 * (1 - line["rtp_rx_ratio"]))
        rows.append(
            {
                "cpu": 1000 * spent / took / calls,
                "bad": line["late20_pct"] + missing,
                "stalled": line["self"]["max_send_late_ms"] > 10,
                "line": line,
            }
        )
        time.sleep(0.3)
    steady = [row for row in rows if not row["stalled"]] or rows

    def latency(key: str) -> dict[str, float]:
        known = [row["line"][key] for row in steady if row["line"][key]]
        return {p: round(statistics.median(each[p] for each in known), 2) for p in ("p50", "p99")} if known else {}

    return {
        "what": "ims-as",
        "calls": calls,
        "answered": int(rows[-1]["line"]["dst_known"]),
        "cpu_ms_per_call_s": round(statistics.median(row["cpu"] for row in rows), 3),
        "bad_pct": round(statistics.median(row["bad"] for row in steady), 3),
        "up_ms": latency("up_ms"),
        "down_ms": latency("down_ms"),
        "rtt_ms": latency("rtt_ms"),
        "kib_per_call": round((session_pss_kib(server.sid) - idle_kib) / calls, 1),
        "stalled_windows": sum(row["stalled"] for row in rows),
    }


@contextmanager
def echo_engine(work: Path, limit_s: int) -> Iterator[None]:
    generator = LoadGenerator(1, work, limit=limit_s, rate=16000)
    try:
        yield
    finally:
        generator.stop()


def run_sipp(work: Path, calls: int, rate: float, hold_ms: int) -> None:
    command = sipp_command("uac_sip.xml", work, calls, rate, hold_ms)
    subprocess.run(
        pinned("1", command, True), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=work, check=False
    )


def _rtts_ms(work: Path) -> list[float]:
    """Response times of -trace_rtt, milliseconds, sorted."""
    times = []
    for path in work.glob("uac_sip_*_rtt.csv"):
        for row in path.read_text().splitlines()[1:]:
            times.append(float(row.split(";")[1]))
    return sorted(times)


def setup(rate: float, *, seconds: float, work: Path) -> dict[str, Any]:
    """INVITE → 200 as SIPp sees it, at a rate, every call for a subscriber whose profile is cached."""
    calls = int(rate * seconds)
    peers = f'diameter.peers=[{{"address":"tcp:{HSS_HOST}:{HSS_PORT}"}}]'
    user = f"sip:ai@{AS_HOST}:{AS_PORT}"
    with (
        echo_engine(work, int(seconds + 60)),
        running_hss(work, user),
        running_server(work, ENGINE_URL, peers) as server,
    ):
        run_sipp(work, 5, 5, 100)  # warms the Sh cache
        for path in work.glob("uac_sip_*_rtt.csv"):
            path.unlink()
        run_sipp(work, calls, rate, 200)
        stat = sipp_stat(work)
        listed = server.api(f"/calls?limit={calls}")
        hits = sum(
            value for name, value in server.metrics().items() if name.startswith("ims_as_sh_cache") and "hit" in name
        )
    inside = sorted(call["setup_ms"] for call in listed["calls"] if call["setup_ms"] is not None)
    outside = _rtts_ms(work)
    return {
        "what": "INVITE → 200, warm Sh cache",
        "rate": rate,
        "calls": len(inside),
        "failed": int(stat["FailedCall(C)"]),
        "inside_ms": _quantiles(inside),
        "sipp_ms": _quantiles(outside),
        "sh_cache_hits": int(hits),
    }


def _quantiles(times: list[float]) -> dict[str, float]:
    if not times:
        return {}
    return {"p50": times[len(times) // 2], "p99": times[int(len(times) * 0.99)], "max": times[-1]}


def rate(calls_per_s: float, *, seconds: float, work: Path) -> dict[str, Any]:
    """CPU of a whole answered call (INVITE, engine connected, 200, ACK, 100 ms, BYE)."""
    calls = int(calls_per_s * seconds)
    with echo_engine(work, int(seconds + 60)), running_server(work, ENGINE_URL) as server:
        run_sipp(work, 20, 20, 100)
        before = session_cpu_s(server.sid)
        run_sipp(work, calls, calls_per_s, 100)
        spent = session_cpu_s(server.sid) - before
        stat = sipp_stat(work)
    return {
        "what": "answered calls",
        "rate": calls_per_s,
        "calls": calls,
        "failed": int(stat["FailedCall(C)"]),
        "retransmissions": int(stat["Retransmissions(C)"]),
        "cpu_us_per_call": round(1e6 * spent / calls),
        "calls_per_cpu_s": round(calls / spent),
    }


def row(calls: int, *, work: Path) -> dict[str, Any]:
    """So many calls; descriptors, memory, legs, dialogs before and after."""

    def look(server: Server) -> dict[str, float]:
        metrics = server.metrics()
        return {
            "pss_kib": session_pss_kib(server.sid),
            "fds": session_fds(server.sid),
            "calls": metrics["ims_as_calls_active"],
            "dialogs": metrics["ims_as_sip_dialogs"],
            "transactions": metrics["ims_as_sip_transactions"],
            "legs": sum(value for name, value in metrics.items() if name.startswith("ims_as_media_worker_legs")),
        }

    with echo_engine(work, int(calls / 50 + 120)), running_server(work, ENGINE_URL) as server:
        run_sipp(work, 1200, 100, 100)  # fills the rings of ended calls, so that what grows after is a leak
        time.sleep(33)  # transactions live 32 s
        before = look(server)
        run_sipp(work, calls, 100, 100)
        time.sleep(33)
        after = look(server)
        stat = sipp_stat(work)
    return {
        "what": "calls in a row",
        "calls": calls,
        "failed": int(stat["FailedCall(C)"]),
        "before": before,
        "after": after,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["media", "setup", "rate", "row"])
    parser.add_argument("number", type=float)
    parser.add_argument("--windows", type=int, default=3)
    parser.add_argument("--window", type=float, default=5)
    parser.add_argument("--seconds", type=float, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        match options.what:
            case "media":
                result = media(int(options.number), windows=options.windows, window_s=options.window, work=work)
            case "setup":
                result = setup(options.number, seconds=options.seconds, work=work)
            case "rate":
                result = rate(options.number, seconds=options.seconds, work=work)
            case _:
                result = row(int(options.number), work=work)
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
