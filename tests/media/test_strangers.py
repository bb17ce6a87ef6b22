"""Ten thousand strangers at one port, and other ways to take a call's audio: nothing changes for the call."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from media.control import StreamConfig
from media.io import PortPool
from media.leg import Leg, LegCounters, Receiver
from media.party import CHANCE_TICKS, FORMER_TICKS, STEADY_PACKETS, Party
from media.plane import STRANGERS_PER_PASS, MediaPlane
from media.playout import PlayoutBank
from media.rtp import build_rtp
from media.srtp import SrtpKeys, SrtpLeg
from media.table import FRAME_TICKS
from tests.media.support import ulaw
from tests.media.test_plane import Notes

HOST, CALLER, INNER = "127.0.78.25", "127.0.78.26", "127.0.78.27"
STRANGERS = [f"127.0.79.{n}" for n in range(1, 51)]
SSRC = 0x1234
_noise = np.random.default_rng(7)
SPEECH = [ulaw(_noise.integers(-9000, 9000, 160).astype(np.float32)) for _ in range(120)]


def rtp(number: int, *, payload_type: int = 0, ssrc: int = SSRC, payload: bytes | None = None) -> bytes:
    return build_rtp(
        payload_type=payload_type,
        marker=False,
        sequence=500 + number,
        timestamp=8000 + number * 160,
        ssrc=ssrc,
        payload=SPEECH[number] if payload is None else payload,
    )


class Scene:
    """A leg of a plane with an engine of 8 kHz, whose audio is kept."""

    def __init__(self, signalled: socket.socket | None = None, **config: Any) -> None:
        self.plane = MediaPlane(4)
        self.plane.observer = Notes()
        self.up: list[NDArray[np.int16]] = []
        self.plane.to_engine = self._to_engine  # type: ignore[method-assign]
        self.tick = 0
        self.sockets: list[socket.socket] = []
        self.caller = self.bind(CALLER)
        host, port = (signalled or self.caller).getsockname()
        self.config = StreamConfig("PCMU", 0, host, port, dtmf_payload_type=101, **config)
        row = self.plane.table.allocate()
        self.counters = LegCounters()
        self.leg = Leg("a", row, Receiver(self.plane.table, row, self.config, self.counters), self.counters)
        self.ours, rtcp = PortPool(HOST, 44500, 44599).bind(None, 0.0)
        self.sockets += [self.ours, rtcp]
        self.sources: list[str] = []
        self.party = Party(self.plane, self.leg, self.ours, lambda _leg, source: self.sources.append(source))
        self.plane.add_leg(self.leg, self.ours, self.party.receive_untrusted)
        self.party.configure(self.config)
        self.plane.table.bank[row] = self.plane.bank_of(8000)

    def _to_engine(self, _bank: PlayoutBank, _rows: NDArray[np.intp], samples: NDArray[np.int16]) -> None:
        self.up += [row.copy() for row in samples]

    def bind(self, host: str) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((host, 0))
        sock.setblocking(False)
        self.sockets.append(sock)
        return sock

    def send(self, sender: socket.socket, datagram: bytes) -> None:
        try:
            sender.sendto(datagram, (self.party.host, self.party.port))
        except ConnectionRefusedError:  # the kernel says that nobody is there for the one before
            sender.sendto(datagram, (self.party.host, self.party.port))

    def stranger(self, datagram: bytes) -> None:
        """From a port of its own."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((random.choice(STRANGERS), 0))
            sock.sendto(datagram, (self.party.host, self.party.port))

    def run(self, ticks: int = FRAME_TICKS) -> None:
        for _ in range(ticks):
            self.tick += 1
            self.plane.run(self.tick, 0)

    @property
    def heard(self) -> bytes:
        """By the engine."""
        return b"".join(frame.tobytes() for frame in self.up)

    @property
    def target(self) -> str:
        """Where our packets go."""
        before = len(self.sources)
        self.plane._rtp_send[self.leg.row](memoryview(b"x"))
        assert len(self.sources) == before
        found = ""
        for sock in self.sockets:
            while sock is not self.ours:
                try:
                    if sock.recv(2000) == b"x":
                        found = str(sock.getsockname()[0])
                except (BlockingIOError, ConnectionRefusedError):
                    break
        return found

    def stats(self) -> dict[str, Any]:
        return self.leg.stats(self.plane.table)

    def close(self) -> None:
        self.plane.close()
        for sock in self.sockets:
            sock.close()


@pytest.fixture
def scene() -> Iterator[Scene]:
    made = Scene()
    yield made
    made.close()


def undisturbed(numbers: range) -> bytes:
    scene = Scene()
    try:
        for number in numbers:
            scene.send(scene.caller, rtp(number))
            scene.run()
        return scene.heard
    finally:
        scene.close()


