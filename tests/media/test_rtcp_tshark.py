"""Every packet of ours that goes over the media path, dissected by tshark: without a complaint, and as it was meant."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest

from media.dtmf import DtmfSender
from media.rtcp import (
    CNAME,
    Bye,
    ReceiverReport,
    ReportBlock,
    SdesChunk,
    SenderReport,
    SourceDescription,
    build_rtcp,
    ntp_of,
)
from media.rtcp_xr import Dlrr, DlrrEntry, ExtendedReport, ReferenceTime, VoipMetrics
from media.rtp import build_rtp

RTP_PORT, RTCP_PORT = 20000, 20001
OURS, THEIRS = 0x11223344, 0x55667788
BLOCK = ReportBlock(THEIRS, 64, -3, 0x0001FFFE, 80, 0xAABBCCDD, 131072)
DESCRIPTION = SourceDescription((SdesChunk(OURS, ((CNAME, b"cname of ours"),)),))
SENDER = SenderReport(OURS, ntp_of(1.7e9), 160000, 1000, 160000, (BLOCK,))
RECEIVER = ReceiverReport(OURS, (BLOCK,))
METRICS = VoipMetrics(
    ssrc=THEIRS,
    loss_rate=5,
    discard_rate=6,
    burst_density=200,
    gap_density=3,
    burst_ms=120,
    gap_ms=4000,
    round_trip_ms=80,
    end_system_ms=35,
    signal_level=-20,
    noise_level=-70,
    r_factor=88,
    mos_lq=41,
    mos_cq=40,
    rx_config=0xB0,
    jb_nominal_ms=0,
    jb_maximum_ms=40,
    jb_abs_max_ms=80,
)
COMPOUNDS = {
    "sender report": build_rtcp([SENDER, DESCRIPTION]),
    "receiver report": build_rtcp([RECEIVER, DESCRIPTION]),
    "nothing heard": build_rtcp([ReceiverReport(OURS), DESCRIPTION]),
    "goodbye": build_rtcp([RECEIVER, DESCRIPTION, Bye((OURS,), "SSRC collision")]),
    "goodbye without a reason": build_rtcp([SENDER, DESCRIPTION, Bye((OURS,))]),
    "reference time": build_rtcp([ReceiverReport(OURS), DESCRIPTION, ExtendedReport(OURS, (ReferenceTime(7 << 32),))]),
    "all extended blocks": build_rtcp(
        [
            RECEIVER,
            DESCRIPTION,
            ExtendedReport(OURS, (ReferenceTime(7 << 32), Dlrr((DlrrEntry(THEIRS, 9, 65536),)), METRICS)),
        ]
    ),
}
FIELDS = {
    "sender report": {
        "rtcp.pt": "200,202",
        "rtcp.senderssrc": "0x11223344",
        "rtcp.timestamp.rtp": "160000",
        "rtcp.sender.packetcount": "1000",
        "rtcp.sender.octetcount": "160000",
        "rtcp.ssrc.identifier": "0x55667788,0x11223344",
        "rtcp.ssrc.fraction": "64",
        "rtcp.ssrc.cum_nr": "-3",
        "rtcp.ssrc.high_seq": "65534",
        "rtcp.ssrc.high_cycles": "1",
        "rtcp.ssrc.jitter": "80",
        "rtcp.ssrc.dlsr": "131072",
        "rtcp.sdes.text": "cname of ours",
    },
    "receiver report": {"rtcp.pt": "201,202", "rtcp.rc": "1"},
    "nothing heard": {"rtcp.pt": "201,202", "rtcp.rc": "0"},
    "goodbye": {"rtcp.pt": "201,202,203", "rtcp.bye_reason_not_padded": "", "rtcp.length_check": "1"},
    "all extended blocks": {
        "rtcp.pt": "201,202,207",
        "rtcp.xr.bt": "4,5,7",
        "rtcp.xr.dlrr": "65536",
        "rtcp.xr.voipmetrics.burstdensity": "200",
        "rtcp.xr.voipmetrics.gapduration": "4000",
        "rtcp.xr.voipmetrics.rtdelay": "80",
        "rtcp.xr.voipmetrics.esdelay": "35",
        "rtcp.xr.voipmetrics.signallevel": "-20",
        "rtcp.xr.voipmetrics.noiselevel": "-70",
        "rtcp.xr.voipmetrics.gmin": "16",
        "rtcp.xr.voipmetrics.rfactor": "88",
        "rtcp.xr.voipmetrics.moslq": "4.1",
        "rtcp.xr.voipmetrics.plc": "2",
        "rtcp.xr.voipmetrics.jba": "3",
        "rtcp.xr.voipmetrics.jbmax": "40",
        "rtcp.xr.voipmetrics.jbabsmax": "80",
    },
}


def write_pcap(path: Path, datagrams: list[tuple[int, bytes]]) -> None:
    """Raw IPv4 frames from and to the port."""
    octets = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101)
    for number, (port, datagram) in enumerate(datagrams):
        udp = struct.pack(">HHHH", port, port, 8 + len(datagram), 0) + datagram
        ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, b"\x7f\0\0\1", b"\x7f\0\0\2")
        octets += struct.pack("<IIII", 1000 + number, 0, 20 + len(udp), 20 + len(udp)) + ip + udp
    path.write_bytes(octets)


def dissect(path: Path, fields: list[str]) -> list[list[str]]:
    """A row for each frame: what tshark complains of, then the fields."""
    command = ["tshark", "-n", "-r", str(path), "-d", f"udp.port=={RTP_PORT},rtp", "-d", f"udp.port=={RTCP_PORT},rtcp"]
    command += ["-o", "ip.check_checksum:FALSE", "-o", "udp.check_checksum:FALSE", "-T", "fields", "-E", "separator=|"]
    for field in ["_ws.expert.message", "_ws.malformed", *fields]:
        command += ["-e", field]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    return [line.split("|") for line in done.stdout.splitlines()]


@pytest.mark.parametrize("name", COMPOUNDS)
def test_compounds_are_what_they_were_meant_to_be(name: str, tmp_path: Path) -> None:
    path, wanted = tmp_path / "rtcp.pcap", FIELDS.get(name, {"rtcp.length_check": "1"})
    write_pcap(path, [(RTCP_PORT, COMPOUNDS[name])])
    ((complaint, malformed, *values),) = dissect(path, list(wanted))
    assert (complaint, malformed) == ("", "")
    assert dict(zip(wanted, values, strict=True)) == wanted


def test_what_is_damaged_is_complained_of(tmp_path: Path) -> None:
    path = tmp_path / "rtcp.pcap"
    octets = bytearray(COMPOUNDS["goodbye"])
    octets[3] += 1
    write_pcap(path, [(RTCP_PORT, bytes(octets))])
    ((complaint, malformed, _),) = dissect(path, ["rtcp.pt"])
    assert complaint or malformed


def test_speech_and_telephone_events(tmp_path: Path) -> None:
    sender, packets = DtmfSender(), []
    sender.send("5")
    speech = build_rtp(payload_type=8, marker=True, sequence=65535, timestamp=160, ssrc=OURS, payload=b"\xd5" * 160)
    number = 0
    while sender.is_active:
        number += 1
        step = sender.next_slot(160)
        if step.payload:
            packets.append(
                build_rtp(
                    payload_type=101,
                    marker=step.marker,
                    sequence=number,
                    timestamp=320 + step.offset,
                    ssrc=OURS,
                    payload=step.payload,
                )
            )
    path = tmp_path / "rtp.pcap"
    write_pcap(path, [(RTP_PORT, speech), *((RTP_PORT, packet) for packet in packets)])
    fields = ["rtp.p_type", "rtp.marker", "rtp.seq", "rtp.ssrc", "rtpevent.event_id", "rtpevent.end_of_event"]
    rows = dissect(path, [*fields, "rtpevent.duration"])
    assert all(row[:2] == ["", ""] for row in rows)
    assert rows[0][2:6] == ["8", "1", "65535", "0x11223344"]
    events = rows[1:]
    assert {row[2] for row in events} == {"101"}
    assert {row[6] for row in events} == {"5"}
    assert [row[7] for row in events][-3:] == ["1"] * 3
    durations = [int(row[8]) for row in events]
    assert durations == sorted(durations)
