"""Byte stream to messages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diameter.errors import FramingError, RemoteDiameterError
from diameter.framing import MAX_MESSAGE_BYTES, MessageFramer


def build_frame(n_words: int, fill: int = 7) -> bytes:
    length = 20 + 4 * n_words
    return bytes((1,)) + length.to_bytes(3) + bytes((fill,)) * (length - 4)


def drain(framer: MessageFramer) -> list[bytes]:
    found = []
    while (frame := framer.next_message_untrusted()) is not None:
        found.append(frame)
    return found


@given(st.lists(st.integers(0, 30), min_size=1, max_size=6), st.lists(st.integers(1, 60), min_size=1, max_size=40))
def test_any_cut_gives_the_same_messages(sizes: list[int], cuts: list[int]) -> None:
    frames = [build_frame(size, fill=i) for i, size in enumerate(sizes)]
    stream = b"".join(frames)
    framer, found, position, turn = MessageFramer(), [], 0, 0
    while position < len(stream):
        step = cuts[turn % len(cuts)]
        framer.receive_bytes(stream[position : position + step])
        position, turn = position + step, turn + 1
        if turn % 2:
            found += drain(framer)
    found += drain(framer)
    assert found == frames
    assert framer.buffered_bytes == 0


def test_one_byte_at_a_time() -> None:
    framer, frame = MessageFramer(), build_frame(5)
    for i, octet in enumerate(frame * 3):
        framer.receive_bytes(bytes((octet,)))
        assert framer.next_message_untrusted() == (frame if (i + 1) % len(frame) == 0 else None)


@pytest.mark.parametrize(
    "head",
    [
        "01000010",  # below the header
        "01000000",
        "01000015",  # no multiple of four
        f"01{MAX_MESSAGE_BYTES + 4:06x}",
        "01ffffff",
        "00000014",
        "47455420",  # GET
    ],
)
def test_wrong_version_or_length_breaks_the_stream_for_good(head: str) -> None:
    framer = MessageFramer()
    framer.receive_bytes(build_frame(0) + bytes.fromhex(head))
    assert framer.next_message_untrusted() == build_frame(0)
    with pytest.raises(FramingError):
        framer.next_message_untrusted()
    framer.receive_bytes(build_frame(0))
    with pytest.raises(FramingError):
        framer.next_message_untrusted()


def test_an_announced_length_allocates_nothing() -> None:
    framer = MessageFramer()
    framer.receive_bytes(b"\x01" + MAX_MESSAGE_BYTES.to_bytes(3))
    assert framer.next_message_untrusted() is None
    assert framer.buffered_bytes == 4


def test_largest_message_passes() -> None:
    frame = build_frame((MAX_MESSAGE_BYTES - 20) // 4)
    framer = MessageFramer()
    for start in range(0, len(frame), 65536):
        framer.receive_bytes(frame[start : start + 65536])
    assert framer.next_message_untrusted() == frame


@given(st.binary(max_size=100))
def test_garbage_gives_frames_or_the_one_error(data: bytes) -> None:
    framer = MessageFramer()
    framer.receive_bytes(data)
    caught: RemoteDiameterError | None = None
    try:
        drain(framer)
    except RemoteDiameterError as error:
        caught = error
    assert caught is None or isinstance(caught, FramingError)
