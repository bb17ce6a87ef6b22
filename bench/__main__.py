"""``make bench``: the tables of the numbers that matter, kept under bench/results/ with machine and date.

Each ratio is against something measured in the same run: the C floor (receives and sends the same packets and frames,
woken by epoll, G.711 by table) for media, Sippy and SIPp's own UAS for signalling.  Nothing here fails on time.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench import calls, media_direct, signalling

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
    rows = []
    for peer in signalling.PEERS:
        with tempfile.TemporaryDirectory() as directory:
            one = signalling.measure(peer, 300, seconds=options.seconds, work=Path(directory))
        rows.append([peer, str(one["rate"]), str(one["failed"]), str(one["cpu_us_per_call"])])
    say("Signalling alone", table(["UAS", "calls/s", "failed", "CPU µs per call"], rows))
    return "\n\n".join(parts) + "\n"


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
    options = parser.parse_args()
    text = run(options)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}.md"
    path.write_text(text)
    print(f"\nkept in {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
