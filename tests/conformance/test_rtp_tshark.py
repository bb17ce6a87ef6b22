"""tshark reads the RTP of each codec as we send it: cleanly, and with the frames that are in it."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest

from media.rtp import build_rtp
from tests.support.speech_codecs import SPOKEN, Packet, Spoken, at_rate, encode_all
from tests.support.speech_score import RATE_HZ, recording

PORT = 40000
N_PACKETS = 100
AMR_FAULTS = [
    "amr.spare_bit_not0",
    "amr.not_enough_data_for_frames",
    "amr.superfluous_data",
    "amr.padding_bits_not0",
    "amr.reserved.not_zero",
]


def packets_of(spoken: Spoken) -> list[Packet]:
    return encode_all(spoken, at_rate(recording("cards-005.wav"), RATE_HZ, spoken.rate_hz))[:N_PACKETS]


def write_capture(path: Path, spoken: Spoken) -> None:
    """RTP over UDP over IPv4 (raw IP, pcap)."""
    records = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101)]
    for number, packet in enumerate(packets_of(spoken)):
        rtp = build_rtp(
            payload_type=spoken.payload_type,
            marker=number == 0,
            sequence=number,
            timestamp=packet.frame * spoken.frame_timestamps,
            ssrc=9,
            payload=packet.payload,
        )
        udp = struct.pack(">HHHH", PORT, PORT, 8 + len(rtp), 0) + rtp
        ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, b"\x7f\0\0\1", b"\x7f\0\0\2")
        at = packet.frame * 20000
        records.append(struct.pack("<IIII", at // 1000000, at % 1000000, 20 + len(udp), 20 + len(udp)) + ip + udp)
    path.write_bytes(b"".join(records))


def read(path: Path, spoken: Spoken, fields: list[str], *options: str) -> list[list[str]]:
    """One row per packet; a field that occurs several times has its values joined by commas."""
    command = ["tshark", "-r", str(path), "-d", f"udp.port=={PORT},rtp", *options, "-T", "fields"]
    command += [
        word for name in ("rtp.p_type", "_ws.expert.message", "_ws.malformed", *fields) for word in ("-e", name)
    ]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = [line.split("\t") for line in out.splitlines()]
    for number, expert, malformed, *_ in rows:
        assert int(number) == spoken.payload_type
        assert (expert, malformed) == ("", "")
    return [row[3:] for row in rows]


@pytest.mark.parametrize("octet_align", [0, 1])
@pytest.mark.parametrize(("name", "rate_hz", "kind", "modes"), [("AMR", 8000, "nb", 8), ("AMR-WB", 16000, "wb", 9)])
def test_amr_in_both_forms(name: str, rate_hz: int, kind: str, modes: int, octet_align: int, tmp_path: Path) -> None:
    form = "RFC 3267 octet aligned" if octet_align else "RFC 3267 BW-efficient"
    options = ["-o", f"amr.encoding.version:{form}", "-d", f"rtp.pt==98,{'amr' if kind == 'nb' else 'amr_wb'}"]
    for mode in (0, modes - 1):
        spoken = Spoken(name, name, rate_hz, rate_hz, {"mode-set": str(mode), "octet-align": str(octet_align)})
        path = tmp_path / f"{mode}.pcap"
        write_capture(path, spoken)
        fields = [f"amr.{kind}.cmr", f"amr.{kind}.toc.ft", "amr.toc.f", "amr.toc.q", *AMR_FAULTS]
        rows = read(path, spoken, fields, *options)
        assert len(rows) == N_PACKETS
        assert {row[0] for row in rows} == {"15"}
        sid = 8 if kind == "nb" else 9
        assert str(mode) in {row[1] for row in rows} <= {str(mode), str(sid)}
        assert {tuple(row[4:]) for row in rows} == {("",) * len(AMR_FAULTS)}
        assert {(row[2], row[3]) for row in rows} <= {("0", "1"), ("False", "True")}


def test_opus(tmp_path: Path) -> None:
    spoken = SPOKEN["Opus"]
    path = tmp_path / "opus.pcap"
    write_capture(path, spoken)
    rows = read(path, spoken, ["opus.TOC.config", "opus.TOC.s", "opus.TOC.c"], "-d", "rtp.pt==98,opus")
    assert len(rows) == N_PACKETS
    assert {row[0] for row in rows} <= {"1", "5", "9"}  # SILK of 20 ms, up to wideband
    assert {row[2] for row in rows} == {"0"}  # one frame
    assert {row[1] for row in rows} <= {"0", "False"}


@pytest.mark.parametrize(("label", "octets"), [("PCMU", 160), ("PCMA", 160), ("G722", 160), ("G729", 20)])
def test_codecs_with_numbers_of_their_own(label: str, octets: int, tmp_path: Path) -> None:
    spoken = SPOKEN[label]
    path = tmp_path / "call.pcap"
    write_capture(path, spoken)
    rows = read(path, spoken, ["rtp.payload", "rtp.timestamp", "rtp.marker"])
    assert [bytes.fromhex(row[0].replace(":", "")) for row in rows] == [each.payload for each in packets_of(spoken)]
    assert {len(each.payload) for each in packets_of(spoken)} == {octets}
    assert [int(row[1]) for row in rows] == list(range(0, 160 * N_PACKETS, 160))
