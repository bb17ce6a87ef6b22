from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.rtp import (
    HeaderColumns,
    PacketBlock,
    RtpParseError,
    build_rtp,
    parse_rtp_untrusted,
    row_views,
)

FIELDS = st.fixed_dictionaries(
    {
        "payload_type": st.integers(0, 127),
        "marker": st.booleans(),
        "sequence": st.integers(0, 0xFFFF),
        "timestamp": st.integers(0, 0xFFFFFFFF),
        "ssrc": st.integers(0, 0xFFFFFFFF),
        "payload": st.binary(min_size=1, max_size=300),
    }
)


@given(FIELDS)
def test_what_is_built_is_read(fields: dict[str, object]) -> None:
    packet = parse_rtp_untrusted(build_rtp(**fields))  # type: ignore[arg-type]
    assert {name: getattr(packet, name) for name in fields} == fields


@given(FIELDS, st.integers(0, 15), st.binary(max_size=20), st.integers(0, 20))
def test_csrc_extension_and_padding_are_taken_off(
    fields: dict[str, object], n_csrc: int, extension: bytes, padding: int
) -> None:
    plain = build_rtp(**fields)  # type: ignore[arg-type]
    extension = extension[: len(extension) // 4 * 4]
    first = 0x80 | n_csrc | 0x10 | (0x20 if padding else 0)
    datagram = bytes([first]) + plain[1:12] + bytes(4 * n_csrc) + b"\xbe\xde"
    datagram += (len(extension) // 4).to_bytes(2, "big") + extension + plain[12:]
    if padding:
        datagram += bytes(padding - 1) + bytes([padding])
    assert parse_rtp_untrusted(datagram).payload == fields["payload"]


@given(st.binary(max_size=1600))
def test_any_octets_give_a_packet_or_the_one_error(datagram: bytes) -> None:
    try:
        packet = parse_rtp_untrusted(datagram)
    except RtpParseError:
        return
    assert 0 < len(packet.payload) <= 1200


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        bytes(12),
        b"\x80" + bytes(11),
        b"\x40" + bytes(40),
        b"\x8f" + bytes(40),
        b"\x90" + bytes(11) + b"\x00\x00\xff\xff" + bytes(20),
        b"\xa0" + bytes(30) + b"\x00",
        b"\xa0" + bytes(30) + b"\xff",
        b"\x80" + bytes(1500),
    ],
    ids=["empty", "version0", "no payload", "version1", "csrc", "extension", "padding0", "padding255", "huge"],
)
def test_rejected(datagram: bytes) -> None:
    with pytest.raises(RtpParseError):
        parse_rtp_untrusted(datagram)


def test_columns_write_and_read_the_same_headers() -> None:
    n = 5
    block = PacketBlock(8, 160)
    sequence = np.array([0, 1, 65535, 300, 7], np.uint16)
    timestamp = np.array([0, 4294967295, 160, 1 << 31, 5], np.uint32)
    ssrc = np.array([1, 2, 3, 4, 0xFFFFFFFF], np.uint32)
    payload_type = np.array([0, 8, 127, 0, 96], np.uint8)
    marker = np.array([True, False, True, False, False])
    block.payload[:n] = np.arange(n, dtype=np.uint8)[:, None]
    block.write_headers(payload_type, marker, sequence, timestamp, ssrc)
    received = np.zeros((8, 200), np.uint8)
    for i in range(n):
        packet = parse_rtp_untrusted(block.views[i])
        assert (packet.sequence, packet.timestamp, packet.ssrc) == (sequence[i], timestamp[i], ssrc[i])
        assert (packet.payload_type, packet.marker) == (payload_type[i], marker[i])
        assert packet.payload == bytes([i]) * 160
        received[i, :172] = np.frombuffer(block.views[i], np.uint8)
    headers = HeaderColumns(received)
    np.testing.assert_array_equal(headers.sequence[:n], sequence)
    np.testing.assert_array_equal(headers.timestamp[:n], timestamp)
    np.testing.assert_array_equal(headers.ssrc[:n], ssrc)
    assert headers.first(n).tolist() == [HeaderColumns.first_of(int(p)) for p in payload_type]


def test_row_views_alias_the_block() -> None:
    block = np.zeros((3, 4), np.uint8)
    row_views(block)[1][:] = b"abcd"
    assert block[1].tobytes() == b"abcd"
    assert not block[0].any()
    assert not block[2].any()
