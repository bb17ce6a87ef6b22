"""Passes of the plane over real sockets, with ticks moved by the test: what stalls pile up, and errors leave."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from media import plane as plane_module
from media.control import StreamConfig
from media.dtmf import Digit
from media.engines.session import EngineSession
from media.leg import Leg, LegCounters, Receiver
from media.plane import MediaPlane
from media.playout import PlayoutQueue
from media.rtp import RtpPacket, build_rtp, parse_rtp_untrusted
from media.table import FRAME_TICKS, TICK_MS
from tests.media.support import from_ulaw, sine, ulaw

RATE_HZ = 16000
FRAME_BYTES = 640
HEADER = bytes([0x82, 126]) + FRAME_BYTES.to_bytes(2, "big")


class Notes:
    """An observer that only listens."""

    def __init__(self) -> None:
        self.notes: list[tuple[Any, ...]] = []

    def digit_received(self, leg: Leg, digit: Digit) -> None:
        self.notes.append(("digit", digit.digit))

    def speech_changed(self, leg: Leg, is_start: bool, tick: int) -> None:
        self.notes.append(("speech", is_start))

    def engine_heard(self, leg: Leg, tick: int) -> None:
        self.notes.append(("heard", tick))

    def engine_spoke(self, leg: Leg, tick: int) -> None:
        self.notes.append(("spoke", tick))

    def engine_cut(self, leg: Leg, tick: int) -> None:
        self.notes.append(("cut", tick))

    def mark_reached(self, leg: Leg) -> None:
        assert leg.playout is not None
        self.notes += [("mark", mark.name) for mark in leg.playout.reached_marks()]

    def clip_ended(self, leg: Leg) -> None:
        self.notes.append(("clip",))


class Session:
    """What the plane needs of an engine session; hands unusual octets to the test."""

    def __init__(self, sock: socket.socket) -> None:
        self.target = SimpleNamespace(rate=RATE_HZ)
        self.sock = sock
        self.is_clean = self.is_columnar = True
        self.unusual: list[bytes] = []
        self.rest: list[bytes] = []
        self.abandoned: str | None = None
        self.error: Exception | None = None

    def receive_untrusted(self, received: memoryview) -> None:
        if self.error is not None:
            raise self.error
        self.unusual.append(bytes(received))

    def receive_ready(self) -> None:
        """Nothing is read on."""

    def write_ready(self) -> None:
        """Nothing waits."""

    def queue_audio(self, frame: memoryview) -> int:
        self.rest.append(bytes(frame))
        return len(frame)

    def queue_rest(self, frame: memoryview, sent: int) -> None:
        self.rest.append(bytes(frame[sent:]))

    def abandon(self, detail: str) -> None:
        self.abandoned = detail


class Call:
    """A leg of the plane, its caller's socket and its engine's."""

    def __init__(self, plane: MediaPlane, row: int) -> None:
        self.plane = plane
        self.ours = udp_socket()
        self.caller = udp_socket()
        counters = LegCounters()
        config = StreamConfig("PCMU", 0, dtmf_payload_type=101)
        self.leg = Leg(f"leg{row}", row, Receiver(plane.table, row, config, counters), counters)
        self.leg.receiver.configure(config)
        plane.add_leg(self.leg, self.ours, self.ours.recv_into)
        party = self.caller.getsockname()
        plane.set_send(row, lambda view: self.ours.sendto(view, party))
        self.theirs, self.engine = socket.socketpair()
        for sock in (self.theirs, self.engine):
            sock.setblocking(False)
        self.session = Session(self.theirs)
        plane.engine_poll.register(self.theirs.fileno(), select.EPOLLIN)
        plane.add_engine(row, cast(EngineSession, self.session), self.theirs)
        bank = plane.bank_of(RATE_HZ)
        plane.table.play_bank[row] = bank
        self.leg.playout = PlayoutQueue(plane.table, row, plane.banks[bank])
        plane.downlink.start(row, plane.tick)
        self._sequence = self._said = 0
        self._unread = b""

    def speak(self, amplitude: float = 8000) -> None:
        """The caller's next 20 ms."""
        samples = sine(400, 160, amplitude=amplitude, start=160 * self._sequence)
        packet = build_rtp(
            payload_type=0,
            marker=False,
            sequence=self._sequence & 0xFFFF,
            timestamp=160 * self._sequence,
            ssrc=9,
            payload=ulaw(samples),
        )
        self._sequence += 1
        self.caller.sendto(packet, self.ours.getsockname())

    def say(self, n_frames: int = 1) -> None:
        """The engine's next frames; each holds its number, so that delay can be seen at the party."""
        for _ in range(n_frames):
            self._said += 1
            self.engine.send(HEADER + np.full(320, level_of(self._said), "<i2").tobytes())

    def said(self) -> int:
        return self._said

    def heard_by_engine(self) -> int:
        """How many frames have come since the last time."""
        try:
            while chunk := self.engine.recv(1 << 20):
                self._unread += chunk
        except BlockingIOError:
            n, rest = divmod(len(self._unread), 8 + FRAME_BYTES)
            assert rest == 0
            self._unread = b""
            return n
        raise AssertionError("closed")

    def heard_by_caller(self) -> list[RtpPacket]:
        packets = []
        try:
            while True:
                packets.append(parse_rtp_untrusted(self.caller.recv(2048)))
        except BlockingIOError:
            return packets

    def close(self) -> None:
        for sock in (self.ours, self.caller, self.theirs, self.engine):
            sock.close()


