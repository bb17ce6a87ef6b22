"""A leg with SRTP over real sockets: who becomes the party, what reaches the plane, what goes out, and new keys."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator

import attrs
import pytest

from media.control import ControlError, StreamConfig
from media.party import STEADY_PACKETS
from media.srtp import FORMER_TICKS, SrtpKeys, SrtpLeg
from tests.media.test_party import VIEW, Rig, rtp

SUITE = "AES_CM_128_HMAC_SHA1_80"


def key(number: int) -> str:
    return b64encode(bytes([number] * 30)).decode()


OURS, THEIRS = key(1), key(2)


def config(rig: Rig, ours: str = OURS, theirs: str = THEIRS) -> StreamConfig:
    host, port = rig.caller.getsockname()
    return StreamConfig(
        "PCMU",
        0,
        host,
        port,
        dtmf_payload_type=101,
        srtp_suite=SUITE,
        srtp_send_key=ours,
        srtp_receive_key=theirs,
    )


def peer(ours: str = OURS, theirs: str = THEIRS) -> SrtpLeg:
    return SrtpLeg(SrtpKeys(SUITE, theirs), SrtpKeys(SUITE, ours))


def wire(leg: SrtpLeg, sequence: int) -> bytes:
    return leg.protect(memoryview(rtp(sequence=sequence)))


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    made.party.configure(config(made))
    yield made
    made.close()


def heard(rig: Rig) -> bytes:
    return rig.caller.recv(2000)


def test_only_the_key_makes_the_party(rig: Rig) -> None:
    for datagram in (rtp(), wire(peer(theirs=key(9)), 1), wire(peer(ours=THEIRS, theirs=OURS), 1), b"", b"\x80"):
        assert rig.send(rig.stranger, datagram) == 0
        assert rig.send(rig.caller, datagram) == 0
    assert rig.latched == []
    assert rig.counters.srtp_invalid == 10
    assert rig.counters.stranger == rig.counters.invalid == 0
    assert rig.send(rig.caller, wire(peer(), 1)) == len(rtp())
    assert len(rig.latched) == 1


def test_the_plane_sees_it_in_the_clear_before_and_after_it_is_steady(rig: Rig) -> None:
    phone = peer()
    first = wire(phone, 0)
    assert rig.send(rig.caller, first)
    for sequence in range(1, 2 * STEADY_PACKETS):
        assert rig.send(rig.caller, wire(phone, sequence)) == len(rtp())
        assert bytes(VIEW[: len(rtp())]) == rtp(sequence=sequence)
    assert rig.ours.getpeername() == rig.caller.getsockname()
    assert rig.send(rig.caller, rtp(sequence=50)) == 0, "in the clear"
    assert rig.send(rig.caller, first) == 0, "a second time"
    assert rig.counters.srtp_invalid == 2


def test_what_goes_out_is_encrypted(rig: Rig) -> None:
    phone = peer()
    for sequence in range(2 * STEADY_PACKETS):
        rig.plane._rtp_send[rig.row](memoryview(rtp(sequence=sequence)))
        datagram = memoryview(bytearray(heard(rig)))
        assert len(datagram) == len(rtp()) + 10
        size = phone.unprotect_untrusted(datagram, 0)
        assert bytes(datagram[:size]) == rtp(sequence=sequence)
        rig.send(rig.caller, wire(phone, sequence))


def test_what_cannot_be_encrypted_is_a_send_error(rig: Rig) -> None:
    rig.plane.send_event(rig.leg, b"\x80")
    assert rig.counters.send_errors == 1


def test_a_refresh_goes_on(rig: Rig) -> None:
    phone = peer()
    ssrc = int(rig.plane.table.ssrc[rig.row])
    first = wire(phone, 1)
    assert rig.send(rig.caller, first)
    rig.party.configure(config(rig))
    assert rig.send(rig.caller, first) == 0, "the replay window is the same"
    assert rig.send(rig.caller, wire(phone, 2))
    assert int(rig.plane.table.ssrc[rig.row]) == ssrc


def test_new_keys(rig: Rig) -> None:
    phone = peer()
    for sequence in range(STEADY_PACKETS):
        rig.send(rig.caller, wire(phone, sequence))
    ssrc = int(rig.plane.table.ssrc[rig.row])
    rig.party.configure(config(rig, key(3), key(4)))
    assert int(rig.plane.table.ssrc[rig.row]) != ssrc, "with a new key the source is new, and its counter 0 for both"
    renewed = peer(key(3), key(4))
    assert rig.send(rig.caller, wire(renewed, 100)) == len(rtp())
    assert rig.send(rig.caller, wire(phone, 101)) == len(rtp()), "was on its way"
    rig.plane.tick += FORMER_TICKS
    assert rig.send(rig.caller, wire(phone, 102)) == 0
    rig.plane._rtp_send[rig.row](memoryview(rtp()))
    datagram = memoryview(bytearray(heard(rig)))
    assert renewed.unprotect_untrusted(datagram, 0) == len(rtp())


@pytest.mark.parametrize("packets", [1, STEADY_PACKETS])
def test_between_plain_and_secure(rig: Rig, packets: int) -> None:
    plain = attrs.evolve(config(rig), srtp_suite=None)
    rig.party.configure(plain)
    for sequence in range(packets):
        assert rig.send(rig.caller, rtp(sequence=sequence))
    rig.party.configure(config(rig))
    assert rig.send(rig.caller, rtp(sequence=50)) == 0
    assert rig.send(rig.caller, wire(peer(), 51)) == len(rtp())
    rig.party.configure(plain)
    assert rig.send(rig.caller, rtp(sequence=52)) == len(rtp())
    rig.plane._rtp_send[rig.row](memoryview(rtp()))
    assert heard(rig) == rtp()


def test_unusable_keys_change_nothing(rig: Rig) -> None:
    phone = peer()
    assert rig.send(rig.caller, wire(phone, 1))
    for bad in ({"srtp_suite": "x"}, {"srtp_send_key": "A"}, {"srtp_receive_key": "="}):
        with pytest.raises(ControlError):
            rig.party.configure(attrs.evolve(config(rig), **bad))
    assert rig.send(rig.caller, wire(phone, 2)) == len(rtp())
    assert rig.leg.stats(rig.plane.table)["srtp_invalid"] == 0


REPORT = bytes([0x80, 201, 0, 1, 0, 0, 0, 9])


@pytest.mark.parametrize("packets", [1, 2 * STEADY_PACKETS])
def test_reports_beside_the_audio(rig: Rig, packets: int) -> None:
    """RFC 5761: SRTCP is told from SRTP before it is decrypted, by the open socket and by the connected one."""
    seen: list[bytes] = []

    def take(datagram: memoryview, _age_s: float) -> bool:
        seen.append(bytes(datagram))
        return True

    rig.party.on_rtcp = take
    rig.party.configure(attrs.evolve(config(rig), rtcp_mux=True))
    phone = peer()
    for sequence in range(packets):
        assert rig.send(rig.caller, wire(phone, sequence)) == len(rtp())
    datagram = phone.protect_rtcp(REPORT)
    assert rig.send(rig.caller, datagram) == 0
    assert rig.send(rig.caller, datagram) == 0, "a second time"
    assert rig.send(rig.caller, REPORT) == 0, "in the clear"
    assert seen == [REPORT]
    assert rig.counters.srtp_invalid == 2
    assert rig.send(rig.caller, wire(phone, 100)) == len(rtp())
    rig.party.send_rtcp(REPORT)
    received = memoryview(bytearray(heard(rig)))
    assert bytes(received[: len(REPORT)]) == REPORT[:8], "the header stays readable"
    assert phone.unprotect_untrusted(received, 0, is_rtcp=True) == len(REPORT)
