"""Overload: twice the peak for a minute altogether, then half of it. What is served, and how soon is all well again?

    python -m bench.overload 300            300 calls/s is about the peak; `python -m bench` finds it

SIPp in front of ``ims-as run``, whole calls with an echo engine, as in `bench.calls`. SIPp counts: calls completed,
calls refused with 503, and calls that failed in any other way (there must be none: what was accepted completes).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.calls import ENGINE_URL, echo_engine, sipp_command, sipp_stat
from bench.media_direct import pinned
from bench.server import Server, running_server, session_cpu_s

__all__ = ["find_peak", "phase", "run"]

HOLD_MS = 1000


def phase(server: Server, work: Path, rate: float, seconds: float) -> dict[str, Any]:
    """Offers that rate for so long; what SIPp saw, second by second and altogether."""
    for path in work.glob("uac_overload_*_counts.csv"):
        path.unlink()
    command = sipp_command("uac_overload.xml", work, int(rate * seconds), rate, HOLD_MS, "-trace_counts")
    before, begun = session_cpu_s(server.sid), time.monotonic()
    subprocess.run(
        pinned("1", command, True), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=work, check=False
    )
    elapsed = time.monotonic() - begun
    spent = session_cpu_s(server.sid) - before
    stat = sipp_stat(work)
    rows = _counts(work)
    refused = [row["refused"] for row in rows]
    completed = [row["completed"] for row in rows]
    offered_s = max(1, round(seconds))
    return {
        "offered_per_s": rate,
        "calls": int(stat["TotalCallCreated"]),
        "completed": sum(completed),
        "refused": sum(refused),
        "failed": int(stat["FailedCall(C)"]),
        "retransmissions": int(stat["Retransmissions(C)"]),
        # the first seconds are without BYEs, the last ones without INVITEs
        "completed_per_s": round(sum(completed[3:offered_s]) / max(1, len(completed[3:offered_s]))),
        "completed_by_second": completed,
        "refused_by_second": refused,
        "cpu_share": round(spent / elapsed, 2),
    }


def _counts(work: Path) -> list[dict[str, int]]:
    """Growth per second of the messages that tell a completed and a refused call."""
    (path,) = work.glob("uac_overload_*_counts.csv")
    lines = [line.rstrip(";").split(";") for line in path.read_text().splitlines()]
    names = lines[0]
    # the last 200 received is that of the BYE
    completed = max(index for index, name in enumerate(names) if name.endswith("_200_Recv"))
    refused = next(index for index, name in enumerate(names) if name.endswith("_503_Recv"))
    rows, last = [], (0, 0)
    for line in lines[1:]:
        now = int(line[completed]), int(line[refused])
        rows.append({"completed": now[0] - last[0], "refused": now[1] - last[1]})
        last = now
    return rows


def find_peak(guess: float, work: Path) -> float:
    """The rate that is just served: what is completed, with more and more offered, until something is refused."""
    settings = ["limits.calls=100000", "limits.calls_per_second=100000", "media.ports=10000-39999"]
    rate = guess
    with echo_engine(work, 300), running_server(work, ENGINE_URL, *settings) as server:
        phase(server, work, rate / 2, 4)  # warm
        for _ in range(8):
            seen = phase(server, work, rate, 8)
            if seen["refused"] or seen["failed"]:
                break
            rate *= 1.25
    return float(seen["completed_per_s"])


def run(peak: float, seconds: float, work: Path, *, rounds: int = 3) -> dict[str, Any]:
    """Peak and overload in turn, so that a machine that becomes slower or faster meanwhile does so to both."""
    limit = int(2 * seconds + 300)
    settings = ["limits.calls=100000", "limits.calls_per_second=100000", "media.ports=10000-39999"]
    peaks, overloads = [], []
    with echo_engine(work, limit), running_server(work, ENGINE_URL, *settings) as server:
        phase(server, work, peak / 2, 4)  # warm
        for _ in range(rounds):
            peaks.append(phase(server, work, peak, 10))
            overloads.append(phase(server, work, 2 * peak, seconds / rounds))
        peaks.append(phase(server, work, peak, 10))
        recovery = phase(server, work, peak / 2, 6)
    best = sum(seen["completed_per_s"] for seen in peaks) / len(peaks)
    served = sum(seen["completed_per_s"] for seen in overloads) / rounds
    return {
        "what": "overload",
        "goodput": round(served / best, 3) if best else 0.0,
        "refused_after_2_s": sum(recovery["refused_by_second"][2:]),
        "failed": sum(seen["failed"] for seen in (*peaks, *overloads, recovery)),
        "peak_per_s": [seen["completed_per_s"] for seen in peaks],
        "overload_per_s": [seen["completed_per_s"] for seen in overloads],
        "peak": peaks[-1],
        "overload": overloads[-1],
        "recovery": recovery,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peak", type=float, help="calls per second")
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        print(json.dumps(run(options.peak, options.seconds, Path(directory))))
    return 0


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    sys.exit(main())
