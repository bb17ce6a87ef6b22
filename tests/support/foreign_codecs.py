"""pycrate and tshark as readers of Diameter, and the form in which all readers are compared: `tree`.

A tree is a list of (vendor, code, M and P bits, value); the value of a group is a tree, any other one an int or bytes.
"""

from __future__ import annotations

import socket
import struct
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from pycrate_core.charpy import Charpy
from pycrate_core.elt import Sequence
from pycrate_diameter.Diameter import AVPGeneric, DiameterGeneric, DiameterHdr
from pycrate_diameter.Diameter3GPP import Grouped as TgppGrouped
from pycrate_diameter.Diameter3GPP import TGPPAVPInfos_dict
from pycrate_diameter.DiameterIETF import FMT_LUT_IETF
from pycrate_diameter.DiameterIETF import Grouped as IetfGrouped

from diameter.avp import Avps
from diameter.dictionary.loader import Dictionary
from diameter.types import AvpFormat

__all__ = ["Tree", "our_tree", "pycrate_tree", "python_diameter_tree", "tshark_frames", "write_pcap"]

Tree = list[tuple[int, int, int, Any]]

NUMBERS = {
    AvpFormat.INTEGER32,
    AvpFormat.INTEGER64,
    AvpFormat.UNSIGNED32,
    AvpFormat.UNSIGNED64,
    AvpFormat.ENUMERATED,
}


def our_tree(dictionary: Dictionary, avps: Avps) -> Tree:
    """As our dictionary reads it; an AVP that it does not know is a KeyError."""
    tree: Tree = []
    for avp in avps:
        definition = dictionary.avps_by_key[avp.key]
        value = definition.value(avp)
        if definition.data_format is AvpFormat.GROUPED:
            value = our_tree(dictionary, value)
        elif definition.data_format not in NUMBERS:
            value = avp.data
        tree.append((avp.vendor, avp.code, avp.flags, value))
    return tree


def python_diameter_tree(avps: list[Any]) -> Tree:
    """From the JSON of the codec program."""
    tree: Tree = []
    for vendor, code, flags, value in avps:
        match value:
            case list():
                value = python_diameter_tree(value)
            case {"hex": text}:
                value = bytes.fromhex(text)
            case str() if (vendor, code) == (0, 257):
                family = socket.AF_INET6 if ":" in value else socket.AF_INET
                value = bytes((0, 2 if ":" in value else 1)) + socket.inet_pton(family, value)
            case str():
                value = value.encode()
            case int() if (vendor, code) == (10415, 709):
                value = struct.pack(">I", value + 2_208_988_800)
        tree.append((vendor, code, flags & 0x60, value))
    return tree


# pycrate looks formats up by code alone, so that OC-OLR is taken for a URI of 3GPP: here it is asked by vendor too


class VendorAvp(AVPGeneric):
    @property
    def FMT_LUT(self) -> dict[int, Any]:
        header = self[0]
        return TGPP_FORMATS if header["V"].get_val() and header["VendorID"].get_val() == 10415 else IETF_FORMATS


class VendorGrouped(Sequence):
    _GEN = VendorAvp()


class VendorDiameter(DiameterGeneric):
    _GEN = (DiameterHdr(), Sequence("AVPs", GEN=VendorAvp(), hier=1))


def _by_vendor(data_format: Any) -> Any:
    return VendorGrouped if data_format in (IetfGrouped, TgppGrouped) else data_format


IETF_FORMATS = {code: _by_vendor(data_format) for code, data_format in FMT_LUT_IETF.items()}
TGPP_FORMATS = {code: _by_vendor(data_format) for code, (_, data_format) in TGPPAVPInfos_dict.items()}


def pycrate_tree(frame: bytes) -> tuple[list[int], Tree, bytes]:
    """Header (code, application, flags, hop-by-hop, end-to-end), AVPs, and the bytes as pycrate encodes them again."""
    message = VendorDiameter()
    text = Charpy(frame)
    message._from_char(text)
    assert text.len_byte() == 0, "bytes left over"
    header = message["DiameterHdr"]
    flags = sum(header[name].get_val() << bit for name, bit in (("R", 7), ("P", 6), ("E", 5), ("T", 4)))
    numbers = [header[name].get_val() for name in ("Cmd", "AppID", "HHID", "EEID")]
    return [*numbers[:2], flags, *numbers[2:]], _pycrate_avps(message["AVPs"]), message.to_bytes()


