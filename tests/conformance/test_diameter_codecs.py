"""Every Diameter message that we send, read by three codecs that we did not write, and theirs read by us.

python-diameter, pycrate and tshark have nothing in common but the specifications. Each must decode each message
without an error, find the same AVPs with the same values, and (the first two) encode it to the same bytes again.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pycrate_diameter.Diameter3GPP import AVP3GPP, Diameter3GPP

from diameter.base_commands import read_capabilities_untrusted
from diameter.dictionary.sh import SH, SH_APPLICATION_ID
from diameter.message import Message, Result, decode_message_untrusted
from diameter.sh import messages as sh
from diameter.sh.userdata import parse_sh_data_untrusted
from tests.support.diameter_messages import complete, dictionary_of, sent
from tests.support.foreign_codecs import (
    Tree,
    TsharkFrame,
    our_tree,
    pycrate_tree,
    python_diameter_tree,
    tshark_frames,
)
from tests.support.python_diameter import Codec

ROWS = sent() | complete()
SAMPLES = ["CER", "CEA", "DWR", "DWA", "DPR", "DPA", "UDR", "UDA", "UDA refused", "UDA failed AVP", "PUR", "PUA"]
SAMPLES += ["SNR", "SNA", "PNR", "PNA"]
FAILED_AVP = 279
# tshark's dictionary puts a prefix where two vendors, or two applications, have the same name
TSHARK_PREFIXES = ("3GPP-", "Sh-", "Cx-")
TSHARK_SPELLINGS = {"Digest-QoP": "Digest-Qop", "Wildcarded-Public-Identity": "Wildcarded-PSI"}
# added to TS 29.329 after the dictionary of the tshark that Debian has
UNKNOWN_TO_TSHARK = {"Call-Reference-Info"}


@pytest.fixture(scope="module")
def codec() -> Iterator[Codec]:
    with Codec() as program:
        yield program


@pytest.fixture(scope="module")
def dissected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TsharkFrame]:
    frames = tshark_frames(list(ROWS.values()), tmp_path_factory.mktemp("codecs"))
    return dict(zip(ROWS, frames, strict=True))


def read(frame: bytes) -> tuple[Message, Tree]:
    message = decode_message_untrusted(frame)
    assert message.encode() == frame
    return message, our_tree(dictionary_of(message), message.avps)


def header(message: Message) -> list[int]:
    return [message.code, message.application_id, message.flags, message.hop_by_hop, message.end_to_end]


def without_flags(tree: Tree) -> list[Any]:
    """For a codec that sets M as its own dictionary says; order of AVPs at the top is free (RFC 6733 §3.2)."""

    def strip(avps: Tree) -> list[Any]:
        return [(vendor, code, strip(value) if isinstance(value, list) else value) for vendor, code, _, value in avps]

    # of several Failed-AVPs, which TS 29.329 allows, its class keeps one
    first_failed = next((place for place, (_, code, _) in enumerate(strip(tree)) if code == FAILED_AVP), None)
    kept = [each for place, each in enumerate(strip(tree)) if each[1] != FAILED_AVP or place == first_failed]
    return sorted(kept, key=repr)


@pytest.mark.parametrize("name", ROWS)
def test_python_diameter_reads_it_and_writes_the_same(name: str, codec: Codec) -> None:
    message, tree = read(ROWS[name])
    theirs = codec.decode(ROWS[name])
    assert theirs["header"] == header(message)
    assert python_diameter_tree(theirs["avps"]) == tree
    assert theirs["plain"] == ROWS[name].hex()
    # through its class for that command: every value survives
    _, again = read(bytes.fromhex(theirs["typed"]))
    assert theirs["class"].endswith("Request" if message.is_request else "Answer")
    assert without_flags(again) == without_flags(tree)


@pytest.mark.parametrize("name", ROWS)
def test_pycrate_reads_it_and_writes_the_same(name: str) -> None:
    message, tree = read(ROWS[name])
    theirs, avps, again = pycrate_tree(ROWS[name])
    assert (theirs, avps, again) == (header(message), tree, ROWS[name])


@pytest.mark.parametrize("name", ROWS)
def test_tshark_reads_it(name: str, dissected: dict[str, TsharkFrame]) -> None:
    message, tree = read(ROWS[name])
    compare_shown(dictionary_of(message).avps_by_key, dissected[name].avps, tree)
    if UNKNOWN_TO_TSHARK.isdisjoint(names(dictionary_of(message).avps_by_key, tree)):
        assert dissected[name].complaints == []


def names(definitions: Any, tree: Tree) -> set[str]:
    return {definitions[vendor, code].name for vendor, code, _, _ in tree}


def compare_shown(definitions: Any, shown: Tree, tree: Tree) -> None:
    assert [each[:3] for each in shown] == [each[:3] for each in tree]
    for (*_, theirs), (vendor, code, _, ours) in zip(shown, tree, strict=True):
        name = definitions[vendor, code].name
        if name in UNKNOWN_TO_TSHARK:
            continue
        if isinstance(ours, list):
            compare_shown(definitions, theirs, ours)
            continue
        title, text = theirs
        name = TSHARK_SPELLINGS.get(name, name)
        assert title in (name, *(prefix + name for prefix in TSHARK_PREFIXES))
        match ours:
            case int():
                assert text == str(ours)
            case _ if name == "Expiry-Time":
                assert text.startswith("Jan 15, 2027 08:00:00")
            case _:
                assert text in (ours.decode("utf-8", "replace"), ours.hex(":"))


def test_a_wrong_message_is_noticed_by_each(codec: Codec, tmp_path: Path) -> None:
    """The instruments themselves: an AVP whose length lies, and one with a number of three bytes."""
    good = ROWS["DWR"]
    lies = good[:-5] + b"\x0d" + good[-4:]  # Origin-State-Id claims a byte more than there is
    short = good[:-12] + struct.pack(">II", 278, 0x40 << 24 | 11) + b"\x01\x02\x03\x00"
    for frame in (lies, short):
        with pytest.raises(AssertionError):
            codec.decode(frame)
        assert any(frame.complaints for frame in tshark_frames([frame], tmp_path))
        with pytest.raises(Exception, match=r"."):  # pycrate has no error type of its own for this
            assert pycrate_tree(frame)[1] == read(frame)[1]


# theirs, read by us


@pytest.mark.parametrize("name", SAMPLES)
def test_we_read_what_python_diameter_builds(name: str, codec: Codec) -> None:
    frame = codec.samples()[name]
    message, tree = read(frame)
    assert python_diameter_tree(codec.decode(frame)["avps"]) == tree
    if message.application_id == 0:
        assert message.text(SH["Origin-Host"]) == "peer.example"
        if name in ("CER", "CEA"):
            capabilities = read_capabilities_untrusted(message)
            assert (capabilities.origin_host, capabilities.product_name) == ("peer.example", "python-diameter")
            assert capabilities.applications == {SH_APPLICATION_ID}
        return
    kinds: dict[str, Any] = {
        "UDR": sh.UserDataRequest,
        "UDA": sh.UserDataAnswer,
        "PUR": sh.ProfileUpdateRequest,
        "PUA": sh.ProfileUpdateAnswer,
        "SNR": sh.SubscribeNotificationsRequest,
        "SNA": sh.SubscribeNotificationsAnswer,
        "PNR": sh.PushNotificationRequest,
        "PNA": sh.PushNotificationAnswer,
    }
    typed = kinds[name[:3]].read_untrusted(message)
    assert (typed.session_id, typed.origin_host, typed.origin_realm) == ("peer.example;1;2", "peer.example", "example")
    match name:
        case "UDR":
            assert typed.user_identity == sh.UserIdentity(public_identity="sip:alice@example")
            assert (typed.data_references, typed.service_indications) == ((0, 11, 12), (b"ai-voice-agent",))
            assert (typed.supported_features, typed.server_name) == ((sh.SupportedFeatures(1),), "sip:as.example")
        case "UDA":
            assert (typed.result, typed.features) == (Result(2001), 1)
        case "UDA refused":
            assert typed.result == Result(5001, 10415)
        case "UDA failed AVP":
            assert typed.result == Result(5005)
        case "PUA":
            assert typed.repository_data_id == sh.RepositoryDataId(b"ai-voice-agent", 3)
        case "SNR":
            assert (typed.subs_req_type, typed.send_data_indication, typed.data_references) == (0, 1, (0,))
    if name in ("SNR", "SNA"):
        assert typed.expiry_time == 1_800_000_000
    if name in ("UDA", "PUR", "SNA", "PNR"):
        assert parse_sh_data_untrusted(typed.user_data).user_state == 1


def test_we_read_what_pycrate_builds() -> None:
    def avp(code: int, data: bytes, *, vendor: int = 0, mandatory: int = 1) -> AVP3GPP:
        head: dict[str, int] = {"Code": code, "M": mandatory}
        if vendor:
            head |= {"V": 1, "VendorID": vendor}
        return AVP3GPP(val={"AVPHdr": head, "AVPData": data})

    user = avp(601, b"sip:alice@example", vendor=10415).to_bytes()
    built = Diameter3GPP(
        val={"DiameterHdr": {"R": 1, "P": 1, "Cmd": 309, "AppID": SH_APPLICATION_ID, "HHID": 7, "EEID": 8}}
    )
    built["AVPs"].set_val(None)
    for each in (
        avp(263, b"peer;1;2"),
        avp(260, avp(266, bytes((0, 0, 0x28, 0xAF))).to_bytes() + avp(258, bytes((1, 0, 0, 1))).to_bytes()),
        avp(277, bytes((0, 0, 0, 1))),
        avp(264, b"peer.example"),
        avp(296, b"example"),
        avp(293, b"as.example"),
        avp(283, b"example"),
        avp(700, user, vendor=10415),
        avp(702, b"<Sh-Data/>", vendor=10415),
    ):
        built["AVPs"].append(each)
    message = decode_message_untrusted(built.to_bytes())
    pnr = sh.PushNotificationRequest.read_untrusted(message)
    assert (message.hop_by_hop, message.end_to_end) == (7, 8)
    assert pnr.user_identity == sh.UserIdentity(public_identity="sip:alice@example")
    assert pnr.user_data == b"<Sh-Data/>"
    assert (pnr.origin_host, pnr.destination_host) == ("peer.example", "as.example")