def level_of(number: int) -> int:
    """A constant level per frame, 20 different ones, each its own µ-law code for certain."""
    return 1000 * (1 + number % 20)


def udp_socket() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.77.20", 0))
    sock.setblocking(False)
    return sock


class Rig:
    """A plane with calls, and a clock."""

    def __init__(self, n_calls: int = 1) -> None:
        self.plane = MediaPlane(8)
        self.notes = Notes()
        self.plane.observer = self.notes
        self.calls = [Call(self.plane, self.plane.table.allocate()) for _ in range(n_calls)]
        self.tick = 0

    def frame(self, is_echo: bool = False) -> None:
        """20 ms in which every party and every engine speaks."""
        for call in self.calls:
            call.speak()
            if not is_echo:
                call.say()
        for _ in range(FRAME_TICKS):
            self.run(is_echo=is_echo)

    def run(self, lost: int = 0, is_echo: bool = False) -> None:
        self.tick += 1 + lost
        self.plane.run(self.tick, lost)
        if is_echo:
            for call in self.calls:
                call.say(call.heard_by_engine())

    def stall(self, ms: int, is_echo: bool = False) -> None:
        """The worker does not run, the world goes on."""
        for _ in range(ms // 20):
            for call in self.calls:
                call.speak()
                if not is_echo:
                    call.say()
        self.run(lost=ms // TICK_MS - 1, is_echo=is_echo)

    def close(self) -> None:
        self.plane.close()
        for call in self.calls:
            call.close()


@pytest.fixture
def rig() -> Iterator[Rig]:
    plane = Rig(3)
    yield plane
    plane.close()


@pytest.mark.parametrize("is_echo", [False, True])
@pytest.mark.parametrize("stall_ms", [40, 200, 1000])
def test_delay_is_back_to_normal_within_a_second_of_a_stall(rig: Rig, stall_ms: int, is_echo: bool) -> None:
    for _ in range(60):
        rig.frame(is_echo)
    rig.stall(stall_ms, is_echo)
    for _ in range(50):
        rig.frame(is_echo)
    for call in rig.calls:
        call.heard_by_caller()
    table = rig.plane.table
    for _ in range(50):
        rig.frame(is_echo)
        for call in rig.calls:
            (packet,) = call.heard_by_caller()
            heard = float(np.median(from_ulaw(packet.payload)))
            levels = [level_of(call.said() - k) for k in range(3)]
            assert min(abs(heard - level) for level in levels) < 0.05 * heard, "an old frame was heard"
            assert call.leg.playout is not None
            assert call.leg.playout.queued_ms <= 40
    assert not table.bulk.any()
    if stall_ms >= 200:
        assert (table.skipped[:3] * 20 >= stall_ms - 60).all()
        assert (table.trimmed[:3] * 20 + table.stale[:3] * 20 >= stall_ms - 100).all()


def test_stalls_in_a_row_pile_nothing_up(rig: Rig) -> None:
    """Contention: every pass comes late; what is not caught up with is dropped."""
    for _ in range(20):
        rig.frame()
    deepest = 0.0
    for _ in range(100):
        rig.stall(100)
        for call in rig.calls:
            assert call.leg.playout is not None
            deepest = max(deepest, call.leg.playout.queued_ms)
    assert deepest <= 120
    assert not rig.plane.table.bulk.any()
    for call in rig.calls:
        call.heard_by_caller()
    for _ in range(50):
        rig.frame()
    assert all(call.leg.playout is not None and call.leg.playout.queued_ms <= 40 for call in rig.calls)


def test_work_after_a_stall_is_bounded(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """With many legs only the newest packets go up: the older ones are read, counted and thrown away."""
    monkeypatch.setattr("media.uplink.CATCH_UP_PACKETS", 12)  # as with a thousand legs: four packets each
    for _ in range(20):
        rig.frame()
    for call in rig.calls:
        call.heard_by_engine()
    rig.stall(1000)
    rig.run()  # the sockets are read for 640 ms at a time
    for call in rig.calls:
        assert 4 <= call.heard_by_engine() <= 6
        stats = call.leg.stats(rig.plane.table)
        assert stats["stale_ms"] in (900, 920)
        assert stats["lost"] == stats["late"] == 0, "our own lateness is not the network's loss"
        assert stats["packets_in"] == 70
        assert stats["jitter_ms"] < 1
    for _ in range(10):
        rig.frame()
    assert all(9 <= call.heard_by_engine() <= 11 for call in rig.calls)


def test_few_legs_lose_nothing_of_what_the_caller_said(rig: Rig) -> None:
    for _ in range(20):
        rig.frame()
    for call in rig.calls:
        call.heard_by_engine()
    rig.stall(500)
    assert [call.heard_by_engine() for call in rig.calls] == [25, 25, 25]


def test_a_sentence_sent_ahead_survives_a_stall(rig: Rig) -> None:
    for call in rig.calls:
        call.say(20)
    for _ in range(20):
        rig.run()
    rig.run(lost=39)
    for _ in range(20 * FRAME_TICKS):
        rig.run()
    for call in rig.calls:
        heard = sum(np.abs(from_ulaw(p.payload)).max() > 900 for p in call.heard_by_caller())
        assert heard in (20, 21)  # the last one is the fade
    assert not rig.plane.table.trimmed.any()


def test_a_caller_who_pauses_over_the_stall_is_heard_at_once(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """What came at the stall's end is new, however long the stall was."""
    monkeypatch.setattr("media.uplink.CATCH_UP_PACKETS", 12)
    for _ in range(20):
        rig.frame()
    call = rig.calls[0]
    call.heard_by_engine()
    call._sequence += 45  # 900 ms in which the phone sent nothing, timestamps go on
    rig.tick += 180
    for _ in range(3):
        call.speak()
    rig.run(lost=190)
    assert int(rig.plane.table.stale[0]) == 0


def test_more_calls_than_a_batch_are_all_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plane_module, "BATCH_ROWS", 2)
    rig = Rig(5)
    try:
        for _ in range(20):
            rig.frame()
        for call in rig.calls:
            call.heard_by_engine()
        rig.stall(400)
        assert [call.heard_by_engine() for call in rig.calls] == [20] * 5
    finally:
        rig.close()


def test_an_engine_that_blocks_gets_its_audio_from_the_queue(rig: Rig) -> None:
    call = rig.calls[0]
    rig.plane.set_engine_blocked(call.leg.row, True)
    rig.frame()
    assert call.heard_by_engine() == 0
    assert len(call.session.rest) == 1
    rig.plane.set_engine_blocked(call.leg.row, False)
    rig.frame()
    assert call.heard_by_engine() == 1


def test_a_full_socket_leaves_the_rest_with_the_session(rig: Rig) -> None:
    call = rig.calls[0]
    call.theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    for _ in range(20):
        rig.frame()
    assert call.session.rest
    assert rig.calls[1].heard_by_engine() == 20


def test_what_is_not_a_whole_frame_goes_to_the_session(rig: Rig) -> None:
    call = rig.calls[0]
    call.engine.send(b"\x81\x02{}")
    rig.run()
    assert call.session.unusual == [b"\x81\x02{}"]
    text_among_audio = HEADER + bytes(FRAME_BYTES) + b"\x81\x7e" + (640).to_bytes(2, "big") + bytes(640)
    call.engine.send(text_among_audio)
    rig.run()
    assert call.session.unusual[1] == text_among_audio, "a frame that looks like audio in length only"


def test_an_unforeseen_error_costs_one_engine_only(rig: Rig) -> None:
    call = rig.calls[0]
    call.session.error = ZeroDivisionError("boom")
    call.engine.send(b"\x81\x02{}")
    rig.frame()
    assert call.session.abandoned == "ZeroDivisionError: boom"
    assert rig.plane.guarded == 1
    assert rig.calls[1].heard_by_engine() == 1


def test_a_send_error_is_counted(rig: Rig) -> None:
    def refuse(_view: memoryview) -> int:
        raise ConnectionRefusedError

    call = rig.calls[0]
    rig.plane.set_send(call.leg.row, refuse)
    rig.frame()
    assert call.leg.counters.send_errors == 1
    assert rig.calls[1].leg.counters.send_errors == 0


def test_a_removed_leg_leaves_nothing(rig: Rig) -> None:
    call = rig.calls.pop()
    assert rig.plane.sockets == 6
    rig.plane.engine_poll.unregister(call.theirs.fileno())
    rig.plane.remove_engine(call.leg.row)
    rig.plane.remove_engine(call.leg.row)
    rig.plane.remove_leg(call.leg, call.ours)
    assert rig.plane.sockets == 4
    assert rig.plane.table.in_use == 2
    with pytest.raises(LookupError):
        rig.plane.leg_of(call.leg.row)
    rig.frame()
    assert call.heard_by_caller() == []
    call.close()


def test_after_a_stall_it_does_not_chase_what_comes_while_it_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """With many calls something always came meanwhile: reading until nothing is there would keep a busy worker late."""
    plane = MediaPlane(64)
    plane.observer = cast(Any, Notes())
    plane._rtp_row.update({10_000 + i: i for i in range(40)})
    arrivals = iter([40, 40, *[3] * 100])
    polls = 0

    def receive(_: int) -> int:
        nonlocal polls
        polls += 1
        return next(arrivals)

    monkeypatch.setattr(plane, "_receive_rtp", receive)
    plane.run(100, late_ticks=2 * FRAME_TICKS)
    assert polls == 3
    assert not plane.uplink.is_catching_up
    plane._rtp_row.clear()
    plane.close()