def hostile(number: int) -> bytes:
    """Right and wrong in each respect; the nearest to the truth has all but the address."""
    match number % 8:
        case 0:
            return rtp(number % 100)
        case 1:
            return rtp(number % 100 + 1, payload=b"\x10" * 160)
        case 2:
            return rtp(number % 100, ssrc=number)
        case 3:
            return rtp(number % 100, payload_type=101, payload=b"\x05\x8a\x03\x20")
        case 4:
            return rtp(number % 100, payload_type=96)
        case 5:
            return rtp(number % 100, payload_type=13, payload=b"\x40")
        case 6:
            return random.Random(number).randbytes(number % 300)
        case _:
            return rtp(number % 100)[:13] + b"\x00" * (number % 1400)


def test_ten_thousand_strangers_change_nothing_for_a_call(scene: Scene) -> None:
    wanted = undisturbed(range(100))
    assert len(wanted) == 100 * 320
    sent, largest = 0, 0
    for number in range(100):
        # the party's packet between theirs, as the kernel queues them
        for i in range(100):
            if i == 50:
                scene.send(scene.caller, rtp(number))
            if number or i > 50:
                scene.stranger(hostile(sent))
                sent += 1
        for _ in range(FRAME_TICKS):
            before = scene.counters.stranger + scene.counters.invalid
            scene.run(1)
            largest = max(largest, scene.counters.stranger + scene.counters.invalid - before)
    assert sent > 9900
    assert scene.heard == wanted
    assert largest <= STRANGERS_PER_PASS + 1
    stats = scene.stats()
    assert stats["packets_in"] == 100
    assert (stats["lost"], stats["late"], stats["duplicate"], stats["invalid"], stats["dtmf_in"]) == (0, 0, 0, 0, 0)
    # later ones are the kernel's: it has the socket connected by then
    assert 49 <= stats["stranger"] <= 100 * STEADY_PACKETS
    assert scene.sources == [f"{CALLER}:{scene.caller.getsockname()[1]}"]
    assert scene.target == CALLER


def test_ten_thousand_strangers_who_cannot_be_the_party_before_it_comes(scene: Scene) -> None:
    """No payload type of theirs is the call's: whoever guesses it is the next test's."""
    spent = 0.0
    for number in range(10_000):
        scene.stranger(rtp(number % 100, payload_type=96) if number % 2 else bytes(number % 200))
        if number % 50 == 49:
            began = time.process_time()
            scene.run(1)
            spent += time.process_time() - began
    assert scene.counters.invalid == 10_000
    assert scene.sources == []
    assert spent / 10_000 < 100e-6  # 4 µs on a quiet machine
    for number in range(20):
        scene.send(scene.caller, rtp(number))
        scene.run()
    assert scene.heard == undisturbed(range(20))


def test_the_signalled_address_takes_over_from_an_earlier_stranger(scene: Scene) -> None:
    scene.stranger(rtp(0, ssrc=9, payload=b"\x22" * 160))
    scene.run()
    assert len(scene.sources) == 1
    for number in range(30):
        scene.send(scene.caller, rtp(number))
        scene.stranger(rtp(number, ssrc=9, payload=b"\x22" * 160))
        scene.run()
    assert scene.sources[1:] == [f"{CALLER}:{scene.caller.getsockname()[1]}"]
    assert scene.heard[320:] == undisturbed(range(30))
    assert scene.target == CALLER


def test_a_stranger_that_keeps_on_is_not_made_the_party_in_that_second() -> None:
    scene = Scene()
    try:
        thief = scene.bind(STRANGERS[0])
        for number in range(2 * STEADY_PACKETS):
            scene.send(thief, rtp(number, ssrc=9))
            scene.run()
        with pytest.raises(OSError, match="not connected"):
            scene.ours.getpeername()
        assert scene.target == STRANGERS[0], "behind a translator it would be the party"
        scene.send(scene.caller, rtp(0))
        scene.run()
        assert scene.target == CALLER
        for number in range(1, 1 + STEADY_PACKETS):
            scene.send(scene.caller, rtp(number))
            scene.run()
        assert scene.ours.getpeername() == scene.caller.getsockname()
    finally:
        scene.close()


