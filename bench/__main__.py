"""``make bench``: the tables of the numbers that matter, kept under bench/results/ with machine and date.

Each ratio is against something measured in the same run: the C floor (receives and sends the same packets and frames,
woken by epoll, G.711 by table) for media, Sippy and SIPp's own UAS for signalling, python-diameter for
Diameter.  Nothing here fails on time.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench import calls, diameter, media_direct, overload, signalling

PERCENTILES = ("p50", "p99", "p999", "max")
RESULTS = Path(__file__).resolve().parent / "results"


def media_rows(counts: list[int], windows: int, window_s: float) -> list[list[str]]:
    rows = []
    given = [str(counts[0]), "--windows", str(windows), "--window", str(window_s)]
    options = media_direct.build_parser().parse_args(given)
    for count in counts:
        with tempfile.TemporaryDirectory() as directory:
            floor = media_direct.medians(media_direct.run_floor(count, options, Path(directory)))
        with tempfile.TemporaryDirectory() as directory:
            ours = calls.media(count, windows=windows, window_s=window_s, work=Path(directory))
        ratio = ours["cpu_ms_per_call_s"] / floor["cpu_ms_per_call_s"]
        rows.append(
            [
                str(count),
                str(ours["answered"]),
                f"{ours['cpu_ms_per_call_s']:.2f}",
                f"{floor['cpu_ms_per_call_s']:.2f}",
                f"**{ratio:.2f}**",
                f"{ours['bad_pct']:.3f}",
                _pair(ours["up_ms"]),
                _pair(ours["down_ms"]),
                f"{ours['kib_per_call']:.0f}",
            ]
        )
    return rows


def _pair(latency: dict[str, float]) -> str:
    return f"{latency['p50']:.1f} / {latency['p99']:.1f}" if latency else "–"


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def run(options: argparse.Namespace) -> str:
    parts = [_machine()]

    def say(title: str, text: str) -> None:
        parts.append(f"## {title}\n\n{text}")
        print(f"\n## {title}\n\n{text}", flush=True)

    print(parts[0])
    head = ["calls", "answered", "CPU ms per call-second", "floor", "ratio", "late or lost %"]
    head += ["caller→engine p50 / p99 ms", "engine→caller p50 / p99 ms", "KiB per call"]
    counts = [int(each) for each in options.calls.split(",")]
    say(
        "Calls up, through SIP, media worker and engine",
        table(head, media_rows(counts, options.windows, options.window)),
    )
    rows = [_setup_row(options.seconds)]
    say(
        "INVITE → 200 at 50 calls/s, warm Sh cache",
        table(["calls", "failed", "inside p50 / p99 / max ms", "at SIPp"], rows),
    )
    with tempfile.TemporaryDirectory() as directory:
        busy = calls.rate(150, seconds=options.seconds, work=Path(directory))
    rows = [[str(busy["rate"]), str(busy["failed"]), str(busy["cpu_us_per_call"]), str(busy["calls_per_cpu_s"])]]
    say(
        "Answered calls, engine connected each time",
        table(["calls/s", "failed", "CPU µs per call", "calls per CPU-second"], rows),
    )
    _overload(say, 0.9 * busy["calls_per_cpu_s"], options.overload)
    _signalling(say, options.seconds)
    _diameter(say, options.seconds)
    return "\n\n".join(parts) + "\n"


def _signalling(say: Callable[[str, str], None], seconds: float) -> None:
    """The signalling plane: the bare stack over sockets and without, and the whole server in overload."""
    rows = []
    for rate in (300, 900):
        with tempfile.TemporaryDirectory() as directory:
            for one in signalling.calls(rate, seconds=seconds, work=Path(directory), settle_s=33):
                rows.append([str(one[k]) for k in ("peer", "rate", "failed", "cpu_us_per_call", "calls_per_cpu_s")])
                rows[-1].append(f"**{one['times_sippy']:.1f}**")
    head = ["UAS", "calls/s", "failed", "CPU µs per call", "calls per CPU-second", "× Sippy"]
    say("Signalling alone (INVITE, 200, ACK, BYE, 200), until the last transaction has ended", table(head, rows))
    call_rate = int(rows[-3][4])
    with tempfile.TemporaryDirectory() as directory:
        refused = signalling.refusals(2000, seconds=seconds, work=Path(directory))
        held = signalling.memory(10_000, work=Path(directory))
        first = [signalling.latency(0.7, seconds=seconds, work=Path(directory), mode=m) for m in ("answer", "trying")]
    ratio = refused["refusals_per_cpu_s"] / call_rate
    row = [refused[k] for k in ("rate", "failed", "cpu_us_per_refusal", "refusals_per_cpu_s")]
    head = ["INVITEs/s", "failed", "CPU µs per 503", "503s per CPU-second", "× calls at 900/s"]
    say("Refused by the gate (INVITE, 503, ACK)", table(head, [[*map(str, row), f"**{ratio:.1f}**"]]))
    rows = [
        [one["what"], str(one["rate"]), str(one["cpu_share"]), str(one["failed"]), *(str(one[k]) for k in PERCENTILES)]
        for one in first
    ]
    say("Under load", table(["what", "calls/s", "CPU", "failed", *(f"{k} ms" for k in PERCENTILES)], rows))
    inside = {name: _in_a_process(name) for name in ("parse", "calls", "refusals", "memory")}
    rows = [
        [f"parse an INVITE of {inside['parse']['bytes']} bytes over ISC", f"{inside['parse']['parse_us']} µs"],
        ["the same and read what routing needs", f"{inside['parse']['parse_and_route_us']} µs"],
        ["a call of such an INVITE, without the kernel", f"{inside['calls']['cpu_us_per_call']} µs"],
        ["refusing it, and its ACK", f"{inside['refusals']['cpu_us_per_refusal']} µs"],
        ["held dialog of such an INVITE (PSS of 10,000)", f"{inside['memory']['kib_per_dialog']} KiB"],
        ["held dialog of SIPp (PSS of 10,000)", f"{held['kib_per_dialog']} KiB"],
    ]
    say("Inside the stack", table(["what", "each"], rows))


def _diameter(say: Callable[[str, str], None], seconds: float) -> None:
    """Our client and python-diameter's against the same server."""
    head = ["client", "requests", "per CPU-second", "× python-diameter"]
    for title, rows in (
        ("UDR/UDA over Diameter", diameter.requests(8000)),
        ("PNR/PNA over Diameter", diameter.pushes(8000)),
    ):
        cells = [[row["what"], str(row["count"]), str(row["per_cpu_s"])] for row in rows]
        ratios = [f"**{row['times_python_diameter']}**" for row in rows]
        say(title, table(head, [[*cell, ratio] for cell, ratio in zip(cells, ratios, strict=True)]))
    timed = diameter.latency(1000, seconds)
    say(
        "A UDR through a healthy peer, 1,000/s",
        table(["requests", "p50 ms", "p99 ms", "max ms"], [[str(timed["count"]), *_ms(timed)]]),
    )


