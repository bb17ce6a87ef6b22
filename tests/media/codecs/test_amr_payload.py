"""RFC 4867 payloads against a plain model made of strings of bits, and against vectors of the RFC."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.codecs.amr_payload import AMR, AMR_WB, AmrFormat, AmrKind, frame_type, is_octet_aligned
from media.codecs.base import MAX_FRAMES, PayloadError

KINDS = [AMR, AMR_WB]


def bits_of(octets: bytes) -> str:
    return "".join(f"{octet:08b}" for octet in octets)


def octets_of(bits: str) -> bytes:
    bits += "0" * (-len(bits) % 8)
    return bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits), 8))


def model(kind: AmrKind, frames: list[bytes], request: int, *, aligned: bool) -> bytes:
    """The payload as §4.3 and §4.4 draw it."""
    contents = f"{request:04b}" + ("0000" if aligned else "")
    for position, frame in enumerate(frames):
        follows = "1" if position + 1 < len(frames) else "0"
        contents += follows + bits_of(frame[:1])[1:6] + ("00" if aligned else "")
    for frame in frames:
        number = frame_type(frame)
        speech = bits_of(frame[1:])[: kind.bits[number] if number < len(kind.bits) else 0]
        contents += speech
        if aligned:
            contents += "0" * (-len(speech) % 8)
    return octets_of(contents)


@st.composite
def frames_of(draw: st.DrawFn, kind: AmrKind) -> bytes:
    number = draw(st.sampled_from(range(len(kind.bits))))
    size = kind.bits[number]
    value = draw(st.integers(0, (1 << size) - 1))
    quality = draw(st.booleans())
    return bytes([number << 3 | quality << 2]) + (value << -size % 8).to_bytes((size + 7) // 8, "big")


@st.composite
def packets(draw: st.DrawFn) -> tuple[AmrKind, list[bytes], int, bool]:
    kind = draw(st.sampled_from(KINDS))
    frames = draw(st.lists(frames_of(kind), min_size=1, max_size=MAX_FRAMES))
    return kind, frames, draw(st.integers(0, 15)), draw(st.booleans())


@given(packets())
def test_both_ways_as_the_model(packet: tuple[AmrKind, list[bytes], int, bool]) -> None:
    kind, frames, request, aligned = packet
    payloads = AmrFormat(kind, octet_aligned=aligned)
    payloads.mode_request = request
    written = payloads.pack(frames)
    assert written == model(kind, frames, request, aligned=aligned)
    read = payloads.unpack_untrusted(written)
    assert read.frames == tuple(frames)
    assert read.mode_request == (request if request < kind.n_modes else None)


@given(st.sampled_from(KINDS), st.booleans(), st.binary(max_size=120))
def test_any_octets_are_read_or_refused(kind: AmrKind, aligned: bool, payload: bytes) -> None:
    try:
        read = AmrFormat(kind, octet_aligned=aligned).unpack_untrusted(payload)
    except PayloadError:
        return
    assert 1 <= len(read.frames) <= MAX_FRAMES
    for frame in read.frames:
        assert frame is None or len(frame) == 1 + kind.frame_octets(frame_type(frame))


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_one_octet_more_or_less_is_refused(kind: AmrKind, aligned: bool) -> None:
    """A payload of the other form does not slip through."""
    payloads = AmrFormat(kind, octet_aligned=aligned)
    for number in range(len(kind.bits)):
        frame = bytes([number << 3 | 4]) + bytes(kind.frame_octets(number))
        written = payloads.pack([frame])
        for wrong in (written[:-1], written + b"\0", b""):
            with pytest.raises(PayloadError):
                payloads.unpack_untrusted(wrong)


def test_vectors() -> None:
    """§4.3.5.1: AMR 12.2 begins F3 C; aligned forms as §4.4.5 draws them."""
    frame = bytes([7 << 3 | 4]) + b"\xff" * 30 + b"\xf0"
    assert AmrFormat(AMR, octet_aligned=False).pack([frame])[:2] == b"\xf3\xff"
    assert AmrFormat(AMR, octet_aligned=False).pack([frame[:1] + bytes(31)])[:2] == b"\xf3\xc0"
    assert AmrFormat(AMR, octet_aligned=True).pack([frame])[:2] == b"\xf0\x3c"
    wide = bytes([2 << 3 | 4]) + bytes(32)
    assert AmrFormat(AMR_WB, octet_aligned=True).pack([wide])[:2] == b"\xf0\x14"
    sid = bytes([9 << 3 | 4]) + bytes(5)
    assert AmrFormat(AMR_WB, octet_aligned=True).pack([sid])[1] == 0x4C


@pytest.mark.parametrize(("kind", "number"), [(AMR, 9), (AMR, 14), (AMR_WB, 10), (AMR_WB, 13)])
def test_reserved_types_refuse_the_packet(kind: AmrKind, number: int) -> None:
    with pytest.raises(PayloadError):
        AmrFormat(kind, octet_aligned=True).unpack_untrusted(bytes([0xF0, number << 3 | 4]))
    with pytest.raises(PayloadError):
        AmrFormat(kind, octet_aligned=False).unpack_untrusted(octets_of(f"1111{0}{number:04b}1"))


def test_frames_that_are_not_there() -> None:
    lost = AmrFormat(AMR_WB, octet_aligned=True).unpack_untrusted(bytes([0xF0, 0xF4, 0x7C]))
    assert lost.frames == (None, None)


@pytest.mark.parametrize(
    ("text", "aligned"), [({}, False), ({"octet-align": "0"}, False), ({"octet-align": "1"}, True)]
)
def test_form_is_what_was_negotiated(text: dict[str, str], aligned: bool) -> None:
    assert is_octet_aligned(text) is aligned
