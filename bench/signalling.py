"""Signalling alone: CPU per call (INVITE, 200, ACK, 100 ms, BYE) of our stack, of Sippy and of SIPp's own UAS.

python -m bench.signalling 400
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
from pathlib import Path
from typing import Any

from bench.calls import run_sipp, sipp_stat
from bench.media_direct import pinned
from bench.server import AS_HOST, AS_PORT, session_cpu_s

__all__ = ["PEERS", "measure"]

HERE = Path(__file__).resolve().parent
SIPPY_VENV = HERE.parent / ".venv-sippy"
BIND_S = 20.0


def sippy_python() -> Path:
    """Sippy lives in an environment of its own, made at the first use."""
    python = SIPPY_VENV / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(SIPPY_VENV)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "sippy"], check=True, stderr=subprocess.DEVNULL)
    return python


def command_of(peer: str) -> list[str]:
    match peer:
        case "ims_as.sip":
            return [sys.executable, "-m", "bench.uas", AS_HOST, str(AS_PORT)]
        case "Sippy":
            return [str(sippy_python()), "-W", "ignore", str(HERE / "sippy_uas.py")]
        case _:
            sipp = shutil.which("sipp") or "sipp"
            return [sipp, "-sn", "uas", "-i", AS_HOST, "-p", str(AS_PORT), "-nostdin", "-buff_size", "1048576"]


PEERS = ("ims_as.sip", "Sippy", "SIPp UAS")


def measure(peer: str, calls_per_s: float, *, seconds: float, work: Path) -> dict[str, Any]:
    environment = dict(os.environ, BENCH_SIP_HOST=AS_HOST, BENCH_SIP_PORT=str(AS_PORT))
    process = subprocess.Popen(
        pinned("0", command_of(peer), False),
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd=HERE.parent,
    )
    try:
        _wait_bound(process)
        run_sipp(work, 20, 20, 100)
        before = session_cpu_s(process.pid)
        calls = int(calls_per_s * seconds)
        run_sipp(work, calls, calls_per_s, 100)
        spent = session_cpu_s(process.pid) - before
        stat = sipp_stat(work)
    finally:
        process.kill()
        process.wait(5)
    return {
        "peer": peer,
        "rate": calls_per_s,
        "calls": calls,
        "failed": int(stat["FailedCall(C)"]),
        "cpu_us_per_call": round(1e6 * spent / calls),
    }


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
    parser.add_argument("rate", type=float)
    parser.add_argument("--seconds", type=float, default=6)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        for peer in PEERS:
            print(json.dumps(measure(peer, options.rate, seconds=options.seconds, work=Path(directory))), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