def _ms(times: dict[str, float]) -> list[str]:
    return [f"{times[name]:.2f}" for name in ("p50", "p99", "max")]


def _overload(say: Callable[[str, str], None], guess: float, seconds: float) -> None:
    """The whole server, engines and all, offered twice its peak."""
    with tempfile.TemporaryDirectory() as directory:
        peak = overload.find_peak(round(guess), Path(directory))
    with tempfile.TemporaryDirectory() as directory:
        result = overload.run(round(peak), seconds, Path(directory))
    names = ("peak", "overload", "recovery")
    keys = ("offered_per_s", "calls", "completed_per_s", "refused", "failed", "retransmissions", "cpu_share")
    rows = [[name, *(str(result[name][key]) for key in keys)] for name in names]
    head = ["phase", "offered/s", "calls", "completed/s", "refused", "failed", "retransmissions", "CPU"]
    text = table(head, rows)
    text += f"\n\nGoodput in overload: **{result['goodput']:.2f}** of the peak; refused later than 2 s after it: "
    say(f"Twice the peak for {seconds:g} s", f"{text}{result['refused_after_2_s']}.")


def _in_a_process(piece: str) -> dict[str, Any]:
    """A piece of `bench.stack` in a process of its own, on the server's core."""
    command = media_direct.pinned("0", [sys.executable, "-m", "bench.stack", piece], False)
    result: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return result


def _setup_row(seconds: float) -> list[str]:
    with tempfile.TemporaryDirectory() as directory:
        result: dict[str, Any] = calls.setup(50, seconds=seconds, work=Path(directory))

    def three(times: dict[str, float]) -> str:
        return " / ".join(f"{times[key]:.1f}" for key in ("p50", "p99", "max")) if times else "–"

    return [str(result["calls"]), str(result["failed"]), three(result["inside_ms"]), three(result["sipp_ms"])]


def _machine() -> str:
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    when = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    python = f"Python {platform.python_version()}, trio {version('trio')}, numpy {version('numpy')}"
    return (
        f"# ims-as {version('ims-as')}, {when}\n\n{model}, {os.cpu_count()} cores; {python}. Medians; server on core 0."
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--calls", default="100,300,600")
    parser.add_argument("--windows", type=int, default=3)
    parser.add_argument("--window", type=float, default=5)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--overload", type=float, default=60, help="seconds at twice the peak")
    options = parser.parse_args()
    text = run(options)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}.md"
    path.write_text(text)
    print(f"\nkept in {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
