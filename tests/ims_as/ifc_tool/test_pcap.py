"""Capture files, against Wireshark's programs: what they make we read, what we read they see as well."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import pytest

from ims_as.ifc_tool import capture as capture_module
from ims_as.ifc_tool import pcap as pcap_module
from ims_as.ifc_tool.capture import Capture, read_capture_untrusted
from ims_as.ifc_tool.pcap import PcapError, is_capture_untrusted
from tests.ims_as.ifc_tool.captures import (
    CORE,
    NULL,
    RAW,
    SERVER,
    SERVER6,
    SLL,
    SLL2,
    ethernet,
    fragments4,
    fragments6,
    framed,
    ip4,
    ip6,
    pcap,
    sip,
    tcp,
    tool,
    tshark_messages,
    udp,
)

FLOWS = sorted((Path(__file__).parents[3] / "docs/flows").glob("*.pcap"))


def read(data: bytes) -> list[bytes]:
    return [message.data for message in read_capture_untrusted(data).messages]


@pytest.mark.parametrize("flow", FLOWS, ids=lambda path: path.stem)
def test_the_documented_flows_are_read_as_tshark_reads_them(flow: Path, tmp_path: Path):
    capture = read_capture_untrusted(flow.read_bytes())
    calls = tool("tshark", "-r", flow, "-Y", "sip.Call-ID", "-T", "fields", "-e", "frame.number", "-e", "sip.Call-ID")
    expected = [tuple(line.split("\t")) for line in calls.splitlines()]
    if flow.stem == "large-invite-over-tcp":
        expected = [row for row in expected if row[0] != "1"]  # the capture begins within this message
    assert [str(message.number) for message in capture.messages] == [number for number, _ in expected]
    for message, (_, call_id) in zip(capture.messages, expected, strict=True):
        assert f"Call-ID: {call_id}".lower().encode() in message.data.lower()


@pytest.mark.parametrize("kind", ["pcapng", "pcap", "nsecpcap", "modpcap"])
def test_every_file_format_gives_the_same(kind: str, tmp_path: Path):
    flow, converted = FLOWS[0], tmp_path / "converted"
    tool("editcap", "-F", kind, flow, converted)
    if kind == "modpcap":  # libpcap modified by Alexey Kuznetsov: longer packet headers under another magic number
        with pytest.raises(PcapError, match="neither pcap nor pcapng"):
            read_capture_untrusted(converted.read_bytes())
        return
    original, other = read_capture_untrusted(flow.read_bytes()), read_capture_untrusted(converted.read_bytes())
    assert [message.data for message in other.messages] == [message.data for message in original.messages]
    assert [round(each.time_s, 6) for each in other.messages] == [round(each.time_s, 6) for each in original.messages]
    assert original.messages[0].time_s > 1.6e9


def test_merged_files_with_several_interfaces(tmp_path: Path):
    merged = tmp_path / "merged.pcapng"
    tool("mergecap", "-F", "pcapng", "-I", "none", "-w", merged, *FLOWS[:3])
    n_each = [len(read(path.read_bytes())) for path in FLOWS[:3]]
    assert len(read(merged.read_bytes())) == sum(n_each) == tshark_messages(merged)


def test_what_text2pcap_makes(tmp_path: Path):
    text, made = tmp_path / "dump.txt", tmp_path / "made.pcap"
    message = sip()
    text.write_text("".join(f"{at:06x} " + message[at : at + 16].hex(" ") + "\n" for at in range(0, len(message), 16)))
    tool("text2pcap", "-u", "5060,5060", text, made)
    assert read(made.read_bytes()) == [message]
    tool("text2pcap", "-6", f"2001:db8::1,{SERVER6}", "-T", "5060,5060", text, made)
    (found,) = read_capture_untrusted(made.read_bytes()).messages
    assert (found.transport, found.destination, found.data) == ("tcp", f"[{SERVER6}]:5060", message)


@pytest.mark.parametrize("link_type", [1, RAW, SLL, SLL2, NULL])
@pytest.mark.parametrize("packet", [ip4(udp(sip())), ip6(udp(sip()))], ids=["IPv4", "IPv6"])
def test_link_layers(link_type: int, packet: bytes, tmp_path: Path):
    data = pcap([framed(link_type, packet)], link_type)
    assert read(data) == [sip()]
    if link_type != NULL or packet[0] >> 4 == 4:
        (tmp_path / "a.pcap").write_bytes(data)
        assert tshark_messages(tmp_path / "a.pcap") == 1


def test_byte_orders_vlan_tags_and_tunnels():
    assert read(pcap([ethernet(ip4(udp(sip())))], order=">", nanoseconds=True)) == [sip()]
    assert read(pcap([ethernet(ip4(udp(sip())), 0x88A8, 0x8100)])) == [sip()]
    assert read(pcap([ethernet(ip4(ip6(udp(sip())), 41))])) == [sip()]
    options = bytes([60, 0]) + bytes(6) + bytes([17, 0]) + bytes(6)
    assert read(pcap([ethernet(ip6(options + udp(sip()), 0))])) == [sip()]


def test_gzip():
    packed = gzip.compress(FLOWS[0].read_bytes())
    assert is_capture_untrusted(packed)
    assert read(packed) == read(FLOWS[0].read_bytes())
    assert read_capture_untrusted(packed[:-300]).is_cut_short
    with pytest.raises(PcapError, match="gzip"):
        read_capture_untrusted(b"\x1f\x8bnonsense")


@pytest.mark.parametrize("cut", [fragments4, fragments6])
def test_fragments_in_any_order(cut: object, tmp_path: Path):
    message = sip(body=bytes(range(256)) * 8)
    pieces = cut(udp(message), 512)  # type: ignore[operator]
    assert len(pieces) > 3
    for order in (pieces, pieces[::-1], [pieces[0], *pieces]):
        data = pcap([ethernet(piece) for piece in order])
        assert read(data) == [message]
    (tmp_path / "a.pcap").write_bytes(pcap([ethernet(piece) for piece in pieces[::-1]]))
    assert tshark_messages(tmp_path / "a.pcap") == 1
    lost = read_capture_untrusted(pcap([ethernet(piece) for piece in pieces[1:]]))
    assert (lost.messages, lost.skipped) == ((), {"IP datagrams with fragments missing": 1})


def stream(*segments: bytes) -> Capture:
    return read_capture_untrusted(pcap([ethernet(ip4(segment, 6)) for segment in segments]))


def test_tcp_streams_are_put_together(tmp_path: Path):
    messages = [sip(number=n, body=b"x" * 100) for n in range(1, 4)]
    data = b"\r\n\r\n".join(messages)
    start = 0xFFFFFF80  # the numbers wrap
    pieces = [tcp(data[at : at + 90], start + 1 + at) for at in range(0, len(data), 90)]
    syn = tcp(b"", start, 0x02)
    whole = stream(syn, *pieces)
    assert [message.data for message in whole.messages] == messages
    assert whole.messages[0].number < whole.messages[1].number
    # tshark loses its way after keep-alives that stand between messages
    bare = b"".join(messages)
    pieces_of_bare = [tcp(bare[at : at + 90], start + 1 + at) for at in range(0, len(bare), 90)]
    (tmp_path / "a.pcap").write_bytes(pcap([ethernet(ip4(piece, 6)) for piece in (syn, *pieces_of_bare)]))
    assert tshark_messages(tmp_path / "a.pcap") == 3 == len(read((tmp_path / "a.pcap").read_bytes()))
    # sent again with more in it, and in another order
    again = stream(syn, pieces[0], tcp(data[:200], start + 1), *pieces[1:][::-1])
    assert [message.data for message in again.messages] == messages
    without_syn = stream(*pieces)
    assert [message.data for message in without_syn.messages] == messages


def test_after_a_hole_reading_goes_on_at_the_next_message():
    messages = [sip(number=n, body=b"INVITE is only a word\r\n") for n in range(1, 4)]
    data = b"".join(messages)
    pieces = [tcp(data[at : at + 100], 1 + at) for at in range(0, len(data), 100)]
    lost = stream(tcp(b"", 0, 0x02), pieces[0], *pieces[2:], tcp(b"", 1 + len(data), 0x01))
    assert [message.data for message in lost.messages] == messages[1:]
    assert lost.skipped == {"holes in TCP streams": 1}
    begun_before = stream(*pieces[1:])
    assert [message.data for message in begun_before.messages] == messages[1:]


def test_a_new_connection_between_the_same_ports():
    first, second = sip(number=1), sip(number=2)
    found = stream(tcp(b"", 99, 2), tcp(first[:50], 100), tcp(b"", 5000, 2), tcp(second, 5001))
    assert [message.data for message in found.messages] == [second]


def test_other_protocols_are_counted_not_read():
    packets = [
        ethernet(ip4(udp(b"\x80\x00rtp"))),
        ethernet(ip4(tcp(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 1), 6)),
        ethernet(ip4(tcp(b"\x16\x03\x01\x02\x00\x01", 1, source_port=5), 6)),
        ethernet(ip4(b"\x00" * 20, 50)),
        ethernet(b"\x00" * 40)[:12] + b"\x08\x06" + bytes(28),
        ethernet(ip4(udp(sip())))[:100],
        b"",
    ]
    found = read_capture_untrusted(pcap(packets))
    assert found.messages == ()
    assert found.skipped == {
        "datagrams other than SIP": 1,
        "TLS streams (export the decrypted PDUs with Wireshark)": 1,
        "encrypted packets (ESP)": 1,
        "packets other than IP": 1,
        "SIP datagrams cut by the snapshot length": 1,
        "damaged or cut packets": 1,
    }
    assert read_capture_untrusted(pcap([b"x" * 20], 147)).skipped == {"packets of link type 147": 1}


def test_exported_pdus():
    tags = struct.pack(">HH4sHH4sHH4s", 12, 3, b"sip", 20, 4, bytes([192, 0, 2, 20]), 25, 4, struct.pack(">I", 5061))
    # the length of a tag is that of its value, padded to four
    tags = tags.replace(struct.pack(">HH4s", 12, 3, b"sip"), struct.pack(">HH4s", 12, 4, b"sip"))
    (found,) = read_capture_untrusted(pcap([tags + bytes(4) + sip()], 252)).messages
    assert (found.source, found.transport, found.data) == (f"{CORE}:5061", "exported", sip())
    http = tags.replace(b"sip", b"htt") + bytes(4) + b"GET"
    assert read_capture_untrusted(pcap([http], 252)).skipped == {"exported PDUs other than SIP": 1}


def test_endpoints():
    (found,) = read_capture_untrusted(pcap([ethernet(ip4(udp(sip(), 5070)))])).messages
    assert (found.source, found.destination, found.transport) == (f"{CORE}:5070", f"{SERVER}:5060", "udp")


@pytest.mark.parametrize("n_bytes", [30, 41, 400])
def test_a_file_that_is_cut_short_gives_what_is_whole(n_bytes: int):
    data = pcap([ethernet(ip4(udp(sip(number=n)))) for n in range(3)])
    cut = read_capture_untrusted(data[:-n_bytes])
    assert cut.is_cut_short
    assert len(cut.messages) == 2 if n_bytes < 400 else 1


def block(kind: int, body: bytes) -> bytes:
    n_bytes = 12 + len(body)
    return struct.pack("<II", kind, n_bytes) + body + struct.pack("<I", n_bytes)


SECTION = block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))
INTERFACE = block(1, struct.pack("<HHI", 1, 0, 0))


def test_pcapng_blocks_that_editcap_does_not_write():
    packet = ethernet(ip4(udp(sip())))
    padded = packet + bytes(-len(packet) % 4)
    simple = block(3, struct.pack("<I", len(packet)) + padded)
    obsolete = block(2, struct.pack("<HHIIII", 0, 0, 0, 5_000_000, len(packet), len(packet)) + padded)
    found = read_capture_untrusted(SECTION + INTERFACE + simple + block(0xBAD, b"1234") + obsolete)
    assert [(message.number, message.time_s) for message in found.messages] == [(1, 0.0), (2, 5.0)]
    offset = block(1, struct.pack("<HHI", 1, 0, 0) + struct.pack("<HHB3xHHqHH", 9, 1, 3, 14, 8, 100, 0, 0))
    enhanced = block(6, struct.pack("<IIIII", 0, 0, 2500, len(packet), len(packet)) + padded)
    (found_,) = read_capture_untrusted(SECTION + offset + enhanced).messages
    assert found_.time_s == 102.5


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "neither pcap nor pcapng"),
        (b"INVITE sip:a SIP/2.0\r\n", "neither"),
        (pcap([])[:20], "within the file header"),
        (pcap([]) + struct.pack("<IIII", 0, 0, 0x7FFFFFFF, 1), "damaged"),
        (SECTION[:8] + b"abcd" + SECTION[12:], "byte order"),
        (SECTION + struct.pack("<III", 6, 7, 0), "block of 7 bytes"),
        (SECTION + block(6, bytes(20)), "interface 0, which the file does not describe"),
        (SECTION + INTERFACE + block(6, bytes(8)), "block is too short"),
        (SECTION + INTERFACE + block(6, struct.pack("<IIIII", 0, 0, 0, 99, 99)), "longer than its block"),
        (SECTION + block(1, b"1234"), "interface description"),
        (SECTION + block(1, struct.pack("<HHIHHB3x", 1, 0, 0, 9, 1, 0x7F)), "time stamps"),
    ],
)
def test_what_is_no_capture(data: bytes, reason: str):
    with pytest.raises(PcapError, match=reason):
        read_capture_untrusted(data)


def test_bounds(monkeypatch: pytest.MonkeyPatch):
    data = pcap([ethernet(ip4(udp(sip(number=n)))) for n in range(3)])
    monkeypatch.setattr(capture_module, "MAX_MESSAGES", 2)
    with pytest.raises(PcapError, match="more than 2 SIP messages"):
        read_capture_untrusted(data)
    monkeypatch.setattr(pcap_module, "MAX_PACKETS", 1)
    with pytest.raises(PcapError, match="more than 1 packets"):
        read_capture_untrusted(data)
    monkeypatch.setattr(pcap_module, "MAX_CAPTURE_BYTES", 500)
    with pytest.raises(PcapError, match="more than 500 bytes"):
        read_capture_untrusted(gzip.compress(data))


def test_streams_that_never_become_sip_take_no_memory():
    noise = b"x" * 1400
    segments = [tcp(noise, 1 + at * 1400) for at in range(200)]
    assert stream(*segments, tcp(sip(), 1 + 200 * 1400)).messages == ()
    # a head without end is given up, and what follows it is read
    endless = b"INVITE sip:a SIP/2.0\r\n" + b"A: b\r\n" * 12_000
    data = endless + sip()
    found = stream(*(tcp(data[at : at + 1400], 1 + at) for at in range(0, len(data), 1400)))
    assert [message.data for message in found.messages] == [sip()]


def test_start_lines_without_end_hold_nothing_up():
    # each begins a message that has no end: they are passed over as fast as they come
    data = b"INVITE sip:a SIP/2.0\r\n" * 20_000 + sip()
    found = stream(*(tcp(data[at : at + 1400], 1 + at) for at in range(0, len(data), 1400)))
    assert [message.data[-60:] for message in found.messages] == [sip()[-60:]]


def test_a_body_that_nobody_sends_is_passed_over():
    endless = sip().replace(b"Content-Length: 0", b"Content-Length: 999999999")
    data = endless + sip(number=2)
    assert [message.data for message in stream(tcp(data, 1)).messages] == [sip(number=2)]
