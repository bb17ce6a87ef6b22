"""SRTP of one leg: reference packets, keys that change, sources, replay and what a hostile peer may send."""

from __future__ import annotations

import os
import time
from base64 import b64encode

import pytest

from media.control import ControlError
from media.rtp import build_rtp
from media.srtp import FORMER_TICKS, MAX_ROC, MAX_SOURCES, SrtpError, SrtpKeys, SrtpLeg

SUITES = {"AES_CM_128_HMAC_SHA1_80": 30, "AES_CM_128_HMAC_SHA1_32": 30, "AEAD_AES_128_GCM": 28}
TAGS = {"AES_CM_128_HMAC_SHA1_80": 10, "AES_CM_128_HMAC_SHA1_32": 4, "AEAD_AES_128_GCM": 16}
CM = "AES_CM_128_HMAC_SHA1_80"
each_suite = pytest.mark.parametrize("suite", SUITES)


def keys(suite: str, number: int) -> SrtpKeys:
    return SrtpKeys(suite, b64encode(bytes([number] * SUITES[suite])).decode())


def pair(suite: str = CM) -> tuple[SrtpLeg, SrtpLeg]:
    return SrtpLeg(keys(suite, 1), keys(suite, 2)), SrtpLeg(keys(suite, 2), keys(suite, 1))


def rtp(sequence: int, *, ssrc: int = 7, size: int = 160) -> bytes:
    return build_rtp(
        payload_type=0, marker=False, sequence=sequence, timestamp=sequence * 160, ssrc=ssrc, payload=bytes(size)
    )


def report(ssrc: int = 7) -> bytes:
    """An empty receiver report."""
    return bytes([0x80, 201, 0, 1]) + ssrc.to_bytes(4, "big")


def received(leg: SrtpLeg, datagram: bytes, *, tick: int = 0, is_rtcp: bool = False) -> bytes | None:
    view = memoryview(bytearray(datagram))
    size = leg.unprotect_untrusted(view, tick, is_rtcp=is_rtcp)
    return bytes(view[:size]) if size else None


@pytest.mark.parametrize(
    ("suite", "key", "protected"),
    [
        (  # master key and salt of RFC 3711 B.3
            CM,
            "e1f97a0d3e018be0d64fa32c06de41390ec675ad498afeebb6960b3aabe6",
            "800f1234decafbadcafebabe4e55dc4ce79978d88ca4d215949d2402b78d6acc99ea179b8dbb",
        ),
        (
            "AES_CM_128_HMAC_SHA1_32",
            "e1f97a0d3e018be0d64fa32c06de41390ec675ad498afeebb6960b3aabe6",
            "800f1234decafbadcafebabe4e55dc4ce79978d88ca4d215949d2402b78d6acc",
        ),
        (
            "AEAD_AES_128_GCM",
            "000102030405060708090a0b0c0d0e0fa0a1a2a3a4a5a6a7a8a9aaab",
            "800f1234decafbadcafebabec5002ede04cfdd2eb91159e0880aa06ed2976826f796b201df3131a127e8a392",
        ),
    ],
)
def test_reference_packets(suite: str, key: str, protected: str) -> None:
    """libsrtp's own, which other implementations repeat."""
    both = SrtpKeys(suite, b64encode(bytes.fromhex(key)).decode())
    clear = bytes.fromhex("800f1234decafbadcafebabe" + "ab" * 16)
    assert SrtpLeg(both, both).protect(memoryview(clear)).hex() == protected
    assert received(SrtpLeg(both, both), bytes.fromhex(protected)) == clear


@each_suite
def test_both_ways(suite: str) -> None:
    one, other = pair(suite)
    for sequence in range(3):
        for sender, receiver in ((one, other), (other, one)):
            wire = sender.protect(memoryview(rtp(sequence)))
            assert len(wire) == len(rtp(0)) + TAGS[suite]
            assert wire[:12] == rtp(sequence)[:12]
            assert wire[12:172] != bytes(160)
            assert received(receiver, wire) == rtp(sequence)
            control = sender.protect_rtcp(report())
            # RFC 4568 §6.2.2: the tag of SRTCP is 80 bits with either SHA-1 suite
            assert len(control) == len(report()) + 4 + max(10, TAGS[suite])
            assert received(receiver, control, is_rtcp=True) == report()


