"""Signalling alone, over sockets: our bare stack, Sippy and SIPp's own UAS under SIPp.

    python -m bench.signalling calls 300        CPU per call (INVITE, 200, ACK, 100 ms, BYE, 200) of all three
    python -m bench.signalling refusals 1000    CPU per INVITE that our gate refuses (INVITE, 503, ACK)
    python -m bench.signalling memory 10000     KiB (PSS) per dialog while so many are held
    python -m bench.signalling latency 0.7      INVITE → first response with the process at that share of its core

One JSON line each.  The CPU is the server process's, user and system, pinned to core 0; SIPp runs on core 1.  What a
call leaves behind for 64*T1 is paid for later, so the count goes on for ``--settle`` seconds after the last call.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.calls import UAC_HOST, run_sipp, sipp_command, sipp_stat
from bench.media_direct import pinned
from bench.programs import build_programs
from bench.server import AS_HOST, AS_PORT, session_cpu_s, session_pss_kib

__all__ = ["PEERS", "calls", "latency", "measure", "memory", "refusals"]

HERE = Path(__file__).resolve().parent
SIPPY_VENV = HERE.parent / ".venv-sippy"
BIND_S = 20.0
TRANSACTIONS_S = 33.0
"""After that all that a call leaves behind has ended."""


def sippy_python() -> Path:
    """Sippy lives in an environment of its own, made at the first use."""
    python = SIPPY_VENV / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(SIPPY_VENV)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "sippy"], check=True, stderr=subprocess.DEVNULL)
    return python


def command_of(peer: str, mode: str) -> list[str]:
    match peer:
        case "ims_as.sip":
            return [sys.executable, "-m", "bench.uas", AS_HOST, str(AS_PORT), mode]
        case "Sippy":
            return [str(sippy_python()), "-W", "ignore", str(HERE / "sippy_uas.py")]
        case _:
            sipp = shutil.which("sipp") or "sipp"
            return [sipp, "-sn", "uas", "-i", AS_HOST, "-p", str(AS_PORT), "-nostdin", "-buff_size", "1048576"]


PEERS = ("ims_as.sip", "Sippy", "SIPp UAS")


@contextmanager
def running_peer(peer: str, mode: str = "answer") -> Iterator[int]:
    """The server process alone on core 0; its session's id."""
    environment = dict(os.environ, BENCH_SIP_HOST=AS_HOST, BENCH_SIP_PORT=str(AS_PORT))
    process = subprocess.Popen(
        pinned("0", command_of(peer, mode), False),
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd=HERE.parent,
    )
    try:
        _wait_bound(process)
        yield process.pid
    finally:
        process.kill()
        process.wait(5)


def measure(peer: str, calls_per_s: float, *, seconds: float, work: Path, settle_s: float = 0.0) -> dict[str, Any]:
    """CPU per call at a rate that all can take."""
    calls = int(calls_per_s * seconds)
    with running_peer(peer) as sid:
        run_sipp(work, 20, 20, 100)
        time.sleep(settle_s)
        before = session_cpu_s(sid)
        run_sipp(work, calls, calls_per_s, 100)
        time.sleep(settle_s)
        spent = session_cpu_s(sid) - before
        stat = sipp_stat(work)
    return {
        "peer": peer,
        "rate": calls_per_s,
        "calls": calls,
        "failed": int(stat["FailedCall(C)"]),
        "cpu_us_per_call": round(1e6 * spent / calls),
        "calls_per_cpu_s": round(calls / spent),
    }


def calls(rate: float, *, seconds: float, work: Path, settle_s: float) -> Iterator[dict[str, Any]]:
    """The three in one run, and how many of Sippy's calls one of ours is worth."""
    rows = [measure(peer, rate, seconds=seconds, work=work, settle_s=settle_s) for peer in PEERS]
    for row in rows:
        row["times_sippy"] = round(rows[1]["cpu_us_per_call"] / row["cpu_us_per_call"], 2)
        yield row


def refusals(rate: float, *, seconds: float, work: Path) -> dict[str, Any]:
    """CPU per refused INVITE: 503 without state, and its ACK."""
    attempts = int(rate * seconds)
    with running_peer("ims_as.sip", "refuse") as sid:
        _run_sipp(work, "uac_refused.xml", 20, 20, 0)
        before = session_cpu_s(sid)
        _run_sipp(work, "uac_refused.xml", attempts, rate, 0)
        spent = session_cpu_s(sid) - before
        stat = sipp_stat(work)
    return {
        "what": "refusals",
        "rate": rate,
        "attempts": attempts,
        "failed": int(stat["FailedCall(C)"]),
        "cpu_us_per_refusal": round(1e6 * spent / attempts, 1),
        "refusals_per_cpu_s": round(attempts / spent),
    }


