"""One direction stays empty: found within a second, told once, and over when it is."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import attrs
import pytest

from media.control import StreamConfig
from media.director import Director
from media.io import PortPool, UrgentPoll
from media.plane import MediaPlane
from media.rtp import build_rtp
from tests.media.support import sine, ulaw

HOST, PARTY, OTHER = "127.0.144.1", "127.0.144.2", "127.0.144.3"
SECOND = 200
TONE = ulaw(sine(450, 160))
SILENCE = b"\xff" * 160


@attrs.define
class Rig:
    """A leg without an engine, and its party's socket."""

    plane: MediaPlane
    director: Director
    urgent: UrgentPoll
    events: list[dict[str, Any]]
    party: socket.socket
    target: tuple[str, int] = ("", 0)
    tick: int = 0
    number: int = 0

    def stream(self, host: str = PARTY, **fields: Any) -> StreamConfig:
        return StreamConfig("PCMU", 0, host, self.party.getsockname()[1], dtmf_payload_type=101, **fields)

    def run(self, n_ticks: int, payload: bytes | None = None, payload_type: int = 0) -> list[tuple[str, str, bool]]:
        """Runs, the party sending every 20 ms; what was told of one-way audio meanwhile."""
        del self.events[:]
        for _ in range(n_ticks):
            self.tick += 1
            if payload is not None and self.tick % 4 == 0:
                self.number += 1
                packet = build_rtp(
                    payload_type=payload_type,
                    marker=False,
                    sequence=self.number & 0xFFFF,
                    timestamp=160 * self.number,
                    ssrc=5,
                    payload=payload,
                )
                self.party.sendto(packet, self.target)
            self.plane.run(self.tick, 0)
            self.director.handle_timers(self.tick, self.tick * 0.005)
        return [(e["direction"], e["reason"], e["over"]) for e in self.events if e["ev"] == "one_way"]


@pytest.fixture
def rig() -> Iterator[Rig]:
    plane, urgent = MediaPlane(4), UrgentPoll()
    events: list[dict[str, Any]] = []
    director = Director(plane, PortPool(HOST, 44400, 44499), urgent, events.append)
    party = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    party.bind((PARTY, 0))
    made = Rig(plane, director, urgent, events, party)
    replies: list[Any] = []
    director.open("a", made.stream(), None, False, replies.append)
    made.target = replies[0]["host"], replies[0]["port"]
    yield made
    director.release_all("end")
    plane.close()
    urgent.close()
    party.close()


def test_nothing_within_a_second_of_the_answer(rig: Rig) -> None:
    assert not rig.run(5 * SECOND), "ringing"
    rig.director.talking("a")
    assert not rig.run(SECOND - 10)
    assert rig.run(20) == [("receive", "no-packets", False)]
    assert not rig.run(3 * SECOND), "told once"
    assert rig.run(20, TONE) == [("receive", "no-packets", True)]


def test_a_party_that_is_heard_is_no_trouble(rig: Rig) -> None:
    rig.director.talking("a")
    assert not rig.run(SECOND // 2)
    assert not rig.run(30 * SECOND, TONE)


def test_what_came_before_the_answer_counts(rig: Rig) -> None:
    assert not rig.run(40, TONE)
    rig.director.talking("a")
    assert not rig.run(30 * SECOND), "it pauses"


def test_a_pause_after_the_first_packets_is_no_trouble(rig: Rig) -> None:
    rig.director.talking("a")
    rig.run(8, SILENCE)
    assert not rig.run(30 * SECOND)


def test_held_calls_are_not_looked_at(rig: Rig) -> None:
    rig.director.talking("a")
    rig.director.modify("a", rig.stream(receive=False))
    assert not rig.run(5 * SECOND)
    rig.director.modify("a", rig.stream())
    assert not rig.run(SECOND - 10)
    assert rig.run(20) == [("receive", "no-packets", False)]


def test_resuming_a_call_that_was_heard_expects_nothing_new(rig: Rig) -> None:
    rig.director.talking("a")
    rig.run(SECOND, TONE)
    rig.director.modify("a", rig.stream(receive=False))
    rig.director.modify("a", rig.stream())
    assert not rig.run(12 * SECOND)


def test_another_address_is_expected_anew(rig: Rig) -> None:
    rig.director.talking("a")
    rig.run(2 * SECOND, TONE)
    rig.director.modify("a", rig.stream(OTHER))
    assert rig.run(SECOND + 20) == [("receive", "no-packets", False)]


def test_packets_that_are_not_what_was_agreed(rig: Rig) -> None:
    rig.director.talking("a")
    assert rig.run(SECOND + 20, TONE, payload_type=77) == [("receive", "invalid-packets", False)]


def test_a_muted_party_after_ten_seconds(rig: Rig) -> None:
    rig.director.talking("a")
    assert not rig.run(9 * SECOND, SILENCE)
    assert rig.run(2 * SECOND, SILENCE) == [("receive", "digital-silence", False)]
    assert not rig.run(2 * SECOND, SILENCE)
    assert rig.run(2 * SECOND, TONE) == [("receive", "digital-silence", True)]
    assert not rig.run(20 * SECOND, SILENCE), "it was heard once"


def test_talking_twice_is_talking_once(rig: Rig) -> None:
    rig.director.talking("a")
    rig.run(SECOND // 2)
    rig.director.talking("a")
    assert rig.run(SECOND // 2 + 20) == [("receive", "no-packets", False)]


def test_what_the_peers_rtcp_says(rig: Rig) -> None:
    leg = rig.plane.leg_of(0)
    watch = rig.director._one_way
    watch.peer_hears(leg, False)
    assert not rig.run(1), "ringing"
    rig.director.talking("a")
    rig.run(SECOND // 2, TONE)
    del rig.events[:]
    for hears in (False, False, True, True):
        watch.peer_hears(leg, hears)
    assert [(e["direction"], e["reason"], e["over"]) for e in rig.events] == [
        ("send", "rtcp-nothing-received", False),
        ("send", "rtcp-nothing-received", True),
    ]


def test_a_row_that_is_used_again_starts_anew(rig: Rig) -> None:
    rig.director.talking("a")
    rig.director.release("a", "end")
    rig.director.open("b", rig.stream(), None, False, lambda _: None)
    assert not rig.run(3 * SECOND)