@each_suite
def test_what_is_not_the_peers(suite: str) -> None:
    one, other = pair(suite)
    wire = one.protect(memoryview(rtp(1)))
    for place in (1, 3, 9, 20, len(wire) - 1):
        forged = bytearray(wire)
        forged[place] ^= 1
        assert received(other, bytes(forged)) is None
    assert received(other, rtp(1)) is None, "in the clear"
    assert received(one, wire) is None, "our own, reflected"
    assert received(other, wire) == rtp(1)
    assert received(other, wire) is None, "a second time"
    assert received(other, one.protect_rtcp(report())) is None, "SRTCP where SRTP is expected"


@each_suite
def test_hostile_sizes_and_contents(suite: str) -> None:
    one, other = pair(suite)
    for size in [*range(64), 172, 500, 1455, 1456, 1500, 1501, 1536, 1600]:
        for first in (0, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xFF):
            datagram = (bytes([first]) + os.urandom(1600))[:size]
            assert received(other, datagram) is None
            assert received(other, datagram, is_rtcp=True) is None
    wire = one.protect(memoryview(rtp(1)))
    for size in range(len(wire)):
        assert received(other, wire[:size]) is None
    assert received(other, wire) == rtp(1), "still works"


def test_what_cannot_be_sent() -> None:
    one, other = pair()
    for packet in (b"", b"\x80", rtp(1, size=1440)):
        with pytest.raises(SrtpError):
            one.protect(memoryview(packet))
    with pytest.raises(SrtpError):
        one.protect_rtcp(b"\x80")
    assert received(other, one.protect(memoryview(rtp(1, size=1300)))) == rtp(1, size=1300)


def test_the_sequence_rolls_over() -> None:
    one, other = pair()
    late = None
    for sequence in range(65000, 65000 + 2 * 65536, 50):
        wire = one.protect(memoryview(rtp(sequence)))
        if sequence == 65500:
            late = wire
            continue
        assert received(other, wire) == rtp(sequence)
        if late is not None and sequence == 65600:
            assert received(other, late) == rtp(65500), "of before the roll-over"


def test_late_packets_within_the_window_and_none_twice() -> None:
    one, other = pair()
    wires = [one.protect(memoryview(rtp(n))) for n in range(700)]
    assert received(other, wires[0]) is not None
    assert received(other, wires[699]) is not None
    for number in range(698, 188, -1):
        assert received(other, wires[number]) == rtp(number)
        assert received(other, wires[number]) is None
    assert received(other, wires[100]) is None, "too old"


def test_each_source_has_its_own_counter_and_they_are_few() -> None:
    one, other = pair()
    for ssrc in range(1, 3 * MAX_SOURCES):
        for sequence in (60000, 0):  # each rolls over
            assert received(other, one.protect(memoryview(rtp(sequence, ssrc=ssrc)))) == rtp(sequence, ssrc=ssrc)
    assert len(other._receiving._sources) == MAX_SOURCES
    for ssrc in range(1000, 3000):  # nobody without a key makes one
        forged = bytearray(one.protect(memoryview(rtp(1, ssrc=5))) if ssrc == 1000 else rtp(1, ssrc=ssrc))
        forged[8:12] = ssrc.to_bytes(4, "big")
        assert received(other, bytes(forged)) is None
    assert len(other._receiving._sources) == MAX_SOURCES


def test_a_refresh_changes_nothing() -> None:
    one, other = pair()
    first = one.protect(memoryview(rtp(1)))
    assert received(other, first)
    assert not other.configure(keys(CM, 2), keys(CM, 1), 10)
    assert received(other, first) is None, "the replay window is the same"


def test_the_former_key_is_understood_for_a_while() -> None:
    one, other = pair()
    before = [one.protect(memoryview(rtp(n))) for n in range(1, 4)]
    assert received(other, before[0])
    assert not other.configure(keys(CM, 2), keys(CM, 3), 100), "our own has not changed"
    renewed = SrtpLeg(keys(CM, 3), keys(CM, 2))
    assert received(other, renewed.protect(memoryview(rtp(4))), tick=101) == rtp(4)
    assert received(other, before[0], tick=102) is None
    assert received(other, before[1], tick=100 + FORMER_TICKS - 1) == rtp(2)
    assert received(other, before[2], tick=100 + FORMER_TICKS) is None
    assert received(other, renewed.protect(memoryview(rtp(5))), tick=5000) == rtp(5)


