"""The captures of docs/flows, dissected by tshark: an independent reader of every message that we wrote."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

FLOWS = Path(__file__).parents[1] / "docs" / "flows"
SUSPICIOUS = "_ws.malformed || _ws.expert.severity >= 0x00600000"
"""Malformed, or at least a warning of tshark's."""
CAPTURES = sorted(FLOWS.glob("*.pcap"))


def tshark(capture: Path, shown: str, *fields: str) -> list[str]:
    options = [word for field in fields for word in ("-e", field)]
    command = ["tshark", "-r", str(capture), "-Y", shown, "-T", "fields", *options]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.splitlines()


def test_there_are_flows_and_the_readme_shows_each():
    text = (FLOWS / "README.md").read_text(encoding="utf-8")
    assert len(CAPTURES) >= 6
    assert [path.name for path in CAPTURES if f"({path.name})" not in text] == []


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda path: path.stem)
def test_every_packet_is_understood(capture: Path):
    assert tshark(capture, SUSPICIOUS, "frame.number") == []
    every = tshark(capture, "frame", "frame.number")
    assert len(every) >= 2
    assert tshark(capture, "sip", "frame.number") == every


def test_a_broken_message_would_be_noticed(tmp_path: Path):
    broken = tmp_path / "broken.pcap"
    data = (FLOWS / "answered.pcap").read_bytes()
    assert b"Max-Forwards: " in data
    broken.write_bytes(data.replace(b"Max-Forwards: ", b"Max-Forwards- "))
    assert tshark(broken, SUSPICIOUS, "frame.number") == ["1", "3", "4"]