def test_a_party_behind_a_translator_stays() -> None:
    """Its signalled address is of its own network, or somebody else's who comes too late."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as inner:
        inner.bind((INNER, 0))
        scene = Scene(signalled=inner)
        try:
            number = 0
            while scene.tick < CHANCE_TICKS + 2 * FRAME_TICKS:
                scene.send(scene.caller, rtp(number))
                scene.run()
                number += 1
            assert scene.ours.getpeername() == scene.caller.getsockname()
            inner.sendto(rtp(0), (scene.party.host, scene.party.port))
            scene.run()
            assert scene.target == CALLER
            assert scene.heard == undisturbed(range(number))
        finally:
            scene.close()


def test_what_is_not_the_calls_does_not_take_over(scene: Scene) -> None:
    """From the signalled address, but of another call, or garbage."""
    thief = scene.bind(STRANGERS[1])
    scene.send(thief, rtp(0))
    scene.run()
    for datagram in (b"", bytes(172), rtp(1, payload_type=96)):
        scene.send(scene.caller, datagram)
    scene.run()
    assert scene.target == STRANGERS[1]
    assert scene.counters.invalid == 3


def test_a_former_party_is_not_heard_while_the_new_one_is_waited_for(scene: Scene) -> None:
    scene.send(scene.caller, rtp(0))
    scene.run()
    new = scene.bind(INNER)
    host, port = new.getsockname()
    scene.party.configure(StreamConfig("PCMU", 0, host, port, dtmf_payload_type=101))
    scene.send(scene.caller, rtp(1))
    scene.run()
    assert scene.target == INNER
    scene.run(FORMER_TICKS)
    scene.send(scene.caller, rtp(2))
    scene.run()
    assert scene.target == CALLER, "behind a translator"
    scene.send(new, rtp(3, ssrc=5))
    scene.run()
    assert scene.target == INNER


def test_a_flood_at_many_ports_has_one_bound() -> None:
    scenes = [Scene() for _ in range(1)]
    scene = scenes[0]
    try:
        for number in range(STRANGERS_PER_PASS * 2):
            scene.stranger(rtp(number % 100, payload_type=96))
        scene.run(1)
        assert scene.counters.invalid == STRANGERS_PER_PASS + 1
        scene.run(1)
        assert scene.counters.invalid == STRANGERS_PER_PASS * 2
    finally:
        scene.close()


def test_a_thousand_packets_in_the_partys_name_change_nothing_where_there_is_a_key() -> None:
    """Who can send from the party's own address and port, but has no key."""
    suite, keys = "AES_CM_128_HMAC_SHA1_80", ("A" * 40, "B" * 40)
    scene = Scene(srtp_suite=suite, srtp_send_key=keys[0], srtp_receive_key=keys[1])
    try:
        phone = SrtpLeg(SrtpKeys(suite, keys[1]), SrtpKeys(suite, keys[0]))
        sent = 0
        for number in range(40):
            for _ in range(100):
                scene.send(scene.caller, hostile(sent))
                sent += 1
            scene.send(scene.caller, phone.protect(memoryview(rtp(number))))
            for _ in range(100):
                scene.stranger(hostile(sent))
                sent += 1
            scene.run()
        assert scene.heard == undisturbed(range(40))
        assert scene.counters.srtp_invalid >= 4000
        assert scene.stats()["packets_in"] == 40
    finally:
        scene.close()


def test_a_steady_leg_without_a_key_is_the_kernels_alone(scene: Scene) -> None:
    """No call of ours is between the plane and its socket."""
    for number in range(STEADY_PACKETS):
        scene.send(scene.caller, rtp(number))
        scene.run()
    assert scene.plane._rtp_receive[scene.ours.fileno()] == scene.ours.recv_into
    assert scene.plane._rtp_send[scene.leg.row] == scene.ours.send


class TestSourceThatChanges:
    def test_its_ssrc(self, scene: Scene) -> None:
        for number in range(60):
            scene.send(scene.caller, rtp(number, ssrc=SSRC if number < 30 else 77))
            scene.run()
        assert scene.heard == undisturbed(range(60))
        assert scene.stats()["lost"] == 0

    @pytest.mark.parametrize("jump", [1000, 20_000, 32_767, 32_768, 40_000, 65_000, -200, -5_000])
    def test_its_sequence(self, scene: Scene, jump: int) -> None:
        """A sender that begins anew without a new source: a moment is lost at most, and nothing after it."""
        for number in range(100):
            packet = bytearray(rtp(number))
            if number >= 30:
                packet[2:4] = ((500 + number + jump) & 0xFFFF).to_bytes(2, "big")
            scene.send(scene.caller, bytes(packet))
            scene.run()
        wanted = undisturbed(range(100))
        assert scene.heard[: 28 * 320] == wanted[: 28 * 320]
        assert scene.heard[-50 * 320 :] == wanted[-50 * 320 :]
        assert abs(len(scene.heard) - len(wanted)) <= 15 * 320

    @pytest.mark.parametrize("jump", [8000, 1 << 20, (1 << 31) - 1, 1 << 31, -8000, -(1 << 30)])
    def test_its_timestamps(self, scene: Scene, jump: int) -> None:
        for number in range(60):
            packet = bytearray(rtp(number))
            if number >= 30:
                packet[4:8] = ((8000 + number * 160 + jump) & 0xFFFFFFFF).to_bytes(4, "big")
            scene.send(scene.caller, bytes(packet))
            scene.run()
        assert scene.heard == undisturbed(range(60))
        assert scene.stats()["lost"] == 0

    def test_both_wrap_around(self, scene: Scene) -> None:
        for number in range(60):
            packet = bytearray(rtp(number))
            packet[2:4] = ((65_500 + number) & 0xFFFF).to_bytes(2, "big")
            packet[4:8] = ((0xFFFFF000 + number * 160) & 0xFFFFFFFF).to_bytes(4, "big")
            scene.send(scene.caller, bytes(packet))
            scene.run()
        assert scene.heard == undisturbed(range(60))
        stats = scene.stats()
        assert (stats["lost"], stats["resync"], stats["packets_in"]) == (0, 0, 60)
        assert stats["jitter_ms"] < 1
