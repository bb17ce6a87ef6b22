"""What an engine's wishes about digits do to its leg, and for how long."""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import pytest

from media import engine_calls
from media.control import EngineTarget
from tests.media.test_director import STREAM, TARGET, Rig, Session

NO_EVENTS = attrs.evolve(STREAM, dtmf_payload_type=None)


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    monkeypatch.setattr(engine_calls, "EngineSession", Session)
    made = Rig.build()
    yield made
    made.close()


def attach(rig: Rig, name: str, target: EngineTarget) -> None:
    rig.director.attach(name, target, lambda reply: rig.answers.append((name, reply)))


def test_tones_are_listened_for_as_long_as_the_stream_has_no_events(rig: Rig) -> None:
    digits = rig.plane.uplink.digits
    rig.director.open("a", NO_EVENTS, TARGET, False, lambda reply: rig.answers.append(("a", reply)))
    assert digits.active
    rig.director.modify("a", STREAM)
    assert not digits.active
    rig.director.modify("a", NO_EVENTS)
    assert digits.active
    rig.director.release("a", "gone")
    assert not digits.active


def test_a_new_engine_has_wishes_of_its_own(rig: Rig) -> None:
    digits = rig.plane.uplink.digits
    rig.open("a")
    assert not digits.active
    Session.made[-1].open()
    attach(rig, "a", attrs.evolve(TARGET, mute_digits=True))
    assert digits.active
    Session.made[-1].open()
    attach(rig, "a", attrs.evolve(TARGET, inband_dtmf="always"))
    assert digits.active
    Session.made[-1].open()
    attach(rig, "a", attrs.evolve(TARGET, inband_dtmf="never"))
    assert not digits.active


def test_what_is_bridged_is_neither_muted_nor_listened_to(rig: Rig) -> None:
    for name in "ab":
        rig.director.open(name, NO_EVENTS, attrs.evolve(TARGET, mute_digits=True), False, lambda _: None)
        Session.made[-1].open()
    rig.director.bridge("a", "b")
    assert not rig.plane.uplink.digits.active


def test_digits_are_dialled_whether_events_are_agreed_or_not(rig: Rig) -> None:
    rig.open("a", engine=False)
    rig.director.open("b", NO_EVENTS, None, False, lambda _: None)
    for name in "ab":
        rig.director.send_dtmf(name, "12")
    assert rig.plane.table.event[:2].all()
