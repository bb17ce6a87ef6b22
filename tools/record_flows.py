"""Record `docs/flows/*.pcap` anew: each a conformance case against a server of its own, captured on the loopback.

    python tools/record_flows.py [NAME …]

Needs sipp, dumpcap and tshark, and the right to capture (root). Nothing else should speak SIP on the loopback
meanwhile. Writes `docs/flows/README.md` besides.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FLOWS = ROOT / "docs" / "flows"
CASES = ROOT / "conformance" / "cases"
WANTED = {
    "answered": "isc/answered",
    "no-resources-503": "isc/inability",
    "passed-on": "pass-on/answered",
    "emergency-passed-on": "pass-on/emergency",
    "third-party-register": "isc/third-party-register",
    "cancelled": "cancel/before-answer",
    "early-media": "reliability/early-media",
    "prack-required": "reliability/required",
    "delayed-offer": "offer-answer/offerless",
    "preconditions-met-by-update": "preconditions/met-by-update",
    "update-in-early-dialog": "update/early",
    "hold-and-resume": "dialog/hold",
    "codec-refused": "dialog/codec-refused",
    "offerless-reinvite": "dialog/offerless-reinvite",
    "session-timer-refresh": "session-timer/server-refreshes",
    "session-interval-too-small": "session-timer/too-small",
    "handed-to-a-human": "transfer/answered",
    "refer": "transfer/refer",
    "replaces": "transfer/replaces",
    "b2bua": "b2bua/reliable",
    "overload": "overload/full",
    "large-invite-over-tcp": "transport/tcp-large",
}
HEAD = """# Call flows

Captures of real calls against ims-as, one conformance case each; open them in Wireshark, or with
`tshark -r answered.pcap -Y sip`. The media is left out. `python tools/record_flows.py` records them anew.

"""


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def record(name: str, case: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        raw = f"{folder}/raw.pcap"
        capture = subprocess.Popen(
            ["dumpcap", "-q", "-P", "-i", "lo", "-f", "udp or tcp", "-w", raw],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            time.sleep(1.0)  # until it captures
            run(sys.executable, "-c", "from conformance.cli import main; main()", "run", case)
            time.sleep(0.5)  # until it has written
        finally:
            capture.terminate()
            capture.wait(5)
        run("tshark", "-r", raw, "-Y", "sip", "-F", "pcap", "-w", str(FLOWS / f"{name}.pcap"))


def ladder(name: str) -> list[str]:
    """Lines of time, direction and message."""
    fields = (
        "frame.time_relative",
        "ip.src",
        "udp.srcport",
        "ip.dst",
        "sip.Method",
        "sip.Status-Line",
        "sip.CSeq.method",
    )
    options = [word for field in fields for word in ("-e", field)]
    lines = []
    hosts: dict[str, str] = {}
    for line in run("tshark", "-r", str(FLOWS / f"{name}.pcap"), "-Y", "sip", "-T", "fields", *options).splitlines():
        at, source, _, target, method, status, of = line.split("\t")
        for host in (source, target):
            hosts.setdefault(host, chr(ord("A") + len(hosts)))
        # a body may hold a message of its own: the first one is meant
        method, status, of = (text.split(",")[0] for text in (method, status, of))
        what = method or f"{status.removeprefix('SIP/2.0 ')} ({of})"
        lines.append(f"{float(at) * 1000:9.1f} ms  {hosts[source]} → {hosts[target]}  {what}")
    return [*lines, "", *(f"{letter} = {host}" for host, letter in hosts.items())]


def main() -> None:
    FLOWS.mkdir(exist_ok=True)
    for name in sys.argv[1:] or WANTED:
        record(name, WANTED[name])
    text = HEAD
    for name, case in WANTED.items():
        told = tomllib.loads((CASES / case / "case.toml").read_text(encoding="utf-8"))
        text += f"## [{name}]({name}.pcap)\n\n{told['summary']} ({told['clause']}; case `{case}`).\n\n```\n"
        text += "\n".join(ladder(name)) + "\n```\n\n"
    (FLOWS / "README.md").write_text(text.rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