def _pycrate_avps(avps: Any) -> Tree:
    tree: Tree = []
    for avp in avps:
        header, data = avp[0], avp[1]
        vendor = header["VendorID"].get_val() if header["V"].get_val() else 0
        if isinstance(data, VendorGrouped):
            value: Any = _pycrate_avps(data)
        else:
            value = data.get_val()
            value = value if isinstance(value, int) else data.to_bytes()
        bits = header["M"].get_val() << 6 | header["P"].get_val() << 5
        tree.append((vendor, header["Code"].get_val(), bits, value))
    return tree


def write_pcap(path: Path, frames: list[bytes]) -> None:
    """Each message in a TCP segment of its own, from port 40000 to 3868 (link type raw IP)."""
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 1 << 18, 101))
        sequence = 1
        for number, frame in enumerate(frames):
            tcp = struct.pack("!HHIIBBHHH", 40_000, 3868, sequence, 1, 5 << 4, 0x18, 65_535, 0, 0) + frame
            ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), number, 0, 64, socket.IPPROTO_TCP, 0)
            packet = ip + socket.inet_aton("192.0.2.1") + socket.inet_aton("192.0.2.2") + tcp
            file.write(struct.pack("<IIII", number, 0, len(packet), len(packet)) + packet)
            sequence += len(frame)


class TsharkFrame:
    """What tshark says of one frame.

    Attributes:
        avps: tree whose leaves are (name, shown text), in the order of the wire.
        complaints: text of everything malformed, and of each expert item from a warning on.
    """

    def __init__(self, packet: ElementTree.Element) -> None:
        protocols = {proto.get("name"): proto for proto in packet.findall("proto")}
        diameter = protocols.get("diameter")
        assert diameter is not None, sorted(str(name) for name in protocols)
        self.avps = [_tshark_avp(field) for field in diameter.findall("field[@name='diameter.avp']")]
        self.complaints = [
            str(field.get("showname"))
            for field in packet.iter("field")
            if field.get("name") == "_ws.expert.severity" and int(str(field.get("show"))) >= WARNING
        ]
        self.complaints += [str(proto.get("name")) for proto in packet.iter("proto") if _is_malformed(proto)]


WARNING = 0x00600000
_PARTS = ("diameter.avp.code", "diameter.avp.flags", "diameter.avp.len", "diameter.avp.vendorId")


def _is_malformed(proto: ElementTree.Element) -> bool:
    return "malformed" in str(proto.get("name"))


def _tshark_avp(field: ElementTree.Element) -> tuple[int, int, int, Any]:
    parts = {part.get("name"): part for part in field}
    vendor = int(str(parts[_PARTS[3]].get("show"))) if _PARTS[3] in parts else 0
    flags = int(str(parts[_PARTS[1]].get("show")), 0) & 0x60
    values = [part for name, part in parts.items() if name not in _PARTS and name != "diameter.avp.pad"]
    assert values or "Empty" in str(field.get("showname")) or field.get("size") in ("8", "12"), field.get("showname")
    value: Any = ("", "")
    if values:
        members = values[0].findall("field[@name='diameter.avp']")
        name = str(values[0].get("name")).removeprefix("diameter.")
        value = [_tshark_avp(member) for member in members] if members else (name, str(values[0].get("show")))
    return vendor, int(str(parts[_PARTS[0]].get("show"))), flags, value


def tshark_frames(frames: list[bytes], work: Path) -> list[TsharkFrame]:
    """The messages as tshark dissects them."""
    path = work / "messages.pcap"
    write_pcap(path, frames)
    command = ["tshark", "-n", "-r", str(path), "-T", "pdml", "-o", "tcp.check_checksum:FALSE"]
    done = subprocess.run(command, check=True, capture_output=True, timeout=120)
    return [TsharkFrame(packet) for packet in ElementTree.fromstring(done.stdout).findall("packet")]