def memory(dialogs: int, *, work: Path) -> dict[str, Any]:
    """PSS per held dialog: at once, and when the transactions of the set-up have ended."""
    rate = 500.0
    hold_ms = int(1000 * (dialogs / rate + TRANSACTIONS_S + 10))
    with running_peer("ims_as.sip") as sid:
        run_sipp(work, 3000, rate, 10)  # tables and caches have their size
        time.sleep(TRANSACTIONS_S)
        idle = session_pss_kib(sid)
        more = ["-l", str(dialogs)]
        command = sipp_command("uac_sip.xml", work, dialogs, rate, hold_ms, *more)
        sipp = subprocess.Popen(
            pinned("1", command, True), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=work
        )
        try:
            time.sleep(dialogs / rate + 2)
            early = session_pss_kib(sid)
            time.sleep(TRANSACTIONS_S)
            late = session_pss_kib(sid)
        finally:
            sipp.wait(hold_ms / 1000 + 60)
        stat = sipp_stat(work)
    return {
        "what": "memory",
        "dialogs": dialogs,
        "failed": int(stat["FailedCall(C)"]),
        "kib_per_dialog": round((late - idle) / dialogs, 2),
        "kib_with_transactions": round((early - idle) / dialogs, 2),
    }


def latency(share: float, *, seconds: float, work: Path, mode: str = "answer") -> dict[str, Any]:
    """INVITE → first response (`mode` answer: the 200; trying: a 100 that goes out at once) under load.

    Our own caller makes the load and measures: SIPp cannot call often enough on one core, and its response times come
    in steps of its main loop.  The rate for the share of CPU is found by short runs.
    """
    with running_peer("ims_as.sip", mode) as sid:
        rate = 1000.0
        for _ in range(5):  # step by step: the cost of a call falls with the rate, for messages share wake-ups
            before = session_cpu_s(sid)
            failed = _load(work, rate, 3)["failed"]
            used = (session_cpu_s(sid) - before) / 3
            rate = round(rate * (0.7 if failed else min(1.5, share / used)))
        before = session_cpu_s(sid)
        result = _load(work, rate, seconds)
        used = session_cpu_s(sid) - before
    return {
        "what": f"INVITE → first response ({'100' if mode == 'trying' else '200'} at once)",
        "rate": round(rate),
        "cpu_share": round(used / seconds, 2),
        **result,
    }


def _load(work: Path, rate: float, seconds: float) -> dict[str, Any]:
    program = build_programs() / "sipload"
    command = [str(program), UAC_HOST, AS_HOST, str(AS_PORT), f"{rate:g}", f"{seconds:g}", "100"]
    done = subprocess.run(pinned("1", command, True), capture_output=True, check=True, cwd=work)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def _run_sipp(work: Path, scenario: str, calls: int, rate: float, hold_ms: int) -> None:
    command = sipp_command(scenario, work, calls, rate, hold_ms)
    subprocess.run(
        pinned("1", command, True), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=work, check=False
    )


def _wait_bound(process: subprocess.Popen[bytes]) -> None:
    address = "{:02X}{:02X}{:02X}{:02X}:{:04X}".format(*(int(part) for part in reversed(AS_HOST.split("."))), AS_PORT)
    end = time.monotonic() + BIND_S
    while time.monotonic() < end and process.poll() is None:
        if any(line.split()[1] == address for line in Path("/proc/net/udp").read_text().splitlines()[1:]):
            time.sleep(0.5)
            return
        time.sleep(0.1)
    raise SystemExit(f"{process.args!r} did not open its port")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["calls", "refusals", "memory", "latency"])
    parser.add_argument("number", type=float)
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--settle", type=float, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        match options.what:
            case "calls":
                for row in calls(options.number, seconds=options.seconds, work=work, settle_s=options.settle):
                    print(json.dumps(row), flush=True)
            case "refusals":
                print(json.dumps(refusals(options.number, seconds=options.seconds, work=work)))
            case "memory":
                print(json.dumps(memory(int(options.number), work=work)))
            case _:
                for mode in ("answer", "trying"):
                    row = latency(options.number, seconds=options.seconds, work=work, mode=mode)
                    print(json.dumps(row, ensure_ascii=False), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