@each_suite
@pytest.mark.parametrize("index", [0x10000, 0x1FFFF, 0x18000, 3 << 16 | 5, MAX_ROC << 16 | 0x8123])
def test_a_stream_that_has_been_going_on_is_understood(suite: str, index: int) -> None:
    """By a new worker: the peer's counter is not 0, and nobody says so."""
    one, other = pair(suite)
    for earlier in range(0, index, 0x4000):
        one.protect(memoryview(rtp(earlier)))
    for ahead in range(3):
        wire = one.protect(memoryview(rtp(index + ahead)))
        assert received(other, wire) == rtp(index + ahead)
        assert received(other, wire) is None
    for ahead in range(0x4000, 0x30000, 0x4000):  # and goes on to the next roll-overs
        assert received(other, one.protect(memoryview(rtp(index + ahead)))) == rtp(index + ahead)
    assert received(other, one.protect(memoryview(rtp(3, ssrc=99)))) == rtp(3, ssrc=99), "a new source begins at 0"
    assert received(one, other.protect(memoryview(rtp(1)))) == rtp(1)


def test_a_counter_is_looked_for_with_the_first_packets_only() -> None:
    one, other = pair()
    for index in range(0, 0x20000, 0x4000):
        last = one.protect(memoryview(rtp(index)))
    began = time.process_time()
    for number in range(2000):
        assert received(other, rtp(number) + bytes(10)) is None
    assert time.process_time() - began < 2, "strangers make us search for ever"
    assert received(other, last) is None
    fresh = pair()[1]
    assert received(fresh, pair()[0].protect(memoryview(rtp(1))))
    assert received(fresh, last) is None, "after a good packet nothing is searched for"


def test_a_renewed_key_with_a_counter_that_goes_on() -> None:
    """RFC 3711 §3.3.1."""
    one, other = pair()
    for index in range(0, 0x20000, 0x4000):
        assert received(other, one.protect(memoryview(rtp(index))))
    renewed = SrtpLeg(keys(CM, 3), keys(CM, 2))
    for index in range(0, 0x20000, 0x4000):
        renewed.protect(memoryview(rtp(index)))
    other.configure(keys(CM, 2), keys(CM, 3), 10)
    assert received(other, renewed.protect(memoryview(rtp(0x20001))), tick=11) == rtp(0x20001)


def test_a_key_that_comes_back_goes_on_where_it_was() -> None:
    one, other = pair()
    first = one.protect(memoryview(rtp(1)))
    assert received(other, first)
    other.configure(keys(CM, 2), keys(CM, 3), 10)
    other.configure(keys(CM, 2), keys(CM, 1), 20)
    assert received(other, first, tick=21) is None
    assert received(other, one.protect(memoryview(rtp(2))), tick=22) == rtp(2)


def test_another_suite_and_key_of_ours() -> None:
    one, _ = pair()
    gcm = "AEAD_AES_128_GCM"
    assert one.configure(keys(gcm, 4), keys(gcm, 5), 10)
    peer = SrtpLeg(keys(gcm, 5), keys(gcm, 4))
    assert received(peer, one.protect(memoryview(rtp(1)))) == rtp(1)
    assert received(one, peer.protect(memoryview(rtp(1)))) == rtp(1)


@pytest.mark.parametrize(
    "bad",
    [
        SrtpKeys("AES_CM_256", "A" * 40),
        SrtpKeys(CM, ""),
        SrtpKeys(CM, "A" * 36),
        SrtpKeys(CM, "A" * 44),
        SrtpKeys(CM, "?" * 40),
        SrtpKeys(CM, "secret"),
        SrtpKeys("AEAD_AES_128_GCM", "A" * 40),
    ],
)
def test_unusable_keys(bad: SrtpKeys) -> None:
    good = keys(CM, 1)
    for arguments in ((bad, good), (good, bad)):
        with pytest.raises(ControlError) as caught:
            SrtpLeg(*arguments)
        assert "secret" not in str(caught.value)
        one, other = pair()
        with pytest.raises(ControlError):
            one.configure(*arguments, 1)
        assert received(other, one.protect(memoryview(rtp(1)))) == rtp(1), "something has changed"


def test_keys_are_not_shown() -> None:
    assert "AQEB" not in repr(keys(CM, 1))
